"""Where the files of data sets are looked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rramlab.training.datasets.arrays import Data

VARIABLE = "RRAMLAB_DATA"
SYSTEM = Path("/usr/share/datasets")  # where Debian's package dataset-fashion-mnist installs


@dataclass(frozen=True)
class Source:
    """A data set that lies in files.

    Attributes:
        folders: names of the folder that holds it below a place; the place itself is searched, too.
        about: what is in it.
        locate: return the folder with the files, of the places searched in order. Raises DataError, which says what is
            missing where and how to get it.
        load: read it from there. Raises DataError for a damaged file, which it names.
    """

    name: str
    folders: tuple[str, ...]
    about: str
    locate: Callable[[Sequence[Path]], Path]
    load: Callable[[Path], Data]


def candidates(names: tuple[str, ...], folder: Path | None, root: Path | None) -> list[Path]:
    """Return the folders that may hold the files, in the order in which they are searched.

    ``folder``: look there alone. ``root``: of the bench.
    """
    if folder is not None:
        tops = [folder]
    else:
        variable = os.environ.get(VARIABLE)
        tops = [
            *([Path(variable)] if variable else []),
            *([root / "data"] if root is not None else []),
            SYSTEM,
        ]
    return [place for top in tops for place in (top, *(top / name for name in names))]
