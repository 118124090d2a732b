"""Questions and answers over a link that may lose, damage, repeat and delay frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import Tick
from rramlab.drivers.links import Link
from rramlab.drivers.wire.frames import MOST_PAYLOAD, Decoder, Frame, Kind, Parts, encode
from rramlab.drivers.wire.layout import Malformed
from rramlab.drivers.wire.messages import Code, Opcode, unpack_beat, unpack_error

WINDOW = 8  # questions that are out at once
_FIRST_BEAT_S = 0.05  # an answer that takes longer is asked after; then at every interval
_BEAT_S = 0.2  # a fifth of the longest dead-man time
_PATIENCE_S = 4.0  # without an answer, beyond what a slow serial port needs for what is under way
_PATIENCE_SILENT_S = 0.5  # the same, once it was silent for that long
_BUSY_S, _BUSY_TICKED_S = (
    60.0,
    3600.0,
)  # a board that is busy for longer is stuck; the second where a stop comes through
_LONG_ANSWERS = frozenset({Opcode.READ, Opcode.READ_REFERENCE, Opcode.MULTIPLY, Opcode.PULSE, Opcode.HISTORY})
_SLOWEST_B_S = 1e4  # 115,200 baud and a little less
_TRIES = 50  # of one question: a link on which that is not enough is of no use
_PAUSE_S = 0.02  # before asking again a board that is busy


class BoardError(InstrumentError):
    """What the board answered with an ERROR frame. ``code``: of messages.Code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Question:
    """One request until its answer is there."""

    opcode: Opcode
    sequence: int
    data: bytes
    first: int = 0  # numbers of its first and its last transmission
    last: int = 0
    tries: int = 0
    parts: Parts | None = None
    answer: bytes | None = None
    error: tuple[int, str] | None = None
    not_before: float = 0.0  # a busy board is not asked again before
    busy_since: float = 0.0
    probe: bool = False  # a heartbeat that only asks after the others; another takes its place when it is lost

    @property
    def open(self) -> bool:
        return self.answer is None and self.error is None


class Exchange:
    """Asks over one link, with at most a window of questions out, and gives the answers in order.

    The other end answers in the order in which it receives. So an answer shows that what was sent before it and is
    unanswered was lost, one way or the other, and it is sent again under the same sequence number. Where nothing follows,
    a heartbeat asks.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.sequence = 1
        self.resent = 0
        self._decoder = Decoder()
        self._sent = 0  # transmissions
        self._out: dict[int, _Question] = {}
        self._heard = self._spoke = 0.0  # when an answer came, and when a frame was sent, last
        self._silent = False  # it did not answer lately: a safe state that is tried again must not wait as long again
        self._ticked = False  # whoever asks can be interrupted
        self._probed = False

    @property
    def damaged(self) -> int:
        """Damaged frames that came in."""
        return self._decoder.damaged

    def go_on_from(self, sequence: int) -> bool:
        """Count on from ``sequence`` if that is newer than where this end is (modulo 2³²); return whether it was."""
        newer = 0 < (sequence - self.sequence) & 0xFFFFFFFF < 1 << 31
        if newer:
            self.sequence = sequence
        return newer

    def ask(self, opcode: Opcode, payload: bytes = b"", tick: Tick | None = None) -> bytes:
        """Ask one question.

        Raises:
            BoardError: the board refused. InstrumentError: it did not answer. LinkLost: the other end is gone.
        """
        (answer,) = self.ask_all(opcode, [payload], tick)
        return answer

    def ask_all(self, opcode: Opcode, payloads: Iterable[bytes], tick: Tick | None = None) -> Iterator[bytes]:
        """Ask many questions of one kind, yield their answers in order. ``tick`` is called while waiting; it may raise.

        A question is put into words when its turn comes: the board is at work on the first ones meanwhile.
        """
        self._out.clear()  # of a conversation that was broken off; answers to it are not ours
        left = iter(payloads)
        waiting: deque[_Question] = deque()
        self._heard = self._spoke = time.monotonic()
        self._probed, self._ticked = False, tick is not None
        try:
            while True:
                while len(self._out) < WINDOW and (payload := next(left, None)) is not None:
                    waiting.append(self._question(opcode, payload))
                    self._send(waiting[-1])
                if not waiting:
                    return
                if waiting[0].open:
                    self._wait(tick)
                    continue
                question = waiting.popleft()
                if question.error is not None:
                    code, text = question.error
                    raise BoardError(f"the board at {self.link.name} refused {opcode.name}: {text}", code)
                yield question.answer or b""
        finally:
            self._out.clear()

    def beat(self) -> None:
        """Ask for a sign of life; its answer holds off the dead man's switch."""
        self.ask(Opcode.HEARTBEAT)

    def _question(self, opcode: Opcode, payload: bytes) -> _Question:
        sequence = self.sequence
        self.sequence = (self.sequence + 1) & 0xFFFFFFFF
        return _Question(opcode, sequence, encode(Frame(Kind.REQUEST, opcode, sequence, payload)))

    def _send(self, question: _Question) -> None:
        if question.tries >= _TRIES:
            raise InstrumentError(
                f"the board at {self.link.name} did not answer {question.opcode.name} after {question.tries} attempts, though "
                f"other frames came through ({self.damaged} damaged). Check cable, baud rate and grounding"
            )
        again = question.tries > 0
        self.resent += again
        question.tries += 1
        self._sent += 1
        question.last = self._sent
        if not again:
            question.first = self._sent
            self._out[question.sequence] = question
        # A zero first ends whatever damage left on the line, so that this frame is not lost to it.
        data = b"\0" + question.data if again else question.data
        self.link.write(data, time.monotonic() + _PATIENCE_S + len(data) / _SLOWEST_B_S)
        self._spoke = time.monotonic()

    def _wait(self, tick: Tick | None) -> None:
        """Take in what comes; a heartbeat when it is due, whatever else is on the line."""
        due = self._spoke + (_BEAT_S if self._probed else _FIRST_BEAT_S)
        for frame in self._decoder.feed(self.link.read(due)):
            self._take(frame)
        if tick is not None:
            tick()
        now = time.monotonic()
        if now < due or not any(each.open and not each.probe for each in self._out.values()):
            return
        if now - self._heard > self._patience_s():
            self._silent = True
            raise InstrumentError(self._silence(now - self._heard))
        for question in list(self._out.values()):
            if question.not_before and now >= question.not_before:
                question.not_before = 0.0
                self._send(question)
        for old in [each for each in self._out.values() if each.probe]:
            del self._out[old.sequence]  # lost, or not answered yet: the next one says so
        probe = self._question(Opcode.HEARTBEAT, b"")
        probe.probe = self._probed = True
        self._send(probe)

    def _patience_s(self) -> float:
        """Return how long a board may be silent: what is on its way takes its time on a slow port."""
        most = _PATIENCE_SILENT_S if self._silent else _PATIENCE_S
        out = sum(len(each.data) for each in self._out.values())
        coming = MOST_PAYLOAD if any(each.opcode in _LONG_ANSWERS for each in self._out.values()) else 0
        return most + (out + coming) / _SLOWEST_B_S

    def _take(self, frame: Frame | None) -> None:
        if frame is None:
            # Most likely the answer to what has waited longest.
            for each in self._lost_before(self._sent + 1)[:1]:
                self._send(each)
            return
        if frame.kind == Kind.NAK:
            for question in self._lost_before(self._sent + 1):
                if (question.sequence - frame.sequence) & 0xFFFFFFFF < 1 << 31 and question.sequence != frame.sequence:
                    self._send(question)
            return
        asked = self._out.get(frame.sequence)
        if asked is None or frame.opcode != asked.opcode:
            return  # an answer that came twice, or late
        self._heard, self._silent = time.monotonic(), False
        working_on = self._answer(asked, frame)
        if asked.open:
            return
        del self._out[asked.sequence]
        for lost in self._lost_before(asked.first) if self._out else ():
            if lost.sequence != working_on:
                self._send(lost)

    def _answer(self, question: _Question, frame: Frame) -> int | None:
        """Take what a frame says to its question; return the request that the board says it is working on."""
        try:
            if frame.kind == Kind.REPLY:
                question.answer = frame.payload
            elif frame.kind == Kind.PART:
                question.parts = question.parts or Parts()
                question.answer = question.parts.add(frame.payload)
            elif frame.kind == Kind.ERROR:
                question.error = unpack_error(frame.payload)
            if question.opcode is Opcode.HEARTBEAT and question.answer is not None:
                return unpack_beat(question.answer)
        except (Malformed, ValueError) as error:
            raise InstrumentError(
                f"the board at {self.link.name} answered {question.opcode.name} with what is no answer ({error}). Another "
                "firmware, or no macro controller: check the address, and the firmware against docs/wire.md"
            ) from error
        if question.error is not None and question.error[0] == Code.BUSY:
            now = time.monotonic()
            question.busy_since = question.busy_since or now
            if now - question.busy_since > (_BUSY_TICKED_S if self._ticked else _BUSY_S):
                return None  # the refusal stands
            question.error, question.not_before = None, now + _PAUSE_S
            question.tries = 1  # it does answer: patience is for silence alone
        return None

    def _lost_before(self, transmission: int) -> list[_Question]:
        """Return what was sent before a transmission and is still open: in order of sending."""
        lost = [
            each
            for each in self._out.values()
            if each.open and each.last < transmission and not each.not_before and not each.probe
        ]
        return sorted(lost, key=lambda each: each.last)

    def _silence(self, seconds: float) -> str:
        names = ", ".join(dict.fromkeys(each.opcode.name for each in self._out.values() if not each.probe))
        heard = f"{self._decoder.frames} good and {self.damaged} damaged frames came before"
        return (
            f"the board at {self.link.name} has said nothing for {seconds:.1f} s; {names} was sent, {heard}. "
            "Within its dead-man time it brings every line to 0 V by itself. Check that it is switched on, that the address "
            "is the macro controller's, cable and baud rate; then: rramlab bench check"
        )
