"""Placement is one home for which cell holds which weight; gate patterns reproduce masks exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rramlab.base.errors import DataError, UsageError
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile

GEOMETRY = Geometry(32, 40)
kept_pairs = hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 12)))


@given(kept_pairs)
def test_a_gate_pattern_reproduces_the_mask(kept):
    pattern = GatePattern.of_pairs(kept)
    assert np.array_equal(pattern.cells, np.repeat(kept, 2, axis=1))


def test_pairs_that_all_keep_nothing_make_a_pattern_of_no_cell():
    pattern = GatePattern.of_pairs(np.zeros((6, 3), np.bool_))
    assert not pattern.enabled.any()
    assert not pattern.driven.any()
    assert not pattern.cells.any()


@given(kept_pairs)
def test_pairs_with_equal_row_sets_share_a_phase_and_others_do_not(kept):
    pattern = GatePattern.of_pairs(kept)
    assert pattern.phases == len({row.tobytes() for row in kept.T if row.any()})
    assert np.array_equal(pattern.enabled, np.repeat(kept.any(axis=0), 2))
    assert np.array_equal(pattern.driven, kept.any(axis=1))
    for j in range(kept.shape[1]):
        assert pattern.phase[2 * j] == pattern.phase[2 * j + 1]


@given(kept_pairs, st.integers(1, 8))
def test_groups_without_an_enabled_row_are_skipped(kept, lines):
    pattern = GatePattern.of_pairs(kept)
    for phase in range(pattern.phases):
        expected = {int(row) // lines for row in np.flatnonzero(pattern.rows[phase])}
        assert pattern.groups(lines)[phase] == len(expected)


@given(kept_pairs)
def test_equal_patterns_have_equal_digests(kept):
    one, same = GatePattern.of_pairs(kept), GatePattern.of_pairs(kept.copy())
    assert one == same
    assert one.digest == same.digest
    changed = kept.copy()
    changed[0, 0] ^= True
    assert GatePattern.of_pairs(changed) != one


@pytest.mark.parametrize(
    ("rows", "phase"),
    [
        (np.ones((1, 4), bool), [0, -1]),
        (np.ones((1, 4), bool), [1, 1]),
        (np.ones((1, 4), bool), [-2, -2]),
        (np.ones((1, 4), bool), [0, 0, 0]),
        (np.ones(4, bool), [0, 0]),
    ],
)
def test_impossible_patterns_are_refused(rows, phase):
    with pytest.raises(ValueError, match=r"pair|phase|found"):
        GatePattern(rows, np.array(phase, np.int16))


layer_shapes = st.dictionaries(
    st.sampled_from("abcde"), st.tuples(st.integers(1, 70), st.integers(1, 9)), min_size=1, max_size=4
)


@st.composite
def placements(draw):
    layers, align = draw(layer_shapes), draw(st.sampled_from([1, 4, 8]))
    try:
        return Placement.pack(layers, GEOMETRY, align), layers, align
    except UsageError:
        small = {name: (inputs % 8 + 1, outputs % 4 + 1) for name, (inputs, outputs) in layers.items()}
        return Placement.pack(small, GEOMETRY, align), small, align


@st.composite
def masks(draw, layers):
    return Mask({name: draw(hnp.arrays(np.bool_, shape)) for name, shape in layers.items()})


@given(placements())
def test_packed_layers_do_not_overlap_and_are_whole(placed):
    placement, layers, align = placed
    taken = np.zeros((GEOMETRY.rows, GEOMETRY.pairs), np.int64)
    inputs = {name: np.zeros(shape[0], np.int64) for name, shape in layers.items()}
    for tile in placement.tiles:
        assert tile.row % align == 0
        assert tile.outputs == layers[tile.layer][1]
        area = taken[tile.row_slice, tile.pair_slice]
        assert area.shape == (tile.inputs, tile.outputs)
        area += 1
        inputs[tile.layer][tile.input_slice] += 1
    assert taken.max() == 1
    assert all(np.all(covered == 1) for covered in inputs.values())
    assert placement.layers == layers
    assert placement.used().count == 2 * sum(a * b for a, b in layers.values())


@given(st.data())
def test_gates_and_cells_agree_on_what_is_kept(data):
    placement, layers, _ = data.draw(placements())
    mask = data.draw(masks(layers))
    together = np.zeros(GEOMETRY.shape, np.int64)
    for tile, pattern in placement.gates(mask).items():
        expected = mask.layers[tile.layer][tile.input_slice]
        cells = pattern.cells if pattern.phases else np.zeros(GEOMETRY.shape, np.bool_)
        assert np.array_equal(cells[tile.row_slice, tile.column_slice], np.repeat(expected, 2, axis=1))
        together += cells
    assert np.array_equal(together, placement.cells(mask).bits)
    assert placement.cells(mask).count == 2 * mask.kept


@given(st.data())
def test_lines_only_keep_every_line_that_keeps_anything(data):
    placement, layers, _ = data.draw(placements())
    mask = data.draw(masks(layers))
    for tile, pattern in placement.gates(mask, reset=placement.layers).items():
        mine = mask.layers[tile.layer][tile.input_slice]
        if not mine.any():
            continue
        assert pattern.phases == 1
        assert np.array_equal(pattern.driven[tile.row_slice], mine.any(axis=1))
        assert np.array_equal(pattern.enabled[tile.column_slice][0::2], mine.any(axis=0))
        assert np.count_nonzero(pattern.driven) == np.count_nonzero(mine.any(axis=1))


@given(st.data())
def test_weights_are_plus_minus_minus_of_the_right_cells(data):
    placement, layers, _ = data.draw(placements())
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    die = rng.random(GEOMETRY.shape, np.float32)
    weights = placement.weights(die)
    for name, (inputs, outputs) in layers.items():
        assert weights[name].shape == (inputs, outputs)
        assert weights[name].dtype == np.float32
    for tile in placement.tiles:
        for i, o in ((0, 0), (tile.inputs - 1, tile.outputs - 1)):
            row, pair = tile.row + i, tile.pair + o
            expected = die[row, 2 * pair] - die[row, 2 * pair + 1]
            assert weights[tile.layer][tile.first_input + i, o] == expected


def test_a_layer_over_the_rows_is_split():
    placement = Placement.pack({"fc": (70, 3)}, GEOMETRY, 8)
    assert sorted((tile.first_input, tile.inputs) for tile in placement.of("fc")) == [(0, 32), (32, 32), (64, 6)]


def test_the_network_of_the_paper_fits_one_die():
    layers = {"conv1": (9, 64), "conv2": (576, 16), "fc1": (400, 128), "fc2": (128, 10)}
    placement = Placement.pack(layers, Geometry())
    assert sum(tile.inputs * tile.outputs for tile in placement.tiles) == 576 + 9216 + 51200 + 1280


def test_a_network_too_large_is_refused_in_words():
    with pytest.raises(UsageError, match="does not fit"):
        Placement.pack({"fc": (64, 64)}, GEOMETRY)


@pytest.mark.parametrize(
    "tiles",
    [
        (Tile("a", 0, 4, 4, 0, 0), Tile("b", 0, 4, 4, 3, 3)),
        (Tile("a", 0, 4, 4, 30, 0),),
        (Tile("a", 0, 4, 4, 0, 18),),
        (Tile("a", 0, 4, 4, -1, 0),),
    ],
)
def test_tiles_that_overlap_or_leave_the_die_are_refused(tiles):
    with pytest.raises(ValueError, match=r"overlaps|leaves"):
        Placement(GEOMETRY, tiles)


def test_a_mask_of_another_network_is_refused():
    placement = Placement.pack({"fc": (8, 4)}, GEOMETRY)
    for layers in ({"fc": np.ones((8, 5), bool)}, {"cf": np.ones((8, 4), bool)}, {}):
        with pytest.raises(UsageError, match="different networks"):
            placement.kept(Mask(layers))


@given(st.dictionaries(st.sampled_from(["conv.1", "fc"]), kept_pairs, min_size=1))
def test_a_mask_survives_its_file(tmp_path, layers):
    mask = Mask(layers, "phase", 3)
    mask.save(tmp_path / "m.npz")
    found = Mask.load(tmp_path / "m.npz")
    assert (found.granularity, found.phases) == ("phase", 3)
    assert found.layers.keys() == layers.keys()
    assert all(np.array_equal(found.layers[name], layers[name]) for name in layers)
    assert found.kept == sum(int(layer.sum()) for layer in layers.values())


def test_a_damaged_mask_file_is_a_data_error(tmp_path):
    path = tmp_path / "m.npz"
    Mask({"fc": np.ones((8, 4), bool)}).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"m\.npz"):
        Mask.load(path)
    with pytest.raises(DataError, match=r"none\.npz"):
        Mask.load(tmp_path / "none.npz")


def test_targets_lie_where_the_weights_are_read() -> None:
    rng = np.random.default_rng(0)
    layers = {"a": (40, 6), "b": (10, 3)}
    placement = Placement.pack(layers, Geometry(32, 32), 8, None)
    wanted = {name: rng.normal(0, 5e-6, shape).astype(np.float32) for name, shape in layers.items()}
    targets = placement.targets(wanted)
    assert targets.shape == (placement.dies, 32, 32)
    assert np.nanmin(targets) >= 0
    for name, found in placement.weights(targets).items():
        np.testing.assert_array_equal(found, wanted[name])
    assert np.count_nonzero(~np.isnan(targets)) == 2 * sum(a * b for a, b in layers.values())
