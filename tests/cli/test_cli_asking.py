"""Questions: asked where somebody sees them and can answer, and nowhere else; not answered is not yes."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from workbench import SmallBench

from rramlab.cli import asking
from rramlab.cli.asking import ask

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")


class Stream(io.StringIO):
    def __init__(self, text="", terminal=True):
        super().__init__(text)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def person(monkeypatch):
    """Put a person who types ``text`` at the terminal; return what is shown."""

    def sits(text, stdin=True, stderr=True):
        shown = Stream(terminal=stderr)
        monkeypatch.setattr(asking.sys, "stdin", Stream(text, stdin))
        monkeypatch.setattr(asking.sys, "stderr", shown)
        return shown

    return sits


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("Yes \n", True), ("n\n", False), ("NO\n", False), ("\nperhaps\ny\n", True),
     ("a\nb\nc\ny\n", None), ("", None)],
)  # fmt: skip
def test_a_question_is_answered_by_yes_or_no(person, typed, answer):
    shown = person(typed)
    assert ask("Has the board [/red]?") is answer
    assert shown.getvalue().startswith("Has the board [/red]? [y/n] ")


@pytest.mark.parametrize(("stdin", "stderr"), [(False, True), (True, False), (False, False)])
def test_nobody_is_asked_who_cannot_see_or_answer(person, stdin, stderr):
    shown = person("y\n", stdin, stderr)
    assert ask("?") is None
    assert shown.getvalue() == ""


def test_a_program_that_wants_a_document_is_not_asked(person):
    shown = person("y\n")
    assert ask("?", as_json=True) is None
    assert shown.getvalue() == ""


def test_without_streams_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(asking.sys, "stdin", None)
    assert ask("?") is None


# bench check --------------------------------------------------------------------------------------------------------


def check(*words, **streams):
    return subprocess.Popen([sys.executable, "-m", "rramlab", "bench", "check", *words], **streams)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A bench whose board is reached by the wire: as far as its files say, a real one."""
    folder = tmp_path_factory.mktemp("served")
    SmallBench(folder / "board").write()
    words = ["sim", "serve", "--bench", str(folder / "board"), "--write-host", str(folder / "host"), "--json"]
    server = subprocess.Popen(
        [sys.executable, "-m", "rramlab", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    text = ""
    while not text.endswith("}\n"):
        text += server.stdout.readline().decode()
    assert json.loads(text)["tcp"]
    yield folder / "host"
    server.terminate()
    server.wait(30)
    server.stdout.close()


def at_a_terminal(host, typed, *words):
    """Check the bench with a person at the terminal, stdout in a pipe; return exit code, stdout and what the person saw."""
    ours, theirs = pty.openpty()
    process = check(*words, "--bench", str(host), stdin=theirs, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    os.write(ours, typed)
    out, _ = process.communicate(timeout=60)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.returncode, out.decode(), seen.decode()


def test_bench_check_asks_at_the_terminal_though_its_output_goes_into_a_pipe(host):
    code, out, seen = at_a_terminal(host, b"y\ny\nyes\n")
    assert code == 0
    assert seen.count("[y/n]") == 3
    assert "[y/n]" not in out
    assert out.count(": yes") == 3
    assert "as expected" in out


def test_a_board_that_lacks_something_is_not_as_expected(host):
    code, out, seen = at_a_terminal(host, b"y\nn\ny\n")
    assert code == 5
    assert out.count(": NO") == 1
    assert "as expected" not in out
    assert "do not put a die" in seen


def test_a_question_that_is_not_answered_is_not_as_expected(host):
    code, out, seen = at_a_terminal(host, b"\x04")
    assert code == 5
    assert "not answered" in out
    assert "--power-up" in seen
    assert "as expected" not in out


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_without_a_terminal_nothing_waits_and_nothing_is_taken_for_yes(host, words):
    began = time.monotonic()
    process = check(
        "--bench", str(host), *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert process.returncode == 5
    assert "was not answered" in err.decode()
    assert b"as expected" not in out
    if words:
        document = json.loads(out)
        assert document["power_up_confirmed"] is None
        assert len(document["power_up_unanswered"]) == 3
        assert document["instruments"]
        assert document["exit_code"] == 5


def test_a_program_at_a_terminal_is_not_asked_either(host):
    code, out, seen = at_a_terminal(host, b"", "--json")
    assert code == 5
    assert "[y/n]" not in seen
    assert len(json.loads(out)["power_up_unanswered"]) == 3


@pytest.mark.parametrize(("flag", "code"), [("--power-up", 0), ("--no-power-up", 5)])
def test_a_flag_answers_for_all(host, flag, code):
    process = check("--bench", str(host), flag, "--json", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(out)["power_up_confirmed"] is (code == 0)


def test_the_board_of_a_simulated_bench_is_not_asked_about(tmp_path):
    SmallBench(tmp_path).write()
    process = check("--bench", str(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"this one is simulated" in out
    assert b"as expected" in out
