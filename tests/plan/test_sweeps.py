"""Sweeps and routes as data: what can be written, what they expand to, what they cost, what they are compared with."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rramlab.base.errors import Refused, UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.plan import cost
from rramlab.plan.limits import Limits, check, of_board
from rramlab.plan.operations import Route, Sweep, pulse_of
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, RouteStep, Step, SweepStep
from rramlab.plan.worst import bounds, worst_case

GEOMETRY = Geometry(4, 8)
FORMING = {"cell": "(3, 7)", "purpose": "electroform", "voltage": 3.75, "compliance": 2e-4}


def cell(row=3, column=7):
    bits = np.zeros(GEOMETRY.shape, np.bool_)
    bits[row, column] = True
    return CellSelection(bits)


def sweep(purpose="electroform", peak_V=3.75, points=11, dwell_s=1e-3, compliance_A=1e-4, gate_V=1.6, **more):
    return Sweep(purpose, cell(), peak_V, points, dwell_s, compliance_A, gate_V, **more)


def route(target=None, voltage_V=0.1, compliance_A=1e-4, gate_V=3.0, **more):
    return Route(target or RoutedCell(3, 7), voltage_V, compliance_A, gate_V, **more)


@pytest.mark.parametrize("text", ["(3, 7)", "3,7", " 3 , 7 ", "cell (3, 7)", "row 3 & col 7"])
def test_one_cell_can_be_written_in_several_ways(small_table, text):
    for step in (SweepStep(cell=text, voltage=0.1), RouteStep(cell=text)):
        (operation,) = worst_case(Plan(name="p", steps=(step,)), small_table)[0].operations
        assert operation.target == RoutedCell(3, 7)


@pytest.mark.parametrize(
    "text", ["row 3", "all", "(3, 7) | (3, 8)", "conducting", "row 3 & conducting", "nowhere", "(3)"]
)
def test_more_or_less_than_one_cell_is_refused(small_table, text):
    with pytest.raises((UsageError, ValidationError)):
        worst_case(Plan(name="p", steps=(SweepStep(cell=text, voltage=0.1),)), small_table)


def test_a_cell_off_the_die_is_refused(small_table):
    with pytest.raises(UsageError, match="off the die"):
        worst_case(Plan(name="p", steps=(RouteStep(cell="(32, 0)"),)), small_table)


@pytest.mark.parametrize("given_", [{}, {"cell": "3,7", "reference": 0}, {"reference": 0, "dac": 1}])
def test_a_route_has_exactly_one_target(given_):
    with pytest.raises(ValidationError, match="expected one of cell, reference and dac"):
        RouteStep(**given_)


def test_an_empty_text_leaves_a_key_out():
    step = RouteStep(cell="", reference="1", dac="", gate="", smu="")
    assert (step.cell, step.reference, step.dac, step.gate, step.smu) == (None, 1, None, None, "")


@pytest.mark.parametrize(
    ("purpose", "line", "gate_V"),
    [("read", "sl", 3.0), ("electroform", "sl", 1.6), ("set", "sl", 1.6), ("reset", "bl", 3.0)],
)
def test_direction_and_gate_follow_what_a_sweep_is_for(small_table, purpose, line, gate_V):
    step = SweepStep(cell="3,7", purpose=purpose, voltage=0.2)
    (operation,) = worst_case(Plan(name="p", steps=(step,)), small_table)[0].operations
    assert operation.target.line == line
    assert operation.gate_V == gate_V
    assert step.model_copy(update={"gate": 2.0}).gate_V == 2.0


def test_they_survive_json():
    steps = (
        SweepStep(**FORMING, both_ways=True, smu="k"),
        RouteStep(reference=1, hold=2.0),
        RouteStep(dac=3, voltage=1.5),
        RouteStep(cell="3,7", gate=2.0, count=5),
    )
    plan = Plan(name="p", steps=steps)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert TypeAdapter(Step).validate_python(steps[0].model_dump()) == steps[0]


@pytest.mark.parametrize("bad", [{"points": 1}, {"voltage": 0}, {"dwell": 0}, {"compliance": 0}, {"voltage": float("nan")},
                                 {"purpose": "form"}, {"both_ways": "perhaps"}])  # fmt: skip
def test_impossible_sweeps_cannot_be_written(bad):
    with pytest.raises(ValidationError):
        SweepStep(**{**FORMING, **bad})


@given(st.sampled_from(["peak_V", "dwell_s", "compliance_A", "gate_V"]), st.sampled_from([np.nan, np.inf, -1.0]))
def test_operations_hold_finite_numbers_only(name, value):
    with pytest.raises(ValueError, match="finite"):
        sweep(**{name: value})


def test_a_stressing_sweep_is_one_pulse_of_its_kind(small_table):
    plan = Plan(name="p", steps=(ContactStep(), SweepStep(**FORMING, points=11, dwell=1e-2, both_ways=True)))
    assert plan.destructive
    expanded = worst_case(plan, small_table)
    pulse = pulse_of(expanded[1].operations[0])
    assert (pulse.kind, pulse.cells.count, pulse.cells_per_pulse) == ("electroform", 1, 1)
    assert (pulse.pulse.amplitude_V, pulse.pulse.gate_V) == (3.75, 1.6)
    assert pulse.pulse.width_s == pytest.approx(21 * 1e-2)
    found = bounds(expanded, small_table)
    assert (found.pulses, found.cells, found.pulses_per_cell, found.max_voltage_V) == (1, 1, 1, 3.75)
    assert found.time_s >= 21 * 1e-2


def test_read_sweeps_and_routes_are_harmless(small_table):
    steps = (SweepStep(cell="3,7", voltage=0.2), RouteStep(cell="3,7", hold=5.0), RouteStep(dac=0, voltage=1.0))
    plan = Plan(name="p", steps=steps)
    assert not plan.destructive
    found = bounds(worst_case(plan, small_table), small_table)
    assert (found.pulses, found.cells, found.pulses_per_cell) == (0, 0, 0)
    assert found.time_s > 5.0
    assert found.max_voltage_V == 3.0  # the word line


def test_cost_counts_levels_measurements_and_holding(small_table):
    once, twice = (cost.of(sweep(both_ways=both), small_table).time_s for both in (False, True))
    assert twice / once == pytest.approx(21 / 11)
    assert cost.of(route(hold_s=3.0), small_table).time_s - cost.of(route(), small_table).time_s == pytest.approx(3)
    assert cost.of(route(count=7), small_table).time_s > cost.of(route(), small_table).time_s
    assert cost.of(sweep("read", 0.2), small_table).pulses == 0


# limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "limit", "allowed"),
    [
        (sweep(), "electroform_voltage", 3.75),
        (sweep("set", 2.0), "set_voltage", 2.0),
        (sweep("reset", 2.0), "reset_voltage", 2.0),
        (sweep("read", 0.15), "read_voltage", 0.15),
        (sweep(), "smu_voltage", 3.75),
        (sweep(), "smu_current", 1e-4),
        (sweep(), "line_current", 1e-4),
        (sweep(), "supply_current", 1e-4),
        (sweep(), "gate_voltage", 1.6),
        (sweep(), "sl_minus_bl", 3.75),
        (sweep(), "sl_minus_off_wl", 3.75),
        (sweep("reset", 2.0), "bl_minus_sl", 2.0),
        (sweep("read", 0.15), "sl_minus_bl", 0.15),
        (sweep(), "wl_minus_bl", 1.6),
        (route(), "read_voltage", 0.1),
        (route(), "smu_voltage", 0.1),
        (route(), "smu_current", 1e-4),
        (route(), "gate_voltage", 3.0),
        (route(), "wl_minus_bl", 3.0),
        (route(RoutedReference(0)), "read_voltage", 0.1),
        (route(RoutedReference(0)), "smu_current", 1e-4),
        (route(RoutedDac(0), 1.0), "gate_voltage", 1.0),
        (route(RoutedDac(0), 1.0), "smu_voltage", 1.2),
    ],
)
def test_each_limit_bounds_what_it_names(small_table, operation, limit, allowed):
    check(operation, Limits(**{limit: allowed * 1.0001}), small_table)
    with pytest.raises(Refused, match=limit):
        check(operation, Limits(**{limit: allowed * 0.9999}), small_table)


@pytest.mark.parametrize("operation", [sweep("read", 0.21), route(voltage_V=0.21), route(RoutedReference(0), 0.21)])
def test_what_is_said_to_be_harmless_stays_at_the_read_voltage(small_table, operation):
    with pytest.raises(Refused, match="read"):
        check(operation, Limits(), small_table)


def test_bounds_on_the_width_of_pulses_are_not_for_sweeps(small_table):
    check(sweep(points=501, dwell_s=1.0), of_board(small_table), small_table)


@pytest.mark.parametrize(
    ("operation", "needed"),
    [(sweep(), "smu_route"), (route(), "smu_route"), (route(RoutedDac(0)), "smu_route"),
     (route(RoutedReference(0)), "reference_resistors")],
)  # fmt: skip
def test_the_board_must_be_able_to(small_table, operation, needed):
    check(operation, Limits(), small_table)
    board = replace(small_table, capabilities=small_table.capabilities - {needed})
    with pytest.raises(Refused, match=needed):
        check(operation, Limits(), board)


@pytest.mark.parametrize("target", [RoutedReference(2), RoutedDac(8)])
def test_a_target_that_the_board_lacks_is_refused(small_table, target):
    with pytest.raises(Refused, match="counted from 0"):
        check(route(target), Limits(), small_table)


def test_a_gate_beyond_the_dac_is_refused(small_table):
    for operation in (sweep(gate_V=5.1), route(gate_V=5.1), route(RoutedDac(0), 5.1)):
        with pytest.raises(Refused, match="DAC"):
            check(operation, Limits(), small_table)
