"""YAML text to nodes with their places; what a scalar means is decided elsewhere."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from rramlab.base.errors import SourceRef, UsageError

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Pure(Reader, Scanner, Parser, Composer, BaseResolver):  # type: ignore[misc]  # the library is untyped
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        for part in (Scanner, Parser, Composer, BaseResolver):
            part.__init__(self)


def _compose(text: str) -> Any:
    """Every plain scalar keeps its text: the resolver that is asked knows no types."""
    if not yaml.__with_libyaml__:
        return _Pure(text).get_single_node()

    # libyaml is fifteen times as fast, and a long protocol has a hundred thousand nodes.
    class Fast(yaml.cyaml.CParser, BaseResolver):  # type: ignore[misc]
        def __init__(self) -> None:
            yaml.cyaml.CParser.__init__(self, text)
            BaseResolver.__init__(self)

    return Fast().get_single_node()


def compose(text: str, file: str) -> Any:
    """Return the root node, None for an empty text.

    Raises:
        UsageError: it is not YAML; with ``file``, line and column.
    """
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        before = text[: unprintable.start()]
        place = SourceRef(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise UsageError(f"not valid YAML: found the character {unprintable[0]!r}", place)
    try:
        return _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        problem = str(error.problem or error.context).splitlines()[0]
        hint = ": indent with spaces, never with tabs" if "\t" in _before(text, line, column) else ""
        raise UsageError(f"not valid YAML: {problem}{hint}", SourceRef(file, line + 1, column + 1)) from error
    except yaml.YAMLError as error:
        raise UsageError(f"not valid YAML: {str(error).splitlines()[0]}", SourceRef(file, 1, 1)) from error


def _before(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    return lines[line][: column + 1] if line < len(lines) else ""
