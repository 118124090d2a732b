"""Unsigned activation codes, as the bit-serial inputs of the macro take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rramlab.base.errors import UsageError

# The clipping range is the smaller of the maximum and CLIP_RMS times the root mean square, each a running
# average over batches: images keep their whole range, and one outlier behind a ReLU does not cost the steps
# of all others. Both figures are assumed; 3 to 4 suits the half-normal distribution behind batch norm and
# ReLU.
CLIP_RMS = 3.0
MOMENTUM = 0.05
SMALLEST_CLIP = 1e-12


class _RoundStraightThrough(torch.autograd.Function):
    """Round to a multiple of ``step`` in [0, levels · step]; the gradient passes where nothing clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, levels: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.clip = step * levels
        return _round(x, step, levels).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # The gradient of a clamp to (-1, clip), in one pass: a mask made ahead costs three times as much.
        # Nothing is below 0, and exactly 0 shall pass, hence -1.
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], x, -1.0, ctx.clip), None, None


def _round(x: Tensor, step: float, levels: int) -> Tensor:
    """Return the nearest code as a float; halves go to the even code, so that rounding is unbiased."""
    return (x * (1.0 / step)).round_().clamp_(0, levels)


class UnsignedQuantiser(nn.Module):
    """Activations >= 0 to codes 0 … 2^bits − 1.

    ``clip`` (buffer, dimensionless like the activations) is the value of the largest code. It follows the
    data while the module trains and is frozen in evaluation; 0 means that no data was seen yet.
    """

    clip: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 8:
            raise ValueError(f"activations of {bits} bits: codes have 1 to 8 bits")
        self.bits = bits
        self.levels = 2**bits - 1
        self.register_buffer("clip", torch.zeros(()))

    @property
    def step(self) -> float:
        """The activation that one code stands for.

        Raises:
            UsageError: no data was seen yet.
        """
        clip = float(self.clip)
        if clip == 0.0:
            raise UsageError("the activation range is not known: train the network, or settle its statistics, first")
        return clip / float(self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to its codes' values, in the units of ``x``."""
        if self.training:
            self._follow(x.detach())
        rounded: Tensor = _RoundStraightThrough.apply(x, self.step, self.levels)  # type: ignore[no-untyped-call]
        return rounded

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of ``x``: uint8, same shape. Never updates ``clip``.

        Raises:
            UsageError: ``x`` has negative values, or no data was seen yet.
        """
        _refuse_negative(float(x.min()))
        return _round(x.detach(), self.step, self.levels).to(torch.uint8)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"

    def _follow(self, x: Tensor) -> None:
        low, high = (float(bound) for bound in torch.aminmax(x))
        _refuse_negative(low)
        flat = x.reshape(-1)
        mean_square = float(torch.dot(flat, flat)) / flat.numel()
        now = max(min(high, CLIP_RMS * mean_square**0.5), SMALLEST_CLIP)
        before = float(self.clip)
        self.clip.fill_(now if before == 0.0 else before + MOMENTUM * (now - before))


def _refuse_negative(low: float) -> None:
    if low < 0.0:
        raise UsageError(
            f"a masked layer got the input {low:.3g}: activations are unsigned codes; "
            "put a ReLU before the layer, or shift the data to start at 0"
        )
