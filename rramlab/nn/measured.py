"""The value of a product as the chip measured it, and the gradient of the host's with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rramlab.base.errors import InstrumentError, InvalidValue
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


def on_chip(layer: MaskedLayer, parts: Iterable[Tensor], mask: Tensor, samples: Sequence[int]) -> Tensor:
    """Multiply codes, each part uint8[n, inputs], where ``layer.multiply`` does; return float32[all n, outputs] in activations.

    ``samples``: the axes that the vectors of all parts are made of, in C order; samples lie along the quantiser's axis.

    Raises:
        ValueError: what came back has another shape. InstrumentError: it holds values that are no numbers.
    """
    sums = torch.cat([_multiplied(layer, part, mask) for part in parts])
    if not math.isfinite(float(sums.sum())):
        bad = torch.nonzero(~torch.isfinite(sums))
        if len(bad):
            place = np.unravel_index(int(bad[0, 0]), tuple(samples)) if len(samples) else ()
            where = f" in sample {int(place[layer.quantiser.sample_axis]):,} of the batch" if place else ""
            raise InstrumentError(
                f"{layer.called}: {len(bad):,} of {sums.numel():,} products that came back are no numbers, the first{where}; "
                "nothing was computed with them. Check the board's calibration record, and test the lines: rramlab contact"
            )
    return sums


def _multiplied(layer: MaskedLayer, codes: Tensor, mask: Tensor) -> Tensor:
    assert layer.multiply is not None
    sums = np.asarray(layer.multiply(codes.cpu().numpy(), mask.cpu().numpy()), np.float32)
    expected = (codes.shape[0], layer.shape[1])
    if sums.shape != expected:
        raise InvalidValue(f"multiply returned shape {sums.shape}, expected {expected} (batch, outputs)")
    factor = layer.quantiser.step * float(layer.scale)
    return torch.from_numpy(sums * np.float32(factor)).to(codes.device)
