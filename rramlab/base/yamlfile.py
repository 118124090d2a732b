"""YAML files with the place of every value, so that an error names file, line and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.files import read_text
from rramlab.base.names import IN_WORDS
from rramlab.base.numbers import shown
from rramlab.base.units import WRITTEN_BY_HAND

if TYPE_CHECKING:
    from rramlab.base.yamlvalues import Parts

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlDocument:
    """Plain Python data of one YAML file, and the spots of its keys and items."""

    path: Path
    data: Any
    parts: Parts

    def at(self, location: Sequence[str | int]) -> SourceRef:
        """Return the place of ``location``, or of its nearest parent that stands in the file."""
        line, column, parts = 1, 1, self.parts
        for part in location:
            try:
                line, column, parts = parts[part]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):  # of a mapping, of a list, of neither
                break
        return SourceRef(str(self.path), line, column)


def load_yaml(path: Path) -> YamlDocument:
    """Read one YAML file.

    Raises:
        DataError: the file is missing or unreadable.
        UsageError: it is not YAML, a key stands twice, or a value could be read in two ways; with line and column.
    """
    text = read_text(path)
    from rramlab.base.yamlvalues import read_yaml  # not before a file is read: help needs none

    return YamlDocument(path, *read_yaml(text, str(path)))


def validate(
    document: YamlDocument,
    model: type[Model],
    data: Any = None,
    at: Location = (),
    elsewhere: Mapping[str, Location] | None = None,
) -> Model:
    """Build ``model`` from ``data`` (default: the whole document), which stands at ``at`` in the file.

    ``elsewhere``: where keys of ``data`` stand that the file does not have at ``at``.

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
        location = first["loc"]
        place = (elsewhere or {}).get(str(location[0])) if location else None
        raise UsageError(explain(first, model), document.at(place or (*at, *location))) from None


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
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else shown(value)


def load_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model; errors name file, line and column."""
    return validate(load_yaml(path), model)
