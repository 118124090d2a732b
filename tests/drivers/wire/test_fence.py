"""What a dead host has sent comes too late for its successor; a line that chatters, a board that is always busy."""

import socket
import threading
import time

import pytest
from desk import request
from emulated import cells, pulse, served, simulated

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import History
from rramlab.drivers.links import open_link
from rramlab.drivers.wire import exchange, messages, operations
from rramlab.drivers.wire.client import WireController
from rramlab.drivers.wire.exchange import BoardError
from rramlab.drivers.wire.frames import Decoder, Frame, Kind, encode
from rramlab.drivers.wire.messages import Code, Opcode
from rramlab.drivers.wire.operations import PulseRequest


def soon():
    return time.monotonic() + 5


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_a_pulse_that_was_on_its_way_when_its_host_died_is_not_executed_after_the_history_was_heard(small_table, ahead):
    behind, selected = simulated(small_table), cells("row 0", small_table)
    with served(behind) as board:
        dead = board.host("tcp")
        codes = small_table.dac_code(3.75), small_table.dac_code(1.6)
        late = PulseRequest(dead.hello().boot_nonce, 1, "electroform", *codes, 1000, 8, selected)
        link, sequence = dead._exchange.link, dead._exchange.sequence + ahead
        frame = request(Opcode.PULSE, sequence, operations.pack_pulse(late))
        link.write(frame[:20], soon())  # the rest is still in the network when the host is killed
        heir = board.host("tcp")
        heir.safe_state()
        assert heir.history(1) is History.NEVER
        link.write(frame[20:], soon())
        decoder, answers = Decoder(), []
        while not answers:
            answers = [
                each for each in decoder.feed(link.read(soon())) if each is not None and each.sequence == sequence
            ]
        assert messages.unpack_error(answers[0].payload)[0] == Code.STALE
        assert not behind.die.state.pulses.any()
        pulse(heir, small_table, 2, selected)
        assert behind.die.state.pulses[0].max() == 1


def test_a_line_that_chatters_is_no_board(monkeypatch):
    monkeypatch.setattr(exchange, "_PATIENCE_S", 0.4)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as console:

        def chatter():
            connection, _ = console.accept()
            with connection:
                while not over.wait(0.005):
                    try:
                        connection.sendall(b"$GPGGA,123519\r\n")
                    except OSError:
                        return

        worker = threading.Thread(target=chatter)
        worker.start()
        try:
            address = f"tcp://127.0.0.1:{console.getsockname()[1]}"
            with pytest.raises(InstrumentError, match="HELLO was sent, 0 good and"):
                WireController(lambda: open_link(address, 9600, b"\0"))
        finally:
            over.set()
            worker.join()


class Busy:
    """A link to a board that greets and is busy ever after."""

    name = "busy"

    def __init__(self):
        self._decoder, self._answers = Decoder(), []

    def write(self, data, deadline):
        for frame in self._decoder.feed(data):
            refusal = messages.pack_error(Code.BUSY, "operation 7 is in flight")
            beat = messages.pack_beat(7)
            asked = frame.opcode == Opcode.HEARTBEAT
            kind, payload = (Kind.REPLY, beat) if asked else (Kind.ERROR, refusal)
            self._answers.append(encode(Frame(kind, frame.opcode, frame.sequence, payload)))

    def read(self, deadline):
        if not self._answers:
            time.sleep(max(0.0, deadline - time.monotonic()))
        return self._answers.pop(0) if self._answers else b""

    def close(self):
        self._answers.clear()


def test_a_board_that_stays_busy_is_given_up_in_its_own_words(monkeypatch):
    monkeypatch.setattr(exchange, "_BUSY_S", 0.3)
    with pytest.raises(BoardError, match="operation 7 is in flight"):
        exchange.Exchange(Busy()).ask(Opcode.ACKNOWLEDGE, operations.pack_id(7))


def test_waiting_for_a_busy_board_can_be_interrupted():
    class Stop(Exception):
        pass

    def tick():
        raise Stop

    with pytest.raises(Stop):
        exchange.Exchange(Busy()).ask(Opcode.HISTORY, operations.pack_id(7), tick)
