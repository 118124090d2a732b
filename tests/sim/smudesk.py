"""An emulated source-measure unit, a resistor on its terminals, and the same requests in each language."""

from __future__ import annotations

from rramlab.sim.smus import SmuFaults, make_smu

MODELS = ("B2902A", "2400", "2450", "2636B")


class Resistor:
    """A load that keeps what was done to it."""

    def __init__(self, ohms=100e3):
        self.ohms, self.done, self.apertures, self.releases, self.readings = ohms, [], [], 0, 0

    def force_voltage(self, volts, limit_A, span_s, aperture_s=0.0):
        self.apertures.append(aperture_s)
        amperes = max(-limit_A, min(limit_A, volts / self.ohms))
        self.done.append(("V", volts, limit_A, span_s))
        self.true = amperes * self.ohms, amperes
        return self.true

    def force_current(self, amperes, limit_V, span_s, aperture_s=0.0):
        self.apertures.append(aperture_s)
        volts = max(-limit_V, min(limit_V, amperes * self.ohms))
        self.done.append(("I", amperes, limit_V, span_s))
        self.true = volts, volts / self.ohms
        return self.true

    def next_reading(self):
        self.readings += 1
        return self.readings - 1

    def release(self):
        self.releases += 1


class Desk:
    """An instrument, its load, and a way to talk."""

    def __init__(self, model, ohms=100e3, serial="MY51140001", seed=1, faults=None):
        self.port = Resistor(ohms)
        self.smu = make_smu(model, self.port, serial, seed, faults or SmuFaults())

    def say(self, *lines):
        """Return the last answer of these lines, without its line feed."""
        answer = b""
        for line in lines:
            answer = self.smu.feed(line.encode() + b"\n")
        return answer.decode().rstrip("\n")

    def numbers(self, *lines):
        return [float(each) for each in self.say(*lines).replace("\t", ",").split(",")]

    def error(self):
        """Return code and text of the oldest error."""
        if self.smu.model == "2636B":
            code, text, _severity, _node = self.say("print(errorqueue.next())").split("\t")
            return int(float(code)), text
        code, text = self.say(":SYST:ERR?").split(",", 1)
        return int(code), text.strip('"').split(";")[0]

    def off(self):
        return not self.smu.output_on


# How each family is told the same things: set up, one reading of (V, A), and a sweep over a list.
SETUP = {
    "B2902A": [
        "*RST",
        ":SOUR:FUNC:MODE VOLT",
        ":SENS:CURR:PROT {limit}",
        ":SENS:CURR:NPLC 1;:SENS:CURR:RANG:AUTO:LLIM MIN",
        ":FORM:ELEM:SENS VOLT,CURR",
    ],
    "2400": [
        "*RST",
        ":SOUR:FUNC VOLT",
        ":SENS:FUNC 'VOLT','CURR'",
        ":SENS:CURR:PROT {limit}",
        ":FORM:ELEM VOLT,CURR",
        ":SENS:CURR:NPLC 1",
    ],
    "2450": [
        "*RST",
        ":SOUR:FUNC VOLT",
        ':SENS:FUNC "CURR"',
        ":SOUR:VOLT:ILIM {limit}",
        ":SENS:CURR:NPLC 1",
    ],
    "2636B": [
        "smua.reset()",
        "smua.source.func = smua.OUTPUT_DCVOLTS",
        "smua.source.limiti = {limit}",
        "smua.measure.nplc = 1",
    ],
}
LEVEL = {
    "B2902A": ":SOUR:VOLT {volts}",
    "2400": ":SOUR:VOLT {volts}",
    "2450": ":SOUR:VOLT {volts}",
    "2636B": "smua.source.levelv = {volts}",
}
ON = {"B2902A": ":OUTP ON", "2400": ":OUTP ON", "2450": ":OUTP ON", "2636B": "smua.source.output = smua.OUTPUT_ON"}
OFF = {"B2902A": ":OUTP OFF", "2400": ":OUTP OFF", "2450": ":OUTP OFF", "2636B": "smua.source.output = smua.OUTPUT_OFF"}
READ = {
    "B2902A": ":MEAS?",
    "2400": ":READ?",
    "2450": ':READ? "defbuffer1", SOUR, READ',
    "2636B": "i, v = smua.measure.iv() print(v, i)",
}
TRIPPED = {
    "B2902A": ":SENS:CURR:PROT:TRIP?",
    "2400": ":SENS:CURR:PROT:TRIP?",
    "2450": ":SOUR:VOLT:ILIM:TRIP?",
    "2636B": "print(smua.source.compliance)",
}
# Each is one list sweep that the instrument runs by itself, and leaves with its output off; pairs of (level, A).
SWEEP = {
    "B2902A": [
        ":SOUR:VOLT:MODE LIST;:SOUR:LIST:VOLT {levels}",
        ":TRIG:COUN {points};:OUTP:OFF:AUTO ON",
        ":FORM:ELEM:SENS CURR,SOUR",
        ":INIT (@1)",
        ":FETC:ARR? (@1)",
    ],
    "2400": [
        ":SOUR:VOLT:MODE LIST;:SOUR:LIST:VOLT {levels}",
        ":TRIG:COUN {points};:SOUR:CLE:AUTO ON;AUTO:MODE TCO",
        ":SENS:FUNC:OFF 'VOLT'",
        ":READ?",
    ],
    "2450": [
        ":SOUR:LIST:VOLT {levels}",
        ":SOUR:SWE:VOLT:LIST 1, 1E-3, 1, OFF",
        ":INIT",
        '*WAI;:TRAC:DATA? 1, {points}, "defbuffer1", SOUR, READ',
    ],
    "2636B": [
        "SweepVListMeasureI(smua, {{{levels}}}, 1E-3, {points})",
        "printbuffer(1, smua.nvbuffer1.n, smua.nvbuffer1.sourcevalues, smua.nvbuffer1.readings)",
    ],
}
SWEEP_ORDER = {"B2902A": (1, 0), "2400": (0, 1), "2450": (0, 1), "2636B": (0, 1)}  # where level and current stand


def set_up(model, volts, limit="1E-3", **desk):
    desk = Desk(model, **desk)
    desk.say(*(line.format(limit=limit) for line in SETUP[model]), LEVEL[model].format(volts=volts), ON[model])
    return desk
