"""Operations: what the engine sends, one at a time, through the guard. They hold resolved cells, never regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import SourceRef
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.plan.steps import Window


@dataclass(frozen=True)
class PulseOp:
    """Exactly one pulse for each selected cell; the controller fires ``cells_per_pulse`` at once, in row order."""

    kind: PulseKind
    cells: CellSelection
    pulse: Pulse
    cells_per_pulse: int
    source: SourceRef = SourceRef()


@dataclass(frozen=True)
class Read:
    """Read each selected cell ``repeats`` times; ``bias`` is the board's read or contact voltage."""

    cells: CellSelection
    repeats: int = 1
    dataset: str = "read"
    bias: Literal["read", "contact"] = "read"
    source: SourceRef = SourceRef()
    kind: Literal["read"] = "read"


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
class Expect:
    """Compare the last read of ``cells`` with ``window``; energises nothing."""

    cells: CellSelection
    window: Window
    stop: bool = True
    what: str = "expect"
    source: SourceRef = SourceRef()
    kind: Literal["expect"] = "expect"


Operation = PulseOp | Read | LoadGates | Multiply | Contact | Expect


def describe(operation: Operation) -> str:
    """Say an operation in a few words, for errors and progress."""
    match operation:
        case PulseOp(kind=kind, cells=cells):
            rows = cells.rows
            return (
                f"{kind} of {cells.count:,} cells in rows {rows[0]}-{rows[-1]}" if rows.size else f"{kind} of no cell"
            )
        case Read(cells=cells, bias=bias):
            return f"{bias if bias == 'contact' else ''} read of {cells.count:,} cells".strip()
        case LoadGates(slot=slot, pattern=pattern):
            return f"gate pattern of {pattern.phases} phases into slot {slot}"
        case Multiply(x=x, bits=bits):
            return f"multiply of {len(x):,} vectors of {bits} bits"
        case Contact():
            return "contact test"
        case Expect(what=what):
            return f"check of {what}"
