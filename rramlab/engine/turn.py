"""One operation of a session at a time, from whatever thread it comes, and none after its end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rramlab.base.errors import UsageError

_LOOK_s = 0.1
State = Literal["new", "open", "closed"]


class Turn:
    """Whose turn it is. Another thread waits while a single operation is done, and is refused while a run is executed.

    A run may take hours, and may itself wait for the very thread that would wait for it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: int | None = None  # that is at work
        self._name, self._run = "", False
        self._process = os.getpid()
        self._state: State = "new"

    @property
    def mine(self) -> bool:
        """Whether this thread is at work: what it does now is part of that."""
        return self._thread == threading.get_ident()

    @property
    def inherited(self) -> bool:
        """Whether this is a copy that a forked process has: the bench is its parent's."""
        return self._process != os.getpid()

    @property
    def closed(self) -> bool:
        return self._state == "closed"

    def begin(self) -> None:
        """Open it, once.

        Raises:
            UsageError: it was opened before.
        """
        if self._state != "new":
            self.check()
            raise UsageError("this session is open already; use it as it is")
        self._state = "open"

    def check(self) -> None:
        """Make sure that there is a session to work with.

        Raises:
            UsageError: it is closed, not open yet, or another process's.
        """
        if self.inherited:
            raise UsageError(
                f"this session belongs to process {self._process}, which forked this one ({os.getpid()}); nothing was sent. "
                "Use it there: a worker process gets arrays, and not the bench"
            )
        if self._state == "closed":
            raise UsageError(
                "this session is closed, and nothing was sent to the bench; open a new one: with rramlab.open_bench(…) as "
                "session"
            )
        if self._state == "new":
            raise UsageError(
                "this session is not open yet, and nothing was sent to the bench; use it as a context manager: with "
                "rramlab.open_bench(…) as session"
            )

    @contextmanager
    def take(self, run: bool = False) -> Iterator[None]:
        """Have the session for this thread alone within the block. ``run``: it is a run that is executed.

        Raises:
            UsageError: as :meth:`check`; or another thread executes a run.
        """
        if self.mine:
            yield
            return
        me = threading.get_ident()
        try:
            with self._changed:
                self._wait(self._refuse_run)
                self.check()
                self._name, self._run = threading.current_thread().name, run
                self._thread = me
            yield
        finally:
            if self._thread == me:
                self._thread = None  # at once: whoever waits looks again by itself, too
                with self._changed:
                    self._changed.notify_all()

    def _wait(self, look: Callable[[], None]) -> None:
        while self._thread is not None:
            look()
            self._changed.wait(_LOOK_s)

    def _refuse_run(self) -> None:
        self.check()
        if self._run:
            raise UsageError(
                f"this session executes a run in thread {self._name!r}, and does one thing at a time; nothing was sent. Wait "
                "until the run is over, or stop it from here with session.stop()"
            )

    def end(self, patience_s: float) -> bool:
        """Let nobody begin anything more; wait for what is being done. Returns whether that came to its end in time."""
        self._state = "closed"
        deadline = time.monotonic() + patience_s
        with self._changed:
            while self._thread is not None and not self.mine:
                if time.monotonic() > deadline:
                    return False
                self._changed.wait(_LOOK_s)
        return True
