"""A network that needs two dies, from the command line: trained, deployed and evaluated as one."""

import numpy as np
import pytest
from typer.testing import CliRunner
from workbench import SmallBench, copy_bench, ledger_of

from rramlab.cli.app import app

pytest.importorskip("torch", reason="the learning side needs rramlab[train]")

DIES = ("left", "right")
NAME = "digits-left-right"


def small(folder):
    """Arrays of a quarter of the shipped size: the second layer fills half of one, the first another."""
    figures = {"lines_at_once": "64", "columns_per_adc": "16"}
    return SmallBench(folder, 256, 512, dict.fromkeys(DIES, ""), figures=figures)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two formed dies and a network trained on them; made once, copied for each test."""
    bench = small(tmp_path_factory.mktemp("made") / "lab").write()
    where = ["--bench", str(bench.folder)]
    for words in (
        *(["run", "electroform", "--die", die, "--arm", die] for die in DIES),
        ["train", "digits", "--epochs", "3", "--dies", ",".join(DIES)],
    ):
        answer = CliRunner().invoke(app, [*words, *where])
        assert answer.exit_code == 0, answer.stderr
    return bench.folder


@pytest.fixture
def lab(made, tmp_path, rramlab):
    """Call ``lab(*words)`` on a copy of that bench."""
    copy_bench(made, tmp_path / "lab")
    return lambda *words: rramlab(*words, "--bench", tmp_path / "lab")


def pulses(folder, kind=None):
    with small(folder).open() as session:
        return np.stack([ledger_of(session, die).pulse_counts(*([kind] if kind else [])) for die in DIES])


def test_the_network_lies_on_both_dies(lab):
    told = lab("place", NAME, "--json").document
    assert told["dies"] == list(DIES)
    assert {tile["layer"]: tile["die"] for tile in told["tiles"]} == {"fc1": 1, "fc2": 0, "fc3": 0}


def test_it_is_deployed_by_gate_and_evaluated_on_both(lab, tmp_path):
    before = pulses(tmp_path / "lab")
    deployed = lab("deploy", NAME, "--json").document
    assert (deployed["dies"], deployed["pulses"]) == (list(DIES), 0)
    assert len(deployed["runs"]) == 2
    evaluated = lab("evaluate", NAME, "--images", "180", "--json").document
    assert evaluated["dies"] == list(DIES)
    assert evaluated["accuracy_on_chip"] > 0.85
    assert abs(evaluated["accuracy_on_chip"] - evaluated["accuracy_trained"]) < 0.05
    assert np.array_equal(pulses(tmp_path / "lab"), before)


@pytest.mark.parametrize("mode", ["weights", "multiply"])
def test_it_is_trained_on_with_both_in_the_loop(lab, tmp_path, mode):
    before = pulses(tmp_path / "lab")
    adapted = lab("adapt", NAME, "--epochs", "1", "--in-the-loop", mode, "--json").document
    assert adapted["dies"] == list(DIES)
    assert adapted["accuracy_trained"] > 0.85
    assert np.array_equal(pulses(tmp_path / "lab"), before)


def test_a_reset_on_one_die_is_armed_for_that_one(lab, tmp_path):
    """The quickest way with so few pulses resets the first layer, which lies on the second die."""
    shown = lab("deploy", NAME, "--dry-run", "--json").document
    assert shown["ways"][1]["reset"] == ["fc1"]
    words = ["deploy", NAME, "--least", "time", "--most-pulses", shown["ways"][1]["deploying"]["pulses"]]
    before = pulses(tmp_path / "lab")
    assert lab(*words).exit_code == 3
    assert lab(*words, "--arm", "left").exit_code == 3
    assert np.array_equal(pulses(tmp_path / "lab"), before)
    deployed = lab(*words, "--arm", "right", "--json").document
    assert deployed["verification"]["passed"]
    counted = pulses(tmp_path / "lab", "reset").sum(axis=(1, 2))
    assert counted.tolist() == [0, deployed["pulses"]]


def test_resets_on_both_dies_are_armed_at_once_or_not_done_at_all(lab, tmp_path):
    for arm in ([], ["--arm", "left"], ["--arm", "right"]):
        refused = lab("deploy", NAME, "--method", "reset", *arm)
        assert refused.exit_code == 3
        assert not pulses(tmp_path / "lab", "reset").any(), arm
