"""Simulated time passes by operations alone, and every operation's energy follows from V, I and t and the data sheet."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import ones

from rramlab.base.errors import UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.pulses import Pulse
from rramlab.plan import cost
from rramlab.plan.operations import Multiply, PulseOp, Read
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.state import KINDS

STILL = {"noise": {"telegraph_share": 0.0, "read": 0.0}, "forming": {"stuck_low_share": 0.0, "stuck_high_share": 0.0}}


def controller(table, changes=STILL, preset="ideal", board="ideal", seed=1, path=None):
    simulated = SimulatedBoard(table, BoardModel.preset(board), "B-1", 5)
    return SimulatedController(SimulatedDie(table.geometry, DieModel.preset(preset, changes), seed), simulated, path)


def send(some, op_id, kind, bits, volts, gate=1.6, together=8, width_ns=1000):
    table = some.board.table
    some.pulse(op_id, kind, CellSelection(bits), table.dac_code(volts), width_ns, table.dac_code(gate), together)


def read(some, bits, repeats=1):
    return some.read(CellSelection(bits), repeats, some.board.table.dac_code(0.2))


def meter(some, kind):
    """Time (s), energy (J) and events of a kind of operation so far."""
    index, found = KINDS.index(kind), some.die.state.meter
    return found.time_ns[index] / 1e9, found.energy_J[index], int(found.events[index])


def chosen(table, share=0.4, seed=2):
    return np.random.default_rng(seed).random(table.geometry.shape) < share


# pulses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width_ns", [200, 1000, 50_000])
@pytest.mark.parametrize("volts", [3.4, 3.75])
def test_forming_takes_volts_times_current_times_width(small_table, volts, width_ns):
    """Formed cells at their compliance at most, the others by what they conduct."""
    some, bits = controller(small_table), chosen(small_table)
    send(some, 1, "electroform", bits, volts, width_ns=width_ns)
    amplitude = small_table.dac_volts(small_table.dac_code(volts))
    gate = small_table.dac_volts(small_table.dac_code(1.6))
    law = some.die.model.conductance
    compliance = law.median_S * (gate / law.reference_gate_V) ** law.gate_exponent * law.compliance_V
    current = np.minimum(some.die.state.conductance_S[bits].astype(float) * amplitude, compliance).sum()
    _, energy, events = meter(some, "electroform")
    assert energy == pytest.approx(amplitude * current * width_ns * 1e-9, rel=1e-5)
    assert events == bits.sum()


def test_a_higher_compliance_costs_more(small_table):
    energies = []
    for gate in (1.0, 1.6, 3.0):
        some = controller(small_table)
        send(some, 1, "electroform", chosen(small_table), 3.75, gate=gate)
        energies.append(meter(some, "electroform")[1])
    assert energies == sorted(set(energies))


def test_reset_takes_what_the_cells_conduct_when_it_begins(small_table):
    some, bits = controller(small_table), chosen(small_table)
    send(some, 1, "electroform", ones(small_table.geometry).bits, 3.75)
    before = some.die.state.conductance_S.astype(float)
    send(some, 2, "reset", bits, 2.0)
    amplitude = small_table.dac_volts(small_table.dac_code(2.0))
    assert meter(some, "reset")[1] == pytest.approx(amplitude**2 * before[bits].sum() * 1e-6, rel=1e-5)
    assert meter(some, "set") == (0, 0, 0)


@given(
    st.sampled_from(["electroform", "set", "reset"]),
    st.integers(0, 2**32),
    st.integers(1, 10),
    st.sampled_from([100, 1000, 12_345]),
)
def test_a_pulse_operation_takes_as_long_as_its_estimate_and_a_count_of_its_shots(
    small_table, kind, seed, together, width_ns
):
    some, bits = controller(small_table), chosen(small_table, 0.3, seed)
    send(some, 1, kind, bits, 2.0, together=together, width_ns=width_ns)
    shots = sum(-(-int(row.sum()) // together) for row in bits)
    seconds = shots * (width_ns * 1e-9 + small_table.settle_time_s)
    assert some.die.state.clock_s == pytest.approx(seconds, rel=1e-12)
    assert meter(some, kind)[0] == some.die.state.clock_s
    operation = PulseOp(kind, CellSelection(bits), Pulse(2.0, width_ns * 1e-9, 1.6), together)
    assert cost.of(operation, small_table).time_s == pytest.approx(seconds, rel=1e-9)
    assert cost.of(operation, small_table).pulses == meter(some, kind)[2]


def test_cells_are_programmed_when_their_row_is_done(small_table):
    """Rows follow one another; each cell's age counts from its own row's pulse."""
    some = controller(small_table, {"forming": STILL["forming"]})
    some.die.pass_time(123_456_789)
    send(some, 1, "electroform", ones(small_table.geometry).bits, 3.75, together=4)
    row_ns = 4 * 11_000
    expected = 123_456_789 + row_ns * np.arange(1, 33)
    assert np.array_equal(some.die.state.programmed_ns, np.broadcast_to(expected[:, None], (32, 16)))


# reads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [1, 5])
def test_a_read_takes_the_cells_and_the_converters(small_table, repeats):
    some, bits = controller(small_table), chosen(small_table)
    send(some, 1, "electroform", ones(small_table.geometry).bits, 3.75)
    clock = some.die.state.clock_ns
    read(some, bits, repeats)
    table, conversion_s = small_table, 1 / small_table.adc_rate_Hz
    volts = table.dac_volts(table.dac_code(0.2))
    seconds, energy, events = meter(some, "read")
    assert events == repeats * bits.sum()
    # The columns that share an ADC take turns, ADCs work side by side, rows follow one another.
    busiest = bits.reshape(32, -1, table.columns_per_adc).sum(axis=2).max(axis=1)
    # A row feeds all of its cells while it is read: every source line is at ground.
    rows_J = volts**2 * float(some.die.conductance_S.astype(float).sum(axis=1) @ busiest) * conversion_s
    assert energy == pytest.approx(repeats * rows_J + events * table.conversion_energy_J, rel=1e-6)
    assert seconds == pytest.approx((busiest * repeats * conversion_s + (busiest > 0) * table.settle_time_s).sum())
    assert some.die.state.clock_ns - clock == round(seconds * 1e9)
    estimate = cost.of(Read(CellSelection(bits), repeats), table)
    assert estimate.time_s == pytest.approx(seconds)
    assert estimate.energy_J == pytest.approx(energy, rel=0.02)


# products -------------------------------------------------------------------------------------------------------


def line_energy(cells, pattern, x, bits, table):
    """Brute force: V²·G of each row that is on, all its columns at ground, as long as its phase's ADCs convert."""
    full = np.zeros((len(x), len(cells)), np.int64)
    full[:, pattern.driven] = x
    joules, conversions = 0.0, 0
    for phase in range(pattern.phases):
        columns = pattern.phase == phase
        turns = columns.reshape(-1, table.columns_per_adc).sum(axis=1).max()
        for start in range(0, len(cells), table.lines_at_once):
            rows = [r for r in range(start, min(start + table.lines_at_once, len(cells))) if pattern.rows[phase, r]]
            if not rows:
                continue
            conversions += len(x) * bits * int(columns.sum())
            for row in rows:
                on = sum(((full[:, row] >> bit) & 1).sum() for bit in range(bits))
                joules += table.input_V**2 * float(cells[row].sum()) * on * turns / table.adc_rate_Hz
    return joules, conversions


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32))
def test_a_multiply_takes_its_lines_and_its_converters(small_table, bits, phases, batch, seed):
    rng = np.random.default_rng(seed)
    pattern = GatePattern(rng.random((phases, 32)) < 0.4, np.repeat(rng.integers(-1, phases, 8), 2).astype(np.int16))
    some = controller(small_table)
    send(some, 1, "electroform", ones(small_table.geometry).bits, 3.5)
    some.load_gates(0, pattern.rows, pattern.phase)
    x = rng.integers(0, 2**bits, (batch, int(pattern.driven.sum()))).astype(np.uint8)
    clock, enabled = some.die.state.clock_ns, np.flatnonzero(pattern.enabled)
    sums = some.multiply(x, bits, 0, enabled)
    cells = some.die.conductance_S.astype(float)
    joules, conversions = line_energy(cells, pattern, x, bits, small_table)
    seconds, energy, events = meter(some, "multiply")
    assert events == sums.conversions == conversions
    assert energy == pytest.approx(joules + conversions * small_table.conversion_energy_J, rel=1e-6)
    assert round(seconds * 1e9) == some.die.state.clock_ns - clock
    estimate = cost.of(Multiply(0, pattern, x, bits), small_table)
    assert estimate.time_s == pytest.approx(seconds, rel=1e-9)
    assert estimate.conversions == conversions


def test_columns_that_nobody_asked_for_are_not_converted(small_table):
    some = controller(small_table)
    some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    sums = some.multiply(np.ones((3, 32), np.uint8), 2, 0, np.array([0, 5, 9]))
    assert sums.conversions == meter(some, "multiply")[2] == 3 * 2 * 4 * 3


def test_more_bits_set_cost_more_energy_but_no_more_time(small_table):
    some = controller(small_table)
    send(some, 1, "electroform", ones(small_table.geometry).bits, 3.75)
    some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    joules, seconds = [], []
    for value in (0, 1, 3, 7, 15):
        before = meter(some, "multiply")
        some.multiply(np.full((1, 32), value, np.uint8), 4, 0, np.arange(16))
        after = meter(some, "multiply")
        joules.append(after[1] - before[1])
        seconds.append(after[0] - before[0])
    assert np.allclose(np.diff(joules), (joules[-1] - joules[0]) / 4)
    assert joules[0] == pytest.approx(4 * 4 * 16 * small_table.conversion_energy_J)
    assert np.allclose(seconds, seconds[0])


def test_energy_follows_cells_that_drift_in_the_middle_of_a_batch(small_table):
    """Each vector by the cells as they are in its turn."""
    changes = {**STILL, "relaxation": {"drift": 0.05, "drift_start_s": 1e-3, "interval_s": 0.01}}
    some = controller(small_table, changes)
    send(some, 1, "electroform", ones(small_table.geometry).bits, 3.75)
    pattern = GatePattern(np.ones((1, 32), bool), np.zeros(16, np.int16))
    some.load_gates(0, pattern.rows, pattern.phase)
    x = np.full((40, 32), 255, np.uint8)
    first, start = some.die.conductance_S.astype(float), some.die.state.clock_ns
    some.multiply(x, 8, 0, np.arange(16))
    vector_ns = (some.die.state.clock_ns - start) // 40
    expected = 0.0
    for number in range(40):
        cells = some.die.conductance_at((start + number * vector_ns) // some.die.interval_ns).astype(float)
        joules, conversions = line_energy(cells, pattern, x[:1], 8, small_table)
        expected += joules + conversions * small_table.conversion_energy_J
    assert meter(some, "multiply")[1] == pytest.approx(expected, rel=1e-6)
    constant, _ = line_energy(first, pattern, x, 8, small_table)
    assert constant > 1.1 * (expected - meter(some, "multiply")[2] * small_table.conversion_energy_J)


# the meter and the clock ----------------------------------------------------------------------------------------


def busy(some, first=1):
    """A life of every kind of operation."""
    table = some.board.table
    for op_id, (kind, volts) in enumerate(
        [("electroform", 3.75), ("reset", 2.0), ("set", 2.0), ("electroform", 3.9)], first
    ):
        send(some, op_id, kind, chosen(table, 0.6, op_id), volts)
        read(some, chosen(table, 0.3, op_id), 2)
    some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    some.multiply(np.full((5, 32), 5, np.uint8), 3, 0, np.arange(16))


def test_the_meter_adds_up_to_the_clock_and_the_counts(small_table):
    some = controller(small_table, preset="published")
    busy(some)
    state = some.die.state
    assert state.meter.time_ns.sum() == state.clock_ns
    assert state.meter.events[:3].sum() == state.pulses.sum()
    assert np.all(state.meter.energy_J > 0)
    assert np.all(state.meter.events > 0)
    before = state.meter.energy_J.copy()
    clock = state.clock_ns
    some.die.age(3600.0)
    assert state.clock_ns - clock == 3_600_000_000_000
    assert state.meter.time_ns.sum() == clock  # storage is no operation
    assert np.array_equal(state.meter.energy_J, before)


def test_the_meter_goes_on_after_a_break(small_table, tmp_path):
    path = tmp_path / "die.npz"
    some, whole = controller(small_table, path=path), controller(small_table)
    for each in (some, whole):
        busy(each)
    some.persist()
    die, memory = SimulatedDie.load(path, small_table.geometry)
    again = SimulatedController(die, some.board, path)
    again.remember(memory)
    for each in (again, whole):
        busy(each, 11)
    for name in ("time_ns", "energy_J", "events"):
        assert np.array_equal(getattr(again.die.state.meter, name), getattr(whole.die.state.meter, name))
    assert again.die.state.clock_ns == whole.die.state.clock_ns


def test_what_was_refused_or_asked_again_costs_nothing(small_table):
    some = controller(small_table)
    send(some, 1, "electroform", chosen(small_table), 3.75)
    before = some.die.state.clock_ns, some.die.state.meter.energy_J.copy()
    send(some, 1, "electroform", chosen(small_table), 3.75)  # a retry
    with pytest.raises(Exception, match="refused"):
        send(some, 2, "electroform", chosen(small_table), 4.9)
    with pytest.raises(Exception, match="empty"):
        some.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16))
    assert some.die.state.clock_ns == before[0]
    assert np.array_equal(some.die.state.meter.energy_J, before[1])


@pytest.mark.parametrize("empty", ["pulse", "multiply"])
def test_an_operation_on_nothing_takes_nothing(small_table, empty):
    some = controller(small_table)
    if empty == "pulse":
        send(some, 1, "electroform", np.zeros(small_table.geometry.shape, bool), 3.75)
    else:
        some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
        assert some.multiply(np.ones((0, 32), np.uint8), 1, 0, np.arange(16)).codes.shape == (0, 16)
    assert some.die.state.clock_ns == 0
    assert not some.die.state.meter.energy_J.any()


@pytest.mark.parametrize(("seconds", "celsius"), [(-1.0, None), (float("nan"), None), (1e12, None), (1.0, -300.0)])
def test_time_and_temperature_that_cannot_be_are_refused(small_table, seconds, celsius):
    die = SimulatedDie(small_table.geometry, DieModel(), 1)
    with pytest.raises(UsageError):
        die.age(seconds, celsius)
    assert die.state.clock_ns == 0
    assert die.state.temperature_C == 25.0


def test_a_slower_converter_takes_longer(small_table):
    seconds = []
    for rate in (50e3, 10e3):
        some = controller(replace(small_table, adc_rate_Hz=rate))
        read(some, ones(small_table.geometry).bits)
        seconds.append(some.die.state.clock_s - 32 * small_table.settle_time_s)
    assert seconds[1] == pytest.approx(5 * seconds[0])


def test_a_board_whose_dac_is_high_reads_and_multiplies_more(small_table):
    """The same hidden error of the DAC on the bit lines, in both operations; the power with its square."""
    found = []
    for sigma in (0.0, 0.05):
        model = BoardModel.preset("ideal", {"dac_gain_sigma": sigma})
        board = SimulatedBoard(small_table, model, "B-1", 5)
        die = SimulatedDie(small_table.geometry, DieModel.preset("ideal", STILL), 1)
        some = SimulatedController(die, board)
        some.die.pulse("electroform", ones(small_table.geometry), Pulse(3.75, 1e-6, 1.6))
        codes = read(some, ones(small_table.geometry).bits).astype(float) - small_table.zero_code
        some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
        sums = some.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16))
        lines_J = meter(some, "multiply")[1] - sums.conversions * small_table.conversion_energy_J
        code = small_table.dac_code(0.2)
        gain = board.volts(code) / small_table.dac_volts(code)
        found.append((gain, codes.sum(), (sums.codes - 4 * small_table.zero_code).sum(), lines_J))
    gain = found[1][0]
    assert abs(gain - 1) > 0.005
    assert found[1][1] / found[0][1] == pytest.approx(gain, abs=5e-4)
    assert found[1][2] / found[0][2] == pytest.approx(gain, abs=5e-4)
    assert found[1][3] / found[0][3] == pytest.approx(gain**2, rel=1e-6)
