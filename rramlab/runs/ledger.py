"""The ledger of a die: every pulse that each of its cells ever had, through crashes."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.plan.operations import PulseOp

SCHEMA_VERSION = 1
Outcome = Literal["intended", "done", "undelivered"]

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


@dataclass(frozen=True)
class Entry:
    """One pulse operation in a die's life."""

    op_id: int
    run: str
    position: str
    kind: PulseKind
    pulse: Pulse
    cells_per_pulse: int
    boot_nonce: int
    cells: CellSelection
    outcome: Outcome
    done: CellSelection
    unknown: CellSelection
    intended_at: str

    @property
    def spent(self) -> CellSelection:
        """Cells that count as pulsed: delivered, possibly delivered, or intended and not yet decided."""
        return self.cells if self.outcome == "intended" else self.done | self.unknown


class Ledger:
    """One SQLite file a die. Intents and outcomes are committed and synced before the call returns.

    Raises:
        DataError: on opening, when the file is damaged or belongs to another die.
    """

    def __init__(self, path: Path, die_id: str, geometry: Geometry) -> None:
        self.path, self.die_id, self.geometry = path, die_id, geometry
        path.parent.mkdir(parents=True, exist_ok=True)
        virgin = not path.exists()
        if not virgin:
            self._check_copy()
        self._nothing = CellSelection(np.zeros(geometry.shape, np.bool_))
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare()
            self._pulses, self._unknown, self._doubtful = self._replay()
        except DataError:
            self._db.close()
            raise
        except sqlite3.DatabaseError as error:
            self._db.close()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise DataError(
                    f"the ledger {path} of die {die_id!r} is in use by another program; nothing was energised. Close it there "
                    "and try again"
                ) from error
            raise DataError(
                f"the ledger {path} of die {die_id!r} cannot be read ({error}); nothing was energised and the file is left "
                "as it is. Without its ledger a die must not be pulsed: restore the file from a copy"
            ) from error

    def _check_copy(self) -> None:
        """Look for damage in a copy: SQLite recovers and truncates the files that it opens, damaged or not."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self.path.name
            for ending in ("", "-wal"):  # the newest operations may stand in the write-ahead log alone
                part = self.path.with_name(self.path.name + ending)
                if part.exists():
                    shutil.copyfile(part, copy.with_name(copy.name + ending))
            database = sqlite3.connect(copy)
            try:
                found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
                tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'die'").fetchone()[0]
            except sqlite3.DatabaseError as error:
                found, tables = str(error), 1
            finally:
                database.close()
        if found != "ok" or not tables:
            what = f"cannot be read ({found})" if tables else "is empty, or no ledger"
            raise DataError(
                f"the ledger {self.path} of die {self.die_id!r} {what}; nothing was energised and its files are left as they "
                "are. Without its ledger a die must not be pulsed: restore the file, and the -wal beside it, from a copy; only "
                "if the die was never pulsed, delete them to enrol it anew"
            )

    def _prepare(self) -> None:
        with self._transaction():
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'die'").fetchone():
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.executemany(
                    "INSERT INTO die VALUES (?, ?)",
                    [
                        ("schema", str(SCHEMA_VERSION)),
                        ("die", self.die_id),
                        ("rows", str(self.geometry.rows)),
                        ("columns", str(self.geometry.columns)),
                        ("enrolled_at", _now()),
                    ],
                )
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
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._db.close()

    def get(self, key: str) -> str | None:
        """Return a fact about the die, such as when its contact test last passed."""
        row = self._db.execute("SELECT value FROM die WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: str, value: str) -> None:
        """Write a fact about the die down."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO die VALUES (?, ?)", (key, value))

    def intend(self, operation: PulseOp, run: str, position: str, boot_nonce: int) -> int:
        """Commit and sync the intent of a pulse operation, its selection frozen; return its operation id."""
        pulse = operation.pulse
        with self._transaction():
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
                    _now(),
                ),
            )
        op_id = cursor.lastrowid
        if op_id is None:
            raise DataError(f"the ledger {self.path} gave no operation id; nothing was pulsed")
        self._pulses += operation.cells.bits
        return op_id

    def finish(self, op_id: int, done: CellSelection, unknown: CellSelection | None = None) -> None:
        """Commit and sync what came of an operation: cells pulsed, and cells that nobody can decide.

        Raises:
            DataError: the operation is not dangling: an outcome is written once.
        """
        entry = self.entry(op_id)
        undecided = unknown or self._nothing
        outcome: Outcome = "done" if done.count or undecided.count else "undelivered"
        if np.any((done.bits | undecided.bits) & ~entry.cells.bits) or np.any(done.bits & undecided.bits):
            raise DataError(f"the outcome of operation {op_id} does not match its intent; the ledger is left as it is")
        with self._transaction():
            changed = self._db.execute(
                "UPDATE operations SET outcome = ?, done = ?, unknown = ?, finished_at = ? "
                "WHERE id = ? AND outcome = 'intended'",
                (
                    outcome,
                    None if done == entry.cells else _pack(done),
                    _pack(undecided) if undecided.count else None,
                    _now(),
                    op_id,
                ),
            ).rowcount
            if changed != 1:
                raise DataError(f"operation {op_id} of die {self.die_id!r} already has an outcome; it is left as it is")
        self._pulses -= entry.cells.bits & ~(done.bits | undecided.bits)
        # A cell whose last pulse is decided is no longer unknown, whatever was before.
        self._unknown = (self._unknown & ~done.bits) | undecided.bits
        doubtful = entry.cells.bits if undecided.count else self._nothing.bits
        self._doubtful = (self._doubtful & ~done.bits) | doubtful

    def entry(self, op_id: int) -> Entry:
        """Return one operation.

        Raises:
            DataError: there is none with that id.
        """
        for found in self._select("WHERE id = ?", (op_id,)):
            return found
        raise DataError(f"the ledger {self.path} has no operation {op_id}")

    def dangling(self) -> list[Entry]:
        """Return the operations that were intended and have no outcome: a crash lies between."""
        return list(self._select("WHERE outcome = 'intended'", ()))

    def of_run(self, run: str, position: str | None = None) -> list[Entry]:
        """Return the operations of a run, oldest first."""
        if position is None:
            return list(self._select("WHERE run = ?", (run,)))
        return list(self._select("WHERE run = ? AND position = ?", (run, position)))

    def since(self, op_id: int) -> list[Entry]:
        """Return the operations after ``op_id``, oldest first."""
        return list(self._select("WHERE id > ?", (op_id,)))

    @property
    def last_id(self) -> int:
        """The newest operation id, 0 when there is none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM operations").fetchone()[0])

    def history(self) -> list[Entry]:
        """Return the whole life of the die, oldest first."""
        return list(self._select("", ()))

    def pulse_counts(self, kind: PulseKind | None = None) -> npt.NDArray[np.uint32]:
        """Return pulses delivered, possibly delivered or intended, uint32[rows, columns]; of one kind or of all."""
        if kind is None:
            return self._pulses.copy()
        counts = np.zeros(self.geometry.shape, np.uint32)
        for entry in self._select("WHERE kind = ?", (kind,)):
            counts += entry.spent.bits
        return counts

    def peak_voltage(self, kind: PulseKind) -> npt.NDArray[np.float32]:
        """Return the highest voltage of one kind that each cell had or may have had: float32[rows, columns], 0 for none."""
        peak = np.zeros(self.geometry.shape, np.float32)
        for entry in self._select("WHERE kind = ?", (kind,)):
            np.maximum(peak, entry.spent.bits * np.float32(entry.pulse.amplitude_V), out=peak)
        return peak

    def unknown(self) -> CellSelection:
        """Return the cells whose last pulse could not be decided."""
        return CellSelection(self._unknown)

    def doubtful(self) -> CellSelection:
        """Return the cells whose last operation was decided by reading: those of them that are known to have had their pulse
        are known because they conduct, so they say nothing of how many do."""
        return CellSelection(self._doubtful)

    def _replay(self) -> tuple[npt.NDArray[np.uint32], Bools, Bools]:
        counts = np.zeros(self.geometry.shape, np.uint32)
        unknown = np.zeros(self.geometry.shape, np.bool_)
        doubtful = np.zeros(self.geometry.shape, np.bool_)
        for entry in self._select("", ()):
            counts += entry.spent.bits
            unknown = (unknown & ~entry.done.bits) | entry.unknown.bits
            doubtful = (doubtful & ~entry.done.bits) | (entry.cells.bits & entry.unknown.bits.any())
        return counts, unknown, doubtful

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Entry]:
        """Yield entries by id; ``where`` is one of the constant clauses above."""
        rows = self._db.execute(
            "SELECT id, run, position, kind, amplitude_V, width_s, gate_V, cells_per_pulse, boot_nonce, cells, outcome, "
            f"done, unknown, intended_at FROM operations {where} ORDER BY id",
            values,
        )
        return map(self._entry, rows)

    def _entry(self, row: tuple[object, ...]) -> Entry:
        op_id, run, position, kind, amplitude, width, gate, shots, nonce, cells, outcome, done, unknown, at = row
        selection = self._unpack(cells)
        finished = outcome in ("done", "undelivered")
        return Entry(
            op_id,  # type: ignore[arg-type]  # the table is STRICT: its columns have the types of its schema
            run,  # type: ignore[arg-type]
            position,  # type: ignore[arg-type]
            kind,  # type: ignore[arg-type]
            Pulse(amplitude, width, gate),  # type: ignore[arg-type]
            shots,  # type: ignore[arg-type]
            nonce,  # type: ignore[arg-type]
            selection,
            outcome,  # type: ignore[arg-type]
            (selection if done is None else self._unpack(done)) if finished else self._nothing,
            self._nothing if unknown is None else self._unpack(unknown),
            at,  # type: ignore[arg-type]
        )

    def _unpack(self, blob: object) -> CellSelection:
        try:
            return CellSelection.from_packed(zlib.decompress(blob), self.geometry)  # type: ignore[arg-type]
        except (zlib.error, ValueError, TypeError) as error:
            raise DataError(
                f"the ledger {self.path} of die {self.die_id!r} holds a damaged selection ({error}); the file is left as it "
                "is. Restore it from a copy"
            ) from error


def _pack(cells: CellSelection) -> bytes:
    return zlib.compress(cells.packed(), 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
