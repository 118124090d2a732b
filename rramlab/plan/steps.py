"""The steps of a plan. The same models are read from YAML (quantities with units) and from plan.json (SI numbers)."""

from __future__ import annotations

import base64
import re
import zlib
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rramlab.base.errors import UsageError
from rramlab.base.units import Seconds, Volts
from rramlab.macro.cells import Bools
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.macro.regions import Region
from rramlab.plan.probesteps import GATES_V, LONGEST_HOLD_S, MOST_POINTS, NO_CELL, RouteStep, SweepKind, SweepStep
from rramlab.plan.programming import AmplitudeLadder, ProgramStep, WidthLadder, encode_array
from rramlab.plan.stepmodel import MOST_REPEATS, DatasetName, RegionText, StepModel
from rramlab.plan.windows import Pilot, Window

LONGEST_WAIT_S = 30 * 86400.0
MOST_ROUNDS = 1_000_000
MOST_DEPTH = 3  # of loops in loops


class PulseStep(StepModel):
    """One pulse for every cell of a region: single-shot, no verify."""

    kind: PulseKind = Field(repr=False)
    cells: RegionText
    voltage: Volts = Field(gt=0)
    width: Seconds = Field(gt=0)
    gate: Volts = Field(ge=0)
    cells_per_pulse: int | None = Field(default=None, ge=1)  # the board's own when not given
    pilot: Pilot | None = None
    # Unselected cells on the same lines that are read before and after each block of rows, and must not have changed.
    bystanders: int = Field(default=32, ge=0, le=4096)
    again: bool = False  # also electroform cells that had a pulse: each was read since, and none is unknown

    @model_validator(mode="after")
    def _of_forming(self) -> PulseStep:
        for key, given in (("a pilot block", self.pilot is not None), ("'again'", self.again)):
            if given and self.kind != "electroform":
                raise ValueError(f"found {key} in a {self.kind} step, expected it with electroform only")
        return self

    @property
    def stresses(self) -> PulseKind:
        return self.kind

    @property
    def pulse(self) -> Pulse:
        return Pulse(self.voltage, self.width, self.gate)


class ReadStep(StepModel):
    """Read each cell of a region; the data set is ``name``."""

    kind: Literal["read"] = Field(default="read", repr=False)
    cells: RegionText = "all"
    repeats: int = Field(default=1, ge=1, le=MOST_REPEATS)
    isolated: bool = False
    name: DatasetName = "read"


class ReferenceStep(StepModel):
    """Convert the current of a reference resistor, or of open inputs, with every column's converter; the data set is ``name``.

    The array is not driven. ``resistor``: its number, or ``open``.
    """

    kind: Literal["reference"] = Field(default="reference", repr=False)
    resistor: Annotated[int, Field(ge=0)] | Literal["open"]
    range: Literal["read", "multiply"] = "read"  # of the converters
    voltage: Volts = Field(default=0.2, ge=0)
    repeats: int = Field(default=1, ge=1, le=MOST_REPEATS)
    name: DatasetName = "reference"

    @field_validator("resistor", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not (number or value == "open" or (isinstance(value, str) and re.fullmatch("[0-9]+", value))):
            raise ValueError(f"found the resistor {value!r}, expected its number, counted from 0, or open")
        return value

    @property
    def cells(self) -> str:
        return NO_CELL


class GateStep(StepModel):
    """Load a gate pattern into a slot: lines by region, or a full pattern as written by a deployment."""

    kind: Literal["gate"] = Field(default="gate", repr=False)
    slot: int = Field(default=0, ge=0)
    rows: RegionText | None = None
    columns: RegionText | None = None
    pattern: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> GateStep:
        if self.pattern is not None and (self.rows is not None or self.columns is not None):
            raise ValueError("found both a pattern and rows or columns, expected one of the two")
        if self.pattern is not None:
            decode_pattern(self.pattern)
        return self

    def gate_pattern(self, geometry: Geometry) -> GatePattern:
        """Return the pattern for ``geometry``.

        Raises:
            UsageError: a region lies off the die or splits a pair, or the pattern is of another geometry.
        """
        if self.pattern is not None:
            pattern = decode_pattern(self.pattern)
            if pattern.geometry != geometry:
                raise UsageError(f"the gate pattern is for {pattern.geometry}, the die is {geometry}", self.source)
            return pattern
        rows, columns = self._lines(self.rows, geometry, 1), self._lines(self.columns, geometry, 0)
        if np.any(columns[0::2] != columns[1::2]):
            raise UsageError(
                f"found the columns {self.columns!r}, which split a pair, expected whole pairs (2j, 2j + 1) such as "
                "'cols 0-127'",
                self.source,
            )
        return GatePattern.lines(rows, columns[0::2])

    def _lines(self, text: str | None, geometry: Geometry, axis: int) -> Bools:
        """Return the whole rows (``axis`` 1) or columns (0) that a region spells."""
        region = Region(text or "all")
        try:
            bits = region.bound(geometry).bits
        except UsageError as error:
            raise UsageError(str(error), self.source) from None
        lines = np.asarray(bits.any(axis=axis))
        if region.depends_on_data or not lines.any() or np.any(bits.all(axis=axis) != lines):
            raise UsageError(
                f"found {text!r}, expected whole {'rows' if axis else 'columns'} that depend on no data, such as "
                f"'{'rows 0-63' if axis else 'cols 0-127'}'",
                self.source,
            )
        return lines


class MultiplyStep(StepModel):
    """Multiply input vectors by the cells that the pattern in ``slot`` connects; the data set is ``name``."""

    kind: Literal["multiply"] = Field(default="multiply", repr=False)
    slot: int = Field(default=0, ge=0)
    inputs: Literal["ones", "random", "staircase"] = "ones"
    seed: int = Field(default=0, ge=0, lt=2**64)
    batch: int = Field(default=1, ge=1, le=65536)
    bits: int = Field(default=1, ge=1, le=8)
    name: DatasetName = "multiply"

    def codes(self, rows: int) -> npt.NDArray[np.uint8]:
        """Return the input codes: uint8[batch, rows]. ``ones`` is full scale on every row; ``staircase`` on the first row in
        the first vector and on all rows in the last, evenly in between."""
        top = (1 << self.bits) - 1
        if self.inputs == "staircase":
            on = np.ceil(np.arange(1, self.batch + 1) * (rows / self.batch))
            return np.where(np.arange(rows) < on[:, None], top, 0).astype(np.uint8)
        if self.inputs == "ones":
            return np.full((self.batch, rows), top, np.uint8)
        raw = np.random.Philox(key=self.seed).random_raw(self.batch * rows)
        return (raw & np.uint64(top)).astype(np.uint8).reshape(self.batch, rows)


class ContactStep(StepModel):
    """Look for open and shorted lines and leakage at no more than 0.1 V."""

    kind: Literal["contact"] = Field(default="contact", repr=False)


class ExpectStep(StepModel):
    """Compare the last read of a region with a window."""

    kind: Literal["expect"] = Field(default="expect", repr=False)
    cells: RegionText = "all"
    window: Window
    on_failure: Literal["stop", "continue"] = "stop"


class WaitStep(StepModel):
    """Let time pass; nothing is energised meanwhile."""

    kind: Literal["wait"] = Field(default="wait", repr=False)
    time: Seconds = Field(gt=0, le=LONGEST_WAIT_S)


class Until(BaseModel):
    """Ends a loop: what the last read of ``cells`` must show."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    cells: RegionText = "all"
    window: Window


class RepeatStep(StepModel):
    """Execute steps again and again, ``times`` at most; after each round ``until`` is judged on the last reads."""

    kind: Literal["repeat"] = Field(default="repeat", repr=False)
    times: int = Field(ge=1, le=MOST_ROUNDS)
    until: Until | None = None
    steps: tuple[Step, ...] = Field(min_length=1)


class Round(BaseModel):
    """The steps of a ``for_each`` for one of its values, which stands in SI units."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    value: float | int | str
    unit: str = ""
    steps: tuple[Step, ...] = Field(min_length=1)


class ForEachStep(StepModel):
    """Execute steps once for each value of ``name``; the values already stand in them."""

    kind: Literal["for_each"] = Field(default="for_each", repr=False)
    name: DatasetName
    rounds: tuple[Round, ...] = Field(min_length=1)


Leaf = (
    PulseStep
    | ReadStep
    | ReferenceStep
    | GateStep
    | MultiplyStep
    | ContactStep
    | SweepStep
    | RouteStep
    | ExpectStep
    | WaitStep
    | ProgramStep
)
Loop = RepeatStep | ForEachStep
Step = Annotated[Leaf | Loop, Field(discriminator="kind")]


def depth(steps: tuple[Step, ...]) -> int:
    """Return how deep loops stand in loops; 0 for none."""
    deepest = 0
    for step in steps:
        match step:
            case RepeatStep():
                deepest = max(deepest, 1 + depth(step.steps))
            case ForEachStep():
                deepest = max(deepest, 1 + max(depth(each.steps) for each in step.rounds))
    return deepest


def encode_pattern(pattern: GatePattern) -> dict[str, Any]:
    """Write a gate pattern as plain JSON data: row bits (packed, zlib, base64) of all phases, and each pair's phase."""
    rows = base64.b64encode(zlib.compress(np.packbits(pattern.rows).tobytes(), 6)).decode()
    return {
        "rows": pattern.geometry.rows,
        "phases": pattern.phases,
        "bits": rows,
        "pairs": pattern.phase[0::2].tolist(),
    }


def decode_pattern(data: dict[str, Any]) -> GatePattern:
    """Read what :func:`encode_pattern` wrote.

    Raises:
        ValueError: it is not a pattern.
    """
    try:
        rows, phases = int(data["rows"]), int(data["phases"])
        packed = np.frombuffer(zlib.decompress(base64.b64decode(data["bits"], validate=True)), np.uint8)
        bits = np.unpackbits(packed, count=rows * phases).reshape(phases, rows).astype(np.bool_)
        return GatePattern(bits, np.repeat(np.array(data["pairs"], np.int16), 2))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"a gate pattern cannot be read: {error!r}") from error


__all__ = [
    "GATES_V",
    "LONGEST_HOLD_S",
    "MOST_DEPTH",
    "MOST_POINTS",
    "MOST_REPEATS",
    "NO_CELL",
    "AmplitudeLadder",
    "ContactStep",
    "ExpectStep",
    "ForEachStep",
    "GateStep",
    "Leaf",
    "Loop",
    "MultiplyStep",
    "Pilot",
    "ProgramStep",
    "PulseStep",
    "ReadStep",
    "ReferenceStep",
    "RepeatStep",
    "Round",
    "RouteStep",
    "Step",
    "StepModel",
    "SweepKind",
    "SweepStep",
    "Until",
    "WaitStep",
    "WidthLadder",
    "Window",
    "decode_pattern",
    "depth",
    "encode_array",
    "encode_pattern",
]
