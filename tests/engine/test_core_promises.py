"""What a person relies on, whatever the plan: wear budgets, the ledger, exactly once, order, loops that end, a stop."""

import itertools
import os
import re
import shutil
import signal
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import selections
from workbench import SmallBench, child, copy_bench, hidden, ledger_of, plain_plan, pulse_step, tampered

import rramlab
from rramlab.base.errors import DataError, OutOfLimits, Refused, Stopped
from rramlab.drivers.bench import describe_bench
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import PulseOp, Read, Unchanged
from rramlab.plan.plan import Plan, operations, selection
from rramlab.plan.programming import encode_array
from rramlab.plan.steps import (
    ExpectStep,
    ForEachStep,
    GateStep,
    MultiplyStep,
    Pilot,
    ProgramStep,
    ReadStep,
    RepeatStep,
    Round,
    Until,
    WaitStep,
    Window,
)
from rramlab.runs.store import find_run
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.serving import serve_bench, write_host

DIE = "small-1"
AS_DRAWN = [Phase.explicit, Phase.generate]  # making a failure smaller would take minutes: each example opens a bench
SHAPE = ROWS, COLUMNS = 12, 8
LIMITS = "electroform_voltage: 4.0 V, set_voltage: 2.5 V, reset_voltage: 2.5 V, gate_voltage: 3.3 V"
CONDUCTING = Window(formed_fraction=(0.9, 1.0))
NEVER = Window(median=(1.0, 2.0))


def reset(cells, voltage=2.0, **more):
    return pulse_step(cells, "reset", voltage=voltage, gate=3.0, **more)


def setting(cells, voltage=2.0, **more):
    return pulse_step(cells, "set", voltage=voltage, **more)


def for_each(*bodies, name="n"):
    return ForEachStep(name=name, rounds=tuple(Round(value=n, steps=tuple(body)) for n, body in enumerate(bodies)))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A bench whose die is formed and read in rows 0-7, and pristine in rows 8-11."""
    folder = tmp_path_factory.mktemp("prepared")
    with SmallBench(folder, rows=ROWS, columns=COLUMNS).write().open() as session:
        pilot = Pilot(rows=2, formed_fraction=(0.5, 1.0), median=(1e-6, 1e-3))
        session.run(plain_plan(pulse_step("rows 0-7", pilot=pilot), ReadStep()), arm=DIE)
    return folder


@pytest.fixture
def copy(prepared, tmp_path_factory):
    """Make a copy of the prepared bench, which can be opened again and again."""

    def make(limits=""):
        folder = tmp_path_factory.mktemp("copy") / "bench"
        copy_bench(prepared, folder)
        if limits:
            path = folder / "bench.yaml"
            path.write_text(re.sub(r"limits: .*", f"limits: {{{LIMITS}, {limits}}}", path.read_text()))
        return SmallBench(folder)

    return make


@pytest.fixture
def session(copy):
    with copy().open() as opened:
        yield opened


class Crash(BaseException):
    """Stands for the process being killed: nothing but the ledger and the die's own state survives."""


def crash_at(session, number, delivered=True):
    """Crash in a pulse of this session, before or after it reached the die; with 0, never."""
    controller = session.bench.controllers[DIE]
    original, seen = controller.pulse, itertools.count(1)

    def pulse(*arguments, **more):
        if next(seen) == number:
            if delivered:
                original(*arguments, **more)
            raise Crash
        return original(*arguments, **more)

    controller.pulse = pulse


def counted(session):
    """Count what the controller is asked to do from now on, by kind, and how long to wait."""
    controller, found = session.bench.controllers[DIE], {"pulse": 0, "read": 0, "multiply": 0, "wait": 0, "waited": []}

    def counting(name, original):
        def call(*arguments, **more):
            found[name] += 1
            if name == "wait":
                found["waited"].append(arguments[0])
            return original(*arguments, **more)

        return call

    for name in ("pulse", "read", "multiply", "wait"):
        setattr(controller, name, counting(name, getattr(controller, name)))
    return found


def crashed(bench, plan, number, delivered=True, power_cut=False):
    with bench.open() as session:
        crash_at(session, number, delivered)
        with pytest.raises(Crash):
            session.run(plan, arm=DIE)
        if power_cut:
            session.bench.controllers[DIE].power_cycle()
        return hidden(session).pulses.copy()


def last_run(session):
    return find_run(session.runs, "last")


# wear -------------------------------------------------------------------------------------------------------------------

pulse = st.sampled_from(
    [reset("row 0", 1.0), setting("row 0", 1.0), reset("rows 0-1", 1.0), setting("rows 0-1 & cols 0-3", 1.0)]
)


def looped(inner):
    body = st.lists(inner, min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(RepeatStep, times=st.integers(1, 3), steps=body),
        st.lists(body, min_size=1, max_size=2).map(lambda bodies: for_each(*bodies)),
    )


nests = st.lists(
    st.one_of(looped(looped(looped(pulse))), looped(st.one_of(pulse, looped(pulse))), pulse), min_size=1, max_size=2
)


def times_pulsed(steps):
    """How often each cell is pulsed: int[rows, columns], counted the plain way."""
    total = np.zeros(SHAPE, int)
    for step in steps:
        match step:
            case RepeatStep():
                for _ in range(step.times):
                    total += times_pulsed(step.steps)
            case ForEachStep():
                for each in step.rounds:
                    total += times_pulsed(each.steps)
            case _:
                total += selection(step, Geometry(*SHAPE), None).bits
    return total


@settings(max_examples=8, phases=AS_DRAWN)
@given(steps=nests, spare=st.sampled_from([-1, 0, 1]))
def test_the_wear_budget_holds_over_loops_whatever_the_nesting(copy, steps, spare):
    """To the pulse: what fits is done, what exceeds it by one is refused as a whole. Each cell had one pulse before."""
    wanted = times_pulsed(steps)
    budget = int(wanted.max()) + 1 + spare
    with copy(f"pulses_per_cell: {budget}").open() as session:
        before = hidden(session).pulses.copy()
        if spare < 0:
            with pytest.raises(Refused, match=f"wear budget of {budget}"):
                session.run(plain_plan(*steps), arm=DIE)
            assert np.array_equal(hidden(session).pulses, before)
        else:
            session.run(plain_plan(*steps), arm=DIE)
            assert np.array_equal(hidden(session).pulses - before, wanted)


def test_write_verify_counts_its_budget_against_the_wear_of_its_cells(copy):
    with copy("pulses_per_cell: 7").open() as session:
        with pytest.raises(Refused, match="wear budget"):
            session.run(plain_plan(RepeatStep(times=2, steps=(program(budget=4),))), arm=DIE)
        assert hidden(session).pulses.max() == 1
        session.run(plain_plan(RepeatStep(times=2, steps=(program(budget=3),))), arm=DIE)
        assert hidden(session).pulses.max() <= 7


def test_a_resumed_run_does_not_count_its_own_pulses_twice_against_the_wear(copy):
    bench, plan = copy("pulses_per_cell: 7"), plain_plan(RepeatStep(times=3, steps=(reset("row 0"), setting("row 0"))))
    crashed(bench, plan, 4)
    with bench.open() as session:
        session.resume("last", arm=DIE)
        assert np.all(hidden(session).pulses[0] == 7)
        with pytest.raises(Refused, match="wear budget"):
            session.run(plain_plan(reset("row 0")), arm=DIE)


# exactly once -----------------------------------------------------------------------------------------------------------


def program(cells="rows 0-2", **changes):
    ladder = {"start": 0.8, "to": 2.4, "step": 0.1, "width": 1e-6}
    return ProgramStep(
        **{
            "cells": cells,
            "target": 30e-6,
            "tolerance": 1e-6,
            "budget": 5,
            "set": {**ladder, "gate": 1.6},
            "reset": {**ladder, "gate": 3.0},
            **changes,
        }
    )


looks = st.sampled_from([ReadStep(), ReadStep(cells="rows 0-3", name="look"), WaitStep(time=1.0)])
changing = st.sampled_from(
    [
        reset("rows 0-3"),
        setting("rows 2-7"),
        reset("rows 0-9 - pristine", bystanders=8),
        reset("checkerboard & rows 0-7", bystanders=16),
    ]
)
bodies = st.lists(st.one_of(changing, looks), min_size=1, max_size=2).map(tuple)
campaigns = st.lists(
    st.one_of(
        st.builds(RepeatStep, times=st.integers(2, 3), steps=bodies),
        st.builds(lambda a, b: for_each(a, (RepeatStep(times=2, steps=b),)), bodies, bodies),
        st.just(program()),
        changing,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=6, phases=AS_DRAWN)
@given(
    steps=campaigns,
    block_rows=st.sampled_from([3, 64]),
    moment=st.integers(1, 12),
    delivered=st.booleans(),
    cut=st.booleans(),
)
def test_the_ledger_is_the_die_after_any_plan_killed_or_not(copy, steps, block_rows, moment, delivered, cut):
    plan = plain_plan(reset("row 7"), *steps, block_rows=block_rows)
    bench = copy()
    with bench.open() as session:
        crash_at(session, moment, delivered)
        try:
            session.run(plan, arm=DIE)
        except Crash:
            if cut:
                session.bench.controllers[DIE].power_cycle()
        else:
            assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
            return
        known = hidden(session).pulses.copy()
    with bench.open() as session:
        session.resume("last", arm=DIE)
        counts = ledger_of(session).pulse_counts()
        assert not ledger_of(session).dangling()
        assert np.all(hidden(session).pulses >= known)
        if cut:  # what nobody could decide counts as delivered
            assert np.all(counts >= hidden(session).pulses)
            return
        assert np.array_equal(counts, hidden(session).pulses)
        if not any(isinstance(step, ProgramStep) for step in steps):
            with copy().open() as undisturbed:
                undisturbed.run(plan, arm=DIE)
                assert np.array_equal(hidden(undisturbed).pulses, hidden(session).pulses)


CAMPAIGN = plain_plan(
    WaitStep(time=5.0),
    GateStep(rows="rows 0-3"),
    for_each(
        [reset("rows 0-1", bystanders=8), MultiplyStep(batch=2), WaitStep(time=1.0), ReadStep(cells="rows 0-1")],
        [RepeatStep(times=2, steps=(WaitStep(time=2.0), setting("rows 0-1"), ReadStep(cells="rows 0-1")))],
    ),
    reset("rows 4-7"),
    WaitStep(time=7.0),
    reset("rows 6-7"),
    ReadStep(),
    block_rows=2,
)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 6])
def test_a_resumed_run_executes_nothing_twice_and_waits_no_wait_again(copy, moment):
    """But for the contact test, which is made anew: what it knew may be no longer true."""
    with copy().open() as session:
        whole = counted(session)
        session.run(CAMPAIGN, arm=DIE)
        pulses = hidden(session).pulses.copy()
    bench = copy()
    with bench.open() as session:
        first = counted(session)
        crash_at(session, moment)
        with pytest.raises(Crash):
            session.run(CAMPAIGN, arm=DIE)
    with bench.open() as session:
        second = counted(session)
        session.resume("last", arm=DIE)
        assert np.array_equal(hidden(session).pulses, pulses)
    assert first["pulse"] + second["pulse"] == whole["pulse"]
    assert first["multiply"] + second["multiply"] == whole["multiply"]
    assert first["read"] + second["read"] == whole["read"] + 1
    assert first["waited"] + second["waited"] == whole["waited"]


@pytest.mark.parametrize("signalled", [signal.SIGKILL] if os.name == "posix" else [])
def test_a_run_killed_in_a_loop_ends_with_the_same_pulses(copy, signalled):
    """The real thing, once: the process is gone in the middle of a round."""
    bench = copy()
    (bench.folder / "plan.json").write_text(CAMPAIGN.model_dump_json())
    process = child(KILLED, bench.folder, bench.folder / "plan.json", 3)
    process.communicate()
    assert process.returncode == -signalled
    with bench.open() as session:
        session.resume("last", arm=DIE)
        found = hidden(session).pulses.copy()
        assert np.array_equal(ledger_of(session).pulse_counts(), found)
    assert np.array_equal(found[:8, 0], [4, 4, 1, 1, 2, 2, 3, 3])


KILLED = """
import os, signal, sys
from pathlib import Path
import rramlab
from rramlab.plan.plan import Plan
plan = Plan.model_validate_json(Path(sys.argv[2]).read_text())
with rramlab.open_bench(Path(sys.argv[1])) as session:
    controller = session.bench.controllers["small-1"]
    pulse, left = controller.pulse, [int(sys.argv[3])]
    def dying(*arguments, **more):
        found = pulse(*arguments, **more)
        controller.persist()
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    controller.pulse = dying
    session.run(plan, arm="small-1")
"""


def test_a_wait_that_has_passed_is_not_waited_again_when_the_next_one_is_cut_short(copy):
    bench, plan = (
        copy(),
        plain_plan(RepeatStep(times=3, steps=(WaitStep(time=3600.0),)), WaitStep(time=60.0), ReadStep()),
    )
    with bench.open() as session:
        controller = session.bench.controllers[DIE]
        wait = controller.wait

        def dying(time_s, *more):
            if time_s == 60.0:
                raise Crash
            wait(time_s, *more)

        controller.wait = dying
        with pytest.raises(Crash):
            session.run(plan)
    with bench.open() as session:
        again = counted(session)
        session.resume("last")
        assert again["waited"] == [60.0]


@pytest.mark.parametrize("region", ["rows 0-3", "rows 0-9 - pristine"])
def test_a_loop_is_not_resumed_over_pulses_of_another_run(copy, region):
    bench = copy()
    crashed(bench, plain_plan(RepeatStep(times=3, steps=(reset(region), ReadStep()))), 2)
    with bench.open() as session:
        mine = last_run(session).id
        session.run(plain_plan(setting("row 3")), arm=DIE)
        before = hidden(session).pulses.copy()
        with pytest.raises(Refused, match="pulsed by run"):
            session.resume(mine, arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)


def test_an_expectation_that_held_holds_when_the_run_is_resumed(copy):
    """Judged on a read of an earlier run; then its cells are reset and read, and the process dies."""
    bench = copy()
    check = ExpectStep(cells="rows 0-3", window=CONDUCTING)
    crashed(bench, plain_plan(check, reset("rows 0-3"), ReadStep(cells="rows 0-3"), reset("rows 4-5")), 2)
    with bench.open() as session:
        assert session.resume("last", arm=DIE).passed


def test_a_loop_that_ended_does_not_go_on_when_the_run_is_resumed(copy):
    bench = copy()
    loop = RepeatStep(times=5, until=Until(cells="rows 0-3", window=CONDUCTING), steps=(reset("rows 6-7"),))
    plan = plain_plan(loop, reset("rows 0-3"), ReadStep(cells="rows 0-3"), reset("rows 4-5"))
    before = crashed(bench, plan, 3)
    assert np.all(before[6:8] == 2)  # met after its first round
    with bench.open() as session:
        session.resume("last", arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)


def test_a_loop_that_ended_does_not_go_on_after_a_power_cut_in_a_later_step(copy):
    bench = copy()
    half = Until(cells="rows 0-3, 8-11", window=Window(formed_fraction=(0.4, 0.6)))
    loop = RepeatStep(times=5, until=half, steps=(reset("rows 6-7"), ReadStep(cells="rows 0-3, 8-11")))
    before = crashed(bench, plain_plan(loop, reset("rows 0-3")), 2, power_cut=True)
    assert np.all(before[6:8] == 2)
    with bench.open() as session:
        session.resume("last", arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)


def test_a_loop_that_ended_by_what_conducted_then_can_be_resumed(copy):
    bench = copy()
    until = Until(cells="conducting", window=Window(formed_fraction=(0.0, 1.0)))
    plan = plain_plan(
        RepeatStep(times=5, until=until, steps=(reset("rows 6-7"), ReadStep())), reset("rows 0-3"), reset("row 4")
    )
    before = crashed(bench, plan, 3)
    with bench.open() as session:
        session.resume("last", arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)


@pytest.mark.parametrize("how", ["damaged", "deleted"])
def test_a_lost_verification_does_not_cost_more_than_the_budget(copy, how):
    """The description of the first read of write-verify is damaged, or the block deleted, between the attempts."""
    wanted = np.full(SHAPE, np.nan)
    wanted[:4] = np.resize([3e-6, 8e-6, 12e-6, 14e-6], COLUMNS)
    rough = {"start": 0.8, "to": 2.4, "step": 0.2, "width": 1e-6}
    ladders = {"set": {**rough, "gate": 1.6}, "reset": {**rough, "gate": 3.0}}
    bench = copy()
    step = program("rows 0-3", target=encode_array(wanted), tolerance=0.5e-6, budget=6, **ladders)
    crashed(bench, plain_plan(step), 12)
    with bench.open() as session:
        first = next(iter(last_run(session).blocks("program")))
        description = first.path.with_suffix(".json")
        if how == "damaged":
            description.write_text("{")
        else:
            description.unlink()
            first.path.unlink()
        with suppress(DataError):  # to refuse it is as good
            session.resume("last", arm=DIE)
        assert hidden(session).pulses.max() <= 1 + 6


# order ------------------------------------------------------------------------------------------------------------------


def test_blocks_sort_as_executed_in_loops_of_more_than_ten_rounds(session):
    look = ReadStep(cells="row 0")
    inner = for_each([look], [look, ReadStep(cells="row 1", name="other")])
    result = session.run(Plan(name="nest", steps=(RepeatStep(times=12, steps=(inner, look)), look)))
    run = find_run(session.runs, result.run_id)
    blocks = list(run.blocks())
    found = [(block.dataset, *block.attributes.get("round", ())) for block in blocks]
    wanted = []
    for number in range(12):
        wanted += [("read", number, 0), ("read", number, 1), ("other", number, 1), ("read", number)]
    assert found == [*wanted, ("read",)]
    stamps = [block.path.stat().st_mtime_ns for block in blocks]
    assert stamps == sorted(stamps)
    assert [block.position for block in blocks] == sorted(block.position for block in blocks)
    assert [block.attributes.get("step") for block in blocks[:4]] == [
        "000-000-000",
        "000-000-000",
        "000-000-001",
        "000-001",
    ]
    assert all("labels" in block.attributes and "step" in block.attributes for block in blocks[:-1])
    assert not {"round", "labels", "step"} & set(blocks[-1].attributes)


def test_a_thousand_steps_sort_as_executed_and_their_waits_are_not_waited_again(copy):
    bench, anything = copy(), ExpectStep(window=Window(formed_fraction=(0.0, 1.0)), on_failure="continue")
    steps = [anything] * 1003
    for index in (8, 9, 10, 99, 100, 998, 999, 1000, 1001):
        steps[index] = ReadStep(cells=f"cell ({index % 8}, 0)")
    steps[50], steps[997], steps[1002] = WaitStep(time=3.0), WaitStep(time=4.0), reset("row 0")
    steps[0] = plain_plan().steps[0]
    plan = Plan(name="long", steps=tuple(steps))
    crashed(bench, plan, 1)
    with bench.open() as session:
        again = counted(session)
        run = last_run(session)
        rows = [
            int(np.argwhere(block.load()["valid"])[0][0] + block.attributes["rows"][0]) for block in run.blocks("read")
        ]
        assert rows == [index % 8 for index in (8, 9, 10, 99, 100, 998, 999, 1000, 1001)]
        session.resume(run.id, arm=DIE)
        assert again["waited"] == []
        assert again["read"] == 1  # the contact test


# loops that end ---------------------------------------------------------------------------------------------------------


def rounds_done(session, dataset="read"):
    return len({tuple(block.attributes["round"]) for block in last_run(session).blocks(dataset)})


def repeat_until(window, *steps, cells="rows 0-1", times=4):
    return plain_plan(RepeatStep(times=times, until=Until(cells=cells, window=window), steps=steps))


def test_a_loop_that_is_met_at_once_has_one_round(session):
    session.run(repeat_until(CONDUCTING, ReadStep(cells="rows 0-1")))
    assert rounds_done(session) == 1


def test_a_loop_that_is_never_met_has_all_its_rounds_and_is_no_failure(session):
    result = session.run(repeat_until(NEVER, ReadStep(cells="rows 0-1")))
    assert rounds_done(session) == 4
    assert result.passed
    assert last_run(session).record["status"] == "done"


def test_a_loop_ends_in_the_round_in_which_it_is_met(session):
    """The cells stop conducting before the third read."""
    reads = itertools.count(1)

    def listen(progress):
        if progress.message.startswith("read") and next(reads) == 3:
            tampered(session).conductance_S[:2] = 1e-7

    plan = repeat_until(Window(formed_fraction=(0.0, 0.1)), ReadStep(cells="rows 0-1"))
    session.run(plan, listen=listen)
    assert rounds_done(session) == 3


def test_cells_that_were_not_read_since_their_last_pulse_do_not_end_a_loop(session):
    plan = repeat_until(Window(formed_fraction=(0.0, 1.0)), reset("rows 0-1"), ReadStep(cells="row 0"))
    session.run(plan, arm=DIE)
    assert np.all(hidden(session).pulses[:2] == 1 + 4)


def test_a_loop_over_no_cell_at_all_is_not_met(session):
    session.run(repeat_until(Window(formed_fraction=(0.0, 1.0)), ReadStep(cells="row 0"), cells="row 0 - all"))
    assert rounds_done(session) == 4


def test_a_loop_is_judged_by_the_cells_that_can_be_decided(copy):
    """Rows 2-3 had a pulse that nobody can decide, and do not conduct: the loop ends by rows 0-1."""
    bench = copy()
    crashed(bench, plain_plan(reset("rows 2-3", 2.4)), 1, power_cut=True)
    with bench.open() as session:
        session.resume("last", arm=DIE)
        assert ledger_of(session).unknown().bits[2:4].all()
        before = hidden(session).pulses.copy()
        session.run(repeat_until(CONDUCTING, ReadStep(cells="rows 0-3"), cells="rows 0-3"))
        assert rounds_done(session) == 1
        assert np.array_equal(hidden(session).pulses, before)


# bystanders -------------------------------------------------------------------------------------------------------------


@given(cells=selections(Geometry(*SHAPE)), most=st.integers(0, 200), block_rows=st.integers(1, 12))
def test_bystanders_share_a_line_with_the_pulse_and_are_none_of_its_cells(small_table, cells, most, block_rows):
    from dataclasses import replace

    board = replace(small_table, geometry=Geometry(*SHAPE))
    found = list(operations(reset("all", bystanders=most), cells, board, block_rows, {}))
    pulsed = np.zeros(SHAPE, int)
    for index, operation in enumerate(found):
        if not isinstance(operation, PulseOp):
            continue
        bits = operation.cells.bits
        pulsed += bits
        if index == 0 or not isinstance(found[index - 1], Read):
            assert most == 0 or bits.all()
            continue
        before, after, check = found[index - 1], found[index + 1], found[index + 2]
        assert isinstance(check, Unchanged)
        assert before.cells == after.cells == check.cells
        chosen = before.cells.bits
        assert 1 <= chosen.sum() <= max(most, 8)
        assert not np.any(chosen & bits)
        shared = bits.any(axis=1)[:, None] | bits.any(axis=0)[None, :]
        assert np.all(shared[chosen])
    assert np.array_equal(pulsed, cells.bits)


def test_a_pulse_of_all_cells_has_no_bystanders_and_that_is_no_error(session):
    pilot = Pilot(rows=2, formed_fraction=(0.5, 1.0), median=(1e-6, 1e-3))
    session.run(plain_plan(pulse_step("rows 8-11", pilot=pilot)), arm=DIE)
    result = session.run(plain_plan(reset("all", bystanders=32), block_rows=64), arm=DIE)
    assert result.pulses == ROWS * COLUMNS
    assert result.checks == []
    assert not list(last_run(session).blocks("bystanders"))


@pytest.mark.parametrize("block", [1, 3, 5])
def test_a_disturbed_bystander_stops_the_run_at_that_block(session, block):
    """Five blocks in two rounds of a loop; one of them disturbs the formed rows that are not meant."""
    controller = session.bench.controllers[DIE]
    pulse, seen = controller.pulse, itertools.count(1)

    def disturbing(*arguments, **more):
        found = pulse(*arguments, **more)
        if next(seen) == block:
            tampered(session).conductance_S[:8, 4:] = 1e-7
        return found

    controller.pulse = disturbing
    loop = RepeatStep(times=2, steps=(reset("rows 0-5 & cols 0-3", 1.0, bystanders=32),))
    with pytest.raises(OutOfLimits, match="not pulsed changed"):
        session.run(plain_plan(loop, block_rows=2), arm=DIE)
    assert last_run(session).record["status"] == "failed"
    assert last_run(session).record["pulses"] == 8 * block
    assert hidden(session).pulses[:6, :4].sum() == 24 + 8 * block


# interrupts -------------------------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@posix
@pytest.mark.parametrize("where", ["pulse", "read", "wait"])
def test_the_first_ctrl_c_in_a_loop_stops_after_the_operation_in_flight(copy, where):
    bench = copy()
    body = (reset("rows 0-1"), ReadStep(cells="rows 0-1"), WaitStep(time=1.0))
    plan = plain_plan(RepeatStep(times=50, steps=(for_each(body),)))
    with bench.open() as session:
        controller = session.bench.controllers[DIE]
        original, seen = getattr(controller, where), itertools.count(1)

        def call(*arguments, **more):
            if next(seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments, **more)

        setattr(controller, where, call)
        done = counted(session)
        with pytest.raises(Stopped):
            session.run(plan, arm=DIE)
        assert (done[where], done["pulse"]) == (3, {"pulse": 3, "read": 2, "wait": 3}[where])
        assert last_run(session).record["status"] == "stopped"
        assert not ledger_of(session).dangling()
    with bench.open() as session:
        session.resume("last", arm=DIE)
        assert np.all(hidden(session).pulses[:2] == 51)


@posix
def test_a_stop_comes_through_in_a_loop_that_has_nothing_to_do(session):
    def stop(progress):
        os.kill(os.getpid(), signal.SIGINT)

    loop = RepeatStep(times=60, steps=(pulse_step("rows 0-1 & pristine"),))
    with pytest.raises(Stopped):
        session.run(plain_plan(loop), arm=DIE, listen=stop)
    assert len(list((last_run(session).folder / "selections").glob("*"))) <= 1


@contextmanager
def over_a_wire(bench, folder):
    """A host's session of the bench, whose board is served on a socket."""
    description = describe_bench(bench.folder)
    shutil.copytree(bench.folder / "drivers", folder / "drivers")
    served = serve_bench(description, "127.0.0.1", 0, 0, False, WireFaults(), 0.0, 0.0, False)
    write_host(served, description, folder, False)
    thread = threading.Thread(target=served.server.serve)
    thread.start()
    try:
        with rramlab.open_bench(folder) as session:
            yield session
    finally:
        served.server.stop()
        thread.join()
        served.server.close()


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stop_comes_through_in_a_long_wait_over_a_wire(copy, tmp_path, name):
    sent, over = [], threading.Event()
    with over_a_wire(copy(), tmp_path / "host") as session:

        def ask():
            while not over.wait(0.3):
                sent.append(1)
                os.kill(os.getpid(), getattr(signal, name))

        asking = threading.Thread(target=ask)

        def listen(progress):
            if "wait" in progress.message:
                asking.start()

        with pytest.raises(Stopped):
            session.run(Plan(name="long", steps=(WaitStep(time=3600.0), ReadStep())), listen=listen)
        over.set()
        asking.join()
        assert last_run(session).record["status"] == "stopped"
        assert not list(last_run(session).blocks())
    assert len(sent) == 1


def test_the_cells_that_a_person_names_are_all_that_is_pulsed_in_any_round(session):
    """A loop over a region that shrinks as it is pulsed: pristine cells get one pulse, and then there are none."""
    loop = RepeatStep(times=3, steps=(pulse_step("pristine & rows 8-9"), ReadStep(cells="rows 8-9")))
    session.run(plain_plan(loop), arm=DIE)
    wanted = np.ones(SHAPE, int)
    wanted[10:] = 0
    assert np.array_equal(hidden(session).pulses, wanted)
    assert CellSelection(wanted > 0) == CellSelection(ledger_of(session).pulse_counts() > 0)
