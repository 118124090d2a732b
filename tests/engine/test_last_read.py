"""What a check rests on: reads of its own run, or of earlier ones, which it then names with their age."""

from datetime import datetime

import pytest
from workbench import plain_plan

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import OutOfLimits
from rramlab.engine.repeating import repeat
from rramlab.plan.steps import ExpectStep, ReadStep, Window
from rramlab.runs.comparing import result_differences
from rramlab.runs.store import list_runs

ANY = Window(formed_fraction=(0, 1))
HALF = ReadStep(cells="rows 0-15")


def expecting(cells, window=ANY):
    return ExpectStep(cells=cells, window=window)


def test_a_check_says_which_cells_were_read_in_an_earlier_run_and_how_long_ago(small_bench):
    with small_bench.open() as session:
        first = session.run(plain_plan(ReadStep())).run_id
    with small_bench.open() as session:  # what is known of reads outlives a session
        second = session.run(plain_plan(ReadStep(cells="rows 30-31"))).run_id
        own, every = session.run(plain_plan(HALF, expecting("rows 0-15"), expecting("all"))).checks
        written = {
            run.id: next(iter(run.blocks("read"))).attributes["written_at"]
            for run in list_runs(session.runs)
            if run.id in (first, second)
        }
    assert "rests_on" not in own
    assert {each["run"]: each["cells"] for each in every["rests_on"]} == {second: 2 * 16, first: 14 * 16}
    for each in every["rests_on"]:
        apart = datetime.fromisoformat(written[each["run"]]) - datetime.fromisoformat(each["read_at"])
        assert -1 <= apart.total_seconds() < 30
    newer, older = (each["age_s"] for each in every["rests_on"])
    assert 0 < newer <= older


def test_a_check_that_stops_a_run_says_so_too(small_bench):
    with small_bench.open() as session:
        first = session.run(plain_plan(ReadStep())).run_id
        with pytest.raises(OutOfLimits, match=f"256 of its 512 cells were last read in run {first}, up to .* before;"):
            session.run(plain_plan(HALF, expecting("all", Window(formed_fraction=(0.5, 1)))))


def test_single_reads_from_python_are_told_by_their_run(small_bench):
    with small_bench.open() as session:
        session.macro.read("row 3")
    with small_bench.open() as session:
        (interactive,) = list_runs(session.runs)
        (check,) = session.run(plain_plan(expecting("row 3"))).checks
    assert [(each["run"], each["cells"]) for each in check["rests_on"]] == [(interactive.id, 16)]


def test_a_read_of_an_older_file_is_of_an_unknown_time(small_bench):
    with small_bench.open() as session:
        session.run(plain_plan(ReadStep()))
    path = small_bench.folder / "data" / "dies" / "small-1" / "last_read.npz"
    arrays = load_arrays(path)
    save_arrays(path, {name: arrays[name] for name in ("conductance_S", "operation")})
    with small_bench.open() as session:
        (check,) = session.run(plain_plan(expecting("row 3"))).checks
    assert check["rests_on"] == [{"run": None, "cells": 16, "read_at": None, "age_s": None}]


def test_the_age_of_reads_does_not_make_a_repeat_another_run(small_bench, tmp_path):
    with small_bench.open() as session:
        session.run(plain_plan(ReadStep()))
        session.run(plain_plan(HALF, expecting("all")))
        run = list_runs(session.runs)[-1]
    again = repeat(run, tmp_path / "again", lambda progress: None).run
    then, now = (each.record["checks"][0]["rests_on"][0] for each in (run, again))
    assert now["age_s"] > then["age_s"]
    assert (now["run"], now["read_at"]) == (then["run"], then["read_at"])
    assert result_differences(run, again) == []
