"""At which voltage how many cells form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

# Skew of the breakdown voltages of 400 cells of the same macro (Wang et al., Nat. Mach. Intell. 5, 104, 2023, public data).
# A few hundred cells of a die tell its mean and spread well, and its skew badly.
MEASURED_SKEW = -0.21
_STANDARD = NormalDist()


@dataclass(frozen=True)
class FormingCurve:
    """The breakdown voltages of a die's cells: mean and standard deviation (V), and their skew.

    Quantiles by the first term of Cornish and Fisher (Rev. Inst. Int. Stat. 5, 307, 1938): mean + σ (z + skew (z² − 1) / 6).
    """

    mean_V: float
    sigma_V: float
    skew: float = MEASURED_SKEW

    def fraction(self, voltage_V: float) -> float:
        """Return the share of cells that a pulse of ``voltage_V`` forms."""
        y, bend = (voltage_V - self.mean_V) / self.sigma_V, self.skew / 6
        if abs(bend) < 1e-9:
            return _STANDARD.cdf(y)
        root = math.sqrt(max(0.0, 1 + 4 * bend * (bend + y)))
        return _STANDARD.cdf((root - 1) / (2 * bend))

    def voltage_V(self, fraction: float) -> float:
        """Return the voltage that forms a share of the cells, above 0 and below 1."""
        z = _STANDARD.inv_cdf(fraction)
        return self.mean_V + self.sigma_V * (z + self.skew / 6 * (z * z - 1))

    def voltage_u(self, fraction: float, mean_u: float, sigma_u: float) -> float:
        """Return the standard uncertainty of :meth:`voltage_V` where mean and σ have theirs."""
        z = _STANDARD.inv_cdf(fraction)
        return math.hypot(mean_u, sigma_u * (z + self.skew / 6 * (z * z - 1)))
