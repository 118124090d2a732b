"""Ending the process that holds a bench, however its lock files look and whether or not it still answers."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rramlab.base.errors import InstrumentError, RramlabError
from rramlab.drivers.lock import Ownership, kernel_holders

PATIENCE_s = 10.0  # for a process to make the bench safe, write its records and let go; then for one that was killed
_NAP_s = 0.05
_ROUNDS = 3  # another process may have waited for the bench
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


@dataclass(frozen=True)
class Ended:
    """A process that held the bench. ``killed``: it did not answer, and had no chance to make the bench safe itself."""

    pid: int
    command: str
    killed: bool


def end_holders(owned: Ownership, say: Callable[[str], None]) -> list[Ended]:
    """Stop all that hold any part of a bench, by SIGTERM and, where that does not help in time, by SIGKILL.

    ``say``: told before a process is killed.

    Raises:
        RramlabError: a holder is on another computer, another user's, or not to be found. InstrumentError: it cannot be ended.
    """
    ended: list[Ended] = []
    for _ in range(_ROUNDS):
        holders = _holders(owned)
        if not holders:
            break
        for pid in holders:
            _signal(pid, signal.SIGTERM)
            if hasattr(signal, "SIGCONT"):
                _signal(
                    pid, signal.SIGCONT
                )  # one that was stopped makes the bench safe before it goes on with anything
        stubborn = _left(owned, holders)
        for pid in stubborn:
            say(
                f"Process {pid} ({holders[pid]}) was asked to stop and still holds the bench after {PATIENCE_s:g} s: it is "
                "killed now. The board brings its lines to 0 V by itself within its dead-man time."
            )
            _signal(pid, _KILL)
        if stubborn and (left := _left(owned, stubborn)):
            raise InstrumentError(
                f"process {', '.join(map(str, left))} was killed and still holds the bench after {PATIENCE_s:g} s; assume that "
                "its lines are live. Switch the bench's supplies off by hand"
            )
        ended += [Ended(pid, command, pid in stubborn) for pid, command in holders.items()]
    return ended


def _left(owned: Ownership, holders: dict[int, str]) -> dict[int, str]:
    """Wait until these processes have let go; return those that have not."""
    deadline = time.monotonic() + PATIENCE_s
    while (left := {pid: holders[pid] for pid in _holders(owned) if pid in holders}) and time.monotonic() < deadline:
        time.sleep(_NAP_s)
    return left


def _holders(owned: Ownership, looks: int = 5) -> dict[int, str]:
    """Return who holds any part of the bench, by process id: the command that it executes."""
    found: dict[int, str] = {}
    nameless = False
    for lock in owned.locks:
        who = lock.holder()
        if who is None:
            continue
        host, pid = who.get("host"), who.get("pid")
        if who and host != socket.gethostname():
            raise RramlabError(
                f"the bench is held by process {pid or 'unknown'} on {host or 'an unknown host'}, which cannot be signalled "
                "from here. Run rramlab estop there, or switch the bench's supplies off by hand"
            )
        holding = kernel_holders([lock.path])  # knows better than a file, where it can be asked
        if holding and pid not in holding:
            found |= dict.fromkeys(holding, "unknown command")
        elif type(pid) is int and pid > 1:
            found[pid] = str(who.get("command"))
        else:
            nameless = True
    if not found:  # the locks may have been deleted under their holder
        files = [each for folder in owned.folders if folder.is_dir() for each in folder.iterdir()]
        found = dict.fromkeys(kernel_holders([*(lock.path for lock in owned.locks), *files]), "unknown command")
    if nameless and not found and looks:  # it may just have come, or be about to go
        time.sleep(_NAP_s)
        return _holders(owned, looks - 1)
    if nameless and not found:
        raise RramlabError(
            "the bench is held by process unknown on an unknown host, which cannot be signalled from here. Run rramlab estop "
            "on the computer that works with it, or switch the bench's supplies off by hand"
        )
    found.pop(os.getpid(), None)
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended by itself
    except PermissionError as error:
        raise RramlabError(
            f"process {pid} holds the bench and is another user's: it cannot be stopped from here. Run rramlab estop as that "
            "user, or switch the bench's supplies off by hand"
        ) from error


def everything_in(data: Path) -> list[str]:
    """Return the dies that have a folder in ``data``: of one that bench.yaml does not list a holder may be found, too."""
    dies = data / "dies"
    return sorted(each.name for each in dies.iterdir() if each.is_dir()) if dies.is_dir() else []
