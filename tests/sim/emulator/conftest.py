"""An emulated bench as its user meets it: ``rramlab sim serve`` as a process, and commands of a host beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner
from workbench import SmallBench

from rramlab.cli.app import app

sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))  # the campaign, of which a sample is run here


class Serving:
    """A process that serves an emulated bench; ``document``: what it printed as JSON when it was ready."""

    def __init__(self, bench, *words):
        environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # as where a person's shell sets nothing
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rramlab", "sim", "serve", "--bench", bench, "--json", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        printed = ""
        while (line := self.process.stdout.readline()) and not printed.endswith("}\n"):
            printed += line
            if line == "}\n":
                break
        self.document = json.loads(printed) if printed else None

    def end(self, number=signal.SIGINT):
        """Stop it by a signal; return the exit code and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def serve():
    """Call ``with serve(bench, *words) as serving``."""

    @contextmanager
    def start(bench, *words):
        serving = Serving(bench, *words)
        try:
            yield serving
        finally:
            if serving.process.poll() is None:
                serving.process.kill()
            serving.process.communicate()

    return start


@pytest.fixture
def bench(tmp_path):
    """The folder of a small bench to be served."""
    return SmallBench(tmp_path / "bench").write().folder


@pytest.fixture
def host(tmp_path, bench):
    """The folder of a host, with the board's driver file."""
    shutil.copytree(bench / "drivers", tmp_path / "host" / "drivers")
    return tmp_path / "host"


@pytest.fixture
def rramlab():
    """Call a command in process: exit code, its JSON document, and what it said."""

    def call(*words):
        result = CliRunner().invoke(app, [*map(str, words), "--json"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, json.loads(result.stdout) if result.stdout else None, result.stderr

    return call


@pytest.fixture
def until():
    """Call ``until(what)``: wait until it is true, and return what it was."""

    def wait(what, timeout_s=30.0):
        deadline = time.monotonic() + timeout_s
        while not (found := what()):
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)
        return found

    return wait
