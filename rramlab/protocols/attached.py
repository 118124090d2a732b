"""Files that a protocol names: masks of cells and arrays of targets, read where the protocol is and kept in the plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays
from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import read_text
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.plan.steps import encode_array
from rramlab.protocols.parameters import REGION_KEYS

_ARRAYS = (".npy", ".npz")


class Attached:
    """Reads the files that one protocol names; each once. A relative name is looked up in ``folders``, in all of them."""

    def __init__(self, folders: tuple[Path, ...], geometry: Geometry) -> None:
        self._folders, self._geometry = folders, geometry
        self._masks: dict[str, CellSelection] = {}

    def with_masks(self, node: Any, key: str = "") -> Any:
        """Replace ``mask(file)`` wherever plain data of a step spells a region.

        Raises:
            UsageError: no such file, two of that name, or not a mask of this array. DataError: it is damaged.
        """
        if isinstance(node, dict):
            return {name: self.with_masks(value, name) for name, value in node.items()}
        if key in REGION_KEYS and isinstance(node, str) and "mask" in node:
            return Region(node).with_masks(self.mask).text
        return node

    def mask(self, name: str) -> CellSelection:
        """Return the cells of a mask file: ``.npy`` or ``.npz`` of bool[rows, columns], or text.

        Text is one line of 0 and 1 for each row, or ``bits(…)`` as ``Region.of(mask).text`` in Python spells it.
        """
        if name not in self._masks:
            path = self._find(name)
            bits = _bits(_array(path, "cells"), path) if path.suffix in _ARRAYS else self._text(path)
            self._check_shape(bits, path)
            self._masks[name] = CellSelection(bits)
        return self._masks[name]

    def target(self, name: str) -> str:
        """Return a ``.npy`` or ``.npz`` file of targets, float[rows, columns] in siemens, as a plan spells it."""
        path = self._find(name)
        target_S = _array(path, "target")
        if target_S.dtype.kind not in "fiu" or target_S.ndim != 2:
            raise UsageError(f"{path} holds {_what(target_S)}, expected float[rows, columns] in siemens")
        self._check_shape(target_S, path)
        with np.errstate(invalid="ignore"):
            if np.isinf(target_S).any() or (target_S < 0).any():
                raise UsageError(
                    f"{path} holds negative or infinite targets, expected siemens, NaN to leave a cell alone"
                )
        if np.isnan(target_S).all():
            raise UsageError(f"{path} holds no target at all: every cell is NaN")
        return encode_array(target_S)

    def _find(self, name: str) -> Path:
        found: dict[Path, Path] = {}
        for folder in self._folders:
            candidate = folder / name
            if candidate.is_file():
                found.setdefault(candidate.resolve(), candidate)
        if len(found) == 1:
            return next(iter(found.values()))
        looked = ", ".join(dict.fromkeys(str(folder.resolve()) for folder in self._folders))
        if not found:
            raise UsageError(
                f"found the file name {name!r}, expected a file that exists, in {looked}; or its whole path"
            )
        raise UsageError(
            f"found two files called {name!r}: {' and '.join(map(str, found))}; expected the whole path of one"
        )

    def _check_shape(self, array: npt.NDArray[Any], path: Path) -> None:
        if array.shape != self._geometry.shape:
            rows, columns = self._geometry.shape
            raise UsageError(f"{path} holds {_what(array)}, expected {rows} × {columns} cells, as the die has")

    def _text(self, path: Path) -> npt.NDArray[np.bool_]:
        text = read_text(path)
        if text.strip().startswith("bits("):
            return Region(text.strip()).bound(self._geometry).bits
        lines = [re.sub(r"[\s,;]", "", line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
        for number, line in enumerate(lines, 1):
            if set(line) - {"0", "1"} or len(line) != len(lines[0]):
                raise UsageError(
                    f"{path}: row {number} of the mask is {line[:20]!r} of {len(line)}, expected a 0 or 1 for each column"
                )
        if not lines:
            raise UsageError(f"{path} holds no row, expected one line of 0 and 1 for each row of the die")
        return np.array([[mark == "1" for mark in line] for line in lines], np.bool_)


def _array(path: Path, wanted: str) -> npt.NDArray[Any]:
    """Return the array of a ``.npy``, or of a ``.npz`` the only one, or the one called ``wanted``."""
    if path.suffix == ".npz":
        arrays = load_arrays(path)
        if any(name.startswith("layer:") for name in arrays):
            raise UsageError(
                f"{path} is a mask of weights, expected one of cells; masks of weights go on a die by: rramlab deploy"
            )
        if wanted in arrays or len(arrays) == 1:
            return arrays[wanted] if wanted in arrays else next(iter(arrays.values()))
        raise UsageError(f"{path} holds {', '.join(arrays) or 'nothing'}, expected one array, or one called {wanted!r}")
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: not a whole array of NumPy ({error})") from error


def _bits(array: npt.NDArray[Any], path: Path) -> npt.NDArray[np.bool_]:
    if array.ndim == 2 and array.dtype.kind in "bui" and np.isin(array, (0, 1)).all():
        return array.astype(np.bool_)
    raise UsageError(f"{path} holds {_what(array)}, expected bool[rows, columns], or 0 and 1")


def _what(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"
