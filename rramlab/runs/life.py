"""A die's life in figures, from its ledger: what was done to it, when, by which runs, and how worn its cells are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import CellState, is_conducting
from rramlab.macro.pulses import PulseKind
from rramlab.runs.lastread import last_known
from rramlab.runs.ledger import Entry, LedgerView


@dataclass
class Tally:
    """Operations of one kind, or of one run. ``pulses``: delivered, possibly delivered, or intended."""

    operations: int = 0
    pulses: int = 0
    peak_V: float = 0.0
    first_at: str = ""
    last_at: str = ""

    def add(self, entry: Entry) -> None:
        pulses = entry.spent.count
        self.operations += 1
        self.pulses += pulses
        self.peak_V = max(self.peak_V, entry.pulse.amplitude_V if pulses else 0.0)
        # Not in the order of the clock, which may have been set back, but in the order of the operations.
        self.first_at = self.first_at or entry.intended_at
        self.last_at = entry.intended_at


@dataclass(frozen=True)
class Life:
    """What a ledger and the last read say of a die. Arrays are [rows, columns]."""

    die: str
    enrolled_at: str
    total: Tally
    kinds: dict[PulseKind, Tally]
    runs: dict[str, Tally]
    dangling: tuple[Entry, ...]
    state: CellState

    @property
    def pulses(self) -> npt.NDArray[np.uint32]:
        return self.state.pulses

    @property
    def pristine(self) -> int:
        return int(np.count_nonzero(self.state.pristine))

    @property
    def conducting(self) -> int:
        return int(np.count_nonzero(is_conducting(self.state.conductance_S)))

    @property
    def unread(self) -> int:
        """Cells of which no read since their last pulse is known."""
        return int(np.count_nonzero(np.isnan(self.state.conductance_S)))

    @property
    def unknown(self) -> int:
        return int(np.count_nonzero(self.state.unknown))


def life_of(ledger: LedgerView, folder: Path) -> Life:
    """Read a die's life. ``folder``: of the die, for its last read.

    Raises:
        DataError: ledger or last read are damaged.
    """
    total = Tally()
    kinds: dict[PulseKind, Tally] = {}
    runs: dict[str, Tally] = {}
    dangling = []
    for entry in ledger.entries():
        for tally in (total, kinds.setdefault(entry.kind, Tally()), runs.setdefault(entry.run, Tally())):
            tally.add(entry)
        if entry.outcome == "intended":
            dangling.append(entry)
    state = CellState(ledger.pulse_counts(), last_known(folder, ledger).conductance_S, ledger.unknown().bits)
    return Life(ledger.die_id, ledger.get("enrolled_at") or "", total, kinds, runs, tuple(dangling), state)


@dataclass(frozen=True)
class Wear:
    """Pulses a cell, over some cells.

    ``histogram``: (from, to, cells), both ends included. ``worst``: (row, column, pulses), the most worn first.
    """

    cells: int
    pulses: int
    mean: float
    most: int
    budget: int | None  # pulses a cell, of this bench
    used_up: int  # cells that have had their budget
    histogram: tuple[tuple[int, int, int], ...]
    worst: tuple[tuple[int, int, int], ...]

    @property
    def share(self) -> float | None:
        """The budget that the most worn cell has used, 1 = all of it; None: there is no budget."""
        return None if self.budget is None else self.most / self.budget if self.budget else 1.0


_EXACT = 8  # up to so many pulses a cell the histogram has a line for each number
_WORST = 10


def wear_of(pulses: npt.NDArray[np.uint32], cells: npt.NDArray[np.bool_], budget: int | None) -> Wear:
    """Return the wear of ``cells``; both arrays are [rows, columns]."""
    chosen = pulses[cells]
    most = int(chosen.max(initial=0))
    order = np.argsort(np.where(cells, -pulses.astype(np.int64), 1), axis=None, kind="stable")[:_WORST]
    worst: list[tuple[int, int, int]] = []
    for row, column in zip(*np.unravel_index(order, pulses.shape), strict=True):
        if cells[row, column] and pulses[row, column]:
            worst.append((int(row), int(column), int(pulses[row, column])))
    return Wear(
        int(chosen.size),
        int(chosen.sum(dtype=np.int64)),
        float(chosen.mean()) if chosen.size else 0.0,
        most,
        budget,
        0 if budget is None else int(np.count_nonzero(chosen >= budget)),
        tuple(_histogram(chosen, most)),
        tuple(worst),
    )


def _histogram(pulses: npt.NDArray[np.uint32], most: int) -> list[tuple[int, int, int]]:
    """Count cells by number of pulses: each number by itself, beyond a few in doubling ranges."""
    edges = list(range(min(most, _EXACT) + 2))
    while edges[-1] <= most:
        edges.append(edges[-1] * 2)
    counts = np.histogram(pulses, np.array(edges, np.float64) - 0.5)[0]
    return [(low, high - 1, int(count)) for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)]


def tally_as_json(tally: Tally) -> dict[str, Any]:
    return {
        "operations": tally.operations,
        "pulses": tally.pulses,
        "peak_V": tally.peak_V,
        "first_at": tally.first_at,
        "last_at": tally.last_at,
    }
