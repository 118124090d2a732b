"""The networks that recipes name. Every layer but the first rectifies its input: that is the ReLU before it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol, Unpack

import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import MaskedConv2d, MaskedLinear, Masking, configure, share_kept


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


# What each network takes, [channels, height, width], and how many classes it tells apart.
SHAPES: dict[str, tuple[tuple[int, int, int], int]] = {
    "digits-mlp": ((1, 8, 8), 10),
    "fashion-cnn": ((1, 28, 28), 10),
}


class Network(Protocol):
    """Makes a network whose masked layers are told the same."""

    def __call__(self, **masking: Unpack[Masking]) -> nn.Module: ...


NETWORKS: dict[str, Network] = {
    "digits-mlp": digits_mlp,
    "fashion-cnn": fashion_cnn,
}


def build(
    name: str, read_noise: float = 0.0, seed: int | None = None, share: bool = False, **masking: Unpack[Masking]
) -> nn.Module:
    """Return a network with fresh scores and no weights yet; ``seed`` fixes the scores, ``share``: one threshold.

    Raises:
        UsageError: no such network; the message lists those that exist.
    """
    if name not in NETWORKS:
        raise UsageError(f"there is no network {name!r}; known: {', '.join(sorted(NETWORKS))}")
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model = NETWORKS[name](**masking)
    configure(model, read_noise=read_noise)
    if share:
        share_kept(model)
    return model
