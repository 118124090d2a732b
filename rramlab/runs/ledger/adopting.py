"""A person says which of several ledgers is the die's. Adoption only adds: no cell has fewer pulses than before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rramlab.base.errors import DataError
from rramlab.macro.cells import CellSelection
from rramlab.runs.ledger.looking import view_ledger
from rramlab.runs.ledger.view import LedgerView
from rramlab.runs.ledger.witnesses import Witness, beside, outside, testimony


@dataclass(frozen=True)
class Foreign:
    """What other ledgers did, or may have done, that one does not know.

    ``cells``: that may have had pulses. ``operations``: how many are missing, None where nobody can tell. ``told_by``: what
    says so.
    """

    cells: CellSelection
    operations: int | None
    told_by: str


def foreign_to(view: LedgerView) -> Foreign:
    """Find out what a ledger misses: from the other ledger where it can be read, else all cells are in doubt."""
    everything = CellSelection.everything(view.geometry)
    found = Foreign(CellSelection(np.zeros(view.geometry.shape, np.bool_)), 0, "every witness agrees")
    heard: set[str] = set()
    for path, witness in _witnesses(view):
        ahead = witness.seq > view.head.seq or view.sum_at(witness.seq) != witness.sum or witness.superseded
        here = not witness.where or Path(witness.where) == view.path.resolve()
        if (not ahead and here) or witness.where in heard:
            continue
        try:
            with view_ledger(Path(witness.where), hear=False) as other:
                common = 0 if here else _common(view, other)
                if common:
                    missing = [entry for entry in other.since(0) if other.intended_after(entry.op_id, common)]
                    cells = found.cells
                    for entry in missing:
                        cells = cells | entry.cells
                    found = Foreign(cells, (found.operations or 0) + len(missing), f"the ledger {witness.where}")
                    heard.add(witness.where)
                    continue
        except (DataError, OSError):
            pass  # the other one cannot be read: nobody can tell which cells it was
        if ahead:
            count = witness.op - view.head.op
            return Foreign(everything, count if count > 0 and not witness.superseded else None, f"the witness {path}")
    return found


def _witnesses(view: LedgerView) -> Iterator[tuple[Path, Witness]]:
    """Yield what is known of this ledger, and of the one that superseded it."""
    paths = [beside(view.path), outside(view.head.ledger)]
    for path in paths:
        seen = testimony(path).witness
        if seen is None:
            continue
        yield path, seen
        if seen.superseded and (successor := outside(seen.superseded)) not in paths:
            paths.append(successor)


def _common(view: LedgerView, other: LedgerView) -> int:
    """Return the last row that two ledgers share: once they differ, their sums differ for good."""
    low, high = 0, min(view.head.seq, other.head.seq)
    while low < high:
        middle = (low + high + 1) // 2
        if view.sum_at(middle) == other.sum_at(middle):
            low = middle
        else:
            high = middle - 1
    return low
