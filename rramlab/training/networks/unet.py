"""For vessels in images of the retina."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from rramlab.nn import MaskedConv2d, Masking


class Block(nn.Module):
    """Two convolutions of 3 × 3, each with its norm. What comes out is not rectified yet: the next layer does that.

    ``first``: its input is an image, not an output of such a block.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, first: bool, masking: Masking) -> None:
        super().__init__()
        behind: Masking = {**masking, "rectify": True}
        self.conv1 = MaskedConv2d(inputs, middle, 3, padding=1, **(masking if first else behind))
        self.norm1 = nn.BatchNorm2d(middle)
        self.conv2 = MaskedConv2d(middle, outputs, 3, padding=1, **behind)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return found


class UNet(nn.Module):
    """The vessel network of Li, Wang et al. (arXiv 2311.07164): ``base`` channels, four times halved and doubled, bilinear.

    x [batch, 1, height, width], both multiples of 16 -> [batch, 2, height, width]. With a base of 32: 4.31 million weights in
    19 convolutions.
    """

    def __init__(self, base: int = 32, **masking: Unpack[Masking]) -> None:
        super().__init__()
        wide = [base, 2 * base, 4 * base, 8 * base]
        self.down = nn.ModuleList(
            [
                Block(1 if level == 0 else wide[level - 1], wide[level], wide[level], level == 0, masking)
                for level in range(4)
            ]
        )
        self.bottom = Block(wide[3], wide[3], wide[3], False, masking)
        self.up = nn.ModuleList(
            [
                Block(2 * now, now, outputs, False, masking)
                for now, outputs in zip(wide[::-1], (*wide[2::-1], base), strict=True)
            ]
        )
        behind: Masking = {**masking, "rectify": True}
        self.head = MaskedConv2d(base, 2, 1, **behind)

    def forward(self, x: Tensor) -> Tensor:
        passed = []
        for block in self.down:
            passed.append(block(x))
            x = functional.max_pool2d(passed[-1], 2)
        x = self.bottom(x)
        for block in self.up:
            # Between pixels is interpolated what is rectified, as behind a ReLU.
            x = functional.interpolate(functional.relu(x), scale_factor=2, mode="bilinear", align_corners=True)
            x = block(torch.cat([passed.pop(), x], dim=1))
        found: Tensor = self.head(x)
        return found


def drive_unet(**masking: Unpack[Masking]) -> nn.Module:
    """Return the network of the paper, see :class:`UNet`."""
    return UNet(**masking)


def drive_unet_small(**masking: Unpack[Masking]) -> nn.Module:
    """Return one with an eighth of its channels, which fits on one die: for a quick look."""
    return UNet(4, **masking)
