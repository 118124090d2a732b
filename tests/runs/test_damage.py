"""Flipped bits in the folder of a run: nothing is believed that is other than it was written, and each is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from turned import believed, bits_of, flipped
from workbench import SmallBench, forming_plan, plain_plan, pulse_step

from rramlab.base.errors import DataError
from rramlab.macro.geometry import Geometry
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ForEachStep, ReadStep, WaitStep
from rramlab.runs.checking import check
from rramlab.runs.comparing import block_differences
from rramlab.runs.export import export
from rramlab.runs.hdf5 import damage
from rramlab.runs.snapshot import load_snapshot
from rramlab.runs.store import Run, list_runs

DIE = "small-1"
MOST = 60  # flipped bits of a file
GEOMETRY = Geometry(32, 16)
PACKED = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bench with a run that has a file of every kind; made once, and left as it is."""
    bench = SmallBench(tmp_path_factory.mktemp("made") / "lab").write()
    rounds = tuple(
        {"value": value, "unit": "", "steps": (ReadStep(cells="rows 0-3", repeats=2),)} for value in ("low", "high")
    )
    loop = ForEachStep.model_validate({"kind": "for_each", "name": "level", "rounds": rounds})
    steps = (pulse_step("rows 0-3 & pristine"), loop, WaitStep(time=1e-3), ReadStep())
    with bench.open() as session:
        session.run(forming_plan(cells="row 20"), arm=DIE)
        session.run(plain_plan(*steps, name="every"), arm=DIE)
    return list_runs(bench.folder / "data" / "runs")[-1]


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "runs" / made.id)
    return Run(tmp_path / "runs" / made.id)


def everything(run):
    """All that a run's folder says, as plain values."""
    blocks = [(block.position, block.dataset, block.attributes, block.load().tobytes()) for block in run.blocks()]
    judged = {path.stem: run.judged(path.stem) for path in run.folder.glob("judgements/*.json")}
    frozen = {path.stem: run.frozen(path.stem, GEOMETRY).packed() for path in run.folder.glob("selections/*.bits")}
    texts = {name: run.text(name) for name in ("bench.yaml", "board.yaml")}
    return run.record, run.plan, run.provenance, texts, blocks, judged, frozen, load_snapshot(run)


def files_of(run):
    """The files that are read again, but for run.h5, by kind: of blocks and judgements one each."""
    kinds = {}
    for path in sorted(path for path in run.folder.rglob("*") if path.is_file() and path.name != "run.h5"):
        kinds.setdefault((path.parent.name, path.suffix) if path.parent != run.folder else path.name, path)
    return list(kinds.values())


def test_a_run_has_a_file_of_every_kind(made):
    names = {path.relative_to(made.folder).parts[0] for path in files_of(made)}
    assert names == {"run.json", "plan.json", "provenance.json", "bench.yaml", "board.yaml", "blocks", "judgements",
                     "selections", "snapshot"}  # fmt: skip


def test_no_flipped_bit_in_the_folder_of_a_run_is_believed(run):
    for path in files_of(run):
        assert believed(path, bits_of(path, MOST), lambda: everything(run)) == [], path.name
    assert check(run).problems == []


def test_checking_a_run_names_whatever_file_is_damaged(run):
    for path in (*files_of(run), run.folder / "run.h5"):
        for bit in bits_of(path, 3):
            with flipped(path, bit):
                (problem, *_) = check(run).problems
                assert path.name in problem, problem
    assert not check(run).problems


@pytest.mark.parametrize("suffix", [".json", ".npy"])
def test_export_and_consolidation_end_with_the_name_of_what_is_damaged(run, tmp_path, suffix):
    path = sorted(run.folder.glob(f"blocks/*-read{suffix}"))[0]
    before = (run.folder / "run.h5").read_bytes()
    for number, bit in enumerate(bits_of(path, 20)):
        with flipped(path, bit):
            for use in (
                run.consolidate,
                lambda number=number: export(run, "csv", tmp_path / f"csv-{number}"),
                lambda number=number: export(run, "npz", tmp_path / f"{number}.npz"),
                lambda: block_differences(run, run),
            ):
                with pytest.raises(DataError, match=path.stem):
                    use()
    assert (run.folder / "run.h5").read_bytes() == before


def test_a_description_of_0_1_0_is_believed_and_must_fit_its_block(run):
    """It has no check sum; what can be seen all the same is."""
    path = sorted(run.folder.glob("blocks/*-read.json"))[0]
    about = json.loads(path.read_text(encoding="utf-8"))
    about = {key: value for key, value in about.items() if key not in ("sum", "time_s")}
    for changes in ({}, {"rows": [about["rows"][0], about["rows"][1] + 1]}, {"position": "000.00009"}):
        path.write_text(json.dumps({**about, **changes}, indent=1), encoding="utf-8")
        if not changes:
            everything(run)
            assert damage(run.consolidate()) == ""
        else:
            with pytest.raises(DataError, match=path.stem):
                everything(run)


def test_a_run_of_0_1_0_is_read_goes_through_the_check_and_says_that_it_has_no_check_sums(run):
    for path in run.folder.rglob("*.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        for key in ("sum", "texts", "time_s", "attempts"):
            about.pop(key, None)
        path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in run.folder.glob("selections/*.bits"):
        path.write_bytes(path.read_bytes()[:-16])
    found = check(run)
    assert (found.problems, found.unsummed) == ([], True)
    everything(run)
    run.consolidate()
    assert check(run).problems == []


# run.h5 ----------------------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_of_the_gathered_file_goes_unseen(made, tmp_path):
    path = shutil.copy(made.folder / "run.h5", tmp_path / "run.h5")
    assert damage(path) == ""
    for bit in bits_of(path, 1500):
        with flipped(path, bit):
            assert path.name in damage(path)
    data = path.read_bytes()
    for cut in (0, 1, 40, 63, 64, 1000, len(data) - 10):  # also where the check sum itself is gone
        path.write_bytes(data[: len(data) - cut])
        assert bool(damage(path)) == bool(cut)


FOREIGN = """
import os, random, sys
import h5py

path, most = sys.argv[1], int(sys.argv[2])
data = open(path, "rb").read()

def values(name):
    found = {}
    with h5py.File(name, "r") as file:
        def take(at, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind != "O":
                found[at] = item[()].dtype.str, item.shape, item[()].tobytes()
        file.visititems(take)
    return found

whole = values(path)
for bit in random.Random(5).sample(range(8 * len(data)), most):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    name = f"{path}.{bit}"
    open(name, "wb").write(damaged)
    child = os.fork()  # damage may end a process that reads it
    if not child:
        try:
            wrong = values(name) != whole
        except Exception:
            wrong = False
        os._exit(3 if wrong else 0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3:
        print(bit)
    os.unlink(name)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_readers_that_know_nothing_of_this_program_see_flipped_values_too(made, tmp_path):
    path = shutil.copy(made.folder / "run.h5", tmp_path / "run.h5")
    told = subprocess.run([sys.executable, "-c", FOREIGN, str(path), "300"], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["done"]


def test_every_reader_of_hdf5_can_unpack_it(made):
    """No filter but those that every build of the library has; all numbers have a check sum; no type of h5py's own."""

    def look(name, item):
        if not isinstance(item, h5py.Dataset):
            return
        creation = item.id.get_create_plist()
        filters = {creation.get_filter(number)[0] for number in range(creation.get_nfilters())}
        kind = item.dtype.kind
        assert kind in "iufb" or h5py.check_string_dtype(item.dtype), name
        assert filters == (set() if kind == "O" else PACKED), name
        assert (item.attrs.get("dtype") == "bool") == (kind == "b"), name
        seen.add(name.rpartition("/")[2])

    seen = set()
    with h5py.File(made.folder / "run.h5") as file:
        file.visititems(look)
        assert file["step-002-000-read/level"].asstr()[()].tolist() == ["low", "high"]
    assert {"codes", "conductance", "valid", "reads", "row", "round", "level", "time"} <= seen


def test_a_file_of_0_1_0_is_read_and_consolidated_anew(run):
    path = run.folder / "run.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("codes", data=np.arange(100), compression="lzf", chunks=(10,))
    assert damage(path) == ""
    run.consolidate()
    with h5py.File(path) as file:
        assert "codes" not in file
    assert damage(path) == ""


def test_an_empty_run_is_gathered_and_checked(tmp_path):
    run = Run.create(tmp_path / "runs", Plan(name="none", steps=()), "d", {"bench.yaml": "name: µ\n"}, {})
    assert damage(run.consolidate()) == ""
    assert [path.name for path in Path(run.folder).glob("*.h5")] == ["run.h5"]
    assert run.text("bench.yaml") == "name: µ\n"
    (run.folder / "bench.yaml").write_text("name: m\n")
    with pytest.raises(DataError, match=r"bench\.yaml"):
        run.text("bench.yaml")
