"""The command line in process: what a person types, what comes back."""

import json
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from rramlab.cli.app import app


@dataclass
class Answer:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self):
        """The one JSON document on stdout."""
        return json.loads(self.stdout)


@pytest.fixture
def rramlab(tmp_path, monkeypatch):
    """Call ``rramlab(*words)`` with an empty folder as the working bench."""
    monkeypatch.chdir(tmp_path)
    for name in ("RRAMLAB_BENCH", "RRAMLAB_DATA"):
        monkeypatch.delenv(name, raising=False)

    def call(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if "--json" in words and result.stdout:
            json.loads(result.stdout)  # exactly one document, whatever happened
        return Answer(result.exit_code, result.stdout, result.stderr)

    return call
