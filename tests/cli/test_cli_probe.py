"""``contact``, ``sweep``, ``route``: what a technician types, what is shown, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from workbench import SmallBench

import rramlab as package

DIE = "small-1"
SMU = (
    'smus:\n  - {name: left, driver: keithley-2400, address: simulated, serial: "1234567", options: {model: "2400"}}\n'
)


@pytest.fixture
def lab(tmp_path, rramlab):
    """Call rramlab in a folder with a small die and one unit."""
    put(tmp_path)
    return rramlab


def put(folder, units=SMU, **more):
    bench = SmallBench(folder, **more).write()
    path = bench.folder / "bench.yaml"
    path.write_text(path.read_text().replace("dies:\n", f"{units}dies:\n"))


def pulses_ever(folder):
    with package.open_bench(folder) as session:
        return int(session.stations[DIE].ledger.pulse_counts().sum())


def is_picture(path):
    return Path(path).read_bytes().startswith(b"\x89PNG")


def test_a_cell_is_looked_at_formed_and_looked_at_again(lab, tmp_path):
    before = lab("sweep", "--cell", "3,7", "--json")
    assert before.exit_code == 0
    assert before.document["sweeps"][0]["conductance_S"] < 2e-6
    formed = lab("sweep", "--cell", "3,7", "--kind", "electroform", "--voltage", "3.9V", "--both-ways", "--points", "30",
                 "--compliance", "200uA", "--dwell", "1ms", "--arm", DIE, "--png", "iv.png", "--json").document  # fmt: skip
    assert formed["pulses"] == 1
    assert is_picture(formed["png"])
    curve = formed["curve"]
    assert len(curve["voltage"]) == len(curve["current"]) == len(curve["in_compliance"]) == 59
    with h5py.File(Path(formed["folder"]) / "run.h5") as file:
        assert np.allclose(file["step-001-sweep/current"], curve["current"])
    after = lab("sweep", "--cell", "3,7", "--json").document
    assert after["sweeps"][0]["conductance_S"] > 5e-6
    assert pulses_ever(tmp_path) == 1


def test_a_sweep_is_shown_as_table_and_plot(lab):
    shown = lab("sweep", "--cell", "3,7", "--points", "5", "--compliance", "1nA").stdout
    assert "read sweep of cell (3, 7): 5 points" in shown
    assert "in compliance" in shown
    plot = [line for line in shown.splitlines() if "│" in line and ("·" in line or "×" in line)]
    assert plot
    assert any("×" in line for line in plot)
    assert "\x1b[" not in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sweep", "--cell", "3,7", "--kind", "electroform", "--voltage", "3.9V"), 3, "--arm small-1"),
        (("sweep", "--cell", "3,7", "--voltage", "0.3V"), 3, "read"),
        (("sweep", "--cell", "3,7", "--kind", "set", "--voltage", "2V", "--arm", DIE), 3, "pristine"),
        (("sweep", "--cell", "3,7", "--kind", "electroform", "--voltage", "3.9V", "--gate", "3.5V", "--arm", DIE), 3, "gate"),
        (("sweep", "--voltage", "0.1V"), 2, "cell"),
        (("sweep", "--cell", "3,99"), 2, "off the die"),
        (("sweep", "--cell", "row 3"), 2, "one cell"),
        (("sweep", "--cell", "3,7", "--kind", "form"), 2, "electroform"),
        (("sweep", "--cell", "3,7", "--voltage", "0.1"), 2, "unit"),
        (("sweep", "--cell", "3,7", "--smu", "right"), 2, "left"),
        (("sweep", "--cell", "3,7", "--points", "9", "--set", "points=8"), 2, "twice"),
        (("route", "--voltage", "0.1V"), 2, "cell, reference and dac"),
        (("route", "--cell", "3,7", "--reference", "0"), 2, "cell and reference"),
        (("route", "--reference", "7"), 3, "reference resistor 7"),
        (("route", "--cell", "3,7", "--voltage", "0.3V"), 3, "read"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(lab, tmp_path, words, code, said):
    answer = lab(*words)
    assert answer.exit_code == code
    assert said in answer.stderr
    assert pulses_ever(tmp_path) == 0


def test_without_a_unit_on_the_bench_it_says_where_one_is_entered(rramlab, tmp_path):
    put(tmp_path, units="")
    for words in (("sweep", "--cell", "3,7"), ("route", "--reference", "0"), ("route", "--dac", "0", "--dry-run")):
        answer = rramlab(*words)
        assert answer.exit_code == 2
        assert "bench.yaml" in answer.stderr
        assert "smus" in answer.stderr


def test_a_dry_run_says_what_a_sweep_costs_and_opens_nothing(lab, tmp_path):
    words = (
        "sweep",
        "--cell",
        "3,7",
        "--kind",
        "electroform",
        "--voltage",
        "3.9V",
        "--points",
        "100",
        "--dwell",
        "10ms",
    )
    found = lab(*words, "--dry-run", "--json").document
    assert found["destructive"]
    assert found["bounds"]["pulses"] == 1
    assert found["bounds"]["max_voltage_V"] == 3.9
    assert found["bounds"]["time_s"] > 1
    assert not (tmp_path / "data").exists()


def test_routes_measure_resistors_cells_and_dac_channels(lab):
    reference = lab("route", "--reference", "0", "--count", "3", "--json").document["routes"][0]
    assert reference["conductance_S"] == pytest.approx(1 / 20e3, rel=0.02)
    assert reference["points"] == 3
    cell = lab("route", "--cell", "3,7")
    assert cell.exit_code == 0
    assert "cell (3, 7)" in cell.stdout
    assert "MΩ" in cell.stdout
    channel = lab("route", "--dac", "1", "--voltage", "1V", "--json").document["routes"][0]
    assert channel["voltage_V"] == pytest.approx(1.0, abs=0.02)
    connected = lab("route", "--cell", "3,7", "--voltage", "0V")
    assert "nothing measured" in connected.stdout


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
@pytest.mark.parametrize("words", [("--json",), ()])
def test_what_was_measured_is_said_when_ctrl_c_ends_the_holding(lab, tmp_path, words):
    log = tmp_path / "bytes.jsonl"
    command = ["route", "--reference", "0", "--count", "2", "--hold", "600s", "--trace", str(log), *words]
    holding = subprocess.Popen(
        [sys.executable, "-m", "rramlab", *command],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    try:
        for _ in range(3000):
            if log.exists() and log.read_text().count(b":READ?".hex()) >= 2:
                break
            time.sleep(0.01)
        holding.send_signal(signal.SIGINT)
        shown, said = holding.communicate(timeout=60)
    finally:
        holding.kill()
        holding.wait()
    assert holding.returncode == 4
    assert "stopped by the user" in said
    if not words:
        assert "reference resistor 0: 2 points" in shown
        return
    document = json.loads(shown)
    (route,) = document["routes"]
    assert (route["points"], document["exit_code"]) == (2, 4)
    assert route["conductance_S"] == pytest.approx(50e-6, rel=0.01)
    with h5py.File(tmp_path / "data" / "runs" / document["run"] / "run.h5") as file:
        (name,) = file
        assert file[name]["current"].shape == (2,)


def test_contact_says_what_it_found_and_draws_it(lab, tmp_path):
    answer = lab("contact", "--png", "contact.png", "--json")
    assert answer.exit_code == 0
    assert answer.document["contact"]["passed"]
    assert is_picture(answer.document["png"])


def test_a_failed_contact_test_is_drawn_too(rramlab, tmp_path):
    put(tmp_path, board_options="{faults: {open_columns: [9], stuck_rows: [5]}}")
    answer = rramlab("contact", "--png", "contact.png", "--json")
    assert answer.exit_code == 5
    assert answer.document["contact"]["open_columns"] == [9]
    assert answer.document["contact"]["stuck_rows"] == [5]
    assert is_picture(answer.document["png"])
    assert "No pulse will be sent" in answer.stderr
    listed = rramlab("runs", "list", "--json").document["runs"]
    assert [run["status"] for run in listed] == ["failed"]


def test_the_same_can_be_run_as_a_protocol(lab):
    answer = lab("run", "sweep", "--set", "cell=(3, 7)", "--set", "both-ways=yes", "--set", "points=7", "--json")
    assert answer.exit_code == 0
    assert answer.document["sweeps"][0]["points"] == 13
    shown = lab("run", "route", "--set", "reference=1")
    assert "reference resistor 1" in shown.stdout


def test_a_protocol_may_have_several_sweeps_and_errors_name_their_line(lab, tmp_path):
    (tmp_path / "protocols").mkdir(exist_ok=True)
    path = tmp_path / "protocols" / "mine.yaml"
    path.write_text(
        "name: mine\ndescription: some\nsteps:\n"
        '  - sweep: {cell: "(0, 0)", kind: read, voltage: 100 mV, points: 5, name: first}\n'
        '  - sweep:\n      cell: "1, 1"\n      kind: read\n      voltage: 0.2 V\n      both_ways: true\n      name: second\n'
        "  - route: {reference: 1}\n"
    )
    result = lab("run", "mine", "--json").document
    assert [found["dataset"] for found in result["sweeps"]] == ["first", "second"]
    path.write_text(path.read_text().replace("      kind: read", "      kind: raed"))
    answer = lab("run", "mine")
    assert answer.exit_code == 2
    assert "mine.yaml:7:" in answer.stderr
    assert "raed" in answer.stderr


@pytest.mark.parametrize("target", ["taken/iv.png", "folder"])
def test_a_picture_that_cannot_be_written_is_refused_before_the_cell_has_its_pulse(lab, tmp_path, target):
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "folder").mkdir()
    words = ("--cell", "3,7", "--kind", "electroform", "--voltage", "3.9V", "--arm", DIE, "--png", target, "--json")
    answer = lab("sweep", *words)
    assert answer.exit_code == 1
    assert "nothing was energised" in answer.document["error"]
    assert lab("contact", "--png", target).exit_code == 1
    assert not (tmp_path / "data" / "runs").exists()
    assert pulses_ever(tmp_path) == 0


def test_a_data_set_whose_files_would_be_too_long_is_refused_by_the_dry_run_too(lab, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndescription: x\nsteps:\n  - contact\n"
        "  - electroform: {cells: row 0, voltage: 3.75 V, width: 1 us, gate: 1.6 V}\n"
        f"  - read: {{cells: row 0, name: {'n' * 232}}}\n"
    )
    for words in (("run", path, "--dry-run"), ("run", path, "--arm", DIE), ("protocols", "check", path)):
        answer = lab(*words, "--json")
        assert answer.exit_code == 2, words
        assert f"{path}:6" in str(answer.document)
    assert not (tmp_path / "data" / "runs").exists()


# points that are no measurement --------------------------------------------------------------------------------

OVER = SMU.replace('{model: "2400"}', '{model: "2400", faults: {over: 30}}')


def test_one_reading_beyond_the_range_costs_that_point_alone(tmp_path, rramlab):
    put(tmp_path, OVER)
    formed = rramlab("sweep", "--cell", "3,7", "--kind", "electroform", "--voltage", "3.9V", "--points", "51",
                     "--compliance", "200uA", "--dwell", "1ms", "--arm", DIE, "--png", "iv.png", "--json")  # fmt: skip
    assert formed.exit_code == 5
    document = formed.document
    (flaw,) = document["flaws"]
    assert flaw["point"] == 29
    assert f"point 29 of 51 (from 0), at {0.078 * 29:.4g} V" in document["error"]
    assert "9.9" in document["error"]
    assert document["curve"]["current"][29] is None
    assert document["curve"]["good"].count(False) == 1
    assert is_picture(document["png"])
    assert "left out: 1 of 51 points" in formed.stderr
    run = document["run"]
    resumed = rramlab("resume", run, "--arm", DIE)
    assert resumed.exit_code == 5
    assert "lost" not in resumed.stderr + resumed.stdout.replace("Not measured, or lost", "")
    assert pulses_ever(tmp_path) == 1
    assert "point 29 of 51" in " ".join(rramlab("runs", "show", run).stdout.split())
    page = Path(rramlab("report", run, "--json").document["report"]).read_text()
    assert "not all that it asked for was measured" in page
    assert "1 point is no measurement and is left out" in page


def test_a_lost_curve_is_no_success(lab, tmp_path):
    formed = lab("sweep", "--cell", "3,7", "--kind", "set", "--voltage", "1V", "--arm", DIE, "--json")
    assert formed.exit_code == 3  # of a pristine cell
    formed = lab(
        "sweep", "--cell", "3,7", "--kind", "electroform", "--voltage", "3.9V", "--arm", DIE, "--json"
    ).document
    folder = Path(formed["folder"])
    for path in (folder / "blocks").glob("*sweep.json"):
        path.unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    resumed = lab("resume", formed["run"], "--arm", DIE, "--json")
    assert resumed.exit_code == 5
    (flaw,) = resumed.document["flaws"]
    assert flaw["lost"]
    assert "the cell had its pulse and the curve is lost" in resumed.document["error"]
    assert json.loads((folder / "run.json").read_text())["flaws"] == [flaw]
    assert pulses_ever(tmp_path) == 1
