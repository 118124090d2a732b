"""Statistics of samples do not depend on their order; what is no number is evaluated, settled on or learned from by nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rramlab.base.errors import DataError, RramlabError, UsageError
from rramlab.nn import MaskedConv2d, MaskedLinear, RefusedInput, configure, masked_layers
from rramlab.training import Checkpoint, Dataset, Recipe, accuracy, fit, predict, scores, settle_statistics
from rramlab.training.datasets.arrays import by_content
from rramlab.training.datasets.segmentation import Pictures, Segmentation, probabilities
from rramlab.training.datasets.speech import features
from rramlab.training.loop import unpruned

from .conftest import give_weights

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(0)
# Six hundred samples, half of them dark: in their order the clip came to 0.24 or to 0.70.
SAMPLES = (RNG.random((600, 1, 6, 6)) * np.repeat([0.1, 1.0], 300)[:, None, None, None]).astype(np.float32)
ORDERS: dict[str, Callable[[], Any]] = {
    "as they are": lambda: np.arange(600),
    "backwards": lambda: np.arange(600)[::-1],
    "by brightness": lambda: np.argsort(SAMPLES.sum(axis=(1, 2, 3))),
    "by darkness": lambda: np.argsort(-SAMPLES.sum(axis=(1, 2, 3))),
    "shuffled": lambda: np.random.default_rng(7).permutation(600),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        MaskedConv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.4),
        MaskedConv2d(6, 4, 3),
        nn.BatchNorm2d(4, affine=False),
        nn.Flatten(),
        MaskedLinear(16, 5, rectify=True),
        nn.ReLU(),
        MaskedLinear(5, 3),
    )
    return give_weights(model)


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    wanted = ("running_mean", "running_var", "clip", "passes", "num_batches_tracked")
    return {name: value.clone() for name, value in model.state_dict().items() if name.endswith(wanted)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_gives_the_same_statistics_bit_for_bit(order: str) -> None:
    one, other = network(), network()
    settle_statistics(one, SAMPLES)
    settle_statistics(other, SAMPLES[ORDERS[order]()])
    assert same(statistics(one), statistics(other))
    assert float(masked_layers(one)["0"].quantiser.clip) == pytest.approx(0.98, abs=0.03)  # no batch is of one kind


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 130))
def test_any_number_in_any_order_gives_the_same(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.random((count, 1, 6, 6)) < 0.2).astype(np.float32)
    one, other = network(), network()
    settle_statistics(one, x)
    settle_statistics(other, torch.from_numpy(rng.permutation(x)))
    assert same(statistics(one), statistics(other))


def test_every_sample_counts() -> None:
    model = network()
    settle_statistics(model, SAMPLES[:119])
    assert int(model[1].num_batches_tracked) == 1  # one batch of 119, not one of 60 and 59 left out
    other = network()
    settle_statistics(other, SAMPLES[:118])
    assert not same(statistics(model), statistics(other))


def test_black_samples_in_front_clip_nothing() -> None:
    model = network()
    settle_statistics(model, np.concatenate([np.zeros_like(SAMPLES), SAMPLES]))
    clip = masked_layers(model)["0"].quantiser.clip
    assert float(clip) == pytest.approx(3 * np.sqrt(np.mean(np.square(SAMPLES)) / 2), rel=0.02)  # of all, by its rule
    assert float(model[1].running_var.min()) > 0  # nor is a whole batch black


def test_samples_that_are_alike_are_chosen_as_often_as_they_are() -> None:
    x = np.concatenate([np.zeros((600, 1, 6, 6), np.float32), SAMPLES])
    data = Dataset("made", x, np.zeros(1200, np.int64), x, np.zeros(1200, np.int64), ("one",))
    for found in (data.settling(100), data.tested(100)[0]):
        assert 30 <= np.count_nonzero(~found.any(axis=(1, 2, 3))) <= 70


def test_settling_leaves_modes_and_generators_as_they_were() -> None:
    model = network().eval()
    model[3].train()
    state = torch.get_rng_state()
    settle_statistics(model, SAMPLES)
    assert [module.training for module in model] == [number == 3 for number in range(len(model))]
    assert torch.equal(torch.get_rng_state(), state)  # nothing is dropped out
    assert all(module.momentum == 0.1 for module in (model[1], model[5]))


@pytest.mark.parametrize("value", [NAN, INF, -0.5])
def test_statistics_that_could_not_be_settled_are_those_of_before(value: float) -> None:
    model = network()
    settle_statistics(model, SAMPLES)
    before = statistics(model)
    x = SAMPLES.copy()
    x[77, 0, 2, 2] = value
    with pytest.raises(UsageError):
        settle_statistics(model, x)
    assert same(statistics(model), before)
    with pytest.raises(UsageError, match="no samples"):
        settle_statistics(model, x[:0])
    model(torch.from_numpy(SAMPLES[:60]))  # it follows on as before
    assert not same(statistics(model), before)


def test_a_training_range_is_followed_after_settling() -> None:
    model = network()
    settle_statistics(model, SAMPLES)
    settled = float(masked_layers(model)["0"].quantiser.clip)
    model(torch.from_numpy(SAMPLES[:60]))
    assert 0.9 * settled < float(masked_layers(model)["0"].quantiser.clip) <= settled


def sorted_and_shuffled() -> tuple[Dataset, Dataset]:
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(10), 40)
    x = np.clip(rng.random((400, 1, 8, 8)) * 0.3 + y[:, None, None, None] / 14, 0, 1).astype(np.float32)
    first = Dataset("made", x, y, x[::2], y[::2], tuple("0123456789"))
    order, tests = rng.permutation(400), rng.permutation(200)
    return first, replace(first, train_x=x[order], train_y=y[order], test_x=x[::2][tests], test_y=y[::2][tests])


def test_what_the_unpruned_network_is_settled_on_does_not_depend_on_order(recipe: Recipe) -> None:
    by_class, mixed = sorted_and_shuffled()
    model = give_weights(recipe.model())
    one, other = (unpruned(model, data) for data in (by_class, mixed))
    assert same(statistics(one), statistics(other))
    assert scores(one, by_class) == scores(other, mixed)


def test_a_part_of_the_samples_is_a_fair_share_in_any_order(recipe: Recipe) -> None:
    by_class, mixed = sorted_and_shuffled()
    for count in (30, 100, 1000):
        np.testing.assert_array_equal(by_class.settling(count), mixed.settling(count))
    classes = np.bincount(by_class.tested(50)[1], minlength=10)
    assert classes.min() >= 1  # of the first fifty there are two
    np.testing.assert_array_equal(classes, np.bincount(mixed.tested(50)[1], minlength=10))
    model = unpruned(give_weights(recipe.model()), by_class)
    assert scores(model, by_class, 50) == scores(model, mixed, 50)
    np.testing.assert_array_equal(by_class.tested(None)[0], by_class.test_x)  # all of them, as they are


def test_what_equal_samples_hold_is_equal() -> None:
    x = np.zeros((5, 2), np.float32)
    x[3] = 1.0
    assert sorted(by_content(x).tolist()) == [0, 1, 2, 3, 4]


def pictures(count: int = 4, seed: int = 3) -> Pictures:
    rng = np.random.default_rng(seed)
    field = rng.random((count, 90, 80)) < 0.8
    field[-1, 40:] = False  # fields of view of several sizes
    return Pictures(rng.random((count, 90, 80), np.float32), rng.random((count, 90, 80)) < 0.2, field)


def test_images_are_settled_on_by_the_same_patches_wherever_they_stand() -> None:
    part = pictures()
    order = [2, 0, 3, 1]
    other = Pictures(part.image[order], part.truth[order], part.field[order])
    one, two = (Segmentation("made", train, part, ("no", "yes")) for train in (part, other))
    for count in (1, 7, 50, 6000):
        np.testing.assert_array_equal(one.settling(count), two.settling(count))
        assert len(one.settling(count)) == min(count, 600)


# what is no number ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("part", ["train_x", "test_x"])
def test_data_of_ones_own_with_values_that_are_no_numbers_are_refused(part: str, value: float) -> None:
    data, _ = sorted_and_shuffled()
    x = getattr(data, part).copy()
    x[123, 0, 1, 1] = value
    with pytest.raises(DataError, match=rf"'made': {part} holds values that are not numbers in 1 of .*sample 123"):
        replace(data, **{part: x})


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_that_are_no_class_are_refused(label: int) -> None:
    data, _ = sorted_and_shuffled()
    y = data.train_y.copy()
    y[5] = label
    with pytest.raises(DataError, match=rf"train_y says {label} of sample 5, expected 0 to 9"):
        replace(data, train_y=y)
    with pytest.raises(DataError, match="train_y says nan of sample 0"):
        replace(data, train_y=np.full(400, NAN))
    with pytest.raises(DataError, match="for train_x of 400 samples"):
        replace(data, train_y=y[:7])


def test_images_and_recordings_with_values_that_are_no_numbers_are_refused() -> None:
    part = pictures()
    image = part.image.copy()
    image[2, 5, 5] = NAN
    with pytest.raises(DataError, match="the first is image 2"):
        replace(part, image=image)
    sound = np.sin(np.arange(2000.0))
    sound[1234] = NAN
    with pytest.raises(DataError, match=r"mine\.wav holds values that are not numbers, the first is sample 1,234"):
        features(sound, Path("mine.wav"))


class Says(nn.Module):
    """A network that says the same of everything, or what is no number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = torch.zeros(len(x), 10)
        said[x.flatten(1).sum(1) > 20] = self.value
        return said


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_no_number_is_not_counted_as_the_first_class(value: float) -> None:
    data, _ = sorted_and_shuffled()
    bright = int(np.flatnonzero(data.test_x.sum(axis=(1, 2, 3)) > 20)[0])
    zeros = np.zeros(data.tests, np.int64)
    for evaluate in (
        lambda: scores(Says(value), replace(data, test_y=zeros)),
        lambda: accuracy(Says(value), data.test_x, zeros),
        lambda: predict(Says(value), data.test_x, 7),
    ):
        with pytest.raises(DataError, match=rf"what the network says of sample {bright} is no number"):
            evaluate()
    assert accuracy(Says(0.0), data.test_x, zeros) == 1.0


def test_what_is_no_number_is_no_pixel_of_the_first_class_either() -> None:
    part = pictures(1)
    with pytest.raises(DataError, match="is no number"):
        probabilities(lambda x: np.full((len(x), 2, *x.shape[2:]), NAN, np.float32), part.image[0], part.field[0])


def test_the_sample_is_named_by_its_number_among_all(recipe: Recipe, digits: Dataset) -> None:
    model = give_weights(recipe.model())
    settle_statistics(model, digits.train_x[:600])
    x = digits.test_x.copy()
    x[217, 0, 3, 3] = NAN
    with pytest.raises(RefusedInput, match=r"layer 'fc1' got the input nan in sample 217 of those evaluated"):
        predict(model, x, 50)
    with pytest.raises(RefusedInput, match="sample 217"):
        accuracy(model, x, digits.test_y, 100)


@pytest.mark.parametrize("labels", [np.zeros((200, 1), np.int64), np.zeros(199, np.int64), np.full(200, NAN)])
def test_labels_that_do_not_belong_to_the_images_are_refused(labels: Any) -> None:
    data, _ = sorted_and_shuffled()
    with pytest.raises(UsageError, match=r"expected int64\[200\]"):
        accuracy(Says(0.0), data.test_x, labels)


class Spoilt(Dataset):
    """Data of a kind of its own: after some batches one holds a value that is no number, or below 0."""

    value: float
    left: int

    def batch(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = super().batch(chosen)
        object.__setattr__(self, "left", self.left - 1)
        if self.left < 0:
            x[4, 0, 2, 2] = self.value
            object.__setattr__(self, "named", int(chosen[4]))
        return x, y


def spoilt(digits: Dataset, value: float, left: int) -> Spoilt:
    made = Spoilt(digits.name, digits.train_x, digits.train_y, digits.test_x, digits.test_y, digits.classes)
    object.__setattr__(made, "value", value)
    object.__setattr__(made, "left", left)
    return made


@pytest.mark.parametrize("value", [NAN, INF, -0.5])
def test_a_batch_that_is_no_number_is_not_learned_from(
    recipe: Recipe, digits: Dataset, tmp_path: Path, value: float
) -> None:
    path = tmp_path / "checkpoint.pt"
    data, model = spoilt(digits, value, 30), give_weights(recipe.model())
    with pytest.raises(
        RefusedInput, match=r"layer 'fc1' got the input .* in sample [\d,]+ of the training set 'digits'"
    ) as refused:
        fit(model, recipe, data, checkpoint=path)
    assert refused.value.sample == data.named  # type: ignore[attr-defined]
    assert Checkpoint.load(path).epoch == 1
    assert all(bool(torch.isfinite(value).all()) for value in statistics(model).values())
    again = give_weights(recipe.model())
    fit(again, recipe, digits, checkpoint=path, resume=True)  # the epoch before is whole
    whole = give_weights(recipe.model())
    fit(whole, recipe, digits)
    assert same(statistics(again), statistics(whole))


class Diverging(nn.Module):
    """A layer of one's own that makes what is no number at some step."""

    def __init__(self, value: float, after: int) -> None:
        super().__init__()
        self.value, self.left = value, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        return x * self.value if self.left < 0 and self.training else x


@pytest.mark.parametrize("place", [3, 6])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_training_that_diverges_ends_before_it_learns_of_it(
    recipe: Recipe, digits: Dataset, tmp_path: Path, place: int, value: float
) -> None:
    def made() -> nn.Module:
        layers = list(give_weights(recipe.model()))
        return nn.Sequential(*layers[:place], Diverging(value, 30), *layers[place:])

    path, model = tmp_path / "checkpoint.pt", made()
    with pytest.raises(RramlabError, match=r"in epoch 2: training diverged; lower the learning rate.*epoch 1 is kept"):
        fit(model, recipe, digits, checkpoint=path)
    assert Checkpoint.load(path).epoch == 1
    assert all(bool(torch.isfinite(layer.scores).all()) for layer in masked_layers(model).values())


@pytest.mark.parametrize("key", ["learning_rate", "momentum", "weight_decay", "hysteresis", "kept", "read_noise"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_recipe_holds_numbers(recipe: Recipe, key: str, value: float) -> None:
    with pytest.raises(UsageError, match=key):
        recipe.changed({key: value})


def test_a_class_weight_is_a_number(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="class_weights"):
        recipe.changed({"class_weights": [1.0] * 9 + [INF]})


def test_host_and_evaluation_have_one_rule_for_negative_inputs(recipe: Recipe, digits: Dataset) -> None:
    model = give_weights(recipe.model())
    configure(model, read_noise=0.0)
    settle_statistics(model, digits.train_x[:600])
    with pytest.raises(RefusedInput, match=r"layer 'fc1' got the input -.* in sample 0 of those evaluated"):
        predict(model, -digits.test_x)
