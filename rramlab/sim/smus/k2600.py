"""Keithley 2600B series, after its Reference Manual (2600BS-901-01): the instrument's part of a TSP environment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rramlab.sim.smus.core import Refusal
from rramlab.sim.smus.instrument import EmulatedSmu, ErrorQueue, SmuFaults
from rramlab.sim.smus.luavalues import Several, Table, TspRuntimeError, TspSyntaxError, kind
from rramlab.sim.smus.port import Port
from rramlab.sim.smus.specification import Quantity, Specification
from rramlab.sim.smus.tsp import run
from rramlab.sim.smus.tspchannel import ChannelSpace
from rramlab.sim.smus.tspspace import Buffer, Column, Constant, Setting, Space, whole, within

OVERFLOW = 9.91e37  # what a reading beyond a fixed range is printed as
# Reference manual, section 8, error summary list.
ERRORS = {
    "range": (1101, "Parameter too big"),
    "small": (1102, "Parameter too small"),
    "conflict": (1114, "Settings conflict"),
    "parameter": (1115, "Parameter error"),
    "fixed range": (5007, "Value too big for range"),
    "power": (5008, "Operation would exceed safe operating area of the instrument"),
}
RECOVERABLE, NODE = 20.0, 1.0


class K2600(EmulatedSmu):
    """Lines are chunks of Lua; what stands between ``loadandrunscript`` and ``endscript`` is one chunk."""

    def __init__(self, specification: Specification, port: Port, serial: str, seed: int, faults: SmuFaults) -> None:
        super().__init__(specification, port, serial, seed, faults)
        self.queue = ErrorQueue(100, (-350, "Queue overflow"))
        self._script: list[str] | None = None
        self._printed: list[str] = []
        self._events = 128
        self._timer_s, self._precision = 0.0, 6.0
        self._spaces = [ChannelSpace(each, self._guard) for each in self.channels]
        self._environment = self._globals()
        if faults.queued:
            self._object("conflict")

    # Lines -------------------------------------------------------------------------------------------------------

    def execute(self, line: str) -> str:
        self._printed = []
        if line == "abort":
            self._script = None  # nothing else runs on after the line that started it
        elif self._script is not None:
            if line == "endscript":
                text, self._script = "\n".join(self._script), None
                self._run(text)
            else:
                self._script.append(line)
        elif line.split()[0] == "loadandrunscript":
            self._script = []
        elif line.startswith("*"):
            self._common(line.upper())
        else:
            self._run(line)
        return "\n".join(self._printed)

    def _run(self, text: str) -> None:
        try:
            run(text, self._environment)
        except TspSyntaxError as error:
            self._put((-285, str(error)))
        except TspRuntimeError as error:
            self._put((-286, str(error)))
        except RecursionError:
            self._put((-286, "TSP Runtime error at line 1: stack overflow"))

    def _put(self, error: tuple[int, str]) -> None:
        self.queue.put(error)
        self._events |= 1 << (4 if -300 < error[0] <= -200 else 3)

    def _object(self, what: str) -> None:
        self._put(ERRORS[what])

    def _common(self, line: str) -> None:
        answers = {
            "*IDN?": f"Keithley Instruments Inc., Model {self.model}, {self.serial}, 3.3.5",
            "*OPC?": "1",
            "*TST?": "0",
            "*ESR?": str(self._events),
            "*STB?": "4" if len(self.queue) else "0",
        }
        if line in answers:
            self._printed.append(answers[line])
            self._events = 0 if line == "*ESR?" else self._events
        elif line == "*RST":
            self._reset()
        elif line == "*CLS":
            self.queue.clear()
            self._events = 0
        elif line == "*OPC":
            self._events |= 1
        elif line not in ("*WAI", "*TRG"):
            self._put((-285, "TSP Syntax error at line 1: unexpected symbol near `*'"))

    def _reset(self) -> None:
        for space in self._spaces:
            space.reset()
        self._precision = 6.0

    # What a chunk finds ------------------------------------------------------------------------------------------

    def _globals(self) -> Space:
        def precision(value: Any) -> None:
            if whole(value) not in range(17):
                raise Refusal("parameter")
            self._precision = value

        def timer_reset() -> None:
            self._timer_s = self.clock_s

        def completed() -> None:
            self._events |= 1

        constant: Callable[[Any], Constant] = Constant

        def nothing(*arguments: Any) -> None:
            return

        space = Space(self._guard, "", grows=True)
        space.fill(
            print=self._print,
            printbuffer=self._print_buffer,
            printnumber=lambda *values: self._line(", ".join(map(self._spelled, values))),
            reset=lambda *arguments: self._reset(),
            waitcomplete=nothing,
            opc=completed,
            delay=self._delay,
            errorqueue=self._space("errorqueue").fill(
                next=self._next_error,
                clear=self.queue.clear,
                count=Setting(lambda: float(len(self.queue))),
            ),
            localnode=self._space("localnode").fill(
                model=constant(self.model),
                serialno=constant(self.serial),
                revision=constant("3.3.5"),
                description=constant(f"Keithley Instruments SMU {self.model} - {self.serial}"),
                linefreq=50.0,
                autolinefreq=True,
                prompts=0.0,
                showerrors=0.0,
            ),
            format=self._space("format").fill(
                asciiprecision=Setting(lambda: self._precision, precision), data=1.0, ASCII=constant(1.0)
            ),
            beeper=self._space("beeper").fill(enable=1.0, beep=nothing),
            display=self._space("display").fill(
                clear=nothing, settext=nothing, setcursor=nothing, screen=0.0, SMUA=constant(0.0), SMUB=constant(1.0)
            ),
            timer=self._space("timer").fill(
                reset=timer_reset,
                measure=self._space("timer.measure").fill(t=lambda: self.clock_s - self._timer_s),
            ),
            status=self._space("status").fill(reset=nothing),
            table=self._space("table").fill(getn=lambda table: float(len(table)), insert=self._insert),
            tonumber=lambda value: value if isinstance(value, float) else float(value),
            tostring=self._spelled,
            math=self._space("math").fill(
                abs=abs, sqrt=math.sqrt, floor=lambda x: float(math.floor(x)), max=max, min=min, pi=constant(math.pi)
            ),
            SweepVListMeasureI=lambda *given: self._sweep_list("VOLT", *given),
            SweepIListMeasureV=lambda *given: self._sweep_list("CURR", *given),
            SweepVLinMeasureI=lambda *given: self._sweep_linear("VOLT", *given),
            SweepILinMeasureV=lambda *given: self._sweep_linear("CURR", *given),
        )
        return space.fill(**{each.name: each.space for each in self._spaces})

    def _space(self, name: str) -> Space:
        return Space(self._guard, name)

    def _guard(self, do: Callable[[], Any]) -> Any:
        """Carry out part of a chunk; what the hardware refuses stands in the queue, and the chunk goes on."""
        try:
            return do()
        except Refusal as refusal:
            self._object(refusal.kind)
            return None

    @staticmethod
    def _insert(table: Any, value: Any) -> None:
        if not isinstance(table, Table):
            raise Refusal("parameter")
        table.set(float(len(table) + 1), value)

    def _delay(self, span_s: Any) -> None:
        for channel in self.channels:
            channel.wait(within(span_s, 0, 1e5))

    def _next_error(self) -> Several:
        error = self.queue.next()
        if error is None:
            return Several((0.0, "Queue Is Empty", 0.0, NODE))
        return Several((float(error[0]), error[1], RECOVERABLE, NODE))

    # Factory script KISweep --------------------------------------------------------------------------------------

    def _sweep_list(self, quantity: Quantity, smu: Any, levels: Any, settle_s: Any, points: Any) -> None:
        """Run over a list; the output is on for that long only. Readings are left in ``nvbuffer1``."""
        space = next((each for each in self._spaces if each.space is smu), None)
        if space is None or not isinstance(levels, Table) or not isinstance(settle_s, float):
            raise Refusal("parameter")
        values = levels.listed()[: whole(points)]
        if len(values) < 2:
            raise Refusal("parameter")
        space.sweep_once(quantity, values, settle_s)

    def _sweep_linear(
        self, quantity: Quantity, smu: Any, start: float, stop: float, settle_s: Any, points: Any
    ) -> None:
        count = whole(points)
        if count < 2:
            raise Refusal("parameter")
        values = [start + (stop - start) * n / (count - 1) for n in range(count)]
        self._sweep_list(quantity, smu, Table(values), settle_s, points)

    # Printing ----------------------------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self._printed.append(text)

    def _spelled(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            if math.isinf(value):
                value = math.copysign(OVERFLOW, value)
            return f"{value:.{max(int(self._precision) - 1, 0)}e}"
        return "nil" if value is None else value if isinstance(value, str) else f"{kind(value)}: 0x00000000"

    def _print(self, *values: Any) -> None:
        self._line("\t".join(map(self._spelled, values)))

    def _print_buffer(self, first: Any, last: Any, *columns: Any) -> None:
        start, stop = whole(first), whole(last)
        wanted = [each.readings if isinstance(each, Buffer) else each for each in columns]
        if start < 1 or not wanted or not all(isinstance(each, Column) for each in wanted):
            raise Refusal("parameter")
        stop = min([stop, *(len(each.values) for each in wanted)])
        self._line(", ".join(self._spelled(each.values[n - 1]) for n in range(start, stop + 1) for each in wanted))
