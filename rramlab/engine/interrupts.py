"""Ctrl-C and termination: first, stop after the operation in flight; second, safe state now."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rramlab.base.errors import Stopped

# A terminal that is closed (SIGHUP, where there is one) ends a run as termination does.
_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
_SIGNALS = [signal.SIGINT, *_ENDING]


class Interrupts:
    """Counts the signals that come while a session works, so that nothing is interrupted in the middle of an operation.

    While the session is :meth:`busy`, SIGINT counts one wish to stop and SIGTERM (``rramlab estop``) two, as :meth:`ask` does
    from any thread; the engine asks :meth:`between` before each operation, and blocking calls :meth:`tick` while they wait.
    While the bench is made safe (:meth:`held`) they are counted, too, and change nothing.

    The handlers are there just as long: whoever sets others in between, as a notebook does at every cell, changes nothing.
    A signal that was ignored stays ignored (``nohup``, a job in the background). A process that is forked has its parent's
    handlers of before. Outside the main thread there are none.

    An idle session is watched (:meth:`watch`): termination, which would end Python without a word, raises Stopped; a program's
    own handler does what it does. Ctrl-C is Python's own then. What a handler raises may be lost, as in a library's callback:
    nothing is begun any more then.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._depth = 0  # of busy
        self._held = 0
        self._previous: dict[int, Any] = {}  # handlers that ours have taken the place of, while busy or held
        self._idle: dict[int, Any] = {}  # the same, while watched
        self._watching = False
        self._terminating = False  # it was raised while nothing was done
        self._foreign = 0  # SIGINTs that another's handler would have had
        _ALL.add(self)

    # how long -------------------------------------------------------------------------------------------------------

    @contextmanager
    def busy(self, hands_on: bool = False) -> Iterator[None]:
        """Only count signals within the block; raise Stopped at its end if there was one.

        ``hands_on``: where the program has a handler of its own for SIGINT, that gets it when the block is over, and says
        itself what it means. For single operations; a run is stopped.
        """
        if self._terminating and not self._depth:
            self._terminating = False
            raise Stopped("stopped by the user (terminated)")
        self._install()
        self._depth += 1
        try:
            yield
        except BaseException:
            self._leave()
            raise
        requests, foreign = self._leave()
        if foreign and hands_on and requests == foreign:
            signal.raise_signal(signal.SIGINT)
        elif requests:
            raise Stopped("stopped by the user after the operation in flight")

    def _leave(self) -> tuple[int, int]:
        """Leave a block; return the requests and those for another's handler if it was the outermost."""
        # Nothing is called before all is noted: what a signal raises, it raises at a call.
        outermost = self._depth == 1
        found = (self.requests, self._foreign) if outermost else (0, 0)
        self._depth -= 1
        if outermost:
            self.requests = self._foreign = 0
            if not self._held:
                self._restore()
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal through within the block, however often it comes: the bench is being made safe."""
        self._install()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held and not self._depth:
                self._restore()

    def watch(self) -> None:
        """Begin to look after termination while nothing is done."""
        self._watching = True
        if _in_main_thread():
            for number in _ENDING:
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    self._idle[number] = handler
                    signal.signal(number, self._terminated)

    def unwatch(self) -> None:
        """End :meth:`watch`."""
        self._watching = False
        for number, handler in self._idle.items():
            if self._previous.get(number) == self._terminated:  # while the bench is made safe ours are in its place
                self._previous[number] = handler
        self._give_back(self._idle, self._terminated)

    # what comes ------------------------------------------------------------------------------------------------------

    def ask(self, now: bool = False) -> bool:
        """Ask for a stop as a signal does, from any thread. Returns whether anything is being done that can be stopped."""
        if not self._depth:
            return False
        self.requests += 2 if now else 1
        return True

    def between(self) -> None:
        """Raise Stopped when a stop was asked for; called between operations."""
        if self.requests:
            raise Stopped("stopped by the user after the operation in flight")

    def tick(self) -> None:
        """Raise Stopped when a stop *now* was asked for; called while a read or multiply waits."""
        if self.requests >= 2:
            raise Stopped("stopped by the user at once")

    def _received(self, number: int, frame: FrameType | None) -> None:
        if not self._depth and not self._held:  # it came while the handlers were being changed
            self._restore()
            if signal.getsignal(number) != self._received:
                signal.raise_signal(number)
                return
            raise KeyboardInterrupt
        self.requests += 1 if number == signal.SIGINT else 2
        if number == signal.SIGINT and _is_foreign(self._previous.get(number)):
            self._foreign += 1

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        if self._depth or self._held:  # of a run in another thread
            self._received(number, frame)
        elif self._watching:
            try:
                if callable(handler := self._idle[number]) and handler is not signal.SIG_DFL:
                    handler(number, frame)
                    return
                raise Stopped("stopped by the user (terminated)")
            except BaseException:
                self._terminating = True
                raise
        else:  # it ended in another thread, from where no handler can be put back
            self.unwatch()
            signal.raise_signal(number)

    # handlers --------------------------------------------------------------------------------------------------------

    def _install(self) -> None:
        if not _in_main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler in (None, signal.SIG_IGN, self._received):  # None: not of Python
                continue
            self._previous[number] = handler
            signal.signal(number, self._received)

    def _restore(self) -> None:
        self._give_back(self._previous, self._received)

    @staticmethod
    def _give_back(previous: dict[int, Any], ours: Any) -> None:
        """Put back what ours has taken the place of; of what is no longer ours another has taken care. SIGINT last."""
        if not _in_main_thread():
            return
        for number in reversed(_SIGNALS):
            if number in previous and signal.getsignal(number) == ours:
                signal.signal(number, previous[number])

    def _forked(self) -> None:
        """In a process that was forked: whatever its parent was doing is not its business."""
        self._restore()
        self.unwatch()
        self._depth = self._held = self.requests = self._foreign = 0


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_foreign(handler: Any) -> bool:
    """Whether a handler is neither Python's own nor the system's."""
    return callable(handler) and handler not in (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN)


_ALL: weakref.WeakSet[Interrupts] = weakref.WeakSet()


def _forked() -> None:
    for each in list(_ALL):
        each._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
