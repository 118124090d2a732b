"""The command tree. A command's module is loaded when the command is called, or asked for its help."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import rramlab

# Each command, as --help lists them, and where it is: a function, or the app of a group.
COMMANDS = {
    "demo": "demo:demo",
    "reproduce": "reproduce:reproduce",
    "init": "bench:init",
    "bench": "bench:app",
    "drivers": "drivers:app",
    "protocols": "protocols:app",
    "run": "run:run",
    "resume": "run:resume",
    "runs": "runs:app",
    "dies": "dies:app",
    "report": "report:report",
    "contact": "probe:contact",
    "route": "probe:route",
    "sweep": "probe:sweep",
    "map": "view:map_",
    "estop": "bench:estop",
    "place": "place:place",
    "train": "train:train",
    "adapt": "train:adapt",
    "deploy": "deploy:deploy",
    "evaluate": "deploy:evaluate",
    "data": "datasets:app",
    "calibrate": "calibrate:app",
    "sim": "sim:app",
}


class Commands(TyperGroup):
    """A group that loads its commands when they are needed, after click's documented pattern of a lazy group."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _loaded(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:  # what is meant is looked for among all of them
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _loaded(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(f"rramlab.cli.{module}"), attribute)
    around = typer.Typer(rich_markup_mode=None, add_completion=False, callback=lambda: None)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return typer.main.get_group(around).commands[name]


app = typer.Typer(
    name="rramlab",
    cls=Commands,
    help="Form, read and prune a resistive-memory macro; learn which of its random weights to keep.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 failed; 2 usage; 3 refused by a limit or missing arming; 4 stopped by the user, safe; "
    "5 a measurement was out of its expected limits.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rramlab {rramlab.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
