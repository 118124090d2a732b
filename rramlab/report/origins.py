"""The parts of a run's report that say when, with what, by whom and from which files it was made."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Any

from rramlab.base.errors import DataError, UsageError
from rramlab.base.yamlfile import load_yaml
from rramlab.report.findings import Findings
from rramlab.report.markup import Html, facts, section, table, tag
from rramlab.report.timeline import timeline
from rramlab.report.wording import clock, moment, quantity, span, words
from rramlab.runs.store import clock_moves, duration_s

_NAMES = {
    "rramlab": "rramlab",
    "command": "command",
    "board_serial": "board",
    "firmware": "firmware",
    "boot_nonce": "boot nonce",
    "temperature_C": "temperature",
    "calibration": "calibration",
    "host": "computer",
    "user": "user",
    "python": "Python",
    "platform": "system",
}
_TITLES = {"protocol.yaml": "The protocol", "bench.yaml": "The bench", "board.yaml": "The board"}


def when(found: Findings) -> Html | None:
    """The steps over time: bars for the eye, a table for all."""
    stretches = timeline(found)
    if not stretches:
        return None
    first, last = min(each.began for each in stretches), max(each.ended for each in stretches)
    whole = max((last - first).total_seconds(), 1e-9)
    rows = []
    for each in stretches:
        left = 100 * (each.began - first).total_seconds() / whole
        width = max(0.6, 100 * (each.ended - each.began).total_seconds() / whole)
        bar = tag("span", class_="bar", style=f"margin-left:{min(left, 99.4):.2f}%;width:{min(width, 100 - left):.2f}%")
        loops = f", {each.rounds:,} rounds" if each.rounds else ""
        began = f"+{(each.began - first).total_seconds():.2f} s"
        rows.append((f"{each.step} {each.kind}", f"{each.what}{loops}", began, span(each.began, each.ended), bar))
    return section(
        "Timeline",
        "timeline",
        tag("p", f"From {clock(first)}.", class_="note"),
        *(tag("p", f"{said[0].upper()}{said[1:]}.", class_="note") for said in clock_moves(found.record)),
        table(("step", "what", "began", "lasted", "when"), rows, "When each step left a trace", (2, 3)),
    )


def parameters(found: Findings) -> Html | None:
    """What the protocol was given, with the units and words of its own text."""
    if found.plan is None or not found.plan.parameters:
        return None
    declared = about_protocol(found).get("parameters")
    rows = []
    for name, value in found.plan.parameters.items():
        spec = declared.get(name) if isinstance(declared, dict) else None
        spec = spec if isinstance(spec, dict) else {}
        shown = quantity(f"value_{spec.get('unit', '')}", value)
        rows.append((name, shown, str(spec.get("description", ""))))
    return section("Parameters", "parameters", table(("parameter", "value", "meaning"), rows, "As the run was started"))


def about_protocol(found: Findings) -> dict[str, Any]:
    """Return the protocol's text as data, empty where it is none: the text itself is in the report whatever it is."""
    if "protocol.yaml" not in found.texts:
        return {}
    try:
        document = load_yaml(found.folder / "protocol.yaml").data
    except (DataError, UsageError):
        return {}
    return document if isinstance(document, dict) else {}


def provenance(found: Findings) -> Html | None:
    """Versions, board, command, limits and bounds, of the start and of each resume."""
    parts = []
    for number, about in enumerate(found.provenance):
        packages = about.get("packages")
        known: list[tuple[str, str]] = [
            (title, _said(key, about.get(key))) for key, title in _NAMES.items() if about.get(key) not in (None, "")
        ]
        if isinstance(packages, dict):
            known.append(("packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
        if len(found.provenance) > 1:
            parts.append(tag("h3", "At the start" if not number else f"When it was resumed, {number}"))
        parts.append(facts(known))
    return section("Provenance", "provenance", *parts)


def bounds(found: Findings) -> Html | None:
    """What could have happened at worst, what was allowed, what the run came to."""
    if not found.provenance:
        return None
    worst, allowed = found.provenance[0].get("bounds"), found.provenance[0].get("limits")
    parts = []
    if isinstance(worst, dict):
        came: dict[str, Any] = {"pulses": found.record.get("pulses"), "conversions": found.record.get("conversions")}
        if found.given is not None:
            came["cells"] = int((found.given.counts > 0).sum())
            came["pulses_per_cell"] = int(found.given.counts.max())
        rows = [
            (words(key), quantity(key, value), quantity(key, came[key]) if came.get(key) is not None else "")
            for key, value in worst.items()
        ]
        parts.append(
            table(("figure", "at worst", "came to"), rows, "The plan's bounds, checked before anything", (1, 2))
        )
    if isinstance(allowed, dict):
        rows = [(words(key), quantity(key, value), "") for key, value in allowed.items()]
        limits = [(name, value) for name, value, _ in rows]
        parts.append(table(("limit", "value"), limits, "Limits of silicon, board and bench together", (1,)))
    return section("Bounds and limits", "bounds", tag("div", *parts, class_="beside") if parts else None)


def _said(key: str, value: Any) -> str:
    if key == "command" and isinstance(value, list):
        return shlex.join(str(word) for word in value)
    return str(value) if key in ("boot_nonce", "calibration") else quantity(key, value)


def texts(found: Findings) -> Html | None:
    """The files that the run was made from, as they were."""
    parts = [
        tag("details", tag("summary", f"{_TITLES.get(name, name)} ({name})"), tag("pre", text, tabindex="0"))
        for name, text in found.texts.items()
    ]
    return section("Files", "files", *parts)


def times(found: Findings) -> tuple[str, str]:
    """Return when the run began, and how long it took."""
    began, lasted_s = moment(found.record.get("started_at")), duration_s(found.record)
    return clock(began), span(began, None if began is None or lasted_s is None else began + timedelta(seconds=lasted_s))
