"""Reference reads as data: how they are written, what they cost, what they are compared with."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rramlab.base.errors import Refused
from rramlab.plan import cost
from rramlab.plan.limits import Limits, check, of_board
from rramlab.plan.operations import ReferenceRead, describe, pulse_of
from rramlab.plan.plan import Plan
from rramlab.plan.steps import MOST_REPEATS, ReferenceStep
from rramlab.plan.worst import bounds, worst_case


def operation_of(step, board):
    (operation,) = worst_case(Plan(name="p", steps=(step,)), board)[0].operations
    return operation


@pytest.mark.parametrize(("written", "meant"), [(0, 0), ("1", 1), ("open", None)])
def test_a_resistor_is_a_number_and_open_the_word_for_none(small_table, written, meant):
    step = ReferenceStep(resistor=written)
    assert operation_of(step, small_table) == ReferenceRead(meant, 0.2, "read", 1)
    assert not Plan(name="p", steps=(step,)).destructive
    assert pulse_of(operation_of(step, small_table)) is None


def test_every_key_reaches_the_operation(small_table):
    step = ReferenceStep(resistor=1, range="multiply", voltage=0.05, repeats=7, name="ladder")
    assert operation_of(step, small_table) == ReferenceRead(1, 0.05, "multiply", 7, "ladder")


@given(
    st.sampled_from([0, 3, "open"]),
    st.sampled_from(["read", "multiply"]),
    st.floats(0, 0.2),
    st.integers(1, MOST_REPEATS),
)
def test_it_survives_json(resistor, span, voltage, repeats):
    plan = Plan(name="p", steps=(ReferenceStep(resistor=resistor, range=span, voltage=voltage, repeats=repeats),))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    "bad",
    [
        {"resistor": -1},
        {"resistor": True},
        {"resistor": 0.5},
        {"resistor": "shut"},
        {"resistor": None},
        {"range": "both"},
        {"voltage": -0.1},
        {"voltage": np.nan},
        {"repeats": 0},
        {"repeats": MOST_REPEATS + 1},
    ],
)
def test_what_cannot_be_is_not_written(bad):
    with pytest.raises(ValidationError):
        ReferenceStep(**{"resistor": 0, **bad})


@pytest.mark.parametrize("volts", [np.nan, np.inf, -0.1])
def test_an_operation_holds_finite_voltages_only(volts):
    with pytest.raises(ValueError, match="finite"):
        ReferenceRead(0, volts)


@pytest.mark.parametrize("resistor", [0, None])
def test_the_limit_on_reads_bounds_it(small_table, resistor):
    operation = ReferenceRead(resistor, 0.15)
    check(operation, Limits(read_voltage=0.15), small_table)
    with pytest.raises(Refused, match="read_voltage"):
        check(operation, Limits(read_voltage=0.1499), small_table)


def test_it_stays_at_the_boards_read_voltage_whatever_the_limits_say(small_table):
    check(ReferenceRead(0, small_table.read_voltage_V), of_board(small_table), small_table)
    check(ReferenceRead(0, 0.0), of_board(small_table), small_table)
    with pytest.raises(Refused, match="above the board's read voltage"):
        check(ReferenceRead(0, small_table.read_voltage_V * 1.001), Limits(), small_table)


@pytest.mark.parametrize("index", [2, 99, -1])
def test_a_resistor_that_the_board_lacks_is_refused(small_table, index):
    with pytest.raises(
        Refused, match=f"no reference resistor {index}, it has 2, counted from 0; nothing was energised"
    ):
        check(ReferenceRead(index, 0.1), Limits(), small_table)


@pytest.mark.parametrize("repeats", [0, MOST_REPEATS + 1])
def test_so_are_more_repeats_than_there_may_be(small_table, repeats):
    with pytest.raises(Refused, match=f"{repeats} repeats"):
        check(ReferenceRead(0, 0.1, repeats=repeats), Limits(), small_table)


@pytest.mark.parametrize("resistor", [0, None])
def test_a_board_that_cannot_says_what_is_missing(small_table, resistor):
    board = replace(small_table, capabilities=small_table.capabilities - {"reference_reads"})
    with pytest.raises(Refused, match=r"no reference_reads, so no reference resistor reaches its converters"):
        check(ReferenceRead(resistor, 0.1), Limits(), board)


@pytest.mark.parametrize("repeats", [1, 16])
def test_it_takes_the_time_of_one_row_and_converts_every_column(small_table, repeats):
    found = cost.of(ReferenceRead(1, 0.2, repeats=repeats), small_table)
    assert found.time_s == pytest.approx(small_table.settle_time_s + 4 * repeats / small_table.adc_rate_Hz)
    assert found.conversions == 16 * repeats
    assert found.pulses == 0
    converters_J = found.conversions * small_table.conversion_energy_J
    driven_s = 4 * repeats / small_table.adc_rate_Hz
    assert found.energy_J == pytest.approx(converters_J + 0.2**2 / small_table.reference_Ohm[1] * driven_s)
    assert cost.of(ReferenceRead(None, 0.2, repeats=repeats), small_table).energy_J == pytest.approx(converters_J)


def test_the_worst_case_counts_it_and_no_cell(small_table):
    steps = (ReferenceStep(resistor=0, voltage=0.05, repeats=4), ReferenceStep(resistor="open", voltage=0.1))
    expanded = worst_case(Plan(name="p", steps=steps), small_table)
    assert [each.cells.count for each in expanded] == [0, 0]
    found = bounds(expanded, small_table)
    assert (found.operations, found.pulses, found.cells, found.conversions) == (2, 0, 0, 5 * 16)
    assert found.max_voltage_V == 0.1


def test_it_is_said_in_a_few_words():
    assert describe(ReferenceRead(1, 0.2, "multiply")) == "read of reference resistor 1 at 0.2 V in the multiply range"
    assert describe(ReferenceRead(None, 0.0)) == "read of open inputs in the read range"
