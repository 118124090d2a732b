"""Spoken digits: the Free Spoken Digit Dataset, as log-mel features.

A recording becomes 23 mel bands × 20 frames, whatever its length: power spectra of Hann windows of 32 ms, 8 ms apart;
triangular filters, equally wide in mel (2595 · log10(1 + f / 700 Hz), O'Shaughnessy 1987) from 60 Hz to 4 kHz; each of 20
frames spread evenly over the recording is the mean of the windows about it. Of that the logarithm, cut 60 dB below the
loudest, and from there scaled to [0, 1] a recording: so loudness does not matter, and nothing is below 0.
Bands and frames are those of the paper (design, section 8); window, hop, range and floor are assumed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.training.datasets.arrays import Dataset
from rramlab.training.datasets.places import VARIABLE, Source

NAME = "spoken-digits"
HELP = (
    "get https://github.com/Jakobovski/free-spoken-digit-dataset and put its folder recordings into data/spoken-digits of "
    f"the bench folder, or into a folder that {VARIABLE} names"
)
RATE_HZ = 8000
BANDS, FRAMES = 23, 20
WINDOW, HOP = 256, 64  # samples
LOWEST_HZ = 60.0
FLOOR_DB = 60.0
TEST_INDICES = range(5)  # the official split: the first five recordings of each digit by each speaker
_FILE = re.compile(r"(\d)_([A-Za-z]+)_(\d+)\.wav")
Floats = npt.NDArray[np.float64]


def locate(places: Sequence[Path]) -> Path:
    """Return the first place that holds recordings."""
    searched = [folder for place in places for folder in (place / "recordings", place)]
    for folder in searched:
        if folder.is_dir() and any(_FILE.fullmatch(path.name) for path in folder.glob("*.wav")):
            return folder
    raise DataError(f"{NAME} is not in {', '.join(map(str, places))}; {HELP}")


def load(folder: Path) -> Dataset:
    """Read every recording of ``folder``: features float32[n, 1, 23, 20] in [0, 1], classes 0 to 9.

    Raises:
        DataError: recordings are missing, damaged or of another kind; the message names the first, and says what was
            expected and how to get it.
    """
    found: dict[tuple[int, str, int], Path] = {}
    for path in sorted(folder.glob("*.wav")):
        named = _FILE.fullmatch(path.name)
        if named is None:
            raise DataError(f"{path} is no recording of {NAME}: expected a name like 3_jackson_12.wav; {HELP}")
        found[int(named[1]), named[2], int(named[3])] = path
    _require_whole(folder, found)
    x = np.stack([features(_read(path), path) for path in found.values()])[:, None]
    y = np.array([digit for digit, _, _ in found], np.int64)
    test = np.array([index in TEST_INDICES for _, _, index in found])
    return Dataset(NAME, x[~test], y[~test], x[test], y[test], tuple(str(digit) for digit in range(10)))


def _require_whole(folder: Path, found: dict[tuple[int, str, int], Path]) -> None:
    """Refuse recordings of which some are missing: each digit by each speaker, counted from 0, as many as of any other."""
    speakers = sorted({speaker for _, speaker, _ in found})
    count = 1 + max(index for _, _, index in found)
    missing = [
        f"{digit}_{speaker}_{index}.wav"
        for speaker in speakers
        for digit in range(10)
        for index in range(count)
        if (digit, speaker, index) not in found
    ]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing):,} recordings, the first {missing[0]}: expected {count} of each digit by "
            f"{', '.join(speakers)}; {HELP}"
        )
    if count <= len(TEST_INDICES):
        raise DataError(
            f"{folder} has {count} recordings of each digit by a speaker, expected more than the {len(TEST_INDICES)} of the "
            f"test set; {HELP}"
        )


def _read(path: Path) -> Floats:
    """Return the samples of a recording, float64[n].

    Raises:
        DataError: it is damaged, or not one channel at 8 kHz.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)  # a file that ends early is damaged
            rate, samples = wavfile.read(path)
    except (OSError, ValueError, EOFError, wavfile.WavFileWarning) as error:
        raise DataError(f"{path} cannot be read as a wav file: {error}; {HELP}") from error
    if rate != RATE_HZ:
        raise DataError(f"{path} has {rate:,} samples a second, expected {RATE_HZ:,}; {HELP}")
    if samples.ndim != 1:
        raise DataError(f"{path} has {samples.shape[1]} channels, expected one; {HELP}")
    return np.asarray(samples, np.float64)


def features(samples: Floats, path: Path) -> npt.NDArray[np.float32]:
    """Return the features of one recording, float32[23, 20]; ``path``: of the file, for the message.

    Raises:
        DataError: it is too short for one window, or silent, or holds values that are no numbers.
    """
    if len(samples) < WINDOW:
        raise DataError(f"{path} has {len(samples)} samples, expected at least {WINDOW}; {HELP}")
    if not np.isfinite(samples).all():
        raise DataError(
            f"{path} holds values that are not numbers, the first is sample {int(np.flatnonzero(~np.isfinite(samples))[0]):,}; "
            f"{HELP}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(samples - samples.mean(), WINDOW)[::HOP]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)))
    spread = _filters() @ power.T @ _frames(len(windows))
    loudest = spread.max()
    if not loudest > 0:
        raise DataError(f"{path} is silent; {HELP}")
    level_dB = 10.0 * np.log10(np.maximum(spread / loudest, 1e-30))
    return np.asarray(np.clip(1.0 + level_dB / FLOOR_DB, 0.0, 1.0), np.float32)


@cache
def _filters() -> Floats:
    """Return the triangular mel filters, float64[bands, frequencies]; each weighs its frequencies to a mean."""
    low, high = (2595.0 * np.log10(1.0 + hertz / 700.0) for hertz in (LOWEST_HZ, RATE_HZ / 2))
    corners = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    hertz = np.fft.rfftfreq(WINDOW, 1.0 / RATE_HZ)[None, :]
    left, middle, right = (corners[start : start + BANDS, None] for start in range(3))
    weights = np.clip(np.minimum((hertz - left) / (middle - left), (right - hertz) / (right - middle)), 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@cache
def _frames(windows: int) -> Floats:
    """Return what makes frames of windows, float64[windows, frames]: triangles about places spread evenly."""
    centres = np.linspace(0.0, windows - 1.0, FRAMES)
    width = max(1.0, windows / FRAMES)
    weights = np.clip(1.0 - np.abs(np.arange(windows)[:, None] - centres[None, :]) / width, 0.0, None)
    return np.asarray(weights / weights.sum(axis=0))


SOURCE = Source(NAME, (NAME, "fsdd"), "3,000 recordings of ten digits by six speakers, 8 kHz wav files", locate, load)
