"""Training samples stretched at random: no two epochs see the same ones.

Along time it is what speaking faster, or a cut that begins earlier, does to features of speech; along frequency, what a longer
vocal tract does (Jaitly and Hinton, "Vocal tract length perturbation improves speech recognition", ICML workshop 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stretched(x: Tensor, reach: Sequence[float]) -> Tensor:
    """Return samples whose first and last value along each of the last axes come from up to ``reach`` values away.

    ``x``: float32[n, …]; ``reach``: one figure for each of its last axes, in values. Each end of each sample is drawn from
    torch's generator; what lies between is interpolated linearly, and beyond a sample its last value goes on.
    """
    for axis, most in enumerate(reach, start=-len(reach)):
        if most:
            x = _along_the_last(x.transpose(axis, -1), most).transpose(axis, -1)
    return x.contiguous()


def _along_the_last(x: Tensor, most: float) -> Tensor:
    count = x.shape[-1]
    first, last = (torch.rand(2, len(x), 1) * 2.0 - 1.0) * most
    places = torch.linspace(0.0, 1.0, count)
    at = (first + (count - 1 + last - first) * places).clamp(0.0, count - 1.0)
    left = at.floor().clamp(max=count - 2.0)
    shape = (len(x), *[1] * (x.ndim - 2), count)
    weight = (at - left).reshape(shape)
    index = left.long().reshape(shape).expand_as(x)
    return torch.lerp(x.gather(-1, index), x.gather(-1, index + 1), weight)
