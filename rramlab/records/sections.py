"""What each procedure of calibration finds: one section of a record, with how, when and with what it was found."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from rramlab.base.units import Celsius, Seconds, Siemens, Volts
from rramlab.macro.forming import FormingCurve
from rramlab.records.values import DAY_S, Number, Resistance, Strict, Voltage

# Beyond these no board can be used; a record that says otherwise was edited.
LARGEST_DAC_GAIN_ERROR = 0.05
LARGEST_DAC_OFFSET_V = 0.05
LEAST_GAIN, MOST_GAIN = 0.5, 2.0


TO_COME = timedelta(days=1)  # further in the future nothing can have been measured: a clock was or is wrong


class Section(Strict):
    """What all sections say. ``valid_for`` and ``temperature_window`` (either way): how long, and how far from
    ``temperature``, it holds; both assumed, to be set by who knows the drift of the board.
    """

    days: ClassVar[float] = 90.0
    arrays: ClassVar[tuple[str, ...]] = ()  # names of those that stand beside it, without which it says nothing
    measured_at: datetime
    board: str = Field(min_length=1)
    die: str = Field(min_length=1)
    runs: tuple[str, ...] = Field(min_length=1)
    instruments: tuple[str, ...] = ()
    temperature: Celsius
    temperature_window: Celsius = Field(default=5.0, gt=0, le=100)
    valid_for: Seconds = Field(gt=0, le=20 * 366 * DAY_S)
    software: str

    @field_validator("measured_at")
    @classmethod
    def _in_some_zone(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("found a time without its zone, expected one such as '2026-11-22T14:00:00+00:00'")
        return value

    def fault(self, now: datetime, temperature_C: float) -> str | None:
        """Return why the section does not hold now, or None."""
        age = now - self.measured_at
        if age < -TO_COME:
            return f"is of {self.measured_at:%Y-%m-%d}, which is to come: the record or this computer's clock is wrong"
        if age > timedelta(seconds=self.valid_for):
            return f"is {age.days} days old, it holds for {self.valid_for / DAY_S:.4g}"
        if abs(temperature_C - self.temperature) > self.temperature_window:
            return (
                f"was measured at {self.temperature:.4g} °C and holds within {self.temperature_window:.3g} °C of that; it is "
                f"{temperature_C:.4g} °C now"
            )
        return None


class DacSection(Section):
    """What the DAC puts out: gain × what is asked for + offset."""

    channel: int = Field(ge=0)
    levels: int = Field(ge=2)
    highest: Volts = Field(gt=0, le=100)
    gain: Number
    offset: Voltage
    residual: Volts = Field(ge=0)  # RMS of what the straight line leaves

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        _refuse_absurd_line(self.gain, self.offset)
        return self


def _refuse_absurd_line(gain: Number, offset: Voltage) -> None:
    if abs(gain.value - 1) > LARGEST_DAC_GAIN_ERROR or abs(offset.value) > LARGEST_DAC_OFFSET_V:
        raise ValueError(
            f"found a DAC of gain {gain} and offset {offset}, expected a gain within {LARGEST_DAC_GAIN_ERROR:.0%} of 1 and an "
            f"offset of at most {LARGEST_DAC_OFFSET_V:g} V: no DAC that can be used is further off"
        )


class ColumnSpread(Strict):
    """Of one range of the converters. ``gain``: mean of the columns, measured over true current; ``gain_spread``: σ between
    columns; ``column_gain_uncertainty``: of one column's gain over the mean; ``offset_spread``, ``offset_uncertainty``: in
    codes; ``residual``: RMS of what the straight lines leave, in codes (rounding alone: 0.29).
    """

    gain: Number
    gain_spread: float = Field(ge=0, le=1)
    column_gain_uncertainty: float = Field(gt=0, le=1)
    offset: float = Field(ge=-1e4, le=1e4)
    offset_spread: float = Field(ge=0)
    offset_uncertainty: float = Field(ge=0)
    residual: float = Field(ge=0)

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not LEAST_GAIN <= self.gain.value <= MOST_GAIN:
            raise ValueError(f"found a mean gain of {self.gain}, expected {LEAST_GAIN:g} to {MOST_GAIN:g}")
        return self


class MeasuredReference(Strict):
    """A reference resistor at the source-measure unit; ``specification``: the part of the uncertainty that is the unit's."""

    resistor: int = Field(ge=0)
    resistance: Resistance
    voltage: Volts = Field(gt=0, le=100)
    readings: int = Field(ge=1)

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not 1 <= self.resistance.value <= 1e12 or not self.resistance.uncertainty > 0:
            raise ValueError(
                f"found a resistor of {self.resistance}, expected 1 Ω to 1 TΩ, known no better than it can be"
            )
        return self


class AdcSection(Section):
    """Gain and offset of every column; the arrays beside the record hold each. ``scale_uncertainty``: relative standard
    uncertainty that all conductances share, from the unit's specification. ``dac_gain``, ``dac_offset``: the line of the DAC
    that the gains were found with, and that codes are converted with: a later one of the DAC alone does not fit them.
    """

    arrays: ClassVar[tuple[str, ...]] = ("read_gain", "read_offset", "multiply_gain", "multiply_offset")
    dac_gain: Number
    dac_offset: Voltage
    method: Literal["reference resistors", "cells at the unit"]
    references: tuple[MeasuredReference, ...] = ()
    scale_uncertainty: float = Field(gt=0, le=1)
    read: ColumnSpread
    multiply: ColumnSpread

    @model_validator(mode="after")
    def _line_can_be(self) -> Self:
        _refuse_absurd_line(self.dac_gain, self.dac_offset)
        return self


class LinesSection(Section):
    """Resistances of switches and amplifiers, by line in the arrays; mean over the lines here."""

    arrays: ClassVar[tuple[str, ...]] = ("bl_Ohm", "bl_u", "sl_Ohm", "sl_u")
    bit_line: Resistance
    bit_line_spread: Resistance
    source_line: Resistance
    source_line_spread: Resistance
    cells: int = Field(ge=1)


class WiresSection(Section):
    """Resistance of the wire from cell to cell."""

    segment: Resistance
    cells: int = Field(ge=1)


class AgreementSection(Section):
    """Cells measured by the board and by the unit: mean of their ratio, against what the uncertainties allow."""

    cells: int = Field(ge=2)
    ratio: Number
    spread: float = Field(ge=0)
    expected_spread: float = Field(ge=0)
    largest_deviation: float  # of one cell, in its standard uncertainties
    agrees: bool


class LinearitySection(Section):
    """Products against the sum of single reads of the cells that take part. ``slope``: of product over sum; ``residual``:
    largest departure from that line, as a share of the range; ``columns`` in ``lines`` steps."""

    columns: int = Field(ge=1)
    lines: int = Field(ge=1)
    slope: Number
    offset: float  # in codes of the multiply range
    residual: float = Field(ge=0)


class FormingSection(Section):
    """The breakdown voltages of a die's cells: mean and standard deviation, how many were ramped and how many formed."""

    days: ClassVar[float] = 3650.0  # of cells that nobody has pulsed yet
    mean: Voltage
    sigma: Voltage
    width: Seconds = Field(gt=0)
    gate: Volts = Field(ge=0)
    cells: int = Field(ge=1)
    formed: int = Field(ge=0)

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not 0.1 <= self.mean.value <= 20 or not 1e-4 <= self.sigma.value <= 5:
            raise ValueError(
                f"found breakdown at {self.mean} with a spread of {self.sigma}, expected 0.1 V to 20 V and 0.1 mV to 5 V"
            )
        return self

    @property
    def curve(self) -> FormingCurve:
        return FormingCurve(self.mean.value, self.sigma.value)


class NoiseSection(Section):
    """What reads of one cell differ by. ``read``: white, relative to the conductance; ``telegraph_share``: of cells that
    switched between two levels while they were watched, ``telegraph_amplitude``: by how much; ``watched``: for how long.
    """

    cells: int = Field(ge=1)
    reads: int = Field(ge=2)
    watched: Seconds = Field(gt=0)
    read: Number
    telegraph_share: Number
    telegraph_amplitude: Number | None = None
    median: Siemens

    def repeats(self, accuracy: float) -> int:
        """Return how many reads of a cell have a mean within a relative standard deviation of ``accuracy``."""
        return max(1, -int(-((self.read.value / accuracy) ** 2) // 1))
