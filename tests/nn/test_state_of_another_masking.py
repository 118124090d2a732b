"""A state says of what masking it is: under another one all keys match, and something else would be computed."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import (
    MaskedConv2d,
    MaskedConvTranspose2d,
    MaskedLayer,
    MaskedLinear,
    MaskedRNN,
    Undescribed,
    configure,
    learn_weights,
    load_weights,
    masked_layers,
)

from .test_layers import one_of_pair

PHASES = {"granularity": "phase", "phases": 2}


def network(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(0, 0), layer)
    load_weights(model, {name: one_of_pair(part.shape, 3) for name, part in masked_layers(model).items()})
    return model


def linear(**masking: Any) -> nn.Module:
    return network(MaskedLinear(18, 6, **masking))


def conv(*window: Any) -> nn.Module:
    return network(MaskedConv2d(2, 6, 3, *window))


def learning_weights(exact: bool = False) -> nn.Module:
    model = linear()
    learn_weights(model, exact)
    return model


def unpruned() -> nn.Module:
    model = linear()
    configure(model, keep_all=True)
    return model


PAIRS = {
    "line into edge": (lambda: linear(granularity="line"), linear, "granularity 'line', here 'edge'"),
    "edge into line": (linear, lambda: linear(granularity="line"), "granularity 'edge', here 'line'"),
    "kept fraction": (lambda: linear(kept=0.3), linear, "kept 0.3, here 0.5"),
    "bits": (lambda: linear(bits=6), linear, "bits 6, here 4"),
    "number of phases": (lambda: linear(**PHASES), lambda: linear(granularity="phase", phases=3), "phases 2, here 3"),
    "assignment": (lambda: linear(**PHASES), lambda: linear(**PHASES, assignment="adc"), "assignment 'contiguous'"),
    "rule of hysteresis": (lambda: linear(hysteresis_rule="consecutive"), linear, "hysteresis_rule 'consecutive'"),
    "rectified": (lambda: linear(rectify=True), linear, "rectify True, here False"),
    "kind of layer": (conv, linear, "kind 'convolution', here 'linear'"),
    "shape": (lambda: network(MaskedLinear(18, 5)), linear, "outputs 5, here 6"),
    "transposed": (
        lambda: network(MaskedConvTranspose2d(2, 6, 3)),
        lambda: network(MaskedConv2d(2, 54, 1)),
        "kind 'transposed convolution'",
    ),
    "stride": (lambda: conv(2), conv, r"stride \[2, 2\], here \[1, 1\]"),
    "padding": (lambda: conv(1, 1), conv, r"padding \[1, 1\], here \[0, 0\]"),
    "window": (
        lambda: network(MaskedConv2d(3, 6, (2, 3))),
        lambda: network(MaskedConv2d(2, 6, (3, 3))),
        r"kernel \[2, 3\], here \[3, 3\]",
    ),
    "weights into topology": (learning_weights, linear, "learns 'weights', here 'topology'"),
    "topology into weights": (linear, learning_weights, "learns 'topology', here 'weights'"),
    "dense software": (lambda: learning_weights(exact=True), learning_weights, "exact True, here False"),
    "unpruned": (unpruned, linear, "keep_all True, here False"),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_state_of_another_masking_is_refused_in_words(pair: str, strict: bool) -> None:
    one, other, said = PAIRS[pair]
    here = other()
    before = {name: value.clone() for name, value in here.state_dict().items() if torch.is_tensor(value)}
    with pytest.raises(UsageError, match=rf"layer '1': the state was learned with .*{said}"):
        here.load_state_dict(one().state_dict(), strict=strict)
    assert all(torch.equal(value, here.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("pair", PAIRS)
def test_a_state_is_taken_by_what_is_made_alike(pair: str) -> None:
    for make in PAIRS[pair][:2]:
        model = make()
        stream = io.BytesIO()
        torch.save(model.state_dict(), stream)
        stream.seek(0)
        twin = make()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        twin.load_state_dict(torch.load(stream, weights_only=True))  # plain values: it can run no code
        layers = zip(masked_layers(model).values(), masked_layers(twin).values(), strict=True)
        assert all(torch.equal(one.mask(), two.mask()) for one, two in layers)


def without_description(model: nn.Module) -> dict[str, Any]:
    """A state as version 0.1.0 wrote it."""
    state = model.state_dict()
    return {
        n: {k: v for k, v in x.items() if k != "masking"} if n.endswith("_extra_state") else x for n, x in state.items()
    }


def test_a_state_without_a_description_is_taken_with_a_warning() -> None:
    model, twin = linear(), linear()
    with pytest.warns(Undescribed, match="does not say what masking"):
        twin.load_state_dict(without_description(model))
    assert torch.equal(masked_layers(twin)["1"].mask(), masked_layers(model)["1"].mask())
    # What is left out is left as it was, and says nothing: so what was learned is taken to another masking on purpose.
    scores = {name: value for name, value in linear(kept=0.3).state_dict().items() if name.endswith("scores")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin.load_state_dict(scores, strict=False)
    assert int(masked_layers(twin)["1"].mask().sum()) == 54
    with pytest.raises(RuntimeError, match="Missing key"):
        twin.load_state_dict(scores)


def test_settings_of_the_moment_are_no_part_of_a_masking() -> None:
    model, twin = linear(), linear()
    configure(model, read_noise=0.02, evaluation_noise=0.01, hysteresis=0.1)
    twin.load_state_dict(model.state_dict())
    layer: MaskedLayer = masked_layers(twin)["1"]
    assert (layer.hysteresis, layer.read_noise) == (0.1, 0.0)


def test_the_layers_of_a_recurrent_one_are_named() -> None:
    one, other = network(MaskedRNN(6, 5, bits=3)), network(MaskedRNN(6, 5))
    with pytest.raises(UsageError, match=r"layer '1\.input': the state was learned with bits 3, here 4"):
        other.load_state_dict(one.state_dict())
