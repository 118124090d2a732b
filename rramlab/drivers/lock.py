"""Who works with what on this computer: locks of the operating system, each with the name of its holder beside it.

A bench belongs to one process by three kinds of them, taken together (:class:`Ownership`): its data folder, the folder of
each of its dies, and its board. The last two lie in the user's state folder, so that neither a second bench folder nor a
lock file that was deleted makes two owners of one die.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import sys
import time
import weakref
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rramlab.base.errors import BenchLocked, DataError
from rramlab.base.files import read_object, write_json
from rramlab.base.host import STATE, state_folder

_A_LOOK_s = 0.5  # whoever only looks shares the lock for an instant; longer than that it is held
_NAP_s = 0.02


class Lock:
    """A lock that one holder has, whatever thread or object of its process asks for it.

    ``what``: what is held, for errors. ``holder``: the file that names the holder. ``about``: what else it says.
    """

    def __init__(self, path: Path, what: str, holder: Path | None = None, about: dict[str, str] | None = None) -> None:
        self.path, self.what = path, what
        self._holder = holder or path.with_suffix(".holder.json")
        self._about = about or {}
        self._handle: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this object has it."""
        return self._handle is not None

    def acquire(self) -> None:
        """Take the lock or say who has it, within half a second.

        Raises:
            BenchLocked: another process, or another holder in this one, has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _A_LOOK_s
        while (handle := self._taken()) is None:
            if time.monotonic() > deadline:
                raise self._refusal()
            time.sleep(_NAP_s)
        self._handle = handle
        _HELD.add(self)
        try:
            self._holder.unlink(missing_ok=True)  # of a predecessor that was killed
            self._name_holder()
        except BaseException:
            self.release()
            raise

    def _taken(self) -> int | None:
        handle = _opened(self.path)
        try:
            if _locked_now(handle) and _same_file(handle, self.path):  # else it was deleted since it was opened
                taken, handle = handle, -1
                return taken
        finally:
            if handle >= 0:
                os.close(handle)
        return None

    def _name_holder(self) -> None:
        """Write down who has it; not synced, for after a loss of power nobody has it."""
        document = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._about,
        }
        write_json(self._holder, document, False)

    def _refusal(self) -> BenchLocked:
        who = self.holder() or {}
        if who.get("pid") == os.getpid() and who.get("host") == socket.gethostname():
            by, remedy = (
                f"another session of this process ({os.getpid()}",
                "Close that one first, or end its process with: rramlab estop",
            )
        else:
            by = (
                f"process {who.get('pid', 'unknown')} on {who.get('host', 'this host')} "
                f"({who.get('command', 'unknown command')}"
            )
            remedy = "Wait for it, or stop it with: rramlab estop"
        if "bench" in who:
            by, remedy = f"{by}, for {who['bench']}", remedy.replace("estop", f"estop --bench {who['bench']}")
        return BenchLocked(
            f"{self.what} is held by {by}, since {who.get('since', 'unknown')}); nothing was energised. {remedy}"
        )

    def release(self) -> None:
        """Let go of it. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            if _same_file(handle, self.path):  # else another has made a lock of its own there, and named itself
                self._holder.unlink(missing_ok=True)
        finally:
            os.close(handle)
            _HELD.discard(self)

    def _left_to_parent(self) -> None:
        """Close this end of it in a forked process: the lock stays with the process that took it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.release()

    def check(self) -> None:
        """Make sure that the lock that was taken is still the one that others would ask for.

        Raises:
            BenchLocked: its file was deleted or replaced, so another process may have taken it.
        """
        if self._handle is None or not _same_file(self._handle, self.path):
            raise BenchLocked(
                f"the lock {self.path} was deleted or replaced while this process held {self.what}: another process may work "
                "with it now, so nothing more is sent to the die. End the other one if there is one, then open the bench anew "
                "and resume the run. Nobody needs to delete locks: one is free as soon as its process has ended"
            )

    def holder(self) -> dict[str, Any] | None:
        """Return what the holder wrote down, empty where that cannot be told; or None when nobody holds the lock.

        Nothing is made or written: a folder that was never worked in stays as it is.
        """
        if self._handle is None and not _is_held(self.path):
            return None
        try:
            return read_object(self._holder)
        except DataError:
            return {}  # it was about to write that, or has just let go


class BenchLock(Lock):
    """One process a data folder, whatever path leads there."""

    def __init__(self, data: Path) -> None:
        super().__init__(data / "bench.lock", f"the bench in {data}", data / "bench.holder.json")


class HostLock(Lock):
    """One process on this computer for what no bench folder has to itself. Lies in the user's state folder.

    ``kind``: the folder there. ``key``: what must be the same for all who mean the same. ``bench``: for whom it is held.
    """

    def __init__(self, kind: str, key: str, what: str, bench: str = "") -> None:
        about = {"what": what, **({"bench": bench} if bench else {})}
        super().__init__(state_folder() / kind / f"{_file_name(key)}.lock", what, about=about)

    def acquire(self) -> None:
        """As of every lock.

        Raises:
            DataError: the state folder cannot be written.
        """
        try:
            super().acquire()
        except OSError as error:
            raise DataError(
                f"{self.path.parent} cannot be written ({error}), and without it nobody can tell whether another process works "
                f"with {self.what}; nothing was energised. Make it writable for this user, or name another folder, the same "
                f"for all who use this bench, in the environment variable {STATE}"
            ) from error


class Ownership:
    """All that a process must have to itself to work with a bench: taken together or not at all, always in this order.

    ``data``: the data folder. ``dies``: whose folders in it are worked with. ``board``: the serial number of one that others
    on this computer could reach, too; None for one that is in the data folder. ``bench``: the bench folder.
    """

    def __init__(self, data: Path, dies: Iterable[str], board: str | None = None, bench: Path | None = None) -> None:
        named = str((bench or data.parent).absolute())
        self.data = data
        self.folders = [data / "dies" / die for die in dies]
        self.locks: list[Lock] = [BenchLock(data)]
        for die, folder in ((folder.name, folder) for folder in self.folders):
            real = os.path.realpath(folder)  # the same through any link, and before the folder is there
            self.locks.append(HostLock("dies", real, f"die {die!r} in {real}", named))
        if board is not None:
            self.locks.append(HostLock("boards", board, f"board {board!r}", named))

    @property
    def path(self) -> Path:
        """The lock of the data folder."""
        return self.locks[0].path

    @property
    def mine(self) -> bool:
        """Whether this object has it."""
        return self.locks[0].mine

    def acquire(self) -> None:
        """Take all of it.

        Raises:
            BenchLocked: naming who has what; nothing is kept. DataError: the state folder cannot be written.
        """
        try:
            for lock in self.locks:
                lock.acquire()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of all of it. Idempotent."""
        with contextlib.ExitStack() as last:  # the data folder last, and each even if another fails
            for lock in self.locks:
                last.callback(lock.release)

    def check(self) -> None:
        """Make sure that all of it is still this process's.

        Raises:
            BenchLocked: a lock was deleted or replaced.
        """
        for lock in self.locks:
            lock.check()

    def holder(self) -> dict[str, Any] | None:
        """Return who holds any of it, as of a lock; the first whose name is known."""
        found = [who for lock in self.locks if (who := lock.holder()) is not None]
        return max(found, key=bool, default=None)

    def __enter__(self) -> Ownership:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def kernel_holders(paths: Iterable[Path]) -> set[int]:
    """Return the processes that hold a lock and have one of these files open, deleted or not. Linux alone can tell."""
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    words = [line.split() for line in lines]
    locking = {
        int(each[4])
        for each in words
        if len(each) > 4 and each[1] in ("FLOCK", "OFDLCK") and each[3] == "WRITE" and each[4].isdecimal()
    }
    names = {os.path.realpath(path) for path in paths}
    names |= {f"{name} (deleted)" for name in names}
    return {pid for pid in locking if pid > 1 and names & set(_open_files(pid))}


def _open_files(pid: int) -> Iterator[str]:
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield str(Path(entry.path).readlink())
    except OSError:  # it has ended, or is another user's
        return


def _file_name(key: str) -> str:
    """Return a name that any file system takes, readable, and another for each key."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", key).strip("._")[-40:]
    exact = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return f"{readable}-{exact}"


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))  # of another user: enough to lock it


if sys.platform == "win32":
    import msvcrt

    def _locked_now(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # let go of when the handle is closed
        except OSError:
            return False
        return True

    def _is_held(path: Path) -> bool:
        """Return whether a process has the lock file ``path`` locked. No lock can be shared here."""
        if not path.exists():
            return False
        deadline = time.monotonic() + _A_LOOK_s
        handle = _opened(path)
        try:
            while not _locked_now(handle):
                if time.monotonic() > deadline:
                    return True
                time.sleep(_NAP_s)
            return False
        finally:
            os.close(handle)

else:
    import fcntl

    def _locked_now(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_held(path: Path) -> bool:
        """Return whether a process has the lock file ``path`` locked."""
        if not path.exists():
            return False
        with path.open("rb") as file:  # need not be writable
            try:
                # Shared, so that those who look do not take each other for the holder.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forked() -> None:
    for lock in list(_HELD):
        lock._left_to_parent()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    # A worker that outlives its parent must not hold the bench for it.
    os.register_at_fork(after_in_child=_forked)
