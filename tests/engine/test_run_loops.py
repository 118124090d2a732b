"""Loops, waits, write-verify and bystanders, through a session on a small simulated bench."""

import itertools
import json

import numpy as np
import pytest
from workbench import SmallBench, child, conducting_now, hidden, ledger_of, plain_plan, pulse_step, tampered

from rramlab.base.errors import OutOfLimits, Refused, Stopped
from rramlab.macro.cells import CellSelection
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ForEachStep, ProgramStep, ReadStep, RepeatStep, Round, Until, WaitStep, Window
from rramlab.runs.store import find_run

DIE = "small-1"
SET = {"voltage": 2.0, "width": 1e-6, "gate": 1.6}
RESET = {"voltage": 2.0, "width": 1e-6, "gate": 3.0}


@pytest.fixture
def session(tmp_path):
    with SmallBench(tmp_path).write().open() as opened:
        yield opened


def formed(session, cells="rows 0-3"):
    session.run(plain_plan(pulse_step(cells), name="form"), arm=DIE)


def cycle(times, *more, cells="rows 0-1", until=None):
    steps = (pulse_step(cells, "reset", **RESET), pulse_step(cells, "set", **SET), *more)
    return RepeatStep(times=times, until=until, steps=steps)


def rounds_of(run, dataset):
    return [(block.attributes["round"], block.attributes["step"]) for block in run.blocks(dataset)]


def test_a_repeat_does_its_steps_in_order_as_often_as_said(session):
    formed(session)
    result = session.run(plain_plan(cycle(3, ReadStep(cells="rows 0-1", name="after")), name="cycle"), arm=DIE)
    kinds = [entry.kind for entry in ledger_of(session).of_run(result.run_id)]
    assert kinds == ["reset", "set"] * 3
    assert np.all(hidden(session).pulses[:2] == 7)
    assert not np.any(hidden(session).pulses[4:])
    run = find_run(session.runs, result.run_id)
    assert rounds_of(run, "after") == [([0], "001-002"), ([1], "001-002"), ([2], "001-002")]


def test_a_repeat_ends_when_the_last_read_is_as_wanted(session):
    formed(session)
    until = Until(cells="rows 0-1", window=Window(formed_fraction=(0.0, 1.0)))
    result = session.run(plain_plan(cycle(5, ReadStep(cells="rows 0-1"), until=until), name="cycle"), arm=DIE)
    assert result.pulses == 2 * 2 * 16
    never = Until(cells="rows 0-1", window=Window(median=(1.0, 2.0)))
    result = session.run(plain_plan(cycle(2, ReadStep(cells="rows 0-1"), until=never), name="cycle"), arm=DIE)
    assert result.pulses == 2 * 2 * 2 * 16


def test_the_end_of_a_loop_is_told_and_the_reads_that_it_rests_on(session):
    earlier = session.run(plain_plan(ReadStep())).run_id
    until = Until(cells="rows 0-3", window=Window(formed_fraction=(0.0, 1.0)))
    loop = RepeatStep(times=3, steps=(ReadStep(cells="rows 0-1"),), until=until)
    result = session.run(plain_plan(loop))
    (ended,) = result.loops
    assert ended["passed"]
    assert (ended["step"], ended["round"]) == ("001", [0])
    (rests,) = ended["rests_on"]
    assert (rests["run"], rests["cells"]) == (earlier, 2 * 16)
    never = RepeatStep(times=3, steps=loop.steps, until=Until(cells="rows 0-1", window=Window(median=(1.0, 2.0))))
    twice = ForEachStep(name="n", rounds=(Round(value=1, steps=(never,)), Round(value=2, steps=(never,))))
    result = session.run(plain_plan(twice))
    assert [(each["step"], each["round"], each["passed"]) for each in result.loops] == [
        ("001-000", [0, 2], False),
        ("001-000", [1, 2], False),
    ]
    assert "rests_on" not in result.loops[0]
    assert result.passed  # no check failed: it went round as often as it may
    assert find_run(session.runs, result.run_id).record["loops"] == json.loads(json.dumps(result.loops))


def test_for_each_labels_what_it_measures(session):
    formed(session)
    rounds = tuple(
        Round(
            value=volts,
            unit="V",
            steps=(pulse_step("row 0", "reset", **{**RESET, "voltage": volts}), ReadStep(cells="row 0")),
        )
        for volts in (1.2, 1.6, 2.0)
    )
    result = session.run(plain_plan(ForEachStep(name="voltage", rounds=rounds), name="ladder"), arm=DIE)
    run = find_run(session.runs, result.run_id)
    assert [block.attributes["labels"] for block in run.blocks("read")] == [
        {"voltage": [v, "V"]} for v in (1.2, 1.6, 2.0)
    ]
    assert [entry.pulse.amplitude_V for entry in ledger_of(session).of_run(result.run_id)] == [1.2, 1.6, 2.0]


def test_loops_in_loops_number_their_rounds_from_the_outside(session):
    inner = RepeatStep(times=2, steps=(ReadStep(cells="row 0"),))
    outer = ForEachStep(name="n", rounds=tuple(Round(value=n, steps=(inner,)) for n in (5, 7)))
    run = find_run(session.runs, session.run(Plan(name="nested", steps=(outer,))).run_id)
    assert rounds_of(run, "read") == [([a, b], "000-000-000") for a, b in itertools.product((0, 1), (0, 1))]
    assert [block.attributes["labels"]["n"] for block in run.blocks("read")] == [[5, ""], [5, ""], [7, ""], [7, ""]]


def test_loops_deeper_than_three_are_refused():
    steps = (ReadStep(),)
    for _ in range(3):
        steps = (RepeatStep(times=2, steps=steps),)
    Plan(name="deep", steps=steps)
    with pytest.raises(ValueError, match="4 deep"):
        Plan(name="deep", steps=(RepeatStep(times=2, steps=steps),))


def test_wear_counts_every_round(tmp_path):
    limits = "{electroform_voltage: 4.0 V, set_voltage: 2.5 V, reset_voltage: 2.5 V, gate_voltage: 3.3 V, pulses_per_cell: 7}"
    with SmallBench(tmp_path, limits=limits).write().open() as session:
        formed(session)
        with pytest.raises(Refused, match="wear budget of 7"):
            session.run(plain_plan(cycle(4), name="cycle"), arm=DIE)
        assert hidden(session).pulses.max() == 1
        with pytest.raises(Refused, match="wear budget"):
            session.run(plain_plan(RepeatStep(times=2, steps=(cycle(2),)), name="cycle"), arm=DIE)
        session.run(plain_plan(cycle(3), name="cycle"), arm=DIE)
        assert hidden(session).pulses.max() == 7


def test_a_set_of_pristine_cells_hidden_in_a_loop_is_refused(session):
    with pytest.raises(Refused, match="pristine"):
        session.run(plain_plan(RepeatStep(times=2, steps=(pulse_step("row 9", "set", **SET),))), arm=DIE)
    assert not hidden(session).pulses.any()


def test_forming_in_a_loop_needs_a_pilot_like_any_other(session):
    with pytest.raises(Refused, match="pilot"):
        session.run(plain_plan(RepeatStep(times=2, steps=(pulse_step("rows 0-5"),))), arm=DIE)


def test_a_wait_passes_time_on_the_die_and_energises_nothing(session):
    before = hidden(session).clock_ns
    session.run(Plan(name="pause", steps=(WaitStep(time=2.5),)))
    assert hidden(session).clock_ns - before == 2_500_000_000
    assert not ledger_of(session).history()


def test_bounds_are_the_worst_of_all_rounds(session):
    plan = plain_plan(cycle(1000, WaitStep(time=1.0), cells="rows 4-5"), pulse_step("rows 4-5"), name="cycle")
    from rramlab.plan.worst import bounds, worst_case

    found = bounds(worst_case(plan, session.description.board), session.description.board)
    assert found.pulses == (2000 + 1) * 32
    assert found.pulses_per_cell == 2001
    assert found.time_s > 1000


INTERRUPTED = """
import os, sys
from workbench import SmallBench, plain_plan, pulse_step
from rramlab.plan.plan import Plan
from pathlib import Path
import rramlab
from rramlab.plan.plan import Plan
plan = Plan.model_validate_json(Path(sys.argv[2]).read_text())
with rramlab.open_bench(Path(sys.argv[1])) as session:
    controller = session.bench.controllers["small-1"]
    pulse, left = controller.pulse, [int(sys.argv[3])]
    def dying(*arguments, **more):
        left[0] -= 1
        if not left[0]:
            os._exit(9)
        found = pulse(*arguments, **more)
        controller.persist()
        return found
    controller.pulse = dying
    session.run(plan, arm="small-1")
"""


@pytest.mark.parametrize("moment", [1, 4, 6])
def test_a_killed_loop_goes_on_where_it_was(tmp_path, moment):
    plan = plain_plan(cycle(3, WaitStep(time=0.5), ReadStep(cells="rows 0-1")), name="cycle")
    with SmallBench(tmp_path / "whole").write().open() as session:
        formed(session)
        session.run(plan, arm=DIE)
        wanted, pulses = hidden(session).conductance_S.copy(), hidden(session).pulses.copy()
    with SmallBench(tmp_path / "killed").write().open() as session:
        formed(session)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    process = child(INTERRUPTED, tmp_path / "killed", tmp_path / "plan.json", moment)
    process.communicate(timeout=60)
    assert process.returncode == 9
    with SmallBench(tmp_path / "killed").open() as session:
        result = session.resume("last", arm=DIE)
        assert np.array_equal(hidden(session).pulses, pulses)
        assert np.array_equal(hidden(session).conductance_S, wanted)
        assert np.array_equal(ledger_of(session).pulse_counts(), pulses)
        assert len(list(find_run(session.runs, result.run_id).blocks("read"))) == 3


def program(**changes):
    ladder = {"start": 0.8, "to": 2.4, "step": 0.05, "width": 1e-6}
    return ProgramStep(
        **{
            "cells": "rows 0-3",
            "target": 12e-6,
            "tolerance": 2e-6,
            "budget": 40,
            "set": {**ladder, "gate": 1.6},
            "reset": {**ladder, "gate": 3.0},
            **changes,
        }
    )


def test_write_verify_brings_cells_to_their_target(session):
    formed(session)
    result = session.run(plain_plan(program(), name="program"), arm=DIE)
    (outcome,) = result.programs
    assert outcome["cells"] == 64
    assert outcome["reached"] >= 55
    assert outcome["most_pulses"] <= 40
    used = ledger_of(session).pulse_counts()[:4] - 1
    assert used.max() <= 40
    assert used.sum() == outcome["pulses"] == result.pulses
    inside = np.abs(conducting_now(session)[:4] - 12e-6) < 3.5e-6  # relaxation and read noise beside the tolerance
    assert inside.mean() > 0.8
    assert not hidden(session).pulses[4:].any()


def test_cells_in_tolerance_are_not_pulsed(session):
    formed(session)
    result = session.run(plain_plan(program(tolerance=1.0), name="program"), arm=DIE)
    assert result.pulses == 0
    assert result.programs[0]["reached"] == 64


def test_a_budget_is_kept_and_what_was_not_reached_is_said(session):
    formed(session)
    result = session.run(plain_plan(program(target=90e-6, budget=3), name="program"), arm=DIE)
    assert result.pulses == 3 * 64
    assert result.programs[0]["reached"] == 0
    assert result.programs[0]["rms_error_S"] > 10e-6


def test_each_verification_is_a_round_of_its_data_set(session):
    formed(session)
    result = session.run(plain_plan(program(target=90e-6, budget=2), name="program"), arm=DIE)
    run = find_run(session.runs, result.run_id)
    assert rounds_of(run, "program") == [([n], "001") for n in range(3)]


def test_pristine_cells_are_not_programmed(session):
    with pytest.raises(Refused, match="pristine"):
        session.run(plain_plan(program(cells="rows 8-9"), name="program"), arm=DIE)
    assert not hidden(session).pulses.any()


def test_the_ladder_rises_with_each_further_pulse_and_begins_anew_when_the_direction_changes():
    from rramlab.plan.programming import WriteVerify

    one = CellSelection(np.ones((1, 1), np.bool_))
    verify = WriteVerify(program(cells="row 0", target=10e-6, tolerance=1e-6), one, 8)
    sent = []
    for seen in (5e-6, 6e-6, 7e-6, 20e-6, 15e-6, 3e-6, 10e-6):
        verify.see(np.array([[seen]], np.float32))
        sent += [(each.kind, round(each.pulse.amplitude_V, 3)) for each in verify.pulses(64)]
    assert sent == [("set", 0.8), ("set", 0.85), ("set", 0.9), ("reset", 0.8), ("reset", 0.85), ("set", 0.8)]
    assert verify.reached.all()


def test_widths_can_rise_instead():
    ladder = {"start": 1e-7, "to": 1e-3, "factor": 10, "voltage": 1.8}
    step = program(by="width", set={**ladder, "gate": 1.6}, reset={**ladder, "gate": 3.0})
    assert step.set.levels == 5
    assert [step.set.pulse(level).width_s for level in (0, 2, 4, 9)] == pytest.approx([1e-7, 1e-5, 1e-3, 1e-3])
    with pytest.raises(ValueError, match="factor"):
        program(by="width")


@pytest.mark.parametrize("moment", [1, 3, 7])
def test_a_killed_write_verify_goes_on_from_what_it_read(tmp_path, moment):
    """Not bit for bit: the contact test is made anew, and a conversion more is another noise."""
    plan = plain_plan(program(), name="program")
    with SmallBench(tmp_path / "killed").write().open() as session:
        formed(session)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    process = child(INTERRUPTED, tmp_path / "killed", tmp_path / "plan.json", moment)
    process.communicate(timeout=60)
    assert process.returncode == 9
    with SmallBench(tmp_path / "killed").open() as session:
        result = session.resume("last", arm=DIE)
        pulses = hidden(session).pulses
        assert np.array_equal(ledger_of(session).pulse_counts(), pulses)
        assert pulses.max() <= 41
        assert result.programs[0]["pulses"] == pulses.sum() - 64
        assert result.programs[0]["reached"] >= 55


def test_bystanders_that_change_stop_the_run(session):
    formed(session, "rows 0-1")
    controller = session.bench.controllers[DIE]
    pulse = controller.pulse

    def disturbing(*arguments, **more):
        found = pulse(*arguments, **more)
        tampered(session).conductance_S[:2] = 1e-7  # the formed rows beside lose their state
        return found

    controller.pulse = disturbing
    plan = plain_plan(pulse_step("rows 2-3", bystanders=32), pulse_step("rows 8-9", bystanders=32), name="more")
    with pytest.raises(OutOfLimits, match="were not pulsed changed, the first at"):
        session.run(plan, arm=DIE)
    assert not hidden(session).pulses[4:].any()


def test_bystanders_that_stay_are_compared_and_kept(session):
    formed(session, "rows 0-1")
    result = session.run(plain_plan(pulse_step("rows 2-3", bystanders=32), name="more"), arm=DIE)
    run = find_run(session.runs, result.run_id)
    before, after = run.block("001.00000", "bystanders-before"), run.block("001.00002", "bystanders")
    mask = before.load()["valid"]
    assert np.array_equal(mask, after.load()["valid"])
    assert 16 <= mask.sum() <= 32
    assert run.record["bystanders"] == result.bystanders == 1


def test_progress_tells_what_formed(session):
    told = []
    plan = plain_plan(pulse_step("rows 0-3"), ReadStep(), WaitStep(time=1.0), name="form")
    session.run(plan, arm=DIE, listen=told.append)
    assert told[-1].message == "done"
    assert told[-1].done == told[-1].total == len(told) - 1


def test_ctrl_c_stops_a_loop_between_operations(session):
    formed(session)
    count = itertools.count()

    def listen(progress):
        if next(count) == 5:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Stopped)):
        session.run(plain_plan(cycle(50), name="cycle"), arm=DIE, listen=listen)
    run = find_run(session.runs, "last")
    assert run.record["status"] == "stopped"
    session.resume(run.id, arm=DIE)
    assert np.all(hidden(session).pulses[:2] == 101)
