"""Training: it learns, it stops, and what it resumes ends with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rramlab.base.errors import DataError, RramlabError, UsageError
from rramlab.nn import configure, masked_layers, masks
from rramlab.training import (
    Checkpoint,
    Dataset,
    EpochResult,
    Recipe,
    accuracy,
    fit,
    load_dataset,
    load_recipe,
    predict,
    scores_random,
    settle_statistics,
    weights_digest,
)

from .conftest import give_weights, write_fashion

Make = Callable[[], nn.Module]


def alike(one: object, other: object) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def equal(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(alike(first[name], second[name]) for name in first)


class StopAfter:
    """Says stop when it is asked for the ``steps``-th time."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_an_evaluation_stops_between_batches(digits: Dataset, make: Make) -> None:
    model = make()
    settle_statistics(model, digits.train_x[:600])
    asked = iter([False, True])
    assert accuracy(model, digits.test_x, digits.test_y, 100, stop=lambda: next(asked)) is None
    whole = accuracy(model, digits.test_x, digits.test_y)
    assert accuracy(model, digits.test_x, digits.test_y, 100, stop=lambda: False) == whole


def test_the_digits_recipe_learns_topology_alone(digits: Dataset) -> None:
    recipe = load_recipe("digits")
    model = give_weights(recipe.model(), recipe.seed)
    weights = {name: layer.conductance.clone() for name, layer in masked_layers(model).items()}
    training = fit(model, recipe, digits)
    assert len(training.history) == recipe.epochs
    assert training.accuracy >= 0.95
    assert training.accuracy == accuracy(model, digits.test_x, digits.test_y)
    assert all(torch.equal(layer.conductance, weights[name]) for name, layer in masked_layers(model).items())
    assert all(abs(mask.mean() - recipe.kept) < 0.01 for mask in masks(model).values())
    configure(model, evaluation_noise=0.02)
    assert accuracy(model, digits.test_x, digits.test_y) >= training.accuracy - 0.015
    configure(model, evaluation_noise=0.0)
    before = predict(model, digits.test_x)
    assert scores_random(model, digits)["accuracy"] < 0.4
    np.testing.assert_array_equal(predict(model, digits.test_x), before)


def test_the_fashion_recipe_runs_on_its_files(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    recipe = load_recipe("fashion-mnist").model_copy(update={"epochs": 1, "batch": 10})
    model = give_weights(recipe.model())
    training = fit(model, recipe, load_dataset(recipe.dataset, tmp_path))
    assert np.isfinite(training.history[0].loss)
    assert predict(model, np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


def test_resumed_training_ends_with_the_same_bits(make: Make, recipe: Recipe, digits: Dataset, tmp_path: Path) -> None:
    whole, broken = make(), make()
    uninterrupted = fit(whole, recipe, digits)
    path = tmp_path / "checkpoint.pt"
    first = fit(broken, recipe, digits, checkpoint=path, stop=StopAfter(30))  # in the second epoch
    assert first.stopped
    assert len(first.history) == 1
    again = make()
    torch.rand(7)  # the caller's random state must not matter
    state = torch.get_rng_state()
    seen: list[EpochResult] = []
    second = fit(again, recipe, digits, checkpoint=path, resume=True, on_epoch=seen.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert not second.stopped
    assert [result.epoch for result in seen] == [2, 3]
    assert equal(again, whole)
    assert [(r.loss, r.train_accuracy, r.test_accuracy) for r in second.history] == [
        (r.loss, r.train_accuracy, r.test_accuracy) for r in uninterrupted.history
    ]


def test_a_training_learns_where_an_interrupt_left_gradients_off(make: Make, recipe: Recipe, digits: Dataset) -> None:
    """As in a notebook's kernel, whose interrupt landed while torch was about to turn them on again."""
    whole, model = make(), make()
    fit(whole, recipe, digits)
    torch.set_grad_enabled(False)
    try:
        fit(model, recipe, digits)
    finally:
        torch.set_grad_enabled(True)
    assert equal(model, whole)


def test_a_finished_training_is_not_repeated(make: Make, recipe: Recipe, digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    model, again = make(), make()
    history = fit(model, recipe, digits, checkpoint=path, resume=True).history  # nothing to resume: from the start
    assert fit(again, recipe, digits, checkpoint=path, resume=True, stop=lambda: True).history == history
    assert equal(model, again)
    assert Checkpoint.load(path).epoch == recipe.epochs
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_training_is_refused(
    make: Make, recipe: Recipe, digits: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    fit(make(), recipe, digits, die_id="A1", checkpoint=path, stop=StopAfter(24))
    with pytest.raises(UsageError, match="of die 'A1', not 'B2'"):
        fit(make(), recipe, digits, die_id="B2", checkpoint=path, resume=True)
    with pytest.raises(UsageError, match="another read of die 'A1'"):
        fit(give_weights(recipe.model(), 1), recipe, digits, die_id="A1", checkpoint=path, resume=True)
    other = recipe.model_copy(update={"learning_rate": 0.25})
    with pytest.raises(UsageError, match=r"learning_rate 0\.5 → 0\.25"):
        fit(make(), other, digits, die_id="A1", checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-100], "damaged"),
        (lambda raw: raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:], "damaged"),
        (lambda raw: b"", "not a checkpoint"),
        (lambda raw: raw[80:], "not a checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    make: Make,
    recipe: Recipe,
    digits: Dataset,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = tmp_path / "checkpoint.pt"
    fit(make(), recipe, digits, checkpoint=path, stop=StopAfter(24))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        fit(make(), recipe, digits, checkpoint=path, resume=True)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        Checkpoint.load(tmp_path / "none.pt")


def test_the_digest_names_the_weights(recipe: Recipe) -> None:
    digests = [weights_digest(give_weights(recipe.model(), seed)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_misuse_is_refused(make: Make, recipe: Recipe, digits: Dataset) -> None:
    with pytest.raises(UsageError, match="fc1, fc2, fc3 have no weights"):
        fit(recipe.model(), recipe, digits)
    with pytest.raises(UsageError, match="needs the checkpoint"):
        fit(make(), recipe, digits, resume=True)
    with pytest.raises(UsageError, match="batch of 5000"):
        fit(make(), recipe.model_copy(update={"batch": 5000}), digits)
    with pytest.raises(UsageError, match="no images"):
        predict(make(), digits.test_x[:0])
    with pytest.raises(RramlabError, match="lower the learning rate"):
        fit(make(), recipe.model_copy(update={"learning_rate": 1e38}), digits)


def test_settled_statistics_do_not_depend_on_the_past(make: Make, digits: Dataset) -> None:
    one, other = make(), make()
    for model in (one, other):
        configure(model, read_noise=0.0)
    settle_statistics(other, digits.train_x[600:])
    settle_statistics(one, digits.train_x[:600])
    settle_statistics(other, digits.train_x[:600])
    np.testing.assert_array_equal(predict(one, digits.test_x), predict(other, digits.test_x))
    assert one.training


def test_a_training_with_hysteresis_and_phases_resumes_to_the_same_bits(
    recipe: Recipe, digits: Dataset, tmp_path: Path
) -> None:
    changes = {"hysteresis": 0.1, "hysteresis_end": 0.05, "granularity": "phase", "phases": 8, "assignment": "learned"}
    fine = recipe.changed({**changes, "epochs": 4, "kept_of": "network"})
    whole, broken, again = (give_weights(fine.model()) for _ in range(3))
    uninterrupted = fit(whole, fine, digits)
    path = tmp_path / "checkpoint.pt"
    fit(broken, fine, digits, checkpoint=path, stop=StopAfter(60))  # in the third epoch
    resumed = fit(again, fine, digits, checkpoint=path, resume=True)
    assert equal(again, whole)
    assert [r.loss for r in resumed.history] == [r.loss for r in uninterrupted.history]
    layers = masked_layers(whole)
    assert all(layer.selections == 4 * 23 for layer in layers.values())
    assert all(layer.hysteresis == pytest.approx(0.05) for layer in layers.values())
    assert all(layer.phase is not None and len(layer.phase.unique()) <= 8 for layer in layers.values())


def test_a_dead_band_saves_flips_and_comparing_consecutive_steps_does_not(recipe: Recipe, digits: Dataset) -> None:
    flips = {}
    for rule, width in (("dead-band", 0.0), ("dead-band", 0.4), ("consecutive", 0.4)):
        chosen = recipe.changed({"hysteresis": width, "hysteresis_rule": rule})
        model = give_weights(chosen.model())
        fit(model, chosen, digits)
        flips[rule, width] = sum(x.set_count + x.reset_count for x in masked_layers(model).values())
    assert 0 < flips["dead-band", 0.4] < 0.75 * flips["dead-band", 0.0]
    assert flips["consecutive", 0.4] > 0.85 * flips["dead-band", 0.0]
