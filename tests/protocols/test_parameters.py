"""Parameters: what a person may give, what comes of it, and what is said of a mistake."""

import pytest

from rramlab.base.errors import UsageError
from rramlab.macro.geometry import Geometry
from rramlab.protocols.files import load_protocol
from rramlab.protocols.parameters import Parameter


def parameter(**given):
    return Parameter.model_validate({"description": "some", **given})


@pytest.mark.parametrize(
    ("declared", "written", "value"),
    [
        ({"type": "quantity", "unit": "s"}, "1 us", 1e-6),
        ({"type": "quantity", "unit": "s"}, "1 µs", 1e-6),  # the micro sign
        ({"type": "quantity", "unit": "s"}, "1 μs", 1e-6),  # the Greek letter
        ({"type": "quantity", "unit": "s"}, "10 min", 600.0),
        ({"type": "quantity", "unit": "s"}, "1.5h", 5400.0),
        ({"type": "quantity", "unit": "s"}, "7 d", 604800.0),
        ({"type": "quantity", "unit": "Ohm"}, "10 kOhm", 1e4),
        ({"type": "quantity", "unit": "Ω"}, "10 kΩ", 1e4),
        ({"type": "number"}, "1e-6", 1e-6),
        ({"type": "number"}, 0.5, 0.5),
        ({"type": "integer"}, "12", 12),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": "boolean"}, True, "yes"),
        ({"type": "boolean"}, "Off", "no"),
        ({"type": "word"}, "anything", "anything"),
        ({"type": "word", "choices": ["a", "b"]}, "b", "b"),
        ({"type": "region"}, "rows 0-3, 8", "rows 0-3, 8"),
    ],
)
def test_a_value_is_understood(declared, written, value):
    assert parameter(**declared).convert(written) == value


@pytest.mark.parametrize(
    ("declared", "written", "expected"),
    [
        ({"type": "quantity", "unit": "s"}, "1 S", "in s"),
        ({"type": "quantity", "unit": "s"}, "1", "unit"),
        ({"type": "quantity", "unit": "s"}, "1,5 s", "point"),
        ({"type": "quantity", "unit": "V"}, "1 min", "in V"),
        ({"type": "quantity", "unit": "V"}, "nan V", "finite"),
        ({"type": "quantity", "unit": "V", "maximum": "2 V"}, "2.1 V", "at most 2 V"),
        ({"type": "quantity", "unit": "V", "minimum": "1 V"}, "900 mV", "at least 1 V"),
        ({"type": "number"}, "inf", "a number"),
        ({"type": "number"}, "1e999", "a number"),
        ({"type": "number"}, True, "a number"),
        ({"type": "number"}, "1 V", "a number"),
        ({"type": "integer"}, "2.0", "a whole number"),
        ({"type": "integer"}, "9" * 5000, "a whole number"),
        ({"type": "boolean"}, "maybe", "yes or no"),
        ({"type": "word"}, 10, "quotes"),
        ({"type": "word"}, True, "quotes"),
        ({"type": "word", "choices": ["a", "b"]}, "c", "one of 'a', 'b'"),
        ({"type": "region"}, 5, "a region"),
        ({"type": "region"}, "raws 0-3", "did you mean"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(declared, written, expected):
    with pytest.raises(UsageError, match="found") as caught:
        parameter(**declared).convert(written)
    assert expected in str(caught.value)


def test_both_letters_for_micro_are_printed_in_one_way():
    width = parameter(type="quantity", unit="s")
    assert {width.spell(width.convert(text)) for text in ("1 us", "1 µs", "1 μs", "1000 ns")} == {"1 us"}


TEXT = """\
name: mine
description: For a test.
parameters:
  cells: {type: region, default: rows 0-3 | rows 8-9, description: which cells}
  voltage: {type: quantity, unit: V, default: 2 V, maximum: 2.5 V, description: how much}
  both: {type: boolean, default: no, description: both ways}
steps:
  - reset: {cells: "${cells} & conducting", voltage: "${voltage}", width: 1 us, gate: 3 V}
  - read: {cells: "${cells}"}
  - sweep: {cell: "(3, 7)", voltage: 0.2 V, both_ways: "${both}"}
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return load_protocol(tmp_path, str(path))


def test_a_region_within_a_longer_one_keeps_its_meaning(mine):
    reset, read, _ = mine.plan(Geometry()).steps
    assert reset.cells == "(rows 0-3 | rows 8-9) & conducting"
    assert read.cells == "rows 0-3 | rows 8-9"


@pytest.mark.parametrize(("written", "both_ways"), [("yes", True), ("off", False), (True, True)])
def test_a_boolean_reaches_its_step(mine, written, both_ways):
    assert mine.plan(Geometry(), {"both": written}).steps[2].both_ways is both_ways


@pytest.mark.parametrize(
    ("given", "line", "words"),
    [
        ({"voltage": "3 V"}, 5, ["parameter 'voltage'", "found 3 V", "at most 2.5 V"]),
        ({"voltage": "2 A"}, 5, ["parameter 'voltage'", "'2 A'", "in V"]),
        ({"voltaeg": "2 V"}, 3, ["'voltaeg'", "cells, voltage, both", "did you mean 'voltage'"]),
        ({"cells": "row"}, 4, ["parameter 'cells'", "'row'"]),
    ],
)
def test_a_wrong_assignment_names_file_and_parameter(mine, given, line, words):
    with pytest.raises(UsageError) as caught:
        mine.plan(Geometry(), given)
    assert caught.value.source.file == str(mine.path)
    assert caught.value.source.line == line
    for word in words:
        assert word in str(caught.value)


def test_a_parameter_that_changes_nothing_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace('voltage: "${voltage}"', "voltage: 2 V"), encoding="utf-8")
    with pytest.raises(UsageError, match="'voltage', which no step uses") as caught:
        load_protocol(tmp_path, str(path)).plan(Geometry())
    assert caught.value.source.line == 5


def test_what_must_be_given_is_told_with_an_example(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("default: rows 0-3 | rows 8-9", "example: rows 0-7"), encoding="utf-8")
    protocol = load_protocol(tmp_path, str(path))
    with pytest.raises(UsageError, match=r"no value for the parameter 'cells'.*--set cells='rows 0-7'"):
        protocol.plan(Geometry())
    assert protocol.examples() == {"cells": "rows 0-7"}
    assert protocol.plan(Geometry(), protocol.examples()).parameters["cells"] == "rows 0-7"
