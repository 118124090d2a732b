"""Train, deploy, evaluate and the demo, from the command line."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner
from workbench import copy_bench

import rramlab as package
from rramlab.base.arrays import load_arrays
from rramlab.cli.app import app

pytest.importorskip("torch", reason="the learning side needs rramlab[train]")

DIE = "sim-0001"


@pytest.fixture(scope="module")
def formed_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formed")
    answer = CliRunner().invoke(app, ["run", "electroform", "--arm", DIE, "--bench", str(folder)])
    assert answer.exit_code == 0, answer.stderr
    return folder


@pytest.fixture
def formed(formed_once, tmp_path, rramlab):
    copy_bench(formed_once / "data", tmp_path / "data")
    return rramlab


def pulses_ever(folder):
    with package.open_bench(folder) as session:
        return int(session.stations[DIE].ledger.pulse_counts().sum())


def test_train_deploy_without_a_pulse_and_evaluate(formed, tmp_path):
    trained = formed("train", "digits", "--epochs", "4", "--json").document
    assert trained["name"] == f"digits-{DIE}"
    assert trained["accuracy_trained"] > 0.9
    assert trained["accuracy_random"] < 0.35
    assert len(trained["history"]) == 4
    before = pulses_ever(tmp_path)
    deployed = formed("deploy", trained["name"], "--json").document
    assert deployed["pulses"] == 0
    assert deployed["verification"]["passed"]
    assert pulses_ever(tmp_path) == before
    evaluated = formed("evaluate", deployed["name"], "--json").document
    assert evaluated["images"] == 360
    assert abs(evaluated["accuracy_on_chip"] - trained["accuracy_trained"]) <= 0.02
    assert evaluated["conversions"] > 0
    assert pulses_ever(tmp_path) == before


def test_deployment_by_reset_pulses_each_conducting_pruned_cell_once(formed, tmp_path):
    trained = formed("train", "digits", "--epochs", "2", "--json").document
    assert formed("deploy", trained["name"], "--method", "reset").exit_code == 3
    assert pulses_ever(tmp_path) == 512 * 256
    deployed = formed("deploy", trained["name"], "--method", "reset", "--arm", DIE, "--json").document
    assert deployed["verification"]["passed"]
    with package.open_bench(tmp_path) as session:
        resets = session.stations[DIE].ledger.pulse_counts("reset")
    assert resets.max() == 1
    assert resets.sum() == deployed["pulses"]
    # One cell of each pair conducts, so there is one reset for each pruned weight, less those in wholly pruned lines.
    assert 0.9 <= deployed["pulses"] / (trained["weights"] - trained["kept"]) <= 1.0
    evaluated = formed("evaluate", deployed["name"], "--json").document
    assert abs(evaluated["accuracy_on_chip"] - trained["accuracy_trained"]) <= 0.03


def test_a_die_that_changed_fails_its_verification(formed):
    trained = formed("train", "digits", "--epochs", "1", "--json").document
    assert formed("deploy", trained["name"]).exit_code == 0
    assert formed("run", "prune", "--set", "cells=all", "--arm", DIE).exit_code == 0
    answer = formed("evaluate", trained["name"], "--json")
    assert answer.exit_code == 5
    assert "no longer what it was" in answer.document["error"]


def test_a_retrained_network_does_not_run_under_its_old_mask(formed):
    trained = formed("train", "digits", "--epochs", "1", "--json").document
    assert formed("deploy", trained["name"]).exit_code == 0
    again = formed("train", "digits", "--epochs", "1", "--seed", "5")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert formed("train", "digits", "--epochs", "1", "--seed", "5", "--overwrite").exit_code == 0
    answer = formed("evaluate", trained["name"], "--json")
    assert answer.exit_code == 2
    assert "Deploy it again" in answer.document["error"]


def test_training_needs_a_formed_die(rramlab):
    answer = rramlab("train", "digits", "--epochs", "1")
    assert answer.exit_code == 2
    assert "rramlab run electroform --die sim-0001 --arm sim-0001" in answer.stderr


def test_a_missing_data_set_is_named_with_where_to_get_it(formed, tmp_path, monkeypatch):
    answer = formed("train", "fashion-mnist", "--data", tmp_path / "nowhere")
    assert answer.exit_code == 1
    assert "dataset-fashion-mnist" in answer.stderr
    assert str(tmp_path / "nowhere") in answer.stderr
    demo = formed("demo", "--task", "fashion-mnist", "--die", "other", "--data", tmp_path / "nowhere", "--json")
    assert demo.exit_code == 1
    assert not (tmp_path / "data" / "dies" / "other").exists()


def test_unknown_recipe_training_and_deployment(formed):
    assert "digits" in formed("train", "digit").stderr
    assert formed("train", "digit").exit_code == 2
    assert formed("deploy", "nothing").exit_code == 1
    assert formed("evaluate", "nothing").exit_code == 1


def test_resume_and_overwrite_contradict_each_other(formed):
    assert formed("train", "digits", "--epochs", "1").exit_code == 0
    answer = formed("train", "digits", "--resume", "--overwrite")
    assert answer.exit_code == 2
    assert "one of the two" in answer.stderr


def test_a_training_is_not_lost_to_one_that_could_not_begin(formed, tmp_path):
    trained = formed("train", "digits", "--epochs", "1", "--json").document
    checkpoint = tmp_path / "data" / "checkpoints" / trained["name"] / "checkpoint.pt"
    kept = checkpoint.read_bytes()
    with package.open_bench(tmp_path):  # the bench is held by another
        assert formed("train", "digits", "--epochs", "1", "--overwrite").exit_code == 1
    assert checkpoint.read_bytes() == kept


def test_names_do_not_leave_their_folders(formed, tmp_path):
    for words in (["train", "digits", "--name", "../up"], ["deploy", "../up"], ["evaluate", "."]):
        answer = formed(*words)
        assert answer.exit_code == 2
        assert "expected up to 64 letters" in answer.stderr
    assert not (tmp_path / "data" / "up").exists()


def test_a_recipe_that_contradicts_its_data_or_the_die_is_refused(formed, tmp_path):
    recipe = (
        "name: own\ndescription: mine\ndataset: digits\nnetwork: {network}\nforming: {forming}\nepochs: 1\nbatch: 60\n"
        "learning_rate: 0.5\n"
    )
    path = tmp_path / "own.yaml"
    path.write_text(recipe.format(network="fashion-cnn", forming="one-of-pair"))
    shape = formed("train", path)
    assert shape.exit_code == 2
    assert "does not take samples of shape (1, 8, 8) in 10 classes" in shape.stderr
    path.write_text(recipe.format(network="digits-mlp", forming="all"))
    forming = formed("train", path)
    assert forming.exit_code == 2
    assert "--set forming" in forming.stderr
    path.write_text(recipe.format(network="digits-mlp", forming="one-of-pair"))
    assert formed("train", path).exit_code == 0


def test_a_resume_needs_the_same_recipe(formed):
    assert formed("train", "digits", "--epochs", "1").exit_code == 0
    answer = formed("train", "digits", "--epochs", "2", "--resume", "--json")
    assert answer.exit_code == 2
    assert "epochs" in answer.document["error"]


def test_data_list_says_what_is_missing_and_how_to_get_it(rramlab, tmp_path):
    found = {each["name"]: each for each in rramlab("data", "list", "--data", tmp_path, "--json").document["datasets"]}
    assert found["digits"]["available"]
    assert not found["fashion-mnist"]["available"]
    assert "dataset-fashion-mnist" in found["fashion-mnist"]["detail"]


def test_training_stopped_by_ctrl_c_resumes_to_the_same_bits(formed, tmp_path):
    words = ["train", "digits", "--epochs", "4", "--json"]
    begun = subprocess.Popen(
        [sys.executable, "-m", "rramlab", *words, "--name", "stopped"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    checkpoint = tmp_path / "data" / "checkpoints" / "stopped" / "checkpoint.pt"
    try:
        for _ in range(6000):
            if checkpoint.exists() or begun.poll() is not None:
                break
            time.sleep(0.01)
        begun.send_signal(signal.SIGINT)
        out, err = begun.communicate(timeout=120)
    finally:
        begun.kill()
    assert begun.returncode == 4, err
    assert "--resume" in json.loads(out)["error"]
    history = formed(*words, "--name", "stopped", "--resume").document["history"]
    assert len(history) == 4
    # The same weights, trained without a break.
    calm = tmp_path / "data" / "checkpoints" / "calm"
    calm.mkdir()
    for name in ("experiment.json", "weights.npz"):
        (calm / name).write_bytes((checkpoint.parent / name).read_bytes())
    whole = formed(*words, "--name", "calm", "--resume").document["history"]
    for a, b in zip(history, whole, strict=True):
        assert (a["loss"], a["test_accuracy"]) == (b["loss"], b["test_accuracy"])
    masks = [load_arrays(path.parent / "mask.npz") for path in (checkpoint, calm / "checkpoint.pt")]
    for name in masks[0]:
        assert np.array_equal(masks[0][name], masks[1][name])


def test_the_demo_keeps_its_contract(rramlab, tmp_path):
    answer = rramlab("demo", "--epochs", "6", "--die", "demo-1", "--png", tmp_path / "map.png", "--json")
    assert answer.exit_code == 0
    told = answer.document
    for key in (
        "die",
        "formed_fraction",
        "accuracy_random",
        "accuracy_trained",
        "accuracy_on_chip",
        "pulses",
        "seconds",
    ):
        assert key in told
    assert told["die"] == "demo-1"
    assert told["pulses"] == 512 * 256
    assert told["formed_fraction"] > 0.99
    assert told["accuracy_random"] < 0.35
    assert told["accuracy_on_chip"] > 0.9
    assert (tmp_path / "map.png").exists()
    again = rramlab("demo", "--die", "demo-1")
    assert again.exit_code == 2
    assert "virgin" in again.stderr


@pytest.mark.parametrize("words", [["--granularity", "phase", "--phases", "16"], ["--granularity", "line"]])
def test_a_mask_of_phases_deploys_without_a_pulse_in_as_many_patterns(formed, tmp_path, words):
    trained = formed("train", "digits", "--epochs", "6", *words, "--json").document
    assert trained["recipe"]["granularity"] == words[1]
    before = pulses_ever(tmp_path)
    deployed = formed("deploy", trained["name"], "--json").document
    assert deployed["pulses"] == 0
    # Three layers of one tile each; the last has but 10 outputs.
    assert deployed["phases"] <= (16 + 16 + 10 if "phase" in words else 3)
    assert deployed["verification"]["passed"]
    evaluated = formed("evaluate", deployed["name"], "--json").document
    assert abs(evaluated["accuracy_on_chip"] - trained["accuracy_trained"]) <= 0.03
    assert pulses_ever(tmp_path) == before
    again = formed("train", "digits", "--phases", "4", "--name", "other")
    assert again.exit_code == 2
    assert "granularity" in again.stderr
