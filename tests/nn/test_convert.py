"""Torch models become masked ones, layer by layer and under their names; what has no macro form is refused."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import MaskedRNN, convert, load_weights, masked_layers, masks

from .test_layers import exact, one_of_pair


def with_weights(model: nn.Module) -> nn.Module:
    load_weights(model, {name: one_of_pair(layer.shape, 3) for name, layer in masked_layers(model).items()})
    return model


def on_ideal_chip(model: nn.Module) -> nn.Module:
    for layer in masked_layers(model).values():
        layer.multiply = exact(layer)
    return model


class Everything(nn.Module):
    """Each kind of layer, with biases, a layer used twice, and a list of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            OrderedDict[str, nn.Module](conv=nn.Conv2d(1, 4, 3, stride=2, padding=1), norm=nn.BatchNorm2d(4))
        )
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.mix = nn.ModuleList([nn.Conv2d(3, 3, 3, padding="same", bias=False)])
        self.rnn = nn.RNN(24, 6, nonlinearity="relu", batch_first=True)
        self.twice = nn.Linear(6, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.up(torch.relu(self.down(x))))
        x = torch.relu(self.mix[0](x)).permute(0, 2, 1, 3).flatten(2)  # rows are time
        states, _ = self.rnn(x)
        return self.head(torch.relu(self.twice(torch.relu(self.twice(states.mean(1))))))


def test_every_kind_of_layer_is_turned_and_agrees_with_the_chip() -> None:
    torch.manual_seed(0)
    plain = Everything()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    model = with_weights(convert(plain, kept=0.4, bits=5))
    assert {name: layer.shape for name, layer in masked_layers(model).items()} == {
        "down.conv": (9, 4),
        "up": (4, 12),
        "mix.0": (27, 3),
        "rnn.input": (24, 6),
        "rnn.hidden": (6, 6),
        "twice": (6, 6),
        "head": (6, 5),
    }
    assert all((layer.kept, layer.bits) == (0.4, 5) for layer in masked_layers(model).values())
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    x = torch.rand(7, 1, 8, 8)
    assert model(x).shape == plain(x).shape
    model(x).square().sum().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, _ in model.named_parameters()}
    assert {name for name in learning if not name.endswith("scores")} == {
        "down.conv.bias", "down.norm.weight", "down.norm.bias", "up.bias", "rnn.input.bias", "twice.bias", "head.bias",
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    model.eval()
    host = model(x)
    torch.testing.assert_close(on_ideal_chip(model)(x), host, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 5), (3, 6)),
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (3, 2, 7, 5)),
        (nn.Conv2d(2, 3, 3, padding="valid"), (3, 2, 7, 5)),
        (nn.ConvTranspose2d(2, 3, (3, 2), (2, 3), (1, 0), (1, 2)), (3, 2, 4, 5)),
        (nn.RNN(4, 3, nonlinearity="relu"), (6, 2, 4)),
        (nn.RNN(4, 3, nonlinearity="relu", batch_first=True, bias=False), (6, 2, 4)),
    ],
    ids=["linear", "conv", "valid", "transposed", "rnn", "rnn batch first"],
)
def test_a_masked_layer_computes_what_torch_does_with_its_weights(layer: Any, shape: tuple[int, ...]) -> None:
    """Rows are in torch's own order: the torch layer with the masked weights gives the same."""
    model = with_weights(convert(layer, bits=8))
    model(torch.rand(shape))
    torch.manual_seed(0)
    with torch.no_grad():
        x = torch.randint(0, 256, shape).float()
        for part in masked_layers(model).values():
            part.quantiser.clip.fill_(255.0 * 64)
            if part.bias is not None:
                part.bias.normal_()
        masked = {name.rpartition(".")[2]: part for name, part in masked_layers(model).items()}
        if isinstance(layer, nn.RNN):
            masked["input"].quantiser.clip.fill_(255.0)
            layer.weight_ih_l0.copy_(masked["input"].weights().t())
            layer.weight_hh_l0.copy_(masked["hidden"].weights().t())
            if layer.bias:
                layer.bias_ih_l0.copy_(masked["input"].bias)
                layer.bias_hh_l0.zero_()
        else:
            masked[""].quantiser.clip.fill_(255.0)
            weights = masked[""].weights()
            turned = weights if isinstance(layer, nn.ConvTranspose2d) else weights.t()
            layer.weight.copy_(turned.reshape(layer.weight.shape))
            layer.bias.copy_(masked[""].bias)
        model.eval()
        if isinstance(layer, nn.RNN):  # states are rounded to codes between the steps
            got, expected = model(x), layer(x)
            assert got[0].shape == expected[0].shape
            assert got[1].shape == expected[1].shape
            assert np.corrcoef(got[0].flatten(), expected[0].flatten())[0, 1] > 0.99
            torch.testing.assert_close(got[1][0], got[0][:, -1] if layer.batch_first else got[0][-1])
        else:
            torch.testing.assert_close(model(x), layer(x), rtol=1e-4, atol=1e-3)


def test_the_mask_of_a_recurrent_layer_is_taken_once_a_sequence() -> None:
    torch.manual_seed(0)
    rnn = with_weights(MaskedRNN(5, 4))
    assert isinstance(rnn, MaskedRNN)
    rnn(torch.rand(9, 3, 5))[0].sum().backward()
    assert rnn.hidden.selections == rnn.input.selections == 1
    assert rnn.hidden.scores.grad is not None
    assert bool((rnn.hidden.scores.grad != 0).any())


def test_read_noise_of_a_recurrent_layer_is_fresh_at_every_step() -> None:
    torch.manual_seed(0)
    layer = with_weights(MaskedRNN(5, 4)).hidden
    layer.read_noise = 0.1
    product = layer.product()
    x = torch.rand(3, 4)
    assert not torch.equal(product(x), product(x))
    layer.read_noise = 0.0
    assert torch.equal(product(x), product(x))


def test_states_go_on_from_one_piece_of_a_sequence_to_the_next() -> None:
    torch.manual_seed(0)
    rnn = with_weights(MaskedRNN(5, 4))
    x = torch.rand(8, 3, 5)
    rnn(x)
    rnn.eval()
    whole, last = rnn(x)
    first, state = rnn(x[:3])
    second, end = rnn(x[3:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(end, last)
    with pytest.raises(UsageError, match="three axes"):
        rnn(x[0])


def test_a_long_sequence_does_not_run_away() -> None:
    torch.manual_seed(0)
    rnn = with_weights(MaskedRNN(64, 64))
    with torch.no_grad():
        states, _ = rnn(torch.rand(200, 4, 64))
    assert float(states[-20:].std()) < 3 * float(states[10:30].std())


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 3))


REFUSED: list[tuple[nn.Module, str]] = [
    (nn.Conv2d(4, 4, 3, groups=2), "2 groups.*take groups=1"),
    (nn.Conv2d(4, 4, 3, dilation=2), "dilation=1"),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "padding_mode='zeros'"),
    (nn.Conv2d(4, 4, 2, padding="same"), "even kernel"),
    (nn.ConvTranspose2d(4, 4, 3, groups=4), "groups=1"),
    (nn.RNN(4, 4), "nonlinearity='relu'"),
    (nn.RNN(4, 4, nonlinearity="relu", num_layers=2), "one RNN for each"),
    (nn.RNN(4, 4, nonlinearity="relu", bidirectional=True), "one RNN for each"),
    (nn.LSTM(4, 4), r"none of Linear, Conv2d, ConvTranspose2d, RNN.*digital=\['1'\]"),
    (nn.Conv1d(4, 4, 3), "none of Linear"),
    (nn.Embedding(4, 4), "none of Linear"),
    (Own(), "none of Linear"),
]


@pytest.mark.parametrize(
    ("layer", "message"), REFUSED, ids=[f"{type(layer).__name__}{n}" for n, (layer, _) in enumerate(REFUSED)]
)
def test_a_layer_with_no_macro_form_is_refused_by_name(layer: nn.Module, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(UsageError, match=f"layer '1', a {type(layer).__name__}, has no macro form: .*{message}"):
        convert(model)
    kept = convert(model, digital=["1"])
    assert masked_layers(kept).keys() == {"0"}
    assert type(kept[1]) is type(layer)  # type: ignore[index]


def test_other_refusals_say_what_to_do() -> None:
    with pytest.raises(UsageError, match="no layer to convert"):
        convert(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)))
    with pytest.raises(UsageError, match=r"no layers \['9'\]; it has \['0'\]"):
        convert(nn.Sequential(nn.Linear(4, 4)), digital=["9"])
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(UsageError, match="'0' and '1' share a weight"):
        convert(tied)
    with pytest.raises(UsageError, match="put a ReLU before"):
        with_weights(convert(nn.Linear(4, 4)))(torch.randn(3, 4))


def test_weights_can_come_with_the_conversion() -> None:
    plain = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    shapes = {name: layer.shape for name, layer in masked_layers(convert(plain)).items()}
    model = convert(
        plain,
        {name: one_of_pair(shape) for name, shape in shapes.items()},
        granularity="phase",
        phases=2,
    )
    assert model(torch.rand(3, 6)).shape == (3, 2)
    assert all(len(np.unique(mask, axis=1).T) <= 2 for mask in masks(model).values())
