"""How every command speaks and ends."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TextIO

import typer

from rramlab.base.errors import OutOfLimits, RramlabError, Stopped
from rramlab.cli.process import begun, stop_wished
from rramlab.cli.streams import fitting, harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rramlab.drivers.bench import BenchDescription

P = ParamSpec("P")
_MOST_FRAMED = 200  # lines of a table


class Styled(str):
    """Text in a style of rich's, such as ``bold`` or ``red``. Everything else that is said has none, whatever stands in it."""

    __slots__ = ("style",)
    style: str


def styled(text: object, style: str = "bold") -> Styled:
    """Return text in a style, for :meth:`Output.say` and for the cells of tables. It is the only way to one."""
    found = Styled(text)
    found.style = style
    return found


def console(stderr: bool, **options: Any) -> Console:
    """Return a console that takes text for text: no markup, no emoji, no colours for what looks like a number or a path."""
    from rich.console import Console

    class Literal(Console):
        def render_str(self, text: str, **given: Any) -> Text:
            if isinstance(text, Styled):
                given["style"] = text.style
            return super().render_str(_fitting(text, self.encoding), **given)

    return Literal(stderr=stderr, markup=False, emoji=False, highlight=False, **options)


def _fitting(text: str, encoding: str) -> str:
    """Return text as it can be shown; spelled as the encoding allows before it is laid out, so that columns stay straight."""
    return fitting(harmless(text), encoding)


def whisper(line: str, colour: str | None = None) -> None:
    """Print a line on stderr."""
    typer.secho(harmless(line), err=True, fg=colour)


class Output:
    """Prose and tables for people; with ``json`` they go to stderr and one document goes to stdout."""

    def __init__(self, json: bool) -> None:
        self.json = json

    @property
    def _stream(self) -> TextIO | None:
        return sys.stderr if self.json else sys.stdout

    @functools.cached_property
    def console(self) -> Console:
        # A pipe has no width: lines are left whole for whatever reads them.
        return console(self.json, width=None if self._stream is not None and self._stream.isatty() else 160)

    def say(self, *parts: Any) -> None:
        """Print one table, or one paragraph of texts, some of them :func:`styled`. What stands in a text is what is shown."""
        stream = self._stream
        if stream is None:
            return  # it was closed before the program began
        if not all(isinstance(part, str) for part in parts):
            self.console.print(*parts)
        elif stream.isatty() or "FORCE_COLOR" in os.environ:
            from rich.text import Text

            self.console.print(Text.assemble(*map(self.console.render_str, parts)))
        else:  # without rich, which takes a third of the time of a short command
            stream.write(_fitting("".join(parts), getattr(stream, "encoding", None) or "utf-8") + "\n")
            stream.flush()

    def shows(self, text: str) -> bool:
        """Whether the terminal has these characters."""
        return fitting(text, self.console.encoding) == text

    def table(self, *columns: str, title: str | None = None) -> Table:
        from rich.table import Table

        if title:
            self.say(styled(title))
        table = Table(header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, no_wrap=index == 0)
        return table

    def listing(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table that may be long: beyond some lines without its frame, which costs half a millisecond a line."""
        if len(rows) <= _MOST_FRAMED:
            table = self.table(*columns)
            for row in rows:
                table.add_row(*row)
            self.say(table)
            return
        every = [columns, *([" ".join(cell.split()) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
        )
        self.say("\n".join(lines))

    def facts(self, title: str) -> Table:
        """A table of names and values, without a head."""
        from rich.table import Table

        self.say(styled(title))
        return Table("", "", show_header=False)

    def finish(self, document: dict[str, Any]) -> None:
        """Print the command's one JSON document, if it was asked for."""
        if self.json:
            print_json(document)


def note_bench(description: BenchDescription) -> None:
    """Say so where a folder without a bench.yaml is served by the shipped simulated bench."""
    if description.located.path.parent != description.root.resolve() and description.located.origin != "bench":
        whisper(f"note: {description.root} has no bench.yaml; the shipped simulated bench is used")


def print_json(document: dict[str, Any]) -> None:
    """Print one document, the same in every encoding."""
    if sys.stdout is None:
        return  # it was closed before the program began
    from pydantic_core import PydanticSerializationError, to_json  # ten times as fast as json where lines are indented

    try:
        text = to_json(document, indent=1, inf_nan_mode="constants", fallback=_plain).decode()
    except PydanticSerializationError:  # a file's name that is not UTF-8
        text = json.dumps(document, indent=1, default=_plain)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Turn numpy scalars and paths into plain JSON values."""
    return value.item() if hasattr(value, "item") else str(value)


_REMEDIES = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "Free space",
    errno.EACCES: "Correct the permissions",
    errno.EPERM: "Correct the permissions",
    errno.EROFS: "Make the file system writable",
}


class Ended(SystemExit):
    """A command that said how it ended: its JSON document, if asked for, is printed."""


def command(function: Callable[P, None]) -> Callable[P, None]:
    """End a command by the contract: errors in words on stderr, their exit code, and a JSON document if asked for."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        begun()
        try:
            with warnings.catch_warnings():
                warnings.showwarning = warn
                function(*args, **kwargs)
        except KeyboardInterrupt:
            fail("stopped by the user", Stopped.exit_code, as_json)
        except RramlabError as error:
            document = {"run": error.run} if error.run else None
            fail(f"{error}{going_on(error)}", error.exit_code, as_json, document)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            remedy = _REMEDIES.get(error.errno or 0, "Correct that")
            fail(
                f"the operating system refused{where}: {error.strerror or error}. {remedy}, then run the command again; what "
                "was written before is whole",
                RramlabError.exit_code,
                as_json,
            )
        except Exception as error:  # noqa: BLE001  # the border: what nobody foresaw is told whole, and ends with code 1
            if stop_wished():  # such as an import that was interrupted, and says that it failed
                fail("stopped by the user", Stopped.exit_code, as_json)
            whisper(traceback.format_exc())
            fail(f"this is a defect of rramlab, please report it: {error!r}", RramlabError.exit_code, as_json)

    return wrapped


def going_on(error: RramlabError) -> str:
    """Say where what was measured is, and how to go on."""
    if not error.run:
        return ""
    kept = f"\nThe run is {error.run}; what it measured is kept. See: rramlab report {error.run}"
    if isinstance(error, OutOfLimits):
        return (
            f"{kept}. A resume would fail at the same check: when the cause is found, start a new run for what is left"
        )
    return f"{kept}; go on: rramlab resume {error.run}"


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning on stderr; also what :mod:`warnings` does while a command goes on."""
    whisper(f"warning: {message}", typer.colors.YELLOW)


def fail(message: str, exit_code: int, as_json: bool, document: dict[str, Any] | None = None) -> NoReturn:
    """End the command with an error; ``document``: what it has to say nevertheless."""
    if as_json:
        print_json({"error": message, "exit_code": exit_code, **(document or {})})
    whisper(f"error: {message}", typer.colors.RED)
    raise Ended(exit_code)
