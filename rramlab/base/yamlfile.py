"""YAML files with the place of every value, so that an error names file, line and column.

What one reader of YAML takes for another value than the next is text here, or refused: ``yes``, ``no``, ``on`` and
``off`` are words, dates and ``1:30`` are text, and a number is decimal (``010``, ``0x1F`` and ``1_000`` are refused).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rramlab.base.errors import DataError, SourceRef, UsageError
from rramlab.base.names import IN_WORDS
from rramlab.base.units import WRITTEN_BY_HAND

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]

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
_TEXT = "tag:yaml.org,2002:str"
_BEYOND = re.compile(r"[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True)
class YamlDocument:
    """Plain Python data of one YAML file, and where each key and item stands in it."""

    path: Path
    data: Any
    places: dict[Location, tuple[int, int]]

    def at(self, location: Sequence[str | int]) -> SourceRef:
        """Return the place of ``location``, or of its nearest parent that stands in the file."""
        key = tuple(location)
        while key and key not in self.places:
            key = key[:-1]
        line, column = self.places.get(key, (1, 1))
        return SourceRef(str(self.path), line, column)


def load_yaml(path: Path) -> YamlDocument:
    """Read one YAML file.

    Raises:
        DataError: the file is missing or unreadable.
        UsageError: it is not YAML, a key stands twice, or a value could be read in two ways; with line and column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    from rramlab.base.yamlnodes import compose  # not before a file is read: help needs none

    try:
        node = compose(text, str(path))
    except RecursionError:
        raise UsageError(_TOO_DEEP, SourceRef(str(path), 1, 1)) from None
    reader = _Reader(path)
    return YamlDocument(path, None if node is None else reader.value(node, ()), reader.places)


_TOO_DEEP = f"found lists or mappings within one another more than {DEEPEST} deep"


class _Reader:
    """Makes plain data of nodes and notes where each stands.

    An alias stands where its anchor does, for there is what it says; ``<<`` takes over keys that are not given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[Location, tuple[int, int]] = {}
        self.left = MOST_VALUES

    def value(self, node: Any, at: Location) -> Any:
        from yaml import MappingNode, SequenceNode

        self.left -= 1
        if self.left < 0:
            raise UsageError(f"found more than {MOST_VALUES:,} values, aliases counted as often as used", self.of(node))
        if len(at) > DEEPEST:
            raise UsageError(_TOO_DEEP, self.of(node))
        if isinstance(node, MappingNode):
            return self.mapping(node, at)
        if isinstance(node, SequenceNode):
            found = []
            for index, item in enumerate(node.value):
                self.places[(*at, index)] = _place(item)
                found.append(self.value(item, (*at, index)))
            return found
        return self.scalar(node)

    def mapping(self, node: Any, at: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        own: set[str] = set()
        for key, value in node.value:
            if not isinstance(key.value, str):
                raise UsageError("found a list or a mapping as a key, expected a word", self.of(key))
            if key.value == "<<" and not key.style:
                for name, taken in self.merged(value, at).items():
                    found.setdefault(name, taken)
                continue
            name = key.value
            if name in own:
                raise UsageError(f"the key {name!r} stands twice", self.of(key))
            own.add(name)
            self.places[(*at, name)] = _place(key)
            found[name] = self.value(value, (*at, name))
        return found

    def merged(self, node: Any, at: Location) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        before = dict(self.places)
        for each in reversed(node.value if node.id == "sequence" else [node]):
            data = self.value(each, at)
            if not isinstance(data, dict):
                raise UsageError(f"found {data!r} after <<, expected a mapping or a list of mappings", self.of(each))
            taken |= data
        self.places |= before  # a key of the mapping's own keeps its own place
        return taken

    def scalar(self, node: Any) -> Any:
        """Return a value; what is quoted is text, and so is all that is no number, ``true``, ``false`` or ``null``."""
        text: str = node.value
        if node.tag != _TEXT:
            raise UsageError(
                f"found the tag {node.tag!r}, expected a plain value: tags are not used here", self.of(node)
            )
        if node.style or not _SPECIAL.match(text):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _BEYOND.fullmatch(text):
            return float(text.replace(".", ""))
        if _TWO_WAYS.fullmatch(text):
            raise UsageError(
                f"found {text!r}, which can be read in more than one way, expected a decimal number such as 10 or 0.5; text "
                "goes in quotes",
                self.of(node),
            )
        return text

    def of(self, node: Any) -> SourceRef:
        return SourceRef(str(self.path), *_place(node))


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def validate(document: YamlDocument, model: type[Model], data: Any = None, at: Location = ()) -> Model:
    """Build ``model`` from ``data`` (default: the whole document), which stands at ``at`` in the file.

    Raises:
        UsageError: naming file, line and column, what was found and what was expected.
    """
    data = document.data if data is None and not at else data
    if data is None:
        raise UsageError(
            "found nothing, expected keys and values: the file or this part of it is empty", document.at(at)
        )
    if not isinstance(data, dict):
        raise UsageError(f"found {data!r}, expected keys and values", document.at(at))
    try:
        return model.model_validate(data, context=WRITTEN_BY_HAND)
    except ValidationError as error:
        # A misspelt key is also a missing one; the misspelling is what the person can see.
        found = error.errors(include_url=False)
        first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
        location = tuple(part for part in first["loc"])
        raise UsageError(explain(first, model), document.at((*at, *location))) from None


# What was expected, by the kind of pydantic's error, its figures filled in; all others say it in words that will do.
_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "dataclass_type"), "keys and values"),
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "text of {min_length} or more characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "{min_length} or more entries",
    "too_long": "at most {max_length} entries",
}
_MOMENT = "a time such as '2026-11-22T14:00:00+00:00'"


def explain(error: Any, model: type[BaseModel]) -> str:
    """Say one pydantic error in plain words. Fields with ``repr=False`` are the program's own, not for people to write."""
    place = list(error["loc"])
    if place[-1:] == ["[key]"]:
        place = place[:-2]  # of the mapping itself: it is a key of it that is wrong, and that is what was found
    where = ".".join(str(part) for part in place)
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = ", ".join(sorted(name for name, field in model.model_fields.items() if field.repr))
        hint = f"; known keys: {known}" if len(error["loc"]) == 1 else ""
        comma = "; text with a comma goes in quotes" if error["input"] is None else ""
        return f"unknown key {where!r}{hint}{comma}"
    if error["type"] == "missing" and not isinstance(place[-1], int):
        return f"the key {where!r} is missing"
    if error["type"] == "missing":
        where = ".".join(str(part) for part in place[:-1])
    message = str(error["msg"]).removeprefix("Value error, ")
    expected = _expected(error)
    if expected:
        message = f"found {_short(error['input'])}, expected {expected}"
    found = "" if message.startswith("found") else f" (found {_short(error['input'])})"
    return f"{where}: {message}{found}" if where else f"{message}{found}"


def _expected(error: Any) -> str:
    """Say what one of pydantic's own errors expected; nothing where the message is one of ours."""
    kind, given = str(error["type"]), error.get("ctx", {})
    if kind.startswith("datetime_"):
        return _MOMENT
    if kind == "string_pattern_mismatch":
        return IN_WORDS.get(given["pattern"], f"text that matches {given['pattern']}")
    if kind == "missing":
        return f"{int(error['loc'][-1]) + 1} or more entries"
    if kind == "string_type" and isinstance(error["input"], int | float):
        return "text: put it in quotes"
    if kind in _EXPECTED:
        return _EXPECTED[kind].format_map(given)
    message = str(error["msg"])
    return message.removeprefix("Input should be ") if message.startswith("Input should be ") else ""


def _short(value: object) -> str:
    """Return a value as it is written in a file, cut where it is long."""
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def load_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model; errors name file, line and column."""
    return validate(load_yaml(path), model)
