"""A network over several dies: every weight has one place, and every view of a die agrees on what it holds."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rramlab.base.errors import UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile

GEOMETRY = Geometry(16, 12)  # 16 rows of 6 pairs
# Up to thrice the rows and four times the pairs of a die: split either way, and both.
layer_shapes = st.dictionaries(
    st.sampled_from(["conv.1", "fc", "out"]), st.tuples(st.integers(1, 48), st.integers(1, 24)), min_size=1
)
aligns = st.sampled_from([1, 4, 8])


@st.composite
def placed(draw):
    layers = draw(layer_shapes)
    return Placement.pack(layers, GEOMETRY, draw(aligns), None), layers


@st.composite
def masked(draw):
    placement, layers = draw(placed())
    kept = {name: draw(hnp.arrays(np.bool_, shape)) for name, shape in layers.items()}
    return placement, Mask(kept)


def numbered(layers):
    """A different number for every weight of a network: name -> float32[inputs, outputs], from 1 on."""
    found, first = {}, 1
    for name, (inputs, outputs) in layers.items():
        found[name] = np.arange(first, first + inputs * outputs, dtype=np.float32).reshape(inputs, outputs)
        first += inputs * outputs
    return found


@given(placed())
def test_every_weight_has_exactly_one_place_and_no_cell_two_weights(found):
    placement, layers = found
    taken = np.zeros((placement.dies, GEOMETRY.rows, GEOMETRY.pairs), np.int64)
    weights = {name: np.zeros(shape, np.int64) for name, shape in layers.items()}
    for tile in placement.tiles:
        for row, pair in np.ndindex(tile.inputs, tile.outputs):
            taken[tile.die, tile.row + row, tile.pair + pair] += 1
            weights[tile.layer][tile.first_input + row, tile.first_output + pair] += 1
    assert taken.max() == 1
    assert all(np.all(count == 1) for count in weights.values())
    assert placement.layers == layers
    for die in range(placement.dies):
        assert placement.on(die)  # no die is taken for nothing
        assert np.array_equal(placement.used(die).bits, np.repeat(taken[die], 2, axis=1).astype(bool))
    assert sorted(placement.tiles, key=str) == sorted(
        (tile for die in range(placement.dies) for tile in placement.on(die)), key=str
    )


@given(placed(), aligns)
def test_tiles_begin_where_a_group_of_rows_does(found, align):
    _, layers = found
    assert all(tile.row % align == 0 for tile in Placement.pack(layers, GEOMETRY, align, None).tiles)


@given(st.integers(1, 48), st.integers(1, 24))
def test_a_layer_is_split_only_where_the_die_ends(inputs, outputs):
    placement = Placement.pack({"fc": (inputs, outputs)}, GEOMETRY, 1, None)
    tiles = placement.of("fc")
    assert len(tiles) == -(-inputs // GEOMETRY.rows) * -(-outputs // GEOMETRY.pairs)
    assert {tile.first_input for tile in tiles} == set(range(0, inputs, GEOMETRY.rows))
    assert {tile.first_output for tile in tiles} == set(range(0, outputs, GEOMETRY.pairs))


@given(st.data())
def test_parts_are_summed_over_inputs_and_joined_over_outputs(data):
    placement, layers = data.draw(placed())
    weights = numbered(layers)
    for name, (inputs, outputs) in layers.items():
        x = data.draw(hnp.arrays(np.int64, inputs, elements=st.integers(0, 15)))
        sums = np.zeros(outputs)
        for tile in placement.of(name):
            sums[tile.output_slice] += x[tile.input_slice] @ weights[name][tile.of_layer]
        assert np.array_equal(sums, x @ weights[name].astype(float))


@given(placed())
def test_weights_come_back_from_the_cells_that_hold_them(found):
    placement, layers = found
    weights = numbered(layers)
    stack = np.full((placement.dies, *GEOMETRY.shape), np.nan, np.float32)  # what no tile holds is never read
    for tile in placement.tiles:
        part = weights[tile.layer][tile.of_layer]
        for row, pair in np.ndindex(part.shape):
            stack[tile.die, tile.row + row, 2 * (tile.pair + pair)] = part[row, pair] + 7
            stack[tile.die, tile.row + row, 2 * (tile.pair + pair) + 1] = 7
    back = placement.weights(stack)
    assert list(back) == list(layers)
    for name, expected in weights.items():
        assert back[name].dtype == np.float32
        assert np.array_equal(back[name], expected)
    if placement.dies == 1:
        assert all(np.array_equal(placement.weights(stack[0])[name], back[name]) for name in layers)


@given(masked())
def test_what_is_kept_is_the_same_in_every_view_of_every_die(found):
    placement, mask = found
    gates = placement.gates(mask)
    assert set(gates) == set(placement.tiles)
    for die in range(placement.dies):
        kept = placement.kept(mask, die)
        assert np.array_equal(placement.cells(mask, die).bits, np.repeat(kept, 2, axis=1))
        assert not (placement.cells(mask, die).bits & ~placement.used(die).bits).any()
        together = np.zeros(GEOMETRY.shape, np.int64)
        for tile in placement.on(die):
            together += gates[tile].cells
            part = mask.layers[tile.layer][tile.of_layer]
            assert np.array_equal(kept[tile.row_slice, tile.pair_slice], part)
            assert gates[tile] == placement.gates_of(tile, part)
        assert np.array_equal(together, placement.cells(mask, die).bits)
    assert sum(placement.cells(mask, die).count for die in range(placement.dies)) == 2 * mask.kept


@given(st.data())
def test_layers_that_are_reset_are_gated_by_lines_and_the_others_by_pairs(data):
    placement, mask = data.draw(masked())
    reset = data.draw(st.sets(st.sampled_from(sorted(placement.layers))))
    for tile, pattern in placement.gates(mask, reset).items():
        part = mask.layers[tile.layer][tile.of_layer]
        assert pattern == placement.gates_of(tile, part, tile.layer in reset)
        lines = part.any(axis=1, keepdims=True) & part.any(axis=0, keepdims=True)
        expected = lines if tile.layer in reset else part
        inside = pattern.cells[tile.row_slice, tile.column_slice]
        assert np.array_equal(inside, np.repeat(expected, 2, axis=1))
        assert np.count_nonzero(pattern.cells) == 2 * np.count_nonzero(expected)
        if tile.layer in reset:
            assert pattern.phases <= 1


@given(placed())
def test_a_placement_survives_its_json(found):
    placement, layers = found
    back = Placement.from_json(**json.loads(json.dumps(placement.as_json())))
    assert back == placement
    assert (back.dies, back.layers) == (placement.dies, layers)


@given(placed(), aligns)
def test_too_few_dies_are_refused_with_the_number_that_is_needed(found, align):
    _, layers = found
    needed = Placement.pack(layers, GEOMETRY, align, None)
    for dies in range(1, needed.dies):
        with pytest.raises(UsageError, match=f"take {needed.dies} dies") as caught:
            Placement.pack(layers, GEOMETRY, align, dies)
        assert re.search("one die:" if dies == 1 else f"on {dies} dies:", str(caught.value))
    # More than are needed are left alone.
    for dies in (needed.dies, needed.dies + 2):
        assert Placement.pack(layers, GEOMETRY, align, dies) == needed


def test_layers_fill_the_gaps_of_a_die_before_they_take_another():
    placement = Placement.pack({"one": (16, 5), "other": (16, 5), "small": (8, 1)}, GEOMETRY, 8, None)
    assert {tile.layer: tile.die for tile in placement.tiles} == {"one": 0, "other": 1, "small": 0}


@pytest.mark.parametrize(
    "tiles",
    [
        (Tile("a", 0, 4, 4, 0, 0), Tile("b", 0, 4, 4, 0, 0), Tile("a", 4, 4, 4, 0, 0, 0, 1)),
        (Tile("a", 0, 4, 4, 0, 0), Tile("b", 0, 17, 4, 0, 0, 0, 1)),
        (Tile("a", 0, 4, 4, 0, 0), Tile("b", 0, 4, 4, 0, 0, 0, -1)),
        (Tile("a", 0, 4, 4, 0, 0, 0, -1),),
    ],
)
def test_tiles_that_overlap_on_a_die_or_leave_it_are_refused(tiles):
    with pytest.raises(ValueError, match=r"overlaps|leaves"):
        Placement(GEOMETRY, tiles)


def test_the_same_place_on_two_dies_is_no_overlap():
    placement = Placement(GEOMETRY, (Tile("a", 0, 4, 4, 0, 0), Tile("b", 0, 4, 4, 0, 0, 0, 1)))
    assert placement.dies == 2
    assert placement.used(0).count == placement.used(1).count == 32


def test_a_layer_as_large_as_many_dies_is_placed_whole():
    """The largest convolution of the U-Net: 512 channels from 512, 3 × 3."""
    placement = Placement.pack({"conv": (4608, 512)}, Geometry(), 64, None)
    assert placement.dies == 18
    assert sum(tile.inputs * tile.outputs for tile in placement.tiles) == 4608 * 512
