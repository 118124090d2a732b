"""Operations: what the engine sends, one at a time, through the guard. They hold resolved cells, never regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import SourceRef
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference, Target
from rramlab.plan.probesteps import SweepKind
from rramlab.plan.windows import Window


@dataclass(frozen=True, slots=True)
class PulseOp:
    """Exactly one pulse for each selected cell; the controller fires ``cells_per_pulse`` at once, in row order.

    ``again``: cells that had a pulse before are electroformed, too; see the engine's guard.
    """

    kind: PulseKind
    cells: CellSelection
    pulse: Pulse
    cells_per_pulse: int
    source: SourceRef = SourceRef()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Read each selected cell ``repeats`` times; ``bias`` is the board's read or contact voltage.

    ``isolated``: while a row's turn comes, the word lines of all others are off and only the source lines of the cells that
    are read in it are connected. It is not what the array conducts in use, so it is no last read of its cells.
    """

    cells: CellSelection
    repeats: int = 1
    dataset: str = "read"
    bias: Literal["read", "contact"] = "read"
    source: SourceRef = SourceRef()
    kind: Literal["read"] = "read"
    isolated: bool = False

    @property
    def is_last(self) -> bool:
        """Whether it says what its cells conduct in use, until they are pulsed or read again."""
        return self.bias == "read" and not self.isolated


@dataclass(frozen=True)
class ReferenceRead:
    """Convert the current of a reference resistor with the converters of all columns, ``repeats`` times each.

    ``resistor``: its index; None leaves the amplifiers' inputs open. ``voltage_V``: on the resistor, in V. ``range``: of the
    converters. The array is not driven.

    Raises:
        ValueError: on construction, for a voltage that is not finite or negative.
    """

    resistor: int | None
    voltage_V: float
    range: Literal["read", "multiply"] = "read"
    repeats: int = 1
    dataset: str = "reference"
    source: SourceRef = SourceRef()
    kind: Literal["reference"] = "reference"

    def __post_init__(self) -> None:
        _finite(self.voltage_V)


@dataclass(frozen=True)
class LoadGates:
    slot: int
    pattern: GatePattern
    source: SourceRef = SourceRef()
    kind: Literal["gate"] = "gate"


@dataclass(frozen=True)
class Multiply:
    """Multiply ``x``, uint8[batch, driven rows of the pattern], into the columns that the pattern enables."""

    slot: int
    pattern: GatePattern
    x: npt.NDArray[np.uint8]
    bits: int
    dataset: str = "multiply"
    source: SourceRef = SourceRef()
    kind: Literal["multiply"] = "multiply"


@dataclass(frozen=True)
class Contact:
    """Read the whole array at the contact voltage and judge lines by it."""

    cells: CellSelection
    source: SourceRef = SourceRef()
    kind: Literal["contact"] = "contact"


@dataclass(frozen=True)
class Sweep:
    """From 0 V to ``peak_V`` across one cell in ``points`` levels and, ``both_ways``, back; SI units.

    Raises:
        ValueError: on construction, for what is not finite or negative, or not one cell.
    """

    purpose: SweepKind
    cells: CellSelection
    peak_V: float
    points: int
    dwell_s: float
    compliance_A: float
    gate_V: float
    both_ways: bool = False
    smu: str = ""
    dataset: str = "sweep"
    source: SourceRef = SourceRef()
    kind: Literal["sweep"] = "sweep"

    def __post_init__(self) -> None:
        _finite(self.peak_V, self.dwell_s, self.compliance_A, self.gate_V)
        if self.cells.count != 1 or self.points < 2:
            raise ValueError(
                f"found {self.cells.count} cells and {self.points} points, expected one cell and 2 or more"
            )

    @property
    def target(self) -> RoutedCell:
        """The cell, with the line that carries the higher voltage in a pulse of this kind at the unit."""
        return RoutedCell(*self.cells.first, "bl" if self.purpose == "reset" else "sl")

    @property
    def levels(self) -> int:
        return 2 * self.points - 1 if self.both_ways else self.points

    @property
    def duration_s(self) -> float:
        return self.levels * self.dwell_s

    @property
    def as_pulse(self) -> PulseOp | None:
        """The one pulse that it counts as: its peak, for its whole duration; None for a read."""
        if self.purpose == "read":
            return None
        return PulseOp(self.purpose, self.cells, Pulse(self.peak_V, self.duration_s, self.gate_V), 1, self.source)


@dataclass(frozen=True)
class Route:
    """Connect ``target`` to a source-measure unit, measure it ``count`` times, hold it for ``hold_s``; SI units.

    Raises:
        ValueError: on construction, for what is not finite or negative.
    """

    target: Target
    voltage_V: float
    compliance_A: float
    gate_V: float
    count: int = 1
    hold_s: float = 0.0
    smu: str = ""
    dataset: str = "route"
    source: SourceRef = SourceRef()
    kind: Literal["route"] = "route"

    def __post_init__(self) -> None:
        _finite(self.voltage_V, self.compliance_A, self.gate_V, self.hold_s)

    @property
    def bias_V(self) -> float:
        """What the board's DAC puts out: on the word line of a cell, or on the channel that is held."""
        match self.target:
            case RoutedCell():
                return self.gate_V
            case RoutedDac():
                return self.voltage_V
            case RoutedReference():
                return 0.0

    @property
    def protection_V(self) -> float:
        """The unit's limit on the voltage where it measures a DAC channel: with room for the channel's own error."""
        return self.voltage_V * 1.1 + 0.1


def _finite(*values: float) -> None:
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError(f"found {values}, expected finite numbers that are not negative")


@dataclass(frozen=True)
class Expect:
    """Compare the last read of ``cells`` with ``window``; energises nothing."""

    cells: CellSelection
    window: Window
    stop: bool = True
    what: str = "expect"
    source: SourceRef = SourceRef()
    kind: Literal["expect"] = "expect"


@dataclass(frozen=True)
class Unchanged:
    """Compare the read ``after`` of ``cells`` with the read ``before``: bystanders of a pulse; energises nothing."""

    cells: CellSelection
    before: str
    after: str
    what: str
    source: SourceRef = SourceRef()
    kind: Literal["unchanged"] = "unchanged"


@dataclass(frozen=True)
class Wait:
    """Let time pass."""

    time_s: float
    source: SourceRef = SourceRef()
    kind: Literal["wait"] = "wait"


Operation = PulseOp | Read | ReferenceRead | LoadGates | Multiply | Contact | Sweep | Route | Expect | Unchanged | Wait


def pulse_of(operation: Operation) -> PulseOp | None:
    """Return what an operation counts as in the life of its cells; None: it is harmless."""
    match operation:
        case PulseOp():
            return operation
        case Sweep():
            return operation.as_pulse
        case _:
            return None


def capability_of(operation: Operation) -> str | None:
    """Return what not every board can do and an operation needs; None: nothing of the kind."""
    match operation:
        case ReferenceRead():
            return "reference_reads"
        case Read(isolated=True):
            return "isolated_reads"
        case Route(target=RoutedReference()):
            return "reference_resistors"
        case Sweep() | Route():
            return "smu_route"
        case _:
            return None


def describe(operation: Operation) -> str:
    """Say an operation in a few words, for errors and progress."""
    match operation:
        case PulseOp(kind=kind, cells=cells):
            rows = cells.rows
            return (
                f"{kind} of {cells.count:,} cells in rows {rows[0]}-{rows[-1]}" if rows.size else f"{kind} of no cell"
            )
        case Read(cells=cells, bias=bias, isolated=isolated):
            how = f"{'isolated ' * isolated}{'contact ' * (bias == 'contact')}"
            return f"{how}read of {cells.count:,} cells"
        case ReferenceRead(resistor=resistor, voltage_V=voltage_V, range=span):
            what = "open inputs" if resistor is None else f"reference resistor {resistor} at {voltage_V:g} V"
            return f"read of {what} in the {span} range"
        case LoadGates(slot=slot, pattern=pattern):
            return f"gate pattern of {pattern.phases} phases into slot {slot}"
        case Multiply(x=x, bits=bits):
            return f"multiply of {len(x):,} vectors of {bits} bits"
        case Contact():
            return "contact test"
        case Sweep(purpose=purpose, target=target, peak_V=peak_V, levels=levels):
            return f"{purpose} sweep of cell ({target.row}, {target.column}) to {peak_V:g} V in {levels} levels"
        case Route(target=target, voltage_V=voltage_V):
            return f"route of {target}, at {voltage_V:g} V"
        case Expect(what=what):
            return f"check of {what}"
        case Unchanged(cells=cells):
            return f"check of {cells.count} bystanders"
        case Wait(time_s=time_s):
            return f"wait of {time_s:g} s"
