"""Emulated source-measure units: what all of them promise, over a port that is a resistor."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smudesk import LEVEL, MODELS, OFF, ON, READ, SETUP, SWEEP, SWEEP_ORDER, TRIPPED, Desk, Resistor, set_up

from rramlab.base.errors import UsageError
from rramlab.drivers.driverfile import load_smu
from rramlab.drivers.smu.instrument import Smu
from rramlab.drivers.smu.readings import SweepProgram
from rramlab.sim.smus import SmuFaults, make_smu
from rramlab.sim.smus.inmemory import InMemory
from rramlab.sim.smus.specification import SPECIFICATIONS

# What all have in common -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_opening_and_identifying_forces_nothing(model):
    desk = Desk(model)
    desk.say("*IDN?", "*RST", "*CLS", "*OPC?", *SETUP[model], LEVEL[model].format(volts=1))
    assert desk.off()
    assert desk.port.done == []


@pytest.mark.parametrize("model", MODELS)
def test_closing_leaves_the_instrument_as_it_is(model):
    desk = set_up(model, 0.5)
    desk.smu.feed(b"half a li")
    desk.smu.close()
    assert desk.smu.output_on
    assert desk.say("*OPC?") == "1"
    assert desk.error()[0] == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ohms", [1e3, 10e3, 1e6, 10e6, 100e6])
@pytest.mark.parametrize("serial", ["A1", "A2", "A3"])
def test_readings_are_within_the_data_sheet(model, ohms, serial):
    desk = set_up(model, 1.0, ohms=ohms, serial=serial)
    volts, amperes = desk.numbers(READ[model])
    specification = SPECIFICATIONS[model]
    true_V, true_A = desk.port.true

    def allowed(direction, quantity, value, lowest=0.0):
        over = specification.source_over if direction == "source" else specification.measure_over
        ranges = specification.ranges(direction, quantity)
        accuracy = next(r.accuracy for r in ranges if value <= r.full * over and r.full >= lowest)
        return accuracy.share * value + accuracy.offset

    assert abs(true_V - 1.0) <= allowed("source", "VOLT", 1.0)
    assert abs(volts - true_V) <= allowed("measure", "VOLT", true_V) + 1e-6  # six digits are printed
    assert abs(amperes - true_A) <= allowed("measure", "CURR", true_A) + 1e-6 * true_A
    assert true_V != 1.0
    assert volts != pytest.approx(true_V, abs=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_errors_are_as_large_as_the_data_sheet_lets_one_expect(model):
    """Over many instruments the error of the source is spread over its specification, and centred."""
    share = []
    for serial in range(60):
        desk = set_up(model, 1.0, serial=f"S{serial}")
        accuracy = SPECIFICATIONS[model].source["VOLT"][[r.full for r in SPECIFICATIONS[model].source["VOLT"]].index(2)]
        share.append((desk.port.true[0] - 1) / (accuracy.accuracy.share + accuracy.accuracy.offset))
    assert max(map(abs, share)) <= 1
    assert max(share) > 0.3
    assert min(share) < -0.3
    assert abs(sum(share) / len(share)) < 0.2


@pytest.mark.parametrize("model", MODELS)
def test_the_limit_holds_and_says_so(model):
    desk = set_up(model, 1.0, limit="2E-6", ohms=10e3)
    volts, amperes = desk.numbers(READ[model])
    assert amperes == pytest.approx(2e-6, rel=0.01)
    assert volts == pytest.approx(0.02, rel=0.1)
    assert desk.say(TRIPPED[model]) in ("1", "true")
    assert desk.say(LEVEL[model].format(volts=0.001), TRIPPED[model]) in ("0", "false")


@pytest.mark.parametrize("model", MODELS)
def test_currents_are_sourced_too(model):
    lines = {
        "B2902A": [":SOUR:FUNC:MODE CURR;:SOUR:CURR 1E-6;:SENS:VOLT:PROT 1", ":OUTP ON", ":MEAS:VOLT?"],
        "2400": [":SOUR:FUNC CURR;:SOUR:CURR 1E-6;:SENS:VOLT:PROT 1;:SENS:FUNC 'VOLT'", ":FORM:ELEM VOLT", ":MEAS?"],
        "2450": [":SOUR:FUNC CURR;:SOUR:CURR 1E-6;:SOUR:CURR:VLIM 1", ":OUTP ON", ":MEAS:VOLT?"],
        "2636B": ["smua.source.func = 0 smua.source.leveli = 1E-6 smua.source.limitv = 1", "smua.source.output = 1",
                  "print(smua.measure.v())"],
    }  # fmt: skip
    for ohms, volts in ((100e3, 0.1), (10e6, 1.0)):
        desk = Desk(model, ohms=ohms)
        assert desk.numbers(*lines[model]) == [pytest.approx(volts, rel=0.02)]
        assert desk.port.done[-1][0] == "I"


@pytest.mark.parametrize("model", MODELS)
def test_a_list_sweep_ends_with_the_output_off(model):
    desk = Desk(model)
    desk.say(*(line.format(limit="1E-3") for line in SETUP[model]))
    levels = [0.1, 0.2, -0.3, 0.4, 0.0]
    answer = desk.numbers(*(line.format(levels=", ".join(map(str, levels)), points=5) for line in SWEEP[model]))
    level, current = SWEEP_ORDER[model]
    assert answer[level::2] == pytest.approx(levels, abs=2e-3)
    assert answer[current::2] == pytest.approx([each / 100e3 for each in levels], abs=2e-8)
    assert desk.off()
    assert desk.port.releases >= 1
    forced = [each[1] for each in desk.port.done if each[3] > 5e-3]
    assert forced == pytest.approx(levels, abs=2e-3)
    assert desk.error()[0] == 0


@pytest.mark.parametrize("model", MODELS)
def test_switching_off_releases_the_load(model):
    desk = set_up(model, 0.5)
    forced = len(desk.port.done)
    desk.say(OFF[model])
    assert (desk.port.releases, desk.off()) == (1, True)
    desk.say(LEVEL[model].format(volts=2))
    assert len(desk.port.done) == forced
    desk.say(ON[model], "*RST")
    assert (desk.port.releases, desk.off()) == (2, True)


@pytest.mark.parametrize("model", MODELS)
def test_time_passes_by_power_line_cycles(model):
    desk = set_up(model, 0.5)
    desk.numbers(READ[model])
    assert desk.port.done[-1][3] >= 1 / 50  # one cycle
    before = desk.smu.clock_s
    desk.numbers(READ[model])
    assert desk.smu.clock_s - before == pytest.approx(desk.port.done[-1][3])


@pytest.mark.parametrize("model", MODELS)
def test_the_load_is_told_how_long_the_unit_integrates_and_0_where_it_does_not(model):
    desk = set_up(model, 0.5)
    assert not any(desk.port.apertures)  # it was set up and switched on
    count = len(desk.port.apertures)
    desk.numbers(READ[model])
    measured = [aperture for aperture in desk.port.apertures[count:] if aperture]
    assert measured == [pytest.approx(1 / 50)] * len(measured)
    assert measured
    for (*_, span_s), aperture_s in zip(desk.port.done, desk.port.apertures, strict=True):
        assert aperture_s <= span_s


@pytest.mark.parametrize("model", MODELS)
def test_a_level_that_cannot_be_reached_is_refused(model):
    desk = set_up(model, 0.5)
    desk.say(LEVEL[model].format(volts=1000))
    assert desk.error()[0] in (-222, 1101)
    assert desk.numbers(READ[model])[0] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    ("model", "query"), [("B2902A", ":MEAS:CURR?"), ("2450", ":READ?"), ("2636B", "print(smua.measure.i())")]
)
def test_beyond_a_fixed_range_there_is_no_number(model, query):
    fix = "smua.measure.rangei = 1E-6" if model == "2636B" else ":SENS:CURR:RANG 1E-6"
    desk = set_up(model, 1.0)
    assert desk.numbers(fix, query)[0] >= 9.9e37


@pytest.mark.parametrize("model", ["B2902A", "2400", "2450"])
def test_lists_are_bounded(model):
    desk = Desk(model)
    at_once = 2500 if model == "B2902A" else 100
    desk.say(":SOUR:LIST:VOLT " + ",".join(["0.1"] * (at_once + 1)))
    assert desk.error() == (-223, "Too much data")
    desk.say(":SOUR:LIST:VOLT 0.1")
    while desk.error()[0] == 0:
        desk.say(":SOUR:LIST:VOLT:APP " + ",".join(["0.1"] * 99))
        points = int(desk.say(":SOUR:LIST:VOLT:POIN?"))
        assert points <= 2500
    assert points == 1 + 99 * 25


# Together with the driver files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("series", ["keysight-b2900", "keithley-2400", "keithley-2450", "keithley-2600"])
def test_driver_files_and_emulated_instruments_understand_each_other(series, tmp_path):
    """Both were written from the same manuals, each without the other: every verb must do what it says."""
    file = load_smu(tmp_path, series)
    port = Resistor(50e3)
    unit = make_smu(series, port, "SN77", 3)
    smu = Smu("smu", file, InMemory("memory", unit))
    assert smu.identify().serial == "SN77"
    smu.reset()
    smu.compliance(amperes=1e-4)
    smu.source_voltage(0.2)
    assert port.done == []
    smu.output(True)
    reading = smu.measure()
    assert (reading.voltage_V, reading.current_A) == (pytest.approx(0.2, rel=0.01), pytest.approx(4e-6, rel=0.01))
    assert not reading.in_compliance
    smu.source_voltage(6.0)
    assert smu.measure().in_compliance
    smu.source_voltage(0.0)
    for levels in (np.linspace(0, 0.9, 5), np.linspace(0, -0.4, 300)):
        curve = smu.sweep(SweepProgram(levels, 1e-3, 1e-5))
        limited = np.abs(levels) > 0.51
        assert curve.voltage_V[~limited] == pytest.approx(levels[~limited], abs=3e-3)
        assert curve.current_A == pytest.approx(np.clip(levels / 50e3, -1e-5, 1e-5), abs=1e-7)
        assert curve.in_compliance.tolist() == limited.tolist()
        assert not unit.output_on
    smu.source_current(2e-6)
    smu.compliance(volts=1.0)
    smu.output(True)
    assert smu.measure().voltage_V == pytest.approx(0.1, rel=0.02)
    smu.source_current(5e-5)
    assert smu.measure().in_compliance
    assert smu.safe_state() == []
    assert not unit.output_on
    unit.feed(b"BOGUS\n")
    assert len(smu.errors()) == 1


# Bytes -------------------------------------------------------------------------------------------------------------

SESSIONS = {
    model: "\n".join(
        [
            "*IDN?",
            *(line.format(limit="1E-3") for line in SETUP[model]),
            LEVEL[model].format(volts=0.3),
            ON[model],
            READ[model],
            "BOGUS",
            *(line.format(levels="0.1, 0.2", points=2) for line in SWEEP[model]),
            "print(errorqueue.next())" if model == "2636B" else ":SYST:ERR?",
            "",
        ]
    ).encode()
    for model in MODELS
}


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
def test_any_split_of_the_bytes_gives_the_same_answers(model, data):
    session = SESSIONS[model]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(session)), max_size=12)))
    whole, parts = Desk(model).smu, Desk(model).smu
    pieces = [session[a:b] for a, b in zip([0, *cuts], [*cuts, len(session)], strict=True)]
    assert b"".join(map(parts.feed, pieces)) == whole.feed(session)
    assert parts.clock_s == whole.clock_s


@pytest.mark.parametrize("model", MODELS)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.lists(
                st.sampled_from(
                    b":SOUR :VOLT :LIST 1 , ; ? ( ) { } = smua .source .levelv print \" ' -1e9 nan @ [ ] # .. * :READ? (@2)"
                    b" :TRAC:DATA? end if then :OUTP ON :INIT".split(b" ")
                ),
                max_size=8,
            ).map(b" ".join),
        ),
        max_size=6,
    )
)
def test_no_bytes_bring_an_instrument_down(model, lines):
    desk = Desk(model)
    for line in lines:
        desk.smu.feed(line + b"\n")
    assert desk.smu.feed(b"\nendscript\n*OPC?\n").endswith(b"1\n")


@pytest.mark.parametrize("model", MODELS)
def test_the_same_serial_and_calls_give_the_same_bytes(model):
    def answers(**desk):
        return Desk(model, **desk).smu.feed(SESSIONS[model])

    assert answers() == answers()
    assert answers().splitlines()[1:] != answers(serial="MY51140002").splitlines()[1:]
    assert answers() != answers(seed=2)


@pytest.mark.parametrize("model", MODELS)
def test_faults(model):
    assert Desk(model, faults=SmuFaults(silent=True)).say("*IDN?") == ""
    assert Desk(model, faults=SmuFaults(queued=True)).error()[0] != 0
    garbled = Desk(model, faults=SmuFaults(garbage=2)).smu
    assert garbled.feed(b"*OPC?\n") == b"1\n"
    assert garbled.feed(b"*OPC?\n") not in (b"1\n", b"")
    assert garbled.feed(b"*OPC?\n") == b"1\n"


def test_a_line_without_end_is_thrown_away():
    desk = Desk("2400")
    desk.smu.feed(b"x" * (1 << 21))
    assert desk.error() == (-363, "Input buffer overrun")


def test_an_unknown_model_is_refused():
    with pytest.raises(UsageError, match=r"2410.*B2902A"):
        make_smu("2410", Resistor(), "1", 1)


def test_every_specification_is_in_order():
    for specification in SPECIFICATIONS.values():
        for table in (specification.source, specification.measure):
            for ranges in table.values():
                full = [each.full for each in ranges]
                assert full == sorted(full)
                offsets = [each.accuracy.offset for each in ranges]
                assert offsets == sorted(offsets)
        assert math.isclose(
            specification.source["VOLT"][-1].full * specification.source_over, specification.highest("VOLT")
        )
