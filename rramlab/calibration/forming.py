"""The breakdown curve of a die from a ramp: at each voltage, which cells conduct that did not before.

A cell breaks down between the last voltage that left it insulating and the first after which it conducts. So its breakdown
voltage is known as an interval, and the normal distribution behind all of them is found by maximum likelihood for
interval-censored data (Turnbull, J. R. Stat. Soc. B 38, 290, 1976, for a parametric family); the uncertainties are those of
the observed information.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.macro.cells import is_conducting
from rramlab.runs.rounds import layers
from rramlab.runs.store import Block, Run

FEWEST_CELLS = 30  # that break down within the ramp: fewer give a mean no better than 20 mV
FEWEST_STEPS = 3
MOST_LOST = 0.05  # of the cells: a few lie at the threshold
_VOLTAGE = "voltage"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ramp:
    """What a ramp showed: each cell's breakdown voltage lies above ``low_V`` and not above ``high_V``, float64[cells]."""

    low_V: Floats
    high_V: Floats


@dataclass(frozen=True)
class Fit:
    """Mean and standard deviation (V) of breakdown voltages with standard uncertainties; ``formed`` of ``cells`` did form."""

    mean_V: float
    mean_u: float
    sigma_V: float
    sigma_u: float
    cells: int
    formed: int


def ramp_of(run: Run) -> Ramp:
    """Read the ramp from a run of ``electroform-ramp``.

    Raises:
        DataError: it holds none, or another die's from some voltage on.
    """
    before = layers(list(run.blocks("before")))
    steps = [layer for layer in layers(list(run.blocks("ramp"))) if _VOLTAGE in layer.labels]
    if not before or not steps:
        raise DataError(f"run {run.id} holds no ramp; it must be one of the protocol electroform-ramp")
    steps.sort(key=lambda layer: float(layer.labels[_VOLTAGE][0]))
    volts = np.array([float(layer.labels[_VOLTAGE][0]) for layer in steps])
    conducts = np.stack([is_conducting(_siemens(layer.blocks)) for layer in (before[0], *steps)])
    lost = float(np.mean((conducts[:-1] & ~conducts[1:]).any(axis=0)))
    if lost > MOST_LOST:
        raise DataError(
            f"{lost:.0%} of the cells of run {run.id} conducted and did not at the next voltage: a formed cell stays "
            f"formed, so another "
            "die came into the socket half-way, or the contact was lost. Nothing was written. Run rramlab contact, "
            "then ramp a corner "
            "that was not ramped yet"
        )
    fresh = conducts[:, ~conducts[0]]
    edges = np.concatenate([[-np.inf], volts, [np.inf]])
    formed = fresh[1:].any(axis=0)
    first = np.where(formed, fresh[1:].argmax(axis=0), len(volts))
    return Ramp(edges[first], edges[first + 1])


def _siemens(blocks: list[Block]) -> npt.NDArray[np.float32]:
    parts = []
    for block in blocks:
        array = block.load()
        parts.append(array["conductance"][array["valid"]])
    return np.concatenate(parts)


def fit(ramp: Ramp) -> Fit:
    """Fit a normal distribution.

    Raises:
        DataError: too few cells broke down within the ramp, or all at one step: what to change.
    """
    from scipy.optimize import minimize
    from scipy.special import log_ndtr

    low, high = ramp.low_V, ramp.high_V
    inside = np.isfinite(low) & np.isfinite(high)
    steps = np.unique(high[inside]).size
    if np.count_nonzero(inside) < FEWEST_CELLS or steps < FEWEST_STEPS:
        raise DataError(
            f"{np.count_nonzero(inside)} of {low.size} cells broke down within the ramp, at {steps} of its voltages; a curve "
            f"needs at least {FEWEST_CELLS} cells and {FEWEST_STEPS} voltages. Take more cells, begin lower, go higher, or use "
            "smaller steps"
        )

    def cost(parameters: Floats) -> float:
        mean, sigma = parameters[0], np.exp(parameters[1])
        upper, lower = log_ndtr((high - mean) / sigma), log_ndtr((low - mean) / sigma)
        # log(exp(upper) - exp(lower)), where the lower is the smaller one
        return -float(np.sum(upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-300)))))

    middle = (low[inside] + high[inside]) / 2
    start = np.array([middle.mean(), np.log(max(middle.std(), 1e-3))])
    found = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8, "maxiter": 4000})
    covariance = np.linalg.inv(_information(cost, found.x))
    sigma = float(np.exp(found.x[1]))
    return Fit(
        float(found.x[0]),
        float(np.sqrt(covariance[0, 0])),
        sigma,
        float(np.sqrt(covariance[1, 1])) * sigma,
        int(low.size),
        int(np.count_nonzero(np.isfinite(high))),
    )


def _information(cost: Callable[[Floats], float], at: Floats) -> Floats:
    """Return the second derivatives at a minimum by central differences."""
    steps = np.diag([1e-4, 1e-3])

    found = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            a, b = steps[i], steps[j]
            corners = cost(at + a + b) - cost(at + a - b) - cost(at + b - a) + cost(at - a - b)
            found[i, j] = corners / (4 * steps[i, i] * steps[j, j])
    return found
