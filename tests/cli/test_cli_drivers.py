"""``drivers list``, ``show``, ``check``, ``schema``: what a technician who adds an instrument types."""

import json
import subprocess
import sys

import pytest

from rramlab.base.folders import shipped

DRIVERS = shipped().path / "drivers"
STEMS = sorted(path.stem for path in DRIVERS.glob("*.yaml"))


def test_list_names_every_file_and_where_it_came_from(rramlab, tmp_path):
    (tmp_path / "drivers").mkdir()
    mine = (DRIVERS / "keithley-2400.yaml").read_text().replace("model: keithley-2400", "model: mine", 1)
    (tmp_path / "drivers" / "mine.yaml").write_text(mine)
    answer = rramlab("drivers", "list", "--json")
    listed = {entry["name"]: entry for entry in answer.document["drivers"]}
    assert sorted(listed) == sorted([*STEMS, "mine"])
    assert listed["mine"]["origin"] == "bench"
    assert listed["mine"]["path"] == str(tmp_path / "drivers" / "mine.yaml")
    assert {listed[stem]["origin"] for stem in STEMS} == {shipped().origin}
    assert listed["macro-40nm"]["kind"] == "board"
    assert listed["keithley-2600"]["kind"] == "smu"
    assert "keithley-2600" in rramlab("drivers", "list").stdout


def test_list_names_a_file_that_cannot_be_read_with_its_error_among_the_others(rramlab, tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "broken.yaml").write_text("kind: smu\nmodel: [\n")
    (tmp_path / "drivers" / "folder.yaml").mkdir()
    answer = rramlab("drivers", "list", "--json")
    assert answer.exit_code == answer.document["exit_code"] == 1
    listed = {entry["name"]: entry for entry in answer.document["drivers"]}
    assert sorted(listed) == sorted([*STEMS, "broken", "folder"])
    assert "broken.yaml:3:1: not valid YAML" in listed["broken"]["error"]
    assert "folder.yaml cannot be read" in listed["folder"]["error"]
    assert all(listed[stem]["error"] is None for stem in STEMS)
    shown = rramlab("drivers", "list")
    assert shown.exit_code == 1
    assert "unreadable" in shown.stdout
    assert "keithley-2600" in shown.stdout
    assert "broken.yaml:3:1: not valid YAML" in shown.stderr


def test_show_says_what_is_sent_and_what_is_refused(rramlab):
    answer = rramlab("drivers", "show", "keithley-2400")
    for words in ("2400S-900-01", "21 V", "1.05 A", "two wires", ":SOUR:CLE:AUTO ON", ":SENS:CURR:PROT {amperes}"):
        assert words in answer.stdout
    document = rramlab("drivers", "show", "keithley-2400", "--json").document
    assert document["kind"] == "smu"
    assert document["limits"]["voltage"] == 21.0
    assert document["verbs"]["output"]["off"]["send"] == [":OUTP OFF"]


def test_show_lists_the_figures_of_a_board(rramlab):
    answer = rramlab("drivers", "show", "macro-40nm")
    assert "DAC80508" in answer.stdout
    figures = rramlab("drivers", "show", "macro-40nm", "--json").document["figures"]
    assert {"figure": "adc_bits", "shown": "14", "tag": "published", "source": "TI ADS8324"} in figures


def test_check_checks_every_file(rramlab):
    answer = rramlab("drivers", "check", "--json")
    assert answer.exit_code == 0
    assert [entry["model"] for entry in answer.document["drivers"]] == STEMS
    some = rramlab("drivers", "check", "keithley-2450", DRIVERS / "macro-40nm.yaml", "--json").document["drivers"]
    assert [entry["model"] for entry in some] == ["keithley-2450", "macro-40nm"]
    assert "transcript" in some[0]["checked"]
    assert "512 × 512" in some[1]["checked"]


def test_check_of_a_wrong_transcript_fails_with_its_place(rramlab, tmp_path):
    text = (DRIVERS / "keithley-2400.yaml").read_text()
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace("          :SOUR:VOLT 0.1\n", "          :SOUR:VOLT 0.11\n", 1))
    answer = rramlab("drivers", "check", path, "--json")
    assert answer.exit_code == 2
    assert "wrong.yaml:" in answer.document["error"]
    assert "call 4 (source_voltage)" in answer.document["error"]


def test_a_driver_that_is_not_there_is_named(rramlab):
    answer = rramlab("drivers", "show", "keithley-2399")
    assert answer.exit_code == 2
    assert "keithley-2400" in answer.stderr


@pytest.mark.parametrize("kind", ["smu", "board"])
def test_schema_is_one_json_document(rramlab, kind):
    answer = rramlab("drivers", "schema", kind)
    assert json.loads(answer.stdout)["properties"]["kind"]["const"] == kind
    assert rramlab("drivers", "schema", kind, "--json").document == json.loads(answer.stdout)
    assert rramlab("drivers", "schema", "scope").exit_code == 2


def test_the_command_tree_imports_no_driver():
    code = "import sys, rramlab.cli.app; print([name for name in sys.modules if name.startswith('rramlab.drivers')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
