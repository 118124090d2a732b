"""The command tree."""

from __future__ import annotations

from typing import Annotated

import typer

import rramlab
from rramlab.cli import (
    bench,
    calibrate,
    datasets,
    demo,
    deploy,
    dies,
    drivers,
    place,
    probe,
    protocols,
    report,
    reproduce,
    run,
    runs,
    sim,
    train,
    view,
)

app = typer.Typer(
    name="rramlab",
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


app.command("demo")(demo.demo)
app.command("reproduce")(reproduce.reproduce)
app.command("init")(bench.init)
app.add_typer(bench.app, name="bench")
app.add_typer(drivers.app, name="drivers")
app.add_typer(protocols.app, name="protocols")
app.command("run")(run.run)
app.command("resume")(run.resume)
app.add_typer(runs.app, name="runs")
app.add_typer(dies.app, name="dies")
app.command("report")(report.report)
app.command("contact")(probe.contact)
app.command("route")(probe.route)
app.command("sweep")(probe.sweep)
app.command("map")(view.map_)
app.command("estop")(bench.estop)
app.command("place")(place.place)
app.command("train")(train.train)
app.command("adapt")(train.adapt)
app.command("deploy")(deploy.deploy)
app.command("evaluate")(deploy.evaluate)
app.add_typer(datasets.app, name="data")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(sim.app, name="sim")
