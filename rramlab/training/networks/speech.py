"""For spoken digits."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional

from rramlab.nn import MaskedConv2d, MaskedLinear, MaskedRNN, Masking


class SpokenCRNN(nn.Module):
    """The spoken-digit network of Li, Wang et al. (arXiv 2311.07164) for features [batch, 1, 23, 20]: 68,480 weights.

    Two convolutions go over bands and frames: 23 × 20 → 11 × 19 → pool 5 × 9 → 2 × 8 → pool 1 × 4. What is left of the
    frames is the time of a recurrent layer, whose states are averaged.
    """

    def __init__(self, **masking: Unpack[Masking]) -> None:
        super().__init__()
        behind: Masking = {**masking, "rectify": True}
        self.conv1 = MaskedConv2d(1, 64, (3, 2), (2, 1), **masking)
        self.norm1 = nn.BatchNorm2d(64, affine=False)
        self.conv2 = MaskedConv2d(64, 32, (3, 2), (2, 1), **behind)
        self.norm2 = nn.BatchNorm2d(32, affine=False)
        self.rnn = MaskedRNN(32, 128, **behind)
        self.fc1 = MaskedLinear(128, 256, **masking)
        self.fc2 = MaskedLinear(256, 10, **behind)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(functional.max_pool2d(self.conv1(x), 2))
        x = self.norm2(functional.max_pool2d(self.conv2(x), 2))
        states, _ = self.rnn(x.squeeze(2).permute(2, 0, 1))  # [time, batch, channels]
        found: Tensor = self.fc2(self.fc1(states.mean(0)))
        return found


def spoken_crnn(**masking: Unpack[Masking]) -> nn.Module:
    """Return the network, see :class:`SpokenCRNN`."""
    return SpokenCRNN(**masking)
