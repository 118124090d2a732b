"""A sample of benchmarks/flips.py: single bits turned over in files of a bench, and what a user is then told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("a process is killed, and a fork server", allow_module_level=True)

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))  # the campaign, of which a sample is run here

from flipping.flip import Bank, judge, one
from flipping.kinds import KINDS
from flipping.questions import Answer, digest

pytestmark = pytest.mark.xdist_group("flips")  # they share prepared benches

FLIPS = Path(__file__).resolve().parents[2] / "benchmarks" / "flips.py"
EACH = 3


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flips")
    (folder / "kept").mkdir()
    return Bank(folder / "kept", folder)


def _kinds():
    for kind in KINDS:
        if kind.scene != "learning":  # that takes torch, and a whole die
            yield pytest.param(kind, id=kind.name)


@pytest.mark.parametrize("kind", list(_kinds()))
def test_nothing_is_believed_in_silence(bank, kind):
    if not kind.files(bank.scene(kind.scene)):
        pytest.skip("there is no such file")
    outcomes = [one(number, 1, bank, [kind]) for number in range(EACH)]
    assert [each for each in outcomes if not each["passed"]] == []


USUAL = Answer(parts={"pulses": "1", "unknown": "2"}, words=["note: as always"])
FILE = Path("bench/data/runs/20261122-090000-000-form-0000/blocks/001.00000-read.json")


@pytest.mark.parametrize(
    ("answer", "also", "verdict"),
    [
        (USUAL, (), "harmless"),
        (Answer(parts=USUAL.parts), (), "harmless"),
        (Answer(parts={**USUAL.parts, "pulses": "3"}), (), "silent"),
        (Answer(parts={"pulses": "1"}), (), "silent"),
        (Answer(parts={**USUAL.parts, "more": "4"}), (), "silent"),
        (Answer(parts={**USUAL.parts, "pulses": "3"}, words=["note: as always"]), (), "silent"),
        (Answer(parts={**USUAL.parts, "pulses": "3"}, words=["something is odd"]), (), "silent"),
        (Answer(parts={**USUAL.parts, "pulses": "3"}, words=[f"{FILE} is damaged"]), (), "said"),
        (Answer(refused=f"DataError: {FILE.name} is damaged"), (), "refused"),
        (Answer(refused="DataError: run 20261122-090000-000-form-0000 is damaged"), (), "refused"),
        (Answer(refused="DataError: the ledger is damaged"), ("ledger",), "refused"),
        (Answer(refused="DataError: something is damaged"), (), "unnamed"),
        (Answer(defect="KeyError: 'rows'"), (), "defect"),
    ],
)
def test_the_judge_tells_what_was_said_from_what_was_believed(answer, also, verdict):
    assert judge(answer, USUAL, FILE, also)["verdict"] == verdict


def test_digests_are_of_what_a_value_says():
    assert digest({"a": 1, "b": [2.0]}) == digest({"b": [2.0], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(b"1") != digest("1")


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path):
    """What is in the file is not done again, and the page is of all."""
    known = {
        "seed": 1,
        "passed": True,
        "kind": "run.json",
        "file": "bench/data/runs/x/run.json",
        "byte": 7,
        "bit": 1,
        "verdict": "refused",
        "findings": [{"question": "record", "verdict": "refused", "words": "…"}],
        "seconds": 1000,
    }
    bad = {**known, "passed": False, "verdict": "silent", "findings": [{"question": "data", "verdict": "silent"}]}
    lines = [json.dumps({**each, "number": number}) for number, each in enumerate((known, bad))]
    (tmp_path / "flips.jsonl").write_text("\n".join(lines) + "\n")
    words = [sys.executable, FLIPS, "--flips", "2", "--out", str(tmp_path), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["seconds"] == 2000
    assert document["ratios"] == {"nothing_believed_in_silence": 0.5}
    assert document["kinds"]["run.json"] == {
        "flips": 2, "files": 1, "refused": 1, "said": 0, "harmless": 0, "silent": 1, "unnamed": 0, "defect": 0, "crashed": 0,
    }  # fmt: skip
    assert document["failures"][0]["number"] == 1
    assert "| run.json | data | believed in silence | 1 |" in (tmp_path / "flips.md").read_text()
