"""``sim new``, ``sim fork``, ``sim age``, ``sim info``: what only a simulated bench can do to its dies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError, UsageError
from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command, fail, note_bench
from rramlab.cli.serve import serve

if TYPE_CHECKING:
    from rramlab.drivers.bench import BenchDescription
    from rramlab.sim.truth import Damaged, Truth

app = typer.Typer(help="Simulated dies: make a bank of them, let them age, look into them.", no_args_is_help=True)

app.command("serve")(serve)

_HIDDEN = "Hidden truth of the simulator, which a real bench cannot show:"
_LINES = 12  # of a history that are shown
DieId = Annotated[str, typer.Argument(metavar="ID", help="The die's id.")]


@app.command("new")
@command
def new(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the new die; with --count the ids are ID-01, ID-02 …")
    ],
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many dies.")] = 1,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", help="Seeds S, S + 1 …; default: from each id.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset", help="published, ideal, harsh, phase-change, ferroelectric or charge-trap: what it is made of."
        ),
    ] = "published",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIGURE=VALUE",
            help="Change a single figure: --set noise.read=0.05 --set wires.solver=fast; sim info ID --figures lists them.",
        ),
    ] = None,
    enter: Annotated[bool, typer.Option("--enter", help="Also list the dies in the bench's own bench.yaml.")] = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Make virgin simulated dies. Nothing is made unless all of them can be."""
    from rramlab.sim.bank import make, parse_figures, planned

    out = Output(as_json)
    description = _described(bench)
    dies = planned(name, count, seed, preset, parse_figures(assignments or []))
    paths = make(description, dies, enter)
    table = out.table("die", "memory", "preset", "seed", "state file", title=_made(dies))
    table.columns[3].no_wrap = True
    for die, path in zip(dies, paths, strict=True):
        table.add_row(die.id, die.model.memory, _changed(die.preset, die.changes), str(die.seed), _relative(path))
    out.say(table)
    if enter:
        out.say(f"Listed in {description.located.path}: every command that opens the bench finds them there.")
    first = dies[0].id
    lossy = dies[0].model.wires.solver != "none"
    out.say(f"Next: rramlab run electroform --die {first} --arm {first}{' --set lowest=2uS' if lossy else ''}")
    if lossy:
        out.say("Its lines have resistance, so reads come out low: 'lowest' is the median that the run expects.")
    out.finish(
        {
            "dies": [
                {"die": die.id, "memory": die.model.memory, **die.options, "state_file": str(path)}
                for die, path in zip(dies, paths, strict=True)
            ],
            "entered_in": str(description.located.path) if enter else None,
        }
    )


@app.command("fork")
@command
def fork(bench: BenchPath = None, as_json: Json = False) -> None:
    """Make the dies of a bench folder that was copied others than those of the folder that it was copied from.

    A simulated die is copied with its folder, which no real one is: from now on each goes its own way.
    """
    from rramlab.drivers.lock import BenchLock
    from rramlab.runs import LEDGER
    from rramlab.runs.ledger.copies import make_its_own

    out = Output(as_json)
    description = _described(bench)
    lock = BenchLock(description.data)
    lock.acquire()
    try:
        paths = sorted((description.data / "dies").glob(f"*/{LEDGER}"))
        for path in paths:
            make_its_own(path)
    finally:
        lock.release()
    dies = [path.parent.name for path in paths]
    out.say(f"{len(dies):,} dies have a life of their own now: {', '.join(dies) or 'none'}.")
    out.finish({"dies": dies})


@app.command("age")
@command
def age(
    die: DieId,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: a number with s, min, h, d or y, or '500 ms'.")
    ],
    at: Annotated[
        str | None, typer.Option("--at", metavar="CELSIUS", help="Storage temperature; default: the bench's.")
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Let simulated time pass for a die in storage, and show its hidden truth before and after."""
    from dataclasses import asdict

    from rramlab.base import units
    from rramlab.sim import bank

    out = Output(as_json)
    seconds, celsius = units.parse_duration(duration), None if at is None else units.parse_celsius(at)
    aged = bank.age(_described(bench), die, seconds, celsius)
    table = out.facts(f"{die}, {units.show_duration(seconds)} at {aged.celsius:g} °C. {_HIDDEN}")
    table.add_row("clock", f"{units.show_duration(aged.clock_before_s)} → {units.show_duration(aged.clock_after_s)}")
    table.add_row("cells that conduct", f"{aged.conducting_before:,} → {aged.conducting_after:,}")
    if aged.median_before_S is None or aged.median_after_S is None:
        table.add_row("median of those", "none conducted")
    else:
        change = aged.median_after_S / aged.median_before_S - 1
        table.add_row(
            "median of those before",
            f"{_siemens(aged.median_before_S)} → {_siemens(aged.median_after_S)} ({change:+.2%})",
        )
    table.add_row("temperature again", f"{aged.back_at_celsius:g} °C")
    out.say(table)
    out.say(f"See it as a bench does: rramlab run read-array --die {die}")
    out.finish(asdict(aged))


@app.command("info")
@command
def info(
    die: Annotated[str | None, typer.Argument(metavar="ID", help="One die; default: a table of all.")] = None,
    with_figures: Annotated[
        bool, typer.Option("--figures", help="Also every figure of the die's model, with its source.")
    ] = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show the hidden truth of simulated dies, which a real bench cannot show. Reads files only, even of a busy bench."""
    from rramlab.sim.truth import look

    if die is None and with_figures:
        raise UsageError("--figures shows the model of one die; name it: rramlab sim info ID --figures")
    out = Output(as_json)
    description = _described(bench)
    if die is None:
        _survey(out, description)
        return
    truth = look(description, die)
    _say_truth(out, truth)
    document = {"hidden_truth": True, **_as_json(truth)}
    if with_figures:
        _say_figures(out, truth)
        document["figures"] = [
            {"name": each.name, "value": each.value, "source": each.source} for each in truth.figures
        ]
    out.finish(document)


def _described(bench: Any) -> BenchDescription:
    from rramlab.drivers.bench import describe_bench
    from rramlab.sim.truth import require_simulated

    description = describe_bench(bench)
    require_simulated(description)
    note_bench(description)
    return description


def _made(dies: list[Any]) -> str:
    return f"Made the virgin die {dies[0].id}." if len(dies) == 1 else f"Made {len(dies)} virgin dies."


def _changed(preset: str, changes: dict[str, Any]) -> str:
    number = sum(len(each) if isinstance(each, dict) else 1 for each in changes.values())
    return f"{preset}, {number} changed" if number else preset


def _relative(path: Any) -> str:
    from pathlib import Path

    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _siemens(value: float) -> str:
    return f"{value * 1e6:.2f} µS"


def _survey(out: Output, description: BenchDescription) -> None:
    from rramlab.base.units import show_duration
    from rramlab.sim.truth import Damaged, survey

    found = survey(description)
    damaged = [each for each in found if isinstance(each, Damaged)]
    document = {"hidden_truth": True, "data": str(description.data), "dies": [_as_json(each) for each in found]}
    if not found:
        out.say(f"There are no simulated dies in {description.data} yet. Make one with: rramlab sim new ID")
    if len(damaged) < len(found):
        table = out.table("die", "memory, preset", "seed", "clock", "at", "pulsed", "conduct", "file", title=_HIDDEN)
        for index, column in enumerate(table.columns):  # a narrow terminal breaks words rather than hide their ends
            column.overflow, column.no_wrap = "fold", index in {0, 5, 6}
        for each in found:
            if isinstance(each, Damaged):
                continue
            table.add_row(
                each.die, _made_of(each), str(each.seed), show_duration(each.clock_s), f"{each.temperature_C:g} °C",
                f"{each.pulsed:,}", f"{each.conducting:,}", _megabytes(each.size),
            )  # fmt: skip
        out.say(table)
    if damaged:
        table = out.table("die", "file", "cannot be read", title="Damaged:")
        for each in damaged:
            table.add_row(each.die, _megabytes(each.size), each.reason)
        out.say(table)
        names = ", ".join(each.die for each in damaged)
        message = (
            f"{len(damaged)} of {len(found)} dies cannot be read: {names}; the table says why. Nothing was changed"
        )
        fail(message, DataError.exit_code, out.json, document)
    out.finish(document)


def _say_truth(out: Output, truth: Truth) -> None:
    from rramlab.base.units import show, show_duration

    table = out.facts(f"{truth.die}. {_HIDDEN}")
    table.add_row("memory, preset", _made_of(truth))
    table.add_row("seed", str(truth.seed))
    table.add_row("clock", show_duration(truth.clock_s))
    table.add_row("temperature", f"{truth.temperature_C:g} °C")
    for name, count in truth.phases.items():
        table.add_row(f"cells {name}", f"{count:,}")
    table.add_row("cells pulsed", f"{truth.pulsed:,} of {truth.cells:,}, at most {truth.pulses_of_a_cell:,} times each")
    spread = "" if truth.ln_sigma is None else f", ln-σ {truth.ln_sigma:.4f}"
    median = "" if truth.median_S is None else f", median {_siemens(truth.median_S)}{spread}"
    table.add_row("cells that conduct", f"{truth.conducting:,}{median}")
    table.add_row("breakdown voltage", f"median {truth.breakdown_median_V:.3f} V")
    table.add_row("conversions", f"{truth.conversions:,}")
    table.add_row("energy", show(truth.energy_J, "J"))
    table.add_row("file", f"{truth.path}, {_megabytes(truth.size)}")
    out.say(table)
    spent = out.table("operation", "events", "time", "energy", title="Spent, by the simulator's meter:")
    for kind, one in truth.meter.items():
        spent.add_row(kind, f"{one['events']:,}", show_duration(one["time_s"]), show(one["energy_J"], "J"))
    out.say(spent)
    left = len(truth.temperatures) - _LINES
    history = out.table("clock", "temperature from then on", title="Temperature:")
    if left > 0:
        history.add_row("…", f"{left:,} earlier changes, see --json")
    for since, celsius in truth.temperatures[-_LINES:]:
        history.add_row(show_duration(since), f"{celsius:g} °C")
    out.say(history)


def _say_figures(out: Output, truth: Truth) -> None:
    from rramlab.sim.truth import show_figure

    table = out.table("figure", "value", "source", title=f"The model of {truth.die}:")
    for each in truth.figures:
        table.add_row(each.name, show_figure(each), each.source)
    out.say(table)


def _as_json(one: Truth | Damaged) -> dict[str, Any]:
    from rramlab.sim.truth import Damaged

    common: dict[str, Any] = {"die": one.die, "state_file": str(one.path), "bytes": one.size}
    if isinstance(one, Damaged):
        return {**common, "damaged": True, "reason": one.reason}
    kept = (
        "preset", "seed", "clock_s", "temperature_C", "cells", "pulsed", "pulses_of_a_cell", "phases", "conducting",
        "median_S", "ln_sigma", "breakdown_median_V", "meter", "energy_J", "conversions",
    )  # fmt: skip
    return {
        **common,
        "damaged": False,
        "memory": one.model.memory,
        **{name: getattr(one, name) for name in kept},
        "temperatures": [{"clock_s": since, "celsius": celsius} for since, celsius in one.temperatures],
    }


def _made_of(truth: Truth) -> str:
    own = truth.preset or "own figures"
    return own if own == truth.model.memory else f"{truth.model.memory}, {own}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
