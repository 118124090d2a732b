"""What the instruments that speak SCPI share: common commands, the error queue, and settings declared in a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rramlab.sim.smus.core import Channel, Refusal, other
from rramlab.sim.smus.instrument import EmulatedSmu, Error, ErrorQueue, SmuFaults
from rramlab.sim.smus.port import Port
from rramlab.sim.smus.scpi import Call, Tree, boolean, choice, number
from rramlab.sim.smus.specification import Direction, Quantity, Specification

NOT_A_NUMBER, INFINITE = 9.91e37, 9.9e37  # SCPI-99, volume 1, section 7.2.1
NAMES: dict[Quantity, str] = {"VOLT": "VOLTage", "CURR": "CURRent"}
LONGEST_s = 999.9999
# SCPI-99, volume 2, section 21.8
STANDARD: dict[str, Error] = {
    "syntax": (-102, "Syntax error"),
    "type": (-104, "Data type error"),
    "extra": (-108, "Parameter not allowed"),
    "missing": (-109, "Missing parameter"),
    "header": (-113, "Undefined header"),
    "suffix": (-114, "Header suffix out of range"),
    "unit": (-131, "Invalid suffix"),
    "trigger": (-213, "Init ignored"),
    "conflict": (-221, "Settings conflict"),
    "range": (-222, "Data out of range"),
    "fixed range": (-222, "Data out of range"),
    "power": (-221, "Settings conflict"),
    "much": (-223, "Too much data"),
    "value": (-224, "Illegal parameter value"),
    "stale": (-230, "Data corrupt or stale"),
}


class ScpiSmu(EmulatedSmu):
    """A tree of commands over channels. Subclasses give their tables, their errors and their formats."""

    errors: ClassVar[dict[str, Error]] = {}  # where the instrument departs from the standard
    queue_size: ClassVar[int]
    overflow: ClassVar[Error] = (-350, "Queue overflow")
    none: ClassVar[str]  # what an empty queue answers

    def __init__(self, specification: Specification, port: Port, serial: str, seed: int, faults: SmuFaults) -> None:
        super().__init__(specification, port, serial, seed, faults)
        self.specification = specification
        self.queue = ErrorQueue(self.queue_size, self.overflow)
        self._events, self._event_mask, self._service_mask = 128, 0, 0  # bit 7: the power was switched on
        self._kept: dict[tuple[str, int], str] = {}
        self._lists: dict[tuple[int, Quantity], list[float]] = {}
        self.chosen_elements: list[str] = []
        self.tree = Tree()
        self._common()
        self.declare()
        self.defaults()
        if faults.queued:
            self._object("conflict")

    # What a family has to say ------------------------------------------------------------------------------------

    def identity(self) -> str:
        raise NotImplementedError

    def declare(self) -> None:
        """Add the family's commands to the tree."""
        raise NotImplementedError

    def defaults(self) -> None:
        """Set what the family keeps beside its channels to its values after reset."""

    def spelled(self, error: Error) -> str:
        return f'{error[0]},"{error[1]}"'

    def numeral(self, value: float) -> str:
        """Return a number as settings are answered: NR3."""
        return f"{value:.6E}"

    # Messages ----------------------------------------------------------------------------------------------------

    def execute(self, line: str) -> str:
        answers = []
        units = self.tree.units(line)
        while True:
            try:
                unit = next(units, None)
                if unit is None:
                    break
                answer = unit()
            except Refusal as refusal:
                # What the instrument cannot read ends the message; what it cannot do, does not.
                if -200 < self._object(refusal.kind) <= -100:
                    break
                continue
            if answer is not None:
                answers.append(answer)
        return ";".join(answers)

    def _object(self, kind: str) -> int:
        error = {**STANDARD, **self.errors}[kind]
        self.queue.put(error)
        code = error[0]
        # Bits of the standard event register: command, execution (Keithley's 800s among them), query, device.
        classes = ((5, -199, -100), (4, -299, -200), (4, 800, 899), (2, -499, -400))
        self._events |= 1 << next((bit for bit, low, high in classes if low <= code <= high), 3)
        return code

    def channel(self, call: Call) -> Channel:
        if not 1 <= call.channel <= len(self.channels):
            raise Refusal("suffix")
        return self.channels[call.channel - 1]

    # Commands that all have --------------------------------------------------------------------------------------

    def _common(self) -> None:
        add = self.tree.add
        add("*IDN", read=self._asked(self.identity))
        add("*RST", self._told(self.reset))
        add("*CLS", self._told(self._clear_status))
        add("*OPC", self._told(self._completed), self._asked(lambda: "1"))
        add("*WAI", self._told(lambda: None))
        add("*TST", read=self._asked(lambda: "0"))
        add("*TRG", self._told(lambda: None))
        add("*ESR", read=self._asked(self._read_events))
        add("*ESE", self._mask("_event_mask"), self._asked(lambda: str(self._event_mask)))
        add("*SRE", self._mask("_service_mask"), self._asked(lambda: str(self._service_mask)))
        add("*STB", read=self._asked(lambda: str(self._status_byte())))
        add(":SYSTem:ERRor[:NEXT]", read=self._asked(self.next_error))
        add(":SYSTem:ERRor:ALL", read=self._asked(self._all_errors))
        add(":SYSTem:ERRor:COUNt", read=self._asked(lambda: str(len(self.queue))))
        add(":SYSTem:VERSion", read=self._asked(lambda: "1999.0"))
        add(":STATus:PRESet", self._told(lambda: None))

    @staticmethod
    def _told(action: Callable[[], None]) -> Callable[[Call], None]:
        def write(call: Call) -> None:
            call.none()
            action()

        return write

    @staticmethod
    def _asked(answer: Callable[[], str]) -> Callable[[Call], str]:
        def read(call: Call) -> str:
            call.none()
            return answer()

        return read

    def _mask(self, name: str) -> Callable[[Call], None]:
        return lambda call: setattr(self, name, int(number(call.one(), 0, 255, 0)))

    def reset(self) -> None:
        for channel in self.channels:
            channel.reset()
        self._kept.clear()
        self._lists.clear()
        self.defaults()

    def _clear_status(self) -> None:
        self._events = 0
        self.queue.clear()

    def _completed(self) -> None:
        self._events |= 1

    def _read_events(self) -> str:
        events, self._events = self._events, 0
        return str(events)

    def _status_byte(self) -> int:
        status = (4 if len(self.queue) else 0) | (32 if self._events & self._event_mask else 0)
        return status | (64 if status & self._service_mask else 0)

    def next_error(self) -> str:
        error = self.queue.next()
        return self.none if error is None else self.spelled(error)

    def _all_errors(self) -> str:
        return ",".join(self.next_error() for _ in range(max(1, len(self.queue))))

    # One line a setting ------------------------------------------------------------------------------------------

    def action(self, pattern: str, do: Callable[[], None]) -> None:
        self.tree.add(pattern, self._told(do))

    def query(self, pattern: str, answer: Callable[[Channel], str]) -> None:
        def read(call: Call) -> str:
            call.none()
            return answer(self.channel(call))

        self.tree.add(pattern, read=read)

    def number(
        self,
        pattern: str,
        get: Callable[[Channel], float],
        put: Callable[[Channel, float], None],
        span: tuple[float, float, float],
        *,
        whole: bool = False,
    ) -> None:
        """Add a number with its minimum, maximum and default; each can be set and asked by name."""

        def write(call: Call) -> None:
            put(self.channel(call), number(call.one(), *span))

        def read(call: Call) -> str:
            value = number(call.one(), *span) if call.arguments else get(self.channel(call))
            return str(int(value)) if whole else self.numeral(value)

        self.tree.add(pattern, write, read)

    def switch(self, pattern: str, get: Callable[[Channel], bool], put: Callable[[Channel, bool], None]) -> None:
        self.tree.add(
            pattern,
            lambda call: put(self.channel(call), boolean(call.one())),
            lambda call: str(int(get(self.channel(call)))),
        )

    def choice(
        self, pattern: str, get: Callable[[Channel], str], put: Callable[[Channel, str], None], *names: str
    ) -> None:
        self.tree.add(
            pattern,
            lambda call: put(self.channel(call), choice(call.one(), names)),
            lambda call: get(self.channel(call)),
        )

    def of(self, name: str) -> tuple[Callable[[Channel], Any], Callable[[Channel, Any], None]]:
        """Return how one setting of a channel's program is read and written."""

        def put(channel: Channel, value: Any) -> None:
            setattr(self.program(channel), name, value)

        return lambda channel: getattr(self.program(channel), name), put

    def program(self, channel: Channel) -> Any:
        """Return what the family keeps for a channel beside its levels and limits."""
        raise NotImplementedError

    def kept(self, pattern: str, default: str, *names: str, allowed: tuple[float, float] | None = None) -> None:
        """Add a setting that changes nothing here and is remembered: a word of ``names``, a number, or a switch."""

        def write(call: Call) -> None:
            text = call.one()
            if names:
                value = choice(text, names)
            elif allowed is not None:
                value = self.numeral(number(text, *allowed, float(default)))
            else:
                value = str(int(boolean(text)))
            self._kept[pattern, self.channel(call).number] = value

        def read(call: Call) -> str:
            value = self._kept.get((pattern, self.channel(call).number))
            return value if value is not None else self.numeral(float(default)) if allowed is not None else default

        self.tree.add(pattern, write, read)

    def elements(self, pattern: str, names: tuple[str, ...]) -> None:
        """Add what a reading is made up of; the order is that of ``names``, however they are asked for."""

        def write(call: Call) -> None:
            chosen = {choice(each, names) for each in call.arguments}
            if not chosen:
                raise Refusal("missing")
            self.chosen_elements = [name for name in (choice(each, names) for each in names) if name in chosen]

        self.tree.add(pattern, write, lambda call: ",".join(self.chosen_elements))

    # Settings of a channel that all families have, under their own headers ---------------------------------------

    def function(self, pattern: str) -> None:
        self.choice(
            pattern,
            lambda c: c.function,
            lambda c, name: c.set_function("CURR" if name == "CURR" else "VOLT"),
            *NAMES.values(),
        )

    def level(self, pattern: str, quantity: Quantity) -> None:
        most = self.specification.highest(quantity)
        bounds = -most, most, 0.0
        self.number(pattern, lambda c: c.level[quantity], lambda c, v: self.set_level(c, quantity, v), bounds)

    def set_level(self, channel: Channel, quantity: Quantity, value: float) -> None:
        channel.set_level(quantity, value)

    def limit(self, pattern: str, quantity: Quantity) -> None:
        default = self.specification.limit_V if quantity == "VOLT" else self.specification.limit_A
        most = self.specification.highest(quantity)
        bounds = -most, most, default
        self.number(pattern, lambda c: c.limit[quantity], lambda c, v: self.set_limit(c, quantity, v), bounds)

    def set_limit(self, channel: Channel, quantity: Quantity, value: float) -> None:
        channel.set_limit(quantity, value)

    def ranges(self, pattern: str, automatic: str, direction: Direction, quantity: Quantity) -> None:
        """Add a range and the switch of its automatic choice; to set a range ends automatic ranging."""
        over = self.specification.source_over if direction == "source" else self.specification.measure_over
        ranges = self.specification.ranges(direction, quantity)
        most = ranges[-1].full * over
        self.number(
            pattern,
            lambda c: c.range_in_use(direction, quantity).full,
            lambda c, v: self.fix_range(c, direction, quantity, v),
            (-most, most, ranges[0].full),
        )
        self.switch(
            automatic,
            lambda c: c.fixed_range(direction, quantity) is None,
            lambda c, on: (c.free_range if on else c.fix_present_range)(direction, quantity),
        )

    def fix_range(self, channel: Channel, direction: Direction, quantity: Quantity, value: float) -> None:
        channel.fix_range(direction, quantity, value)

    def lowest(self, pattern: str, quantity: Quantity) -> None:
        """Add the lowest range that automatic ranging chooses."""
        ranges = self.specification.ranges("measure", quantity)
        default = self.specification.lowest_A if quantity == "CURR" else ranges[0].full
        bounds = ranges[0].full, ranges[-1].full, default
        self.number(pattern, lambda c: c.lowest[quantity], lambda c, v: c.lowest.__setitem__(quantity, v), bounds)

    def nplc(self, pattern: str, shortest: float, longest: float) -> None:
        default = self.specification.nplc
        self.number(pattern, lambda c: c.nplc, lambda c, v: setattr(c, "nplc", v), (shortest, longest, default))

    def source_list(self, pattern: str, quantity: Quantity, at_once: int, longest: int) -> None:
        """Add a list of levels, its ``APPend`` and ``POINts?``; so many values in a command and in all."""

        def values(call: Call) -> list[float]:
            if not call.arguments:
                raise Refusal("missing")
            most = self.specification.highest(quantity)
            levels = [number(each, -most, most, 0.0) for each in call.arguments]
            if len(levels) > at_once:
                raise Refusal("much")
            for level in levels:
                self.channel(call).check_level(quantity, level)
            return levels

        def append(call: Call) -> None:
            levels = self.listed(self.channel(call), quantity) + values(call)
            if len(levels) > longest:
                raise Refusal("much")
            self._lists[self.channel(call).number, quantity] = levels

        def replace(call: Call) -> None:
            self._lists[self.channel(call).number, quantity] = values(call)

        def read(call: Call) -> str:
            call.none()
            return ",".join(map(self.numeral, self.listed(self.channel(call), quantity)))

        self.tree.add(pattern, replace, read)
        self.tree.add(f"{pattern}:APPend", append)
        self.query(f"{pattern}:POINts", lambda c: str(len(self.listed(c, quantity))))

    def listed(self, channel: Channel, quantity: Quantity) -> list[float]:
        return self._lists.get((channel.number, quantity), [])

    def tripped(self, pattern: str, quantity: Quantity) -> None:
        self.query(pattern, lambda c: str(int(c.limited and other(c.function) == quantity)))
