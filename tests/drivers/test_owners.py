"""Who has a bench, a die, a board, a port: one process at a time, whatever folder, spelling or deleted file."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tabletop import DIE, change, on_the_table, put, smu
from test_links import Terminal
from workbench import SmallBench, child, forming_plan, hidden, ledger_of, plain_plan, pulse_step

import rramlab
from rramlab.base.errors import BenchLocked, DataError, InstrumentError
from rramlab.base.host import STATE
from rramlab.drivers.addresses import places
from rramlab.drivers.bench import Bench, describe_bench
from rramlab.drivers.links import open_link
from rramlab.drivers.lock import BenchLock, HostLock, Ownership
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.sim import bank

posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX systems")

# Opens the bench, says so, and goes on when it is told to: forms, and says what came of it.
HOLD = """
import sys
sys.path.insert(0, ".")
import rramlab
from rramlab.base.errors import RramlabError
from workbench import forming_plan
with rramlab.open_bench(sys.argv[1]) as session:
    print("open", flush=True)
    sys.stdin.readline()
    try:
        print(session.run(forming_plan("rows 0-3"), arm="small-1").pulses, flush=True)
    except RramlabError as error:
        print(type(error).__name__, error, flush=True)
"""


def holder(folder):
    """A process that has the bench in ``folder``."""
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout.readline() == "open\n", process.stderr.read()
    return process


def end(process):
    process.kill()
    process.communicate()


# a lock that is deleted -----------------------------------------------------------------------------------------------


def test_a_lock_that_is_deleted_makes_no_second_owner(small_bench):
    """The second finds the die taken; the first stops before it sends anything more."""
    first = holder(small_bench.folder)
    try:
        (small_bench.folder / "data" / "bench.lock").unlink()
        (small_bench.folder / "data" / "bench.holder.json").unlink()
        with pytest.raises(BenchLocked, match=rf"die 'small-1' .* process {first.pid}\b"), small_bench.open():
            pass
        said, _ = first.communicate("go on\n", timeout=60)
    finally:
        end(first)
    assert said.startswith("BenchLocked")
    assert "deleted or replaced" in said
    with small_bench.open() as session:
        assert not hidden(session).pulses.any()
        assert not ledger_of(session).dangling()


@pytest.mark.parametrize("operation", ["pulse", "read", "single read"])
def test_a_holder_looks_at_its_lock_before_everything_that_energises(small_bench, operation):
    with small_bench.open() as session:
        session.run(forming_plan("rows 0-3"), arm=DIE)
        lock = small_bench.folder / "data" / "bench.lock"
        lock.rename(lock.with_name("moved"))
        lock.touch()  # another's
        before = hidden(session).pulses.copy(), hidden(session).conversions
        do = {
            "pulse": lambda: session.run(plain_plan(pulse_step("rows 4-5")), arm=DIE),
            "read": lambda: session.run(Plan(name="r", steps=(ReadStep(),))),
            "single read": lambda: session.macro.read("row 0"),
        }[operation]
        with pytest.raises(BenchLocked, match="deleted or replaced"):
            do()
        assert (hidden(session).pulses == before[0]).all()
        assert hidden(session).conversions == before[1]
        assert not ledger_of(session).dangling()


def test_a_holder_that_lost_its_lock_leaves_the_name_of_the_next_alone(tmp_path):
    first, second = BenchLock(tmp_path), BenchLock(tmp_path)
    first.acquire()
    first.path.unlink()
    second.acquire()
    first.release()
    assert second.holder()["pid"] == os.getpid()
    assert (tmp_path / "bench.holder.json").exists()
    second.release()


def test_a_lock_can_be_let_go_of_in_another_thread(small_bench):
    session = small_bench.open()
    session.__enter__()
    worker = threading.Thread(target=session.close)
    worker.start()
    worker.join()
    with small_bench.open():
        pass


# one thing, several ways to it ---------------------------------------------------------------------------------------


@posix
def test_a_data_folder_has_one_owner_by_whatever_path(tmp_path):
    """A link to the folder, a ``..`` in bench.yaml, a link to the dies alone: one die, one owner."""
    first = SmallBench(tmp_path / "first").write()
    with first.open():
        pass
    others = []
    for name in ("linked", "dotted", "dies"):
        other = SmallBench(tmp_path / name).write()
        others.append(other)
        if name == "linked":
            (other.folder / "data").symlink_to(first.folder / "data")
        elif name == "dies":
            (other.folder / "data").mkdir()
            (other.folder / "data" / "dies").symlink_to(first.folder / "data" / "dies")
        else:
            path = other.folder / "bench.yaml"
            path.write_text(path.read_text().replace("data: data", "data: ../dotted/../first/data"))
    with first.open() as session:
        for other in others:
            with pytest.raises(BenchLocked, match=str(os.getpid())), other.open():
                pass
        session.macro.read("row 0")
    for other in others:
        with other.open():
            pass


def test_a_copy_of_a_bench_is_another_bench(tmp_path):
    import shutil

    first = SmallBench(tmp_path / "first").write()
    with first.open():
        pass
    shutil.copytree(first.folder, tmp_path / "second")
    with first.open(), Bench(describe_bench(tmp_path / "second")):  # that its ledger is a copy, the ledger says
        pass


@pytest.mark.parametrize("deed", ["age", "serve"])
def test_whoever_changes_a_simulated_die_owns_it(tmp_path, deed):
    first = SmallBench(tmp_path / "first").write()
    with first.open():
        (tmp_path / "first" / "data" / "bench.lock").unlink()
        description = describe_bench(tmp_path / "first")
        do = {"age": lambda: bank.age(description, DIE, 1.0), "serve": description.ownership.acquire}[deed]
        with pytest.raises(BenchLocked, match="die 'small-1'"):
            do()


SAME = [
    ["tcp://127.0.0.1:5025", "TCPIP::127.0.0.1::5025::SOCKET", "TCPIP0::127.0.0.1::5025::SOCKET@py"],
    ["tcp://[::1]:5025", "socket://[::1]:5025"],
    ["TCPIP::127.0.0.1::INSTR", "TCPIP0::127.0.0.1::inst0::INSTR", "TCPIP0::127.0.0.1::inst0::INSTR@ivi"],
    ["GPIB0::24", "GPIB::24::INSTR", "GPIB0::24::INSTR@ivi"],
    ["USB0::0x2A8D::0x9501::MY1::INSTR", "USB0::10893::38145::MY1::0::INSTR"],
]


@pytest.mark.parametrize("spellings", SAME)
def test_an_address_leads_to_the_same_however_it_is_spelt(spellings):
    assert len({tuple(places(each)) for each in spellings}) == 1
    assert len(places(spellings[0])) == 1


def test_a_name_of_a_host_leads_to_its_addresses():
    assert set(places("tcp://localhost:5025")) & set(places("tcp://127.0.0.1:5025"))


@posix
def test_a_link_to_a_port_leads_to_the_port(tmp_path):
    (tmp_path / "port").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "port")
    assert (
        places(str(tmp_path / "by-id")) == places(f"ASRL{tmp_path / 'port'}::INSTR") == places(str(tmp_path / "port"))
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp://127.0.0.1:5025", "tcp://127.0.0.1:5026"),
        ("tcp://127.0.0.1:5025", "tcp://127.0.0.2:5025"),
        ("GPIB0::24", "GPIB1::24"),
        ("/dev/ttyUSB0", "/dev/ttyUSB1"),
    ],
)
def test_what_is_not_the_same_is_not_taken_for_it(one, other):
    assert not set(places(one)) & set(places(other))


def test_what_nobody_else_can_reach_belongs_to_nobody():
    assert places("loop://") == places("replay:some.log#link") == []


# one board, one unit -------------------------------------------------------------------------------------------------


def test_a_board_has_one_owner_on_this_computer_whatever_the_bench_folder(tmp_path):
    """The second is told who works with it, and the run of the first goes on."""
    with on_the_table(put(tmp_path / "board")) as table:
        first = holder(table.host(tmp_path / "first"))
        try:
            second = table.host(tmp_path / "second")
            taken = pytest.raises(BenchLocked, match=rf"board 'SIM-0009' is held by process {first.pid}\b")
            with taken as caught, Bench(describe_bench(second)):
                pass
            assert "nothing was energised" in str(caught.value)
            assert str(tmp_path / "first") in str(caught.value)
            said, _ = first.communicate("go on\n", timeout=60)
        finally:
            end(first)
        assert said == "64\n"
        with Bench(describe_bench(second)):
            pass


def test_an_address_has_one_owner_whatever_board_the_file_names(tmp_path):
    with on_the_table(put(tmp_path / "board")) as table:
        first, second = table.host(tmp_path / "first"), table.host(tmp_path / "second")
        change(second, ("board: SIM-0009", "board: OTHER-1"), ("127.0.0.1", "localhost"))
        with rramlab.open_bench(first) as session:
            with pytest.raises(BenchLocked, match=r"localhost.*held by"), Bench(describe_bench(second)):
                pass
            assert session.run(forming_plan("rows 0-3"), arm=DIE).pulses == 64
        with pytest.raises(InstrumentError, match=r"'SIM-0009'.*'OTHER-1'"), Bench(describe_bench(second)):
            pass


def test_a_board_is_free_again_when_its_owner_was_killed(tmp_path):
    with on_the_table(put(tmp_path / "board")) as table:
        first = holder(table.host(tmp_path / "first"))
        end(first)
        with rramlab.open_bench(table.host(tmp_path / "second")):
            pass


def alone(table, folder, board):
    """The bench of a host with a unit of the table, whose board is another: the unit is all that is shared."""
    host = table.host(folder)
    change(host, (table.served.tcp, board.served.tcp))
    return change(host, ("board: SIM-0009", f"board: {board.description.file.controller.board}"))


def test_a_unit_has_one_owner(tmp_path):
    with (
        on_the_table(put(tmp_path / "a", smu("left", serial='"12345"'))) as table,
        on_the_table(change(put(tmp_path / "b"), ("SIM-0009", "SIM-0010"))) as other,
    ):
        first, second = table.host(tmp_path / "first"), alone(table, tmp_path / "second", other)
        taken = pytest.raises(BenchLocked, match=r"tcp://.*held by")
        with rramlab.open_bench(first), taken, Bench(describe_bench(second)):
            pass
        with Bench(describe_bench(second)):
            pass


def test_a_unit_has_one_owner_even_behind_two_addresses(tmp_path):
    """An instrument has several doors; who it is, it says itself. It is told nothing that changes it."""
    with (
        on_the_table(put(tmp_path / "a", smu("left"))) as table,
        on_the_table(change(put(tmp_path / "b", smu("left")), ("SIM-0009", "SIM-0010"))) as twin,
    ):
        first, second = table.host(tmp_path / "first"), twin.host(tmp_path / "second")
        taken = pytest.raises(BenchLocked, match=r"SMU 'left'.*held by")
        with rramlab.open_bench(first), taken, Bench(describe_bench(second)):  # emulated units of one name are one unit
            pass
        with Bench(describe_bench(second)):
            pass


def test_two_channels_of_an_instrument_share_its_address(tmp_path):
    with on_the_table(put(tmp_path / "board", smu("left"))) as table:
        host = table.host(tmp_path / "host")
        path = host / "bench.yaml"
        (line,) = (line for line in path.read_text().splitlines() if "name: left" in line)
        path.write_text(path.read_text().replace(line, f"{line}\n{line.replace('left', 'right')}"))
        with Bench(describe_bench(host)) as bench:
            assert sorted(bench.smus) == ["left", "right"]
            bench.safe_state()


@posix
def test_a_serial_port_is_one_programs_alone():
    terminal = Terminal()
    first = open_link(terminal.path, 9600, b"\n")
    try:
        for spelling in (terminal.path, f"ASRL{terminal.path}::INSTR"):
            with pytest.raises(BenchLocked, match=rf"{terminal.path}.*in use by process {os.getpid()}"):
                open_link(spelling, 9600, b"\n")
        first.write(b"still mine\n", time.monotonic() + 1)
        assert terminal.hear(11) == b"still mine\n"
        first.close()
        visa = open_link(f"ASRL{terminal.path}::INSTR", 9600, b"\n")
        with pytest.raises(BenchLocked, match="in use"):
            open_link(terminal.path, 9600, b"\n")
        visa.close()
        open_link(terminal.path, 9600, b"\n").close()
    finally:
        first.close()
        terminal.leave()


def test_a_list_of_ports_says_which_are_in_use(tmp_path, monkeypatch):
    """Looking opens nothing: whoever works with a port goes on."""
    from types import SimpleNamespace

    from serial.tools import list_ports

    from rramlab.drivers.discover import held, serial_ports

    monkeypatch.setattr(
        list_ports, "comports", lambda: [SimpleNamespace(device=str(tmp_path / "ttyUSB0"), description="")]
    )
    (address,) = (port["address"] for port in serial_ports())
    assert list(held([address])) == []
    lock = HostLock("links", places(address)[0], address)
    lock.acquire()
    (said,) = held([address, "tcp://127.0.0.1:1"])
    assert str(os.getpid()) in said
    assert address in said
    lock.release()


# processes -----------------------------------------------------------------------------------------------------------

ORPHAN = """
import os, sys, time
import rramlab
with rramlab.open_bench(sys.argv[1]) as session:
    if not os.fork():
        time.sleep(60)
        os._exit(0)
    print("forked", flush=True)
    os.kill(os.getpid(), 9)
"""


@posix
def test_a_worker_that_outlives_its_parent_does_not_hold_the_bench(small_bench):
    process = child(ORPHAN, small_bench.folder)
    assert process.stdout.readline() == "forked\n"
    process.wait(30)
    with small_bench.open():
        pass
    process.stdout.close()
    process.stderr.close()


def test_a_state_folder_that_cannot_be_made_is_named_with_what_to_do(small_bench, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(STATE, str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match=f"{STATE}"), small_bench.open():
        pass
    monkeypatch.undo()
    with small_bench.open():
        pass


@pytest.mark.parametrize("key", ["../../evil", "a/b", "x" * 400, "NUL:", "ä µ\n", "", "."])
def test_whatever_a_serial_number_is_its_lock_is_a_file_in_its_folder(key, tmp_path, monkeypatch):
    monkeypatch.setenv(STATE, str(tmp_path))
    lock = HostLock("boards", key, "board")
    lock.acquire()
    assert lock.path.parent == tmp_path / "boards"
    assert lock.path.exists()
    other = HostLock("boards", key + "x", "board")
    other.acquire()
    other.release()
    lock.release()


def test_of_an_ownership_all_or_nothing_is_taken(tmp_path):
    last = Ownership(tmp_path / "other", ["b"], "B-1")
    last.acquire()
    mine = Ownership(tmp_path / "data", ["a"], "B-1")
    with pytest.raises(BenchLocked, match="board 'B-1'"):
        mine.acquire()
    assert mine.holder()["pid"] == os.getpid()  # of the board
    last.release()
    assert mine.holder() is None
    with mine:
        mine.check()


@posix
def test_the_signal_that_kills_a_holder_frees_all_that_it_had(small_bench):
    process = holder(small_bench.folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert describe_bench(small_bench.folder).ownership.holder() is None
