"""A mask becomes a plan, a plan a deployment, and a deployment is verified by reading back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import forming_plan, hidden, ledger_of, tampered

from rramlab.base.errors import DataError, InstrumentError, UsageError
from rramlab.deploy import Deployment, deployment_plan, find_deployment, pruned_cells, verify
from rramlab.deploy.writing import write_verify_plan
from rramlab.macro.cells import CellState
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.plan.plan import selection
from rramlab.plan.steps import PulseStep

GEOMETRY = Geometry(32, 16)
LAYERS = {"first": (20, 4), "second": (9, 3)}


def random_mask(seed, kept=0.5):
    rng = np.random.default_rng(seed)
    return Mask({name: rng.random(shape) < kept for name, shape in LAYERS.items()})


@pytest.fixture
def placement():
    return Placement.pack(LAYERS, GEOMETRY, 8)


@given(seed=st.integers(0, 2**32), kept=st.floats(0, 1))
def test_reset_takes_out_just_what_gates_cannot(seed, kept):
    placement, mask = Placement.pack(LAYERS, GEOMETRY, 8), random_mask(seed, kept)
    gone, staying = pruned_cells(placement, mask, LAYERS).bits, placement.cells(mask).bits
    assert not (gone & staying).any()
    assert not (gone & ~placement.used().bits).any()
    driven = np.zeros(GEOMETRY.shape, bool)
    for gates in placement.gates(mask, reset=placement.layers).values():
        driven |= gates.cells
    # With the lines gated and the cells reset, exactly the kept cells are left to multiply.
    assert np.array_equal(driven & ~gone, staying)
    assert np.array_equal(driven, placement.cells(placement.lines(mask)).bits)


def test_gating_plans_no_pulse(placement):
    assert not deployment_plan(placement, random_mask(1)).destructive


def test_reset_plans_one_pulse_for_each_conducting_cell_of_a_pruned_pair(placement):
    mask = random_mask(2)
    plan = deployment_plan(placement, mask, LAYERS)
    (step,) = (step for step in plan.steps if isinstance(step, PulseStep))
    conductance = np.where(np.random.default_rng(3).random(GEOMETRY.shape) < 0.5, 1e-5, 1e-7).astype(np.float32)
    virgin = CellState.virgin(GEOMETRY)
    cells = selection(step, GEOMETRY, CellState(virgin.pulses, conductance, virgin.unknown))
    assert np.array_equal(cells.bits, pruned_cells(placement, mask, LAYERS).bits & (conductance > 2e-6))


def deployed(session, placement, mask, method):
    """Form the die, put the mask on it, and return its deployment."""
    session.run(forming_plan(block_rows=64), arm="small-1")
    reset = tuple(LAYERS) if method == "reset" else ()
    result = session.run(deployment_plan(placement, mask, reset), arm="small-1")
    reference = session.stations["small-1"].conductance_S.copy()
    reference[~placement.used().bits] = np.nan
    return Deployment("mine", ("small-1",), reset, placement, mask, reference[None], {}), result


@pytest.mark.parametrize("method", ["gate", "reset"])
def test_a_deployment_computes_with_the_kept_weights(small_bench, placement, method):
    mask = random_mask(4)
    with small_bench.open() as session:
        before = int(ledger_of(session).pulse_counts().sum())
        deployment, result = deployed(session, placement, mask, method)
        after = int(ledger_of(session).pulse_counts().sum())
        assert after - before - GEOMETRY.cells // 2 == result.pulses
        assert (result.pulses == 0) == (method == "gate")
        assert verify(session.macros, deployment).passed
        truth = hidden(session).conductance_S
        weights = placement.weights(truth)
        for tile, gates in deployment.gates().items():
            x = np.random.default_rng(5).integers(0, 16, (64, tile.inputs)).astype(np.uint8)
            measured = session.macro.multiply(x, 4, tile, gates)
            kept = mask.layers[tile.layer][tile.input_slice]
            expected = x.astype(float) @ (weights[tile.layer][tile.input_slice] * kept)
            # Read noise of 2 %, gains of 0.5 %, and up to 0.4 µS left in each cell that was reset.
            assert np.std(measured - expected) < 0.2 * np.std(expected)


def test_verification_finds_what_changed(small_bench, placement):
    mask = random_mask(6)
    with small_bench.open() as session:
        deployment, _ = deployed(session, placement, mask, "gate")
        lost = np.argwhere(placement.cells(mask).bits & (hidden(session).conductance_S > 2e-6))[:5]
        tampered(session).conductance_S[tuple(lost.T)] = 1e-7
        found = verify(session.macros, deployment)
        assert found.lost == 5
        assert not found.passed


def test_verification_sends_no_pulse(small_bench, placement):
    with small_bench.open() as session:
        deployment, _ = deployed(session, placement, random_mask(7), "gate")
        before = hidden(session).pulses.copy()
        verify(session.macros, deployment)
        assert np.array_equal(hidden(session).pulses, before)


def test_a_deployment_file_survives(tmp_path, placement):
    mask = random_mask(8)
    reference = np.random.default_rng(9).random(GEOMETRY.shape).astype(np.float32)
    Deployment("mine", ("die-7",), tuple(LAYERS), placement, mask, reference[None], {"training": "t"}).save(tmp_path)
    found = find_deployment(tmp_path, "mine")
    assert (found.dies, found.method, found.placement) == (("die-7",), "reset", placement)
    assert found.about["training"] == "t"
    assert np.array_equal(found.conductance_S, reference[None])
    assert found.gates() == placement.gates(mask, reset=placement.layers)


def test_a_damaged_deployment_is_refused(tmp_path, placement):
    reference = np.zeros(GEOMETRY.shape, np.float32)
    folder = Deployment("mine", ("die-7",), (), placement, random_mask(10), reference[None], {}).save(tmp_path)
    mask = folder / "mask.npz"
    mask.write_bytes(mask.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged"):
        find_deployment(tmp_path, "mine")
    with pytest.raises(DataError, match="known: mine"):
        find_deployment(tmp_path, "yours")


class Unread:
    """A die of which one cell is read as what is no number."""

    def __init__(self, macro, cell, value):
        self._macro, self.cell, self.value = macro, cell, value

    def __getattr__(self, name):
        return getattr(self._macro, name)

    def read(self, cells="all", repeats=1):
        found = self._macro.read(cells, repeats)
        found[self.cell] = self.value
        return found


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_cell_that_is_read_as_no_number_is_not_taken_for_insulating(small_bench, placement, value):
    """Of a pruned pair that would be what a reset should have left."""
    with small_bench.open() as session:
        deployment, _ = deployed(session, placement, random_mask(4), "gate")
        row, column = np.argwhere(placement.used().bits)[7]
        macro = Unread(session.macro, (row, column), value)
        with pytest.raises(InstrumentError, match=f"no number for 1 of .* row {row}, column {column}"):
            verify({"small-1": macro}, deployment)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_planned_to_be_written(placement, value):
    wanted = {name: np.full(shape, 1e-5, np.float32) for name, shape in LAYERS.items()}
    wanted["second"][3, 2] = value
    with pytest.raises(UsageError, match="layer 'second'"):
        placement.targets(wanted)
    target_S = np.full(GEOMETRY.shape, np.inf)
    with pytest.raises(UsageError, match="row 0, column 0 is infinite"):
        write_verify_plan(target_S, 1e-6, 10)
