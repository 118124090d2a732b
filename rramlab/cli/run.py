"""``run`` and ``resume``: executing a plan, how far it is, what came of it."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from rramlab.base.errors import DataError, OutOfLimits, RramlabError
from rramlab.cli.options import Arm, Assignments, BenchPath, DieName, Json, Key, RunName, Trace
from rramlab.cli.output import Output, Styled, command, console, fail, going_on, note_bench, styled, whisper
from rramlab.cli.preview import announce, for_fraction, preview, refuse_other_die
from rramlab.cli.streams import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rramlab.drivers.bench import BenchDescription
    from rramlab.engine.results import Listener, Progress, RunResult
    from rramlab.engine.session import Session
    from rramlab.plan.plan import Plan
    from rramlab.runs.store import Run

_LINE_EVERY_S = 10.0  # of progress, where nobody watches


@command
def run(
    protocol: Annotated[str, typer.Argument(help="A protocol by name (electroform, read-array, prune …) or by path.")],
    assignments: Assignments = None,
    arm: Arm = None,
    die: DieName = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, at worst; open and energise nothing.")
    ] = False,
    fraction: Annotated[
        float | None,
        typer.Option(
            "--fraction", help="Form this share of the chosen cells: the voltage comes from the die's record."
        ),
    ] = None,
    key: Key = None,
    trace: Trace = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Execute a protocol on the die. With --key it is safe to say the same again, whatever has happened to the first."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.protocols.files import load_protocol, parse_assignments

    out = Output(as_json)
    description = describe_bench(bench, die, trace)
    note_bench(description)
    found, given = load_protocol(description.root, protocol), parse_assignments(assignments or [])
    if fraction is not None:
        given |= for_fraction(out, description, found, given, fraction)
    plan = found.plan(description.board.geometry, given)
    known = _under_key(description, key, plan)
    if known is not None and known.record["status"] == "done":
        _say_done(out, known)
        return
    if known is not None:
        out.say(f"The run of key {key} is {known.id}, {known.record['status']}: this goes on with it.")
    if dry_run:
        preview(out, description, plan, known)
        return
    refuse_other_die(description, arm)
    announce(out, description, plan)
    _concluded(out, description, lambda session, listen: session.run(plan, arm=arm, die=die, listen=listen, key=key))


def _under_key(description: BenchDescription, key: str | None, plan: Plan) -> Run | None:
    """Return the run of a key before anything is opened; the session looks again when it holds the bench."""
    from rramlab.runs.keys import begun

    if key is None or len(description.file.dies) != 1:
        return None
    return begun(description.data / "runs", description.file.dies[0].id, key, plan)


def _say_done(out: Output, run: Run) -> None:
    """Say what a run came to that is done: no instrument is asked for it."""
    from rramlab.engine.results import RunResult

    result = RunResult.of(run)
    conclude(out, result, {**tell(out, result), "record": run.record})


@command
def resume(
    name: RunName,
    arm: Arm = None,
    trace: Trace = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was killed, stopped or failed. No cell gets a second pulse."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.store import find_run

    out = Output(as_json)
    description = describe_bench(bench)
    wanted = find_run(description.data / "runs", name, unfinished=True)
    description = describe_bench(bench, wanted.die, trace)
    record = wanted.record
    out.say(
        f"Going on with {wanted.id}: {record['name']}, die {wanted.die}, {record['status']}. {record['reason'][:200]}"
    )
    refuse_other_die(description, arm)
    calibrating = bool(wanted.provenance.get("calibrating"))  # it may lack the very calibration that it measures
    _concluded(out, description, lambda session, listen: session.resume(wanted.id, arm=arm, listen=listen), calibrating)


def _concluded(
    out: Output,
    description: BenchDescription,
    execute: Callable[[Session, Listener], RunResult],
    calibrating: bool = False,
) -> None:
    """Execute a run and say what came of it."""
    result = executed(out, description, execute, calibrating)
    conclude(out, result, tell(out, result))


def executed(
    out: Output,
    description: BenchDescription,
    execute: Callable[[Session, Listener], RunResult],
    calibrating: bool = False,
) -> RunResult:
    """Execute a run on the bench. Where it ends early, or the bench cannot be closed after it, what it has is said first.

    A run that was carried out to its end is returned also where not all of it was measured: :func:`conclude` says so.
    """
    from rramlab.engine.results import Flawed
    from rramlab.engine.session import Session

    result, run = None, ""
    try:
        with Session(description, calibrating) as session, progress(out) as listen:

            def noted(told: Progress) -> None:
                nonlocal run
                run = told.run
                listen(told)

            try:
                result = execute(session, noted)
            except Flawed as flawed:
                result = flawed.result
    except RramlabError as error:
        if result is not None:
            tell(out, result)
        elif run:
            _fail_with_what_there_is(out, description, run, error)
        raise
    return result


def _fail_with_what_there_is(out: Output, description: BenchDescription, run: str, error: RramlabError) -> NoReturn:
    """End a command whose run ended early; what it has measured at source-measure units is said first."""
    from rramlab.runs.store import Run

    record: dict[str, Any] = {}
    with suppress(DataError):  # that it cannot be read may be what went wrong, and is said
        record = Run(description.data / "runs" / run).record
    found = {name: record.get(name, []) for name in ("sweeps", "routes")}
    for each in (*found["sweeps"], *found["routes"]):
        out.say(probed(each))
    complete = f". Run {run} was complete by then" if record.get("status") == "done" else going_on(error)
    fail(f"{error}{complete}", error.exit_code, out.json, {"run": run, **found})


@contextmanager
def progress(out: Output) -> Iterator[Listener]:
    """Show a bar on stderr while a run goes on; where stderr is no terminal a plain line now and then, without escape codes."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    terminal = console(stderr=True)
    said = time.monotonic()
    with Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.fields[formed]}", markup=False),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    ) as bar:
        task = bar.add_task("starting", total=None, left="", formed="")

        def listen(told: Progress) -> None:
            nonlocal said
            left = "" if told.eta_s is None else f"{_clock(told.eta_s)} left"
            formed = _formed(told)
            bar.update(
                task,
                total=told.total,
                completed=told.done,
                description=harmless(told.message[:40]),
                left=left,
                formed=formed,
            )
            if not terminal.is_terminal and time.monotonic() - said > _LINE_EVERY_S:
                said = time.monotonic()
                parts = [f"{told.done:,} of at most {told.total:,} operations", left, formed, told.message]
                whisper("; ".join(part for part in parts if part))

        yield listen


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _formed(told: Progress) -> str:
    """Say how many of the cells that the run has pulsed, and looked at since, conduct."""
    if not told.pulsed:
        return ""
    mean = "" if told.mean_S is None else f", mean {told.mean_S * 1e6:.1f} µS"
    return f"{told.formed:,} of {told.pulsed:,} conduct{mean}"


def tell(out: Output, result: RunResult) -> dict[str, Any]:
    """Say what came of a run; return it as one document."""
    from rramlab.base.units import show as spell

    if result.already_done:
        out.say(f"The run of key {result.key} was done before; nothing was done now. What it came to:")
    out.say(
        styled(result.run_id),
        " on die ",
        styled(result.die),
        f": {result.pulses:,} pulses, {result.conversions:,} conversions.",
    )
    if result.contact:
        out.say(f"Contact test: {result.contact['verdict']}.")
    if result.bystanders:
        often = "once" if result.bystanders == 1 else f"{result.bystanders} times"
        out.say(f"Bystanders: cells beside those that were pulsed were compared {often}, none was disturbed.")
    for product in result.products:
        out.say(
            f"{product['dataset']}: {product['vectors']:,} vectors into {product['columns']} columns; mean "
            f"{spell(product['mean_S'], 'S')}, columns spread by {spell(product['column_spread_S'], 'S')}, vectors by "
            f"{spell(product['vector_spread_S'], 'S')}; {product['saturated']:,} conversions saturated."
        )
    for each in (*result.sweeps, *result.routes):
        out.say(probed(each))
    for each in result.references:
        what = "open inputs" if each["resistor"] is None else f"resistor {each['resistor']}"
        out.say(
            f"{each['dataset']}: {what} at {spell(each['voltage_V'], 'V')} in the {each['range']} range, {each['columns']} "
            f"columns × {each['repeats']}; mean code {each['mean_code']:.1f}, columns spread by "
            f"{each['column_spread_code']:.1f}; {each['saturated']:,} conversions saturated."
        )
    for found in result.programs:
        out.say(
            f"{found['dataset']}: {found['reached']:,} of {found['cells']:,} cells reached their target within "
            f"{spell(found['tolerance_S'], 'S')}, in {found['pulses']:,} pulses, at most {found['most_pulses']} a cell; "
            f"RMS error {spell(found['rms_error_S'], 'S')}."
        )
    for decided in result.reconciled:
        out.say(
            f"Operation {decided['operation']} was in doubt after a crash: {decided['pulsed']:,} cells pulsed, "
            f"{decided['unknown']:,} unknown ({decided['decided_by']})."
        )
    say_checks(out, result.checks, result.loops)
    say_flaws(out, result.flaws)
    out.say(f"Data: {result.folder}/run.h5")
    return {
        "run": result.run_id,
        "die": result.die,
        "folder": result.folder,
        "pulses": result.pulses,
        "conversions": result.conversions,
        "saturated": result.saturated,
        "checks": result.checks,
        "contact": result.contact,
        "products": result.products,
        "sweeps": result.sweeps,
        "routes": result.routes,
        "references": result.references,
        "programs": result.programs,
        "loops": result.loops,
        "bystanders": result.bystanders,
        "lost": result.lost,
        "flaws": result.flaws,
        "reconciled": result.reconciled,
        "key": result.key,
        "already_done": result.already_done,
    }


def conclude(out: Output, result: RunResult, document: dict[str, Any]) -> None:
    """End a command that ran something: with its document, and as its checks came out."""
    if result.flaws:
        from rramlab.engine.results import Flawed

        fail(str(Flawed(result)), OutOfLimits.exit_code, out.json, document)
    if not result.passed:
        message = "the run is complete, but an expectation was not met; see the checks"
        fail(message, OutOfLimits.exit_code, out.json, document)
    out.finish(document)


def probed(found: dict[str, Any]) -> str:
    """Say the summary of a sweep, or of what was measured at a route, in one line."""
    from rramlab.base.units import show as spell

    what = found.get("target") or f"{found['kind']} sweep of cell ({found['row']}, {found['column']})"
    if found.get("lost"):
        return f"{what}: it was done before the run was interrupted and its curve is lost; it is not repeated."
    if not found["points"]:
        return f"{what}: connected, nothing measured."
    several = "" if found["points"] == 1 else "s"
    bad = f", {len(found['bad'])} of them no measurement" if found.get("bad") else ""
    parts = [f"{found['points']} point{several}{bad}", f"at most {spell(found['max_current_A'], 'A')}"]
    if "target" in found:
        parts += [f"mean {spell(found['voltage_V'], 'V')}, {spell(found['current_A'], 'A')}"]
    if found["conductance_S"] is not None:
        at = f" at {spell(found['at_V'], 'V')}" if found.get("at_V") else ""
        parts.append(f"{spell(found['conductance_S'], 'S')}{at}")
    if found["conductance_S"]:
        parts.append(spell(1 / found["conductance_S"], "Ω"))
    limited = found["in_compliance"]
    if limited:
        parts.append(f"{limited} points in compliance, at the unit's limit of {spell(found['compliance_A'], 'A')}")
    return f"{what}: {'; '.join(parts)}."


def say_flaws(out: Output, flaws: list[dict[str, Any]]) -> None:
    """Say what a run has not as it was asked for."""
    from rich.text import Text

    for flaw in flaws:
        out.say(Text(f"Not measured, or lost: {flaw['reason']}."))  # what a unit has answered is no markup


def say_checks(out: Output, checks: list[dict[str, Any]], loops: list[dict[str, Any]]) -> None:
    """Say every judgement of a run, how its loops ended, and which rest on reads of earlier runs."""
    if not checks and not loops:
        return
    from rramlab.engine.expectation import say_ages
    from rramlab.report.wording import say_check

    table = out.table("check", "cells", "formed", "median", "verdict")
    for check, judge in (*((each, _passed_or_failed) for each in checks), *((each, _reached_or_not) for each in loops)):
        table.add_row(
            say_check(check),
            f"{check['cells']:,}" + (f" (and {check['left_out']:,} left out)" if check.get("left_out") else ""),
            f"{check['formed_fraction']:.2%}",
            f"{check['median_S'] * 1e6:.2f} µS" if check["formed_fraction"] else "none",
            judge(check),
        )
    out.say(table)
    for check in (*checks, *loops):
        for said in say_ages(check):
            out.say(f"note: {say_check(check)}: {said}.")


def _passed_or_failed(check: dict[str, Any]) -> Styled:
    return styled("passed", "green") if check["passed"] else styled(f"failed: {check['reason']}", "red")


def _reached_or_not(loop: dict[str, Any]) -> Styled:
    return styled("reached" if loop["passed"] else f"not reached: {loop['reason']}", "none")
