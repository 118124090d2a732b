"""``runs repeat``: the same plan on the same simulated die, and whether the same came of it."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError, RramlabError, UsageError
from rramlab.cli.options import BenchPath, Json, RunName
from rramlab.cli.output import Output, command, fail

if TYPE_CHECKING:
    from rramlab.engine.repeating import Repetition
    from rramlab.runs.comparing import BlockDifference
    from rramlab.runs.store import Run

_SHOWN = 12  # differences that are listed for people
# What can be promised of a run, by how it went.
_WHOLE = "undisturbed: every block, pulse and result is compared bit for bit"
_BEGUN = "interrupted: what it has is compared bit for bit; the repeat goes on to the end of the plan"
_RESUMED = (
    "interrupted and resumed: what was read again has other noise, so pulses cell by cell, and the cells as they were "
    "programmed, are compared; blocks are for information"
)


@command
def repeat(
    name: RunName,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Keep the repeated run in this new bench folder.")
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Execute a run again on the simulated die as it was then, apart from the bench, and compare bit for bit."""
    from rramlab.cli.run import progress
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import BenchLock
    from rramlab.engine.repeating import repeat as execute
    from rramlab.runs.comparing import software_differences
    from rramlab.runs.store import find_run

    out = Output(as_json)
    data = describe_bench(bench).data
    run = find_run(data / "runs", name)
    if run.record["status"] == "running" and BenchLock(data).holder() is not None:
        raise UsageError(f"run {run.id} may still go on: a process holds the bench; wait for it")
    with (
        tempfile.TemporaryDirectory(prefix="rramlab-repeat-") if output is None else nullcontext(str(output)) as folder
    ):
        with progress(out) as listen:
            repetition = execute(run, Path(folder), listen)
        for what, (then, now) in software_differences(run, repetition.run).items():
            warnings.warn(
                f"run {run.id} was made with {what} {then or 'missing'}, this is {now or 'missing'}: results may differ for "
                "that reason",
                stacklevel=2,
            )
        verdict = _judge(run, repetition, data / "dies" / run.die)
    _conclude(out, run, repetition, verdict, output)


@dataclass(frozen=True)
class Verdict:
    """What is equal, and what is not. ``*_equal``: None where that could not be compared."""

    promise: str
    equal: bool
    blocks_equal: int
    blocks: list[BlockDifference]
    results: list[str]
    pulses_equal: bool | None
    cells_equal: bool | None
    notes: list[str]


def _judge(run: Run, repetition: Repetition, die_folder: Path) -> Verdict:
    from rramlab.runs.comparing import block_differences, result_differences

    record, again = run.record, repetition.run.record
    resumed = any(run.folder.glob("provenance-*.json"))
    ended = record["status"] in ("done", "failed", "refused") and record["status"] == again["status"]
    promise = _RESUMED if resumed else _WHOLE if ended else _BEGUN
    equal, differences = block_differences(run, repetition.run)
    results = result_differences(run, repetition.run) if ended else []
    notes = []
    if ended and not resumed:
        _, back = block_differences(repetition.run, run)
        differences += [each for each in back if each.what == ("missing",)]
    if not ended:
        how = {"running": "interrupted"}.get(record["status"], record["status"])
        notes.append(f"the run is {how}, its repeat {again['status']}")
    pulses, further = _compare_pulses(run, repetition, die_folder, whole=ended)
    cells, about_cells = _compare_cells(run, repetition, die_folder) if ended else (None, [])
    notes += [*further, *about_cells]
    rest = (pulses, cells) != (None, None) if resumed else not differences and not results
    good = rest and pulses is not False and cells is not False
    return Verdict(promise, good, equal, differences, results, pulses, cells, notes)


def _compare_pulses(run: Run, repetition: Repetition, die_folder: Path, whole: bool) -> tuple[bool | None, list[str]]:
    """Compare what each operation pulsed, by the two ledgers. ``whole``: the run went as far as its repeat."""
    from rramlab.runs import LEDGER
    from rramlab.runs.comparing import pulses_by_position
    from rramlab.runs.ledger import view_ledger

    try:
        with view_ledger(die_folder / LEDGER) as ledger:
            then = pulses_by_position(ledger.of_run(run.id))
    except DataError as error:
        return None, [f"pulses could not be compared: {error}"]
    with view_ledger(repetition.die_folder / LEDGER) as ledger:
        now = pulses_by_position(ledger.of_run(repetition.run.id))
    if whole:
        return then == now, []
    return all(now.get(position) == found for position, found in then.items()), []


def _compare_cells(run: Run, repetition: Repetition, die_folder: Path) -> tuple[bool | None, list[str]]:
    """Compare the cells as they were programmed, in the simulator's own files, if nothing has pulsed them since."""
    import numpy as np

    from rramlab.runs import LEDGER
    from rramlab.runs.ledger import view_ledger
    from rramlab.sim.backend import STATE_FILE
    from rramlab.sim.state import read_state

    try:
        with view_ledger(die_folder / LEDGER) as ledger:
            geometry = ledger.geometry
            strangers = [entry for entry in ledger.since(int(run.record["operation"])) if entry.run != run.id]
        if strangers:
            return None, [
                f"the cells themselves could not be compared: run {strangers[0].run} has pulsed the die since"
            ]
        states = [read_state(folder / STATE_FILE, geometry)[2] for folder in (die_folder, repetition.die_folder)]
    except DataError as error:
        return None, [f"the cells themselves could not be compared: {error}"]
    return all(
        np.array_equal(getattr(states[0], name), getattr(states[1], name)) for name in ("conductance_S", "pulses")
    ), []


def _conclude(out: Output, run: Run, repetition: Repetition, verdict: Verdict, output: Path | None) -> None:
    out.say(f"Run {run.id} was {verdict.promise}.")
    are = "block is" if verdict.blocks_equal == 1 else "blocks are"
    others = "is" if len(verdict.blocks) == 1 else "are"
    out.say(f"{verdict.blocks_equal:,} {are} equal bit for bit, {len(verdict.blocks):,} {others} not.")
    if verdict.blocks:
        table = out.table("block", "differs in", "cells", "conduct in one alone")
        for each in verdict.blocks[:_SHOWN]:
            place = f"{each.position} {each.dataset}"
            table.add_row(place, ", ".join(each.what), f"{each.cells:,}", f"{each.conducting_unlike:,}")
        out.say(table)
        if len(verdict.blocks) > _SHOWN:
            out.say(f"… and {len(verdict.blocks) - _SHOWN:,} more; --json lists all.")
    for what, equal in (("Pulses, operation by operation", verdict.pulses_equal),
                        ("Cells as programmed", verdict.cells_equal)):  # fmt: skip
        if equal is not None:
            out.say(f"{what}: {'equal' if equal else 'not equal'}.")
    if verdict.results:
        out.say(f"Results that differ: {', '.join(verdict.results)}.")
    for note in verdict.notes:
        out.say(f"note: {note}")
    if repetition.error:
        out.say(f"The repeat ended early: {repetition.error}")
    document: dict[str, Any] = {
        **asdict(verdict), "run": run.id, "repeat": repetition.run.id, "ended_by": repetition.error,
        "folder": str(output) if output else None,
    }  # fmt: skip
    if not verdict.equal:
        fail(
            f"the repeat of run {run.id} is not equal to it: see what differs above. The run's own data are untouched",
            RramlabError.exit_code,
            out.json,
            document,
        )
    alike = "equal to the run" if verdict.promise != _RESUMED else "equal to the run in all that can be promised of it"
    out.say(f"The repeat is {alike}.")
    out.finish(document)
