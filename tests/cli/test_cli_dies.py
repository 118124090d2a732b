"""``rramlab dies …``: the life of each die, read from files alone."""

import json

import pytest
from workbench import SmallBench, copy_bench, forming_plan, plain_plan, pulse_step, without_outcome

from rramlab.base.files import read_json
from rramlab.plan.steps import ReadStep
from rramlab.runs.store import list_runs

TWO = {"small-1": "", "small-2": ""}


@pytest.fixture(scope="module")
def worked_on(tmp_path_factory):
    """A bench of two dies, the first formed and partly reset; made once, copied for each test."""
    bench = SmallBench(tmp_path_factory.mktemp("worked-on") / "lab", dies=TWO).write()
    again = plain_plan(pulse_step("rows 0-3 - pristine", kind="reset", voltage=1.6), ReadStep(), name="again")
    with bench.open() as session:
        for plan in (forming_plan(block_rows=8), again):
            session.run(plan, arm="small-1", die="small-1")
    return bench.folder


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab", dies=TWO).write().folder


@pytest.fixture
def dies(rramlab, bench):
    """Call ``rramlab dies WORDS`` on the small bench."""

    def call(*words):
        return rramlab("dies", *words, "--bench", bench)

    return call


@pytest.fixture
def lived(bench, worked_on):
    """The ids of the runs that the bench has: forming and a reset."""
    copy_bench(worked_on, bench)
    return [run.id for run in list_runs(bench / "data" / "runs")]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")}


def test_a_bench_that_was_never_opened_gets_no_file(dies, bench):
    found = dies("list", "--json").document["dies"]
    assert [(each["die"], each["enrolled"], each["problem"]) for each in found] == [
        ("small-1", False, "not enrolled"),
        ("small-2", False, "not enrolled"),
    ]
    for words in (("show", "small-1"), ("wear", "small-1")):
        answer = dies(*words)
        assert answer.exit_code == 1
        assert "not enrolled" in answer.stderr
    assert not (bench / "data").exists()


def test_dies_of_the_bench_and_of_before_are_listed(dies, bench, lived):
    text = (bench / "bench.yaml").read_text()
    (bench / "bench.yaml").write_text(text.replace("id: small-1,", "id: small-9,"))
    (new, second, old) = dies("list", "--json").document["dies"]
    assert (new["die"], new["on_bench"], new["enrolled"]) == ("small-9", True, False)
    assert (second["die"], second["on_bench"], second["pulses"], second["pristine"]) == ("small-2", True, 0, 512)
    assert (old["die"], old["on_bench"]) == ("small-1", False)
    assert (old["pulses"], old["pristine"], old["unknown"], old["most_pulses"]) == (256 + 32, 256, 0, 2)
    assert 200 < old["conducting"] < 256
    assert old["contact_passed_at"] > old["enrolled_at"]
    assert dies("list").exit_code == 0


def test_a_life_is_told_by_kind_and_run(dies, bench, lived):
    first, second = lived
    document = dies("show", "small-1", "--json").document
    assert {kind: (each["pulses"], each["peak_V"]) for kind, each in document["kinds"].items()} == {
        "electroform": (256, 3.75),
        "reset": (32, 1.6),
    }
    assert [(each["run"], each["pulses"], each["kept"]) for each in document["runs"]] == [
        (first, 256, True),
        (second, 32, True),
    ]
    assert document["dangling"] == []
    assert document["first_at"] < document["last_at"]
    shown = dies("show", "small-1").stdout
    assert first in shown
    assert "3.75 V" in shown


def test_pulses_of_a_run_whose_folder_is_gone_are_still_known(dies, bench, lived):
    first, _ = lived
    (bench / "data" / "runs" / first / "run.json").unlink()
    document = dies("show", "small-1", "--json").document
    assert document["runs"][0]["kept"] is False
    assert document["pulses"] == 256 + 32
    assert "its folder is gone" in dies("show", "small-1").stdout


def test_wear_is_counted_against_the_budget_of_the_bench(dies, bench, lived, tmp_path):
    text = (bench / "bench.yaml").read_text()
    (bench / "bench.yaml").write_text(text.replace("limits: {", "limits: {pulses_per_cell: 2, "))
    picture = tmp_path / "wear.png"
    document = dies("wear", "small-1", "--png", picture, "--json").document
    assert (document["cells"], document["pulses"], document["most"], document["budget"]) == (512, 288, 2, 2)
    assert (document["used_up"], document["share"]) == (32, 1.0)
    assert document["histogram"] == [[0, 0, 256], [1, 1, 224], [2, 2, 32]]
    assert [count for *_, count in document["worst"]] == [2] * 10
    assert picture.read_bytes().startswith(b"\x89PNG")
    corner = dies("wear", "small-1", "--region", "rows 4-7", "--json").document
    assert (corner["cells"], corner["pulses"], corner["most"]) == (64, 32, 1)


@pytest.mark.parametrize(
    ("words", "exit_code", "hint"),
    [
        (("show", "small-7"), 2, "small-1"),
        (("show", "../x"), 2, "die id"),
        (("wear", "small-1", "--region", "rows 90-99"), 2, "off the die"),
        (("wear", "small-1", "--region", "rows 0-3 & rows 4-5"), 2, "no cell"),
    ],
)
def test_what_cannot_be_shown_is_said(dies, bench, lived, words, exit_code, hint):
    answer = dies(*words)
    assert answer.exit_code == exit_code
    assert hint in answer.stderr
    assert "Traceback" not in answer.stderr


def test_one_unreadable_ledger_does_not_hide_the_others(dies, bench, lived):
    path = bench / "data" / "dies" / "small-1" / "ledger.db"
    path.write_bytes(b"this is no ledger" * 500)
    first, second = dies("list", "--json").document["dies"]
    assert "cannot be read" in first["problem"]
    assert second["problem"] == ""
    assert dies("show", "small-1").exit_code == 1
    assert path.read_bytes() == b"this is no ledger" * 500
    path.unlink()
    path.mkdir()
    first, second = dies("list", "--json").document["dies"]
    assert "cannot be read" in first["problem"]
    assert second["problem"] == ""


def test_a_bench_that_is_held_can_be_looked_at_and_stays_held(rramlab, dies, bench):
    """Every command answers in the middle of a run; neither lock, holder nor ledger change, and the run goes on."""
    seen = []

    def look(progress):
        if progress.done == 20 and not seen:
            before = contents(bench / "data" / "dies"), read_json(bench / "data" / "bench.holder.json")
            seen.extend(dies(*words, "--json") for words in (("list",), ("show", "small-1"), ("wear", "small-1")))
            after = contents(bench / "data" / "dies"), read_json(bench / "data" / "bench.holder.json")
            assert before == after

    with SmallBench(bench, dies=TWO).open() as session:
        result = session.run(forming_plan(), arm="small-1", die="small-1", listen=look)
    assert [answer.exit_code for answer in seen] == [0, 0, 0]
    assert 0 < seen[1].document["pulses"] < result.pulses
    assert seen[1].document["runs"][0]["run"] == result.run_id


def test_an_intent_without_outcome_is_told(dies, bench, lived):
    without_outcome(bench / "data" / "dies" / "small-1" / "ledger.db", 2)
    (entry,) = json.loads(dies("show", "small-1", "--json").stdout)["dangling"]
    assert (entry["operation"], entry["kind"]) == (2, "electroform")
    assert "has no outcome" in dies("show", "small-1").stdout
