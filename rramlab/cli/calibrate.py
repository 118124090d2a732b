"""``calibrate``: measure what a board and a die are, and look at their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rramlab.base.errors import DataError, OutOfLimits, RramlabError, TooFewCells, UsageError
from rramlab.cli.calibrationreport import calibration_report
from rramlab.cli.options import Arm, Assignments, BenchPath, DieName, Json, RunName
from rramlab.cli.output import Output, command, fail, styled, warn
from rramlab.cli.preview import announce, refuse_other_die
from rramlab.cli.run import progress

if TYPE_CHECKING:
    from rramlab.calibration.procedures import Calibrated, Procedure
    from rramlab.drivers.bench import BenchDescription
    from rramlab.records.files import Kept
    from rramlab.records.sections import Section

app = typer.Typer(help="Measure what a board and a die are; look at their records.", no_args_is_help=True)
From = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="Analyse this run of the procedure; otherwise one is made.")
]


_MOST_SHOWN = 8  # of what was left out
_AT_THE_UNIT = ("dac", "adc", "smu")  # what asks for a source-measure unit


def _procedure(name: str, says: str) -> None:
    @app.command(name, help=says)
    @command
    def procedure(
        run: From = None,
        assignments: Assignments = None,
        arm: Arm = None,
        die: DieName = None,
        bench: BenchPath = None,
        as_json: Json = False,
    ) -> None:
        out = Output(as_json)
        description = _one_die(bench, die)
        done = _calibrate(out, description, _chosen(description, name), run, assignments or [], arm)
        _conclude(out, [done])


def _one_die(bench: Any, die: str | None) -> BenchDescription:
    from rramlab.drivers.bench import describe_bench

    description = describe_bench(bench, die)
    if len(description.file.dies) != 1:
        known = ", ".join(each.id for each in description.file.dies)
        raise UsageError(f"the bench has several dies: {known}; say with --die which of them is in the board's socket")
    return description


def _chosen(description: BenchDescription, name: str) -> Procedure:
    from rramlab.calibration.procedures import chosen

    return chosen(name, description.board.capabilities)


def _calibrate(
    out: Output,
    description: BenchDescription,
    procedure: Procedure,
    run: str | None,
    assignments: list[str],
    arm: str | None,
) -> Calibrated:
    from rramlab.calibration.procedures import analyse, measure
    from rramlab.protocols.files import load_protocol, parse_assignments
    from rramlab.runs.store import find_run

    given = parse_assignments(assignments)
    measured = run is None
    if run is None:
        if procedure.destructive:
            refuse_other_die(description, arm)
            plan = load_protocol(description.root, procedure.protocol).plan(description.board.geometry, given)
            announce(out, description, plan)
        with progress(out) as listen:
            result = measure(description, procedure, given, arm, listen)
        out.say(f"Run {result.run_id}: {result.pulses:,} pulses, {result.conversions:,} conversions.")
        run = result.run_id
    try:
        done = analyse(description, procedure, find_run(description.data / "runs", run))
    except RramlabError as error:
        if measured:
            again = f"rramlab calibrate {procedure.name} --run {run}"
            error.args = (f"{error}. What was measured is kept: once that is mended, {again}",)
        raise
    for whose in ("board", "die"):
        for name, section in done.found.sections[whose].items():
            _say(out, name, section)
    for kept in done.kept:
        out.say(f"Record: {kept.path}")
    return done


def _conclude(out: Output, found: list[Calibrated], skipped: dict[str, str] | None = None) -> None:
    """End with what was found. A unit and a board that disagree, and readings that are no measurement, are out of limits."""
    sections: dict[str, Any] = {}
    records: dict[str, str] = {}
    for each in found:
        records |= {kept.record.kind: str(kept.path) for kept in each.kept}
        for whose in each.found.sections.values():
            sections |= {name: section.model_dump(mode="json") for name, section in whose.items()}
    left_out = [said for each in found for said in each.left_out]
    document = {
        "records": records,
        "sections": sections,
        "skipped": skipped or {},
        "runs": [each.run for each in found],
        "left_out": left_out,
    }
    if not sections.get("agreement", {}).get("agrees", True):
        message = (
            "board and source-measure unit disagree on the same cells by more than their uncertainties allow: calibrate dac "
            "and adc anew; if that does not help, one of the two is out of its specification"
        )
        fail(message, OutOfLimits.exit_code, out.json, document)
    if left_out:
        message = (
            f"what was found rests on the readings that are measurements; {len(left_out)} are none and were left out: "
            f"{'; '.join(left_out[:_MOST_SHOWN])}. Look at the source-measure unit, its ranges and its cable"
        )
        fail(message, OutOfLimits.exit_code, out.json, document)
    out.finish(document)


@app.command("all")
@command
def all_(
    smu: Annotated[str | None, typer.Option("--smu", help="Which source-measure unit, of several.")] = None,
    arm: Arm = None,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """All procedures, one after the other; with --arm also the breakdown curve, on a sacrificial corner.

    What needs cells that conduct is left out on a die that was not formed, and said so.
    """
    from rramlab.calibration.procedures import PROCEDURES

    out = Output(as_json)
    description = _one_die(bench, die)
    refuse_other_die(description, arm)
    found, skipped = [], {}
    for name, each in PROCEDURES.items():
        if each.destructive and arm is None:
            skipped[name] = "it pulses cells and needs --arm"
        elif each.destructive and _has_curve(description):
            skipped[name] = "the die has a breakdown curve, and a corner is ramped only once"
        else:
            out.say(styled(name), f": {each.says}")
            try:
                unit = [f"smu={smu}"] if smu is not None and name in _AT_THE_UNIT else []
                found.append(_calibrate(out, description, _chosen(description, name), None, unit, arm))
            except TooFewCells as error:
                skipped[name] = str(error)
        if name in skipped:
            out.say(f"{name} is left out: {skipped[name]}")
    _conclude(out, found, skipped)


def _has_curve(description: BenchDescription) -> bool:
    from rramlab.records.files import newest

    kept = newest(description.root, "die", description.file.dies[0].id)
    return kept is not None and getattr(kept.record, "forming", None) is not None


def _say(out: Output, name: str, section: Section) -> None:
    from rramlab.cli.sections import describe

    out.say(styled(name), f" of {section.measured_at:%Y-%m-%d %H:%M} UTC, {section.temperature:.4g} °C:")
    for line in describe(section):
        out.say(f"  {line}")
    if name == "forming":
        from rramlab.cli.sections import curve_table

        out.say(curve_table(out, section))


def _owners(description: BenchDescription) -> list[tuple[Literal["board", "die"], str]]:
    """Return whose records concern the bench: its board's, its dies'."""
    return [("board", description.file.controller.board), *(("die", each.id) for each in description.file.dies)]


@app.command("show")
@command
def show_(
    name: Annotated[str | None, typer.Argument(metavar="[RECORD]", help="A record; default: those in force.")] = None,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show the records in force of the board and the dies on the bench, or one record."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.records.files import find, newest

    out = Output(as_json)
    description = describe_bench(bench, die)
    shown: list[Kept] = []
    problems: list[str] = []
    if name is not None:
        shown.append(find(description.root, name))
    else:
        for kind, owner in _owners(description):
            try:
                kept = newest(description.root, kind, owner)
            except (UsageError, DataError) as error:  # the others are shown all the same
                problems.append(str(error))
                continue
            if kept is not None:
                shown.append(kept)
            else:
                out.say(f"There is no record of {kind} {owner}. Make one with: rramlab calibrate all")
    documents = []
    for kept in shown:
        out.say(styled(kept.id), f", {kept.path}")
        _note(out, kept)
        for section_name, section in kept.record.sections.items():
            _say(out, section_name, section)
            by = ", ".join(section.instruments) or "board alone"
            out.say("  ", _validity(section), f"; run {', '.join(section.runs)}; {by}")
        documents.append(_document(kept))
    if problems:
        fail("; ".join(problems), DataError.exit_code, as_json, {"records": documents})
    out.finish({"records": documents})


@app.command("accept")
@command
def accept_(
    name: Annotated[str, typer.Argument(metavar="RECORD", help="A record that was changed by hand.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who says that it is right as it is.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it was changed.")],
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Take a record that was changed by hand as right; who said so, when and why is written into it."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.records.files import accept

    out = Output(as_json)
    kept = accept(describe_bench(bench).root, name, by, reason)
    for note in kept.notes:
        out.say(f"{note}.")
    out.finish(_document(kept))


def _note(out: Output, kept: Kept) -> None:
    """Say what is to be said of a record's check sum; loudly, where it was changed by hand."""
    if kept.fault:
        warn(kept.fault)
    for note in kept.notes:
        if note != kept.fault:
            out.say(f"  note: {note}")


_STATES = {"whole": "", "changed": "changed by hand", "unsummed": "no check sum (written by 0.1.0)"}


def _document(kept: Kept) -> dict[str, Any]:
    about = {"id": kept.id, "path": str(kept.path), "state": kept.state, "notes": list(kept.notes)}
    return {**about, **kept.record.model_dump(mode="json", exclude_none=True)}


def _validity(section: Section) -> str:
    from rramlab.base.times import wall
    from rramlab.base.units import show_duration

    fault = section.fault(wall(), section.temperature)
    if fault is not None:
        return styled(f"it {fault}", "red")
    return (
        f"holds for {show_duration(section.valid_for)}, within {section.temperature_window:.3g} °C of "
        f"{section.temperature:.4g} °C"
    )


@app.command("history")
@command
def history_(
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """List all records of the board and the dies on the bench, oldest first, and what was new in each."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.records.files import Kept, history

    out = Output(as_json)
    description = describe_bench(bench, die)
    table, listed = out.table("record", "new in it", "temperature", "runs", "note"), []
    for kind, owner in _owners(description):
        before: dict[str, Any] = {}
        for path in history(description.root, kind, owner):
            try:
                kept = Kept.load(path)
            except (UsageError, DataError) as error:
                warn(str(error))
                table.add_row(path.stem, "cannot be read", "", "", "")
                listed.append({"id": path.stem, "new": [], "runs": [], "state": "unreadable", "notes": [str(error)]})
                continue
            new = {name: each for name, each in kept.record.sections.items() if before.get(name) != each}
            before = kept.record.sections
            runs = [run for each in new.values() for run in each.runs]
            temperatures = sorted({f"{each.temperature:.4g} °C" for each in new.values()})
            if kept.fault:
                warn(kept.fault)
            said = _STATES[kept.state]
            table.add_row(kept.id, ", ".join(new), ", ".join(temperatures), ", ".join(dict.fromkeys(runs)), said)
            about = {"state": kept.state, "notes": list(kept.notes)}
            listed.append({"id": kept.id, "new": list(new), "runs": runs, **about})
    out.say(table if listed else "There is no record yet. Make one with: rramlab calibrate all")
    out.finish({"history": listed})


@app.command("compare")
@command
def compare_(
    first: Annotated[str, typer.Argument(metavar="RECORD", help="A record, by its name or its beginning.")],
    second: Annotated[str, typer.Argument(metavar="RECORD", help="The record to compare it with.")],
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Compare two records value by value: the difference, and how many of its standard uncertainties that is."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.records.comparing import compare
    from rramlab.records.files import find

    out = Output(as_json)
    root = describe_bench(bench).root
    one, other = find(root, first), find(root, second)
    if one.record.kind != other.record.kind:
        raise DataError(
            f"{one.id} is of a {one.record.kind}, {other.id} of a {other.record.kind}: they cannot be compared"
        )
    rows = compare(one, other)
    table = out.table("value", one.id, other.id, "difference", "in u")
    for row in rows:
        deviation = "" if row.deviation is None else f"{row.deviation:.1f}"
        table.add_row(row.name, row.first, row.second, row.difference, deviation)
    out.say(table if rows else "The two say the same.")
    notes = [note for kept in (one, other) for note in kept.notes]
    for kept in (one, other):
        _note(out, kept)
    out.finish({"first": one.id, "second": other.id, "values": [row.as_json() for row in rows], "notes": notes})


@app.command("apply")
@command
def apply_(
    run: RunName,
    record: Annotated[
        str | None, typer.Option("--record", help="A record of the run's board; default: the one in force.")
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Convert the raw codes of a run anew, by a record that may be younger than the run. The codes stay as they are."""
    from rramlab.calibration.applying import apply
    from rramlab.drivers.bench import describe_bench
    from rramlab.records.files import find, newest
    from rramlab.runs.store import find_run

    out = Output(as_json)
    description = describe_bench(bench)
    found = find_run(description.data / "runs", run)
    serial = found.provenance["board_serial"]
    kept = newest(description.root, "board", serial) if record is None else find(description.root, record)
    if kept is None:
        raise DataError(f"board {serial!r} of run {found.id} has no record. Make one with: rramlab calibrate all")
    changed = apply(found, kept, description.board)
    out.say(f"{changed} blocks of run {found.id} are converted by {kept.id}. Data: {found.folder}/run.h5")
    out.finish({"run": found.id, "record": kept.id, "blocks": changed})


app.command("report")(calibration_report)


def _register() -> None:
    says = {
        "dac": "What the DAC puts out, against the source-measure unit.",
        "adc": "Gain and offset of every column: from reference resistors, or from cells that the unit measures.",
        "noise": "Read noise, cells that switch by themselves, repeats needed for a wanted accuracy.",
        "linearity": "Products against the sum of single reads.",
        "lines": "Resistance of switches and wires, separately, from load dependence.",
        "smu": "Cells measured by the board and by the unit: do both ways agree?",
        "forming": "The breakdown curve, on a sacrificial corner of the die; needs --arm.",
    }
    for name, text in says.items():
        _procedure(name, text)


_register()
