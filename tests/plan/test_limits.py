"""Limits only ever get tighter, and nothing over one of them passes the check."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rramlab.base.errors import Refused, SourceRef
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.plan.limits import Limits, check, intersect, of_board
from rramlab.plan.operations import Contact, LoadGates, Multiply, PulseOp, Read

UPPER = sorted(set(Limits.model_fields) - {"shortest_pulse"})
bounds = st.none() | st.floats(0, 10, allow_subnormal=False)
limits = st.builds(
    lambda values, wear: Limits(**{**values, "pulses_per_cell": wear}),
    st.fixed_dictionaries({name: bounds for name in Limits.model_fields if name != "pulses_per_cell"}),
    st.none() | st.integers(0, 5),
)


@given(limits, limits, limits)
def test_intersection_is_associative(a, b, c):
    assert intersect(a, intersect(b, c)) == intersect(intersect(a, b), c) == intersect(a, b, c)


@given(limits, limits)
def test_intersection_is_commutative_and_idempotent(a, b):
    assert intersect(a, b) == intersect(b, a)
    assert intersect(a, a) == a == intersect(a) == intersect(a, Limits())


@given(st.lists(limits, min_size=1, max_size=4))
def test_intersection_is_never_wider_than_any_argument(all_of_them):
    together = intersect(*all_of_them)
    for each in all_of_them:
        for name in UPPER:
            if getattr(each, name) is not None:
                assert getattr(together, name) <= getattr(each, name)
        if each.shortest_pulse is not None:
            assert together.shortest_pulse >= each.shortest_pulse


@given(st.lists(limits, min_size=1, max_size=3))
def test_intersection_invents_no_bound(all_of_them):
    together = intersect(*all_of_them)
    for name in Limits.model_fields:
        values = [getattr(each, name) for each in all_of_them]
        assert getattr(together, name) in values


GEOMETRY = Geometry(4, 8)


def pulse_op(kind="electroform", volts=3.75, width=1e-6, gate=1.6, shots=8, bits=None):
    cells = CellSelection(np.ones(GEOMETRY.shape, np.bool_) if bits is None else bits)
    return PulseOp(kind, cells, Pulse(volts, width, gate), shots, SourceRef("p.yaml", 12, 3))


@given(
    limits,
    st.sampled_from(["electroform", "set", "reset"]),
    st.floats(0, 6),
    st.floats(0, 12),
    st.floats(0, 6),
    st.integers(1, 200000),
)
def test_no_pulse_over_a_limit_passes(table, each, kind, volts, width, gate, shots):
    forward = kind != "reset"
    stresses = {
        f"{kind}_voltage": volts,
        "gate_voltage": gate,
        "longest_pulse": width,
        "line_current": shots * table.forming_current_A,
        "supply_current": shots * table.forming_current_A,
        "wl_minus_bl": gate,
        "sl_minus_bl": volts if forward else 0,
        "bl_minus_sl": 0 if forward else volts,
        "sl_minus_off_wl": volts if forward else 0,
    }
    over = {name for name, value in stresses.items() if (bound := getattr(each, name)) is not None and value > bound}
    if each.shortest_pulse is not None and width < each.shortest_pulse:
        over.add("shortest_pulse")
    if over:
        with pytest.raises(Refused) as caught:
            check(pulse_op(kind, volts, width, gate, shots), each, table)
        assert any(name in str(caught.value) for name in over)
        assert caught.value.exit_code == 3
        assert str(caught.value).startswith("p.yaml:12:3")


@pytest.mark.parametrize(
    ("name", "bound", "operation"),
    [
        ("electroform_voltage", 3.7, pulse_op()),
        ("set_voltage", 1.9, pulse_op("set", 2.0)),
        ("reset_voltage", 1.9, pulse_op("reset", 2.0)),
        ("gate_voltage", 1.5, pulse_op()),
        ("shortest_pulse", 2e-6, pulse_op()),
        ("longest_pulse", 0.5e-6, pulse_op()),
        ("line_current", 1.9e-3, pulse_op()),
        ("supply_current", 1.9e-3, pulse_op()),
        ("sl_minus_bl", 3.7, pulse_op()),
        ("bl_minus_sl", 1.9, pulse_op("reset", 2.0)),
        ("wl_minus_bl", 1.5, pulse_op()),
        ("sl_minus_off_wl", 3.7, pulse_op()),
    ],
)
def test_each_limit_is_named_when_it_refuses_and_silent_when_met(table, name, bound, operation):
    with pytest.raises(Refused, match=name):
        check(operation, Limits(**{name: bound}), table)
    check(operation, Limits(**{name: bound * (0.5 if name == "shortest_pulse" else 2)}), table)


def test_a_limit_itself_is_allowed(table):
    check(pulse_op(volts=3.75), Limits(electroform_voltage=3.75), table)


def test_the_shipped_board_refuses_what_it_cannot_stand(table):
    board = of_board(table)
    check(pulse_op(), board, table)
    for operation in (
        pulse_op(volts=4.6),
        pulse_op(gate=3.7),
        pulse_op("reset", volts=3.4),
        pulse_op(width=50e-9),
        pulse_op(width=2e-3),
        pulse_op(shots=41),  # of 250 uA each, 10 mA on a line
    ):
        with pytest.raises(Refused):
            check(operation, board, table)


@pytest.mark.parametrize("bias", ["read", "contact"])
def test_reads_obey_the_read_voltage(table, bias):
    everything = CellSelection.everything(GEOMETRY)
    for operation in (Read(everything, bias=bias), Contact(everything)):
        with pytest.raises(Refused, match="read_voltage"):
            check(operation, Limits(read_voltage=0.05), table)
    check(Contact(everything), Limits(read_voltage=0.1), table)
    with pytest.raises(Refused, match="read_voltage"):
        check(Read(everything), Limits(read_voltage=0.1), table)


def test_a_multiply_obeys_voltage_currents_and_slots(table):
    pattern = GatePattern.lines(np.ones(512, bool), np.ones(256, bool))
    operation = Multiply(0, pattern, np.ones((1, 512), np.uint8), 1)
    check(operation, of_board(table), table)
    for name, bound in (("read_voltage", 0.1), ("line_current", 1e-3), ("supply_current", 0.1)):
        with pytest.raises(Refused, match=name):
            check(operation, Limits(**{name: bound}), table)
    for late in (Multiply(table.gate_slots, pattern, operation.x, 1), LoadGates(table.gate_slots, pattern)):
        with pytest.raises(Refused, match="slot"):
            check(late, Limits(), table)


@pytest.mark.parametrize("kind", ["electroform", "set", "reset"])
def test_a_board_without_sl_select_takes_whole_rows_when_it_forms_or_sets(table, kind):
    """It would drive every column of a selected row, wanted or not."""
    board = replace(table, capabilities=table.capabilities - {"sl_select"})
    whole = np.zeros(GEOMETRY.shape, np.bool_)
    whole[[0, 2]] = True
    part = whole.copy()
    part[2, 5] = False
    for bits in (whole, np.zeros_like(whole)):
        check(pulse_op(kind, volts=2.0, bits=bits), Limits(), board)
    check(pulse_op(kind, volts=2.0, bits=part), Limits(), table)
    if kind == "reset":
        check(pulse_op(kind, volts=2.0, bits=part), Limits(), board)
        return
    with pytest.raises(Refused, match=r"p\.yaml:12:3.*sl_select"):
        check(pulse_op(kind, volts=2.0, bits=part), Limits(), board)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_impossible_limits_are_refused(bad):
    with pytest.raises(ValidationError):
        Limits(set_voltage=bad)
