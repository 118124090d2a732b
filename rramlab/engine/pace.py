"""How far a run is, how fast it goes, and what formed."""

from __future__ import annotations

import time

import numpy as np

from rramlab.engine.performing import Performer
from rramlab.macro.cells import is_conducting
from rramlab.plan.worst import Bounds

_LOOK_S = 0.2  # between two looks at how many cells formed


class Pace:
    """How far a run is, how fast it goes, and what formed."""

    def __init__(self, bounds: Bounds) -> None:
        self._total_s, self._bounds = bounds.time_s, bounds
        self._began = time.monotonic()
        self._passed_s = 0.0  # of the plan's own estimate
        self._looked = -1.0
        self.count = 0
        self.pulsed = self.formed = 0
        self.mean_S: float | None = None

    def passed(self, estimate_s: float) -> None:
        self.count += 1
        self._passed_s += estimate_s

    def eta_s(self) -> float | None:
        """Return the seconds that the rest takes if it goes on at the same pace; None before there is one."""
        share = self._passed_s / self._total_s if self._total_s else self.count / max(1, self._bounds.operations)
        elapsed = time.monotonic() - self._began
        return elapsed * max(0.0, 1 - share) / share if share > 0.01 and elapsed > 1 else None

    def look(self, performer: Performer) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        read = performer.seen_S[performer.pulsed]
        read = read[~np.isnan(read)]
        conducting = is_conducting(read)
        self.pulsed, self.formed = int(read.size), int(np.count_nonzero(conducting))
        self.mean_S = float(read[conducting].mean()) if self.formed else None
