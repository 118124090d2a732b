"""A forming run in a process of its own that shows, in a shared file, what it is doing when it is killed."""

from __future__ import annotations

import mmap
import os
import time
import traceback
from pathlib import Path

import numpy as np

import rramlab
from rramlab.base.errors import RramlabError
from rramlab.engine import station
from rramlab.engine.session import Session
from rramlab.engine.station import Station
from rramlab.runs.ledger import Ledger
from rramlab.runs.store import Run, list_runs
from rramlab.sim.controller import SimulatedController

# What a run does, outermost first; and within that: nothing special, a file being synced, or renamed.
WHAT = (
    "opening",
    "enrolling",
    "new run",
    "reconciling",
    "intent",
    "pulse",
    "outcome",
    "read",
    "block",
    "record",
    "last read",
    "consolidation",
    "closing",
    "between these",
)
INNER = ("", "sync", "rename")
_WRAPPED = (
    (Ledger, "__init__", "enrolling"),
    (Run, "create", "new run"),
    (Station, "reconcile", "reconciling"),
    (Ledger, "intend", "intent"),
    (SimulatedController, "pulse", "pulse"),
    (Ledger, "finish", "outcome"),
    (SimulatedController, "read", "read"),
    (Run, "append", "block"),
    (Run, "update", "record"),
    (station, "save_last_read", "last read"),
    (Run, "consolidate", "consolidation"),
    (Session, "close", "closing"),
)
_BETWEEN = WHAT.index("between these")


class Board:
    """The shared file: what is going on (two words), then how often each has begun, uint64[what, inner]."""

    def __init__(self, path: Path) -> None:
        size = 8 * (2 + len(WHAT) * len(INNER))
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), size)
        words = np.frombuffer(self._map, np.uint64)
        self.now, self.begun = words[:2], words[2:].reshape(len(WHAT), len(INNER))

    @property
    def doing(self) -> tuple[str, str]:
        what, inner = self.now.tolist()
        return WHAT[what], INNER[inner]


class Watch:
    """Shows on a board what this process does, and adds up how long each takes."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.seconds = np.zeros(board.begun.shape)
        for owner, name, what in _WRAPPED:
            self._wrap(owner, name, WHAT.index(what), 0)
        self._wrap(os, "fsync", None, INNER.index("sync"))
        self._wrap(Path, "replace", None, INNER.index("rename"))

    def _wrap(self, owner, name, what, inner):
        """``what``: None for what may be part of anything."""
        known = owner.__dict__[name]
        original = known.__func__ if isinstance(known, classmethod) else known
        board, seconds = self.board, self.seconds

        def watched(*arguments, **more):
            outer = int(board.now[0]), int(board.now[1])
            mine = outer[0] if what is None else what
            if what is not None and outer[0] not in (0, _BETWEEN) and WHAT[mine] != "closing":
                return original(*arguments, **more)  # part of something that has a name already
            board.now[:] = mine, inner
            board.begun[mine, inner] += 1
            begun = time.perf_counter()
            try:
                return original(*arguments, **more)
            finally:
                seconds[mine, inner] += time.perf_counter() - begun
                board.now[:] = outer if outer[0] or what is None else (_BETWEEN, 0)

        setattr(owner, name, classmethod(watched) if isinstance(known, classmethod) else watched)


def work(tell, bench, plan, arm, shown, by_row):
    """The process of a run: start the plan, or go on with the run that there is.

    ``shown``: file of the board. ``by_row``: the die's state is written after each row, so that a kill in the middle of a
    pulse operation finds it half done.
    """
    watch = Watch(Board(shown))
    begun = time.perf_counter()
    tell.send(("begun",))
    try:
        with rramlab.open_bench(bench) as session:
            (controller,) = session.bench.controllers.values()
            if by_row:
                controller.pace = lambda nanoseconds: controller.persist() is None
            known = list_runs(session.runs)
            if known:
                session.resume(known[-1].id, arm=arm)
            else:
                session.run(plan, arm=arm)
        tell.send(("done", time.perf_counter() - begun, watch.seconds))
    except RramlabError as error:
        tell.send(("failed", f"{type(error).__name__}: {error}"))
    except BaseException:  # noqa: BLE001  # a defect, whatever it is: told whole
        tell.send(("defect", traceback.format_exc()))
