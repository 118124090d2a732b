"""What is kept or pruned together: single weights, the rows of a phase, or whole lines.

A unit's score is the mean of its weights' scores, and edge-popup is done on the units: those of largest |score| stay.
Every weight keeps a score of its own, whatever the granularity. The mean is of scores with their signs, not of |score|: a
weight that speaks against its unit counts against it.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from rramlab.nn.popup import Bools, Strengths, largest, require_numbers

Assignment = Literal["contiguous", "adc", "learned"]
Phases = npt.NDArray[np.int64]


class Units(Protocol):
    """How the scores [inputs, outputs] of a layer become a mask of the same shape.

    ``sizes``: how many weights each unit is, broadcasting to the units' shape.
    """

    sizes: npt.NDArray[np.int64]

    def scores(self, scores: Strengths) -> Strengths:
        """Return the score of every unit, in an array of the units' own shape."""
        ...

    def direction(self, unit_scores: Strengths) -> Strengths:
        """Return how the |score| of its units grows with each weight's score, [inputs, outputs], up to a unit's size."""
        ...

    def choose(self, strength: Strengths, count: int) -> tuple[Bools, float]:
        """Return the units of largest ``strength``, |unit score|, that together hold about ``count`` weights.

        The float is the smallest strength of them.

        Raises:
            NoNumbers: strengths are not finite.
        """
        ...

    def expand(self, chosen: Bools) -> Bools:
        """Return the mask, bool[inputs, outputs], of chosen units."""
        ...

    def gather(self, mask: Bools) -> Bools:
        """Return which units a mask keeps: the inverse of ``expand``."""
        ...


class Edges:
    """Every weight by itself."""

    sizes = np.ones(1, np.int64)

    def scores(self, scores: Strengths) -> Strengths:
        return scores

    def direction(self, unit_scores: Strengths) -> Strengths:
        return np.asarray(np.sign(unit_scores))

    def choose(self, strength: Strengths, count: int) -> tuple[Bools, float]:
        return largest(strength, count)

    def expand(self, chosen: Bools) -> Bools:
        return chosen

    def gather(self, mask: Bools) -> Bools:
        return mask


class Rows:
    """The weights of one row into the outputs of one phase: bool[inputs, K]. Phases without outputs hold nothing."""

    def __init__(self, phase: Phases, phases: int) -> None:
        self.phase = phase
        self.sizes = np.bincount(phase, minlength=phases)
        self.share = np.zeros((len(phase), phases), np.float32)
        self.share[np.arange(len(phase)), phase] = 1.0 / self.sizes[phase]
        self.first = np.array([np.argmax(phase == k) for k in range(phases)])
        self.even = bool(np.all(self.sizes == self.sizes[0]))

    def scores(self, scores: Strengths) -> Strengths:
        with np.errstate(invalid="ignore"):  # an infinite one is refused where units are chosen
            return np.asarray(scores @ self.share)

    def direction(self, unit_scores: Strengths) -> Strengths:
        return np.take(np.sign(unit_scores), self.phase, axis=1)

    def choose(self, strength: Strengths, count: int) -> tuple[Bools, float]:
        if self.even:
            return largest(strength, max(1, round(count / int(self.sizes[0]))))
        require_numbers(strength)
        order = np.argsort(-strength, axis=None, kind="stable")
        order = order[np.broadcast_to(self.sizes, strength.shape).ravel()[order] > 0]
        held = np.cumsum(self.sizes[order % len(self.sizes)])
        units = max(1, int(np.argmin(np.abs(held - count))) + 1)
        chosen = np.zeros(strength.size, np.bool_)
        chosen[order[:units]] = True
        return chosen.reshape(strength.shape), float(strength.flat[order[units - 1]])

    def expand(self, chosen: Bools) -> Bools:
        return np.take(chosen, self.phase, axis=1)

    def gather(self, mask: Bools) -> Bools:
        return np.asarray(mask[:, self.first] & (self.sizes > 0))


class Lines:
    """Whole rows and whole outputs: bool[inputs + outputs]; a weight stays where both of its lines do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs = inputs
        self.sizes = np.repeat([outputs, inputs], [inputs, outputs])

    def scores(self, scores: Strengths) -> Strengths:
        with np.errstate(invalid="ignore"):
            return np.concatenate([scores.mean(axis=1), scores.mean(axis=0)])

    def direction(self, unit_scores: Strengths) -> Strengths:
        signs = np.sign(unit_scores)
        return np.asarray((signs[: self.inputs, None] + signs[None, self.inputs :]) / 2)

    def choose(self, strength: Strengths, count: int) -> tuple[Bools, float]:
        require_numbers(strength)
        order = np.argsort(-strength, kind="stable")
        is_row = order < self.inputs
        held = np.cumsum(is_row) * np.cumsum(~is_row)
        units = int(np.argmin(np.abs(held - count))) + 1
        units = max(units, int(np.argmax(held > 0)) + 1)
        chosen = np.zeros(strength.size, np.bool_)
        chosen[order[:units]] = True
        return chosen, float(strength[order[units - 1]])

    def expand(self, chosen: Bools) -> Bools:
        return np.asarray(chosen[: self.inputs, None] & chosen[None, self.inputs :])

    def gather(self, mask: Bools) -> Bools:
        return np.concatenate([mask.any(axis=1), mask.any(axis=0)])


def assigned(outputs: int, phases: int, assignment: Assignment) -> Phases:
    """Return the phase of every output, int64[outputs], each phase of nearly the same size.

    ``contiguous``: neighbours share a phase. ``adc``: neighbours are in different phases, so that in every phase each
    ADC, which serves contiguous columns in turn, converts its share: K phases take hardly longer than one. ``learned``
    begins as ``contiguous``.
    """
    index = np.arange(outputs, dtype=np.int64)
    return index % phases if assignment == "adc" else index * phases // outputs


def regrouped(scores: Strengths, phase: Phases, phases: int, rounds: int = 10) -> Phases:
    """Return phases that bring outputs with similar scores together: Lloyd's k-means, from ``phase``."""
    columns = scores.T
    for _ in range(rounds):
        sizes = np.bincount(phase, minlength=phases)
        centre = np.zeros((phases, columns.shape[1]), columns.dtype)
        np.add.at(centre, phase, columns)
        centre /= np.maximum(sizes, 1)[:, None]
        distance = np.square(centre).sum(axis=1) - 2.0 * (columns @ centre.T)
        distance[:, sizes == 0] = np.inf
        nearest = np.argmin(distance, axis=1)
        if np.array_equal(nearest, phase):
            break
        phase = nearest
    return np.asarray(phase, np.int64)
