"""Figures as a person writes them: quantities, times, steps of a plan."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from rramlab.base.units import show, show_duration
from rramlab.plan.steps import ForEachStep, RepeatStep, Step

# Units by the last word of a name, as the models and records spell them.
_UNITS = {
    **dict.fromkeys(("V", "voltage", "gate", "bl", "sl", "wl"), "V"),
    **dict.fromkeys(("s", "width", "pulse", "dwell", "hold", "time"), "s"),
    **dict.fromkeys(("A", "current", "compliance"), "A"),
    **dict.fromkeys(("S", "tolerance", "median", "target"), "S"),
    "J": "J",
    "C": "°C",
}
_MOST_TEXT = 80
_WHOLE = frozenset(f"{share}.{'0' * digits}%" for share in (0, 100) for digits in range(1, 5))


def quantity(name: str, value: Any) -> str:
    """Say a named value of a record or a step with the unit that its name implies."""
    unit = "" if "_per_" in name else _UNITS.get(name.replace("-", "_").rpartition("_")[2], "")
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (int, float)):
        if unit == "°C":
            return f"{value:g} °C"
        if name == "time_s" and math.isfinite(value):
            return show_duration(float(value))
        return show(float(value), unit) if unit and math.isfinite(value) else f"{value:,}"
    if isinstance(value, (list, tuple)):
        return " to ".join(quantity(name, each) for each in value)
    text = str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def words(name: str) -> str:
    """Turn a name of a record into words: ``boot_nonce`` into "boot nonce", its unit left out."""
    stem, _, last = name.rpartition("_")
    said = (stem if stem and last in ("V", "s", "A", "S", "J", "C") else name).replace("_", " ").replace("-", " ")
    return re.sub(r"\b(bl|sl|wl|smu)\b", lambda line: line[0].upper(), said)


def describe_step(step: Step) -> str:
    """Say what a step of a plan is: whatever differs from its defaults."""
    match step:
        case RepeatStep():
            return f"repeat {step.times} ×: {', '.join(each.kind for each in step.steps)}"
        case ForEachStep():
            values = ", ".join(
                show(float(each.value), each.unit) if each.unit and not isinstance(each.value, str) else str(each.value)
                for each in step.rounds[:8]
            )
            more = f" … ({len(step.rounds)} values)" if len(step.rounds) > 8 else ""
            return f"for each {step.name} of {values}{more}: {', '.join(each.kind for each in step.rounds[0].steps)}"
    parts = []
    for name, declared in type(step).model_fields.items():
        value = getattr(step, name)
        if name in ("kind", "source") or value == declared.default:
            continue
        if isinstance(value, BaseModel):
            parts.append(name)
        elif isinstance(value, dict):
            continue
        elif name in ("cells", "cell", "purpose", "name"):
            parts.insert(0, quantity(name, value))
        else:
            parts.append(f"{words(name)} {quantity(name, value)}")
    return ", ".join(parts)


def say_labels(labels: Mapping[str, Any]) -> str:
    """Say the values of the loops around something: quantities with their units, others as they are."""
    return ", ".join(
        f"{name} {show(float(value), unit) if unit and isinstance(value, int | float) else value}"
        for name, (value, unit) in labels.items()
    )


def say_check(check: Mapping[str, Any]) -> str:
    """Say what a check was about, and in which round of its loops."""
    rounds = ".".join(str(number) for number in check.get("round", ()))
    labels = say_labels(check.get("labels", {}))
    return f"{check.get('what')}{f', round {rounds}' if rounds else ''}{f': {labels}' if labels else ''}"


def moment(text: Any) -> datetime | None:
    """Read a time of a record; None where it is missing or no time."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def clock(time: datetime | None) -> str:
    """Write a time of day and its date, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if time is not None else ""


def span(began: datetime | None, ended: datetime | None) -> str:
    """Say how long something took; nothing where it cannot be told. Clocks can be set back: then nothing, too."""
    if began is None or ended is None or ended < began:
        return ""
    seconds = (ended - began).total_seconds()
    return show_duration(seconds) if seconds else "< 1 ms"


def percent(part: float, whole: float = 1.0) -> str:
    """Say a share with so many digits that one that is not whole does not read as 100 %, nor one that is there as 0 %."""
    if not whole:
        return "none"
    share = part / whole
    digits = next((digits for digits in (1, 2, 3, 4) if f"{share:.{digits}%}" not in _WHOLE or share in (0, 1)), 5)
    return f"{share:.{digits}%}"
