"""Ctrl-C and termination: the operation in flight ends, the bench is safe, the run can be resumed."""

import json
import os
import signal

import numpy as np
import pytest
from workbench import SmallBench, child, hidden, ledger_of

from rramlab.base.errors import Stopped
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.runs.store import list_runs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

# Runs a plan, stops itself in the middle of pulse SIGNAL_AT by signals, says how that ended and whether it was made safe.
RUN = """
import json, os, signal, sys
sys.path.insert(0, ".")
import rramlab
from rramlab.base.errors import RramlabError
from workbench import forming_plan
folder, where, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
signals = [getattr(signal, name) for name in sys.argv[4:]]
events = []
code = 0
try:
    with rramlab.open_bench(folder) as session:
        controller = session.bench.controllers["small-1"]
        original, safe = getattr(controller, where), controller.safe_state
        seen = []
        def call(*arguments, **more):
            seen.append(1)
            if len(seen) == number:
                for each in signals:
                    os.kill(os.getpid(), each)
            result = original(*arguments, **more)
            events.append(where)
            return result
        def safe_state():
            events.append("safe")
            safe()
        setattr(controller, where, call)
        controller.safe_state = safe_state
        session.run(forming_plan(), arm="small-1")
except RramlabError as error:
    code = error.exit_code
    events.append(type(error).__name__)
except KeyboardInterrupt:
    code = 130
    events.append("KeyboardInterrupt")
print(json.dumps(events), flush=True)
sys.exit(code)
"""


def stopped(folder, *arguments):
    process = child(RUN, folder, *arguments)
    out, err = process.communicate()
    assert out, err
    return json.loads(out), process.returncode


def goes_on(bench):
    with bench.open() as session:
        run = list_runs(session.runs)[0]
        assert run.record["status"] == "stopped"
        assert (run.folder / "run.h5").exists()
        assert not ledger_of(session).dangling()
        assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
        before = int(hidden(session).pulses.sum())
        session.resume(run.id, arm="small-1")
        pulses = hidden(session).pulses
        assert np.all(pulses[:, 0::2] + pulses[:, 1::2] == 1)
        return before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_first_signal_stops_after_the_operation_in_flight(tmp_path, name):
    bench = SmallBench(tmp_path).write()
    events, code = stopped(bench.folder, "pulse", 5, name)
    assert code == 4
    assert events[:5] == ["pulse"] * 5  # the fifth was completed, no sixth was sent
    assert events[5] == "safe"
    assert events[-1] == "Stopped"
    assert goes_on(bench) == 8 * (4 + 4)  # the pilot block of four rows, then four rows one by one


@pytest.mark.parametrize("names", [("SIGINT", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_a_second_signal_is_safe_too_and_loses_no_pulse(tmp_path, names):
    bench = SmallBench(tmp_path).write()
    events, code = stopped(bench.folder, "pulse", 5, *names)
    assert code == 4
    assert "safe" in events
    assert events[-1] == "Stopped"
    assert goes_on(bench) >= 8 * (4 + 3)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_during_a_read_stops_before_the_next_pulse(tmp_path, name):
    bench = SmallBench(tmp_path).write()
    events, code = stopped(bench.folder, "read", 2, name)
    assert code == 4
    assert "safe" in events
    assert goes_on(bench) == 8 * 4  # nothing beyond the pilot block


IDLE = """
import sys
import rramlab
with rramlab.open_bench(sys.argv[1]) as session:
    controller = session.bench.controllers["small-1"]
    safe = controller.safe_state
    def safe_state():
        print("safe", flush=True)
        safe()
    controller.safe_state = safe_state
    session.macro.read("row 0")
    print("open", flush=True)
    import time
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_session_between_runs_is_made_safe_by_a_signal(tmp_path, name):
    """Termination reaches a session that is open but runs nothing: the bench's safe state is tried before it ends."""
    process = child(IDLE, SmallBench(tmp_path).write().folder)
    assert process.stdout.readline() == "open\n"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate()
    assert "safe" in out
    assert process.returncode != 0


# A bench of two dies; signals arrive while the first controller is being made safe, in a run that fails, in one that is
# stopped, or as the session closes. LOCK says whether the bench was still locked whenever a controller became safe.
INSIDE = """
import json, os, signal, sys
sys.path.insert(0, ".")
import rramlab
from filelock import FileLock, Timeout
from rramlab.base.errors import RramlabError
from workbench import forming_plan
folder, when = sys.argv[1], sys.argv[2]
signals = [getattr(signal, name) for name in sys.argv[3:]]
events, code = [], 0
def locked():
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
try:
    with rramlab.open_bench(folder) as session:
        lock = session.bench._lock.path
        for die, controller in session.bench.controllers.items():
            def safe_state(die=die, safe=controller.safe_state):
                if die == "a":
                    for each in signals:
                        os.kill(os.getpid(), each)
                safe()
                events.append([die, "safe", locked()])
            controller.safe_state = safe_state
        first = session.bench.controllers["a"]
        pulse, seen = first.pulse, []
        def broken(*arguments, **more):
            seen.append(1)
            if len(seen) == 3 and when == "failed":
                raise RuntimeError("the link is gone")
            if len(seen) == 3 and when == "stopped":
                os.kill(os.getpid(), signal.SIGINT)
            return pulse(*arguments, **more)
        first.pulse = broken
        session.macros["a"].read("row 0")
        if when != "close":
            session.run(forming_plan(), arm="a", die="a")
    events.append(["", "closed", locked()])
except (RramlabError, RuntimeError) as error:
    code = getattr(error, "exit_code", 1)
    events.append(["", type(error).__name__, locked()])
except KeyboardInterrupt:
    code = 130
    events.append(["", "KeyboardInterrupt", locked()])
print(json.dumps(events), flush=True)
sys.exit(code)
"""


@pytest.mark.parametrize("names", [("SIGINT",), ("SIGINT", "SIGTERM"), ("SIGTERM",) * 3])
@pytest.mark.parametrize("when", ["failed", "stopped", "close"])
def test_a_signal_while_the_bench_is_made_safe_does_not_cut_that_short(tmp_path, when, names):
    """Every controller becomes safe, the records are written, and the lock is let go last."""
    bench = SmallBench(tmp_path, dies={"a": "", "b": ""}).write()
    process = child(INSIDE, bench.folder, when, *names)
    out, err = process.communicate()
    assert out, err
    *events, last = json.loads(out)
    times = 1 if when == "close" else 2  # when the run ends, and when the session closes
    for die in ("a", "b"):
        assert len([event for event in events if event[0] == die]) >= times
    assert all(locked for _, _, locked in events)
    assert not last[2]
    assert {run.record["name"]: run.record["status"] for run in list_runs(tmp_path / "data" / "runs")} == {
        "interactive": "done",
        **({} if when == "close" else {"form": when}),
    }
    assert all((run.folder / "run.h5").exists() for run in list_runs(tmp_path / "data" / "runs"))
    if when == "failed":
        assert last[1] == "RuntimeError"
    with bench.open() as session:
        for die in ("a", "b"):
            session.stations[die].reconcile()  # the pulse that failed
            assert np.array_equal(ledger_of(session, die).pulse_counts(), hidden(session, die).pulses)
            assert not ledger_of(session, die).dangling()


def test_a_stop_in_the_last_operation_makes_the_bench_safe(tmp_path):
    """Everything is done, and yet the person asked for a stop: safe now, not when the session closes."""
    events, calls = [], []
    with SmallBench(tmp_path).write().open() as session:
        controller = session.bench.controllers["small-1"]
        read, safe = controller.read, controller.safe_state

        def stopping(*arguments, **more):
            os.kill(os.getpid(), signal.SIGINT)
            return read(*arguments, **more)

        controller.read, controller.safe_state = stopping, lambda: (calls.append(1), safe())
        try:
            session.run(Plan(name="r", steps=(ReadStep(),)))
        except Stopped:
            events.append(len(calls))
        del controller.read
    assert events
    assert events[0] > 0


def test_a_signal_while_the_bench_is_released_is_not_lost(tmp_path):
    released = []

    def work():
        with SmallBench(tmp_path).write().open() as session:
            controller = session.bench.controllers["small-1"]
            safe = controller.safe_state

            def interrupted():
                os.kill(os.getpid(), signal.SIGTERM)
                safe()
                released.append(1)

            controller.safe_state = interrupted

    with pytest.raises(Stopped, match="safe state"):
        work()
    assert released
