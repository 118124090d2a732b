"""Training with the chip in the loop over a wire: a link that is lost ends it in words, and it can go on."""

import json
import re
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from emulated import served
from typer.testing import CliRunner

import rramlab
from rramlab.base.folders import shipped
from rramlab.cli.app import app
from rramlab.drivers.bench import describe_bench
from rramlab.runs.ledger import Ledger
from rramlab.sim.backend import open_simulated

pytest.importorskip("torch", reason="the learning side needs rramlab[train]")

DIE = "sim-0001"


def call(folder, *words):
    result = CliRunner().invoke(app, [*words, "--bench", str(folder), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def host(tmp_path):
    """A bench folder with a formed die, whose board is then at the end of a wire."""
    with rramlab.open_bench(tmp_path) as session:
        session.run("electroform", arm=DIE)
    return tmp_path


@contextmanager
def wired(folder, behind):
    """Serve the board, and write where it is into the host's bench.yaml."""
    with served(behind) as board:
        text = (shipped().path / "bench.yaml").read_text(encoding="utf-8")
        text = text.replace("backend: simulated", "backend: wire")
        text = re.sub(r"(?m)^smus:\n(  .*\n)+", "", text)
        text = text.replace("  driver: macro-40nm", f"  address: {board.addresses['tcp']}\n  driver: macro-40nm")
        (folder / "bench.yaml").write_text(text, encoding="utf-8")
        yield board


def test_a_link_that_is_lost_costs_the_epoch_and_the_training_goes_on(host):
    description = describe_bench(host)
    behind = open_simulated(description.file, description.board, description.data).controllers[DIE]
    pulses = behind.die.state.pulses.copy()
    folder = host / "data" / "checkpoints" / "far"
    words = ["train", "digits", "--epochs", "3", "--in-the-loop", "multiply", "--name", "far"]
    done = threading.Event()
    with wired(host, behind) as board:

        def cut():
            while not (folder / "log.csv").exists():  # the first epoch
                if done.wait(0.01):
                    return
            board.switch_off()

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            code, said = call(host, *words)
        finally:
            done.set()
            cutter.join()
    assert code == 1, said
    assert f"die '{DIE}': tcp://127.0.0.1:{board.port} cannot be reached" in said["error"]
    from rramlab.training import Checkpoint  # with it comes torch

    assert 1 <= Checkpoint.load(folder / "checkpoint.pt").epoch < 3
    assert not behind.load  # without its host the board has left the lines at 0 V
    behind.power_cycle()
    with wired(host, behind):
        code, told = call(host, "train", "digits", "--name", "far", "--resume")
    assert code == 0, told
    assert [epoch["epoch"] for epoch in told["history"]] == [1, 2, 3]
    assert told["accuracy_trained"] > 0.9
    assert np.array_equal(behind.die.state.pulses, pulses)
    ledger = Ledger(host / "data" / "dies" / DIE / "ledger.db", DIE, description.board.geometry)
    assert np.array_equal(ledger.pulse_counts(), pulses)
    ledger.close()
    behind.close()
