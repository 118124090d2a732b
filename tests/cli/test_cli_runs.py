"""``rramlab runs …`` on runs of every kind: whole, killed, running, damaged, deleted."""

import json
import os
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from workbench import SmallBench, child, copy_bench, forming_plan, hidden, plain_plan, pulse_step

from rramlab.base.errors import DataError
from rramlab.drivers.bench import describe_bench
from rramlab.plan.plan import Plan
from rramlab.plan.steps import PulseStep, ReadStep, RouteStep, SweepStep
from rramlab.runs.snapshot import keep_snapshot, load_snapshot
from rramlab.runs.store import Run, find_run, list_runs

SMU = "  - {id: small-1, options: {}}\nsmus:\n  - {name: smu, driver: keysight-b2900, address: simulated}\n"


@pytest.fixture(scope="module")
def worked_on(tmp_path_factory):
    """A bench with two runs: forming and a reset; made once, copied for each test."""
    bench = SmallBench(tmp_path_factory.mktemp("worked-on") / "lab").write()
    reset = plain_plan(pulse_step("rows 0-7 - pristine", kind="reset", voltage=2.2), ReadStep(repeats=2), name="reset")
    with bench.open() as session:
        for plan in (forming_plan(block_rows=8), reset):
            session.run(plan, arm="small-1")
    return bench.folder


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab").write().folder


@pytest.fixture
def runs(rramlab, bench):
    """Call ``rramlab runs WORDS`` on the small bench."""

    def call(*words):
        return rramlab("runs", *words, "--bench", bench)

    return call


@pytest.fixture
def two(bench, worked_on):
    """The ids of the two runs that the bench has: forming and a reset."""
    copy_bench(worked_on, bench)
    return [run.id for run in list_runs(bench / "data" / "runs")]


def done(bench, plan, arm="small-1"):
    with SmallBench(bench).open() as session:
        return session.run(plan, arm=arm).run_id


def folder_of(bench, run_id):
    return bench / "data" / "runs" / run_id


def spoil(bench, run_id, text="{"):
    (folder_of(bench, run_id) / "run.json").write_text(text)


def test_runs_are_listed_the_newest_last_with_what_they_took(runs, two):
    first, second = two
    found = runs("list", "--json").document["runs"]
    assert [each["id"] for each in found] == [first, second]
    assert all(each["duration_s"] >= 0 for each in found)
    shown = runs("list").stdout
    assert shown.index(first) < shown.index(second)


def test_runs_are_filtered(runs, bench, two):
    first, second = two
    spoil(bench, second)

    def ids(*words):
        return [each["id"] for each in runs("list", *words, "--json").document["runs"]]

    assert ids("--protocol", "form") == [first]
    assert ids("--die", "small-1") == [first]
    assert ids("--die", "other") == []
    assert ids("--status", "done") == [first]
    assert ids("--status", "unreadable") == [second]
    assert first in ids("--since", "1 h")
    assert first not in ids("--since", "2999-01-01")
    assert first in ids("--since", "2020-01-01 12:00")
    refused = runs("list", "--since", "yesterday")
    assert refused.exit_code == 2
    assert "yesterday" in refused.stderr


def test_an_empty_bench_has_no_runs_and_gets_no_files(runs, bench):
    assert runs("list", "--json").document == {"runs": []}
    assert not (bench / "data").exists()
    assert runs("show", "last").exit_code == 1
    assert runs("consolidate", "--all", "--json").document == {"files": {}, "failed": {}}


@pytest.mark.parametrize("words", [("show",), ("export", "--output", "out"), ("consolidate",), ("repeat",)])
def test_a_run_that_cannot_be_read_is_said_and_no_other_is_affected(runs, bench, two, words):
    good, bad = two
    spoil(bench, bad)
    answer = runs(words[0], bad, *words[1:])
    assert answer.exit_code == 1
    assert "run.json" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert runs("show", good).exit_code == 0
    shutil.rmtree(folder_of(bench, bad))
    gone = runs(words[0], bad, *words[1:])
    assert gone.exit_code == 1
    assert "there is no run" in gone.stderr
    assert [each["id"] for each in runs("list", "--json").document["runs"]] == [good]


def test_a_run_without_a_block_has_nothing_and_says_so(runs, bench, two, tmp_path):
    run = Run.create(bench / "data" / "runs", Plan(name="empty", steps=()), "small-1", {}, {})
    run.finish("done")
    assert "measured nothing" in runs("show", run.id).stdout
    assert "measured nothing" in runs("export", run.id, "--output", tmp_path / "out").stdout
    assert runs("consolidate", run.id).exit_code == 0
    answer = runs("compare", run.id, two[0], "--json")
    assert answer.exit_code == 0
    assert "cells" not in answer.document


def test_one_block_is_no_blocks(runs, bench):
    run_id = done(bench, plain_plan(ReadStep(), block_rows=8))
    shown = runs("show", run_id).stdout
    assert "1 block " in shown
    assert "1 blocks" not in shown


def test_all_runs_are_consolidated_but_for_the_damaged_one(runs, bench, two):
    good, bad = two
    for run in (good, bad):
        (folder_of(bench, run) / "run.h5").unlink()
    block = next((folder_of(bench, bad) / "blocks").glob("*-read.npy"))
    block.write_bytes(block.read_bytes()[:200])
    answer = runs("consolidate", "--all", "--json")
    assert answer.exit_code == 1
    assert list(answer.document["files"]) == [good]
    assert block.name in answer.document["failed"][bad]
    with h5py.File(folder_of(bench, good) / "run.h5") as file:
        assert "step-002-read" in file
    assert runs("consolidate").exit_code == 2
    assert runs("consolidate", good, "--all").exit_code == 2


@pytest.mark.parametrize("form", ["csv", "npz", "h5"])
def test_a_run_is_exported_and_left_as_it_is(runs, bench, two, tmp_path, form):
    run = two[-1]
    before = {path: path.stat().st_mtime_ns for path in folder_of(bench, run).rglob("*")}
    output = tmp_path / ("out" if form == "csv" else f"out.{form}")
    answer = runs("export", "last", "--format", form, "--output", output, "--json")
    assert answer.exit_code == 0
    assert all(Path(path).stat().st_size for path in answer.document["files"])
    assert {path: path.stat().st_mtime_ns for path in folder_of(bench, run).rglob("*")} == before
    wrong = tmp_path / "wrong"
    if form == "csv":
        wrong.write_text("mine")
    else:
        wrong.mkdir()
    assert runs("export", "last", "--format", form, "--output", wrong).exit_code == 2


def test_an_unknown_format_is_a_usage_error(runs, two, tmp_path):
    assert runs("export", "last", "--format", "xls", "--output", tmp_path / "x").exit_code == 2


def test_two_runs_are_compared(runs, two, tmp_path):
    first, second = two
    picture = tmp_path / "compare.png"
    document = runs("compare", first, second, "--png", picture, "--json").document
    assert document["same_plan"] is False
    cells = document["cells"]
    assert cells["cells"] == 32 * 16
    assert cells["ceased_to_conduct"] > 30
    assert cells["began_to_conduct"] == 0
    assert cells["formed_fraction"][0] == pytest.approx(0.5)
    assert cells["correlation_conducting"] > 0.8
    assert picture.read_bytes().startswith(b"\x89PNG")
    same = runs("compare", first, first, "--json").document
    assert same["same_plan"] is True
    assert same["parameters"] == {}
    assert same["cells"]["correlation"] == pytest.approx(1.0)


# Repeating -----------------------------------------------------------------------------------------------------


def test_an_undisturbed_run_is_repeated_bit_for_bit_whatever_came_after_it(runs, bench, two):
    ledger = (bench / "data" / "dies" / "small-1" / "ledger.db").read_bytes()
    for run in two:
        document = runs("repeat", run, "--json").document
        assert document["equal"] is True
        assert document["blocks"] == []
        assert document["results"] == []
        assert document["pulses_equal"] is True
        assert document["blocks_equal"] == len(list(Run(folder_of(bench, run)).blocks()))
    assert document["cells_equal"] is True
    assert (bench / "data" / "dies" / "small-1" / "ledger.db").read_bytes() == ledger
    assert len(list_runs(bench / "data" / "runs")) == 2


def test_a_repeat_can_be_kept_as_a_bench_of_its_own(rramlab, runs, two, tmp_path):
    run = two[0]
    kept = tmp_path / "kept"
    assert runs("repeat", run, "--output", kept).exit_code == 0
    (again,) = rramlab("runs", "list", "--bench", kept, "--json").document["runs"]
    assert (again["status"], again["die"]) == ("done", "small-1")
    refused = runs("repeat", run, "--output", kept)
    assert refused.exit_code == 2
    assert "not empty" in refused.stderr


def test_a_repeat_stays_in_its_folder_wherever_the_bench_keeps_its_data(runs, bench, tmp_path):
    """The bench names its data and its board file by whole paths: the repeat must not find its way back to them."""
    text = (bench / "bench.yaml").read_text()
    text = text.replace("data: data", f"data: {tmp_path / 'disk'}")
    (bench / "bench.yaml").write_text(text.replace("driver: small", f"driver: {bench / 'drivers' / 'small.yaml'}"))
    run = done(bench, forming_plan(block_rows=8))
    state = (tmp_path / "disk" / "dies" / "small-1" / "die.npz").read_bytes()
    (bench / "drivers" / "small.yaml").unlink()
    (bench / "bench.yaml").write_text(
        (bench / "bench.yaml").read_text().replace(str(bench / "drivers" / "small.yaml"), "macro-40nm")
    )
    assert runs("repeat", run, "--json").document["equal"] is True
    assert (tmp_path / "disk" / "dies" / "small-1" / "die.npz").read_bytes() == state
    assert [each.id for each in list_runs(tmp_path / "disk" / "runs")] == [run]


def test_a_run_that_was_stopped_by_its_pilot_block_is_stopped_again(runs, bench):
    with pytest.raises(Exception, match="pilot"), SmallBench(bench).open() as session:
        session.run(forming_plan(voltage=3.3), arm="small-1")
    document = runs("repeat", "last", "--json").document
    assert document["equal"] is True
    assert "pilot" in document["ended_by"]


def test_sweeps_are_repeated_with_their_unit(runs, bench):
    text = (bench / "bench.yaml").read_text()
    (bench / "bench.yaml").write_text(text.replace("  - {id: small-1, options: {}}\n", SMU))
    done(bench, plain_plan(SweepStep(purpose="read", cell="(3, 7)", voltage=0.2), block_rows=8))
    document = runs("repeat", "last", "--json").document
    assert document["equal"] is True
    assert document["blocks_equal"] == 2


def test_a_contact_test_that_was_recent_then_is_recent_in_the_repeat(runs, bench):
    """However long ago: the snapshot's test has grown old, as the ledger's clock is that of the wall."""
    with SmallBench(bench).open() as session:
        session.run(plain_plan(), arm="small-1")
        run = session.run(Plan(name="bare", steps=(pulse_step("rows 0-3"), ReadStep())), arm="small-1").run_id
    stored = Run(folder_of(bench, run))
    files = load_snapshot(stored)
    moment = json.loads(files["ledger.json"])
    known = json.loads(moment["facts"]["contact_passed_at"])
    moment["facts"]["contact_passed_at"] = json.dumps({**known, "at": "2020-01-01T00:00:00+00:00"})
    keep_snapshot(stored, {**files, "ledger.json": json.dumps(moment).encode()})
    assert runs("repeat", run, "--json").document["equal"] is True


def test_what_differs_is_found(runs, bench, two):
    """A block, a check and a die that are not what they were: each is named, and the exit code says so."""
    run = two[0]
    stored = Run(folder_of(bench, run))
    block = next(stored.blocks("read"))
    array = block.load()
    array["codes"][0, 0] += 1
    attributes = {key: value for key, value in block.attributes.items() if key not in ("crc32", "written_at")}
    stored.append(block.position, block.dataset, array, **attributes)
    stored.update(pulses=3)
    answer = runs("repeat", run, "--json")
    assert answer.exit_code == 1
    assert answer.document["equal"] is False
    assert [(each["position"], each["what"], each["cells"]) for each in answer.document["blocks"]] == [
        (block.position, ["codes"], 1)
    ]
    assert answer.document["results"] == ["pulses"]


@pytest.mark.filterwarnings("always")
def test_other_software_is_warned_of(runs, bench, two):
    run = two[0]
    path = folder_of(bench, run) / "provenance.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "packages": {**about["packages"], "numpy": "1.0"}}))
    answer = runs("repeat", run)
    assert answer.exit_code == 0
    assert "numpy 1.0" in answer.stderr


def test_without_a_snapshot_nothing_can_be_repeated(runs, bench, two):
    run = two[0]
    path = folder_of(bench, run) / "snapshot" / "die.zip"
    path.write_bytes(path.read_bytes()[:500])
    damaged = runs("repeat", run)
    assert damaged.exit_code == 1
    assert "die.zip is damaged" in damaged.stderr
    shutil.rmtree(path.parent)
    missing = runs("repeat", run)
    assert missing.exit_code == 1
    assert "no snapshot" in missing.stderr
    assert runs("show", run, "--json").document["repeatable"] is False


KILLED = """
import sys
sys.path.insert(0, ".")
import rramlab
from workbench import forming_plan
with rramlab.open_bench(sys.argv[1]) as session:
    plan = forming_plan(block_rows=4)
    session.run(plan, arm="small-1", listen=lambda progress: print(progress.done, flush=True))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_run_and_the_same_one_resumed_are_held_against_an_undisturbed_repeat(runs, bench):
    process = child(KILLED, bench)
    for line in process.stdout:
        if line.strip() == "10":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (run,) = list_runs(bench / "data" / "runs")
    assert runs("list", "--json").document["runs"][0]["status"] == "interrupted"
    killed = runs("repeat", run.id, "--json").document
    assert killed["equal"] is True
    assert killed["promise"].startswith("interrupted:")
    assert killed["blocks_equal"] == len(list(run.blocks())) > 0
    with SmallBench(bench).open() as session:
        session.resume(run.id, arm="small-1")
        pulses = hidden(session).pulses.copy()
    resumed = runs("repeat", run.id, "--json").document
    assert resumed["promise"].startswith("interrupted and resumed")
    assert (resumed["equal"], resumed["pulses_equal"], resumed["cells_equal"]) == (True, True, True)
    assert np.count_nonzero(pulses) == 32 * 8


def test_a_run_that_goes_on_is_shown_exported_and_consolidated_but_not_repeated(runs, bench, tmp_path):
    answers = {}

    def look(progress):
        if progress.done == 20 and not answers:
            for words in (("list",), ("show", "last"), ("export", "last", "--output", tmp_path / "out"),
                          ("consolidate", "last"), ("repeat", "last")):  # fmt: skip
                answers[words[0]] = runs(*words, "--json")

    with SmallBench(bench).open() as session:
        session.run(forming_plan(), arm="small-1", listen=look)
    assert {name: answer.exit_code for name, answer in answers.items()} == {
        "list": 0, "show": 0, "export": 0, "consolidate": 0, "repeat": 2,
    }  # fmt: skip
    assert answers["list"].document["runs"][0]["status"] == "running"
    assert answers["show"].document["duration_s"] is None
    assert answers["export"].document["files"]
    assert "wait for it" in answers["repeat"].document["error"]


# Going on ----------------------------------------------------------------------------------------------------


def test_a_run_whose_block_lost_its_description_goes_on_when_a_person_has_taken_the_block_away(bench, two):
    """What it says of its values nobody knows; what it measured is not replaced without a word."""
    run = Run(folder_of(bench, two[0]))
    run.update(status="stopped")
    described = sorted((run.folder / "blocks").glob("*-read.json"))[-1]
    described.write_text("{")
    with SmallBench(bench).open() as session:
        with pytest.raises(DataError, match=described.name):
            session.resume(run.id, arm="small-1")
        assert Run(run.folder).record["status"] == "failed"
        described.unlink()
        described.with_suffix(".npy").unlink()
        result = session.resume(run.id, arm="small-1")
    assert result.pulses == 256
    assert json.loads(described.read_text())["dataset"] == "read"
    assert run.record["status"] == "done"


# Which run 'last' is when it comes to going on ---------------------------------------------------------------


def test_resume_last_passes_over_what_cannot_go_on_and_says_so(bench):
    folder = bench / "data" / "runs"

    def made(plan, status):
        run = Run.create(folder, plan, "small-1", {}, {})
        if status != "running":
            run.finish(status)
        return run.id

    board = describe_bench(bench).board
    assert board.geometry.rows == 32
    pulse = PulseStep(kind="electroform", cells="row 0", voltage=3.75, width=1e-6, gate=1.6)
    stopped = made(Plan(name="form", steps=(pulse,)), "stopped")
    made(Plan(name="form", steps=(pulse,)), "done")
    interactive = made(Plan(name="interactive", steps=()), "running")
    route = made(Plan(name="route", steps=(RouteStep(reference=0, voltage=0.1, compliance=1e-4),)), "running")
    with pytest.warns(UserWarning, match="passed over") as caught:
        assert find_run(folder, "last", unfinished=True).id == stopped
    assert all(each in str(caught[0].message) for each in (interactive, route, stopped))
    assert find_run(folder, "last").id == route
