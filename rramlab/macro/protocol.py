"""What nn, deploy and training see of a macro: siemens and numpy, no instrument."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InstrumentError
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import CellSelection
from rramlab.macro.conditions import Conditions
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.placement import Tile
from rramlab.macro.pulses import Pulse, PulseKind, PulseReport
from rramlab.macro.regions import Region


class Macro(Protocol):
    """One die behind its board. Every call goes through the guard; a refused call energises nothing."""

    @property
    def die_id(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...

    @property
    def board(self) -> BoardTable: ...

    def conditions(self) -> Conditions:
        """Return under which conditions a read is taken now."""
        ...

    def pulse(
        self, kind: PulseKind, cells: CellSelection | Region | str, pulse: Pulse, again: bool = False
    ) -> PulseReport:
        """Give each selected cell exactly one pulse.

        On failure half-way the ledger knows which cells were pulsed; a second call pulses them a second time, or is refused:
        a cell is electroformed once. ``again``: cells that were electroformed, and read since, are meant, too.
        """
        ...

    def read(self, cells: CellSelection | Region | str = "all", repeats: int = 1) -> npt.NDArray[np.float32]:
        """Return siemens, float32[rows, columns], the mean over ``repeats``; NaN outside the selection."""
        ...

    def weights(self, tile: Tile, repeats: int = 1) -> npt.NDArray[np.float32]:
        """Return G⁺ − G⁻ of the tile's pairs in siemens, float32[inputs, outputs]."""
        ...

    def multiply(self, x: npt.NDArray[np.uint8], bits: int, tile: Tile, gates: GatePattern) -> npt.NDArray[np.float32]:
        """Return x · (G⁺ − G⁻) over the rows that ``gates`` enables: float32[batch, outputs], siemens × code.

        ``x``: uint8[batch, tile inputs], unsigned codes below 2^bits. Pairs that ``gates`` turns off give 0.
        """
        ...


def read_whole(macro: Macro, cells: CellSelection, repeats: int = 1) -> npt.NDArray[np.float32]:
    """Read ``cells`` as :meth:`Macro.read` does, each to a number.

    Raises:
        InstrumentError: what came back of some is none: it would count as a cell that does not conduct.
    """
    found = macro.read(cells, repeats)
    bad = np.argwhere(cells.bits & ~np.isfinite(found))
    if len(bad):
        raise InstrumentError(
            f"the read of die {macro.die_id!r} gave no number for {len(bad):,} of {cells.count:,} cells, the first at row "
            f"{bad[0][0]}, column {bad[0][1]}; no pulse was sent. Check the board's calibration record, test the lines "
            "(rramlab contact), and read again"
        )
    return found
