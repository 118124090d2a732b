"""Numbers that people and programs hand in: of the right kind, finite, in range, or refused in words."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

from rramlab.base.errors import InvalidValue, UsageError

_MOST_DIGITS = 100  # of a whole number in a text: no figure of a bench has as many; Python itself refuses beyond 4,300
_MOST_SHOWN = 100


def shown(value: object) -> str:
    """Return a value as it is said in an error: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 400:
        return f"a number of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  # somebody else's object: that it cannot be shown must not hide the error
        text = f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def real(value: Any, what: str, least: float = -math.inf, most: float = math.inf, *, above: bool = False) -> float:
    """Return a finite number as a float; numpy's scalars are numbers, texts and truth values are none.

    ``above``: it must be more than ``least``.

    Raises:
        InvalidValue: it is something else, or out of its range.
    """
    found = math.nan
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
    if not (math.isfinite(found) and (least < found if above else least <= found) and found <= most):
        raise InvalidValue(f"{what} is {shown(value)}, expected a finite number{_range(least, most, above)}")
    return found


def whole(value: Any, what: str, least: int, most: int | None = None, unit: str = "") -> int:
    """Return a whole number as an int; numpy's are some, truth values and 2.0 are none.

    Raises:
        InvalidValue: it is something else, or out of its range.
    """
    try:
        found = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = least - 1
    if found < least or (most is not None and found > most):
        reach = f"{least} or more" if most is None else f"{least} to {most}"
        raise InvalidValue(f"{what} is {shown(value)}, expected a whole number, {reach}{unit and f' {unit}'}")
    return found


def from_digits(text: str) -> int:
    """Return the whole number that a text of digits, with or without a sign, says.

    Raises:
        UsageError: it has more digits than any number here.
    """
    digits = text.strip()
    if len(digits) > _MOST_DIGITS:
        raise UsageError(
            f"found a whole number of {len(digits):,} digits ({digits[:12]}…), expected one of at most {_MOST_DIGITS}"
        )
    return int(digits)


def _range(least: float, most: float, above: bool) -> str:
    low = "" if least == -math.inf else f" above {least:g}" if above else f" of at least {least:g}"
    high = "" if most == math.inf else f"{' and' if low else ' of'} at most {most:g}"
    return low + high
