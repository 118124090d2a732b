"""What a board routes is what a source-measure unit at its terminals finds, and a sweep is one pulse of a cell's life."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import History
from rramlab.macro.cells import CellSelection
from rramlab.macro.crossbar import LineResistances, lone_rows
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.faults import LineFaults
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.routes import Terminals

PLACE = (3, 7)
CELL, TURNED = RoutedCell(*PLACE), RoutedCell(*PLACE, "bl")
LIMIT_A = 1e-3
SPAN_S = 1e-6  # the width at which breakdown voltages hold
READ_V = 0.2


class Bench:
    """A board, its die, and what is on the terminals of its SMU connector."""

    def __init__(self, table, preset="published", path=None, faults=None, temperature=25.0, **figures):
        self.table = table
        board = SimulatedBoard(table, BoardModel.preset(preset), "B-1", 5, temperature, faults)
        self.die = SimulatedDie(table.geometry, DieModel.preset(preset, figures), 1)
        self.controller = SimulatedController(self.die, board, path)
        self.port = Terminals([self.controller])

    def route(self, target, gate_V=1.6, op_id=0):
        self.controller.route(target, self.table.dac_code(gate_V), op_id)

    def force(self, volts, limit_A=LIMIT_A, span_s=SPAN_S):
        return self.port.force_voltage(volts, limit_A, span_s)

    def siemens(self, volts=0.1, aperture_s=0.0):
        reached, amperes = self.port.force_voltage(volts, LIMIT_A, max(SPAN_S, aperture_s), aperture_s)
        return amperes / reached

    def pulse(self, kind, volts, cells, op_id):
        code = self.table.dac_code
        selected = Region(cells).bound(self.table.geometry)
        return self.controller.pulse(op_id, kind, selected, code(volts), round(SPAN_S * 1e9), code(1.6), 1)

    @property
    def cell(self):
        """The truth: what the cell conducts, and the pulses that it had."""
        return float(self.die.conductance_S[PLACE]), int(self.die.state.pulses[PLACE])

    @property
    def path_Ohm(self):
        """What is on the way to the cell, as in a read of it alone: the amplifier is not part of it."""
        wires = self.die.model.wires
        if wires.solver == "none":
            return 0.0
        board, cells = self.controller.board, np.zeros(self.table.geometry.shape)
        cells[PLACE] = 1e-6
        segment_Ohm = self.table.wire_resistance_Ohm if wires.segment_Ohm is None else wires.segment_Ohm
        alone = lone_rows(cells, LineResistances(board.bl_Ohm, board.sl_Ohm, segment_Ohm))[PLACE]
        return float(1 / alone - 1e6) - self.table.tia_resistance_Ohm


@pytest.fixture
def bench(small_table):
    return Bench(small_table)


@pytest.fixture
def quiet(small_table):
    """No noise, no change with time."""
    return Bench(small_table, "ideal")


def staircase(bench, peak, points=40, start=0.0, **more):
    return [bench.force(volts, **more) for volts in np.linspace(start, peak, points)]


# what is measured -----------------------------------------------------------------------------------------------------


def test_without_a_route_the_terminals_are_open(bench):
    assert bench.force(3.9) == (3.9, 0.0)
    assert bench.port.force_current(1e-3, 2.0, SPAN_S) == (2.0, 0.0)
    assert bench.port.force_current(-1e-3, 2.0, SPAN_S) == (-2.0, 0.0)
    assert not bench.die.state.pulses.any()
    assert not bench.controller.status().routed


LOSSY = [{"solver": "fast"}, {"solver": "exact", "segment_Ohm": 30.0}]


@pytest.mark.parametrize("wires", [{"solver": "none"}, {"solver": "none", "segment_Ohm": 30.0}, *LOSSY])
@pytest.mark.parametrize("target", [CELL, TURNED])
def test_a_cell_conducts_what_it_does_behind_what_a_read_of_it_alone_finds(small_table, target, wires):
    quiet = Bench(small_table, "ideal", wires=wires)
    quiet.pulse("electroform", 3.9, "all", 1)
    quiet.route(target)
    conducts = quiet.cell[0]
    for volts in (0.05, 0.2, -0.2):
        reached, amperes = quiet.force(volts)
        assert reached == volts
        assert volts / amperes == pytest.approx(1 / conducts + quiet.path_Ohm, rel=1e-6)


@pytest.mark.parametrize("wires", LOSSY)
def test_its_path_is_two_switches_and_the_wire_on_either_side(small_table, wires):
    bench = Bench(small_table, "ideal", wires=wires)
    bench.route(CELL)
    board, (row, column) = bench.controller.board, PLACE
    segment_Ohm = wires.get("segment_Ohm", small_table.wire_resistance_Ohm)
    switches = board.bl_Ohm[row] + board.sl_Ohm[column] - small_table.tia_resistance_Ohm
    path = switches + segment_Ohm * (column + 32 - 1 - row)
    assert 1 / bench.siemens() - 1 / bench.cell[0] == pytest.approx(path, rel=1e-4)


@pytest.mark.parametrize("wires", [{"solver": "none"}, *LOSSY])
def test_the_unit_and_an_isolated_read_of_the_board_find_the_same_cell(small_table, wires):
    """The amplifier's 10 Ohm apart, and within a code."""
    bench = Bench(small_table, "ideal", wires=wires)
    bench.pulse("electroform", 3.9, "all", 1)
    one, code = Region("cell (3, 7)").bound(small_table.geometry), small_table.dac_code(READ_V)
    found = float(bench.controller.read(one, 1, code, isolated=True)[0, 0]) - small_table.zero_code
    board_S = found * small_table.read_step_S * READ_V / small_table.dac_volts(code)
    bench.route(CELL)
    unit_S = bench.siemens()
    amplifier = 0.0 if wires["solver"] == "none" else small_table.tia_resistance_Ohm
    assert board_S == pytest.approx(1 / (1 / unit_S + amplifier), abs=0.51 * small_table.read_step_S)


def test_each_measurement_has_its_own_read_noise(bench):
    bench.pulse("electroform", 3.9, "all", 1)
    bench.route(CELL)
    found = np.array([bench.siemens() for _ in range(500)])
    noise = bench.die.model.noise.read
    expected = 1 / (1 / bench.cell[0] + bench.path_Ohm)
    assert found.mean() == pytest.approx(expected, rel=5 * noise / np.sqrt(500))
    assert found.std() / found.mean() == pytest.approx(noise, rel=0.2)
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.2


@pytest.mark.parametrize("aperture_s", [8e-6, 20e-6, 2e-3, 20e-3])
def test_the_noise_of_a_measurement_is_that_of_the_mean_over_its_aperture(small_table, aperture_s):
    """White noise of one conversion of the board, 20 µs: a power-line cycle has a thousand of them."""
    bench = Bench(small_table, "ideal", noise={"read": 0.02})
    bench.pulse("electroform", 3.9, "all", 1)
    bench.route(CELL)
    found = np.array([bench.siemens(aperture_s=aperture_s) for _ in range(500)])
    expected = 0.02 * np.sqrt(20e-6 / aperture_s)
    assert found.std() / found.mean() == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("force", ["voltage", "current"])
def test_either_way_of_forcing_averages(small_table, force):
    bench = Bench(small_table, "ideal", noise={"read": 0.02})
    bench.pulse("electroform", 3.9, "all", 1)
    bench.route(CELL)

    def once(aperture_s):
        if force == "voltage":
            volts, amperes = bench.port.force_voltage(0.1, LIMIT_A, 0.02, aperture_s)
        else:
            volts, amperes = bench.port.force_current(1e-6, 1.0, 0.02, aperture_s)
        return amperes / volts

    short, long = (np.array([once(aperture_s) for _ in range(300)]) for aperture_s in (20e-6, 20e-3))
    assert long.std() < short.std() / 20


def test_what_the_unit_reads_is_what_the_board_reads(bench):
    """Within noise, gain, offset and a code."""
    bench.pulse("electroform", 3.9, "all", 1)
    code = bench.table.dac_code(READ_V)
    codes = bench.controller.read(CellSelection.everything(bench.table.geometry), 16, code).mean(axis=0)
    board_S = (codes.reshape(bench.table.geometry.shape)[PLACE] - bench.table.zero_code) * bench.table.read_step_S
    bench.route(CELL)
    assert np.mean([bench.siemens() for _ in range(64)]) == pytest.approx(board_S, rel=0.03)


@pytest.mark.parametrize("index", [0, 1])
def test_a_reference_resistor_is_within_its_tolerance_and_always_the_same(bench, index):
    bench.route(RoutedReference(index))
    ohms = 1 / bench.siemens()
    assert ohms == pytest.approx(bench.table.reference_Ohm[index], rel=5 * bench.controller.board.model.reference_sigma)
    assert [1 / bench.siemens(volts) for volts in (0.1, -0.1)] == pytest.approx([ohms, ohms])
    volts, amperes = bench.port.force_current(1e-6, 10.0, SPAN_S)
    assert volts / amperes == pytest.approx(ohms)


@pytest.mark.parametrize("volts", [0.0, 0.2, 1.6, 3.75])
@pytest.mark.parametrize("channel", [0, 7])
def test_a_dac_channel_shows_its_voltage_to_a_unit_that_forces_no_current(bench, volts, channel):
    bench.route(RoutedDac(channel), volts)
    found, amperes = bench.port.force_current(0.0, 10.0, SPAN_S)
    assert amperes == 0
    assert found == pytest.approx(bench.controller.board.volts(bench.table.dac_code(volts)))
    assert found == pytest.approx(volts, abs=5e-3)


@given(
    volts=st.floats(-5, 5),
    limit_A=st.floats(1e-9, 1e-2),
    target=st.sampled_from([None, CELL, TURNED, RoutedReference(0), RoutedReference(1), RoutedDac(2)]),
)
def test_compliance_holds_whatever_is_forced_on_whatever(small_table, volts, limit_A, target):
    bench = Bench(small_table, "ideal")
    if target is not None:
        bench.route(target)
    reached, amperes = bench.force(volts, limit_A)
    assert abs(amperes) <= limit_A * (1 + 1e-9)
    assert abs(reached) <= abs(volts) + 1e-9 or isinstance(target, RoutedDac)
    if abs(amperes) < limit_A * (1 - 1e-9):
        assert reached == volts


@given(amperes=st.floats(-1e-2, 1e-2), limit_V=st.floats(1e-3, 3.0))
def test_a_voltage_limit_holds_too(small_table, amperes, limit_V):
    bench = Bench(small_table, "ideal")
    bench.route(CELL)
    reached, found = bench.port.force_current(amperes, limit_V, SPAN_S)
    assert abs(reached) <= limit_V * (1 + 1e-9)
    assert abs(found) <= abs(amperes) * (1 + 1e-6)


# sweeps that change nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formed", [False, True])
@pytest.mark.parametrize("target", [CELL, TURNED])
def test_a_sweep_up_to_the_read_voltage_changes_nothing_and_counts_nothing(bench, formed, target):
    if formed:
        bench.pulse("electroform", 3.9, "all", 1)
    before = bench.die.state.conductance_S.copy(), bench.die.state.pulses.copy(), bench.die.state.phase.copy()
    version = bench.die.version
    bench.route(target)
    staircase(bench, READ_V, start=-READ_V)
    state = bench.die.state
    for found, expected in zip((state.conductance_S, state.pulses, state.phase), before, strict=True):
        assert np.array_equal(found, expected)
    assert bench.die.version == version


def test_time_passes_on_the_die_while_it_is_measured(bench):
    bench.route(CELL)
    before = bench.die.state.clock_ns
    staircase(bench, 0.1, points=10, span_s=0.02)
    assert bench.die.state.clock_ns - before == 10 * 20_000_000


# sweeps that change the cell ------------------------------------------------------------------------------------------


def test_a_forming_sweep_forms_at_the_cells_own_breakdown_voltage(quiet):
    breakdown = float(quiet.die.breakdown_V[PLACE])
    levels = np.arange(3.0, 4.0, 0.005)
    quiet.route(CELL)
    for volts in levels:
        reached, amperes = quiet.force(volts)
        assert reached == volts
        formed = amperes / reached > 2e-6
        assert formed == (volts >= breakdown), volts
    assert levels[0] < breakdown < levels[-1]
    assert quiet.cell[1] == 1
    quiet.controller.route(None, 0)
    assert quiet.die.state.pulses.sum() == 1  # no other cell felt anything


def test_a_longer_dwell_forms_at_a_lower_voltage(small_table):
    """A decade of width is worth as much as it is for a pulse."""
    found = {}
    for span_s in (1e-6, 1e-3):
        bench = Bench(small_table, "ideal")
        bench.route(CELL)
        found[span_s] = next(v for v in np.arange(2.5, 4.0, 0.002) if bench.force(v, span_s=span_s)[1] / v > 2e-6)
    slope = bench.die.model.forming.width_slope_V
    assert found[1e-6] - found[1e-3] == pytest.approx(3 * slope, abs=0.005)


@pytest.mark.parametrize("preset", ["ideal", "published"])
def test_a_sweep_that_ends_as_it_forms_leaves_what_one_pulse_of_its_peak_would(small_table, preset):
    """The draw is that of the cell's pulse count: however many levels there were on the way."""
    swept, pulsed = Bench(small_table, preset), Bench(small_table, preset)
    peak = float(swept.die.breakdown_V[PLACE]) + 0.001
    swept.route(CELL)
    staircase(swept, peak - 0.05)
    swept.force(peak)
    pulsed.die.stress("electroform", *PLACE, peak, round(SPAN_S * 1e9), swept.controller.board.volts(
        small_table.dac_code(1.6)), 0)  # fmt: skip
    assert swept.die.state.pulses[PLACE] == pulsed.die.state.pulses[PLACE] == 1
    assert swept.die.state.conductance_S[PLACE] == pulsed.die.state.conductance_S[PLACE] > 5e-6


def test_one_pulse_of_the_board_leaves_the_same(small_table):
    """The same gate and the same count: the board's own pulse draws the same conductance as the unit's."""
    swept, pulsed = Bench(small_table, "ideal"), Bench(small_table, "ideal")
    peak = float(swept.die.breakdown_V[PLACE]) + 0.001
    swept.route(CELL)
    swept.force(peak)
    one = np.zeros(small_table.geometry.shape, bool)
    one[PLACE] = True
    pulsed.die.pulse("electroform", CellSelection(one), Pulse(peak, SPAN_S, small_table.dac_volts(
        small_table.dac_code(1.6))))  # fmt: skip
    assert swept.cell == pulsed.cell


@pytest.mark.parametrize("points", [2, 10, 300])
@pytest.mark.parametrize("both_ways", [False, True])
def test_a_sweep_counts_as_one_pulse_however_many_levels_it_has(bench, points, both_ways):
    bench.route(CELL)
    staircase(bench, 3.9, points)
    if both_ways:
        staircase(bench, 0.0, points, start=3.9)
    assert bench.cell[1] == 1
    assert bench.cell[0] > 5e-6


def test_a_sweep_that_fails_to_form_counts_too(bench):
    bench.route(CELL)
    staircase(bench, float(bench.die.breakdown_V[PLACE]) - 0.2)
    assert bench.cell[0] < 2e-6
    assert bench.cell[1] == 1


def test_each_route_is_a_pulse_of_its_own(bench):
    for count in (1, 2, 3):
        bench.route(CELL)
        staircase(bench, 3.9)
        bench.controller.route(None, 0)
        assert bench.cell[1] == count


@pytest.mark.parametrize(("target", "sign"), [(TURNED, 1), (CELL, -1)])
def test_a_cell_is_reset_by_its_bit_line_or_by_a_negative_voltage(quiet, target, sign):
    quiet.pulse("electroform", 3.9, "all", 1)
    formed, _ = quiet.cell
    quiet.route(target, gate_V=3.0)
    staircase(quiet, sign * 2.0)
    assert quiet.cell[0] < formed / 5
    assert quiet.cell[1] == 2


@pytest.mark.parametrize(("target", "sign"), [(CELL, 1), (TURNED, -1)])
def test_a_cell_is_set_again_from_the_other_side(quiet, target, sign):
    quiet.pulse("electroform", 3.9, "all", 1)
    quiet.pulse("reset", 2.2, "all", 2)
    low, _ = quiet.cell
    quiet.route(target)
    staircase(quiet, sign * 2.0)
    assert low < 2e-6
    assert quiet.cell[0] > 5e-6
    assert quiet.cell[1] == 3


@pytest.mark.parametrize(("target", "sign"), [(TURNED, 1), (CELL, -1)])
def test_a_pristine_cell_is_not_formed_from_the_reset_side(quiet, target, sign):
    quiet.route(target)
    before, _ = quiet.cell
    staircase(quiet, sign * 3.9)
    assert quiet.cell[0] == before


def test_a_closed_word_line_keeps_the_cell_as_it_is(quiet):
    quiet.route(CELL, gate_V=0.0)
    before, _ = quiet.cell
    staircase(quiet, 3.9)
    assert quiet.cell[0] == before


def test_compliance_keeps_a_formed_cell_from_further_stress(quiet):
    """At its limit the unit lets the voltage collapse, so no level after the breakdown reaches the cell."""
    limit_A = 2e-6
    quiet.route(CELL)
    curve = staircase(quiet, 4.2, points=200, limit_A=limit_A)
    volts, amperes = np.array(curve).T
    formed = np.flatnonzero(amperes >= limit_A * (1 - 1e-9))
    assert formed.size
    assert (volts[formed] < 1.0).all()
    once = Bench(quiet.table, "ideal")
    once.route(CELL)
    once.force(float(once.die.breakdown_V[PLACE]), limit_A)
    assert quiet.cell == once.cell


@pytest.mark.parametrize("wires", [{"solver": "none"}, *LOSSY])
def test_an_open_line_shows_no_current_and_a_short_one_its_own_resistance_and_the_path(small_table, wires):
    faults = LineFaults(open_rows=(1,), open_columns=(2,), shorts=((3, 7),))
    bench = Bench(small_table, "ideal", faults=faults, wires=wires)
    for open_cell in (RoutedCell(1, 5), RoutedCell(5, 2)):
        bench.route(open_cell)
        assert bench.force(3.9) == (3.9, 0.0)
    bench.route(CELL)
    assert 1 / bench.siemens() == pytest.approx(200.0 + bench.path_Ohm, rel=1e-4)  # the cell beside it conducts little
    staircase(bench, 3.9)
    assert not bench.die.state.pulses.any()


# while a route is held ------------------------------------------------------------------------------------------------


TARGETS = [CELL, RoutedReference(0), RoutedDac(1)]


@pytest.mark.parametrize("target", TARGETS)
def test_pulses_reads_and_products_are_refused_while_a_route_is_held(bench, target):
    everything = CellSelection.everything(bench.table.geometry)
    bench.controller.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    bench.route(target, 0.1)
    assert bench.controller.status().routed
    assert bench.controller.status().live
    calls = {
        "pulse": lambda: bench.pulse("electroform", 3.9, "all", 1),
        "read": lambda: bench.controller.read(everything, 1, bench.table.dac_code(READ_V)),
        "multiply": lambda: bench.controller.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16)),
    }
    before = bench.die.state.clock_ns, bench.die.state.conversions
    for call in calls.values():
        with pytest.raises(InstrumentError, match=r"B-1 refused: the SMU's path is closed; nothing was done"):
            call()
    assert not bench.die.state.pulses.any()
    assert (bench.die.state.clock_ns, bench.die.state.conversions) == before
    assert bench.controller.history(1) is History.NEVER
    bench.controller.route(None, 0)
    for call in calls.values():
        call()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("opened", ["route", "safe state", "close", "power"])
def test_a_path_is_opened_by_whatever_makes_the_board_safe(bench, target, opened):
    bench.route(target, 0.1)
    {
        "route": lambda: bench.controller.route(None, 0),
        "safe state": bench.controller.safe_state,
        "close": bench.controller.close,
        "power": bench.controller.power_cycle,
    }[opened]()
    assert not bench.controller.status().routed
    assert bench.force(1.0) == (1.0, 0.0)
    bench.controller.safe_state()  # once more does no harm


def test_another_route_takes_the_place_of_the_first(bench):
    bench.route(CELL)
    bench.route(RoutedReference(1))
    assert 1 / bench.siemens() == pytest.approx(100e3, rel=0.01)


@pytest.mark.parametrize(
    ("target", "gate_V", "words"),
    [
        (RoutedCell(32, 0), 1.6, "no cell (32, 0)"),
        (RoutedCell(0, 16), 1.6, "no cell (0, 16)"),
        (RoutedReference(2), 0, "no reference resistor 2"),
        (RoutedDac(8), 0, "no DAC channel 8"),
        (CELL, 3.7, "word line over a bit line"),
    ],
)
def test_what_the_board_does_not_have_is_refused_and_the_path_stays_as_it_was(bench, target, gate_V, words):
    bench.route(RoutedReference(0))
    with pytest.raises(InstrumentError) as caught:
        bench.route(target, gate_V)
    assert words in str(caught.value)
    assert 1 / bench.siemens() == pytest.approx(20e3, rel=0.01)


# a route that changes a cell is an operation --------------------------------------------------------------------------


def cells_of(bench, place):
    bits = np.zeros(bench.table.geometry.shape, bool)
    bits[place] = True
    return CellSelection(bits)


def test_a_route_with_an_operation_id_is_remembered_as_its_cell(bench):
    bench.route(CELL, op_id=4)
    assert bench.controller.history(4) == cells_of(bench, PLACE)
    assert bench.controller.history(3) is History.FORGOTTEN
    assert bench.controller.history(5) is History.NEVER
    bench.controller.route(None, 0)
    assert bench.controller.history(4) == cells_of(bench, PLACE)
    bench.controller.acknowledge(4)
    assert bench.controller.history(4) is History.FORGOTTEN


def test_a_repeated_request_for_a_route_leaves_the_path_as_it_is(bench):
    bench.route(CELL, op_id=4)
    bench.route(CELL, op_id=4)
    assert bench.controller.status().routed
    bench.controller.route(None, 0)
    bench.route(CELL, op_id=4)  # late: the operation is over
    assert not bench.controller.status().routed


def test_an_id_that_was_used_before_is_refused(bench):
    bench.pulse("electroform", 3.9, "row 0", 4)
    bench.controller.acknowledge(4)
    with pytest.raises(InstrumentError, match="used before"):
        bench.route(CELL, op_id=4)
    assert not bench.controller.status().routed


def test_a_board_that_is_too_hot_routes_to_measure_and_not_to_change(small_table):
    bench = Bench(small_table, temperature=130)
    with pytest.raises(InstrumentError, match="over-temperature"):
        bench.route(CELL, op_id=1)
    bench.route(RoutedReference(0))
    assert bench.siemens() > 0


def reopened(bench, path):
    """The board is switched off, its process is gone, and it comes back with its file."""
    die, memory = SimulatedDie.load(path, bench.table.geometry)
    controller = SimulatedController(die, bench.controller.board, path)
    controller.remember(memory)
    return controller


def test_a_route_is_remembered_across_a_reopened_state_file(small_table, tmp_path):
    bench = Bench(small_table, path=tmp_path / "die.npz")
    bench.route(CELL, op_id=9)
    staircase(bench, 3.9)
    bench.controller.safe_state()
    again = reopened(bench, tmp_path / "die.npz")
    assert again.history(9) == cells_of(bench, PLACE)
    assert not again.status().routed
    assert again.die.state.pulses[PLACE] == 1
    assert again.die.state.conductance_S[PLACE] == bench.die.state.conductance_S[PLACE]


def test_a_process_that_dies_after_the_request_leaves_it_remembered(small_table, tmp_path):
    """Killed at any later moment: what the file says of the operation is that its cell may have been pulsed."""
    bench = Bench(small_table, path=tmp_path / "die.npz")
    bench.route(CELL, op_id=9)
    again = reopened(bench, tmp_path / "die.npz")
    assert again.history(9) == cells_of(bench, PLACE)
    assert not again.status().routed


def test_what_a_sweep_did_is_in_the_file_when_its_path_is_opened(small_table, tmp_path):
    """The ledger has the operation as done from then on."""
    bench = Bench(small_table, path=tmp_path / "die.npz")
    bench.route(CELL, op_id=9)
    staircase(bench, 3.9)
    bench.controller.route(None, 0)
    again = reopened(bench, tmp_path / "die.npz")
    assert again.die.state.pulses[PLACE] == 1
    assert again.die.state.conductance_S[PLACE] == bench.die.state.conductance_S[PLACE]
