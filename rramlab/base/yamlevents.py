"""YAML text to events with their places; what they mean is decided elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from rramlab.base.errors import SourceRef, UsageError

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Pure(Reader, Scanner, Parser):  # type: ignore[misc]  # the library is untyped
    def __init__(self, text: str) -> None:
        for part, arguments in ((Reader, (text,)), (Scanner, ()), (Parser, ())):
            part.__init__(self, *arguments)


def _parser(text: str) -> Any:
    # libyaml is fifteen times as fast, and a long protocol has a hundred thousand events.
    return yaml.cyaml.CParser(text) if yaml.__with_libyaml__ else _Pure(text)


def content(text: str, file: str) -> Iterator[Any]:
    """Yield the events of what the text holds, those around its one document left out; none for an empty text.

    Raises:
        UsageError: it is not YAML, or more than one document; with ``file``, line and column.
    """
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        before = text[: unprintable.start()]
        place = SourceRef(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise UsageError(f"not valid YAML: found the character {unprintable[0]!r}", place)
    try:
        parser = _parser(text)
        parser.get_event()  # the stream begins
        if isinstance(parser.get_event(), yaml.StreamEndEvent):
            return
        while not isinstance(event := parser.get_event(), yaml.DocumentEndEvent):
            yield event
        if not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
            place = SourceRef(file, event.start_mark.line + 1, event.start_mark.column + 1)
            raise UsageError("not valid YAML: found a second document, expected one", place)
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
