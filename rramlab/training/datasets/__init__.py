"""Data sets by name: scikit-learn's digits, always at hand; others, looked for on the disk; anybody's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rramlab.base.errors import DataError, UsageError
from rramlab.base.names import text
from rramlab.base.numbers import shown
from rramlab.training.datasets import digits, drive, fashion, speech
from rramlab.training.datasets.arrays import Data, Dataset, Scores, load_npz
from rramlab.training.datasets.places import Source, candidates

__all__ = ["SOURCES", "Data", "Dataset", "Found", "Scores", "find_datasets", "load_dataset", "load_npz"]

SOURCES: dict[str, Source] = {source.name: source for source in (fashion.SOURCE, speech.SOURCE, drive.SOURCE)}


@dataclass(frozen=True)
class Found:
    """Whether and where a data set is: ``folder`` is None when it is embedded or ``available`` is false.

    ``detail`` says where it comes from, or what is missing and how to get it.
    """

    name: str
    available: bool
    folder: Path | None
    detail: str


def load_dataset(name: str, folder: Path | None = None, root: Path | None = None) -> Data:
    """Load ``digits``, one of ``SOURCES``, or the arrays of an .npz by its path.

    An .npz holds ``train_x``, ``train_y``, ``test_x`` and ``test_y``, or ``x`` and ``y``, of which a fixed fifth of each class
    becomes the test set. Optional: ``classes``, their names.

    Files are looked for in ``folder`` and nowhere else if it is given; otherwise in the folder that
    ``$RRAMLAB_DATA`` names, in ``data/`` of the bench folder ``root``, and where Debian puts them; in each
    also in a folder of the data set's name.

    Raises:
        UsageError: no such data set.
        DataError: files are missing or damaged; the message names the file and says how to get it.
    """
    if text(name, "the data set").endswith(".npz"):
        return load_npz(Path(name))
    if name == digits.NAME:
        return digits.load()
    if name not in SOURCES:
        known = ", ".join((digits.NAME, *SOURCES))
        raise UsageError(f"there is no data set {shown(name)}; known: {known}, or the path of an .npz")
    source = SOURCES[name]
    return source.load(source.locate(candidates(source.folders, folder, root)))


def find_datasets(folder: Path | None = None, root: Path | None = None) -> tuple[Found, ...]:
    """Say of every data set whether it is there, and where, or how to get it. Reads no data."""
    there = find_spec("sklearn") is not None
    remedy = "" if there else ", which is not installed: pip install scikit-learn"
    found = [Found(digits.NAME, there, None, f"part of scikit-learn{remedy}; {digits.ABOUT}")]
    for source in SOURCES.values():
        try:
            place = source.locate(candidates(source.folders, folder, root))
        except DataError as error:
            found.append(Found(source.name, False, None, str(error)))
        else:
            found.append(Found(source.name, True, place, source.about))
    return tuple(found)
