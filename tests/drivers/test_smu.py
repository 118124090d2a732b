"""One contract for every source-measure unit, executed from its driver file against a unit that may misbehave."""

import math

import numpy as np
import pytest
from answering import SMU_STEMS, AnsweringUnit, load, on_its_clock
from hypothesis import given
from hypothesis import strategies as st

from rramlab.base.errors import InstrumentError, Refused, UsageError
from rramlab.drivers.links import LinkLost
from rramlab.drivers.smu.instrument import MOST_ERRORS, Smu
from rramlab.drivers.smu.readings import Reading, SweepProgram
from rramlab.drivers.smu.templates import fill

PROGRAM = SweepProgram.staircase(1.0, 3, 0.01, 1e-4, both_ways=True)
CHANGING = {
    "reset": lambda smu: smu.reset(),
    "source_voltage": lambda smu: smu.source_voltage(0.5),
    "source_current": lambda smu: smu.source_current(1e-6),
    "compliance in amperes": lambda smu: smu.compliance(1e-4),
    "compliance in volts": lambda smu: smu.compliance(volts=1.0),
    "output on": lambda smu: smu.output(True),
    "output off": lambda smu: smu.output(False),
    "sweep": lambda smu: smu.sweep(PROGRAM),
}
ASKING = {
    "identify": lambda smu: smu.identify(),
    "measure": lambda smu: smu.measure(),
    "errors": lambda smu: smu.errors(),
    "safe_state": lambda smu: smu.safe_state(),
}


@pytest.fixture(params=SMU_STEMS)
def unit(request, monkeypatch):
    """The unit of each driver file."""
    made = AnsweringUnit(load(request.param))
    on_its_clock(monkeypatch, made)
    return made


@pytest.fixture
def smu(unit):
    """Reset, and everything that was said so far forgotten."""
    made = Smu("probe", unit.file, unit)
    made.reset()
    unit.sent.clear()
    return made


def levels_sent(unit):
    """Every level that was handed over, in order."""
    verb = unit.file.verbs.sweep.levels
    found = [[find(each) for each in (verb.first, verb.further)] for find in map(unit.numbers_in, unit.sent)]
    return [level for first, further in found for level in first or further]


def test_opening_and_identifying_say_nothing_that_energises(unit):
    smu = Smu("probe", unit.file, unit)
    assert unit.sent == []
    identity = smu.identify()
    assert identity.model
    assert identity.serial in identity.text
    assert unit.sent == list(unit.file.identity.send)
    smu.close()
    assert unit.closed


def test_a_measurement_has_voltage_current_and_compliance(smu, unit):
    assert smu.measure() == Reading(0.125, 1e-6, False)
    columns = unit.file.verbs.measure.sourcing_voltage.reply.columns
    mask = unit.file.verbs.measure.sourcing_voltage.reply.compliance_mask
    lowest_bit = mask & -mask
    said = {"voltage": "0.8", "current": "1e-4", "status": str(lowest_bit)}
    separator = unit.file.verbs.measure.sourcing_voltage.reply.separator
    unit.answer = [(separator.join(said[column] for column in columns) + "\n").encode()]
    assert smu.measure() == Reading(0.8, 1e-4, True)
    said["status"] = str(~mask & 0xFFFF)
    unit.answer = [(separator.join(said[column] for column in columns) + "\n").encode()]
    assert smu.measure() == Reading(0.8, 1e-4, False)


def test_measuring_before_anything_is_sourced_is_refused(unit):
    with pytest.raises(UsageError, match="reset"):
        Smu("probe", unit.file, unit).measure()
    assert unit.sent == []


def test_a_sweep_is_one_program_with_every_level_and_the_output_off_afterwards(smu, unit):
    curve = smu.sweep(PROGRAM)
    assert levels_sent(unit) == pytest.approx(PROGRAM.levels_V)
    assert len(curve.voltage_V) == len(curve.current_A) == len(curve.in_compliance) == 5
    assert curve.voltage_V.tolist() == [0.125, 0.25, 0.375, 0.5, 0.625]
    assert not curve.in_compliance.any()
    for name, value in (("dwell", 0.01), ("compliance", 1e-4), ("points", 5), ("peak", 1.0)):
        sweep = unit.file.verbs.sweep
        having = [each for each in (*sweep.prepare, *sweep.arm, *sweep.start) if f"{{{name}}}" in each]
        assert having, name
        filled = fill(having[0], {**unit.values, "dwell": 0.01, "compliance": 1e-4, "points": 5, "peak": value})
        assert filled in unit.sent


def test_long_lists_are_handed_over_in_parts(smu, unit):
    levels = np.linspace(-1.0, 1.5, 257)
    curve = smu.sweep(SweepProgram(levels, 0.001, 1e-4))
    assert levels_sent(unit) == pytest.approx(levels, rel=1e-8)
    assert len(curve.voltage_V) == 257
    assert max(map(len, unit.sent)) < 2000


@pytest.mark.parametrize("difference", [-1, 1])
def test_of_a_sweep_with_too_few_or_too_many_points_none_counts_and_the_answer_is_kept(smu, unit, difference):
    """No point can be told from the next; the pulse that the sweep may have been cannot be taken back."""
    unit.more_points = difference
    curve = smu.sweep(PROGRAM)
    assert sorted(curve.bad) == list(range(5))
    assert np.isnan(curve.voltage_V).all()
    assert len(curve.answer.split(unit.file.verbs.sweep.reply.separator)) == 15 + 3 * difference
    assert smu.measure().bad == ""


# What instruments and damaged lines write in the place of a number.
NO_NUMBERS = (
    "9.9E37",
    "+9.910000E+37",
    "-9.9E+37",
    "inf",
    "-inf",
    "nan",
    "NAN",
    "",
    "?",
    "1_0",
    "1E400",
    "12..5",
    "\xff7",
)


@pytest.mark.parametrize("column", ["voltage", "current", "status"])
@pytest.mark.parametrize("text", NO_NUMBERS)
def test_one_point_that_is_no_measurement_is_marked_and_the_others_stay(smu, unit, text, column):
    reply = unit.file.verbs.sweep.reply
    parts = [["0.5", "1e-6", "0"][["voltage", "current", "status"].index(name)] for name in reply.columns] * 5
    parts[2 * 3 + reply.columns.index(column)] = text
    unit.swept = reply.separator.join(parts).encode("latin-1")
    curve = smu.sweep(PROGRAM)
    assert list(curve.bad) == [2]
    assert text.replace("\xff", "\ufffd").strip() in curve.bad[2]
    others = [0, 1, 3, 4]
    assert curve.voltage_V[others].tolist() == [0.5] * 4
    assert curve.current_A[others].tolist() == [1e-6] * 4
    if column != "status":
        assert np.isnan({"voltage": curve.voltage_V, "current": curve.current_A}[column][2])
    assert np.isfinite(curve.voltage_V[2]) == (column != "voltage")
    assert smu.measure().bad == ""


def test_a_reading_beyond_what_the_unit_can_source_is_no_measurement(smu, unit):
    columns = unit.file.verbs.measure.sourcing_voltage.reply.columns
    for name in ("voltage", "current"):
        values = {"voltage": 0.5, "current": 1e-6, "status": 0, name: 3 * getattr(unit.file.limits, name)}
        unit.answer = [",".join(str(values[column]) for column in columns).encode() + b"\n"]
        assert smu.measure().bad


def test_the_points_of_a_sweep_after_which_the_unit_reports_an_error_are_still_known(smu, unit):
    unit.afterwards = ["something that came too late"]
    with pytest.raises(InstrumentError, match="came too late"):
        smu.sweep(PROGRAM)
    assert len(smu.swept.voltage_V) == 5
    unit.queue = ["refused before it began"]
    with pytest.raises(InstrumentError, match="refused"):
        smu.sweep(PROGRAM)
    assert smu.swept is None


def test_a_sweep_that_leaves_the_output_on_is_an_error(smu, unit):
    unit.sticky = unit.on = True
    with pytest.raises(InstrumentError, match="left its output on"):
        smu.sweep(PROGRAM)


def test_a_refused_sweep_is_not_started(smu, unit):
    unit.queue = ["refused"]
    with pytest.raises(InstrumentError, match="refused"):
        smu.sweep(PROGRAM)
    assert fill(unit.file.verbs.sweep.start[0], unit.values) not in unit.sent
    assert not unit.on


@pytest.mark.parametrize("verb", CHANGING)
def test_an_entry_of_the_error_queue_is_raised_with_the_units_own_words(smu, unit, verb):
    unit.queue = ["of the unit's own words"]
    with pytest.raises(InstrumentError) as caught:
        CHANGING[verb](smu)
    message = str(caught.value)
    assert "of the unit's own words" in message
    assert "'probe'" in message
    assert unit.name in message
    assert smu.errors() == []


@pytest.mark.parametrize("verb", [*CHANGING, *ASKING])
def test_silence_is_an_error_that_names_the_unit_and_ends(smu, unit, verb):
    unit.late_s = math.inf
    before = unit.now
    with pytest.raises(InstrumentError) as caught:
        {**CHANGING, **ASKING}[verb](smu)
    message = str(caught.value)
    assert "'probe'" in message
    assert unit.name in message
    assert "did not answer in time (nothing came)" in message
    assert "Check" in message
    timing = unit.file.timing
    assert unit.now - before <= 3 * timing.reply + 5 * (0.01 + timing.point)


@pytest.mark.parametrize("verb", [*CHANGING, *ASKING])
def test_a_closed_link_is_an_error_that_names_the_unit(smu, unit, verb):
    unit.closed = True
    with pytest.raises(LinkLost, match="'probe'"):
        {**CHANGING, **ASKING}[verb](smu)


GARBAGE = {
    "no text": b"\xff\xfe\x80\n",
    "empty": b"\n",
    "words": b"what?\n",
    "wrong numbers": b"1,2\n",
}
UNMEASURED = {
    "not a number": b"1,nan,0\n",
    "overflow": b"9.91E37,9.91E37,0\n",
    "an odd status": b"1,1e-6,0.5\n",
}


@pytest.mark.parametrize("what", UNMEASURED)
def test_a_reading_that_is_no_measurement_is_marked_with_what_was_answered_and_the_next_one_is_right(smu, unit, what):
    unit.answer = [UNMEASURED[what]]
    assert smu.measure().bad == UNMEASURED[what].decode().strip()
    measured = unit.measured
    assert smu.measure() == Reading((measured + 1) / 8, pytest.approx((measured + 1) * 1e-6), False)


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_for_a_measurement_is_an_error_that_shows_it_and_the_next_one_is_right(smu, unit, what):
    unit.answer = [GARBAGE[what]]
    with pytest.raises(InstrumentError) as caught:
        smu.measure()
    assert "answered" in str(caught.value)
    assert "expected" in str(caught.value)
    measured = unit.measured
    assert smu.measure().voltage_V == (measured + 1) / 8


@pytest.mark.parametrize("verb", ["identify", "errors", "safe_state", "source_voltage"])
@pytest.mark.parametrize("what", ["no text", "empty", "words"])
def test_garbage_for_anything_else_is_an_error_that_shows_it(smu, unit, verb, what):
    unit.answer = [GARBAGE[what]]
    with pytest.raises(InstrumentError, match="answered"):
        {**CHANGING, **ASKING}[verb](smu)
    assert smu.identify().model


def test_a_late_answer_is_not_taken_for_that_of_the_next_question(smu, unit):
    unit.late_s = unit.file.timing.reply + unit.file.timing.point + 0.5
    with pytest.raises(InstrumentError, match="did not answer in time"):
        smu.measure()
    late = unit.measured
    unit.late_s = 0.0
    assert smu.measure().voltage_V == (late + 1) / 8
    unit.late_s = unit.file.timing.reply + unit.file.timing.point + 0.5
    with pytest.raises(InstrumentError):
        smu.measure()
    unit.now += 10  # it has arrived before the next question is asked
    unit.late_s = 0.0
    assert smu.measure().voltage_V == (unit.measured) / 8


def test_an_answer_nobody_asked_for_is_dropped(smu, unit):
    unit._coming.append((unit.now, b"7,7,7\n7,7,7\n"))
    assert smu.measure() == Reading(0.125, 1e-6, False)


def test_a_unit_that_never_stops_sending_is_an_error(smu, unit):
    unit.read = lambda deadline: b"7,7,7\n" * 10_000
    with pytest.raises(InstrumentError, match="without being asked"):
        smu.measure()


def test_a_line_that_never_ends_is_an_error(smu, unit):
    unit.answer = [b"1" * (1 << 21)]
    with pytest.raises(InstrumentError, match="a line that ends"):
        smu.measure()


@pytest.mark.parametrize("verb", ["measure", "sweep", "source_voltage", "reset", "identify", "safe_state"])
def test_tick_is_called_at_least_every_tenth_of_a_second_while_waiting(smu, unit, verb):
    unit.late_s = unit.file.timing.reply * 0.9
    ticks = [unit.now]
    calls = {
        "measure": lambda: smu.measure(tick),
        "sweep": lambda: smu.sweep(PROGRAM, tick),
        "source_voltage": lambda: smu.source_voltage(0.5, tick),
        "reset": lambda: smu.reset(tick),
        "identify": lambda: smu.identify(tick),
        "safe_state": lambda: smu.safe_state(tick),
    }

    def tick():
        ticks.append(unit.now)

    calls[verb]()
    ticks.append(unit.now)
    assert len(ticks) > 10
    assert np.diff(ticks).max() <= 0.1


def test_what_tick_raises_goes_through_and_the_next_answer_is_right(smu, unit):
    unit.late_s = 1.0

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smu.measure(stop)
    late = unit.measured
    assert smu.measure().voltage_V != late / 8
    assert smu.safe_state() == []


def test_the_error_queue_is_emptied_and_never_read_without_end(smu, unit):
    unit.queue = ["one", "two"]
    first, second = smu.errors()
    assert "one" in first
    assert "two" in second
    unit.queue = ["again"] * 10_000
    assert len(smu.errors()) == MOST_ERRORS


def test_the_safe_state_takes_effect_before_any_answer(smu, unit):
    off = fill(unit.file.verbs.output.off.send[-1], unit.values)
    smu.output(True)
    unit.answer = [b"\xff\xff"]
    with pytest.raises(InstrumentError):
        smu.measure()
    unit.late_s = math.inf
    unit.sent.clear()
    with pytest.raises(InstrumentError, match="safe state was sent and not confirmed"):
        smu.safe_state()
    assert off in unit.sent
    assert not unit.on


def test_the_safe_state_is_confirmed_and_can_be_repeated(smu, unit):
    smu.output(True)
    for _ in range(2):
        assert smu.safe_state() == []
        assert not unit.on
    unit.queue = ["left over"]
    assert "left over" in smu.safe_state()[0]


def test_a_unit_that_says_its_output_is_on_after_the_safe_state_is_reported(smu, unit):
    smu.output(True)
    unit.sticky = True
    with pytest.raises(InstrumentError, match="says that its output is on"):
        smu.safe_state()


def test_switching_off_is_sent_even_when_the_last_answer_is_still_missing(smu, unit):
    smu.output(True)
    unit.late_s = math.inf
    with pytest.raises(InstrumentError):
        smu.measure()
    with pytest.raises(InstrumentError):
        smu.output(False)
    assert not unit.on


def test_a_channel_that_the_unit_does_not_have_is_refused(unit):
    with pytest.raises(UsageError, match="channel 9"):
        Smu("probe", unit.file, unit, 9)


@pytest.mark.parametrize("stem", [stem for stem in SMU_STEMS if len(load(stem).channels) > 1])
def test_the_second_channel_is_spoken_to_where_there_is_one(stem, monkeypatch):
    file = load(stem)
    unit = AnsweringUnit(file, 2)
    on_its_clock(monkeypatch, unit)
    smu = Smu("probe", file, unit, 2)
    smu.output(True)
    assert unit.on
    first = fill(file.verbs.output.on.send[0], {"channel": file.channels[1]})
    assert first not in unit.sent


anything = st.floats(allow_nan=True, allow_infinity=True)


def near(limit):
    """Values on both sides of a limit, and anything else."""
    return st.one_of(
        anything, st.floats(-1.2 * limit, 1.2 * limit), st.sampled_from([limit, -limit, np.nextafter(limit, math.inf)])
    )


@pytest.mark.parametrize("stem", SMU_STEMS)
@given(data=st.data())
def test_no_value_beyond_the_limits_is_ever_sent(stem, data):
    file = load(stem)
    unit = AnsweringUnit(file)
    smu = Smu("probe", file, unit)
    limits, verbs = file.limits, file.verbs
    verb, most, least, template = data.draw(
        st.sampled_from(
            [
                (smu.source_voltage, limits.voltage, None, verbs.source_voltage.send),
                (smu.source_current, limits.current, None, verbs.source_current.send),
                (smu.compliance, limits.current, limits.least_current_limit, verbs.compliance.sourcing_voltage.send),
                (
                    lambda volts: smu.compliance(volts=volts),
                    limits.voltage,
                    limits.least_voltage_limit,
                    verbs.compliance.sourcing_current.send,
                ),
            ]
        )
    )
    value = data.draw(near(most))
    within = (abs(value) <= most) if least is None else (least <= value <= most)
    if not within:
        with pytest.raises(Refused, match="nothing was sent"):
            verb(value)
        assert unit.sent == []
        return
    verb(value)
    having = next(each for each in template if "{volts" in each or "{amperes" in each)
    [sent] = [found for find in map(unit.numbers_in, unit.sent) for found in find(having)]
    assert sent == value
    assert abs(sent) <= most


@pytest.mark.parametrize("stem", SMU_STEMS)
@given(data=st.data())
def test_no_level_beyond_the_limits_is_ever_sent(stem, data):
    file = load(stem)
    unit = AnsweringUnit(file)
    smu = Smu("probe", file, unit)
    limits = file.limits
    levels = data.draw(st.lists(st.floats(-limits.voltage, limits.voltage), min_size=1, max_size=8))
    if data.draw(st.booleans()):
        levels.insert(data.draw(st.integers(0, len(levels))), data.draw(near(limits.voltage)))
    dwell = data.draw(st.one_of(st.just(0.01), near(limits.longest_dwell)))
    compliance = data.draw(st.one_of(st.just(1e-4), near(limits.current)))
    program = SweepProgram(np.array(levels), dwell, compliance)
    within = (
        all(abs(level) <= limits.voltage for level in levels)
        and limits.shortest_dwell <= dwell <= limits.longest_dwell
        and limits.least_current_limit <= compliance <= limits.current
    )
    if not within:
        with pytest.raises(Refused, match="nothing was sent"):
            smu.sweep(program)
        assert unit.sent == []
        return
    smu.sweep(program)
    sent = levels_sent(unit)
    assert sent == pytest.approx(levels, rel=1e-8, abs=1e-300)
    assert max(map(abs, sent)) <= limits.voltage


@pytest.mark.parametrize("shape", [(0,), (2, 2), (100_000,)])
def test_a_list_of_the_wrong_size_is_refused(smu, unit, shape):
    with pytest.raises(Refused, match="nothing was sent"):
        smu.sweep(SweepProgram(np.zeros(shape), 0.01, 1e-4))
    assert unit.sent == []


def test_a_compliance_is_one_of_two(smu, unit):
    for values in ({}, {"amperes": 1e-3, "volts": 1.0}):
        with pytest.raises(UsageError, match="exactly one"):
            smu.compliance(**values)
    assert unit.sent == []
