"""The budget of uncertainties of a conductance that the board reads: what contributes, and by how much (JCGM 100:2008, "GUM").

The measurand is the conductance between the ends of a cell's lines, as the mean of some reads by the board's converters: what
the lines themselves take off is not part of it. Its scale is the current that the source-measure unit read of the best
reference resistor, over the voltage that it read there; the DAC's line drops out, since resistor and cell get the same
voltage. Gain and offset of a column come from one straight line and are negatively correlated; they are added as if they were
not, which overstates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rramlab.base.units import show
from rramlab.calibration.adc import ROUNDING
from rramlab.calibration.context import ASSUMED_READ_NOISE
from rramlab.drivers.smu.smufile import Accuracy
from rramlab.macro.calibration import BoardCalibration
from rramlab.records.sections import AdcSection, MeasuredReference, NoiseSection

COVERAGE_FACTOR = 2.0
Law = Literal["rectangular", "normal"]


@dataclass(frozen=True)
class Contribution:
    """One row. ``kind``: A from statistics of readings, B from anything else. ``size``: the limit of a rectangular
    distribution, the standard deviation of a normal one, in ``unit`` ("A", "V", "code", or "" for a share of the conductance).
    ``divisor``: of ``size``, for the standard uncertainty; ``sensitivity``: of the conductance, S for each ``unit``;
    ``freedom``: degrees of freedom; ``source``: where the size comes from.
    """

    name: str
    kind: Literal["A", "B"]
    law: Law
    size: float
    unit: str
    divisor: float
    sensitivity: float
    source: str
    freedom: float = math.inf
    of_scale: bool = False  # shared by all conductances of the board

    @property
    def uncertainty_S(self) -> float:
        """Standard uncertainty of the conductance that comes of it."""
        return self.size / self.divisor * abs(self.sensitivity)


@dataclass(frozen=True)
class Budget:
    """All contributions to the mean of ``repeats`` reads of ``conductance_S``."""

    conductance_S: float
    repeats: int
    rows: tuple[Contribution, ...]

    @property
    def combined_S(self) -> float:
        """Combined standard uncertainty."""
        return math.hypot(*(row.uncertainty_S for row in self.rows))

    @property
    def expanded_S(self) -> float:
        """Expanded uncertainty, coverage factor 2."""
        return COVERAGE_FACTOR * self.combined_S

    @property
    def scale(self) -> float:
        """Relative standard uncertainty that all conductances share: what the record calls ``scale_uncertainty``."""
        return math.hypot(*(row.uncertainty_S for row in self.rows if row.of_scale)) / self.conductance_S

    @property
    def freedom(self) -> float:
        """Effective degrees of freedom by Welch and Satterthwaite (GUM, G.4.1)."""
        limited = sum(row.uncertainty_S**4 / row.freedom for row in self.rows)
        return self.combined_S**4 / limited if limited else math.inf

    def share(self, row: Contribution) -> float:
        """Return the share of the combined variance that a row makes up."""
        return (row.uncertainty_S / self.combined_S) ** 2


def read_code_S(calibration: BoardCalibration) -> float:
    """Return what one code of a read is at a column of mean gain, in S."""
    table = calibration.table
    true_V = calibration.volts(table.dac_code(table.read_voltage_V))
    return float(table.read_step_S * table.read_voltage_V / true_V / calibration.read_gain.mean())


def of_read(
    conductance_S: float,
    repeats: int,
    adc: AdcSection,
    code_S: float,
    noise: NoiseSection | None = None,
    accuracy: Accuracy | None = None,
) -> Budget:
    """Return the budget of the mean of ``repeats`` reads of a cell of ``conductance_S`` in a column of mean gain.

    ``code_S``: see :func:`read_code_S`. ``noise``: of the die; without it the authors' figure stands in. ``accuracy``: what the
    data sheet of the unit promises; without it, or where the record rests on smaller limits than it gives, what the record
    says of the scale stands as one row.
    """
    return Budget(
        conductance_S,
        repeats,
        (
            *_scale(conductance_S, adc, accuracy),
            Contribution(
                "gain of the column over the mean", "A", "normal", adc.read.column_gain_uncertainty, "", 1.0,
                conductance_S, "straight line of the column, section adc",
            ),
            Contribution(
                "offset of the column", "A", "normal", adc.read.offset_uncertainty, "code", 1.0, code_S,
                "straight line of the column, section adc",
            ),
            *_of_each_read(conductance_S, repeats, code_S, noise),
        ),
    )  # fmt: skip


def _scale(conductance_S: float, adc: AdcSection, accuracy: Accuracy | None) -> tuple[Contribution, ...]:
    if accuracy is not None and adc.references:
        best = min(adc.references, key=_relative)
        volts, amperes = best.voltage, best.voltage / best.resistance.value
        name = f"resistor {best.resistor}, {show(best.resistance.value, 'Ω')} at {show(volts, 'V')}"
        limits = (
            Contribution(
                "current of the unit, limit of error", "B", "rectangular", accuracy.current_limit_A(amperes), "A",
                math.sqrt(3), conductance_S / amperes, f"{name}; {accuracy.source}", of_scale=True,
            ),
            Contribution(
                "voltage of the unit, limit of error", "B", "rectangular", accuracy.voltage_limit_V(volts), "V",
                math.sqrt(3), conductance_S / volts, f"{name}; {accuracy.source}", of_scale=True,
            ),
        )  # fmt: skip
        specified = math.hypot(*(each.uncertainty_S for each in limits)) / conductance_S
        if specified <= _relative(best) * (1 + 1e-6):
            scatter = math.sqrt(max(0.0, _relative(best) ** 2 - specified**2))
            return (
                *limits,
                Contribution(
                    "scatter of the unit's readings", "A", "normal", scatter, "", 1.0, conductance_S,
                    f"mean of {best.readings} readings of {name}", max(1, best.readings - 1), of_scale=True,
                ),
            )  # fmt: skip
    return (
        Contribution(
            "scale, by the source-measure unit", "B", "normal", adc.scale_uncertainty, "", 1.0, conductance_S,
            "scale_uncertainty of section adc", of_scale=True,
        ),
    )  # fmt: skip


def _relative(reference: MeasuredReference) -> float:
    return reference.resistance.uncertainty / reference.resistance.value


def _of_each_read(
    conductance_S: float, repeats: int, code_S: float, noise: NoiseSection | None
) -> tuple[Contribution, ...]:
    mean = math.sqrt(repeats)
    if noise is None:
        of_reads = Contribution(
            "noise of reads", "B", "normal", ASSUMED_READ_NOISE, "", mean, conductance_S,
            f"assumed, not measured of this die; {repeats} reads",
        )  # fmt: skip
    else:
        size, u = noise.read.value, noise.read.uncertainty
        of_reads = Contribution(
            "noise of reads", "A", "normal", size, "", mean, conductance_S,
            f"section noise: {noise.cells:,} cells, {noise.reads} reads; mean of {repeats} reads",
            (size / u) ** 2 / 2 if u else math.inf,  # GUM, G.4.2
        )  # fmt: skip
    # Noise larger than a code makes the rounding of each read another one, so that it averages out too.
    averages = of_reads.size * conductance_S > ROUNDING * code_S
    rounding = Contribution(
        "rounding of the converter", "B", "rectangular", 0.5, "code", math.sqrt(3) * (mean if averages else 1.0), code_S,
        f"half a code; {'averaged over' if averages else 'the same in all'} {repeats} reads",
    )  # fmt: skip
    return of_reads, rounding
