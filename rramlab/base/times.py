"""Two clocks. The wall clock says when something was; people and time servers set it, so no difference of two of its times
says how long anything took. That is counted by a clock that nobody sets, and that goes on while the computer sleeps.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

MOVED_S = 1.0  # a wall clock that differs by more from what was counted was set; clocks themselves drift by far less


def wall() -> datetime:
    """Return what the wall clock says, in UTC."""
    return datetime.now(UTC)


def written(at: datetime) -> str:
    """Spell a time as it is written down: ISO 8601 with milliseconds."""
    return at.isoformat(timespec="milliseconds")


def now() -> str:
    """Return the time now in UTC, ISO 8601 with milliseconds."""
    return written(wall())


def counted() -> float:
    """Return seconds since some moment before this process began: what durations are differences of."""
    clock = getattr(
        time, "CLOCK_BOOTTIME", None
    )  # of Linux, where time.monotonic() stands still while the computer sleeps
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@functools.cache
def boot() -> str:
    """Return what names this start of the computer, so that processes can compare what they counted; empty: not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def stamp() -> dict[str, Any]:
    """Return the time now as plain data from which another process can tell how long ago it was."""
    return {"at": wall().isoformat(), "boot": boot(), "counted_s": counted()}


def age_s(stamp: Mapping[str, Any]) -> float | None:
    """Return how long ago a :func:`stamp` was made; None where that cannot be told, since a clock was set or begun anew.

    Where the two clocks could differ it is the longer time: what is too old must not be young again because a clock was set.
    """
    by_wall = (wall() - datetime.fromisoformat(str(stamp["at"]))).total_seconds()
    if "counted_s" not in stamp:  # written by 0.1.0
        return by_wall if by_wall >= 0 else None
    by_count = counted() - float(stamp["counted_s"])
    if stamp.get("boot") and boot():
        return by_count if stamp["boot"] == boot() and by_count >= 0 else None
    return max(by_wall, by_count) if min(by_wall, by_count) >= 0 else None


@dataclass
class Clock:
    """The times of one piece of work in this process: the wall clock once, at its beginning, and what was counted since.

    ``began``: what the wall clock said then. ``before_s``: how long the work had gone on before, in other processes.
    """

    began: datetime
    before_s: float
    _at_s: float

    @classmethod
    def start(cls, before_s: float = 0.0) -> Clock:
        return cls(wall(), before_s, counted())

    @property
    def passed_s(self) -> float:
        """Since the work began, pauses between processes included; it never runs backwards."""
        return self.before_s + counted() - self._at_s

    @property
    def now(self) -> datetime:
        """The time by this clock: what the wall clock would say if nobody had set it since the beginning."""
        return self.began + timedelta(seconds=counted() - self._at_s)

    @property
    def moved_s(self) -> float:
        """By how much the wall clock was set since the beginning: negative where it was set back."""
        return (wall() - self.now).total_seconds()
