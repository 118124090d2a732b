"""Stretched training samples: what may move, how far, and that a training with them repeats and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rramlab.nn import masked_layers
from rramlab.training import Dataset, load_recipe
from rramlab.training.loop import fit
from rramlab.training.stretching import stretched

from .conftest import give_weights

reaches = st.floats(0.0, 6.0)


def ramp(count: int, bands: int, frames: int) -> torch.Tensor:
    """Samples whose value is the place along the last axis."""
    return torch.arange(frames, dtype=torch.float32).expand(count, 1, bands, frames)


@given(st.integers(1, 5), st.integers(2, 9), st.integers(2, 9), reaches, reaches, st.integers(0, 2**32))
def test_ends_move_by_no_more_than_they_may(
    count: int, bands: int, frames: int, low: float, high: float, seed: int
) -> None:
    torch.manual_seed(seed)
    found = stretched(ramp(count, bands, frames), (low, high))
    assert found.shape == (count, 1, bands, frames)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert float(found.min()) >= 0
    assert float(found.max()) <= frames - 1
    assert float(found[..., 0].max()) <= high + 1e-4
    assert float(found[..., -1].min()) >= frames - 1 - high - 1e-4
    # What varies along frames alone is the same in every band, whatever the bands were stretched by.
    torch.testing.assert_close(found, found[:, :, :1].expand_as(found))


@given(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32))
def test_nothing_moves_without_reach(count: int, bands: int, frames: int, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).random((count, 2, bands, frames), np.float32))
    assert torch.equal(stretched(x, (0.0, 0.0)), x)
    torch.manual_seed(seed)
    along = stretched(x, (1.0, 0.0))
    torch.manual_seed(seed)
    assert torch.equal(along, stretched(x.transpose(2, 3), (1.0,)).transpose(2, 3))


def test_each_sample_is_stretched_on_its_own_and_evenly() -> None:
    torch.manual_seed(0)
    found = stretched(ramp(500, 2, 20) + 10, (0.0, 2.0))[:, 0, 0]
    assert len(torch.unique(found[:, 10])) > 400
    inside = (found[:, 0] > 10) & (found[:, -1] < 29)  # no end beyond the sample: still a straight line
    assert 80 < int(inside.sum()) < 180  # a quarter of all
    steps = found[inside].diff(dim=1)
    assert float((steps - steps.mean(1, keepdim=True)).abs().max()) < 1e-4
    assert float(found[:, 0].mean()) == pytest.approx(
        10.5, abs=0.1
    )  # half of the first ends stay, the others move by 1


def test_a_training_with_stretched_samples_goes_on_to_the_same_bits(digits: Dataset, tmp_path: Path) -> None:
    recipe = load_recipe("digits").changed({"epochs": 3, "stretch": (0.5, 1)})
    whole, parts, plain = (give_weights(recipe.model()) for _ in range(3))
    history = fit(whole, recipe, digits).history
    asked = iter([False] * recipe.steps(digits) * 2 + [True] * 1000)
    first = fit(parts, recipe, digits, checkpoint=tmp_path / "c.pt", stop=lambda: next(asked))
    assert first.stopped
    parts = give_weights(recipe.model())
    again = fit(parts, recipe, digits, checkpoint=tmp_path / "c.pt", resume=True).history
    assert [each.loss for each in again] == [each.loss for each in history]
    for name, layer in masked_layers(whole).items():
        assert torch.equal(layer.scores, masked_layers(parts)[name].scores)
    unstretched = fit(plain, recipe.changed({"stretch": None}), digits).history
    assert unstretched[0].loss != history[0].loss
