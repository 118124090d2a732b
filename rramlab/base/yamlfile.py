"""YAML files with the place of every value, so that an error names file, line and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from rramlab.base.errors import DataError, SourceRef, UsageError
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
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


def explain(error: Any, model: type[BaseModel]) -> str:
    """Say one pydantic error in plain words. Fields with ``repr=False`` are the program's own, not for people to write."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(name for name, field in model.model_fields.items() if field.repr))
        hint = f"; known keys: {known}" if len(error["loc"]) == 1 else ""
        comma = "; text with a comma goes in quotes" if error["input"] is None else ""
        return f"unknown key {where!r}{hint}{comma}"
    if error["type"] == "missing":
        return f"the key {where!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if message.startswith("Input should be "):
        message = f"found {_short(error['input'])}, expected {message.removeprefix('Input should be ')}"
    found = "" if message.startswith("found") else f" (found {_short(error['input'])})"
    return f"{where}: {message}{found}" if where else f"{message}{found}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def load_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model; errors name file, line and column."""
    return validate(load_yaml(path), model)
