"""``protocols list``, ``show``, ``check``, ``schema``: what a technician who writes a procedure types."""

import json

import pytest

from rramlab.base.folders import listing, shipped
from rramlab.protocols.schema import as_text, protocol_schema

SHIPPED = sorted(listing(shipped().path, "protocols"))
MINE = """\
name: mine
description: Read [twice].
parameters:
  cells: {type: region, example: rows 0-7, description: which cells}
limits: {pulses_per_cell: 1}
steps:
  - read: {cells: "${cells}", name: first}   # once
  - read: {cells: "${cells}", name: second}
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "protocols").mkdir()
    path = tmp_path / "protocols" / "mine.yaml"
    path.write_text(MINE, encoding="utf-8")
    return path


def test_list_says_what_each_does_where_it_is_and_whether_it_changes_the_die(rramlab, mine):
    listed = {entry["name"]: entry for entry in rramlab("protocols", "list", "--json").document["protocols"]}
    assert sorted(listed) == sorted([*SHIPPED, "mine"])
    assert (listed["mine"]["origin"], listed["mine"]["path"], listed["mine"]["changes"]) == ("bench", str(mine), "no")
    assert listed["electroform"]["changes"] == "yes"
    assert listed["sweep"]["changes"] == "depends"
    assert listed["electroform"]["origin"] == shipped().origin
    table = rramlab("protocols", "list").stdout
    assert "Read [twice]." in table
    assert "changes the die" in table
    assert "harmless" in table


def test_one_that_cannot_be_read_does_not_hide_the_others(rramlab, mine):
    mine.write_text(MINE.replace("steps:", "stesp:"), encoding="utf-8")
    answer = rramlab("protocols", "list", "--json")
    assert answer.exit_code == 0
    listed = {entry["name"]: entry for entry in answer.document["protocols"]}
    assert "mine.yaml:6:1: unknown key 'stesp'" in listed["mine"]["error"]
    assert listed["contact"]["error"] is None


def test_show_tells_parameters_limits_steps_and_place(rramlab, mine):
    shown = rramlab("protocols", "show", "mine").stdout
    for words in (
        "Read [twice].",
        "must be given, such as rows 0-7",
        "pulses_per_cell 1",
        "# once",
        "harmless",
        str(mine),
    ):
        assert words in shown
    document = rramlab("protocols", "show", "electroform", "--json").document
    voltage = document["parameters"][0]
    assert (voltage["name"], voltage["type"], voltage["unit"]) == ("voltage", "quantity", "V")
    assert (voltage["default"], voltage["minimum"], voltage["maximum"]) == ("3.75 V", "3 V", "4 V")
    assert [next(iter(step)) if isinstance(step, dict) else step for step in document["steps"]] == [
        "contact", "electroform", "read", "expect",
    ]  # fmt: skip
    assert rramlab("protocols", "show", "mien").exit_code == 2


def test_check_checks_every_file_or_those_named(rramlab, mine):
    answer = rramlab("protocols", "check", "--json")
    assert answer.exit_code == 0
    assert [entry["name"] for entry in answer.document["protocols"]] == sorted([*SHIPPED, "mine"])
    assert all(entry["ok"] for entry in answer.document["protocols"])
    assert [entry["name"] for entry in rramlab("protocols", "check", mine, "contact", "--json").document["protocols"]] == [
        str(mine), "contact",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("steps:", "stesp:", "mine.yaml:6:1: unknown key"),
        ("name: second", "name: second, repeats: 0", "mine.yaml:8:45: repeats: found 0, expected"),
        (
            'read: {cells: "${cells}", name: first}',
            'reset: {cells: "${cells}", voltage: 4 V, width: 1 us, gate: 3 V}',
            "mine.yaml:7:5",
        ),
        ("type: region, example: rows 0-7", "type: word", "neither default nor example"),
    ],
)
def test_check_ends_with_2_and_the_place_of_what_is_wrong(rramlab, mine, old, new, words):
    mine.write_text(MINE.replace(old, new), encoding="utf-8")
    answer = rramlab("protocols", "check", "contact", "mine", "--json")
    assert answer.exit_code == 2
    fine, wrong = answer.document["protocols"]
    assert fine == {"name": "contact", "path": fine["path"], "ok": True, "error": None}
    assert not wrong["ok"]
    assert words in wrong["error"]
    plain = rramlab("protocols", "check", "contact", "mine")
    assert plain.exit_code == 2
    assert "contact: OK" in plain.stdout
    assert "1 of 2" in plain.stderr


@pytest.mark.parametrize("text", ["", "- a\n", "name: [\n", "name: !!x y\n"])
def test_a_wrong_file_of_any_kind_gives_words_and_no_traceback(rramlab, mine, text):
    mine.write_text(text, encoding="utf-8")
    for words in (
        ("protocols", "check", "mine"),
        ("protocols", "show", "mine"),
        ("run", "mine", "--dry-run"),
        ("run", "mine"),
    ):
        answer = rramlab(*words)
        assert answer.exit_code == 2
        assert "Traceback" not in answer.stderr
        assert f"{mine}:" in answer.stdout + answer.stderr


def test_schema_is_printed_or_written(rramlab, tmp_path):
    assert json.loads(rramlab("protocols", "schema").stdout) == json.loads(as_text(protocol_schema()))
    path = tmp_path / "schema.json"
    assert rramlab("protocols", "schema", "--output", path, "--json").document == {"schema": str(path)}
    assert path.read_text(encoding="utf-8") == as_text(protocol_schema())
