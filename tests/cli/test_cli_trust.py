"""Code that a training's folder names, from the command line: asked for at the terminal, or refused with code 3."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from workbench import copy_bench

from rramlab.cli import trusting
from rramlab.cli.app import app

pytest.importorskip("torch", reason="the learning side needs rramlab[train]")

DIE, NAME = "sim-0001", "own-sim-0001"
NETWORK = """
from torch import nn

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
"""
EVIL = NETWORK + "\nwith open('ran', 'a') as file:\n    file.write('x')\n"
RECIPE = "name: own\ndescription: mine\ndataset: own.npz\nnetwork: own.py:network\nepochs: 1\nbatch: 10\nlearning_rate: 0.1\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bench folder with a formed die, a network of one's own trained on it, and deployed; copied for each test."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    np.savez(folder / "own.npz", x=rng.random((60, 3, 4)), y=np.repeat([0, 1, 2], 20))
    (folder / "own.py").write_text(NETWORK)
    (folder / "own.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (["run", "electroform", "--arm", DIE], ["train", "own.yaml"], ["deploy", NAME]):
            answer = CliRunner().invoke(app, words)  # trained here, so nothing is asked afterwards
            assert answer.exit_code == 0, answer.stderr
    return folder


@pytest.fixture
def sent(made, tmp_path, rramlab):
    """Call ``sent(*words)`` on a copy of it, as it were sent by somebody: nobody has confirmed anything for that folder."""
    copy_bench(made, tmp_path)
    edit(tmp_path, network=f"{tmp_path / 'own.py'}:network", dataset=str(tmp_path / "own.npz"))
    return rramlab


def edit(folder, **changes):
    path = folder / "data" / "checkpoints" / NAME / "experiment.json"
    document = json.loads(path.read_text())
    document["recipe"].update(changes)
    path.write_text(json.dumps(document))
    # The checkpoint compares recipes, too: whoever forges one forges both.
    from rramlab.training.checkpoint import Checkpoint

    saved = Checkpoint.load(path.with_name("checkpoint.pt"))
    saved.recipe.update(changes)
    saved.save(path.with_name("checkpoint.pt"))


COMMANDS = {
    "deploy --dry-run": ["deploy", NAME, "--dry-run"],
    "deploy": ["deploy", NAME],
    "evaluate": ["evaluate", NAME],
    "adapt": ["adapt", NAME, "--epochs", "1", "--name", "again"],
    "train --resume": ["train", "digits", "--name", NAME, "--resume"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_folder_names_elsewhere_is_executed_by_no_command(sent, tmp_path, command):
    evil = tmp_path / "elsewhere.py"
    evil.write_text(EVIL)
    edit(tmp_path, network=f"{evil}:network", **({"name": "digits"} if "resume" in command else {}))
    answer = sent(*COMMANDS[command], "--json")
    assert answer.exit_code == 3
    assert "elsewhere.py:network" in answer.document["error"]
    assert "--trust-code" in answer.document["error"]
    assert not (tmp_path / "ran").exists()
    assert sent(*COMMANDS[command], "--trust-code").exit_code == 0
    assert (tmp_path / "ran").exists()  # else this test could not fail
    (tmp_path / "ran").unlink()
    if command != "adapt":
        assert sent(*COMMANDS[command]).exit_code == 0  # confirmed once
        assert (tmp_path / "ran").exists()
    evil.write_text(EVIL.replace("'x'", "'yy'"))
    (tmp_path / "ran").unlink(missing_ok=True)
    assert sent(*COMMANDS[command]).exit_code == 3
    assert not (tmp_path / "ran").exists()


def test_looking_at_a_training_asks_nothing(sent, tmp_path):
    (tmp_path / "own.py").write_text(EVIL)
    assert sent("place", NAME).exit_code == 0
    assert sent("runs", "list").exit_code == 0
    assert not (tmp_path / "ran").exists()


def test_what_is_named_in_the_command_is_executed(sent, tmp_path):
    (tmp_path / "own.py").write_text(EVIL)
    assert sent("place", "own.yaml").exit_code == 0
    (tmp_path / "other.py").write_text(EVIL)
    assert sent("train", "own.yaml", "--set", "network=other.py:network", "--name", "other").exit_code == 0
    assert sent("deploy", "other", "--dry-run").exit_code == 0  # trained here: confirmed
    assert sent("train", "own.yaml", "--resume").exit_code == 0  # its recipe names the training's network
    assert sent("deploy", NAME, "--dry-run").exit_code == 0


def test_a_deployment_leads_to_no_folder_but_a_training_of_the_bench(sent, tmp_path):
    path = tmp_path / "data" / "deployments" / NAME / "deployment.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "training": "../../elsewhere"}))
    answer = sent("evaluate", NAME)
    assert answer.exit_code == 2
    assert "training's name" in answer.stderr


def at_a_terminal(folder, *words, answer):
    """Run a command with a terminal of its own that types ``answer`` when it is asked: (exit code, what was asked, stdout)."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(trusting.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rramlab", *words],
        cwd=folder, env=environment, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, text=True,
        start_new_session=True,
    )  # fmt: skip
    asked, deadline = "", time.monotonic() + 60
    try:
        while "[y/n]" not in asked and process.poll() is None and time.monotonic() < deadline:
            if select.select([controller], [], [], 0.1)[0]:
                asked += os.read(controller, 4096).decode()
        os.write(controller, f"{answer}\n".encode() * 3)  # what is no answer is asked again, thrice in all
        out, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        os.close(controller)
        os.close(terminal)
    return process.returncode, asked, out


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "code"), [("n", 3), ("", 3), ("y", 0)])
def test_the_question_goes_to_the_terminal_and_not_into_the_pipe(sent, tmp_path, answer, code):
    (tmp_path / "own.py").write_text(EVIL)
    words = ("deploy", NAME, "--dry-run", "--json")
    found, asked, out = at_a_terminal(tmp_path, *words, answer=answer)
    assert found == code
    assert "own.py:network" in asked
    assert "Run it? [y/n]" in " ".join(asked.split())
    assert ("error" in json.loads(out)) == (code == 3)  # one document, whatever was asked
    assert (tmp_path / "ran").exists() == (code == 0)
    if code == 0:
        assert sent(*words).exit_code == 0  # it was remembered
