"""Write-verify: which pulses follow from what was read, within budget and ladder; and what it comes to on a die."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from workbench import SmallBench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import RramlabError
from rramlab.macro.cells import CellSelection
from rramlab.plan.programming import AmplitudeLadder, WidthLadder, WriteVerify, encode_array
from rramlab.plan.steps import Pilot, ProgramStep, ReadStep
from rramlab.plan.worst import bounds, worst_case
from rramlab.runs.store import find_run

DIE = "small-1"
SHAPE = (6, 5)
FORMED = {"formed_fraction": (0.5, 1.0), "median": (1e-6, 1e-3)}


def ladder(start=0.8, to=2.4, step=0.1, **more):
    return {"start": start, "to": to, "step": step, "width": 1e-6, **more}


def program(**changes):
    return ProgramStep(
        **{
            "cells": "all",
            "target": 12e-6,
            "tolerance": 1e-6,
            "budget": 5,
            "set": ladder(gate=1.6),
            "reset": ladder(gate=3.0),
            **changes,
        }
    )


def widths(**more):
    return {"start": 1e-7, "to": 1e-3, "factor": 10.0, "voltage": 1.8, **more}


# The rules, whatever a cell answers --------------------------------------------------------------------------------------

conductances = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, np.float32(1e-4), width=32))
targets = hnp.arrays(np.float32, SHAPE, elements=st.sampled_from(np.float32([np.nan, 1e-9, 5e-6, 12e-6, 90e-6])))
steps = st.builds(
    lambda target, budget, tolerance, by: program(
        target=encode_array(target) if isinstance(target, np.ndarray) else target,
        budget=budget,
        tolerance=tolerance,
        by=by,
        **({"set": widths(gate=1.6), "reset": widths(gate=3.0)} if by == "width" else {}),
    ),
    targets | st.just(12e-6),
    st.integers(1, 6),
    st.sampled_from([1e-7, 2e-6, 4e-5]),
    st.sampled_from(["amplitude", "width"]),
)


def strength(pulse, by):
    return pulse.amplitude_V if by == "amplitude" else pulse.width_s


def programmed(step, cells, answers, block_rows):
    """Let cells answer at random until write-verify is done; return its state and what each cell saw and was sent."""
    verify = WriteVerify(step, cells, 3)
    told = {place: [] for place in np.ndindex(SHAPE)}
    for answer in answers:
        if not verify.pending.count:
            break
        asked = verify.pending.bits.copy()
        verify.see(np.where(asked, answer, np.float32(np.nan)))
        for place in np.argwhere(asked):
            told[tuple(place)].append(("seen", answer[tuple(place)], None))
        sent = np.zeros(SHAPE, int)
        for pulse in verify.pulses(block_rows):
            sent += pulse.cells.bits
            assert np.ptp(pulse.cells.rows) < block_rows
            for place in np.argwhere(pulse.cells.bits):
                told[tuple(place)].append((pulse.kind, None, pulse.pulse))
        assert np.array_equal(sent, verify.pending.bits)  # one pulse for each cell that is out, none for any other
    return verify, told


@settings(max_examples=40)
@given(
    step=steps,
    chosen=hnp.arrays(np.bool_, SHAPE),
    answers=st.lists(conductances, min_size=7, max_size=7),
    rows=st.integers(1, 6),
)
def test_write_verify_keeps_its_rules_whatever_the_cells_answer(step, chosen, answers, rows):
    cells = CellSelection(chosen)
    wanted = step.targets_S(cells)
    verify, told = programmed(step, cells, answers, rows)
    assert not verify.pending.count  # budget + 1 verifications end it
    for place, story in told.items():
        pulses = [(kind, pulse) for kind, _, pulse in story if pulse is not None]
        assert len(pulses) <= step.budget
        assert verify.used[place] == len(pulses)
        if not chosen[place] or np.isnan(wanted[place]):
            assert not story  # neither read nor pulsed
            continue
        assert story[-1][0] == "seen"  # what the last pulse did is known
        previous = None
        for (_, seen, _), (kind, _, pulse) in zip(story[0::2], story[1::2], strict=False):
            assert abs(seen - wanted[place]) > np.float32(step.tolerance)
            assert kind == ("set" if seen < wanted[place] else "reset")
            steps_of = step.set if kind == "set" else step.reset
            least, most = (strength(steps_of.pulse(level), step.by) for level in (0, 10**6))
            now = strength(pulse, step.by)
            if previous is None or previous[0] != kind:
                assert now == least  # it begins at the bottom
            else:
                assert previous[1] < now <= most or now == previous[1] == most  # and rises
            assert pulse.gate_V == steps_of.gate
            previous = kind, now
        inside = abs(story[-1][1] - wanted[place]) <= np.float32(step.tolerance)
        assert verify.reached[place] == inside
        assert inside or len(pulses) == step.budget


@settings(max_examples=20)
@given(step=steps, answers=st.lists(conductances, min_size=7, max_size=7), rows=st.integers(1, 5))
def test_the_same_reads_give_the_same_pulses_in_other_blocks(step, answers, rows):
    everything = CellSelection(np.ones(SHAPE, np.bool_))
    (_, one), (_, other) = programmed(step, everything, answers, 6), programmed(step, everything, answers, rows)
    assert one == other


@given(start=st.integers(100, 3000), rise=st.integers(0, 2000), step=st.integers(1, 700))
def test_an_amplitude_ladder_rises_from_its_start_and_never_above_its_end(start, rise, step):
    """In whole millivolts, so that what fits is known exactly."""
    assume(rise // step < 1000)
    rising = AmplitudeLadder(start=start / 1000, to=(start + rise) / 1000, step=step / 1000, width=1e-6, gate=1.6)
    volts = [rising.pulse(level).amplitude_V for level in range(rising.levels + 2)]
    assert rising.levels == rise // step + 1
    assert volts[0] == start / 1000
    assert max(volts) <= rising.to
    assert volts[rising.levels - 1] == pytest.approx((start + rise // step * step) / 1000)
    assert np.all(np.diff(volts[: rising.levels]) > 0)
    assert volts[rising.levels - 1] == volts[rising.levels] == volts[rising.levels + 1]


@given(st.integers(1, 10**6), st.integers(0, 6), st.sampled_from([1.5, 2.0, 10.0]))
def test_a_width_ladder_rises_from_its_start_and_never_above_its_end(start_ns, powers, factor):
    rising = WidthLadder(
        start=start_ns * 1e-9, to=start_ns * 1e-9 * factor**powers, factor=factor, voltage=1.8, gate=1.6
    )
    seconds = [rising.pulse(level).width_s for level in range(powers + 3)]
    assert rising.levels == powers + 1
    assert max(seconds) <= rising.to
    assert seconds[: powers + 1] == pytest.approx([start_ns * 1e-9 * factor**n for n in range(powers + 1)])
    assert seconds[powers:] == [seconds[powers]] * 3


# What is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"target": 0.0},
        {"target": -1e-6},
        {"target": float("nan")},
        {"target": float("inf")},
        {"target": "targets.npy"},
        {"target": "array(2x2:AAAA)"},
        {"target": encode_array(np.array([[-1e-6]]))},
        {"target": encode_array(np.array([[np.inf]]))},
        {"tolerance": 0.0},
        {"tolerance": float("nan")},
        {"budget": 0},
        {"budget": 10_001},
        {"set": ladder(2.4, 0.8, gate=1.6)},
        {"set": ladder(step=0.0, gate=1.6)},
        {"set": ladder(step=1e-6, gate=1.6)},
        {"set": widths(gate=1.6)},
        {"by": "width"},
        {"by": "width", "set": widths(gate=1.6), "reset": ladder(gate=3.0)},
        {"by": "width", "set": widths(gate=1.6, factor=1.0), "reset": widths(gate=3.0)},
        {"set": ladder(step=1e-320, gate=1.6)},
        {"by": "width", "set": widths(gate=1.6, start=1e-300, to=1e300), "reset": widths(gate=3.0)},
    ],
)
def test_impossible_write_verify_is_refused(changes):
    with pytest.raises(ValidationError):
        program(**changes)


@pytest.fixture
def formed(tmp_path):
    """A session whose die is formed in rows 0-3."""
    with SmallBench(tmp_path).write().open() as session:
        pilot = Pilot(rows=2, **FORMED)
        session.run(plain_plan(pulse_step("rows 0-3", pilot=pilot), ReadStep()), arm=DIE)
        yield session


def refused_before_anything(session, step, match):
    runs = len(list(session.runs.iterdir()))
    with pytest.raises(RramlabError, match=match):
        session.run(plain_plan(step), arm=DIE)
    assert len(list(session.runs.iterdir())) == runs  # not even begun
    assert hidden(session).pulses.max() == 1


def test_targets_of_another_array_are_refused_before_anything_is_energised(formed):
    refused_before_anything(formed, program(cells="rows 0-3", target=encode_array(np.full((3, 3), 1e-5))), "3")


@pytest.mark.parametrize("target", [1.0, encode_array(np.full((32, 16), 1e-3))])
def test_a_target_above_what_can_be_read_is_refused_before_anything_is_energised(formed, target):
    refused_before_anything(formed, program(cells="rows 0-3", target=target), "target")


def test_a_ladder_above_a_limit_is_refused_before_anything_is_energised(formed):
    refused_before_anything(formed, program(cells="rows 0-3", reset=ladder(to=2.6, gate=3.0)), "reset_voltage")
    refused_before_anything(formed, program(cells="rows 0-3", set=ladder(gate=3.4)), "gate_voltage")


# On a die ----------------------------------------------------------------------------------------------------------------


def test_targets_of_an_array_are_met_one_by_one_and_cells_without_one_are_left_alone(formed):
    wanted = np.full((32, 16), np.nan)
    wanted[0, :], wanted[1, 0::2], wanted[2, 1::2] = 12e-6, 8e-6, 4e-6
    has_one = ~np.isnan(wanted)
    before = ledger_of(formed).pulse_counts()
    step = program(cells="rows 0-3", target=encode_array(wanted), tolerance=2e-6, budget=40)
    result = formed.run(plain_plan(step), arm=DIE)
    given = ledger_of(formed).pulse_counts() - before
    assert np.array_equal(ledger_of(formed).pulse_counts(), hidden(formed).pulses)
    assert not given[~has_one].any()
    (outcome,) = result.programs
    assert outcome["cells"] == has_one.sum()
    assert outcome["reached"] >= 0.85 * has_one.sum()
    assert outcome["pulses"] == given.sum()
    assert outcome["most_pulses"] == given.max() <= 40
    first = next(iter(find_run(formed.runs, result.run_id).blocks("program"))).load()
    read = np.full((32, 16), np.nan)
    read[: len(first)] = np.where(first["valid"], first["conductance"], np.nan)
    assert not given[np.abs(read - wanted) <= 2e-6].any()  # in tolerance from the beginning
    assert np.all(given[np.abs(read - wanted) > 2e-6] > 0)


def test_cells_without_a_target_are_not_in_the_worst_case(formed):
    """All cells are named, pristine ones too; the array says which are meant."""
    wanted = np.full((32, 16), np.nan)
    wanted[:4] = 12e-6
    plan = plain_plan(program(target=encode_array(wanted)))
    board = formed.description.board
    assert bounds(worst_case(plan, board), board).cells == 4 * 16
    formed.run(plan, arm=DIE)
    assert not hidden(formed).pulses[4:].any()


SPREAD_S = np.array([2e-6, 4e-6, 8e-6, 12e-6])


@pytest.mark.parametrize("by", ["amplitude", "width"])
def test_write_verify_converges_for_a_spread_of_targets(formed, by):
    """On the model of the die that is shipped, targets side by side in each row.

    They are below the median that the gate of 1.6 V allows, about 12 µS: a cell is not set above it for long.
    """
    wanted = np.resize(SPREAD_S, (32, 16))
    if by == "amplitude":
        ladders = {"set": ladder(start=1.0, gate=1.6), "reset": ladder(start=1.0, gate=3.0)}
    else:
        ladders = {"set": widths(gate=1.6, factor=2.0), "reset": widths(gate=3.0, factor=2.0)}
    step = program(cells="rows 0-1", target=encode_array(wanted), tolerance=2e-6, budget=50, by=by, **ladders)
    (outcome,) = formed.run(plain_plan(step), arm=DIE).programs
    assert outcome["cells"] == 32
    assert outcome["reached"] >= 0.9 * 32
    assert outcome["rms_error_S"] < 3e-6
    assert outcome["most_pulses"] <= 50
