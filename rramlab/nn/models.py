"""The masked layers of a whole network: their weights, masks and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn.masked import MaskedLayer


def masked_layers(model: nn.Module) -> dict[str, MaskedLayer]:
    """Return the masked layers of ``model`` by their module names, in forward definition order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, MaskedLayer)}


def masks(model: nn.Module) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which weights stay in each masked layer: name -> bool[inputs, outputs]."""
    return {name: layer.mask().cpu().numpy() for name, layer in masked_layers(model).items()}


def load_weights(model: nn.Module, weights_S: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Give every masked layer the conductance differences of its pairs: name -> float32[inputs, outputs],
    siemens.

    Raises:
        UsageError: layers are missing or unknown, a shape differs, or values are not finite; no layer is
            named twice.
    """
    layers = masked_layers(model)
    if layers.keys() != weights_S.keys():
        raise UsageError(f"found weights for layers {sorted(weights_S)}, expected {sorted(layers)}")
    for name, layer in layers.items():
        try:
            layer.set_conductance(weights_S[name])
        except UsageError as error:
            raise UsageError(f"layer {name!r}: {error}") from None


def configure(model: nn.Module, **settings: Any) -> None:
    """Set attributes of every masked layer, such as ``configure(model, keep_all=True)`` or
    ``read_noise=0.02``.

    Raises:
        UsageError: a masked layer has no such setting.
    """
    known = ("keep_all", "read_noise", "evaluation_noise", "multiply")
    for name in settings:
        if name not in known:
            raise UsageError(f"masked layers have no setting {name!r}; known: {', '.join(known)}")
    for layer in masked_layers(model).values():
        for name, value in settings.items():
            setattr(layer, name, value)


def regroup(model: nn.Module) -> None:
    """Assign the outputs of every masked layer to phases anew, where its assignment is ``learned``."""
    for layer in masked_layers(model).values():
        layer.regroup()
