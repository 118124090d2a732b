"""One process per bench: the lock, and who holds it."""

from __future__ import annotations

import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rramlab.base.errors import BenchLocked, DataError
from rramlab.base.files import read_object, write_json

_A_LOOK_s = 0.5  # whoever only looks shares the lock for an instant; longer than that it is held


class BenchLock:
    """One process a bench; the lock names its holder."""

    def __init__(self, data: Path) -> None:
        self.path = data / "bench.lock"
        self._holder = data / "bench.holder.json"
        self._lock = FileLock(self.path)

    def acquire(self) -> None:
        """Take the lock or say who has it, within half a second.

        Raises:
            BenchLocked: another process, or another session of this one, holds the bench.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=_A_LOOK_s)
        except Timeout:
            who = self.holder() or {}
            raise BenchLocked(
                f"the bench in {self.path.parent} is held by process {who.get('pid', 'unknown')} on "
                f"{who.get('host', 'this host')} ({who.get('command', 'unknown command')}, since "
                f"{who.get('since', 'unknown')}); nothing was energised. Wait for it, or stop it with: rramlab estop"
            ) from None
        try:
            self._holder.unlink(missing_ok=True)  # of a predecessor that was killed
            write_json(
                self._holder,
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                },
            )
        except OSError:
            self._lock.release()
            raise

    def release(self) -> None:
        if self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    def holder(self) -> dict[str, Any] | None:
        """Return what the holder wrote down, empty where that cannot be told; or None when nobody holds the lock.

        Nothing is made or written: a folder that was never worked in stays as it is.
        """
        if not self._lock.is_locked and not _is_held(self.path):
            return None
        try:
            return read_object(self._holder)
        except DataError:
            return {}  # it was about to write that, or has just let go


def _is_held(path: Path) -> bool:
    """Return whether a process has the lock file ``path`` locked."""
    if not path.exists():
        return False
    if sys.platform == "win32":  # no lock can be shared there
        try:
            with FileLock(path, timeout=_A_LOOK_s):
                return False
        except Timeout:
            return True
    import fcntl

    with path.open("rb") as file:  # need not be writable
        try:
            # Shared, so that those who look do not take each other for the holder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
