"""The last read of a die: what its cells were when somebody last looked, and when that was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.base.times import wall
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger import LedgerView

LAST_READ = "last_read.npz"
_NOT_KNOWN = -1


class Look(NamedTuple):
    """Who read and when: a run's id, and a time to the second, ISO 8601 in UTC."""

    run: str
    at: str

    @classmethod
    def now(cls, run: str) -> Look:
        return cls(run, wall().isoformat(timespec="seconds"))


@dataclass
class LastRead:
    """What was last read of each cell.

    ``conductance_S``: float32[rows, columns] in siemens, NaN where not known. ``look``: int32[rows, columns], at which of
    ``looks`` it was read; -1 where nobody wrote that down.
    """

    conductance_S: npt.NDArray[np.float32]
    look: npt.NDArray[np.int32]
    looks: list[Look] = field(default_factory=list)

    @classmethod
    def nothing(cls, geometry: Geometry) -> LastRead:
        return cls(np.full(geometry.shape, np.nan, np.float32), np.full(geometry.shape, _NOT_KNOWN, np.int32))

    def take(self, block: npt.NDArray[Any], start: int, chosen: npt.NDArray[np.bool_], look: Look) -> None:
        """Take cells of a read block, which begins at row ``start``. ``chosen``: bool[rows spanned, columns]."""
        if not self.looks or self.looks[-1] != look:
            self.looks.append(look)
        rows = slice(start, start + len(block))
        self.conductance_S[rows][chosen] = block["conductance"][chosen]
        self.look[rows][chosen] = len(self.looks) - 1

    def origins(self, cells: npt.NDArray[np.bool_]) -> dict[str | None, tuple[int, str | None]]:
        """Return for each run that read some of ``cells``, bool[rows, columns], how many, and when the oldest of them.

        None is for those of which nobody wrote down who read them.
        """
        counts = np.bincount(self.look[cells] + 1, minlength=len(self.looks) + 1)
        found: dict[str | None, tuple[int, str | None]] = {}
        for number in np.flatnonzero(counts).tolist():
            run, at = self.looks[number - 1] if number else (None, None)
            count, oldest = found.get(run, (0, at))
            found[run] = count + int(counts[number]), min(oldest, at) if oldest and at else None
        return found

    def _needed(self) -> LastRead:
        """Return the same without looks of which no cell is left."""
        used = np.flatnonzero(np.bincount(self.look.ravel() + 1, minlength=len(self.looks) + 1)[1:])
        numbers = np.full(len(self.looks) + 1, _NOT_KNOWN, np.int32)  # the last one is for what is not known
        numbers[used] = np.arange(used.size)
        return LastRead(self.conductance_S, numbers[self.look], [self.looks[number] for number in used.tolist()])


def save_last_read(folder: Path, last: LastRead, operation: int) -> None:
    """Write what is known as of after ``operation`` of the die's ledger."""
    kept = last._needed()
    arrays = {
        "conductance_S": kept.conductance_S,
        "operation": np.array(operation),
        "look": kept.look,
        "run": np.array([look.run for look in kept.looks], np.str_),
        "at": np.array([look.at for look in kept.looks], np.str_),
    }
    save_arrays(folder / LAST_READ, arrays, compressed=False)


def load_last_read(folder: Path, geometry: Geometry) -> tuple[LastRead, int]:
    """Return the last read of a die, and the last operation id before it.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / LAST_READ
    if not path.exists():
        return LastRead.nothing(geometry), 0
    try:
        arrays = load_arrays(path)
        found, operation = LastRead.nothing(geometry), int(arrays["operation"])
        found.conductance_S = arrays["conductance_S"].astype(np.float32)
        if "look" in arrays:  # older files do not say
            found.looks = [Look(*each) for each in zip(arrays["run"].tolist(), arrays["at"].tolist(), strict=True)]
            found.look = arrays["look"].astype(np.int32)
            if not (found.look < len(found.looks)).all() or (found.look < _NOT_KNOWN).any():
                raise ValueError("it names reads that it does not hold")
    except (DataError, KeyError, ValueError) as error:
        raise DataError(f"{error}; delete the file and read the die again: rramlab run read-array") from error
    for each in (found.conductance_S, found.look):
        if each.shape != geometry.shape:
            raise DataError(
                f"{path} holds {each.shape} cells, the die has {geometry.shape}; delete it and read the die again"
            )
    return found, operation


def last_known(folder: Path, ledger: LedgerView) -> LastRead:
    """Return the last read of a die, NaN for what was pulsed since: a crash may lie between a pulse and the file.

    Raises:
        DataError: the file is damaged.
    """
    known, operation = load_last_read(folder, ledger.geometry)
    known.conductance_S[ledger.last_operation() > operation] = np.nan
    return known
