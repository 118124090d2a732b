"""``contact``, ``sweep``, ``route``: the shipped protocols of these names, with options and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError, OutOfLimits, UsageError
from rramlab.base.files import refuse_unwritable
from rramlab.cli.options import Arm, Assignments, BenchPath, DieName, Json, Trace
from rramlab.cli.output import Output, command, fail, note_bench
from rramlab.cli.preview import preview, refuse_other_die
from rramlab.cli.run import conclude, executed, progress, tell

if TYPE_CHECKING:
    from rramlab.drivers.bench import BenchDescription
    from rramlab.engine.results import RunResult
    from rramlab.runs.store import Run

_ROWS = 11  # of a curve that are printed as a table
Cell = Annotated[str | None, typer.Option("--cell", metavar="ROW,COLUMN", help="The cell, such as 3,7.")]
Compliance = Annotated[str | None, typer.Option("--compliance", help="The unit's current limit, such as 100uA.")]
Gate = Annotated[str | None, typer.Option("--gate", help="Word line of the cell, such as 1.8V.")]
SmuName = Annotated[str | None, typer.Option("--smu", help="Which source-measure unit; default: the only one.")]
Png = Annotated[Path | None, typer.Option("--png", help="Also write a picture.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, at worst; energise nothing.")]


@command
def contact(
    png: Png = None,
    assignments: Assignments = None,
    die: DieName = None,
    trace: Trace = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Look for open and shorted lines, leakage, stuck bits and saturated ADCs at 0.1 V; harmless."""
    from rramlab.engine.session import Session

    out = Output(as_json)
    if png is not None:
        refuse_unwritable(png, "the picture")
    description, plan = _plan("contact", {}, assignments, die, bench, trace)
    with Session(description) as session, progress(out) as listen:
        before = {run.id for run in _runs(description)}
        try:
            result = session.run(plan, die=die, listen=listen)
        except OutOfLimits as error:
            # Nothing shows what is wrong as well as the picture of it.
            (run,) = [run for run in _runs(description) if run.id not in before]
            picture = _contact_picture(description, run, png)
            fail(str(error), error.exit_code, as_json, {"run": run.id, "contact": run.record["contact"], **picture})
    document = tell(out, result)
    document.update(_contact_picture(description, _run_of(result), png))
    _say_picture(out, document)
    conclude(out, result, document)


@command
def sweep(
    cell: Cell = None,
    kind: Annotated[str | None, typer.Option("--kind", help="read (default), electroform, set or reset.")] = None,
    voltage: Annotated[str | None, typer.Option("--voltage", help="The peak, such as 0.2V.")] = None,
    points: Annotated[str | None, typer.Option("--points", help="Levels from 0 V to the peak.")] = None,
    dwell: Annotated[str | None, typer.Option("--dwell", help="How long each level is held, such as 1ms.")] = None,
    compliance: Compliance = None,
    gate: Gate = None,
    both_ways: Annotated[bool, typer.Option("--both-ways", help="And back to 0 V.")] = False,
    smu: SmuName = None,
    png: Png = None,
    assignments: Assignments = None,
    arm: Arm = None,
    die: DieName = None,
    dry_run: DryRun = False,
    trace: Trace = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Sweep one cell with the source-measure unit; all but a read sweep is one pulse and needs --arm."""
    out = Output(as_json)
    given = {
        "cell": cell, "kind": kind, "voltage": voltage, "points": points, "dwell": dwell, "compliance": compliance,
        "gate": gate, "both-ways": "yes" if both_ways else None, "smu": smu,
    }  # fmt: skip
    if png is not None:
        refuse_unwritable(png, "the picture")
    description, plan = _plan("sweep", given, assignments, die, bench, trace)
    if dry_run:
        preview(out, description, plan)
        return
    result = _execute(out, description, plan, arm, die)
    document = tell(out, result)
    (block,) = _run_of(result).blocks("sweep")
    curve, compliance_A = block.load(), float(block.attributes["compliance_A"])
    _say_table(out, curve)
    from rramlab.cli.view import draw_curve

    draw_curve(out, curve, compliance_A)
    if png is not None:
        from rramlab.report.probing import save_curve

        about = block.attributes
        title = f"die {result.die}, cell ({about['row']}, {about['column']}), {about['kind']} sweep"
        with _picture(png, result):
            save_curve(curve, png, title, compliance_A)
    curve_document = {
        name: [None if value != value else value for value in curve[name].tolist()]  # NaN is no JSON
        for name in ("voltage", "current", "in_compliance", "good")
    }
    document.update(curve=curve_document, png=str(png) if png else None)
    _say_picture(out, document)
    conclude(out, result, document)


@command
def route(
    cell: Cell = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="N", help="A reference resistor of the board, from 0.")
    ] = None,
    dac: Annotated[str | None, typer.Option("--dac", metavar="N", help="A channel of the board's DAC, from 0.")] = None,
    voltage: Annotated[
        str | None, typer.Option("--voltage", help="Measured at, such as 0.1V; of a DAC channel: held at.")
    ] = None,
    count: Annotated[str | None, typer.Option("--count", help="How many measurements.")] = None,
    hold: Annotated[str | None, typer.Option("--hold", help="How long it stays connected after them.")] = None,
    compliance: Compliance = None,
    gate: Gate = None,
    smu: SmuName = None,
    assignments: Assignments = None,
    die: DieName = None,
    dry_run: DryRun = False,
    trace: Trace = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Connect a cell, a reference resistor or a DAC channel to the source-measure unit and measure it; harmless."""
    out = Output(as_json)
    given = {
        "cell": cell, "reference": reference, "dac": dac, "voltage": voltage, "count": count, "hold": hold,
        "compliance": compliance, "gate": gate, "smu": smu,
    }  # fmt: skip
    description, plan = _plan("route", given, assignments, die, bench, trace)
    if dry_run:
        preview(out, description, plan)
        return
    result = _execute(out, description, plan, None, die)
    conclude(out, result, tell(out, result))


def _plan(
    protocol: str,
    given: dict[str, str | None],
    assignments: list[str] | None,
    die: str | None,
    bench: Path | None,
    trace: Path | None,
) -> tuple[BenchDescription, Any]:
    """Return the bench and the plan of a shipped protocol; an option and ``--set`` must not say the same twice."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.protocols.files import load_protocol, parse_assignments

    parameters = {name: value for name, value in given.items() if value is not None}
    assigned = parse_assignments(assignments or [])
    twice = sorted(parameters.keys() & assigned.keys())
    if twice:
        raise UsageError(f"the parameter {twice[0]!r} is given twice: with --{twice[0]} and with --set")
    description = describe_bench(bench, die, trace)
    note_bench(description)
    plan = load_protocol(description.root, protocol).plan(description.board.geometry, {**parameters, **assigned})
    return description, plan


def _execute(out: Output, description: BenchDescription, plan: Any, arm: str | None, die: str | None) -> RunResult:
    refuse_other_die(description, arm)
    return executed(out, description, lambda session, listen: session.run(plan, arm=arm, die=die, listen=listen))


def _runs(description: BenchDescription) -> list[Run]:
    from rramlab.runs.store import list_runs

    return list_runs(description.data / "runs")


def _run_of(result: RunResult) -> Run:
    from rramlab.runs.store import Run

    return Run(Path(result.folder))


def _contact_picture(description: BenchDescription, run: Run, png: Path | None) -> dict[str, Any]:
    if png is None:
        return {"png": None}
    from rramlab.report.probing import save_contact

    found = run.record["contact"]
    (block,) = run.blocks("contact")
    verdict = "passed" if found["passed"] else "failed"
    title = f"die {run.die}, contact test {verdict}"
    save_contact(block.load()["conductance"], found, description.board.contact_voltage_V, png, title)
    return {"png": str(png)}


@contextmanager
def _picture(png: Path, result: RunResult) -> Iterator[None]:
    """Say that the run is done where only its picture failed: run again, a sweep would give another pulse."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(
            f"run {result.run_id} is complete and its data are kept in {result.folder}/run.h5, but the picture {png} could not "
            f"be written ({error}). Do not run it again for the picture's sake: a sweep may have given the cell its pulse"
        ) from error


def _say_picture(out: Output, document: dict[str, Any]) -> None:
    if document["png"]:
        out.say(f"Picture: {document['png']}")


def _say_table(out: Output, curve: Any) -> None:
    """Print a few points of a curve, the first and the last among them, and the first that are no measurement."""
    import numpy as np

    from rramlab.base.units import show

    table = out.table("voltage", "current", "conductance", "")
    highest = np.abs(curve["voltage"][curve["good"]]).max(initial=0.0)
    shown = np.linspace(0, len(curve) - 1, _ROWS).round().astype(int)
    for index in np.unique([*shown, *np.flatnonzero(~curve["good"])[:_ROWS]]).tolist():
        volts, amperes, limited, good = (curve[name][index].item() for name in curve.dtype.names)
        if not good:
            table.add_row(f"point {index}", "", "", "no measurement")
            continue
        # Near 0 V the unit's own offsets are larger than what it measures.
        siemens = show(amperes / volts, "S") if abs(volts) > highest / 100 else ""
        table.add_row(show(volts, "V"), show(amperes, "A"), siemens, "in compliance" if limited else "")
    out.say(table)
