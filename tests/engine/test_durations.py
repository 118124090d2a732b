"""Times of a run are counted: whatever happens to the clock on the wall, they never run backwards, and it is noted."""

from contextlib import suppress
from datetime import datetime, timedelta

import h5py
import numpy as np
import pytest
from looking import Looked
from workbench import HostClock, plain_plan, pulse_step

from rramlab.base.files import write_json
from rramlab.engine.expectation import ages, say_ages
from rramlab.engine.repeating import repeat
from rramlab.macro.conditions import Conditions
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep, RepeatStep
from rramlab.report.findings import gather
from rramlab.report.page import page
from rramlab.runs.store import Run, clock_moves, duration_s, find_run, list_runs

DIE = "small-1"
ROUNDS = 6
LOOP = plain_plan(RepeatStep(times=ROUNDS, steps=(ReadStep(cells="row 0"), pulse_step("row 1", "reset", voltage=2.0))))


class Crash(BaseException):
    """As if the process were killed."""


@pytest.fixture
def clock(monkeypatch):
    return HostClock(monkeypatch)


def reading(session, do):
    """Have ``do(number)`` happen before each read."""
    controller = session.bench.controllers[DIE]
    read, seen = controller.read, []

    def wrapped(*arguments):
        seen.append(1)
        do(len(seen))
        return read(*arguments)

    controller.read = wrapped


def killed(bench, clock):
    """Return a run that ended a minute after its third read."""

    def die_at(number):
        clock.go_on(minutes=1)
        if number == 4:
            raise Crash

    with suppress(Crash), bench.open() as session:
        reading(session, die_at)
        session.run(LOOP, arm=DIE)
    (run,) = list_runs(bench.folder / "data" / "runs")
    return run


def times_of(run):
    with h5py.File(run.consolidate()) as file:
        return file["step-001-000-read/time"][()]


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_within_a_run_moves_no_time_of_it(small_bench, clock, hours):
    with small_bench.open() as session:

        def an_hour(number):
            clock.go_on(hours=1)
            if number == 4:
                clock.set_by(hours=hours)

        reading(session, an_hour)
        run = find_run(session.runs, session.run(LOOP, arm=DIE).run_id)
    assert np.diff(times_of(run)) == pytest.approx(np.full(ROUNDS - 1, 3600), abs=1)
    record = run.record
    assert duration_s(record) == pytest.approx((ROUNDS + 1) * 3600, abs=2)
    (move,) = record["clock"]
    assert move["moved_s"] == pytest.approx(hours * 3600, abs=0.1)
    assert move["time_s"] == pytest.approx(4 * 3600, abs=1)
    (said,) = clock_moves(record)
    assert "2 h" in said or "120 min" in said
    assert ("back" if hours < 0 else "forward") in said
    spans = [(each["began_s"], each["ended_s"]) for each in record["timeline"]]
    assert spans == sorted(spans)
    found = gather(run, small_bench.folder / "data" / "dies" / DIE / "ledger.db", False)
    shown = Looked(page(found)).text
    assert said[1:] in shown
    assert not found.problems


def test_a_clock_that_a_time_server_nudges_is_not_worth_a_word(small_bench, clock):
    with small_bench.open() as session:
        reading(session, lambda number: clock.set_by(milliseconds=-100))
        run = find_run(session.runs, session.run(LOOP, arm=DIE).run_id)
    assert "clock" not in run.record
    assert np.all(np.diff(times_of(run)) > 0)


@pytest.mark.parametrize(("between_h", "gap_h"), [(5, 5), (-30, 0), (0, 0)])
def test_a_resumed_run_goes_on_by_the_clock_on_the_wall_but_never_backwards(small_bench, clock, between_h, gap_h):
    """Between two processes nothing is counted; what was written before is not overtaken by what came after."""

    run = killed(small_bench, clock)
    run.update(status="running")
    before = sorted(block.attributes["time_s"] for block in run.blocks())
    clock.set_by(hours=between_h)
    clock.counted_s = 3.0  # the computer was restarted
    with small_bench.open() as session:
        reading(session, lambda number: clock.go_on(minutes=1))
        session.run("contact")
        session.resume(run.id, arm=DIE)
    blocks = list(run.blocks("read"))
    times = [block.attributes["time_s"] for block in blocks]
    assert times == sorted(times)
    first, second = run.record["attempts"]
    assert first["began_s"] == 0
    assert second["began_s"] >= before[-1]
    assert second["began_s"] - before[-1] == pytest.approx(gap_h * 3600, abs=200)
    assert second["lasted_s"] == pytest.approx(60 * 4, abs=61)
    wall = datetime.fromisoformat(second["began_at"]) - datetime.fromisoformat(first["began_at"])
    assert wall == pytest.approx(timedelta(hours=between_h), abs=timedelta(minutes=10))  # as the clock said
    assert duration_s(run.record) == pytest.approx(second["began_s"] + second["lasted_s"])
    assert np.all(np.diff(times_of(run)) > 0)


def test_a_run_of_0_1_0_that_is_gone_on_with_counts_from_its_last_block(small_bench, clock):
    """Its blocks have the time on the wall alone, which was ahead then."""
    run = killed(small_bench, clock)
    old = {key: value for key, value in run.record.items() if key not in ("attempts", "clock", "timeline")}
    write_json(run.folder / "run.json", {**old, "status": "running"})
    for block in list(run.blocks()):
        about = {key: value for key, value in block.attributes.items() if key not in ("time_s", "crc32")}
        run.append(block.position, block.dataset, block.load(), **about)
    assert not any("time_s" in block.attributes for block in run.blocks())
    clock.set_by(hours=-3)
    with small_bench.open() as session:
        reading(session, lambda number: clock.go_on(minutes=1))
        session.run("contact")
        session.resume(run.id, arm=DIE)
    assert np.all(np.diff(times_of(run)) > 0)
    assert len(run.record["attempts"]) == 2


def test_a_duration_that_two_clocks_disagree_about_is_not_told():
    """Of 0.1.0, which wrote down no more than the time on the wall."""
    record = {"started_at": "2026-03-01T12:00:00.000+00:00", "finished_at": "2026-03-01T10:00:00.000+00:00"}
    assert duration_s(record) is None
    assert duration_s({**record, "finished_at": "2026-03-01T12:00:01.500+00:00"}) == 1.5
    assert duration_s({"started_at": record["started_at"]}) is None


def test_the_age_of_a_read_from_a_time_to_come_is_not_none_at_all():
    at = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    found = ages({"r-1": (5, "2026-03-01T13:00:00+00:00"), "r-2": (3, "2026-03-01T11:00:00+00:00")}, at)
    assert [(each["run"], each["age_s"]) for each in found] == [("r-2", 3600.0), ("r-1", None)]
    said = say_ages({"cells": 8, "rests_on": found})
    assert "up to 60 min before" in said[0]
    assert "the clock was set back since" in said[1]


def test_a_read_from_a_time_to_come_is_stale():
    at = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    then = Conditions("d", at + timedelta(days=300), 25.0, "nominal", 3)
    assert "to come" in " ".join(then.stale(Conditions("d", at, 25.0, "nominal", 3)))
    assert then.stale(Conditions("d", at + timedelta(days=299.5), 25.0, "nominal", 3)) == []


def test_ids_say_what_the_clock_said_and_last_is_the_run_that_began_last(small_bench, clock):
    with small_bench.open() as session:
        names = []
        for days in (0, 26_000, -26_000, 1, -40):
            clock.set_by(days=days)
            names.append(session.run("contact").run_id)
            assert names[-1].startswith(f"{clock.at:%Y%m%d}-")
            assert find_run(session.runs, "last").id == names[-1]
        assert [run.id for run in list_runs(session.runs)] == names
        stopped = Run.create(session.runs, Plan(name="p", steps=(ReadStep(),)), DIE, {}, {})
        stopped.finish("stopped")
        assert find_run(session.runs, "last", unfinished=True).id == stopped.id


def test_a_snapshot_of_a_contact_test_is_young_again_where_its_run_is_repeated(small_bench, tmp_path):
    """Whatever was counted when it was made."""
    with small_bench.open() as session:
        session.run("contact")
        run = session.run(Plan(name="reset", steps=(pulse_step("row 0", "reset", voltage=2.0),)), arm=DIE)
        found = find_run(session.runs, run.run_id)
    again = repeat(found, tmp_path / "again", lambda progress: None)
    assert again.error == ""
