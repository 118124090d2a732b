"""Reset, set, wear and disturb; and that none of it depends on the blocks of rows in which pulses are sent."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from workbench import ones

from rramlab.macro.bias import Bias, Lines
from rramlab.macro.cells import CONDUCTING_THRESHOLD_S, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.drive import Drive
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.state import HIGH, LOW, STUCK

MIDDLE = Geometry(64, 64)
NONE_STUCK = {"stuck_low_share": 0.0, "stuck_high_share": 0.0}
FORM, SET, RESET = Pulse(3.75, 1e-6, 1.6), Pulse(2.0, 1e-6, 1.6), Pulse(2.5, 1e-6, 3.0)


def die(geometry=MIDDLE, seed=1, form=True, **parts):
    """A die of formed cells, none of them stuck."""
    changes = {"forming": {**NONE_STUCK, **parts.pop("forming", {})}, **parts}
    some = SimulatedDie(geometry, DieModel.preset("published", changes), seed)
    if form:
        some.pulse("electroform", ones(geometry), FORM)
    return some


def cells(some):
    return some.state.conductance_S


def pulse(some, kind, volts, width=1e-6, gate=1.6, bits=None, drive=None):
    some.pulse(
        kind,
        ones(some.geometry) if bits is None else CellSelection(bits),
        Pulse(volts, width, gate),
        drive or Drive(),
    )
    return cells(some).copy()


# reset ----------------------------------------------------------------------------------------------------------


def test_a_higher_reset_goes_deeper_up_to_the_full_high_resistance_state():
    """From nothing well below the threshold to the whole way to the high-resistance law at its end."""
    medians, before = [], cells(die()).copy()
    for volts in (0.5, 1.3, 1.4, 1.5, 1.6, 1.8, 2.5):
        after = pulse(die(), "reset", volts)
        assert np.all(after <= before)
        medians.append(np.median(after))
        if volts == 0.5:
            assert np.array_equal(after, before)
    assert medians == sorted(medians, reverse=True)
    assert medians[2] > 0.9 * np.median(before)  # at its mean threshold half of the cells have not moved
    law = die().model.switching
    deep = np.log(after.astype(float))
    assert abs(deep.mean() - np.log(law.hrs_median_S)) < 4.5 * law.hrs_ln_sigma / np.sqrt(deep.size)
    assert deep.std() == pytest.approx(law.hrs_ln_sigma, rel=4.5 / np.sqrt(2 * deep.size))


def test_cells_begin_to_reset_about_the_stated_voltage():
    """Never more of them than have their threshold below it; most of those, but for cells that lie deep already."""
    law = die().model.switching
    spread = np.hypot(law.reset_sigma_V, law.reset_cycle_sigma_V)
    for volts in (1.2, 1.4, 1.55):
        some = die(seed=7)
        before = cells(some).copy()
        moved = np.mean(pulse(some, "reset", volts) < before)
        able = stats.norm.cdf((volts - law.reset_V) / spread)
        assert 0.4 * able < moved < able + 4.5 * np.sqrt(able * (1 - able) / MIDDLE.cells)


def test_a_longer_reset_goes_deeper_as_its_slope_says():
    slope = DieModel().switching.width_slope_V
    long, high = pulse(die(), "reset", 1.45, width=1e-5), pulse(die(), "reset", 1.45 + slope)
    assert np.array_equal(long, high)
    assert np.median(long) < np.median(pulse(die(), "reset", 1.45))


def test_resets_are_stochastic_from_cell_to_cell_and_from_cycle_to_cycle():
    """The same pulse on the same cell is another draw each time; cells differ."""
    some = die()
    bottoms = []
    for _ in range(3):
        bottoms.append(np.log(pulse(some, "reset", 2.5).astype(float)).ravel())
        pulse(some, "set", 2.5)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert abs(np.corrcoef(bottoms[one], bottoms[other])[0, 1]) < 4.5 / np.sqrt(MIDDLE.cells)
    assert bottoms[0].std() > 0.4


def test_the_threshold_is_a_cells_own_with_a_little_of_each_pulse():
    """Of the cells that a weak pulse moved, most are moved by the next one too."""
    law = die().model.switching
    moved = []
    for pulses_before in range(2):
        some = die()
        for _ in range(pulses_before):  # far below any threshold: only the count goes on
            pulse(some, "reset", 0.3)
        before = cells(some).copy()
        moved.append(pulse(some, "reset", law.reset_V + 0.05) < before)
    assert np.mean(moved[0] == moved[1]) > 0.8
    assert not np.array_equal(*moved)


def test_a_further_deep_reset_leaves_the_high_resistance_state_as_it_is():
    some = die()
    first = pulse(some, "reset", 2.5)
    assert np.all(some.state.phase == HIGH)
    assert np.array_equal(pulse(some, "reset", 2.5), first)


# set ------------------------------------------------------------------------------------------------------------


def test_a_set_needs_its_threshold():
    law = die().model.switching
    spread = np.hypot(law.set_sigma_V, law.set_cycle_sigma_V)
    for volts in (0.3, 1.2, 1.3, 1.45, 2.0):
        some = die(seed=3)
        pulse(some, "reset", 2.5)
        before = cells(some).copy()
        after = pulse(some, "set", volts)
        switched = some.state.phase == LOW
        expected = stats.norm.cdf((volts - law.set_V) / spread)
        assert abs(np.mean(switched) - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / MIDDLE.cells) + 1e-6
        assert np.all(after[switched] > CONDUCTING_THRESHOLD_S)
        assert np.array_equal(after[~switched], before[~switched])


def test_the_gate_of_a_set_is_its_compliance():
    medians = []
    for gate in (1.0, 1.6, 2.4):
        some = die()
        pulse(some, "reset", 2.5)
        medians.append(np.median(pulse(some, "set", 2.5, gate=gate)))
    law = die().model.conductance
    expected = [law.median_S * (gate / law.reference_gate_V) ** law.gate_exponent for gate in (1.0, 1.6, 2.4)]
    assert medians == pytest.approx(expected, rel=0.02)


def test_further_set_pulses_approach_the_compliance_from_below():
    """Each lifts, ever less, to where a compliance stops that cell; at the median of the gate, by and large."""
    some = die()
    steps, before = [], cells(some).copy()
    low = before < 10e-6
    for _ in range(12):
        now = pulse(some, "set", 2.0)
        assert np.all(now >= before)
        steps.append(float(np.mean(np.log(now[low] / before[low]))))
        before = now
    assert steps[0] > 5 * steps[3]
    assert steps[3] > 3 * steps[8]
    assert steps[-1] < 0.005
    assert np.median(now[low]) == pytest.approx(12.2e-6, rel=0.06)
    assert np.quantile(now[low], 0.01) > 9e-6


# write-verify ---------------------------------------------------------------------------------------------------


def write_verify(some, target, tolerance, rounds=40):
    """Pulse those that are off, a little stronger each time, and look; a reset that went too far sets the cell anew."""
    volts = np.full(some.geometry.shape, 1.0)
    for _ in range(rounds):
        high, low = cells(some) > target * (1 + tolerance), cells(some) < target * (1 - tolerance)
        if not (high | low).any():
            break
        for amplitude in np.unique(volts[high]):
            pulse(some, "reset", float(amplitude), bits=high & (volts == amplitude))
        volts[high] += 0.02
        pulse(some, "set", 2.2, bits=low)
        volts[low] = 1.0
    return np.abs(cells(some) / target - 1) <= tolerance


@pytest.mark.parametrize("target", [4e-6, 8e-6])
def test_write_verify_converges(target):
    """Incremental pulses bring most cells to a target, 10 % wide, that a single shot hits for few."""
    some = die(Geometry(24, 24), seed=2)
    assert np.mean(np.abs(cells(some) / target - 1) <= 0.1) < 0.1
    shares = [write_verify(some, target, 0.1, rounds=60).mean() for _ in range(5)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.85


def test_write_verify_by_the_gate_converges():
    """Sets at a compliance that rises in small steps; who is above the target is reset and begins again."""
    some = die(Geometry(24, 24))
    target, gates = 8e-6, np.full((24, 24), 0.4)
    pulse(some, "reset", 2.5)
    single = np.abs(pulse(some, "set", 2.2, gate=1.6 * (8 / 12.2) ** 1.25) / target - 1) <= 0.1
    for _ in range(200):
        high, low = cells(some) > 1.1 * target, cells(some) < 0.9 * target
        if high.any():
            pulse(some, "reset", 2.5, bits=high)
        gates[high] = 0.4
        for gate in np.unique(gates[low]):
            pulse(some, "set", 2.2, gate=float(gate), bits=low & (gates == gate))
        gates[low] *= 1.04
    assert np.mean(np.abs(cells(some) / target - 1) <= 0.1) > 0.95
    assert single.mean() < 0.6


# wear -----------------------------------------------------------------------------------------------------------


def test_cells_break_at_the_stated_life():
    some = die(switching={"endurance_pulses": 6, "endurance_ln_sigma": 0.0})  # forming was the first pulse
    for number in range(2, 6):
        pulse(some, "reset" if number % 2 else "set", 2.5)
        assert not np.any(some.state.phase == STUCK), number
    pulse(some, "reset", 2.5)
    assert np.all(some.state.phase == STUCK)
    assert np.all(cells(some) == np.float32(some.model.forming.stuck_S))


def test_lives_are_lognormal_between_cells():
    some = die(switching={"endurance_pulses": 8, "endurance_ln_sigma": 0.6})
    lost = []
    for number in range(2, 25):
        pulse(some, "reset" if number % 2 else "set", 2.5)
        lost.append((number, np.mean(some.state.phase == STUCK)))
    for number, share in lost:
        expected = stats.norm.cdf(np.log(number / 8) / 0.6)
        assert abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / MIDDLE.cells), number


def test_only_cells_that_were_pulsed_wear():
    some = die(switching={"endurance_pulses": 4, "endurance_ln_sigma": 0.0})
    chosen = np.zeros(MIDDLE.shape, bool)
    chosen[::2] = True
    for _ in range(6):
        pulse(some, "reset", 2.5, bits=chosen)
    assert np.array_equal(some.state.phase == STUCK, chosen)


# half-selected cells --------------------------------------------------------------------------------------------

OPEN = Bias(Lines("ground", "amplitude", "gate"), Lines("ground", "float", "gate"))  # word lines left on
LEAKY = Bias(Lines("amplitude", "ground", "gate"), Lines("ground", "ground", "off"))  # unselected source lines grounded


def controller(table, seed=1, **parts):
    board = SimulatedBoard(table, BoardModel.preset("ideal"), "B-1", 5)
    return SimulatedController(die(table.geometry, seed, **parts), board)


def send(some, op_id, kind, bits, volts):
    table = some.board.table
    some.pulse(op_id, kind, CellSelection(bits), table.dac_code(volts), 1000, table.dac_code(1.6), 4)


def some_bits(table, seed=3):
    return np.random.default_rng(seed).random(table.geometry.shape) < 0.3


def test_the_shipped_bias_spares_half_selected_cells(small_table):
    """Within parts per million, none of them is switched, formed or broken by any kind of pulse on its lines."""
    some = controller(small_table, form=False)
    chosen, table = some_bits(small_table), small_table
    send(some, 1, "electroform", chosen, 3.75)
    assert np.all(cells(some.die)[~chosen] < 0.2e-6)
    send(some, 2, "electroform", ~chosen, 3.75)
    rows = np.arange(table.geometry.rows)[:, None] % 2 == 0
    send(some, 3, "reset", chosen & rows, 2.0)  # low-resistance cells in all directions, some high
    first, second = some.die.conductance_S.copy(), some.die.state.phase.copy()
    for op_id, kind in ((4, "reset"), (5, "set"), (6, "electroform")):
        some.acknowledge(op_id - 1)
        target = np.zeros(table.geometry.shape, bool)
        target[:, ::4] = True
        send(some, op_id, kind, target, {"reset": 2.0, "set": 2.0, "electroform": 3.75}[kind])
        spared = ~target
        assert np.array_equal(some.die.state.phase[spared], second[spared])
        change = np.abs(some.die.conductance_S[spared] / first[spared] - 1)
        assert change.max() < 300e-6
    assert some.die.state.disturb_ppm.any()  # they feel it


def test_disturb_adds_up_pulse_by_pulse(small_table):
    """A thousand resets of a row's neighbours: a thousand times the shift of one, downwards."""
    some = controller(small_table)
    target = np.zeros(small_table.geometry.shape, bool)
    target[5, :2] = True
    beside = np.zeros_like(target)
    beside[5, 2:] = True
    shifts = []
    for op_id in range(1, 101):
        send(some, op_id, "reset", target, 2.0)
        some.acknowledge(op_id)
        shifts.append(some.die.state.disturb_ppm[beside].copy())
    assert np.all(shifts[0] < 0)
    assert np.array_equal(shifts[-1], 100 * shifts[0])
    away = ~target & ~beside
    assert not some.die.state.disturb_ppm[away].any()
    law = some.die.model.switching
    felt = law.disturb_rate * np.expm1(law.float_coupling * 2.0 / law.disturb_V)
    assert shifts[-1] == pytest.approx(-100e6 * felt, rel=0.2)  # whole parts per million
    assert some.die.conductance_S[beside] / cells(some.die)[beside] == pytest.approx(1 - 100 * felt, abs=1e-4)


def test_each_cell_of_a_row_feels_the_shots_that_it_was_not_part_of(small_table):
    """One that changed feels only the shots after its own: what came before was overwritten."""
    some = controller(small_table, switching={"disturb_rate": 1e-5})
    before = cells(some.die).copy()
    send(
        some, 1, "reset", np.ones(small_table.geometry.shape, bool), 1.45
    )  # four shots of four; half of the cells move
    changed = cells(some.die) != before
    assert 0.3 < changed.mean() < 0.8
    shot = np.arange(16) // 4
    felt = np.where(changed, 3 - shot, 3)
    law = some.die.model.switching
    one = round(1e6 * law.disturb_rate * np.expm1(law.float_coupling * 1.45 / law.disturb_V))
    low = some.die.state.phase == LOW
    assert (low & changed).sum() > 50
    assert np.array_equal(some.die.state.disturb_ppm[low], -one * felt[low])


def test_what_disturb_added_up_is_overwritten_when_a_cell_is_programmed(small_table):
    some = controller(small_table, switching={"disturb_rate": 1e-4})
    first, last = np.zeros((2, *small_table.geometry.shape), bool)
    first[:, :4] = last[:, 8:] = True
    send(some, 1, "reset", first, 2.0)
    assert np.all(some.die.state.disturb_ppm[:, 4:] < 0)
    send(some, 2, "reset", last, 2.5)
    high = last & (some.die.state.phase == HIGH)
    assert high.sum() > 0.9 * last.sum()
    assert not some.die.state.disturb_ppm[high].any()
    assert np.all(some.die.state.disturb_ppm[:, 4:8] < 0)


def test_grounding_unselected_source_lines_in_reset_wrecks_the_row(small_table):
    """What the design's bias table is for: the same resets, with the neighbours' source lines grounded."""
    target = np.zeros(small_table.geometry.shape, bool)
    target[::2, :2] = True
    neighbours = np.zeros_like(target)
    neighbours[::2, 2:] = True
    good = controller(small_table)
    bad = controller(replace(small_table, bias=replace(small_table.bias, reset=LEAKY)))
    for some in (good, bad):
        send(some, 1, "reset", target, 2.0)
    formed = cells(die(small_table.geometry))
    assert np.array_equal(cells(good.die)[neighbours], formed[neighbours])
    assert np.median(cells(bad.die)[neighbours]) < 0.1 * np.median(formed)
    others = ~target & ~neighbours
    assert np.array_equal(cells(bad.die)[others], formed[others])
    assert np.array_equal(cells(bad.die)[target], cells(good.die)[target])
    assert np.array_equal(bad.die.state.pulses, 1 + target)  # forming, and what was meant


def test_a_half_selected_cell_can_be_formed_and_set_by_mistake(small_table):
    """Word lines left on and unselected bit lines grounded: a column's other cells see the whole pulse."""
    table = replace(small_table, bias=replace(small_table.bias, electroform=OPEN, set=OPEN))
    some = controller(table, form=False)
    target = np.zeros(table.geometry.shape, bool)
    target[3, 4] = True
    send(some, 1, "electroform", target, 3.75)
    formed = cells(some.die) >= CONDUCTING_THRESHOLD_S
    column = np.zeros_like(target)
    column[:, 4] = True
    assert np.array_equal(formed, column)
    some.die.pulse("reset", ones(table.geometry), RESET)
    send(some, 2, "set", target, 2.2)
    assert np.array_equal(cells(some.die) >= CONDUCTING_THRESHOLD_S, column)


def test_a_cell_that_a_neighbours_pulse_switched_was_programmed_then(small_table):
    """Its relaxation begins anew, and what disturb had added up before is overwritten."""
    some = controller(replace(small_table, bias=replace(small_table.bias, reset=LEAKY)))
    some.die.age(1000.0)
    target = np.zeros(small_table.geometry.shape, bool)
    target[4, :2] = True
    before, clock = cells(some.die).copy(), some.die.state.clock_ns
    send(some, 1, "reset", target, 2.0)
    switched = (cells(some.die) != before) & ~target
    assert switched.sum() > 10
    assert np.all(some.die.state.programmed_ns[switched] >= clock)
    assert np.all(some.die.state.programmed_ns[switched] <= some.die.state.clock_ns)
    assert np.all(np.abs(some.die.state.disturb_ppm[switched]) < 100_000)  # ln 1.1, had it felt the pulse as a shift


# row blocks -----------------------------------------------------------------------------------------------------

SMALL = Geometry(12, 8)
KINDS = st.tuples(
    st.sampled_from(["electroform", "set", "reset"]),
    st.sampled_from([0, 1, 2]),  # which amplitude
    st.sampled_from([0.2, 0.7, 1.0]),  # share of the cells
    st.integers(0, 2**32 - 1),
)
AMPLITUDES = {"electroform": (3.4, 3.6, 3.8), "set": (1.3, 1.6, 2.2), "reset": (1.3, 1.6, 2.4)}
LIFE = {"reset_V": 1.2, "endurance_pulses": 5, "endurance_ln_sigma": 0.5, "disturb_rate": 1e-4, "float_coupling": 0.2}


def lived(steps, sizes, table, seed):
    """The die after ``steps``, each sent in blocks of so many rows."""
    board = SimulatedBoard(table, BoardModel(), "B-1", 5)
    changes = {"switching": LIFE, "forming": {"stuck_low_share": 0.02, "stuck_high_share": 0.02}}
    some = SimulatedController(SimulatedDie(SMALL, DieModel.preset("published", changes), seed), board)
    op_id = 0
    for index, (kind, amplitude, share, draw) in enumerate(steps):
        bits = np.random.default_rng(draw).random(SMALL.shape) < share
        for _, _, part in CellSelection(bits).blocks(sizes[index % len(sizes)]):
            op_id += 1
            some.acknowledge(op_id - 1)
            send(some, op_id, kind, part.bits, AMPLITUDES[kind][amplitude])
    return some.die


def assert_same(one, other):
    for name in ("phase", "conductance_S", "pulses", "luck", "programmed_ns", "disturb_ppm", "clock_ns"):
        found, expected = getattr(one.state, name), getattr(other.state, name)
        assert np.array_equal(found, expected), name
    assert np.array_equal(one.state.meter.time_ns, other.state.meter.time_ns)
    assert np.array_equal(one.state.meter.events, other.state.meter.events)
    assert np.allclose(one.state.meter.energy_J, other.state.meter.energy_J, rtol=1e-9, atol=0)


def small(table, **bias):
    return replace(table, geometry=SMALL, bias=replace(table.bias, **bias))


plans = st.lists(KINDS, min_size=1, max_size=6)
blocks = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@given(plans, blocks, st.integers(0, 2**32))
def test_any_plan_gives_the_same_die_in_any_row_blocks(small_table, steps, sizes, seed):
    """Wear, droop, disturb, partial forming, times and all, with the shipped bias table."""
    table = small(small_table)
    assert_same(lived(steps, sizes, table, seed), lived(steps, [SMALL.rows], table, seed))


@given(plans, blocks, st.integers(0, 2**32))
def test_row_blocks_do_not_matter_where_a_row_is_disturbed_badly(small_table, steps, sizes, seed):
    """Unselected source lines grounded in reset: the whole amplitude on every cell of a selected row."""
    table = small(small_table, reset=LEAKY)
    assert_same(lived(steps, sizes, table, seed), lived(steps, [SMALL.rows], table, seed))


HALF = Bias(Lines("amplitude", "ground", "gate"), Lines("inhibited", "inhibited", "on"))


def random_plan(seed):
    """All formed, and then anything."""
    rng = np.random.default_rng(seed)
    rest = [
        (str(rng.choice(list(AMPLITUDES))), int(rng.integers(3)), 0.3, int(draw)) for draw in rng.integers(0, 99, 4)
    ]
    return [("electroform", int(rng.integers(3)), float(rng.choice([0.3, 1.0])), 1), ("reset", 2, 0.3, 2), *rest]


@pytest.mark.parametrize("changed", [{"reset": HALF}, {"electroform": OPEN, "set": OPEN}], ids=["V/2", "word lines on"])
def test_row_blocks_do_not_matter_where_a_column_is_disturbed(small_table, changed):
    """V/2 on every cell of a selected column resets some in part; with word lines on, they feel the whole amplitude."""
    table = small(small_table, **changed)
    for seed in range(4):
        steps = random_plan(seed)
        for size in (5, 1):
            assert_same(lived(steps, [size], table, seed), lived(steps, [SMALL.rows], table, seed))


def test_the_plans_above_reach_every_phase(small_table):
    """Otherwise the properties would say little."""
    steps = [("electroform", 1, 1.0, 1), ("reset", 1, 0.7, 2), ("set", 1, 0.7, 3), ("reset", 2, 0.7, 4)]
    some = lived(steps, [5], small(small_table), 9)
    assert set(np.unique(some.state.phase)) >= {LOW, HIGH, STUCK}
    assert some.state.disturb_ppm.any()
