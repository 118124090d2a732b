"""A ledger's whole life added up again, and compared with what its file keeps beside the rows."""

from __future__ import annotations

from typing import Any

from rramlab.runs.ledger.counts import Counts
from rramlab.runs.ledger.events import ENDINGS, Damaged, Event
from rramlab.runs.ledger.schema import Head, apply
from rramlab.runs.ledger.view import LedgerView


def check_file(view: LedgerView) -> None:
    """Let SQLite look at every page.

    Raises:
        DataError: it found damage.
    """
    with view._trusted():
        found = view._db.execute("PRAGMA integrity_check(5)").fetchall()
        if found != [("ok",)]:
            raise Damaged(f"is damaged: {'; '.join(str(each) for (each,) in found)}")


def check_life(view: LedgerView) -> None:
    """Add the whole life up again, and compare it with the counts, the index and the head.

    Raises:
        DataError: they say something else.
    """
    with view._trusted():
        known = view._load()
        head = known.head
        counts, found = Counts(head.geometry), Head(head.die, head.rows, head.columns, "")
        intents: dict[int, Event] = {}
        index: list[tuple[Any, ...]] = []
        ended: dict[int, int] = {}
        for row in view._events():
            if row.what == "enrolled":
                found.ledger = head.ledger
            meant = intents.pop(row.op, None) if row.what in ENDINGS else None
            if row.what in ENDINGS and meant is None:
                raise Damaged(f"ends operation {row.op} twice, or without an intent")
            if row.what == "intended":
                about = row.about
                if row.op <= found.op:
                    raise Damaged(f"has operation {row.op} after {found.op}")
                intents[row.op] = row
                index.append((row.op, about["run"], about["position"], about["kind"], row.seq))
            elif row.what in ENDINGS:
                ended[row.op] = row.seq
            apply(counts, row, meant)
            found.follow(row)
        same = (found.seq, found.sum, found.op, found.open, found.facts) == (
            head.seq, head.sum, head.op, head.open, head.facts
        )  # fmt: skip
        if not same or counts != known.counts:
            raise Damaged("has counts, or a head, that are not what its rows add up to")
        stored = view._db.execute(
            "SELECT op, run, position, kind, intended, ended FROM operations ORDER BY op"
        ).fetchall()
        by_run = view._db.execute(
            "SELECT op, run, position FROM operations INDEXED BY by_run WHERE run >= '' ORDER BY run, position, op"
        ).fetchall()
        expected = [(*each, ended.get(each[0])) for each in index]
        if stored != expected or sorted(by_run) != [each[:3] for each in expected]:
            raise Damaged("has an index of operations that is not what its rows say")
