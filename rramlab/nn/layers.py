"""The kinds of masked layers: linear and convolutional.

A convolution is a product a position of the kernel: its window is unfolded to a vector of codes.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional

from rramlab.nn.masked import MaskedLayer, Masking

# Codes of one call of ``multiply``: bounds the memory that an unfolded convolution takes.
CODES_AT_ONCE = 1 << 24


class MaskedLinear(MaskedLayer):
    """x [batch, inputs] -> [batch, outputs], no bias."""

    def forward(self, x: Tensor) -> Tensor:
        if self.multiply is None:
            return functional.linear(self.quantiser(x), self.weights().t())
        with torch.no_grad():
            codes = self.quantiser.codes(x)
            rows = max(1, CODES_AT_ONCE // codes.shape[1])
            return torch.cat([self.on_chip(part) for part in torch.split(codes, rows)])


class MaskedConv2d(MaskedLayer):
    """x [batch, in_channels, height, width] -> [batch, out_channels, height', width'], no bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        **masking: Unpack[Masking],
    ) -> None:
        self.kernel_size, self.stride, self.padding = _pair(kernel_size), _pair(stride), _pair(padding)
        super().__init__(in_channels * self.kernel_size[0] * self.kernel_size[1], out_channels, **masking)
        self.in_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.multiply is None:
            kernels = self.weights().t().reshape(-1, self.in_channels, *self.kernel_size)
            return functional.conv2d(self.quantiser(x), kernels, stride=self.stride, padding=self.padding)
        with torch.no_grad():
            codes = self.quantiser.codes(x)
            height, width = self.positions(x.shape[2], x.shape[3])
            images = max(1, CODES_AT_ONCE // (height * width * self.shape[0]))
            sums = torch.cat([self.on_chip(self.unfold(part)) for part in torch.split(codes, images)])
            return sums.view(x.shape[0], height, width, -1).permute(0, 3, 1, 2).contiguous()

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """Return the output's (height, width) for an input of that size; each position is one vector."""
        (high, wide), (down, right), (above, left) = self.kernel_size, self.stride, self.padding
        return (height + 2 * above - high) // down + 1, (width + 2 * left - wide) // right + 1

    def unfold(self, codes: Tensor) -> Tensor:
        """Return uint8[batch, channels, height, width] as uint8[batch · positions, inputs], row by row."""
        (high, wide), (down, right), (above, left) = self.kernel_size, self.stride, self.padding
        padded = functional.pad(codes, (left, left, above, above)) if above or left else codes
        # batch, channel, y, x, kernel y, kernel x
        windows = padded.unfold(2, high, down).unfold(3, wide, right)
        return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, self.shape[0])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
