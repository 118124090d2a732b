"""What cannot be is refused where it is handed in, in words, whatever it is: no error of Python's own."""

import math

import numpy as np
import pytest
from workbench import SmallBench, ledger_of

import rramlab
from rramlab.base.errors import InvalidValue, RramlabError, UsageError
from rramlab.base.numbers import from_digits, real, shown, whole
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.placement import Tile
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region

DIE = "small-1"
HUGE = 10**5000
DIGITS = "9" * 5000
TILE = Tile("layer", 0, 4, 2, 0, 0)
NO_NUMBER = [
    "3.75", None, math.nan, math.inf, -math.inf, True, HUGE, [1], {}, np.float32("nan"), np.array([1.0, 2.0]),
    np.bool_(True), 1j, object(), b"x", "x" * 10_000,
]  # fmt: skip
NO_TEXT = [None, 3, math.nan, True, HUGE, [1], {}, np.array([1]), 1j, object(), b"x"]
ODD_TEXT = [
    "[/red]",
    "x" * 10_000,
    f"row {DIGITS}",
    f"one-of-pair(seed={DIGITS})",
    f"cell (1, {DIGITS})",
    "\0",
    "\ud800",
    "",
]


def name_of(value):
    return type(value).__name__


def refused(call, *arguments, **more):
    """An error of ours, short enough to be read."""
    with pytest.raises(RramlabError) as caught:
        call(*arguments, **more)
    assert len(str(caught.value)) < 1000
    return caught.value


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with SmallBench(tmp_path_factory.mktemp("handed") / "in").write().open() as session:
        session.arm(DIE)
        session.macro.contact()
        yield session
        assert not ledger_of(session).pulse_counts().any()  # nothing of this ever pulsed a cell


@pytest.mark.parametrize("value", [*NO_NUMBER, -0.1, -1], ids=name_of)
@pytest.mark.parametrize("place", range(3))
def test_a_pulse_is_made_of_finite_numbers(value, place):
    figures = [3.0, 1e-6, 1.2]
    figures[place] = value
    error = refused(Pulse, *figures)
    assert isinstance(error, InvalidValue)
    assert ("amplitude", "width", "gate")[place] in str(error)


def test_numbers_of_numpy_are_numbers():
    pulse = Pulse(np.float32(3.5), np.float64(1e-6), np.int16(1))
    assert pulse == Pulse(3.5, 1e-6, 1.0)
    assert all(type(each) is float for each in (pulse.amplitude_V, pulse.width_s, pulse.gate_V))
    assert whole(np.uint8(3), "it", 0, 9) == 3
    assert type(whole(np.int64(3), "it", 0)) is int


@pytest.mark.parametrize("value", [*NO_NUMBER, 2.0, -1, 0, 10**9], ids=name_of)
def test_counts_are_whole_numbers_in_range(session, value):
    refused(session.macro.read, "row 0", value)
    tile, gates = TILE, GatePattern.lines(np.arange(32) < 4, np.arange(8) < 2)
    refused(session.macro.multiply, np.ones((1, 4), np.uint8), value, tile, gates)


@pytest.mark.parametrize("value", [9, 17, "4", np.bool_(True)], ids=name_of)
def test_inputs_have_as_many_bits_as_the_board_takes(session, value):
    tile, gates = TILE, GatePattern.lines(np.arange(32) < 4, np.arange(8) < 2)
    assert "bits" in str(refused(session.macro.multiply, np.ones((1, 4), np.uint8), value, tile, gates))


@pytest.mark.parametrize("value", [*NO_TEXT, *ODD_TEXT, "form", "ELECTROFORM", "read"], ids=name_of)
def test_kinds_of_pulses_are_known(session, value):
    error = refused(session.macro.pulse, value, "row 0", Pulse(1.0, 1e-6, 1.2))
    assert "electroform, set, reset" in str(error)


@pytest.mark.parametrize("value", [*NO_NUMBER, (1.0, 1e-6, 1.2)], ids=name_of)
def test_a_pulse_is_a_pulse(session, value):
    refused(session.macro.pulse, "reset", "row 0", value)


@pytest.mark.parametrize("value", [*NO_TEXT, *ODD_TEXT, np.ones((2, 2), np.bool_)], ids=name_of)
def test_cells_are_cells(session, value):
    refused(session.macro.pulse, "reset", value, Pulse(1.0, 1e-6, 1.2))
    refused(session.macro.read, value)


@pytest.mark.parametrize("value", [*NO_TEXT, *ODD_TEXT], ids=name_of)
def test_regions_are_texts(session, value):
    refused(lambda: Region(value).bound(session.macro.geometry))


@pytest.mark.parametrize("value", [*NO_TEXT, *ODD_TEXT], ids=name_of)
def test_names_are_texts(session, value):
    if value is not None:
        refused(session.run, "contact", die=value)
        refused(rramlab.open_bench, session.description.root, value)
        if not isinstance(value, str):
            refused(rramlab.open_bench, value)
    refused(session.arm, value)
    refused(session.resume, value)
    refused(session.run, value)
    refused(session.plan, value)


@pytest.mark.parametrize("value", [*NO_NUMBER[2:], -1, DIGITS], ids=name_of)
def test_parameters_are_checked_like_those_of_a_command_line(session, value):
    refused(session.plan, "read-array", {"repeats": value})
    refused(session.plan, "electroform", {"voltage": value})
    if not isinstance(value, (dict, type(None))):
        refused(session.plan, "read-array", value)


@pytest.mark.parametrize("value", [*NO_NUMBER, 0, -1, 2.0], ids=name_of)
def test_shapes_are_whole_numbers(value):
    if value is not HUGE:
        refused(Geometry, value, 2)
        refused(Geometry, 3, value)


@pytest.mark.parametrize("value", [None, 3, "x", [[1, 2], [3]], object(), {}], ids=name_of)
def test_arrays_are_arrays(session, value):
    refused(lambda: session.macro.read(CellSelection(value)))
    refused(GatePattern, np.ones((1, 32), np.bool_), value)
    refused(session.macro.weights, value)
    refused(session.macro.multiply, value, 4, TILE, GatePattern.lines(np.ones(32, bool), np.ones(8, bool)))


def test_an_invalid_value_is_a_usage_error_and_pythons_own():
    error = refused(real, "x", "it")
    assert isinstance(error, UsageError)
    assert isinstance(error, ValueError)
    assert error.exit_code == 2


@pytest.mark.parametrize(("least", "most", "above", "good", "bad"), [
    (0.0, 1.0, False, 0.0, 1.1), (0.0, 1.0, True, 1.0, 0.0), (-math.inf, math.inf, False, -5, math.nan),
])  # fmt: skip
def test_ranges_are_kept(least, most, above, good, bad):
    assert real(good, "it", least, most, above=above) == good
    assert "it is" in str(refused(real, bad, "it", least, most, above=above))


def test_whole_numbers_in_texts_have_an_end():
    assert from_digits(" 12 ") == 12
    assert from_digits("9" * 100) == int("9" * 100)
    assert "5,000 digits" in str(refused(from_digits, DIGITS))


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


def test_whatever_was_found_can_be_said():
    assert shown(HUGE) == "a number of 16610 bits"
    assert "cannot be shown" in shown(Unshowable())
    assert len(shown("x" * 10_000)) < 110
