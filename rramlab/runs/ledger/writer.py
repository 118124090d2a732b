"""The ledger of a die: every pulse that each of its cells ever had, through crashes. Its rows are only added."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from rramlab.base.errors import DataError, Refused
from rramlab.base.files import write_atomic
from rramlab.base.times import now
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import PulseOp
from rramlab.runs.ledger.errors import LOG, RESTORE, failed, of_the_disk, remedy
from rramlab.runs.ledger.events import What, cells_as_json
from rramlab.runs.ledger.first import is_first
from rramlab.runs.ledger.hold import Hold
from rramlab.runs.ledger.life import check_life
from rramlab.runs.ledger.looking import heard, readable, view_ledger
from rramlab.runs.ledger.migration import lost_frames, migrate
from rramlab.runs.ledger.schema import blank
from rramlab.runs.ledger.view import LedgerView
from rramlab.runs.ledger.witnesses import Witness, WitnessFile, beside, outside, testimony

CHECKED = "checked_at"  # the fact that says when a ledger was last compared as a whole
CHECK_DAYS = timedelta(days=7)  # assumed: disks do not fail faster than they are read
MEMORY = Path(":memory:")  # SQLite's name for no file at all


class LedgerNote(UserWarning):
    """What a person should know of a ledger that was opened."""


class Ledger(LedgerView):
    """One SQLite file a die, or :data:`MEMORY`. Intents and outcomes are committed and synced before the call returns.

    One process writes it: whoever opens it holds a lock on the file. A new file appears whole, with all its tables: whatever
    ends the process, what is there is a ledger. One of version 0.1.0 is brought to today's form first; the old file stays.
    What is in memory follows the file: where an interrupt came between the two, it is read again.

    ``doubt``: why nothing may be pulsed by this ledger until a person has decided, empty where nothing is in doubt. ``notes``:
    what a person should know of it.

    Raises:
        BenchLocked: on opening, when another session has it. DataError: on opening, when the file is damaged, misses rows that
        a witness has seen, belongs to another die, or cannot be written; on writing, when that failed or the file is gone.
    """

    def __init__(self, path: Path, die_id: str, geometry: Geometry, believe: bool = False) -> None:
        """``believe``: a person has said that this ledger is the die's, whatever witnesses say."""
        self._hold: Hold | None = None
        self._witnesses: list[WitnessFile] = []
        self.doubt = ""
        self.notes: list[str] = []
        if path == MEMORY:
            super().__init__(path, _virgin(die_id, geometry))
            self._files: dict[Path, os.stat_result] = {}
            return
        if not path.exists():
            with closing(_virgin(die_id, geometry)) as database:
                write_atomic(path, database.serialize())
        self._hold = Hold(path, die_id)
        try:
            self._open(path, die_id, geometry, believe)
        except BaseException:
            self._hold.close()
            raise

    def _open(self, path: Path, die_id: str, geometry: Geometry, believe: bool) -> None:
        if _of_first_version(path, die_id):
            migrate(path, die_id)
            if self._hold is not None:
                self._hold.close()
            self._hold = Hold(path, die_id)  # it is another file now
        if path.with_name(path.name + LOG).exists():
            # Before SQLite takes the log in: what is refused is left as it is.
            with view_ledger(path, hear=False) as view:
                self._check_ours(view, die_id, geometry, path)
                if not believe:
                    heard(view)
        try:
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unusable(path, die_id, error) from error
        super().__init__(path, database)
        try:
            self._check_ours(self, die_id, geometry, path)
            if not believe:
                self.doubt, self.notes = heard(self)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")  # it can be written, or that is said now
            database.execute("ROLLBACK")
            # SQLite goes on without a word when these are deleted or moved; what it writes then is nowhere.
            parts = (path, path.with_name(path.name + LOG))
            self._files = {part: part.stat() for part in parts if part.exists()}
            if not self.doubt:
                self._call_witnesses()
        except sqlite3.Error as error:
            self._let_go()
            raise _unusable(path, die_id, error) from error
        except OSError as error:
            self._let_go()
            raise DataError(
                f"a witness of the ledger {path} cannot be written ({error}); nothing was energised. Make room, and the folder "
                "writable for this user"
            ) from error
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        self._db.close()
        for each in self._witnesses:
            each.close()
        self._witnesses = []

    @staticmethod
    def _check_ours(view: LedgerView, die_id: str, geometry: Geometry, path: Path) -> None:
        for what, found, expected in (
            ("die", view.die_id, die_id),
            ("rows", view.geometry.rows, geometry.rows),
            ("columns", view.geometry.columns, geometry.columns),
        ):
            if found != expected:
                raise DataError(
                    f"the ledger {path} says {what} {found!r}, expected {expected!r}: it belongs to another die or "
                    "version; nothing was energised"
                )

    def _call_witnesses(self) -> None:
        """Begin to tell witnesses; where the file is now is a row of its own, where that was another place."""
        seen = testimony(outside(self.head.ledger)).witness
        for place in (beside(self.path), outside(self.head.ledger)):
            self._witnesses.append(WitnessFile(place))
        if seen is not None and not seen.superseded and seen.where and seen.where != self._where:
            self.notes.append(f"the ledger was in {seen.where} and is in {self._where} now; its witness was told")
            with self._adding("where it is was not written down"):
                self._row(0, "moved", {"from": seen.where, "to": self._where, "at": now()})
        self._tell(sync=True)

    @property
    def _where(self) -> str:
        return str(self.path.resolve())

    @property
    def witness(self) -> Witness:
        """How far this ledger is, for a record that is kept elsewhere."""
        head = self.head
        return Witness(head.die, head.ledger, head.seq, head.op, head.sum, now(), self._where)

    def _tell(self, sync: bool) -> None:
        witness = self.witness
        try:
            for each in self._witnesses:
                each.tell(witness, sync and each.path == beside(self.path))
        except OSError as error:
            raise DataError(
                f"a witness of the ledger {self.path} could not be written ({error}): nothing more is sent to the die. Make "
                "room on the disk, then go on"
            ) from error

    @contextmanager
    def _adding(self, otherwise: str) -> Iterator[None]:
        """Commit and sync the rows that are added within, or none of them. ``otherwise``: what it means that none was."""
        book = self._known
        self._book = None  # until the commit has come through, the file alone knows what there is
        try:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._writing = book
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise failed(
                error, f"the ledger {self.path} of die {self.die_id!r} could not be written", otherwise
            ) from error
        self._book = book

    def _row(self, op: int, what: What, about: dict[str, Any]) -> None:
        self._writing.add(op, what, about)

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
        """Close the file, with its log taken in, and let go of it."""
        self._book = None
        # A look that goes on elsewhere keeps the log; it is taken in by the next who opens it.
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._let_go()
        if self._hold is not None:
            self._hold.close()

    def put(self, key: str, value: str) -> None:
        """Write a fact about the die down.

        Raises:
            DataError: that failed; the fact is as it was before.
        """
        with self._adding(f"the fact {key!r} is not kept; nothing was sent to the die for it"):
            self._row(0, "fact", {"key": key, "value": value, "at": now()})
        self._tell(sync=False)

    def check(self) -> None:
        """Compare the whole life with the counts, the index and every sum: what opening leaves out, to be quick.

        Raises:
            DataError: something is damaged.
        """
        check_life(self)

    def refuse_doubt(self) -> None:
        """Let nobody pulse while a person has to decide.

        Raises:
            Refused: which of two ledgers is the die's is not known.
        """
        if self.doubt:
            raise Refused(self.doubt)

    def intend(self, operation: PulseOp, run: str, position: str, boot_nonce: int, board: str = "") -> int:
        """Commit and sync the intent of a pulse operation, its selection frozen; return its operation id.

        ``board``, ``boot_nonce``: which board it is meant for, since which power-up.

        Raises:
            DataError: that failed, or the ledger's file is gone: the operation must not be sent. Refused: see
            :meth:`refuse_doubt`.
        """
        self.refuse_doubt()
        pulse, op_id = operation.pulse, self.last_id + 1
        self._check_there()
        with self._adding("nothing was intended, so nothing was sent to the die"):
            self._row(
                op_id,
                "intended",
                {
                    "run": run,
                    "position": position,
                    "kind": operation.kind,
                    "amplitude_V": pulse.amplitude_V,
                    "width_s": pulse.width_s,
                    "gate_V": pulse.gate_V,
                    "cells_per_pulse": operation.cells_per_pulse,
                    "board": board,
                    "boot_nonce": boot_nonce,
                    "again": operation.again,
                    "cells": cells_as_json(operation.cells),
                    "at": now(),
                },
            )
        self._tell(sync=True)
        return op_id

    def finish(
        self, op_id: int, done: CellSelection, unknown: CellSelection | None = None, decided_by: str = ""
    ) -> None:
        """Commit and sync what came of an operation: cells pulsed, and cells that nobody can decide.

        ``decided_by``: what tells it, where it is not the report of the operation itself.

        Raises:
            DataError: the operation is not dangling: an outcome is written once. Or it could not be written: then the
            operation still dangles.
        """
        entry = self.entry(op_id)
        undecided = unknown or self._nothing
        if np.any((done.bits | undecided.bits) & ~entry.cells.bits) or np.any(done.bits & undecided.bits):
            raise DataError(f"the outcome of operation {op_id} does not match its intent; the ledger is left as it is")
        if entry.outcome != "intended":
            raise DataError(f"operation {op_id} of die {self.die_id!r} already has an outcome; it is left as it is")
        what: What = "done" if done.count else "undelivered"
        with self._adding(
            f"operation {op_id} was sent, and what came of it is not written down: it counts as intended, and the next session "
            "asks the board"
        ):
            self._row(
                op_id,
                "decided" if decided_by or undecided.count else what,
                {
                    "done": None if done == entry.cells else cells_as_json(done),
                    "unknown": cells_as_json(undecided) if undecided.count else None,
                    "by": decided_by,
                    "at": now(),
                },
            )
        self._tell(sync=False)

    def adopt(self, cells: CellSelection, person: str, reason: str) -> None:
        """Write down that a person takes this ledger for the die's: ``cells`` may have had pulses that it does not know.

        It gets an identity of its own; the witness of the old one is told that it is superseded.
        """
        before, identity = replace(self.head), uuid.uuid4().hex
        for each in self._witnesses:
            each.close()
        self._witnesses = []
        # First: whenever this is ended, the other ledger is not believed any more.
        seen = testimony(outside(before.ledger)).witness
        newest = max(before.seq, seen.seq + 1 if seen else 0)
        told = WitnessFile(outside(before.ledger))
        try:
            told.tell(
                replace(self.witness, seq=newest, where=seen.where if seen else "", superseded=identity), sync=True
            )
        finally:
            told.close()
        with self._adding("the ledger is not adopted, and nothing was sent to the die"):
            about = {"cells": cells_as_json(cells), "person": person, "reason": reason, "from": before.ledger}
            self._row(0, "adopted", {**about, "ledger": identity, "at": now()})
        self.doubt = ""
        self._call_witnesses()

    def check_if_old(self) -> None:
        """Compare the whole life where that was not done for :data:`CHECK_DAYS`.

        Raises:
            DataError: something is damaged.
        """
        last = self.get(CHECKED) or self.get("enrolled_at") or ""
        try:
            age = datetime.now(UTC) - datetime.fromisoformat(last)
        except ValueError:
            age = CHECK_DAYS
        if not timedelta(0) <= age < CHECK_DAYS:
            self.check()
            self.put(CHECKED, now())


def _virgin(die_id: str, geometry: Geometry) -> sqlite3.Connection:
    """Return a ledger of a die that was never pulsed, in memory."""
    book = blank(die_id, geometry, uuid.uuid4().hex)
    rows, columns = geometry.shape
    book.add_all([(0, "enrolled", {"die": die_id, "rows": rows, "columns": columns, "enrolled_at": now()})])
    return book.database


def _of_first_version(path: Path, die_id: str) -> bool:
    """Look what is there, without a change.

    Raises:
        DataError: it is no ledger of either form, or cannot be read.
    """
    try:
        with readable(path) as database:
            if is_first(database):
                return True
            tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'events'").fetchone()[0]
            log = path.with_name(path.name + LOG)
            ended = f", for its {LOG} is damaged" if not tables and lost_frames(log) else ""
            what = "" if tables else f"is empty, or no ledger{ended}"
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes what is damaged
        if isinstance(error, OSError) or (isinstance(error, sqlite3.Error) and of_the_disk(error)):
            done = remedy(error) if isinstance(error, sqlite3.Error) else "Make it readable for this user"
            raise DataError(
                f"the ledger {path} of die {die_id!r} cannot be looked at ({error}); nothing was energised and its files are "
                f"left as they are. {done}"
            ) from error
        what = f"cannot be read ({error})"
    if what:
        raise DataError(
            f"the ledger {path} of die {die_id!r} {what}; nothing was energised and its files are left as they are. {RESTORE}; "
            "only if the die was never pulsed, delete them to enrol it anew"
        )
    return False


def _unusable(path: Path, die_id: str, error: sqlite3.Error) -> DataError:
    return DataError(
        f"the ledger {path} of die {die_id!r} cannot be opened ({error}); nothing was energised and the file is left as it "
        f"is. {remedy(error)}"
    )


__all__ = ["MEMORY", "Ledger", "LedgerNote"]
