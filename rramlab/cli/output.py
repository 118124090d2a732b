"""How every command speaks and ends."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import typer

from rramlab.base.errors import OutOfLimits, RramlabError, Stopped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rramlab.drivers.bench import BenchDescription

P = ParamSpec("P")


def console(stderr: bool, **options: Any) -> Console:
    """Return a console that falls silent when nobody reads it any more: a run goes on without its prose."""
    from rich.console import Console

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _fall_silent()

    return Lasting(stderr=stderr, **options)


def whisper(line: str) -> None:
    """Print a line on stderr, if anybody still reads it."""
    try:
        typer.echo(line, err=True)
    except OSError:
        _fall_silent()


def _fall_silent() -> None:
    """Send what is still printed nowhere: Python itself flushes both streams at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, AttributeError):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Output:
    """Prose and tables for people; with ``json`` they go to stderr and one document goes to stdout."""

    def __init__(self, json: bool) -> None:
        self.json = json

    @functools.cached_property
    def console(self) -> Console:
        stream = sys.stderr if self.json else sys.stdout
        # A pipe has no width: lines are left whole for whatever reads them.
        return console(self.json, highlight=False, width=None if stream is not None and stream.isatty() else 160)

    def say(self, *parts: Any) -> None:
        self.console.print(*parts)

    def table(self, *columns: str, title: str | None = None) -> Table:
        from rich.table import Table

        if title:
            self.say(f"[bold]{title}[/]")
        table = Table(header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, no_wrap=index == 0)
        return table

    def facts(self, title: str) -> Table:
        """A table of names and values, without a head."""
        from rich.table import Table

        self.say(f"[bold]{title}[/]")
        return Table("", "", show_header=False)

    def finish(self, document: dict[str, Any]) -> None:
        """Print the command's one JSON document, if it was asked for."""
        if self.json:
            print_json(document)


def note_bench(description: BenchDescription) -> None:
    """Say so where a folder without a bench.yaml is served by the shipped simulated bench."""
    if description.located.path.parent != description.root.resolve() and description.located.origin != "bench":
        typer.echo(f"note: {description.root} has no bench.yaml; the shipped simulated bench is used", err=True)


def print_json(document: dict[str, Any]) -> None:
    if sys.stdout is None:
        return  # it was closed before the program began
    from pydantic_core import PydanticSerializationError, to_json  # ten times as fast as json where lines are indented

    try:
        text = to_json(document, indent=1, inf_nan_mode="constants", fallback=_plain).decode()
    except PydanticSerializationError:  # a file's name that is not UTF-8
        text = json.dumps(document, indent=1, default=_plain)
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
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
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
            typer.echo(traceback.format_exc(), err=True)
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


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.secho(f"warning: {message}", err=True, fg=typer.colors.YELLOW)


def fail(message: str, exit_code: int, as_json: bool, document: dict[str, Any] | None = None) -> NoReturn:
    """End the command with an error; ``document``: what it has to say nevertheless."""
    with contextlib.suppress(OSError):  # nobody reads it, or there is no room: the exit code says it all the same
        if as_json:
            print_json({"error": message, "exit_code": exit_code, **(document or {})})
    with contextlib.suppress(OSError):
        typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)
    _fall_silent()
    raise Ended(exit_code)
