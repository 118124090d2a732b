"""Steps at a source-measure unit: sweeps and routes."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from rramlab.base.units import Amperes, Seconds, Volts
from rramlab.macro.pulses import PulseKind
from rramlab.plan.stepmodel import MOST_REPEATS, CellText, DatasetName, StepModel

SweepKind = Literal["read", "electroform", "set", "reset"]

MOST_POINTS = 2500  # of a sweep; what the unit on the bench can hold stands in its driver file
LONGEST_HOLD_S = 3600.0
NO_CELL = "all - all"
# Word lines by what they are for, as in the shipped protocols (assumed): wide open to read and to reset, and at what sets
# the compliance to form and to set.
GATES_V: dict[str, float] = {"read": 3.0, "reset": 3.0, "electroform": 1.6, "set": 1.6}


class ProbeStep(StepModel):
    """What steps at a source-measure unit share. An empty text counts as not given, so that a parameter can be left out.

    ``compliance``: the unit's limit on the magnitude of the current. ``gate``: of the cell's word line; not given, what
    the step is for decides. ``smu``: the name of the unit; not given, the only one on the bench.
    """

    compliance: Amperes = Field(default=100e-6, gt=0)
    gate: Volts | None = Field(default=None, ge=0)
    smu: str = ""

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value != ""} if isinstance(data, dict) else data


class SweepStep(ProbeStep):
    """Sweep one cell from 0 V to a peak, by an instrument-side program; the data set is ``name``.

    The direction is that of the pulse of the same kind: BL − SL to reset, SL − BL otherwise. All but a read sweep
    counts as one pulse of its kind, with the peak as amplitude and its whole duration as width.
    """

    kind: Literal["sweep"] = Field(default="sweep", repr=False)
    cell: CellText
    purpose: SweepKind = "read"  # written as ``kind``, which here tells the steps of a plan apart
    voltage: Volts = Field(gt=0)  # the peak
    points: int = Field(default=51, ge=2, le=MOST_POINTS)
    dwell: Seconds = Field(default=1e-3, gt=0, le=LONGEST_HOLD_S)  # how long each level is held before it is measured
    both_ways: bool = False
    name: DatasetName = "sweep"

    @field_validator("purpose", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value not in get_args(SweepKind):
            raise ValueError(f"found the kind {value!r}, expected one of {', '.join(get_args(SweepKind))}")
        return value

    @property
    def stresses(self) -> PulseKind | None:
        return None if self.purpose == "read" else self.purpose

    @property
    def cells(self) -> str:
        return self.cell

    @property
    def gate_V(self) -> float:
        return GATES_V[self.purpose] if self.gate is None else self.gate


class RouteStep(ProbeStep):
    """Connect a cell, a reference resistor or a DAC channel to the source-measure unit; the data set is ``name``.

    A cell or a resistor is measured at ``voltage``, at most the board's read voltage; at 0 V it is only connected. A DAC
    channel is held at ``voltage`` and measured without drawing current.
    """

    kind: Literal["route"] = Field(default="route", repr=False)
    cell: CellText | None = None
    reference: int | None = Field(default=None, ge=0)
    dac: int | None = Field(default=None, ge=0)
    voltage: Volts = Field(default=0.1, ge=0)
    count: int = Field(default=1, ge=1, le=MOST_REPEATS)
    hold: Seconds = Field(default=0.0, ge=0, le=LONGEST_HOLD_S)
    name: DatasetName = "route"

    @model_validator(mode="after")
    def _one_target(self) -> RouteStep:
        given = [name for name in ("cell", "reference", "dac") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'no target'}, expected one of cell, reference and dac")
        return self

    @property
    def cells(self) -> str:
        return NO_CELL if self.cell is None else self.cell

    @property
    def gate_V(self) -> float:
        return GATES_V["read"] if self.gate is None else self.gate
