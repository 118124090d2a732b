"""What a simulated die and a simulated board are. Every figure has its unit and its source, or the word assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import UsageError
from rramlab.base.units import Seconds, Siemens, Volts

# Cells broken down by a ramp in 20 mV steps, of 400 measured, cumulative over the steps 3.12, 3.14 … 3.70 V (Wang et
# al., Nat. Mach. Intell. 5, 104 (2023), the authors' public data). The cells of a step are spread evenly over the 20 mV
# around it, which keeps the published mean of 3.433 V: the shares hold at 3.13, 3.15 … 3.71 V.
BREAKDOWN_FIRST_V, BREAKDOWN_STEP_V, BREAKDOWN_CELLS = 3.13, 0.02, 400
BREAKDOWN_COUNTS = (
    0, 2, 5, 8, 12, 19, 25, 37, 52, 64, 73, 95, 119, 134, 155,
    195, 221, 242, 264, 283, 315, 334, 357, 369, 377, 390, 393, 398, 398, 400,
)  # fmt: skip


Preset = Literal["ideal", "published"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    presets: ClassVar[Mapping[str, Mapping[str, float]]]  # name -> figures that differ from the published ones

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the model called ``name``: ``published``, the default, or ``ideal``.

        Raises:
            UsageError: there is no such preset.
        """
        if name not in cls.presets:
            raise UsageError(f"there is no preset {name!r}; known: {', '.join(sorted(cls.presets))}")
        return cls.model_validate(cls.presets[name])


class DieModel(_Model):
    """A die: what its cells are and do. SI units."""

    presets = {"published": {}, "ideal": {"read_noise": 0.0, "column_share": 0.0, "outlier_share": 0.0}}

    pristine_S: Siemens = Field(0.1e-6, gt=0)  # about 10 MΩ: Wang et al. 2023, Ext. Data Fig. 1
    pristine_ln_sigma: float = Field(0.1, ge=0)  # assumed
    breakdown_shift_V: float = 0.0  # this die against the measured 400 cells
    width_slope_V: float = Field(0.1, ge=0)  # a decade of pulse width lowers breakdown by this much: assumed
    reference_width_s: Seconds = Field(1e-6, gt=0)  # width at which the measured distribution holds: assumed
    formed_median_S: Siemens = Field(12.2e-6, gt=0)  # measured, 1,430 formed cells (Wang et al. 2023)
    formed_ln_sigma: float = Field(0.1475, ge=0)  # the same cells
    column_share: float = Field(0.017, ge=0, le=1)  # of that variance between columns: measured, sibling work
    outlier_share: float = Field(2e-4, ge=0, le=1)  # formed cells that come out high: measured, sibling work
    outlier_low_S: Siemens = Field(15e-6, ge=0)  # above the draw, from
    outlier_high_S: Siemens = Field(20e-6, ge=0)  # to
    reference_gate_V: Volts = Field(1.6, gt=0)  # gate at which the formed median holds: assumed
    gate_exponent: float = Field(0.8, ge=0)  # median ∝ gate^exponent, compliance by the transistor: assumed
    overstress_V: Volts = Field(4.3, gt=0)  # above this a cell breaks down for good: assumed
    stuck_S: Siemens = Field(60e-6, gt=0)  # assumed
    reset_V: Volts = Field(1.4, gt=0)  # mean reset voltage: assumed, TaOx literature
    reset_sigma_V: Volts = Field(0.12, ge=0)  # assumed
    hrs_median_S: Siemens = Field(0.4e-6, gt=0)  # assumed
    hrs_ln_sigma: float = Field(0.5, ge=0)  # assumed
    set_V: Volts = Field(1.3, gt=0)  # mean set voltage after a reset: assumed, TaOx literature
    set_sigma_V: Volts = Field(0.12, ge=0)  # assumed
    read_noise: float = Field(0.02, ge=0, lt=1)  # of G, Gaussian, each conversion: value the authors use

    def breakdown(self, probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the breakdown voltage (V, at the reference width) at each ``probability``: the inverse distribution."""
        volts = BREAKDOWN_FIRST_V + BREAKDOWN_STEP_V * np.arange(len(BREAKDOWN_COUNTS))
        share = np.array(BREAKDOWN_COUNTS) / BREAKDOWN_CELLS
        return np.asarray(np.interp(probability, share, volts) + self.breakdown_shift_V)


class BoardModel(_Model):
    """A board's hidden errors. It outlives dies."""

    presets = {"published": {}, "ideal": {"gain_sigma": 0.0, "range_sigma": 0.0, "offset_sigma": 0.0}}

    gain_sigma: float = Field(0.005, ge=0)  # TIA gain a column, relative: assumed, 0.5 % resistors
    range_sigma: float = Field(0.002, ge=0)  # further gain error of the multiply range: assumed
    offset_sigma: float = Field(1.0, ge=0)  # offset a column, codes, each range: assumed
