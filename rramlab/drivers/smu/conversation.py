"""Messages and answers over a link: every wait has a deadline, and an answer is never taken for that of another question."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rramlab.base.errors import InstrumentError
from rramlab.drivers.links import Link, LinkLost

TICK_S = 0.05  # between two calls of tick while waiting: half of what the dead man's switch is promised
_LONGEST_ANSWER = 1 << 20  # bytes
_SHOWN = 160  # characters of a message or an answer in an error

Tick = Callable[[], None]
IN_DOUBT = (
    "Its output may still be on: bring it to its safe state before the die is touched again (rramlab estop), or switch it "
    "off by hand"
)


class Unanswered(InstrumentError):
    """No answer came in time."""


def nothing() -> None:
    """The tick of who has nothing else to do."""


class Conversation:
    """One unit at the other end of ``link``.

    After a failed exchange its answer may still be under way. So before the next question is asked the unit says who it is
    (``identity``: the question, and the pattern of the answer), and whatever comes before that answer is dropped.
    """

    def __init__(self, who: str, link: Link, ends: tuple[str, str], identity: tuple[str, str], reply_s: float) -> None:
        self.who = who
        self._link = link
        self._send_end, self._reply_end = (end.encode("ascii") for end in ends)
        self._identity = identity
        self._reply_s = reply_s
        self._pending = b""
        self._in_step = True

    def tell(self, messages: Sequence[str], tick: Tick) -> None:
        """Send messages that have no answer; ``tick`` is called after each.

        Raises:
            LinkLost, InstrumentError: they were not taken.
        """
        in_step = self._in_step
        with self._exchange(messages):
            self._write(messages, tick)
        self._in_step = in_step  # only an answer shows that no stale one is to come

    def ask(self, messages: Sequence[str], tick: Tick, within_s: float | None = None, garbled: bool = False) -> str:
        """Send messages and return the line that answers the last one, within ``within_s`` (default: the usual time).

        ``garbled``: bytes that are no text are replaced in it, where what else it says is worth more than none.

        Raises:
            Unanswered: too late. InstrumentError: no text. LinkLost: the other end is gone.
        """
        in_step = self._in_step
        with self._exchange(messages):
            if self._drain() or not in_step:
                self._resynchronise(tick)
            self._write(messages, tick)
            return self._line(messages[-1], time.monotonic() + (within_s or self._reply_s), tick, garbled)

    def distrust(self) -> None:
        """Have the unit say who it is before the next question: what comes next may not be its answer."""
        self._in_step = False

    def misunderstood(self, sent: str, answer: str, expected: str) -> InstrumentError:
        """Return the error for an answer of the wrong shape; what comes next is not trusted before the unit said who it is."""
        self.distrust()
        return InstrumentError(
            f"{self.who} was sent {_show(sent)} and answered {_show(answer)}, expected {expected}. {IN_DOUBT}. Check that the "
            "driver file is that of this unit, and baud rate, cable and earth"
        )

    @contextmanager
    def _exchange(self, messages: Sequence[str]) -> Iterator[None]:
        self._in_step = False
        try:
            yield
        except LinkLost as error:
            sent = f" was being sent {_show(messages[-1])}" if messages else ""
            raise LinkLost(f"{self.who}{sent}: {error}. {IN_DOUBT}") from error
        self._in_step = True

    def _resynchronise(self, tick: Tick) -> None:
        question, pattern = self._identity
        self._write([question], tick)
        deadline = time.monotonic() + self._reply_s
        while not re.fullmatch(pattern, self._line(question, deadline, tick), re.ASCII):
            pass

    def _drain(self) -> bool:
        """Drop what stands in the input, and say whether there was anything."""
        stale, self._pending = len(self._pending), b""
        while more := self._link.read(0.0):
            stale += len(more)
            if stale > _LONGEST_ANSWER:
                raise InstrumentError(
                    f"{self.who} sends without being asked, {stale:,} bytes so far. {IN_DOUBT}. Check that nothing else "
                    "speaks to it, and switch it off and on"
                )
        return stale > 0

    def _write(self, messages: Sequence[str], tick: Tick) -> None:
        for message in messages:
            self._link.write(message.encode("ascii") + self._send_end, time.monotonic() + self._reply_s)
            tick()

    def _line(self, question: str, deadline: float, tick: Tick, garbled: bool = False) -> str:
        while True:
            line, end, rest = self._pending.partition(self._reply_end)
            if end:
                self._pending = rest
                try:
                    return line.decode("ascii", "replace" if garbled else "strict").strip()
                except UnicodeDecodeError:
                    raise self.misunderstood(question, repr(line), "ASCII text") from None
            if len(self._pending) > _LONGEST_ANSWER:
                raise self.misunderstood(question, repr(self._pending[:_SHOWN]), "a line that ends")
            now = time.monotonic()
            if now >= deadline:
                so_far = _show(self._pending.decode("ascii", "replace")) if self._pending else "nothing"
                raise Unanswered(
                    f"{self.who} was sent {_show(question)} and did not answer in time ({so_far} came). {IN_DOUBT}. Check "
                    "that it is switched on and set to remote operation, its address, terminators and baud rate"
                )
            self._pending += self._link.read(min(deadline, now + TICK_S))
            tick()


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")
