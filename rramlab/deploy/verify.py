"""Is the deployment still what it was? By reading every cell back, and by one all-ones product a tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rramlab.deploy.deployment import Deployment
from rramlab.deploy.planner import pruned_cells
from rramlab.macro.cells import is_conducting
from rramlab.macro.masks import lines_of
from rramlab.macro.protocol import Macro, read_whole

# Share of kept cells that may have changed sides of the threshold, and of pruned cells that may still conduct.
LOST_SHARE, LEFT_SHARE = 0.001, 0.01
# Root mean square deviation of the products from those expected of the read cells, over their root mean square.
PRODUCT_ERROR = 0.15
_REPEATS = 16


@dataclass(frozen=True)
class Verification:
    """What was found on the die.

    ``lost``: kept cells that conducted and do not. ``appeared``: kept cells that did not conduct and do.
    ``pruned_cells``: those that a reset must have left insulating; ``left``: those of them that conduct.
    ``product_error``: relative, see above.
    """

    kept_cells: int
    lost: int
    appeared: int
    pruned_cells: int
    left: int
    product_error: float

    @property
    def passed(self) -> bool:
        changed = (self.lost + self.appeared) / max(1, self.kept_cells)
        return (
            changed <= LOST_SHARE
            and self.left / max(1, self.pruned_cells) <= LEFT_SHARE
            and self.product_error <= PRODUCT_ERROR
        )

    def __str__(self) -> str:
        pruned = f"{self.left:,} of {self.pruned_cells:,} cells of pruned pairs conduct; " if self.pruned_cells else ""
        return (
            f"{self.kept_cells:,} kept cells, {self.lost:,} lost, {self.appeared:,} appeared; {pruned}"
            f"products within {self.product_error:.1%}"
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def verify(macros: Mapping[str, Macro], deployment: Deployment) -> Verification:
    """Read the dies back and compare with what was deployed. Sends no pulse."""
    counts = [_of_die(macros[die], deployment, number) for number, die in enumerate(deployment.dies)]
    kept, lost, appeared, pruned, left = np.sum(counts, axis=0).tolist()
    return Verification(kept, lost, appeared, pruned, left, _product_error(macros, deployment))


def _of_die(macro: Macro, deployment: Deployment, number: int) -> tuple[int, ...]:
    """Return kept, lost, appeared, pruned and left cells of a die."""
    placement, mask = deployment.placement, deployment.mask
    now = read_whole(macro, placement.used(number))
    kept = placement.cells(mask, number).bits
    before, after = is_conducting(deployment.conductance_S[number]), is_conducting(now)
    gone = pruned_cells(placement, mask, deployment.reset, number).bits
    found = (kept, kept & before & ~after, kept & ~before & after, gone, gone & after)
    return tuple(int(np.count_nonzero(cells)) for cells in found)


def _product_error(macros: Mapping[str, Macro], deployment: Deployment) -> float:
    """Compare the all-ones product of every tile with the sum of its read weights under the mask."""
    weights = deployment.placement.weights(deployment.conductance_S)
    deviation, size = 0.0, 0.0
    for tile, gates in deployment.gates().items():
        ones = np.ones((_REPEATS, tile.inputs), np.uint8)
        measured = macros[deployment.dies[tile.die]].multiply(ones, 1, tile, gates).mean(axis=0)
        kept = deployment.mask.layers[tile.layer][tile.of_layer]
        if tile.layer in deployment.reset:  # what was reset is a small weight, not none; whole lines are gated
            kept = lines_of(kept)
        expected = (weights[tile.layer][tile.of_layer] * kept).sum(axis=0)
        deviation += float(np.sum((measured - expected) ** 2))
        size += float(np.sum(expected**2))
    return float(np.sqrt(deviation / size)) if size else 0.0
