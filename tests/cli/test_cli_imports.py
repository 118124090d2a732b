"""What a command loads: one that computes nothing, and estop above all, has no time for what computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from table import EXAMPLES, LEARNING, small_lab, words_of

HEAVY = ("scipy", "torch", "h5py", "matplotlib", "sklearn", "rramlab.sim", "rramlab.nn", "rramlab.report")
# What works with a die, with data, with figures. Everything else is quick.
MAY = {
    "bench check", "bench trace", "run", "resume", "report", "contact", "route", "sweep", "map",
    "runs export", "runs compare", "runs consolidate", "runs check", "runs repeat",
    "sim new", "sim fork", "sim age", "sim info", "sim serve", *LEARNING,
    *(name for name in EXAMPLES if name.startswith("calibrate ")),  # records have arrays, in HDF5
}  # fmt: skip
WATCHED = """
import io, json, sys
from rramlab.cli.process import answer

calls, heavy, found = json.loads(sys.argv[1]), json.loads(sys.argv[2]), []
for words in calls:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        answer(words)
    finally:
        sys.stdout, sys.stderr = before
    loaded = [name for name in heavy if name in sys.modules]
    if loaded:
        found.append([" ".join(words), loaded])
        break  # what is loaded stays so
print(json.dumps([found, "numpy" in sys.modules]))
"""


def loaded_by(folder, calls):
    words = [sys.executable, "-c", WATCHED, json.dumps(calls), json.dumps(HEAVY)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "lab"
    return folder, small_lab(folder)


def test_commands_that_compute_nothing_load_nothing_that_computes(lab):
    folder, known = lab
    assert {*EXAMPLES, *LEARNING} >= MAY
    calls = [words_of(call, known) for name, calls in EXAMPLES.items() if name not in MAY for call, _ in calls]
    calls += [
        ["run", "nonsense"],
        ["runs", "show", "nonsense"],
        ["nonsense"],
        ["--help"],
        ["--version"],
        ["train", "--help"],
    ]
    assert len(calls) > 25
    assert loaded_by(folder, calls)[0] == []


def test_a_command_loads_its_own_module_alone(lab):
    folder, _ = lab
    code = (
        "import sys\nfrom rramlab.cli.process import answer\nanswer(['bench', 'discover'])\n"
        "print(sorted(name for name in sys.modules if name.startswith('rramlab.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "rramlab.cli.bench" in modules
    for other in ("train", "calibrate", "runs", "deploy"):
        assert f"rramlab.cli.{other}'" not in modules


def test_help_and_version_load_not_even_numpy(tmp_path):
    assert loaded_by(tmp_path, [["--help"], ["--version"], ["bench", "--help"]]) == [[], False]


def test_estop_on_a_wire_loads_no_simulator(lab):
    folder, known = lab
    assert Path(known["host"]).is_dir()
    assert loaded_by(folder, [["estop"], ["estop", "--bench", known["host"]]])[0] == []
    assert os.environ.get("RRAMLAB_BENCH") is None
