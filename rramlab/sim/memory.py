"""What a board remembers of operations, so that a retry pulses nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.drivers.controller import History, NotDone
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseReport
from rramlab.sim.state import checked


class OperationMemory:
    """Operation ids with the cells that are done; ``room`` of them, until the host acknowledges."""

    def __init__(self, geometry: Geometry, room: int) -> None:
        self._geometry, self._room = geometry, room
        self._known: dict[int, PulseReport] = {}
        self._highest = -1  # seen since the memory was new

    def get(self, op_id: int) -> PulseReport | None:
        return self._known.get(op_id)

    def admit(self, op_id: int) -> None:
        """Refuse an id that was used before, or that there is no room for.

        Raises:
            NotDone: in the board's words.
        """
        if op_id >= 1 << 63:
            raise NotDone(f"operation id {op_id} is beyond 2⁶³ − 1; nothing was pulsed")
        if op_id <= self._highest:
            raise NotDone(
                f"operation id {op_id} was used before and is forgotten; nothing was pulsed. Another ledger of this die has "
                "given out ids: find the one that holds its life (data/dies/<id>/ledger.db) and work with that"
            )
        if len(self._known) >= self._room:
            raise NotDone(
                f"the board remembers {len(self._known)} operations and takes no more; nothing was pulsed. "
                "Acknowledge those whose outcome is written down"
            )

    def put(self, op_id: int, report: PulseReport) -> None:
        """Remember what is done of an operation so far."""
        self._highest = max(self._highest, op_id)
        self._known[op_id] = report

    def report(self, op_id: int) -> PulseReport | History:
        known = self.get(op_id)
        if known is not None:
            return known
        return History.FORGOTTEN if op_id <= self._highest else History.NEVER

    def acknowledge(self, op_id: int) -> bool:
        """Forget ``op_id`` and all before it; return whether there was something to forget."""
        kept = {known: report for known, report in self._known.items() if known > op_id}
        changed = len(kept) < len(self._known)
        self._known = kept
        return changed

    def clear(self) -> None:
        self._known.clear()
        self._highest = -1

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a file holds of it."""
        ids = sorted(self._known)
        return {
            "board_highest": np.array(self._highest, np.int64),
            "board_ids": np.array(ids, np.int64),
            "board_done": np.frombuffer(b"".join(self._known[each].done.packed() for each in ids), np.uint8),
        }

    def take(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Take back what :meth:`arrays` gave.

        Raises:
            KeyError, ValueError: an entry is missing, or not what it should be.
        """
        highest = int(checked(arrays["board_highest"], np.int64, (), "board_highest"))
        ids = checked(arrays["board_ids"], np.int64, (arrays["board_ids"].size,), "board_ids").tolist()
        if ids != sorted(set(ids)) or (ids and not 0 <= ids[0] <= ids[-1] <= highest):
            raise ValueError("the operation ids that the board remembers are not in order")
        size = (len(ids) * -(-self._geometry.cells // 8),)
        packed = checked(arrays["board_done"], np.uint8, size, "board_done")
        done: list[npt.NDArray[np.uint8]] = list(packed.reshape(len(ids), -1)) if ids else []
        self._highest = highest
        self._known = {
            op_id: PulseReport(CellSelection.from_packed(bits.tobytes(), self._geometry))
            for op_id, bits in zip(ids, done, strict=True)
        }
