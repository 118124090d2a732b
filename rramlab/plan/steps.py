"""The steps of a plan. The same models are read from YAML (quantities with units) and from plan.json (SI numbers)."""

from __future__ import annotations

import base64
import re
import zlib
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.units import Amperes, Seconds, Siemens, Volts
from rramlab.macro.cells import Bools
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.macro.regions import Region


def _region(text: str) -> str:
    try:
        Region(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _cell(text: str) -> str:
    """Accept ``(3, 7)`` and ``3, 7`` beside the region ``cell (3, 7)``."""
    short = re.fullmatch(r"\s*\(?\s*([0-9]+)\s*,\s*([0-9]+)\s*\)?\s*", text)
    region = _region(f"cell ({short[1]}, {short[2]})" if short else text)
    if Region(region).depends_on_data:
        raise ValueError(f"found {text!r}, expected one cell that depends on no data, such as '(3, 7)'")
    return region


RegionText = Annotated[str, AfterValidator(_region)]
CellText = Annotated[str, AfterValidator(_cell)]
Fraction = Annotated[float, Field(ge=0, le=1)]
SweepKind = Literal["read", "electroform", "set", "reset"]

MOST_REPEATS = 4096  # reads a cell in one operation: bounds its size
MOST_POINTS = 2500  # of a sweep; what the unit on the bench can hold stands in its driver file
LONGEST_HOLD_S = 3600.0
NO_CELL = "all - all"
# Word lines by what they are for, as in the shipped protocols (assumed): wide open to read and to reset, and at what sets
# the compliance to form and to set.
GATES_V: dict[str, float] = {"read": 3.0, "reset": 3.0, "electroform": 1.6, "set": 1.6}


class StepModel(BaseModel):
    """What all steps share; ``source`` is where the step was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    source: SourceRef = Field(default=SourceRef(), repr=False)

    @property
    def stresses(self) -> PulseKind | None:
        """As which kind of pulse the step counts in the life of its cells; None: it is harmless."""
        return None


class Window(BaseModel):
    """What a read is expected to show. Formed fraction = conducting cells over cells in the region."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    formed_fraction: tuple[Fraction, Fraction] | None = None
    median: tuple[Siemens, Siemens] | None = None  # of the conducting cells
    hint: str = ""  # said when a read is not as expected: what may be the cause, and what to do

    @field_validator("formed_fraction", mode="before")
    @classmethod
    def _around(cls, value: Any) -> Any:
        """Accept ``{expected: 0.55, within: 0.05}`` beside ``[0.5, 0.6]``."""
        if isinstance(value, dict):
            if set(value) != {"expected", "within"}:
                raise ValueError(f"found keys {', '.join(value)}, expected the keys expected and within")
            try:
                centre, width = float(value["expected"]), float(value["within"])
            except (TypeError, ValueError):
                raise ValueError(f"found {value}, expected two numbers, such as expected: 0.55, within: 0.05") from None
            if not (0 <= centre <= 1 and 0 <= width <= 1):  # false for NaN, too
                raise ValueError(f"found {value}, expected two numbers from 0 to 1")
            return (max(0.0, centre - width), min(1.0, centre + width))
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        for name, window in (("formed_fraction", self.formed_fraction), ("median", self.median)):
            if window is not None and window[0] > window[1]:
                raise ValueError(f"found {name} from {window[0]} to {window[1]}, expected the lower bound first")
        if self.formed_fraction is None and self.median is None:
            raise ValueError("found an empty window, expected formed_fraction, median, or both")
        return self


class Pilot(Window):
    """The first rows are formed and read before the rest; the run stops unless they are in the window."""

    rows: int = Field(default=4, ge=1, le=16)
    recheck_rows: int = Field(default=128, ge=1, le=256)  # the last block formed is read again every so many rows

    @model_validator(mode="after")
    def _judges(self) -> Pilot:
        """A pilot block that anything passes is none."""
        if self.formed_fraction is None or self.median is None:
            raise ValueError("found a pilot block without formed_fraction or median, expected both")
        if self.formed_fraction[1] - self.formed_fraction[0] > 0.5:
            raise ValueError(f"found formed_fraction {list(self.formed_fraction)}, expected a window of at most 0.5")
        return self


class PulseStep(StepModel):
    """One pulse for every cell of a region: single-shot, no verify."""

    kind: PulseKind = Field(repr=False)
    cells: RegionText
    voltage: Volts = Field(gt=0)
    width: Seconds = Field(gt=0)
    gate: Volts = Field(ge=0)
    cells_per_pulse: int | None = Field(default=None, ge=1)  # the board's own when not given
    pilot: Pilot | None = None

    @model_validator(mode="after")
    def _pilot_forms(self) -> PulseStep:
        if self.pilot is not None and self.kind != "electroform":
            raise ValueError(f"found a pilot block in a {self.kind} step, expected it with electroform only")
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
    name: str = Field(default="read", pattern=r"^[a-z][a-z0-9_-]*$")


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
    inputs: Literal["ones", "random"] = "ones"
    seed: int = Field(default=0, ge=0, lt=2**64)
    batch: int = Field(default=1, ge=1, le=65536)
    bits: int = Field(default=1, ge=1, le=8)
    name: str = Field(default="multiply", pattern=r"^[a-z][a-z0-9_-]*$")

    def codes(self, rows: int) -> npt.NDArray[np.uint8]:
        """Return the input codes: uint8[batch, rows]; ``ones`` is full scale on every row."""
        top = (1 << self.bits) - 1
        if self.inputs == "ones":
            return np.full((self.batch, rows), top, np.uint8)
        raw = np.random.Philox(key=self.seed).random_raw(self.batch * rows)
        return (raw & np.uint64(top)).astype(np.uint8).reshape(self.batch, rows)


class ContactStep(StepModel):
    """Look for open and shorted lines and leakage at no more than 0.1 V."""

    kind: Literal["contact"] = Field(default="contact", repr=False)


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
    name: str = Field(default="sweep", pattern=r"^[a-z][a-z0-9_-]*$")

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
    name: str = Field(default="route", pattern=r"^[a-z][a-z0-9_-]*$")

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


class ExpectStep(StepModel):
    """Compare the last read of a region with a window."""

    kind: Literal["expect"] = Field(default="expect", repr=False)
    cells: RegionText = "all"
    window: Window
    on_failure: Literal["stop", "continue"] = "stop"


Step = Annotated[
    PulseStep | ReadStep | GateStep | MultiplyStep | ContactStep | SweepStep | RouteStep | ExpectStep,
    Field(discriminator="kind"),
]


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
