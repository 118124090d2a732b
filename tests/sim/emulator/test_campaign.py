"""A sample of benchmarks/faults.py: sides killed at random moments, a line that loses frames; judged by the die itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from workbench import SmallBench

from rramlab.base.arrays import load_arrays, save_arrays

if os.name != "posix":
    pytest.skip("SIGKILL, terminals and a fork server", allow_module_level=True)

from campaign import deadman, forming

FAULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def expected_S(tmp_path_factory):
    return forming.references(tmp_path_factory.mktemp("undisturbed"))


# Numbers of the campaign: each victim on TCP and on a terminal, at 3.75 V and at 3.45 V.
@pytest.mark.parametrize("number", [0, 1, 2, 3, 12, 13, 14, 15])
def test_no_cell_is_pulsed_twice_and_none_is_lost(tmp_path, expected_S, number):
    outcome = forming.one(number, 7, tmp_path / "run", expected_S, share=0.03)
    assert outcome["passed"], outcome
    assert outcome["kills"]
    assert outcome["victim"] == forming.VICTIMS[number % 4] == outcome["kills"][0]["victim"]
    assert outcome["frames"] > 20


@pytest.mark.parametrize("number", [0, 3])
def test_a_dead_host_leaves_dead_lines(tmp_path, number):
    """A pulse train on TCP and a route held over a terminal: within the dead-man time of the board's file."""
    outcome = deadman.one(number, 7, tmp_path / "kill")
    assert outcome["passed"], outcome
    assert outcome["what"] == deadman.WHAT[number % 2]
    assert not outcome["live"]
    assert not outcome["routed"]
    assert outcome["pulses_later"] == 0
    assert (outcome["pulses"] > 0) == (outcome["what"] == "pulse train")


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """A host's folder and a bench's after a run in which nothing happened."""
    folder = tmp_path_factory.mktemp("formed")
    bench = SmallBench(folder / "host").write()
    plan = forming.plan_of(3.75)
    with bench.open() as session:
        session.run(plan, arm=forming.DIE)
    SmallBench(folder / "bench").write()
    return folder, plan


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (None, []),
        ("again", ["twice"]),
        ("stranger", ["outside", "unreported"]),
        ("never", ["lost"]),
        ("other", ["otherwise"]),
    ],
)
def test_the_judge_sees_a_die_that_contradicts_the_ledger(formed, expected_S, change, names):
    folder, plan = formed
    state = load_arrays(folder / "host" / "data" / "dies" / forming.DIE / "die.npz")
    row, column = np.argwhere(state["pulses"] == 1)[0]
    match change:
        case "again":
            state["pulses"][row, column] = 2
        case "stranger":
            state["pulses"][row, column ^ 1] = 1
        case "never":
            state["pulses"][row, column] = 0
        case "other":
            state["conductance_S"][row, column] *= 1.5
    save_arrays(folder / "bench" / "data" / "dies" / forming.DIE / "die.npz", state)
    violations = forming.judge(folder, plan, expected_S[3.75])["violations"]
    assert {name: count for name, count in violations.items() if count} == dict.fromkeys(names, 1)


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path):
    """What is in the file is not done again, a line that was cut short is, and the page is of all."""

    def campaign(runs):
        words = [sys.executable, FAULTS, "--runs", str(runs), "--kills", "0", "--out", str(tmp_path), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    campaign(2)
    path = tmp_path / "forming.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    known = json.loads(first)
    path.write_text(json.dumps({**known, "seconds": 12345}) + "\n" + second[: len(second) // 2])
    document = campaign(3)
    assert document["runs"] == 3
    assert document["seconds"] >= 12345
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1, 2]
    assert "3 of 3 runs" in (tmp_path / "faults.md").read_text()
