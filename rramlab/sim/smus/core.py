"""One channel of a source-measure unit: levels, limits, ranges and the errors that its serial number hides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from rramlab.sim import randomness
from rramlab.sim.smus.port import Port
from rramlab.sim.smus.specification import Direction, Quantity, Range, Specification

LINE_HZ = 50.0
SETTLING_s = 1e-3  # from a new setting to a steady output (assumed; data sheets say 0.1 ms to some ms)
DRAWN_SHARE = 0.8  # gains and offsets are drawn within this share of the specification …
HEADROOM = 1.01  # the converter reads a little beyond its range: a limit with its error must not look like an overflow
NOISE_SHARE = 0.03  # … and noise has this share of the offset as its standard deviation at one power-line cycle
_ERRORS, _NOISE = 60, 61  # purposes of random streams, beside those of `randomness`


class Refusal(Exception):
    """What was asked cannot be done: an entry of the error queue, looked up by ``kind`` among the instrument's own."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True)
class Reading:
    """One measurement: V, A and s; infinite where a fixed range was exceeded. ``level`` is what was programmed."""

    volts: float
    amperes: float
    function: Quantity
    level: float
    time_s: float
    limited: bool

    @property
    def ohms(self) -> float:
        return self.volts / self.amperes if self.amperes else math.inf

    def over(self, quantity: Quantity) -> bool:
        return math.isinf(self.volts if quantity == "VOLT" else self.amperes)


class OpenTerminals:
    """A port with nothing on it: what the second channel of a pair is wired to."""

    def __init__(self) -> None:
        self._readings = 0

    def next_reading(self) -> int:
        self._readings += 1
        return self._readings - 1

    def force_voltage(
        self, volts: float, limit_A: float, span_s: float, aperture_s: float = 0.0
    ) -> tuple[float, float]:
        return volts, 0.0

    def force_current(
        self, amperes: float, limit_V: float, span_s: float, aperture_s: float = 0.0
    ) -> tuple[float, float]:
        return math.copysign(limit_V, amperes), 0.0

    def release(self) -> None:
        return


def other(quantity: Quantity) -> Quantity:
    return "CURR" if quantity == "VOLT" else "VOLT"


class Channel:
    """What every family has in common. Values that the hardware cannot give raise ``Refusal`` and change nothing."""

    def __init__(self, specification: Specification, port: Port, seed: int, number: int) -> None:
        self.specification, self._port, self._seed, self.number = specification, port, seed, number
        self.clock_s = 0.0  # simulated time since power-up
        self.output = False
        self.over_every, self._measured = 0, 0  # a fault: every n-th thing that is measured lies beyond the range
        self._defaults()

    def _defaults(self) -> None:
        spec = self.specification
        self.function: Quantity = "VOLT"
        self.level: dict[Quantity, float] = {"VOLT": 0.0, "CURR": 0.0}
        self.limit: dict[Quantity, float] = {"VOLT": spec.limit_V, "CURR": spec.limit_A}
        self._fixed: dict[tuple[Direction, Quantity], int] = {}
        self.lowest: dict[Quantity, float] = {"VOLT": 0.0, "CURR": spec.lowest_A}
        self.nplc, self.delay_s = spec.nplc, 0.0
        self.limited = False

    def reset(self) -> None:
        self.set_output(False)
        self._defaults()

    def set_output(self, on: bool) -> None:
        if self.output and not on:
            self._port.release()
            self.limited = False
        switched_on = on and not self.output
        self.output = on
        if switched_on:
            self._force(SETTLING_s)

    def set_function(self, function: Quantity) -> None:
        """Choose what is sourced. The output is switched off first, as all families do or ask for."""
        if function != self.function:
            self.set_output(False)
            self.function = function

    def set_level(self, quantity: Quantity, value: float) -> None:
        """Program a level (V or A); it is at the terminals at once if that quantity is sourced and the output is on."""
        self.check_level(quantity, value)
        self.level[quantity] = value
        self.settle()

    def check_level(self, quantity: Quantity, value: float) -> None:
        if abs(value) > self.specification.highest(quantity):
            raise Refusal("range")
        fixed = self.fixed_range("source", quantity)
        if fixed is not None and abs(value) > fixed.full * self.specification.source_over:
            raise Refusal("fixed range")
        if quantity == self.function:
            self._check_power(quantity, abs(value), self.limit[other(quantity)])

    def set_limit(self, quantity: Quantity, value: float) -> None:
        """Limit the quantity that is not sourced to ± ``value`` (V or A, magnitude)."""
        if abs(value) > self.specification.highest(quantity):
            raise Refusal("range")
        if quantity != self.function:
            self._check_power(self.function, abs(self.level[self.function]), abs(value))
        self.limit[quantity] = abs(value)
        self.settle()

    def _check_power(self, sourced: Quantity, level: float, limit: float) -> None:
        volts, amperes = (level, limit) if sourced == "VOLT" else (limit, level)
        if not any(volts <= most_V and amperes <= most_A for most_V, most_A in self.specification.envelope):
            raise Refusal("power")

    def fixed_range(self, direction: Direction, quantity: Quantity) -> Range | None:
        """Return the range that was chosen, or None while ranging is automatic."""
        index = self._fixed.get((direction, quantity))
        return None if index is None else self.specification.ranges(direction, quantity)[index]

    def fix_range(self, direction: Direction, quantity: Quantity, value: float) -> None:
        """Fix the lowest range that holds ``value``."""
        ranges = self.specification.ranges(direction, quantity)
        over = self.specification.source_over if direction == "source" else self.specification.measure_over
        index = next((index for index, each in enumerate(ranges) if abs(value) <= each.full * over * (1 + 1e-9)), None)
        if index is None:
            raise Refusal("range")
        if direction == "source" and abs(self.level[quantity]) > ranges[index].full * over:
            raise Refusal("conflict")
        self._fixed[direction, quantity] = index
        self.settle()

    def fix_present_range(self, direction: Direction, quantity: Quantity) -> None:
        """Stop automatic ranging where it stands."""
        if (direction, quantity) not in self._fixed:
            self.fix_range(direction, quantity, self.range_in_use(direction, quantity).full)

    def free_range(self, direction: Direction, quantity: Quantity) -> None:
        """Choose ranges automatically."""
        self._fixed.pop((direction, quantity), None)
        self.settle()

    def range_in_use(self, direction: Direction, quantity: Quantity) -> Range:
        """Return the range in which the present level is sourced, or within which the limit lets readings be."""
        value = self.level[quantity] if direction == "source" else self.limit[quantity]
        return self.specification.ranges(direction, quantity)[self._index(direction, quantity, value)]

    def _index(self, direction: Direction, quantity: Quantity, value: float) -> int:
        ranges = self.specification.ranges(direction, quantity)
        if direction == "measure" and quantity == self.function:
            # What is sourced is measured on the range of the source.
            full = self.range_in_use("source", quantity).full
            return next(i for i, each in enumerate(ranges) if each.full == full)
        if (direction, quantity) in self._fixed:
            return self._fixed[direction, quantity]
        over = self.specification.source_over if direction == "source" else self.specification.measure_over
        lowest = self.lowest[quantity] if direction == "measure" else 0.0
        fits = (i for i, each in enumerate(ranges) if abs(value) <= each.full * over and each.full >= lowest * 0.999)
        return next(fits, len(ranges) - 1)

    def measure(self, delay_s: float | None = None) -> Reading:
        """Wait, integrate for ``nplc`` power-line cycles, and return what the instrument believes.

        With the output off nothing is forced, and the readings are those of 0 V and 0 A.
        """
        aperture = self.nplc / LINE_HZ
        span = (self.delay_s if delay_s is None else delay_s) + aperture
        volts, amperes = self._force(span, aperture) if self.output else self._pass(span)
        return Reading(
            self._read("VOLT", volts),
            self._read("CURR", amperes),
            self.function,
            self.level[self.function],
            self.clock_s,
            self.limited,
        )

    def go(self, value: float) -> None:
        """Program the next level of a sweep, already checked; it is there when time passes next."""
        self.level[self.function] = value

    def wait(self, span_s: float) -> None:
        """Let simulated time pass with the output as it is."""
        if self.output:
            self._force(span_s)
        else:
            self._pass(span_s)

    def settle(self) -> None:
        """Let the output come to what is programmed, if it is on."""
        if self.output:
            self._force(SETTLING_s)

    def _pass(self, span_s: float) -> tuple[float, float]:
        self.clock_s += span_s
        return 0.0, 0.0

    def _force(self, span_s: float, aperture_s: float = 0.0) -> tuple[float, float]:
        self.clock_s += span_s
        limited = other(self.function)
        limit = self.limit[limited]
        fixed = self.fixed_range("measure", limited)
        if self.specification.clamps and fixed is not None:
            limit = min(limit, fixed.full * self.specification.measure_over)
        level = self._with_errors("source", self.function, self.level[self.function])
        # However small the limit and however its error falls, a magnitude remains.
        true_limit = max(self._with_errors("source", limited, limit), limit * 1e-3)
        if self.function == "VOLT":
            volts, amperes = self._port.force_voltage(level, true_limit, span_s, aperture_s)
        else:
            volts, amperes = self._port.force_current(level, true_limit, span_s, aperture_s)
        self.limited = abs(amperes if limited == "CURR" else volts) >= true_limit * (1 - 1e-6)
        return volts, amperes

    def _with_errors(self, direction: Direction, quantity: Quantity, value: float) -> float:
        index = self._index(direction, quantity, value)
        accuracy = self.specification.ranges(direction, quantity)[index].accuracy
        gain, offset = _errors(self._seed, self.number, direction, quantity, index)
        return value * (1 + gain * accuracy.share) + offset * accuracy.offset

    def _read(self, quantity: Quantity, true: float) -> float:
        index = self._index("measure", quantity, true)
        span = self.specification.ranges("measure", quantity)[index]
        self._measured += quantity != self.function
        faulty = self.over_every and quantity != self.function and self._measured % self.over_every == 0
        if faulty or abs(true) > span.full * self.specification.measure_over * HEADROOM:
            return math.copysign(math.inf, true)
        noise = randomness.normals(self._seed, _NOISE, self.number, self._port.next_reading(), 1)[0]
        sigma = NOISE_SHARE * span.accuracy.offset / math.sqrt(self.nplc)
        return self._with_errors("measure", quantity, true) + sigma * float(noise)


@cache
def _errors(seed: int, channel: int, direction: Direction, quantity: Quantity, index: int) -> tuple[float, float]:
    """Return gain and offset of one range as shares of its specification, within ± ``DRAWN_SHARE``."""
    draw = ((channel * 2 + (direction == "source")) * 2 + (quantity == "VOLT")) * 32 + index
    gain, offset = (DRAWN_SHARE * (2 * randomness.uniforms(seed, _ERRORS, draw, 0, 2) - 1)).tolist()
    return gain, offset
