"""Hosts that fall silent, and what is heard while a pulse is in flight: the lines end at 0 V, the rows are known."""

import socket
import time
from dataclasses import replace

import numpy as np
import pytest
from desk import request
from emulated import cells, first_rows, pulse, row_pace, same, served, simulated, truth

from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Decoder, Kind
from rramlab.drivers.wire.messages import Opcode
from rramlab.macro.routes import RoutedCell


class Raw:
    """A host that says what a test wants it to say, and falls silent."""

    def __init__(self, board):
        self.behind = board.behind
        self._socket = socket.create_connection(("127.0.0.1", board.port))
        self._socket.settimeout(5)
        self._decoder = Decoder()

    def say(self, *frames):
        self._socket.sendall(b"".join(frames))

    def hear(self, count):
        found = []
        while len(found) < count:
            found += self._decoder.feed(self._socket.recv(65536))
        return found

    def pulse(self, sequence, op_id, region):
        table = self.behind.board.table
        asked = operations.PulseRequest(
            self.behind.hello().boot_nonce, op_id, "electroform", table.dac_code(3.75), table.dac_code(1.6), 1000, 8,
            cells(region, table),
        )  # fmt: skip
        return request(Opcode.PULSE, sequence, operations.pack_pulse(asked))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


DEAD_MAN_S = 0.3


@pytest.fixture
def short_table(small_table):
    return replace(small_table, dead_man_s=DEAD_MAN_S)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_silence_during_a_pulse_leads_to_the_safe_state(short_table, hangs_up):
    behind = simulated(short_table)
    with served(behind, pace=row_pace(short_table, 0.05)) as board:
        with Raw(board) as dead:
            dead.say(dead.pulse(1, 7, "all"))
            if not hangs_up:
                time.sleep(2 * DEAD_MAN_S)
        time.sleep(2 * DEAD_MAN_S)
        before = truth(behind)
        host = board.host()
        status = host.status()
        assert not status.live
        assert any("dead man" in text for text in status.errors)
        done = host.history(7)
        rows = done.bits.all(axis=1)
        assert 1 <= rows.sum() <= DEAD_MAN_S / 0.05 + 2
        assert rows[: rows.sum()].all()
        assert np.array_equal(done.bits, behind.die.state.pulses > 0)
        time.sleep(0.1)
        assert same(truth(behind), before)


def test_silence_while_a_route_is_held_opens_it(short_table):
    behind = simulated(short_table)
    with served(behind) as board:
        host = board.host()
        host.load_gates(0, *first_rows(short_table, 3))
        host.route(RoutedCell(0, 0), 0)
        for _ in range(8):
            time.sleep(DEAD_MAN_S / 3)
            host.heartbeat()
        assert behind.load is not None
        time.sleep(2 * DEAD_MAN_S)
        assert behind.load is None
        assert any("dead man" in text for text in host.status().errors)


def test_a_waiting_host_keeps_a_long_pulse_alive(small_table):
    """Longer than the dead-man time: the host's heartbeats, sent while it waits, hold the switch off."""
    table = replace(small_table, dead_man_s=0.5)
    behind = simulated(table)
    with served(behind, pace=row_pace(table, 0.1)) as board:
        report = pulse(board.host(), table, 1, "rows 0-9")
    assert report.done == cells("rows 0-9", table)
    assert not report.truncated


def test_nothing_live_needs_no_heartbeat(short_table):
    behind = simulated(short_table)
    with served(behind) as board:
        host = board.host()
        host.load_gates(0, *first_rows(short_table, 3))
        time.sleep(2 * DEAD_MAN_S)
        assert host.status().errors == ()
        host.multiply(np.ones((1, 3), np.uint8), 1, 0, np.arange(16))  # the pattern is still there


def test_a_safe_state_in_the_same_packet_as_the_pulse_is_taken_at_once(small_table):
    """A stream has no packets: what follows the pulse is heard while it is in flight, however it arrived."""
    behind = simulated(small_table)
    with served(behind, pace=row_pace(small_table, 0.05)) as board, Raw(board) as host:
        host.say(host.pulse(1, 7, "rows 0-9"), request(Opcode.SAFE_STATE, 2))
        first, second = host.hear(2)
    assert (first.opcode, second.opcode) == (Opcode.PULSE, Opcode.SAFE_STATE)
    _, report = operations.unpack_report(first.payload, small_table.geometry)
    assert report.truncated
    assert report.done.count < 10 * 16


def test_requests_in_the_same_packet_as_the_pulse_are_answered_in_their_order(small_table):
    behind = simulated(small_table)
    with served(behind, pace=row_pace(small_table, 0.05)) as board, Raw(board) as host:
        history = operations.pack_id(7)
        host.say(
            request(Opcode.HISTORY, 1, history),
            host.pulse(2, 7, "rows 0-3"),
            request(Opcode.HEARTBEAT, 3),
            request(Opcode.HISTORY, 4, history),
        )
        found = host.hear(4)
    assert [frame.sequence for frame in found] == [1, 3, 4, 2]
    assert messages.unpack_beat(found[1].payload) == 2
    assert found[2].kind == Kind.ERROR
