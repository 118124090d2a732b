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
# The range follows every pass at first, then one in four, by as much; which ones, the golden ratio says, so that a layer that
# is passed through several times a step, as a recurrent one is, is looked at in each of them. It looks at every k-th sample of
# a batch where the quantiser rectifies (else each sample must be looked at anyway), as long as they are so many and have so
# many activations.
FIRST_PASSES, EVERY = 20, 4
_GOLDEN = 0x9E3779B1  # 2³² over the golden ratio
FEWEST, ENOUGH = 4, 1 << 16


class _RoundStraightThrough(torch.autograd.Function):
    """Round to a multiple of ``step`` in [0, levels · step]; the gradient passes between ``lowest`` and the last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, levels: int, lowest: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.lowest, ctx.clip = lowest, step * levels
        return _round(x, step, levels).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        # The gradient of a clamp, in one pass: a mask made ahead costs three times as much.
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], x, ctx.lowest, ctx.clip), None, None, None


def _round(x: Tensor, step: float, levels: int) -> Tensor:
    """Return the nearest code as a float; halves go to the even code, so that rounding is unbiased."""
    return (x * (1.0 / step)).round_().clamp_(0, levels)


class UnsignedQuantiser(nn.Module):
    """Activations >= 0 to codes 0 … 2^bits − 1.

    ``clip`` (buffer, dimensionless like the activations) is the value of the largest code. It follows the
    data while the module trains and is frozen in evaluation; 0 means that no data was seen yet. ``passes`` (buffer): how
    often it was given data while it trained.
    ``rectify``: the quantiser is the ReLU before it, too: what is below 0 becomes code 0 and has no gradient, as behind a
    ReLU, in one pass over the data instead of two. Else a negative activation is an error.
    ``exact``: activations stay as they are, but for that ReLU: what software without a macro computes with.
    """

    clip: Tensor
    passes: Tensor

    def __init__(self, bits: int, rectify: bool = False) -> None:
        super().__init__()
        if not 1 <= bits <= 8:
            raise ValueError(f"activations of {bits} bits: codes have 1 to 8 bits")
        self.bits = bits
        self.levels = 2**bits - 1
        self.rectify = rectify
        self.exact = False
        self.register_buffer("clip", torch.zeros(()))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

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
        if self.exact:
            return torch.relu(x) if self.rectify else x
        if self.training:
            self._follow(x.detach())
        lowest = 0.0 if self.rectify else -1.0  # nothing is below 0, and exactly 0 shall pass
        rounded: Tensor = _RoundStraightThrough.apply(x, self.step, self.levels, lowest)  # type: ignore[no-untyped-call]
        return rounded

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of ``x``: uint8, same shape. Never updates ``clip``.

        Raises:
            UsageError: ``x`` has negative values that nothing rectifies, or no data was seen yet.
        """
        x = x.detach()
        if not self.rectify:
            _refuse_negative(float(x.min()))
        return _round(x, self.step, self.levels).to(torch.uint8)

    def extra_repr(self) -> str:
        return f"bits={self.bits}{', rectify' if self.rectify else ''}"

    def forget(self) -> None:
        """Follow the data anew, as if none was seen."""
        self.clip.zero_()
        self.passes.zero_()

    def _follow(self, x: Tensor) -> None:
        passes = int(self.passes)
        self.passes.add_(1)
        early = passes < FIRST_PASSES
        passed_over = not early and (passes * _GOLDEN & 0xFFFFFFFF) * EVERY >> 32 != 0
        if self.rectify:
            if passed_over:
                return
            every = max(1, min(len(x) // FEWEST, x.numel() // ENOUGH))
            x = x[::every].clamp(min=0.0)
        low, high = torch.aminmax(x)
        if not self.rectify:
            _refuse_negative(float(low))
            if passed_over:
                return
        flat = x.reshape(-1)
        mean_square = float(torch.dot(flat, flat)) / flat.numel()
        now = max(min(float(high), CLIP_RMS * mean_square**0.5), SMALLEST_CLIP)
        before = float(self.clip)
        momentum = MOMENTUM if early else 1.0 - (1.0 - MOMENTUM) ** EVERY
        self.clip.fill_(now if before == 0.0 else before + momentum * (now - before))


def _refuse_negative(low: float) -> None:
    if low < 0.0:
        raise UsageError(
            f"a masked layer got the input {low:.3g}: activations are unsigned codes; "
            "put a ReLU before the layer, or shift the data to start at 0"
        )
