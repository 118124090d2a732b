"""Data sets: shapes and ranges, where files are looked for, and what a damaged one says."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rramlab.base.errors import DataError, UsageError
from rramlab.training import Dataset, find_datasets, load_dataset
from rramlab.training.datasets import places

from .conftest import idx, write_fashion


@pytest.fixture(autouse=True)
def _only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(places.VARIABLE, raising=False)
    monkeypatch.setattr(places, "SYSTEM", tmp_path / "system")


def check(found: Dataset, side: int) -> None:
    for x, y in ((found.train_x, found.train_y), (found.test_x, found.test_y)):
        assert x.dtype == np.float32
        assert x.shape == (len(y), 1, side, side)
        assert x.min() >= 0
        assert x.max() <= 1
        assert y.dtype == np.int64
        assert set(y) <= set(range(len(found.classes)))


def test_digits_is_embedded_and_its_split_fixed() -> None:
    first, second = load_dataset("digits"), load_dataset("digits")
    check(first, 8)
    assert (len(first.train_x), len(first.test_x), len(first.classes)) == (1437, 360, 10)
    np.testing.assert_array_equal(first.test_x, second.test_x)
    assert np.bincount(first.test_y).min() >= 34  # stratified


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_fashion_is_read_as_it_was_written(tmp_path: Path, packed: bool, below: str) -> None:
    arrays = write_fashion(tmp_path / below, packed)
    found = load_dataset("fashion-mnist", tmp_path)
    check(found, 28)
    np.testing.assert_allclose(found.train_x[:, 0] * 255, arrays["train-images-idx3-ubyte"], atol=1e-4)
    np.testing.assert_array_equal(found.test_y, arrays["t10k-labels-idx1-ubyte"])
    assert len(found.classes) == 10


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "bench"
    searched = [tmp_path / "variable", root / "data", tmp_path / "system"]
    monkeypatch.setenv(places.VARIABLE, str(searched[0]))
    for place in reversed(searched):
        write_fashion(place / "fashion-mnist")
        assert find_datasets(root=root)[1].folder == place / "fashion-mnist"
    empty = tmp_path / "empty"
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        load_dataset("fashion-mnist", empty)  # a folder that was asked for is the only one searched
    assert str(empty) in find_datasets(empty, root)[1].detail


def test_what_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    digits, fashion, *_ = find_datasets(root=tmp_path)
    assert (digits.name, digits.available, digits.folder) == ("digits", True, None)
    assert (fashion.name, fashion.available, fashion.folder) == ("fashion-mnist", False, None)
    assert "dataset-fashion-mnist" in fashion.detail
    with pytest.raises(UsageError, match="known: digits, fashion-mnist"):
        load_dataset("mnist")


IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES, lambda raw: b"\0\0\x08\x01" + raw[4:], "magic number 2049, expected 2051"),
        (LABELS, lambda raw: b"\0\0\x08\x03" + raw[4:], "magic number 2051, expected 2049"),
        (IMAGES, lambda raw: raw[:-1], "23,519 bytes of data, expected the 23,520"),
        (IMAGES, lambda raw: raw + b"x", "more than 23,520 bytes"),
        (IMAGES, lambda raw: raw[:7], "ends within its header"),
        (IMAGES, lambda raw: idx(np.zeros((30, 8, 8), np.uint8)), "8 × 8 pixels, expected 28 × 28"),
        (LABELS, lambda raw: idx(np.zeros(29, np.uint8)), "29 labels for the 30 images"),
        (LABELS, lambda raw: idx(np.full(30, 77, np.uint8)), "label 77, expected 0 to 9"),
        (LABELS, lambda raw: idx(np.zeros(0, np.uint8)), "0 labels for the 30 images"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, change: Callable[[bytes], bytes], message: str) -> None:
    write_fashion(tmp_path)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("fashion-mnist", tmp_path)
    assert str(path) in str(caught.value)
    assert "dataset-fashion-mnist" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"plain text",
        lambda raw: raw[:200] + bytes(50) + raw[250:],
    ],
)
def test_a_damaged_archive_is_named(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    write_fashion(tmp_path)
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match="cannot be read") as caught:
        load_dataset("fashion-mnist", tmp_path)
    assert str(path) in str(caught.value)


def test_a_part_of_the_files_is_not_enough(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    (tmp_path / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"only a part of fashion-mnist: {LABELS}.gz missing"):
        load_dataset("fashion-mnist", tmp_path)
