"""``estop`` reaches whoever holds the bench: one that hangs, one that is stopped, one whose lock files are gone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workbench import SmallBench, hidden, ledger_of

import rramlab as package
from rramlab.drivers import stopping
from rramlab.drivers.bench import describe_bench

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
PROC = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who has a file locked")

# Opens the bench, then works, hangs in what hears no signal, or waits.
HOLD = """
import signal, sys, time
sys.path.insert(0, ".")
import rramlab
from rramlab.base.errors import Stopped
from workbench import plain_plan
from rramlab.plan.steps import ReadStep, RepeatStep
folder, how = sys.argv[1:]
with rramlab.open_bench(folder) as session:
    if how == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    print("open", flush=True)
    if how == "working":
        session.run(plain_plan(RepeatStep(times=100000, steps=(ReadStep(cells="row 0"),))))
    else:
        time.sleep(120)
"""


@pytest.fixture
def hold(tmp_path):
    """Call ``hold(folder, how)`` for a process that has the bench."""
    processes = []

    def start(folder, how):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        processes.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(stopping, "PATIENCE_s", 1.0)


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab").write().folder


def estop(rramlab, folder):
    answer = rramlab("estop", "--bench", folder, "--json")
    return answer.exit_code, answer.document, answer.stderr


def usable(folder):
    with package.open_bench(folder) as session:
        assert not ledger_of(session).dangling()
        assert not hidden(session).pulses.any()


@pytest.mark.parametrize("how", ["waiting", "working"])
def test_a_holder_that_answers_makes_the_bench_safe_itself(rramlab, bench, hold, how):
    process = hold(bench, how)
    assert estop(rramlab, bench)[:2] == (0, {"signalled": process.pid, "safe": True})
    assert process.wait(30) == 1  # by an exception, not by the signal
    usable(bench)


def test_a_holder_that_is_stopped_goes_on_to_its_safe_state(rramlab, bench, hold):
    process = hold(bench, "working")
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    assert estop(rramlab, bench)[:2] == (0, {"signalled": process.pid, "safe": True})
    assert process.wait(30) == 1
    usable(bench)


def test_a_holder_that_hears_no_signal_is_killed_and_that_is_said_before(rramlab, bench, hold, impatient):
    process = hold(bench, "deaf")
    code, document, said = estop(rramlab, bench)
    assert (code, document) == (0, {"signalled": process.pid, "safe": True, "killed": True})
    assert f"Process {process.pid}" in said
    assert "killed now" in said
    assert process.wait(30) == -signal.SIGKILL
    usable(bench)


@pytest.mark.parametrize("gone", [["bench.holder.json"], ["bench.lock"], ["bench.lock", "bench.holder.json"]])
def test_a_holder_whose_lock_files_are_gone_is_found(rramlab, bench, hold, gone):
    process = hold(bench, "waiting")
    for name in gone:
        (bench / "data" / name).unlink()
    assert estop(rramlab, bench)[:2] == (0, {"signalled": process.pid, "safe": True})
    process.wait(30)
    usable(bench)


@PROC
def test_a_holder_is_found_when_every_lock_file_is_gone(rramlab, bench, hold):
    process = hold(bench, "waiting")
    for lock in describe_bench(bench).ownership.locks:
        for path in (lock.path, lock.path.with_suffix(".holder.json")):
            path.unlink(missing_ok=True)
    (bench / "data" / "bench.holder.json").unlink(missing_ok=True)
    assert estop(rramlab, bench)[:2] == (0, {"signalled": process.pid, "safe": True})
    process.wait(30)
    usable(bench)


@PROC
def test_a_name_that_is_not_the_holders_is_not_signalled(rramlab, bench, hold):
    """A file says process N; the system says who has the lock."""
    process = hold(bench, "waiting")
    bystander = subprocess.Popen(["sleep", "60"])
    holder = bench / "data" / "bench.holder.json"
    holder.write_text(json.dumps({**json.loads(holder.read_text()), "pid": bystander.pid}))
    try:
        code, document, _ = estop(rramlab, bench)
        assert (code, document["safe"]) == (0, True)
        assert document["signalled"] == process.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_bench_file_that_was_spoiled_meanwhile_does_not_save_the_holder(rramlab, bench, hold):
    process = hold(bench, "waiting")
    (bench / "bench.yaml").write_text("backend: [")
    code, document, _ = estop(rramlab, bench)
    assert code == 2
    assert f"process {process.pid} was stopped" in document["error"]
    assert "by hand" in document["error"]
    assert process.wait(30) == 1


def test_what_is_not_confirmed_is_not_said_to_be_safe(rramlab, bench, hold):
    """The holder is stopped; of the board, which is on a wire and off, nobody can say that its lines are at 0 V."""
    process = hold(bench, "waiting")
    path = bench / "bench.yaml"
    text = path.read_text(encoding="utf-8").replace("backend: simulated", "backend: wire")
    text = text.replace("options: {}}\n", 'address: "tcp://127.0.0.1:1"}\n', 1).replace(", options: {}}", "}")
    path.write_text(text, encoding="utf-8")
    code, document, _ = estop(rramlab, bench)
    assert code == 1
    for words in (f"process {process.pid}", "was stopped", "not confirmed", "cannot be reached", "by hand"):
        assert words in document["error"]
    assert process.wait(30) == 1


def test_whoever_only_looks_is_no_holder(rramlab, bench):
    usable(bench)
    looking = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; f = open(sys.argv[1]); print('x', flush=True); time.sleep(60)",
         bench / "data" / "bench.lock"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert looking.stdout.readline()
        assert estop(rramlab, bench)[:2] == (0, {"signalled": None, "safe": True})
        assert looking.poll() is None
    finally:
        looking.kill()
        looking.communicate()
