"""Quantities are parsed strictly and printed so that they can be parsed again."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rramlab.base.errors import UsageError
from rramlab.base.units import parse, parse_celsius, parse_duration, show, show_duration, time_unit


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("3.45 V", "V", 3.45),
        ("3.5V", "V", 3.5),
        ("500 ns", "s", 500e-9),
        ("1 us", "s", 1e-6),
        ("1 µs", "s", 1e-6),
        ("12.2 uS", "S", 12.2e-6),
        ("125 Ohm", "Ω", 125.0),
        ("1 kΩ", "Ω", 1000.0),
        ("10 mA", "A", 0.01),
        ("50 kHz", "Hz", 50e3),
        ("1e-3 V", "V", 1e-3),
    ],
)
def test_a_quantity_becomes_si(text, unit, value):
    assert parse(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("3.45", "V"),
        ("3.45 A", "V"),
        ("500 nS", "s"),
        ("1 s", "S"),
        ("V", "V"),
        ("", "V"),
        ("three V", "V"),
        ("inf V", "V"),
        ("nan V", "V"),
        ("3.45 VV", "V"),
        (3.45, "V"),
        (None, "V"),
        (True, "V"),
        (["3 V"], "V"),
    ],
)
def test_anything_else_is_refused_with_an_example(text, unit):
    with pytest.raises(UsageError, match=r"expected a (finite )?quantity in") as caught:
        parse(text, unit)
    assert repr(text) in str(caught.value)


@given(
    st.floats(1e-12, 1e6),
    st.sampled_from([1, -1]),
    st.sampled_from(["V", "s", "S", "A", "Ω", "J", "Hz"]),
)
def test_what_is_shown_can_be_parsed(size, sign, unit):
    assert parse(show(sign * size, unit), unit) == pytest.approx(sign * size, rel=1e-3)


def test_shown_as_a_person_would_write_it():
    assert show(5e-7, "s") == "500 ns"
    assert show(3.75, "V") == "3.75 V"


# durations and temperatures -----------------------------------------------------------------------------------

DURATIONS = {
    "10 h": 36000, "10h": 36000, "1.5 min": 90, "2 d": 172800, "1 y": 365.25 * 86400, "500 ms": 0.5, "3 s": 3,
    "1e3 s": 1000, " 7 h ": 25200, "2 ks": 2000, ".5 h": 1800, "20 us": 2e-5,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "0 s", "-1 h", "1,5 h", "nan s", "inf h", "1e999 h", "10 hours", "10 m", "1 h 30 min", "10 V", "h"],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="duration"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text):
    with suppress(UsageError):
        assert 0 < parse_duration(text) < math.inf


@given(st.floats(1e-3, 9e9))
def test_a_duration_that_is_shown_can_be_written(seconds):
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, rel=1e-3)


@pytest.mark.parametrize(("text", "celsius"), [("85", 85), ("85 C", 85), ("-40°C", -40), (" 25.5 °C ", 25.5)])
def test_a_temperature_is_read(text, celsius):
    assert parse_celsius(text) == celsius


@pytest.mark.parametrize("text", ["", "hot", "85 F", "358 K", "nan", "1e5e5", "8,5"])
def test_what_is_no_temperature_is_refused(text):
    with pytest.raises(UsageError, match="temperature"):
        parse_celsius(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5e-7, "500 ns"), (90, "90 s"), (120, "2 min"), (150, "2.5 min"), (1000, "16.67 min"), (3600, "1 h"), (5400, "1.5 h"),
     (90000, "25 h"), (86400, "1 d"), (30 * 86400, "30 d"), (-7200, "-2 h")],
)  # fmt: skip
def test_a_time_is_written_as_a_person_would_and_read_back(seconds, text):
    assert show(seconds, "s") == text
    assert parse(text, "s") == pytest.approx(seconds, rel=1e-3)


@pytest.mark.parametrize(
    ("times", "unit"),
    [([0, 3600, 86400], "h"), ([600, 14400], "min"), ([0.1, 1000], "s"), ([0, 0], "s"), ([86400, 7 * 86400], "d")],
)
def test_times_are_drawn_in_the_unit_that_a_person_would_take(times, unit):
    assert time_unit(times)[0] == unit
