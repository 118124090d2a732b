"""Looking into a ledger changes nothing and disturbs nobody."""

import os
import signal

import numpy as np
import pytest
from workbench import child

from rramlab.base.errors import DataError
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.operations import PulseOp
from rramlab.runs.ledger import Ledger, view_ledger
from rramlab.runs.life import life_of, wear_of

GEOMETRY = Geometry(8, 8)


def operation(text="all", kind="electroform", volts=3.75):
    return PulseOp(kind, Region(text).bound(GEOMETRY), Pulse(volts, 1e-6, 1.6), 8)


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "die" / "ledger.db", "d-1", GEOMETRY)
    yield made
    made.close()


def files(folder):
    """Everything in a folder; what SQLite keeps for the processes that share a ledger is none of it."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


def live(ledger):
    ledger.finish(ledger.intend(operation("rows 0-3"), "r-1", "000.00000", 1), operation("rows 0-3").cells)
    ledger.intend(operation("row 0", "reset", 1.5), "r-2", "000.00000", 1)


def test_a_view_says_what_the_ledger_says_while_it_is_open_and_after(ledger, tmp_path):
    live(ledger)
    for closed in (False, True):
        if closed:
            ledger.close()
        with view_ledger(ledger.path) as view:
            assert (view.die_id, view.geometry) == ("d-1", GEOMETRY)
            assert view.pulse_counts().sum() == 4 * 8 + 8
            assert [entry.run for entry in view.entries()] == ["r-1", "r-2"]
            assert [entry.run for entry in view.dangling()] == ["r-2"]


def test_the_owner_writes_on_while_it_is_looked_at_and_the_look_is_of_one_moment(ledger):
    live(ledger)
    with view_ledger(ledger.path) as view:
        ledger.intend(operation("row 7"), "r-3", "000.00000", 1)
        assert [entry.run for entry in view.entries()] == ["r-1", "r-2"]
    with view_ledger(ledger.path) as view:
        assert [entry.run for entry in view.entries()] == ["r-1", "r-2", "r-3"]


@pytest.mark.parametrize("closed", [False, True])
def test_looking_changes_no_file_and_makes_none(ledger, closed):
    live(ledger)
    if closed:
        ledger.close()
    before = files(ledger.path.parent)
    listing = sorted(path.name for path in ledger.path.parent.iterdir())
    with view_ledger(ledger.path) as view:
        view.history()
    assert files(ledger.path.parent) == before
    assert sorted(path.name for path in ledger.path.parent.iterdir()) == listing


KILLED = """
import os, sys
sys.path.insert(0, ".")
from pathlib import Path
from runs.test_ledger_view import GEOMETRY, live
from rramlab.runs.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), "d-1", GEOMETRY)
live(ledger)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("with_index", [True, False])
def test_what_a_killed_process_left_is_seen_and_stays_as_it_is(tmp_path, with_index):
    """Its newest operations stand in the log alone; copied without its index, the ledger still has them."""
    path = tmp_path / "die" / "ledger.db"
    process = child(KILLED.replace("sys.stdin.read()", "import time; time.sleep(60)"), path)
    assert process.stdout.readline().strip() == "ready", process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not with_index:
        path.with_name("ledger.db-shm").unlink()
    before = files(path.parent)
    assert before["ledger.db-wal"]
    with view_ledger(path) as view:
        assert [entry.run for entry in view.entries()] == ["r-1", "r-2"]
    assert files(path.parent) == before


def test_a_read_only_folder_can_be_looked_into(ledger):
    live(ledger)
    ledger.close()
    ledger.path.chmod(0o444)
    ledger.path.parent.chmod(0o555)
    try:
        with view_ledger(ledger.path) as view:
            assert view.last_id == 2
    finally:
        ledger.path.parent.chmod(0o755)


def test_no_ledger_is_said_and_none_is_made(tmp_path):
    path = tmp_path / "die" / "ledger.db"
    with pytest.raises(DataError, match="not enrolled"), view_ledger(path):
        pass
    assert not path.parent.exists()


@pytest.mark.parametrize("content", [b"", b"this is no ledger" * 100])
def test_what_is_no_ledger_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"), view_ledger(path):
        pass
    assert files(tmp_path) == {"ledger.db": content}


def test_an_image_is_a_ledger_that_goes_on_with_the_next_id(ledger, tmp_path):
    live(ledger)
    path = tmp_path / "copy" / "ledger.db"
    path.parent.mkdir()
    path.write_bytes(ledger.image())
    copy = Ledger(path, "d-1", GEOMETRY)
    assert np.array_equal(copy.pulse_counts(), ledger.pulse_counts())
    assert copy.get("enrolled_at") == ledger.get("enrolled_at")
    assert copy.intend(operation("row 5"), "r-9", "000.00000", 1) == ledger.last_id + 1
    copy.close()


def test_a_life_adds_up(ledger, tmp_path):
    live(ledger)
    with view_ledger(ledger.path) as view:
        life = life_of(view, tmp_path)
    assert (life.total.operations, life.total.pulses) == (2, 40)
    assert {kind: (tally.operations, tally.pulses, tally.peak_V) for kind, tally in life.kinds.items()} == {
        "electroform": (1, 32, 3.75),
        "reset": (1, 8, 1.5),
    }
    assert list(life.runs) == ["r-1", "r-2"]
    assert (life.pristine, life.conducting, life.unread, life.unknown) == (32, 0, 64, 0)
    assert [entry.run for entry in life.dangling] == ["r-2"]


def test_wear_counts_every_cell_once_and_names_the_most_worn():
    pulses = np.zeros((8, 8), np.uint32)
    pulses[2, 3], pulses[5], pulses[7, 7] = 40, 2, 9
    found = wear_of(pulses, np.ones((8, 8), bool), 40)
    assert (found.cells, found.pulses, found.most, found.used_up, found.share) == (64, 40 + 16 + 9, 40, 1, 1.0)
    assert found.worst[:3] == ((2, 3, 40), (7, 7, 9), (5, 0, 2))
    assert sum(count for _, _, count in found.histogram) == 64
    for low, high, count in found.histogram:
        assert count == np.count_nonzero((pulses >= low) & (pulses <= high))
    corner = np.zeros((8, 8), bool)
    corner[0] = True
    assert wear_of(pulses, corner, None).worst == ()
    assert wear_of(pulses, corner, None).share is None


def barred(path, how):
    """Put something there that cannot be opened; return what must be left as it is."""
    if how == "a folder":
        path.unlink()
        path.mkdir()
        (path / "inside").write_text("mine")
        return path / "inside"
    if how == "a folder, with a log":
        path.with_name("ledger.db-wal").write_bytes(b"")
        return barred(path, "a folder")
    path.chmod(0)
    return path


@pytest.mark.parametrize("how", ["a folder", "a folder, with a log", "not readable"])
def test_a_ledger_that_cannot_be_opened_is_said_to_be(ledger, how):
    if how == "not readable" and (os.name != "posix" or os.geteuid() == 0):
        pytest.skip("this user may read everything")
    live(ledger)
    ledger.close()
    left = barred(ledger.path, how)
    with (
        pytest.raises(DataError, match=r"ledger\.db cannot be read .* readable for this user"),
        view_ledger(ledger.path),
    ):
        pass
    assert left.exists()


def test_an_error_of_whoever_looks_is_not_taken_for_one_of_the_ledger(ledger):
    with pytest.raises(ValueError, match="mine"), view_ledger(ledger.path):
        raise ValueError("mine")
