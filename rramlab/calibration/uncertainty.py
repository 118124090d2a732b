"""Standard uncertainties of what a source-measure unit reads, from the limits of error that its data sheet promises.

A limit of error is taken as the half-width of a rectangular distribution: standard uncertainty limit / √3 (JCGM 100:2008,
"GUM", 4.3.7). What scatters from reading to reading comes on top, from the readings themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.drivers.smu.smufile import Accuracy

Floats = npt.NDArray[np.float64]


def rectangular(limit: float) -> float:
    """Return the standard uncertainty of what lies anywhere within ± ``limit``."""
    return limit / math.sqrt(3)


@dataclass(frozen=True)
class UnitReading:
    """The mean of some readings of one thing. ``*_u``: of the unit's specification; ``scatter``: relative, of the mean
    conductance; 0 where there is one reading.
    """

    volts: float
    volts_u: float
    amperes: float
    amperes_u: float
    scatter: float
    count: int

    @property
    def siemens(self) -> float:
        return self.amperes / self.volts

    @property
    def specified(self) -> float:
        """Relative standard uncertainty of the conductance that comes of the unit's specification."""
        return math.hypot(self.amperes_u / self.amperes, self.volts_u / self.volts)

    @property
    def relative(self) -> float:
        return math.hypot(self.specified, self.scatter)


def reading(
    volts: Floats, amperes: Floats, limited: npt.NDArray[np.bool_], accuracy: Accuracy, what: str
) -> UnitReading:
    """Return the mean of readings of one resistor or cell, float64[count] each.

    Raises:
        DataError: the unit was in compliance, or nothing was measured.
    """
    if not volts.size:
        raise DataError(f"{what}: nothing was measured; take at least one reading")
    if limited.any():
        raise DataError(
            f"{what}: the source-measure unit was at its own limit in {int(limited.sum())} of {volts.size} readings, so what "
            "it shows is the limit. Give it a higher compliance, or look for a short"
        )
    if not (volts.mean() > 0 and amperes.mean() > 0):
        raise DataError(
            f"{what}: the source-measure unit read {amperes.mean():.3g} A at {volts.mean():.3g} V, which is no conductance. Is "
            "its path connected?"
        )
    single = amperes / volts
    scatter = float(single.std(ddof=1) / single.mean() / math.sqrt(single.size)) if single.size > 1 else 0.0
    mean_V, mean_A = float(volts.mean()), float(amperes.mean())
    volts_u, amperes_u = rectangular(accuracy.voltage_limit_V(mean_V)), rectangular(accuracy.current_limit_A(mean_A))
    return UnitReading(mean_V, volts_u, mean_A, amperes_u, scatter, int(volts.size))
