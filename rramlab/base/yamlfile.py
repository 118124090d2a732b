"""YAML 1.2 files with the place of every value, so that an error names file, line and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rramlab.base.errors import DataError, SourceRef, UsageError
from rramlab.base.units import WRITTEN_BY_HAND

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


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
        UsageError: it is not YAML, or a key stands twice; the message has line and column.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        source = SourceRef(str(path), mark.line + 1, mark.column + 1) if mark else SourceRef(str(path))
        raise UsageError(f"not valid YAML: {str(error.problem).splitlines()[0]}", source) from error
    except YAMLError as error:
        raise UsageError(f"not valid YAML: {error}", SourceRef(str(path))) from error
    places: dict[Location, tuple[int, int]] = {}
    return YamlDocument(path, _plain(tree, (), places), places)


def _plain(node: Any, at: Location, places: dict[Location, tuple[int, int]]) -> Any:
    """Strip ruamel's decorations from ``node`` and note where each value stands."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(node, CommentedMap):
        for key in node:
            # A key that came by a merge (<<) has no place of its own: it is where the mapping is.
            line, column = node.lc.key(key) if key in (node.lc.data or {}) else (node.lc.line, node.lc.col)
            places[(*at, str(key))] = (line + 1, column + 1)
        return {str(key): _plain(value, (*at, str(key)), places) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            # An alias has no place of its own either.
            line, column = node.lc.item(index) if index in (node.lc.data or {}) else (node.lc.line, node.lc.col)
            places[(*at, index)] = (line + 1, column + 1)
        return [_plain(value, (*at, index), places) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


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


def explain(error: Any, model: type[BaseModel]) -> str:
    """Say one pydantic error in plain words. Fields with ``repr=False`` are the program's own, not for people to write."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(name for name, field in model.model_fields.items() if field.repr))
        hint = f"; known keys: {known}" if len(error["loc"]) == 1 else ""
        return f"unknown key {where!r}{hint}"
    if error["type"] == "missing":
        return f"the key {where!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = "" if message.startswith("found") else f" (found {error['input']!r})"
    return f"{where}: {message}{found}" if where else f"{message}{found}"


def load_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model; errors name file, line and column."""
    return validate(load_yaml(path), model)
