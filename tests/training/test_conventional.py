"""The conventional way: the same layers learn weights, which become conductances that a die can hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import (
    MaskedLinear,
    learn_weights,
    load_weights,
    masked_layers,
    masks,
    run_as_written,
    wanted_S,
)
from rramlab.training import Dataset, accuracy, build, fit, load_recipe

LOW, HIGH = 3e-6, 15e-6


def test_weights_are_learned_and_nothing_is_pruned(digits: Dataset) -> None:
    recipe = load_recipe("digits").changed({"epochs": 2, "learning_rate": 0.05})
    for exact in (False, True):
        model = recipe.model()
        learn_weights(model, exact)
        assert fit(model, recipe, digits).accuracy > 0.9  # without a weight of any die
        assert all(mask.all() for mask in masks(model).values())
        assert all(layer.selections == 0 for layer in masked_layers(model).values())


def test_what_is_written_exactly_is_the_network_that_was_learned(digits: Dataset) -> None:
    recipe = load_recipe("digits").changed({"epochs": 2, "learning_rate": 0.05, "read_noise": 0.0})
    model = recipe.model()
    learn_weights(model)
    learned = fit(model, recipe, digits).accuracy
    wanted = wanted_S(model, LOW, HIGH)
    for target in wanted.values():
        size = np.abs(target)
        assert size.max() == pytest.approx(HIGH)
        assert np.all((size == 0) | (size >= np.float32(LOW)))
    run_as_written(model)
    load_weights(model, wanted)
    assert accuracy(model, digits.test_x, digits.test_y) == pytest.approx(learned, abs=0.06)


def test_exact_activations_are_those_of_plain_torch() -> None:
    layer = MaskedLinear(5, 3, rectify=True)
    learn_weights(nn.Sequential(layer), exact=True)
    x = torch.randn(7, 5)
    torch.testing.assert_close(layer(x), torch.relu(x) @ layer.scores)


def test_one_layer_can_learn_alone() -> None:
    model = build("digits-mlp")
    learn_weights(model, only="fc3")
    assert {name: layer.learns for name, layer in masked_layers(model).items()} == {
        "fc1": "topology",
        "fc2": "topology",
        "fc3": "weights",
    }
    with pytest.raises(UsageError, match="'fc1' learned a topology"):
        wanted_S(model, LOW, HIGH)
