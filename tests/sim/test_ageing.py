"""What time and temperature do: telegraph noise, relaxation, drift, temperature coefficient. All a function of the clock."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from workbench import ones

from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim import ageing
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.drive import Drive
from rramlab.sim.models import BoardModel, DieModel

MIDDLE = Geometry(64, 64)
NS = 1_000_000_000
BOLTZMANN_EV = 8.617333262e-5
QUIET = {"relax_mean": 0.0, "relax_ln_sigma": 0.0, "drift": 0.0, "drift_sigma": 0.0, "temperature_coefficient": 0.0}


def die(geometry=MIDDLE, seed=1, noise=None, **relaxation):
    """A formed die that changes with time in the named ways only."""
    changes = {
        "forming": {"stuck_low_share": 0.0, "stuck_high_share": 0.0},
        "noise": {"telegraph_share": 0.0, **(noise or {})},
        "relaxation": {**QUIET, "interval_s": 1.0, **relaxation},
    }
    some = SimulatedDie(geometry, DieModel.preset("published", changes), seed)
    some.pulse("electroform", ones(geometry), Pulse(3.75, 1e-6, 1.6))
    return some


def pass_to(some, seconds):
    """Let time pass until so long after the beginning."""
    some.pass_time(round(seconds * NS) - some.state.clock_ns)
    return some.conductance_S.astype(float)


def gained(some, seconds):
    """ln G at a time, above what was programmed: float64[rows, columns]."""
    return np.log(pass_to(some, seconds) / some.state.conductance_S)


# telegraph noise ------------------------------------------------------------------------------------------------

TRAPS = {"telegraph_share": 0.2, "telegraph_amplitude": 0.1, "telegraph_shortest_s": 2.0, "telegraph_longest_s": 64.0}


def levels(some, times):
    """What each cell conducts at each time, relative to what was programmed: float64[times, rows, columns]."""
    return np.array([pass_to(some, time) / some.state.conductance_S for time in times])


def test_the_stated_share_of_cells_switches_between_two_levels():
    some = die(Geometry(128, 128), noise=TRAPS)
    seen = levels(some, np.arange(400) * 7.0 + 1)
    assert np.all(np.isclose(seen, 1, atol=1e-6) | np.isclose(seen, 0.9, atol=1e-6))
    low = seen < 0.95
    restless = low.any(axis=0)
    n = restless.size
    assert abs(restless.sum() - 0.2 * n) < 4.5 * np.sqrt(0.2 * 0.8 * n)
    assert np.all(~low.all(axis=0))
    # Half of the time low; of a cell, 400 looks 7 s apart, the slowest changes its mind in some 64 s.
    share = low[:, restless].mean(axis=0)
    assert share.mean() == pytest.approx(0.5, abs=4.5 * 0.5 / np.sqrt(restless.sum() * 400 * 7 / 100))
    # Cells are independent of one another: at no moment do they move together.
    assert low[:, restless].mean(axis=1).std() < 2 * 0.5 / np.sqrt(restless.sum())


def test_time_constants_are_spread_between_the_stated_ones():
    some = die(Geometry(64, 64), noise={**TRAPS, "telegraph_share": 1.0})
    low = levels(some, np.arange(2000) * 1.0) < 0.95
    switches = np.count_nonzero(low[1:] != low[:-1], axis=0).ravel()
    # A trap that decides anew every T seconds switches 2000 / 2T times: 500 at 2 s, 16 at 64 s.
    assert 430 < switches.max() < 580
    assert switches.min() > 1
    lengths = np.log2(1000 / np.maximum(switches, 1))
    quarters = np.histogram(lengths, bins=[0.5, 2.25, 3.5, 4.75, 6.8])[0] / lengths.size
    assert np.all(quarters > 0.15)  # even in log time


@pytest.mark.parametrize("changes", [{"telegraph_share": 0.0}, {"telegraph_amplitude": 0.0}])
def test_no_traps_no_telegraph_noise(changes):
    some = die(noise={**TRAPS, **changes})
    assert np.all(levels(some, [10, 100, 1000]) == 1)


def test_neighbours_and_dies_have_traps_of_their_own():
    one, other = (die(noise=TRAPS, seed=seed) for seed in (1, 2))
    low = [levels(each, np.arange(50) * 20.0).min(axis=0) < 0.95 for each in (one, other)]
    both = np.count_nonzero(low[0] & low[1])
    n = low[0].size
    assert abs(both / n - 0.04) < 4.5 * np.sqrt(0.04 * 0.96 / n)


# a function of the clock ----------------------------------------------------------------------------------------

LIVELY = {"relax_mean": 0.05, "relax_ln_sigma": 0.1, "drift": 0.01, "drift_sigma": 0.005}
SMALL = Geometry(8, 8)


@given(st.lists(st.integers(1, 40 * NS), min_size=1, max_size=8), st.booleans(), st.integers(0, 99))
def test_time_in_one_step_or_in_many_gives_the_same_conductances(steps, looking, seed):
    """However it passes, and whether or not somebody looks on the way."""
    one, many = (die(SMALL, seed, noise=TRAPS, **LIVELY) for _ in range(2))
    one.pass_time(sum(steps))
    for step in steps:
        many.age(step / NS) if step % 2 else many.pass_time(step)
        if looking:
            assert many.conductance_S.min() > 0
    assert many.state.clock_ns == one.state.clock_ns
    assert np.array_equal(one.conductance_S, many.conductance_S)


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(-20, 150), st.floats(-20, 150))
def test_storage_in_parts_is_storage(first, second, celsius, later):
    one, many = (die(SMALL, 3, noise=TRAPS, **LIVELY) for _ in range(2))
    one.age(first, celsius)
    one.age(second, later)
    for part in (0.25, 0.5, 0.25):
        many.age(first * part, celsius)
    for part in (0.5, 0.5):
        many.age(second * part, later)
    # Whole nanoseconds differ by a few: only the last of them may lie in another interval.
    assert abs(one.state.clock_ns - many.state.clock_ns) < 10
    if one.state.clock_ns // NS == many.state.clock_ns // NS:
        assert np.allclose(one.conductance_S, many.conductance_S, rtol=1e-5)


def test_reading_and_looking_change_nothing():
    one, other = (die(noise=TRAPS, **LIVELY) for _ in range(2))
    for time in range(1, 50):
        pass_to(one, time * 3)
    assert np.array_equal(pass_to(one, 150), pass_to(other, 150))


def test_within_an_interval_the_cells_stand_still():
    some = die(noise=TRAPS, **LIVELY, interval_s=10.0)
    first = pass_to(some, 100.0)
    assert np.array_equal(pass_to(some, 109.999), first)
    assert not np.array_equal(pass_to(some, 110.0), first)


def several_lives():
    """A die of which some rows were programmed at one time, others were not, and a part of the cells never was."""
    some = SimulatedDie(MIDDLE, DieModel(), 5)
    chance = np.random.default_rng(5).random(MIDDLE.shape)
    for kind, cells, voltage in (("electroform", chance < 0.6, 3.75), ("reset", chance < 0.1, 2.0)):
        cells[40 if kind == "reset" else 60 :] = False
        some.pulse(kind, CellSelection(cells), Pulse(voltage, 1e-6, 1.6), row_ns=np.full(MIDDLE.rows, NS))
        some.pass_time(1000 * NS)
    some.set_temperature(60.0)
    some.pass_time(1000 * NS)
    return some


def test_cells_that_were_programmed_together_age_as_each_would_alone(monkeypatch):
    """And in blocks of any size."""
    together = several_lives().conductance_S
    monkeypatch.setattr(ageing, "_programmed", lambda programmed_ns, alive: programmed_ns)
    monkeypatch.setattr(ageing, "_BLOCK_CELLS", 7 * MIDDLE.columns)
    assert np.array_equal(several_lives().conductance_S, together)


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 64)), max_size=4))
def test_some_rows_are_those_of_the_whole_in_any_order(asked):
    some, whole = several_lives(), several_lives().conductance_at(300)
    for start, count in asked:
        rows = slice(start, min(start + count, MIDDLE.rows))
        assert np.array_equal(some.conductance_at(300, rows), whole[rows])
        assert np.allclose(some.row_loads_S(300, rows), whole[rows].sum(axis=1), rtol=1e-5)
    assert np.array_equal(some.conductance_at(300), whole)


def test_what_was_saved_goes_on_as_the_die_would_have(tmp_path):
    some = die(noise=TRAPS, **LIVELY)
    beside = CellSelection(np.arange(64)[None, :] + np.zeros((64, 1)) < 8)
    some.pulse("reset", beside, Pulse(2.0, 1e-6, 1.6), Drive(row_V=0.9))
    assert np.all(some.state.disturb_ppm[:, 8:] < -1000)
    some.age(100.0, 85.0)
    some.save(tmp_path / "die.npz")
    found, _ = SimulatedDie.load(tmp_path / "die.npz", MIDDLE)
    for each in (some, found):
        each.age(500.0, 60.0)
    assert np.array_equal(found.conductance_S, some.conductance_S)
    assert np.array_equal(found.state.disturb_ppm, some.state.disturb_ppm)


# relaxation -----------------------------------------------------------------------------------------------------


def test_relaxation_goes_with_log_time_and_stops():
    some = die(relax_mean=0.05, relax_ln_sigma=0.1, relax_start_s=1.0, relax_end_s=1e4)
    seen = {seconds: gained(some, seconds) for seconds in (0.5, 10, 100, 1000, 10_001, 1e6, 1e9)}
    assert np.all(seen[0.5] == 0)
    final = seen[1e9]
    for seconds in (10, 100, 1000):
        share = np.log1p(seconds / 1.0) / np.log1p(1e4)
        assert seen[seconds] == pytest.approx(final * share, abs=1e-4)
    assert seen[10_001] == pytest.approx(final, abs=1e-4)
    assert seen[1e6] == pytest.approx(final, abs=1e-6)
    n = final.size
    assert abs(final.mean() + 0.05) < 4.5 * 0.1 / np.sqrt(n)
    assert abs(final.std() / 0.1 - 1) < 4.5 / np.sqrt(2 * n)
    assert stats.kstest((final.ravel() + 0.05) / 0.1, "norm").pvalue > 1e-4


def test_a_cell_relaxes_anew_after_each_pulse_and_differently():
    some = die(relax_mean=0.05, relax_ln_sigma=0.1)
    first = gained(some, 20_000)
    some.pulse("reset", ones(MIDDLE), Pulse(2.5, 1e-6, 3.0))
    some.pulse("set", ones(MIDDLE), Pulse(2.5, 1e-6, 1.6))
    assert np.all(some.conductance_S == some.state.conductance_S)
    second = gained(some, 40_001)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4.5 / np.sqrt(first.size)
    assert abs(second.mean() + 0.05) < 4.5 * 0.1 / np.sqrt(second.size)


def test_relaxation_has_nothing_to_do_with_what_was_drawn():
    some = die(relax_mean=0.05, relax_ln_sigma=0.1)
    final = gained(some, 20_000)
    drawn = np.log(some.state.conductance_S.astype(float))
    assert abs(np.corrcoef(final.ravel(), drawn.ravel())[0, 1]) < 4.5 / np.sqrt(final.size)


def test_cells_that_never_formed_and_stuck_ones_neither_relax_nor_drift():
    model = {"forming": {"stuck_low_share": 0.1, "stuck_high_share": 0.1}, "noise": {"telegraph_share": 0.0}}
    some = SimulatedDie(MIDDLE, DieModel.preset("published", model), 1)
    pristine = some.conductance_S.copy()
    some.age(1e6, 100.0)
    assert np.array_equal(some.conductance_S, pristine)


# drift ----------------------------------------------------------------------------------------------------------


def test_drift_goes_with_log_time():
    some = die(drift=0.02, drift_sigma=0.0, drift_start_s=2.0)
    for seconds in (10, 1000, 1e6):
        assert gained(some, seconds) == pytest.approx(-0.02 * np.log1p(seconds / 2.0), abs=2e-5)


def test_drift_differs_between_cells_as_stated():
    some = die(drift=0.02, drift_sigma=0.005)
    exponent = -gained(some, 1e5) / np.log1p(1e5)
    n = exponent.size
    assert abs(exponent.mean() - 0.02) < 4.5 * 0.005 / np.sqrt(n)
    assert abs(exponent.std() / 0.005 - 1) < 4.5 / np.sqrt(2 * n)


def arrhenius(celsius, activation_eV=1.15, reference_C=25.0):
    return np.exp(activation_eV / BOLTZMANN_EV * (1 / (reference_C + 273.15) - 1 / (celsius + 273.15)))


@pytest.mark.parametrize(("celsius", "activation_eV"), [(85.0, 1.15), (125.0, 0.6), (0.0, 1.15), (85.0, 0.0)])
def test_heat_is_worth_time_by_the_arrhenius_factor(celsius, activation_eV):
    """An hour in the oven drifts as far as the factor's hours on the shelf."""
    factor = arrhenius(celsius, activation_eV)
    if activation_eV:
        assert (factor > 1) == (celsius > 25)
    hot, cold = (die(drift=0.02, drift_sigma=0.005, activation_eV=activation_eV) for _ in range(2))
    hot.age(3600.0, celsius)
    lost_hot = np.log(hot.conductance_S.astype(float) / hot.state.conductance_S)
    lost_cold = gained(cold, 3600.0 * factor)
    # The clock's intervals of 1 s are a small part of the log time that either took.
    assert lost_hot == pytest.approx(lost_cold, abs=0.05 * max(1 / 3600, 1 / (3600 * factor)) + 2e-5)


def test_only_the_time_since_a_cell_was_programmed_counts():
    """A hot past before the pulse does not make it drift."""
    some, fresh = (die(drift=0.02, drift_sigma=0.005) for _ in range(2))
    some.age(1e5, 125.0)
    for each in (some, fresh):
        each.pulse("reset", ones(MIDDLE), Pulse(2.5, 1e-6, 3.0))
        each.pulse("set", ones(MIDDLE), Pulse(2.5, 1e-6, 1.6))
        each.age(1e4)
    lost = [np.log(each.conductance_S.astype(float) / each.state.conductance_S) for each in (some, fresh)]
    assert lost[0] == pytest.approx(lost[1], abs=1e-4)
    assert lost[0].mean() < -0.1


def test_relaxation_is_not_hastened_by_heat_but_drift_is():
    """As the models say: the activation energy belongs to the drift's time."""
    relaxed = [die(relax_mean=0.05, relax_ln_sigma=0.1) for _ in range(2)]
    drifted = [die(drift=0.02, drift_sigma=0.0) for _ in range(2)]
    for pair in (relaxed, drifted):
        pair[0].age(100.0, 125.0)
        pair[1].age(100.0, 25.0)
    assert np.array_equal(relaxed[0].conductance_S, relaxed[1].conductance_S)
    assert np.all(drifted[0].conductance_S < 0.9 * drifted[1].conductance_S)


# temperature ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coefficient", [-5e-4, 0.002])
@pytest.mark.parametrize("celsius", [-20.0, 25.0, 85.0])
def test_the_temperature_coefficient_is_of_g_a_kelvin_and_of_the_moment(coefficient, celsius):
    some = die(temperature_coefficient=coefficient)
    before = some.conductance_S.astype(float)
    some.set_temperature(celsius)
    assert some.conductance_S / before == pytest.approx(1 + coefficient * (celsius - 25), rel=1e-5)
    some.set_temperature(25.0)
    assert np.array_equal(some.conductance_S, before)


def warm(table, celsius):
    board = SimulatedBoard(table, BoardModel.preset("ideal"), "B-1", 5, celsius)
    model = DieModel.preset("ideal", {"relaxation": {"temperature_coefficient": -0.002}})
    return SimulatedController(SimulatedDie(table.geometry, model, 1), board)


def test_a_warm_bench_reads_and_multiplies_warm_cells(small_table):
    codes, sums = [], []
    for celsius in (25.0, 75.0):
        some, table = warm(small_table, celsius), small_table
        assert some.hello().temperature_C == celsius
        some.pulse(1, "electroform", ones(table.geometry), table.dac_code(3.75), 1000, table.dac_code(1.6), 1)
        codes.append(some.read(ones(table.geometry), 1, table.dac_code(0.2)).astype(float) - table.zero_code)
        some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
        found = some.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16)).codes
        sums.append(found.astype(float) - 4 * table.zero_code)
    assert codes[1].sum() / codes[0].sum() == pytest.approx(0.9, abs=1e-3)
    assert sums[1].sum() / sums[0].sum() == pytest.approx(0.9, abs=1e-3)


def test_a_change_of_temperature_is_seen_by_the_next_product(small_table):
    """The matrix of a state is kept, and the temperature is part of the state."""
    some, table = warm(small_table, 25.0), small_table
    some.pulse(1, "electroform", ones(table.geometry), table.dac_code(3.75), 1000, table.dac_code(1.6), 1)
    some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    sums = []
    for celsius in (25.0, 75.0, 25.0):
        some.die.set_temperature(celsius)
        found = some.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16)).codes
        sums.append(found.astype(float) - 4 * table.zero_code)
    assert sums[1].sum() / sums[0].sum() == pytest.approx(0.9, abs=1e-3)
    assert np.array_equal(sums[2], sums[0])
