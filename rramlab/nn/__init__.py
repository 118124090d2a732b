"""Torch modules that learn which of a die's random weights stay, and run with the die in the loop."""

from rramlab.nn.conventional import learn_weights, run_as_written, wanted_S
from rramlab.nn.convert import convert
from rramlab.nn.layers import MaskedConv2d, MaskedConvTranspose2d, MaskedLinear, MaskedRNN
from rramlab.nn.masked import HysteresisRule, MaskedLayer, Masking, Multiply, Undescribed
from rramlab.nn.models import configure, fix_masks, load_weights, masked_layers, masks, regroup, share_kept, vectors_of
from rramlab.nn.popup import NoNumbers, kept_count, pop_up, top_fraction
from rramlab.nn.quantise import RefusedInput, UnsignedQuantiser
from rramlab.nn.units import Assignment

__all__ = [
    "Assignment",
    "HysteresisRule",
    "MaskedConv2d",
    "MaskedConvTranspose2d",
    "MaskedLayer",
    "MaskedLinear",
    "MaskedRNN",
    "Masking",
    "Multiply",
    "NoNumbers",
    "RefusedInput",
    "Undescribed",
    "UnsignedQuantiser",
    "configure",
    "convert",
    "fix_masks",
    "kept_count",
    "learn_weights",
    "load_weights",
    "masked_layers",
    "masks",
    "pop_up",
    "regroup",
    "run_as_written",
    "share_kept",
    "top_fraction",
    "vectors_of",
    "wanted_S",
]
