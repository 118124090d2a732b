"""Where networks are trained: the processor, or a graphics processor, with the same selection and the same promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rramlab.base.errors import RramlabError, UsageError
from rramlab.nn.popup import largest, largest_there
from rramlab.training.device import device_named


@given(arrays(np.float32, (6, 5), elements=st.floats(0, 4, width=16)), st.integers(1, 30))
def test_a_tensor_is_selected_where_it_is_as_numpy_selects_it(strength: np.ndarray, count: int) -> None:
    assert np.array_equal(largest_there(torch.from_numpy(strength), count).numpy(), largest(strength, count)[0])


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(RramlabError, match="diverged"):
        largest_there(torch.tensor([1.0, float("nan"), float("nan")]), 2)
    with pytest.raises(ValueError, match="cannot keep 4 of 3"):
        largest_there(torch.ones(3), 4)


@pytest.mark.parametrize(
    ("name", "message"), [("gpu", "there is no device 'gpu'"), ("cuda:99", "finds no device 'cuda:99'")]
)
def test_a_device_that_is_not_there_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        device_named(name)
    assert device_named("cpu").type == "cpu"
