"""Isolated reads as data: written with one key, checked as a read of their own, cheaper by the cells that are cut off."""

from dataclasses import replace

import numpy as np
import pytest

from rramlab.base.errors import Refused
from rramlab.macro.cells import CellSelection
from rramlab.plan import cost
from rramlab.plan.limits import WORST_CELL_S, Limits, check
from rramlab.plan.operations import Read, capability_of, describe
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.plan.worst import bounds, worst_case


def chosen(board, columns=3):
    bits = np.zeros(board.geometry.shape, np.bool_)
    bits[2:9, :columns] = True
    return CellSelection(bits)


@pytest.mark.parametrize("written", [True, "yes"])
def test_the_key_reaches_every_block_of_rows(small_table, written):
    plan = Plan(name="p", steps=(ReadStep(cells="rows 0-9", isolated=written),), block_rows=4)
    operations = worst_case(plan, small_table)[0].operations
    assert [each.cells.count for each in operations] == [64, 64, 32]
    assert all(each.isolated and not each.is_last for each in operations)
    assert not plan.destructive
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_read_is_not_isolated_unless_it_is_said(small_table):
    (operation,) = worst_case(Plan(name="p", steps=(ReadStep(cells="row 0"),)), small_table)[0].operations
    assert not operation.isolated
    assert operation.is_last
    assert capability_of(operation) is None


def test_a_board_that_cannot_is_refused_also_where_the_same_cells_are_read_otherwise_first(small_table):
    board = replace(small_table, capabilities=small_table.capabilities - {"isolated_reads"})
    plan = Plan(name="p", steps=(ReadStep(cells="row 0"), ReadStep(cells="row 0", isolated=True)))
    plain, isolated = (operation for each in worst_case(plan, board) for operation in each.operations)
    check(plain, Limits(), board)
    with pytest.raises(Refused, match=r"no isolated_reads, so a read cannot cut the other rows and columns off"):
        check(isolated, Limits(), board)


def test_its_line_carries_only_the_cells_that_are_read(small_table):
    """In any other read every source line takes current."""
    one_A = small_table.read_voltage_V * WORST_CELL_S
    cells = chosen(small_table)
    check(Read(cells, isolated=True), Limits(line_current=3.01 * one_A), small_table)
    with pytest.raises(Refused, match="line_current"):
        check(Read(cells, isolated=True), Limits(line_current=2.99 * one_A), small_table)
    with pytest.raises(Refused, match="line_current"):
        check(Read(cells), Limits(line_current=3.01 * one_A), small_table)


def test_it_takes_the_same_time_and_the_energy_of_its_cells(small_table):
    cells = chosen(small_table)
    plain, isolated = (cost.of(Read(cells, 2, isolated=each), small_table) for each in (False, True))
    assert (isolated.time_s, isolated.conversions) == (plain.time_s, plain.conversions)
    converters_J = plain.conversions * small_table.conversion_energy_J
    assert (isolated.energy_J - converters_J) / (plain.energy_J - converters_J) == pytest.approx(3 / 16)
    whole = ReadStep(), ReadStep(isolated=True)
    costs = [bounds(worst_case(Plan(name="p", steps=(step,)), small_table), small_table) for step in whole]
    assert costs[0].energy_J == pytest.approx(costs[1].energy_J)


def test_steps_that_differ_in_it_alone_have_their_own_cost(small_table):
    steps = (ReadStep(cells="col 0"), ReadStep(cells="col 0", isolated=True))
    plain, isolated = worst_case(Plan(name="p", steps=steps), small_table)
    assert isolated.cost.energy_J < plain.cost.energy_J


def test_it_is_said_in_a_few_words(small_table):
    assert describe(Read(chosen(small_table), isolated=True)) == "isolated read of 21 cells"
    assert describe(Read(chosen(small_table))) == "read of 21 cells"
