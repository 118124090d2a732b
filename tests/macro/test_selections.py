"""A selection is frozen, splits into row blocks and travels as packed bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cell_states, geometries, selections

from rramlab.macro.cells import CellSelection, is_conducting
from rramlab.macro.geometry import Geometry


@given(selections())
def test_packed_bits_round_trip(selection):
    data = selection.packed()
    assert len(data) == -(-selection.geometry.cells // 8)
    assert CellSelection.from_packed(data, selection.geometry) == selection


def test_packed_bits_are_c_order_most_significant_first():
    bits = np.zeros((2, 4), np.bool_)
    bits[0, 0] = bits[0, 3] = bits[1, 3] = True
    assert CellSelection(bits).packed() == bytes([0b10010001])


def test_a_bitmap_of_the_array_is_32_kib():
    assert len(CellSelection.everything(Geometry()).packed()) == 32 * 1024


@pytest.mark.parametrize("length", [0, 3, 5])
def test_packed_bits_of_another_length_are_refused(length):
    with pytest.raises(ValueError, match="expected 4"):
        CellSelection.from_packed(bytes(length), Geometry(4, 8))


@given(selections())
def test_a_selection_cannot_be_changed(selection):
    with pytest.raises(ValueError, match="read-only"):
        selection.bits[0, 0] = True


def test_a_selection_does_not_follow_the_array_it_was_made_from():
    bits = np.zeros((2, 2), np.bool_)
    selection = CellSelection(bits)
    bits[:] = True
    assert selection.count == 0


@given(selections(), st.integers(1, 14))
def test_blocks_are_aligned_disjoint_ordered_and_whole(selection, block_rows):
    total = np.zeros(selection.bits.shape, np.int64)
    before = -1
    for start, stop, part in selection.blocks(block_rows):
        assert start > before
        assert start % block_rows == 0
        assert stop == min(start + block_rows, selection.geometry.rows)
        assert part.count > 0
        assert set(part.rows) <= set(range(start, stop))
        total += part.bits
        before = start
    assert np.array_equal(total, selection.bits)


@given(st.data())
def test_algebra_is_that_of_sets(data):
    geometry = data.draw(geometries)
    a, b = data.draw(selections(geometry)), data.draw(selections(geometry))
    mine, theirs = set(zip(*np.nonzero(a.bits), strict=True)), set(zip(*np.nonzero(b.bits), strict=True))
    everything = set(zip(*np.nonzero(CellSelection.everything(geometry).bits), strict=True))
    for found, expected in (
        (a & b, mine & theirs),
        (a | b, mine | theirs),
        (a - b, mine - theirs),
        (~a, everything - mine),
    ):
        assert set(zip(*np.nonzero(found.bits), strict=True)) == expected
        assert found.count == len(expected)
        assert found == CellSelection(found.bits)
    assert list(a.rows) == sorted({row for row, _ in mine})


@given(selections(), st.integers(0, 14), st.integers(0, 14))
def test_a_part_of_the_rows_has_their_cells_and_no_others(selection, start, stop):
    expected = np.zeros_like(selection.bits)
    expected[start:stop] = selection.bits[start:stop]
    found = selection.within(start, stop)
    assert found == CellSelection(expected)
    assert np.array_equal(found.bits, expected)
    assert np.array_equal(found.per_row, np.count_nonzero(expected, axis=1))


@given(selections())
def test_the_span_holds_every_cell_and_begins_and_ends_with_one(selection):
    outside = selection.bits.copy()
    outside[selection.span] = False
    assert not outside.any()
    assert np.array_equal(selection.in_span, selection.bits[selection.span])
    assert not selection.count or selection.first == tuple(np.argwhere(selection.bits)[0])
    assert not selection.count or (selection.in_span[0].any() and selection.in_span[-1].any())
    with pytest.raises(ValueError, match="read-only"):
        selection.in_span[:] = True


@given(st.data())
def test_lines_cross_in_cells(data):
    geometry = data.draw(geometries)
    rows, columns = (
        np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.bool_)
        for count in geometry.shape
    )
    assert CellSelection.crossing(rows, columns) == CellSelection(rows[:, None] & columns)


@given(st.data())
def test_states(data):
    state = data.draw(cell_states(data.draw(geometries)))
    assert np.array_equal(state.pristine, state.pulses == 0)
    assert np.array_equal(state.conducting, np.nan_to_num(state.conductance_S) >= 2e-6)


def test_the_conducting_threshold_is_two_microsiemens_and_the_unread_does_not_conduct():
    found = is_conducting(np.array([[1.99e-6, 2.01e-6, np.nan, 0.0]], np.float32))
    assert found.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize(("rows", "columns"), [(0, 2), (1, 0), (4, 3), (-1, 2)])
def test_impossible_geometries_are_refused(rows, columns):
    with pytest.raises(ValueError, match="expected"):
        Geometry(rows, columns)
