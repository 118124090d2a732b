"""Masks: which weights stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError, InvalidValue
from rramlab.macro.cells import Bools

Granularity = Literal["edge", "phase", "line"]


def lines_of(kept: Bools) -> Bools:
    """Return, of kept pairs bool[rows, pairs], which lie on a row and a pair that keep anything, kept themselves or not.

    They are what gates by themselves leave on in one phase: of them, the pruned ones only a reset can take out.
    """
    return np.asarray(kept.any(axis=1, keepdims=True) & kept.any(axis=0, keepdims=True))


@dataclass(frozen=True, eq=False)
class Mask:
    """Kept weights by layer: ``layers[name]`` is bool[inputs, outputs], True = kept, rows in torch unfold order."""

    layers: dict[str, Bools]
    granularity: Granularity = "edge"
    phases: int | None = field(default=None)

    def __post_init__(self) -> None:
        if (self.phases is not None) != (self.granularity == "phase"):
            raise InvalidValue(f"granularity {self.granularity!r} with phases {self.phases}: only 'phase' has a number")
        for name, layer in self.layers.items():
            if layer.ndim != 2 or layer.dtype != np.bool_:
                raise InvalidValue(f"layer {name!r}: found {layer.dtype}{layer.shape}, expected bool[inputs, outputs]")

    @property
    def kept(self) -> int:
        return sum(int(np.count_nonzero(layer)) for layer in self.layers.values())

    @property
    def weights(self) -> int:
        return sum(layer.size for layer in self.layers.values())

    def save(self, path: Path) -> None:
        """Write the mask as a compressed ``.npz``, atomically."""
        arrays = {f"layer:{name}": layer for name, layer in self.layers.items()}
        about = {"granularity": np.array(self.granularity), "phases": np.array(self.phases or 0)}
        save_arrays(path, about | arrays)

    @classmethod
    def load(cls, path: Path) -> Mask:
        """Read a mask.

        Raises:
            DataError: the file is missing or not a mask.
        """
        try:
            arrays = load_arrays(path)
            granularity, phases = str(arrays.pop("granularity")), int(arrays.pop("phases"))
            layers = {name.removeprefix("layer:"): layer for name, layer in arrays.items()}
            return cls(layers, granularity, phases or None)  # type: ignore[arg-type]  # checked by __post_init__
        except (DataError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a readable mask ({error}); train again to write a new one") from error
