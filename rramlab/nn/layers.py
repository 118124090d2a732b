"""Linear and convolutional layers whose weights are cell pairs of a die, and whose parameters are scores.

Shapes follow the die: ``scores``, ``conductance`` and masks are [inputs, outputs], inputs in torch unfold
order (channel, kernel row, kernel column). A layer computes on the host or, when ``multiply`` is set, sends
its codes to whatever multiplies there (the macro): both give the same result up to float32 rounding if that
product is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rramlab.base.errors import UsageError
from rramlab.nn.popup import kept_count, pop_up, select
from rramlab.nn.quantise import UnsignedQuantiser

Multiply = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

# Codes of one call of ``multiply``: bounds the memory that an unfolded convolution takes.
CODES_AT_ONCE = 1 << 24


class MaskedLayer(nn.Module):
    """What masked layers share: ``inputs`` × ``outputs`` pairs, a fraction ``kept`` of which carry weight.

    Attributes:
        bits: of the codes of an activation, 1 to 8.
        scores: parameter [inputs, outputs]; the ``kept`` of largest |score| stay.
        conductance: buffer [inputs, outputs], siemens, G⁺ − G⁻; set by ``load_weights``.
        scale: buffer, 1/siemens: makes the root mean square of kept weights √(2 / (inputs · kept)), so that a
            layer behind a ReLU passes on the mean square of its input (He et al. 2015, with the fan-in that
            is kept, as Ramanujan et al. 2020 do). Set by the first ``load_weights`` and then kept: reading a
            die again does not change what the network's numbers mean.
        keep_all: ignore the scores and use every weight: the unpruned random network.
        read_noise: relative σ of a fresh Gaussian factor a weight and batch while training (with one cell of
            each pair formed, the read noise of that cell).
        evaluation_noise: the same in evaluation on the host.
        multiply: None, or codes uint8[batch, inputs] -> siemens × code, float32[batch, outputs], evaluation
            only.
    """

    conductance: Tensor
    scale: Tensor

    def __init__(self, inputs: int, outputs: int, kept: float = 0.5, bits: int = 4) -> None:
        super().__init__()
        self.kept = kept
        self.bits = bits
        self.kept_weights = kept_count(inputs * outputs, kept)
        self.keep_all = False
        self.read_noise = 0.0
        self.evaluation_noise = 0.0
        self.multiply: Multiply | None = None
        self.quantiser = UnsignedQuantiser(bits)
        bound = inputs**-0.5  # assumed; 3 times wider scores learn more slowly
        self.scores = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.register_buffer("conductance", torch.zeros(inputs, outputs))
        self.register_buffer("scale", torch.zeros(()))

    @property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs)."""
        inputs, outputs = self.scores.shape
        return inputs, outputs

    def mask(self) -> Tensor:
        """Return the weights that stay, bool[inputs, outputs]."""
        if self.keep_all:
            return torch.ones_like(self.scores, dtype=torch.bool)
        return select(self.scores, self.kept_weights)

    def set_conductance(self, conductance_S: npt.NDArray[np.float32]) -> None:
        """Take G⁺ − G⁻ of the layer's pairs, float32[inputs, outputs] in siemens.

        Raises:
            UsageError: another shape, values that are not finite, or no weight at all.
        """
        found = np.asarray(conductance_S)
        if found.shape != self.shape:
            raise UsageError(f"found weights of shape {found.shape}, expected {self.shape} (inputs, outputs)")
        if not np.isfinite(found).all():
            count = int(np.count_nonzero(~np.isfinite(found)))
            raise UsageError(
                f"{count} of {found.size} weights are not finite; read every cell of the layer's pairs first"
            )
        rms_S = float(np.sqrt(np.mean(np.square(found, dtype=np.float64))))
        if rms_S == 0.0:
            raise UsageError("all weights are zero; form the cells of the layer's pairs first")
        with torch.no_grad():
            self.conductance.copy_(torch.from_numpy(found.astype(np.float32)))
            if not self.loaded:
                self.scale.fill_((2.0 / (self.shape[0] * self.kept)) ** 0.5 / rms_S)

    @property
    def loaded(self) -> bool:
        """Whether the layer has weights."""
        return float(self.scale) != 0.0

    def weights(self) -> Tensor:
        """Return the dimensionless weights of this pass, [inputs, outputs]: masked, scaled, noisy if asked.

        Raises:
            UsageError: no weights were loaded.
        """
        if not self.loaded:
            raise UsageError("the layer has no weights yet: load_weights(model, ...) first")
        weights = self.conductance * self.scale
        if not self.keep_all:
            weights = pop_up(self.scores, weights, self.kept_weights)
        noise = self.read_noise if self.training else self.evaluation_noise
        return weights * torch.randn_like(weights).mul_(noise).add_(1.0) if noise else weights

    def on_chip(self, codes: Tensor) -> Tensor:
        """Multiply ``codes`` uint8[batch, inputs] elsewhere; returns float32[batch, outputs] in activations.

        Raises:
            UsageError: the layer is training, which a chip multiply has no gradient for.
            ValueError: what came back has another shape.
        """
        if self.training:
            raise UsageError(
                "a layer on the chip only evaluates: call model.eval() first, or train with multiply = None"
            )
        if not self.loaded:
            raise UsageError("the layer has no weights yet: load_weights(model, ...) first")
        assert self.multiply is not None
        sums = np.asarray(self.multiply(codes.cpu().numpy()), np.float32)
        expected = (codes.shape[0], self.shape[1])
        if sums.shape != expected:
            raise ValueError(f"multiply returned shape {sums.shape}, expected {expected} (batch, outputs)")
        factor = self.quantiser.step * float(self.scale)
        return torch.from_numpy(sums * np.float32(factor)).to(codes.device)

    def __getstate__(self) -> dict[str, Any]:
        """A copied layer computes on the host: the instrument behind ``multiply`` is not copied."""
        return {**self.__dict__, "multiply": None}

    def extra_repr(self) -> str:
        inputs, outputs = self.shape
        return f"inputs={inputs}, outputs={outputs}, kept={self.kept}"


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
        kept: float = 0.5,
        bits: int = 4,
    ) -> None:
        self.kernel_size, self.stride, self.padding = _pair(kernel_size), _pair(stride), _pair(padding)
        super().__init__(in_channels * self.kernel_size[0] * self.kernel_size[1], out_channels, kept, bits)
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


def masked_layers(model: nn.Module) -> dict[str, MaskedLayer]:
    """Return the masked layers of ``model`` by their module names, in forward definition order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, MaskedLayer)}


def masks(model: nn.Module) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which weights stay in each masked layer: name -> bool[inputs, outputs]."""
    return {name: layer.mask().cpu().numpy() for name, layer in masked_layers(model).items()}


def load_weights(model: nn.Module, weights_S: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Give every masked layer the conductance differences of its pairs: name -> float32[inputs, outputs],
    siemens.

    Raises:
        UsageError: layers are missing or unknown, a shape differs, or values are not finite; no layer is
            named twice.
    """
    layers = masked_layers(model)
    if layers.keys() != weights_S.keys():
        raise UsageError(f"found weights for layers {sorted(weights_S)}, expected {sorted(layers)}")
    for name, layer in layers.items():
        try:
            layer.set_conductance(weights_S[name])
        except UsageError as error:
            raise UsageError(f"layer {name!r}: {error}") from None


def configure(model: nn.Module, **settings: Any) -> None:
    """Set attributes of every masked layer, such as ``configure(model, keep_all=True)`` or
    ``read_noise=0.02``.

    Raises:
        UsageError: a masked layer has no such setting.
    """
    known = ("keep_all", "read_noise", "evaluation_noise", "multiply")
    for name in settings:
        if name not in known:
            raise UsageError(f"masked layers have no setting {name!r}; known: {', '.join(known)}")
    for layer in masked_layers(model).values():
        for name, value in settings.items():
            setattr(layer, name, value)
