"""Isolated reads on a simulated die: each row is its own ladder of the cells that are read, by the hidden truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import ones

from rramlab.base.errors import InstrumentError
from rramlab.macro.cells import CellSelection
from rramlab.macro.crossbar import LineResistances, lone_rows, transfer
from rramlab.plan import cost
from rramlab.plan.operations import Read
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.faults import LineFaults
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.state import KINDS

RESTLESS = {
    "noise": {"telegraph_share": 0.5, "telegraph_amplitude": 0.2, "telegraph_shortest_s": 0.002, "telegraph_longest_s": 1},
    "relaxation": {
        "relax_mean": 0.05,
        "relax_ln_sigma": 0.1,
        "relax_start_s": 0.001,
        "relax_end_s": 1.0,
        "interval_s": 0.0001,
    },
}  # fmt: skip


def controller(table, solver="exact", segment_Ohm=40.0, die="ideal", board="published", faults=None, seed=1, **changes):
    simulated = SimulatedBoard(table, BoardModel.preset(board), "B-1", 5, faults=faults)
    model = DieModel.preset(die, {"wires": {"solver": solver, "segment_Ohm": segment_Ohm}, **changes})
    made = SimulatedController(SimulatedDie(table.geometry, model, seed), simulated)
    made.pulse(1, "electroform", ones(table.geometry), table.dac_code(3.5), 1000, table.dac_code(1.6), 8)
    return made


def random_bits(table, seed=2, share=0.4):
    return np.random.default_rng(seed).random(table.geometry.shape) < share


def read(some, bits, repeats=1, isolated=True):
    code = some.board.table.dac_code(0.2)
    return some.read(CellSelection(bits), repeats, code, isolated=isolated)


def expected(some, bits):
    """By the hidden truth, float64[n]: codes before rounding."""
    board, table = some.board, some.board.table
    lines = LineResistances(board.bl_Ohm, board.sl_Ohm, some.die.model.wires.segment_Ohm)
    seen = lone_rows(np.where(bits, some.die.conductance_S, 0.0), lines)
    unit = board.volts(table.dac_code(0.2)) / table.read_voltage_V / table.read_step_S
    return (table.zero_code + board.read_offset + board.read_gain * seen * unit)[bits]


@pytest.mark.parametrize("solver", ["fast", "exact"])
@pytest.mark.parametrize("share", [0.03, 0.4, 1.0])
def test_codes_are_those_of_lone_ladders_of_the_cells_that_are_read(small_table, solver, share):
    some = controller(small_table, solver)
    bits = random_bits(small_table, share=share)
    codes = read(some, bits)[0]
    assert np.all(np.abs(codes - expected(some, bits)) <= 0.5 + 0.02)


def test_alone_a_cell_is_behind_its_own_path_and_nothing_else(small_table):
    """Which is what tells switches and wires apart from cells: a row's other cells no longer share its bit line."""
    some = controller(small_table, board="ideal")
    table, board, segment = small_table, some.board, some.die.model.wires.segment_Ohm
    cells = some.die.conductance_S.astype(float)
    for row, column in ((0, 0), (3, 7), (31, 15), (16, 15)):
        bits = np.zeros(table.geometry.shape, np.bool_)
        bits[row, column] = True
        path = board.bl_Ohm[row] + segment * column + segment * (31 - row) + board.sl_Ohm[column]
        siemens = 1 / (1 / cells[row, column] + path)
        code = table.zero_code + siemens * table.dac_volts(table.dac_code(0.2)) / 0.2 / table.read_step_S
        assert abs(read(some, bits)[0, 0] - code) <= 0.5 + 0.02


def test_it_reads_otherwise_than_a_read_and_more_the_fewer_cells_share_a_row(small_table):
    some = controller(small_table, segment_Ohm=200.0)
    one = np.zeros(small_table.geometry.shape, np.bool_)
    one[:, 15] = True  # at the far end of its bit line
    plain = read(some, one, isolated=False)[0].astype(float)
    alone = read(some, one)[0].astype(float)
    everything = np.ones_like(one)
    among = read(some, everything)[0].reshape(one.shape)[:, 15].astype(float)
    assert alone.sum() > 1.02 * among.sum()
    assert abs(among.sum() / plain.sum() - 1) > 0.005  # the other rows load the source lines of a plain read
    seen = transfer(some.die.conductance_S, LineResistances(some.board.bl_Ohm, some.board.sl_Ohm, 200.0))[:, 15]
    unit = some.board.volts(small_table.dac_code(0.2)) / 0.2 / small_table.read_step_S
    level = small_table.zero_code + some.board.read_offset[15] + some.board.read_gain[15] * seen * unit
    assert np.all(np.abs(plain - level) <= 0.6)


@pytest.mark.parametrize("repeats", [1, 3])
def test_without_line_resistance_it_is_any_read(small_table, repeats):
    one, other = (controller(small_table, "none", die="published") for _ in range(2))
    bits = random_bits(small_table)
    assert np.array_equal(read(one, bits, repeats), read(other, bits, repeats, isolated=False))
    assert one.die.state.clock_ns == other.die.state.clock_ns
    assert one.die.state.conversions == other.die.state.conversions


@given(
    st.integers(1, 3),
    st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.sampled_from(["none", "fast", "exact"]),
    st.integers(0, 2**32),
)
def test_codes_do_not_depend_on_the_blocks_of_rows(small_table, repeats, sizes, solver, seed):
    """With repeats and noise, cells that change, and intervals of the clock crossed between two rows."""
    bits = random_bits(small_table, seed, 0.5)
    whole, parts = (controller(small_table, solver, die="published", seed=seed, **RESTLESS) for _ in range(2))
    expected_codes = read(whole, bits, repeats)
    found, start, index = [], 0, 0
    while start < len(bits):
        stop = start + sizes[index % len(sizes)]
        part = CellSelection(bits).within(start, stop)
        if part.count:
            found.append(read(parts, part.bits, repeats))
        start, index = stop, index + 1
    assert np.array_equal(np.concatenate(found, axis=1), expected_codes)
    assert whole.die.state.clock_ns == parts.die.state.clock_ns
    assert whole.die.state.meter.energy_J == pytest.approx(parts.die.state.meter.energy_J)


def test_it_sees_the_cells_as_they_are_now(small_table):
    """No matrix of an earlier moment: the same whatever was read before."""
    some = controller(small_table, die="published", noise={"read": 0.0}, relaxation={"interval_s": 0.01, "drift": 0.05})
    bits = random_bits(small_table)
    read(some, bits, isolated=False)
    some.die.pass_time(3_000_000_000_000)
    now = expected(some, bits)
    assert np.all(np.abs(read(some, bits)[0] - now) <= 0.5 + 0.02)


def test_its_noise_is_that_of_a_read(small_table):
    some = controller(small_table, die="ideal", board="ideal", noise={"read": 0.02})
    bits = random_bits(small_table, share=0.1) & (some.die.conductance_S > 2e-6)  # many codes each
    codes = read(some, bits, 2000).astype(float) - small_table.zero_code
    assert codes.shape[1] > 20
    assert np.all(np.abs(codes.std(axis=0) / codes.mean(axis=0) / 0.02 - 1) < 0.1)


def test_only_the_cells_that_are_read_load_their_row(small_table):
    some, bits = controller(small_table, board="ideal"), random_bits(small_table)
    before = some.die.state.meter.energy_J.copy(), some.die.state.meter.time_ns.copy()
    volts = small_table.dac_volts(small_table.dac_code(0.2))
    loads = np.where(bits, some.die.conductance_S, 0.0).sum(axis=1)
    read(some, bits, 2)
    place = KINDS.index("read")
    meter = some.die.state.meter
    converters_J = 2 * bits.sum() * small_table.conversion_energy_J
    driven_s = cost.read_driven_s(bits, 2, small_table)
    energy = meter.energy_J[place] - before[0][place]
    assert energy == pytest.approx(converters_J + volts**2 * (loads @ driven_s), rel=1e-6)
    span_s = (meter.time_ns[place] - before[1][place]) / 1e9
    assert span_s == pytest.approx(cost.of(Read(CellSelection(bits), 2, isolated=True), small_table).time_s)


def test_stuck_rows_are_cut_off_and_broken_lines_stay_broken(small_table):
    faults = LineFaults(open_rows=(1,), open_columns=(2,), stuck_rows=(5,), shorts=((3, 7),))
    some = controller(small_table, "none", faults=faults, board="ideal")
    everything = np.ones(small_table.geometry.shape, np.bool_)
    codes = read(some, everything)[0].reshape(32, 16).astype(float) - small_table.zero_code
    assert np.all(codes[1] == 0)
    assert np.all(codes[:, 2] == 0)
    unit = small_table.dac_volts(small_table.dac_code(0.2)) / 0.2 / small_table.read_step_S
    sound = np.ones((32, 16), np.bool_)
    sound[1], sound[:, 2], sound[3, 7] = False, False, False
    assert np.all(np.abs(codes - some.die.conductance_S * unit)[sound] <= 0.5 + 1e-3)
    assert codes[3, 7] == 2**14 - 1 - small_table.zero_code


def test_a_board_that_cannot_refuses_it(small_table):
    table = replace(small_table, capabilities=small_table.capabilities - {"isolated_reads"})
    some = controller(table)
    with pytest.raises(InstrumentError, match="B-1 refused"):
        read(some, random_bits(table))
    read(some, random_bits(table), isolated=False)
