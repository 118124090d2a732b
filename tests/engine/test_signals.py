"""Ctrl-C and termination: the operation in flight ends, the bench is safe, the run can be resumed."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from workbench import SmallBench, child, forming_plan, hidden, ledger_of

from rramlab.base.errors import Stopped
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.runs.store import list_runs
from rramlab.sim.controller import SimulatedController

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


# whose handlers they are ----------------------------------------------------------------------------------------------

# What a notebook's kernel does: SIGINT is ignored but for the time of each cell, which has Python's own handler, set anew; an
# interrupt comes at any moment. Says in the end what was lost.
NOTEBOOK = """
import json, os, random, signal, sys, threading, time
sys.path.insert(0, ".")
import numpy as np
import rramlab
from rramlab.base.errors import RramlabError, Stopped
from workbench import forming_plan, hidden, ledger_of
from rramlab.macro.pulses import Pulse
folder, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
over = threading.Event()
def interrupt():
    while not over.wait(chance.uniform(0.0005, 0.02)):
        os.kill(os.getpid(), signal.SIGINT)
session = rramlab.open_bench(folder)
session.__enter__()
session.run(forming_plan("all"), arm="small-1")
session.arm("small-1")
signal.signal(signal.SIGINT, signal.SIG_IGN)
killer = threading.Thread(target=interrupt)
killer.start()
endings = {}
def cell(do):
    name = "done"
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            do()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except (Stopped, KeyboardInterrupt) as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        name = type(error).__name__
    endings[name] = endings.get(name, 0) + 1
pulse = Pulse(2.0, 1e-6, 1.6)
for number in range(60):
    cell(lambda: session.macro.pulse(("set", "reset")[number % 2], f"row {number % 32}", pulse))
    cell(lambda: session.macro.read(f"row {number % 32}"))
over.set()
killer.join()
ledger, state = ledger_of(session), hidden(session)
print(json.dumps({
    "endings": endings,
    "dangling": len(ledger.dangling()),
    "equal": bool(np.array_equal(ledger.pulse_counts(), state.pulses)),
    "unknown": ledger.unknown().count,
    "handler": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
}), flush=True)
session.close()
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_interrupt_in_a_notebook_lands_between_operations(tmp_path, seed):
    """The kernel takes Python's handler at every cell; no operation is left intended, memory and die agree."""
    process = child(NOTEBOOK, SmallBench(tmp_path).write().folder, seed)
    out, err = process.communicate(timeout=120)
    assert out, err
    found = json.loads(out)
    assert found["dangling"] == 0
    assert found["equal"]
    assert found["unknown"] == 0
    assert found["handler"]
    assert set(found["endings"]) & {"Stopped", "KeyboardInterrupt"}  # they did come


@pytest.fixture
def given_back():
    """Set a handler for this test."""
    kept = {}

    def put(number, handler):
        kept.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

    yield put
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_handlers_are_a_runs_and_are_given_back(tmp_path, given_back):
    def mine(number, frame):
        raise AssertionError("not in an operation")

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    for number, handler in zip(numbers, before, strict=True):
        given_back(number, handler)
    seen = []
    with SmallBench(tmp_path).write().open() as session:
        idle = [signal.getsignal(number) for number in numbers]
        assert idle[0] is before[0]  # Ctrl-C is the program's while nothing is done

        def listen(told):
            seen.append([signal.getsignal(number) for number in numbers])

        session.run(Plan(name="r", steps=(ReadStep(),)), listen=listen)
        assert all(here != there for here, there in zip(seen[0], before, strict=True))
        assert [signal.getsignal(number) for number in numbers] == idle
        signal.signal(signal.SIGINT, mine)
        session.macro.read("row 0")
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, before[0])
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_was_ignored_stays_ignored(tmp_path):
    """``nohup`` ignores SIGHUP, a shell SIGINT of a job in the background: neither ends a run."""
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        with SmallBench(tmp_path).write().open() as session:

            def listen(told):
                for number in numbers:
                    os.kill(os.getpid(), number)

            result = session.run(forming_plan(), arm="small-1", listen=listen)
            assert result.pulses == 32 * 8
            assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_programs_own_handler_hears_of_ctrl_c_when_the_operation_is_over(tmp_path):
    """A training loop that stops at its next step is not thrown out of a product; its second Ctrl-C ends that at once."""
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(list(order)))
    order = []
    try:
        with SmallBench(tmp_path).write().open() as session:
            controller = session.bench.controllers["small-1"]
            read = controller.read

            def interrupted(*arguments, **more):
                os.kill(os.getpid(), signal.SIGINT)
                order.append("read")
                return read(*arguments, **more)

            controller.read = interrupted
            assert session.macro.read("row 0")[0].size
            assert heard == [["read"]]
            with pytest.raises(Stopped):  # a run is stopped
                session.run(Plan(name="r", steps=(ReadStep(), ReadStep(name="again"))))
            del controller.read
    finally:
        signal.signal(signal.SIGINT, before)


WORKERS = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, ".")
import rramlab
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
context = multiprocessing.get_context("fork")
def work(ready):
    ready.set()
    time.sleep(60)
def forked(told=None):
    ready = context.Event()
    worker = context.Process(target=work, args=(ready,))
    worker.start()
    ready.wait(30)
    worker.terminate()
    worker.join(20)
    print(worker.exitcode, flush=True)
    worker.kill()
with rramlab.open_bench(sys.argv[1]) as session:
    forked()
    told = []
    def listen(progress):
        if not told:
            told.append(1)
            forked()
    session.run(Plan(name="r", steps=(ReadStep(),)), listen=listen)
    session.macro.read("row 0")
print("done", flush=True)
"""


def test_a_worker_that_is_forked_ends_when_it_is_told_to(tmp_path):
    """While the session is idle, and in the middle of a run."""
    process = child(WORKERS, SmallBench(tmp_path).write().folder)
    out, err = process.communicate(timeout=120)
    assert out.split() == [str(-signal.SIGTERM)] * 2 + ["done"], err


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    with SmallBench(tmp_path).write().open() as session, ThreadPoolExecutor(1) as pool:
        before = [signal.getsignal(number) for number in numbers]
        seen = []
        plan = Plan(name="r", steps=(ReadStep(),))
        pool.submit(
            session.run, plan, listen=lambda told: seen.append([signal.getsignal(number) for number in numbers])
        ).result(60)
        assert seen
        assert all(each == before for each in seen)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_bench_is_opened_leaves_it_free(tmp_path, name, monkeypatch):
    bench = SmallBench(tmp_path, dies={"a": "", "b": ""}).write()
    hello = SimulatedController.hello

    def interrupted(self):
        os.kill(os.getpid(), getattr(signal, name))
        return hello(self)

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedController, "hello", interrupted)
        with pytest.raises(Stopped), bench.open():
            pass
    with bench.open():
        pass
