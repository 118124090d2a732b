"""The kinds of masked layers: linear, convolutional either way, and recurrent.

Each computes on the host or sends codes to its ``multiply``. A convolution is a product a position of the kernel, whose
window is unfolded to a vector of codes; a transposed one is a product an input pixel, whose results are laid over one
another. A bias is added digitally.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from rramlab.base.errors import UsageError
from rramlab.base.numbers import whole
from rramlab.nn.masked import MaskedLayer, Masking, Now, Taken
from rramlab.nn.measured import joined, on_chip

# Codes of one call of ``multiply``: bounds the memory that an unfolded convolution takes.
CODES_AT_ONCE = 1 << 24


class MaskedLinear(MaskedLayer):
    """x [..., inputs] -> [..., outputs]."""

    kind = "linear"

    def forward(self, x: Tensor) -> Tensor:
        taken = self.taken(x)
        return self._multiplied(taken, self.now())

    def product(self) -> Callable[[Tensor], Tensor]:
        """Return the layer as it is now, for several products with one mask; read noise is fresh in each."""
        now = self.now()
        return lambda x: self._multiplied(self.taken(x), now)

    def _multiplied(self, taken: Taken, now: Now) -> Tensor:
        (x, codes), (weights, mask) = taken, now
        # Not functional.linear: it takes the weights transposed, and every pass over their gradient would be a slow one.
        host = None if x is None or weights is None else x @ self.read(weights)
        chip = None if codes is None or mask is None else self._on_chip(codes, mask)
        return _biased(joined(host, chip), self.bias)

    def _on_chip(self, codes: Tensor, mask: Tensor) -> Tensor:
        vectors = codes.flatten(end_dim=-2)
        rows = max(1, CODES_AT_ONCE // vectors.shape[1])
        sums = on_chip(self, torch.split(vectors, rows), mask, codes.shape[:-1])
        return sums.view(*codes.shape[:-1], -1)


class MaskedConv2d(MaskedLayer):
    """x [batch, in_channels, height, width] -> [batch, out_channels, height', width']."""

    kind = "convolution"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        **masking: Unpack[Masking],
    ) -> None:
        self.kernel_size, self.stride = _pair(kernel_size, "the kernel's size"), _pair(stride, "the stride")
        self.padding = _pair(padding, "the padding", 0)
        in_channels = whole(in_channels, "the number of input channels", 1, 1 << 24)
        super().__init__(in_channels * self.kernel_size[0] * self.kernel_size[1], out_channels, **masking)
        self.in_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        return _of_windows(self, x, self._on_host, self._on_chip)

    def _on_host(self, x: Tensor, weights: Tensor) -> Tensor:
        kernels = weights.t().reshape(-1, self.in_channels, *self.kernel_size)
        # Torch then computes in this layout, also what comes behind: a quarter less time for small images on a CPU.
        kernels = kernels.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(x, kernels, None, self.stride, self.padding)

    def _on_chip(self, codes: Tensor, mask: Tensor) -> Tensor:
        height, width = self.positions(codes.shape[2], codes.shape[3])
        images = max(1, CODES_AT_ONCE // (height * width * self.shape[0]))
        parts = (self.unfold(part) for part in torch.split(codes, images))
        sums = on_chip(self, parts, mask, (len(codes), height, width))
        return sums.view(len(codes), height, width, -1).permute(0, 3, 1, 2)

    def window(self) -> dict[str, Any]:
        return {"kernel": list(self.kernel_size), "stride": list(self.stride), "padding": list(self.padding)}

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


class MaskedConvTranspose2d(MaskedLayer):
    """x [batch, in_channels, height, width] -> [batch, out_channels, height', width'], larger by the stride.

    Its inputs are the channels of a pixel; its outputs (channel, kernel row, kernel column) are what the pixel adds to
    its surroundings. So no row is spent on zeros between the pixels.
    """

    kind = "transposed convolution"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        **masking: Unpack[Masking],
    ) -> None:
        self.kernel_size, self.stride = _pair(kernel_size, "the kernel's size"), _pair(stride, "the stride")
        self.padding, self.output_padding = (
            _pair(padding, "the padding", 0),
            _pair(output_padding, "the output padding", 0),
        )
        out_channels = whole(out_channels, "the number of output channels", 1, 1 << 24)
        window = self.kernel_size[0] * self.kernel_size[1]
        super().__init__(in_channels, out_channels * window, **masking)
        self.fan_in = in_channels * window / (self.stride[0] * self.stride[1])

    def forward(self, x: Tensor) -> Tensor:
        return _of_windows(self, x, self._on_host, self._on_chip)

    def _on_host(self, x: Tensor, weights: Tensor) -> Tensor:
        kernels = weights.reshape(self.shape[0], -1, *self.kernel_size)
        return functional.conv_transpose2d(x, kernels, None, self.stride, self.padding, self.output_padding)

    def _on_chip(self, codes: Tensor, mask: Tensor) -> Tensor:
        pixels = codes.permute(0, 2, 3, 1).reshape(-1, self.shape[0])
        rows = max(1, CODES_AT_ONCE // self.shape[0])
        sums = on_chip(self, torch.split(pixels, rows), mask, (len(codes), *codes.shape[2:]))
        return functional.fold(
            sums.view(len(codes), -1, self.shape[1]).transpose(1, 2),
            self.positions(codes.shape[2], codes.shape[3]),
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
        )

    def window(self) -> dict[str, Any]:
        sizes = {"kernel": self.kernel_size, "stride": self.stride, "padding": self.padding}
        return {name: list(size) for name, size in {**sizes, "output_padding": self.output_padding}.items()}

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """Return the output's (height, width) for an input of that size."""
        down, right = (
            (size - 1) * stride - 2 * padding + kernel + extra
            for size, stride, padding, kernel, extra in zip(
                (height, width), self.stride, self.padding, self.kernel_size, self.output_padding, strict=True
            )
        )
        return down, right

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaskedRNN(nn.Module):
    """The recurrent layer h(t) = ReLU(x(t) · W + h(t − 1) · U), as ``torch.nn.RNN`` of one layer gives it.

    x [time, batch, inputs], or [batch, time, inputs] with ``batch_first`` -> (h of every step, likewise, and the last h,
    [1, batch, hidden]). Both W, ``input``, and U, ``hidden``, are masked layers on the die. Their masks are taken once a
    sequence, not once a step; read noise is fresh in every product. All inputs are multiplied at once, states in turn.
    """

    def __init__(self, inputs: int, hidden: int, batch_first: bool = False, **masking: Unpack[Masking]) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.input = MaskedLinear(inputs, hidden, **masking)
        self.hidden = MaskedLinear(hidden, hidden, **masking)
        # A state that passes on its whole mean square and gets an input besides would grow without end: half of it.
        self.hidden.fan_in = 2 * hidden
        self.input.quantiser.sample_axis = 1  # its samples come one time after another

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``state``: h before the first step, [1, batch, hidden], none below 0; None is zero."""
        if x.dim() != 3:
            raise UsageError(f"found a sequence of shape {tuple(x.shape)}, expected three axes: time, batch, inputs")
        driven = self.input(x.transpose(0, 1) if self.batch_first else x)
        recur = self.hidden.product()
        now = None if state is None else state[0]
        states = []
        for drive in driven:
            now = functional.relu(drive if now is None else drive + recur(now))
            states.append(now)
        every = torch.stack(states)
        return every.transpose(0, 1) if self.batch_first else every, every[-1:]


def _pair(value: int | tuple[int, int], what: str, least: int = 1) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    return whole(first, what, least, 1 << 16), whole(second, what, least, 1 << 16)


def _of_windows(
    layer: MaskedLayer,
    x: Tensor,
    on_host: Callable[[Tensor, Tensor], Tensor],
    on_chip: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return a convolution, of either way, of the activations ``x`` wherever the layer computes now."""
    taken, codes = layer.taken(x)
    weights, mask = layer.now()
    host = None if taken is None or weights is None else on_host(taken, layer.read(weights))
    found = joined(host, None if codes is None or mask is None else on_chip(codes, mask))
    return found if layer.bias is None else found + layer.bias[:, None, None]


def _biased(sums: Tensor, bias: Tensor | None) -> Tensor:
    """Add ``bias`` along the last axis."""
    return sums if bias is None else sums + bias
