"""Activation codes: nearest, unbiased, and the same numbers on both paths."""

from __future__ import annotations

import pytest
import torch

from rramlab.base.errors import UsageError
from rramlab.nn import UnsignedQuantiser


def seen(bits: int, clip: float) -> UnsignedQuantiser:
    quantiser = UnsignedQuantiser(bits)
    quantiser.clip.fill_(clip)
    return quantiser.eval()


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_the_nearest_and_cover_their_range(bits: int) -> None:
    quantiser = seen(bits, 2.0)
    x = torch.linspace(0, 3, 1001)
    codes = quantiser.codes(x)
    assert codes.dtype == torch.uint8
    assert int(codes.min()) == 0
    assert int(codes.max()) == 2**bits - 1
    inside = x <= 2.0
    assert float((codes[inside] * quantiser.step - x[inside]).abs().max()) <= quantiser.step * 0.5001


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_forward_is_codes_times_step(bits: int) -> None:
    quantiser = seen(bits, 1.3)
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 1.5
    torch.testing.assert_close(quantiser(x), quantiser.codes(x) * quantiser.step)


def test_rounding_has_no_bias() -> None:
    quantiser = seen(4, 15.0)
    x = torch.arange(0, 15, 0.125)  # every offset within a step, halves included
    assert float((quantiser(x) - x).mean()) == pytest.approx(0.0, abs=0.005)


def test_gradient_stops_where_the_input_is_clipped() -> None:
    x = torch.tensor([0.2, 0.99, 1.5], requires_grad=True)
    seen(4, 1.0)(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 1.0, 0.0]))


def test_range_follows_training_and_freezes_in_evaluation() -> None:
    quantiser = UnsignedQuantiser(4)
    quantiser(torch.linspace(0, 1, 100))
    assert float(quantiser.clip) == pytest.approx(1.0)  # 3 times the root mean square is more than the maximum
    quantiser(torch.linspace(0, 2, 100))
    grown = float(quantiser.clip)
    assert 1.0 < grown < 2.0
    quantiser.eval()
    quantiser(torch.linspace(0, 9, 100))
    quantiser.codes(torch.linspace(0, 9, 100))
    assert float(quantiser.clip) == grown


def test_an_outlier_does_not_set_the_range() -> None:
    quantiser = UnsignedQuantiser(4)
    x = torch.linspace(0, 1, 1000)
    x[0] = 50.0
    quantiser(x)
    assert float(quantiser.clip) < 10.0


def test_a_dead_input_has_a_range_all_the_same() -> None:
    quantiser = UnsignedQuantiser(4)
    assert not quantiser(torch.zeros(10)).any()


def test_errors_say_what_to_do() -> None:
    with pytest.raises(UsageError, match="train the network"):
        UnsignedQuantiser(4).eval()(torch.rand(3))
    with pytest.raises(UsageError, match="put a ReLU before"):
        UnsignedQuantiser(4)(torch.tensor([-0.1, 1.0]))
    with pytest.raises(UsageError, match="put a ReLU before"):
        seen(4, 1.0).codes(torch.tensor([-0.1, 1.0]))
    with pytest.raises(ValueError, match="1 to 8 bits"):
        UnsignedQuantiser(9)


@pytest.mark.parametrize("shape", [(40, 3, 50, 50), (7, 5)])
def test_a_rectifying_quantiser_is_a_relu_and_a_quantiser(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    one, two = UnsignedQuantiser(4, rectify=True), UnsignedQuantiser(4)
    for quantiser in (one, two):
        quantiser.clip.fill_(2.0)
        quantiser.eval()
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    there, expected = one(first), two(torch.relu(second))
    torch.testing.assert_close(there, expected)
    assert torch.equal(one.codes(x), two.codes(torch.relu(x)))
    for y in (there, expected):
        (y * torch.arange(y.numel()).view_as(y)).sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_a_rectifying_quantiser_follows_what_the_relu_passes() -> None:
    generator = torch.Generator().manual_seed(4)
    one, two = UnsignedQuantiser(4, rectify=True), UnsignedQuantiser(4)
    for _ in range(60):
        x = torch.randn(64, 16, 20, 20, generator=generator)
        one(x)
        two(torch.relu(x))
    assert float(one.clip) == pytest.approx(float(two.clip), rel=0.02)  # one looks at a part of the batch


@pytest.mark.parametrize("calls", [2, 3, 4, 8])
def test_every_call_of_a_step_is_followed(calls: int) -> None:
    """A recurrent layer is passed through at several times, and its range is that of all."""
    quantiser, clips = UnsignedQuantiser(4, rectify=True), []
    for _ in range(400):
        for call in range(calls):
            quantiser(torch.full((8, 4), 1.0 + call))
        clips.append(float(quantiser.clip))
    assert sum(clips[100:]) / 300 == pytest.approx((1 + calls) / 2, rel=0.15)


def test_the_range_is_forgotten_on_demand() -> None:
    quantiser = UnsignedQuantiser(4)
    quantiser(torch.linspace(0, 1, 100))
    quantiser.forget()
    quantiser(torch.linspace(0, 3, 100))
    assert float(quantiser.clip) == pytest.approx(3.0)


def test_the_range_of_a_long_training_is_that_of_its_data() -> None:
    quantiser = UnsignedQuantiser(4)
    for _ in range(200):
        quantiser(torch.linspace(0, 1, 100))
    for _ in range(200):
        quantiser(torch.linspace(0, 2, 100))
    assert float(quantiser.clip) == pytest.approx(2.0, rel=1e-3)
