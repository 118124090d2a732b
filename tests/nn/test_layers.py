"""Masked layers: both paths agree, the state dict is complete, and wrong weights are refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import (
    MaskedConv2d,
    MaskedConvTranspose2d,
    MaskedLayer,
    MaskedLinear,
    Multiply,
    configure,
    layers,
    load_weights,
    masked_layers,
    masks,
)

LAYERS: list[tuple[str, type[MaskedLayer], dict[str, Any], tuple[int, ...]]] = [
    ("linear", MaskedLinear, {"inputs": 20, "outputs": 7}, (33, 20)),
    ("conv", MaskedConv2d, {"in_channels": 3, "out_channels": 5, "kernel_size": 3}, (9, 3, 8, 7)),
    (
        "conv padded",
        MaskedConv2d,
        {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "padding": 1},
        (5, 2, 6, 6),
    ),
    (
        "conv oblong",
        MaskedConv2d,
        {"in_channels": 2, "out_channels": 4, "kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
        (5, 2, 9, 6),
    ),
    ("linear of sequences", MaskedLinear, {"inputs": 20, "outputs": 7}, (6, 4, 20)),
    ("transposed", MaskedConvTranspose2d, {"in_channels": 3, "out_channels": 5, "kernel_size": 3}, (9, 3, 4, 5)),
    (
        "transposed oblong",
        MaskedConvTranspose2d,
        {
            "in_channels": 4,
            "out_channels": 2,
            "kernel_size": (3, 2),
            "stride": (2, 3),
            "padding": (1, 0),
            "output_padding": (1, 2),
        },
        (5, 4, 4, 3),
    ),
]
EACH_LAYER = pytest.mark.parametrize(
    ("kind", "arguments", "shape"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS]
)


def one_of_pair(shape: tuple[int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    """Weights as one-of-pair forming gives them, siemens."""
    rng = np.random.default_rng(seed)
    formed_S = 12.2e-6 * np.exp(0.1475 * rng.standard_normal(shape))
    return ((formed_S - 0.1e-6) * rng.choice([-1.0, 1.0], shape)).astype(np.float32)


def loaded(
    kind: type[MaskedLayer], arguments: dict[str, Any], shape: tuple[int, ...]
) -> tuple[MaskedLayer, torch.Tensor]:
    torch.manual_seed(1)
    layer = kind(**arguments)
    layer.set_conductance(one_of_pair(layer.shape))
    x = torch.rand(shape)
    layer.train()(x)
    return layer.eval(), x


def exact(layer: MaskedLayer) -> Multiply:
    """An ideal chip: the exact product of codes and masked conductances."""

    def multiply(codes: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        assert codes.dtype == np.uint8
        assert codes.shape[1] == layer.shape[0]
        assert codes.max(initial=0) < 2**layer.quantiser.bits
        assert mask.dtype == np.bool_
        return (codes @ (layer.conductance.double().numpy() * mask)).astype(np.float32)

    return multiply


@EACH_LAYER
def test_host_and_chip_agree(kind: type[MaskedLayer], arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer, x = loaded(kind, arguments, shape)
    host = layer(x)
    layer.multiply = exact(layer)
    chip = layer(x)
    assert chip.shape == host.shape
    assert not chip.requires_grad
    torch.testing.assert_close(chip, host, rtol=1e-5, atol=1e-6)


@EACH_LAYER
def test_a_layer_learns_with_the_chip_in_the_loop(
    kind: type[MaskedLayer], arguments: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """The value is the chip's, the gradient that of the host's weights, and the mask's history goes on."""
    layer, x = loaded(kind, arguments, shape)
    layer.train()
    host = layer(x)
    host.square().sum().backward()
    gradient = layer.scores.grad
    layer.scores.grad = None
    layer.multiply = lambda codes, mask: exact(layer)(codes, mask) + np.float32(1e-6)
    steps = layer.selections
    chip = layer(x)
    assert layer.selections == steps + 1
    assert not torch.equal(chip, host)
    torch.testing.assert_close(chip, host, rtol=0.1, atol=2.0)
    (chip * (2 * host.detach())).sum().backward()
    torch.testing.assert_close(layer.scores.grad, gradient, rtol=1e-3, atol=1e-3)


def test_a_state_of_another_die_is_refused() -> None:
    layer = MaskedLinear(20, 7)
    weights = {"": one_of_pair(layer.shape)}
    load_weights(layer, weights, {"die": "one", "calibration": "c-1"})
    twin, other = MaskedLinear(20, 7), MaskedLinear(20, 7)
    twin.load_state_dict(layer.state_dict())
    assert twin.origin == {"die": "one", "calibration": "c-1"}
    load_weights(other, weights, {"die": "two"})
    with pytest.raises(UsageError, match="of die 'one', the layer has the weights of die 'two'"):
        other.load_state_dict(layer.state_dict())


@EACH_LAYER
def test_chunks_change_nothing(
    kind: type[MaskedLayer],
    arguments: dict[str, Any],
    shape: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = loaded(kind, arguments, shape)
    layer.multiply = exact(layer)
    whole = layer(x)
    monkeypatch.setattr(layers, "CODES_AT_ONCE", 1)
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=0)


@EACH_LAYER
def test_state_dict_is_complete(kind: type[MaskedLayer], arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer, x = loaded(kind, arguments, shape)
    fresh = kind(**arguments)
    fresh.load_state_dict(layer.state_dict())
    torch.testing.assert_close(fresh.eval()(x), layer(x), rtol=0, atol=0)


def test_a_convolution_is_in_unfold_order() -> None:
    layer = MaskedConv2d(2, 3, (3, 2), padding=(1, 0))
    x = torch.randint(0, 16, (4, 2, 5, 6), dtype=torch.uint8)
    expected = nn.functional.unfold(x.float(), (3, 2), padding=(1, 0)).transpose(1, 2).reshape(-1, 12)
    torch.testing.assert_close(layer.unfold(x).float(), expected)
    assert layer.positions(5, 6) == (5, 5)


def test_every_score_learns_and_only_scores() -> None:
    layer, x = loaded(MaskedLinear, {"inputs": 20, "outputs": 7}, (33, 20))
    layer.train()(x).square().sum().backward()
    assert [name for name, _ in layer.named_parameters()] == ["scores"]
    assert layer.scores.grad is not None
    assert bool((layer.scores.grad != 0).all())


def test_mask_keeps_its_fraction_and_the_sign_of_the_chip() -> None:
    layer, _ = loaded(MaskedLinear, {"inputs": 20, "outputs": 7, "kept": 0.3}, (33, 20))
    mask = layer.mask()
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == 42
    weights = layer.weights()
    assert torch.equal(weights != 0, mask)
    assert torch.equal(torch.sign(weights), torch.sign(layer.conductance) * mask)
    assert float(weights.detach().square().mean().sqrt() * layer.shape[0] ** 0.5) == pytest.approx(2**0.5, rel=0.1)


def test_keep_all_is_the_unpruned_network() -> None:
    layer, _ = loaded(MaskedLinear, {"inputs": 20, "outputs": 7}, (33, 20))
    layer.keep_all = True
    assert bool(layer.mask().all())
    assert bool((layer.weights() != 0).all())


def test_read_noise_is_fresh_relative_and_only_where_asked() -> None:
    layer, _ = loaded(MaskedLinear, {"inputs": 200, "outputs": 100}, (33, 200))
    ideal = layer.weights().detach()
    layer.read_noise = 0.1
    torch.testing.assert_close(layer.weights(), ideal)
    layer.train()
    first, second = layer.weights().detach(), layer.weights().detach()
    assert not torch.equal(first, second)
    kept = layer.mask()
    assert float((first[kept] / ideal[kept]).std()) == pytest.approx(0.1, rel=0.05)
    assert not first[~kept].any()
    layer.eval().evaluation_noise = 0.1
    assert not torch.equal(layer.weights(), ideal)


def test_reading_again_keeps_the_scale() -> None:
    layer, _ = loaded(MaskedLinear, {"inputs": 20, "outputs": 7}, (33, 20))
    before = float(layer.scale)
    layer.set_conductance(0.9 * one_of_pair(layer.shape))
    assert float(layer.scale) == before
    assert before * 12.2e-6 * (20 * 0.5) ** 0.5 == pytest.approx(2**0.5, rel=0.1)


def network() -> nn.Sequential:
    return nn.Sequential(MaskedLinear(6, 5), nn.ReLU(), MaskedLinear(5, 2))


def test_weights_and_masks_go_by_layer_name() -> None:
    model = network()
    assert {name: layer.shape for name, layer in masked_layers(model).items()} == {"0": (6, 5), "2": (5, 2)}
    weights = {name: one_of_pair(layer.shape) for name, layer in masked_layers(model).items()}
    load_weights(model, weights)
    np.testing.assert_array_equal(masked_layers(model)["2"].conductance.numpy(), weights["2"])
    found = masks(model)
    assert {name: (mask.dtype, mask.shape, int(mask.sum())) for name, mask in found.items()} == {
        "0": (np.bool_, (6, 5), 15),
        "2": (np.bool_, (5, 2), 5),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"2": None}, "expected \\['0', '2'\\]"),
        (
            {"2": np.ones((2, 5), np.float32)},
            "layer '2': found weights of shape \\(2, 5\\), expected \\(5, 2\\)",
        ),
        (
            {"2": np.full((5, 2), np.nan, np.float32)},
            "layer '2': 10 of 10 weights are not finite; read every cell",
        ),
        ({"2": np.zeros((5, 2), np.float32)}, "layer '2': all weights are zero; form"),
        ({"9": np.ones((5, 2), np.float32)}, "found weights for layers"),
    ],
)
def test_wrong_weights_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    model = network()
    weights = {name: one_of_pair(layer.shape) for name, layer in masked_layers(model).items()} | change
    with pytest.raises(UsageError, match=message):
        load_weights(model, {name: values for name, values in weights.items() if values is not None})


def test_misuse_is_refused() -> None:
    layer, x = loaded(MaskedLinear, {"inputs": 20, "outputs": 7}, (33, 20))
    with pytest.raises(UsageError, match="load_weights"):
        MaskedLinear(20, 7)(x)
    layer.multiply = lambda codes, mask: np.zeros((len(codes), 3), np.float32)
    with pytest.raises(ValueError, match="expected \\(33, 7\\)"):
        layer(x)
    layer.multiply = None
    with pytest.raises(UsageError, match="no setting 'keepall'"):
        configure(layer, keepall=True)


def test_a_copy_leaves_the_chip_alone() -> None:
    layer, x = loaded(MaskedLinear, {"inputs": 20, "outputs": 7}, (33, 20))
    host = layer(x)
    layer.multiply = exact(layer)
    twin = copy.deepcopy(layer)
    assert twin.multiply is None
    assert layer.multiply is not None
    torch.testing.assert_close(twin(x), host, rtol=0, atol=0)
