"""The simulated board behind the controller's contract: codes and bitmaps, at most one pulse an id, its own limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from workbench import ones

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import History
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel

GEOMETRY = Geometry(32, 16)


@pytest.fixture(scope="module")
def make(small_table):
    def controller(die="published", board="published", seed=1, path=None, table=small_table):
        simulated = SimulatedBoard(table, BoardModel.preset(board), "B-1", 5)
        return SimulatedController(SimulatedDie(table.geometry, DieModel.preset(die), seed), simulated, path)

    return controller


def cells(text):
    return Region(text).bound(GEOMETRY)


def form(controller, op_id=1, text="all", volts=3.75):
    table = controller.board.table
    return controller.pulse(op_id, "electroform", cells(text), table.dac_code(volts), 1000, table.dac_code(1.6), 8)


def read_code(controller):
    return controller.board.table.dac_code(controller.board.table.read_voltage_V)


# pulses -------------------------------------------------------------------------------------------------------


def test_a_pulse_reports_what_it_did(make):
    controller = make()
    report = form(controller, 1, "rows 0-3")
    assert report.done == cells("rows 0-3")
    assert not report.truncated
    assert controller.history(1) == cells("rows 0-3")
    assert np.array_equal(controller.die.state.pulses, cells("rows 0-3").bits)


@given(st.lists(hnp.arrays(np.bool_, GEOMETRY.shape), min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=6))
def test_a_retried_pulse_changes_nothing(make, bitmaps, retries):
    controller = make()
    table = controller.board.table

    def send(index):
        kind = ("electroform", "reset", "set")[index % 3]
        volts = 3.6 if kind == "electroform" else 2.0
        return controller.pulse(
            10 + index, kind, CellSelection(bitmaps[index]), table.dac_code(volts), 1000, table.dac_code(1.6), 8
        )

    for index in range(len(bitmaps)):
        send(index)
    state = controller.die.state
    before = state.conductance_S.copy(), state.pulses.copy(), state.phase.copy(), state.clock_s
    for retry in retries:
        if retry < len(bitmaps):
            assert send(retry).done == CellSelection(bitmaps[retry])
    assert np.array_equal(state.conductance_S, before[0])
    assert np.array_equal(state.pulses, before[1])
    assert np.array_equal(state.phase, before[2])
    assert state.clock_s == before[3]


def test_history_knows_never_and_forgotten_apart(make):
    controller = make()
    assert controller.history(5) is History.NEVER
    form(controller, 5, "row 0")
    assert controller.history(5) == cells("row 0")
    controller.acknowledge(5)
    assert controller.history(5) is History.FORGOTTEN
    assert controller.history(6) is History.NEVER
    with pytest.raises(InstrumentError, match="nothing was pulsed"):
        form(controller, 5, "row 0")
    assert controller.die.state.pulses.max() == 1


def test_a_full_memory_refuses_new_ids_until_the_host_acknowledges(make):
    controller = make()
    room = controller.board.table.operation_memory
    for op_id in range(1, room + 1):
        form(controller, op_id, "cell (0, 0)")
    with pytest.raises(InstrumentError, match=r"[Aa]cknowledge"):
        form(controller, room + 1, "row 1")
    assert not controller.die.state.pulses[1].any()
    assert form(controller, 1, "cell (0, 0)").done == cells("cell (0, 0)")  # a retry is still answered
    controller.acknowledge(room - 1)  # it and all before it
    assert controller.history(1) is controller.history(room - 1) is History.FORGOTTEN
    assert controller.history(room) == cells("cell (0, 0)")
    form(controller, room + 1, "row 1")
    assert controller.die.state.pulses[1].all()


@pytest.mark.parametrize(
    ("kind", "volts", "width_ns", "gate", "shots"),
    [
        ("electroform", 4.6, 1000, 1.6, 8),
        ("electroform", 3.75, 50, 1.6, 8),
        ("electroform", 3.75, 2_000_000, 1.6, 8),
        ("electroform", 3.75, 1000, 3.7, 8),
        ("electroform", 3.75, 1000, 1.6, 200),
        ("reset", 3.4, 1000, 1.6, 8),
    ],
)
def test_the_board_enforces_its_own_limits(make, kind, volts, width_ns, gate, shots):
    controller = make()
    table = controller.board.table
    with pytest.raises(InstrumentError, match="refused"):
        controller.pulse(1, kind, ones(GEOMETRY), table.dac_code(volts), width_ns, table.dac_code(gate), shots)
    assert not controller.die.state.pulses.any()
    assert controller.history(1) is History.NEVER
    assert controller.die.state.clock_s == 0


def test_power_off_forgets_what_is_volatile_and_changes_the_nonce(make):
    controller = make()
    form(controller, 3, "rows 0-3")
    controller.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    nonce, conductance = controller.hello().boot_nonce, controller.die.state.conductance_S.copy()
    controller.power_cycle()
    assert controller.hello().boot_nonce != nonce
    assert not isinstance(controller.history(3), CellSelection)
    assert np.array_equal(controller.die.state.conductance_S, conductance)
    with pytest.raises(InstrumentError, match="empty"):
        controller.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16))


def test_die_and_memory_persist_together(make, tmp_path):
    path = tmp_path / "die.npz"
    controller = make(path=path)
    form(controller, 7, "rows 0-3")
    die, memory = SimulatedDie.load(path, GEOMETRY)
    again = SimulatedController(die, controller.board, path)
    again.remember(memory)
    assert again.hello() == controller.hello()
    assert again.history(7) == cells("rows 0-3")
    assert again.history(8) is History.NEVER
    before = die.state.conductance_S.copy()
    assert form(again, 7, "rows 0-3").done == cells("rows 0-3")
    assert np.array_equal(die.state.conductance_S, before)
    assert die.state.pulses.max() == 1


def test_identity_says_what_the_board_is(make, small_table):
    identity = make().hello()
    assert identity.geometry == GEOMETRY
    assert identity.board_serial == "B-1"
    assert identity.limits.sl_minus_bl == small_table.max_sl_minus_bl_V
    assert identity.capabilities == small_table.capabilities


# reads --------------------------------------------------------------------------------------------------------


def test_read_codes_are_conductance_in_steps_of_the_range_in_c_order(make):
    controller = make("ideal", "ideal")
    form(controller)
    chosen = cells("rows 3-9 & checkerboard")
    codes = controller.read(chosen, 2, read_code(controller))
    table = controller.board.table
    volts = table.dac_volts(read_code(controller))
    exact = controller.die.state.conductance_S[chosen.bits].astype(float) * volts / 0.2 / 6.25e-9 + table.zero_code
    assert codes.dtype == np.uint16
    assert codes.shape == (2, chosen.count)
    assert np.all(np.abs(codes - exact) <= 0.5 + 1e-3)
    assert np.array_equal(codes[0], codes[1])


def test_read_noise_is_two_percent_independent_a_conversion(make):
    controller = make("published", "ideal", table=make().board.table)
    form(controller)
    codes = controller.read(ones(GEOMETRY), 400, read_code(controller)).astype(float) - controller.board.table.zero_code
    truth = controller.die.conductance_S.ravel() / 6.25e-9
    relative = np.sqrt(codes.var(axis=0, ddof=1) - 1 / 12) / truth
    assert np.sqrt(np.mean(relative**2)) == pytest.approx(0.02, rel=0.02)
    assert codes.mean() / truth.mean() == pytest.approx(1, abs=5e-4)
    centred = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    for lagged in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(lagged.mean()) < 4 / np.sqrt(lagged.size) + 1 / 400
    third = np.mean(centred**3)
    assert abs(third) < 4 * np.sqrt(6 / centred.size)


def test_boards_have_hidden_gains_and_offsets_a_column(make):
    controller = make("ideal", "published")
    form(controller)
    codes = controller.read(ones(GEOMETRY), 1, read_code(controller)).reshape(GEOMETRY.shape).astype(float)
    truth = controller.die.state.conductance_S / 6.25e-9
    errors = np.median(codes - 64 - truth, axis=0)
    assert errors.std() > 1
    assert np.all(np.abs(errors) < 6 * (1.0 + 0.005 * truth.max()))


def test_a_retried_read_is_a_new_read(make):
    controller = make()
    form(controller)
    first, second = (controller.read(ones(GEOMETRY), 1, read_code(controller)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_saturated_reads_stop_at_the_top_code(make):
    controller = make("ideal", "ideal")
    controller.die.state.conductance_S[0, 0] = 1e-3
    assert controller.read(cells("cell (0, 0)"), 1, read_code(controller)).item() == 2**14 - 1


def test_a_read_above_the_read_voltage_is_refused(make):
    controller = make()
    with pytest.raises(InstrumentError, match="refused"):
        controller.read(ones(GEOMETRY), 1, controller.board.table.dac_code(0.4))
    assert controller.die.state.conversions == 0


def test_the_clock_advances_by_operations_only(make):
    controller = make()
    controller.hello()
    controller.heartbeat()
    controller.history(1)
    controller.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    controller.safe_state()
    assert controller.die.state.clock_s == 0
    times = [0.0]
    form(controller)
    times.append(controller.die.state.clock_s)
    controller.read(ones(GEOMETRY), 1, read_code(controller))
    times.append(controller.die.state.clock_s)
    controller.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    controller.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16))
    times.append(controller.die.state.clock_s)
    assert times == sorted(set(times))


# products -----------------------------------------------------------------------------------------------------


def reference(sevenths, kept, x, bits, table):
    """Bit planes, row groups and rounding in whole numbers: cells are ``sevenths`` / 7 codes, never near a tie."""
    top = 2**table.adc_bits - 1
    rows, columns = kept.shape
    total = np.zeros((len(x), columns), np.int64)
    conversions, saturated = 0, np.zeros(columns, np.int64)
    for column in range(columns):
        for start in range(0, rows, table.lines_at_once):
            group = slice(start, start + table.lines_at_once)
            if not kept[group, column].any():
                continue
            for vector in range(len(x)):
                for bit in range(bits):
                    on = ((x[vector, group].astype(int) >> bit) & 1).astype(bool) & kept[group, column]
                    exact = int(sevenths[group, column][on].sum()) + 7 * table.zero_code
                    code = (2 * exact + 7) // 14
                    conversions += 1
                    saturated[column] += not 0 < code < top
                    total[vector, column] += min(max(code, 0), top) << bit
    return total, conversions, saturated


def products(make, kept, bits, batch, seed, largest=1900):
    """Products of an ideal macro whose cells are multiples of a seventh of a code, and their reference."""
    rng = np.random.default_rng(seed)
    controller = make("ideal", "ideal")
    table = controller.board.table
    sevenths = rng.integers(0, largest, GEOMETRY.shape)
    controller.die.state.conductance_S[:] = sevenths / 7 * table.multiply_step_S
    full = np.zeros((batch, 32), np.uint8)
    pattern = GatePattern.of_pairs(kept)
    driven = np.flatnonzero(pattern.driven)
    full[:, driven] = rng.integers(0, 2**bits, (batch, len(driven)))
    controller.load_gates(3, pattern.rows, pattern.phase)
    columns = np.flatnonzero(pattern.enabled)
    found = controller.multiply(full[:, driven], bits, 3, columns)
    cells_kept = np.repeat(kept, 2, axis=1)
    total, conversions, saturated = reference(sevenths[:, columns], cells_kept[:, columns], full, bits, table)
    return found, total, conversions, saturated


@given(hnp.arrays(np.bool_, (32, 8)).filter(np.any), st.integers(1, 8), st.integers(1, 4), st.integers(0, 2**32))
def test_an_ideal_multiply_is_exactly_the_integer_reference(make, kept, bits, batch, seed):
    found, total, conversions, saturated = products(make, kept, bits, batch, seed)
    assert found.codes.dtype == np.int32
    assert np.array_equal(found.codes, total)
    assert found.conversions == conversions
    assert np.array_equal(found.saturated, saturated)
    assert not found.saturated.any()


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_phases_with_their_own_rows_are_exact_too(make, bits, seed):
    rng = np.random.default_rng(seed)
    sets = rng.random((32, 3)) < 0.3
    sets[rng.integers(32), :] = True
    kept = sets[:, rng.integers(0, 3, 8)]
    found, total, conversions, _ = products(make, kept, bits, 3, seed)
    assert np.array_equal(found.codes, total)
    assert found.conversions == conversions


def test_saturation_is_clipped_and_counted(make):
    kept = np.ones((32, 8), bool)
    found, total, _, saturated = products(make, kept, 3, 4, 1, largest=60_000)
    assert 0 < saturated.sum() < found.conversions
    assert np.array_equal(found.codes, total)
    assert np.array_equal(found.saturated, saturated)


def noisy(make, batch_sizes, seed=4, bits=4):
    controller = make("published", "published", seed=seed)
    form(controller, 1)
    rng = np.random.default_rng(seed)
    pattern = GatePattern.of_pairs(rng.random((32, 8)) < 0.6)
    controller.load_gates(0, pattern.rows, pattern.phase)
    x = rng.integers(0, 2**bits, (sum(batch_sizes), int(pattern.driven.sum()))).astype(np.uint8)
    columns = np.flatnonzero(pattern.enabled)
    parts, start = [], 0
    for size in batch_sizes:
        parts.append(controller.multiply(x[start : start + size], bits, 0, columns).codes)
        start += size
    return np.concatenate(parts), controller.die.state


def test_the_same_snapshot_gives_the_same_codes_whatever_the_batch_size(make):
    whole, state = noisy(make, [60])
    for sizes in ([1] * 60, [7, 53], [59, 1], [20, 20, 20]):
        parts, other = noisy(make, sizes)
        assert np.array_equal(parts, whole), sizes
        assert other.conversions == state.conversions
        assert other.clock_s == pytest.approx(state.clock_s, rel=1e-9)


def test_a_large_batch_gives_the_same_codes_as_single_vectors(make, table):
    """The shipped array, where the product is computed in chunks."""
    pattern = GatePattern.lines(np.arange(512) < 192, np.arange(256) < 32)
    x = np.random.default_rng(0).integers(0, 256, (40, 192)).astype(np.uint8)
    results = []
    for step in (40, 1, 13):
        controller = make(table=table)
        controller.die.state.conductance_S[:] = 12.2e-6 * np.exp(
            0.1475 * np.random.default_rng(3).standard_normal((512, 512))
        )
        controller.load_gates(0, pattern.rows, pattern.phase)
        results.append(
            np.concatenate(
                [controller.multiply(x[i : i + step], 8, 0, np.arange(64)).codes for i in range(0, 40, step)]
            )
        )
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_noise_of_products_is_that_of_cells_read_one_by_one(make):
    """Mean and variance of a column's sums match 2 % noise, independent for every driven cell and conversion."""
    controller = make("published", "ideal")
    form(controller, 1)
    table = controller.board.table
    pattern = GatePattern.lines(np.arange(32) < 24, np.ones(8, bool))  # three groups of eight lines
    controller.load_gates(0, pattern.rows, pattern.phase)
    one = np.random.default_rng(2).integers(0, 16, 24).astype(np.uint8)
    n = 6000
    codes = controller.multiply(np.tile(one, (n, 1)), 4, 0, np.arange(16)).codes.astype(float)
    levels = controller.die.conductance_S[:24].astype(float) / table.multiply_step_S
    pedestal = table.zero_code * 3 * 15
    mean = one @ levels + pedestal
    squares = sum(4.0**bit * (((one >> bit) & 1) @ (0.02 * levels) ** 2) for bit in range(4))
    rounding = 3 * (4**4 - 1) / 3 / 12
    assert np.all(np.abs(codes.mean(axis=0) - mean) < 4.5 * np.sqrt((squares + rounding) / n) + 0.3)
    assert np.mean(codes.var(axis=0) / (squares + rounding)) == pytest.approx(1, abs=0.03)
    centred = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    for lagged in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(lagged.mean()) < 4 / np.sqrt(lagged.size)


def test_a_pulse_between_two_products_is_seen(make):
    controller = make("ideal", "ideal")
    controller.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    x = np.ones((1, 32), np.uint8)
    before = controller.multiply(x, 1, 0, np.arange(16)).codes
    form(controller, 1, "cols 0-7")
    after = controller.multiply(x, 1, 0, np.arange(16)).codes
    assert np.all(after[:, :8] > before[:, :8] + 1000)
    assert np.array_equal(after[:, 8:], before[:, 8:])


def test_a_slot_can_be_loaded_again_and_safe_state_empties_all(make):
    controller = make("ideal", "ideal")
    form(controller)
    x = np.ones((1, 8), np.uint8)
    sums = []
    for start in (0, 8, 0):
        rows = np.zeros((1, 32), bool)
        rows[0, start : start + 8] = True
        controller.load_gates(0, rows, np.zeros(16, np.int16))
        sums.append(controller.multiply(x, 1, 0, np.arange(16)).codes)
    assert np.array_equal(sums[0], sums[2])
    assert not np.array_equal(sums[0], sums[1])
    controller.safe_state()
    controller.safe_state()
    with pytest.raises(InstrumentError, match="empty"):
        controller.multiply(x, 1, 0, np.arange(16))


@pytest.mark.parametrize(
    ("x", "bits", "slot", "columns"),
    [
        (np.ones((1, 7), np.uint8), 1, 0, [0]),
        (np.ones(8, np.uint8), 1, 0, [0]),
        (np.ones((1, 8), np.uint8), 0, 0, [0]),
        (np.ones((1, 8), np.uint8), 9, 0, [0]),
        (np.ones((1, 8), np.uint8), 1, 1, [0]),
        (np.ones((1, 8), np.uint8), 1, 0, [14]),
    ],
)
def test_a_multiply_that_makes_no_sense_is_refused(make, x, bits, slot, columns):
    controller = make()
    controller.load_gates(0, np.arange(32)[None, :] < 8, np.repeat([0] * 7 + [-1], 2).astype(np.int16))
    with pytest.raises(InstrumentError):
        controller.multiply(x, bits, slot, np.array(columns))
    assert controller.die.state.conversions == 0


@pytest.mark.parametrize("slot", [-1, 32])
def test_a_slot_that_does_not_exist_is_refused(make, slot):
    with pytest.raises(InstrumentError, match="slot"):
        make().load_gates(slot, np.ones((1, 32), bool), np.zeros(16, np.int16))


def test_a_pattern_of_another_array_is_refused(make):
    with pytest.raises(InstrumentError):
        make().load_gates(0, np.ones((1, 16), bool), np.zeros(16, np.int16))
