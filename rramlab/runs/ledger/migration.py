"""From a ledger of version 0.1.0 to one of today, through kills: a new file beside, compared, renamed; the old one stays."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np

from rramlab.base.errors import DataError
from rramlab.base.files import sync_folder, write_atomic
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger.counts import Counts
from rramlab.runs.ledger.errors import LOG, RESTORE, remedy
from rramlab.runs.ledger.events import Damaged, Entry
from rramlab.runs.ledger.first import about_die, entries_of_first, life_of_first
from rramlab.runs.ledger.looking import copied
from rramlab.runs.ledger.view import LedgerView, image_of

NEW, OLD = "ledger.db.new", "ledger-0.1.0.db"


def migrate(path: Path, die_id: str) -> None:
    """Put a ledger of today in the place of one of version 0.1.0. The caller holds the lock on it.

    Whenever this is ended, ``path`` is a whole ledger of one form or the other.

    Raises:
        DataError: the old one is damaged, or something cannot be written; it is left as it is.
    """
    new, old = path.with_name(NEW), path.with_name(OLD)
    try:
        write_atomic(new, _converted(path, die_id))
        _compare(path, new)
        settle(path)
        if not (old.exists() and old.samefile(path)):
            _keep(path, old)
        new.replace(path)
        sync_folder(path.parent)
    except (Damaged, UnicodeDecodeError) as error:
        raise DataError(
            f"the ledger {path} of die {die_id!r}, of version 0.1.0, {error}. Nothing was energised and its files are left as "
            f"they are. {RESTORE}"
        ) from error
    except sqlite3.Error as error:
        raise DataError(
            f"the ledger {path} of die {die_id!r}, of version 0.1.0, cannot be read, or not brought to today's form ({error}); "
            f"nothing was energised. {remedy(error)}"
        ) from error
    except OSError as error:
        raise DataError(
            f"the ledger {path} of die {die_id!r} is of version 0.1.0 and cannot be brought to today's form "
            f"({error.strerror or error}); nothing was energised and it is left as it is. Make room, and the folder writable"
        ) from error


def _converted(path: Path, die_id: str) -> bytes:
    """Return today's form of an old ledger, read from a copy: SQLite recovers and truncates the files that it opens."""
    with copied(path) as copy:
        lost = lost_frames(copy.with_name(copy.name + LOG))
        if lost:
            raise Damaged(
                f"has a write-ahead log with a damaged frame: SQLite would pass over {lost} frames, which hold operations"
            )
        with closing(sqlite3.connect(copy)) as database:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise Damaged(f"cannot be read ({found})")
            die, geometry, rows = life_of_first(database)
            if die != die_id:
                raise DataError(f"the ledger {path} says die {die!r}, expected {die_id!r}: it belongs to another die")
            return image_of(die, geometry, rows)


def _compare(path: Path, new: Path) -> None:
    """See that the new file says of every cell and operation what the old one says, each read in its own way."""
    with copied(path) as copy, closing(sqlite3.connect(copy)) as database:
        _, geometry, facts = about_die(database)
        before = [entry for entry, _ in entries_of_first(database, geometry)]
    with closing(sqlite3.connect(f"{new.absolute().as_uri()}?immutable=1", uri=True)) as database:
        view = LedgerView(new, database)
        same_facts = all(view.get(key) == value for key, value in facts.items() if key != "schema")
        if not same_facts or view.history() != before or view._known.counts != added_up(before, geometry):
            raise DataError(
                f"{new} does not say what {path} says; the ledger is left as it is and nothing was energised. This is a defect "
                "of the program: keep both files"
            )


def added_up(entries: list[Entry], geometry: Geometry) -> Counts:
    """Return what operations add up to, by arrays of the whole die."""
    counts = Counts(geometry)
    for entry in entries:
        meant, spent = entry.cells.bits, entry.spent.bits
        counts.of_kind(entry.kind)[spent] += 1
        counts.pulses[spent] += 1
        counts.last[meant] = entry.op_id
        counts.unknown = (counts.unknown & ~entry.done.bits) | entry.unknown.bits
        counts.doubtful = (counts.doubtful & ~entry.done.bits) | (meant if entry.unknown.count else np.bool_(False))
    return counts


def settle(path: Path) -> None:
    """Bring a ledger's write-ahead log into its file: the log of one ledger must not lie beside another.

    Raises:
        DataError: somebody looks into it.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        mode = database.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    if mode != "delete" or path.with_name(path.name + LOG).exists():
        raise DataError(
            f"another program looks into the ledger {path}, so no other can be put in its place; nothing was energised and "
            "it is left as it is. Close that program and try again"
        )


def _keep(path: Path, old: Path) -> None:
    """Keep the old file under its own name beside the new one; what has that name already is kept, too."""
    if old.exists():
        number = 1
        while old.with_name(f"{old.name}.{number}").exists():
            number += 1
        old.replace(old.with_name(f"{old.name}.{number}"))
    try:
        os.link(path, old)
    except OSError:  # a file system that has no links
        shutil.copyfile(path, old)
    sync_folder(path.parent)


def lost_frames(log: Path) -> int:
    """Count the frames of a write-ahead log that lie behind one that is damaged, up to the last that ends a transaction.

    SQLite takes a log as ended at the first frame whose check sum is wrong. A process that was killed leaves no whole
    transaction behind such a frame; a flipped bit does. Format: https://www.sqlite.org/fileformat2.html#walformat
    """
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return 0
    if len(data) < _HEADER:
        return 0
    magic, _, page, _, salt_1, salt_2, sum_1, sum_2 = struct.unpack(">8I", data[:_HEADER])
    order = ">" if magic & 1 else "<"
    frame = page + _FRAME
    count = (len(data) - _HEADER) // frame if page else 0
    valid = magic in _MAGIC and _wal_sum(data[: _HEADER - 8], order, (0, 0)) == (sum_1, sum_2)
    if not valid:
        return count  # the header: SQLite would pass over all of it
    state, good, last = (sum_1, sum_2), 0, 0
    for number in range(count):
        start = _HEADER + number * frame
        _, commit, own_1, own_2, frame_1, frame_2 = struct.unpack(">6I", data[start : start + _FRAME])
        ours = (own_1, own_2) == (salt_1, salt_2)
        if valid and ours:
            state = _wal_sum(data[start : start + 8], order, state)
            state = _wal_sum(data[start + _FRAME : start + frame], order, state)
            valid = state == (frame_1, frame_2)
            good = number + 1 if valid else good
        else:
            valid = False
        if not valid and ours and commit:
            last = number + 1
    return max(0, last - good)


_HEADER, _FRAME = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)


def _wal_sum(data: bytes, order: str, state: tuple[int, int]) -> tuple[int, int]:
    """SQLite's check sum of a log: two running sums over pairs of 32-bit words."""
    words = np.frombuffer(data, f"{order}u4").tolist()
    one, two = state
    for index in range(0, len(words), 2):
        one = (one + words[index] + two) & 0xFFFFFFFF
        two = (two + words[index + 1] + one) & 0xFFFFFFFF
    return one, two
