"""What SQLite's errors mean for a ledger: few of them are damage."""

from __future__ import annotations

import sqlite3

from rramlab.base.errors import DataError, RramlabError, UsageError

LOG = "-wal"  # beside the file: the newest rows may stand in the write-ahead log alone
RESTORE = f"Without its ledger a die must not be pulsed: restore the file, and the {LOG} beside it, from a copy"
_FOR_DISKS = {
    sqlite3.SQLITE_FULL: "Make room on the disk, then run the command again",
    sqlite3.SQLITE_IOERR: "Make room on the disk, or see that it can be reached, then run the command again",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user, then run the command again",
    sqlite3.SQLITE_CANTOPEN: "Make the folder and the file writable for this user, then run the command again",
    sqlite3.SQLITE_PERM: "Make the file and its folder writable for this user, then run the command again",
    sqlite3.SQLITE_AUTH: "Make the file and its folder writable for this user, then run the command again",
}
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_PASSING = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_ABORT, sqlite3.SQLITE_SCHEMA)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it tells apart what one remedy is for


def of_the_disk(error: sqlite3.Error) -> bool:
    """Return whether an error says nothing of the ledger, but of the disk or folder that it is on."""
    return _code(error) in _FOR_DISKS


def remedy(error: sqlite3.Error) -> str:
    """Say what to do about an error of a ledger."""
    code = _code(error)
    if code in _IN_USE:
        return "It is in use by another program: close it there and try again"
    if code in _PASSING:
        return "That passes: run the command again"
    return _FOR_DISKS.get(code, RESTORE)


def failed(error: sqlite3.Error, what: str, meaning: str) -> RramlabError:
    """Return the error to raise for one of SQLite. ``what`` could not be done; ``meaning``: what that means for the die."""
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)) and "closed" in str(error):
        return UsageError(f"{what}: the session that had it open is over, {meaning}. Open a new session")
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.NotSupportedError)):
        return DataError(
            f"{what} ({error}): {meaning}. Nothing says that the file is damaged: it is a defect of the program"
        )
    return DataError(f"{what} ({error}): {meaning}. {remedy(error)}")
