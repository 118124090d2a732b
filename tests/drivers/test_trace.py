"""The communication log: complete to the last byte whatever happens, readable, and good for playing a session again."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from tabletop import DIE, change, on_the_table, put, smu
from typer.testing import CliRunner
from workbench import child, forming_plan, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import DataError, InstrumentError, UsageError
from rramlab.cli.app import app
from rramlab.drivers.bench import Bench, describe_bench
from rramlab.drivers.links import LinkLost
from rramlab.drivers.trace import ReplayLink, Trace, load_trace
from rramlab.drivers.wire.exchange import WINDOW
from rramlab.drivers.wire.frames import Decoder, Kind
from rramlab.drivers.wire.messages import Opcode
from rramlab.engine.session import Session
from rramlab.plan.plan import Plan
from rramlab.plan.steps import GateStep, MultiplyStep, ReadStep, RouteStep, SweepStep
from rramlab.sim.emulator.faults import WireFaults

SMU = smu("left", "keysight-b2900", options="{model: B2902A}")


def soon():
    return time.monotonic() + 5


class Echo:
    """A link that gives back what it takes."""

    name = "echo"

    def __init__(self):
        self.taken = []

    def read(self, deadline):
        return self.taken[-1] if self.taken else b""

    def write(self, data, deadline):
        self.taken.append(data)

    def close(self):
        self.taken.append("closed")


# what is written ------------------------------------------------------------------------------------------------------


def test_every_byte_is_logged_with_time_link_and_way(tmp_path):
    trace = Trace(tmp_path / "log")
    link = trace.tap(Echo())
    assert link.name == "echo"
    assert link.read(soon()) == b""  # nothing came: nothing to log
    link.write(bytes(range(256)), soon())
    assert link.read(soon()) == bytes(range(256))
    link.close()
    trace.close()
    first, second = load_trace(tmp_path / "log")
    assert (first.link, first.way, first.data) == ("echo", "out", bytes(range(256)))
    assert (second.link, second.way, second.data) == ("echo", "in", bytes(range(256)))
    assert 0 <= first.at <= second.at


def test_what_could_not_be_sent_is_in_the_log_too(tmp_path):
    class Cut(Echo):
        def write(self, data, deadline):
            raise LinkLost("gone")

    trace = Trace(tmp_path / "log")
    with pytest.raises(LinkLost):
        trace.tap(Cut()).write(b"*IDN?\n", soon())
    trace.close()
    assert [entry.data for entry in load_trace(tmp_path / "log")] == [b"*IDN?\n"]


WRITE = """
import sys, time
from pathlib import Path
from rramlab.drivers.trace import Trace
trace = Trace(Path(sys.argv[1]))
for number in range(50):
    trace.write("link", "out", b"message %d" % number)
print("written", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_process_that_is_killed_leaves_all_that_was_said(tmp_path):
    process = child(WRITE, tmp_path / "log")
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    entries = load_trace(tmp_path / "log")
    assert [entry.data for entry in entries] == [b"message %d" % number for number in range(50)]


@pytest.mark.parametrize("kind", ["a log", "a folder", "in no folder"])
def test_a_log_that_cannot_be_made_is_refused_before_anything_is_opened(tmp_path, kind):
    path = tmp_path / "log"
    if kind == "a log":
        path.write_text("precious\n")
    elif kind == "a folder":
        path.mkdir()
    else:
        path = tmp_path / "missing" / "log"
    put(tmp_path / "bench")
    with pytest.raises(UsageError, match=re.escape(str(path))), Bench(describe_bench(tmp_path / "bench", trace=path)):
        pass
    if kind == "a log":
        assert path.read_text() == "precious\n"
    with Bench(describe_bench(tmp_path / "bench")):  # the bench was let go
        pass


@contextmanager
def full_disk(room):
    """No file of this process grows beyond ``room`` bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_that_cannot_grow_is_said_once_and_holds_nothing_up(tmp_path):
    trace, end = Trace(tmp_path / "log"), Echo()
    link = trace.tap(end)

    def until_it_fails():
        for _ in range(100):
            link.write(b"OUTP ON\n", soon())

    with full_disk(4096):
        with pytest.raises(DataError, match=r"log cannot be written any more.*What was being sent was sent"):
            until_it_fails()
        sent = len(end.taken)
        link.write(b"OUTP OFF\n", soon())
        assert end.taken[-1] == b"OUTP OFF\n"
        assert link.read(soon()) == b"OUTP OFF\n"
        trace.close()
    kept = load_trace(tmp_path / "log")
    assert all(entry.data == b"OUTP ON\n" for entry in kept)
    assert len(kept) == sent - 1  # of the last line a part was written, at most


# what is read ---------------------------------------------------------------------------------------------------------

GOOD = '{"at": 0.1, "link": "a", "way": "out", "data": "2a49444e3f0a"}'
BAD = [
    "nonsense",
    "[]",
    "3",
    "null",
    "",
    '{"at": 0.1, "link": "a", "way": "out"}',
    '{"at": "soon", "link": "a", "way": "out", "data": ""}',
    '{"at": 0.1, "link": 5, "way": "out", "data": ""}',
    '{"at": 0.1, "way": "out", "data": ""}',
    '{"at": 0.1, "link": "a", "way": "up", "data": ""}',
    '{"at": 0.1, "link": "a", "way": "out", "data": "0g"}',
]


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("last", [False, True])
def test_a_damaged_line_is_named_with_its_place(tmp_path, line, last):
    path = tmp_path / "log"
    path.write_text("\n".join([GOOD, GOOD, line] + ([] if last else [GOOD])) + "\n")
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}:3: this is no line of a communication log"):
        load_trace(path)


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "log"
    for length in range(1, len(GOOD)):
        path.write_text(f"{GOOD}\n{GOOD[:length]}")
        assert [entry.data for entry in load_trace(path)] == [b"*IDN?\n"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00binary"])
def test_a_file_that_is_no_log_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "log"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_trace(path)


def rramlab(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


# a whole session ------------------------------------------------------------------------------------------------------


def work(session):
    """Use every opcode: form with a pilot block, reset, read, multiply, sweep and route; return all that came of it."""
    runs = [
        session.run(forming_plan("rows 0-15 & one-of-pair(seed=3)", block_rows=4), arm=DIE),
        session.run(
            plain_plan(
                pulse_step("rows 0-3", "reset", voltage=2.0),
                ReadStep(repeats=3),
                GateStep(rows="rows 0-9"),
                MultiplyStep(batch=4700, bits=3),
                SweepStep(cell="(3, 7)", purpose="read", voltage=0.2, points=5, dwell=1e-3, compliance=1e-4),
                RouteStep(cell="3,7", count=2, hold=0.15),
                block_rows=8,
            ),
            arm=DIE,
        ),
    ]
    (station,) = session.stations.values()
    return {
        "pulses": [run.pulses for run in runs],
        "conversions": [run.conversions for run in runs],
        "sweep": runs[1].sweeps,
        "route": runs[1].routes,
        "counts": ledger_of(session).pulse_counts(),
        "conductance": station.conductance_S.copy(),
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(found[name], value, equal_nan=True), name
        else:
            assert found[name] == value, name


@contextmanager
def opened(folder, trace=None):
    with Session(describe_bench(folder, trace=trace)) as session:
        yield session


FAULTS = {"slow": (None, 300.0), "lossy": (WireFaults.everywhere(0.05, seed=4), 0.0)}


@pytest.fixture(scope="module", params=FAULTS)
def logged(request, tmp_path_factory):
    """A session over sockets, logged: a bench folder as it was before, the log, and what came of it.

    ``slow``: operations take their time, so that heartbeats are in the log; ``lossy``: frames were lost and damaged.
    """
    faults, pace = FAULTS[request.param]
    folder = tmp_path_factory.mktemp("session")
    with on_the_table(put(folder / "board", SMU), faults, pace) as table:
        host = table.host(folder / "host")
        shutil.copytree(host, folder / "before")
        with opened(host, folder / "log") as session:
            found = work(session)
    addresses = (table.served.tcp, table.smus["left"])
    change(folder / "before", *((each, f"replay:{folder / 'log'}#{each}") for each in addresses))
    return folder, found, addresses


def without_numbers(path, link):
    """What was sent on a link: frames without sequence numbers, no heartbeat and no repetition; or texts."""
    sent = [entry.data for entry in load_trace(path) if entry.way == "out" and entry.link.endswith(link)]
    if not any(b"\0" in data for data in sent):
        return sent
    frames = [frame for frame in Decoder().feed(b"".join(sent)) if frame is not None]
    first = {frame.sequence: frame for frame in frames if frame.opcode != Opcode.HEARTBEAT}
    assert all(frame.kind == Kind.REQUEST for frame in frames)
    return [(frame.opcode, frame.payload) for frame in first.values()]


def test_the_logs_have_what_makes_a_replay_hard(logged, request):
    """Otherwise the tests below show little."""
    folder, _, (board, _) = logged
    entries = [entry for entry in load_trace(folder / "log") if entry.link == board]
    sent, came = ([e.data for e in entries if e.way == way] for way in ("out", "in"))
    opcodes = [frame.opcode for frame in Decoder().feed(b"".join(sent)) if frame is not None]
    assert opcodes.count(Opcode.HEARTBEAT) > 2
    assert opcodes.count(Opcode.MULTIPLY) > WINDOW  # several are out at once, and some wait for them
    if "lossy" in request.node.name:
        assert None in Decoder().feed(b"".join(came))
        assert len(set(sent)) < len(sent) or any(data.startswith(b"\0") for data in sent)


def test_a_session_played_again_from_its_log_gives_the_same(logged, tmp_path):
    """The same results, and of the same conversation."""
    folder, found, addresses = logged
    shutil.copytree(folder / "before", tmp_path / "again")
    with opened(tmp_path / "again", tmp_path / "second") as session:
        same(work(session), found)
    for link in addresses:
        said = without_numbers(folder / "log", link)
        assert len(said) > 20
        assert without_numbers(tmp_path / "second", link) == said


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """One read over a socket, logged; a bench that plays it, and what was read."""
    folder = tmp_path_factory.mktemp("short")
    with on_the_table(put(folder / "board")) as table:
        host = table.host(folder / "host")
        shutil.copytree(host, folder / "before")
        with opened(host, folder / "log") as session:
            found = session.macro.read("all")
    return change(folder / "before", (table.served.tcp, f"replay:{folder / 'log'}")), folder / "log", found


def test_the_links_name_may_be_left_out_where_there_is_one(short, tmp_path):
    before, _, found = short
    shutil.copytree(before, tmp_path / "again")
    with opened(tmp_path / "again") as session:
        assert np.array_equal(session.macro.read("all"), found, equal_nan=True)


def test_another_conversation_is_refused_in_words(short, tmp_path):
    before, log, _ = short
    shutil.copytree(before, tmp_path / "again")
    with pytest.raises(InstrumentError) as caught, opened(tmp_path / "again") as session:
        session.run(Plan(name="other", steps=(ReadStep(cells="rows 0-3"),)))
    said = str(caught.value)
    for words in (str(log), "REQUEST READ", "was sent, the log has", "not the conversation", "copy of the ledger"):
        assert words in said


def test_a_log_that_ends_too_early_says_so(short, tmp_path):
    before, log, _ = short
    shutil.copytree(before, tmp_path / "again")
    lines = log.read_text().splitlines(keepends=True)
    (tmp_path / "cut").write_text("".join(lines[:3]))
    change(tmp_path / "again", (str(log), str(tmp_path / "cut")))
    with (
        pytest.raises(InstrumentError, match=r"the log ends here|the log has nothing more"),
        opened(tmp_path / "again"),
    ):
        pass


def test_a_link_that_is_not_in_the_log_lists_those_that_are(logged):
    folder, _, addresses = logged
    for wrong in (f"replay:{folder / 'log'}", f"replay:{folder / 'log'}#tcp://elsewhere:1"):
        with pytest.raises(DataError) as caught:
            ReplayLink(wrong)
        assert all(address in str(caught.value) for address in addresses)
        assert f"replay:{folder / 'log'}#LINK" in str(caught.value)


def test_an_empty_log_is_said_to_have_no_link(tmp_path):
    (tmp_path / "log").write_text("")
    with pytest.raises(DataError, match="has the links none"):
        ReplayLink(f"replay:{tmp_path / 'log'}")


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_log_is_shown_frame_by_frame_and_text_by_text(logged):
    folder, _, (board, unit) = logged
    code, out, _ = rramlab("bench", "trace", folder / "log")
    assert code == 0
    for words in ("REQUEST HELLO #", "REPLY HELLO #", "REQUEST PULSE #", "REQUEST ROUTE #", "*IDN?", "B2902A"):
        assert words in out
    code, out, _ = rramlab("bench", "trace", folder / "log", "--json")
    entries = json.loads(out)["entries"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    assert {entry["link"] for entry in entries} == {board, unit}
    pulses = [entry for entry in entries if "REQUEST PULSE" in entry["says"]]
    assert {entry["way"] for entry in pulses} == {"out"}
    code, out, _ = rramlab("bench", "trace", folder / "log", "--link", unit, "--json")
    assert json.loads(out)["entries"] == [entry for entry in entries if entry["link"] == unit]


def test_a_frame_that_came_in_pieces_is_shown_once_and_whole(short, tmp_path):
    """On a serial line every frame does."""
    _, log, _ = short
    pieces = []
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        pieces += [{**entry, "data": f"{byte:02x}"} for byte in bytes.fromhex(entry["data"])]
    (tmp_path / "bytewise").write_text("".join(json.dumps(piece) + "\n" for piece in pieces))
    shown = [rramlab("bench", "trace", path, "--json")[1] for path in (log, tmp_path / "bytewise")]
    whole, bytewise = ([entry["says"] for entry in json.loads(each)["entries"]] for each in shown)
    assert bytewise == whole


def test_a_link_to_be_shown_that_is_not_there_lists_those_that_are(logged):
    folder, _, addresses = logged
    code, _, err = rramlab("bench", "trace", folder / "log", "--link", "elsewhere")
    assert code == 2
    assert all(address in err for address in addresses)


def test_each_unit_of_a_simulated_bench_has_a_link_of_its_own(tmp_path):
    put(tmp_path / "bench", SMU, smu("right"))
    with Bench(describe_bench(tmp_path / "bench", trace=tmp_path / "log")):
        pass
    found = {}
    for entry in load_trace(tmp_path / "log"):
        found.setdefault(entry.link, []).append(entry.data)
    assert len(found) == 2
    assert sorted(b"Keysight" in b"".join(said) for said in found.values()) == [False, True]


def test_a_log_can_be_asked_for_of_every_command_that_opens_the_bench(tmp_path):
    put(tmp_path / "bench", SMU)
    for number, words in enumerate([("bench", "check"), ("run", "contact")]):
        log = tmp_path / f"log-{number}"
        code, _, err = rramlab(*words, "--bench", tmp_path / "bench", "--trace", log)
        assert code == 0, err
        assert load_trace(log)
        code, _, err = rramlab(*words, "--bench", tmp_path / "bench", "--trace", log)
        assert code == 2
        assert str(log) in err
