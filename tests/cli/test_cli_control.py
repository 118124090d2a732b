"""What a technician types, and what bad input gets."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

import rramlab as package
from rramlab.base.arrays import load_arrays
from rramlab.macro.geometry import Geometry
from rramlab.runs.lastread import load_last_read

DIE = "sim-0001"


def pulses_ever(folder):
    """Pulses of the die by its ledger; 0 where no ledger was begun."""
    if not (folder / "data" / "dies" / DIE / "ledger.db").exists():
        return 0
    with package.open_bench(folder) as session:
        return int(session.stations[DIE].ledger.pulse_counts().sum())


def test_a_technicians_day(rramlab, tmp_path):
    assert rramlab("init", tmp_path / "lab").exit_code == 0
    bench = ("--bench", tmp_path / "lab")
    check = rramlab("bench", "check", *bench, "--json")
    assert check.document["instruments"][0]["die"] == DIE
    assert rramlab("run", "electroform", "--arm", DIE, *bench).exit_code == 0
    read = rramlab("run", "read-array", "--set", "repeats=2", *bench, "--json")
    assert read.document["conversions"] == 2 * 512 * 512
    pruned = rramlab("run", "prune", "--set", "cells=rows 0-7", "--arm", DIE, *bench, "--json")
    assert pruned.exit_code == 0
    assert 8 * 256 <= pruned.document["pulses"] <= 8 * 256 + 5  # a cell that was born shorted conducts, too
    assert pruned.document["checks"][0]["formed_fraction"] < 0.02
    listed = rramlab("runs", "list", *bench, "--json").document["runs"]
    assert [run["name"] for run in listed] == ["electroform", "read-array", "prune"]
    shown = rramlab("runs", "show", "last", *bench, "--json").document
    assert shown["status"] == "done"
    assert (Path(shown["folder"]) / "run.h5").exists()
    picture = tmp_path / "map.png"
    mapped = rramlab("map", "--png", picture, *bench)
    assert mapped.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "12.2" in mapped.stdout
    assert "\x1b[" not in mapped.stdout


def test_init_never_overwrites_a_bench(rramlab, tmp_path):
    assert rramlab("init", tmp_path).exit_code == 0
    (tmp_path / "bench.yaml").write_text("name: mine\n")
    answer = rramlab("init", tmp_path)
    assert answer.exit_code == 2
    assert (tmp_path / "bench.yaml").read_text() == "name: mine\n"


def test_the_repository_is_a_bench_like_one_that_init_makes(rramlab, tmp_path):
    root = Path(package.__file__).parents[1]
    if not (root / "pyproject.toml").exists():
        pytest.skip("rramlab is not run from its repository")
    rramlab("init", tmp_path / "lab")
    for room in ("drivers", "protocols"):
        made = {path.name: path.read_bytes() for path in (tmp_path / "lab" / room).iterdir()}
        assert made == {path.name: path.read_bytes() for path in (root / room).iterdir() if path.is_file()}
    assert (tmp_path / "lab" / "bench.yaml").read_bytes() == (root / "bench.yaml").read_bytes()


def test_bench_show_names_where_each_file_came_from(rramlab, tmp_path):
    rramlab("init", tmp_path)
    (tmp_path / "protocols" / "contact.yaml").unlink()
    shown = rramlab("bench", "show", "--json").document
    assert shown["bench_file"] == {"path": str(tmp_path / "bench.yaml"), "origin": "bench"}
    assert shown["protocols"]["electroform"]["origin"] == "bench"
    assert shown["protocols"]["contact"]["origin"] in {"repository", "wheel"}
    assert {entry["tag"] for entry in shown["electrical"]} == {"published", "datasheet", "assumed"}


def test_dry_run_opens_and_energises_nothing(rramlab, tmp_path):
    answer = rramlab("run", "electroform", "--dry-run", "--json")
    assert answer.exit_code == 0
    assert answer.document["bounds"]["pulses"] == 512 * 256
    assert answer.document["bounds"]["max_voltage_V"] == 3.75
    assert answer.document["bounds"]["time_s"] > 0
    assert not (tmp_path / "data").exists()


BAD_RUNS = {
    "unarmed": (["electroform"], 3, "--arm sim-0001"),
    "armed for another die": (["electroform", "--arm", "sim-0002"], 3, "sim-0002"),
    "over the limit of the protocol": (["electroform", "--arm", DIE, "--set", "voltage=4.2 V"], 2, "at most 4 V"),
    "no unit": (["electroform", "--arm", DIE, "--set", "voltage=3.5"], 2, "3.75 V"),
    "wrong unit": (["electroform", "--arm", DIE, "--set", "voltage=3.5 us"], 2, "expected a quantity in V"),
    "unknown parameter": (["electroform", "--arm", DIE, "--set", "volt=3.5V"], 2, "voltage"),
    "region off the die": (["electroform", "--arm", DIE, "--set", "cells=rows 500-600"], 2, "rows 0-511"),
    "not a region": (["electroform", "--arm", DIE, "--set", "cells=every second"], 2, "checkerboard"),
    "parameter without value": (["prune", "--arm", DIE], 2, "--set cells="),
    "not an assignment": (["electroform", "--arm", DIE, "--set", "voltage"], 2, "name=value"),
    "unknown protocol": (["elektroform", "--arm", DIE], 2, "electroform"),
    "decimal comma": (["electroform", "--arm", DIE, "--set", "width=1,5 us"], 2, "decimals follow a point"),
    "region of no cell": (["electroform", "--arm", DIE, "--set", "cells=row 1 & row 2"], 2, "no cell"),
    "die id that leaves its folder": (["contact", "--die", "../other"], 2, "die id"),
}


@pytest.mark.parametrize(("words", "exit_code", "hint"), BAD_RUNS.values(), ids=BAD_RUNS.keys())
def test_bad_input_gets_an_error_and_no_pulse(rramlab, tmp_path, words, exit_code, hint):
    answer = rramlab("run", *words, "--json")
    assert answer.exit_code == exit_code
    assert answer.document["exit_code"] == exit_code
    assert hint in answer.stderr
    assert "Traceback" not in answer.stderr
    assert pulses_ever(tmp_path) == 0


# What stands in the shipped file, what takes its place, exit code, what is said, and the text that the place is of.
BAD_FILES = {
    "misspelt key": ("      gate: ${gate}", "      gaet: ${gate}", 2, "gaet", "gaet"),
    "wrong unit": ("      width: ${width}", "      width: 3 V", 2, "expected a quantity in s", "width: 3"),
    "region off the die": ("      cells: ${cells}", "      cells: cols 0-512", 2, "columns 0-511", "cells: cols"),
    "unknown step": ("  - contact", "  - kontakt", 2, "unknown step 'kontakt'", "kontakt"),
    "no pilot block": ("      pilot: ", "      #", 2, "", ""),
    "over the limit of the bench": (
        "  electroform_voltage: 4.0 V",
        "  electroform_voltage: 3.6 V",
        3,
        "3.6 V",
        "electroform:\n",
    ),
}


@pytest.mark.parametrize(("before", "after", "exit_code", "hint", "where"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_protocol_file_is_refused_with_its_line(rramlab, tmp_path, before, after, exit_code, hint, where):
    rramlab("init", tmp_path)
    path = tmp_path / "protocols" / "electroform.yaml"
    text = path.read_text()
    assert before in text
    text = text.replace(before, after, 1)
    path.write_text(text)
    answer = rramlab("run", "electroform", "--arm", DIE)
    assert answer.exit_code == exit_code
    assert hint in answer.stderr
    head = text[: text.index(where)]
    place = f":{head.count(chr(10)) + 1}:{len(head) - head.rfind(chr(10))}" if where else ""
    assert f"electroform.yaml{place}" in answer.stderr
    assert pulses_ever(tmp_path) == 0


def test_a_bad_bench_file_is_refused_with_its_line(rramlab, tmp_path):
    rramlab("init", tmp_path)
    path = tmp_path / "bench.yaml"
    path.write_text(path.read_text().replace("gate_voltage: 3.3 V", "gate_voltage: 3.3"))
    answer = rramlab("bench", "check")
    assert answer.exit_code == 2
    line = path.read_text().splitlines().index("  gate_voltage: 3.3") + 1
    assert f"bench.yaml:{line}:3" in answer.stderr


def test_another_board_on_the_bench_is_refused(rramlab, tmp_path):
    rramlab("init", tmp_path)
    path = tmp_path / "bench.yaml"
    path.write_text(path.read_text().replace("backend: simulated", "backend: simulatd"))
    answer = rramlab("bench", "check")
    assert answer.exit_code == 2
    assert "simulated" in answer.stderr


def test_a_locked_bench_names_its_holder_and_loses_nothing(rramlab, tmp_path):
    with package.open_bench(tmp_path):
        answer = rramlab("run", "electroform", "--arm", DIE, "--json")
        assert answer.exit_code == 1
        assert "rramlab estop" in answer.document["error"]
    assert pulses_ever(tmp_path) == 0


def test_a_corrupt_state_file_is_refused_and_left_as_it_is(rramlab, tmp_path):
    assert rramlab("run", "contact").exit_code == 0
    state = tmp_path / "data" / "dies" / DIE / "die.npz"
    damaged = state.read_bytes()[: state.stat().st_size // 2]
    state.write_bytes(damaged)
    answer = rramlab("run", "read-array")
    assert answer.exit_code == 1
    assert str(state) in answer.stderr
    assert state.read_bytes() == damaged


def test_a_pilot_block_stops_a_wrong_voltage(rramlab, tmp_path):
    answer = rramlab("run", "electroform", "--arm", DIE, "--set", "voltage=3.3V", "--json")
    assert answer.exit_code == 5
    assert "formed fraction" in answer.document["error"]
    assert pulses_ever(tmp_path) == 4 * 256


def test_an_expectation_that_goes_on_ends_with_code_5(rramlab, tmp_path):
    rramlab("init", tmp_path)
    (tmp_path / "protocols" / "look.yaml").write_text(
        "name: look\ndescription: a virgin die does not conduct\nsteps:\n  - read\n"
        "  - expect: {window: {formed_fraction: [0.9, 1]}, on_failure: continue}\n  - read: {name: again}\n"
    )
    answer = rramlab("run", "look", "--json")
    assert answer.exit_code == answer.document["exit_code"] == 5
    assert not answer.document["checks"][0]["passed"]
    assert rramlab("runs", "show", "last", "--json").document["status"] == "done"


def test_one_unreadable_run_does_not_hide_the_others(rramlab, tmp_path):
    assert rramlab("run", "contact").exit_code == 0
    assert rramlab("run", "read-array").exit_code == 0
    first, _ = sorted((tmp_path / "data" / "runs").iterdir())
    (first / "run.json").write_text("[]")
    listed = rramlab("runs", "list", "--json").document["runs"]
    assert [run["status"] for run in listed] == ["unreadable", "done"]
    assert rramlab("runs", "show", "last").exit_code == 0
    broken = rramlab("runs", "show", first.name, "--json")
    assert broken.exit_code == 1
    assert "run.json" in broken.document["error"]


def test_contact_and_multiply_say_what_they_found(rramlab):
    contact = rramlab("run", "contact")
    assert "all lines connected" in contact.stdout
    products = rramlab("run", "multiply-ones", "--json").document["products"]
    # 64 pristine cells of 0.1 µS a column.
    assert products[0]["mean_S"] == pytest.approx(6.4e-6, rel=0.05)
    assert 0 < products[0]["column_spread_S"] < 1e-5  # a few cells of a die are born shorted


def test_a_formed_share_of_the_pristine_is_judged_on_the_cells_that_were_pulsed(rramlab):
    assert rramlab("run", "electroform", "--arm", DIE, "--set", "voltage=3.3V").exit_code == 5
    rest = rramlab("run", "electroform", "--arm", DIE, "--set", "cells=one-of-pair(seed=7) & pristine", "--json")
    assert rest.exit_code == 0
    assert rest.document["pulses"] == 512 * 256 - 4 * 256
    assert rest.document["checks"][-1]["cells"] == rest.document["pulses"]


def test_resume_last_is_the_last_that_is_not_done(rramlab):
    assert rramlab("run", "electroform", "--arm", DIE, "--set", "voltage=3.3V").exit_code == 5
    assert rramlab("run", "read-array").exit_code == 0
    again = rramlab("resume", "last", "--arm", DIE, "--json")
    # The pilot block is judged as it was: going on takes a new decision, not a second look.
    assert again.exit_code == 5
    stopped = rramlab("runs", "list", "--json").document["runs"][0]
    assert (stopped["status"], stopped["pulses"]) == ("failed", 4 * 256)


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.05])
def test_two_interrupts_in_a_row_end_with_code_4(rramlab, tmp_path, gap):
    rramlab("init", tmp_path)
    make_slow(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-m", "rramlab", "run", "electroform", "--arm", DIE],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_pulses(tmp_path)
        holder.send_signal(signal.SIGINT)
        time.sleep(gap)
        holder.send_signal(signal.SIGINT)
        _, said = holder.communicate(timeout=60)
    finally:
        holder.kill()
        holder.wait()
    assert holder.returncode == 4
    assert "Traceback" not in said
    with package.open_bench(tmp_path) as session:
        assert session.stations[DIE].ledger.pulse_counts().max() == 1


def test_unknown_run_and_unread_die(rramlab):
    assert rramlab("runs", "show", "nothing").exit_code == 1
    assert rramlab("resume", "nothing").exit_code == 1
    answer = rramlab("map")
    assert answer.exit_code == 1
    assert "rramlab run read-array" in answer.stderr


@pytest.mark.parametrize("words", [["run"], ["frobnicate"], ["demo", "--task", "poetry"]])
def test_usage_errors_have_code_2_and_one_document(rramlab, tmp_path, words):
    assert rramlab(*words).exit_code == 2
    done = subprocess.run(
        [sys.executable, "-m", "rramlab", *words, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


def test_estop_does_not_signal_a_process_of_another_host(rramlab, tmp_path):
    with package.open_bench(tmp_path):
        holder = tmp_path / "data" / "bench.holder.json"
        holder.write_text(json.dumps({**json.loads(holder.read_text()), "host": "elsewhere"}))
        answer = rramlab("estop", "--json")
    assert answer.exit_code == 1
    assert "elsewhere" in answer.document["error"]


def test_estop_of_a_free_bench_makes_it_safe(rramlab):
    assert rramlab("estop", "--json").document == {"signalled": None, "safe": True}


def test_what_nobody_foresaw_is_told_and_ends_with_code_1(rramlab, monkeypatch):
    monkeypatch.setattr("rramlab.drivers.bench.describe_bench", lambda *_, **__: 1 / 0)
    answer = rramlab("bench", "check", "--json")
    assert answer.exit_code == 1
    assert "ZeroDivisionError" in answer.document["error"]


def test_estop_stops_the_holder_safely_and_the_run_resumes(rramlab, tmp_path):
    rramlab("init", tmp_path)
    make_slow(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-m", "rramlab", "run", "electroform", "--arm", DIE],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_pulses(tmp_path)
        answer = rramlab("estop", "--json")
        assert answer.exit_code == 0
        assert answer.document == {"signalled": holder.pid, "safe": True}
        holder.communicate(timeout=60)
        assert holder.returncode == 4
    finally:
        holder.kill()
        holder.communicate()
    assert rramlab("runs", "show", "last", "--json").document["status"] == "stopped"
    assert rramlab("resume", "last").exit_code == 3
    assert rramlab("resume", "last", "--arm", DIE).exit_code == 0
    with package.open_bench(tmp_path) as session:
        counts = session.stations[DIE].ledger.pulse_counts()
    assert counts.max() == 1
    assert counts.sum() == 512 * 256


def test_a_killed_run_resumes_and_ends_like_an_undisturbed_one(rramlab, tmp_path):
    rramlab("init", tmp_path / "killed")
    shutil.copytree(tmp_path / "killed", tmp_path / "calm")
    make_slow(tmp_path / "killed")
    victim = subprocess.Popen(
        [sys.executable, "-m", "rramlab", "run", "electroform", "--arm", DIE],
        cwd=tmp_path / "killed",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_pulses(tmp_path / "killed")
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    killed, calm = ("--bench", tmp_path / "killed"), ("--bench", tmp_path / "calm")
    assert rramlab("runs", "show", "last", *killed, "--json").document["status"] == "interrupted"
    assert rramlab("resume", "last", "--arm", DIE, *killed).exit_code == 0
    assert rramlab("run", "electroform", "--arm", DIE, *calm).exit_code == 0
    truth = [load_arrays(tmp_path / name / "data" / "dies" / DIE / "die.npz") for name in ("killed", "calm")]
    assert np.array_equal(truth[0]["conductance_S"], truth[1]["conductance_S"])
    assert truth[0]["pulses"].max() == 1
    maps = [
        load_last_read(tmp_path / name / "data" / "dies" / DIE, Geometry())[0].conductance_S
        for name in ("killed", "calm")
    ]
    assert np.array_equal(maps[0] > 2e-6, maps[1] > 2e-6)


def make_slow(folder):
    """Let the bench's electroform protocol intend and sync eight rows at a time."""
    path = folder / "protocols" / "electroform.yaml"
    path.write_text(path.read_text().replace("limits:\n", "block_rows: 8\nlimits:\n", 1))


def wait_for_pulses(folder):
    """Wait until a forming run of ``folder`` has written some intents."""
    ledger = folder / "data" / "dies" / DIE / "ledger.db"
    for _ in range(3000):
        if ledger.exists():
            with (
                closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database,
                suppress(sqlite3.OperationalError),
            ):
                if database.execute("SELECT count(*) FROM operations").fetchone()[0] > 5:
                    return
        time.sleep(0.01)
    pytest.fail("the forming run did not begin")


def test_resume_last_says_what_there_is_to_resume(rramlab, tmp_path):
    assert rramlab("run", "contact").exit_code == 0
    done = rramlab("resume", "last", "--json")
    assert done.exit_code == 1
    assert "nothing to resume" in done.document["error"]
    (folder,) = (tmp_path / "data" / "runs").iterdir()
    (folder / "run.json").write_text("null")
    unreadable = rramlab("resume", "last", "--json")
    assert unreadable.exit_code == 1
    assert str(folder / "run.json") in unreadable.document["error"]
