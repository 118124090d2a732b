"""The chip in the loop, adaptation, ways to deploy and floor plans, from the command line."""

import csv
import json
import re
import shlex
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner
from workbench import SmallBench, copy_bench, ledger_of

import rramlab as package
from rramlab.base.arrays import load_arrays
from rramlab.base.errors import RramlabError
from rramlab.base.folders import shipped
from rramlab.cli.app import app
from rramlab.macro.geometry import Geometry
from rramlab.macro.placement import Placement
from rramlab.runs.store import Run
from rramlab.sim.backend import state_file
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie

pytest.importorskip("torch", reason="the learning side needs rramlab[train]")

import rramlab.training.deploying as deploying
from rramlab.deploy import Deployment

DIE = "sim-0001"
NAME = f"digits-{DIE}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bench folder with a formed die and a network trained on it; made once, copied for each test."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (["run", "electroform", "--arm", DIE], ["train", "digits", "--epochs", "3"]):
            assert CliRunner().invoke(app, words).exit_code == 0
    return folder


@pytest.fixture
def lab(made, tmp_path, rramlab):
    """Call ``lab(*words)`` on a copy of it."""
    copy_bench(made, tmp_path)
    return rramlab


def pulses_ever(folder):
    with package.open_bench(folder) as session:
        return ledger_of(session).pulse_counts()


def checkpoint(folder, name=NAME):
    return folder / "data" / "checkpoints" / name


@contextmanager
def changed_json(path):
    document = json.loads(path.read_text())
    yield document
    path.write_text(json.dumps(document))


def lose(folder, share):
    """Let a share of the cells that conduct and carry weight stop to, behind the bench's back."""
    about = json.loads((checkpoint(folder) / "experiment.json").read_text())
    used = Placement.from_json(about["rows"], about["columns"], about["tiles"]).used()
    path = state_file(folder / "data", DIE)
    die, memory = SimulatedDie.load(path, used.geometry)
    lost = used.bits & (np.random.default_rng(0).random(used.bits.shape) < share)
    die.state.conductance_S[lost] = 1e-7
    die.save(path, **memory)


# training -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["weights", "multiply"])
def test_a_network_trains_with_the_chip_in_the_loop(lab, tmp_path, mode):
    before = pulses_ever(tmp_path)
    answer = lab("train", "digits", "--epochs", "2", "--in-the-loop", mode, "--name", "looped", "--json")
    assert answer.exit_code == 0
    assert ("of bench time for 2 epochs" in answer.stderr) == (mode == "multiply")
    trained = answer.document
    assert trained["recipe"]["in_the_loop"] == mode
    assert trained["accuracy_trained"] > 0.85
    assert np.array_equal(pulses_ever(tmp_path), before)
    with (checkpoint(tmp_path, "looped") / "log.csv").open(newline="") as file:
        logged = list(csv.DictReader(file))
    assert [list(line) for line in logged] == [list(epoch) for epoch in trained["history"]]
    assert [{key: float(value) for key, value in line.items()} for line in logged] == trained["history"]
    assert [epoch["epoch"] for epoch in trained["history"]] == [1, 2]
    assert trained["history"][-1]["test_accuracy"] == trained["accuracy_trained"]
    assert lab("deploy", "looped", "--json").document["verification"]["passed"]


def test_a_training_on_the_reads_of_an_earlier_one_comes_to_its_mask(lab, tmp_path):
    words = ["train", "digits", "--epochs", "3"]
    again = lab(*words, "--reads-of", NAME, "--name", "again", "--json").document
    assert again["reads_of"] == NAME
    assert lab(*words, "--name", "anew", "--json").document["reads_of"] is None
    mask, same, other = (load_arrays(checkpoint(tmp_path, name) / "mask.npz") for name in (NAME, "again", "anew"))
    assert all(np.array_equal(mask[key], same[key]) for key in mask)
    assert any(not np.array_equal(mask[key], other[key]) for key in mask)
    assert lab("deploy", "again").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--reads-of", "nothing"], 1, "no training 'nothing'"),
        (["--reads-of", NAME, "--in-the-loop", "weights"], 2, "no two such trainings are alike"),
        (["--reads-of", NAME, "--die", "other"], 2, f"of die {DIE}, not of other"),
        (["--reads-of", NAME, "--name", NAME, "--resume"], 2, "begun on a read of its own"),
    ],
)
def test_reads_that_cannot_be_taken_are_refused_in_words(lab, tmp_path, words, code, said):
    answer = lab("train", "digits", "--epochs", "3", *(words if "--name" in words else [*words, "--name", "again"]))
    assert answer.exit_code == code
    assert said in " ".join(answer.stderr.split())
    assert not checkpoint(tmp_path, "again").exists()


def test_the_read_noise_is_measured_where_it_is_asked_for(lab):
    assert lab("train", "digits", "--epochs", "1", "--name", "given", "--json").document["read_noise"] is None
    words = ["train", "digits", "--epochs", "1", "--set", "read_noise=measured", "--name", "asked", "--json"]
    assert lab(*words).document["read_noise"] == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "kept_fraction=0.3"], "kept_fraction"),
        (["--set", "kept=1.3"], "kept"),
        (["--set", "epochs=3", "--epochs", "2"], "'epochs' is given by an option of its own and by --set"),
        (["--set", "in_the_loop=off", "--in-the-loop", "weights"], "'in_the_loop' is given"),
        (["--set", "kept=0.3", "--set", "kept=0.4"], "kept"),
        (["--set", "kept"], "kept"),
        (["--die", DIE, "--dies", DIE], "one of the two"),
        (["--dies", f"{DIE},{DIE}"], "twice"),
        (["--dies", f"{DIE},../up"], "die id"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(rramlab, tmp_path, words, said):
    answer = rramlab("train", "digits", *words)
    assert answer.exit_code == 2
    assert said in " ".join(answer.stderr.split())
    assert not (tmp_path / "data" / "dies").exists()
    assert not (tmp_path / "data" / "checkpoints").exists()


def test_of_several_dies_only_those_that_are_needed_are_used(lab, tmp_path):
    """The second one is virgin, and would be refused."""
    trained = lab("train", "digits", "--epochs", "2", "--dies", f"{DIE},sim-0002", "--json").document
    assert trained["name"] == f"digits-{DIE}-sim-0002"
    assert trained["dies"] == [DIE]
    deployed = lab("deploy", trained["name"], "--json").document
    assert (deployed["dies"], deployed["pulses"]) == ([DIE], 0)
    refused = lab("train", "digits", "--epochs", "1", "--dies", f"sim-0002,{DIE}")
    assert refused.exit_code == 2
    assert "die 'sim-0002' is not formed" in refused.stderr


def test_on_a_bench_with_several_dies_they_are_named(rramlab, tmp_path):
    bench = SmallBench(tmp_path / "lab", dies={"small-1": "", "small-2": ""}).write()
    answer = rramlab("train", "digits", "--bench", bench.folder)
    assert answer.exit_code == 2
    assert "small-1, small-2" in answer.stderr
    assert "--dies" in answer.stderr
    refused = rramlab("train", "digits", "--bench", bench.folder, "--dies", "small-1,small-2", "--json")
    assert refused.exit_code == 2
    assert re.search(r"does not fit on 2 dies: .* take \d+ dies", refused.document["error"])


# going on -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["train", "digits", "--epochs", "3", "--in-the-loop", "weights", "--set", "read_every=10"],
        ["adapt", NAME],
        ["adapt", NAME, "--set", "learning_rate=0.2"],
    ],
)
def test_a_stopped_training_goes_on_with_the_words_that_it_says(lab, monkeypatch, words):
    steps = iter(range(30))  # 23 an epoch

    @contextmanager
    def impatient():
        yield lambda: next(steps, None) is None

    with monkeypatch.context() as patch:
        patch.setattr("rramlab.cli.train.stoppable", impatient)
        stopped = lab(*words, "--name", "stopped", "--json")
    assert stopped.exit_code == 4
    said = stopped.document["error"]
    assert "after epoch 1 of 3" in said
    again = lab(*shlex.split(said.partition("go on with: rramlab ")[2]), "--json")
    assert again.exit_code == 0, again.stderr
    assert [epoch["epoch"] for epoch in again.document["history"]] == [1, 2, 3]
    changed = ["read_every", "learning_rate", "in_the_loop"]
    wanted = {"read_every": 10 if "read_every=10" in words else 100, "in_the_loop": "weights"}
    wanted["learning_rate"] = 0.2 if "learning_rate=0.2" in words else 0.5
    assert {key: again.document["recipe"][key] for key in changed} == wanted


def test_a_network_learns_what_its_die_has_become_without_a_pulse(lab, tmp_path):
    assert lab("deploy", NAME).exit_code == 0
    lose(tmp_path, 0.5)
    before = pulses_ever(tmp_path)
    for words in (["deploy", NAME, "--name", "again"], ["evaluate", NAME]):
        refused = lab(*words, "--json")
        assert refused.exit_code in (2, 5)
        assert f"rramlab adapt {NAME}" in refused.document["error"]
    assert not (tmp_path / "data" / "deployments" / "again").exists()
    adapted = lab("adapt", NAME, "--json").document
    assert (adapted["name"], adapted["adapted_from"]) == (f"{NAME}-adapted", NAME)
    assert len(adapted["history"]) == 3
    assert adapted["accuracy_trained"] > 0.9
    deployed = lab("deploy", adapted["name"], "--json").document
    assert (deployed["pulses"], deployed["verification"]["passed"]) == (0, True)
    evaluated = lab("evaluate", adapted["name"], "--images", "120", "--json").document
    assert abs(evaluated["accuracy_on_chip"] - adapted["accuracy_trained"]) < 0.06
    assert np.array_equal(pulses_ever(tmp_path), before)


def test_a_network_is_carried_to_an_aged_die(lab, tmp_path):
    assert lab("sim", "age", DIE, "--for", "3y", "--at", "85").exit_code == 0
    before = pulses_ever(tmp_path)
    adapted = lab("adapt", NAME, "--epochs", "1", "--in-the-loop", "off", "--name", "older", "--json").document
    assert (adapted["recipe"]["in_the_loop"], adapted["adapted_from"]) == ("off", NAME)
    assert adapted["accuracy_trained"] > 0.9
    assert np.array_equal(pulses_ever(tmp_path), before)


# deploying ----------------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_ways_and_opens_no_bench(lab, tmp_path):
    runs = sorted((tmp_path / "data" / "runs").iterdir())
    with package.open_bench(tmp_path):  # held by another: a session could not be opened
        shown = lab("deploy", NAME, "--dry-run", "--json").document
        by_reset = lab("deploy", NAME, "--dry-run", "--method", "reset", "--json").document
        quick = lab("deploy", NAME, "--dry-run", "--least", "time", "--json").document
        few = lab("deploy", NAME, "--dry-run", "--least", "time", "--most-pulses", "10000", "--json").document
        prose = lab("deploy", NAME, "--dry-run")
    assert prose.exit_code == 0
    assert "Ways to deploy it" in prose.stderr + prose.stdout
    ways = shown["ways"]
    assert ways == by_reset["ways"]
    assert (shown["chosen"], by_reset["chosen"]) == (0, len(ways) - 1)
    assert [len(way["reset"]) for way in ways] == [0, 1, 2, 3]
    assert ways[0]["deploying"]["pulses"] == 0
    assert (ways[0]["wear"], ways[-1]["wear"]) == (1, 2)
    assert quick["chosen"] == int(np.argmin([way["sample"]["time_s"] for way in ways])) > 0
    allowed = [way for way in ways if way["deploying"]["pulses"] <= 10000]
    assert ways[few["chosen"]] == min(allowed, key=lambda way: way["sample"]["time_s"])
    assert sorted((tmp_path / "data" / "runs").iterdir()) == runs
    assert not (tmp_path / "data" / "deployments").exists()


def test_a_way_is_named_or_looked_for(lab):
    answer = lab("deploy", NAME, "--method", "reset", "--least", "time", "--json")
    assert answer.exit_code == 2
    assert "--least" in answer.document["error"]


def test_the_quickest_way_is_deployed_by_the_resets_it_shows(lab, tmp_path):
    before = pulses_ever(tmp_path)
    words = ["deploy", NAME, "--least", "time", "--most-pulses", "10000"]
    assert lab(*words).exit_code == 3
    assert np.array_equal(pulses_ever(tmp_path), before)
    deployed = lab(*words, "--arm", DIE, "--json").document
    way = deployed["ways"][deployed["chosen"]]
    assert deployed["chosen"] == 1
    assert (deployed["reset"], deployed["method"]) == (way["reset"], "gate and reset")
    # A few cells beside the threshold may conduct in one read and not in another.
    assert deployed["pulses"] == pytest.approx(way["deploying"]["pulses"], abs=5)
    assert deployed["pulses"] == (pulses_ever(tmp_path) - before).sum()
    assert deployed["phases"] == way["patterns"]
    assert deployed["verification"]["passed"]
    few, more = (lab("evaluate", NAME, "--images", count, "--json").document["conversions"] for count in (20, 50))
    assert more - few == 30 * way["sample"]["conversions"]


def test_a_stale_read_is_not_deployed(lab, tmp_path):
    with changed_json(checkpoint(tmp_path) / "experiment.json") as about:
        about["taken"][0]["taken_at"] = (datetime.now(UTC) - timedelta(days=30, hours=1)).isoformat()
    answer = lab("deploy", NAME, "--json")
    assert answer.exit_code == 1
    assert "30 days old" in answer.document["error"]
    assert f"rramlab adapt {NAME}" in answer.document["error"]
    assert not (tmp_path / "data" / "deployments").exists()


# deploying by reset, interrupted ------------------------------------------------------------------------------------------

RESET = ["deploy", NAME, "--method", "reset", "--arm", DIE, "--json"]


class Cut(RramlabError):
    """What stands for a process that ends here."""


@contextmanager
def cut(target, name, after=0):
    """Let a method fail from its call number ``after`` on."""
    calls, method = [], getattr(target, name)

    def failing(*given, **more):
        calls.append(name)
        if len(calls) > after:
            raise Cut("cut off")
        return method(*given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, failing)
        yield


def killed(folder, run):
    """Make a run look as if its process had been killed."""
    with changed_json(folder / "data" / "runs" / run / "run.json") as record:
        record["status"] = "running"
        record.pop("complete", None)


def resets(folder):
    """Return how often each cell was reset, and which die has which runs."""
    with package.open_bench(folder) as session:
        return ledger_of(session).pulse_counts("reset"), session.runs


@pytest.mark.parametrize(
    "words", [RESET, ["deploy", NAME, "--least", "time", "--arm", DIE, "--json"]], ids=["reset", "least"]
)
@pytest.mark.parametrize(
    "cut_off",
    [
        lambda: cut(SimulatedController, "pulse", 3),  # between two blocks of pulses
        lambda: cut(Run, "append_cells", 12),
        lambda: cut(Deployment, "save"),
        lambda: cut(deploying, "verify"),
    ],
    ids=["pulsing", "reading", "keeping", "verifying"],
)
def test_a_deployment_that_is_cut_off_and_repeated_goes_on(lab, tmp_path, words, cut_off):
    with cut_off():
        assert lab(*words).exit_code == 1
    once, _ = resets(tmp_path)
    assert once.any()
    record = json.loads((max((tmp_path / "data" / "runs").glob("*deploy-reset*")) / "run.json").read_text())
    if record["status"] != "done":
        killed(tmp_path, record["id"])
    shown = lab(*words, "--dry-run").document
    assert shown["earlier"]
    repeated = lab(*words)
    assert repeated.exit_code == 0, repeated.stderr
    counts, _ = resets(tmp_path)
    assert counts.max() == 1
    assert repeated.document["verification"]["passed"]
    assert repeated.document["pulses"] == counts.sum()
    assert record["id"] in repeated.document["runs"]
    assert set(shown["earlier"]) <= set(repeated.document["runs"])
    runs = sorted((tmp_path / "data" / "runs").iterdir())
    third = lab(*words)  # once more, when it is done: nothing is pulsed
    assert third.exit_code == 0
    assert third.document["pulses_now"] == 0
    assert np.array_equal(resets(tmp_path)[0], counts)
    assert not [
        run.name for run in set((tmp_path / "data" / "runs").iterdir()) - set(runs) if "deploy-reset" in run.name
    ]


def test_beginning_again_is_asked_for_by_the_run_it_passes_over(lab, tmp_path):
    first = lab(*RESET).document
    before, _ = resets(tmp_path)
    (run,) = first["runs"]
    assert lab(*RESET, "--again", "20200101-nothing").exit_code == 2
    chosen = np.argwhere(before == 1)[:20]
    path = state_file(tmp_path / "data", DIE)
    die, memory = SimulatedDie.load(path, Geometry(*before.shape))
    die.state.conductance_S[tuple(chosen.T)] = 9e-6  # they conduct again, as if they had not taken their reset
    die.save(path, **memory)
    again = lab(*RESET, "--again", run)
    assert again.exit_code == 0, again.stderr
    assert "get another, which wears them" in " ".join(again.stderr.split())
    counts, _ = resets(tmp_path)
    assert (counts == 2)[tuple(chosen.T)].all()
    (newer,) = again.document["runs"]
    assert newer != run
    refused = lab(*RESET, "--again", run)  # repeated: it is not begun a third time
    assert refused.exit_code == 2
    assert newer in refused.document["error"]
    assert np.array_equal(resets(tmp_path)[0], counts)


def test_layers_that_were_reset_before_are_left_alone_when_all_are(lab, tmp_path):
    some = lab("deploy", NAME, "--least", "time", "--most-pulses", "10000", "--arm", DIE, "--json").document
    assert len(some["reset"]) < 3
    every = lab(*RESET).document
    assert set(some["reset"]) < set(every["reset"])
    assert resets(tmp_path)[0].max() == 1
    assert every["runs"][0] == some["runs"][0]
    assert every["verification"]["passed"]
    assert every["pulses"] == resets(tmp_path)[0].sum()


def test_by_gates_is_what_takes_no_pulse_whatever_was_reset_before(lab, tmp_path):
    assert lab(*RESET).exit_code == 0
    for words in ((), ("--least", "pulses")):
        gated = lab("deploy", NAME, *words, "--json").document
        assert (gated["method"], gated["pulses"], gated["earlier"]) == ("gate", 0, [])


def test_a_deployment_is_not_written_over_that_of_another_training(lab, tmp_path):
    assert lab("deploy", NAME, "--name", "mine").exit_code == 0
    assert lab("adapt", NAME, "--epochs", "1", "--in-the-loop", "off", "--name", "other").exit_code == 0
    answer = lab("deploy", "other", "--method", "reset", "--name", "mine", "--arm", DIE, "--json")
    assert answer.exit_code == 2
    assert NAME in answer.document["error"]
    assert not resets(tmp_path)[0].any()


def test_a_deployment_that_cannot_be_kept_is_refused_before_the_first_pulse(lab, tmp_path):
    (tmp_path / "data" / "deployments").write_text("in the way")
    answer = lab(*RESET)
    assert answer.exit_code == 1
    assert "deployments" in answer.document["error"]
    assert not resets(tmp_path)[0].any()


# floor plans --------------------------------------------------------------------------------------------------------------


def test_a_floor_plan_says_where_every_weight_of_a_recipe_lies(rramlab, tmp_path):
    answer = rramlab("place", "fashion-mnist", "--png", tmp_path / "plan.png", "--json")
    assert answer.exit_code == 0
    told = answer.document
    placement = Placement.from_json(told["rows"], told["columns"], told["tiles"])
    assert placement.layers == {"conv1": (9, 64), "conv2": (576, 16), "fc1": (400, 128), "fc2": (128, 10)}
    assert (told["dies"], told["weights"]) == (["die 1"], 62272)
    assert told["share"] == pytest.approx(62272 / (512 * 256))
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert not (tmp_path / "data").exists()  # it reads files only


def test_a_floor_plan_of_a_training_names_its_die(lab, tmp_path):
    told = lab("place", NAME, "--png", tmp_path / "plan.png", "--json").document
    assert told["dies"] == [DIE]
    assert {tile["layer"] for tile in told["tiles"]} == {"fc1", "fc2", "fc3"}
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_floor_plan_takes_as_many_dies_as_the_network_does(rramlab, tmp_path):
    bench = SmallBench(tmp_path / "lab").write().folder
    told = rramlab("place", "digits", "--bench", bench, "--json").document
    count = len(told["dies"])
    assert told["dies"] == [f"die {number + 1}" for number in range(count)]
    assert {tile["die"] for tile in told["tiles"]} == set(range(count))
    assert told["weights"] == 50432
    refused = rramlab("place", "digits", "--bench", bench, "--dies", count - 1, "--json")
    assert refused.exit_code == 2
    assert f"take {count} dies" in refused.document["error"]
    assert rramlab("place", "digits", "--bench", bench, "--dies", count).exit_code == 0


def test_a_floor_plan_of_nothing_is_refused(rramlab):
    answer = rramlab("place", "digit")
    assert answer.exit_code == 2
    assert "digits" in answer.stderr


def stopped(lab, monkeypatch, *words):
    steps = iter(range(30))

    @contextmanager
    def impatient():
        yield lambda: next(steps, None) is None

    with monkeypatch.context() as patch:
        patch.setattr("rramlab.cli.train.stoppable", impatient)
        answer = lab(*words, "--name", "stopped", "--json")
    assert answer.exit_code == 4
    return shlex.split(answer.document["error"].partition("go on with: rramlab ")[2])


@pytest.mark.parametrize("words", [["--epochs", "2"], ["--in-the-loop", "multiply"], ["--in-the-loop", "off"]])
def test_an_adaptation_goes_on_with_the_words_that_it_says(lab, monkeypatch, words):
    again = lab(*stopped(lab, monkeypatch, "adapt", NAME, *words), "--json")
    assert again.exit_code == 0, again.document["error"]


@pytest.mark.parametrize("words", [["--die", DIE], ["--dies", f"{DIE},sim-0002"]])
def test_on_a_bench_of_several_dies_a_training_goes_on_with_the_words_that_it_says(lab, tmp_path, monkeypatch, words):
    text = (shipped().path / "bench.yaml").read_text()
    text = text.replace("  - id: sim-0001", "  - id: sim-0002\n  - id: sim-0001")
    (tmp_path / "bench.yaml").write_text(text)
    again = lab(*stopped(lab, monkeypatch, "train", "digits", "--epochs", "3", *words), "--json")
    assert again.exit_code == 0, again.document["error"]


def test_a_training_in_the_loop_that_goes_on_with_another_die_is_refused_in_words(lab, monkeypatch):
    words = ["train", "digits", "--epochs", "3", "--in-the-loop", "multiply"]
    again = lab(*stopped(lab, monkeypatch, *words), "--die", "sim-0002", "--json")
    assert again.exit_code == 2
    assert DIE in again.document["error"], again.document["error"]


def test_a_network_is_not_deployed_on_a_die_whose_other_cells_were_formed_since(lab, tmp_path):
    assert lab("run", "electroform", "--set", "cells=pristine", "--arm", DIE).exit_code == 0
    answer = lab("deploy", NAME, "--json")
    assert "of its cells conduct that did not" in answer.document["error"]
    assert answer.exit_code == 5
