"""Emulated source-measure units in their own languages: transcripts and errors, after the manuals."""

import pytest
from smudesk import Desk

# Transcripts, after the manuals ------------------------------------------------------------------------------------


def test_keysight_b2900():
    desk = Desk("B2902A")
    assert desk.say("*IDN?").startswith("Keysight Technologies,B2902A,MY51140001,")
    assert desk.say(":SYST:ERR?") == '+0,"No error"'
    assert desk.say(":SENS:CURR:PROT?;:SENS:VOLT:PROT?") == "+1.000000E-04;+2.000000E+00"
    assert desk.say(":OUTPUT1:OFF:AUTO?;:OUTP:ON:AUTO?") == "0;1"
    assert desk.say(":form:elem:sens?") == "VOLT,CURR,RES,TIME,STAT,SOUR"
    assert desk.say(":SOUR1:VOLT:LEV:IMM:AMPL 0.5", ":source:voltage?") == "+5.000000E-01"
    volts, amperes, ohms, _time, status, source = desk.numbers(":OUTP ON;:MEAS?")
    assert (volts, amperes) == (pytest.approx(0.5, rel=0.01), pytest.approx(5e-6, rel=0.01))
    assert (ohms, status, source) == (9.91e37, 0, 0.5)  # not measured unless asked for
    assert desk.say(":OUTP2?;:OUTP1?") == "0;1"
    assert len(desk.say(":FORM:ELEM:SENS CURR", ":MEAS? (@1,2)").split(",")) == 2
    assert desk.say(":OUTP3 ON", ":SYST:ERR?") == '-114,"Header suffix out of range"'


def test_b2900_turns_its_output_on_by_itself_when_triggered():
    desk = Desk("B2902A")
    desk.say(":MEAS:CURR?")
    assert desk.off()
    desk.say(":READ:CURR?")
    assert not desk.off()


def test_b2900_measures_both_channels_only_one_is_wired():
    desk = Desk("B2902A")
    desk.say(":SOUR1:VOLT 1;:SOUR2:VOLT 1;:OUTP1 ON;:OUTP2 ON;:FORM:ELEM:SENS CURR")
    wired, alone = desk.numbers(":MEAS? (@1:2)")
    assert wired == pytest.approx(1e-5, rel=0.01)
    assert abs(alone) < 1e-9


def test_keithley_2400():
    desk = Desk("2400")
    assert desk.say("*IDN?").startswith("KEITHLEY INSTRUMENTS INC.,MODEL 2400,MY51140001,")
    assert desk.say(":SYST:ERR?") == '0,"No error"'
    assert desk.say(":SENS:CURR:PROT?") == "1.050000E-04"
    assert desk.say(":SENS:FUNC?") == '"CURR:DC"'
    desk.say(":SOUR:VOLT 0.5;:OUTP ON")
    answer = desk.say(":READ?").split(",")
    assert len(answer) == 5
    assert all(len(each) == 13 and each[0] in "+-" for each in answer)  # +1.000206E+00
    volts, amperes, ohms, _time, status = map(float, answer)
    assert (volts, ohms) == (0.5, 9.91e37)  # voltage is not measured: what was programmed
    assert amperes == pytest.approx(5e-6, rel=0.01)
    assert int(status) & (1 << 14 | 1 << 12 | 1 << 3) == 1 << 14 | 1 << 12  # sources V, measures I, no compliance
    desk.say(":SENS:CURR:PROT 1E-6")
    assert int(desk.numbers(":READ?")[4]) & (1 << 3)


def test_2400_measures_only_with_its_output_on():
    desk = Desk("2400")
    assert desk.say(":READ?") == ""
    assert desk.error() == (803, "Not permitted with OUTPUT off")
    assert desk.say(":SOUR:CLE:AUTO ON", ":READ?") != ""
    assert desk.off()
    assert desk.say(":SOUR:CLE:AUTO OFF", ":MEAS:CURR?") != ""
    assert not desk.off()


def test_2400_refuses_ranges_and_limits_that_do_not_go_together():
    desk = Desk("2400")
    desk.say(":SENS:CURR:RANG 0.01")
    assert desk.error() == (824, "Cannot exceed compliance range")
    desk.say(":SENS:CURR:PROT 1E-12")
    assert desk.error() == (822, "Too small for sense range")
    desk.say(":SENS:VOLT:RANG 2")  # voltage is sourced: it is measured on the range of the source
    assert desk.error() == (-221, "Settings conflict")
    desk.say(":SOUR:VOLT:MODE LIST;:SOUR:VOLT 1;:SOUR:VOLT:MODE FIX")
    assert desk.error() == (-221, "Settings conflict")
    desk.say(":SENS:CURR:PROT 1;:SOUR:VOLT 100")
    assert desk.error() == (826, "Attempt to exceed power limit")


def test_2400_keeps_to_a_fixed_range_of_measurement():
    """The manual's range compliance: the range limits before the limit does, and a status bit of its own says so."""
    desk = Desk("2400")
    desk.say(":SENS:CURR:PROT 1E-4;RANG 1E-6;:SOUR:VOLT 1;:OUTP ON")
    _, amperes, _, _, status = desk.numbers(":READ?")
    assert amperes == pytest.approx(1.05e-6, rel=0.01)
    assert int(status) & (1 << 16 | 1 << 3) == 1 << 16


def test_2400_stores_readings():
    desk = Desk("2400")
    desk.say(":FORM:ELEM CURR;:SOUR:VOLT 1;:TRIG:COUN 4;:TRAC:POIN 4;FEED:CONT NEXT")
    desk.say(":TRAC:CLE")
    assert desk.error() == (800, "Illegal with storage active")
    desk.say(":OUTP ON;:INIT")
    assert desk.numbers(":TRAC:DATA?") == pytest.approx([1e-5] * 4, rel=0.01)
    assert desk.say(":TRAC:FEED:CONT?;:TRAC:POIN:ACT?") == "NEV;4"


def test_keithley_2450():
    desk = Desk("2450")
    assert desk.say("*IDN?").startswith("KEITHLEY INSTRUMENTS,MODEL 2450,MY51140001,")
    assert desk.say(":SYST:ERR?") == '0,"No error;0;0 0"'
    assert desk.say(":SOUR:VOLT:ILIM?;:SOUR:FUNC?;:SENS:FUNC?;*LANG?") == '1.050000E-04;VOLT;"CURR:DC";SCPI'
    desk.say(":BOGUS 1")
    assert desk.say(":SYST:ERR?").startswith('-113,"Undefined header;1;')
    assert desk.numbers(":READ?") == [9.91e37]  # nothing to read with the output off
    assert desk.numbers(":SOUR:VOLT 0.5;:OUTP ON", ":READ?") == [pytest.approx(5e-6, rel=0.01)]
    assert desk.numbers(':MEAS:VOLT? "defbuffer1", SOUR, READ') == pytest.approx([0.5, 0.5], rel=0.01)
    assert desk.say(":TRAC:ACT?") == "3"
    assert desk.say(':READ? "defbuffer1", SOURSTAT') == "128"  # output on
    assert desk.say(":SOUR:VOLT:ILIM 1E-6", ':READ? "defbuffer1", SOURSTAT') == "160"  # and limited
    assert desk.say(':TRAC:CLE "defbuffer1"', ":FETC?") == ""
    assert desk.error() == (-230, "Data corrupt or stale")


def test_2450_stops_a_sweep_at_the_limit_unless_told_otherwise():
    """The fourth parameter of a list sweep, failAbort, is on if it is left out."""
    for abort, points in (("", 2), (", 1, OFF", 3)):
        desk = Desk("2450")
        desk.say(":SOUR:VOLT:ILIM 1.5E-6;:SOUR:LIST:VOLT 0.1, 0.2, 0.3", f":SOUR:SWE:VOLT:LIST 1, 0{abort}", ":INIT")
        assert int(desk.say(":TRAC:ACT?")) == points
        assert desk.off()


def test_keithley_2600():
    desk = Desk("2636B")
    assert desk.say("*IDN?") == "Keithley Instruments Inc., Model 2636B, MY51140001, 3.3.5"
    assert desk.say("print(errorqueue.next())") == "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00"
    assert desk.say("print(smua.source.limiti, smua.source.func)") == "1.00000e-01\t1.00000e+00"
    assert desk.say("format.asciiprecision = 10 printnumber(2.54)") == "2.540000000e+00"
    assert desk.say("reset() print(2.54, true, nil, 'text')") == "2.54000e+00\ttrue\tnil\ttext"
    desk.say("smua.source.levelv = 0.5 smua.source.output = smua.OUTPUT_ON")
    assert desk.numbers("print(smua.measure.iv())") == pytest.approx([5e-6, 0.5], rel=0.01)
    assert desk.numbers("print(smua.measure.r())") == [pytest.approx(1e5, rel=0.01)]
    assert desk.say("smua.nvbuffer1.clear() print(smua.nvbuffer1.n)") == "0.00000e+00"


def test_2600_trigger_model():
    desk = Desk("2636B")
    desk.say(
        "smua.nvbuffer1.clear() smua.nvbuffer2.clear()",
        "smua.trigger.source.listv({0.1, 0.2, 0.3, 0.4}) smua.trigger.source.action = smua.ENABLE",
        "smua.trigger.measure.iv(smua.nvbuffer1, smua.nvbuffer2) smua.trigger.measure.action = smua.ENABLE",
        "smua.trigger.endsweep.action = smua.SOURCE_IDLE smua.trigger.count = 4",
        "smua.source.output = smua.OUTPUT_ON smua.trigger.initiate() waitcomplete() smua.source.output = 0",
    )
    amperes = desk.numbers("printbuffer(1, 4, smua.nvbuffer1.readings)")
    assert amperes == pytest.approx([1e-6, 2e-6, 3e-6, 4e-6], rel=0.01)
    assert desk.numbers("printbuffer(1, 4, smua.nvbuffer1.sourcevalues)") == [0.1, 0.2, 0.3, 0.4]
    assert desk.off()


def test_2600_reading_status():
    desk = Desk("2636B")
    desk.say("smua.source.levelv = 1 smua.source.rangev = 2 smua.source.output = 1")
    query = "smua.measure.i(smua.nvbuffer1) printbuffer(1, 1, smua.nvbuffer1.statuses)"
    assert desk.numbers(query) == [0x04]
    assert desk.numbers("smua.measure.rangei = 1e-3 smua.source.autorangev = 1", query) == [0x08]
    assert desk.numbers("smua.source.limiti = 1e-6", query) == [0x48]


def test_2600_enforces_no_sweep_limit_below_a_tenth_of_its_range():
    """The limit's range is fixed for a sweep, by the greater of the normal limit and the sweep's own."""
    for normal, enforced in (("1e-5", 1e-5), ("1e-3", 1e-4)):
        desk = Desk("2636B", ohms=1e3)
        desk.say(
            f"smua.source.limiti = {normal} smua.trigger.source.limiti = 1e-5",
            "smua.trigger.source.listv({1}) smua.trigger.source.action = 1 smua.source.output = 1",
            "smua.trigger.measure.i(smua.nvbuffer1) smua.trigger.measure.action = 1 smua.trigger.initiate()",
            "smua.source.output = 0",
        )
        assert desk.numbers("printbuffer(1, 1, smua.nvbuffer1)") == [pytest.approx(enforced, rel=0.01)]
        assert desk.numbers("print(smua.source.limiti)") == [float(normal)]


def test_tsp_statements():
    desk = Desk("2636B")
    assert desk.say("n = 0 for i = 1, 3 do n = n + i end print(n)") == "6.00000e+00"
    assert desk.say("t = {3, x = 4, [7] = 5} print(t[1] + t.x * t[7], table.getn(t))") == "2.30000e+01\t1.00000e+00"
    assert desk.say("if 1 < 2 and not nil then print('a' .. 1) else print('no') end -- remark") == "a1"
    assert desk.say("local a, b = 1, 2 while a < 10 do a = a * b end print(a, -2 ^ 2)") == "1.60000e+01\t-4.00000e+00"
    assert desk.say("code, text = errorqueue.next() print(text)") == "Queue Is Empty"
    assert desk.say("s = smua s.source.levelv = 0.25 print(smua.source.levelv)") == "2.50000e-01"
    assert desk.say("loadandrunscript", "x = 1", "print(x,", "2)", "endscript") == "1.00000e+00\t2.00000e+00"


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("bogus", -285, "`=' expected near `<eof>'"),
        ("*BOGUS?", -285, "unexpected symbol near `*'"),
        ("print('half", -285, "unfinished string"),
        ("bogus()", -286, "attempt to call global `bogus' (a nil value)"),
        ("x = bogus.part", -286, "attempt to index global `bogus' (a nil value)"),
        ("print(smua.bogus())", -286, "attempt to call field `bogus' (a nil value)"),
        ("smua.source.bogus = 1", -286, "bogus"),
        ("x = 1 + nil", -286, "attempt to perform arithmetic on a nil value"),
        ("while true do x = 1 end", -286, "script aborted"),
        ("x = " + "(" * 5000, -286, "stack overflow"),
        ("smua.source.levelv = 300", 1101, "Parameter too big"),
        ("smua.source.limiti = 0", 1102, "Parameter too small"),
        ("smua.source.rangev = 0.2 smua.source.levelv = 1", 5007, "Value too big for range"),
        ("smua.source.limiti = 1 smua.source.levelv = 100", 5008, "Operation would exceed safe operating area"),
        ("smua.source.levelv = 'high'", 1115, "Parameter error"),
    ],
)
def test_2600_errors(line, code, text):
    desk = Desk("2636B")
    assert desk.say(line) == ""
    found, message = desk.error()
    assert (found, text in message) == (code, True), message
    assert desk.error()[0] == 0


# SCPI --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [":SENS:CURR:PROT", "sens:curr:prot", ":SENSE1:CURRENT:DC:PROTECTION:LEVEL", ":Sens:Curr:DC:Prot:Lev"],
)
def test_headers_have_many_spellings(spelling):
    for model in ("B2902A", "2400"):
        desk = Desk(model)
        assert float(desk.say(f"{spelling} 2 mA", f"{spelling}?")) == 2e-3
        assert desk.error()[0] == 0


def test_joined_commands_share_their_path():
    desk = Desk("2400")
    assert desk.say(":SENS:CURR:PROT 1E-3;RANG 1E-4;:SENS:CURR:PROT?;RANG?") == "1.000000E-03;1.000000E-04"
    assert desk.say(":SENS:CURR:NPLC 2;*OPC?;NPLC?") == "1;2.000000E+00"  # common commands leave the path alone
    assert desk.say(":SENS:CURR:NPLC 1;:NPLC?", ":SYST:ERR?") == '-113,"Undefined header"'


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":BOGUS 1", -113),
        (":SOUR:VOLT:LEVE 1", -113),  # neither the short nor the long form
        (":SYST:ERR", -113),  # only a query
        (":OUTP7 ON", -114),
        (":SOUR:VOLT", -109),
        (":SOUR:VOLT 1,2", -108),
        (":SOUR:VOLT high", -104),
        (":SOUR:VOLT 1 dB", -131),
        (":SOUR:VOLT 1E3", -222),
        (":OUTP MAYBE", -224),
        ("!", -102),
        (":SOUR:VOLT\xe9 1", -102),
    ],
)
@pytest.mark.parametrize("model", ["B2902A", "2450"])
def test_what_cannot_be_understood_is_queued(model, message, code):
    desk = Desk(model)
    assert desk.smu.feed(message.encode("latin-1") + b"\n") == b""
    assert desk.error()[0] == code
    assert desk.error()[0] == 0
    assert int(desk.say("*ESR?")) & (32 if code > -200 else 16)
    assert desk.say("*ESR?") == "0"


def test_the_error_queue_is_bounded_and_cleared():
    desk = Desk("2400")
    desk.say(*[":BOGUS"] * 15)
    codes = [desk.error()[0] for _ in range(11)]
    assert codes == [-113] * 9 + [-350, 0]
    desk.say(":BOGUS", "*RST")
    assert desk.say("*STB?") == "4"
    desk.say("*CLS")
    assert desk.error()[0] == 0
