"""The ledger: intent before, outcome after, nothing forgotten, nothing guessed."""

import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import selections

from rramlab.base.errors import DataError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.operations import PulseOp
from rramlab.runs.comparing import pulses_by_position
from rramlab.runs.ledger import MEMORY, Ledger

GEOMETRY = Geometry(8, 8)
NOTHING = CellSelection(np.zeros(GEOMETRY.shape, np.bool_))


def cells(text):
    return Region(text).bound(GEOMETRY)


def operation(selection="all", kind="electroform"):
    chosen = cells(selection) if isinstance(selection, str) else selection
    return PulseOp(kind, chosen, Pulse(3.75, 1e-6, 1.6), 8)


@pytest.fixture
def open_ledger(tmp_path):
    opened = []

    def make(name="ledger.db", die="d-1", geometry=GEOMETRY):
        opened.append(Ledger(tmp_path / name, die, geometry))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def test_an_intent_dangles_until_its_outcome(open_ledger):
    ledger = open_ledger()
    op_id = ledger.intend(operation("rows 0-1"), "run-1", "000.00000", 5)
    (entry,) = ledger.dangling()
    assert (entry.op_id, entry.run, entry.position, entry.boot_nonce) == (op_id, "run-1", "000.00000", 5)
    assert entry.cells == entry.spent == cells("rows 0-1")
    assert entry.pulse == Pulse(3.75, 1e-6, 1.6)
    assert entry.outcome == "intended"
    ledger.finish(op_id, cells("rows 0-1"))
    assert not ledger.dangling()
    assert ledger.entry(op_id).outcome == "done"
    assert ledger.entry(op_id).done == cells("rows 0-1")


def test_everything_survives_closing(open_ledger):
    ledger = open_ledger()
    done = ledger.intend(operation("rows 0-1"), "r", "a", 1)
    ledger.finish(done, cells("row 0"))
    left = ledger.intend(operation("rows 2-3", "reset"), "r", "b", 1)
    half = ledger.intend(operation("rows 4-5"), "r", "c", 1)
    ledger.finish(half, cells("row 4"), cells("row 5 & cols 0-3"))
    ledger.put("fact", "value")
    counts, unknown = ledger.pulse_counts(), ledger.unknown()
    ledger.close()
    again = open_ledger()
    assert [entry.op_id for entry in again.dangling()] == [left]
    assert np.array_equal(again.pulse_counts(), counts)
    assert again.unknown() == unknown == cells("row 5 & cols 0-3")
    assert again.get("fact") == "value"
    assert again.get("no such fact") is None
    assert again.last_id == half


def test_possible_pulses_count_and_impossible_ones_do_not(open_ledger):
    ledger = open_ledger()
    ledger.finish(ledger.intend(operation("rows 0-3"), "r", "a", 1), cells("row 0"), cells("row 1"))
    ledger.finish(ledger.intend(operation("rows 4-5"), "r", "b", 1), NOTHING)
    ledger.intend(operation("row 6", "set"), "r", "c", 1)
    expected = np.zeros(GEOMETRY.shape, np.uint32)
    expected[[0, 1, 6]] = 1
    assert np.array_equal(ledger.pulse_counts(), expected)
    assert ledger.pulse_counts("set").sum() == 8
    assert ledger.pulse_counts("electroform").sum() == 16
    assert ledger.pulse_counts("reset").sum() == 0
    assert ledger.pulse_counts().dtype == np.uint32


def test_counts_are_a_copy(open_ledger):
    ledger = open_ledger()
    ledger.pulse_counts()[:] = 9
    assert not ledger.pulse_counts().any()


@given(st.lists(st.tuples(selections(GEOMETRY), selections(GEOMETRY), selections(GEOMETRY), st.booleans()), max_size=8))
def test_counts_in_memory_are_those_replayed_from_the_file(tmp_path_factory, life):
    path = tmp_path_factory.mktemp("ledger") / "l.db"
    ledger = Ledger(path, "d", GEOMETRY)
    expected = np.zeros(GEOMETRY.shape, np.uint32)
    unknown = np.zeros(GEOMETRY.shape, np.bool_)
    for chosen, done, undecided, finished in life:
        op_id = ledger.intend(operation(chosen), "r", "a", 1)
        if finished:
            ledger.finish(op_id, done & chosen, (undecided & chosen) - done)
            expected += (done | undecided).bits & chosen.bits
            unknown = (unknown & ~(done & chosen).bits) | ((undecided & chosen) - done).bits
        else:
            expected += chosen.bits
        assert np.array_equal(ledger.pulse_counts(), expected)
    ledger.close()
    again = Ledger(path, "d", GEOMETRY)
    assert np.array_equal(again.pulse_counts(), expected)
    assert np.array_equal(again.unknown().bits, unknown)
    assert [entry.cells for entry in again.history()] == [chosen for chosen, *_ in life]
    again.close()


def test_an_outcome_is_written_once_and_fits_its_intent(open_ledger):
    ledger = open_ledger()
    op_id = ledger.intend(operation("rows 0-1"), "r", "a", 1)
    for done, unknown in ((cells("rows 0-2"), None), (cells("row 0"), cells("row 0")), (NOTHING, cells("row 7"))):
        with pytest.raises(DataError, match="does not match"):
            ledger.finish(op_id, done, unknown)
        assert ledger.entry(op_id).outcome == "intended"
    ledger.finish(op_id, cells("row 0"))
    with pytest.raises(DataError, match="already has an outcome"):
        ledger.finish(op_id, cells("row 1"))
    assert ledger.entry(op_id).done == cells("row 0")
    assert ledger.pulse_counts().sum() == 8
    with pytest.raises(DataError, match="no operation 99"):
        ledger.finish(99, NOTHING)


def test_ids_are_never_used_again(open_ledger):
    ledger = open_ledger()
    ids = [ledger.intend(operation("row 0"), "r", "a", 1) for _ in range(3)]
    assert ids == sorted(set(ids))
    ledger.finish(ids[-1], NOTHING)
    ledger.close()
    assert open_ledger().intend(operation("row 0"), "r", "a", 1) > ids[-1]


def test_operations_are_found_by_run_and_position(open_ledger):
    ledger = open_ledger()
    first, second, third = (
        ledger.intend(operation("row 0"), *where, 1) for where in (("r", "a"), ("r", "b"), ("s", "a"))
    )
    assert [entry.op_id for entry in ledger.of_run("r")] == [first, second]
    assert [entry.op_id for entry in ledger.of_run("r", "b")] == [second]
    assert [entry.op_id for entry in ledger.since(first)] == [second, third]
    assert not list(ledger.of_run("t"))


def test_pulses_are_synced_before_the_call_returns(open_ledger, tmp_path):
    """Another reader sees an intent at once, and a copy of the files as they lie holds it."""
    ledger = open_ledger()
    ledger.intend(operation("rows 0-1"), "r", "a", 1)
    for name in ("ledger.db", "ledger.db-wal"):
        (tmp_path / f"copy-{name}").write_bytes((tmp_path / name).read_bytes())
    copy = open_ledger("copy-ledger.db")
    assert len(copy.dangling()) == 1
    assert copy.pulse_counts().sum() == 16


def damaged(path, how):
    data = bytearray(path.read_bytes())
    if how == "text":
        return b"this is no ledger at all" * 100
    if how == "truncated":
        return bytes(data[: len(data) // 2 + 100])
    data[100:4000] = bytes(3900) if how == "zeroed page" else bytes(range(256)) * 15 + bytes(60)
    return bytes(data)


@pytest.mark.parametrize("how", ["text", "truncated", "zeroed page", "scrambled page"])
def test_a_damaged_ledger_is_refused_and_left_as_it_is(open_ledger, tmp_path, how):
    ledger = open_ledger()
    for _ in range(5):
        ledger.intend(operation("checkerboard"), "r", "a", 1)
    ledger.close()
    path = tmp_path / "ledger.db"
    bad = damaged(path, how)
    path.write_bytes(bad)
    with pytest.raises(DataError, match=r"ledger\.db"):
        open_ledger()
    assert path.read_bytes() == bad


@pytest.mark.parametrize("other", [{"die": "d-2"}, {"geometry": Geometry(8, 10)}, {"geometry": Geometry(10, 8)}])
def test_the_ledger_of_another_die_is_refused(open_ledger, other):
    open_ledger().close()
    with pytest.raises(DataError, match="another die"):
        open_ledger(**other)


def test_an_empty_file_is_no_virgin_ledger(open_ledger, tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="empty"):
            open_ledger()
    path.unlink()
    assert open_ledger().last_id == 0


def test_a_later_decided_pulse_ends_unknown(open_ledger):
    ledger = open_ledger()
    ledger.finish(ledger.intend(operation("rows 0-3"), "r", "a", 1), cells("row 0"), cells("rows 1-3"))
    assert ledger.unknown() == cells("rows 1-3")
    ledger.intend(operation("row 1"), "r", "b", 1)  # intended alone decides nothing
    assert ledger.unknown() == cells("rows 1-3")
    ledger.finish(ledger.last_id, cells("row 1 & cols 0-3"))  # the rest of row 1 was not pulsed
    left = cells("rows 1-3 - (row 1 & cols 0-3)")
    assert ledger.unknown() == left
    ledger.finish(ledger.intend(operation("row 0"), "r", "c", 1), NOTHING, cells("row 0"))
    assert ledger.unknown().bits.sum() == left.count + 8
    ledger.close()
    assert open_ledger().unknown() == CellSelection(left.bits | cells("row 0").bits)


def test_the_highest_voltage_that_a_cell_had_or_may_have_had(open_ledger):
    ledger = open_ledger()

    def pulsed(region, kind, volts, done=None, unknown=None):
        chosen = PulseOp(kind, cells(region), Pulse(volts, 1e-6, 1.6), 8)
        op_id = ledger.intend(chosen, "r", "a", 1)
        ledger.finish(op_id, cells(done or region), cells(unknown) if unknown else None)

    pulsed("rows 0-2", "electroform", 3.75)
    pulsed("rows 1-3", "electroform", 3.45)
    pulsed("rows 0-7", "reset", 4.0)
    pulsed("rows 4-6", "electroform", 3.5, done="row 4", unknown="row 5")
    ledger.intend(PulseOp("electroform", cells("row 7"), Pulse(3.9, 1e-6, 1.6), 8), "r", "b", 1)
    found = ledger.peak_voltage("electroform")
    assert found.shape == GEOMETRY.shape
    assert found[:, 0] == pytest.approx([3.75, 3.75, 3.75, 3.45, 3.5, 3.5, 0, 3.9])
    assert ledger.peak_voltage("reset") == pytest.approx(np.full(GEOMETRY.shape, 4.0))
    assert not ledger.peak_voltage("set").any()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "text"])
def test_a_damaged_ledger_of_a_killed_process_keeps_its_write_ahead_log(tmp_path, damage):
    """The newest operations stand in the log alone: refusing the ledger must not fold the log into the damage."""
    ledger = Ledger(tmp_path / "alive" / "ledger.db", "d", GEOMETRY)
    for _ in range(5):
        ledger.intend(operation(), "run", "000.00000", 1)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):  # what is on the disk while the process lives
        (killed / name).write_bytes((tmp_path / "alive" / name).read_bytes())
    ledger.close()
    path, log = killed / "ledger.db", (killed / "ledger.db-wal").read_bytes()
    assert log
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[: len(data) // 2 + 7],
            "emptied": b"",
            "flipped": data[:10] + bytes(byte ^ 255 for byte in data[10:60]) + data[60:],
            "text": b"[]",
        }[damage]
    )
    left, refusal = path.read_bytes(), ""
    try:
        found = Ledger(path, "d", GEOMETRY)
    except DataError as error:
        refusal = str(error)
    else:  # the log held every page that was damaged: then nothing is lost
        assert len(found.dangling()) == 5
        found.close()
        return
    assert "-wal" in refusal
    assert (path.read_bytes(), (killed / "ledger.db-wal").read_bytes()) == (left, log)


def test_another_database_is_not_made_a_ledger(tmp_path):
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    left = path.read_bytes()
    with pytest.raises(DataError, match="no ledger"):
        Ledger(path, "d", GEOMETRY)
    assert path.read_bytes() == left


def test_the_operations_of_a_run_come_one_at_a_time(open_ledger):
    """Those of a long run on a large array, all at once, would fill the memory."""
    ledger = open_ledger()
    ids = [ledger.intend(operation("row 0"), "r", "a", 1) for _ in range(3)]
    entries = ledger.of_run("r")
    assert next(entries).op_id == ids[0]
    assert [entry.op_id for entry in entries] == ids[1:]


def test_attempts_at_one_operation_are_put_together(open_ledger):
    ledger = open_ledger()
    for done in ("row 0", "row 1"):
        ledger.finish(ledger.intend(operation("rows 0-1"), "r", "000.00000", 1), cells(done))
    ledger.finish(ledger.intend(operation("rows 0-1"), "whole", "000.00000", 1), cells("rows 0-1"))
    ledger.finish(ledger.intend(operation("rows 0-1"), "half", "000.00000", 1), cells("row 0"))
    ledger.intend(operation("row 5"), "half", "000.00001", 1)
    whole, half = (pulses_by_position(ledger.of_run(name)) for name in ("whole", "half"))
    assert pulses_by_position(ledger.of_run("r")) == whole
    assert whole != half
    assert set(half) == {"000.00000"}


def test_a_ledger_in_memory_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(MEMORY, "d", GEOMETRY)
    ledger.finish(ledger.intend(operation("row 0"), "r", "a", 1), cells("row 0"))
    assert ledger.pulse_counts().sum() == 8
    ledger.close()
    assert not list(tmp_path.iterdir())
