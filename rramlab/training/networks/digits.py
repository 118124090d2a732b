"""For scikit-learn's digits."""

from __future__ import annotations

from collections import OrderedDict
from typing import Unpack

from torch import nn

from rramlab.nn import MaskedLinear, Masking


def digits_mlp(**masking: Unpack[Masking]) -> nn.Module:
    """64 → 256 → 128 → 10 for 1 × 8 × 8 images: 50,432 weights, at most 256 inputs a layer."""
    behind: Masking = {**masking, "rectify": True}
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            fc1=MaskedLinear(64, 256, **masking),
            norm1=nn.BatchNorm1d(256, affine=False),
            fc2=MaskedLinear(256, 128, **behind),
            norm2=nn.BatchNorm1d(128, affine=False),
            fc3=MaskedLinear(128, 10, **behind),
        )
    )
