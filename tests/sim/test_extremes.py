"""Extreme but legal input: nothing breaks half-way, nothing is lost, and what cannot be computed is refused in words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import ones

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError, InstrumentError
from rramlab.macro.cells import CellSelection
from rramlab.macro.crossbar import LineResistances, transfer
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim.board import Lines, SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.drive import Drive
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.state import PARTIAL, PRISTINE

SMALL = Geometry(16, 12)
FORM = Pulse(3.75, 1e-6, 1.6)
DAY_S = 86400.0


def die(preset="published", geometry=SMALL, seed=1, **figures):
    return SimulatedDie(geometry, DieModel.preset(preset, figures), seed)


def controller(table, board="ideal", path=None, **figures):
    some = SimulatedDie(table.geometry, DieModel.preset("published", figures), 3)
    return SimulatedController(some, SimulatedBoard(table, BoardModel.preset(board), "B-7", 7), path)


@given(
    st.sampled_from(["electroform", "set", "reset"]),
    st.sampled_from([0.0, 0.05, 1.0, 2.0, 3.75, 5.0]),
    st.sampled_from([1e-9, 1e-7, 1e-6, 1e-3]),
    st.sampled_from([0.0, 1e-4, 0.4, 0.6, 1.6, 5.0]),
    st.sampled_from([None, Drive(8, np.full(16, 125.0), 0.4, 0.0), Drive(3, np.full(16, 1e6), 5.0, 5.0)]),
)
def test_a_die_can_be_kept_whatever_pulses_it_has_had(tmp_path_factory, kind, volts, width_s, gate_V, drive):
    some, path = die(), tmp_path_factory.mktemp("die") / "die.npz"
    some.pulse("electroform", ones(SMALL), FORM)
    some.pulse(kind, ones(SMALL), Pulse(volts, width_s, gate_V), drive or Drive())
    some.save(path)
    found, _ = SimulatedDie.load(path, SMALL)
    assert np.array_equal(found.state.conductance_S, some.state.conductance_S)
    assert np.all(some.conductance_S > 0)


@pytest.mark.parametrize("kind", ["electroform", "set", "reset"])
def test_without_a_channel_a_pulse_does_nothing_and_counts(kind):
    some = die()
    some.pulse("electroform", ones(SMALL), Pulse(3.45, 1e-6, 1.6))
    before, pulses = some.state.conductance_S.copy(), some.state.pulses.copy()
    assert some.pulse(kind, ones(SMALL), Pulse(4.0, 1e-6, 0.4)) == 0.0
    assert np.array_equal(some.state.conductance_S, before)
    assert np.array_equal(some.state.pulses, pulses + 1)


@pytest.mark.parametrize("preset", ["published", "phase-change"])
def test_an_incremental_pulse_starts_from_what_a_cell_has_become(preset):
    """A month after forming a small reset raises no cell, a set lowers none."""
    for kind, pulse in (("reset", Pulse(1.5, 1e-6, 3.0)), ("set", Pulse(2.0, 1e-6, 1.6))):
        some = die(preset, Geometry(64, 64), noise={"telegraph_share": 0.0})
        some.pulse("electroform", ones(some.geometry), FORM)
        some.age(30 * DAY_S)
        before = some.conductance_S.copy()
        some.pulse(kind, ones(some.geometry), pulse)
        change = some.conductance_S / before - 1
        assert np.count_nonzero(np.abs(change) > 1e-3) > 100
        if kind == "reset":
            assert np.all(change < 1e-5)
        elif preset == "published":  # the law of the other reaches down to nothing: what is set anew may come out lower
            assert np.all(change > -1e-5)


def test_partly_formed_cells_fell_short_by_little_of_what_they_saw():
    some = die(geometry=Geometry(64, 64))
    some.pulse("electroform", ones(some.geometry), FORM, Drive(64, np.full(64, 125.0)))
    phase, lift = some.state.phase, some.model.conductance.current(1.6) * 125
    together = np.count_nonzero(phase == 1, axis=1)[:, None]
    seen = np.broadcast_to(3.75 - lift * together, phase.shape)
    short = some.breakdown_V - seen
    assert np.count_nonzero(phase == PARTIAL) > 10
    assert short[phase == PARTIAL].max() <= 0.03 + 1e-5
    assert short[phase == PRISTINE].min() >= 0.03 - 1e-5


@pytest.mark.parametrize("sigma", [0.0, 1e-3])
def test_a_long_pulse_switches_at_less_voltage_whatever_the_spread(sigma):
    still = {"reset_sigma_V": sigma, "reset_cycle_sigma_V": 0.0}
    some = die(switching=still)
    some.pulse("electroform", ones(SMALL), FORM)
    before = some.state.conductance_S.copy()
    some.pulse("reset", ones(SMALL), Pulse(1.35, 1e-4, 3.0))  # 0.2 V more than at 1 µs, 0.15 V over the threshold
    assert np.mean(some.state.conductance_S < before) > 0.9


def test_a_disturb_without_bounds_is_bounded():
    some = die(switching={"disturb_V": 0.001, "disturb_rate": 1.0})
    some.pulse("electroform", ones(SMALL), FORM)
    bits = np.zeros(SMALL.shape, bool)
    bits[:, 0] = True
    for _ in range(3):
        some.pulse("reset", CellSelection(bits), Pulse(2.0, 1e-6, 3.0), Drive(8, None, 0.4))
    assert np.abs(some.state.disturb_ppm).max() == 1_000_000


@pytest.mark.parametrize("preset", ["harsh", "phase-change"])
def test_the_matrix_between_two_solutions_is_that_of_its_time(table, preset):
    """Cells that change together change what the lines lose: the folded matrix against a fresh one."""
    some = die(preset, Geometry(96, 96), wires={"solver": "exact", "segment_Ohm": 5.0})
    small = replace(table, geometry=some.geometry)
    board = SimulatedBoard(small, BoardModel(), "B-1", 1)
    lines = Lines(some, board)
    some.pulse("electroform", ones(some.geometry), FORM)
    resistances = LineResistances(board.bl_Ohm, board.sl_Ohm, 5.0)
    for since in (3, 90, 1300):
        interval = some.settled + since
        fresh = transfer(some.conductance_at(interval), resistances, "exact")
        folded = lines.read_S(interval)
        columns = folded.sum(axis=0) / fresh.sum(axis=0) - 1
        assert np.abs(columns).max() < 5e-3


@pytest.mark.parametrize("empty", ["rows", "columns", "vectors", "phases"])
def test_a_product_of_nothing_is_nothing(small_table, empty):
    some = controller(small_table)
    rows = np.zeros((0 if empty == "phases" else 1, 32), bool)
    if empty in {"columns", "vectors"}:
        rows[0, :4] = True
    some.load_gates(0, rows, np.full(16, -1 if empty == "phases" else 0, np.int16))
    columns = np.arange(0 if empty in {"columns", "phases"} else 16)
    sums = some.multiply(
        np.ones((0 if empty == "vectors" else 2, int(rows.any(axis=0).sum())), np.uint8), 2, 0, columns
    )
    assert sums.conversions == 0
    assert sums.codes.shape == (0 if empty == "vectors" else 2, len(columns))
    assert not sums.codes.any()


@pytest.mark.parametrize("together", [0, -3])
def test_less_than_one_cell_a_pulse_is_refused(small_table, together):
    some = controller(small_table)
    with pytest.raises(InstrumentError, match="cells a pulse"):
        some.pulse(1, "electroform", ones(some.die.geometry), 40000, 1000, 20000, together)
    assert some.die.state.clock_ns == 0


def test_columns_of_another_type_are_the_same_columns(small_table):
    some = controller(small_table, noise={"read": 0.0})
    some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    x = np.ones((1, 32), np.uint8)
    wide = some.multiply(x, 1, 0, np.array([1])).codes
    assert some.multiply(x, 1, 0, np.array([1, 0], np.int32)).codes.shape == (1, 2)
    assert np.array_equal(some.multiply(x, 1, 0, np.array([1], np.int32)).codes, wide)


GARBLED = {
    "a temperature that is no number": ("history_C", lambda a: np.full_like(a, np.nan)),
    "colder than can be": ("history_C", lambda a: np.full_like(a, -273.15)),
    "temperatures in words": ("history_C", lambda a: np.array(["warm"])),
    "two dimensions of history": ("history_ns", lambda a: a[None]),
    "a history of fractions": ("history_ns", lambda a: a.astype(float)),
    "a history that begins late": ("history_ns", lambda a: a + 5),
    "a clock of another type": ("clock_ns", lambda a: np.array(1e30)),
    "conversions below none": ("conversions", lambda a: np.array(-1)),
    "programmed before all time": ("programmed_ns", lambda a: -a),
    "energy that is no number": ("meter_energy_J", lambda a: a * np.nan),
    "a nonce of many": ("board_nonce", lambda a: np.array([1, 2], np.uint64)),
    "ids without a row": ("board_ids", lambda a: np.array(3)),
    "fractional ids": ("board_ids", lambda a: a.astype(float)),
    "a memory cut short": ("board_done", lambda a: a[:-1]),
    "ids above the highest": ("board_highest", lambda a: np.array(0)),
}


def taken_up(path, board):
    found, memory = SimulatedDie.load(path, board.table.geometry)
    SimulatedController(found, board, path).remember(memory)


@pytest.mark.parametrize(("name", "change"), GARBLED.values(), ids=GARBLED.keys())
def test_a_state_that_cannot_be_is_refused_and_kept(small_table, tmp_path, name, change):
    path = tmp_path / "die.npz"
    some = controller(small_table, path=path)
    some.pulse(
        1, "electroform", ones(some.die.geometry), small_table.dac_code(3.75), 1000, small_table.dac_code(1.6), 8
    )
    arrays = load_arrays(path)
    save_arrays(path, {**arrays, name: change(arrays[name])}, compressed=False)
    before = path.read_bytes()
    with pytest.raises((DataError, ValueError)):
        taken_up(path, some.board)
    assert path.read_bytes() == before


def test_stored_for_no_time_at_all_nothing_is_remembered():
    some = die()
    some.age(0.0, 85.0)
    assert len(some.state.history_ns) == 1
    some.age(10.0, 85.0)
    some.age(10.0, 85.0)
    assert np.all(np.diff(some.state.history_ns) > 0)
