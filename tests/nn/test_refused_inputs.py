"""What can be no code is refused, in the same words wherever a layer computes, and leaves everything as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rramlab.base.errors import InstrumentError, RramlabError, UsageError
from rramlab.nn import (
    MaskedConv2d,
    MaskedConvTranspose2d,
    MaskedLinear,
    MaskedRNN,
    NoNumbers,
    RefusedInput,
    configure,
    convert,
    learn_weights,
    load_weights,
    masked_layers,
    masks,
    share_kept,
    vectors_of,
    wanted_S,
)

from .test_layers import exact, one_of_pair

NAN, INF = float("nan"), float("inf")


class Named(nn.Module):
    """One layer by the name ``body``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.body = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.body(x)
        return found[0] if isinstance(found, tuple) else found


KINDS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda **more: MaskedLinear(6, 5, **more), (7, 6), 0),
    "linear of sequences": (lambda **more: MaskedLinear(6, 5, **more), (7, 3, 6), 0),
    "convolution": (lambda **more: MaskedConv2d(2, 5, 3, padding=1, **more), (7, 2, 6, 5), 0),
    "transposed": (lambda **more: MaskedConvTranspose2d(2, 5, 3, stride=2, **more), (7, 2, 4, 3), 0),
    "recurrent": (lambda **more: MaskedRNN(6, 5, **more), (4, 7, 6), 1),
    "recurrent, batch first": (lambda **more: MaskedRNN(6, 5, batch_first=True, **more), (7, 4, 6), 0),
}
# Where a layer computes: modes of a training and of an evaluation, with products of the host or of the chip.
WAYS: dict[str, tuple[bool, bool]] = {
    "training on the host": (True, False),
    "evaluation on the host": (False, False),
    "training, products of the chip": (True, True),
    "evaluation, products of the chip": (False, True),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_WAY = pytest.mark.parametrize("way", WAYS)


def made(kind: str, rectify: bool = False) -> tuple[nn.Module, torch.Tensor, int]:
    """A network of one kind of layer that has seen data, what it takes, and along which axis samples lie."""
    torch.manual_seed(0)
    make, shape, axis = KINDS[kind]
    model = Named(make(rectify=rectify))
    load_weights(model, {name: one_of_pair(layer.shape, 3) for name, layer in masked_layers(model).items()})
    x = torch.rand(shape)
    with torch.no_grad():
        model(x)
    return model, x, axis


def working(model: nn.Module, way: str) -> nn.Module:
    training, chip = WAYS[way]
    for layer in masked_layers(model).values():
        layer.multiply = exact(layer) if chip else None
    return model.train(training)


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        name: value.clone() if torch.is_tensor(value) else copy.deepcopy(value)
        for name, value in model.state_dict().items()
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(v, other[n]) if torch.is_tensor(v) else v == other[n] for n, v in one.items())


@EACH_WAY
@EACH_KIND
@pytest.mark.parametrize("value", [NAN, INF, -INF, -0.25])
@pytest.mark.parametrize("rectify", [False, True])
def test_what_is_no_code_is_refused_by_layer_and_sample(kind: str, way: str, value: float, rectify: bool) -> None:
    model, x, axis = made(kind, rectify)
    bad = x.clone()
    bad.movedim(axis, 0)[4].movedim(0, -1)[..., -1] = value  # the last row, frame or feature of sample 4
    working(model, way)
    before = state_of(model)
    if rectify and value == -0.25:  # behind a ReLU that is code 0, everywhere alike
        twin = working(copy.deepcopy(model), way)
        torch.testing.assert_close(model(bad).detach(), twin(bad.clamp(min=0.0)).detach(), rtol=1e-5, atol=1e-6)
        return
    with pytest.raises(RefusedInput, match=r"layer 'body.*sample 4 of the batch") as refused:
        model(bad)
    assert refused.value.sample == 4
    assert same(state_of(model), before)
    assert bool(torch.isfinite(model(x)).all())  # and it goes on as if nothing had been


@EACH_KIND
def test_every_way_takes_and_refuses_the_same(kind: str) -> None:
    """The one rule of training, evaluation, host and chip: no ``m(-x)`` that is ``m(0)``."""
    model, x, _ = made(kind)
    for way in WAYS:
        working(model, way)
        assert model(x).shape
        model(torch.zeros_like(x))
        model(-torch.zeros_like(x))  # minus nothing is nothing
        with pytest.raises(RefusedInput, match="put a ReLU before"):
            model(-x)


@EACH_KIND
def test_a_product_of_the_chip_that_is_no_number_is_refused(kind: str) -> None:
    model, x, _ = made(kind)
    working(model, "evaluation, products of the chip")
    layer = next(iter(masked_layers(model).values()))
    ideal = exact(layer)

    def broken(codes: Any, mask: Any) -> Any:
        sums = ideal(codes, mask)
        # In C order of all vectors, the first of the sample of number 2.
        places = np.indices(
            {
                "linear": (7,),
                "linear of sequences": (7, 3),
                "convolution": (7, 6, 5),
                "transposed": (7, 4, 3),
                "recurrent": (4, 7),
                "recurrent, batch first": (4, 7),
            }[kind]
        ).reshape(-1, len(sums))
        of_samples = places[1 if kind.startswith("recurrent") else 0]
        sums[np.flatnonzero(of_samples == 2)[0], 1] = NAN
        return sums

    layer.multiply = broken
    with pytest.raises(InstrumentError, match=r"layer 'body.*no numbers, the first in sample 2 of the batch"):
        model(x)


def test_a_large_sum_of_sound_values_is_not_taken_for_infinity() -> None:
    model, x, _ = made("linear", rectify=True)
    working(model, "evaluation on the host")
    assert bool(torch.isfinite(model(x * 1e38)).all())


def test_a_single_vector_has_no_sample_number() -> None:
    model, x, _ = made("linear")
    with pytest.raises(RefusedInput, match=r"layer 'body' got the input -\d") as refused:
        model(-x[0])
    assert refused.value.sample is None


def test_dense_software_refuses_what_is_no_number_and_takes_the_rest() -> None:
    model, x, _ = made("linear")
    learn_weights(model, exact=True)
    assert not torch.equal(model(-x), model(0 * x))  # no codes, so no clamp either
    x[3, 2] = NAN
    with pytest.raises(RefusedInput, match="sample 3"):
        model(x)


@pytest.mark.parametrize(
    "masking",
    [
        {},
        {"granularity": "phase", "phases": 2},
        {"granularity": "phase", "phases": 3},
        {"granularity": "line"},
        {"kept": 1.0},
    ],
)
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("share", [False, True])
def test_scores_that_are_no_numbers_choose_nothing(masking: Any, value: float, share: bool) -> None:
    model = nn.Sequential(MaskedLinear(6, 5, **masking), nn.ReLU(), MaskedLinear(5, 2, **masking))
    load_weights(model, {name: one_of_pair(layer.shape) for name, layer in masked_layers(model).items()})
    if share and "granularity" not in masking:
        share_kept(model)
    with torch.no_grad():
        model[2].scores[1, 1] = value
    with pytest.raises(NoNumbers, match=r"layer '2'.*lower the learning rate"):
        masks(model)
    with pytest.raises(NoNumbers, match="lower the learning rate"):
        model(torch.rand(3, 6))


def test_a_range_that_an_earlier_version_ruined_is_not_computed_with() -> None:
    model, x, _ = made("linear")
    masked_layers(model)["body"].quantiser.clip.fill_(NAN)
    for way in WAYS:
        if not WAYS[way][0]:
            with pytest.raises(UsageError, match=r"range of layer 'body' is nan.*settle_statistics"):
                working(model, way)(x)


@pytest.mark.parametrize("name", ["scores", "conductance", "bias"])
def test_a_state_with_values_that_are_no_numbers_is_refused(name: str) -> None:
    model = nn.Sequential(convert(nn.Linear(6, 5)))
    load_weights(model, {key: one_of_pair(layer.shape) for key, layer in masked_layers(model).items()})
    before, state = state_of(model), state_of(model)
    state[f"0.{name}"].view(-1)[0] = NAN
    with pytest.raises(RramlabError, match=rf"layer '0': the state holds {name}"):
        model.load_state_dict(state)
    assert same(state_of(model), before)


@pytest.mark.parametrize("name", ["read_noise", "evaluation_noise"])
@pytest.mark.parametrize("value", [NAN, INF, -0.1])
def test_a_noise_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        configure(made("linear")[0], **{name: value})


def test_weights_and_their_loudness_are_numbers() -> None:
    model = nn.Sequential(MaskedLinear(6, 5))
    weights = {"0": one_of_pair((6, 5))}
    loud = {"0": np.full((6, 5), NAN, np.float32)}
    with pytest.raises(UsageError, match="layer '0': the loudness"):
        load_weights(model, weights, loudness_S=loud)
    with pytest.raises(UsageError, match="layer '0': 1 of 30 weights"):
        load_weights(model, {"0": np.where(np.eye(6, 5) * np.eye(6)[0][:, None] > 0, np.inf, weights["0"])})


def test_learned_weights_that_are_no_numbers_are_not_written() -> None:
    model = made("linear")[0]
    learn_weights(model)
    with torch.no_grad():
        masked_layers(model)["body"].scores[0, 0] = NAN
    with pytest.raises(UsageError, match=r"layer 'body'.*no numbers"):
        wanted_S(model, 1e-6, 1e-5)


@pytest.mark.parametrize("what", ["weight", "running_var"])
def test_a_model_whose_digital_layers_hold_no_numbers_is_not_converted(what: str) -> None:
    plain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        getattr(plain[1], what)[1] = NAN
    with pytest.raises(UsageError, match=rf"layer '1', a BatchNorm1d, stays digital, but its {what}"):
        convert(plain)
    with torch.no_grad():
        plain[0].weight[0, 0] = NAN  # of no matter: the die gives other ones
        getattr(plain[1], what)[1] = 1.0
    assert masked_layers(convert(plain))


def test_a_first_batch_of_black_or_dim_samples_does_not_clip_what_follows() -> None:
    for rectify in (False, True):
        for first in (0.0, 0.05, 0.2):
            torch.manual_seed(0)
            quantiser = MaskedLinear(6, 5, rectify=rectify).quantiser
            quantiser(torch.full((8, 6), first))
            for _ in range(3):
                x = torch.rand(500, 6)
                quantiser(x)
                assert float((x > quantiser.clip).float().mean()) < 0.02, (rectify, first)


def test_black_samples_between_others_take_nothing_from_the_range() -> None:
    quantiser = MaskedLinear(6, 5).quantiser
    quantiser(torch.full((8, 6), 1.0))
    for _ in range(40):
        quantiser(torch.zeros(8, 6))
    assert float(quantiser.clip) == 1.0


def test_how_often_a_network_multiplies_is_told_of_any_values() -> None:
    """Only shapes matter there: a layer of one's own may make nothing sensible of zeros."""

    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / x.sum()

    model = nn.Sequential(MaskedLinear(6, 5), Scaled(), MaskedLinear(5, 2))
    assert vectors_of(model, torch.zeros(3, 6)) == {"0": 3, "2": 3}
