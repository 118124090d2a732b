"""What version 0.1.0 wrote opens, is shown, goes on, repeats and exports, and comes to what 0.1.0 itself made of it.

The folders were made by 0.1.0 (see make.py), and what is beside them is what it said. They are copied, never worked in, and
compared by contents through public ways: how a ledger or an HDF5 file is laid out may change.
"""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from contents import (
    arrays_of,
    copied,
    decided,
    deployment,
    dies_of,
    evaluated,
    executed,
    expanded,
    fingerprint,
    gone_on,
    kept_record,
    life,
    missing,
    register_network,
    repeated,
    resumed,
    run_as_it_is,
    said,
    torch_version,
    training,
)
from workbench import SmallBench

from rramlab.plan.plan import Plan
from rramlab.runs.store import Run, list_runs

VERSION = Path(__file__).parent / "0.1.0"
CASES = sorted(path.name for path in VERSION.iterdir() if path.is_dir())
# What is pulsed in these follows from what was read, noise and all.
BY_READING = ("killed-in-verify", "killed-between-verifications", "killed-in-until", "verify", "loops")
# The curve of its first sweep went with the process: that is said, in which way is not held.
LOSES_A_CURVE = "killed-in-sweep"


@functools.cache
def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VERSION / f"{name}.json").read_text(encoding="utf-8"))
    return found


def of(key: str) -> list[Any]:
    """Return a parameter for each entry of ``key`` in each case: the case's name and the entry's."""
    return [pytest.param(name, each, id=f"{name}-{each}") for name in CASES for each in recorded(name).get(key, {})]


@functools.cache
def same_bits(then: str) -> bool:
    """Return whether arithmetic gives the same last bits here as where the record was made; if not, measured values differ."""
    return fingerprint() == then


def without(node: Any, *names: str) -> Any:
    if isinstance(node, dict):
        return {key: without(value, *names) for key, value in node.items() if key not in names}
    return [without(each, *names) for each in node] if isinstance(node, list) else node


def lasting(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what of a record holds on this machine."""
    return found if same_bits(recorded(name)["fingerprint"]) else without(found, "measured")


def unlike(then: Any, now: Any, place: str = "") -> list[str]:
    """Return where figures differ by more than rounding."""
    if isinstance(then, dict):
        return [each for key, value in then.items() for each in unlike(value, now[key], f"{place}/{key}")]
    if isinstance(then, float):
        return [] if now == pytest.approx(then, rel=1e-6, abs=1e-30) else [f"{place}: {now}, was {then}"]
    return [] if then == now else [f"{place}: {now!r}, was {then!r}"]


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RRAMLAB_BENCH", "RRAMLAB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where files may lie in memory


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a copy of a case that a test leaves as it is: one for all of them."""
    return functools.cache(lambda name: copied(VERSION / name, tmp_path_factory.mktemp(name) / "lab"))


def the_run(bench: Path, run: str) -> Run:
    return Run(bench / "data" / "runs" / run)


@pytest.mark.parametrize("name", CASES)
def test_all_of_it_opens_and_says_what_it_said(name, tmp_path):
    bench, known = copied(VERSION / name, tmp_path / "lab"), recorded(name)
    before = sorted(path.relative_to(bench) for path in bench.rglob("*"))
    assert missing(known["dies"], said("dies", "list", "--bench", bench)[1]["dies"]) == []
    for die in dies_of(bench):
        assert missing(known["lives"][die], life(bench, die)) == []
        assert missing(known["shown"][die], said("dies", "show", die, "--bench", bench)[1]) == []
    runs = list_runs(bench / "data" / "runs")
    assert [run.id for run in runs] == list(known["runs"])
    for run in runs:
        found = run_as_it_is(run, bench, tmp_path / "scratch")
        assert missing(known["runs"][run.id], found) == []
        assert missing(json.loads((run.folder / "plan.json").read_text()), json.loads(run.plan.model_dump_json())) == []
    assert (
        missing(known["records"], [kept_record(path) for path in sorted((bench / "calibration").glob("*.yaml"))]) == []
    )
    assert [path for path in sorted(each.relative_to(bench) for each in bench.rglob("*")) if path not in before] == []


@pytest.mark.parametrize(("name", "run"), of("resumed"))
def test_what_was_not_finished_goes_on_and_ends_as_it_would_have(name, run, tmp_path):
    bench = copied(VERSION / name, tmp_path / "lab")
    known = lasting(recorded(name)["resumed"][run], name)
    found = json.loads(json.dumps(resumed(the_run(bench, run), bench)))
    assert found["life"]["dangling"] == 0
    if found["life"]["unknown"].startswith("0 "):
        assert found["life"]["pulses"] == found["felt"]["pulses"]
    if name == LOSES_A_CURVE:
        known = {key: known[key] for key in ("reconciled", "blocks", "life", "felt")}
    if name in BY_READING and not same_bits(recorded(name)["fingerprint"]):
        known = {"frozen": known["frozen"]}
    assert missing(known, found) == []


def each_kind() -> list[Any]:
    """Return one run of each name that is done, and one that is not: a repeat begins at the beginning, wherever it ended."""
    found = {}
    for each in of("repeated"):
        name, run = each.values
        shown = recorded(name)["runs"][run]["shown"]
        if recorded(name)["repeated"][run]["equal"]:  # 0.1.0 forgot records there: see below
            found.setdefault(
                (shown["name"], shown["status"], len(list((VERSION / name).glob(f"data/runs/{run}/prov*")))), each
            )
    return list(found.values())


@pytest.mark.parametrize(("name", "run"), each_kind())
def test_a_run_repeats_bit_for_bit(name, run, kept):
    """Also one that was cut short, as far as it came."""
    bench, known = kept(name), recorded(name)["repeated"][run]
    found = repeated(the_run(bench, run), bench)
    if same_bits(recorded(name)["fingerprint"]):
        assert missing(known, found) == []
    else:
        assert found["pulses_equal"] is not None


def with_records() -> list[Any]:
    """Return the runs that were converted with calibration records: 0.1.0 forgot those in a repeat, which then differed."""
    return [each for each in of("repeated") if not recorded(each.values[0])["repeated"][each.values[1]]["equal"]]


@pytest.mark.parametrize(("name", "run"), with_records())
def test_a_run_that_had_records_repeats_with_them(name, run, kept):
    bench = kept(name)
    if not same_bits(recorded(name)["fingerprint"]):
        pytest.skip("another processor: what 0.1.0 recorded has other last bits")
    found = repeated(the_run(bench, run), bench)
    assert (found["code"], found["equal"], found["differ"]) == (0, True, 0)


@pytest.mark.parametrize("name", [name for name in CASES if "next" in recorded(name)])
def test_an_operation_in_doubt_is_decided_by_the_next_run(name, tmp_path):
    bench = copied(VERSION / name, tmp_path / "lab")
    assert missing(lasting(recorded(name)["next"], name), json.loads(json.dumps(decided(bench)))) == []


def test_runs_are_gathered_again_to_the_same_arrays(tmp_path):
    bench = copied(VERSION / "finished", tmp_path / "lab")
    for run in list_runs(bench / "data" / "runs"):
        found = arrays_of(run.consolidate())
        assert missing(recorded("finished")["runs"][run.id].get("exported", {}).get("arrays", {}), found) == []


def test_the_bench_that_init_made_is_checked_and_opened(tmp_path):
    bench = copied(VERSION / "init", tmp_path / "lab")
    code, document = said("bench", "check", "--bench", bench)
    assert code == 0, document
    assert document["instruments"][0]["board"] == "SIM-0001"
    assert said("bench", "show", "--bench", bench)[0] == 0
    for file in sorted((bench / "drivers").glob("*.yaml")):
        assert said("drivers", "check", file)[0] == 0, file
    for file in sorted((bench / "protocols").glob("*.yaml")):
        assert said("protocols", "check", file, "--bench", bench)[0] == 0, file


# Calibration ----------------------------------------------------------------------------------------------------------


def test_records_are_shown_and_their_runs_analysed_again(tmp_path):
    bench = copied(VERSION / "calibrated", tmp_path / "lab")
    kept = {each["id"]: each["record"] for each in recorded("calibrated")["records"]}
    _, listed = said("calibrate", "history", "--bench", bench)
    assert {each["id"] for each in listed["history"]} == set(kept)
    _, shown = said("calibrate", "show", "--bench", bench)
    for each in shown["records"]:
        assert missing(kept[each["id"]], each) == []
    newest = {
        "board": max(each for each in kept if each.startswith("board")),
        "die": max(each for each in kept if each.startswith("die")),
    }
    for name, whose, section in (
        ("smu", "board", "agreement"),
        ("forming", "die", "forming"),
        ("linearity", "board", "linearity"),
    ):
        (run,) = kept[newest[whose]][section]["runs"]
        code, document = said("calibrate", name, "--run", run, "--bench", bench)
        assert code in (0, 5), document
        assert unlike(without(kept[newest[whose]][section], "software"), document["sections"][section]) == []


def test_a_calibration_that_was_killed_goes_on_and_is_analysed(tmp_path):
    bench = copied(VERSION / "calibrated", tmp_path / "lab")
    (run,) = recorded("calibrated")["resumed"]
    assert said("resume", run, "--bench", bench)[0] == 0
    code, document = said("calibrate", "dac", "--run", run, "--bench", bench)
    assert code == 0, document
    first = next(each["record"]["dac"] for each in recorded("calibrated")["records"] if "dac" in each["record"])
    assert document["sections"]["dac"]["gain"]["value"] == pytest.approx(first["gain"]["value"], abs=1e-3)


# Trainings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "what"), of("trainings"))
def test_a_training_is_what_it_was(name, what, tmp_path):
    pytest.importorskip("torch", reason="the learning side needs rramlab[train]")
    register_network()
    bench = copied(VERSION / name, tmp_path / "lab")
    assert missing(recorded(name)["trainings"][what], training(bench / "data" / "checkpoints" / what)) == []


@pytest.mark.parametrize(("name", "what"), of("gone_on"))
def test_a_training_goes_on_to_the_same_network(name, what, tmp_path):
    pytest.importorskip("torch", reason="the learning side needs rramlab[train]")
    register_network()
    bench = copied(VERSION / name, tmp_path / "lab")
    known, found = recorded(name)["gone_on"][what], gone_on(bench, what)
    assert found["code"] == 0
    assert found["accuracy"] == pytest.approx(known["accuracy"], abs=0.05)
    if torch_version() == recorded(name)["torch"] and same_bits(recorded(name)["fingerprint"]):
        assert missing(known, found) == []


def test_a_network_that_was_trained_is_deployed_anew(tmp_path):
    pytest.importorskip("torch", reason="the learning side needs rramlab[train]")
    register_network()
    bench = copied(VERSION / "trained", tmp_path / "lab")
    code, document = said("deploy", "done", "--name", "again", "--bench", bench)
    assert code == 0, document
    assert document["pulses"] == 0
    known = recorded("trained")["deployments"]["by-gates"]
    assert missing({key: known[key] for key in ("method", "mask", "patterns")}, deployment(bench, "again")) == []


@pytest.mark.parametrize(("name", "what"), of("deployments"))
def test_a_deployment_is_what_it_was_and_the_network_runs_there(name, what, tmp_path):
    pytest.importorskip("torch", reason="the learning side needs rramlab[train]")
    register_network()
    bench = copied(VERSION / name, tmp_path / "lab")
    assert missing(recorded(name)["deployments"][what], deployment(bench, what)) == []
    known, found = recorded(name)["evaluated"][what], evaluated(bench, what)
    assert found["code"] == 0
    assert found["measured"]["verification"]["passed"]
    # Of as many images, but others: a fair share of all, where 0.1.0 took the first in the order of the file.
    assert found["measured"]["accuracy_on_chip"] == pytest.approx(known["measured"]["accuracy_on_chip"], abs=0.2)
    assert found["measured"]["conversions"] == known["measured"]["conversions"]


# How steps become operations ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def virgin(tmp_path_factory):
    return SmallBench(tmp_path_factory.mktemp("virgin") / "lab").write()


@pytest.mark.parametrize("name", recorded("expansions")["expanded"])
def test_a_step_becomes_the_operations_that_it_always_became(name, virgin):
    """Each at its place, with its words, cells, pulse and data set: runs that were begun rest on it."""
    known = recorded("expansions")["expanded"][name]
    found = expanded(Plan.model_validate_json(json.dumps(known["plan"])), virgin)
    assert [each["place"] for each in found] == [each["place"] for each in known["operations"]]
    assert missing(known["operations"], found) == []


@pytest.mark.parametrize("name", recorded("expansions")["executed"])
def test_loops_and_write_verify_go_the_way_that_they_always_went(name, tmp_path):
    known = recorded("expansions")["executed"][name]
    if name in BY_READING and not same_bits(recorded("expansions")["fingerprint"]):
        pytest.skip("what is pulsed follows from what is read, and the last bits are others on this machine")
    found = executed(Plan.model_validate_json(json.dumps(known["plan"])), SmallBench(tmp_path / "lab").write())
    assert missing(without(known, "plan"), json.loads(json.dumps(found))) == []
