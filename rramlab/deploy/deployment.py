"""A deployment: which mask lies where on which die, and how it got there. A folder that outlives the session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.base.files import read_object, write_json
from rramlab.macro.gates import GatePattern
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile

Method = Literal["gate", "reset"]


@dataclass(frozen=True, eq=False)
class Deployment:
    """A mask on its dies.

    ``dies``: those of ``placement``, in its order. ``reset``: the layers whose conducting cells of pruned pairs were reset, so
    that only whole lines of theirs are gated; the pruned connections of all others are off by gate patterns, without a pulse.
    ``conductance_S``: float32[dies, rows, columns] as read when it was deployed, NaN outside the tiles: what later sessions
    compare with.
    """

    name: str
    dies: tuple[str, ...]
    reset: tuple[str, ...]
    placement: Placement
    mask: Mask
    conductance_S: npt.NDArray[np.float32]
    about: dict[str, Any]  # training, runs, verification: for people and for evaluate

    @property
    def method(self) -> str:
        """In a word: ``gate``, ``reset``, or both."""
        layers = self.placement.layers
        return "gate" if not self.reset else "reset" if len(self.reset) == len(layers) else "gate and reset"

    def gates(self) -> dict[Tile, GatePattern]:
        """Return the gate pattern of every tile."""
        return self.placement.gates(self.mask, self.reset)

    def save(self, deployments: Path) -> Path:
        """Write the folder ``deployments/<name>/``; ``deployment.json`` comes last, so that it stands for a whole one."""
        folder = deployments / self.name
        (folder / "deployment.json").unlink(missing_ok=True)
        self.mask.save(folder / "mask.npz")
        save_arrays(folder / "reference.npz", {"conductance_S": self.conductance_S})
        return self.note(deployments)

    def note(self, deployments: Path, **findings: Any) -> Path:
        """Write ``deployment.json`` with ``findings`` beside what is known; mask and reference stay as they are."""
        folder = deployments / self.name
        write_json(
            folder / "deployment.json",
            {
                "name": self.name,
                "dies": list(self.dies),
                "reset": list(self.reset),
                **self.placement.as_json(),
                **self.about,
                **findings,
            },
        )
        return folder

    @classmethod
    def load(cls, folder: Path) -> Deployment:
        """Read a deployment.

        Raises:
            DataError: a file of it is missing or damaged.
        """
        about = read_object(folder / "deployment.json", "rows", "columns", "tiles", "name", "dies", "reset", "training")
        try:
            placement = Placement.from_json(about.pop("rows"), about.pop("columns"), about.pop("tiles"))
            return cls(
                about.pop("name"),
                tuple(about.pop("dies")),
                tuple(about.pop("reset")),
                placement,
                Mask.load(folder / "mask.npz"),
                load_arrays(folder / "reference.npz")["conductance_S"],
                about,
            )
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"the deployment {folder} is damaged ({error}); deploy again: rramlab deploy") from error


def find_deployment(deployments: Path, name: str) -> Deployment:
    """Return the deployment called ``name``.

    Raises:
        DataError: there is none; the message lists what exists.
    """
    if not (deployments / name / "deployment.json").exists():
        known = ", ".join(sorted(path.parent.name for path in deployments.glob("*/deployment.json"))) or "none"
        raise DataError(
            f"there is no deployment {name!r} in {deployments}; known: {known}. Make one with: rramlab deploy"
        )
    return Deployment.load(deployments / name)
