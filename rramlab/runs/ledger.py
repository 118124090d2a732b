"""The ledger of a die: every pulse that each of its cells ever had, through crashes."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from rramlab.base.errors import DataError
from rramlab.base.files import write_atomic
from rramlab.base.times import now
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import PulseOp
from rramlab.runs.ledgerview import LOG, SCHEMA_VERSION, Entry, LedgerView, Outcome, copied, of_the_disk, remedy

_SCHEMA = """
CREATE TABLE die (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,      -- unique for the die's life: also the controller's operation id
    run TEXT NOT NULL,
    position TEXT NOT NULL,                    -- step and operation of the run's plan
    kind TEXT NOT NULL,
    amplitude_V REAL NOT NULL,
    width_s REAL NOT NULL,
    gate_V REAL NOT NULL,
    cells_per_pulse INTEGER NOT NULL,
    boot_nonce INTEGER NOT NULL,               -- of the controller when the intent was written
    cells BLOB NOT NULL,                       -- frozen selection, packed bits, zlib
    outcome TEXT NOT NULL,
    done BLOB,                                 -- cells known to have had the pulse; NULL: all of them
    unknown BLOB,                              -- cells that may have had it
    intended_at TEXT NOT NULL,
    finished_at TEXT
) STRICT;
CREATE INDEX by_run ON operations (run, position);
"""


MEMORY = Path(":memory:")  # SQLite's name for no file at all


class Ledger(LedgerView):
    """One SQLite file a die, or :data:`MEMORY`. Intents and outcomes are committed and synced before the call returns.

    A new file appears whole, with all its tables: whatever ends the process, what is there is a ledger.

    Raises:
        DataError: on opening, when the file is damaged, belongs to another die, or cannot be written; on writing, when that
        failed or the file is gone.
    """

    def __init__(self, path: Path, die_id: str, geometry: Geometry) -> None:
        if path == MEMORY:
            pass
        elif path.exists():
            _check_copy(path, die_id)
        else:
            with closing(Ledger(MEMORY, die_id, geometry)) as blank:
                write_atomic(path, blank.image())
        try:
            database = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(path, die_id, error) from error
        super().__init__(path, die_id, geometry, database)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if path == MEMORY:
                self._enrol()
            self._check_ours()
            self._replay()
            # SQLite goes on without a word when these are deleted or moved; what it writes then is nowhere.
            parts = (path, path.with_name(path.name + LOG))
            self._files = {part: part.stat() for part in parts if part.exists()}
        except sqlite3.Error as error:
            database.close()
            raise self._unusable(path, die_id, error) from error
        except BaseException:
            database.close()
            raise

    @staticmethod
    def _unusable(path: Path, die_id: str, error: sqlite3.Error) -> DataError:
        return DataError(
            f"the ledger {path} of die {die_id!r} cannot be opened ({error}); nothing was energised and the file is left as it "
            f"is. {remedy(error)}"
        )

    def _enrol(self) -> None:
        self._db.executescript(_SCHEMA)
        facts = {
            "schema": str(SCHEMA_VERSION),
            "die": self.die_id,
            "rows": str(self.geometry.rows),
            "columns": str(self.geometry.columns),
            "enrolled_at": now(),
        }
        self._db.executemany("INSERT INTO die VALUES (?, ?)", facts.items())

    def _check_ours(self) -> None:
        expected = {
            "schema": str(SCHEMA_VERSION),
            "die": self.die_id,
            "rows": str(self.geometry.rows),
            "columns": str(self.geometry.columns),
        }
        for key, value in expected.items():
            if self.get(key) != value:
                raise DataError(
                    f"the ledger {self.path} says {key} {self.get(key)!r}, expected {value!r}: it belongs to another die or "
                    "version; nothing was energised"
                )

    @contextmanager
    def _transaction(self, otherwise: str) -> Iterator[None]:
        """Commit and sync what is done within, or nothing of it. ``otherwise``: what it means that nothing was."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DataError(
                f"the ledger {self.path} of die {self.die_id!r} could not be written ({error}): {otherwise}. {remedy(error)}"
            ) from error

    def _check_there(self) -> None:
        for part, opened in self._files.items():
            try:
                there = os.path.samestat(part.stat(), opened)
            except OSError:
                there = False
            if not there:
                raise DataError(
                    f"{part}, of the ledger of die {self.die_id!r}, is gone or was replaced while this session worked with it: "
                    "nothing more is pulsed. Without its ledger a die must not be pulsed: put the file back, or restore it "
                    "from a copy"
                )

    def close(self) -> None:
        self._db.close()

    def put(self, key: str, value: str) -> None:
        """Write a fact about the die down.

        Raises:
            DataError: that failed; the fact is as it was before.
        """
        with self._transaction(f"the fact {key!r} is not kept; nothing was sent to the die for it"):
            self._db.execute("INSERT OR REPLACE INTO die VALUES (?, ?)", (key, value))

    def intend(self, operation: PulseOp, run: str, position: str, boot_nonce: int) -> int:
        """Commit and sync the intent of a pulse operation, its selection frozen; return its operation id.

        Raises:
            DataError: that failed, or the ledger's file is gone: the operation must not be sent.
        """
        self._check_there()
        pulse = operation.pulse
        with self._transaction("nothing was intended, so nothing was sent to the die"):
            cursor = self._db.execute(
                "INSERT INTO operations (run, position, kind, amplitude_V, width_s, gate_V, cells_per_pulse, boot_nonce, "
                "cells, outcome, intended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'intended', ?)",
                (
                    run,
                    position,
                    operation.kind,
                    pulse.amplitude_V,
                    pulse.width_s,
                    pulse.gate_V,
                    operation.cells_per_pulse,
                    boot_nonce,
                    _pack(operation.cells),
                    now(),
                ),
            )
        op_id = cursor.lastrowid
        if op_id is None:
            raise DataError(f"the ledger {self.path} gave no operation id; nothing was pulsed")
        self._pulses += operation.cells.bits
        self._last[operation.cells.bits] = op_id
        self._open.add(op_id)
        return op_id

    def finish(self, op_id: int, done: CellSelection, unknown: CellSelection | None = None) -> None:
        """Commit and sync what came of an operation: cells pulsed, and cells that nobody can decide.

        Raises:
            DataError: the operation is not dangling: an outcome is written once. Or it could not be written: then the
            operation still dangles.
        """
        entry = self.entry(op_id)
        undecided = unknown or self._nothing
        outcome: Outcome = "done" if done.count or undecided.count else "undelivered"
        if np.any((done.bits | undecided.bits) & ~entry.cells.bits) or np.any(done.bits & undecided.bits):
            raise DataError(f"the outcome of operation {op_id} does not match its intent; the ledger is left as it is")
        failed = (
            f"operation {op_id} was sent, and what came of it is not written down: it counts as intended, and the next session "
            "asks the board"
        )
        with self._transaction(failed):
            changed = self._db.execute(
                "UPDATE operations SET outcome = ?, done = ?, unknown = ?, finished_at = ? "
                "WHERE id = ? AND outcome = 'intended'",
                (
                    outcome,
                    None if done == entry.cells else _pack(done),
                    _pack(undecided) if undecided.count else None,
                    now(),
                    op_id,
                ),
            ).rowcount
            if changed != 1:
                raise DataError(f"operation {op_id} of die {self.die_id!r} already has an outcome; it is left as it is")
        self._open.discard(op_id)
        self._pulses -= entry.cells.bits & ~(done.bits | undecided.bits)
        self._decide(entry.cells, done, undecided)


def _check_copy(path: Path, die_id: str) -> None:
    """Look for damage in a copy: SQLite recovers and truncates the files that it opens, damaged or not."""
    with copied(path) as copy, closing(sqlite3.connect(copy)) as database:
        try:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'die'").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if of_the_disk(error):
                raise DataError(
                    f"the ledger {path} of die {die_id!r} could not be looked at in a copy in {copy.parent} ({error}); nothing "
                    f"was energised and its files are left as they are. {remedy(error)}"
                ) from error
            found, tables = str(error), 1
    if found != "ok" or not tables:
        what = f"cannot be read ({found})" if tables else "is empty, or no ledger"
        raise DataError(
            f"the ledger {path} of die {die_id!r} {what}; nothing was energised and its files are left as they "
            f"are. Without its ledger a die must not be pulsed: restore the file, and the {LOG} beside it, from a copy; only "
            "if the die was never pulsed, delete them to enrol it anew"
        )


def _pack(cells: CellSelection) -> bytes:
    return zlib.compress(cells.packed(), 1)


__all__ = ["MEMORY", "Entry", "Ledger"]
