"""A sample of benchmarks/kills.py: forming runs killed at random moments, again and again; judged by die and disk."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if os.name != "posix":
    pytest.skip("SIGKILL and a fork server", allow_module_level=True)

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))  # the campaign, of which a sample is run here

from killing import forming
from killing.judging import PROMISES, Left, judge
from killing.watched import WHAT

KILLS = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"
CELLS = "cell (0, 1) | cell (0, 2)"


@pytest.fixture(scope="module")
def nominals(tmp_path_factory):
    return forming.Nominals(tmp_path_factory.mktemp("undisturbed"))


# Numbers of the campaign: a session; one that pulses at 3.45 V, where half of the cells prove nothing; the command.
@pytest.mark.parametrize(("number", "cycled"), [(11, False), (7, False), (1, True), (11, True)])
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, nominals, number, cycled):
    outcome = forming.one(number, 7, tmp_path / "run", nominals, cycled)
    assert outcome["passed"], outcome
    assert outcome["kills"]
    assert outcome["ended"].count("killed") == len(outcome["kills"])
    assert outcome["by"] == ("command" if number == 7 else "session")
    assert all(kill["what"] in WHAT for kill in outcome["kills"] if outcome["by"] == "session")


def left(**changes):
    """What is left where row 0 of a die of 2 × 4 cells was formed, one cell of each pair."""
    pulses = np.array([[0, 1, 1, 0], [0, 0, 0, 0]], np.uint32)
    found = Left(
        pulses=pulses,
        conductance_S=np.where(pulses, 12e-6, 0.1e-6).astype(np.float32),
        dangling=np.zeros((2, 4), np.bool_),
        done=pulses > 0,
        unknown=np.zeros((2, 4), np.bool_),
        record={"status": "done", "checks": [{"unknown": 0}]},
        blocks={"run/001.00001-pilot": 1},
    )
    return replace(found, **changes)


def cells(*places):
    bits = np.zeros((2, 4), np.bool_)
    for place in places:
        bits[place] = True
    return bits


FORMED, EMPTY = left(), left(conductance_S=np.full((2, 4), 0.1e-6, np.float32), pulses=cells() * np.uint32(1))
TWICE = FORMED.pulses * 2
OPEN = cells((0, 1))


@pytest.mark.parametrize(
    ("end", "seen", "cycled", "broken"),
    [
        (left(), [], False, {}),
        (left(pulses=TWICE), [], False, {"twice": 2}),
        (left(pulses=FORMED.pulses | cells((1, 3))), [], False, {"outside": 1, "unreported": 1}),
        (left(pulses=FORMED.pulses * cells((0, 1))), [], False, {"lost": 1}),
        (left(done=OPEN), [], False, {"unreported": 1, "forgotten": 1}),
        (left(conductance_S=FORMED.conductance_S * np.float32(1.01)), [], False, {"otherwise": 2}),
        (left(undecided=1), [], False, {"undecided": 1}),
        (left(record={"status": "failed", "checks": [{"unknown": 0}]}), [], False, {"ended": 1}),
        (left(damage=["a block"]), [], False, {"unreadable": 1}),
        (left(blocks={}), [left()], False, {"vanished": 1}),
        (left(blocks={"run/001.00001-pilot": 2}), [left()], False, {"vanished": 1}),
        (left(unknown=OPEN), [], False, {"needlessly": 1, "unnamed": 1}),
        # The board has forgotten, and the cell of an open intent does not conduct: unknown, and nothing else.
        (left(), [replace(EMPTY, dangling=OPEN)], True, {"hidden": 1}),
        (
            left(unknown=OPEN, done=cells((0, 2)), record={"status": "done", "checks": [{"unknown": 1}]}),
            [replace(EMPTY, dangling=OPEN)],
            True,
            {"again": 1},
        ),
        # It conducts: it has had its pulse.
        (left(), [left(dangling=OPEN)], True, {}),
        (
            left(unknown=OPEN, record={"status": "done", "checks": [{"unknown": 1}]}),
            [left(dangling=OPEN)],
            True,
            {"needlessly": 1},
        ),
    ],
)
def test_the_judge_sees_what_is_not_as_promised(end, seen, cycled, broken):
    expected = {"conductance_S": FORMED.conductance_S}
    found = judge(end, seen, CELLS, expected, cycled)
    assert {name: count for name, count in found.items() if count} == broken


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path):
    """What is in the files is not done again, and the page is of all."""
    words = [sys.executable, KILLS, "--runs", "2", "--out", str(tmp_path), "--json"]
    known = {"seed": 1, **_outcome()}
    for part in ("remembered", "forgotten"):
        lines = [json.dumps({**known, "number": number, "seconds": 1000}) for number in (0, 1)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["seconds"] == 4000
    assert document["ratios"] == {"runs_as_promised_remembered": 1.0, "runs_as_promised_forgotten": 1.0}
    assert "4 of 4 forming runs with 4 kills" in (tmp_path / "kills.md").read_text()
    assert document["hit"]["pulse"]["sync"] == 4


def _outcome():
    kill = {
        "aimed": "pulse",
        "what": "pulse",
        "within": "sync",
        "run": True,
        "dangling": 8,
        "temporaries": 1,
        "status": "running",
    }
    return {
        "passed": True,
        "by": "session",
        "cells": 256,
        "kills": [kill],
        "ended": ["killed", "done"],
        "missed": 0,
        "gathered": True,
        "violations": dict.fromkeys(PROMISES, 0),
        "unknown": 0,
        "unknown_pulsed": 0,
    }
