"""What the converters make of a reference resistor: its true current, each column's gain and offset, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import ones

from rramlab.base.errors import InstrumentError
from rramlab.macro.routes import RoutedReference
from rramlab.plan import cost
from rramlab.plan.operations import ReferenceRead
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.faults import LineFaults
from rramlab.sim.models import BoardModel, DieModel
from rramlab.sim.routes import Terminals
from rramlab.sim.state import KINDS


def controller(table, board="published", faults=None, **figures):
    simulated = SimulatedBoard(table, BoardModel.preset(board), "B-1", 5, faults=faults)
    return SimulatedController(SimulatedDie(table.geometry, DieModel.preset("published", figures), 1), simulated)


def expected(some, resistor, multiply, volts):
    """By hand, float64[columns]: what the hidden truth says before rounding."""
    board, table = some.board, some.board.table
    siemens = 0.0 if resistor is None else 1 / board.reference_Ohm[resistor]
    amperes = board.volts(table.dac_code(volts)) * siemens
    if multiply:
        return (
            table.zero_code
            + board.multiply_offset
            + board.multiply_gain * amperes / (table.input_V * table.multiply_step_S)
        )
    return table.zero_code + board.read_offset + board.read_gain * amperes / (table.read_voltage_V * table.read_step_S)


@given(
    st.sampled_from([0, 1, None]), st.booleans(), st.floats(0, 0.2), st.integers(1, 5), st.sampled_from(["ideal", "harsh"])
)  # fmt: skip
def test_codes_are_the_true_current_with_gain_offset_and_pedestal(
    small_table, resistor, multiply, volts, repeats, board
):
    some = controller(small_table, board)
    codes = some.read_reference(resistor, multiply, repeats, small_table.dac_code(volts))
    assert codes.dtype == np.uint16
    assert codes.shape == (repeats, 16)
    exact = np.clip(expected(some, resistor, multiply, volts), 0, 2**14 - 1)
    assert np.all(np.abs(codes - exact) <= 0.5 + 1e-6)
    assert np.all(codes == codes[0])  # a resistor has no noise


def test_a_resistor_stands_well_within_both_ranges(small_table):
    """The shipped ones: both are seen with many codes, and neither saturates."""
    some = controller(small_table)
    for multiply, least in ((False, 1000), (True, 100)):
        for resistor in (0, 1):
            codes = some.read_reference(resistor, multiply, 1, small_table.dac_code(0.2))
            assert np.all((codes > small_table.zero_code + least) & (codes < 2**14 - 1))


def test_columns_differ_by_their_gains_and_the_slope_over_the_voltage_is_that_gain(small_table):
    """What a calibration needs: offset and gain of every column follow from open inputs and one resistor."""
    some = controller(small_table, "harsh")
    table, board = small_table, some.board
    full = table.dac_code(0.2)
    open_ = some.read_reference(None, False, 1, full)[0].astype(float)
    one = some.read_reference(1, False, 1, full)[0].astype(float)
    codes_at_unit_gain = board.volts(full) / board.reference_Ohm[1] / (table.read_voltage_V * table.read_step_S)
    gain = (one - open_) / codes_at_unit_gain
    assert np.ptp(board.read_gain) > 0.01
    assert np.all(np.abs(gain - board.read_gain) < 1.0 / codes_at_unit_gain + 1e-9)


def test_no_voltage_and_open_inputs_show_the_offset_alone(small_table):
    some = controller(small_table, "ideal")
    for resistor, volts in ((None, 0.2), (None, 0.0), (0, 0.0)):
        codes = some.read_reference(resistor, False, 1, small_table.dac_code(volts))
        assert np.all(codes == small_table.zero_code)


def test_a_code_ends_at_the_converters_ends(small_table):
    """The multiplexers and lines of the array have no part in it; a broken converter has."""
    faults = LineFaults(open_columns=(0,), open_rows=(1,), stuck_rows=(2,), shorts=((3, 4),), saturated_adcs=(3,))
    some, sound = controller(small_table, faults=faults), controller(small_table)
    codes = some.read_reference(0, False, 1, small_table.dac_code(0.2))[0]
    assert np.all(codes[12:] == 2**14 - 1)
    assert np.array_equal(codes[:12], sound.read_reference(0, False, 1, small_table.dac_code(0.2))[0, :12])


def test_it_is_the_resistor_that_a_source_measure_unit_finds(small_table):
    some = controller(small_table, "harsh")
    some.route(RoutedReference(0), 0)
    volts, amperes = Terminals([some]).force_voltage(0.1, 1e-3, 0.02)
    some.route(None, 0)
    codes = some.read_reference(0, False, 1, small_table.dac_code(0.2))[0]
    level = expected(some, None, False, 0.2)
    siemens = (codes - level) / some.board.read_gain * small_table.read_step_S * 0.2
    true_V = some.board.volts(small_table.dac_code(0.2))
    assert siemens / true_V == pytest.approx(np.full(16, amperes / volts), rel=2e-4)


@pytest.mark.parametrize("resistor", [0, None])
@pytest.mark.parametrize("multiply", [False, True])
def test_time_and_energy_are_those_of_the_estimate_and_count_as_a_read(small_table, resistor, multiply):
    some = controller(small_table, "ideal")
    volts = small_table.dac_volts(small_table.dac_code(0.2))
    estimate = cost.of(ReferenceRead(resistor, volts, "multiply" if multiply else "read", 5), small_table)
    some.read_reference(resistor, multiply, 5, small_table.dac_code(0.2))
    meter, index = some.die.state.meter, KINDS.index("read")
    assert meter.time_ns.sum() == meter.time_ns[index] == some.die.state.clock_ns
    assert some.die.state.clock_ns / 1e9 == pytest.approx(estimate.time_s)
    assert meter.energy_J[index] == pytest.approx(estimate.energy_J, rel=1e-6)
    assert meter.events[index] == estimate.conversions


def test_the_die_feels_nothing_and_reads_after_it_are_as_without(small_table):
    figures = {"noise": {"telegraph_share": 0.0}}
    one, other = controller(small_table, **figures), controller(small_table, **figures)
    before = one.die.state.conductance_S.copy()
    one.read_reference(0, False, 100, small_table.dac_code(0.2))
    assert np.array_equal(one.die.state.conductance_S, before)
    assert not one.die.state.pulses.any()
    codes = [each.read(ones(small_table.geometry), 1, small_table.dac_code(0.2)) for each in (one, other)]
    assert np.array_equal(*codes)  # no noise of the cells was used up


def test_it_is_refused_while_a_route_is_held(small_table):
    some = controller(small_table)
    some.route(RoutedReference(0), 0)
    with pytest.raises(InstrumentError, match="path is closed"):
        some.read_reference(0, False, 1, 0)
    some.safe_state()
    some.read_reference(0, False, 1, 0)
