"""What every macro controller does, real or simulated: codes and bitmaps, in bulk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from rramlab.base.errors import InstrumentError
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseKind, PulseReport
from rramlab.macro.routes import Target
from rramlab.plan.limits import Limits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rramlab.macro.cells import Bools, CellSelection

PROTOCOL_VERSION = 1
Tick = Callable[[], None]


class NotDone(InstrumentError):
    """The board refused a pulse or a route before it did anything: no cell felt it."""


@dataclass(frozen=True)
class Identity:
    """What a controller says of itself. ``boot_nonce`` changes at every power-up."""

    protocol: int
    firmware: str
    board_serial: str
    boot_nonce: int
    geometry: Geometry
    limits: Limits
    capabilities: frozenset[str]
    temperature_C: float


@dataclass(frozen=True, eq=False)
class Sums:
    """Shift-added codes: int32[batch, n]; ``saturated``: conversions at either end of the ADC, int64[n]."""

    codes: npt.NDArray[np.int32]
    conversions: int
    saturated: npt.NDArray[np.int64]


class History(Enum):
    """What a controller remembers of an operation id that it has no record of."""

    NEVER = "never"  # not seen since power-up
    FORGOTTEN = "forgotten"  # seen and dropped, or before its memory begins


@dataclass(frozen=True)
class Status:
    """How a controller is now. ``live``: a line carries a voltage; ``routed``: the SMU's path is closed.

    ``frames``, ``damaged``: since power-up, 0 where there are none. ``errors``: its error queue, which this empties.
    """

    live: bool
    routed: bool
    temperature_C: float
    frames: int
    damaged: int
    errors: tuple[str, ...]


class MacroController(Protocol):
    """Synchronous; blocking calls call ``tick`` while they wait. Every method raises InstrumentError when refused."""

    def hello(self) -> Identity:
        """Identify; energises nothing."""
        ...

    def pulse(
        self,
        op_id: int,
        kind: PulseKind,
        cells: CellSelection,
        amplitude: int,
        width_ns: int,
        gate: int,
        cells_per_pulse: int,
        tick: Tick | None = None,
    ) -> PulseReport:
        """Pulse each selected cell once, rows in order. ``amplitude``, ``gate``: DAC codes.

        A known ``op_id`` returns its history and pulses nothing. On failure the rows done so far stay in the
        history; a row cut short counts as delivered.
        """
        ...

    def read(
        self, cells: CellSelection, repeats: int, bias: int, tick: Tick | None = None, isolated: bool = False
    ) -> npt.NDArray[np.uint16]:
        """Return codes, uint16[repeats, n], cells in C order. ``bias``: DAC code on the selected bit line.

        ``isolated``: with the word lines of the other rows off, and none but the source lines of the cells that are read
        in a row connected.
        """
        ...

    def read_reference(
        self, resistor: int | None, multiply: bool, repeats: int, bias: int, tick: Tick | None = None
    ) -> npt.NDArray[np.uint16]:
        """Return codes of a reference resistor, None: of open inputs, uint16[repeats, columns]; the array is not driven.

        ``multiply``: in the range of products, else that of single cells. ``bias``: DAC code on the resistor. Two reads
        are two reads, as of cells.
        """
        ...

    def load_gates(self, slot: int, rows: Bools, phase: npt.NDArray[np.int16]) -> None:
        """Load a gate pattern; volatile, cleared by :meth:`safe_state`."""
        ...

    def multiply(
        self,
        x: npt.NDArray[np.uint8],
        bits: int,
        slot: int,
        columns: npt.NDArray[np.intp],
        tick: Tick | None = None,
    ) -> Sums:
        """Bit-serial multiply. ``x``: uint8[batch, n], n = rows that the slot's pattern drives, in row order."""
        ...

    def route(self, target: Target | None, bias: int, op_id: int = 0) -> None:
        """Connect ``target`` to the SMU's terminals; None opens the path again.

        ``bias``: DAC code of the word line of a routed cell, or of the channel that is held. ``op_id``: of the ledger,
        where the SMU will change the cell; its history is then the cell. A route is held under the dead man's switch.
        """
        ...

    def history(self, op_id: int, tick: Tick | None = None) -> CellSelection | History:
        """Return the cells that ``op_id`` has pulsed, NEVER, or FORGOTTEN; waits while an operation is in flight."""
        ...

    def acknowledge(self, op_id: int) -> None:
        """Let the controller forget ``op_id`` and all ids before it: the host has written their outcomes down."""
        ...

    def status(self) -> Status:
        """Ask how it is; energises nothing."""
        ...

    def wait(self, time_s: float, tick: Tick | None = None) -> None:
        """Let time pass while nothing is energised. What is at the other end of a wire waits as long as its host."""
        ...

    def heartbeat(self) -> None:
        """Hold off the dead man's switch."""
        ...

    def safe_state(self) -> None:
        """Every line to 0 V, word lines off, SMU path open, gate slots cleared. Idempotent; tried even after an error."""
        ...

    def close(self) -> None:
        """Release the link; implies nothing about the lines."""
        ...
