"""Message templates: what is sent to an instrument, with ``{placeholders}`` for the values of a verb."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

from pydantic import AfterValidator

# Placeholders of every verb: the channel's own spelling, and what the file states under settings.
COMMON = ("channel", "sensing", "nplc", "autorange")

# Fewer than seven digits could carry a value across a limit; the limits themselves have fewer (see smufile.Limits).
_FORMAT = re.compile(r"(\.([7-9]|1[0-7])[eg])?")

Value = str | int | float | tuple[float, ...]


class _Numbers(tuple[float, ...]):
    """A list of numbers: joined by commas, each in the format of the placeholder."""

    def __format__(self, spec: str) -> str:
        return ",".join(format(float(value), spec) for value in self)


def allowing(*names: str) -> AfterValidator:
    """Return the check that a template is one message with no other placeholders than ``names`` and the common ones."""
    allowed = (*COMMON, *names)

    def check(template: str) -> str:
        if not template or not template.isascii() or not template.isprintable():
            raise ValueError(
                f"found {template!r}, expected one message in printable ASCII; its end is under terminators"
            )
        expected = ", ".join(f"{{{name}}}" for name in allowed)
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(
                f"found {template!r} ({error}), expected placeholders such as {expected}; braces of the message itself are "
                "doubled"
            ) from None
        for _, name, spec, conversion in parts:
            if name is None:
                continue
            if name not in allowed or conversion:
                raise ValueError(f"found the placeholder {{{name}}}, expected {expected}")
            if spec and (name in COMMON or not _FORMAT.fullmatch(spec)):
                raise ValueError(
                    f"found the format {spec!r} of {{{name}}}, expected none, which sends a number whole, or '.9g' or '.9e' "
                    "with 7 to 17 digits; texts have none"
                )
        return template

    return AfterValidator(check)


def names_in(template: str) -> set[str]:
    """Return the placeholders of a checked template."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def fill(template: str, values: Mapping[str, Value]) -> str:
    """Return the message; a number without a format is sent whole, a tuple joined by commas."""
    return template.format(
        **{name: _Numbers(value) if isinstance(value, tuple) else value for name, value in values.items()}
    )
