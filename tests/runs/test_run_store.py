"""A run is a folder of whole blocks that can be gathered into run.h5 at any time."""

import io
import shutil
import time

import h5py
import numpy as np
import pytest
from hypothesis import given
from strategies import selections

from rramlab.base.errors import DataError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import Read
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.runs.snapshot import SNAPSHOT, keep_snapshot, load_snapshot
from rramlab.runs.store import Run, find_run, list_runs

GEOMETRY = Geometry(8, 8)
PLAN = Plan(name="some", steps=(ReadStep(),), block_rows=4)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs", PLAN, "d-1", {"bench.yaml": "name: x\n"}, {"rramlab": "0"})


def cells_block(rows, repeats=1, value=5, valid=None):
    block = np.zeros((rows, 8), [("codes", np.uint16, (repeats,)), ("conductance", np.float32), ("valid", np.bool_)])
    block["valid"] = True if valid is None else valid
    block["codes"][block["valid"]] = value
    block["conductance"] = np.where(block["valid"], value * 1e-9, np.nan)
    return block


def append_rows(run, number, start, repeats=1, value=5, valid=None, dataset="read"):
    block = cells_block(4, repeats, value, valid)
    run.append(
        f"000.{number:05d}",
        dataset,
        block,
        form="cells",
        rows=[start, start + 4],
        shape=[8, 8],
        repeats=repeats,
        calibration="nominal",
    )


def append_products(run, position="001.00000", vectors=3):
    block = np.zeros((vectors, 6), [("sums", np.int32), ("product", np.float32)])
    block["sums"] = np.arange(vectors * 6).reshape(vectors, 6)
    block["product"] = block["sums"] * 1e-6
    run.append(position, "multiply", block, form="products", columns=list(range(6)), bits=1, calibration="nominal")
    return block


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_a_new_run_keeps_what_it_depends_on(run):
    assert run.plan == PLAN
    assert run.die == "d-1"
    assert run.record["status"] == "running"
    assert (run.folder / "bench.yaml").read_text() == "name: x\n"
    assert (run.folder / "provenance.json").exists()
    assert Run(run.folder).id == run.id


def test_every_block_is_kept_apart_from_the_others(run):
    """Blocks of one step, and of several data sets, do not replace each other."""
    append_rows(run, 0, 0, value=1)
    append_rows(run, 1, 4, value=2)
    append_rows(run, 1, 4, value=3, dataset="pilot")
    found = {(block.position, block.dataset): int(block.load()["codes"].max()) for block in run.blocks()}
    assert found == {("000.00000", "read"): 1, ("000.00001", "read"): 2, ("000.00001", "pilot"): 3}
    assert [block.position for block in run.blocks("read")] == ["000.00000", "000.00001"]
    assert run.has("000.00000", "read")
    assert run.has("000.00001", "pilot")
    assert not run.has("000.00000", "pilot")
    assert run.block("000.00001", "read").attributes["rows"] == [4, 8]
    with pytest.raises(DataError, match="no block"):
        run.block("000.00002", "read")


def test_a_block_that_failed_is_absent(run, monkeypatch):
    append_rows(run, 0, 0)

    def fail(stream, array, **more):
        stream.write(b"half of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail)
        with pytest.raises(OSError, match="no space"):
            append_rows(run, 1, 4)
    assert [block.position for block in run.blocks()] == ["000.00000"]
    assert not run.has("000.00001", "read")
    append_rows(run, 1, 4)
    assert len(list(run.blocks())) == 2


def test_an_array_without_its_description_does_not_exist_yet(run):
    """The process died between the two: the block counts as absent and may be written again."""
    append_rows(run, 0, 0)
    (described,) = run.folder.glob("blocks/*.json")
    described.unlink()
    assert not list(run.blocks())
    assert not run.has("000.00000", "read")
    append_rows(run, 0, 0)
    assert run.has("000.00000", "read")


def test_blocks_become_labelled_arrays(run):
    append_rows(run, 0, 0, repeats=2, value=10)
    valid = np.zeros((4, 8), bool)
    valid[1, 3] = True
    append_rows(run, 1, 4, repeats=2, value=20, valid=valid)
    product = append_products(run)
    run.finish("done")
    path = run.consolidate()
    with h5py.File(path) as file:
        assert file.attrs["die"] == "d-1"
        assert file.attrs["status"] == "done"
        assert Plan.model_validate_json(file.attrs["plan"]) == PLAN
        read = file["step-000-read"]
        assert read["codes"].shape == (2, 8, 8)
        assert read["codes"].dtype == np.uint16
        assert np.all(read["codes"][:, :4] == 10)
        assert np.all(read["codes"][:, 5, 3] == 20)
        expected = np.zeros((8, 8), bool)
        expected[:4] = True
        expected[5, 3] = True
        assert np.array_equal(read["valid"][()], expected)
        assert np.array_equal(np.isnan(read["conductance"][()]), ~expected)
        assert read["conductance"].attrs["units"] == "S"
        assert np.array_equal(file["step-001-multiply/sums"][()], product["sums"])
        assert np.array_equal(file["step-001-multiply/product"][()], product["product"])


def test_every_data_set_has_units_and_dimension_scales(run):
    append_rows(run, 0, 0)
    append_rows(run, 1, 4)
    append_products(run)
    seen = []

    def look(name, item):
        if not isinstance(item, h5py.Dataset):
            return
        seen.append(name)
        assert item.attrs["units"], name
        if item.is_scale:
            return
        for axis in range(item.ndim):
            assert len(item.dims[axis]) == 1, name
            assert len(item.dims[axis][0]) == item.shape[axis], name
            assert item.dims[axis].label, name

    with h5py.File(run.consolidate()) as file:
        file.visititems(look)
    assert {"step-000-read/codes", "step-000-read/conductance", "step-001-multiply/sums"} <= set(seen)


def test_gathering_can_be_repeated_at_any_time(run):
    append_rows(run, 0, 0, value=1)
    first = datasets(run.consolidate())
    again = datasets(run.consolidate())
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name], equal_nan=first[name].dtype.kind == "f") for name in first)
    append_rows(run, 1, 4, value=2)
    later = datasets(run.consolidate())
    assert set(np.unique(later["step-000-read/codes"])) == {1, 2}
    assert len(list(run.blocks())) == 2


def test_a_run_without_a_block_can_be_gathered(run):
    assert datasets(run.consolidate()) == {}


def test_reads_of_different_repeats_are_gathered_without_inventing_any(run):
    append_rows(run, 0, 0, repeats=2, value=1)
    append_rows(run, 1, 4, repeats=3, value=2)
    found = datasets(run.consolidate())
    codes = [value for name, value in found.items() if name.endswith("codes")]
    assert sum(int(np.count_nonzero(array == 1)) for array in codes) == 2 * 4 * 8
    assert sum(int(np.count_nonzero(array == 2)) for array in codes) == 3 * 4 * 8


def test_several_products_of_one_step_are_gathered_with_their_codes(run):
    first = append_products(run, "001.00000", 3)
    append_products(run, "001.00001", 5)
    found = [value for name, value in datasets(run.consolidate()).items() if name.endswith("sums")]
    assert sorted(len(array) for array in found) == [3, 5]
    assert any(np.array_equal(array, first["sums"]) for array in found)


@pytest.mark.parametrize("keep", [0, 30, 90, 0.5])
def test_a_truncated_block_is_reported_and_the_others_are_whole(run, keep):
    append_rows(run, 0, 0, value=1)
    append_rows(run, 1, 4, value=2)
    run.consolidate()
    path = run.block("000.00001", "read").path
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else keep])
    first, second = run.blocks()
    assert int(first.load()["codes"].max()) == 1
    with pytest.raises(DataError, match=str(path)):
        second.load()
    with pytest.raises(DataError, match=str(path)):
        run.consolidate()


def test_a_frozen_selection_stays_what_it_was(run):
    @given(selections(GEOMETRY))
    def round_trip(selection):
        run.freeze(3, selection)
        assert Run(run.folder).frozen(3, GEOMETRY) == selection

    round_trip()
    assert run.frozen(4, GEOMETRY) is None
    assert run.frozen("003", GEOMETRY) == run.frozen(3, GEOMETRY)
    nothing = CellSelection(np.zeros(GEOMETRY.shape, bool))
    run.freeze("003-0000002-001", nothing)
    assert run.frozen("003-0000002-001", GEOMETRY) == nothing
    (run.folder / "selections" / "003-0000002-001.bits").unlink()
    (path,) = run.folder.glob("selections/*")
    path.write_bytes(b"1234")
    with pytest.raises(DataError, match="damaged"):
        run.frozen(3, GEOMETRY)


def test_a_damaged_plan_is_reported(run):
    (run.folder / "plan.json").write_text('{"name": "some", "steps"')
    with pytest.raises(DataError, match=run.id):
        _ = run.plan


def test_runs_are_listed_oldest_first_and_found_by_the_beginning_of_their_name(tmp_path):
    runs = tmp_path / "runs"
    assert list_runs(runs) == []
    made = []
    for name in ("zeta", "alpha", "midway", "beta"):
        made.append(Run.create(runs, PLAN.model_copy(update={"name": name}), "d", {}, {}).id)
        time.sleep(0.002)
    assert [run.id for run in list_runs(runs)] == made
    assert find_run(runs, "last").id == made[-1]
    assert find_run(runs, made[1]).id == made[1]
    with pytest.raises(DataError, match="no run"):
        find_run(runs, "1999")
    with pytest.raises(DataError, match="several"):
        find_run(runs, made[0][:4])


def test_a_plan_with_an_odd_name_stays_inside_the_folder(tmp_path):
    runs = tmp_path / "runs"
    run = Run.create(runs, PLAN.model_copy(update={"name": "../a b/c"}), "d", {}, {})
    assert run.folder.parent == runs
    assert [found.id for found in list_runs(runs)] == [run.id]


def test_a_finished_run_says_how(run):
    run.finish("failed", "the reason", pulses=3)
    record = Run(run.folder).record
    assert (record["status"], record["reason"], record["pulses"]) == ("failed", "the reason", 3)
    assert record["finished_at"] >= record["started_at"]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run"):
        Run(tmp_path)


def test_a_snapshot_keeps_arrays_bit_for_bit_and_noise_as_it_is(run):
    noise = np.random.default_rng(3).standard_normal(10_000)
    archive, plain = io.BytesIO(), bytes(range(256)) * 10
    np.savez(archive, noise=noise, nothing=np.zeros(100_000), empty=np.zeros(0))
    keep_snapshot(run, {"die.npz": archive.getvalue(), "ledger.db": plain})
    found = load_snapshot(run)
    assert found["ledger.db"] == plain
    with np.load(io.BytesIO(found["die.npz"])) as arrays:
        assert set(arrays) == {"noise", "nothing", "empty"}
        assert np.array_equal(arrays["noise"], noise)
        assert np.array_equal(arrays["nothing"], np.zeros(100_000))
        assert not arrays["empty"].size
    assert noise.nbytes < (run.folder / SNAPSHOT).stat().st_size < noise.nbytes + 10_000


def test_values_of_whole_rows_and_sparse_ones_are_packed(run):
    for dataset, valid in (("whole", None), ("sparse", np.eye(4, 8, dtype=bool))):
        block = cells_block(4, value=7, valid=valid)
        read = Read(CellSelection(np.vstack([block["valid"], np.zeros((4, 8), bool)])), dataset=dataset)
        run.append_cells("000.00000", read, block, "nominal", 0)
    with h5py.File(run.consolidate()) as file:
        for dataset in ("whole", "sparse"):
            group = file[f"step-000-{dataset}"]
            assert group["codes"].compression == "gzip"
            assert np.array_equal(group["codes"][0, :4] == 7, group["valid"][:4])
            assert not group["valid"][4:].any()


def test_a_judgement_makes_no_folder_anew(run):
    run.judge("003-00000", {"met": False})
    assert run.judged("003-00000") == {"met": False}
    shutil.rmtree(run.folder)
    with pytest.raises(DataError, match="gone"):
        run.judge("003-00001", {"met": True})
    assert not run.folder.exists()
