"""A sample of benchmarks/stops.py: works that are killed or interrupted at random moments; judged by die, ledger and files."""

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

from killing.judging import Left
from stopping.cases import Slot, one
from stopping.hosts import Kernel, notebook_lacks
from stopping.judging import PROMISES, Stand, judge
from stopping.works import WORKS

pytestmark = pytest.mark.xdist_group("stops")  # they share prepared benches

STOPS = Path(__file__).resolve().parents[2] / "benchmarks" / "stops.py"


@pytest.fixture(scope="module")
def slot(tmp_path_factory):
    return Slot(tmp_path_factory.mktemp("stops"))


# Numbers of the campaign: a reset that is killed, a set in a session that is interrupted.
@pytest.mark.parametrize(("part", "number", "by"), [("kills", 1, "command"), ("interrupts", 6, "script")])
def test_what_is_stopped_ends_as_if_nothing_had_happened(tmp_path, slot, part, number, by):
    outcome = one(part, number, 1, slot, None, tmp_path / "failed")
    assert outcome["passed"], outcome
    assert outcome["stops"]
    assert outcome["by"] == by
    assert outcome["pulses"] == 224
    assert outcome["ended"][-1] == "done"
    if by == "script":
        assert [look["open"] for look in outcome["looks"]] == [True, True]


@pytest.mark.skipif(bool(notebook_lacks()), reason=notebook_lacks() or "a kernel is there")
@pytest.mark.filterwarnings("ignore")  # other people's programs
def test_a_notebook_that_is_interrupted_goes_on(tmp_path, slot):
    kernel = Kernel()
    try:
        outcome = one("notebook", 0, 1, slot, kernel, tmp_path / "failed")
    finally:
        kernel.stop()
    assert outcome["passed"], outcome
    assert [look["open"] for look in outcome["looks"]] == [True, True]


SHAPE = (2, 4)


def cells(*places):
    bits = np.zeros(SHAPE, np.bool_)
    for place in places:
        bits[place] = True
    return bits


CHOSEN = cells((0, 1), (0, 2))


def stand(pulses, given=None, spent=None, repeated=None, **changes):
    """How all is where cells had ``pulses`` pulses and the ledger says the same."""
    left = Left(
        pulses=pulses.astype(np.uint32),
        conductance_S=np.where(pulses, 50e-9, 12e-6).astype(np.float32),
        dangling=cells(),
        done=pulses > 0,
        unknown=cells(),
        blocks={"run/001-read": 1},
    )
    same = pulses.astype(np.int64)
    return Stand(
        replace(left, **changes),
        same if given is None else given,
        same if spent is None else spent,
        cells() if repeated is None else repeated,
    )


BEFORE, CALM = stand(cells().astype(int)), stand(CHOSEN.astype(int))


@pytest.mark.parametrize(
    ("end", "stops", "looks", "ended", "broken"),
    [
        (CALM, [], [], True, {}),
        (CALM, [], [{"open": True, "memory": 0, "stranded": 0}], True, {}),
        (stand(2 * CHOSEN), [], [], True, {"twice": 2}),
        (stand(1 * CHOSEN, repeated=cells((0, 1))), [], [], True, {"repeated": 1}),
        (stand(1 * (CHOSEN | cells((1, 3)))), [], [], True, {"outside": 1, "otherwise": 1}),
        (stand(1 * CHOSEN, given=2 * CHOSEN), [], [], True, {"lost": 2}),
        (stand(1 * CHOSEN, given=0 * CHOSEN, spent=0 * CHOSEN), [], [], True, {"unreported": 2}),
        (CALM, [stand(1 * CHOSEN, spent=0 * CHOSEN)], [], True, {"unreported": 2}),
        (stand(1 * cells((0, 1))), [], [], True, {"missing": 1}),
        (stand(1 * cells((0, 1)), unknown=cells((0, 2))), [], [], True, {"needlessly": 1}),
        (stand(1 * CHOSEN, conductance_S=np.full(SHAPE, 60e-9, np.float32)), [], [], True, {"otherwise": 2}),
        (stand(1 * CHOSEN, undecided=1), [], [], True, {"undecided": 1}),
        (CALM, [], [{"memory": 512}], True, {"memory": 512}),
        (CALM, [], [{"stranded": 1}], True, {"stranded": 1}),
        (CALM, [stand(1 * CHOSEN, damage=["a block"])], [], True, {"unreadable": 1}),
        (stand(1 * CHOSEN, blocks={}), [CALM], [], True, {"vanished": 1}),
        (stand(1 * CHOSEN, blocks={"run/001-read": 2}), [CALM], [], True, {"vanished": 1}),
        (CALM, [], [], False, {"ended": 1}),
    ],
)
def test_the_judge_sees_what_is_not_as_promised(end, stops, looks, ended, broken):
    found = judge(end, stops, looks, BEFORE, CALM, most=1, once=True, ended=ended)
    assert {name: count for name, count in found.items() if count} == broken


def test_write_verify_may_pulse_a_cell_again_and_choose_by_what_it_reads():
    calm = stand(3 * CHOSEN)
    end = stand(2 * cells((0, 0), (0, 1)))
    assert not any(judge(end, [], [], BEFORE, calm, most=3, once=False, ended=True).values())
    assert judge(stand(4 * CHOSEN), [], [], BEFORE, calm, most=3, once=False, ended=True)["twice"] == 2
    assert judge(stand(1 * cells((1, 0))), [], [], BEFORE, calm, most=3, once=False, ended=True)["outside"] == 1


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path):
    """What is in the files is not done again, and the page is of all."""
    names = list(WORKS)
    for part, count in {"kills": 6, "interrupts": 3, "notebook": 3}.items():
        lines = [json.dumps({"seed": 1, **_outcome(part, number, names[number])}) for number in range(count)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    words = [sys.executable, STOPS, "--cases", "6", "--out", str(tmp_path), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["seconds"] == 12_000
    assert set(document["ratios"].values()) == {1.0}
    assert document["works"]["reset"]["kills"]["cases"] == 1
    assert "12 of 12 cases, with 6 kills and 6 interrupts" in (tmp_path / "stops.md").read_text()


def _outcome(part, number, work):
    return {
        "number": number,
        "passed": True,
        "part": part,
        "work": work,
        "by": "command",
        "by_row": False,
        "signals": ["SIGKILL"],
        "stops": [{"aimed": True, "dangling": 1, "pulses": 8}],
        "looks": [{"open": True}],
        "ended": ["killed", "done"],
        "missed": 0,
        "failures": [],
        "violations": dict.fromkeys(PROMISES, 0),
        "pulses": 224,
        "unknown": 0,
        "seconds": 1000,
    }
