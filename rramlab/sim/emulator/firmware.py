"""The emulated board's firmware: frames in, frames out, over a simulated controller; one operation at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rramlab.base.errors import RramlabError
from rramlab.base.units import show
from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Frame, Kind, encode, reply
from rramlab.drivers.wire.layout import Malformed
from rramlab.drivers.wire.messages import ORDERED, Code, Opcode
from rramlab.macro.geometry import Geometry
from rramlab.sim.controller import SimulatedController

ERROR_QUEUE = 32
MOST_ANSWER = 1 << 24  # bytes that the board can hold of one answer
Send = Callable[[bytes], None]  # to the link that a request came from


class PowerLost(Exception):
    """The supply was switched off in the middle of an operation: nobody is there to answer."""


class Rejected(Exception):
    """A request that is answered with an ERROR frame."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class _Work:
    """The pulse operation in flight."""

    sequence: int
    op_id: int
    send: Send


class Firmware:
    """What runs on the board. It obeys its own limits, whatever the host has checked.

    ``idle``: called while an operation takes its time, with the seconds it may take at most; it must let frames in.
    ``pace``: real seconds a simulated second takes; 0 for none.
    """

    def __init__(self, controller: SimulatedController, idle: Callable[[float], None], pace: float = 0.0) -> None:
        self.controller, self._idle, self.pace = controller, idle, pace
        controller.pace = self._pass if pace else None
        self.frames = self.damaged = 0
        self.errors: deque[str] = deque(maxlen=ERROR_QUEUE)
        self._work: _Work | None = None
        self._abort = ""  # why the operation in flight must end
        self._after: list[Callable[[], None]] = []  # answers that wait for that
        self._power_lost = False
        self._saved = self._heard = time.monotonic()
        self._highest = 0  # sequence number
        self._ordered: tuple[int, bytes] | None = None  # the last ordered request, and what it was answered
        self._safe: int | None = None  # sequence number of the last SAFE_STATE

    @property
    def _geometry(self) -> Geometry:
        return self.controller.board.table.geometry

    def reboot(self, forget: bool) -> None:
        """Lose power and come back; ``forget``: with no memory of operation ids."""
        self._power_lost = self._work is not None
        self._after.clear()
        self.controller.power_cycle(forget)
        self.errors.clear()
        self._highest, self._ordered, self._safe = 0, None, None
        self.frames = self.damaged = 0

    def watch(self) -> None:
        """The dead man's switch: silence while something is live brings it to 0 V."""
        if self._work is None and self.controller.load is None:
            return
        dead_man_s = self.controller.board.table.dead_man_s
        # Checked every few milliseconds: a tenth less, so that the lines are dead when the time is over.
        if time.monotonic() - self._heard > 0.9 * dead_man_s and not self._abort:
            self.errors.append(f"dead man's switch: no frame for {show(dead_man_s, 's')}, every line went to 0 V")
            self._make_safe("the dead man's switch")

    def _make_safe(self, why: str) -> None:
        if self._work is not None:
            self._abort = why  # the operation ends with the row that it is at
        else:
            self.controller.safe_state()

    def _pass(self, span_ns: int) -> bool:
        """Let the time of a row pass in reality, and frames in meanwhile."""
        until = time.monotonic() + span_ns / 1e9 * self.pace
        while True:
            left = until - time.monotonic()
            self._idle(max(0.0, min(left, 0.02)))
            self.watch()
            if self._power_lost:
                raise PowerLost
            if self._abort or left <= 0:
                break
        if time.monotonic() - self._saved > 0.02:
            self.controller.persist()
            self._saved = time.monotonic()
        return not self._abort

    def receive(self, frame: Frame | None, send: Send) -> None:
        """Take one frame, or None for a damaged one, and answer it."""
        if frame is None:
            self.damaged += 1
            send(encode(Frame(Kind.NAK, 0, self._highest)))
            return
        if frame.kind != Kind.REQUEST:
            return  # an echo of our own, or noise that happens to be whole
        self.frames += 1
        self._heard = time.monotonic()
        if (frame.sequence - self._highest) & 0xFFFFFFFF < 1 << 31:
            self._highest = frame.sequence
        try:
            answer = self._answer(frame, send)
        except Rejected as error:
            answer = self._refusal(frame, error.code, str(error))
        except Malformed as error:
            answer = self._refusal(frame, Code.BAD_PAYLOAD, f"the payload cannot be understood: {error}")
        except (RramlabError, ValueError) as error:
            answer = self._refusal(frame, Code.REFUSED, str(error))
        if answer:
            send(answer)

    def _refusal(self, frame: Frame, code: Code, text: str) -> bytes:
        if code not in (Code.BUSY, Code.STALE):
            self.errors.append(text)
        return encode(Frame(Kind.ERROR, frame.opcode, frame.sequence, messages.pack_error(code, text)))

    def _answer(self, frame: Frame, send: Send) -> bytes:
        """Execute a request and return its answer, empty where it is answered later, or was a repetition."""
        try:
            opcode = Opcode(frame.opcode)
        except ValueError:
            raise Rejected(Code.UNKNOWN_OPCODE, f"there is no opcode 0x{frame.opcode:04x}") from None
        if opcode in (Opcode.CHALLENGE, Opcode.PROVE):
            raise Rejected(Code.UNKNOWN_OPCODE, "this board asks for no token on this link")
        if opcode is Opcode.SAFE_STATE:
            return self._safe_state(frame, send)
        if self._work is not None:
            self._refuse_while_busy(opcode, frame, self._work)
            if opcode is Opcode.PULSE:
                self._work.send = send  # asked again: the answer goes to where it was asked last
                return b""
        if opcode in (Opcode.PULSE, Opcode.ROUTE) and self._safe is not None:
            # From before a safe state: the host counts on that it does not come any more.
            self._refuse_older(frame.sequence, (self._safe + 1) & 0xFFFFFFFF)
        if opcode is Opcode.PULSE:
            self._pulse(frame, send)
            return b""
        if opcode not in ORDERED:
            return reply(opcode, frame.sequence, self._execute(opcode, frame))
        if self._ordered is not None:
            last, answered = self._ordered
            if frame.sequence == last:
                return answered
            self._refuse_older(frame.sequence, last)
        answer = reply(opcode, frame.sequence, self._execute(opcode, frame))
        self._ordered = frame.sequence, answer
        return answer

    @staticmethod
    def _refuse_older(sequence: int, executed: int | None) -> None:
        if executed is not None and (sequence - executed) & 0xFFFFFFFF >= 1 << 31:
            raise Rejected(Code.STALE, f"request {sequence} is older than {executed}, which was executed")

    def _refuse_while_busy(self, opcode: Opcode, frame: Frame, work: _Work) -> None:
        """Let through what may be asked while an operation is in flight: the rest has to wait."""
        own = opcode is Opcode.PULSE and frame.sequence == work.sequence
        if not own and opcode not in (Opcode.HELLO, Opcode.STATUS, Opcode.HEARTBEAT):
            raise Rejected(Code.BUSY, f"operation {work.op_id} is in flight")

    def _safe_state(self, frame: Frame, send: Send) -> bytes:
        answer = reply(Opcode.SAFE_STATE, frame.sequence, b"")
        # A repetition that came late must not break off what came after it.
        if frame.sequence != self._safe or not frame.sequence:
            self._safe = frame.sequence or self._safe
            self._make_safe("a safe state was asked for")
        if self._work is None:
            return answer
        self._after.append(lambda: send(answer))  # once the row has ended
        return b""

    def _execute(self, opcode: Opcode, frame: Frame) -> bytes:
        controller, payload = self.controller, frame.payload
        match opcode:
            case Opcode.HELLO:
                return messages.pack_hello(controller.hello(), (self._highest + 1) & 0xFFFFFFFF)
            case Opcode.STATUS:
                now = controller.status()
                live = now.live or self._work is not None
                found = replace(now, live=live, frames=self.frames, damaged=self.damaged, errors=tuple(self.errors))
                self.errors.clear()
                return messages.pack_status(found)
            case Opcode.HEARTBEAT:
                return messages.pack_beat(self._work.sequence if self._work is not None else None)
            case Opcode.HISTORY:
                op_id = operations.unpack_id(payload)
                return operations.pack_report(op_id, controller.report(op_id))
            case Opcode.ACKNOWLEDGE:
                controller.acknowledge(operations.unpack_id(payload))
                return b""
            case Opcode.READ:
                read = operations.unpack_read(payload, self._geometry)
                _refuse_longer(2 * read.repeats * read.count)
                return operations.pack_codes(
                    controller.read_rows(read.first_row, read.bits, read.repeats, read.bias, read.isolated)
                )
            case Opcode.READ_REFERENCE:
                asked = operations.unpack_reference(payload, self._geometry)
                _refuse_longer(2 * asked.repeats * asked.count)
                return operations.pack_codes(
                    controller.read_reference(asked.resistor, asked.multiply, asked.repeats, asked.bias)
                )
            case Opcode.LOAD_GATES:
                controller.load_gates(*operations.unpack_gates(payload, self._geometry))
                return b""
            case Opcode.MULTIPLY:
                request = operations.unpack_multiply(payload, self._geometry)
                columns = np.flatnonzero(request.columns)
                _refuse_longer(4 * len(request.x) * max(1, len(columns)))
                return operations.pack_sums(controller.multiply(request.x, request.bits, request.slot, columns))
            case _:
                route = operations.unpack_route(payload)
                if route.target is not None:
                    self._refuse_other_boot(route.nonce)
                controller.route(route.target, route.bias, route.op_id)
                return b""

    def _refuse_other_boot(self, nonce: int) -> None:
        now = self.controller.hello().boot_nonce
        if nonce != now:
            raise Rejected(
                Code.WRONG_NONCE,
                f"the request is for boot {nonce}, this is boot {now}: the board was switched off in between; nothing was done",
            )

    def _pulse(self, frame: Frame, send: Send) -> None:
        request = operations.unpack_pulse(frame.payload, self._geometry)
        self._refuse_other_boot(request.nonce)
        work = self._work = _Work(frame.sequence, request.op_id, send)
        try:
            report = self.controller.pulse(
                request.op_id,
                request.kind,
                request.cells,
                request.amplitude,
                request.width_ns,
                request.gate,
                request.cells_per_pulse,
            )
        except PowerLost:
            return
        finally:
            self._work, self._power_lost = None, False
            aborted, self._abort = self._abort, ""
            waiting, self._after = self._after, []
        if aborted:
            self.controller.safe_state()
        work.send(reply(Opcode.PULSE, frame.sequence, operations.pack_report(request.op_id, report)))
        for each in waiting:
            each()


def _refuse_longer(size: int) -> None:
    if size > MOST_ANSWER:
        raise Rejected(Code.REFUSED, f"the answer would be {size:,} bytes long, the board holds {MOST_ANSWER:,}")
