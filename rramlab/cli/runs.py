"""``runs list``, ``show``, ``check``, ``export``, ``compare``, ``consolidate``, ``repeat``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError, RramlabError, UsageError
from rramlab.cli.options import BenchPath, Json, RunName
from rramlab.cli.output import Output, command, fail
from rramlab.cli.repeat import repeat
from rramlab.cli.run import say_checks, say_flaws

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rramlab.runs.comparing import CellComparison
    from rramlab.runs.store import Run

_MOST_REASON = 120  # characters in a table
app = typer.Typer(help="What was run, and what came of it.", no_args_is_help=True)


@app.command("list")
@command
def list_(
    die: Annotated[str | None, typer.Option("--die", help="Of this die alone.")] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help="done, failed, stopped, refused, running, interrupted or unreadable alone."),
    ] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", metavar="NAME", help="Of this protocol alone.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Begun since a day, a moment (2026-11-22 14:30) or a time ago (2 d)."
        ),
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """List the runs, the newest last."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import BenchLock
    from rramlab.runs.store import list_runs

    out = Output(as_json)
    data = describe_bench(bench).data
    earliest = _moment(since) if since is not None else None
    wanted = {"die": die, "status": status, "name": protocol}
    held = BenchLock(data).holder() is not None
    everything = [_summary(run, held) for run in list_runs(data / "runs")]
    records = [
        record
        for record in everything
        if all(value in (None, record[key]) for key, value in wanted.items())
        and (earliest is None or (begun := _begun(record)) is None or begun >= earliest)
    ]
    rows = [
        (
            record["id"],
            record["die"],
            record["status"],
            _count(record.get("pulses", 0)),
            "" if record["duration_s"] is None else _spell(record["duration_s"]),
            _short(record["reason"]),
        )
        for record in records
    ]
    if records:
        out.listing(("run", "die", "status", "pulses", "took", "reason"), rows)
    elif everything:
        out.say(f"None of the {len(everything)} runs is as asked for.")
    else:
        out.say("There are no runs yet. Start one with: rramlab contact")
    out.finish({"runs": records})


@app.command("show")
@command
def show(name: RunName, bench: BenchPath = None, as_json: Json = False) -> None:
    """Show one run: how it ended, what was checked, what it measured."""
    from rramlab.base.files import read_json
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import BenchLock
    from rramlab.runs.hdf5 import damage
    from rramlab.runs.snapshot import SNAPSHOT
    from rramlab.runs.store import clock_moves, find_run

    out = Output(as_json)
    data = describe_bench(bench).data
    found = find_run(data / "runs", name)
    record = {**found.record, **_summary(found, BenchLock(data).holder() is not None)}
    blocks: dict[str, int] = {}
    problems: list[str] = []
    for block in found.readable(problems):
        key = f"step {block.step}: {block.dataset}"
        blocks[key] = blocks.get(key, 0) + 1
    table = out.facts(found.id)
    for key in ("die", "status", "reason", "started_at", "finished_at"):
        table.add_row(key.replace("_", " "), str(record.get(key, "")))
    if record["duration_s"] is not None:
        table.add_row("took", _spell(record["duration_s"]))
    for key in ("pulses", "conversions"):
        table.add_row(key, _count(record.get(key, 0)))
    for said in clock_moves(record):
        table.add_row("clock", said)
    parameters = _readable(lambda: found.plan.parameters, problems) or {}
    for key, value in parameters.items():
        table.add_row(f"parameter {key}", str(value))
    for key, count in blocks.items():
        table.add_row(key, f"{count:,} block{'' if count == 1 else 's'}")
    repeatable = (found.folder / SNAPSHOT).exists()
    table.add_row("can be repeated", "yes, its die was kept" if repeatable else "no, its die was not kept")
    table.add_row("folder", str(found.folder))
    out.say(table)
    if not blocks:
        out.say("It measured nothing." if record["status"] != "running" else "It has measured nothing yet.")
    say_checks(out, record.get("checks", []), record.get("loops", []))
    say_flaws(out, record.get("flaws", []))
    provenance = _readable(lambda: read_json(found.folder / "provenance.json"), problems)
    gathered = found.folder / "run.h5"
    if gathered.exists() and (wrong := damage(gathered)):
        problems.append(f"{wrong}. Make it anew from the blocks: rramlab runs consolidate {found.id}")
    document = {**record, "folder": str(found.folder), "blocks": blocks, "repeatable": repeatable, "problems": problems}
    if problems:
        fail("; ".join(problems), DataError.exit_code, as_json, {**document, "provenance": provenance})
    out.finish({**document, "provenance": provenance})


def _readable(read: Callable[[], Any], problems: list[str]) -> Any:
    """Return what is read, or None, with what is wrong put to ``problems``: the rest is shown all the same."""
    try:
        return read()
    except DataError as error:
        problems.append(str(error))
        return None


def _chosen(bench: Path | None, name: str | None, everything: bool) -> list[Run]:
    """Return the run that was named, or all of the bench.

    Raises:
        UsageError: neither was said, or both. DataError: there is no such run.
    """
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.store import find_run, list_runs

    if (name is None) == (not everything):
        raise UsageError("name one run, or say --all")
    folder = describe_bench(bench).data / "runs"
    return list_runs(folder) if name is None else [find_run(folder, name)]


@app.command("check")
@command
def check_(
    name: Annotated[str | None, typer.Argument(metavar="RUN", help="The run's id, its beginning, or 'last'.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run of the bench.")] = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """See whether every file of a run is as it was written, by check sums; nothing is changed."""
    from rramlab.runs.checking import check

    out = Output(as_json)
    found = [check(run) for run in _chosen(bench, name, everything)]
    for each in found:
        note = (
            "; begun by rramlab 0.1.0, which wrote no check sums: only what cannot be read is seen"
            if each.unsummed
            else ""
        )
        out.say(f"{each.run}: {len(each.problems) or 'no'} damaged file{'' if len(each.problems) == 1 else 's'}{note}")
    document = {"runs": {each.run: {"problems": each.problems, "unsummed": each.unsummed} for each in found}}
    problems = [problem for each in found for problem in each.problems]
    if problems:
        fail("; ".join(problems), DataError.exit_code, as_json, document)
    out.finish(document)


@app.command("export")
@command
def export_(
    name: RunName,
    output: Annotated[Path, typer.Option("--output", metavar="PATH", help="A new file; for csv a folder.")],
    form: Annotated[str, typer.Option("--format", help="csv, npz or h5.")] = "csv",
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Write a run's data as CSV tables, NumPy arrays or HDF5. Of a run that goes on: what it has so far."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.export import export
    from rramlab.runs.store import find_run

    out = Output(as_json)
    if form not in ("csv", "npz", "h5"):
        raise UsageError(f"found the format {form!r}, expected csv, npz or h5")
    run = find_run(describe_bench(bench).data / "runs", name)
    written = export(run, form, output)  # type: ignore[arg-type]  # one of the three
    for path in written:
        out.say(str(path))
    if not written:
        out.say(f"Run {run.id} has measured nothing; no table was written.")
    out.finish({"run": run.id, "format": form, "files": [str(path) for path in written]})


@app.command("compare")
@command
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, as for show.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    png: Annotated[
        Path | None, typer.Option("--png", help="Also write a picture: cell against cell, and where they differ.")
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Compare two runs: their plans, and the cells that both have read, by what each read last."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.comparing import compare_cells, last_map, plan_differences
    from rramlab.runs.store import find_run

    out = Output(as_json)
    runs = describe_bench(bench).data / "runs"
    a, b = find_run(runs, first), find_run(runs, second)
    same, parameters = plan_differences(a, b)
    maps = last_map(a), last_map(b)
    table = out.table("", a.id, b.id)
    table.add_row("die", a.die, b.die)
    table.add_row("protocol", a.plan.name, b.plan.name)
    for key, (one, other) in parameters.items():
        table.add_row(f"parameter {key}", _shown(one), _shown(other))
    document: dict[str, Any] = {
        "runs": [a.id, b.id], "dies": [a.die, b.die], "same_plan": same, "parameters": parameters, "png": None,
    }  # fmt: skip
    found: CellComparison | None = None
    if maps[0] is not None and maps[1] is not None:
        found = compare_cells(maps[0], maps[1])
        table.add_row("formed", *(_shown(None if each is None else f"{each:.2%}") for each in found.formed_fraction))
        table.add_row("median", *(_shown(None if each is None else f"{each * 1e6:.3f} µS") for each in found.median_S))
    out.say(table)
    out.say("The plans are the same." if same else "The plans differ.")
    if found is None:
        which = ", ".join(run.id for run, each in zip((a, b), maps, strict=True) if each is None)
        out.say(f"No cells can be compared: {which} has read none.")
    else:
        _say_cells(out, found)
        document.update(cells=found.as_json())
    if png is not None:
        if found is None or not found.cells:
            raise DataError(f"there is no cell that both runs have read; {png} was not written")
        from rramlab.report.diefigures import save_comparison

        save_comparison((maps[0], maps[1]), (a.id, b.id), png)  # type: ignore[arg-type]  # neither is None
        document["png"] = str(png)
        out.say(f"Picture: {png}")
    out.finish(document)


def _say_cells(out: Output, found: CellComparison) -> None:
    out.say(
        f"{found.cells:,} cells were read in both: {found.began_to_conduct:,} conduct in the second and not in the first, "
        f"{found.ceased_to_conduct:,} the other way round."
    )
    for what, value in (
        ("all of them", found.correlation),
        ("those that conduct in both", found.correlation_conducting),
    ):
        if value is not None:
            out.say(f"Correlation of conductances, cell by cell, of {what}: {value:.4f}")


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


@app.command("consolidate")
@command
def consolidate(
    name: Annotated[str | None, typer.Argument(metavar="RUN", help="The run's id, its beginning, or 'last'.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run of the bench.")] = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Gather the whole blocks of a run into its run.h5 again: of a killed run, or one that goes on, what there is."""

    out = Output(as_json)
    files: dict[str, str] = {}
    failures: dict[str, str] = {}
    for run in _chosen(bench, name, everything):
        try:
            files[run.id] = str(run.consolidate())
            out.say(files[run.id])
        except DataError as error:  # the others are not affected
            failures[run.id] = str(error)
    document = {"files": files, "failed": failures}
    if failures:
        several = "" if len(failures) == 1 else f"{len(failures)} runs could not be consolidated: "
        fail(several + "; ".join(failures.values()), RramlabError.exit_code, as_json, document)
    out.finish(document)


app.command("repeat")(repeat)


def _summary(run: Run, held: bool) -> dict[str, Any]:
    """Return a run's record, whatever state it is in, with how long it took: None where nobody wrote that down."""
    try:
        record = run.record
    except DataError as error:
        return {"id": run.id, "die": "", "name": "", "status": "unreadable", "reason": str(error), "duration_s": None}
    if record["status"] == "running":
        if not held:
            record["status"] = "interrupted"  # its process is gone, and nobody wrote how it ended
        record["pulses"] = _pulses(run)  # what the record says is of an earlier attempt, if of any
    return {**record, "duration_s": _duration_s(record)}


def _pulses(run: Run) -> int | None:
    """Count a run's pulses by its die's ledger; None where that cannot be read."""
    from rramlab.runs import LEDGER
    from rramlab.runs.ledger import view_ledger

    try:
        with view_ledger(run.folder.parents[1] / "dies" / run.die / LEDGER) as ledger:
            return sum(entry.done.count for entry in ledger.of_run(run.id))
    except DataError:
        return None


def _count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def _duration_s(record: dict[str, Any]) -> float | None:
    from rramlab.runs.store import duration_s

    return duration_s(record)


def _begun(record: dict[str, Any]) -> datetime | None:
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(record.get("started_at")))
    except ValueError:
        return None


def _moment(text: str) -> datetime:
    """Read a day or a moment in local time, or a time ago.

    Raises:
        UsageError: it is neither.
    """
    from datetime import UTC, datetime, timedelta

    from rramlab.base.units import parse_duration

    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        pass
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except (UsageError, OverflowError):
        raise UsageError(
            f"found --since {text!r}, expected a day such as 2026-11-22, or a time ago such as '2 d'"
        ) from None


def _spell(seconds: float) -> str:
    from rramlab.base.units import show_duration

    return show_duration(seconds)


def _short(reason: str) -> str:
    """Return what fits a table; the whole reason is in ``runs show``."""
    return reason if len(reason) <= _MOST_REASON else f"{reason[:_MOST_REASON]}…"
