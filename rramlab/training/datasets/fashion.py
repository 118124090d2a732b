"""Fashion-MNIST: four IDX files (github.com/zalandoresearch/fashion-mnist; Xiao et al., arXiv 1708.07747)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.training.datasets.arrays import Dataset
from rramlab.training.datasets.places import VARIABLE, Source

NAME = "fashion-mnist"
CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
HELP = (
    "install Debian's package dataset-fashion-mnist, or put the four IDX files of "
    "https://github.com/zalandoresearch/fashion-mnist (.gz or unpacked) into data/fashion-mnist of the bench "
    f"folder, or into a folder that {VARIABLE} names"
)


def load(folder: Path) -> Dataset:
    """Read the four files in ``folder``: images float32[n, 1, 28, 28] in [0, 1].

    Raises:
        DataError: files are missing or damaged; the message names the file and says how to get it.
    """
    files = _files(folder)
    train_x, train_y = _images_and_labels(*(files[stem] for stem in FILES[:2]))
    test_x, test_y = _images_and_labels(*(files[stem] for stem in FILES[2:]))
    return Dataset(NAME, train_x, train_y, test_x, test_y, CLASSES)


def locate(places: Sequence[Path]) -> Path:
    """Return the first place that holds one of the files: it must hold all."""
    for place in places:
        if len(_files(place)) == len(FILES):
            return place
        if _files(place):
            missing = ", ".join(f"{stem}.gz" for stem in FILES if stem not in _files(place))
            raise DataError(f"{place} has only a part of {NAME}: {missing} missing; {HELP}")
    raise DataError(f"{NAME} is not in {', '.join(map(str, places))}; {HELP}")


def _files(place: Path) -> Mapping[str, Path]:
    return {stem: path for stem in FILES for path in (place / f"{stem}.gz", place / stem) if path.is_file()}


def _images_and_labels(images: Path, labels: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Read float32[n, 1, 28, 28] in [0, 1] and int64[n], and check that they belong together."""
    pixels, y = _read_idx(images, labels=False), _read_idx(labels, labels=True)
    if len(pixels) != len(y):
        raise DataError(f"{labels} has {len(y)} labels for the {len(pixels)} images of {images}; {HELP}")
    if y.max(initial=0) >= len(CLASSES):
        raise DataError(f"{labels} has a label {y.max()}, expected 0 to 9; {HELP}")
    return pixels[:, None].astype(np.float32) / np.float32(255), y.astype(np.int64)


def _read_idx(path: Path, labels: bool) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: labels uint8[n], or images uint8[n, 28, 28].

    The format (yann.lecun.com/exdb/mnist): big-endian magic number 2049 or 2051 (data type and number of
    axes), the length of each axis, the bytes.

    Raises:
        DataError: the file is damaged or another one; names it, and says what was expected.
    """
    magic, axes = (2049, 1) if labels else (2051, 3)
    try:
        with _open(path) as stream:
            head = stream.read(4 * (axes + 1))
            if len(head) < 4 * (axes + 1):
                raise DataError(f"{path} ends within its header; {HELP}")
            found, *shape = (int(number) for number in np.frombuffer(head, ">u4"))
            if found != magic:
                raise DataError(f"{path} has the magic number {found}, expected {magic}; {HELP}")
            if not labels and shape[1:] != [28, 28]:
                size = f"{shape[1]} × {shape[2]}"
                raise DataError(f"{path} has images of {size} pixels, expected 28 × 28; {HELP}")
            length = int(np.prod(shape))
            data = stream.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; {HELP}") from error
    if len(data) != length:
        more = "more than " if len(data) > length else ""
        raise DataError(
            f"{path} has {more}{min(len(data), length):,} bytes of data, expected the {length:,} that "
            f"its header announces; {HELP}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


SOURCE = Source(NAME, (NAME,), "70,000 images of 28 × 28 pixels, four IDX files", locate, load)
