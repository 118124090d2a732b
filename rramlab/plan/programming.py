"""Write-verify: read, pulse what is out of tolerance, until all is in or the budget of pulses is used up.

Incremental: each further pulse of a cell in the same direction is stronger (a higher amplitude, or longer); when the
direction changes it begins at the bottom again. The scheme is that of incremental step pulse programming (Suh et al., IEEE
JSSC 30, 1149, 1995), with its two directions as resistive memories need them.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from rramlab.base.errors import UsageError
from rramlab.base.units import WRITTEN_BY_HAND, Seconds, Siemens, Volts, parse
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.plan.operations import PulseOp
from rramlab.plan.stepmodel import DatasetName, RegionText, StepModel

MOST_LEVELS = 1000
MOST_BUDGET = 10_000
Floats = npt.NDArray[np.float32]
_ARRAY = "array("


class AmplitudeLadder(BaseModel):
    """Pulses of one width whose amplitude rises from ``start`` to ``to``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    start: Volts = Field(gt=0)
    to: Volts = Field(gt=0)
    step: Volts = Field(gt=0)
    width: Seconds = Field(gt=0)
    gate: Volts = Field(ge=0)

    @model_validator(mode="after")
    def _rises(self) -> AmplitudeLadder:
        _check_rise(self.start, self.to, self.levels)
        return self

    @property
    def levels(self) -> int:
        return int(min((self.to - self.start) / self.step + 1 + 1e-9, MOST_LEVELS + 1))

    def pulse(self, level: int) -> Pulse:
        """Return the pulse of a level, counted from 0; the last one stays for whatever is above."""
        return Pulse(min(self.start + min(level, self.levels - 1) * self.step, self.to), self.width, self.gate)


class WidthLadder(BaseModel):
    """Pulses of one amplitude whose width grows from ``start`` to ``to`` by a factor."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    start: Seconds = Field(gt=0)
    to: Seconds = Field(gt=0, le=3600)
    factor: float = Field(gt=1)
    voltage: Volts = Field(gt=0)
    gate: Volts = Field(ge=0)

    @model_validator(mode="after")
    def _rises(self) -> WidthLadder:
        _check_rise(self.start, self.to, self.levels)
        return self

    @property
    def levels(self) -> int:
        return int(min((math.log(self.to) - math.log(self.start)) / math.log(self.factor) + 1 + 1e-9, MOST_LEVELS + 1))

    def pulse(self, level: int) -> Pulse:
        """As :meth:`AmplitudeLadder.pulse`."""
        return Pulse(self.voltage, min(self.start * self.factor ** min(level, self.levels - 1), self.to), self.gate)


Ladder = AmplitudeLadder | WidthLadder


def _check_rise(start: float, to: float, levels: int) -> None:
    if to < start:
        raise ValueError(f"found a ladder from {start:g} to {to:g}, expected one that rises")
    if levels > MOST_LEVELS:
        raise ValueError(f"found a ladder of more than {MOST_LEVELS:,} levels, expected larger steps")


def encode_array(target_S: npt.NDArray[Any]) -> str:
    """Spell targets, float[rows, columns] in siemens with NaN for cells to leave alone, as text for a plan."""
    rows, columns = target_S.shape
    packed = base64.b64encode(zlib.compress(target_S.astype("<f4").tobytes(), 6)).decode()
    return f"{_ARRAY}{rows}x{columns}:{packed})"


def _decode(text: str) -> Floats:
    try:
        shape, _, packed = text.removeprefix(_ARRAY).removesuffix(")").partition(":")
        rows, columns = (int(each) for each in shape.split("x"))
        data = zlib.decompress(base64.b64decode(packed, validate=True))
        found = np.frombuffer(data, "<f4").reshape(rows, columns).astype(np.float32)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"an array of targets cannot be read: {error}") from None
    if np.any(np.isinf(found)) or np.any(found < 0):
        raise ValueError("found targets that are negative or infinite, expected siemens, NaN for cells to leave alone")
    return found


def _target(value: Any, info: ValidationInfo) -> Any:
    """Read one conductance for all cells, or check an array of them."""
    if isinstance(value, str) and value.startswith(_ARRAY):
        _decode(value)
        return value
    if isinstance(value, str) and value.endswith((".npy", ".npz")):
        raise ValueError(f"found {value!r}, expected a conductance such as '12 uS': a file is read with its protocol")
    if not isinstance(value, str) and info.context != WRITTEN_BY_HAND:
        return value
    try:
        return parse(value, "S")
    except UsageError as error:
        raise ValueError(str(error)) from None


class ProgramStep(StepModel):
    """Bring each cell of a region to its target by write-verify; the data set of the reads is ``name``."""

    kind: Literal["program"] = Field(default="program", repr=False)
    cells: RegionText
    target: Annotated[str | float, BeforeValidator(_target)]
    tolerance: Siemens = Field(gt=0)  # half-width
    budget: int = Field(ge=1, le=MOST_BUDGET)  # pulses a cell, at most
    by: Literal["amplitude", "width"] = "amplitude"
    set: Ladder = Field(union_mode="left_to_right")
    reset: Ladder = Field(union_mode="left_to_right")
    cells_per_pulse: int | None = Field(default=None, ge=1)
    repeats: int = Field(default=1, ge=1, le=64)  # reads a cell in each verification
    name: DatasetName = "program"

    @model_validator(mode="before")
    @classmethod
    def _one_kind_of_ladder(cls, data: Any) -> Any:
        """Choose the ladders' model by ``by``, so that an error is about the keys that were meant."""
        if not isinstance(data, dict):
            return data
        model = WidthLadder if data.get("by") == "width" else AmplitudeLadder
        chosen = dict(data)
        for name in ("set", "reset"):
            if isinstance(chosen.get(name), dict):
                chosen[name] = model(**chosen[name])
        return chosen

    @model_validator(mode="after")
    def _as_said(self) -> ProgramStep:
        wanted = WidthLadder if self.by == "width" else AmplitudeLadder
        if not (isinstance(self.set, wanted) and isinstance(self.reset, wanted)):
            raise ValueError(f"found ladders that do not rise by {self.by}")
        if isinstance(self.target, float) and self.target <= 0:
            raise ValueError(f"found the target {self.target:g} S, expected a conductance above 0")
        return self

    @property
    def stresses(self) -> PulseKind:
        return "set"  # which no pristine cell may have; resets are of the same life

    @property
    def pulses_per_cell(self) -> int:
        return self.budget

    def targets_S(self, cells: CellSelection) -> Floats:
        """Return what each cell is to conduct: float32[rows, columns], NaN for those that are left alone.

        Raises:
            UsageError: the targets are of another array.
        """
        wanted = _decode(self.target) if isinstance(self.target, str) else np.float32(self.target)
        if isinstance(wanted, np.ndarray) and wanted.shape != cells.bits.shape:
            rows, columns = wanted.shape
            die = " × ".join(str(each) for each in cells.bits.shape)
            raise UsageError(f"found targets for {rows} × {columns} cells, expected {die}")
        return np.where(cells.bits, wanted, np.float32(np.nan)).astype(np.float32)


class WriteVerify:
    """Which pulses come next, given what was read: a function of the reads alone, so that a resume goes the same way."""

    def __init__(self, step: ProgramStep, cells: CellSelection, cells_per_pulse: int) -> None:
        self._step, self._together = step, step.cells_per_pulse or cells_per_pulse
        self.target_S = step.targets_S(cells)
        self.used = np.zeros(cells.bits.shape, np.int32)
        self._rising = np.zeros(cells.bits.shape, np.bool_)  # the last pulse of a cell was a set
        self._level = np.full(cells.bits.shape, -1, np.int32)
        self.last_S = np.full(cells.bits.shape, np.nan, np.float32)
        self.pending = CellSelection(~np.isnan(self.target_S))  # to be read, and pulsed if need be

    def see(self, conductance_S: Floats) -> None:
        """Take a read of the pending cells: float32[rows, columns] in siemens, NaN where not read."""
        seen = self.pending.bits & ~np.isnan(conductance_S)
        self.last_S[seen] = conductance_S[seen]
        self.pending = CellSelection(self.pending.bits & ~self.reached & (self.used < self._step.budget))

    @property
    def reached(self) -> Bools:
        """Which cells were in tolerance when they were last read: bool[rows, columns]."""
        return np.asarray(np.abs(self.last_S - self.target_S) <= self._step.tolerance)

    def pulses(self, block_rows: int) -> list[PulseOp]:
        """Return one pulse for each pending cell, by direction, level and row block; count it as sent."""
        bits, step = self.pending.bits, self._step
        low = self.last_S < self.target_S
        again = bits & (low == self._rising) & (self._level >= 0)
        self._level[bits] = np.where(again, self._level + 1, 0)[bits]
        self._rising[bits] = low[bits]
        self.used += bits
        found = []
        ways: tuple[tuple[PulseKind, Ladder, Bools], ...] = (("reset", step.reset, ~low), ("set", step.set, low))
        for kind, ladder, direction in ways:
            towards = bits & direction
            level = np.minimum(self._level, ladder.levels - 1)
            for number in np.unique(level[towards]).tolist():
                chosen = CellSelection(towards & (level == number))
                for _, _, part in chosen.blocks(block_rows):
                    pulse = ladder.pulse(number)
                    found.append(PulseOp(kind, part, pulse, self._together, step.source))
        return found
