"""Forming: bit lines that droop when cells form together, partial forming, over-stress, cells that are stuck."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from workbench import ones

from rramlab.macro.cells import CONDUCTING_THRESHOLD_S, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.drive import Drive
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.state import HIGH, LOW, PARTIAL, PRISTINE, STUCK

SMALL, MIDDLE = Geometry(12, 16), Geometry(64, 64)
FORM = Pulse(3.75, 1e-6, 1.6)
NONE_STUCK = {"stuck_low_share": 0.0, "stuck_high_share": 0.0}


def die(geometry=MIDDLE, seed=1, preset="published", **parts):
    changes = {"forming": {**NONE_STUCK, **parts.pop("forming", {})}, **parts}
    return SimulatedDie(geometry, DieModel.preset(preset, changes), seed)


def conducting(some):
    return some.state.conductance_S >= CONDUCTING_THRESHOLD_S


def formed(some, volts=3.5, drive=None, width=1e-6, gate=1.6, cells=None):
    """Form with one pulse; return which cells conduct."""
    some.pulse("electroform", cells or ones(some.geometry), Pulse(volts, width, gate), drive or Drive())
    return conducting(some)


def drooping(rows, together, ohm=125.0):
    return Drive(together, np.broadcast_to(np.asarray(ohm, float), (rows,)))


# droop ----------------------------------------------------------------------------------------------------------


def brute_force(some, bits, volts, together, ohm, gate):
    """Return which cells form, cell by cell: of each shot the weakest goes first, and lifts the line for the next.

    Also the shots in which a cell is so close to the edge (2 µV) that rounding may decide.
    """
    ampere = some.model.conductance.current(gate)
    forms, close = np.zeros(bits.shape, bool), np.zeros(bits.shape, bool)
    for row in range(bits.shape[0]):
        chosen = np.flatnonzero(bits[row]).tolist()
        for start in range(0, len(chosen), together):
            shot = chosen[start : start + together]
            on = sum(some.state.phase[row, column] == LOW for column in shot)
            waiting = [c for c in shot if some.state.phase[row, c] in (PRISTINE, PARTIAL)]
            for column in sorted(waiting, key=lambda c: some.breakdown_V[row, c]):
                margin = volts - on * ampere * ohm[row] - float(some.breakdown_V[row, column])
                if abs(margin) < 2e-6:
                    close[row, shot] = True
                if margin < 0:
                    break
                forms[row, column] = True
                on += 1
    return forms, close


@given(
    st.sampled_from([0.0, 0.2, 0.8]),
    st.sampled_from([0.05, 0.5, 1.0]),
    st.integers(1, 20),
    hnp.arrays(np.float64, SMALL.rows, elements=st.sampled_from([0.0, 60.0, 125.0, 400.0, 2500.0])),
    st.sampled_from([3.3, 3.45, 3.55, 3.75]),
    st.sampled_from([0.8, 1.6, 3.0]),
    st.integers(0, 50),
)
def test_droop_is_that_of_a_brute_force_cell_by_cell(formed_share, share, together, ohm, volts, gate, seed):
    """Weakest first, on top of what of the shot conducts already; other shots and other rows do not matter."""
    some, rng = die(SMALL, seed), np.random.default_rng(seed)
    before, bits = rng.random(SMALL.shape) < formed_share, rng.random(SMALL.shape) < share
    formed(some, 3.4, cells=CellSelection(before))
    low = some.state.phase == LOW
    expected, close = brute_force(some, bits, volts, together, ohm, gate)
    formed(some, volts, Drive(together, ohm), gate=gate, cells=CellSelection(bits))
    now = some.state.phase == LOW
    assert np.array_equal((now & ~low)[~close], expected[~close])
    assert np.all(now[low])


@pytest.mark.parametrize("together", [2, 8, 64])
def test_the_same_cells_driven_alone_form_more(together):
    """With 8 cells at a time a cell in some ten sees less than it needs; which ones is not drawn anew."""
    alone, both = die(), die()
    free, drooped = formed(alone), formed(both, drive=drooping(64, together))
    assert not np.any(drooped & ~free)  # whoever forms under droop forms alone
    lost = np.count_nonzero(free) - np.count_nonzero(drooped)
    assert lost > 0
    # What is lost needed more volts than what formed, on average: the weakest went first.
    assert some_volts(alone, free & ~drooped) > some_volts(alone, drooped)
    # And a further pulse with nobody beside brings it back.
    formed(both)
    assert np.array_equal(both.state.phase == LOW, alone.state.phase == LOW)


def some_volts(some, cells):
    return float(some.breakdown_V[cells].mean())


def test_more_cells_at_once_and_more_resistance_lose_more():
    fractions = [formed(die(), drive=drooping(64, together)).mean() for together in (1, 2, 4, 8, 16, 64)]
    assert fractions == sorted(set(fractions), reverse=True)
    fractions = [formed(die(), drive=drooping(64, 16, ohm)).mean() for ohm in (0, 50, 125, 300, 1000)]
    assert fractions == sorted(set(fractions), reverse=True)
    assert np.array_equal(formed(die(), drive=drooping(64, 16, 0)), formed(die()))


def test_a_higher_gate_droops_more_for_the_compliance_is_higher():
    lost = []
    for gate in (0.8, 1.6, 3.2):
        free = formed(die(), gate=gate)
        lost.append(np.count_nonzero(free) - np.count_nonzero(formed(die(), drive=drooping(64, 16), gate=gate)))
    assert lost == sorted(set(lost))
    assert lost[0] > 0


def test_cells_that_conduct_already_lift_the_line_too():
    """Of two neighbours in one shot, the second forms or not by what the first does."""
    geometry = Geometry(64, 2)
    alone, beside = die(geometry), die(geometry)
    first, second = np.zeros((64, 2), bool), np.zeros((64, 2), bool)
    first[:, 0] = second[:, 1] = True
    for each in (alone, beside):
        formed(each, 4.0, cells=CellSelection(first))
        assert conducting(each)[:, 0].all()
    drive = drooping(64, 2, 5000.0)  # 80 mV a cell
    formed(alone, 3.45, drive, cells=CellSelection(second))
    formed(beside, 3.45, drive, cells=ones(geometry))
    share_alone, share_beside = conducting(alone)[:, 1], conducting(beside)[:, 1]
    lift = 5000.0 * alone.model.conductance.current(1.6)
    assert np.array_equal(share_alone, alone.breakdown_V[:, 1] <= 3.45)
    assert np.array_equal(share_beside, alone.breakdown_V[:, 1] <= 3.45 - lift)
    assert np.count_nonzero(share_alone) > np.count_nonzero(share_beside) > 0


def test_cells_that_will_never_form_draw_nothing_and_lift_nothing():
    """Stuck low: 0.1 µS takes a fortieth of the compliance, so its neighbours form as if it were not there."""
    geometry = Geometry(64, 16)
    some = die(geometry, seed=4, forming={"stuck_low_share": 0.5})
    dead = some.state.phase == STUCK
    assert 0.3 < dead.mean() < 0.7
    ohm = np.full(64, 1000.0)
    expected, close = brute_force(some, np.ones(geometry.shape, bool), 3.45, 16, ohm, 1.6)
    assert not np.any(expected & dead)
    formed(some, 3.45, Drive(16, ohm))
    assert np.array_equal((some.state.phase == LOW)[~close], expected[~close])


def test_the_board_drives_as_many_cells_together_as_the_operation_says(small_table):
    """Through the controller: the board's own switches; a board without droop is the die alone."""
    counts = {}
    for preset, together in (("published", 1), ("published", 4), ("published", 16), ("ideal", 16)):
        model = BoardModel.preset(preset, {"dac_gain_sigma": 0.0, "dac_offset_sigma_V": 0.0})
        table = replace(small_table, switch_resistance_Ohm=1000.0)
        board = SimulatedBoard(table, model, "B-1", 5)
        controller = SimulatedController(die(table.geometry, 3), board)
        volts, gate = table.dac_code(3.5), table.dac_code(1.6)
        controller.pulse(1, "electroform", ones(table.geometry), volts, 1000, gate, together)
        counts[preset, together] = conducting(controller.die)
    free = counts["published", 1]
    assert np.array_equal(counts["ideal", 16], free)
    assert np.all(free >= counts["published", 4])
    assert free.sum() > counts["published", 4].sum() > counts["published", 16].sum() > 0


# partial forming ------------------------------------------------------------------------------------------------


def test_a_pulse_that_falls_just_short_leaves_a_first_path():
    """Below the conducting threshold but for a few in a thousand, and above pristine."""
    some = die(Geometry(128, 128))
    volts = np.float32(3.45)
    now = formed(some, 3.45)
    short = (some.breakdown_V > volts) & (some.breakdown_V <= volts + some.model.forming.partial_V)
    assert short.sum() > 1000
    assert np.array_equal(some.state.phase == PARTIAL, short)
    assert np.array_equal(now & ~short, some.breakdown_V <= volts)
    partly = some.state.conductance_S[short]
    assert np.mean(partly >= CONDUCTING_THRESHOLD_S) < 0.01
    assert partly.max() < 2.5 * CONDUCTING_THRESHOLD_S
    assert np.median(partly) == pytest.approx(some.model.forming.partial_S, rel=0.1)
    untouched = some.breakdown_V > volts + some.model.forming.partial_V
    assert np.all(some.state.phase[untouched] == PRISTINE)
    assert some.state.conductance_S[untouched].max() < 0.2e-6


def test_partial_forming_is_completed_by_a_pulse_that_reaches():
    some, fresh = die(), die()
    formed(some, 3.45)
    partly = some.state.phase == PARTIAL
    before = some.state.conductance_S[partly].copy()
    formed(some, 3.45)  # the same again reaches no further
    assert np.array_equal(some.state.conductance_S[partly], before)
    formed(some, 3.75)
    assert np.all(some.state.phase == LOW)
    # Formed in two steps, a cell is as one that formed at once: the same law, and no memory of the first try.
    formed(fresh, 3.75)
    logs = [np.log(each.state.conductance_S[partly].astype(float)) for each in (some, fresh)]
    sigma = 0.1475 * np.sqrt(2 / partly.sum())
    assert abs(logs[0].mean() - logs[1].mean()) < 4.5 * sigma


def test_no_partial_forming_where_the_model_has_none():
    some = die(forming={"partial_V": 0.0})
    formed(some, 3.45)
    assert set(np.unique(some.state.phase)) == {PRISTINE, LOW}


@pytest.mark.parametrize("kind", ["set", "reset"])
def test_a_partly_formed_cell_is_not_switched_before_it_has_formed(kind):
    some = die()
    formed(some, 3.45)
    partly = some.state.phase == PARTIAL
    before = some.state.conductance_S[partly].copy()
    some.pulse(kind, ones(some.geometry), Pulse(2.0, 1e-6, 1.6))
    assert np.array_equal(some.state.conductance_S[partly], before)


# over-stress, and cells that are stuck --------------------------------------------------------------------------


def test_over_stress_breaks_cells_for_good():
    shares = []
    for volts in (3.75, 4.2, 4.3, 4.4, 4.6):
        some = die()
        formed(some, volts)
        stuck = some.state.phase == STUCK
        assert np.all(some.state.conductance_S[stuck] == np.float32(some.model.forming.stuck_S))
        shares.append(stuck.mean())
    # A normal about 4.3 V, σ 50 mV, of 4,096 cells.
    expected = [0.0, 0.02275, 0.5, 0.97725, 1.0]
    band = 4.5 * np.sqrt(np.array(expected) * (1 - np.array(expected)) / 4096) + 2e-4
    assert np.all(np.abs(np.array(shares) - expected) <= band)
    assert shares[0] == 0


def test_over_stress_is_a_cells_own_and_a_longer_pulse_does_it_sooner():
    some = die()
    formed(some, 4.3)
    stuck = some.state.phase == STUCK
    formed(some, 4.3)
    assert np.array_equal(some.state.phase == STUCK, stuck)
    formed(some, 4.3, width=1e-5)
    longer = some.state.phase == STUCK
    assert np.all(longer[stuck])
    assert longer.sum() > stuck.sum()


def stuck_ones(some):
    return some.state.phase == STUCK


@given(st.lists(st.tuples(st.sampled_from(["electroform", "set", "reset"]), st.floats(0.5, 4.5)), max_size=8))
def test_stuck_cells_never_move(life):
    """Cells born shorted or dead and cells that broke; whatever pulses follow."""
    some = die(SMALL, 5, forming={"stuck_low_share": 0.1, "stuck_high_share": 0.1})
    formed(some, 4.28)
    stuck = stuck_ones(some)
    assert 0.2 < stuck.mean() < 0.9
    before = some.state.conductance_S[stuck].copy()
    assert (before > 50e-6).any()
    assert (before < 0.2e-6).any()
    drive = Drive(8, np.full(SMALL.rows, 125.0), row_V=1.5, column_V=1.5)
    for kind, volts in life:
        some.pulse(kind, ones(SMALL), Pulse(volts, 1e-6, 1.6), drive)
    assert np.all(stuck_ones(some)[stuck])
    assert np.array_equal(some.state.conductance_S[stuck], before)
    assert not some.state.disturb_ppm[stuck].any()


@pytest.mark.parametrize(("name", "high"), [("stuck_low_share", False), ("stuck_high_share", True)])
def test_the_stated_share_of_cells_is_born_stuck(name, high):
    some = die(Geometry(256, 256), forming={name: 0.01})
    stuck = stuck_ones(some)
    n = some.geometry.cells
    assert abs(stuck.sum() - 0.01 * n) < 4.5 * np.sqrt(0.01 * 0.99 * n)
    assert np.all(conducting(some)[stuck] == high)
    formed(some, 3.75)
    assert np.array_equal(stuck_ones(some), stuck)
    assert np.array_equal(conducting(some), ~stuck | high)


def test_forming_leaves_no_cell_in_the_high_resistance_state():
    some = die()
    formed(some, 3.45)
    assert not np.any(some.state.phase == HIGH)
    assert np.array_equal(some.state.phase == LOW, some.breakdown_V <= np.float32(3.45))


@pytest.mark.parametrize("gate", [0.8, 1.2, 2.4, 3.2])
def test_the_compliance_follows_the_gate_as_the_model_says(gate):
    some = die(conductance={"outlier_share": 0.0})
    formed(some, 3.75, gate=gate)
    law = some.model.conductance
    median = law.median_S * (gate / law.reference_gate_V) ** law.gate_exponent
    assert np.median(some.state.conductance_S) == pytest.approx(median, rel=0.02)


@pytest.mark.parametrize("width", [1e-7, 1e-5, 1e-3])
def test_a_decade_of_width_is_worth_its_volts(width):
    """A pulse ten times as long forms the very cells that one higher by the slope forms."""
    slope = DieModel().forming.width_slope_V
    long, high = formed(die(), 3.4, width=width), formed(die(), 3.4 + slope * np.log10(width / 1e-6))
    assert np.array_equal(long, high)
