"""Data sets by name: scikit-learn's digits, always at hand; Fashion-MNIST, looked for on the disk; anybody's arrays."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, UsageError
from rramlab.training.dataset import Dataset, load_npz

VARIABLE = "RRAMLAB_DATA"
SYSTEM = Path("/usr/share/datasets")  # where Debian's package dataset-fashion-mnist installs
FASHION = "fashion-mnist"
FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
FASHION_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
FASHION_HELP = (
    "install Debian's package dataset-fashion-mnist, or put the four IDX files of "
    "https://github.com/zalandoresearch/fashion-mnist (.gz or unpacked) into data/fashion-mnist of the bench "
    f"folder, or into a folder that {VARIABLE} names"
)


@dataclass(frozen=True)
class Found:
    """Whether and where a data set is: ``folder`` is None when it is embedded or ``available`` is false.

    ``detail`` says where it comes from, or what is missing and how to get it.
    """

    name: str
    available: bool
    folder: Path | None
    detail: str


def load_dataset(name: str, folder: Path | None = None, root: Path | None = None) -> Dataset:
    """Load ``digits``, ``fashion-mnist``, or the arrays of an .npz by its path.

    An .npz holds ``train_x``, ``train_y``, ``test_x`` and ``test_y``, or ``x`` and ``y``, of which a fixed fifth of each class
    becomes the test set. Optional: ``classes``, their names.

    Files are looked for in ``folder`` and nowhere else if it is given; otherwise in the folder that
    ``$RRAMLAB_DATA`` names, in ``data/`` of the bench folder ``root``, and where Debian puts them; in each
    also in ``fashion-mnist/``.

    Raises:
        UsageError: no such data set.
        DataError: files are missing or damaged; the message names the file and says how to get it.
    """
    if name.endswith(".npz"):
        return load_npz(Path(name))
    if name == "digits":
        return _digits()
    if name != FASHION:
        raise UsageError(f"there is no data set {name!r}; known: digits, {FASHION}, or the path of an .npz")
    files = _locate(folder, root)
    train_x, train_y = _images_and_labels(*(files[stem] for stem in FASHION_FILES[:2]))
    test_x, test_y = _images_and_labels(*(files[stem] for stem in FASHION_FILES[2:]))
    return Dataset(FASHION, train_x, train_y, test_x, test_y, FASHION_CLASSES)


def find_datasets(folder: Path | None = None, root: Path | None = None) -> tuple[Found, ...]:
    """Say of every data set whether it is there, and where, or how to get it. Reads no data."""
    there = find_spec("sklearn") is not None
    remedy = "" if there else ", which is not installed: pip install scikit-learn"
    digits = Found("digits", there, None, f"part of scikit-learn{remedy}; 1,797 images of 8 × 8 pixels")
    try:
        files = _locate(folder, root)
    except DataError as error:
        return digits, Found(FASHION, False, None, str(error))
    place = files[FASHION_FILES[0]].parent
    return digits, Found(FASHION, True, place, "70,000 images of 28 × 28 pixels, four IDX files")


def _digits() -> Dataset:
    """scikit-learn's digits: a fixed, stratified split, 1,437 images to train and 360 to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    x = (raw.images[:, None] / 16.0).astype(np.float32)  # pixels are counts from 0 to 16
    y = raw.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return Dataset("digits", train_x, train_y, test_x, test_y, tuple(str(digit) for digit in range(10)))


def _places(folder: Path | None, root: Path | None) -> list[Path]:
    """Return the folders that may hold the files, in the order in which they are searched."""
    if folder is not None:
        tops = [folder]
    else:
        variable = os.environ.get(VARIABLE)
        tops = [
            *([Path(variable)] if variable else []),
            *([root / "data"] if root is not None else []),
            SYSTEM,
        ]
    return [place for top in tops for place in (top, top / FASHION)]


def _locate(folder: Path | None, root: Path | None) -> Mapping[str, Path]:
    """Return the path of each Fashion-MNIST file; the first place that holds one of them must hold all."""
    places = _places(folder, root)
    for place in places:
        files = {
            stem: path for stem in FASHION_FILES for path in (place / f"{stem}.gz", place / stem) if path.is_file()
        }
        if len(files) == len(FASHION_FILES):
            return files
        if files:
            missing = ", ".join(f"{stem}.gz" for stem in FASHION_FILES if stem not in files)
            raise DataError(f"{place} has only a part of {FASHION}: {missing} missing; {FASHION_HELP}")
    raise DataError(f"{FASHION} is not in {', '.join(map(str, places))}; {FASHION_HELP}")


def _images_and_labels(images: Path, labels: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Read float32[n, 1, 28, 28] in [0, 1] and int64[n], and check that they belong together."""
    pixels, y = _read_idx(images, labels=False), _read_idx(labels, labels=True)
    if len(pixels) != len(y):
        raise DataError(f"{labels} has {len(y)} labels for the {len(pixels)} images of {images}; {FASHION_HELP}")
    if y.max(initial=0) >= len(FASHION_CLASSES):
        raise DataError(f"{labels} has a label {y.max()}, expected 0 to 9; {FASHION_HELP}")
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
                raise DataError(f"{path} ends within its header; {FASHION_HELP}")
            found, *shape = (int(number) for number in np.frombuffer(head, ">u4"))
            if found != magic:
                raise DataError(f"{path} has the magic number {found}, expected {magic}; {FASHION_HELP}")
            if not labels and shape[1:] != [28, 28]:
                size = f"{shape[1]} × {shape[2]}"
                raise DataError(f"{path} has images of {size} pixels, expected 28 × 28; {FASHION_HELP}")
            length = int(np.prod(shape))
            data = stream.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; {FASHION_HELP}") from error
    if len(data) != length:
        more = "more than " if len(data) > length else ""
        raise DataError(
            f"{path} has {more}{min(len(data), length):,} bytes of data, expected the {length:,} that "
            f"its header announces; {FASHION_HELP}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
