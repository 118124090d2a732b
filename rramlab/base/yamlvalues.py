"""What the values of a YAML text are, and where each key and item stands.

What one reader of YAML takes for another value than the next is text here, or refused: ``yes``, ``no``, ``on`` and
``off`` are words, dates and ``1:30`` are text, and a number is decimal (``010``, ``0x1F`` and ``1_000`` are refused).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.numbers import from_digits
from rramlab.base.yamlevents import content

# Line and column of a key or an item, counted from 1, and the spots of what stands in its value.
Spot = tuple[int, int, "Parts"]
Parts = dict[str, Spot] | list[Spot] | None

# No file that a person writes holds more. A few lines of anchors that name anchors would grow beyond any memory.
MOST_VALUES = 150_000
DEEPEST = 50

_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,30})")
_DECIMAL = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]{0,30})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Octal, hexadecimal and binary numbers, and digits in groups: other readers make numbers of them, each its own.
_TWO_WAYS = re.compile(
    r"[+-]?(?:0[0-9_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?)"
)
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_SPECIAL = re.compile(r"$|[-+.0-9~nNtTfF]")  # how anything that is not text begins
_PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:str")
_BEYOND = re.compile(r"[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def read_yaml(text: str, file: str) -> tuple[Any, Parts]:
    """Return plain Python data of a YAML text, and the spots of what stands in it; ``file``: its name.

    Raises:
        UsageError: it is not YAML, a key stands twice, or a value could be read in two ways; with line and column.
    """
    return _Reader(content(text, file), file).document()


@dataclass(frozen=True)
class _Anchored:
    """A value that aliases may name: the event that it began with, and how many values it holds, itself included."""

    event: Any
    data: Any
    spot: Spot
    values: int


class _Reader:
    """Makes plain data of events.

    An alias stands where its anchor does, for there is what it says; ``<<`` takes over keys that are not given.
    """

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self.events, self.file = events, file
        self.anchors: dict[str, _Anchored | None] = {}  # None: its value has begun and not ended
        self.left = MOST_VALUES

    def document(self) -> tuple[Any, Parts]:
        first = next(self.events, None)
        if first is None:
            return None, None
        data, (_, _, parts) = self.value(first, 0)
        next(self.events, None)  # the end, unless more follows, which is refused
        return data, parts

    def value(self, event: Any, depth: int) -> tuple[Any, Spot]:
        """Return the value that begins with ``event``, and its spot; the events up to its end are taken."""
        if isinstance(event, AliasEvent):
            named = self.named(event)
            self.take(named.values, depth + _height(named.spot[2]), event)
            return named.data, named.spot
        left = self.left
        self.take(1, depth, event)
        if event.tag not in _PLAIN_TAGS:
            raise UsageError(
                f"found the tag {event.tag!r}, expected a plain value: tags are not used here", self.of(event)
            )
        if event.anchor:
            if event.anchor in self.anchors:
                raise UsageError(f"not valid YAML: the anchor {event.anchor!r} stands twice", self.of(event))
            self.anchors[event.anchor] = None
        data: Any
        parts: Parts = None
        if isinstance(event, ScalarEvent):
            data = self.scalar(event)
        elif isinstance(event, MappingStartEvent):
            data, parts = self.mapping(depth + 1)
        else:
            data, parts = self.sequence(depth + 1)
        spot = _spot(event, parts)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(event, data, spot, left - self.left)
        return data, spot

    def take(self, values: int, depth: int, event: Any) -> None:
        """Count ``values`` that stand ``depth`` deep."""
        self.left -= values
        if self.left < 0:
            raise UsageError(
                f"found more than {MOST_VALUES:,} values, aliases counted as often as used", self.of(event)
            )
        if depth > DEEPEST:
            raise UsageError(f"found lists or mappings within one another more than {DEEPEST} deep", self.of(event))

    def named(self, alias: Any) -> _Anchored:
        found = self.anchors.get(alias.anchor)
        if found is None:
            within = "within its own value" if alias.anchor in self.anchors else "without an anchor before it"
            raise UsageError(f"not valid YAML: found the alias {alias.anchor!r} {within}", self.of(alias))
        return found

    def sequence(self, depth: int) -> tuple[list[Any], list[Spot]]:
        found, spots = [], []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            data, spot = self.value(event, depth)
            found.append(data)
            spots.append(spot)
        return found, spots

    def mapping(self, depth: int) -> tuple[dict[str, Any], dict[str, Spot]]:
        found: dict[str, Any] = {}
        spots: dict[str, Spot] = {}
        own: set[str] = set()
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self.named(event).event if isinstance(event, AliasEvent) else event
            if not isinstance(key, ScalarEvent):
                raise UsageError("found a list or a mapping as a key, expected a word", self.of(event))
            if key is event and (key.anchor or key.tag):
                self.value(key, depth)  # a tag is refused, and what has an anchor may be named again
            name: str = key.value
            if name == "<<" and not key.style:
                for taken, data, spot in self.merged(next(self.events), depth):
                    if taken not in found:
                        found[taken], spots[taken] = data, spot
                continue
            if name in own:
                raise UsageError(f"the key {name!r} stands twice", self.of(event))
            own.add(name)
            found[name], (_, _, parts) = self.value(next(self.events), depth)
            spots[name] = _spot(event, parts)
        return found, spots

    def merged(self, event: Any, depth: int) -> Iterator[tuple[str, Any, Spot]]:
        """Yield keys that ``<<`` takes over, with value and spot; of several mappings the first that has a key."""
        data, spot = self.value(event, depth)
        items = spot[2]
        several = zip(data, items, strict=True) if isinstance(items, list) else [(data, spot)]
        for mapping, (line, column, parts) in several:
            if not isinstance(mapping, dict) or not isinstance(parts, dict):
                raise UsageError(
                    f"found {mapping!r} after <<, expected a mapping or a list of mappings",
                    SourceRef(self.file, line, column),
                )
            for name, value in mapping.items():
                yield name, value, parts[name]

    def scalar(self, event: Any) -> Any:
        """Return a value; what is quoted is text, and so is all that is no number, ``true``, ``false`` or ``null``."""
        text: str = event.value
        if event.style or " " in text or not _SPECIAL.match(text):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _WHOLE.fullmatch(text):
            try:
                return from_digits(text)
            except UsageError as error:
                raise UsageError(str(error), self.of(event)) from None
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _BEYOND.fullmatch(text):
            return float(text.replace(".", ""))
        if _TWO_WAYS.fullmatch(text):
            raise UsageError(
                f"found {text!r}, which can be read in more than one way, expected a decimal number such as 10 or 0.5; text "
                "goes in quotes",
                self.of(event),
            )
        return text

    def of(self, event: Any) -> SourceRef:
        line, column, _ = _spot(event, None)
        return SourceRef(self.file, line, column)


def _spot(event: Any, parts: Parts) -> Spot:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1, parts


def _height(parts: Parts) -> int:
    """Return how deep lists and mappings stand within one another in a value; 0 for one that holds none."""
    if not parts:
        return 0
    return 1 + max(_height(each) for _, _, each in (parts.values() if isinstance(parts, dict) else parts))
