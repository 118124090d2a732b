"""Quantities are parsed strictly and printed so that they can be parsed again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rramlab.base.errors import UsageError
from rramlab.base.units import parse, show


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
