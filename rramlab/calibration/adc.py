"""Gain and offset of every column of the converters, from currents that all columns convert alike.

The reference resistors give each column the same current, at many levels. The mean over the columns is that current in
codes, its rounding averaged away; each column against it is a straight line whose slope is the column's gain over the mean,
so that neither the resistor nor the DAC enters. The amplifiers' open inputs give the zero. Absolutely, the scale comes from
the resistor's conductance and the DAC's voltage, both by the source-measure unit.

A board without such resistors is calibrated with cells that the unit has measured: the same, with a current of its own for
each column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.calibration.uncertainty import UnitReading
from rramlab.macro.board import BoardTable

Floats = npt.NDArray[np.float64]
FEWEST_LEVELS = 8
ROUNDING = 1 / math.sqrt(12)  # σ of a code that is rounded
MOST_RESIDUAL = 1.0  # codes; rounding alone leaves 0.29
LARGEST_GAIN_ERROR = 0.3  # of a column, over the mean
LARGEST_SCALE_ERROR = 0.05  # of the mean


@dataclass(frozen=True, eq=False)
class Look:
    """The converters' codes of one resistor (None: inputs open) at one level of the DAC: float64[columns], mean of repeats.

    ``lowest``, ``highest``: of all single codes.
    """

    resistor: int | None
    multiply: bool
    nominal_V: float
    codes: Floats
    lowest: int
    highest: int


@dataclass(frozen=True, eq=False)
class RangeFit:
    """One range of the converters. ``gain``, ``offset``: float64[columns], over true current and in codes;
    ``mean_gain_u``: of the mean gain, relative; ``column_u``: of one column's gain over the mean; ``offset_u``: in codes.
    ``residual``: float64[levels, columns] in codes, of ``level``: float64[levels], the signal in codes. ``before``: what
    the nominal figures would leave of the same codes.
    """

    gain: Floats
    offset: Floats
    mean_gain_u: float
    column_u: float
    offset_u: float
    residual: Floats
    before: Floats
    level: Floats

    @property
    def residual_rms(self) -> float:
        return float(np.sqrt(np.mean(self.residual**2)))


def fit(
    looks: list[Look], references: dict[int, UnitReading], dac: tuple[float, float], table: BoardTable, multiply: bool
) -> RangeFit:
    """Fit one range. ``references``: what the unit read of each resistor; ``dac``: gain and offset (V) of its line.

    Raises:
        DataError: a converter saturates, too few levels, a column that does not follow, or resistors that disagree.
    """
    mine = [look for look in looks if look.multiply == multiply]
    name = "multiply" if multiply else "read"
    zeros = [look.codes for look in mine if look.resistor is None]
    driven = [look for look in mine if look.resistor is not None]
    if not zeros or len(driven) < FEWEST_LEVELS:
        raise DataError(
            f"found {len(driven)} levels and {len(zeros)} reads with open inputs on the {name} range, expected at least "
            f"{FEWEST_LEVELS} and one"
        )
    _refuse_saturated(mine, table, name)
    codes = np.stack([look.codes for look in driven])
    common = codes.mean(axis=1)
    zero = float(np.mean(zeros))
    slope, intercept, residual = _lines(common, codes)
    if np.abs(slope - 1).max() > LARGEST_GAIN_ERROR or np.sqrt(np.mean(residual**2, axis=0)).max() > MOST_RESIDUAL:
        worst = int(np.argmax(np.sqrt(np.mean(residual**2, axis=0)) + np.abs(slope - 1) * 1e3))
        raise DataError(
            f"column {worst} does not follow the reference on the {name} range (gain {slope[worst]:.3f} of the mean, "
            f"residual {np.sqrt(np.mean(residual[:, worst] ** 2)):.2f} codes): its amplifier or converter is defective. "
            "Look at it with: rramlab contact"
        )
    offset = intercept + slope * zero - table.zero_code
    mean_gain, mean_gain_u = _scale(driven, common - zero, references, dac, table, name)
    spread = max(float(np.sqrt(np.mean(residual**2) * len(driven) / (len(driven) - 2))), ROUNDING / 2)
    centred = common - common.mean()
    lever = float(np.sqrt(np.sum(centred**2)))
    offset_u = spread * math.sqrt(1 / len(driven) + ((common.mean() - zero) / lever) ** 2)
    nominal = np.array([_nominal_codes(look, references, table) for look in driven])[:, None] + table.zero_code
    return RangeFit(
        slope * mean_gain, offset, mean_gain_u, spread / lever, offset_u, residual, codes - nominal, common - zero
    )


def _refuse_saturated(looks: list[Look], table: BoardTable, name: str) -> None:
    top = (1 << table.adc_bits) - 1
    for look in looks:
        if look.lowest <= 0 or look.highest >= top:
            what = "open inputs" if look.resistor is None else f"resistor {look.resistor} at {look.nominal_V:g} V"
            raise DataError(
                f"converters saturate on the {name} range with {what} (codes {look.lowest} to {look.highest} of {top}): "
                "nothing can be said of their gain. Use a larger resistor or lower voltages"
            )


def _lines(x: Floats, codes: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit every column, float64[levels, columns], against ``x``: slopes, intercepts, residuals."""
    centred = x - x.mean()
    slope = centred @ codes / np.sum(centred**2)
    intercept = codes.mean(axis=0) - slope * x.mean()
    return slope, intercept, codes - (intercept + x[:, None] * slope)


def _unit_S(table: BoardTable, multiply: bool) -> tuple[float, float]:
    """Return what one code is (S), and at which voltage."""
    if multiply:
        return table.multiply_step_S, table.input_V
    return table.read_step_S, table.read_voltage_V


def _nominal_codes(look: Look, references: dict[int, UnitReading], table: BoardTable) -> float:
    step_S, at_V = _unit_S(table, look.multiply)
    assert look.resistor is not None
    return references[look.resistor].siemens * look.nominal_V / at_V / step_S


def _scale(
    driven: list[Look],
    signal: Floats,
    references: dict[int, UnitReading],
    dac: tuple[float, float],
    table: BoardTable,
    name: str,
) -> tuple[float, float]:
    """Return the mean gain and its relative uncertainty, from the largest signal: there the unit's error of voltage cancels.

    At that level the DAC and the resistor were measured at the same voltage on the same range of the unit; the mean gain is
    code over (V × I / V), so only the unit's error of current stays.
    """
    found: dict[int, tuple[float, float]] = {}
    for resistor, measured in references.items():
        own = [index for index, look in enumerate(driven) if look.resistor == resistor]
        if not own:
            continue
        top = max(own, key=lambda index: signal[index])
        step_S, at_V = _unit_S(table, driven[top].multiply)
        volts = dac[0] * driven[top].nominal_V + dac[1]
        gain = signal[top] / (volts * measured.siemens / (at_V * step_S))
        rounding = ROUNDING / math.sqrt(driven[top].codes.size) / signal[top]
        relative = math.hypot(measured.amperes_u / measured.amperes, measured.scatter, rounding)
        found[resistor] = float(gain), relative
    best = min(found, key=lambda resistor: found[resistor][1])
    gain, relative = found[best]
    if abs(gain - 1) > LARGEST_SCALE_ERROR:
        raise DataError(
            f"the converters' mean gain on the {name} range is {gain:.4f}, expected within {LARGEST_SCALE_ERROR:.0%} of 1: the "
            "source-measure unit's scale, the DAC's line or the board's file is wrong. Nothing was written"
        )
    for resistor, (other, other_u) in found.items():
        if abs(other - gain) > 5 * gain * math.hypot(relative, other_u, 2e-4):
            raise DataError(
                f"the resistors {best} and {resistor} disagree on the {name} range: mean gain {gain:.5f} and {other:.5f}. "
                "One of them is not what the source-measure unit has measured, or the converters are not linear"
            )
    return gain, relative
