"""The die as Python sees it: siemens in numpy, the same guard, products that match the conductances."""

import h5py
import numpy as np
import pytest
from workbench import SmallBench, conducting_now, forming_plan, hidden, ledger_of

import rramlab
from rramlab.base.errors import InstrumentError, Refused, RramlabError, UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan
from rramlab.plan.steps import GateStep, MultiplyStep
from rramlab.runs.store import list_runs

TILE = Tile("fc", 0, 20, 6, 8, 1)  # rows 8-27, pairs 1-6
STEP = 1e-3 / 2**14


def ideal_bench(folder):
    return SmallBench(folder, dies={"small-1": "preset: ideal"}, board_options="{preset: ideal}").write()


@pytest.fixture
def session(tmp_path):
    with ideal_bench(tmp_path).open() as opened:
        opened.run(forming_plan("one-of-pair(seed=3)", block_rows=32), arm="small-1")
        yield opened


@pytest.fixture
def kept():
    return np.random.default_rng(5).random((20, 6)) < 0.5


SMALL = Geometry(32, 16)


def gates_of(kept, tile=TILE, geometry=SMALL):
    full = np.zeros((geometry.rows, geometry.pairs), np.bool_)
    full[tile.row_slice, tile.pair_slice] = kept
    return GatePattern.of_pairs(full)


def truth(session, kept=None):
    cells = hidden(session).conductance_S[TILE.row_slice, TILE.column_slice].astype(float)
    weights = cells[:, 0::2] - cells[:, 1::2]
    return weights if kept is None else weights * kept


# products -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_multiply_is_the_product_with_the_kept_weights(session, kept, bits):
    x = np.random.default_rng(bits).integers(0, 2**bits, (17, 20)).astype(np.uint8)
    found = session.macro.multiply(x, bits, TILE, gates_of(kept))
    assert found.shape == (17, 6)
    assert found.dtype == np.float32
    expected = x @ truth(session, kept)
    # at most half a code is rounded off a conversion: three groups of lines, every bit plane, two columns
    assert np.all(np.abs(found - expected) <= 2 * 3 * (2**bits - 1) * 0.5 * STEP * 1.001 + 1e-9)
    exact_enough = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    assert exact_enough > 0.99


def test_a_published_macro_multiplies_within_its_errors(tmp_path):
    """Noise, gains and offsets of the shipped die: the regression on the true product is one, the rest a few per cent."""
    with rramlab.open_bench(tmp_path) as session:
        session.run("electroform", {"cells": "rows 0-127 & one-of-pair(seed=7)"}, arm="sim-0001")
        tile = Tile("fc", 0, 128, 32, 0, 0)
        kept = np.random.default_rng(1).random((128, 32)) < 0.5
        gates = gates_of(kept, tile, Geometry())
        x = np.random.default_rng(2).integers(0, 16, (200, 128)).astype(np.uint8)
        found = session.macro.multiply(x, 4, tile, gates)
        cells = hidden(session).conductance_S[:128, :64].astype(float)
        expected = x @ ((cells[:, 0::2] - cells[:, 1::2]) * kept)
        slope = (found * expected).sum() / (expected**2).sum()
        assert slope == pytest.approx(1, abs=0.01)
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.06 * expected.std()
        assert session.macro.conversions > 0
        assert session.macro.saturated == 0


def test_pairs_that_are_off_give_zero_and_rows_that_are_off_count_nothing(session, kept):
    kept[:, 2] = False
    kept[5] = False
    gates = gates_of(kept)
    x = np.full((3, 20), 7, np.uint8)
    found = session.macro.multiply(x, 3, TILE, gates)
    assert np.all(found[:, 2] == 0)
    x[:, 5] = 0
    assert np.array_equal(session.macro.multiply(x, 3, TILE, gates), found)


def test_placement_gates_and_multiply_fit_each_other(tmp_path):
    """Two layers side by side on one die, every tile by its own pattern."""
    with ideal_bench(tmp_path).open() as session:
        session.run(forming_plan("one-of-pair(seed=3)", block_rows=32), arm="small-1")
        placement = Placement.pack({"a": (40, 3), "b": (9, 4)}, Geometry(32, 16), align=8)
        rng = np.random.default_rng(0)
        mask = Mask({name: rng.random(shape) < 0.6 for name, shape in placement.layers.items()})
        weights = placement.weights(hidden(session).conductance_S)
        patterns = placement.gates(mask)
        for name, (inputs, outputs) in placement.layers.items():
            x = rng.integers(0, 16, (5, inputs)).astype(np.uint8)
            total = np.zeros((5, outputs))
            for tile in placement.of(name):
                total += session.macro.multiply(x[:, tile.input_slice], 4, tile, patterns[tile])
            expected = x @ (weights[name].astype(float) * mask.layers[name])
            assert np.all(np.abs(total - expected) <= 2 * 6 * 15 * 0.5 * STEP * 1.001 + 1e-9)


def test_inputs_of_zero_vectors_or_nothing_kept(session, kept):
    assert session.macro.multiply(np.zeros((0, 20), np.uint8), 4, TILE, gates_of(kept)).shape == (0, 6)
    nothing = session.macro.multiply(np.ones((2, 20), np.uint8), 4, TILE, gates_of(np.zeros((20, 6), bool)))
    assert np.array_equal(nothing, np.zeros((2, 6), np.float32))
    assert np.all(np.abs(session.macro.multiply(np.zeros((2, 20), np.uint8), 4, TILE, gates_of(kept))) < 1e-12)


def test_more_patterns_than_slots_are_reloaded_as_needed(tmp_path):
    folder = ideal_bench(tmp_path).folder
    SmallBench(
        folder, dies={"small-1": "preset: ideal"}, board_options="{preset: ideal}", figures={"gate_slots": "3"}
    ).write()
    with rramlab.open_bench(folder) as session:
        session.run(forming_plan(block_rows=32), arm="small-1")
        x = np.full((1, 20), 15, np.uint8)
        order = [0, 1, 2, 3, 0, 4, 1, 1, 3, 2, 0]
        masks = [np.random.default_rng(i).random((20, 6)) < 0.5 for i in range(5)]
        for index in order:
            found = session.macro.multiply(x, 4, TILE, gates_of(masks[index]))
            expected = x @ truth(session, masks[index])
            assert np.all(np.abs(found - expected) <= 2 * 3 * 15 * 0.5 * STEP * 1.001 + 1e-9)


def test_a_plan_that_loads_gates_does_not_spoil_later_products(session):
    """A run loads its own pattern into a slot; the session's products still use theirs."""
    first = np.zeros((20, 6), bool)
    first[:8] = True
    x = np.full((2, 20), 15, np.uint8)
    before = session.macro.multiply(x, 4, TILE, gates_of(first))
    session.run(Plan(name="m", steps=(GateStep(rows="rows 24-31"), MultiplyStep())))
    assert np.array_equal(session.macro.multiply(x, 4, TILE, gates_of(first)), before)


def test_products_go_on_after_a_run_that_failed(session, kept):
    x = np.full((2, 20), 15, np.uint8)
    before = session.macro.multiply(x, 4, TILE, gates_of(kept))
    controller = session.bench.controllers["small-1"]

    def fail(*arguments, **more):
        raise RuntimeError("the link is gone")

    controller.read = fail
    with pytest.raises(RuntimeError):
        session.run("read-array")
    del controller.read
    assert np.array_equal(session.macro.multiply(x, 4, TILE, gates_of(kept)), before)


def test_products_follow_a_reset(session, kept):
    x = np.full((1, 20), 15, np.uint8)
    session.macro.multiply(x, 4, TILE, gates_of(kept))
    session.run("prune", {"cells": "rows 8-11"}, arm="small-1")
    found = session.macro.multiply(x, 4, TILE, gates_of(kept))
    expected = x @ truth(session, kept)
    assert np.all(np.abs(found - expected) <= 2 * 3 * 15 * 0.5 * STEP * 1.001 + 1e-9)


OUTSIDE_LEFT = np.zeros((32, 8), bool)
OUTSIDE_LEFT[8:28, 0] = True
OUTSIDE_RIGHT = np.zeros((32, 8), bool)
OUTSIDE_RIGHT[8:28, 7] = True
ABOVE = np.zeros((32, 8), bool)
ABOVE[7:28, 1] = True
BELOW = np.zeros((32, 8), bool)
BELOW[8:29, 1] = True
INSIDE = np.zeros((32, 8), bool)
INSIDE[8:28, 1:7] = True


@pytest.mark.parametrize(
    ("x", "bits", "pairs"),
    [
        (np.ones((2, 19), np.uint8), 4, INSIDE),
        (np.ones((2, 21), np.uint8), 4, INSIDE),
        (np.ones(20, np.uint8), 4, INSIDE),
        (np.ones((1, 2, 20), np.uint8), 4, INSIDE),
        (np.ones((2, 20), np.int64), 4, INSIDE),
        (np.ones((2, 20), np.float32), 4, INSIDE),
        (np.full((2, 20), 16, np.uint8), 4, INSIDE),
        (np.zeros((2, 20), np.uint8), 0, INSIDE),
        (np.ones((2, 20), np.uint8), 9, INSIDE),
        (np.ones((2, 20), np.uint8), -1, INSIDE),
        (np.ones((2, 20), np.uint8), 4, np.ones((16, 8), bool)),
        (np.ones((2, 20), np.uint8), 4, OUTSIDE_LEFT),
        (np.ones((2, 20), np.uint8), 4, OUTSIDE_RIGHT),
        (np.ones((2, 20), np.uint8), 4, ABOVE),
        (np.ones((2, 20), np.uint8), 4, BELOW),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(session, x, bits, pairs):
    before = hidden(session).conversions
    with pytest.raises(RramlabError, match=r"\w+ \w+"):
        session.macro.multiply(x, bits, TILE, GatePattern.of_pairs(pairs))
    assert hidden(session).conversions == before


# reads and weights --------------------------------------------------------------------------------------------


def test_a_read_is_siemens_where_selected_and_nan_elsewhere(session):
    found = session.macro.read("rows 3-9 & checkerboard")
    chosen = Region("rows 3-9 & checkerboard").bound(session.macro.geometry).bits
    assert found.dtype == np.float32
    assert np.array_equal(~np.isnan(found), chosen)
    true = hidden(session).conductance_S[chosen]
    assert np.all(np.abs(found[chosen] - true) <= 0.51 * 6.25e-9 + 1e-3 * true)
    for same in (Region("rows 3-9 & checkerboard"), CellSelection(chosen)):
        assert np.array_equal(session.macro.read(same), found, equal_nan=True)
    assert np.isnan(session.macro.read("conducting & pristine")).all()


def test_more_repeats_are_less_noise(tmp_path):
    with SmallBench(tmp_path, board_options="{preset: ideal}").write().open() as session:
        session.run(forming_plan("all", block_rows=32), arm="small-1")
        true = conducting_now(session)
        errors = [float(np.std(session.macro.read("all", n) / true - 1)) for n in (1, 64)]
        assert errors[0] == pytest.approx(0.02, rel=0.15)
        assert errors[1] == pytest.approx(0.02 / 8, rel=0.25)


def test_weights_are_plus_minus_minus(session):
    found = session.macro.weights(TILE)
    assert found.shape == (20, 6)
    assert np.all(np.abs(found - truth(session)) < 1.1 * 6.25e-9 + 2e-3 * np.abs(truth(session)))


@pytest.mark.parametrize("cells", ["rows 0-32", "raws", "cell (0, 16)"])
def test_cells_off_the_die_are_refused(session, cells):
    with pytest.raises(UsageError):
        session.macro.read(cells)
    with pytest.raises(UsageError):
        session.macro.pulse("set", cells, Pulse(2.0, 1e-6, 1.6))


def test_a_selection_of_another_geometry_is_refused(session):
    with pytest.raises(UsageError):
        session.macro.read(CellSelection(np.ones((16, 16), bool)))


@pytest.mark.parametrize("repeats", [0, -1])
def test_reads_without_a_repeat_are_refused(session, repeats):
    with pytest.raises(RramlabError):
        session.macro.read("row 0", repeats)


def test_interactive_reads_are_all_kept_in_one_run(tmp_path):
    with ideal_bench(tmp_path).open() as session:
        first = session.macro.read("rows 0-3", repeats=2)
        session.macro.read("rows 0-3", repeats=3)
        session.macro.read("rows 4-9")
    (run,) = list_runs(tmp_path / "data" / "runs")
    assert run.record["name"] == "interactive"
    assert run.record["status"] == "done"
    blocks = list(run.blocks())
    assert [block.attributes["repeats"] for block in blocks] == [2, 3, 1]
    assert np.array_equal(blocks[0].load()["conductance"], first[:4])
    assert (run.folder / "run.h5").exists()
    with h5py.File(run.folder / "run.h5") as file:
        valid = np.zeros((32, 16), bool)
        for group in file.values():
            valid |= group["valid"][:]
        assert valid[:10].all()


# pulses -------------------------------------------------------------------------------------------------------


def test_pulses_cross_the_same_guard(small_bench):
    with small_bench.open() as session:
        macro, form = session.macro, Pulse(3.75, 1e-6, 1.6)
        with pytest.raises(Refused, match="armed"):
            macro.pulse("electroform", "row 0", form)
        session.arm("small-1")
        with pytest.raises(Refused, match="contact"):
            macro.pulse("electroform", "row 0", form)
        assert macro.contact().passed
        for over in (Pulse(4.1, 1e-6, 1.6), Pulse(3.75, 1e-6, 3.4), Pulse(3.75, 1, 1.6)):
            with pytest.raises(Refused, match="nothing was energised"):
                macro.pulse("electroform", "row 0", over)
        with pytest.raises(RramlabError, match="pilot"):
            macro.pulse("electroform", "rows 0-4", form)
        assert not hidden(session).pulses.any()
        assert not ledger_of(session).history()
        report = macro.pulse("electroform", "row 0", form)
        assert report.done.count == 16
        assert hidden(session).pulses.sum() == ledger_of(session).pulse_counts().sum() == 16
        with pytest.raises(Refused):
            session.arm("small-2")


def test_pulsing_no_cell_does_nothing(small_bench):
    with small_bench.open() as session:
        session.arm("small-1")
        session.macro.contact()
        report = session.macro.pulse("set", "row 0 & row 1", Pulse(2.0, 1e-6, 1.6))
        assert report.done.count == 0
        assert not hidden(session).pulses.any()
        assert not ledger_of(session).dangling()
        session.run("read-array")


def test_a_pulse_makes_the_last_read_of_its_cells_unknown(small_bench):
    with small_bench.open() as session:
        session.arm("small-1")
        session.macro.contact()
        session.macro.read()
        session.macro.pulse("electroform", "row 2", Pulse(3.75, 1e-6, 1.6))
        known = session.stations["small-1"].state.conductance_S
        assert np.isnan(known[2]).all()
        assert not np.isnan(np.delete(known, 2, axis=0)).any()
    with small_bench.open() as session:
        again = session.stations["small-1"].state.conductance_S
        assert np.array_equal(np.isnan(again), np.isnan(known))


@pytest.mark.parametrize("where", ["pulse", "read", "multiply"])
def test_a_single_operation_that_fails_leaves_the_bench_safe(session, where):
    session.arm("small-1")
    session.macro.contact()
    gates = GatePattern.of_pairs(INSIDE)
    x = np.ones((2, 20), np.uint8)
    expected = session.macro.multiply(x, 4, TILE, gates).shape
    controller, calls = session.bench.controllers["small-1"], []
    original, safe = getattr(controller, where), controller.safe_state

    def broken(*arguments, **more):
        raise InstrumentError("the link is gone")

    setattr(controller, where, broken)
    controller.safe_state = lambda: (calls.append(1), safe())
    operations = {
        "pulse": lambda: session.macro.pulse("reset", "row 0", Pulse(2.0, 1e-6, 3.0)),
        "read": lambda: session.macro.read("row 0"),
        "multiply": lambda: session.macro.multiply(x, 4, TILE, gates),
    }
    with pytest.raises(InstrumentError, match="link"):
        operations[where]()
    assert calls
    setattr(controller, where, original)
    # Its patterns went with the safe state; the next product loads its own again.
    assert session.macro.multiply(x, 4, TILE, gates).shape == expected
