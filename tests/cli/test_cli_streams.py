"""What a command does does not depend on whether its words can be written: effect, record, then print."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import SmallBench

from rramlab.cli.streams import Outlet, fitting, harmless
from rramlab.drivers.bench import describe_bench
from rramlab.sim.truth import look

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")
DIE = "small-1"


class Failing(io.StringIO):
    """A stream that fails as the system says."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab").write().folder


def called(bench, *words, **streams):
    environment = {**os.environ, **streams.pop("environment", {})}
    command = [sys.executable, "-m", "rramlab", *words, "--bench", str(bench)]
    return subprocess.run(command, stderr=subprocess.PIPE, env=environment, **streams)


def clock_s(bench):
    return look(describe_bench(bench), DIE).clock_s


@given(st.text())
def test_any_text_fits_any_encoding(text):
    for encoding in ("ascii", "cp1252", "cp437", "latin-1", "utf-8", "utf-16", "shift_jis"):
        fitted = fitting(text, encoding)
        fitted.encode(encoding)
        assert fitting(fitted, encoding) == fitted
        assert fitting("as it is", encoding) == "as it is"
    assert harmless(harmless(text)) == harmless(text)
    assert not any(ord(each) < 32 and each not in "\n\t" for each in harmless(text))


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("12.2 µS", "12.2 uS"), ("125 Ω", "125 Ohm"), ("25 °C", "25 degC"), ("3 → 4 ± 1", "3 -> 4 +- 1"),
     ("a − b × c", "a - b x c"), ("é", "e"), ("漢", "\\u6f22"), ("\udcff", "\\udcff")],
)  # fmt: skip
def test_what_an_encoding_lacks_is_spelled_in_letters_that_it_has(text, spelled):
    assert fitting(text, "ascii") == spelled


def test_what_would_steer_a_terminal_is_made_visible():
    assert harmless("\x1b[2J\x07name\u202e") == "\\x1b[2J\\x07name\\u202e"
    assert harmless("two\nlines\tand a\u00a0blank µ") == "two\nlines\tand a\u00a0blank µ"


@pytest.mark.parametrize(("number", "lost"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.EPIPE, False)])
def test_a_stream_that_fails_is_given_up_and_says_why(number, lost):
    outlet = Outlet(Failing(number))
    assert outlet.write("words") == 5
    outlet.flush()
    assert outlet.trouble.errno == number
    assert (outlet.lost is not None) == lost
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        assert Outlet(stream).write("words") == 5


@needs_full
@pytest.mark.parametrize("words", [("sim", "age", DIE, "--for", "1 h"), ("sim", "age", DIE, "--for", "1 h", "--json")])
def test_a_die_ages_once_though_there_is_no_room_for_the_words(bench, words):
    assert called(bench, "run", "contact", stdout=subprocess.DEVNULL).returncode == 0
    before = clock_s(bench)
    with FULL.open("w") as full:
        done = called(bench, *words, stdout=full)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "No space left" in said
    assert "did is done and kept" in said
    assert "defect" not in said
    assert "Traceback" not in said
    assert clock_s(bench) == pytest.approx(before + 3600)


@needs_full
def test_a_run_is_executed_and_recorded_though_there_is_no_room_for_the_words(bench):
    with FULL.open("w") as full:
        done = called(bench, "run", "contact", stdout=full)
    assert done.returncode == 1
    assert "did is done and kept" in done.stderr.decode()
    assert '"status": "done"' in next((bench / "data" / "runs").glob("*/run.json")).read_text()
    with FULL.open("w") as full:  # what it ended with is not hidden
        assert called(bench, "run", "electroform", stdout=full).returncode == 3


def test_a_reader_who_went_away_changes_nothing(bench):
    for words in (("bench", "show"), ("run", "contact"), ("drivers", "schema")):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "rramlab", *words]
        done = subprocess.run(command, cwd=bench, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, b""), words


@pytest.mark.skipif(sys.platform == "win32", reason="a child of Windows always has streams")
def test_streams_that_were_closed_before_the_program_began_change_nothing(bench):
    command = f"{sys.executable} -m rramlab run contact --bench {bench} >&- 2>&-"
    assert subprocess.run(["sh", "-c", command]).returncode == 0
    assert '"status": "done"' in next((bench / "data" / "runs").glob("*/run.json")).read_text()


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_a_process_of_its_own_writes_in_the_encoding_that_it_is_given(bench, encoding):
    done = called(bench, "bench", "check", stdout=subprocess.PIPE, environment={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0
    assert ("25.0 °C" if encoding == "cp437" else "25.0 degC") in done.stdout.decode(encoding)
