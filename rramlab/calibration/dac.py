"""What a DAC channel puts out, against a source-measure unit: a straight line, by generalised least squares.

Readings on one range of the unit share its gain and offset error. So their covariance is not diagonal: that of what
scatters, plus gain_u² v vᵀ and offset_u² 1 1ᵀ within each range. Low levels tell the offset, high ones the gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.calibration.uncertainty import rectangular
from rramlab.drivers.smu.smufile import Accuracy

Floats = npt.NDArray[np.float64]
FEWEST_LEVELS = 5
LARGEST_ERROR = 0.05  # of gain; beyond that it is another channel, or not connected


@dataclass(frozen=True, eq=False)
class DacFit:
    """V = gain × nominal + offset_V. ``covariance``: float64[2, 2] of gain and offset; ``residual_V``: RMS.
    ``nominal_V``, ``measured_V``: float64[levels], what it rests on.
    """

    gain: float
    offset_V: float
    covariance: Floats
    residual_V: float
    nominal_V: Floats
    measured_V: Floats

    @property
    def gain_u(self) -> float:
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def offset_u(self) -> float:
        return float(np.sqrt(self.covariance[1, 1]))


def fit(nominal_V: Floats, measured_V: Floats, accuracy: Accuracy) -> DacFit:
    """Fit the line; ``nominal_V``, ``measured_V``: float64[levels].

    Raises:
        DataError: too few levels, or this cannot be the channel.
    """
    if nominal_V.size < FEWEST_LEVELS or np.ptp(nominal_V) <= 0:
        raise DataError(f"found {nominal_V.size} levels of the DAC, expected at least {FEWEST_LEVELS} that differ")
    design = np.stack([nominal_V, np.ones_like(nominal_V)], axis=1)
    first, *_ = np.linalg.lstsq(design, measured_V, rcond=None)
    # Of what scatters, at least the step of the DAC's own rounding and the unit's last digits.
    scatter = max(float((measured_V - design @ first).std(ddof=2)), 1e-6)
    covariance = np.eye(nominal_V.size) * scatter**2
    held = np.array([_range(accuracy, float(volts)) for volts in measured_V])
    for index in np.unique(held):
        here = held == index
        entry = accuracy.voltage[int(index)]
        share, offset = rectangular(entry.ppm * 1e-6), rectangular(entry.offset)
        on = np.where(here, measured_V, 0.0)
        covariance += share**2 * np.outer(on, on) + offset**2 * np.outer(here, here)
    weight = np.linalg.inv(covariance)
    errors = np.linalg.inv(design.T @ weight @ design)
    gain, offset = errors @ design.T @ weight @ measured_V
    if abs(gain - 1) > LARGEST_ERROR:
        raise DataError(
            f"the DAC puts out {gain:.3f} times what it is asked for, expected within {LARGEST_ERROR:.0%} of it: it is another "
            "channel, or it is not at the unit's terminals. Check the route of the board"
        )
    residual = measured_V - (gain * nominal_V + offset)
    return DacFit(float(gain), float(offset), errors, float(np.sqrt(np.mean(residual**2))), nominal_V, measured_V)


def _range(accuracy: Accuracy, volts: float) -> int:
    ranges = [entry.range for entry in accuracy.voltage]
    return next((index for index, full in enumerate(ranges) if abs(volts) <= full), len(ranges) - 1)
