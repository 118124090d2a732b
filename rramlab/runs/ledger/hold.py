"""One process writes a ledger: a lock of the operating system on the very file, which nobody can delete from under it."""

from __future__ import annotations

import os
import sys
import weakref
from pathlib import Path

from rramlab.base.errors import BenchLocked


class Hold:
    """The lock on a ledger's file. It goes when the process goes, however that ends.

    Raises:
        BenchLocked: on construction, when another session has it.
    """

    def __init__(self, path: Path, die_id: str) -> None:
        while True:
            handle = os.open(path if os.name == "posix" else path.with_name(f"{path.name}.lock"), _FLAGS, 0o666)
            try:
                _lock(handle)
            except OSError:
                os.close(handle)
                raise BenchLocked(
                    f"the ledger {path} of die {die_id!r} is held by another session; nothing was "
                    "energised. Wait for it, or stop it with: rramlab estop"
                ) from None
            # Whoever had it before may have put another file in its place.
            if os.name != "posix" or os.path.samestat(os.fstat(handle), path.stat()):
                self._handle = handle
                _HELD.add(self)
                return
            os.close(handle)

    def close(self) -> None:
        if self._handle >= 0:
            _unlock(self._handle)
            os.close(self._handle)
            self._handle = -1
            _HELD.discard(self)


if sys.platform == "win32":
    import msvcrt

    _FLAGS = os.O_RDWR | os.O_CREAT

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _unlock(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    _FLAGS = os.O_RDONLY  # a lock of this kind needs no more, and nothing is made where nothing is

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # also where a forked child still has the file open


_HELD: weakref.WeakSet[Hold] = weakref.WeakSet()


def _forked() -> None:
    """Close what a forked process has of its parent's locks: one that outlives its parent must not hold them for it."""
    for hold in list(_HELD):
        os.close(hold._handle)
        hold._handle = -1
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
