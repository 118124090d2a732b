"""Spoken digits: features of recordings, the official split, the network, and what damaged recordings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.io import wavfile

from rramlab.base.errors import DataError
from rramlab.nn import masked_layers
from rramlab.training import Dataset, find_datasets, fit, load_dataset, load_recipe

from .conftest import give_weights

RATE, COUNT = 8000, 7
Samples = npt.NDArray[np.int16]


def tone(digit: int, index: int, length: int = 1600) -> Samples:
    """A rising tone of a pitch that names the digit."""
    time = np.arange(length) / RATE
    return (8000 * np.sin(2 * np.pi * (300 + 150 * digit + 200 * time + index) * time)).astype(np.int16)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in range(10):
        for index in range(COUNT):
            wavfile.write(folder / f"{digit}_anna_{index}.wav", RATE, tone(digit, index, 1500 + 100 * index))
    return tmp_path


def load(folder: Path) -> Dataset:
    return load_dataset("spoken-digits", folder)


def test_recordings_of_any_length_become_bands_and_frames_and_are_split_officially(recordings: Path) -> None:
    found = load(recordings)
    assert found.train_x.shape == (20, 1, 23, 20)
    assert found.test_x.shape == (50, 1, 23, 20)  # indices 0 to 4
    assert found.train_x.dtype == np.float32
    for x in (found.train_x, found.test_x):
        assert x.min() >= 0
        np.testing.assert_allclose(x.max(axis=(1, 2, 3)), 1.0)
    np.testing.assert_array_equal(np.bincount(found.train_y), np.full(10, 2))
    # The loudest band goes up with the pitch.
    loudest = found.test_x[:, 0].sum(axis=2).argmax(axis=1)
    assert np.all(np.diff([loudest[found.test_y == digit].mean() for digit in range(10)]) > 0)
    assert load(recordings).digest == found.digest


def test_loudness_does_not_matter(recordings: Path) -> None:
    before = load(recordings)
    for path in (recordings / "fsdd" / "recordings").glob("*.wav"):
        wavfile.write(path, RATE, wavfile.read(path)[1] // 4)
    np.testing.assert_allclose(load(recordings).test_x, before.test_x, atol=0.02)


def test_the_list_says_where_recordings_are(recordings: Path, tmp_path: Path) -> None:
    (found,) = (each for each in find_datasets(recordings) if each.name == "spoken-digits")
    assert found.folder == recordings / "fsdd" / "recordings"
    (missing,) = (each for each in find_datasets(tmp_path / "nowhere") if each.name == "spoken-digits")
    assert not missing.available
    assert "free-spoken-digit-dataset" in missing.detail


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "sample rate": (lambda path: wavfile.write(path, 16000, tone(3, 5)), "16,000 samples a second, expected 8,000"),
    "stereo": (lambda path: wavfile.write(path, RATE, np.stack([tone(3, 5)] * 2, 1)), "2 channels, expected one"),
    "no wav": (lambda path: path.write_bytes(b"RIFFlonger, but no wav file"), "cannot be read as a wav file"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a wav file"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-700]), "cannot be read as a wav file"),
    "too short": (lambda path: wavfile.write(path, RATE, tone(3, 5, 200)), "200 samples, expected at least 256"),
    "silent": (lambda path: wavfile.write(path, RATE, np.zeros(1600, np.int16)), "silent"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_recording_is_named(recordings: Path, what: str) -> None:
    path = recordings / "fsdd" / "recordings" / "3_anna_5.wav"
    spoil, said = BROKEN[what]
    spoil(path)
    with pytest.raises(DataError, match=said) as error:
        load(recordings)
    assert str(path) in str(error.value)
    assert "github.com/Jakobovski" in str(error.value)


def test_missing_recordings_are_counted(recordings: Path) -> None:
    folder = recordings / "fsdd" / "recordings"
    (folder / "4_anna_2.wav").unlink()
    (folder / "8_anna_3.wav").unlink()
    with pytest.raises(DataError, match=r"lacks 2 recordings, the first 4_anna_2\.wav"):
        load(recordings)


def test_a_stranger_among_them_is_named(recordings: Path) -> None:
    (recordings / "fsdd" / "recordings" / "noise.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"noise\.wav is no recording"):
        load(recordings)


def test_the_network_of_the_paper_learns_them(recordings: Path) -> None:
    recipe = load_recipe("spoken-digits").changed({"epochs": 12, "batch": 20, "read_noise": 0.0})
    data = load(recordings)
    recipe.require(data)
    model = give_weights(recipe.model())
    assert sum(layer.scores.numel() for layer in masked_layers(model).values()) == 68480
    assert model(torch.from_numpy(data.test_x[:3])).shape == (3, 10)
    assert fit(model, recipe, data).accuracy > 0.5  # ten classes
