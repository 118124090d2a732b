"""``rramlab run --key``: said again it goes on with the run or says that it is done, and never begins a second one."""

import json

import pytest
from workbench import SmallBench, hidden

from rramlab.drivers.lock import BenchLock
from rramlab.runs.store import find_key, list_runs

DIE, KEY = "small-1", "job-17"
LOW = ("--set", "cells=rows 0-7", "--set", "voltage=3.3V")  # fails at its pilot block


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab").write()


@pytest.fixture
def form(rramlab, bench):
    def call(*more, key=KEY):
        words = ("--set", "cells=rows 0-7", "--set", "lowest=2uS", "--arm", DIE, "--bench", bench.folder, "--json")
        return rramlab("run", "electroform", "--key", key, *words, *more)

    return call


def pulses(bench):
    with bench.open() as session:
        return hidden(session).pulses.copy()


def test_said_again_it_says_that_it_is_done(form, bench):
    first = form()
    assert first.exit_code == 0
    assert (first.document["key"], first.document["already_done"]) == (KEY, False)
    before = pulses(bench)
    again = form()
    assert again.exit_code == 0
    assert "nothing was done now" in again.stderr
    document = again.document
    assert document["already_done"]
    assert document["record"]["key"] == KEY
    assert document["record"]["status"] == "done"
    same = ("run", "die", "folder", "pulses", "conversions", "checks", "contact", "bystanders", "key")
    assert {name: document[name] for name in same} == {name: first.document[name] for name in same}
    assert (pulses(bench) == before).all()
    # without the key it is a second run, and refused
    assert len(list_runs(bench.folder / "data" / "runs")) == 1


def test_what_is_done_needs_no_bench(form, bench):
    assert form().exit_code == 0
    lock = BenchLock(bench.folder / "data")
    lock.acquire()
    try:
        assert form().document["already_done"]
    finally:
        lock.release()


def test_a_run_that_failed_is_gone_on_with_and_fails_alike(rramlab, bench):
    words = ("run", "electroform", "--key", KEY, *LOW, "--arm", DIE, "--bench", bench.folder, "--json")
    first = rramlab(*words)
    assert first.exit_code == 5
    before = pulses(bench)
    again = rramlab(*words)
    assert again.exit_code == 5
    assert again.document["run"] == first.document["run"]
    assert "goes on with it" in again.stderr
    assert (pulses(bench) == before).all()


def test_an_expectation_that_was_not_met_is_so_however_often_it_is_asked(rramlab, bench):
    path = bench.folder / "protocols" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(
        "name: mine\ndescription: some\nsteps:\n  - read\n"
        "  - expect: {on_failure: continue, window: {formed_fraction: [0.9, 1]}}\n"
    )
    answers = [rramlab("run", "mine", "--key", KEY, "--bench", bench.folder, "--json") for _ in range(2)]
    assert [each.exit_code for each in answers] == [5, 5]
    assert [each.document["already_done"] for each in answers] == [False, True]


def test_other_parameters_are_refused(form, bench):
    assert form().exit_code == 0
    answer = form("--set", "width=2us")
    assert answer.exit_code == 3
    assert "the parameter width '1 us' then, '2 us' now" in answer.document["error"]


def test_a_dry_run_says_what_would_become_of_it(form, bench, rramlab):
    assert form("--dry-run").exit_code == 0
    assert not list_runs(bench.folder / "data" / "runs")
    words = ("run", "electroform", "--key", "half", *LOW, "--bench", bench.folder, "--json")
    rramlab(*words, "--arm", DIE)
    dry = rramlab(*words, "--dry-run")  # its own pulses are not held against it
    assert dry.exit_code == 0
    assert "goes on with it" in dry.stderr
    assert rramlab("run", "electroform", *LOW, "--bench", bench.folder, "--dry-run").exit_code == 3


@pytest.mark.parametrize("key", ["", "a b", "ä"])
def test_what_is_no_key_is_refused(form, bench, key):
    """An empty one above all: a shell's variable that was never set."""
    answer = form(key=key)
    assert answer.exit_code == 2
    assert "expected up to 128 letters" in json.loads(answer.stdout)["error"]
    assert not list_runs(bench.folder / "data" / "runs")


def test_the_help_says_what_a_key_is_for(rramlab):
    said = " ".join(rramlab("run", "--help").stdout.split())
    assert "--key" in said
    assert "begins it" in said


def test_a_run_is_found_by_its_key(form, bench):
    run = form().document["run"]
    assert find_key(bench.folder / "data" / "runs", DIE, KEY).id == run
