"""The conventional way, to compare with: a network learns its weights, which are then written into cells.

The network is the same, layer by layer; its masked layers keep everything, and what was their scores are their weights.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn.models import configure, masked_layers

Floats = npt.NDArray[np.float32]
# Of a layer's weights, so many a thousand are written as the highest conductance: without the cut, one outlier would cost
# all others their range (assumed).
CLIPPED = 0.002


def learn_weights(model: nn.Module, exact: bool = False, only: str | None = None, seed: int = 0) -> None:
    """Let ``model`` learn weights instead of topology, from fresh ones (uniform, He et al. 2015), drawn by ``seed``.

    ``exact``: with activations of float32 instead of codes: dense software. ``only``: the layer that does so; all others stay
    what they are.
    """
    draw = torch.Generator().manual_seed(seed)
    for name, layer in masked_layers(model).items():
        if only not in (None, name):
            continue
        layer.learns = "weights"
        layer.quantiser.exact = exact
        with torch.no_grad():
            fresh = torch.empty(layer.shape).uniform_(-1.0, 1.0, generator=draw)
            layer.scores.copy_(fresh.mul_((6.0 / layer.fan_in) ** 0.5))


def wanted_S(model: nn.Module, lowest_S: float, highest_S: float) -> dict[str, Floats]:
    """Return which G⁺ − G⁻ a pair of each layer must get for what ``model`` learned: name -> float32[inputs, outputs], S.

    The layers' ``scale`` is set so that the largest of their weights become ``highest_S``. A cell cannot be held below
    ``lowest_S``: a smaller weight becomes that or nothing, whichever is nearer.

    Raises:
        UsageError: the model did not learn weights, or they are no numbers.
    """
    found = {}
    for name, layer in masked_layers(model).items():
        if layer.learns != "weights":
            raise UsageError(f"layer {name!r} learned a topology, not weights")
        weights = layer.scores.detach().cpu().numpy()
        if not np.isfinite(weights).all():
            raise UsageError(
                f"layer {name!r}: the weights that were learned are no numbers: training diverged; train again"
            )
        top = float(np.quantile(np.abs(weights), 1.0 - CLIPPED))
        layer.scale.fill_(top / highest_S)
        target = np.clip(weights / top, -1.0, 1.0) * highest_S
        size = np.abs(target)
        size = np.where(size < lowest_S / 2, 0.0, np.maximum(size, lowest_S))
        found[name] = (np.sign(target) * size).astype(np.float32)
    return found


def run_as_written(model: nn.Module) -> None:
    """Let ``model`` compute with what is loaded into it from now on, nothing pruned; scales stay as ``wanted_S`` set them."""
    for layer in masked_layers(model).values():
        layer.learns = "topology"
    configure(model, keep_all=True)
