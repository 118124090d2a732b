"""Is the deployment still what it was? By reading every cell back, and by one all-ones product a tile."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rramlab.deploy.deployment import Deployment
from rramlab.deploy.planner import pruned_cells
from rramlab.macro.cells import is_conducting
from rramlab.macro.protocol import Macro

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


def verify(macro: Macro, deployment: Deployment) -> Verification:
    """Read the die back and compare with what was deployed. Sends no pulse."""
    placement, mask = deployment.placement, deployment.mask
    used = placement.used
    now = macro.read(used)
    kept = placement.cells(mask).bits
    before, after = is_conducting(deployment.conductance_S), is_conducting(now)
    gone = pruned_cells(placement, mask).bits if deployment.method == "reset" else np.zeros_like(kept)
    return Verification(
        kept_cells=int(np.count_nonzero(kept)),
        lost=int(np.count_nonzero(kept & before & ~after)),
        appeared=int(np.count_nonzero(kept & ~before & after)),
        pruned_cells=int(np.count_nonzero(gone)),
        left=int(np.count_nonzero(gone & after)),
        product_error=_product_error(macro, deployment),
    )


def _product_error(macro: Macro, deployment: Deployment) -> float:
    """Compare the all-ones product of every tile with the sum of its read weights under the mask."""
    weights = deployment.placement.weights(deployment.conductance_S)
    deviation, size = 0.0, 0.0
    for tile, gates in deployment.gates().items():
        ones = np.ones((_REPEATS, tile.inputs), np.uint8)
        measured = macro.multiply(ones, 1, tile, gates).mean(axis=0)
        kept = deployment.mask.layers[tile.layer][tile.input_slice]
        if deployment.method == "reset":  # what was reset is a small weight, not none; whole lines are gated
            kept = np.asarray(kept.any(axis=1, keepdims=True) & kept.any(axis=0, keepdims=True))
        expected = (weights[tile.layer][tile.input_slice] * kept).sum(axis=0)
        deviation += float(np.sum((measured - expected) ** 2))
        size += float(np.sum(expected**2))
    return float(np.sqrt(deviation / size)) if size else 0.0
