"""What a ledger says, for whoever only looks: nothing is locked, created or changed."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind

SCHEMA_VERSION = 1
LOG = "-wal"  # beside the file: the newest operations may stand in the write-ahead log alone
_INDEX = "-shm"  # there while a process has the ledger open, and after one was killed
_FOR_DISKS = {
    sqlite3.SQLITE_FULL: "Make room on the disk, then run the command again",
    sqlite3.SQLITE_IOERR: "Make room on the disk, or see that it can be reached, then run the command again",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user, then run the command again",
    sqlite3.SQLITE_CANTOPEN: "Make the folder and the file writable for this user, then run the command again",
    sqlite3.SQLITE_PERM: "Make the file and its folder writable for this user, then run the command again",
}
Outcome = Literal["intended", "done", "undelivered"]


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it tells apart what one remedy is for


def of_the_disk(error: sqlite3.Error) -> bool:
    """Return whether an error says nothing of the ledger, but of the disk or folder that it is on."""
    return _code(error) in _FOR_DISKS


def remedy(error: sqlite3.Error) -> str:
    """Say what to do about an error of a ledger."""
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "It is in use by another program: close it there and try again"
    restore = f"Without its ledger a die must not be pulsed: restore the file, and the {LOG} beside it, from a copy"
    return _FOR_DISKS.get(code, restore)


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


@dataclass(frozen=True)
class Moment:
    """What tells how a ledger was at a moment: operations are only ever added to it, and their outcomes written once.

    ``dangling``: ids of operations without an outcome. ``facts``: about the die, such as its last contact test.
    """

    last_id: int
    dangling: tuple[int, ...]
    facts: dict[str, str]


class LedgerView:
    """The questions that a ledger answers. ``database``: a connection whose tables were found to be a ledger's.

    Raises:
        DataError: on any question, when a selection is damaged or the file cannot be read.
    """

    def __init__(self, path: Path, die_id: str, geometry: Geometry, database: sqlite3.Connection) -> None:
        self.path, self.die_id, self.geometry = path, die_id, geometry
        self._db = database
        self._nothing = CellSelection(np.zeros(geometry.shape, np.bool_))
        self._pulses = np.zeros(geometry.shape, np.uint32)
        self._unknown = np.zeros(geometry.shape, np.bool_)
        self._doubtful = np.zeros(geometry.shape, np.bool_)
        self._last = np.zeros(geometry.shape, np.int64)
        self._open: set[int] = set()  # ids of operations without an outcome

    def get(self, key: str) -> str | None:
        """Return a fact about the die, such as when its contact test last passed."""
        return next((str(value) for (value,) in self._ask("SELECT value FROM die WHERE key = ?", (key,))), None)

    @property
    def moment(self) -> Moment:
        """What tells how the ledger is now."""
        facts = {str(key): str(value) for key, value in self._ask("SELECT key, value FROM die")}
        return Moment(self.last_id, tuple(sorted(self._open)), facts)

    def image(self, at: Moment | None = None) -> bytes:
        """Return the ledger as the bytes of a file that is one: as it is now, or as it was at a moment.

        Raises:
            DataError: that moment is none of this ledger's life, or the file cannot be read.
        """
        if at is not None and at.last_id > self.last_id:
            raise DataError(
                f"the ledger {self.path} ends at operation {self.last_id} and not before {at.last_id}: it was restored from an "
                "older copy, or is of another die"
            )
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
            self._db.backup(memory)
            if at is not None:
                memory.execute("DELETE FROM operations WHERE id > ?", (at.last_id,))
                memory.execute("UPDATE sqlite_sequence SET seq = ?", (at.last_id,))
                memory.executemany(
                    "UPDATE operations SET outcome = 'intended', done = NULL, unknown = NULL, finished_at = NULL WHERE id = ?",
                    ((op_id,) for op_id in at.dangling),
                )
                memory.execute("DELETE FROM die")
                memory.executemany("INSERT INTO die VALUES (?, ?)", at.facts.items())
                memory.execute("VACUUM")
            return memory.serialize()

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
        return [self.entry(op_id) for op_id in sorted(self._open)]

    def of_run(self, run: str, position: str | None = None) -> Iterator[Entry]:
        """Yield the operations of a run, oldest first; one of a large array takes as much memory as a map."""
        if position is None:
            return self._select("WHERE run = ?", (run,))
        return self._select("WHERE run = ? AND position = ?", (run, position))

    def touched(self, run: str, step: str) -> bool:
        """Return whether a run has begun with a step, by its path, that pulses."""
        return any(
            True
            for _ in self._ask(
                "SELECT 1 FROM operations WHERE run = ? AND position >= ? AND position < ? LIMIT 1",
                (run, f"{step}.", f"{step}/"),
            )
        )

    def since(self, op_id: int) -> Iterator[Entry]:
        """Yield the operations after ``op_id``, oldest first."""
        return self._select("WHERE id > ?", (op_id,))

    @property
    def last_id(self) -> int:
        """The newest operation id, 0 when there is none."""
        return max((int(op_id) for (op_id,) in self._ask("SELECT max(id) FROM operations") if op_id), default=0)

    def history(self) -> list[Entry]:
        """Return the whole life of the die, oldest first."""
        return list(self.entries())

    def entries(self) -> Iterator[Entry]:
        """Yield the whole life of the die, oldest first; one operation of a large array takes as much memory as a map."""
        return self._select("", ())

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

    def last_operation(self) -> npt.NDArray[np.int64]:
        """Return the newest operation that was meant for each cell: int64[rows, columns], 0 for none."""
        return self._last

    def _replay(self) -> None:
        """Take the whole life in: how often each cell was pulsed, and what is not decided."""
        for entry in self.entries():
            meant, spent = entry.cells, entry.spent
            np.copyto(self._last[meant.span], entry.op_id, where=meant.in_span)
            if entry.outcome == "intended":
                self._open.add(entry.op_id)
            self._pulses[spent.span] += spent.in_span
            self._decide(meant, entry.done, entry.unknown)

    def _decide(self, cells: CellSelection, done: CellSelection, unknown: CellSelection) -> None:
        """Take in what came of an operation: a cell whose last pulse is decided is no longer unknown, whatever was before."""
        if not (unknown.count or self._unknown.any() or self._doubtful.any()):
            return  # as on hardly any other die: there is nothing to keep
        self._unknown = (self._unknown & ~done.bits) | unknown.bits
        self._doubtful = (self._doubtful & ~done.bits) | (cells if unknown.count else self._nothing).bits

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Entry]:
        """Yield entries by id; ``where`` is one of the constant clauses above."""
        rows = self._ask(
            "SELECT id, run, position, kind, amplitude_V, width_s, gate_V, cells_per_pulse, boot_nonce, cells, outcome, "
            f"done, unknown, intended_at FROM operations {where} ORDER BY id",
            values,
        )
        return map(self._entry, rows)

    def _ask(self, question: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            # No "yield from": it would close the cursor of a question that is left half-way, perhaps after its database.
            for row in self._db.execute(question, values):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise DataError(
                f"the ledger {self.path} of die {self.die_id!r} cannot be read ({error}); it is left as it is. {remedy(error)}"
            ) from error

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


@contextmanager
def view_ledger(path: Path) -> Iterator[LedgerView]:
    """Look into a ledger as it is now, also while another process works with it; no lock is taken that one could feel.

    Raises:
        DataError: there is none, or it cannot be opened or read.
    """
    with ExitStack() as stack:
        try:
            if not path.exists():
                raise DataError(
                    f"there is no ledger {path}: the die is not enrolled here, or its folder was moved "
                    "away; what was pulsed cannot be told"
                )
            database = stack.enter_context(_readable(path))
            database.execute("BEGIN")  # one moment of the die's life, whatever is written meanwhile
            about = dict(database.execute("SELECT key, value FROM die"))
            if about.get("schema") != str(SCHEMA_VERSION):
                raise DataError(
                    f"the ledger {path} is of version {about.get('schema')}, this program reads {SCHEMA_VERSION}; use the "
                    "version of rramlab that wrote it"
                )
            view = LedgerView(path, about["die"], Geometry(int(about["rows"]), int(about["columns"])), database)
            view._replay()
        except (OSError, sqlite3.DatabaseError, KeyError, ValueError) as error:
            barred = isinstance(error, OSError) or (isinstance(error, sqlite3.Error) and of_the_disk(error))
            mend = "Make it readable for this user, or restore it" if barred else "Restore the file"
            raise DataError(
                f"the ledger {path} cannot be read ({error}); it is left as it is. {mend}, and the {LOG} beside it, from a copy"
            ) from error
        yield view


@contextmanager
def _readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger so that neither it nor its folder changes.

    While its index is there SQLite's own read-only mode shares it with whoever writes. Otherwise nobody has it open: that
    mode would make an index, so the file is read as it lies, or with its log in a copy.
    """
    log, index = (path.with_name(path.name + ending) for ending in (LOG, _INDEX))
    where = path.absolute().as_uri()
    if index.exists():
        with closing(sqlite3.connect(f"{where}?mode=ro", uri=True, isolation_level=None)) as database:
            yield database
    elif log.exists():
        with copied(path) as copy, closing(sqlite3.connect(copy, isolation_level=None)) as database:
            yield database
    else:
        with closing(sqlite3.connect(f"{where}?immutable=1", uri=True, isolation_level=None)) as database:
            yield database


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Copy a ledger and its log into a temporary folder: SQLite recovers and truncates the files that it opens."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for ending in ("", LOG):
            part = path.with_name(path.name + ending)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + ending))
        yield copy
