"""``sim new``, ``sim age``, ``sim info``: what a person types, what comes back, and what is never touched."""

import os
from pathlib import Path

import numpy as np
import pytest
from workbench import SmallBench, child

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.drivers.bench import describe_bench
from rramlab.runs.lastread import load_last_read
from rramlab.sim.models import DieModel

OWN = "# mine\n{text}# the end\n"


@pytest.fixture
def lab(tmp_path):
    """A bench folder of one's own, in which no die was made yet."""
    bench = SmallBench(tmp_path, rows=64).write()
    path = bench.folder / "bench.yaml"
    path.write_text(OWN.format(text=path.read_text()))
    return bench


def tree(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def state(lab, die):
    return lab.folder / "data" / "dies" / die / "die.npz"


def last_read(lab, die):
    return load_last_read(lab.folder / "data" / "dies" / die, describe_bench(lab.folder).board.geometry)[
        0
    ].conductance_S


def test_a_bank_is_made_used_aged_and_looked_into(rramlab, lab):
    made = rramlab("sim", "new", "bank", "--count", "3", "--seed", "7", "--set", "noise.read=0.05", "--json").document
    assert [(die["die"], die["seed"]) for die in made["dies"]] == [("bank-01", 7), ("bank-02", 8), ("bank-03", 9)]
    assert made["dies"][0] == {
        "die": "bank-01",
        "memory": "TaOx",
        "seed": 7,
        "preset": "published",
        "model": {"noise": {"read": 0.05}},
        "state_file": str(state(lab, "bank-01")),
    }
    assert made["entered_in"] is None
    assert rramlab("run", "electroform", "--die", "bank-02", "--arm", "bank-02").exit_code == 0
    assert rramlab("run", "read-array", "--die", "bank-02").exit_code == 0
    before = last_read(lab, "bank-02")
    aged = rramlab("sim", "age", "bank-02", "--for", "10 y", "--at", "150", "--json").document
    assert aged["clock_after_s"] - aged["clock_before_s"] == pytest.approx(10 * 365.25 * 86400)
    assert aged["median_after_S"] < 0.99 * aged["median_before_S"]
    assert rramlab("run", "read-array", "--die", "bank-02").exit_code == 0
    after = last_read(lab, "bank-02")
    assert np.median(after[before > 2e-6]) < 0.99 * np.median(before[before > 2e-6])
    found = {die["die"]: die for die in rramlab("sim", "info", "--json").document["dies"]}
    assert sorted(found) == ["bank-01", "bank-02", "bank-03"]
    assert [found[die]["pulsed"] for die in sorted(found)] == [0, 64 * 8, 0]
    assert found["bank-02"]["preset"] is None
    assert found["bank-02"]["median_S"] == pytest.approx(aged["median_after_S"], rel=0.01)


def test_what_was_made_is_said_with_how_to_use_it(rramlab, lab):
    said = rramlab("sim", "new", "a", "--preset", "phase-change").stdout
    assert "rramlab run electroform --die a --arm a" in said
    assert "phase-change" in said
    shown = rramlab("sim", "info", "a", "--figures")
    assert "real bench cannot show" in shown.stdout.splitlines()[0]
    assert "forming.pristine_S" in shown.stdout
    assert "100 nS" in shown.stdout
    assert "SRNN-PCM" in shown.stdout
    assert "real bench cannot show" in rramlab("sim", "info").stdout.splitlines()[0]
    assert "real bench cannot show" in rramlab("sim", "age", "a", "--for", "1 h", "--at", "85 C").stdout.splitlines()[0]
    assert "a real bench cannot show" in " ".join(rramlab("sim", "info", "--help").stdout.split())


def test_the_help_names_every_preset(rramlab):
    said = " ".join(rramlab("sim", "new", "--help").stdout.split())
    assert all(name in said for name in DieModel.presets)


def test_the_truth_as_one_document(rramlab, lab):
    rramlab("sim", "new", "a", "--seed", "3")
    rramlab("sim", "age", "a", "--for", "500 ms", "--at", "85")
    found = rramlab("sim", "info", "a", "--figures", "--json").document
    assert found["hidden_truth"] is True
    assert found["damaged"] is False
    assert (found["preset"], found["memory"], found["seed"]) == ("published", "TaOx", 3)
    assert (found["clock_s"], found["temperature_C"]) == (0.5, 25.0)
    assert found["temperatures"] == [
        {"clock_s": 0.0, "celsius": 85.0},
        {"clock_s": 0.5, "celsius": 25.0},
    ]
    assert sum(found["phases"].values()) == found["cells"] == 64 * 16
    assert found["median_S"] is None or found["median_S"] > 2e-6
    assert found["meter"]["read"] == {"time_s": 0.0, "energy_J": 0.0, "events": 0}
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["noise.read"]["value"] == DieModel().noise.read
    assert all(figure["source"] for figure in found["figures"])
    assert "figures" not in rramlab("sim", "info", "a", "--json").document


def test_entering_keeps_the_file_and_the_bench_opens_with_the_dies(rramlab, lab):
    path = lab.folder / "bench.yaml"
    before = path.read_text()
    made = rramlab("sim", "new", "bank", "--count", "2", "--preset", "harsh", "--enter", "--json")
    assert made.exit_code == 0
    assert made.document["entered_in"] == str(path)
    lines = path.read_text().splitlines()
    assert [line for line in lines if "bank-" not in line] == before.splitlines()
    assert sum("preset: harsh" in line for line in lines) == 2
    checked = rramlab("bench", "check", "--json").document
    assert [each["die"] for each in checked["instruments"]] == ["small-1", "bank-01", "bank-02"]
    assert rramlab("run", "contact", "--die", "bank-02").exit_code == 0
    path.write_text(path.read_text().replace("preset: harsh", "preset: ideal"))
    answer = rramlab("bench", "check", "--json")
    assert answer.exit_code == 2
    assert "bank-01" in answer.document["error"]


def test_without_a_bench_of_its_own_nothing_is_entered_or_made(rramlab, tmp_path):
    answer = rramlab("sim", "new", "a", "--enter", "--json")
    assert answer.exit_code == 2
    assert "rramlab init" in answer.document["error"]
    assert not list(tmp_path.iterdir())
    assert rramlab("sim", "new", "a").exit_code == 0


BAD_NEW = {
    "name": (["../a"], "die id"),
    "count": (["a", "--count", "0"], "count"),
    "count that is no number": (["a", "--count", "many"], "--count"),
    "seed": (["a", "--seed", "-1"], "seed"),
    "seeds beyond the last": (["a", "--count", "2", "--seed", str(2**64 - 1)], "seed"),
    "preset": (["a", "--preset", "perfect"], "phase-change"),
    "figure": (["a", "--set", "noise.rad=1"], "noise.read"),
    "value": (["a", "--set", "noise.read=2"], "less than 1"),
    "unit": (["a", "--set", "forming.pristine_S=1 V"], "quantity in S"),
    "not an assignment": (["a", "--set", "noise.read"], "name=value"),
    "exists": (["there"], "sim info there"),
    "one of them exists": (
        ["bank", "--count", "4", "--seed", "9", "--enter"],
        "already: bank-02, used or of another make",
    ),
    "listed with other options": (["small-1", "--seed", "5", "--enter"], "bench.yaml"),
    "no id": ([], "ID"),
}


@pytest.mark.parametrize(("words", "hint"), BAD_NEW.values(), ids=BAD_NEW.keys())
def test_bad_input_makes_nothing(rramlab, lab, words, hint):
    for die in ("there", "bank-02"):
        assert rramlab("sim", "new", die).exit_code == 0
    before = tree(lab.folder)
    answer = rramlab("sim", "new", *words, "--json")
    assert answer.exit_code == 2
    assert hint in answer.stderr
    assert "Traceback" not in answer.stderr
    assert tree(lab.folder) == before


BAD_AGE = {
    "no duration": (["a"], "--for"),
    "not a duration": (["a", "--for", "long"], "10 h"),
    "comma": (["a", "--for", "1,5 h"], "10 h"),
    "no unit": (["a", "--for", "10"], "10 h"),
    "nothing": (["a", "--for", "0 s"], "above 0 s"),
    "backwards": (["a", "--for", "-1 h"], "above 0 s"),
    "longer than a clock": (["a", "--for", "400 y"], "cannot age"),
    "not a temperature": (["a", "--for", "1 h", "--at", "hot"], "Celsius"),
    "too hot": (["a", "--for", "1 h", "--at", "500"], "400"),
    "too cold": (["a", "--for", "1 h", "--at", "-300 C"], "-273.15"),
    "unknown die": (["b", "--for", "1 h"], "known: a"),
    "name": (["../a", "--for", "1 h"], "die id"),
}


@pytest.mark.parametrize(("words", "hint"), BAD_AGE.values(), ids=BAD_AGE.keys())
def test_bad_input_ages_nothing(rramlab, lab, words, hint):
    assert rramlab("sim", "new", "a").exit_code == 0
    before = tree(lab.folder)
    answer = rramlab("sim", "age", *words, "--json")
    assert answer.exit_code == 2
    assert hint in answer.stderr
    assert "Traceback" not in answer.stderr
    assert tree(lab.folder) == before


HOLD = """
import sys, time, rramlab
with rramlab.open_bench(sys.argv[1]):
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("words", [["new", "b", "--enter"], ["age", "a", "--for", "1 h"]])
def test_a_bench_in_use_is_left_alone(rramlab, lab, words):
    assert rramlab("sim", "new", "a").exit_code == 0
    holder = child(HOLD, lab.folder)
    try:
        assert holder.stdout.readline() == "open\n"
        before = tree(lab.folder)
        answer = rramlab("sim", *words, "--json")
        assert answer.exit_code == 1
        assert f"process {holder.pid} " in answer.document["error"]
        assert tree(lab.folder) == before
        # Looking needs no lock.
        assert rramlab("sim", "info", "--json").exit_code == 0
        assert rramlab("sim", "info", "a").exit_code == 0
        assert tree(lab.folder) == before
    finally:
        holder.kill()
        holder.communicate()


def test_damaged_dies_are_shown_with_the_others(rramlab, lab):
    rramlab("sim", "new", "bank", "--count", "3")
    whole = state(lab, "bank-01").read_bytes()
    state(lab, "bank-01").write_bytes(whole[: len(whole) // 2])
    save_arrays(state(lab, "bank-02"), {**load_arrays(state(lab, "bank-02")), "version": np.array(1)})
    before = tree(lab.folder)
    answer = rramlab("sim", "info", "--json")
    assert answer.exit_code == answer.document["exit_code"] == 1
    found = answer.document["dies"]
    assert [die["damaged"] for die in found] == [True, True, False]
    assert "damaged" in found[0]["reason"]
    assert "version 1" in found[1]["reason"]
    shown = rramlab("sim", "info")
    assert shown.exit_code == 1
    assert all(f"bank-0{number}" in shown.stdout for number in (1, 2, 3))
    assert "version 1" in shown.stdout
    for words in (["info", "bank-01"], ["age", "bank-01", "--for", "1 h"]):
        answer = rramlab("sim", *words, "--json")
        assert answer.exit_code == 1
        assert "die.npz" in answer.document["error"]
    assert tree(lab.folder).items() >= before.items()


def test_looking_where_there_is_nothing(rramlab, lab):
    answer = rramlab("sim", "info")
    assert answer.exit_code == 0
    assert "rramlab sim new" in answer.stdout
    assert rramlab("sim", "info", "--json").document["dies"] == []
    assert rramlab("sim", "info", "a").exit_code == 2
    assert rramlab("sim", "info", "--figures").exit_code == 2
    assert not (lab.folder / "data").exists()


def test_a_real_bench_has_no_simulated_dies(rramlab, lab):
    path = lab.folder / "bench.yaml"
    path.write_text(path.read_text().replace("backend: simulated", "backend: zynq"))
    for words in (["new", "a"], ["age", "a", "--for", "1 h"], ["info"], ["info", "a"]):
        answer = rramlab("sim", *words, "--json")
        assert answer.exit_code == 2
        assert "zynq" in answer.document["error"]
    assert not (lab.folder / "data").exists()


def test_a_full_disk_is_told_and_leaves_whole_files(rramlab, lab, monkeypatch):
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    answer = rramlab("sim", "new", "bank", "--count", "9", "--json")
    monkeypatch.undo()
    os.chdir(lab.folder)
    assert answer.exit_code == 1
    assert "Free space" in answer.document["error"]
    found = rramlab("sim", "info", "--json").document["dies"]
    assert 0 < len(found) < 9
    assert not any(die["damaged"] for die in found)
    assert not list((lab.folder / "data").rglob("*.tmp"))
    again = rramlab("sim", "new", "bank", "--count", "9", "--json")
    assert again.exit_code == 0
    assert len(rramlab("sim", "info", "--json").document["dies"]) == 9
