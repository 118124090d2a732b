"""Masks of phases and lines: what belongs together stays or goes together, in the trainer as on the die."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rramlab.base.errors import UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.nn import MaskedLinear, Masking, fix_masks, masks, regroup, share_kept

from .test_layers import one_of_pair

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 12))


def layer(shape: tuple[int, int], seed: int = 0, **masking: Any) -> MaskedLinear:
    torch.manual_seed(seed)
    made = MaskedLinear(*shape, **masking)
    made.set_conductance(one_of_pair(shape, seed))
    return made


@given(
    shape=SHAPES,
    phases=st.integers(1, 15),
    kept=st.floats(0.05, 1.0),
    assignment=st.sampled_from(["contiguous", "adc", "learned"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_a_phase_mask_needs_no_more_patterns_than_phases(
    shape: tuple[int, int], phases: int, kept: float, assignment: Any, seed: int
) -> None:
    made = layer(shape, seed, kept=kept, granularity="phase", phases=phases, assignment=assignment)
    regroup(made)
    kept_pairs = made.mask().numpy()
    assert made.phase is not None
    for phase in made.phase.unique():
        members = kept_pairs[:, (made.phase == phase).numpy()]
        assert np.array_equal(members, np.repeat(members[:, :1], members.shape[1], axis=1))
    mask = Mask({"fc": kept_pairs}, "phase", phases)
    placement = Placement.pack({"fc": shape}, Geometry(16, 96), 8)  # up to three tiles
    together = np.zeros((16, 96), np.int64)
    for pattern in placement.gates(mask).values():
        assert pattern.phases <= min(phases, shape[1])
        together += pattern.cells
    assert np.array_equal(together, placement.cells(mask).bits)


@given(shape=SHAPES, kept=st.floats(0.05, 1.0), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_line_mask_is_one_set_of_rows_and_one_of_columns(shape: tuple[int, int], kept: float, seed: int) -> None:
    kept_pairs = layer(shape, seed, kept=kept, granularity="line").mask().numpy()
    assert kept_pairs.any()
    assert np.array_equal(kept_pairs, kept_pairs.any(axis=1, keepdims=True) & kept_pairs.any(axis=0, keepdims=True))
    placement = Placement.pack({"fc": shape}, Geometry(16, 96), 8)
    assert all(pattern.phases <= 1 for pattern in placement.gates(Mask({"fc": kept_pairs}, "line")).values())


@pytest.mark.parametrize("masking", [{"granularity": "phase", "phases": 16}, {"granularity": "line"}])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_the_kept_fraction_is_of_weights(masking: Masking, kept: float) -> None:
    made = layer((400, 128), kept=kept, **masking)
    assert float(made.mask().float().mean()) == pytest.approx(kept, abs=0.005)


def test_the_kept_fraction_is_of_weights_where_phases_differ_in_size() -> None:
    made = layer((400, 10), granularity="phase", phases=4)  # two or three outputs a phase
    assert float(made.mask().float().mean()) == pytest.approx(0.5, abs=0.001)


def test_as_many_phases_as_outputs_are_single_weights() -> None:
    edges, rows = layer((30, 7)), layer((30, 7), granularity="phase", phases=64)
    assert torch.equal(edges.mask(), rows.mask())


def test_what_stays_has_the_largest_mean_score_by_magnitude() -> None:
    made = layer((20, 8), granularity="phase", phases=2)
    with torch.no_grad():
        made.scores.fill_(0.1)
        made.scores[:10, :4] = -0.5
        made.scores[10:, 4:] = 0.5
        made.scores[10:, ::2] *= -1.0  # large, but they do not agree
    mask = made.mask()
    assert bool(mask[:10].all())
    assert not bool(mask[10:].any())


@pytest.mark.parametrize("assignment", ["contiguous", "adc"])
def test_phases_are_of_one_size_and_keep_their_columns(assignment: Any) -> None:
    made = layer((5, 64), granularity="phase", phases=16, assignment=assignment)
    phase = made.phase
    assert phase is not None
    assert torch.equal(torch.bincount(phase), torch.full((16,), 4))
    before = phase.clone()
    regroup(made)
    assert torch.equal(phase, before)
    # Any 16 pairs in a row, as one ADC serves: of one phase in four, or one of each.
    assert len(set(phase[:16].tolist())) == (4 if assignment == "contiguous" else 16)


def test_learned_phases_bring_alike_outputs_together() -> None:
    made = layer((40, 8), granularity="phase", phases=2, assignment="learned")
    alike = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    with torch.no_grad():
        made.scores[:] = torch.where((torch.arange(40) < 20)[:, None] == (alike == 0), 0.5, 0.1)
        made.scores[0, 0] = 0.6  # k-means needs a first difference between the two
        made.scores[:20, 2] = 0.9
    regroup(made)
    assert made.phase is not None
    assert torch.equal(made.phase == made.phase[0], alike == 0)
    twin = MaskedLinear(40, 8, granularity="phase", phases=2, assignment="learned")
    twin.mask()
    twin.load_state_dict(made.state_dict())
    assert torch.equal(twin.mask(), made.mask())


@pytest.mark.parametrize(
    "masking",
    [
        {"granularity": "phase"},
        {"phases": 3},
        {"granularity": "phase", "phases": 0},
        {"granularity": "line", "phases": 2},
    ],
)
def test_contradictions_are_refused(masking: Any) -> None:
    with pytest.raises(UsageError, match="'phase' needs a number"):
        MaskedLinear(4, 3, **masking)


def test_the_gradient_of_a_unit_is_that_of_its_score_taken_for_its_mask() -> None:
    made = layer((6, 4), granularity="phase", phases=2)
    x = torch.rand(9, 6)
    made(x).sum().backward()
    single = layer((6, 4))
    with torch.no_grad():
        single.scores.abs_()
    single(x).sum().backward()
    assert single.scores.grad is not None
    unit = made.scores.detach().view(6, 2, 2).mean(dim=2)
    expected = single.scores.grad * unit.sign().repeat_interleave(2, dim=1)
    torch.testing.assert_close(made.scores.grad, expected)


def test_lines_learn_too() -> None:
    made = layer((30, 8), granularity="line")
    made(torch.rand(9, 30)).square().sum().backward()
    assert made.scores.grad is not None
    assert bool(made.scores.grad.any())
    assert masks(made).keys() == {""}


@given(seed=st.integers(0, 99), share=st.floats(0.02, 1.0))
@settings(deadline=None)
def test_a_fixed_mask_stays_whatever_was_learned(seed: int, share: float) -> None:
    model = torch.nn.Sequential(layer((9, 5), seed), torch.nn.ReLU(), layer((5, 4), seed))
    share_kept(model)
    rng = np.random.default_rng(seed)
    wanted = {name: rng.random(found.shape) < share for name, found in masks(model).items()}
    for found in wanted.values():
        found[0, 0] = True
    fix_masks(model, wanted)
    with torch.no_grad():
        model.train()(torch.rand(6, 9))  # as when statistics are measured
    for name, found in masks(model.eval()).items():
        np.testing.assert_array_equal(found, wanted[name])


@pytest.mark.parametrize("masking", [{}, {"granularity": "phase", "phases": 2}, {"granularity": "line"}])
def test_any_mask_can_be_fixed_but_an_empty_one(masking: Any) -> None:
    model = torch.nn.Sequential(layer((9, 4), **masking), torch.nn.ReLU(), layer((4, 3), **masking))
    wanted = np.random.default_rng(0).random((9, 4)) < 0.3
    other = masks(model)["2"]
    fix_masks(model, {"0": wanted})
    np.testing.assert_array_equal(masks(model)["0"], wanted)
    np.testing.assert_array_equal(masks(model)["2"], other)
    with pytest.raises(UsageError, match="'2' is to keep nothing"):
        fix_masks(model, {"2": np.zeros((4, 3), np.bool_)})
