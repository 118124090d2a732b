"""Files that a protocol names: masks of cells, arrays of targets. The plan holds what they hold."""

import numpy as np
import pytest

from rramlab.base.errors import DataError, UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan
from rramlab.protocols.files import load_protocol

SHAPE = (6, 8)
MASK = np.add.outer(np.arange(6), np.arange(8)) % 3 == 0
TEXT = """\
name: mine
description: For a test.
parameters:
  cells: {type: region, default: mask(some.npy), description: which cells}
steps:
  - read: {cells: "${cells} & rows 0-3"}
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A bench folder with a protocol, and another folder as the current one."""
    (tmp_path / "bench" / "protocols").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "bench" / "protocols" / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "bench"


def cells_of(bench, **given):
    plan = load_protocol(bench, "mine").plan(Geometry(*SHAPE), given)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    (step,) = plan.steps
    assert "mask" not in step.cells
    return Region(step.cells).bound(Geometry(*SHAPE)).bits


def written(path, how, mask=MASK):
    match how:
        case "npy":
            np.save(path, mask)
        case "npz":
            np.savez(path, mask)
        case "named":
            np.savez(path, cells=mask, about=np.array("a note"))
        case "numbers":
            np.save(path, mask.astype(np.uint8))
        case "text":
            path.write_text("# a mask\n" + "\n".join(" ".join("01"[cell] for cell in row) for row in mask.astype(int)))
        case "packed":
            path.write_text(Region.of(mask).text + "\n")


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("npy", "some.npy"),
        ("numbers", "some.npy"),
        ("npz", "a.npz"),
        ("named", "a.npz"),
        ("text", "a.txt"),
        ("packed", "a.txt"),
        ("npy", "a mask (2).npy"),
    ],
)
def test_a_mask_in_any_of_its_forms_becomes_its_cells(bench, how, name):
    written(bench / name, how)
    found = cells_of(bench, cells=f'mask("{name}")')
    assert np.array_equal(found, MASK & (np.arange(6) < 4)[:, None])


@pytest.mark.parametrize("folder", ["bench", "bench/protocols", "elsewhere"])
def test_it_is_looked_up_beside_the_protocol_in_the_bench_and_where_the_person_is(bench, folder):
    written(bench.parent / folder / "some.npy", "npy")
    assert cells_of(bench).any()


def test_two_files_of_one_name_are_not_guessed_between(bench):
    written(bench / "some.npy", "npy")
    written(bench / "protocols" / "some.npy", "npy", ~MASK)
    with pytest.raises(UsageError, match=r"two files called 'some\.npy'") as caught:
        cells_of(bench)
    assert caught.value.source.line == 6
    assert np.array_equal(cells_of(bench, cells=f"mask({bench / 'some.npy'})"), MASK & (np.arange(6) < 4)[:, None])


def _layers(path):
    np.savez(path, **{"layer:fc": np.ones((3, 3), np.bool_)})


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (None, UsageError, "expected a file that exists"),
        (lambda path: np.save(path, np.ones((4, 8), np.bool_)), UsageError, "expected 6 × 8 cells"),
        (lambda path: np.save(path, np.full(SHAPE, 0.5)), UsageError, "float64"),
        (lambda path: np.save(path, np.full(SHAPE, 2)), UsageError, "0 and 1"),
        (lambda path: np.save(path, np.zeros(SHAPE, np.bool_)), UsageError, "means no cell"),
        (lambda path: path.write_bytes(b"nonsense"), DataError, "NumPy"),
        (lambda path: path.write_bytes(b""), DataError, "NumPy"),
    ],
)
def test_what_is_no_mask_of_this_die_is_refused_with_its_place(bench, make, kind, words):
    if make:
        make(bench / "some.npy")
    with pytest.raises(kind, match=words) as caught:
        cells_of(bench)
    assert caught.value.source.file.endswith("mine.yaml")
    assert caught.value.source.line == 6


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.npz", _layers, "rramlab deploy"),
        ("a.npz", lambda path: np.savez(path, one=MASK, two=MASK), "one, two"),
        ("a.npz", lambda path: path.write_bytes(b"PK nonsense"), "archive"),
        ("a.txt", lambda path: path.write_text("0101\n01x1\n"), "row 2"),
        ("a.txt", lambda path: path.write_text("0101\n011\n"), "row 2"),
        ("a.txt", lambda path: path.write_text(""), "no row"),
        ("a.txt", lambda path: path.write_text("bits(AAAA)"), "bits"),
        ("a.txt", lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read"),
    ],
)
def test_other_files_say_what_is_wrong_with_them(bench, name, make, words):
    make(bench / name)
    with pytest.raises((UsageError, DataError), match=words) as caught:
        cells_of(bench, cells=f"mask({name})")
    assert caught.value.source is not None


PROGRAM = """\
name: mine
description: For a test.
steps:
  - program:
      cells: all - pristine
      target: targets.npy
      tolerance: 1 uS
      budget: 5
      set: {start: 1 V, to: 2 V, step: 50 mV, width: 1 us, gate: 1.6 V}
      reset: {start: 1 V, to: 2 V, step: 50 mV, width: 1 us, gate: 3 V}
"""


def test_an_array_of_targets_stands_in_the_plan(bench):
    (bench / "protocols" / "mine.yaml").write_text(PROGRAM, encoding="utf-8")
    target_S = np.where(MASK, 10e-6, np.nan)
    np.save(bench / "targets.npy", target_S)
    (step,) = load_protocol(bench, "mine").plan(Geometry(*SHAPE)).steps
    found = step.targets_S(Region("all").bound(Geometry(*SHAPE)))
    assert np.allclose(found, target_S, equal_nan=True)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 2), 1e-5), "expected 6 × 8"),
        (np.full(SHAPE, np.inf), "infinite"),
        (np.full(SHAPE, -1e-6), "negative"),
        (np.full(SHAPE, np.nan), "no target"),
        (np.array(["a"]), "siemens"),
    ],
)
def test_wrong_targets_are_refused_with_their_place(bench, array, words):
    (bench / "protocols" / "mine.yaml").write_text(PROGRAM, encoding="utf-8")
    np.save(bench / "targets.npy", array)
    with pytest.raises(UsageError, match=words) as caught:
        load_protocol(bench, "mine").plan(Geometry(*SHAPE))
    assert caught.value.source.line == 6
