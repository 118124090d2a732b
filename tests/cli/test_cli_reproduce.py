"""``reproduce``: what it refuses before anything is begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rramlab.cli.app import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drive", "--rows", "edge,best"], "there is no row 'best'; known: edge, phases, reset, random"),
        (["spoken-digits", "--data", "."], "free-spoken-digit-dataset"),
        (["drive", "--data", "."], "drive.grand-challenge.org"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["reproduce", *words, "--out", "out"])
    assert found.exit_code in (1, 2)
    assert said in found.output
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_lists_those_that_exist() -> None:
    found = CliRunner().invoke(app, ["reproduce", "imagenet"])
    assert found.exit_code == 2
    assert "fashion-mnist" in found.output
