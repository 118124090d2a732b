"""Whether what was stopped and gone on with came to what was promised: by the die's own counters, its ledger and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from killing.judging import Left, look

from rramlab.runs.ledger import view_ledger

PROMISES = {
    "twice": "cells that had more pulses than the work may give them",
    "repeated": "cells that one place of a plan, or one voltage of a ramp, has pulsed twice, by the ledger",
    "outside": "cells that the work does not choose, and that were pulsed",
    "lost": "cells with fewer pulses than the ledger has as given",
    "unreported": "cells with more pulses than the ledger has",
    "missing": "cells of a single-shot work that have no pulse in the end",
    "otherwise": "cells that are not, bit for bit, as after an undisturbed single-shot work",
    "needlessly": "cells called unknown although the board knew",
    "undecided": "operations without an outcome in the end",
    "memory": "cells and operations of which an open session remembers other than its file says, after an interrupt",
    "stranded": "operations left intended, after an interrupt, that the board never received",
    "unreadable": "files that a stop left damaged, or that could not be gathered",
    "vanished": "blocks of data that were there after a stop and are gone or changed in the end",
    "failed": "attempts that ended otherwise than stopped or done",
    "ended": "works that did not come to their end",
}


@dataclass
class Stand:
    """How a die, its ledger and the new runs' files are. Arrays are [rows, columns].

    ``given``, ``spent``: pulses that the ledger has as certainly given, and as given, possibly given or intended. ``repeated``:
    cells that one place of a run has pulsed twice.
    """

    left: Left
    given: np.ndarray
    spent: np.ndarray
    repeated: np.ndarray

    @property
    def pulses(self) -> np.ndarray:
        return self.left.pulses


def stand(bench: Path, die: str, copy: Path, known: list[str], ramp: bool) -> Stand:
    """Look at everything: at files through a copy, at the ledger where it is. ``ramp``: new runs pulse each voltage once."""
    left = look(bench, die, copy, known)
    shape = left.pulses.shape
    given, spent = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    repeated = np.zeros(shape, np.bool_)
    places: dict[tuple[object, ...], np.ndarray] = {}
    path = bench / "data" / "dies" / die / "ledger.db"
    if path.exists():
        with view_ledger(path) as ledger:
            for entry in ledger.entries():
                given += entry.done.bits
                spent += entry.spent.bits
                new = ramp and entry.run not in known
                place = (entry.kind, entry.pulse.amplitude_V) if new else (entry.run, entry.position)
                before = places.get(place)
                repeated |= False if before is None else before & entry.done.bits
                places[place] = entry.done.bits if before is None else before | entry.done.bits
            spent = np.maximum(spent, ledger.pulse_counts())
    return Stand(left, given, spent, repeated)


def judge(
    end: Stand, stops: list[Stand], looks: list[dict], before: Stand, calm: Stand, most: int, once: bool, ended: bool
) -> dict[str, int]:
    """Return counts of what is not as promised.

    ``stops``: how all was after each stop; ``looks``: what looks at open sessions found. ``before``, ``calm``: how all was
    before the work, and after an undisturbed one. ``most``, ``once``: of the work.
    """
    new, usual = end.pulses.astype(np.int64) - before.pulses, calm.pulses.astype(np.int64) - before.pulses
    unknown = end.left.unknown & ~before.left.unknown
    blocks = {name: crc for each in stops for name, crc in each.left.blocks.items()}
    found = {
        "twice": new > most,
        "repeated": end.repeated,
        # Which cells write-verify and a ramp choose follows from what was read; they are of the same region.
        "outside": (new > 0) & ~_region(usual, once),
        "lost": end.pulses < end.given,
        "unreported": end.pulses > end.spent,
        "missing": (usual > 0) & (new == 0) & ~unknown if once else np.zeros_like(unknown),
        "otherwise": (new > 0) & (end.left.conductance_S != calm.left.conductance_S)
        if once
        else np.zeros_like(unknown),
        "needlessly": unknown,
    }
    for each in stops:  # then the ledger may lack nothing either, whatever is decided later
        found["unreported"] = found["unreported"] | (each.pulses > each.spent)
    return {
        **{name: int(np.count_nonzero(bits)) for name, bits in found.items()},
        "undecided": end.left.undecided,
        "memory": sum(each.get("memory", 0) for each in looks),
        "stranded": sum(each.get("stranded", 0) for each in looks),
        "unreadable": sum(len(each.left.damage) for each in [*stops, end]),
        "vanished": sum(end.left.blocks.get(name) != crc for name, crc in blocks.items()),
        "ended": int(not ended),
    }


def _region(usual, once):
    """Return where a work may pulse: of a single-shot one exactly where an undisturbed one did, else in the same rows."""
    return usual > 0 if once else np.broadcast_to((usual > 0).any(axis=1, keepdims=True), usual.shape)
