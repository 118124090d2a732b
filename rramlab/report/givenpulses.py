"""The pulses of one run, by its die's ledger, which is only looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import Bools
from rramlab.runs.ledger import Entry, view_ledger


@dataclass
class Setting:
    """Pulses of one kind and form. ``cells``: bool[rows, columns], those that had one of them or may have."""

    kind: str
    amplitude_V: float
    width_s: float
    gate_V: float
    cells: Bools
    pulses: int = 0  # known to have been delivered
    unknown: int = 0
    undecided: int = 0  # intended by a process that died; the next session decides


@dataclass
class GivenPulses:
    """What one run did to the cells of a die; arrays are [rows, columns]."""

    counts: npt.NDArray[np.uint32]  # pulses that a cell had or may have had
    first: npt.NDArray[np.int64]  # the operation of a cell's first pulse, 0 for none
    last: npt.NDArray[np.int64]
    others: Bools  # cells that were pulsed by another run, ever
    unknown: Bools  # nobody can say whether the last pulse arrived
    settings: list[Setting] = field(default_factory=list)
    moments: list[tuple[str, str]] = field(default_factory=list)  # position of an operation, when it was intended

    @property
    def pulses(self) -> int:
        return sum(each.pulses for each in self.settings)

    @property
    def undecided(self) -> int:
        return sum(each.undecided for each in self.settings)


def pulses_of(ledger: Path, run: str) -> GivenPulses:
    """Return what the ledger says of a run.

    Raises:
        DataError: the ledger is not there or cannot be read; it is left as it is.
    """
    with view_ledger(ledger) as view:
        shape = view.geometry.shape
        counts = np.zeros(shape, np.uint32)
        first, last = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        settings: dict[tuple[str, float, float, float], Setting] = {}
        moments = []
        unknown = np.zeros(shape, np.bool_)
        for entry in view.of_run(run):
            spent = entry.spent.bits
            _count(settings, entry)
            counts += spent
            first[spent & (first == 0)] = entry.op_id
            last[spent] = entry.op_id
            unknown = (unknown & ~entry.done.bits) | entry.unknown.bits
            moments.append((entry.position, entry.intended_at))
        others = view.pulse_counts() > counts
    return GivenPulses(counts, first, last, others, unknown, list(settings.values()), moments)


def _count(settings: dict[tuple[str, float, float, float], Setting], entry: Entry) -> None:
    pulse = entry.pulse
    key = (entry.kind, pulse.amplitude_V, pulse.width_s, pulse.gate_V)
    each = settings.setdefault(key, Setting(*key, np.zeros(entry.cells.bits.shape, np.bool_)))
    each.cells |= entry.spent.bits
    each.pulses += entry.done.count
    each.unknown += entry.unknown.count
    if entry.outcome == "intended":
        each.undecided += entry.cells.count
