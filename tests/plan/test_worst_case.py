"""A plan's worst case holds whatever the data, is exact where there are none, and adds up over loops."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from workbench import SmallBench, copy_bench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import RramlabError
from rramlab.cli.app import app
from rramlab.macro.regions import Region
from rramlab.plan import cost
from rramlab.plan.operations import PulseOp
from rramlab.plan.plan import Plan
from rramlab.plan.programming import encode_array
from rramlab.plan.steps import (
    ContactStep,
    ExpectStep,
    ForEachStep,
    GateStep,
    MultiplyStep,
    Pilot,
    ProgramStep,
    PulseStep,
    ReadStep,
    RepeatStep,
    Round,
    RouteStep,
    SweepStep,
    Until,
    WaitStep,
    Window,
)
from rramlab.plan.worst import bounds, worst_case
from rramlab.runs.store import find_run

DIE = "small-1"
AS_DRAWN = [Phase.explicit, Phase.generate]  # making a failure smaller would take minutes: each example opens a bench
ROWS, COLUMNS = 12, 8
FORMED = {"formed_fraction": (0.5, 1.0), "median": (1e-6, 1e-3)}
ANYTHING = Window(formed_fraction=(0.0, 1.0))
SWITCH = {"set": {"kind": "set", "width": 1e-6, "gate": 1.6}, "reset": {"kind": "reset", "width": 1e-6, "gate": 3.0}}

# Rows 0-7 of the bench below are formed and read, rows 8-11 are pristine.
FIXED = [
    "rows 0-7",
    "rows 2-5 & cols 0-3",
    "row 1",
    "checkerboard & rows 0-7",
    "cells (0, 0), (7, 7)",
    "rows 0-1 - all",
]
BY_DATA = [
    "rows 0-9 - pristine",
    "conducting & rows 0-7",
    "rows 0-11 & cols 0-2 - pristine",
    "pristine & row 3",
    "rows 0-7 & ~unknown",
    "unknown & rows 2-5",
]


@st.composite
def pulses(draw):
    kind = draw(st.sampled_from(["set", "reset"]))
    return PulseStep(
        **SWITCH[kind],
        cells=draw(st.sampled_from(FIXED + BY_DATA)),
        voltage=draw(st.sampled_from([1.0, 1.7, 2.4])),
        cells_per_pulse=draw(st.sampled_from([None, 3])),
        bystanders=draw(st.sampled_from([0, 8, 32])),
    )


forming = st.builds(
    pulse_step,
    st.sampled_from(["rows 8-11", "rows 8-11 & pristine"]),
    pilot=st.builds(
        Pilot, rows=st.integers(1, 2), recheck_rows=st.integers(1, 3), **{k: st.just(v) for k, v in FORMED.items()}
    ),
    bystanders=st.sampled_from([0, 16]),
)


@st.composite
def programs(draw):
    by = draw(st.sampled_from(["amplitude", "width"]))
    if by == "amplitude":
        ladder = {
            "start": 1.0,
            "to": 1.0 + 0.2 * draw(st.integers(0, 5)),
            "step": 0.2,
            "width": draw(st.sampled_from([1e-6, 1e-3])),
        }
    else:
        ladder = {"start": 1e-7, "to": 1e-3, "factor": 10.0, "voltage": 1.8}
    target = draw(st.sampled_from([12e-6, 50e-6, "array"]))
    if target == "array":
        wanted = np.full((ROWS, COLUMNS), np.nan)
        wanted[0:3, 0::2], wanted[1:4, 1::2] = 80e-6, 1e-6
        target = encode_array(wanted)
    return ProgramStep(
        cells=draw(st.sampled_from(["rows 0-3", "rows 0-2 & cols 1-6"])),
        target=target,
        tolerance=draw(st.sampled_from([0.5e-6, 3e-6])),
        budget=draw(st.integers(1, 5)),
        by=by,
        set={**ladder, "gate": 1.6},
        reset={**ladder, "gate": 3.0},
    )


leaves = st.one_of(
    pulses(),
    pulses(),
    forming,
    programs(),
    st.builds(
        ReadStep,
        cells=st.sampled_from([*FIXED, "all", "conducting | rows 0-2"]),
        repeats=st.integers(1, 3),
        name=st.just("look"),
    ),
    st.builds(WaitStep, time=st.sampled_from([1e-3, 0.5, 20.0])),
    st.builds(
        ExpectStep, cells=st.sampled_from(["all", "rows 0-3"]), window=st.just(ANYTHING), on_failure=st.just("continue")
    ),
    st.builds(MultiplyStep, batch=st.integers(1, 3), bits=st.integers(1, 2)),
)


def loops(inner):
    body = st.lists(inner, min_size=1, max_size=2).map(tuple)
    until = st.none() | st.builds(Until, cells=st.sampled_from(["all", "rows 0-3"]), window=st.just(ANYTHING))
    rounds = st.lists(body, min_size=1, max_size=3)
    return st.one_of(
        st.builds(RepeatStep, times=st.integers(1, 3), until=until, steps=body),
        rounds.map(
            lambda all_: ForEachStep(name="n", rounds=tuple(Round(value=n, steps=each) for n, each in enumerate(all_)))
        ),
    )


nested = st.one_of(leaves, loops(leaves), loops(loops(leaves)))
plans = st.builds(
    lambda steps, block_rows: plain_plan(ReadStep(), GateStep(rows="rows 0-5"), *steps, block_rows=block_rows),
    st.lists(nested, min_size=1, max_size=3),
    st.sampled_from([1, 5, 64]),
)


def every_leaf(steps):
    for step in steps:
        for body in (
            [step.steps] if isinstance(step, RepeatStep) else [each.steps for each in getattr(step, "rounds", ())]
        ):
            yield from every_leaf(body)
        if not isinstance(step, (RepeatStep, ForEachStep)):
            yield step


def ends_early(steps):
    if any(isinstance(step, RepeatStep) and (step.until is not None or ends_early(step.steps)) for step in steps):
        return True
    return any(isinstance(step, ForEachStep) and any(ends_early(each.steps) for each in step.rounds) for step in steps)


def is_fixed(plan):
    """Whether nothing that the plan does depends on data."""
    steps = list(every_leaf(plan.steps))
    if ends_early(plan.steps) or any(isinstance(step, ProgramStep) for step in steps):
        return False
    return not any(Region(getattr(step, "cells", "all")).depends_on_data for step in steps)


def unrolled(steps):
    for step in steps:
        match step:
            case RepeatStep():
                for _ in range(step.times):
                    yield from unrolled(step.steps)
            case ForEachStep():
                for each in step.rounds:
                    yield from unrolled(each.steps)
            case _:
                yield step


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A bench whose die is formed and read in rows 0-7."""
    folder = tmp_path_factory.mktemp("prepared")
    with SmallBench(folder, rows=ROWS, columns=COLUMNS).write().open() as session:
        session.run(plain_plan(pulse_step("rows 0-7", pilot=Pilot(rows=2, **FORMED)), ReadStep()), arm=DIE)
    return folder


@pytest.fixture
def fresh(prepared, tmp_path_factory):
    """Open a copy of the prepared bench."""

    def make():
        folder = tmp_path_factory.mktemp("copy") / "bench"
        copy_bench(prepared, folder)
        return SmallBench(folder).open()

    return make


def worst(plan, board):
    return bounds(worst_case(plan, board), board)


def execute(session, plan):
    """Run a plan, to its end or to where it stops; return what was executed, by the die itself."""
    before, began, told, error = hidden(session).pulses.astype(int), hidden(session).clock_ns, [], None
    try:
        session.run(plan, arm=DIE, listen=told.append)
    except RramlabError as problem:
        error = problem
    run = find_run(session.runs, "last")
    entries = list(ledger_of(session).of_run(run.id))
    board = session.description.board
    energy_J = sum(
        cost.of(PulseOp(each.kind, each.done, each.pulse, board.cells_per_pulse), board).energy_J for each in entries
    )
    given = hidden(session).pulses.astype(int) - before
    return SimpleNamespace(
        error=error,
        operations=sum(each.message != "done" for each in told),
        totals={each.total for each in told},
        pulses=int(given.sum()),
        cells=int(np.count_nonzero(given)),
        pulses_per_cell=int(given.max()),
        conversions=run.record["conversions"],
        time_s=(hidden(session).clock_ns - began) / 1e9,
        volts=max((max(each.pulse.amplitude_V, each.pulse.gate_V) for each in entries), default=0.0),
        pulse_energy_J=energy_J,
    )


@settings(max_examples=10, phases=AS_DRAWN)
@given(plan=plans)
def test_what_is_executed_never_exceeds_the_worst_case(fresh, plan):
    with fresh() as session:
        most, done = worst(plan, session.description.board), execute(session, plan)
    event(f"ended by {type(done.error).__name__}, {'fixed' if is_fixed(plan) else 'by data'}")
    if not done.totals:  # refused as a whole
        assert not done.pulses
        return
    assert done.totals == {most.operations}
    assert done.operations <= most.operations
    assert done.pulses <= most.pulses
    assert done.cells <= most.cells
    assert done.pulses_per_cell <= most.pulses_per_cell
    assert done.conversions <= most.conversions
    assert done.time_s <= most.time_s * (1 + 1e-9)
    assert done.volts <= most.max_voltage_V
    assert done.pulse_energy_J <= most.energy_J * (1 + 1e-9)
    if is_fixed(plan) and done.error is None:
        assert (done.operations, done.pulses, done.cells) == (most.operations, most.pulses, most.cells)
        assert (done.pulses_per_cell, done.conversions) == (most.pulses_per_cell, most.conversions)
        assert done.time_s == pytest.approx(most.time_s)


@given(st.lists(nested, min_size=1, max_size=4), st.sampled_from([1, 3, 64]))
def test_bounds_of_loops_are_those_of_the_unrolled_plan(small_table, steps, block_rows):
    steps = (ContactStep(), GateStep(rows="rows 0-5"), *(each for each in steps if not _has_array(each)))
    rolled = worst(Plan(name="rolled", steps=steps, block_rows=block_rows), small_table)
    flat = worst(Plan(name="flat", steps=tuple(unrolled(steps)), block_rows=block_rows), small_table)
    for name in type(flat).model_fields:
        assert getattr(rolled, name) == pytest.approx(getattr(flat, name)), name


def _has_array(step):
    return any(isinstance(each, ProgramStep) and isinstance(each.target, str) for each in every_leaf((step,)))


def test_a_million_rounds_are_bounded_at_once(small_table):
    """A dry run of what takes weeks: the body is looked at once, whatever the number of rounds."""
    body = (pulse_step("rows 0-3", "reset", voltage=2.0, bystanders=8), WaitStep(time=1.0))
    inner = RepeatStep(times=1000, steps=body)
    found = worst(plain_plan(RepeatStep(times=1_000_000, steps=(inner,))), small_table)
    assert found.pulses == 10**9 * 4 * 16
    assert found.pulses_per_cell == 10**9
    assert found.time_s >= 1e9


ladders = {"start": 0.8, "to": 2.4, "step": 0.05, "width": 1e-6}
times = {"start": 1e-7, "to": 1e-3, "factor": 2.0, "voltage": 1.8}
EVERY_KIND = [
    ContactStep(),
    pulse_step("one-of-pair(seed=7)", pilot=Pilot(**FORMED), bystanders=5),
    pulse_step("rows 0-3", "set", voltage=2.0),
    pulse_step("conducting", "reset", voltage=2.0, bystanders=4096),
    ReadStep(cells="cell (3, 7)", repeats=4, name="a-b"),
    GateStep(slot=2, rows="rows 0-3", columns="cols 0-3"),
    MultiplyStep(slot=2, inputs="random", seed=2**64 - 1, batch=3, bits=8),
    SweepStep(cell="(3, 7)", purpose="reset", voltage=1.5, both_ways=True),
    RouteStep(reference=0, voltage=0.1),
    RouteStep(cell="3, 7", count=3),
    ExpectStep(cells="rows 0-3", window=Window(median=(1e-6, 2e-6), hint="look"), on_failure="continue"),
    WaitStep(time=86400.0),
    ProgramStep(
        cells="all",
        target=12e-6,
        tolerance=1e-6,
        budget=50,
        set={**ladders, "gate": 1.6},
        reset={**ladders, "gate": 3.0},
    ),
    ProgramStep(
        cells="all",
        target=encode_array(np.where(np.eye(4) > 0, np.nan, 1e-5)),
        tolerance=1e-6,
        budget=50,
        by="width",
        set={**times, "gate": 1.6},
        reset={**times, "gate": 3.0},
        repeats=3,
        name="tune",
    ),
]
some = st.lists(st.sampled_from(EVERY_KIND), min_size=1, max_size=3).map(tuple)
values = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63) | st.text(max_size=5)
untils = st.none() | st.builds(Until, cells=st.just("rows 0-3"), window=st.just(ANYTHING))
one_loop = st.one_of(
    st.builds(RepeatStep, times=st.integers(1, 1_000_000), until=untils, steps=some),
    st.builds(
        ForEachStep,
        name=st.sampled_from(["n", "gate_voltage", "a-b"]),
        rounds=st.lists(
            st.builds(Round, value=values, unit=st.sampled_from(["", "V", "Ω"]), steps=some), min_size=1, max_size=3
        ).map(tuple),
    ),
)
deep = st.recursive(
    one_loop, lambda inner: st.builds(RepeatStep, times=st.integers(1, 9), steps=st.tuples(inner)), max_leaves=1
)


@given(st.lists(st.one_of(st.sampled_from(EVERY_KIND), one_loop, deep), max_size=4))
def test_plans_of_every_kind_of_step_survive_json(steps):
    from rramlab.plan.steps import MOST_DEPTH, depth

    if depth(tuple(steps)) > MOST_DEPTH:
        with pytest.raises(ValueError, match="deep"):
            Plan(name="deep", steps=tuple(steps))
        return
    plan = Plan(name="all", steps=tuple(steps))
    text = plan.model_dump_json()
    again = Plan.model_validate_json(text)
    assert again == plan
    assert again.model_dump_json() == text  # types too: 1 is not 1.0


@settings(max_examples=4, phases=AS_DRAWN)
@given(steps=st.lists(nested, min_size=1, max_size=2), rows=st.sampled_from([(1, 64), (3, 12), (5, 7)]))
def test_the_block_size_does_not_change_the_die(fresh, steps, rows):
    """But for what bystanders and pilot blocks add: those read once a block, and a conversion more is another noise."""
    steps = [each for each in steps if not any(_by_block(leaf) for leaf in every_leaf((each,)))]
    states = []
    for block_rows in rows:
        with fresh() as session:
            plan = plain_plan(ReadStep(), GateStep(rows="rows 0-5"), *steps, block_rows=block_rows)
            execute(session, plan)
            states.append(hidden(session))
    one, other = states
    assert np.array_equal(one.pulses, other.pulses)
    assert np.array_equal(one.conductance_S, other.conductance_S)
    assert one.clock_ns == other.clock_ns


def _by_block(step):
    return isinstance(step, PulseStep) and (step.bystanders > 0 or step.pilot is not None)


def test_bystanders_of_a_region_that_depends_on_data_are_in_the_worst_case(fresh):
    some_conduct = pulse_step("conducting & cols 0-3", "reset", voltage=2.4)
    plan = plain_plan(some_conduct, ReadStep(), pulse_step("conducting", "reset", voltage=1.0, bystanders=32))
    with fresh() as session:
        most, done = worst(plan, session.description.board), execute(session, plan)
    assert done.error is None
    assert done.operations <= most.operations
    assert done.conversions <= most.conversions
    assert done.time_s <= most.time_s


def both_ways(width_s):
    """Write-verify whose cells never get there, and in each row go both ways."""
    wanted = np.full((ROWS, COLUMNS), np.nan)
    wanted[:8, 0::2], wanted[:8, 1::2] = 100e-6, 1e-9
    ladder = {**ladders, "width": width_s}
    return ProgramStep(
        cells="rows 0-7",
        target=encode_array(wanted),
        tolerance=1e-12,
        budget=30,
        set={**ladder, "gate": 1.6},
        reset={**ladder, "gate": 3.0},
    )


def test_write_verify_takes_no_longer_than_its_worst_case(fresh):
    with fresh() as session:
        plan = plain_plan(both_ways(1e-3))
        most, done = worst(plan, session.description.board), execute(session, plan)
    assert done.error is None
    assert done.pulses <= most.pulses
    assert done.time_s <= most.time_s


def test_write_verify_takes_no_more_energy_than_its_worst_case(fresh):
    with fresh() as session:
        plan = plain_plan(both_ways(1e-3))
        most, done = worst(plan, session.description.board), execute(session, plan)
    assert done.pulse_energy_J <= most.energy_J


PROTOCOL = """\
name: campaign
description: Loops, a ladder and a wait, for a test.
block_rows: 4
steps:
  - contact
  - for_each:
      values: {voltage: [1.2 V, 1.6 V]}
      steps:
        - repeat:
            times: 3
            steps:
              - reset: {cells: rows 0-3, voltage: "${voltage}", width: 1 us, gate: 3 V, bystanders: 8}
              - wait: {time: 2 s}
        - read: {cells: rows 0-3}
  - program:
      cells: rows 4-5
      target: 12 uS
      tolerance: 3 uS
      budget: 4
      set: {start: 1 V, to: 2.4 V, step: 100 mV, width: 1 us, gate: 1.6 V}
      reset: {start: 1 V, to: 2.4 V, step: 100 mV, width: 1 us, gate: 3 V}
"""


def test_a_dry_run_says_what_the_run_is_then_held_to(fresh, tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(PROTOCOL, encoding="utf-8")
    with fresh() as session:
        folder = session.description.root
    words = ["run", str(path), "--bench", str(folder), "--json"]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert dry.exit_code == 0, dry.stderr
    said = json.loads(dry.stdout)["bounds"]
    assert not (folder / "data" / "runs").exists() or len(list((folder / "data" / "runs").iterdir())) == 1
    done = CliRunner().invoke(app, [*words, "--arm", DIE])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    provenance = json.loads((folder / "data" / "runs" / result["run"] / "provenance.json").read_text())
    assert provenance["bounds"] == said
    assert result["pulses"] <= said["pulses"] == 6 * 32 + 4 * 16
    assert result["conversions"] <= said["conversions"]
    assert said["pulses_per_cell"] == 6
    assert said["time_s"] > 12
    assert said["max_voltage_V"] == 3.0
