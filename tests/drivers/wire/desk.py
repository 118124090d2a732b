"""A board's firmware without a link, and the payloads that tests hand to it."""

from __future__ import annotations

import time

import numpy as np
from emulated import cells, first_rows, row_pace, simulated

from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Decoder, Frame, Kind, encode
from rramlab.drivers.wire.messages import Opcode
from rramlab.sim.emulator.firmware import Firmware

ROW_S = 0.03  # what a row takes where time passes


class Desk:
    """A firmware without a link: frames go in one by one, and what it answers lies on the desk."""

    def __init__(self, behind, pace=0.0, meanwhile=None):
        self.behind = behind
        self.answers: list[Frame] = []
        self._decoder = Decoder()
        self.meanwhile = list(meanwhile or [])  # what comes in while an operation is in flight, one a look
        self.firmware = Firmware(behind, self._idle, pace)

    def _idle(self, seconds):
        if self.meanwhile:
            self.meanwhile.pop(0)(self)
        time.sleep(min(seconds, 0.002))

    def take(self, data):
        self.answers += [frame for frame in self._decoder.feed(data) if frame is not None]

    def ask(self, opcode, sequence, payload=b""):
        """Hand in one good request; return the answers that came at once."""
        before = len(self.answers)
        self.firmware.receive(Frame(Kind.REQUEST, opcode, sequence, payload), self.take)
        return self.answers[before:]

    def bytes_in(self, data, decoder):
        """Hand in whatever came over a line."""
        for frame in decoder.feed(data):
            self.firmware.receive(frame, self.take)


def request(opcode, sequence, payload=b""):
    return encode(Frame(Kind.REQUEST, opcode, sequence, payload))


def slow(table, *meanwhile):
    """A board on which a row takes its time; ``meanwhile``: what happens at each look at the line."""
    return Desk(simulated(table), row_pace(table, ROW_S), meanwhile)


def pulse_payload(desk, op_id, text="all", nonce=None, kind="electroform", volts=3.75, together=8):
    table = desk.behind.board.table
    nonce = desk.behind.hello().boot_nonce if nonce is None else nonce
    selected = cells(text, table)
    amplitude, gate = table.dac_code(volts), table.dac_code(1.6)
    return operations.pack_pulse(operations.PulseRequest(nonce, op_id, kind, amplitude, gate, 1000, together, selected))


def route_payload(desk, target, op_id=0, nonce=None):
    nonce = desk.behind.hello().boot_nonce if nonce is None else nonce
    bias = desk.behind.board.table.dac_code(1.6)
    return operations.pack_route(operations.RouteRequest(nonce, op_id, target, bias))


def gates_payload(rows, table):
    """One phase that drives the first ``rows`` rows."""
    return operations.pack_gates(0, *first_rows(table, rows))


def driven(desk):
    """How many rows the pattern in slot 0 drives: what a multiply of other inputs is refused with."""
    for rows in range(1, desk.behind.board.table.geometry.rows + 1):
        columns = np.arange(desk.behind.board.table.geometry.columns) < 1
        asked = operations.MultiplyRequest(0, 1, columns, np.ones((1, rows), np.uint8))
        (answer,) = desk.ask(Opcode.MULTIPLY, 0, operations.pack_multiply(asked))
        if answer.kind == Kind.REPLY:
            return rows
    return 0


def error(answers):
    (answer,) = answers
    assert answer.kind == Kind.ERROR, answer
    return messages.unpack_error(answer.payload)


def report(answer, desk):
    return operations.unpack_report(answer.payload, desk.behind.board.table.geometry)
