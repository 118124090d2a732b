"""The array with resistive lines, against nodal analysis of the whole network and against badcrossbar."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import block_array, coo_matrix, diags_array
from scipy.sparse.linalg import spsolve

from rramlab.macro import crossbar
from rramlab.macro.crossbar import LineResistances, lone_rows, transfer

cell = st.sampled_from([0.0, 0.0, 1e-7]) | st.floats(1e-7, 3e-5) | st.floats(1e-5, 1e-2)
segment = st.just(0.0) | st.floats(0.01, 10.0) | st.floats(10.0, 3e3)
switch = st.just(0.0) | st.floats(1.0, 500.0) | st.floats(500.0, 1e6)


shape_of_any = st.tuples(st.integers(1, 8), st.integers(1, 8))


@st.composite
def arrays(draw, shapes=shape_of_any):
    """Conductances and the resistances of their lines."""
    rows, columns = shape = draw(shapes)
    lines = LineResistances(
        draw(hnp.arrays(np.float64, rows, elements=switch)),
        draw(hnp.arrays(np.float64, columns, elements=switch)),
        draw(segment),
    )
    return draw(hnp.arrays(np.float64, shape, elements=cell)), lines


def nodal(conductance, lines):
    """Return the same matrix from Kirchhoff's laws for every node (V) and every piece of wire (µA), zero Ohm or not."""
    rows, columns = conductance.shape
    size = rows * columns
    bit = np.arange(size).reshape(rows, columns)
    source = size + bit
    # Node -1 stands for an ideal voltage: the driver of a row, or virtual ground.
    start = np.concatenate([np.hstack([np.full((rows, 1), -1), bit[:, :-1]]).ravel(), source.ravel()])
    end = np.concatenate([bit.ravel(), np.vstack([source[1:], np.full((1, columns), -1)]).ravel()])
    megohm = np.full((2, rows, columns), lines.segment_Ohm * 1e-6)
    megohm[0, :, 0] = lines.bl_Ohm * 1e-6
    megohm[1, -1, :] = lines.sl_Ohm * 1e-6
    wire = np.arange(2 * size)
    leaves = coo_matrix((np.where(start < 0, 0.0, 1.0), (np.maximum(start, 0), wire)), (2 * size, 2 * size))
    enters = coo_matrix((np.where(end < 0, 0.0, 1.0), (np.maximum(end, 0), wire)), (2 * size, 2 * size))
    cells = diags_array(conductance.ravel() * 1e6)
    kirchhoff = block_array(
        [
            [block_array([[cells, -cells], [-cells, cells]]), leaves - enters],
            [(leaves - enters).T, -diags_array(megohm.ravel())],
        ]
    ).tocsc()
    driven = np.zeros((4 * size, rows))
    driven[2 * size + bit[:, 0], np.arange(rows)] = -1.0
    solution = spsolve(kirchhoff, driven).reshape(4 * size, rows)
    return solution[2 * size + source[-1]].T * 1e-6


def close(found, expected, relative=1e-9):
    return np.abs(found - expected).max() <= relative * np.abs(expected).max()


def formed(shape, seed=1, share=1.0):
    """Cells as after electroforming: lognormal about 12.2 µS, a ``share`` of them; the others do not conduct."""
    generator = np.random.Generator(np.random.Philox(seed))
    cells = 12.2e-6 * np.exp(0.1475 * generator.standard_normal(shape))
    return np.where(generator.random(shape) < share, cells, 0.0)


@given(arrays())
def test_exact_is_nodal_analysis_of_the_whole_network(array):
    conductance, lines = array
    assert close(transfer(conductance, lines), nodal(conductance, lines))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 50), (50, 3), (24, 25)])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_exact_of_any_shape(shape, share):
    conductance = formed(shape, share=share)
    lines = LineResistances(np.linspace(50, 150, shape[0]), np.linspace(200, 90, shape[1]), 20.0)
    assert close(transfer(conductance, lines), nodal(conductance, lines), 1e-11)
    assert close(transfer(conductance.astype(np.float32), lines), nodal(conductance, lines), 1e-6)


@pytest.mark.parametrize("ohm", [1e3, 1e5, 1e8, 1e11])
def test_exact_when_the_wire_swallows_everything(ohm):
    conductance = formed((40, 40))
    lines = LineResistances.uniform((40, 40), 125.0, 125.0, ohm)
    assert close(transfer(conductance, lines), nodal(conductance, lines))


def test_voltages_too_faint_to_divide_by_are_compared_as_logarithms(monkeypatch):
    conductance = formed((30, 20), share=0.7)
    lines = LineResistances.uniform(conductance.shape, 125.0, 60.0, 300.0)
    expected = transfer(conductance, lines), transfer(conductance, lines, "fast")
    monkeypatch.setattr(crossbar, "_FAINT", 2.0)
    assert close(transfer(conductance, lines), expected[0], 1e-12)
    assert close(transfer(conductance, lines, "fast"), expected[1], 1e-12)


@given(arrays())
def test_a_lone_row_is_the_array_without_the_cells_of_the_others(array):
    conductance, lines = array
    found = lone_rows(conductance, lines)
    expected = np.zeros_like(found)
    for row in range(len(conductance)):
        alone = np.zeros_like(conductance)
        alone[row] = conductance[row]
        expected[row] = nodal(alone, lines)[row]
    assert close(found, expected)
    assert np.all((found >= 0) & (found <= conductance))


@given(arrays(), st.integers(0, 7), st.integers(1, 8))
def test_some_lone_rows_are_those_of_all_to_the_last_bit(array, first, count):
    conductance, lines = array
    rows = slice(min(first, len(conductance) - 1), first + count)
    others = np.where(np.isin(np.arange(len(conductance)), np.arange(*rows.indices(999)))[:, None], conductance, 0.0)
    expected = lone_rows(conductance, lines)[rows]
    assert np.array_equal(lone_rows(conductance, lines, rows), expected)
    assert np.array_equal(lone_rows(others, lines, rows), expected)


@given(arrays(), st.integers(0, 2**32 - 1))
def test_currents_obey_superposition_and_passivity(array, seed):
    conductance, lines = array
    matrix = transfer(conductance, lines)
    slack = 1e-12 * conductance.max()
    assert matrix.min() >= -slack
    assert np.all(matrix.sum(axis=0) <= conductance.sum(axis=0) + slack)
    assert np.all(matrix.sum(axis=1) <= conductance.sum(axis=1) + slack)
    assert np.all(matrix.sum(axis=1) * lines.bl_Ohm <= 1 + 1e-12)
    assert np.all(matrix.sum(axis=0) * lines.sl_Ohm <= 1 + 1e-12)
    volts = np.random.default_rng(seed).normal(size=len(conductance))
    assert np.allclose(volts @ matrix, volts @ nodal(conductance, lines), rtol=0, atol=1e-8 * max(matrix.max(), slack))


@given(arrays(st.integers(1, 8).map(lambda side: (side, side))))
def test_exchanging_sources_and_meters_changes_nothing(array):
    conductance, lines = array
    turned = LineResistances(lines.sl_Ohm[::-1], lines.bl_Ohm[::-1], lines.segment_Ohm)
    there = transfer(conductance, lines)
    back = transfer(conductance[::-1, ::-1].T, turned)
    assert close(back.T[::-1, ::-1], there)


@pytest.mark.parametrize("solve", [transfer, lone_rows, lambda *array: transfer(*array, "fast")])
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=cell))
def test_without_resistance_the_matrix_is_the_conductances(solve, conductance):
    lines = LineResistances.uniform(conductance.shape, 0.0, 0.0, 0.0)
    assert np.array_equal(solve(conductance, lines), conductance)


@given(arrays(), st.sampled_from(["exact", "fast"]))
def test_resistance_only_ever_lowers_the_sum_of_all_currents(array, solver):
    conductance, lines = array
    more = LineResistances(lines.bl_Ohm + 10.0, lines.sl_Ohm + 10.0, lines.segment_Ohm)
    assert transfer(conductance, more, solver).sum() <= transfer(conductance, lines, solver).sum() * (1 + 1e-12)


def test_no_cell_conducts():
    lines = LineResistances.uniform((6, 4), 125.0, 125.0, 1.0)
    for matrix in (transfer(np.zeros((6, 4)), lines), lone_rows(np.zeros((6, 4)), lines)):
        assert not matrix.any()


# `loss` of 1 is that of 512 cells at 1 Ohm a segment, on fewer cells: a line loses by side² · segment · conductance.
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (96, 80), (80, 96)])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("loss", [0.01, 0.1, 1.0, 4.0])
def test_fast_is_within_its_stated_error(shape, share, loss):
    conductance = formed(shape, seed=3, share=share)
    lines = LineResistances.uniform(shape, 125.0, 125.0, loss * (512 / max(shape)) ** 2)
    exact, fast = transfer(conductance, lines), transfer(conductance, lines, "fast")
    assert np.abs(fast.sum(axis=0) / exact.sum(axis=0) - 1).max() < 0.0005
    matters = exact > 0.01 * exact.max()
    assert np.abs(fast[matters] / exact[matters] - 1).max() < 0.002
    assert close(fast, exact, 0.0007)


@pytest.mark.parametrize("segment_Ohm", [0.0, 1e-6, 2000.0])
def test_fast_is_exact_where_the_wire_loses_nothing_or_nearly_all(segment_Ohm):
    conductance = formed((40, 30), share=0.8)
    lines = LineResistances.uniform(conductance.shape, 125.0, 60.0, segment_Ohm)
    assert close(transfer(conductance, lines, "fast"), transfer(conductance, lines), 1e-8)


def test_fast_bears_one_cell_that_is_shorted():
    conductance = formed((64, 64))
    conductance[20, 30] = 2e-3
    lines = LineResistances.uniform((64, 64), 125.0, 125.0, 4.0)
    assert close(transfer(conductance, lines, "fast").sum(axis=0), transfer(conductance, lines).sum(axis=0), 0.002)


# µS, from badcrossbar 1.1.0: compute(eye(rows), 1 / g, r).currents.output for g = 1 + (7 i + 3 j) mod 11 µS; in the third
# array the cells with (i + 2 j) mod 3 = 0 do not conduct. Its lines begin and end with a segment: all resistances are r.
GOLDEN = [
    (
        10.0,
        [
            [0.99955054, 3.9966434607, 6.9932165073, 9.9886115475],
            [7.996002347, 10.990657256, 2.9973927089, 5.9941854926],
            [3.9985608352, 6.9955231592, 9.9926050122, 1.998521516],
        ],
    ),
    (
        2000.0,
        [
            [0.9026076149, 3.4013575387, 5.8874700742],
            [7.0371728444, 9.1639795212, 2.5362844702],
            [3.5948503553, 5.9923370869, 8.3968689364],
            [10.1173639484, 2.720892271, 5.3544202228],
        ],
    ),
    (
        150.0,
        [
            [2.69232e-05, 3.9566682368, 6.9004268989, 5.05415e-05, 1.9804216309],
            [7.9191521892, 4.53966e-05, 2.9604559625, 5.9322858807, 3.99223e-05],
            [3.9637478163, 6.9261836508, 7.06925e-05, 1.9777532941, 4.9450342466],
            [1.27669e-05, 2.9785922893, 5.9456238704, 2.3718e-05, 0.9933201882],
            [6.9655848467, 1.14575e-05, 1.9863216243, 4.9657354637, 1.015e-05],
        ],
    ),
]


@pytest.mark.parametrize(("ohm", "microsiemens"), GOLDEN)
def test_matrices_of_badcrossbar(ohm, microsiemens):
    shape = np.shape(microsiemens)
    row, column = np.indices(shape)
    conductance = (1 + (7 * row + 3 * column) % 11) * 1e-6
    if shape == (5, 5):
        conductance[(row + 2 * column) % 3 == 0] = 0.0
    found = transfer(conductance, LineResistances.uniform(shape, ohm, ohm, ohm))
    assert np.allclose(found * 1e6, microsiemens, rtol=0, atol=2e-10)


@pytest.mark.parametrize(("shape", "ohm"), [((32, 32), 1.0), ((20, 33), 400.0), ((40, 12), 1e4)])
def test_agrees_with_badcrossbar_itself(shape, ohm):
    badcrossbar = pytest.importorskip("badcrossbar")
    conductance = formed(shape, seed=7)
    peer = badcrossbar.compute(np.eye(shape[0]), 1 / conductance, ohm, node_voltages=False, all_currents=False)
    assert close(transfer(conductance, LineResistances.uniform(shape, ohm, ohm, ohm)), peer.currents.output, 1e-9)


GOOD = LineResistances.uniform((2, 3), 1.0, 1.0, 1.0)


@pytest.mark.parametrize("solve", [transfer, lone_rows])
@pytest.mark.parametrize(
    ("conductance", "words"),
    [
        (np.full((2, 3), -1e-9), "negative"),
        (np.full((2, 3), np.nan), "not finite"),
        (np.full((2, 3), np.inf), "not finite"),
        (np.zeros((3, 2)), "3 × 2 cells"),
        (np.zeros(3), "rows and columns"),
        (np.zeros((0, 3)), "rows and columns"),
    ],
)
def test_conductances_that_are_refused(solve, conductance, words):
    with pytest.raises(ValueError, match=words):
        solve(conductance, GOOD)


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="found solver 'quick', expected exact or fast"):
        transfer(np.zeros((2, 3)), GOOD, "quick")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bl_Ohm": [-1.0, 0.0]}, "bl_Ohm holds"),
        ({"sl_Ohm": [math.nan]}, "sl_Ohm holds"),
        ({"sl_Ohm": [[1.0]]}, r"sl_Ohm of shape \(1, 1\)"),
        ({"bl_Ohm": 1.0}, r"bl_Ohm of shape \(\)"),
        ({"segment_Ohm": -1.0}, "segment_Ohm -1"),
        ({"segment_Ohm": math.inf}, "segment_Ohm inf"),
    ],
)
def test_line_resistances_that_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        LineResistances(**{"bl_Ohm": [1.0, 2.0], "sl_Ohm": [1.0], "segment_Ohm": 1.0, **change})


def test_line_resistances_cannot_be_changed_afterwards():
    given_Ohm = np.ones(2)
    lines = LineResistances(given_Ohm, np.ones(3), 1)
    given_Ohm[0] = 7.0
    assert lines.bl_Ohm[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        lines.bl_Ohm[0] = 7.0
