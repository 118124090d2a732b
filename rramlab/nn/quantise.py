"""Unsigned activation codes, as the bit-serial inputs of the macro take them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rramlab.base.errors import UsageError
from rramlab.base.numbers import whole

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
# In those first passes a range that is less than half of what is seen becomes that at once: whatever was first, a black image
# or a dim one, does not clip what follows.
GROWN = 2.0


class RefusedInput(UsageError):
    """What came into a masked layer can be no code: it is below 0, or no number.

    ``layer``: its name in words. ``sample``: which of its batch, counted from 0; None where there is no batch.
    """

    def __init__(self, layer: str, value: float, sample: int | None, of: str = "of the batch") -> None:
        self.layer, self.value, self.sample = layer, value, sample
        where = "" if sample is None else f" in sample {sample:,} {of}"
        super().__init__(
            f"{layer} got the input {value:.3g}{where}: "
            + (
                "activations are unsigned codes; put a ReLU before the layer, or shift the data to start at 0"
                if math.isfinite(value)
                else "no code stands for that, and nothing was counted or learned of it. Correct that sample, or find which "
                "layer before this one makes it"
            )
        )

    def at(self, sample: int, of: str) -> RefusedInput:
        """Return the same of the sample of another number, which is counted ``of`` something larger than a batch."""
        return RefusedInput(self.layer, self.value, sample, of)


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
    ReLU, in one pass over the data instead of two. Else a negative activation is an error, in training and evaluation, in
    activations and codes alike. One that is no number is an error in any case, and leaves everything as it was.
    ``exact``: activations stay as they are, but for that ReLU: what software without a macro computes with.
    ``layer``, ``sample_axis``: how the layer is called in errors, and along which axis its samples lie.
    """

    clip: Tensor
    passes: Tensor
    # Of the class, so that a module which an earlier version pickled has them, too.
    layer = "a masked layer"
    sample_axis = 0
    _settling: list[float] | None = None

    def __init__(self, bits: int, rectify: bool = False) -> None:
        super().__init__()
        self.bits = bits = whole(bits, "the size of an activation's code", 1, 8, "bits")
        self.levels = 2**bits - 1
        self.rectify = rectify
        self.exact = False
        self.register_buffer("clip", torch.zeros(()))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    @property
    def step(self) -> float:
        """The activation that one code stands for.

        Raises:
            UsageError: no data was seen yet, or the range is none.
        """
        clip = float(self.clip)
        if clip == 0.0:
            raise UsageError("the activation range is not known: train the network, or settle its statistics, first")
        if not 0.0 < clip < math.inf:
            raise UsageError(
                f"the activation range of {self.layer} is {clip}: what it was learned from held values that are no numbers. "
                "Settle the network's statistics anew (settle_statistics), or train it again"
            )
        return clip / float(self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to its codes' values, in the units of ``x``.

        Raises:
            RefusedInput: ``x`` has values that are no numbers, or negative ones that nothing rectifies.
        """
        highest = self._highest(x.detach())
        if self.exact:
            return torch.relu(x) if self.rectify else x
        if self.training:
            self._follow(x.detach(), highest)
        lowest = 0.0 if self.rectify else -1.0  # nothing is below 0, and exactly 0 shall pass
        rounded: Tensor = _RoundStraightThrough.apply(x, self.step, self.levels, lowest)  # type: ignore[no-untyped-call]
        return rounded

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of ``x``: uint8, same shape. Never updates ``clip``.

        Raises:
            RefusedInput: as ``forward``. UsageError: no data was seen yet.
        """
        x = x.detach()
        self._highest(x)
        return _round(x, self.step, self.levels).to(torch.uint8)

    def extra_repr(self) -> str:
        return f"bits={self.bits}{', rectify' if self.rectify else ''}"

    def forget(self) -> None:
        """Follow the data anew, as if none was seen."""
        self.clip.zero_()
        self.passes.zero_()

    def settle(self, begin: bool) -> None:
        """From here on (``begin``) let the range be the plain mean over all passes; then follow on from there again."""
        self._settling = [] if begin else None
        if begin:
            self.forget()

    def _highest(self, x: Tensor) -> float | None:
        """Refuse what can be no code, in one cheap pass: a sum is finite only if all that it adds up is.

        Returns the largest value where that was looked for, too: where negative values are refused.
        """
        if not x.numel():
            return None
        if self.rectify or self.exact:
            if not math.isfinite(float(x.sum())):
                self._refuse(x)
            return None
        low, high = map(float, torch.aminmax(_as_it_lies(x)))
        if not (low >= 0.0 and high < math.inf):
            self._refuse(x)
        return high

    def _refuse(self, x: Tensor) -> None:
        """Name the first sample that holds what can be no code; there is none where only the sum was too large."""
        bad = ~torch.isfinite(x)
        if not (self.rectify or self.exact):
            bad |= x < 0.0
        if not bool(bad.any()):
            return
        if x.dim() < 2:
            raise RefusedInput(self.layer, float(x[bad][0]), None)
        samples, found = x.movedim(self.sample_axis, 0).flatten(1), bad.movedim(self.sample_axis, 0).flatten(1)
        first = int(torch.nonzero(found.any(1))[0])
        raise RefusedInput(self.layer, float(samples[first][found[first]][0]), first)

    def _follow(self, x: Tensor, highest: float | None) -> None:
        if not x.numel():
            return
        passes = int(self.passes)
        self.passes.add_(1)
        settling, early = self._settling, passes < FIRST_PASSES
        if settling is None and not early and (passes * _GOLDEN & 0xFFFFFFFF) * EVERY >> 32 != 0:
            return
        if highest is None:
            every = 1 if settling is not None else max(1, min(len(x) // FEWEST, x.numel() // ENOUGH))
            x = x[::every].clamp(min=0.0)
            highest = float(x.max())
        before = float(self.clip)
        unknown = before <= SMALLEST_CLIP  # nothing was seen yet, or nothing but zeros
        if highest == 0.0 and before != 0.0:
            return  # what holds nothing says nothing of the range
        flat = x.reshape(-1)
        mean_square = float(torch.dot(flat, flat)) / flat.numel()
        now = max(min(highest, CLIP_RMS * mean_square**0.5), SMALLEST_CLIP)
        if settling is not None:
            settling += [now] if highest else []
            self.clip.fill_(sum(settling) / len(settling) if settling else now)
            return
        momentum = MOMENTUM if early else 1.0 - (1.0 - MOMENTUM) ** EVERY
        grown = early and now > GROWN * before
        self.clip.fill_(now if unknown or grown else before + momentum * (now - before))


def _as_it_lies(x: Tensor) -> Tensor:
    """Return a tensor of channels last in the order of its memory: looking through it takes a tenth of the time then."""
    last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return x.permute(0, 2, 3, 1) if last else x
