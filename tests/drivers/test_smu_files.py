"""A source-measure unit's driver file: what is wrong in it is named with its place, what is found and what is expected."""

import re
import sys

import pytest
from answering import SHIPPED, AnsweringUnit, load

from rramlab.base.errors import Refused, UsageError
from rramlab.drivers.driverfile import load_driver, load_smu, make_smu, schema_of, smu_class
from rramlab.drivers.smu.instrument import Smu
from rramlab.drivers.smu.templates import fill
from rramlab.drivers.smu.transcript import replay

TEXT = (SHIPPED / "drivers" / "keithley-2400.yaml").read_text(encoding="utf-8")


class Quiet(Smu):
    """An adapter: it never asks for errors."""

    def errors(self, tick=None):
        return []


class NoSmu:
    """No adapter."""


def checked(folder):
    driver = load_driver(folder, "mine")
    return replay(driver.file, driver.document, smu_class(driver.file))


def wrong(folder, text):
    """Return the error of a file with ``text``, and the line that it names."""
    assert text != TEXT
    (folder / "drivers").mkdir(exist_ok=True)
    (folder / "drivers" / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        checked(folder)
    place = re.match(r".*mine\.yaml:(\d+):\d+: ", str(caught.value))
    assert place, caught.value
    return str(caught.value), text.splitlines()[int(place[1]) - 1]


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("  source_voltage:", "  sorce_voltage:", "sorce_voltage", ["sorce_voltage", "expected one of reset, source_voltage"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {volt}", ":SOUR:VOLT {volt}", ["{volt}", "{channel}", "{volts}"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {amperes}", "{amperes}", ["{amperes}", "{volts}"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {volts:.2f}", "{volts:.2f}", ["'.2f'", ".9g"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {volts:.3g}", "{volts:.3g}", ["'.3g'", "7 to 17"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {volts!r}", "{volts!r}", ["{volts}"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {volts", "{volts", ["doubled"]),
        (":SOUR:VOLT {volts}", ":SOUR:VOLT {volts};\\n:OUTP ON", "OUTP ON", ["one message", "terminators"]),
        (":SOUR:LIST:VOLT {levels:.9g}", ":SOUR:LIST:VOLT {volts}", "first:", ["{volts}", "{levels}"]),
        ('(?P<code>[+-]?\\d+),"(?P<text>.*)"', '(?P<code>[+-]?\\d+,"(?P<text>.*)"', "reply:", ["not a regular expression"]),
        ('(?P<code>[+-]?\\d+),"(?P<text>.*)"', "(?P<code>.*)", "reply:", ["['code']", "(?P<text>"]),
        ("(?P<serial>[^,]+)", "[^,]+", "reply:", ["(?P<serial>"]),
        ("  voltage: 21 V", "  voltage: 21", "voltage: 21", ["21", "unit"]),
        ("  voltage: 21 V", "  voltage: 21 A", "voltage: 21 A", ["'A'", "V"]),
        ("  voltage: 21 V", "  voltage: -21 V", "voltage: -21 V", ["greater than 0"]),
        ("  voltage: 21 V", "  voltage: 20.123456789 V", "limits:", ["20.123456789", "7 digits"]),
        ("columns: [voltage, current, status]", "columns: [voltage, current]", "reply:", ["status once each"]),
        ('ends_off: ":SOUR:CLE:AUTO ON"', 'ends_off: ":OUTP OFF AT LAST"', "sweep:", ["OUTP OFF AT LAST", "start"]),
        ('      - ":SYST:RSEN {sensing}"\n', "", "Keithley 2400 series", ["sensing", "none may hide"]),
        ('terminators: {send: "\\n"', 'terminators: {send: "\\n\\n"', "terminators", ["terminators.send"]),
        ("kind: smu", "kind: smoo", "kind: smoo", ["smoo", "smu or board"]),
        ("kind: smu", "kind: smu\nadapter: no.such.module:Thing", "adapter", ["no.such.module", "module:Class"]),
        ("kind: smu", "kind: smu\nadapter: test_smu_files:NoSmu", "adapter", ["subclass of"]),
        ("kind: smu", "kind: smu\nadapter: just a name", "adapter", ["just a name"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(tmp_path, old, new, at, words):
    assert old in TEXT
    message, line = wrong(tmp_path, TEXT.replace(old, new, 1))
    assert at in line
    for word in words:
        assert word in message


def test_a_missing_verb_is_named(tmp_path):
    text = re.sub(r"  errors:\n(    .*\n)+", "", TEXT, count=1)
    message, line = wrong(tmp_path, text)
    assert "'verbs.errors' is missing" in message
    assert line == "verbs:"


def test_a_board_is_no_smu(tmp_path):
    with pytest.raises(UsageError, match=r"macro-40nm\.yaml:\d+:1: found the kind 'board', expected 'smu'"):
        load_smu(tmp_path, "macro-40nm")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("          :SOUR:VOLT 0.1\n", "          :SOUR:VOLT 0.2\n", ["call 4 (source_voltage)", "0.2", "0.1"]),
        ("    volts: 0.1 V", "    volts: 0.2 V", ["call 4 (source_voltage)", "expected", "was sent"]),
        ("+1.000120E-01", "+1.000121E-01", ["call 6 (measure)", "0.100012,", "0.1000121"]),
        ("in_compliance: [false, false, true]", "in_compliance: [false, true, true]", ["call 8 (sweep)"]),
        ('serial: "1234567"', 'serial: "7654321"', ["call 1 (identify)", "7654321", "1234567"]),
        ("    gives: {errors: []}", '    gives: {errors: ["more"]}', ["safe_state", "more"]),
    ],
)
def test_a_transcript_that_does_not_match_is_named_with_its_call(tmp_path, old, new, words):
    message, _ = wrong(tmp_path, TEXT.replace(old, new, 1))
    assert "the transcript does not match" in message
    for word in words:
        assert word in message


def test_the_line_of_a_transcripts_error_is_that_of_the_exchange(tmp_path):
    _, line = wrong(tmp_path, TEXT.replace("          :SOUR:VOLT 0.1\n", "          :SOUR:VOLT 0.2\n", 1))
    assert "out: |" in line


def transcript(text, index):
    """Return the text of a call of the transcript, counted from 0."""
    calls = re.split(r"(?m)^(?=  - call: )", text[text.index("\ntranscript:") :])[1:]
    return calls[index]


def test_what_is_left_over_in_a_transcript_fails(tmp_path):
    call = transcript(TEXT, 0)
    more = call.replace("    gives:", "      - out: |\n          :SYST:ERR?\n        in: |\n          0\n    gives:")
    message, _ = wrong(tmp_path, TEXT.replace(call, more))
    assert "call 1 (identify): expected ':SYST:ERR?" in message
    unread = call.replace("/K\n", "/K\n          and more\n")
    message, _ = wrong(tmp_path, TEXT.replace(call, unread))
    assert "the transcript does not match, call" in message


@pytest.mark.parametrize("index", range(13))
def test_a_transcript_without_one_of_the_verbs_fails(tmp_path, index):
    call = transcript(TEXT, index)
    message, _ = wrong(tmp_path, TEXT.replace(call, ""))
    assert "transcript" in message


@pytest.mark.parametrize("place", ["bench", "working folder", "installed"])
@pytest.mark.parametrize("package", [False, True])
def test_a_module_beside_the_data_is_no_adapter(tmp_path, monkeypatch, place, package):
    """Whoever sends a bench folder sends data; a module in it is not executed because a driver file names it."""
    bench, work, installed = (tmp_path / name for name in ("bench", "work", "installed"))
    for folder in (bench / "drivers", work, installed):
        folder.mkdir(parents=True)
    text = TEXT.replace("kind: smu", "kind: smu\nadapter: sent_along:Odd", 1)
    (bench / "drivers" / "odd.yaml").write_text(text, encoding="utf-8")
    where = {"bench": bench, "working folder": work, "installed": installed}[place]
    module = where / "sent_along" / "__init__.py" if package else where / "sent_along.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(where))
    monkeypatch.delitem(sys.modules, "sent_along", raising=False)
    said = (
        "cannot be imported"
        if place == "installed"
        else r"odd\.yaml:\d+:\d+: the adapter names .*'sent_along', which lies in"
    )
    with pytest.raises(UsageError if place == "installed" else Refused, match=said):
        load_driver(bench, "odd")
    assert (tmp_path / "ran").exists() == (place == "installed")  # where it has no class Odd, but was executed
    monkeypatch.delitem(sys.modules, "sent_along", raising=False)


def test_an_adapter_executes_the_file(tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "mine.yaml").write_text(
        TEXT.replace("kind: smu", "kind: smu\nadapter: test_smu_files:Quiet", 1), encoding="utf-8"
    )
    file = load_smu(tmp_path, "mine")
    unit = AnsweringUnit(file)
    smu = make_smu("mine", file, unit)
    assert type(smu).__name__ == "Quiet"
    smu.output(False)
    assert unit.sent == [":OUTP OFF"]
    assert type(make_smu("generic", load("keithley-2400"), unit)) is Smu


def test_templates_send_numbers_whole_or_with_the_digits_asked_for():
    assert fill(":A {volts}", {"volts": 0.1 + 0.2}) == ":A 0.30000000000000004"
    assert fill(":A {volts:.9g}", {"volts": 0.1 + 0.2}) == ":A 0.3"
    assert fill("t = {{{levels:.9g}}}", {"levels": (0.0, -1e-7, 2.5)}) == "t = {0,-1e-07,2.5}"


@pytest.mark.parametrize("kind", ["smu", "board"])
def test_the_schema_knows_that_quantities_are_written_with_their_unit(kind):
    schema = schema_of(kind)
    assert schema["additionalProperties"] is False
    assert "a quantity with its unit" in str(schema)


def test_the_schema_of_an_unknown_kind_is_a_usage_error():
    with pytest.raises(UsageError, match="smu or board"):
        schema_of("scope")
