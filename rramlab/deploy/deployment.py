"""A deployment: which mask lies where on which die, and how it got there. A folder that outlives the session."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.base.files import read_object, write_json
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile

Method = Literal["gate", "reset"]


@dataclass(frozen=True, eq=False)
class Deployment:
    """A mask on a die.

    ``method``: ``gate`` turns pruned connections off with gate patterns, without a pulse; ``reset`` has reset the
    conducting cells of pruned pairs and gates whole lines only.
    ``conductance_S``: float32[rows, columns] as read when it was deployed, NaN outside the tiles: what later sessions
    compare with.
    """

    name: str
    die_id: str
    method: Method
    placement: Placement
    mask: Mask
    conductance_S: npt.NDArray[np.float32]
    about: dict[str, Any]  # training, run, verification: for people and for evaluate

    def gates(self) -> dict[Tile, GatePattern]:
        """Return the gate pattern of every tile."""
        return self.placement.gates(self.mask, lines_only=self.method == "reset")

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
                "die": self.die_id,
                "method": self.method,
                "rows": self.placement.geometry.rows,
                "columns": self.placement.geometry.columns,
                "tiles": [asdict(tile) for tile in self.placement.tiles],
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
        about = read_object(folder / "deployment.json", "rows", "columns", "tiles", "name", "die", "method", "training")
        try:
            geometry = Geometry(about.pop("rows"), about.pop("columns"))
            placement = Placement(geometry, tuple(Tile(**tile) for tile in about.pop("tiles")))
            reference = load_arrays(folder / "reference.npz")["conductance_S"]
            return cls(
                about.pop("name"),
                about.pop("die"),
                about.pop("method"),
                placement,
                Mask.load(folder / "mask.npz"),
                reference,
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
