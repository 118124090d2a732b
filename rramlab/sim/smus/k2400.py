"""Keithley 2400, after the 2400 Series User's Manual (2400S-900-01): lists up to 2500 points, 100 a command."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from rramlab.sim.smus.core import Channel, Reading, Refusal, other
from rramlab.sim.smus.instrument import Error
from rramlab.sim.smus.scpi import Call, choice, number
from rramlab.sim.smus.scpismu import INFINITE, NAMES, NOT_A_NUMBER, LONGEST_s, ScpiSmu
from rramlab.sim.smus.specification import Direction, Quantity

AT_ONCE, MOST_POINTS = 100, 2500
ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus")
FUNCTIONS = ("VOLTage", "CURRent", "RESistance")
AUTO_DELAY_s = 1e-3  # the automatic delay of the ranges in use here (user's manual, table 3-4)
# Bits of the status word (user's manual, FORMat:ELEMents).
OVERFLOW, FRONT, COMPLIANCE, RANGE_COMPLIANCE = 0, 2, 3, 16
MEASURED = {"VOLT": 11, "CURR": 12, "RES": 13}
SOURCED = {"VOLT": 14, "CURR": 15}


@dataclass
class _Program:
    measured: set[str] = field(default_factory=lambda: {"CURR"})
    concurrent: bool = True
    volt_mode: str = "FIX"
    curr_mode: str = "FIX"
    trigger_count: float = 1
    trigger_delay: float = 0.0
    arm_count: float = 1
    delay: float = AUTO_DELAY_s
    delay_auto: bool = True
    clear_auto: bool = False
    clear_mode: str = "ALW"
    feed: str = "NEV"
    points: float = 100
    data: list[Reading] = field(default_factory=list)
    stored: list[Reading] = field(default_factory=list)


class K2400(ScpiSmu):
    queue_size: ClassVar[int] = 10
    none: ClassVar[str] = '0,"No error"'
    errors: ClassVar[dict[str, Error]] = {
        "range": (-222, "Parameter data out of range"),
        "fixed range": (-222, "Parameter data out of range"),
        "storing": (800, "Illegal with storage active"),
        "off": (803, "Not permitted with OUTPUT off"),
        "small": (822, "Too small for sense range"),
        "compliance range": (824, "Cannot exceed compliance range"),
        "power": (826, "Attempt to exceed power limit"),
    }

    def identity(self) -> str:
        return f"KEITHLEY INSTRUMENTS INC.,MODEL {self.model},{self.serial},C34 Sep 21 2016 15:30:00/A02  /V/M"

    def defaults(self) -> None:
        self._program = _Program()
        self.chosen_elements = [choice(name, ELEMENTS) for name in ELEMENTS]

    def program(self, channel: Channel) -> _Program:
        return self._program

    def declare(self) -> None:
        self._sources()
        self._senses()
        self._triggers()
        self._storage()
        self._system()
        for quantity in NAMES:
            self._quantity(quantity)

    def _sources(self) -> None:
        self.switch(":OUTPut#[:STATe]", lambda c: c.output, lambda c, on: c.set_output(on))
        self.kept(":OUTPut#:SMODe", "NORM", "HIMPedance", "NORMal", "ZERO", "GUARd")
        self.function(":SOURce#:FUNCtion[:MODE]")
        self.kept(":SOURce#:VOLTage:PROTection[:LEVel]", "210", allowed=(-210, 210))
        self.action(":SOURce#:CLEar[:IMMediate]", lambda: self.channels[0].set_output(False))
        self.switch(":SOURce#:CLEar:AUTO", *self.of("clear_auto"))
        self.choice(":SOURce#:CLEar:AUTO:MODE", *self.of("clear_mode"), "ALWays", "TCOunt")
        self.number(":SOURce#:DELay", self.of("delay")[0], self._fix_delay, (0, LONGEST_s, 0))
        self.switch(":SOURce#:DELay:AUTO", *self.of("delay_auto"))

    def _fix_delay(self, channel: Channel, value: float) -> None:
        self._program.delay, self._program.delay_auto = value, False

    def _senses(self) -> None:
        def switch_on(call: Call) -> None:
            program = self._program
            chosen = self._named(call)
            if not program.concurrent and len(chosen) > 1:
                raise Refusal("conflict")
            program.measured = program.measured | chosen if program.concurrent else chosen

        def switch_off(call: Call) -> None:
            self._program.measured -= self._named(call)

        def measured() -> str:
            long = {"VOLT": '"VOLT:DC"', "CURR": '"CURR:DC"', "RES": '"RES"'}
            return ",".join(text for name, text in long.items() if name in self._program.measured)

        add = self.tree.add
        add("[:SENSe#]:FUNCtion[:ON]", switch_on, lambda call: measured())
        add("[:SENSe#]:FUNCtion:OFF", switch_off)
        self.action("[:SENSe#]:FUNCtion[:ON]:ALL", lambda: self._program.measured.update(("VOLT", "CURR", "RES")))
        self.action("[:SENSe#]:FUNCtion:OFF:ALL", lambda: self._program.measured.clear())
        self.switch("[:SENSe#]:FUNCtion:CONCurrent", *self.of("concurrent"))
        self.kept("[:SENSe#]:AVERage[:STATe]", "0")
        self.kept("[:SENSe#]:RESistance:MODE", "MAN", "MANual", "AUTO")

    @staticmethod
    def _named(call: Call) -> set[str]:
        if not call.arguments:
            raise Refusal("missing")
        return {choice(each.upper().replace(":DC", ""), FUNCTIONS) for each in call.arguments}

    def _quantity(self, quantity: Quantity) -> None:
        name = NAMES[quantity]
        source, sense = f":SOURce#:{name}", f"[:SENSe#]:{name}[:DC]"
        self.level(f"{source}[:LEVel][:IMMediate][:AMPLitude]", quantity)
        self.ranges(f"{source}:RANGe", f"{source}:RANGe:AUTO", "source", quantity)
        self.choice(f"{source}:MODE", *self.of(f"{quantity.lower()}_mode"), "FIXed", "LIST")
        self.source_list(f":SOURce#:LIST:{name}", quantity, AT_ONCE, MOST_POINTS)
        self.limit(f"{sense}:PROTection[:LEVel]", quantity)
        self.tripped(f"{sense}:PROTection:TRIPped", quantity)
        self.ranges(f"{sense}:RANGe[:UPPer]", f"{sense}:RANGe:AUTO", "measure", quantity)
        self.lowest(f"{sense}:RANGe:AUTO:LLIMit", quantity)
        self.nplc(f"{sense}:NPLCycles", 0.01, 10.0)

    def fix_range(self, channel: Channel, direction: Direction, quantity: Quantity, value: float) -> None:
        if direction == "measure" and quantity == channel.function:
            raise Refusal("conflict")  # the range of the source is the range of its measurement
        if direction == "measure":
            # The limit's own range is the highest that may be measured on.
            over, ranges = self.specification.measure_over, self.specification.measure[quantity]
            highest = next((each.full for each in ranges if channel.limit[quantity] <= each.full * over), math.inf)
            if abs(value) > highest * over:
                raise Refusal("compliance range")
        super().fix_range(channel, direction, quantity, value)

    def set_level(self, channel: Channel, quantity: Quantity, value: float) -> None:
        if getattr(self._program, f"{quantity.lower()}_mode") != "FIX":
            raise Refusal("conflict")  # the manual: only for a fixed source
        super().set_level(channel, quantity, value)

    def set_limit(self, channel: Channel, quantity: Quantity, value: float) -> None:
        fixed = channel.fixed_range("measure", quantity)
        smallest = (fixed or self.specification.measure[quantity][0]).full * 1e-3
        if abs(value) < smallest * (1 - 1e-9):
            raise Refusal("small")
        super().set_limit(channel, quantity, value)

    def _triggers(self) -> None:
        self.number(":TRIGger:COUNt", *self.of("trigger_count"), (1, MOST_POINTS, 1), whole=True)
        self.number(":ARM:COUNt", *self.of("arm_count"), (1, MOST_POINTS, 1), whole=True)
        self.number(":TRIGger:DELay", *self.of("trigger_delay"), (0, LONGEST_s, 0))
        self.kept(":TRIGger:SOURce", "IMM", "IMMediate")
        self.kept(":ARM:SOURce", "IMM", "IMMediate")
        self.action(":TRIGger:CLEar", lambda: None)
        self.action(":ABORt", lambda: None)  # nothing runs on after the command that started it
        self.action(":INITiate[:IMMediate]", self._initiate)
        add = self.tree.add
        add(":FETCh", read=self._answer(lambda: None))
        add(":READ", read=self._answer(self._initiate))
        add(":MEASure", read=self._answer(lambda: self._measure(None)))
        add("[:SENSe#]:DATA[:LATest]", read=lambda call: self._text(self._have()[-1:]))
        for name in FUNCTIONS:
            node = name if name == "RESistance" else f"{name}[:DC]"
            short = choice(name, FUNCTIONS)
            add(f":CONFigure:{node}", self._configured(short))
            add(f":MEASure:{node}", read=self._answer(self._measuring(short)))

    def _answer(self, do: Callable[[], None]) -> Callable[[Call], str]:
        def read(call: Call) -> str:
            call.none()
            do()
            return self._text(self._have())

        return read

    def _have(self) -> list[Reading]:
        if not self._program.data:
            raise Refusal("stale")
        return self._program.data

    def _configured(self, function: str) -> Callable[[Call], None]:
        def write(call: Call) -> None:
            call.none()
            self._configure(function)

        return write

    def _measuring(self, function: str) -> Callable[[], None]:
        return lambda: self._measure(function)

    def _configure(self, function: str | None) -> None:
        """Prepare one reading; the output is switched on by it."""
        program = self._program
        if function is not None:
            program.measured = program.measured | {function} if program.concurrent else {function}
        program.trigger_count = program.arm_count = 1
        self.channels[0].set_output(True)

    def _measure(self, function: str | None) -> None:
        self._configure(function)
        self._initiate()

    def _initiate(self) -> None:
        """Run the trigger model: source, delay, measure, so many times."""
        program, channel = self._program, self.channels[0]
        points = int(program.trigger_count * program.arm_count)
        if not (channel.output or program.clear_auto):
            raise Refusal("off")
        if points > MOST_POINTS:
            raise Refusal("conflict")
        function = channel.function
        levels = self.listed(channel, function) if getattr(program, f"{function.lower()}_mode") == "LIST" else []
        delay = program.trigger_delay + (AUTO_DELAY_s if program.delay_auto else program.delay)
        program.data = []
        for point in range(points):
            if levels:
                channel.go(levels[point % len(levels)])
            channel.set_output(True)
            program.data.append(channel.measure(delay))
            if program.clear_auto and program.clear_mode == "ALW":
                channel.set_output(False)
        if program.clear_auto:
            channel.set_output(False)
        if program.feed == "NEXT":
            program.stored = (program.stored + program.data)[: int(program.points)]
            if len(program.stored) == program.points:
                program.feed = "NEV"

    def _storage(self) -> None:
        def points(channel: Channel, value: float) -> None:
            self._idle()
            self._program.points, self._program.stored = int(value), []

        def control(channel: Channel, value: str) -> None:
            if value == "NEXT":
                self._program.stored = []
            self._program.feed = value

        self.number(":TRACe:POINts", self.of("points")[0], points, (1, MOST_POINTS, 100), whole=True)
        self.query(":TRACe:POINts:ACTual", lambda c: str(len(self._program.stored)))
        self.kept(":TRACe:FEED", "SENS", "SENSe", "SENS1")
        self.choice(":TRACe:FEED:CONTrol", self.of("feed")[0], control, "NEVer", "NEXT")
        self.action(":TRACe:CLEar", self._clear_storage)
        self.tree.add(":TRACe:DATA", read=lambda call: self._text(self._program.stored))

    def _idle(self) -> None:
        if self._program.feed == "NEXT":
            raise Refusal("storing")

    def _clear_storage(self) -> None:
        self._idle()
        self._program.stored = []

    def _system(self) -> None:
        self.elements(":FORMat:ELEMents[:SENSe#]", ELEMENTS)
        self.kept(":FORMat[:DATA]", "ASC", "ASCii")
        self.action(":SYSTem:CLEar", self.queue.clear)
        self.action(":SYSTem:PRESet", self.reset)
        self.action(":SYSTem:TIME:RESet", lambda: None)
        self.query(":STATus:QUEue[:NEXT]", lambda c: self.next_error())
        self.kept(":SYSTem:RSENse", "0")
        self.kept(":SYSTem:AZERo[:STATe]", "1", "ON", "OFF", "1", "0", "ONCE")
        self.kept(":SYSTem:BEEPer:STATe", "1")
        self.kept(":SYSTem:LFRequency", "50", allowed=(50, 60))
        self.kept(":ROUTe:TERMinals", "FRON", "FRONt", "REAR")
        self.kept(":DISPlay:ENABle", "1")

        def beep(call: Call) -> None:
            if len(call.arguments) != 2:
                raise Refusal("extra" if len(call.arguments) > 2 else "missing")
            for each, most in zip(call.arguments, (2e6, 7.9), strict=True):
                number(each, 0, most, 0)

        self.tree.add(":SYSTem:BEEPer[:IMMediate]", beep)

    def _text(self, readings: list[Reading]) -> str:
        return ",".join(f"{self._element(name, each):+.6E}" for each in readings for name in self.chosen_elements)

    def _element(self, element: str, reading: Reading) -> float:
        measured = self._program.measured
        value = NOT_A_NUMBER
        if element == "TIME":
            value = reading.time_s
        elif element == "STAT":
            value = float(self._status(reading))
        elif element in measured:
            value = {"VOLT": reading.volts, "CURR": reading.amperes, "RES": reading.ohms}[element]
        elif element == reading.function:
            value = reading.level  # not measured: what was programmed
        return math.copysign(INFINITE, value) if math.isinf(value) else value

    def _status(self, reading: Reading) -> int:
        channel, limited = self.channels[0], other(reading.function)
        fixed = channel.fixed_range("measure", limited)
        at_range = fixed is not None and fixed.full * self.specification.measure_over < channel.limit[limited]
        bits = {FRONT, SOURCED[reading.function], *(MEASURED[each] for each in self._program.measured)}
        if reading.limited:
            bits.add(RANGE_COMPLIANCE if at_range else COMPLIANCE)
        if reading.over("VOLT") or reading.over("CURR"):
            bits.add(OVERFLOW)
        return sum(1 << bit for bit in bits)
