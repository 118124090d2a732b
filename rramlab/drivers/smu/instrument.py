"""A source-measure unit: one class that does what a driver file says, whatever the make."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, NoReturn

import numpy as np

from rramlab.base.errors import InstrumentError, Refused, UsageError
from rramlab.base.units import show
from rramlab.drivers.links import Link
from rramlab.drivers.smu.conversation import IN_DOUBT, Conversation, Tick, nothing
from rramlab.drivers.smu.readings import Floats, Reading, SmuIdentity, SweepCurve, SweepProgram
from rramlab.drivers.smu.smufile import Errors, Identity, Numbers, SmuFile, State
from rramlab.drivers.smu.templates import Value, fill

MOST_ERRORS = 64  # entries of an error queue that are read; no unit here holds more
_BEYOND = (
    2.0  # times its own limits a unit cannot measure, and SCPI's 9.9E37 (overflow), 9.91E37 (not measured) even less
)

Quantity = Literal["voltage", "current"]


class Smu:
    """A unit at the end of a link. Opening and identifying it never energises.

    Duties: what is beyond the file's limits is refused before anything is sent. After every verb that changes something
    the error queue is read, and an entry is an ``InstrumentError``. ``tick`` is called at least every 0.1 s while an answer
    is awaited. After any failure: ``safe_state()``.

    An adapter is a subclass; it overrides the verbs that templates cannot say and leaves the rest.
    """

    def __init__(self, name: str, file: SmuFile, link: Link, channel: int = 1) -> None:
        if channel not in file.channels:
            raise UsageError(
                f"SMU {name!r}: found channel {channel}, {file.model} has {', '.join(map(str, file.channels))}. Correct the "
                "channel in bench.yaml"
            )
        self.name = name
        self.file = file
        self.link = link
        self.channel = channel
        self.sourcing: Quantity | None = None  # what was chosen last; None: not known
        self.swept: SweepCurve | None = None  # what the last sweep measured, whatever failed after its points came
        self._common: dict[str, Value] = {
            "channel": file.channels[channel],
            "sensing": file.settings.sensing.send,
            "nplc": file.settings.nplc.send,
            "autorange": file.settings.autorange.send,
        }
        question = fill(file.identity.send[-1], self._common)
        self.talk = Conversation(
            f"SMU {name!r} ({file.model}, {link.name})",
            link,
            (file.terminators.send, file.terminators.reply),
            (question, file.identity.reply),
            file.timing.reply,
        )

    def identify(self, tick: Tick | None = None) -> SmuIdentity:
        """Ask who it is.

        Raises:
            InstrumentError: it does not answer, or is none of the units that the file speaks of.
        """
        found, text = self._ask_matching(self.file.identity, "the identity of a unit that this file describes", tick)
        return SmuIdentity(found["model"], found["serial"], found["firmware"], text)

    def reset(self, tick: Tick | None = None) -> None:
        """Bring it to the settings of the file: output off, 0 V, error queue empty."""
        self._tell(self.file.verbs.reset.send, tick)
        self.sourcing = "voltage"

    def source_voltage(self, volts: float, tick: Tick | None = None) -> None:
        """Source ``volts`` as soon as the output is on, or at once where it is."""
        self._within(volts, "V", "the voltage", self.file.limits.voltage)
        self._tell(self.file.verbs.source_voltage.send, tick, volts=float(volts))
        self.sourcing = "voltage"

    def source_current(self, amperes: float, tick: Tick | None = None) -> None:
        """Source ``amperes`` as soon as the output is on, or at once where it is."""
        self._within(amperes, "A", "the current", self.file.limits.current)
        self._tell(self.file.verbs.source_current.send, tick, amperes=float(amperes))
        self.sourcing = "current"

    def compliance(self, amperes: float | None = None, volts: float | None = None, tick: Tick | None = None) -> None:
        """Limit the magnitude of the current while a voltage is sourced, or of the voltage while a current is."""
        limits, verb = self.file.limits, self.file.verbs.compliance
        if (amperes is None) == (volts is None):
            raise UsageError(f"{self.talk.who}: a compliance is either amperes or volts, exactly one of them")
        if amperes is not None:
            self._within(amperes, "A", "the current limit", limits.current, limits.least_current_limit)
            self._tell(verb.sourcing_voltage.send, tick, amperes=float(amperes))
        elif volts is not None:
            self._within(volts, "V", "the voltage limit", limits.voltage, limits.least_voltage_limit)
            self._tell(verb.sourcing_current.send, tick, volts=float(volts))

    def output(self, on: bool, tick: Tick | None = None) -> None:
        """Switch the output."""
        verb = self.file.verbs.output.on if on else self.file.verbs.output.off
        self._tell(verb.send, tick)

    def measure(self, tick: Tick | None = None) -> Reading:
        """Measure voltage and current once.

        Raises:
            UsageError: neither reset nor source chose what is sourced. InstrumentError: what came back is not the answer.
        """
        if self.sourcing is None:
            raise UsageError(f"{self.talk.who} was asked to measure before anything is sourced; reset it first")
        measuring = self.file.verbs.measure
        verb = measuring.sourcing_voltage if self.sourcing == "voltage" else measuring.sourcing_current
        messages = self._filled(verb.send)
        timing = self.file.timing
        answer = self.talk.ask(messages, tick or nothing, timing.reply + timing.point)
        curve = self._numbers(answer, verb.reply, 1)
        if curve.answer is not None:
            columns = verb.reply.columns
            raise self.talk.misunderstood(messages[-1], answer, f"{len(columns)} numbers: {', '.join(columns)}")
        volts, amperes, limited = float(curve.voltage_V[0]), float(curve.current_A[0]), bool(curve.in_compliance[0])
        return Reading(volts, amperes, limited, curve.bad.get(0, ""))

    def sweep(self, program: SweepProgram, tick: Tick | None = None) -> SweepCurve:
        """Have the unit work off ``program`` by itself and return what it measured; its output is off at the end.

        A sweep cannot be taken back, so what came of it is kept: points that are no measurement are marked.

        Raises:
            Refused: a level, the compliance, the dwell or the number of points is beyond the file's limits.
            InstrumentError: the unit refused the program (nothing was energised), or the sweep failed; or it was done, see
            ``swept``, and then the unit reported an error or left its output on.
        """
        self.swept = None
        levels = np.asarray(program.levels_V, dtype=np.float64)
        self._check_program(levels, program)
        verb, timing = self.file.verbs.sweep, self.file.timing
        values: dict[str, Value] = {
            "points": len(levels),
            "dwell": float(program.dwell_s),
            "compliance": float(program.compliance_A),
            "start": float(levels[0]),
            "stop": float(levels[-1]),
            "peak": float(np.abs(levels).max()),
        }
        self.talk.tell([*self._filled(verb.prepare, **values), *self._handed_over(levels)], tick or nothing)
        self.sourcing = "voltage"
        self._tell(verb.arm, tick, **values)
        start = self._filled(verb.start, **values)
        within_s = timing.reply + len(levels) * (program.dwell_s + timing.point)
        answer = self.talk.ask(start, tick or nothing, within_s, garbled=True)
        self.swept = curve = self._numbers(answer, verb.reply, len(levels))
        self._raise_errors(start, tick)
        if self._output_is_on(tick):
            raise InstrumentError(f"{self.talk.who} left its output on at the end of a sweep. {IN_DOUBT}")
        return curve

    def errors(self, tick: Tick | None = None) -> list[str]:
        """Empty the error queue and return its entries, oldest first, at most ``MOST_ERRORS``."""
        entries = []
        for _ in range(MOST_ERRORS):
            found, _ = self._ask_matching(self.file.verbs.errors, "an entry of the error queue", tick)
            try:
                code = int(float(found["code"]))
            except (ValueError, OverflowError):
                raise self.talk.misunderstood("the error queue", found["code"], "a number for the code") from None
            if code == 0:
                break
            entries.append(f"{code} {found['text'].strip()}")
        return entries

    def safe_state(self, tick: Tick | None = None) -> list[str]:
        """Output off and 0 V. Idempotent; takes effect without an answer, then asks whether the output is off.

        Returns what stood in the error queue.

        Raises:
            InstrumentError: not confirmed within a few times the usual answer; assume that the output is on.
        """
        try:
            self.talk.tell(self._filled(self.file.verbs.safe_state.send), tick or nothing)
            self.sourcing = "voltage"
            if not self._output_is_on(tick):
                return self.errors(tick)
        except InstrumentError as error:
            raise type(error)(f"the safe state was sent and not confirmed: {error}") from error
        raise InstrumentError(
            f"{self.talk.who} was sent its safe state and says that its output is on. Switch it off by hand"
        )

    def close(self) -> None:
        """Let go of the link; the unit stays as it is."""
        self.link.close()

    def _filled(self, templates: Sequence[str], **values: Value) -> list[str]:
        return [fill(template, {**self._common, **values}) for template in templates]

    def _handed_over(self, levels: Floats) -> list[str]:
        verb = self.file.verbs.sweep.levels
        messages = []
        for at in range(0, len(levels), verb.at_once):
            chunk = tuple(levels[at : at + verb.at_once].tolist())
            messages += self._filled([verb.further if at else verb.first], levels=chunk, index=at + 1)
        return messages

    def _tell(self, templates: Sequence[str], tick: Tick | None, **values: Value) -> None:
        messages = self._filled(templates, **values)
        self.talk.tell(messages, tick or nothing)
        self._raise_errors(messages, tick)

    def _raise_errors(self, messages: Sequence[str], tick: Tick | None) -> None:
        if entries := self.errors(tick):
            sent = ", ".join(map(repr, messages[-4:])) or "the last messages"
            raise InstrumentError(
                f"{self.talk.who} reported after {sent}: {'; '.join(entries)}. It may not be set as asked, so nothing is done "
                "with it before its safe state. Compare the value with its ranges and the driver file with its manual: rramlab "
                f"drivers show {self.file.model}"
            )

    def _ask_matching(
        self, verb: Identity | Errors | State, expected: str, tick: Tick | None
    ) -> tuple[dict[str, str], str]:
        messages = self._filled(verb.send)
        answer = self.talk.ask(messages, tick or nothing)
        match = re.fullmatch(verb.reply, answer, re.ASCII)
        if not match:
            raise self.talk.misunderstood(messages[-1], answer, expected)
        return match.groupdict(), answer

    def _output_is_on(self, tick: Tick | None) -> bool:
        """Say whether the output is on; a unit that cannot tell is taken at its word."""
        state = self.file.verbs.output.state
        if state is None:
            return False
        found, _ = self._ask_matching(state, "whether the output is on", tick)
        return found["on"] is not None

    def _numbers(self, answer: str, reply: Numbers, points: int) -> SweepCurve:
        """Return ``points`` measurements from a list of numbers; what is no measurement is marked as bad."""
        width = len(reply.columns)
        parts = answer.split(reply.separator)
        if len(parts) != points * width:
            self.talk.distrust()
            nothing_known = np.full(points, np.nan)
            bad = dict.fromkeys(range(points), "")
            return SweepCurve(nothing_known, nothing_known.copy(), np.zeros(points, np.bool_), bad, answer)
        table = np.array([_number(part) for part in parts]).reshape(points, width)
        if np.isnan(table).any():
            self.talk.distrust()  # a garbled number may have come of a line that garbles more
        voltage, current, status = (table[:, reply.columns.index(name)] for name in ("voltage", "current", "status"))
        for values, most in ((voltage, self.file.limits.voltage), (current, self.file.limits.current)):
            values[~(np.abs(values) <= _BEYOND * most)] = np.nan
        known = (status >= 0) & (status < 1 << 53) & (status == np.floor(status))
        wrong = np.flatnonzero(~(known & np.isfinite(voltage) & np.isfinite(current)))
        bad = {int(at): reply.separator.join(parts[at * width : (at + 1) * width]) for at in wrong}
        limited = (np.where(known, status, 0).astype(np.int64) & reply.compliance_mask) != 0
        return SweepCurve(voltage.copy(), current.copy(), limited, bad)

    def _check_program(self, levels: Floats, program: SweepProgram) -> None:
        limits = self.file.limits
        if levels.ndim != 1 or not 1 <= len(levels) <= limits.points:
            self._refuse(f"a sweep of shape {levels.shape}", f"a list of 1 to {limits.points} levels")
        for level in levels:
            self._within(float(level), "V", "a level of the sweep", limits.voltage)
        self._within(program.dwell_s, "s", "the dwell", limits.longest_dwell, limits.shortest_dwell)
        self._within(program.compliance_A, "A", "the compliance", limits.current, limits.least_current_limit)

    def _within(self, value: float, unit: str, what: str, most: float, least: float | None = None) -> None:
        """Refuse a magnitude above ``most``; with ``least`` also what is below it, and so every negative value."""
        size = abs(value) if least is None else value
        if not (math.isfinite(value) and (0.0 if least is None else least) <= size <= most):
            lowest = f"-{show(most, unit)}" if least is None else show(least, unit)
            self._refuse(f"{what} {value!r} {unit}", f"{lowest} to {show(most, unit)}")

    def _refuse(self, found: str, expected: str) -> NoReturn:
        raise Refused(
            f"{self.talk.who}: found {found}, the driver file allows {expected}; nothing was sent. The limits are those of "
            f"the unit: rramlab drivers show {self.file.model}"
        )


def _number(text: str) -> float:
    """Return a number as instruments write them; NaN for anything else."""
    try:
        return float(text) if "_" not in text else math.nan  # Python's own spelling of 1_000
    except ValueError:
        return math.nan
