"""A recipe with a network and data of one's own: what is taken, and what is said of what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rramlab.base.errors import DataError, UsageError
from rramlab.nn import masked_layers
from rramlab.training import Dataset, Recipe, load_dataset, load_npz, load_recipe

NETWORK = """
from torch import nn

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

def with_embedding():
    return nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3))

def nothing():
    return 7
"""
RECIPE = (
    "name: own\ndescription: mine\ndataset: own.npz\nnetwork: own.py:{}\nepochs: 1\nbatch: 10\nlearning_rate: 0.1\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe beside its network and its data."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=rng.random((60, 3, 4)), y=np.repeat([0, 1, 2], 20))
    (tmp_path / "own.py").write_text(NETWORK)
    (tmp_path / "own.yaml").write_text(RECIPE.format("network"))
    return tmp_path


def recipe_of(folder: Path, function: str) -> Recipe:
    (folder / "own.yaml").write_text(RECIPE.format(function))
    return load_recipe(folder / "own.yaml")


def test_files_lie_beside_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    recipe = load_recipe(folder / "own.yaml")
    data = load_dataset(recipe.dataset)
    recipe.require(data)
    shapes = {name: layer.shape for name, layer in masked_layers(recipe.model()).items()}
    assert shapes == {"1": (12, 8), "3": (8, 3)}
    assert (data.sample, data.classes) == ((3, 4), ("0", "1", "2"))


def test_a_fixed_fifth_of_each_class_is_the_test_set(folder: Path) -> None:
    data = load_npz(folder / "own.npz")
    assert np.array_equal(np.bincount(data.test_y), [4, 4, 4])
    assert np.array_equal(np.bincount(data.train_y), [16, 16, 16])
    together = np.concatenate([data.train_x, data.test_x]).reshape(60, -1)
    assert len(np.unique(together, axis=0)) == 60
    again = load_npz(folder / "own.npz")
    assert np.array_equal(data.test_x, again.test_x)


def test_a_split_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "train_x": rng.random((8, 2)),
        "train_y": np.arange(8) % 2,
        "test_x": rng.random((3, 2)),
        "test_y": [0, 1, 0],
    }
    np.savez(tmp_path / "split.npz", **arrays, classes=["no", "yes"])
    data = load_npz(tmp_path / "split.npz")
    assert np.allclose(data.test_x, arrays["test_x"])
    assert data.classes == ("no", "yes")


GOOD = {"x": np.ones((10, 2)), "y": np.arange(10) % 2}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones(3)}, "has the arrays a"),
        ({**GOOD, "x": -np.ones((10, 2))}, "down to -1"),
        ({**GOOD, "x": np.full((10, 2), np.nan)}, "not numbers"),
        ({**GOOD, "x": np.ones(10)}, r"x is float64\(10,\)"),
        ({**GOOD, "y": np.arange(9)}, "for x of 10 samples"),
        ({**GOOD, "y": np.arange(10) / 2}, "y is float64"),
        ({**GOOD, "y": np.arange(10) - 1}, "counted from 0"),
        ({"x": np.ones((2, 2)), "y": np.arange(2)}, "0 to test on"),
        ({**GOOD, "classes": np.array(["one"])}, "names 1 classes, its labels count 2"),
        (
            {"train_x": np.ones((4, 2)), "train_y": np.arange(4), "test_x": np.ones((4, 3)), "test_y": np.arange(4)},
            r"\(2,\), those to test on \(3,\)",
        ),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as refused:
        load_npz(tmp_path / "bad.npz")
    assert "bad.npz" in str(refused.value)


def test_a_missing_or_damaged_file_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no data set .*nowhere\.npz"):
        load_dataset(str(folder / "nowhere.npz"))
    whole = (folder / "own.npz").read_bytes()
    (folder / "own.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"own\.npz"):
        load_npz(folder / "own.npz")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("with_embedding", "Embedding, has no macro form"),
        ("nothing", "returned a int, expected a torch module"),
        ("missing", "has no function 'missing'"),
    ],
)
def test_a_function_that_makes_no_network_is_refused(folder: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe_of(folder, function).model()


def test_a_network_finds_what_lies_beside_it_and_leaves_layers_digital(folder: Path) -> None:
    (folder / "parts.py").write_text("WIDTH = 8\n")
    text = "from torch import nn\nfrom parts import WIDTH\n"
    text += (
        "def network():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))\n"
    )
    (folder / "own.py").write_text(text)
    recipe = recipe_of(folder, "network").changed({"digital": ("3",)})
    assert list(masked_layers(recipe.model())) == ["1"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import nowhere_at_all", "cannot be made: ModuleNotFoundError"),
        ("def network():\n    return 1 / 0", "cannot be made: ZeroDivisionError"),
    ],
)
def test_what_a_network_of_ones_own_raises_is_said_to_be_its_own(folder: Path, body: str, message: str) -> None:
    (folder / "own.py").write_text(body)
    with pytest.raises(UsageError, match=message) as refused:
        recipe_of(folder, "network").model()
    assert "own.py" in str(refused.value)


def test_a_network_that_unpacks_other_data_is_refused_in_words(folder: Path) -> None:
    text = NETWORK + "\nclass Odd(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += "        self.layer = nn.Linear(4, 3)\n    def forward(self, x):\n        batch, height, width = x.shape\n"
    (folder / "own.py").write_text(text + "        return self.layer(x[:, 0])\n")
    x, y = np.ones((20, 1, 3, 4), np.float32), np.arange(20) % 3
    with pytest.raises(UsageError, match="does not take samples of shape"):
        recipe_of(folder, "Odd").require(Dataset("d", x, y, x, y, ("a", "b", "c")))


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    recipe = recipe_of(folder, "network")
    (folder / "own.py").unlink()
    with pytest.raises(UsageError, match=r"there is no file .*own\.py"):
        recipe.model()


@pytest.mark.parametrize(
    ("shape", "classes", "message"), [((5,), 3, "does not take"), ((3, 4), 4, "gives outputs of shape")]
)
def test_data_that_the_network_does_not_take_are_refused(
    folder: Path, shape: tuple[int, ...], classes: int, message: str
) -> None:
    x, y = np.ones((20, *shape), np.float32), np.arange(20) % classes
    data = Dataset("other", x, y, x, y, tuple(map(str, range(classes))))
    with pytest.raises(UsageError, match=message) as refused:
        recipe_of(folder, "network").require(data)
    assert "name another network or data set" in str(refused.value)
