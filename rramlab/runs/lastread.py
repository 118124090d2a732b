"""The last read of a die: what its cells were when somebody last looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledgerview import LedgerView

LAST_READ = "last_read.npz"


def save_last_read(folder: Path, conductance_S: npt.NDArray[np.float32], operation: int) -> None:
    """Write float32[rows, columns] in siemens, NaN where not known, as of after ``operation`` of the die's ledger."""
    known = {"conductance_S": conductance_S, "operation": np.array(operation)}
    save_arrays(folder / LAST_READ, known, compressed=False)


def load_last_read(folder: Path, geometry: Geometry) -> tuple[npt.NDArray[np.float32], int]:
    """Return the last read of a die, float32[rows, columns] in siemens, and the last operation id before it.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / LAST_READ
    if not path.exists():
        return np.full(geometry.shape, np.nan, np.float32), 0
    try:
        arrays = load_arrays(path)
        found, operation = arrays["conductance_S"].astype(np.float32), int(arrays["operation"])
    except (DataError, KeyError, ValueError) as error:
        raise DataError(f"{error}; delete the file and read the die again: rramlab run read-array") from error
    if found.shape != geometry.shape:
        raise DataError(
            f"{path} holds {found.shape} cells, the die has {geometry.shape}; delete it and read the die again"
        )
    return found, operation


def last_known(folder: Path, ledger: LedgerView) -> npt.NDArray[np.float32]:
    """Return the last read of a die, NaN for what was pulsed since: a crash may lie between a pulse and the file.

    Raises:
        DataError: the file is damaged.
    """
    known, operation = load_last_read(folder, ledger.geometry)
    known[ledger.last_operation() > operation] = np.nan
    return known
