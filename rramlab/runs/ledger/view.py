"""What a ledger says, for whoever only looks: nothing is locked, created or changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseKind
from rramlab.runs.ledger.counts import Counts, row_sum
from rramlab.runs.ledger.errors import RESTORE, failed
from rramlab.runs.ledger.events import ENDINGS, NO_SUM, Damaged, Entry, Event, What, entry_of, no_cells, stored
from rramlab.runs.ledger.schema import VERSION, Book, Head, blank, tables, tables_in

_NEWEST = 64  # rows whose sums are looked at whenever a ledger is opened
# What the first row says of the die, told as facts.
_ENROLMENT = ("die", "rows", "columns", "enrolled_at")


@dataclass(frozen=True)
class Moment:
    """What tells how a ledger was at a moment: operations are only ever added to it, and their outcomes written once.

    ``dangling``: ids of operations without an outcome. ``facts``: about the die, such as its last contact test.
    """

    last_id: int
    dangling: tuple[int, ...]
    facts: dict[str, str]


class LedgerView:
    """The questions that a ledger answers. ``database``: a connection to a file that may be a ledger's.

    Raises:
        DataError: on any question, when what is read is not what was written, or the file cannot be read.
    """

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._db = database
        self._book: Book | None = None

    # what is known ----------------------------------------------------------------------------------------------------

    @property
    def _known(self) -> Book:
        """Head and counts as the file has them: read again where memory may not have followed."""
        if self._book is None:
            self._book = self._load()
        return self._book

    @property
    def head(self) -> Head:
        return self._known.head

    @property
    def die_id(self) -> str:
        return self.head.die

    @property
    def geometry(self) -> Geometry:
        return self.head.geometry

    @property
    def _nothing(self) -> CellSelection:
        return no_cells(self.geometry)

    def _load(self) -> Book:
        """Read head and counts; compare them, the tables, the newest rows and what is open with their sums.

        Nothing is replayed: older rows are compared when they are read, all of them by :func:`rramlab.runs.ledger.check`.
        """
        with self._trusted():
            if tables_in(self._db) != tables():
                raise Damaged("cannot be read: it is no ledger, for it has other tables")
            heads = self._db.execute("SELECT body, sum FROM head").fetchall()
            if len(heads) != 1:
                raise Damaged(f"has {len(heads)} heads")
            head = Head.read(*heads[0])
            if head.version != VERSION:
                raise DataError(
                    f"the ledger {self.path} is of version {head.version}, this program reads up to {VERSION}; use the version "
                    "of rramlab that wrote it"
                )
            self._check_newest(head)
            counts, kept = Counts(head.geometry), 0
            for index, body in self._db.execute("SELECT row, body FROM counts ORDER BY row"):
                if not (isinstance(index, int) and isinstance(body, bytes) and 0 <= index < head.rows):
                    raise Damaged(f"has counts of a row {index!r}, which the die has not")
                kept ^= row_sum(index, body)
                counts.take_row(index, body)
            if kept != int(head.counts, 16):
                raise Damaged("has counts of pulses that are not as they were written")
            book = Book(self._db, head, counts)
            for op_id in sorted(head.open):
                self._entry(op_id, head)
            for key, seq in head.facts.items():
                self._fact(key, seq)
            return book
        raise AssertionError("the block above returns or raises")

    def _check_newest(self, head: Head) -> None:
        first = max(1, head.seq - _NEWEST + 1)
        last = NO_SUM
        count = 0
        for row in self._events(first):
            last = row.sum
            count += 1
        if last.hex() != head.sum or count != head.seq - first + 1:
            raise Damaged("ends with another row than its head says")

    def _events(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """Yield rows, each compared with its sum.

        Raises:
            Damaged: one is not as it was written, or is missing.
        """
        before, expected = NO_SUM, first
        if first > 1:
            found = self._db.execute("SELECT sum FROM events WHERE seq = ?", (first - 1,)).fetchone()
            if found is None:
                raise Damaged(f"has no row {first - 1}")
            before = found[0]
            if not isinstance(before, bytes):
                raise Damaged(f"has a row {first - 1} of other types than it was written with")
        end = last if last is not None else (1 << 62)
        for fields in self._db.execute("SELECT * FROM events WHERE seq >= ? AND seq <= ? ORDER BY seq", (first, end)):
            row = stored(fields)
            if row.seq != expected or not row.follows(before):
                raise Damaged(f"has a row {row.seq} that is not as it was written, or misses one before it")
            before, expected = row.sum, row.seq + 1
            yield row

    def _event(self, seq: int) -> Event:
        for row in self._events(seq, seq):
            return row
        raise Damaged(f"has no row {seq}")

    def _fact(self, key: str, seq: int) -> str:
        row = self._event(seq)
        about = row.about
        if row.what != "fact" or about.get("key") != key:
            raise Damaged(f"has no fact {key!r} in row {seq}")
        return str(about["value"])

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        """Turn damage, and whatever SQLite says, into an error for a person."""
        try:
            yield
        except (Damaged, UnicodeDecodeError) as error:  # SQLite quotes what is damaged
            what = str(error)
            raise DataError(
                f"the ledger {self.path} {what if what.split()[0] in _VERBS else f'is damaged: {what}'}. Nothing was energised "
                f"for it and its files are left as they are. {RESTORE}"
            ) from error
        except sqlite3.Error as error:
            raise failed(
                error, f"the ledger {self.path} cannot be read", "nothing was energised for it and it is left as it is"
            ) from error

    def _ask(self, question: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._trusted():
            return self._db.execute(question, values).fetchall()

    def identities(self) -> set[str]:
        """Return the identities that this ledger had before it was adopted."""
        with self._trusted():
            rows = self._db.execute("SELECT seq FROM events WHERE what = 'adopted'").fetchall()
            return {str(self._event(seq).about["from"]) for (seq,) in rows}

    def intended_after(self, op_id: int, seq: int) -> bool:
        """Return whether an operation was intended, or ended, in a later row than ``seq``."""
        found = self._ask("SELECT max(intended, coalesce(ended, 0)) FROM operations WHERE op = ?", (op_id,))
        return bool(found) and int(found[0][0]) > seq

    def sum_at(self, seq: int) -> str:
        """Return the sum of a row, hexadecimal; empty where there is no such row."""
        found = self._ask("SELECT hex(sum) FROM events WHERE seq = ?", (seq,))
        return str(found[0][0]).lower() if found else ""

    # questions --------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """Return a fact about the die, such as when its contact test last passed."""
        with self._trusted():
            if key in _ENROLMENT:
                return str(self._event(1).about[key])
            seq = self.head.facts.get(key)
            return None if seq is None else self._fact(key, seq)

    @property
    def moment(self) -> Moment:
        """What tells how the ledger is now."""
        keys = (*_ENROLMENT, *self.head.facts)
        facts = {key: value for key in keys if (value := self.get(key)) is not None}
        return Moment(self.last_id, tuple(sorted(self.head.open)), facts)

    def image(self, at: Moment | None = None) -> bytes:
        """Return a ledger of the same life as the bytes of a file, with an identity of its own: as it is now, or as it was.

        Raises:
            DataError: that moment is none of this ledger's life, or the file cannot be read.
        """
        if at is not None and at.last_id > self.last_id:
            raise DataError(
                f"the ledger {self.path} ends at operation {self.last_id} and not before {at.last_id}: it was restored from an "
                "older copy, or is of another die"
            )
        with self._trusted():
            rows = ((row.op, row.what, row.about) for row in self._events())
            return image_of(self.die_id, self.geometry, rows if at is None else _rewound(rows, at))

    def entry(self, op_id: int) -> Entry:
        """Return one operation.

        Raises:
            DataError: there is none with that id.
        """
        with self._trusted():
            found = self._entry(op_id, self.head)
        if found is None:
            raise DataError(f"the ledger {self.path} has no operation {op_id}")
        return found

    def _entry(self, op_id: int, head: Head) -> Entry | None:
        """Put an operation together from its rows, and compare what the index says of it."""
        found = self._db.execute(
            "SELECT run, position, kind, intended, ended FROM operations WHERE op = ?", (op_id,)
        ).fetchone()
        if found is None:
            if op_id in head.open:
                raise Damaged(f"has no operation {op_id}, which it calls open")
            return None
        run, position, kind, intended, ended = found
        if not isinstance(intended, int) or not isinstance(ended, int | None):
            raise Damaged(f"has an index of operation {op_id} of other types than it was written with")
        meant, came = self._event(intended), None if ended is None else self._event(ended)
        words = meant.what == "intended" and (came is None or came.what in ENDINGS)
        if (
            not words
            or meant.op != op_id
            or (came is not None and came.op != op_id)
            or (ended is None) != (op_id in head.open)
        ):
            raise Damaged(f"has an index that says something else of operation {op_id} than its rows")
        entry = entry_of(meant, came, head.geometry)
        if (entry.run, entry.position, entry.kind) != (run, position, kind):
            raise Damaged(f"has an index that says something else of operation {op_id} than its rows")
        return entry

    def dangling(self) -> list[Entry]:
        """Return the operations that were intended and have no outcome: a crash lies between."""
        return [self.entry(op_id) for op_id in sorted(self.head.open)]

    def of_run(self, run: str, position: str | None = None) -> Iterator[Entry]:
        """Yield the operations of a run, oldest first; one of a large array takes as much memory as a map."""
        if position is None:
            ids = self._ask("SELECT op FROM operations WHERE run = ? ORDER BY op", (run,))
        else:
            ids = self._ask("SELECT op FROM operations WHERE run = ? AND position = ? ORDER BY op", (run, position))
        return (self.entry(op_id) for (op_id,) in ids)

    def touched(self, run: str, step: str) -> bool:
        """Return whether a run has begun with a step, by its path, that pulses."""
        return bool(
            self._ask(
                "SELECT 1 FROM operations WHERE run = ? AND position >= ? AND position < ? LIMIT 1",
                (run, f"{step}.", f"{step}/"),
            )
        )

    def since(self, op_id: int) -> Iterator[Entry]:
        """Yield the operations after ``op_id``, oldest first."""
        ids = self._ask("SELECT op FROM operations WHERE op > ? ORDER BY op", (op_id,))
        return (self.entry(found) for (found,) in ids)

    @property
    def last_id(self) -> int:
        """The newest operation id, 0 when there is none."""
        return self.head.op

    def history(self) -> list[Entry]:
        """Return the whole life of the die, oldest first."""
        return list(self.entries())

    def entries(self) -> Iterator[Entry]:
        """Yield the whole life of the die, oldest first, from the rows alone, all of them compared with their sums."""
        geometry, rows = self.geometry, self._events()
        waiting: dict[int, tuple[Event, Event | None]] = {}
        while True:
            with self._trusted():
                row = next(rows, None)
                if row is not None and row.what == "intended":
                    waiting[row.op] = (row, None)
                elif row is not None and row.what in ENDINGS:
                    if row.op not in waiting:
                        raise Damaged(f"ends operation {row.op} without an intent")
                    waiting[row.op] = (waiting[row.op][0], row)
                ready = []
                for meant, came in waiting.values():  # by id: an outcome may be written after the next intent
                    if came is None and row is not None:
                        break
                    ready.append(entry_of(meant, came, geometry))
                for entry in ready:
                    del waiting[entry.op_id]
            yield from ready
            if row is None:
                return

    def pulse_counts(self, kind: PulseKind | None = None) -> npt.NDArray[np.uint32]:
        """Return pulses delivered, possibly delivered or intended, uint32[rows, columns]; of one kind or of all."""
        counts = self._known.counts
        return (counts.pulses if kind is None else counts.of_kind(kind)).copy()

    def peak_voltage(self, kind: PulseKind) -> npt.NDArray[np.float32]:
        """Return the highest voltage of one kind that each cell had or may have had: float32[rows, columns], 0 for none."""
        peak = np.zeros(self.geometry.shape, np.float32)
        for entry in self.entries():
            if entry.kind == kind:
                np.maximum(peak, entry.spent.bits * np.float32(entry.pulse.amplitude_V), out=peak)
        return peak

    def unknown(self) -> CellSelection:
        """Return the cells whose last pulse could not be decided."""
        return CellSelection(self._known.counts.unknown)

    def doubtful(self) -> CellSelection:
        """Return the cells whose last operation was decided by reading: those of them that are known to have had their pulse
        are known because they conduct, so they say nothing of how many do."""
        return CellSelection(self._known.counts.doubtful)

    def last_operation(self) -> npt.NDArray[np.int64]:
        """Return the newest operation that was meant for each cell: int64[rows, columns], 0 for none."""
        return self._known.counts.last


_VERBS = {"is", "has", "ends", "counts", "cannot"}


def image_of(die: str, geometry: Geometry, rows: Iterable[tuple[int, What, dict[str, Any]]]) -> bytes:
    """Write rows into a new ledger, and return it as the bytes of a file.

    Raises:
        Damaged: the rows are none of a ledger.
    """
    import uuid

    book = blank(die, geometry, uuid.uuid4().hex)
    with closing(book.database):
        book.database.execute("BEGIN")
        book.add_all(rows)
        book.database.execute("COMMIT")
        return book.database.serialize()


def _rewound(
    rows: Iterable[tuple[int, What, dict[str, Any]]], at: Moment
) -> Iterator[tuple[int, What, dict[str, Any]]]:
    """Yield the rows that were there at a moment; its facts come last, whatever the order was."""
    for op_id, what, about in rows:
        gone = op_id > at.last_id or (what in ENDINGS and op_id in at.dangling) or what in ("fact", "adopted", "moved")
        if not gone:
            yield op_id, what, about
    for key, value in at.facts.items():
        if key not in (*_ENROLMENT, "schema"):
            yield 0, "fact", {"key": key, "value": value, "at": ""}
