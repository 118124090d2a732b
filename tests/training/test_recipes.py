"""Recipes: the built-in ones are whole, and a wrong one is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from workbench import SmallBench, ledger_of

from rramlab.base.errors import DataError, UsageError
from rramlab.nn import masked_layers
from rramlab.plan.steps import ExpectStep, PulseStep
from rramlab.protocols.files import parse_assignments
from rramlab.training import Recipe, build, builtin_recipes, load_dataset, load_recipe
from rramlab.training.recipes import with_defaults


def test_the_built_in_recipes_are_these() -> None:
    assert builtin_recipes() == ("digits", "drive", "fashion-mnist", "fashion-mnist-large", "spoken-digits")


@pytest.mark.parametrize(
    ("name", "weights"), [("digits", 50_432), ("fashion-mnist", 62_272), ("fashion-mnist-large", 103_968)]
)
def test_a_recipe_builds_its_network(name: str, weights: int) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    layers = masked_layers(recipe.model())
    assert sum(inputs * outputs for inputs, outputs in (layer.shape for layer in layers.values())) == weights
    for layer in layers.values():
        assert (layer.kept, layer.quantiser.bits, layer.read_noise) == (
            recipe.kept,
            recipe.activation_bits,
            recipe.read_noise,
        )


def test_the_seed_makes_the_scores_and_leaves_the_random_state() -> None:
    recipe = load_recipe("digits")
    before = torch.get_rng_state()
    first, second = recipe.model(), recipe.model()
    other = recipe.model_copy(update={"seed": 1}).model()
    assert torch.equal(torch.get_rng_state(), before)
    name = "fc1.scores"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_a_recipe_of_ones_own_is_a_path(tmp_path: Path) -> None:
    text = "name: mine\ndescription: d\ndataset: digits\nnetwork: digits-mlp\n"
    text += "epochs: 2\nbatch: 10\nlearning_rate: 0.1\n"
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load_recipe(path).epochs == 2
    path.write_text(text + "epoch: 3\n")
    with pytest.raises(UsageError, match=r"mine\.yaml:8:1: unknown key 'epoch'"):
        load_recipe(str(path))
    path.write_text(text.replace("digits-mlp", "digits-mpl"))
    with pytest.raises(UsageError, match=r"mine\.yaml:4:1: .*expected one of digits-mlp, .*fashion-cnn"):
        load_recipe(path)
    with pytest.raises(DataError, match=r"none\.yaml"):
        load_recipe(tmp_path / "none.yaml")


def test_unknown_names_list_what_exists() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'digit'; built in: digits, .*fashion-mnist"):
        load_recipe("digit")
    with pytest.raises(UsageError, match=r"known: digits-mlp, .*fashion-cnn"):
        build("resnet")


def test_a_recipe_cannot_be_changed() -> None:
    recipe = load_recipe("digits")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.epochs = 1  # type: ignore[misc]
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_phases_belong_to_granularity_phase() -> None:
    recipe = load_recipe("digits")
    phased = recipe.changed({"granularity": "phase", "phases": 16})
    assert {(layer.granularity, layer.phases) for layer in masked_layers(phased.model()).values()} == {
        ("phase", 16),
        ("phase", 10),
    }
    assert phased.changed({"granularity": "edge"}) == recipe
    for changes in ({"granularity": "phase"}, {"phases": 4}, {"granularity": "line", "phases": 4}):
        with pytest.raises(UsageError, match="recipe 'digits': found granularity"):
            recipe.changed(changes)
    with pytest.raises(UsageError, match="epochs"):
        recipe.changed({"epochs": 0})


def test_hysteresis_goes_from_its_start_to_its_end() -> None:
    recipe = load_recipe("digits").changed({"hysteresis": 0.01, "hysteresis_end": 0.007, "epochs": 4})
    assert [recipe.hysteresis_in(epoch) for epoch in (1, 2, 3, 4)] == pytest.approx([0.01, 0.00925, 0.00775, 0.007])
    constant = recipe.changed({"hysteresis_end": None})
    assert constant.hysteresis_in(1) == constant.hysteresis_in(4) == 0.01
    assert recipe.changed({"epochs": 1}).hysteresis_in(1) == 0.01


@pytest.mark.parametrize(
    ("changes", "cells", "voltage", "expected"),
    [
        ({"forming": "all"}, "all", 3.75, 1.0),
        ({"forming": "one-of-pair"}, "one-of-pair(seed=7)", 3.75, 1.0),
        ({"forming": "partial"}, "all", 3.45, 0.55),
        ({"forming": "partial", "formed_fraction": 0.275}, "all", 3.35, 0.275),
        ({"forming": "partial", "formed_fraction": 0.94}, "all", 3.6, 0.94),
    ],
)
def test_the_protocol_electroform_forms_a_die_as_a_recipe_wants_it(
    small_bench: SmallBench, changes: dict[str, object], cells: str, voltage: float, expected: float
) -> None:
    parameters = load_recipe("digits").changed(changes).forming_parameters()
    typed = parse_assignments([f"{key}={value}" for key, value in parameters.items()])  # as the refusal prints them
    with small_bench.open() as session:
        for given in (parameters, typed):
            plan = session.plan("electroform", given)
            (step,) = (each for each in plan.steps if isinstance(each, PulseStep))
            (check,) = (each for each in plan.steps if isinstance(each, ExpectStep))
            assert step.cells == cells
            assert step.voltage == pytest.approx(voltage)
            assert step.pilot is not None
            for window in (step.pilot, check.window):
                assert window.formed_fraction is not None
                low, high = window.formed_fraction
                assert low == pytest.approx(expected - 0.05)
                assert high >= min(1.0, expected + 0.05) - 1e-9
        assert not ledger_of(session).pulse_counts().any()


def test_whole_lines_are_kept_by_the_layer() -> None:
    with pytest.raises(UsageError, match="kept_of network"):
        load_recipe("digits").changed({"granularity": "line", "kept_of": "network"})


def test_class_weights_need_one_for_each_output() -> None:
    recipe = load_recipe("digits").changed({"class_weights": (1, 3)})
    with pytest.raises(UsageError, match="2 class weights, its network 10 classes"):
        recipe.require(load_dataset("digits"))


@pytest.mark.parametrize(
    "reach", [(1, 1, 1, 1), (1, 1, 1)]
)  # digits are [1, 8, 8]: no fourth axis, one value along the third
def test_samples_are_not_stretched_along_axes_that_they_do_not_have(reach: tuple[float, ...]) -> None:
    recipe = load_recipe("digits").changed({"stretch": reach})
    with pytest.raises(UsageError, match=f"last {len(reach)} axes"):
        recipe.require(load_dataset("digits"))


@pytest.mark.parametrize("reach", [(), (-1,), (1, -0.5), (float("nan"),), (float("inf"),)])
def test_a_stretch_is_figures_of_at_least_0(reach: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="stretch"):
        load_recipe("digits").changed({"stretch": reach})


def test_a_recipe_of_before_a_key_was_known_is_the_same_recipe() -> None:
    now = load_recipe("digits").model_dump(mode="json")
    before = {name: value for name, value in now.items() if name not in {"stretch", "class_weights"}}
    assert with_defaults(before) == now
    assert with_defaults({**now, "stretch": [1.0]}) != now
