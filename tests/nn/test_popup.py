"""The selection: exactly the wanted number, the largest, the same every time; and its gradient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rramlab.base.errors import RramlabError
from rramlab.nn import kept_count, pop_up, top_fraction

ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=12),
    elements=st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5]), st.floats(-4, 4, width=32)),
)


@given(scores=ARRAYS, part=st.floats(0.01, 1.0))
@settings(deadline=None)
def test_keeps_exactly_the_largest(scores: npt.NDArray[np.float32], part: float) -> None:
    count = kept_count(scores.size, part)
    selected = top_fraction(scores, count)
    assert selected.shape == scores.shape
    assert np.count_nonzero(selected) == count
    if count < scores.size:
        assert np.abs(scores[selected]).min() >= np.abs(scores[~selected]).max()


@given(scores=ARRAYS, part=st.floats(0.01, 1.0))
@settings(deadline=None)
def test_equals_a_stable_sort(scores: npt.NDArray[np.float32], part: float) -> None:
    count = kept_count(scores.size, part)
    expected = np.zeros(scores.size, np.bool_)
    expected[np.argsort(-np.abs(scores).ravel(), kind="stable")[:count]] = True
    np.testing.assert_array_equal(top_fraction(scores, count).ravel(), expected)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(RramlabError, match="diverged"):
        top_fraction(np.array([1.0, np.nan, np.nan, np.nan], np.float32), 2)


@pytest.mark.parametrize("count", [0, 5])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="cannot keep"):
        top_fraction(np.zeros(4, np.float32), count)


@pytest.mark.parametrize("part", [0.0, 1.5, -1.0, float("nan")])
def test_impossible_fractions_are_refused(part: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        kept_count(10, part)


def test_gradient_passes_straight_through_to_every_score() -> None:
    scores = torch.tensor([[0.9, -0.8], [0.1, -0.2]], requires_grad=True)
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    masked = pop_up(scores, weights, torch.tensor([[True, True], [False, False]]))
    torch.testing.assert_close(masked, torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    masked.sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[1.0, -2.0], [3.0, -4.0]]))
