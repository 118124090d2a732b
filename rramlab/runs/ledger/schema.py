"""The tables of a ledger's file, and how they are filled from rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger.counts import Counts, row_sum
from rramlab.runs.ledger.events import (
    ENDINGS,
    KINDS,
    NO_SUM,
    SALT_BYTES,
    SUM_BYTES,
    WORDS,
    Damaged,
    Event,
    What,
    canonical,
    cells_from_json,
    entry_of,
    event,
    summed,
)

VERSION = 2


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_SCHEMA = f"""
CREATE TABLE events (
    seq INTEGER PRIMARY KEY CHECK (seq > 0),
    op INTEGER NOT NULL CHECK (op >= 0),       -- of which operation; 0: of the die
    what TEXT NOT NULL CHECK (what IN ({_words(WORDS)})),
    body TEXT NOT NULL CHECK (json_valid(body)),
    salt BLOB NOT NULL CHECK (length(salt) = {SALT_BYTES}),
    sum BLOB NOT NULL CHECK (length(sum) = {SUM_BYTES}) -- over the sum before and this row
) STRICT;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'the rows of a ledger are only added');
END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events BEGIN
    SELECT RAISE(ABORT, 'the rows of a ledger are only added');
END;
CREATE TABLE operations (                      -- an index: all of it follows from the events
    op INTEGER PRIMARY KEY CHECK (op > 0),
    run TEXT NOT NULL,
    position TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ({_words(KINDS)})),
    intended INTEGER NOT NULL,
    ended INTEGER
) STRICT;
CREATE INDEX by_run ON operations (run, position);
CREATE TABLE counts (
    row INTEGER PRIMARY KEY CHECK (row >= 0),
    body BLOB NOT NULL
) STRICT;
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL CHECK (json_valid(body)),
    sum BLOB NOT NULL CHECK (length(sum) = {SUM_BYTES})
) STRICT;
"""


@dataclass
class Head:
    """What the rows so far come to; rewritten with each row, in the same transaction.

    ``ledger``: the identity of this ledger, new in every copy that a person adopts. ``seq``, ``sum``: of the newest row.
    ``op``: the newest operation. ``counts``: exclusive or of the sums of all rows of counts. ``open``: operations without an
    outcome. ``facts``: the newest row of each fact. ``board``: what a board has last confirmed of this ledger.
    """

    die: str
    rows: int
    columns: int
    ledger: str
    seq: int = 0
    sum: str = NO_SUM.hex()
    op: int = 0
    counts: str = "0"
    open: set[int] = field(default_factory=set)
    facts: dict[str, int] = field(default_factory=dict)
    board: dict[str, Any] | None = None
    version: int = VERSION

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.rows, self.columns)

    @property
    def text(self) -> str:
        return canonical({**asdict(self), "open": sorted(self.open)})

    def follow(self, made: Event) -> None:
        """Take one more row in; the sums of the counts are the book's."""
        self.seq, self.sum, self.op = made.seq, made.sum.hex(), max(self.op, made.op)
        if made.what == "intended":
            self.open.add(made.op)
        elif made.what in ENDINGS:
            self.open.discard(made.op)
        elif made.what == "fact":
            self.facts[str(made.about["key"])] = made.seq
        elif made.what == "adopted":
            self.ledger = str(made.about["ledger"])

    @classmethod
    def read(cls, body: str, written: bytes) -> Head:
        """Return what a file's head says.

        Raises:
            Damaged: it is not as it was written.
        """
        if not isinstance(body, str) or summed(body.encode()) != written:
            raise Damaged("its head is not as it was written")
        try:
            about = json.loads(body)
            return cls(**{**about, "open": set(about["open"])})
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"its head cannot be read ({error})") from error


class Book:
    """Head and counts in memory, and the writing of rows into a database; transactions are the caller's."""

    def __init__(self, database: sqlite3.Connection, head: Head, counts: Counts) -> None:
        self.database, self.head, self.counts = database, head, counts

    def add(self, op: int, what: What, about: dict[str, Any]) -> Event:
        """Add a row, and what follows from it, to the database and to what is in memory."""
        made, changed = self._added(op, what, about)
        self._store(changed)
        return made

    def add_all(self, rows: Iterable[tuple[int, What, dict[str, Any]]]) -> None:
        """Add many rows; counts and head are stored once, at the end."""
        for op, what, about in rows:
            self._added(op, what, about)
        self._store(range(self.head.rows))

    def _added(self, op: int, what: What, about: dict[str, Any]) -> tuple[Event, range]:
        head = self.head
        made = event(bytes.fromhex(head.sum), head.seq + 1, op, what, about)
        self.database.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (made.seq, op, what, made.body, made.salt, made.sum)
        )
        if what == "intended":
            self.database.execute(
                "INSERT INTO operations VALUES (?, ?, ?, ?, ?, NULL)",
                (op, about["run"], about["position"], about["kind"], made.seq),
            )
        elif what in ENDINGS:
            self.database.execute("UPDATE operations SET ended = ? WHERE op = ?", (made.seq, op))
        intended = self._intent(op) if what in ENDINGS else None
        head.follow(made)
        return made, apply(self.counts, made, intended)

    def _intent(self, op: int) -> Event:
        found = self.database.execute(
            "SELECT e.* FROM operations AS o JOIN events AS e ON e.seq = o.intended WHERE o.op = ?", (op,)
        ).fetchone()
        if found is None:
            raise Damaged(f"operation {op} has an outcome and no intent")
        return Event(*found)

    def _store(self, changed: range) -> None:
        kept = int(self.head.counts, 16)
        known = dict(
            self.database.execute(
                "SELECT row, body FROM counts WHERE row >= ? AND row < ?", (changed.start, changed.stop)
            )
        )
        rows = [(index, self.counts.row(index)) for index in changed]
        for index, stored in rows:
            kept ^= row_sum(index, stored) ^ (row_sum(index, known[index]) if index in known else 0)
        self.database.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", rows)
        self.head.counts = f"{kept:x}"
        text = self.head.text
        self.database.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (text, summed(text.encode())))


def apply(counts: Counts, made: Event, intended: Event | None) -> range:
    """Count what a row says; return the rows of the die that changed. ``intended``: the intent that it ends."""
    geometry = counts.geometry
    if made.what == "intended":
        about = made.about
        if about.get("kind") not in KINDS:
            raise Damaged(f"row {made.seq} has the pulse kind {about.get('kind')!r}")
        return counts.intend(made.op, about["kind"], cells_from_json(about.get("cells"), geometry))
    if made.what in ENDINGS and intended is not None:
        came = made.about
        if came.get("done", 0) is None and came.get("unknown", 0) is None and not counts.doubts:
            return range(0)  # as nearly every operation ends: all of it was counted when it was intended
        entry = entry_of(intended, made, geometry)
        return counts.end(entry, entry.done, entry.unknown)
    if made.what == "adopted":
        return counts.adopt(cells_from_json(made.about.get("cells"), geometry))
    return range(0)


def blank(die: str, geometry: Geometry, ledger: str) -> Book:
    """Return a book in a database in memory that has no row yet."""
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.executescript(_SCHEMA)
    return Book(database, Head(die, *geometry.shape, ledger), Counts(geometry))


@cache
def tables() -> tuple[tuple[str, str, str], ...]:
    """Return type, name and text of everything that a ledger's file holds."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_SCHEMA)
        return tables_in(database)


def tables_in(database: sqlite3.Connection) -> tuple[tuple[str, str, str], ...]:
    return tuple(database.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name"))
