"""Full disks, folders that cannot be written, clocks that jump, files that vanish: nothing is lost and no id is used twice."""

import ctypes
import json
import os
import shutil
import signal
import sqlite3
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner
from workbench import HostClock, SmallBench, child, forming_plan, hidden, ledger_of, plain_plan, pulse_step

from rramlab import open_bench
from rramlab.base import times
from rramlab.base.errors import BenchLocked, DataError, Refused, RramlabError
from rramlab.base.folders import shipped
from rramlab.cli.app import app
from rramlab.drivers import lock
from rramlab.engine import guard
from rramlab.plan.plan import Plan
from rramlab.runs import store
from rramlab.runs.store import find_run, list_runs

if os.name != "posix":
    pytest.skip("limits, permissions and signals of POSIX", allow_module_level=True)


DIE = "small-1"


@pytest.fixture
def bench(tmp_path):
    """A bench whose forming protocol intends and syncs every two rows."""
    made = SmallBench(tmp_path / "bench").write()
    (made.folder / "protocols").mkdir()
    text = (shipped().path / "protocols" / "electroform.yaml").read_text(encoding="utf-8")
    by_rows = text.replace("limits:\n", "block_rows: 2\nlimits:\n", 1)
    (made.folder / "protocols" / "electroform.yaml").write_text(by_rows, encoding="utf-8")
    return made


def rramlab(*words):
    """Give a command in this process; return exit code and what it said."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stderr


def form(bench):
    return rramlab("run", "electroform", "--arm", DIE, "--bench", bench.folder)


def works_again(bench):
    """Go on with what was begun, or begin; every cell of the region has one pulse, and the ledger knows it."""
    with bench.open() as session:
        begun = [run for run in list_runs(session.runs) if run.record["name"] == "electroform"]
        if begun:
            session.resume(begun[-1].id, arm=DIE)
        else:
            session.run("electroform", arm=DIE)
        pulses = hidden(session).pulses
        assert np.array_equal(pulses[:, 0::2] + pulses[:, 1::2], np.ones((32, 8)))
        assert np.array_equal(ledger_of(session).pulse_counts(), pulses)
        assert not ledger_of(session).dangling()
        assert not ledger_of(session).unknown().count
        ids = [entry.op_id for entry in ledger_of(session).history()]
        assert ids == sorted(set(ids))


# the disk ------------------------------------------------------------------------------------------------------


# The kernel refuses to write any file beyond so many bytes: what a full disk does, without filling one.
FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from rramlab.cli import main
main()
"""


# In KiB, on a bench that was used before: the copy in which the ledger is looked at; the write-ahead log of the ledger
# early and late in the run.
@pytest.mark.parametrize("size", [4, 60, 100])
def test_a_disk_that_is_full_is_said_in_words_and_loses_nothing(bench, size):
    assert rramlab("run", "contact", "--bench", bench.folder)[0] == 0
    full = child(FULL, size * 1024, "run", "electroform", "--arm", DIE, "--bench", bench.folder)
    _, said = full.communicate()
    assert full.returncode == 1
    assert "error: " in said
    assert "defect" not in said
    assert "Traceback" not in said
    with bench.open() as session:
        pulses = hidden(session).pulses
        assert np.all(pulses <= ledger_of(session).pulse_counts())  # what is intended counts until it is decided
        assert pulses.any() == (size > 4)
        assert not pulses.all()
    works_again(bench)
    assert not list(bench.folder.rglob("*.tmp"))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_ledger_that_cannot_be_written_says_what_it_means_for_the_die(bench, number, monkeypatch):
    """The disk is full at commit ``number`` of a session: of the contact test, an intent, its outcome, the next intent."""
    commits = []

    class Full(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement == "COMMIT":
                commits.append(statement)
                if len(commits) == number:
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Full))
    with bench.open() as session:
        with pytest.raises(DataError, match="is full") as caught:
            session.run("electroform", arm=DIE)
        assert "Make room" in str(caught.value)
        sent = "was sent, and what came of it" in str(caught.value)
        assert sent == (number == 3)
        assert ("nothing was sent" in str(caught.value)) == (not sent)
        assert hidden(session).pulses.any() == (number >= 3)
        assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
        assert len(ledger_of(session).dangling()) == sent
    works_again(bench)


class _Capabilities(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


@contextmanager
def without_privileges():
    """Be bound by permissions, also as root: Linux grants root its exceptions as capabilities, which are laid down."""
    if os.geteuid():
        yield
        return
    libc, header, sets = ctypes.CDLL(None), _Header(0x20080522, 0), (_Capabilities * 2)()
    if libc.capget(ctypes.byref(header), sets):
        pytest.skip("permissions do not bind root here")
    before = [each.effective for each in sets]
    try:
        for each in sets:
            each.effective = 0
        assert libc.capset(ctypes.byref(header), sets) == 0
        yield
    finally:
        for each, effective in zip(sets, before, strict=True):
            each.effective = effective
        assert libc.capset(ctypes.byref(header), sets) == 0


@contextmanager
def read_only(folder):
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with without_privileges():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.parametrize(
    ("where", "used"), [(".", False), ("data", True), ("data/runs", False), ("data/dies/small-1", True)]
)
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_energised(bench, where, used):
    folder = bench.folder / where
    if used:
        assert rramlab("run", "contact", "--bench", bench.folder)[0] == 0
    else:
        folder.mkdir(parents=True, exist_ok=True)
    with read_only(folder):
        code, said = form(bench)
    assert code == 1
    assert str(folder.resolve()) in said
    assert "permission" in said.lower() or "readonly" in said
    assert "restore" not in said  # nothing is damaged
    with bench.open() as session:
        assert not hidden(session).pulses.any()
        assert not ledger_of(session).history()
    works_again(bench)


# the clock -----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    return HostClock(monkeypatch)


RESET = Plan(name="reset", steps=(pulse_step("row 0", "reset", voltage=2.0),))


@pytest.mark.parametrize(("hours", "valid"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("set_by", [0, -0.5, -30, 30])
def test_a_contact_test_grows_old_whatever_the_clock_on_the_wall_says(bench, clock, hours, valid, set_by):
    with bench.open() as session:
        session.run("contact")
        clock.set_by(hours=set_by)
        clock.go_on(hours=hours)
        if valid:
            session.run(RESET, arm=DIE)
        else:
            with pytest.raises(Refused, match="contact"):
                session.run(RESET, arm=DIE)
        assert hidden(session).pulses.sum() == 16 * valid
        session.run("contact")
        session.run(RESET, arm=DIE)


@pytest.mark.parametrize(("hours", "valid"), [(0.99, True), (1.01, False), (-0.001, False)])
def test_a_contact_test_that_0_1_0_wrote_down_counts_by_the_clock_on_the_wall(bench, clock, hours, valid):
    with bench.open() as session:
        session.run("contact")
        ledger = ledger_of(session)
        known = json.loads(ledger.get(guard.CONTACT_KEY))
        ledger.put(guard.CONTACT_KEY, json.dumps({key: known[key] for key in ("at", "board", "nonce")}))
        clock.set_by(hours=hours)
        if valid:
            session.run(RESET, arm=DIE)
        else:
            with pytest.raises(Refused, match="contact"):
                session.run(RESET, arm=DIE)


@pytest.mark.parametrize("boot", ["another", ""])
def test_after_a_restart_of_the_computer_the_clock_can_make_no_contact_test_young_again(
    bench, clock, monkeypatch, boot
):
    """What was counted begins anew then; where a restart cannot be told, no clock may say less than the other."""
    monkeypatch.setattr(times, "boot", lambda: boot and "one")
    with bench.open() as session:
        session.run("contact")
        monkeypatch.setattr(times, "boot", lambda: boot)
        clock.go_on(hours=1.5)
        clock.set_by(hours=-1.4)
        with pytest.raises(Refused, match="contact"):
            session.run(RESET, arm=DIE)
        assert not hidden(session).pulses.any()


@pytest.mark.parametrize("hours", [30, -30])
def test_a_clock_that_is_set_in_a_run_does_not_stop_it_and_is_noted(bench, clock, hours):
    with bench.open() as session:
        controller = session.bench.controllers[DIE]
        pulse, seen = controller.pulse, []

        def jumping(*arguments):
            seen.append(1)
            if len(seen) == 4:
                clock.set_by(hours=hours)
            return pulse(*arguments)

        controller.pulse = jumping
        run = find_run(session.runs, session.run("electroform", arm=DIE).run_id)
        assert hidden(session).pulses.sum() == 256
        (move,) = run.record["clock"]
        assert move["moved_s"] == pytest.approx(hours * 3600, abs=0.1)
        assert 0 < move["time_s"] < 60
        del controller.pulse


def test_operations_keep_their_order_and_ids_whatever_the_clock_says(bench, clock):
    with bench.open() as session:
        for hours in (0, -5, 7, -100, 3):
            clock.set_by(hours=hours)
            session.run(plain_plan(pulse_step("row 0", "reset", voltage=2.0)), arm=DIE)
        life = ledger_of(session).history()
        assert [entry.op_id for entry in life] == [1, 2, 3, 4, 5]
        assert len({run.id for run in list_runs(session.runs)}) == 5
        assert hidden(session).pulses[0, 0] == 5
        assert np.array_equal(hidden(session).pulses, ledger_of(session).pulse_counts())


def test_the_last_run_is_the_newest_whatever_the_clock_says(bench, clock):
    with bench.open() as session:
        names = []
        for hours in (0, -30, 1):
            clock.set_by(hours=hours)
            names.append(session.run("contact").run_id)
        assert [run.id for run in list_runs(session.runs)] == names
        assert find_run(session.runs, "last").id == names[-1]


def test_two_runs_of_one_moment_do_not_share_a_folder(bench, clock, monkeypatch):
    """Same name, same millisecond, and even the same drawn letters: each has a folder of its own."""
    monkeypatch.setattr(store.secrets, "token_hex", lambda count: "ab" * count)
    clock.step = timedelta(0)
    with bench.open() as session:
        first = session.run("contact").run_id
        kept = {path: path.read_bytes() for path in (session.runs / first).rglob("*") if path.is_file()}
        assert session.run("contact").run_id != first
        assert len(list_runs(session.runs)) == 2
        assert {path: path.read_bytes() for path in kept} == kept


# two processes -------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
import rramlab
with rramlab.open_bench(sys.argv[1]):
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_bench_has_one_process_and_a_killed_one_does_not_keep_it(bench):
    other = child(HOLD, bench.folder)
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BenchLocked, match=f"process {other.pid} ") as caught, bench.open():
            pass
        assert "estop" in str(caught.value)
        code, said = form(bench)
        assert code == 1
        assert str(other.pid) in said
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    assert (bench.folder / "data" / "bench.holder.json").exists()  # a killed process takes nothing with it
    with bench.open() as session:
        assert session.bench._lock.holder()["pid"] == os.getpid()
        assert not hidden(session).pulses.any()
    works_again(bench)


# files that vanish ---------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Stands for the process being killed."""


def crashed(bench, number=4, plan=None):
    """Leave a forming run behind that was killed when its pulse ``number`` had reached the die; return the run."""
    with bench.open() as session:
        controller = session.bench.controllers[DIE]
        pulse, seen = controller.pulse, []

        def crash(*arguments):
            seen.append(pulse(*arguments))
            if len(seen) == number:
                raise Crash
            return seen[-1]

        controller.pulse = crash
        with pytest.raises(Crash):
            session.run(plan or "electroform", arm=DIE)
    with bench.open() as session:
        return list_runs(session.runs)[-1]


def test_a_deleted_run_cannot_go_on_and_its_pulses_are_known(bench):
    run = crashed(bench)
    shutil.rmtree(run.folder)
    code, said = rramlab("resume", run.id, "--arm", DIE, "--bench", bench.folder)
    assert code == 1
    assert f"no run '{run.id}'" in said
    code, said = rramlab("resume", "last", "--arm", DIE, "--bench", bench.folder)
    assert code == 1
    assert "last" in said
    with bench.open() as session:
        ledger = ledger_of(session)
        before, last = hidden(session).pulses.copy(), ledger.last_id
        assert before.any()
        assert np.array_equal(ledger.pulse_counts(), before)
        assert len(ledger.dangling()) == 1
        with pytest.raises(Refused, match="budget of 1 pulse"):  # the shipped protocol: one pulse a cell
            session.run("electroform", arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)
        # What is left is formed by a new run, and the old ids stay what they were.
        session.run("electroform", {"cells": "one-of-pair(seed=7) & pristine"}, arm=DIE)
        assert not ledger.dangling()
        pulses = hidden(session).pulses
        assert np.array_equal(pulses[:, 0::2] + pulses[:, 1::2], np.ones((32, 8)))
        assert np.array_equal(ledger.pulse_counts(), pulses)
        assert {entry.op_id for entry in ledger.history() if entry.run == run.id} == set(range(1, last + 1))
        assert min(entry.op_id for entry in ledger.history() if entry.run != run.id) == last + 1


def without_a_trace(bench):
    """Delete ledger, runs and reads of a die that was pulsed; return the ledger's path."""
    crashed(bench)
    folder = bench.folder / "data" / "dies" / DIE
    shutil.rmtree(bench.folder / "data" / "runs")
    for path in folder.iterdir():
        if path.name != "die.npz":
            path.unlink()
    return folder / "ledger.db"


def test_a_log_without_its_ledger_is_a_trace_of_one(bench):
    path = without_a_trace(bench)
    path.with_name("ledger.db-wal").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="db-wal"), bench.open():
            pass
        assert not path.exists()


def test_where_the_ledger_and_all_traces_are_gone_the_board_still_knows(bench):
    """The board remembers that it has pulsed: the die does not pass for a virgin."""
    without_a_trace(bench)
    with bench.open() as session:
        before = hidden(session).pulses.copy()
        for _ in range(2):
            with pytest.raises(DataError, match="another ledger"):
                session.run("electroform", arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)


def test_a_ledger_that_was_damaged_since_is_refused_and_works_once_restored(bench):
    crashed(bench)
    path = bench.folder / "data" / "dies" / DIE / "ledger.db"
    kept = {each: each.read_bytes() for each in path.parent.glob("ledger.db*")}
    path.write_bytes(kept[path][:1000] + b"\0" * 3000 + kept[path][4000:])
    damaged = path.read_bytes()
    for _ in range(2):
        code, said = form(bench)
        assert code == 1
        assert str(path) in said
        assert "restore" in said
        assert path.read_bytes() == damaged
    for each, content in kept.items():
        each.write_bytes(content)
    works_again(bench)


def vanishing(bench, number, vanish):
    """Run a forming plan in which ``vanish`` happens after pulse ``number``; return what came of it."""
    with bench.open() as session:
        controller = session.bench.controllers[DIE]
        pulse, seen = controller.pulse, []

        def and_then(*arguments):
            seen.append(pulse(*arguments))
            if len(seen) == number:
                vanish()
            return seen[-1]

        controller.pulse = and_then
        safe = []
        original = controller.safe_state
        controller.safe_state = lambda: safe.append(original())
        with pytest.raises(RramlabError) as caught:
            session.run(forming_plan(block_rows=2), arm=DIE)
        del controller.pulse, controller.safe_state
        assert safe
        return str(caught.value), len(seen)


@pytest.mark.parametrize("what", ["run", "data", "ledger", "log"])
def test_nothing_more_is_pulsed_once_the_records_are_gone(bench, what):
    data = bench.folder / "data"

    def vanish():
        match what:
            case "run":
                shutil.rmtree(data / "runs")
            case "data":
                data.rename(bench.folder / "elsewhere")
            case "ledger":
                for path in (data / "dies" / DIE).glob("ledger.db*"):
                    path.unlink()
            case "log":
                (data / "dies" / DIE / "ledger.db-wal").unlink()

    said, pulses = vanishing(bench, 5, vanish)
    assert pulses == 5
    assert "is gone or was" in said
    assert "nothing more is pulsed" in said
    if what in ("run", "data"):
        assert not (data / "runs").exists()


def test_nothing_more_is_pulsed_under_a_ledger_that_was_replaced(bench):
    path = bench.folder / "data" / "dies" / DIE / "ledger.db"

    def replace():
        path.with_name("copy").write_bytes(path.read_bytes())
        path.with_name("copy").replace(path)

    said, pulses = vanishing(bench, 5, replace)
    assert pulses == 5
    assert "was replaced" in said


def test_a_run_whose_folder_vanishes_is_an_error_and_the_ledger_knows_its_pulses(bench):
    runs = bench.folder / "data" / "runs"
    said, _ = vanishing(bench, 5, lambda: shutil.rmtree(runs))
    assert str(runs) in said
    with bench.open() as session:
        pulses = hidden(session).pulses
        assert pulses.any()
        assert np.array_equal(ledger_of(session).pulse_counts(), pulses)
        assert not list_runs(session.runs)
        last = ledger_of(session).last_id
        session.run("contact")
        session.run(RESET, arm=DIE)
        assert ledger_of(session).last_id == last + 1
        assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)


def test_a_data_folder_that_is_moved_away_in_a_run_is_refused_until_it_is_back(bench):
    data, away = bench.folder / "data", bench.folder / "elsewhere"
    said, _ = vanishing(bench, 5, lambda: data.rename(away))
    assert str(data) in said
    pulsed = dict(np.load(data / "dies" / DIE / "die.npz"))["pulses"]  # the die itself is none of the data
    assert pulsed.any()
    with pytest.raises(DataError, match="no ledger"), bench.open():
        pass
    shutil.copy(data / "dies" / DIE / "die.npz", away / "dies" / DIE / "die.npz")
    shutil.rmtree(data)
    away.rename(data)
    with bench.open() as session:
        assert np.array_equal(hidden(session).pulses, pulsed)
        assert np.array_equal(ledger_of(session).pulse_counts(), pulsed)
        (run,) = list_runs(session.runs)
        session.resume(run.id, arm=DIE)
        pulses = hidden(session).pulses
        assert pulses.max() == 1
        assert pulses.sum() == 256
        assert run.record["status"] == "done"


# a wrong voltage -----------------------------------------------------------------------------------------------


def test_a_voltage_that_is_too_low_costs_at_most_the_pilot_block(bench):
    """3.75 V is meant, 0.3 V are missing."""
    code, said = rramlab("run", "electroform", "--arm", DIE, "--bench", bench.folder, "--set", "voltage=3.45 V")
    assert code == 5
    assert "pilot" in said
    with bench.open() as session:
        pulses = hidden(session).pulses
        assert np.all(pulses[:4].sum(axis=1) == 8)
        assert not pulses[4:].any()


@pytest.mark.parametrize(("meant", "expected"), [(3.3, 0.16), (3.45, 0.55)])
def test_a_voltage_that_is_too_high_costs_at_most_the_pilot_block_where_cells_tell(tmp_path, meant, expected):
    """Some of the cells are meant to form, and 0.3 V more form nearly all: the pilot block shows it, on the shipped die."""
    words = ("--set", f"voltage={meant + 0.3:.2f} V", "--set", f"expected={expected}", "--set", "cells=all")
    code, said = rramlab("run", "electroform", "--arm", "sim-0001", "--bench", tmp_path, *words)
    assert code == 5
    assert "pilot" in said
    with open_bench(tmp_path) as session:
        pulses = hidden(session).pulses
        assert np.all(pulses[:4] == 1)
        assert not pulses[4:].any()


def test_a_voltage_beyond_what_any_cell_needs_is_stopped_by_the_limit_alone(bench):
    """All cells form at 3.75 V and at more alike: what the protocol allows is what protects the die."""
    code, said = rramlab("run", "electroform", "--arm", DIE, "--bench", bench.folder, "--set", "voltage=4.05 V")
    assert code in (2, 3)
    assert "4" in said
    with bench.open() as session:
        assert not hidden(session).pulses.any()


# writing what was measured -------------------------------------------------------------------------------------


def test_a_block_that_is_measured_again_is_whole_or_absent_whenever_the_process_dies(bench, monkeypatch):
    with bench.open() as session:
        session.run("contact")
        (run,) = list_runs(session.runs)
        (block,) = run.blocks()
        attributes = {key: value for key, value in block.attributes.items() if key not in ("crc32", "written_at")}
        write_json, calls = store.write_json, []

        def killed(path, document):
            if path.parent.name == "blocks":
                calls.append(path)
                raise Crash
            write_json(path, document)

        monkeypatch.setattr(store, "write_json", killed)
        with pytest.raises(Crash):
            run.append(block.position, block.dataset, block.load()[::-1].copy(), **attributes)
        monkeypatch.undo()
        assert calls
        for each in run.blocks():
            each.load()
        run.consolidate()


def test_why_a_run_failed_is_said_even_if_it_cannot_be_gathered(bench, monkeypatch):
    def full(run):
        raise DataError("run.h5 could not be written (no space)")

    with bench.open() as session:
        monkeypatch.setattr(store.Run, "consolidate", full)
        with pytest.raises(RramlabError, match="pilot") as caught:
            session.run("electroform", {"voltage": "3.3 V"}, arm=DIE)
        assert "could not be written" in str(caught.value)
        assert "pilot" in list_runs(session.runs)[-1].record["reason"]


def test_a_lock_whose_holder_cannot_be_written_is_given_back(bench, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock, "write_json", full)
    session = bench.open()
    with pytest.raises(OSError, match="space"):
        session.__enter__()
    monkeypatch.undo()
    with bench.open():
        pass


# Dies before the ledger of a new die has its name, when it has just got it, or when SQLite has just opened it.
CUT_SHORT = """
import os, sqlite3, sys
from pathlib import Path
import rramlab
folder, when = sys.argv[1:]
replace, connect = Path.replace, sqlite3.connect

def replaced(temporary, target):
    if target.name == "ledger.db" and when == "before":
        os._exit(9)
    replace(temporary, target)
    if target.name == "ledger.db" and when == "after":
        os._exit(9)

def connected(path, **more):
    database = connect(path, **more)
    if Path(path).name == "ledger.db" and when == "opened":
        database.execute("PRAGMA journal_mode = WAL")
        os._exit(9)
    return database

Path.replace, sqlite3.connect = replaced, connected
with rramlab.open_bench(folder):
    pass
"""


@pytest.mark.parametrize("when", ["before", "after", "opened"])
def test_a_die_whose_enrolment_was_cut_short_needs_no_hand(bench, when):
    killed = child(CUT_SHORT, bench.folder, when)
    _, said = killed.communicate()
    assert killed.returncode == 9, said
    works_again(bench)


def test_what_a_killed_process_had_begun_to_write_is_removed_and_nothing_else(bench):
    run = crashed(bench)
    die = bench.folder / "data" / "dies" / DIE
    left = [run.folder / "blocks" / ".000.00000-contact.npy.0a1b2c3d.tmp", die / ".die.npz.0a1b2c3d.tmp"]
    others = [
        run.folder / "mine.tmp",
        run.folder / ".notes.tmp",
        run.folder / ".run.json.0A1B.tmp",
        die / "x.0a1b2c3d.tmp",
    ]
    young = run.folder / ".run.h5.00000000.tmp"  # somebody writes it now
    for path in (*left, *others, young):
        path.write_bytes(b"half of it")
        if path is not young:
            os.utime(path, (0, 0))
    works_again(bench)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (*others, young))
