"""The band about the threshold, the count of what switches, and one threshold over all layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import MaskedLinear, configure, masked_layers, masks, share_kept

from .test_layers import one_of_pair


def four(rule: Any = "dead-band", width: float = 0.1) -> MaskedLinear:
    """Four weights, two of which stay; the threshold is the second largest score."""
    layer = MaskedLinear(4, 1, hysteresis_rule=rule)
    layer.set_conductance(one_of_pair((4, 1)))
    layer.hysteresis = width
    return layer.train()


def step(layer: MaskedLinear, *scores: float) -> list[bool]:
    """Let a training step see these scores, and return its mask."""
    with torch.no_grad():
        layer.scores.copy_(torch.tensor(scores)[:, None])
    layer(torch.ones(1, 4))
    assert torch.equal(layer.mask(), layer.last_mask) or layer.hysteresis_rule == "consecutive"
    return layer.last_mask[:, 0].tolist()


def test_within_the_dead_band_a_weight_stays_what_it_was() -> None:
    layer = four()
    assert step(layer, 1.0, 0.8, 0.5, 0.1) == [True, True, False, False]
    # The third passes the second, but neither is 10 % from the threshold, for as long as it takes.
    for _ in range(3):
        assert step(layer, 1.0, 0.78, 0.8, 0.1) == [True, True, False, False]
    assert step(layer, 1.0, 0.7, 0.8, 0.1) == [True, False, False, False]  # more than 10 % below it: off
    assert step(layer, 0.6, 0.5, 0.8, 0.1) == [True, False, True, False]  # more than 10 % above it: on
    assert (layer.selections, layer.set_count, layer.reset_count) == (6, 1, 1)


def test_comparing_consecutive_steps_delays_a_flip_by_one() -> None:
    layer = four("consecutive")
    assert step(layer, 1.0, 0.8, 0.5, 0.1) == [True, True, False, False]
    assert step(layer, 1.0, 0.78, 0.8, 0.1) == [True, True, False, False]
    assert step(layer, 1.0, 0.78, 0.8, 0.1) == [True, False, True, False]
    assert (layer.set_count, layer.reset_count) == (1, 1)


@pytest.mark.parametrize("masking", [{}, {"granularity": "phase", "phases": 3}, {"granularity": "line"}])
def test_flips_are_counted_in_weights(masking: Any) -> None:
    layer = MaskedLinear(20, 9, **masking)
    layer.set_conductance(one_of_pair((20, 9)))
    switched_on, switched_off, before = 0, 0, None
    for seed in range(4):
        torch.manual_seed(seed)
        with torch.no_grad():
            layer.scores.normal_()
        layer(torch.rand(5, 20))
        now = layer.mask().numpy()
        if before is not None:
            switched_on += np.count_nonzero(now & ~before)
            switched_off += np.count_nonzero(before & ~now)
        before = now
    assert (layer.set_count, layer.reset_count) == (switched_on, switched_off)
    assert switched_on > 0
    assert layer.selections == 4


def test_looking_changes_nothing() -> None:
    layer = four()
    step(layer, 1.0, 0.8, 0.5, 0.1)
    with torch.no_grad():
        layer.scores.copy_(torch.tensor([1.0, 0.2, 0.8, 0.1])[:, None])
        layer(torch.ones(1, 4))  # training mode, but no step
    layer.eval()(torch.ones(1, 4))
    assert layer.mask()[:, 0].tolist() == [True, False, False, False]  # what the next step would have
    assert (layer.selections, layer.reset_count) == (1, 0)


@pytest.mark.parametrize("rule", ["dead-band", "consecutive"])
def test_the_state_dict_holds_the_history(rule: Any) -> None:
    layer, twin = four(rule), four(rule, 0.0)
    step(twin, 0.1, 0.2, 0.3, 0.4)
    step(layer, 1.0, 0.8, 0.5, 0.1)
    step(layer, 1.0, 0.78, 0.8, 0.1)
    twin.load_state_dict(layer.state_dict())
    assert twin.hysteresis == layer.hysteresis
    for scores in ((1.0, 0.79, 0.8, 0.1), (1.0, 0.8, 0.79, 0.1)):
        assert step(twin, *scores) == step(layer, *scores)
    twin_state = twin.state_dict()
    assert all(
        torch.equal(value, twin_state[name]) for name, value in layer.state_dict().items() if torch.is_tensor(value)
    )


@pytest.mark.parametrize("width", [-0.1, 1.0, float("nan")])
def test_impossible_widths_are_refused(width: float) -> None:
    with pytest.raises(UsageError, match="fraction of the threshold"):
        configure(four(), hysteresis=width)


def network(**masking: Any) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(MaskedLinear(50, 40, **masking), nn.ReLU(), MaskedLinear(40, 10, **masking))
    for layer in masked_layers(model).values():
        layer.set_conductance(one_of_pair(layer.shape))
    return model


@pytest.mark.parametrize("masking", [{}, {"granularity": "phase", "phases": 4}, {"kept": 0.2}])
def test_one_threshold_divides_the_kept_weights_among_layers(masking: Any) -> None:
    model = network(**masking)
    share_kept(model)
    with torch.no_grad():
        model[0].scores.mul_(1.5)
    model(torch.rand(7, 50))
    found = masks(model)
    total = round(2400 * masking.get("kept", 0.5))
    assert abs(sum(int(mask.sum()) for mask in found.values()) - total) <= 40  # a unit of the larger layer, at most
    shares = {name: mask.mean() for name, mask in found.items()}
    assert shares["0"] > 1.1 * shares["2"]
    twin = network(**masking)
    twin.load_state_dict(model.state_dict())
    assert all(np.array_equal(mask, found[name]) for name, mask in masks(twin).items())


def test_exactly_as_many_weights_stay_by_one_threshold() -> None:
    model = network()
    share_kept(model)
    model(torch.rand(7, 50))
    assert sum(int(mask.sum()) for mask in masks(model).values()) == 1200


def test_a_layer_is_never_left_without_a_weight() -> None:
    model = network()
    share_kept(model)
    with torch.no_grad():
        model[2].scores.mul_(1e-6)
    model(torch.rand(7, 50))
    assert int(masks(model)["2"].sum()) == 1


def test_whole_lines_have_no_common_threshold() -> None:
    with pytest.raises(UsageError, match="layer '0' keeps whole lines"):
        share_kept(network(granularity="line"))
