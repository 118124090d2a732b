"""Nothing of a ledger is believed in silence: rows are chained, counts summed, witnesses heard; old ledgers are taken over."""

import os
import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs.firstledger import add, begun
from strategies import selections
from workbench import SmallBench, child, plain_plan, pulse_step

from rramlab.base.errors import BenchLocked, DataError, Refused, RramlabError, UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.operations import PulseOp
from rramlab.plan.steps import ReadStep
from rramlab.runs.ledger import Ledger, view_ledger
from rramlab.runs.ledger.adopting import foreign_to
from rramlab.runs.ledger.check import check
from rramlab.runs.ledger.copies import make_its_own
from rramlab.runs.ledger.migration import NEW, OLD, lost_frames
from rramlab.runs.ledger.witnesses import beside, outside

GEOMETRY = Geometry(8, 8)
NOTHING = CellSelection(np.zeros(GEOMETRY.shape, np.bool_))


def cells(text):
    return Region(text).bound(GEOMETRY)


def pulse(ledger, region="all", kind="electroform", finish=True, run="r"):
    chosen = cells(region) if isinstance(region, str) else region
    op_id = ledger.intend(PulseOp(kind, chosen, Pulse(3.75, 1e-6, 1.6), 8), run, "000.00000", 1)
    if finish:
        ledger.finish(op_id, chosen)
    return op_id


def answers(view):
    """Everything that anybody may ask of a ledger."""
    return {
        "entries": [(e.op_id, e.run, e.position, e.kind, e.pulse, e.cells.packed(), e.outcome, e.done.packed(),
                     e.unknown.packed(), e.board, e.boot_nonce, e.again) for e in view.entries()],
        "pulses": view.pulse_counts().tobytes(),
        "kinds": [view.pulse_counts(kind).tobytes() for kind in ("electroform", "set", "reset")],
        "peak": view.peak_voltage("reset").tobytes(),
        "unknown": view.unknown().packed(),
        "doubtful": view.doubtful().packed(),
        "last": view.last_operation().tobytes(),
        "dangling": [entry.op_id for entry in view.dangling()],
        "runs": [entry.op_id for run in ("r", "s") for entry in view.of_run(run)],
        "facts": [view.get(key) for key in ("enrolled_at", "fact", "none")],
        "last_id": view.last_id,
    }  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "die" / "ledger.db"


def lived(path):
    """Make a ledger with everything that a ledger can hold, and return it open."""
    ledger = Ledger(path, "d-1", GEOMETRY)
    for row in range(3):
        pulse(ledger, f"row {row}", run="s")
    ledger.put("fact", "value")
    half = pulse(ledger, "rows 3-4", finish=False)
    ledger.finish(half, cells("row 3"), cells("row 4"), "reading")
    none = pulse(ledger, "row 5", finish=False)
    ledger.finish(none, NOTHING)
    pulse(ledger, "rows 0-1", "reset")
    pulse(ledger, "row 6", "set", finish=False)
    return ledger


def as_left_by_a_kill(path, to):
    """Copy what is on the disk while the process lives."""
    shutil.copytree(path.parent, to)
    (to / "ledger.db-shm").unlink(missing_ok=True)
    return to / path.name


# flips -----------------------------------------------------------------------------------------------------------------


def flipped(file, bit):
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


@pytest.mark.parametrize("killed", [False, True])
def test_a_flipped_bit_is_refused_or_makes_no_difference(path, tmp_path, killed):
    """Wherever it is, in the file, its log or its witness: seen at opening or at first use."""
    ledger = lived(path)
    left = tmp_path / "left"
    if killed:
        as_left_by_a_kill(path, left)
    ledger.close()
    if not killed:
        shutil.copytree(path.parent, left)
    with view_ledger(left / "ledger.db") as view:
        whole = answers(view)
    names = [name for name in ("ledger.db", "ledger.db-wal", "ledger.witness") if (left / name).exists()]
    assert len(names) == 3 if killed else 2
    draw, refused, changed = random.Random(5), 0, 0
    for number in range(90 if killed else 240):
        name = names[number % len(names)]
        bit = draw.randrange(8 * (left / name).stat().st_size)
        victim = tmp_path / "victim"
        shutil.copytree(left, victim)
        flipped(victim / name, bit)
        before = {each.name: each.read_bytes() for each in victim.iterdir()}
        try:
            with closing(
                Ledger(
                    victim / "ledger.db",
                    "d-1",
                    GEOMETRY,
                )
            ) as found:
                assert answers(found) == whole, (name, bit)
                found.check()
        except DataError:
            refused += 1
            now = {each.name: each.read_bytes() for each in victim.iterdir() if not each.name.endswith("-shm")}
            changed += name == "ledger.db-wal" and now != before
        shutil.rmtree(victim)
    assert refused > 10
    assert not changed


@pytest.mark.parametrize("how", ["body", "kind", "counts", "deleted", "index", "head", "trigger", "swapped"])
def test_what_is_changed_by_hand_is_refused(path, how):
    lived(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        texts = [
            text for (text,) in database.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        ]
        for name in ("events_are_not_changed", "events_are_not_deleted"):
            database.execute(f"DROP TRIGGER {name}")
        match how:
            case "body":
                database.execute("UPDATE events SET body = replace(body, '3.75', '3.55') WHERE seq = 2")
            case "kind":
                database.execute("UPDATE operations SET kind = 'set' WHERE op = 6")
            case "counts":
                database.execute("DELETE FROM counts WHERE row = 2")
            case "deleted":
                database.execute("DELETE FROM events WHERE seq = 4")
            case "index":
                database.execute("UPDATE operations SET run = 'elsewhere' WHERE op = 1")
            case "head":
                database.execute("UPDATE head SET body = replace(body, '\"op\":7', '\"op\":6')")
            case "swapped":
                row = database.execute("SELECT body FROM counts WHERE row = 1").fetchone()[0]
                database.execute("UPDATE counts SET body = ? WHERE row = 7", (row,))
        for text in texts if how != "trigger" else ():
            database.execute(text)
    with pytest.raises(DataError, match="ledger"), closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
        ledger.check()


def test_rows_are_neither_changed_nor_deleted(path):
    with closing(lived(path)) as ledger:
        for statement in ("UPDATE events SET op = 0", "DELETE FROM events", "DELETE FROM events WHERE seq = 1"):
            with pytest.raises(sqlite3.IntegrityError, match="only added"):
                ledger._db.execute(statement)
        with pytest.raises(sqlite3.IntegrityError):
            ledger._db.execute("INSERT INTO events VALUES (99, 1, 'fone', '{}', zeroblob(16), zeroblob(16))")


def test_a_log_that_lost_its_end_is_refused_with_the_operations_that_are_missing(path, tmp_path):
    ledger = lived(path)
    killed = as_left_by_a_kill(path, tmp_path / "killed")
    whole = ledger.last_id
    ledger.close()
    log = killed.with_name("ledger.db-wal")
    flipped(log, 8 * 40)  # the first frame: SQLite takes the log as ended there
    with pytest.raises(DataError, match=rf"misses {whole} operations.*ledger.witness"):
        Ledger(killed, "d-1", GEOMETRY)
    assert log.stat().st_size > 0
    log.unlink()
    with pytest.raises(DataError, match=r"misses \d+ operation"):
        Ledger(killed, "d-1", GEOMETRY)


# memory and file --------------------------------------------------------------------------------------------------------


class Interrupting(sqlite3.Connection):
    """Raises what Ctrl-C raises just after a statement: once, at the one that was asked for."""

    at, seen = 0, 0

    def execute(self, statement, *values):
        found = super().execute(statement, *values)
        type(self).seen += 1
        if type(self).seen == type(self).at:
            raise KeyboardInterrupt
        return found


def test_memory_is_what_the_file_says_wherever_an_interrupt_comes(path, monkeypatch):
    monkeypatch.setattr(Interrupting, "seen", 0)
    ledger = Ledger(path, "d-1", GEOMETRY)
    connect = sqlite3.connect
    interrupted = 0
    for moment in range(1, 60):
        ledger.close()
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "factory": Interrupting}))
        monkeypatch.setattr(Interrupting, "at", 0)
        ledger = Ledger(path, "d-1", GEOMETRY)
        monkeypatch.setattr(Interrupting, "seen", 0)
        monkeypatch.setattr(Interrupting, "at", moment)
        try:
            pulse(ledger, "rows 2-3")
        except KeyboardInterrupt:
            interrupted += 1
        monkeypatch.setattr(Interrupting, "at", 0)
        monkeypatch.setattr(sqlite3, "connect", connect)
        mine = answers(ledger)
        with view_ledger(path) as view:
            assert answers(view) == mine
        for entry in ledger.dangling():
            ledger.finish(entry.op_id, NOTHING)
    assert interrupted > 10
    ledger.check()
    ledger.close()


@given(st.lists(st.tuples(selections(GEOMETRY), selections(GEOMETRY), selections(GEOMETRY), st.booleans()), max_size=6))
def test_a_ledger_says_the_same_after_it_was_opened_again(tmp_path_factory, life):
    path = tmp_path_factory.mktemp("ledger") / "l.db"
    with closing(Ledger(path, "d", GEOMETRY)) as ledger:
        for chosen, done, undecided, finished in life:
            op_id = pulse(ledger, chosen, finish=False)
            if finished:
                ledger.finish(op_id, done & chosen, (undecided & chosen) - done)
        before = answers(ledger)
        ledger.check()
    with closing(Ledger(path, "d", GEOMETRY)) as again:
        assert answers(again) == before
        again.check()


def test_a_session_that_is_over_is_no_damage(path):
    ledger = lived(path)
    ledger.close()
    with pytest.raises(UsageError, match="over"):
        ledger.get("fact")
    with pytest.raises(UsageError, match="over"):
        pulse(ledger, "row 7")


# who writes -------------------------------------------------------------------------------------------------------------


def test_one_session_writes_a_ledger_whatever_leads_to_it(path, tmp_path):
    with closing(lived(path)):
        elsewhere = tmp_path / "link"
        elsewhere.symlink_to(path.parent, target_is_directory=True)
        for way in (path, elsewhere / path.name):
            with pytest.raises(BenchLocked, match=r"held by another session.*estop"):
                Ledger(way, "d-1", GEOMETRY)
        with view_ledger(path) as view:
            assert view.last_id == 7
    Ledger(path, "d-1", GEOMETRY).close()


HOLDER = """
import sys
from pathlib import Path
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), "d-1", Geometry(8, 8))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_the_lock_goes_with_its_process(path):
    Ledger(path, "d-1", GEOMETRY).close()
    process = child(HOLDER.replace("sys.stdin.read()", "import time; time.sleep(60)"), path)
    assert process.stdout.readline() == "open\n", process.communicate()[1]
    with pytest.raises(BenchLocked):
        Ledger(path, "d-1", GEOMETRY)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    Ledger(path, "d-1", GEOMETRY).close()


# copies, older copies, adoption -----------------------------------------------------------------------------------------


def test_a_folder_that_was_copied_pulses_nothing_until_a_person_decides(path, tmp_path):
    lived(path).close()
    copy = tmp_path / "copy" / "ledger.db"
    shutil.copytree(path.parent, copy.parent)
    with closing(Ledger(copy, "d-1", GEOMETRY)) as ledger:
        assert str(path) in ledger.doubt
        with pytest.raises(Refused, match="dies adopt d-1"):
            pulse(ledger, "row 7")
        assert ledger.last_id == 7
    with closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
        assert not ledger.doubt
        pulse(ledger, "row 7")
    with pytest.raises(DataError, match=rf"misses 1 operation:.*{path.parent.name}"):
        Ledger(copy, "d-1", GEOMETRY)


def test_an_adopted_copy_is_the_ledger_and_the_other_one_is_refused(path, tmp_path):
    lived(path).close()
    copy = tmp_path / "copy" / "ledger.db"
    shutil.copytree(path.parent, copy.parent)
    with closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
        pulse(ledger, "row 7")
        before = ledger.pulse_counts()
    with view_ledger(copy) as view:
        foreign = foreign_to(view)
    assert foreign.operations == 1
    assert foreign.cells == cells("row 7")
    with closing(Ledger(copy, "d-1", GEOMETRY, believe=True)) as ledger:
        ledger.adopt(foreign.cells, "Ada", "the other disk is broken")
        assert np.all(ledger.pulse_counts() >= before)
        assert ledger.unknown().bits[7].all()
        pulse(ledger, "row 0", "reset")
        ledger.check()
    with closing(Ledger(copy, "d-1", GEOMETRY)) as ledger:
        assert not ledger.doubt
        assert not ledger.notes
    with pytest.raises(DataError, match="given up"):
        Ledger(path, "d-1", GEOMETRY)


def test_where_nobody_can_tell_all_cells_are_in_doubt(path, tmp_path):
    lived(path).close()
    older = tmp_path / "older"
    shutil.copytree(path.parent, older)
    with closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
        pulse(ledger, "row 7")
    shutil.rmtree(path.parent)
    shutil.copytree(older, path.parent)  # a backup is put back in the same place
    with pytest.raises(DataError, match="misses 1 operation"):
        Ledger(path, "d-1", GEOMETRY)
    with view_ledger(path) as view:
        assert foreign_to(view).cells.count == 64
        assert foreign_to(view).operations == 1


def test_a_folder_that_was_moved_goes_on_and_says_so(path, tmp_path):
    lived(path).close()
    path.parent.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "ledger.db"
    with closing(Ledger(moved, "d-1", GEOMETRY)) as ledger:
        assert str(path) in ledger.notes[0]
        pulse(ledger, "row 7")
    with closing(Ledger(moved, "d-1", GEOMETRY)) as ledger:
        assert not ledger.notes


def test_a_ledger_made_anew_where_another_was_is_refused(path):
    lived(path).close()
    path.unlink()
    with pytest.raises(DataError, match="not the one that was here"):
        Ledger(path, "d-1", GEOMETRY)


def test_a_copied_simulated_die_has_a_ledger_of_its_own(path, tmp_path):
    lived(path).close()
    copy = tmp_path / "copy" / "ledger.db"
    shutil.copytree(path.parent, copy.parent)
    make_its_own(copy)
    for each in (copy, path):
        with closing(Ledger(each, "d-1", GEOMETRY)) as ledger:
            assert not ledger.doubt
            pulse(ledger, "row 7")


def test_a_damaged_witness_is_said_and_written_anew(path):
    lived(path).close()
    for number in (0, 3000):
        flipped(beside(path), 8 * number + 3)
        with closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
            assert "ledger.witness" in ledger.notes[0]
            pulse(ledger, "row 7", "reset")
            pulse(ledger, "row 7", "reset")
    with closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
        assert not ledger.notes


def test_a_check_names_every_witness(path):
    lived(path).close()
    with view_ledger(path) as view:
        found = check(view)
        assert not found.problems
        assert {str(beside(path)), str(outside(view.head.ledger))} == set(found.witnesses)
        assert (found.operations, found.rows) == (7, view.head.seq)


# what 0.1.0 wrote -------------------------------------------------------------------------------------------------------


def first_life(path, close=True):
    database = begun(path, GEOMETRY)
    add(database, cells("rows 0-3"))
    add(database, cells("row 4"), outcome="done", done=cells("row 4 & cols 0-3"))
    add(database, cells("row 5"), outcome="undelivered", done=NOTHING, run="s")
    add(database, cells("rows 6-7"), outcome="done", done=cells("row 6"), unknown=cells("row 7"))
    add(database, cells("row 6"), kind="reset", outcome="done")
    add(database, cells("row 0"), kind="set", outcome="intended", done=None)
    if close:
        database.close()
    return database


def test_an_old_ledger_is_looked_into_and_left_as_it_is(path):
    first_life(path)
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    with view_ledger(path) as view:
        assert [entry.outcome for entry in view.entries()] == [
            "done",
            "done",
            "undelivered",
            "done",
            "done",
            "intended",
        ]
        assert [entry.op_id for entry in view.dangling()] == [6]
        assert view.unknown() == cells("row 7")
        assert view.get("contact_passed_at")
        assert view.pulse_counts().sum() == 4 * 8 + 4 + 16 + 8 + 8
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


@pytest.mark.parametrize("log", [False, True])
def test_an_old_ledger_is_brought_to_todays_form_and_stays_beside_it(path, tmp_path, log):
    database = first_life(path, close=False)
    if log:  # a process that was killed: all of it stands in the log
        path = as_left_by_a_kill(path, tmp_path / "killed")
    database.close()
    with view_ledger(path) as view:
        before = answers(view)
    with closing(Ledger(path, "d-1", GEOMETRY)) as ledger:
        assert answers(ledger) == before
        assert pulse(ledger, "row 5") == 7
        ledger.check()
    assert path.with_name(OLD).exists()
    assert not path.with_name(NEW).exists()
    with view_ledger(path.with_name(OLD)) as view:
        assert answers(view) == before


@pytest.mark.parametrize(
    ("word", "other"), [("outcome = 'done'", "outcome = 'fone'"), ("kind = 'reset'", "kind = 'seset'")]
)
def test_an_unknown_word_in_an_old_ledger_is_refused(path, word, other):
    first_life(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"UPDATE operations SET {other} WHERE {word}")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"fone|seset"):
        Ledger(path, "d-1", GEOMETRY)
    with pytest.raises(DataError, match=r"fone|seset"), view_ledger(path) as view:
        view.history()
    assert path.read_bytes() == before


def test_a_flipped_bit_in_the_log_of_an_old_ledger_is_refused(path, tmp_path):
    database = first_life(path, close=False)
    killed = as_left_by_a_kill(path, tmp_path / "killed")
    database.close()
    log = killed.with_name("ledger.db-wal")
    assert not lost_frames(log)
    size = log.stat().st_size
    draw, seen = random.Random(3), 0
    for _ in range(40):
        bit = draw.randrange(8 * (size - 4200))  # but for the last frame, whose loss nothing tells
        flipped(log, bit)
        seen += lost_frames(log) > 0
        flipped(log, bit)
    assert seen == 40
    flipped(log, 8 * 60)
    with pytest.raises(DataError, match="damaged"):
        Ledger(killed, "d-1", GEOMETRY)
    assert log.stat().st_size == size


class Killed(BaseException):
    """Stands for a process that is gone."""


def test_a_takeover_that_is_ended_at_any_call_loses_nothing(path, tmp_path, monkeypatch):
    """Whichever of the calls that change the disk is the last one."""
    first_life(path)
    with view_ledger(path) as view:
        before = answers(view)
    left = tmp_path / "left"
    shutil.copytree(path.parent, left)
    calls = {"n": 0, "last": 0}

    def counted(function):
        def call(*arguments, **more):
            calls["n"] += 1
            if calls["n"] > calls["last"]:
                raise Killed
            return function(*arguments, **more)

        return call

    for last in range(40):
        victim = tmp_path / f"victim-{last}"
        shutil.copytree(left, victim)
        calls |= {"n": 0, "last": last}
        with monkeypatch.context() as patch:
            for owner, name in (
                (os, "fsync"),
                (os, "replace"),
                (os, "rename"),
                (os, "link"),
                (os, "unlink"),
                (shutil, "copyfile"),
            ):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            try:
                Ledger(victim / "ledger.db", "d-1", GEOMETRY).close()
                ended = True
            except Killed:
                ended = False
        with view_ledger(victim / "ledger.db") as view:
            assert answers(view) == before
        with closing(Ledger(victim / "ledger.db", "d-1", GEOMETRY)) as ledger:
            assert answers(ledger) == before
        if ended:
            break
    assert ended
    assert last > 4


OPENER = """
import sys
from pathlib import Path
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger import Ledger
print("go", flush=True)
Ledger(Path(sys.argv[1]), "d-1", Geometry(8, 8)).close()
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_takeover_that_is_killed_loses_nothing(path, tmp_path):
    """A few of the kills that ``benchmarks/`` measures."""
    database = begun(path, GEOMETRY)
    for row in range(8):
        add(database, cells(f"row {row}"))
    database.close()
    with view_ledger(path) as view:
        before = answers(view)
    draw = random.Random(1)
    for number in range(4):
        victim = tmp_path / f"victim-{number}"
        shutil.copytree(path.parent, victim)
        process = child(OPENER, victim / "ledger.db")
        assert process.stdout.readline() == "go\n", process.communicate()[1]
        time.sleep(draw.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with view_ledger(victim / "ledger.db") as view:
            assert answers(view) == before
        with closing(Ledger(victim / "ledger.db", "d-1", GEOMETRY)) as ledger:
            assert answers(ledger) == before


def test_every_error_is_one_for_a_person(path):
    """No answer of SQLite, and no damage, comes through as it is."""
    lived(path).close()
    data = path.read_bytes()
    for size in (0, 50, 4096, len(data) - 4096):
        path.write_bytes(data[:size])
        with pytest.raises(RramlabError, match="ledger"):
            Ledger(path, "d-1", GEOMETRY)


def test_the_record_of_a_run_is_a_witness(tmp_path):
    """Both files beside it gone, the ledger put back as it was: the bench's own runs have seen what it misses."""
    bench = SmallBench(tmp_path / "lab", rows=8, columns=8).write()
    with bench.open() as session:
        session.run(plain_plan(pulse_step("row 0"), ReadStep()), arm="small-1")
    path = bench.folder / "data" / "dies" / "small-1" / "ledger.db"
    older = path.read_bytes()
    with bench.open() as session:
        session.run(plain_plan(pulse_step("row 1"), ReadStep()), arm="small-1")
    with view_ledger(path) as view:
        assert len(check(view, bench.folder / "data" / "runs").witnesses) == 4
        outside(view.head.ledger).unlink()
    beside(path).unlink()
    path.write_bytes(older)
    with pytest.raises(DataError, match=r"misses 1 operation:.*run\.json"), bench.open():
        pass
    with view_ledger(path) as view:
        assert "misses 1 operation" in check(view, bench.folder / "data" / "runs").problems[0]
    with closing(Ledger(path, "small-1", Geometry(8, 8), believe=True)) as ledger:
        ledger.adopt(CellSelection.everything(Geometry(8, 8)), "Ada", "nothing newer is left")
    with bench.open() as session, pytest.raises(Refused):
        session.run(plain_plan(pulse_step("row 1")), arm="small-1")


def test_damage_that_sqlite_cannot_put_into_words_is_refused(path):
    """A flipped bit in the text of a table: the error that quotes it is no text."""
    lived(path).close()
    whole = path.read_bytes()
    place = whole.index(b"CREATE TABLE head") + 13
    for offset in range(0, 60, 7):
        path.write_bytes(whole[: place + offset] + bytes([whole[place + offset] | 0x80]) + whole[place + offset + 1 :])
        for use in (lambda: Ledger(path, "d-1", GEOMETRY).close(), lambda: view_ledger(path).__enter__()):
            with pytest.raises(DataError, match=r"ledger\.db"):
                use()
