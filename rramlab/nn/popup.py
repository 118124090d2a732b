"""Edge-popup: train which weights stay, never the weights.

Ramanujan et al., "What's hidden in a randomly weighted neural network?", CVPR 2020 (arXiv 1911.13299): every
weight has a score; a forward pass keeps the weights with the highest |score|; the backward pass takes the
selection for the identity, so that pruned weights have a gradient too and can come back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rramlab.base.errors import RramlabError


def kept_count(size: int, kept: float) -> int:
    """Return how many of ``size`` weights a fraction ``kept`` (0 < kept <= 1) keeps: at least one."""
    if not 0.0 < kept <= 1.0:
        raise ValueError(f"kept is {kept}, expected a fraction above 0 and at most 1")
    return max(1, round(size * kept))


def top_fraction(scores: npt.NDArray[np.floating[Any]], count: int) -> npt.NDArray[np.bool_]:
    """Select the ``count`` entries of largest |score|; same shape as ``scores``, exactly ``count`` True.

    Of equal scores at the threshold, those that come first in C order stay. Selecting with ``np.partition``
    is an order of magnitude faster than sorting, and ties are looked for only when there are any.

    Raises:
        RramlabError: scores are not finite, so that no selection means anything.
    """
    magnitude = np.abs(scores).ravel()
    size = magnitude.size
    if not 0 < count <= size:
        raise ValueError(f"cannot keep {count} of {size} weights")
    if count == size:
        return np.ones(scores.shape, np.bool_)
    threshold = np.partition(magnitude, size - count)[size - count]
    selected: npt.NDArray[np.bool_] = magnitude >= threshold
    surplus = int(np.count_nonzero(selected)) - count
    if surplus > 0:
        tied = np.flatnonzero(magnitude == threshold)
        selected[tied[tied.size - surplus :]] = False
    elif surplus < 0:
        raise RramlabError("the scores hold values that are not numbers: training diverged; lower the learning rate")
    return selected.reshape(scores.shape)


def select(scores: Tensor, count: int) -> Tensor:
    """Return ``top_fraction`` of a tensor of any device as a bool tensor on the same device."""
    return torch.from_numpy(top_fraction(scores.detach().cpu().numpy(), count)).to(scores.device)


class PopUp(torch.autograd.Function):
    """``weights`` where ``scores`` select them, else zero; the gradient reaches every score."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weights: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(scores, weights)
        return weights * select(scores, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        scores, weights = ctx.saved_tensors
        return (gradients[0] * weights).mul_(scores.sign()), None, None


def pop_up(scores: Tensor, weights: Tensor, count: int) -> Tensor:
    """Return ``weights`` with only the ``count`` of largest |score| kept; differentiable in ``scores`` alone.

    ``scores`` and ``weights`` have one shape. With m the selection, w the weight and s the score, the forward
    is m · w and the gradient of s is g · w · sign(s): what the selection taken for |s| would give.
    """
    masked: Tensor = PopUp.apply(scores, weights, count)  # type: ignore[no-untyped-call]
    return masked
