"""A board that asks for a token: who knows it works as ever, who does not is told nothing and changes nothing."""

import hashlib
import hmac
import os
import socket
import time
from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest
from desk import request
from emulated import first_rows, pulse, simulated

from rramlab.base.errors import InstrumentError, Refused, UsageError
from rramlab.drivers.links import open_link
from rramlab.drivers.wire import messages
from rramlab.drivers.wire.client import WireController
from rramlab.drivers.wire.frames import Decoder, Kind
from rramlab.drivers.wire.messages import Code, Opcode
from rramlab.drivers.wire.token import LEAST, token_of
from rramlab.macro.routes import RoutedCell
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.server import Server, address_of, is_loopback

TOKEN = b"correct horse battery staple"
PATIENCE_S = 5


@contextmanager
def guarded(table, token=TOKEN, host="127.0.0.1", faults=None, **more):
    """Serve a board on a thread; yields its port and what is behind."""
    behind = simulated(table)
    server = Server(behind, faults or WireFaults(), token=token, **more)
    _, port = server.listen(host, 0)
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield port, behind
    finally:
        server.stop()
        with socket.create_connection(("127.0.0.1", port)):
            pass
        thread.join(10)
        server.close()


def host_at(port, token=TOKEN):
    return WireController(lambda: open_link(f"tcp://127.0.0.1:{port}", 0, b"\0"), token)


class Raw:
    """Speaks frames without any manners."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(PATIENCE_S)
        self._decoder = Decoder()

    def ask(self, opcode, sequence=1, payload=b""):
        """Return the answer, or None where the board hangs up."""
        try:
            self._socket.sendall(request(opcode, sequence, payload))
            while True:
                data = self._socket.recv(65536)
                if not data:
                    return None
                for frame in self._decoder.feed(data):
                    return frame
        except ConnectionError:
            return None

    def close(self):
        self._socket.close()


def test_who_knows_the_token_works_as_ever(small_table):
    with guarded(small_table) as (port, behind):
        host = host_at(port)
        assert pulse(host, small_table, 1, "row 0").done.count == 16
        host.load_gates(0, *first_rows(small_table, 3))
        host.multiply(np.ones((1, 3), np.uint8), 1, 0, np.arange(16))
        host.safe_state()
        host.close()
        assert behind.die.state.pulses.sum() == 16


def test_the_proof_is_that_of_the_page(small_table):
    """By the words of docs/wire.md, with nothing of rramlab."""
    with guarded(small_table) as (port, _):
        raw = Raw(port)
        ours = os.urandom(16)
        theirs = raw.ask(Opcode.CHALLENGE, 1, ours).payload
        answer = raw.ask(Opcode.PROVE, 2, hmac.new(TOKEN, b"rramlab host" + ours + theirs, hashlib.sha256).digest())
        assert answer.kind == Kind.REPLY
        assert answer.payload == hmac.new(TOKEN, b"rramlab board" + ours + theirs, hashlib.sha256).digest()
        assert raw.ask(Opcode.HELLO, 3).kind == Kind.REPLY
        raw.close()


def test_without_it_nothing_is_answered_and_nothing_changes(small_table):
    with guarded(small_table) as (port, behind):
        raw = Raw(port)
        for sequence, opcode in enumerate(Opcode, 1):
            if opcode not in (Opcode.CHALLENGE, Opcode.PROVE):
                answer = raw.ask(opcode, 1_000_000 + sequence, bytes(64))
                assert answer.kind == Kind.ERROR
                assert messages.unpack_error(answer.payload)[0] == Code.LOCKED
        raw.close()
        host = host_at(port)
        assert host.status().frames <= 2  # its own alone
        assert not behind.die.state.pulses.any()
        host.close()


@pytest.mark.parametrize("token", [None, b"another token of some length"])
def test_a_host_without_the_right_token_is_told_so(small_table, token):
    with guarded(small_table) as (port, behind):
        with pytest.raises(InstrumentError, match="token"):
            host_at(port, token)
        assert not behind.die.state.pulses.any()
        host_at(port).close()


def test_guessing_is_cut_short_and_every_link_has_its_own_challenge(small_table):
    with guarded(small_table) as (port, _):
        raws = [Raw(port), Raw(port)]
        first, second = (raw.ask(Opcode.CHALLENGE, 1, bytes(16)).payload for raw in raws)
        assert first != second
        assert raws[0].ask(Opcode.CHALLENGE, 1, bytes(16)).payload == first  # asked again it is the same
        stolen = hmac.new(TOKEN, b"rramlab host" + bytes(16) + first, hashlib.sha256).digest()
        answers = [raws[1].ask(Opcode.PROVE, number, stolen) for number in range(2, 6)]
        assert [None if each is None else each.kind for each in answers] == [Kind.ERROR] * 3 + [None]
        for raw in raws:
            raw.close()


def test_a_board_that_only_reflects_does_not_know_the_token(small_table):
    """Whoever repeats what the host says, or asks for no token, gets nothing of a session."""
    with guarded(small_table, token=None) as (port, _), pytest.raises(InstrumentError, match="asks for none"):
        host_at(port)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reflect():
            end, _ = listener.accept()
            decoder = Decoder()
            with end:
                while data := end.recv(65536):
                    for frame in decoder.feed(data):
                        from rramlab.drivers.wire.frames import encode

                        end.sendall(encode(frame._replace(kind=Kind.REPLY)))

        thread = Thread(target=reflect)
        thread.start()
        with pytest.raises(InstrumentError, match="did not show that it knows the token"):
            host_at(listener.getsockname()[1])
        thread.join(10)


def test_whoever_is_locked_out_does_not_keep_the_dead_man_quiet(small_table):
    from dataclasses import replace

    table = replace(small_table, dead_man_s=0.3)
    with guarded(table) as (port, behind):
        host = host_at(port)
        host.route(RoutedCell(0, 0), 0)
        raw, until = Raw(port), time.monotonic() + 1.0
        while time.monotonic() < until:
            raw.ask(Opcode.HEARTBEAT)
        assert behind.load is None
        raw.close()
        host.close()


def test_a_lossy_line_does_not_keep_a_host_out(small_table):
    with guarded(small_table, faults=WireFaults.everywhere(0.2, seed=3)) as (port, _):
        host = host_at(port)
        assert pulse(host, small_table, 1, "row 0").done.count == 16
        host.close()


def test_a_link_that_is_opened_anew_proves_itself_anew(small_table):
    with guarded(small_table) as (port, _):
        host = host_at(port)
        host._exchange.link._socket.shutdown(socket.SHUT_RDWR)
        host.safe_state()
        assert pulse(host, small_table, 1, "row 0").done.count == 16
        host.close()


# who is listened to ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_beyond_this_computer_a_token_or_a_word_is_needed(small_table, host):
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = Server(simulated(small_table))
    with pytest.raises(Refused, match="isolated-network") as caught:
        server.listen(host, 0)
    assert caught.value.exit_code == 3
    server.close()
    with guarded(small_table, host="0.0.0.0") as (port, _):
        host_at(port).close()
    with guarded(small_table, token=None, host="0.0.0.0", isolated=True) as (port, _):
        host_at(port, None).close()


def test_a_unit_knows_no_token(small_table):
    server = Server(simulated(small_table), token=TOKEN)
    with pytest.raises(Refused):
        server.listen_smu(None, "0.0.0.0", 0)
    server.close()


def test_what_loopback_is():
    assert is_loopback(address_of("localhost")[1])
    assert is_loopback(address_of("127.3.2.1")[1])
    assert is_loopback("::1")
    assert not is_loopback(address_of("")[1])
    assert not is_loopback("192.168.1.20")


# where it is kept -----------------------------------------------------------------------------------------------------


def test_a_token_is_read_from_a_file_or_a_variable(tmp_path, monkeypatch):
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    monkeypatch.setenv("BOARD_TOKEN", TOKEN.decode())
    assert token_of(tmp_path / "token", None) == token_of(None, "BOARD_TOKEN") == TOKEN
    assert token_of(None, None) is None


@pytest.mark.parametrize("content", [None, b"", b"\n", b"x" * (LEAST - 1), b"  short  "])
def test_a_token_that_is_missing_or_short_is_refused_and_not_shown(tmp_path, content, monkeypatch):
    monkeypatch.delenv("BOARD_TOKEN", raising=False)
    if content is not None:
        (tmp_path / "token").write_bytes(content)
        monkeypatch.setenv("BOARD_TOKEN", content.decode())
    for file, variable in ((tmp_path / "token", None), (None, "BOARD_TOKEN")):
        with pytest.raises(UsageError, match="nothing was opened") as caught:
            token_of(file, variable)
        assert "short  " not in str(caught.value)
    with pytest.raises(UsageError, match="twice"):
        token_of(tmp_path / "token", "BOARD_TOKEN")
