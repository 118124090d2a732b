"""One channel as TSP shows it: smua or smub with its source, its measurements, its buffers and its trigger model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rramlab.sim.smus.core import Channel, Reading, Refusal, SETTLING_s, other
from rramlab.sim.smus.luavalues import Several, Table
from rramlab.sim.smus.specification import Direction, Quantity
from rramlab.sim.smus.tspspace import CAPACITY, Buffer, Constant, Guard, Setting, Space, whole, within

LONGEST_s = 1e5
LETTERS: dict[str, Quantity] = {"v": "VOLT", "i": "CURR"}
MEASURE_RANGED, SOURCE_RANGED, COMPLIANCE = 0x04, 0x08, 0x40  # status bits of a reading (reference manual, page 7-31)
CONSTANTS = {
    "OUTPUT_OFF": 0, "OUTPUT_ON": 1, "OUTPUT_HIGH_Z": 2, "OUTPUT_NORMAL": 0, "OUTPUT_ZERO": 1,
    "OUTPUT_DCAMPS": 0, "OUTPUT_DCVOLTS": 1, "AUTORANGE_OFF": 0, "AUTORANGE_ON": 1, "DISABLE": 0, "ENABLE": 1,
    "AUTOZERO_OFF": 0, "AUTOZERO_ONCE": 1, "AUTOZERO_AUTO": 2, "SENSE_LOCAL": 0, "SENSE_REMOTE": 1,
    "SOURCE_IDLE": 0, "SOURCE_HOLD": 1, "DELAY_OFF": 0, "DELAY_AUTO": -1, "LIMIT_AUTO": 0,
}  # fmt: skip


@dataclass
class _Program:
    """The trigger model, and delays, of one channel."""

    source_delay: float = 0.0
    measure_delay: float = 0.0
    count: float = 1.0
    trigger_count: float = 1.0
    arm_count: float = 1.0
    source_action: float = 0.0
    measure_action: float = 0.0
    limiti: float = 0.0
    limitv: float = 0.0
    endpulse_action: float = 1.0
    endsweep_action: float = 0.0
    swept: Quantity = "VOLT"
    levels: list[float] = field(default_factory=list)
    stores: list[tuple[str, Buffer]] = field(default_factory=list)


class ChannelSpace:
    """The table ``smua`` or ``smub`` over a channel."""

    def __init__(self, channel: Channel, guard: Guard) -> None:
        self.channel, self._guard = channel, guard
        self.name = f"smu{'ab'[channel.number - 1]}"
        self.space = Space(guard, self.name)
        self._buffers = {name: Buffer(guard) for name in ("nvbuffer1", "nvbuffer2")}
        self._fill()

    def reset(self) -> None:
        self.channel.reset()
        self._fill()

    def _fill(self) -> None:
        self._program = _Program()
        self.space.fill(
            **{name: Constant(float(value)) for name, value in CONSTANTS.items()},
            **{name: Constant(buffer) for name, buffer in self._buffers.items()},
            source=self._source(),
            measure=self._measure(),
            trigger=self._trigger(),
            sense=0.0,
            reset=self.reset,
            abort=lambda: None,  # nothing runs on after the line that started it
            makebuffer=lambda size: Buffer(self._guard),
        )

    def _part(self, name: str) -> Space:
        return Space(self._guard, f"{self.name}.{name}")

    def _of(self, name: str, least: float, most: float) -> Setting:
        """Return a number of the program, in bounds."""
        return Setting(
            lambda: getattr(self._program, name),
            lambda value: setattr(self._program, name, within(value, least, most)),
        )

    # Source ------------------------------------------------------------------------------------------------------

    def _source(self) -> Space:
        channel = self.channel

        def output(value: Any) -> None:
            channel.set_output(within(value, 0, 2) == 1)

        def function(value: Any) -> None:
            channel.set_function("VOLT" if within(value, 0, 1) else "CURR")

        space = self._part("source").fill(
            func=Setting(lambda: float(channel.function == "VOLT"), function),
            output=Setting(lambda: float(channel.output), output),
            compliance=Setting(lambda: channel.limited),
            delay=self._of("source_delay", -1, LONGEST_s),
            offmode=0.0,
            offlimiti=1e-3,
            offlimitv=40.0,
            offfunc=1.0,
            settling=0.0,
            highc=0.0,
            sink=0.0,
        )
        for letter, quantity in LETTERS.items():
            space.fill(**{f"level{letter}": self._level(quantity), f"limit{letter}": self._limit(quantity)})
            space.fill(**self._ranges("source", letter, quantity))
        return space

    def _level(self, quantity: Quantity) -> Setting:
        channel = self.channel
        return Setting(lambda: channel.level[quantity], lambda value: channel.set_level(quantity, _number(value)))

    def _limit(self, quantity: Quantity) -> Setting:
        channel = self.channel

        def put(value: Any) -> None:
            channel.set_limit(quantity, within(value, 1e-12, float("inf")))

        return Setting(lambda: channel.limit[quantity], put)

    def _ranges(self, direction: Direction, letter: str, quantity: Quantity) -> dict[str, Setting]:
        channel = self.channel

        def automatic(value: Any) -> None:
            (channel.free_range if within(value, 0, 2) else channel.fix_present_range)(direction, quantity)

        def lowest(value: Any) -> None:
            if direction == "measure":
                channel.lowest[quantity] = _number(value)

        return {
            f"range{letter}": Setting(
                lambda: channel.range_in_use(direction, quantity).full,
                lambda value: channel.fix_range(direction, quantity, _number(value)),
            ),
            f"autorange{letter}": Setting(lambda: float(channel.fixed_range(direction, quantity) is None), automatic),
            f"lowrange{letter}": Setting(lambda: channel.lowest[quantity], lowest),
        }

    # Measurements ------------------------------------------------------------------------------------------------

    def _measure(self) -> Space:
        channel = self.channel
        space = self._part("measure").fill(
            nplc=Setting(lambda: channel.nplc, lambda value: setattr(channel, "nplc", within(value, 0.001, 25))),
            delay=self._of("measure_delay", -1, LONGEST_s),
            count=self._of("count", 1, 60_000),
            interval=0.0,
            delayfactor=1.0,
            autozero=2.0,
            iv=lambda *buffers: self._readings("iv", buffers),
            filter=self._part("measure.filter").fill(enable=0.0, count=1.0, type=1.0),
            rel=self._part("measure.rel").fill(enablei=0.0, enablev=0.0, leveli=0.0, levelv=0.0),
        )
        for letter, quantity in LETTERS.items():
            space.fill(**self._ranges("measure", letter, quantity))
        for letter in "vipr":
            space.fill(**{letter: self._reader(letter)})
        return space

    def _reader(self, letter: str) -> Callable[..., Any]:
        return lambda *buffers: self._readings(letter, buffers)

    def _readings(self, letters: str, buffers: tuple[Any, ...]) -> Several:
        """Measure as often as ``measure.count`` says, and return the last readings in the order of ``letters``."""
        stores = self._stores(letters, buffers)
        for _, buffer in stores:
            buffer.begin()
        reading = None
        for _ in range(int(self._program.count)):
            reading = self.channel.measure(max(self._program.measure_delay, 0.0))
            self._keep(reading, stores)
        return Several(_value(reading, letter) for letter in letters if reading is not None)

    @staticmethod
    def _stores(letters: str, buffers: tuple[Any, ...]) -> list[tuple[str, Buffer]]:
        if len(buffers) > len(letters) or not all(isinstance(each, Buffer) for each in buffers):
            raise Refusal("parameter")
        return list(zip(letters, buffers, strict=False))

    def _keep(self, reading: Reading, stores: list[tuple[str, Buffer]]) -> None:
        source = SOURCE_RANGED if self.channel.fixed_range("source", reading.function) is None else 0
        for letter, buffer in stores:
            quantity = LETTERS.get(letter, "CURR")
            ranged = MEASURE_RANGED if self.channel.fixed_range("measure", quantity) is None else 0
            status = ranged | source | (COMPLIANCE if reading.limited else 0)
            buffer.store(_value(reading, letter), reading.level, reading.time_s, status)

    # Sweeps ------------------------------------------------------------------------------------------------------

    def _trigger(self) -> Space:
        source, measure = self._part("trigger.source"), self._part("trigger.measure")
        for letter, quantity in LETTERS.items():
            source.fill(**{f"list{letter}": self._lister(quantity), f"linear{letter}": self._liner(quantity)})
        for letters in ("v", "i", "iv", "r", "p"):
            measure.fill(**{letters: self._storer(letters)})
        return self._part("trigger").fill(
            count=self._of("trigger_count", 1, 1e6),
            arm=self._part("trigger.arm").fill(count=self._of("arm_count", 1, 1e6), stimulus=0.0),
            source=source.fill(
                action=self._of("source_action", 0, 1),
                limiti=self._of("limiti", 0, self.channel.specification.highest("CURR")),
                limitv=self._of("limitv", 0, self.channel.specification.highest("VOLT")),
                stimulus=0.0,
            ),
            measure=measure.fill(action=self._of("measure_action", 0, 1), stimulus=0.0),
            endpulse=self._part("trigger.endpulse").fill(action=self._of("endpulse_action", 0, 1), stimulus=0.0),
            endsweep=self._part("trigger.endsweep").fill(action=self._of("endsweep_action", 0, 1)),
            initiate=self._initiate,
        )

    def _lister(self, quantity: Quantity) -> Callable[[Any], None]:
        def put(table: Any) -> None:
            if not isinstance(table, Table) or not len(table):
                raise Refusal("parameter")
            self._swept(quantity, table.listed())

        return put

    def _liner(self, quantity: Quantity) -> Callable[[Any, Any, Any], None]:
        def put(start: Any, stop: Any, points: Any) -> None:
            count, first, last = whole(points), _number(start), _number(stop)
            if count < 2:
                raise Refusal("small")
            self._swept(quantity, [first + (last - first) * n / (count - 1) for n in range(count)])

        return put

    def _swept(self, quantity: Quantity, levels: list[Any]) -> None:
        for level in levels:
            self.channel.check_level(quantity, _number(level))
        self._program.swept, self._program.levels = quantity, levels

    def _storer(self, letters: str) -> Callable[..., None]:
        def put(*buffers: Any) -> None:
            self._program.stores = self._stores(letters, buffers)

        return put

    def _initiate(self) -> None:
        """Run the trigger model. It switches nothing on or off: that is left to the script around it."""
        program, channel = self._program, self.channel
        before = channel.level[channel.function]
        sourcing = program.source_action == 1 and program.levels
        if sourcing and program.swept != channel.function:
            raise Refusal("conflict")
        points = int(program.trigger_count * program.arm_count)
        if points > CAPACITY:
            raise Refusal("range")
        for _, buffer in program.stores:
            buffer.begin()
        limited, normal = other(channel.function), channel.limit[other(channel.function)]
        channel.limit[limited] = self._sweep_limit(limited)
        for point in range(points):
            if sourcing:
                channel.go(program.levels[int(point % program.trigger_count) % len(program.levels)])
            delay = max(program.source_delay, 0.0) + max(program.measure_delay, 0.0)
            if program.measure_action == 1:
                self._keep(channel.measure(delay), program.stores)
            else:
                channel.wait(max(delay, SETTLING_s))
            if program.endpulse_action == 0:
                channel.go(before)
                channel.settle()
        channel.limit[limited] = normal
        if program.endsweep_action == 0:
            channel.go(before)
        channel.settle()

    def _sweep_limit(self, quantity: Quantity) -> float:
        """Return the limit during a sweep: no less than a tenth of the range that the greater of the two limits needs."""
        normal = self.channel.limit[quantity]
        wanted = (self._program.limiti if quantity == "CURR" else self._program.limitv) or normal
        ranges = self.channel.specification.source[quantity]
        over = self.channel.specification.source_over
        full = next((each.full for each in ranges if max(normal, wanted) <= each.full * over), ranges[-1].full)
        return max(wanted, full / 10)

    def sweep_once(self, quantity: Quantity, levels: list[Any], settle_s: float) -> None:
        """Do what the factory's list sweeps do: output on, each level and its reading, output off, settings back."""
        channel, buffer = self.channel, self._buffers["nvbuffer1"]
        for level in levels:
            channel.check_level(quantity, _number(level))
        function, before = channel.function, channel.level[quantity]
        channel.set_output(False)
        channel.set_function(quantity)
        channel.go(0.0)
        buffer.clear()
        channel.set_output(True)
        for level in levels:
            channel.go(level)
            self._keep(channel.measure(settle_s), [("i" if quantity == "VOLT" else "v", buffer)])
        channel.set_output(False)
        channel.go(before)
        channel.set_function(function)


def _number(value: Any) -> float:
    if type(value) is not float or value != value:
        raise Refusal("parameter")
    return value


def _value(reading: Reading, letter: str) -> float:
    if letter == "p":
        return reading.volts * reading.amperes
    return {"v": reading.volts, "i": reading.amperes, "r": reading.ohms}[letter]
