"""Ctrl-C and termination: first, stop after the operation in flight; second, safe state now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rramlab.base.errors import Stopped

# A terminal that is closed (SIGHUP, where there is one) ends a run as termination does.
_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Interrupts:
    """Holds the signals while a session lasts, so that nothing is interrupted in the middle of a pulse frame.

    While the session is :meth:`busy`, SIGINT counts one wish to stop and SIGTERM (``rramlab estop``) two; the engine asks
    :meth:`between` before each operation, and blocking calls :meth:`tick` while they wait. While it is idle, a signal ends
    whatever Python does at once. A third SIGINT is Python's own. While the bench is made safe (:meth:`held`) no signal
    comes through. Outside the main thread signals are left alone.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._depth = 0
        self._held = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Only count signals within the block; raise Stopped at its end if there was one."""
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self.between()
        finally:
            self._depth -= 1
            if not self._depth:
                self.requests = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal through within the block, however often it comes: the bench is being made safe."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def _received(self, number: int, frame: FrameType | None) -> None:
        ends = number != signal.SIGINT
        self.requests += 2 if ends else 1
        if self._held or (self._depth and (self.requests <= 2 or ends)):
            return
        self.requests = 0
        if ends:
            raise Stopped("stopped by the user (terminated)")
        raise KeyboardInterrupt

    def between(self) -> None:
        """Raise Stopped when a stop was asked for; called between operations."""
        if self.requests:
            raise Stopped("stopped by the user after the operation in flight")

    def tick(self) -> None:
        """Raise Stopped when a stop *now* was asked for; called while a read or multiply waits."""
        if self.requests >= 2:
            raise Stopped("stopped by the user at once")
