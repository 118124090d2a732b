"""The masked layers of a whole network: their weights, masks and settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rramlab.base.errors import InvalidValue, UsageError
from rramlab.base.numbers import shown
from rramlab.nn.masked import MaskedLayer, Multiply
from rramlab.nn.popup import kept_count, largest, require_numbers
from rramlab.nn.quantise import UnsignedQuantiser


def masked_layers(model: nn.Module) -> dict[str, MaskedLayer]:
    """Return the masked layers of ``model`` by their module names, in forward definition order; each is told its name."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, MaskedLayer)}
    for name, layer in found.items():
        if name:
            layer.called = name
    return found


def masks(model: nn.Module) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which weights stay in each masked layer: name -> bool[inputs, outputs]."""
    return {name: layer.mask().cpu().numpy() for name, layer in masked_layers(model).items()}


def fix_masks(model: nn.Module, kept: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    """Let just ``kept`` stay of some masked layers: name -> bool[inputs, outputs]. What they have learned is lost.

    Raises:
        UsageError: a layer is to keep nothing.
    """
    layers = masked_layers(model)
    for name, wanted in kept.items():
        if not wanted.any():
            raise UsageError(f"layer {name!r} is to keep nothing, expected a weight at least")
        layers[name].fix(wanted)


def load_weights(
    model: nn.Module,
    weights_S: Mapping[str, npt.NDArray[np.float32]],
    origin: Mapping[str, str] | None = None,
    loudness_S: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> None:
    """Give every masked layer the conductance differences of its pairs: name -> float32[inputs, outputs],
    siemens. ``origin``: see ``MaskedLayer``; None leaves what is known of it. ``loudness_S``: √(G⁺² + G⁻²) of the
    pairs, alike, as ``Placement.loudness`` gives it: what read noise goes with.

    Raises:
        UsageError: layers are missing or unknown, a shape differs, or values are not finite; no layer is
            named twice.
    """
    layers = masked_layers(model)
    if not isinstance(weights_S, Mapping):
        raise InvalidValue(f"found the weights {shown(weights_S)}, expected a mapping of layers and arrays")
    if layers.keys() != weights_S.keys():
        raise UsageError(f"found weights for layers {sorted(weights_S)}, expected {sorted(layers)}")
    for name, layer in layers.items():
        try:
            layer.set_conductance(weights_S[name], None if loudness_S is None else loudness_S[name])
        except UsageError as error:
            raise UsageError(f"layer {name!r}: {error}") from None
        if origin is not None:
            layer.origin = dict(origin)


class _AnyCodes(UnsignedQuantiser):
    """Takes anything for zeros."""

    step = 1.0

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x, dtype=torch.uint8)


def vectors_of(model: nn.Module, x: torch.Tensor) -> dict[str, int]:
    """Return how many input vectors each masked layer multiplies for the samples ``x``: what a product's cost goes with."""
    counted = copy.deepcopy(model).cpu().eval()
    counts = dict.fromkeys(masked_layers(counted), 0)

    def counting(name: str) -> Multiply:
        def multiply(codes: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
            counts[name] += len(codes)
            return np.zeros((len(codes), mask.shape[1]), np.float32)

        return multiply

    for name, layer in masked_layers(counted).items():
        layer.multiply = counting(name)
        layer.scale.fill_(1.0)  # only shapes matter here: neither weights nor data need be known yet, nor be numbers
        layer.quantiser = _AnyCodes(layer.bits)
    with torch.no_grad():
        counted(x)
    return counts


def configure(model: nn.Module, **settings: Any) -> None:
    """Set attributes of every masked layer, such as ``configure(model, keep_all=True)`` or
    ``read_noise=0.02``.

    Raises:
        UsageError: a masked layer has no such setting.
    """
    known = ("keep_all", "read_noise", "evaluation_noise", "hysteresis", "multiply")
    for name in settings:
        if name not in known:
            raise UsageError(f"masked layers have no setting {name!r}; known: {', '.join(known)}")
        if name.endswith("noise") and not 0.0 <= settings[name] < math.inf:
            raise UsageError(f"{name} is {settings[name]}, expected a share of the conductance of at least 0")
    for layer in masked_layers(model).values():
        for name, value in settings.items():
            setattr(layer, name, value)


def regroup(model: nn.Module) -> None:
    """Assign the outputs of every masked layer to phases anew, where its assignment is ``learned``."""
    for layer in masked_layers(model).values():
        layer.regroup()


def share_kept(model: nn.Module) -> None:
    """Divide the kept weights among the layers by one threshold over all, at once and before each training step.

    Scores are compared in units of what they had at the start, which goes with 1 / √inputs. As many weights stay as if
    each layer kept its own fraction, and at least one a layer.

    Raises:
        UsageError: a layer keeps whole lines: whether a row stays depends on its layer's columns alone.
    """
    for name, layer in masked_layers(model).items():
        if layer.granularity == "line":
            raise UsageError(
                f"layer {name!r} keeps whole lines, which have no threshold in common with other layers; take granularity "
                "'edge' or 'phase', or a kept fraction for each layer"
            )
    _divide(model)
    model.register_forward_pre_hook(_before_a_step)


def _before_a_step(model: nn.Module, arguments: object) -> None:
    if model.training and torch.is_grad_enabled():
        _divide(model)


def _divide(model: nn.Module) -> None:
    """Set ``kept_weights`` of every layer."""
    layers = list(masked_layers(model).values())
    total = sum(kept_count(layer.scores.numel(), layer.kept) for layer in layers)
    strengths, sizes = zip(*(layer.relative_strength() for layer in layers), strict=True)
    everything = np.concatenate([strength.ravel() for strength in strengths])
    require_numbers(everything)
    if all(np.all(size == 1) for size in sizes):
        _, threshold = largest(everything, total)
    else:
        weights = np.concatenate(
            [np.broadcast_to(size, strength.shape).ravel() for strength, size in zip(strengths, sizes, strict=True)]
        )
        order = np.argsort(-everything, kind="stable")
        threshold = float(everything[order[np.argmin(np.abs(np.cumsum(weights[order]) - total))]])
    for layer, strength, size in zip(layers, strengths, sizes, strict=True):
        layer.kept_weights.fill_(max(1, int(np.sum((strength >= threshold) * size))))
