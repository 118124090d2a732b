"""Edge-popup: train which weights stay, never the weights.

Ramanujan et al., "What's hidden in a randomly weighted neural network?", CVPR 2020 (arXiv 1911.13299): every
weight has a score; a forward pass keeps the weights with the highest |score|; the backward pass takes the
selection for the identity, so that pruned weights have a gradient too and can come back.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rramlab.base.errors import InvalidValue, RramlabError
from rramlab.base.numbers import real

Bools = npt.NDArray[np.bool_]
Strengths = npt.NDArray[np.floating[Any]]


class NoNumbers(RramlabError):
    """Scores are not finite, so that no selection means anything."""

    def __init__(
        self,
        message: str = "the scores hold values that are not numbers: training diverged; lower the learning rate",
    ) -> None:
        super().__init__(message)


def kept_count(size: int, kept: float) -> int:
    """Return how many of ``size`` weights a fraction ``kept`` (0 < kept <= 1) keeps: at least one."""
    kept = real(kept, "the kept fraction", 0.0, 1.0, above=True)
    return max(1, round(size * kept))


def top_fraction(scores: Strengths, count: int) -> Bools:
    """Select the ``count`` entries of largest |score|; same shape as ``scores``, exactly ``count`` True.

    Of equal scores at the threshold, those that come first in C order stay. Selecting with ``np.partition``
    is an order of magnitude faster than sorting, and ties are looked for only when there are any.

    Raises:
        NoNumbers: scores are not finite.
    """
    return largest(np.abs(scores), count)[0]


def largest(strength: Strengths, count: int) -> tuple[Bools, float]:
    """Select the ``count`` largest entries, none below 0, as :func:`top_fraction` does; the float is the smallest of them.

    Raises:
        NoNumbers: as there.
    """
    flat = strength.ravel()
    size = flat.size
    if not 0 < count <= size:
        raise InvalidValue(f"cannot keep {count} of {size} weights")
    require_numbers(strength)
    if count == size:
        return np.ones(strength.shape, np.bool_), float(flat.min())
    # Numbers of at least 0 lie in the order of their bits, and integers are partitioned in half the time.
    bits = flat.view(np.int32) if flat.dtype == np.float32 else flat
    threshold = np.partition(bits, size - count)[size - count : size - count + 1].view(flat.dtype)[0]
    selected: Bools = flat >= threshold
    surplus = int(np.count_nonzero(selected)) - count
    if surplus > 0:
        tied = np.flatnonzero(flat == threshold)
        selected[tied[tied.size - surplus :]] = False
    return selected.reshape(strength.shape), float(threshold)


def require_numbers(strength: Strengths) -> None:
    """Refuse strengths, none below 0, of which one is not finite: their maximum is not either.

    Raises:
        NoNumbers: one is.
    """
    if not math.isfinite(float(strength.max())):
        raise NoNumbers


def largest_there(strength: Tensor, count: int) -> Tensor:
    """Do what :func:`largest` does, where the tensor is: bool of its shape. A graphics processor sorts faster than it sends.

    Raises:
        NoNumbers: as there.
    """
    flat = strength.flatten()
    if not 0 < count <= flat.numel():
        raise InvalidValue(f"cannot keep {count} of {flat.numel()} weights")
    ordered = flat.sort().values  # what is no number comes last
    if not math.isfinite(float(ordered[-1])):
        raise NoNumbers
    threshold = ordered[flat.numel() - count]
    selected = flat >= threshold
    surplus = int(selected.sum()) - count
    if surplus > 0:
        selected[torch.nonzero(flat == threshold).flatten()[-surplus:]] = False
    return selected.view(strength.shape)


def settled(chosen: Bools, strength: Strengths, threshold: float, before: Bools, width: float) -> Bools:
    """Return ``chosen``, but as ``before`` where the strength is within ``width`` (relative) of the threshold.

    All arrays have one shape. What is off goes on at threshold · (1 + width), what is on goes off below
    threshold · (1 − width). A width of 0 changes nothing.
    """
    if width == 0.0:
        return chosen
    return np.asarray((before & (strength >= threshold * (1.0 - width))) | (strength >= threshold * (1.0 + width)))


class PopUp(torch.autograd.Function):
    """``weights`` where ``mask`` keeps them, else zero; the gradient reaches every score."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weights: Tensor, mask: Tensor, direction: Tensor) -> Tensor:
        ctx.save_for_backward(weights, direction)
        return weights * mask.view(torch.uint8)  # three times as fast as with bool

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        weights, direction = ctx.saved_tensors
        return (gradients[0] * weights).mul_(direction), None, None, None


def pop_up(scores: Tensor, weights: Tensor, mask: Tensor, direction: Tensor | None = None) -> Tensor:
    """Return ``weights`` where ``mask`` (bool), which the scores chose, keeps them; differentiable in ``scores`` alone.

    All have one shape. With m the mask, w the weight and d the direction in which the score of what is chosen grows, by
    default the sign of the weight's own score, the forward is m · w and the gradient of a score is g · w · d: what the
    mask taken for |score| would give.
    """
    way = scores.detach().sign() if direction is None else direction
    masked: Tensor = PopUp.apply(scores, weights, mask, way)  # type: ignore[no-untyped-call]
    return masked
