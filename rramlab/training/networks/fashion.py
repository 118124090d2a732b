"""For Fashion-MNIST."""

from __future__ import annotations

from collections import OrderedDict
from typing import Unpack

from torch import nn

from rramlab.nn import MaskedConv2d, MaskedLinear, Masking


def fashion_cnn(**masking: Unpack[Masking]) -> nn.Module:
    """The Fashion-MNIST network of Li, Wang et al. (arXiv 2311.07164) for 1 × 28 × 28 images: 62,272 weights.

    Convolutions are unpadded: 28 → pool 14 → 12 → 10 → pool 5, so that 16 channels give the 400 inputs of
    ``fc1``.
    """
    behind: Masking = {**masking, "rectify": True}
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            pool0=nn.MaxPool2d(2),
            conv1=MaskedConv2d(1, 64, 3, **masking),
            norm1=nn.BatchNorm2d(64, affine=False),
            conv2=MaskedConv2d(64, 16, 3, **behind),
            pool2=nn.MaxPool2d(2),
            norm2=nn.BatchNorm2d(16, affine=False),
            flatten=nn.Flatten(),
            fc1=MaskedLinear(400, 128, **behind),
            fc2=MaskedLinear(128, 10, **behind),
        )
    )


def fashion_cnn_large(**masking: Unpack[Masking]) -> nn.Module:
    """For 1 × 28 × 28 images, as much as one die of 512 × 512 cells holds: 103,968 weights in five layers.

    28 → pool 14 → 12 → 10 → 8 → pool 4, so that 32 channels give the 512 inputs of ``fc1``: as many as a die has rows.
    """
    behind: Masking = {**masking, "rectify": True}
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            pool0=nn.MaxPool2d(2),
            conv1=MaskedConv2d(1, 32, 3, **masking),
            norm1=nn.BatchNorm2d(32, affine=False),
            conv2=MaskedConv2d(32, 64, 3, **behind),
            norm2=nn.BatchNorm2d(64, affine=False),
            conv3=MaskedConv2d(64, 32, 3, **behind),
            pool3=nn.MaxPool2d(2),
            norm3=nn.BatchNorm2d(32, affine=False),
            flatten=nn.Flatten(),
            fc1=MaskedLinear(512, 128, **behind),
            fc2=MaskedLinear(128, 10, **behind),
        )
    )
