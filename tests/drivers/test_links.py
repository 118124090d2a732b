"""Byte streams of every kind: whole, in time, and in words when the other end is wrong, silent or gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from tabletop import DIE, change, on_the_table, put
from workbench import forming_plan

import rramlab
from rramlab.base.errors import InstrumentError, Refused, UsageError
from rramlab.drivers.links import LinkLost, SerialLink, TcpLink, open_link
from rramlab.drivers.visa import VisaLink
from rramlab.drivers.wire.client import WireController

posix = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are of POSIX systems")
SHORT_S, LONG_S = 0.03, 0.25


class Peer:
    """The other end of a TCP connection."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._end = None

    def accept(self):
        self._end, _ = self._listener.accept()

    def say(self, data):
        self._end.sendall(data)

    def hear(self, count):
        found = b""
        while len(found) < count:
            found += self._end.recv(count - len(found))
        return found

    def leave(self):
        if self._end is not None:
            self._end.close()
        self._listener.close()


class Terminal:
    """The other end of a pseudo-terminal."""

    def __init__(self):
        import pty
        import tty

        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        self.path = os.ttyname(self._theirs)

    def accept(self):
        """A terminal is there already."""

    def say(self, data):
        os.write(self._ours, data)

    def hear(self, count):
        found = b""
        while len(found) < count:
            found += os.read(self._ours, count - len(found))
        return found

    def leave(self):
        for end in (self._ours, self._theirs):
            os.close(end)


# How an address is spelt, what is behind it, and which class opens it.
KINDS = {
    "tcp://127.0.0.1:{port}": (Peer, TcpLink),
    "TCPIP0::127.0.0.1::{port}::SOCKET": (Peer, TcpLink),
    "TCPIP::127.0.0.1::{port}::SOCKET@py": (Peer, VisaLink),
    "socket://127.0.0.1:{port}": (Peer, SerialLink),
    "{path}": (Terminal, SerialLink),
    "ASRL{path}::INSTR": (Terminal, VisaLink),
}
VISA_SOCKET = "TCPIP::127.0.0.1::{port}::SOCKET@py"
SLOW_TO_CLOSE = "socket://127.0.0.1:{port}"  # pyserial waits 0.3 s: it is left out where it would show nothing new
everywhere = pytest.mark.parametrize("spelling", KINDS)
most = pytest.mark.parametrize("spelling", [each for each in KINDS if each != SLOW_TO_CLOSE])


@contextmanager
def joined(spelling):
    """An open link and what it is joined to."""
    if KINDS[spelling][0] is Terminal and os.name != "posix":
        pytest.skip("pseudo-terminals are of POSIX systems")
    peer = KINDS[spelling][0]()
    link = open_link(spelling.format(**vars(peer)), 9600, b"\n")
    try:
        peer.accept()
        yield link, peer
    finally:
        link.close()
        peer.leave()


def soon(seconds=5.0):
    return time.monotonic() + seconds


def read_all(link, count):
    found, deadline = b"", soon()
    while len(found) < count and time.monotonic() < deadline:
        found += link.read(deadline)
    return found


# what every link promises ---------------------------------------------------------------------------------------------


@most
def test_an_address_says_how_it_is_opened(spelling):
    with joined(spelling) as (link, peer):
        assert type(link) is KINDS[spelling][1]
        assert link.name == spelling.format(**vars(peer))


@everywhere
def test_bytes_pass_whole_and_in_order_both_ways(spelling):
    data = bytes(range(256)) * 3 + b"the end\n"
    with joined(spelling) as (link, peer):
        link.write(data, soon())
        assert peer.hear(len(data)) == data
        peer.say(data)
        assert read_all(link, len(data)) == data
        assert link.read(soon(SHORT_S)) == b""


@everywhere
def test_a_read_waits_until_its_deadline_and_not_much_longer(spelling):
    """Compared with one another: a wait ten times as long takes longer, and neither comes back early."""
    with joined(spelling) as (link, _):
        took = []
        for wait in (SHORT_S, LONG_S, SHORT_S, LONG_S):
            began = time.monotonic()
            assert link.read(began + wait) == b""
            took.append(time.monotonic() - began)
            assert took[-1] >= wait * 0.9
        assert min(took[0], took[2]) < min(took[1], took[3])


@most
def test_what_comes_ends_the_wait(spelling):
    with joined(spelling) as (link, peer):
        late = threading.Timer(SHORT_S, peer.say, [b"late\n"])
        late.start()
        deadline = soon(60)
        assert link.read(deadline)
        assert time.monotonic() < deadline
        late.join()


@most
def test_a_deadline_that_has_passed_takes_what_is_there_and_does_not_wait(spelling):
    with joined(spelling) as (link, peer):
        began = time.monotonic()
        for _ in range(20):
            assert link.read(0.0) == b""
        twenty = time.monotonic() - began
        link.read(soon(LONG_S))
        assert twenty < time.monotonic() - began - twenty
        peer.say(b"here\n")
        found, deadline = b"", soon()
        while len(found) < 5 and time.monotonic() < deadline:
            found += link.read(0.0)
        assert found == b"here\n"


@pytest.mark.parametrize("spelling", [each for each in KINDS if each != VISA_SOCKET])
def test_an_instrument_that_takes_no_bytes_is_not_waited_for_longer_than_the_deadline(spelling):
    with joined(spelling) as (link, _):
        with pytest.raises(InstrumentError, match="takes no more bytes") as caught:
            link.write(bytes(50_000_000 if "127" in spelling else 200_000), soon(SHORT_S * 4))
        assert not isinstance(caught.value, LinkLost)
        assert link.name in str(caught.value)
        assert "handshake" in str(caught.value)


@pytest.mark.parametrize("spelling", [each for each in KINDS if each != VISA_SOCKET])
def test_an_end_that_is_gone_is_noticed_before_the_deadline(spelling):
    with joined(spelling) as (link, peer):
        peer.leave()
        peer.leave = lambda: None
        deadline = soon(60)
        with pytest.raises(LinkLost) as caught:
            link.read(deadline)
        assert time.monotonic() < deadline
        assert link.name in str(caught.value)
        assert "Check power and cable" in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pyserial's socket:// forgets its own
@everywhere
def test_writing_to_an_end_that_is_gone_says_so(spelling):
    with joined(spelling) as (link, peer):
        peer.leave()
        peer.leave = lambda: None

        def write():
            deadline = soon(10)
            while time.monotonic() < deadline:  # the first bytes may still be taken
                link.write(b"hello\n", soon(1))
                time.sleep(0.01)

        with pytest.raises(LinkLost, match="is lost"):
            write()


@everywhere
def test_a_link_is_closed_once_or_twice_and_says_so_afterwards(spelling):
    with joined(spelling) as (link, _):
        link.close()
        link.close()
        with pytest.raises(LinkLost):
            link.read(soon(SHORT_S))
        with pytest.raises(LinkLost):
            link.write(b"x", soon(SHORT_S))


@pytest.mark.parametrize("spelling", ["TCPIP::127.0.0.1::{port}::SOCKET@py", "ASRL{path}::INSTR"])
@posix
def test_closing_one_visa_link_leaves_the_others(spelling):
    with joined(spelling) as (first, _), joined(VISA_SOCKET) as (second, peer):
        first.close()
        peer.say(b"still here\n")
        assert read_all(second, 11) == b"still here\n"
        second.write(b"and I\n", soon())
        assert peer.hear(6) == b"and I\n"


def test_a_loop_answers_itself():
    link = open_link("loop://", 9600, b"\n")
    link.write(b"hello", soon())
    assert read_all(link, 5) == b"hello"
    link.close()


# wrong addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "tcp://192.168.1.20",
        "tcp://:5025",
        "tcp://host:",
        "tcp://host:port",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://",
    ],
)
def test_a_misspelt_tcp_address_shows_how_it_is_spelt(address):
    with pytest.raises(UsageError, match=r"expected tcp://HOST:PORT such as tcp://192") as caught:
        open_link(address, 9600, b"\n")
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("address", ["http://192.168.1.20:5025", "TCP://192.168.1.20:5025", "spam://x"])
def test_an_unknown_kind_of_address_lists_the_kinds(address):
    with pytest.raises(UsageError, match=r"tcp://HOST:PORT, a VISA resource .*, or a serial port") as caught:
        open_link(address, 9600, b"\n")
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("address", ["192.168.1.20:5025", "simulated", "/dev/no-such-port", "COM77", "/dev/null"])
def test_a_serial_port_that_is_none_says_what_to_try(address):
    with pytest.raises(InstrumentError) as caught:
        open_link(address, 9600, b"\n")
    said = str(caught.value)
    for words in (repr(address), "9,600 baud", "nothing was sent", "bench discover", "dialout", "tcp://HOST:PORT"):
        assert words in said


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:{}", "TCPIP::127.0.0.1::{}::SOCKET", "tcp://[::1]:{}", "socket://127.0.0.1:{}"]
)
def test_a_port_at_which_nobody_listens_says_what_to_try(address):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = address.format(listener.getsockname()[1])
    with pytest.raises(InstrumentError, match="nothing was sent") as caught:
        open_link(address, 9600, b"\n")
    assert address in str(caught.value)
    assert "heck that the instrument is switched on" in str(caught.value) or "bench discover" in str(caught.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "..", "a" * 80, "bad host"])
def test_a_host_that_cannot_be_found_says_so(host, monkeypatch):
    def unknown(address, *_):
        address[0].encode("idna")
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "create_connection", unknown)  # no test asks a name server
    with pytest.raises(InstrumentError, match="cannot be reached"):
        open_link(f"tcp://{host}:5025", 9600, b"\n")


@pytest.mark.parametrize(
    "address", ["TCPIP::::1::SOCKET", "ASRL/dev/no-such-port::INSTR", "USB0::1::2::X::INSTR", "GPIB0::24", "PXI0"]
)
def test_a_visa_resource_that_cannot_be_opened_says_what_to_try(address):
    with pytest.raises(InstrumentError, match=r"nothing was sent.*bench discover; check address, power") as caught:
        open_link(address, 9600, b"\n")
    assert repr(address) in str(caught.value)


def test_a_visa_library_that_is_not_there_is_named():
    with pytest.raises(InstrumentError, match="no-such-library"):
        open_link("TCPIP::127.0.0.1::5025::SOCKET@no-such-library", 9600, b"\n")


# controllers over them ------------------------------------------------------------------------------------------------


@posix
def test_a_board_is_worked_with_as_a_visa_serial_port(tmp_path):
    with on_the_table(put(tmp_path / "board"), terminal=True) as table:
        host = table.host(tmp_path / "host", by_terminal=True)
        change(host, (table.served.terminal, f"ASRL{table.served.terminal}::INSTR"))
        with rramlab.open_bench(host) as session:
            assert session.run(forming_plan("rows 0-3"), arm=DIE).pulses == 64
        assert table.board.die.state.pulses.sum() == 64


@posix
@pytest.mark.parametrize("noise", [b"\x00\xf8\x1e\x00\x80\x00", b"\xe6\x98\x00\x7e\x66"])
def test_a_wrong_baud_rate_shows_as_damage_and_is_named_as_a_cause(noise):
    """A pseudo-terminal has no speed; what a wrong one makes of frames is garbage."""
    terminal = Terminal()
    heard = threading.Event()

    def garble():
        while not heard.is_set():
            os.read(terminal._ours, 4096)
            terminal.say(noise)

    babble = threading.Thread(target=garble, daemon=True)
    babble.start()
    with pytest.raises(InstrumentError) as caught:
        WireController(lambda: open_link(terminal.path, 9600, b"\0"))
    heard.set()
    os.write(terminal._theirs, b"x")  # so that it looks up
    babble.join(5)
    terminal.leave()
    said = str(caught.value)
    assert "baud rate" in said
    assert "damaged" in said
    assert terminal.path in said
    assert "HELLO" in said


def test_a_visa_backend_is_no_module_of_the_working_folder(tmp_path, monkeypatch):
    """``RESOURCE@NAME`` imports pyvisa_NAME: an address in a bench file must not execute what lies beside it."""
    (tmp_path / "pyvisa_sent_along.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Refused, match=r"address 'GPIB0::1::INSTR@sent_along' names the module 'pyvisa_sent_along'"):
        open_link("GPIB0::1::INSTR@sent_along", 9600, b"\n")
    assert not (tmp_path / "ran").exists()
