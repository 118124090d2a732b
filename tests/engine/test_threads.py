"""A session from any thread, one operation at a time; a session that is over, and what was kept of it, say so."""

import asyncio
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from workbench import FORM, forming_plan, hidden, ledger_of

from rramlab.base.errors import BenchLocked, RramlabError, Stopped, UsageError
from rramlab.macro.gates import GatePattern
from rramlab.macro.placement import Tile
from rramlab.macro.pulses import Pulse
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep, RepeatStep
from rramlab.runs.store import list_runs

DIE = "small-1"
PULSE = Pulse(FORM["voltage"], FORM["width"], FORM["gate"])


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


def in_thread(do):
    """Do it in a thread of its own; return what it returns or raise what it raises."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result(60)


def endless():
    return Plan(name="long", steps=(RepeatStep(times=100_000, steps=(ReadStep(cells="row 0"),)),))


class Running:
    """A run that goes on in another thread until it is stopped; ``began``: it has."""

    def __init__(self, session, plan=None):
        self.session = session
        self._began = threading.Event()
        self._pool = ThreadPoolExecutor(1, "worker")
        self.result = self._pool.submit(
            lambda: session.run(plan or endless(), arm=DIE, listen=lambda told: self._began.set())
        )
        assert self._began.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.stop(now=True)
        with pytest.raises(Stopped):
            self.result.result(30)
        self._pool.shutdown()


# any thread -----------------------------------------------------------------------------------------------------------


def test_every_operation_works_in_another_thread(session):
    session.arm(DIE)
    tile = Tile("t", 0, 8, 4, 0, 0)
    gates = GatePattern.lines(np.arange(32) < 8, np.arange(8) < 4)
    in_thread(session.macro.contact)
    report = in_thread(lambda: session.macro.pulse("electroform", "rows 0-3", PULSE))
    assert report.done.count == 64
    assert np.nanmedian(in_thread(lambda: session.macro.read("rows 0-3"))) > 8e-6
    assert in_thread(lambda: session.macro.weights(tile)).shape == (8, 4)
    assert in_thread(session.macro.conditions).die == DIE
    assert in_thread(lambda: session.run(forming_plan("rows 8-11"), arm=DIE)).pulses == 64
    assert in_thread(lambda: session.macro.multiply(np.ones((1, 8), np.uint8), 1, tile, gates)).shape == (1, 4)
    assert session.macro.read("row 0")[0].size  # and in this one again
    assert (ledger_of(session).pulse_counts() == hidden(session).pulses).all()


def test_a_session_of_one_thread_can_be_opened_in_another_and_closed_in_a_third(small_bench):
    session = small_bench.open()
    in_thread(session.__enter__)
    assert session.macro.read("row 0")[0].size
    in_thread(session.close)
    with small_bench.open():
        pass


def test_many_threads_do_one_operation_at_a_time_and_none_is_lost(session):
    session.arm(DIE)
    session.macro.contact()
    controller = session.bench.controllers[DIE]
    inside, most = [], []
    for name in ("pulse", "read"):
        original = getattr(controller, name)

        def call(*arguments, _original=original, **more):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            try:
                return _original(*arguments, **more)
            finally:
                inside.pop()

        setattr(controller, name, call)

    def work(row):
        session.macro.read(f"row {row}")
        if row < 4:
            session.macro.pulse("electroform", f"row {row}", PULSE)
        return float(np.nanmean(session.macro.read(f"row {row}")[row]))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(16)))
    assert max(most) == 1
    assert all(each > 5e-6 for each in found[:4])
    assert (ledger_of(session).pulse_counts() == hidden(session).pulses).all()
    (run,) = list_runs(session.runs)
    assert len(list(run.blocks())) == 32  # each read once, in a place of its own


def test_while_a_run_is_executed_another_thread_is_refused_at_once(session):
    with Running(session):
        began = time.monotonic()
        with pytest.raises(UsageError, match=r"executes a run in thread 'worker_0'.*session\.stop"):
            session.macro.read("row 0")
        with pytest.raises(UsageError, match="executes a run"):
            session.run(Plan(name="r", steps=(ReadStep(),)))
        assert time.monotonic() - began < 5
    assert session.macro.read("row 0")[0].size  # and goes on afterwards


def test_a_run_that_waits_for_another_thread_does_not_wait_for_ever(session):
    """What is told of a run asks the main thread for a read, which would wait for the run."""
    answers = []

    def listen(told):
        if not answers:
            with pytest.raises(UsageError, match="executes a run"):
                in_thread(lambda: session.macro.read("row 0"))
            answers.append(told)

    session.run(Plan(name="r", steps=(ReadStep(),)), listen=listen)
    assert answers


def test_what_is_told_of_a_run_may_use_the_session_in_its_own_thread(session):
    seen = []
    session.run(Plan(name="r", steps=(ReadStep(),)), listen=lambda told: seen.append(session.macro.read("row 0")))
    assert seen


def test_a_run_in_another_thread_is_stopped_by_a_call(session):
    running = Running(session)
    assert session.stop()
    with pytest.raises(Stopped):
        running.result.result(30)
    assert list_runs(session.runs)[-1].record["status"] == "stopped"
    assert not session.stop()  # nothing is done any more


def test_closing_stops_what_another_thread_does(small_bench):
    with small_bench.open() as session:
        running = Running(session)
    with pytest.raises(Stopped):
        running.result.result(30)
    with small_bench.open():
        pass


# an event loop --------------------------------------------------------------------------------------------------------


def test_a_session_works_in_an_event_loop_and_in_its_threads(small_bench):
    async def work():
        with small_bench.open() as session:
            here = session.macro.read("row 0")
            loop = asyncio.get_running_loop()
            there = await loop.run_in_executor(None, session.macro.read, "row 0")
            both = await asyncio.gather(*(asyncio.to_thread(session.macro.read, f"row {row}") for row in range(4)))
            await asyncio.to_thread(session.run, Plan(name="r", steps=(ReadStep(),)))
            return here, there, both

    here, there, both = asyncio.run(work())
    assert here.shape == there.shape
    assert len(both) == 4


# after its end --------------------------------------------------------------------------------------------------------


def closed(small_bench):
    with small_bench.open() as session:
        session.arm(DIE)
        macro = session.macro
        macro.read("row 0")
    return session, macro


def test_a_closed_session_says_so_and_nothing_of_a_damaged_ledger(small_bench):
    session, macro = closed(small_bench)
    tile = Tile("t", 0, 8, 4, 0, 0)
    for call in (
        lambda: session.run(Plan(name="r", steps=(ReadStep(),))),
        lambda: session.resume("last"),
        lambda: session.arm(DIE),
        lambda: session.macro,
        lambda: session.macros[DIE],
        lambda: session.stations[DIE],
        lambda: session.__enter__(),
        lambda: macro.read("row 0"),
        lambda: macro.pulse("electroform", "row 0", PULSE),
        lambda: macro.contact(),
        lambda: macro.weights(tile),
        lambda: macro.conditions(),
        lambda: macro.compensation,
        lambda: in_thread(macro.read),
    ):
        with pytest.raises(UsageError, match=r"this session is closed.*open_bench") as caught:
            call()
        assert "ledger" not in str(caught.value)
    session.close()  # once more does nothing
    with small_bench.open() as again:
        assert not ledger_of(again).dangling()
        assert again.macro.read("row 0")[0].size


def test_a_session_that_is_not_open_yet_says_how_it_is_opened(small_bench):
    session = small_bench.open()
    for call in (lambda: session.macro, lambda: session.run("contact"), lambda: session.arm(DIE)):
        with pytest.raises(UsageError, match=r"not open yet.*context manager"):
            call()


def test_a_session_is_entered_once(small_bench):
    with small_bench.open() as session:
        with pytest.raises(UsageError, match="open already"):
            session.__enter__()
        assert session.macro.read("row 0")[0].size


def test_a_session_that_did_not_open_is_over(small_bench):
    with small_bench.open():
        other = small_bench.open()
        with pytest.raises(BenchLocked):
            other.__enter__()
    with pytest.raises(UsageError, match="closed"):
        other.run("contact")


def test_a_thread_that_waits_when_the_session_is_closed_is_told(small_bench):
    session = small_bench.open()
    session.__enter__()
    controller = session.bench.controllers[DIE]
    read, entered, go = controller.read, threading.Event(), threading.Event()

    def slow(*arguments, **more):
        entered.set()
        go.wait(30)
        return read(*arguments, **more)

    controller.read = slow
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(session.macro.read, "row 0")
        assert entered.wait(30)
        waiting = pool.submit(session.macro.read, "row 1")
        time.sleep(0.2)
        closing = pool.submit(session.close)
        time.sleep(0.2)
        go.set()
        closing.result(30)
        with pytest.raises(Stopped):
            first.result(30)
        with pytest.raises(UsageError, match="closed"):
            waiting.result(30)


# another process ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_neither_works_with_nor_closes_its_parents_session(small_bench):
    with small_bench.open() as session:
        macro = session.macro
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            said = []
            try:
                for call in (lambda: macro.read("row 0"), lambda: session.run("contact"), lambda: session.macro):
                    try:
                        call()
                        said.append("worked")
                    except RramlabError as error:
                        said.append(f"{type(error).__name__} {error}")
                session.close()
                said.append("closed")
            finally:
                os.write(writer, pickle.dumps(said))
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            *answers, last = pickle.loads(stream.read())
        os.waitpid(child, 0)
        assert all(each.startswith("UsageError") and f"process {os.getpid()}" in each for each in answers)
        assert last == "closed"
        assert macro.read("row 0")[0].size
        with pytest.raises(BenchLocked), small_bench.open():
            pass
