"""Keithley 2450, after its Reference Manual (2450-901-01): reading buffers, and sweeps that end with the output off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from rramlab.sim.smus.core import Channel, Reading, Refusal, other
from rramlab.sim.smus.instrument import Error
from rramlab.sim.smus.scpi import Call, boolean, choice, number, unquoted
from rramlab.sim.smus.scpismu import INFINITE, NAMES, NOT_A_NUMBER, ScpiSmu
from rramlab.sim.smus.specification import Quantity

AT_ONCE, MOST_POINTS, BUFFER_POINTS = 100, 2500, 100_000
LONGEST_DELAY_s = 1e4
FUNCTIONS = ("VOLTage", "CURRent", "RESistance")
ELEMENTS = ("READing", "SOURce", "RELative", "STATus", "SOURSTATus", "UNIT", "SOURUNIT")
UNITS = {"VOLT": "Volt DC", "CURR": "Amp DC", "RES": "Ohm"}
LIMITED, OUTPUT_ON = 32, 128  # bits of the source status (reference manual, page 8-29)
AUTO_DELAY_s = 1e-3  # the automatic delay of the ranges in use here
POWER_UP = datetime(2024, 1, 1, tzinfo=UTC)  # the calendar of the event log starts here: simulated time has none


@dataclass(frozen=True)
class _Point:
    """A reading as a buffer keeps it."""

    reading: Reading
    measured: str
    read_back: bool
    output: bool


@dataclass(frozen=True)
class _Sweep:
    """A trigger model that was made by one of the sweep commands."""

    function: Quantity
    levels: tuple[float, ...]
    delay_s: float
    count: int
    abort: bool
    buffer: str


@dataclass
class _Program:
    measured: str = "CURR"
    count: float = 1
    delay: float = 0.0
    delay_auto: bool = True
    read_back: bool = True
    sweep: _Sweep | None = None
    buffers: dict[str, list[_Point]] = field(default_factory=lambda: {"defbuffer1": [], "defbuffer2": []})


class K2450(ScpiSmu):
    queue_size: ClassVar[int] = 1000
    none: ClassVar[str] = '0,"No error;0;0 0"'
    errors: ClassVar[dict[str, Error]] = {
        "range": (-222, "Parameter data out of range"),
        "fixed range": (-222, "Parameter data out of range"),
    }

    def identity(self) -> str:
        return f"KEITHLEY INSTRUMENTS,MODEL {self.model},{self.serial},1.7.12b"

    def spelled(self, error: Error) -> str:
        moment = POWER_UP + timedelta(seconds=self.clock_s)
        return f'{error[0]},"{error[1]};1;{moment:%Y/%m/%d %H:%M:%S}.{moment.microsecond // 1000:03d}"'

    def defaults(self) -> None:
        self._program = _Program()

    def program(self, channel: Channel) -> _Program:
        return self._program

    def declare(self) -> None:
        self._measurements()
        self._buffers()
        self._system()
        for quantity in NAMES:
            self._quantity(quantity)
            self._sweeps(quantity)

    def _quantity(self, quantity: Quantity) -> None:
        name = NAMES[quantity]
        source, sense = f":SOURce#:{name}", f"[:SENSe#]:{name}[:DC]"
        self.level(f"{source}[:LEVel][:IMMediate][:AMPLitude]", quantity)
        self.ranges(f"{source}:RANGe", f"{source}:RANGe:AUTO", "source", quantity)
        self.number(f"{source}:DELay", self.of("delay")[0], self._fix_delay, (0, LONGEST_DELAY_s, 0))
        self.switch(f"{source}:DELay:AUTO", *self.of("delay_auto"))
        self.switch(f"{source}:READ:BACK", *self.of("read_back"))
        self.kept(f"{source}:HIGH:CAPacitance", "0")
        limit = f"{source}:ILIMit[:LEVel]" if quantity == "VOLT" else f"{source}:VLIMit[:LEVel]"
        self.limit(limit, other(quantity))
        self.query(f"{limit}:TRIPped", lambda c: str(int(c.limited and c.function == quantity)))
        self.source_list(f":SOURce#:LIST:{name}", quantity, AT_ONCE, MOST_POINTS)
        self.ranges(f"{sense}:RANGe[:UPPer]", f"{sense}:RANGe:AUTO", "measure", quantity)
        self.lowest(f"{sense}:RANGe:AUTO:LLIMit", quantity)
        self.nplc(f"{sense}:NPLCycles", 0.01, 10.0)
        self.kept(f"{sense}:RSENse", "0")
        self.kept(f"{sense}:AZERo[:STATe]", "1")
        self.kept(f"{sense}:AVERage[:STATe]", "0")
        self.kept(f":OUTPut#:{name}:SMODe", "NORM", "NORMal", "HIMPedance", "ZERO", "GUARd")

    def _fix_delay(self, channel: Channel, value: float) -> None:
        self._program.delay, self._program.delay_auto = value, False

    def _measurements(self) -> None:
        self.switch(":OUTPut#[:STATe]", lambda c: c.output, lambda c, on: c.set_output(on))
        self.function(":SOURce#:FUNCtion[:MODE]")
        self.number("[:SENSe#]:COUNt", *self.of("count"), (1, 300_000, 1), whole=True)
        add = self.tree.add
        add("[:SENSe#]:FUNCtion[:ON]", lambda call: self._select(call.one()), lambda call: self._selected())
        add(":READ", read=lambda call: self._read(call, None))
        add(":MEASure", read=lambda call: self._read(call, None))
        for name in FUNCTIONS:
            node = name if name == "RESistance" else f"{name}[:DC]"
            add(f":MEASure:{node}", read=self._reading(name))
        add(":FETCh", read=self._fetch)
        self.action(":INITiate[:IMMediate]", self._initiate)
        self.action(":ABORt", lambda: None)  # nothing runs on after the command that started it
        self.query(":TRIGger:STATe", lambda c: "IDLE;IDLE;0" if self._program.sweep else "EMPTY;EMPTY;0")

    def _select(self, text: str) -> None:
        self._program.measured = choice(unquoted(text).upper().replace(":DC", ""), FUNCTIONS)

    def _selected(self) -> str:
        measured = self._program.measured
        return f'"{measured}"' if measured == "RES" else f'"{measured}:DC"'

    def _reading(self, function: str) -> Callable[[Call], str]:
        return lambda call: self._read(call, function)

    def _read(self, call: Call, function: str | None) -> str:
        if function is not None:
            self._select(function)
        buffer, elements = self._buffer(call.arguments), self._elements(call.arguments[1:])
        for _ in range(int(self._program.count)):
            self._take(buffer)
        return self._text(buffer[-1:], elements)

    def _fetch(self, call: Call) -> str:
        buffer = self._buffer(call.arguments)
        if not buffer:
            raise Refusal("stale")
        return self._text(buffer[-1:], self._elements(call.arguments[1:]))

    def _take(self, buffer: list[_Point], delay_s: float = 0.0) -> Reading:
        program, channel = self._program, self.channels[0]
        reading = channel.measure(delay_s + (AUTO_DELAY_s if program.delay_auto else program.delay))
        if len(buffer) == BUFFER_POINTS:
            del buffer[0]
        buffer.append(_Point(reading, program.measured, program.read_back, channel.output))
        return reading

    # Sweeps ------------------------------------------------------------------------------------------------------

    def _sweeps(self, quantity: Quantity) -> None:
        name = NAMES[quantity]

        def levels(arguments: tuple[str, ...], least: int) -> list[float]:
            if len(arguments) < least:
                raise Refusal("missing")
            most = self.specification.highest(quantity)
            return [number(each, -most, most, 0.0) for each in arguments[:2]]

        def listed(call: Call) -> None:
            values = self.listed(self.channel(call), quantity)
            start = int(number(call.arguments[0], 1, max(1, len(values)), 1)) if call.arguments else 1
            if not values:
                raise Refusal("conflict")
            self._plan(call, quantity, values[start - 1 :], call.arguments[1:])

        def linear(call: Call) -> None:
            start, stop = levels(call.arguments, 3)
            points = int(number(call.arguments[2], 2, BUFFER_POINTS, 2))
            values = [start + (stop - start) * n / (points - 1) for n in range(points)]
            self._plan(call, quantity, values, self._without_range(call.arguments[3:]))

        def stepped(call: Call) -> None:
            start, stop = levels(call.arguments, 3)
            step = number(call.arguments[2], 1e-12, 420, 1)
            if abs(stop - start) / step > BUFFER_POINTS:
                raise Refusal("much")
            values = [start + math.copysign(step, stop - start) * n for n in range(int(abs(stop - start) / step + 1.5))]
            self._plan(call, quantity, values, self._without_range(call.arguments[3:]))

        self.tree.add(f":SOURce#:SWEep:{name}:LIST", listed)
        self.tree.add(f":SOURce#:SWEep:{name}:LINear", linear)
        self.tree.add(f":SOURce#:SWEep:{name}:LINear:STEP", stepped)

    @staticmethod
    def _without_range(arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Return delay, count, abort and buffer of a linear sweep; it has a range type and a way back besides."""
        if len(arguments) > 2:
            choice(arguments[2], ("AUTO", "BEST", "FIXed"))
        if len(arguments) > 4 and boolean(arguments[4]):
            raise Refusal("value")
        return tuple(each for n, each in enumerate(arguments) if n not in (2, 4))

    def _plan(self, call: Call, quantity: Quantity, values: list[float], rest: tuple[str, ...]) -> None:
        if len(rest) > 4:
            raise Refusal("extra")
        delay = number(rest[0], -1, LONGEST_DELAY_s, 0) if len(rest) > 0 else 0.0
        count = int(number(rest[1], 1, 268435455, 1)) if len(rest) > 1 else 1
        abort = boolean(rest[2]) if len(rest) > 2 else True
        buffer = unquoted(rest[3]) if len(rest) > 3 else "defbuffer1"
        self._named(buffer)
        if len(values) * count > BUFFER_POINTS:
            raise Refusal("much")
        channel = self.channel(call)
        for value in values:
            channel.check_level(quantity, value)
        self._program.sweep = _Sweep(quantity, tuple(values), max(delay, 0.0), count, abort, buffer)

    def _initiate(self) -> None:
        """Run the sweep: output on, each level and its reading, output off."""
        sweep, channel = self._program.sweep, self.channels[0]
        if sweep is None or sweep.function != channel.function:
            raise Refusal("conflict")
        buffer = self._named(sweep.buffer)
        buffer.clear()
        before = channel.level[sweep.function]
        channel.set_output(True)
        for value in sweep.levels * sweep.count:
            channel.go(value)
            if self._take(buffer, sweep.delay_s).limited and sweep.abort:
                break
        channel.set_output(False)
        channel.go(before)

    # Buffers -----------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> list[_Point]:
        if name not in self._program.buffers:
            raise Refusal("value")
        return self._program.buffers[name]

    def _buffer(self, arguments: tuple[str, ...]) -> list[_Point]:
        return self._named(unquoted(arguments[0]) if arguments else "defbuffer1")

    @staticmethod
    def _elements(arguments: tuple[str, ...]) -> list[str]:
        return [choice(each, ELEMENTS) for each in arguments] or ["READ"]

    def _buffers(self) -> None:
        def data(call: Call) -> str:
            if len(call.arguments) < 2:
                raise Refusal("missing")
            buffer = self._buffer(call.arguments[2:])
            first, last = (int(number(each, 1, max(1, len(buffer)), 1)) for each in call.arguments[:2])
            if not buffer or last < first:
                raise Refusal("stale" if not buffer else "range")
            return self._text(buffer[first - 1 : last], self._elements(call.arguments[3:]))

        def make(call: Call) -> None:
            if len(call.arguments) < 2:
                raise Refusal("missing")
            number(call.arguments[1], 10, 6.5e6, 10)
            self._program.buffers[unquoted(call.arguments[0])] = []

        def points(call: Call) -> None:
            number(call.arguments[0] if call.arguments else "", 10, 6.5e6, 10)
            self._buffer(call.arguments[1:]).clear()

        add = self.tree.add
        add(":TRACe:CLEar", lambda call: self._buffer(call.arguments).clear())
        add(":TRACe:MAKE", make)
        add(":TRACe:POINts", points, lambda call: str(BUFFER_POINTS))
        add(":TRACe:ACTual", read=lambda call: str(len(self._buffer(call.arguments))))
        add(":TRACe:DATA", read=data)
        add(":TRACe:TRIGger", lambda call: self._trigger(call))

    def _trigger(self, call: Call) -> None:
        for _ in range(int(self._program.count)):
            self._take(self._buffer(call.arguments))

    def _text(self, points: list[_Point], elements: list[str]) -> str:
        return ",".join(self._element(element, point) for point in points for element in elements)

    def _element(self, element: str, point: _Point) -> str:
        reading, function = point.reading, point.reading.function
        values = {"VOLT": reading.volts, "CURR": reading.amperes, "RES": reading.ohms}
        if element == "READ":
            # With the output off there is nothing to read.
            value = values[point.measured] if point.output else NOT_A_NUMBER
        elif element == "SOUR":
            value = values[function] if point.read_back and point.output else reading.level
        elif element == "REL":
            value = reading.time_s
        elif element == "UNIT":
            return UNITS[point.measured]
        elif element == "SOURUNIT":
            return UNITS[function]
        elif element == "STAT":
            return "0"
        else:
            return str((LIMITED if reading.limited else 0) | (OUTPUT_ON if point.output else 0))
        return self.numeral(math.copysign(INFINITE, value) if math.isinf(value) else value)

    def _system(self) -> None:
        self.query(":SYSTem:EVENtlog:NEXT", lambda c: self.next_error())
        self.tree.add(":SYSTem:EVENtlog:COUNt", read=lambda call: str(len(self.queue)))
        self.action(":SYSTem:CLEar", self.queue.clear)
        self.kept("*LANG", "SCPI", "SCPI")
        self.kept(":FORMat[:DATA]", "ASC", "ASCii")
        self.kept(":FORMat:ASCii:PRECision", "0", allowed=(0, 16))
        self.kept(":ROUTe:TERMinals", "FRON", "FRONt", "REAR")
        self.kept(":SYSTem:LFRequency", "50", allowed=(50, 60))
        self.tree.add(":SYSTem:BEEPer[:IMMediate]", lambda call: None)
        self.tree.add(":DISPlay:SCReen", lambda call: None)
