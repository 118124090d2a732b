"""A macro controller at the other end of a wire."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import PROTOCOL_VERSION, History, Identity, NotDone, Status, Sums, Tick
from rramlab.drivers.links import Link, LinkLost
from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.exchange import BoardError, Exchange
from rramlab.drivers.wire.messages import Code, Opcode
from rramlab.drivers.wire.operations import (
    MultiplyRequest,
    PulseRequest,
    ReadRequest,
    ReferenceRequest,
    RouteRequest,
)
from rramlab.drivers.wire.token import prove
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.pulses import PulseKind, PulseReport
from rramlab.macro.routes import Target

_FENCE = 1024
_NAP_S = 0.05  # a stop comes through within it
# Of one answer: little enough that a lost one costs little on a slow link, enough that what surrounds it is below 1 %.
_READ_BYTES = 1 << 16
_MULTIPLY_BYTES = 1 << 15


class WireController:
    """A MacroController over a link. ``open_link`` is called at once, and again should the link be lost before it is safe.

    ``token``: what both ends must know, see docs/wire.md; None where the board asks for none.

    Raises:
        InstrumentError: what answers is no macro controller, or nothing answers.
    """

    def __init__(self, open_link: Callable[[], Link], token: bytes | None = None) -> None:
        self._open_link, self._token = open_link, token
        self._exchange = self._connected()
        self._spoken_to_by_another = False  # since this one's last word
        try:
            self._identity = self._hello()
        except BaseException:
            self._exchange.link.close()
            raise
        # Past all that a predecessor may have sent and that is still on its way.
        self._exchange.go_on_from((self._exchange.sequence + _FENCE) & 0xFFFFFFFF)

    def _connected(self) -> Exchange:
        exchange = Exchange(self._open_link())
        if self._token is not None:
            try:
                prove(exchange, self._token)
            except BaseException:
                exchange.link.close()
                raise
        return exchange

    @property
    def resent(self) -> int:
        """How many frames were sent again."""
        return self._exchange.resent

    def hello(self) -> Identity:
        """As promised.

        Raises:
            InstrumentError: another host has spoken to the board since: it may have opened routes and broken pulses off.
        """
        self._identity = self._hello()
        if self._spoken_to_by_another:
            self._spoken_to_by_another = False
            raise InstrumentError(
                f"another host has spoken to the board at {self._exchange.link.name} since this one began: what it did to "
                "lines and routes is not known here. Stop one of the two, then resume; a bench folder's lock keeps others out "
                "where all work from the same folder"
            )
        return self._identity

    def _hello(self) -> Identity:
        exchange = self._exchange
        payload = exchange.ask(Opcode.HELLO)
        try:
            identity, sequence = messages.unpack_hello(payload)
        except ValueError as error:
            raise self._unclear(Opcode.HELLO, error) from error
        if identity.protocol == PROTOCOL_VERSION:
            self._spoken_to_by_another = exchange.go_on_from(sequence)
        return identity

    def pulse(
        self,
        op_id: int,
        kind: PulseKind,
        cells: CellSelection,
        amplitude: int,
        width_ns: int,
        gate: int,
        cells_per_pulse: int,
        tick: Tick | None = None,
    ) -> PulseReport:
        nonce = self._identity.boot_nonce
        together = min(cells_per_pulse, 0xFFFF)  # no row has more
        request = PulseRequest(nonce, op_id, kind, amplitude, gate, width_ns, together, cells)
        with _refusals_are_definite():
            answer = self._exchange.ask(Opcode.PULSE, operations.pack_pulse(request), tick)
        found = self._report(Opcode.PULSE, op_id, answer)
        if isinstance(found, History):
            raise self._unclear(Opcode.PULSE, ValueError(f"operation {op_id} is {found.value}"))
        return found

    def read(
        self, cells: CellSelection, repeats: int, bias: int, tick: Tick | None = None, isolated: bool = False
    ) -> npt.NDArray[np.uint16]:
        codes = np.empty((repeats, cells.count), np.uint16)
        done = 0
        asked: deque[ReadRequest] = deque()

        def requests() -> Iterator[bytes]:
            for request in _blocks(cells, repeats, bias, isolated):
                asked.append(request)
                yield operations.pack_read(request)

        for answer in self._exchange.ask_all(Opcode.READ, requests(), tick):
            request = asked.popleft()
            try:
                part = operations.unpack_codes(answer, request)
            except ValueError as error:
                raise self._unclear(Opcode.READ, error) from error
            codes[:, done : done + part.shape[1]] = part
            done += part.shape[1]
        return codes

    def read_reference(
        self, resistor: int | None, multiply: bool, repeats: int, bias: int, tick: Tick | None = None
    ) -> npt.NDArray[np.uint16]:
        request = ReferenceRequest(repeats, bias, resistor, multiply, self._identity.geometry.columns)
        answer = self._exchange.ask(Opcode.READ_REFERENCE, operations.pack_reference(request), tick)
        try:
            return operations.unpack_codes(answer, request)
        except ValueError as error:
            raise self._unclear(Opcode.READ_REFERENCE, error) from error

    def load_gates(self, slot: int, rows: Bools, phase: npt.NDArray[np.int16]) -> None:
        self._exchange.ask(Opcode.LOAD_GATES, operations.pack_gates(slot, rows, phase))

    def multiply(
        self,
        x: npt.NDArray[np.uint8],
        bits: int,
        slot: int,
        columns: npt.NDArray[np.intp],
        tick: Tick | None = None,
    ) -> Sums:
        if np.any(np.diff(columns) <= 0):
            raise ValueError("the columns of a multiply must rise")  # they travel as a bitmap
        asked = np.zeros(self._identity.geometry.columns, np.bool_)
        asked[columns] = True
        each = max(1, min(_MULTIPLY_BYTES // max(1, x.shape[1]), _MULTIPLY_BYTES // (4 * max(1, len(columns)))))
        requests = [
            MultiplyRequest(slot, bits, asked, x[start : start + each]) for start in range(0, max(1, len(x)), each)
        ]
        answers = self._exchange.ask_all(Opcode.MULTIPLY, [operations.pack_multiply(r) for r in requests], tick)
        codes = np.zeros((len(x), len(columns)), np.int32)
        saturated, conversions, done = np.zeros(len(columns), np.int64), 0, 0
        for request, answer in zip(requests, answers, strict=True):
            try:
                part = operations.unpack_sums(answer, request)
            except ValueError as error:
                raise self._unclear(Opcode.MULTIPLY, error) from error
            codes[done : done + len(part.codes)] = part.codes
            saturated += part.saturated
            conversions, done = conversions + part.conversions, done + len(part.codes)
        return Sums(codes, conversions, saturated)

    def route(self, target: Target | None, bias: int, op_id: int = 0) -> None:
        request = RouteRequest(self._identity.boot_nonce, op_id, target, bias)
        with _refusals_are_definite():
            self._exchange.ask(Opcode.ROUTE, operations.pack_route(request))

    def history(self, op_id: int, tick: Tick | None = None) -> CellSelection | History:
        found = self._report(Opcode.HISTORY, op_id, self._exchange.ask(Opcode.HISTORY, operations.pack_id(op_id), tick))
        return found if isinstance(found, History) else found.done

    def acknowledge(self, op_id: int) -> None:
        self._exchange.ask(Opcode.ACKNOWLEDGE, operations.pack_id(op_id))

    def status(self) -> Status:
        answer = self._exchange.ask(Opcode.STATUS)
        try:
            return messages.unpack_status(answer)
        except ValueError as error:
            raise self._unclear(Opcode.STATUS, error) from error

    def wait(self, time_s: float, tick: Tick | None = None) -> None:
        until = time.monotonic() + time_s
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_S))
            if tick is not None:
                tick()

    def heartbeat(self) -> None:
        self._exchange.beat()

    def safe_state(self) -> None:
        """As promised; over a new link where this one is lost, to the same board and no other."""
        try:
            self._exchange.ask(Opcode.SAFE_STATE)
        except LinkLost:
            sequence = self._exchange.sequence
            self._exchange.link.close()
            self._exchange = self._connected()
            self._exchange.sequence = sequence
            identity = self._hello()
            if identity.board_serial != self._identity.board_serial:
                raise InstrumentError(
                    f"after the link was lost, {self._exchange.link.name} is board {identity.board_serial!r} and no longer "
                    f"{self._identity.board_serial!r}; nothing was sent to it"
                ) from None
            self._exchange.ask(Opcode.SAFE_STATE)

    def close(self) -> None:
        self._exchange.link.close()

    def _report(self, opcode: Opcode, op_id: int, answer: bytes) -> PulseReport | History:
        try:
            found_id, found = operations.unpack_report(answer, self._identity.geometry)
        except ValueError as error:
            raise self._unclear(opcode, error) from error
        if found_id != op_id:
            raise self._unclear(opcode, ValueError(f"it speaks of operation {found_id}"))
        return found

    def _unclear(self, opcode: Opcode, error: ValueError) -> InstrumentError:
        return InstrumentError(
            f"the board at {self._exchange.link.name} answered {opcode.name} with what cannot be understood: {error}. Its "
            "firmware and this program disagree about the wire: update one of them"
        )


@contextmanager
def _refusals_are_definite() -> Iterator[None]:
    """A board that refuses in the same boot has not done it before either: an id that it did is answered with its report."""
    try:
        yield
    except BoardError as error:
        if error.code == Code.REFUSED:
            raise NotDone(str(error)) from error
        raise


def _blocks(cells: CellSelection, repeats: int, bias: int, isolated: bool) -> Iterator[ReadRequest]:
    """Cut a read into blocks of rows, each an answer of a few kilobytes; a row is never cut."""
    whole = cells.bits.all()  # the most frequent case by far, and the dearest to count
    per_row = np.full(len(cells.bits), cells.bits.shape[1]) if whole else np.count_nonzero(cells.bits, axis=1)
    most = max(1, math.ceil(_READ_BYTES / 2 / repeats))
    rows = np.flatnonzero(per_row)
    start = 0
    while start < len(rows):
        total = np.cumsum(per_row[rows[start:]])
        stop = start + max(1, int(np.searchsorted(total, most, side="right")))
        first, last = int(rows[start]), int(rows[stop - 1])
        yield ReadRequest(repeats, bias, first, cells.bits[first : last + 1], isolated)
        start = stop
