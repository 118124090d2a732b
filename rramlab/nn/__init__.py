"""Torch modules that learn which of a die's random weights stay, and run with the die in the loop."""

from rramlab.nn.layers import (
    MaskedConv2d,
    MaskedLayer,
    MaskedLinear,
    Multiply,
    configure,
    load_weights,
    masked_layers,
    masks,
)
from rramlab.nn.popup import kept_count, pop_up, top_fraction
from rramlab.nn.quantise import UnsignedQuantiser

__all__ = [
    "MaskedConv2d",
    "MaskedLayer",
    "MaskedLinear",
    "Multiply",
    "UnsignedQuantiser",
    "configure",
    "kept_count",
    "load_weights",
    "masked_layers",
    "masks",
    "pop_up",
    "top_fraction",
]
