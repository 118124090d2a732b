"""Lossy links, boards that are busy, silent, gone or rebooted: pulses happen once, answers are whole."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest
from emulated import BAUD, KINDS, cells, first_rows, pulse, read_all, read_code, row_pace, same, served, simulated

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import History
from rramlab.drivers.links import LinkLost, open_link
from rramlab.drivers.wire import exchange
from rramlab.drivers.wire.client import WireController
from rramlab.macro.cells import CellSelection
from rramlab.macro.routes import RoutedCell, RoutedReference
from rramlab.sim.emulator.faults import WireFaults

QUIET = {"noise": {"read": 0.0}}  # a read that is repeated gives the same codes
LOSSY = {
    "1 % of all": WireFaults.everywhere(0.01, seed=1),
    "5 % of all": WireFaults.everywhere(0.05, seed=2),
    "20 % of all": WireFaults.everywhere(0.20, seed=3),
    "drop": WireFaults(drop=0.2, seed=4),
    "damage": WireFaults(damage=0.2, seed=5),
    "duplicate": WireFaults(duplicate=0.5, seed=6),
    "late": WireFaults(late=0.1, seed=7),
    "split": WireFaults(split=0.5, seed=8),
}


# faults of the line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", LOSSY.values(), ids=LOSSY)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_work_over_a_lossy_line_is_the_work_in_process(small_table, faults, kind):
    """Every pulse once, every pattern as it was loaded, every read and product whole."""

    def work(controller):
        found = []
        for op_id in range(1, 9):
            region = f"rows {4 * op_id - 4}-{4 * op_id - 1}"
            found.append(pulse(controller, small_table, op_id, region).done.bits)
            found.append(controller.history(op_id).bits)
        controller.acknowledge(4)
        assert controller.history(4) is History.FORGOTTEN
        found.append(controller.history(5).bits)
        for rows in (3, 9, 5):
            controller.load_gates(0, *first_rows(small_table, rows))
            sums = controller.multiply(np.full((30, rows), 5, np.uint8), 3, 0, np.arange(16))
            found += [sums.codes, sums.saturated, np.array(sums.conversions)]
        found.append(read_all(controller, small_table, 3))
        controller.safe_state()
        return found

    behind, twin = (simulated(small_table, figures=QUIET) for _ in range(2))
    with served(behind, faults) as board:
        found = work(board.host(kind))
    assert same(found, work(twin))
    assert np.array_equal(behind.die.state.pulses, np.ones(small_table.geometry.shape))
    assert np.array_equal(behind.die.state.conductance_S, twin.die.state.conductance_S)


def test_long_reads_in_many_frames_are_whole_and_in_order(small_table):
    """Some thirty answers, eight asked for at once, every tenth lost: each row's codes are in its place."""
    behind, twin = (simulated(small_table, figures=QUIET) for _ in range(2))
    for controller in (behind, twin):
        pulse(controller, small_table, 1, "checkerboard")
    with served(behind, WireFaults.everywhere(0.1, seed=9)) as board:
        host = board.host()
        found = host.read(cells("all", small_table), 900, read_code(small_table))
        assert host.resent > 0
    assert np.array_equal(found[0], read_all(twin, small_table)[0])
    assert np.array_equal(found[899], found[0])


def test_copies_that_come_late_load_nothing(small_table):
    """Each frame comes twice, the second often after the next request: the newest pattern stays."""
    behind = simulated(small_table)
    with served(behind, WireFaults(duplicate=1.0, seed=1)) as board:
        host = board.host()
        for rows in (2, 7, 4, 11, 3):
            host.load_gates(0, *first_rows(small_table, rows))
            host.route(RoutedReference(0), 0)
            host.route(None, 0)
            time.sleep(0.05)
            assert behind.load is None
            assert host.multiply(np.ones((1, rows), np.uint8), 1, 0, np.arange(16)).codes.shape == (1, 16)
        time.sleep(0.35)  # beyond the latest copy
        assert host.multiply(np.ones((1, 3), np.uint8), 1, 0, np.arange(16)).codes.shape == (1, 16)
        assert behind.load is None


def test_a_pulse_that_comes_twice_while_it_takes_its_time_is_pulsed_once(small_table):
    behind = simulated(small_table)
    with served(behind, WireFaults(duplicate=1.0, seed=2), row_pace(small_table, 0.02)) as board:
        host = board.host()
        for op_id, region in ((1, "rows 0-9"), (2, "rows 10-19")):
            assert pulse(host, small_table, op_id, region).done == cells(region, small_table)
        assert host.history(1) == cells("rows 0-9", small_table)
        status = host.status()
    assert np.array_equal(behind.die.state.pulses, cells("rows 0-19", small_table).bits)
    assert status.errors == ()


@pytest.mark.parametrize(
    "faults", [WireFaults(drop=0.3, seed=3), WireFaults.everywhere(0.3, seed=4)], ids=["drop", "all"]
)
def test_a_slow_pulse_over_a_lossy_line_is_pulsed_once(small_table, faults):
    behind = simulated(small_table)
    with served(behind, faults, row_pace(small_table, 0.02)) as board:
        host = board.host()
        for op_id, region in ((1, "rows 0-11"), (2, "rows 12-23")):
            assert pulse(host, small_table, op_id, region).done == cells(region, small_table)
    assert np.array_equal(behind.die.state.pulses, cells("rows 0-23", small_table).bits)


def test_a_slow_link_is_no_loss(small_table):
    """6 kB at 20 kB/s, under heartbeats: nothing is asked twice."""
    behind = simulated(small_table, figures=QUIET)
    with served(behind, bytes_per_s=20_000) as board:
        host = board.host()
        found = host.read(cells("all", small_table), 6, read_code(small_table))
        assert host.resent == 0
    assert np.array_equal(found[5], found[0])


# busy boards ----------------------------------------------------------------------------------------------------------


def test_a_second_host_waits_for_a_board_in_flight(small_table):
    """It may say hello at once; history and reads wait until the operation is over, and then say all of it."""
    behind = simulated(small_table)
    with served(behind, pace=row_pace(small_table, 0.03)) as board:
        first = board.host()
        begun = threading.Event()
        worker = threading.Thread(
            target=pulse, args=(first, small_table, 1, "rows 0-19", "electroform", None, begun.set)
        )
        worker.start()
        assert begun.wait(5)
        second = board.host()
        assert second.hello().board_serial == "B-1"
        assert second.status().live
        assert behind.history(1) != cells("rows 0-19", small_table)  # it is still in flight
        assert second.history(1) == cells("rows 0-19", small_table)
        assert read_all(second, small_table).shape == (1, 512)
        worker.join()


def test_a_board_may_be_busy_for_longer_than_a_host_is_patient_with_silence(small_table, monkeypatch):
    """Busy is an answer: patience is for silence alone. A host waits through operations of any length."""
    monkeypatch.setattr(exchange, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(exchange, "_BEAT_S", 0.01)
    monkeypatch.setattr(exchange, "_FIRST_BEAT_S", 0.01)
    behind = simulated(small_table)
    with served(behind, pace=row_pace(small_table, 0.1)) as board:
        first = board.host()
        begun = threading.Event()
        worker = threading.Thread(
            target=pulse, args=(first, small_table, 1, "rows 0-19", "electroform", None, begun.set)
        )
        worker.start()
        assert begun.wait(5)
        try:
            assert board.host().history(1) == cells("rows 0-19", small_table)
        finally:
            worker.join()


# boards that are silent or gone ---------------------------------------------------------------------------------------


def test_a_silent_board_is_given_up_in_words(small_table, monkeypatch):
    monkeypatch.setattr(exchange, "_PATIENCE_S", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(InstrumentError, match=r"has said nothing for .* HELLO was sent") as silence:
            WireController(lambda: open_link(address, BAUD, b"\0"))
    assert address in str(silence.value)
    assert "0 good" in str(silence.value)


def test_what_is_no_board_is_said_to_be_none(small_table):
    """An instrument that answers with its own texts: never understood, never taken for a board."""

    def chatter():
        connection = listener.accept()[0]
        with connection, contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                connection.sendall(b"KEITHLEY INSTRUMENTS,MODEL 2450\n\0" * 3)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=chatter)
        thread.start()
        try:
            with pytest.raises(InstrumentError, match=r"damaged"):
                WireController(lambda: open_link(f"tcp://127.0.0.1:{listener.getsockname()[1]}", BAUD, b"\0"))
        finally:
            thread.join(10)


# pyserial leaves a socket to the garbage collector that was closed at its other end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_board_that_is_gone_is_a_lost_link(small_table, kind):
    behind = simulated(small_table)
    with served(behind) as board:
        host = board.host(kind)
        pulse(host, small_table, 1, "row 0")
        board.switch_off()
        with pytest.raises(LinkLost, match=r"lost .*[Cc]heck power and cable"):
            host.status()


class Cut:
    """A link that is lost when the test says so."""

    def __init__(self, link):
        self._link, self.name, self.lost = link, link.name, False

    def read(self, deadline):
        if self.lost:
            raise LinkLost(f"the link to {self.name} is lost")
        return self._link.read(deadline)

    def write(self, data, deadline):
        if self.lost:
            raise LinkLost(f"the link to {self.name} is lost")
        self._link.write(data, deadline)

    def close(self):
        self._link.close()


def cut_host(*boards):
    """A host whose links lead to ``boards`` in turn, and its list of links."""
    links = []

    def open_next():
        board = boards[min(len(links), len(boards) - 1)]
        links.append(Cut(open_link(board.addresses["tcp"], BAUD, b"\0")))
        return links[-1]

    host = WireController(open_next)
    for board in boards:
        board.hosts.append(host)
    return host, links


def test_safe_state_reaches_the_board_over_a_new_link(small_table):
    behind = simulated(small_table)
    with served(behind) as board:
        host, links = cut_host(board)
        host.route(RoutedCell(0, 0), 0)
        links[0].lost = True
        with pytest.raises(LinkLost):
            host.status()
        host.safe_state()
        assert behind.load is None
        assert len(links) == 2
        host.load_gates(0, *first_rows(small_table, 3))  # numbers went on: it is not stale


def test_safe_state_never_reaches_another_board(small_table):
    mine, other = simulated(small_table), simulated(small_table, serial="B-2")
    with served(mine) as board, served(other) as stranger:
        host, links = cut_host(board, stranger)
        other.route(RoutedReference(0), 0)
        links[0].lost = True
        with pytest.raises(InstrumentError, match=r"B-2.*B-1"):
            host.safe_state()
        assert other.load is not None


@pytest.mark.parametrize("kind", ["tcp", "visa", "serial url"])
def test_safe_state_comes_back_after_the_board_hung_up(small_table, kind):
    """Every link of the board is cut with the next frame; its lines must still be brought to 0 V."""
    behind = simulated(small_table)
    with served(behind) as board:
        host = board.host(kind)
        host.route(RoutedReference(0), 0)
        hang_up = threading.Event()
        for client in board.server._clients:

            def event(channel=client.channel):
                hang_up.set()
                return "disconnect"

            client.channel.event = event
        host.safe_state()
        assert hang_up.is_set()
        assert behind.load is None


# loss of power --------------------------------------------------------------------------------------------------------


def careful(host, table, op_id, region):
    """What a host does: ask again under the same id while history says that nothing or not all is done."""
    wanted = cells(region, table)
    for _ in range(50):
        known = host.history(op_id)
        if isinstance(known, CellSelection):
            return known
        try:
            return pulse(host, table, op_id, wanted).done
        except InstrumentError as error:
            assert "switched off" in str(error), error  # noqa: PT017  # anything else is a fault
            host.hello()
    raise AssertionError("never answered")


def test_boards_that_reboot_pulse_once_if_they_remember(small_table):
    behind = simulated(small_table)
    boots = behind.hello().boot_nonce
    with served(behind, WireFaults(reboot=0.05, seed=5)) as board:
        host = board.host()
        for op_id in range(1, 41):
            row = (op_id - 1) % 32
            half = "0-7" if op_id <= 32 else "8-15"
            region = f"row {row} & cols {half}"
            assert careful(host, small_table, op_id, region) == cells(region, small_table)
            host.acknowledge(op_id - 1)
    assert behind.hello().boot_nonce > boots
    expected = cells("cols 0-7", small_table).bits | cells("rows 0-7 & cols 8-15", small_table).bits
    assert np.array_equal(behind.die.state.pulses, expected)


def test_a_pulse_of_before_a_loss_of_memory_is_refused_however_late_it_comes(small_table):
    """A board without its memory of ids has the nonce alone to know a late copy by. The host does not ask again."""
    behind = simulated(small_table)
    refused = 0
    with served(behind, WireFaults(duplicate=0.7, amnesia=0.05, seed=6)) as board:
        host = board.host()
        for op_id in range(1, 33):
            try:
                pulse(host, small_table, op_id, f"row {op_id - 1}")
            except InstrumentError:
                refused += 1
                host.hello()
        time.sleep(0.35)  # beyond the latest copy
    assert behind.die.state.pulses.max() == 1
    assert refused
