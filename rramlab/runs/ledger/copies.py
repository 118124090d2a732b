"""Ledgers that were copied on purpose: with a simulated die, whose copy is another die."""

from __future__ import annotations

from pathlib import Path

from rramlab.base.files import write_atomic
from rramlab.runs.ledger.looking import view_ledger
from rramlab.runs.ledger.migration import settle
from rramlab.runs.ledger.witnesses import beside


def make_its_own(path: Path) -> None:
    """Give a ledger that was copied together with its simulated die an identity of its own: from now on it is another life.

    Raises:
        DataError: it cannot be read.
    """
    with view_ledger(path, hear=False) as view:
        image = view.image()
    settle(path)
    beside(path).unlink(missing_ok=True)
    write_atomic(path, image)
