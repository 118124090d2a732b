"""Turns a torch model into one whose products a macro computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn.layers import MaskedConv2d, MaskedConvTranspose2d, MaskedLinear, MaskedRNN
from rramlab.nn.masked import MaskedLayer, Masking
from rramlab.nn.models import load_weights

# Layers whose parameters act on each value or channel alone: they stay digital and go on learning.
DIGITAL = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU, MaskedLayer)


def convert(
    model: nn.Module,
    weights_S: Mapping[str, npt.NDArray[np.float32]] | None = None,
    digital: Collection[str] = (),
    **masking: Unpack[Masking],
) -> nn.Module:
    """Return a copy of ``model`` in which every layer that multiplies is a masked one of the same name.

    ``Linear``, ``Conv2d``, ``ConvTranspose2d`` and ``RNN`` of ReLU (its two matrices are ``NAME.input`` and ``NAME.hidden``)
    are turned; norms and activations stay; so do the layers that ``digital`` names. A bias stays a trained parameter that
    is added digitally, and starts at zero: what it suited is gone with the weights. Every input of a masked layer must
    be 0 or above. ``weights_S``: see ``load_weights``; ``masking``: see ``MaskedLayer``.

    Raises:
        UsageError: a layer with no macro form, or with values that are no numbers, or nothing to convert. The message names
            it and says what to do.
    """
    names = {name for name, _ in model.named_modules()}
    if not names.issuperset(digital):
        raise UsageError(f"the model has no layers {sorted(set(digital) - names)}; it has {sorted(names - {''})}")
    turned: dict[int, nn.Module] = {}
    for name, module in model.named_modules():
        if not any(name == kept or name.startswith(f"{kept}.") for kept in digital):
            made = _turned(name, module, masking)
            if made is not None:
                turned[id(module)] = made.train(module.training)
    if not turned:
        raise UsageError("the model has no layer to convert: no Linear, Conv2d, ConvTranspose2d or RNN")
    _require_own_weights(model, turned)
    _require_numbers(model, turned)
    # As copies of the old layers: one that stands twice in the model stands twice in the copy.
    converted: nn.Module = copy.deepcopy(model, dict(turned))
    if weights_S is not None:
        load_weights(converted, weights_S)
    return converted


def _turned(name: str, module: nn.Module, masking: Masking) -> nn.Module | None:
    """Return the masked form of a layer, None if it stays as it is."""
    parameters = [parameter for parameter in module.parameters(recurse=False) if parameter is not None]
    if not parameters or isinstance(module, DIGITAL):
        return None
    form = FORMS.get(type(module))
    try:
        if form is None:
            raise _NoFormError(
                f"it is none of {', '.join(kind.__name__ for kind in FORMS)}; build it of those, or leave it digital: "
                f"convert(model, digital=[{name!r}]), or the key digital of a recipe"
            )
        made: nn.Module = form(module, masking).to(parameters[0].device)
    except _NoFormError as error:
        raise UsageError(f"layer {name!r}, a {type(module).__name__}, has no macro form: {error}") from None
    return made


class _NoFormError(Exception):
    """Why a layer cannot be converted, and what to do."""


def _linear(module: Any, masking: Masking) -> nn.Module:
    return _with_bias(MaskedLinear(module.in_features, module.out_features, **masking), module.bias)


def _conv2d(module: Any, masking: Masking) -> nn.Module:
    _require_plain(module)
    padding = (0, 0) if module.padding == "valid" else module.padding
    if padding == "same":
        if any(size % 2 == 0 for size in module.kernel_size):
            raise _NoFormError(
                f"padding 'same' of the even kernel {module.kernel_size}; pad before it, or give numbers"
            )
        padding = tuple(size // 2 for size in module.kernel_size)
    made = MaskedConv2d(module.in_channels, module.out_channels, module.kernel_size, module.stride, padding, **masking)
    return _with_bias(made, module.bias)


def _conv_transpose2d(module: Any, masking: Masking) -> nn.Module:
    _require_plain(module)
    made = MaskedConvTranspose2d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        module.stride,
        module.padding,
        module.output_padding,
        **masking,
    )
    return _with_bias(made, module.bias)


def _rnn(module: Any, masking: Masking) -> nn.Module:
    if module.nonlinearity != "relu":
        raise _NoFormError(f"its nonlinearity is {module.nonlinearity}, codes are unsigned; take nonlinearity='relu'")
    if module.num_layers != 1 or module.bidirectional:
        raise _NoFormError("it has several layers or directions; take one RNN for each")
    made = MaskedRNN(module.input_size, module.hidden_size, module.batch_first, **masking)
    _with_bias(made.input, module.bias_ih_l0 if module.bias else None)
    return made


FORMS: dict[type[nn.Module], Callable[[Any, Masking], nn.Module]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.ConvTranspose2d: _conv_transpose2d,
    nn.RNN: _rnn,
}


def _require_plain(module: Any) -> None:
    if module.groups != 1:
        raise _NoFormError(f"it has {module.groups} groups, a column sums all of its rows; take groups=1")
    if tuple(module.dilation) != (1, 1):
        raise _NoFormError(f"its dilation is {tuple(module.dilation)}; take dilation=1")
    if module.padding_mode != "zeros":
        raise _NoFormError(f"its padding is {module.padding_mode!r}; pad before it, or take padding_mode='zeros'")


def _require_own_weights(model: nn.Module, turned: Mapping[int, nn.Module]) -> None:
    """Refuse two layers that share one weight: on a die each has its own."""
    owner: dict[int, str] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False) if id(module) in turned else ():
            if id(parameter) in owner:
                raise UsageError(
                    f"layers {owner[id(parameter)]!r} and {name!r} share a weight, on a die each has its own; give each its "
                    "own, or use one layer twice"
                )
            owner[id(parameter)] = name


def _require_numbers(model: nn.Module, turned: Mapping[int, nn.Module]) -> None:
    """Refuse what stays digital with values that are no numbers: whatever went through it would be none."""
    for name, module in model.named_modules():
        if id(module) in turned or isinstance(module, MaskedLayer):
            continue
        statistics = module.named_buffers(recurse=False) if isinstance(module, nn.modules.batchnorm._NormBase) else ()
        for what, value in (*module.named_parameters(recurse=False), *statistics):
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise UsageError(
                    f"layer {name!r}, a {type(module).__name__}, stays digital, but its {what} holds values that are no "
                    "numbers; make it anew"
                )


def _with_bias(layer: MaskedLayer, bias: torch.Tensor | None) -> MaskedLayer:
    if bias is not None:
        layer.bias = nn.Parameter(torch.zeros_like(bias))
    return layer
