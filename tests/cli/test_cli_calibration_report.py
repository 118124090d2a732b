"""``rramlab calibrate report``, as a technician would type it."""

from pathlib import Path

import pytest
from calibrated import BOARD, DIE, Recorded


@pytest.fixture
def bench(tmp_path):
    return Recorded(tmp_path / "lab")


def test_the_report_of_the_records_in_force_lies_beside_them(rramlab, bench):
    answer = rramlab("calibrate", "report", "--bench", bench.folder, "--json")
    assert answer.exit_code == 0, answer.stderr
    path = Path(answer.document["report"])
    assert path == bench.folder / "calibration" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert answer.document["records"] == [bench.board.id, bench.die.id]
    assert {each["section"] for each in answer.document["sections"]} == {
        "dac", "adc", "lines", "linearity", "agreement", "forming", "noise", "wires",
    }  # fmt: skip
    assert {each["verdict"] for each in answer.document["sections"]} <= {"valid", "valid, agrees", "expired"}
    assert rramlab("calibrate", "show", "--bench", bench.folder).exit_code == 0  # the report is no record


def test_one_record_goes_where_it_is_wanted_and_its_figures_too(rramlab, bench, tmp_path):
    answer = rramlab(
        "calibrate", "report", f"die-{DIE}", "--bench", bench.folder, "--output", tmp_path / "r.html",
        "--figures", tmp_path / "figures", "--json",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.stderr
    assert answer.document["records"] == [bench.die.id]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Breakdown voltages" in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    expected = ("forming", "noise-cells", "noise-steps", "wires-loss")
    assert names == {f"{DIE}-{name}.{kind}" for name in expected for kind in ("png", "pdf")}
    assert {Path(each).name for each in answer.document["figures"]} == names
    for path in (tmp_path / "figures").iterdir():
        assert path.read_bytes().startswith({".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix])


def test_each_section_is_said_with_its_verdict(rramlab, bench, tmp_path):
    answer = rramlab("calibrate", "report", "--bench", bench.folder, "--output", tmp_path / "r.html")
    assert f"{BOARD} agreement: " in answer.stdout
    assert f"{DIE} forming: valid" in answer.stdout
    assert "r.html" in answer.stdout


@pytest.mark.parametrize("name", ["nothing", "board-SIM-0009-2", "../calibration"])
def test_a_record_that_is_not_there_or_not_the_only_one_is_refused(rramlab, bench, name):
    bench.write(leave_out=("adc", "lines", "linearity", "agreement", "forming", "noise", "wires"))
    answer = rramlab("calibrate", "report", name, "--bench", bench.folder, "--json")
    assert answer.exit_code == 1
    assert "record" in answer.stderr
    assert bench.board.id in answer.stderr
    assert not (bench.folder / "calibration" / "report.html").exists()


def test_arrays_that_were_changed_are_refused(rramlab, bench):
    path = bench.board.path.with_suffix(".h5")
    path.write_bytes(path.read_bytes()[:-1])
    answer = rramlab("calibrate", "report", "--bench", bench.folder)
    assert answer.exit_code == 1
    assert "is not as it was" in answer.stderr
