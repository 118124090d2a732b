"""The value of a product as the chip measured it, and the gradient of the host's with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rramlab.nn.masked import MaskedLayer


class _Measured(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, host: Tensor, chip: Tensor) -> Tensor:
        return chip

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def joined(host: Tensor | None, chip: Tensor | None) -> Tensor:
    """Return the chip's value with the host's gradient, or whichever there is."""
    if host is None or chip is None:
        found = chip if host is None else host
        assert found is not None
        return found
    measured: Tensor = _Measured.apply(host, chip)  # type: ignore[no-untyped-call]
    return measured


def on_chip(layer: MaskedLayer, codes: Tensor, mask: Tensor) -> Tensor:
    """Multiply ``codes`` uint8[batch, inputs] where ``layer.multiply`` does; return float32[batch, outputs] in activations.

    Raises:
        ValueError: what came back has another shape.
    """
    assert layer.multiply is not None
    sums = np.asarray(layer.multiply(codes.cpu().numpy(), mask.cpu().numpy()), np.float32)
    expected = (codes.shape[0], layer.shape[1])
    if sums.shape != expected:
        raise ValueError(f"multiply returned shape {sums.shape}, expected {expected} (batch, outputs)")
    factor = layer.quantiser.step * float(layer.scale)
    return torch.from_numpy(sums * np.float32(factor)).to(codes.device)
