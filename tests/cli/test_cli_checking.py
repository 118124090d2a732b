"""Damage and edits from the outside: ``runs check``, ``show``, ``export``, ``calibrate accept``; and lists of thousands."""

import re

import pytest
from turned import bits_of, flipped
from workbench import SmallBench, copy_bench, forming_plan, plain_plan

from rramlab.base import files
from rramlab.base.files import write_json
from rramlab.plan.steps import ReadStep
from rramlab.runs.store import find_run, list_runs


@pytest.fixture(scope="module")
def worked_on(tmp_path_factory):
    bench = SmallBench(tmp_path_factory.mktemp("worked-on") / "lab").write()
    with bench.open() as session:
        for plan in (forming_plan(block_rows=8), plain_plan(ReadStep(), name="look")):
            session.run(plan, arm="small-1")
    return bench.folder


@pytest.fixture
def bench(worked_on, tmp_path):
    return copy_bench(worked_on, tmp_path / "lab")


def runs_of(bench):
    return list_runs(bench / "data" / "runs")


def test_every_file_of_every_run_is_checked_and_the_damaged_one_named(rramlab, bench):
    answer = rramlab("runs", "check", "--all", "--bench", bench, "--json")
    assert answer.exit_code == 0, answer.stderr
    first, second = (run.id for run in runs_of(bench))
    assert answer.document["runs"] == {each: {"problems": [], "unsummed": False} for each in (first, second)}
    path = sorted(runs_of(bench)[0].folder.glob("blocks/*.json"))[2]
    with flipped(path, bits_of(path, 1)[0]):
        damaged = rramlab("runs", "check", "--all", "--bench", bench, "--json")
        assert damaged.exit_code == 1
        (problem,) = damaged.document["runs"][first]["problems"]
        assert path.name in problem
        assert path.name in damaged.stderr
        assert rramlab("runs", "check", "last", "--bench", bench).exit_code == 0
    assert rramlab("runs", "check", "--bench", bench).exit_code == 2


@pytest.mark.parametrize("words", [("export", "--output", "out"), ("consolidate",), ("compare",)])
def test_whatever_reads_a_damaged_block_ends_with_1_and_its_name(rramlab, bench, tmp_path, words):
    first, second = runs_of(bench)
    path = sorted(first.folder.glob("blocks/*-read.json"))[0]
    command, *options = words
    names = [first.id, second.id] if command == "compare" else [first.id]
    options = [tmp_path / each if each == "out" else each for each in options]
    for bit in bits_of(path, 5):
        with flipped(path, bit):
            answer = rramlab("runs", command, *names, *options, "--bench", bench)
            assert answer.exit_code == 1, answer.stdout
            assert path.name in answer.stderr


def test_a_damaged_run_is_shown_all_the_same_with_what_is_wrong(rramlab, bench):
    first = runs_of(bench)[0]
    for path in (first.folder / "plan.json", first.folder / "run.h5", sorted(first.folder.glob("blocks/*.json"))[0]):
        with flipped(path, 8 * 60):
            answer = rramlab("runs", "show", first.id, "--bench", bench, "--json")
            assert answer.exit_code == 1
            assert answer.document["pulses"] == 256
            assert path.name in str(answer.document["problems"])
            report = rramlab("report", first.id, "--bench", bench, "--json")
            assert path.name in str(report.document["problems"])


def test_a_run_whose_own_record_is_damaged_is_listed_as_unreadable(rramlab, bench):
    path = runs_of(bench)[0].folder / "run.json"
    with flipped(path, 8 * 100):
        listed = rramlab("runs", "list", "--bench", bench, "--json").document["runs"]
        assert [each["status"] for each in listed] == ["unreadable", "done"]
        assert "run.json" in listed[0]["reason"]
        for words in (("runs", "show"), ("report",), ("resume",)):
            answer = rramlab(*words, listed[0]["id"], "--bench", bench)
            assert answer.exit_code == 1
            assert "run.json" in answer.stderr


def test_a_damaged_frozen_selection_keeps_a_run_from_pulsing_other_cells(rramlab, bench):
    with SmallBench(bench).open() as session:
        begun = session.run(plain_plan(ReadStep(cells="conducting"), name="frozen")).run_id
    run = next(each for each in runs_of(bench) if each.id == begun)
    run.update(status="stopped")
    (path,) = run.folder.glob("selections/*.bits")
    with flipped(path, 77):
        answer = rramlab("resume", begun, "--bench", bench)
        assert answer.exit_code == 1
        assert path.name in answer.stderr
        assert "nothing was pulsed" in answer.stderr
    assert rramlab("resume", begun, "--bench", bench).exit_code == 0


# Lists of thousands ----------------------------------------------------------------------------------------------------------


def test_thousands_of_runs_are_listed_line_by_line_and_whole(rramlab, bench):
    run = runs_of(bench)[0]
    for number in range(300):
        name = f"20200101-000000-{number:03d}-form-0000"
        reason = "a [red]reason[/] with\ntwo lines" if number == 7 else ""
        write_json(run.folder.with_name(name) / "run.json", {**run.record, "id": name, "reason": reason})
    answer = rramlab("runs", "list", "--bench", bench)
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["run", "die", "status", "pulses", "took", "reason"]
    assert [line.split()[0] for line in lines[1:]] == [each.id for each in runs_of(bench)]
    assert lines[8].endswith("a [red]reason[/] with two lines")
    assert len({line.index("small-1") for line in lines[1:]}) == 1


def test_a_name_that_fits_no_run_does_not_bring_down_thousands_of_names(rramlab, bench):
    run = runs_of(bench)[0]
    for number in range(50):
        write_json(run.folder.with_name(f"2020-{number:03d}") / "run.json", run.record)
    said = rramlab("runs", "show", "nothing", "--bench", bench).stderr
    assert "and 32 before them" in said
    assert said.count("2020-") < 25


def test_the_last_run_is_found_without_reading_the_others(bench, monkeypatch):
    read = []
    monkeypatch.setattr(
        files.Path, "read_bytes", lambda path, real=files.Path.read_bytes: read.append(path) or real(path)
    )
    found = find_run(bench / "data" / "runs", "last")
    assert found.record["name"] == "look"
    assert {path.parent.name for path in read} == {found.id}


# Records that were edited ----------------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(rramlab, tmp_path):
    """A bench with two records of its board, the second edited by hand; its policy is to require one that holds."""
    rramlab("init", tmp_path / "lab")
    lab = tmp_path / "lab"
    for words in (("dac",), ("adc", "--set", "step=10mV")):
        assert rramlab("calibrate", *words, "--bench", lab).exit_code == 0
    path = lab / "bench.yaml"
    path.write_text(path.read_text().replace("calibration_policy: none", "calibration_policy: require"))
    record = sorted((lab / "calibration").glob("board-*.yaml"))[-1]
    text = record.read_text(encoding="utf-8")
    record.write_text(re.sub(r"offset_spread: [0-9.]+", "offset_spread: 3.1", text, count=1), encoding="utf-8")
    return lab, record


def test_an_edited_record_is_refused_shown_marked_and_used_when_it_was_accepted(rramlab, calibrated):
    lab, record = calibrated
    name, at = record.stem, ("--bench", lab)
    refused = rramlab("run", "read-array", "--set", "cells=row 0", *at)
    assert refused.exit_code == 3
    assert f"rramlab calibrate accept {name}" in refused.stderr
    assert "changed since it was written" in rramlab("bench", "check", *at).stdout
    shown = rramlab("calibrate", "show", *at, "--json")
    assert (shown.exit_code, shown.document["records"][0]["state"]) == (0, "changed")
    listed = rramlab("calibrate", "history", *at, "--json").document["history"]
    assert [each["state"] for each in listed] == ["whole", "changed"]
    assert "changed since" in str(
        rramlab("calibrate", "compare", listed[0]["id"], name, *at, "--json").document["notes"]
    )
    report = rramlab("calibrate", "report", *at, "--json").document
    assert {each["verdict"] for each in report["sections"] if each["verdict"] != "not measured"} == {"changed by hand"}
    # Nothing is built on it, and nothing is measured in vain.
    again = rramlab("calibrate", "dac", *at)
    assert again.exit_code == 1
    assert "Nothing was measured" in again.stderr
    run = list_runs(lab / "data" / "runs")[-1].id
    assert rramlab("calibrate", "apply", run, *at).exit_code == 1

    assert rramlab("calibrate", "accept", name, *at).exit_code == 2
    answer = rramlab("calibrate", "accept", name, "--by", "A. Lovelace", "--reason", "counted by hand", *at, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert answer.document["state"] == "whole"
    assert answer.document["accepted"][0]["by"] == "A. Lovelace"
    assert rramlab("run", "read-array", "--set", "cells=row 0", *at).exit_code == 0
    assert "A. Lovelace" in rramlab("calibrate", "show", *at).stdout
    assert rramlab("calibrate", "report", *at).exit_code == 0
    assert "A. Lovelace" in (lab / "calibration" / "report.html").read_text(encoding="utf-8")
    assert rramlab("calibrate", "accept", name, "--by", "B", "--reason", "c", *at).exit_code == 2


def test_a_record_that_cannot_be_read_hides_no_other(rramlab, calibrated):
    lab, record = calibrated
    record.write_text(record.read_text(encoding="utf-8").replace("serial:", "serail:"), encoding="utf-8")
    listed = rramlab("calibrate", "history", "--bench", lab, "--json")
    assert listed.exit_code == 0
    assert [each["state"] for each in listed.document["history"]] == ["whole", "unreadable"]
    shown = rramlab("calibrate", "show", "--bench", lab)
    assert shown.exit_code == 1
    assert "serail" in shown.stderr


def test_the_document_of_a_run_says_when_it_was_worked_on(rramlab, bench):
    document = rramlab("runs", "show", "last", "--bench", bench, "--json").document
    (attempt,) = document["attempts"]
    assert attempt["began_at"] == document["started_at"]
    assert attempt["lasted_s"] == pytest.approx(document["duration_s"])
