"""How every command speaks and ends."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from rramlab.base.errors import RramlabError, Stopped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

P = ParamSpec("P")


class Output:
    """Prose and tables for people; with ``json`` they go to stderr and one document goes to stdout."""

    def __init__(self, json: bool) -> None:
        self.json = json

    @functools.cached_property
    def console(self) -> Console:
        from rich.console import Console

        stream = sys.stderr if self.json else sys.stdout
        # A pipe has no width: lines are left whole for whatever reads them.
        return Console(stderr=self.json, highlight=False, width=None if stream.isatty() else 160)

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


def print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """Turn numpy scalars and paths into plain JSON values."""
    return value.item() if hasattr(value, "item") else str(value)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """End a command by the contract: errors in words on stderr, their exit code, and a JSON document if asked for."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                function(*args, **kwargs)
        except KeyboardInterrupt:
            _fail("stopped by the user", Stopped.exit_code, bool(kwargs.get("as_json")))
        except RramlabError as error:
            _fail(str(error), error.exit_code, bool(kwargs.get("as_json")))
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            _fail(
                f"the operating system refused{where}: {error.strerror or error}. Free space or correct the permissions, "
                "then run the command again; what was written before is whole",
                RramlabError.exit_code,
                bool(kwargs.get("as_json")),
            )

    return wrapped


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.secho(f"warning: {message}", err=True, fg=typer.colors.YELLOW)


def _fail(message: str, exit_code: int, as_json: bool) -> None:
    if as_json:
        print_json({"error": message, "exit_code": exit_code})
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(exit_code)
