"""A source-measure unit's driver file: what to say for each verb, what comes back, and a transcript that proves it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from rramlab.base.names import CLASS, NAME
from rramlab.base.units import Amperes, Seconds, Volts
from rramlab.drivers.smu.templates import allowing, names_in


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        """Name the keys that were expected in the place of an unknown one."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [key for key in data if key not in known] if isinstance(data, dict) else []
        if unknown:
            error = PydanticCustomError(
                "unknown_key", "found an unknown key, expected one of {known}", {"known": ", ".join(known)}
            )
            raise ValidationError.from_exception_data(
                cls.__name__, [InitErrorDetails(type=error, loc=(unknown[0],), input=data[unknown[0]])]
            )
        return data


def _with_groups(*groups: str) -> AfterValidator:
    def check(pattern: str) -> str:
        try:
            found = set(re.compile(pattern, re.ASCII).groupindex)
        except re.error as error:
            raise ValueError(f"found {pattern!r}, which is not a regular expression: {error}") from None
        if found != set(groups):
            expected = ", ".join(f"(?P<{name}>…)" for name in groups)
            raise ValueError(f"found a pattern with the groups {sorted(found)}, expected {expected}")
        return pattern

    return AfterValidator(check)


Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Plain = Annotated[str, allowing()]
WithVolts = Annotated[str, allowing("volts")]
WithAmperes = Annotated[str, allowing("amperes")]
WithSweep = Annotated[str, allowing("points", "dwell", "compliance", "start", "stop", "peak")]
WithLevels = Annotated[str, allowing("levels", "index")]
Message = TypeVar("Message", bound=str)


class Verb(_Strict, Generic[Message]):
    """Messages to send, and where the manual describes them."""

    send: tuple[Message, ...] = Field(min_length=1)
    source: Text


class Identity(Verb[Plain]):
    """``reply`` matches the whole answer."""

    reply: Annotated[str, _with_groups("model", "serial", "firmware")]


class Errors(Verb[Plain]):
    """One entry of the error queue; code 0: there is none."""

    reply: Annotated[str, _with_groups("code", "text")]


class State(Verb[Plain]):
    """Whether the output is on: the group that matches says so."""

    reply: Annotated[str, _with_groups("on", "off")]


class Numbers(_Strict):
    """An answer that is a list of numbers: these columns for each point, in this order.

    ``compliance_mask``: bits of the status, any of which means that the unit was in compliance.
    """

    columns: tuple[Literal["voltage", "current", "status"], ...]
    separator: Text = ","
    compliance_mask: Positive

    @model_validator(mode="after")
    def _each_column_once(self) -> Self:
        if sorted(self.columns) != ["current", "status", "voltage"]:
            raise ValueError(f"found the columns {list(self.columns)}, expected voltage, current and status once each")
        return self


class Measure(Verb[Plain]):
    """One measurement of voltage, current and status."""

    reply: Numbers


class Compliance(_Strict):
    """The limit on the other quantity: on the current while a voltage is sourced, on the voltage while a current is."""

    sourcing_voltage: Verb[WithAmperes]
    sourcing_current: Verb[WithVolts]


class Measuring(_Strict):
    """Measurements by what is sourced: some units answer in another order."""

    sourcing_voltage: Measure
    sourcing_current: Measure


class Output(_Strict):
    """The output's switch; ``state`` where the unit can tell."""

    on: Verb[Plain]
    off: Verb[Plain]
    state: State | None = None


class Levels(_Strict):
    """How the list of levels is handed over: ``at_once`` of them with ``first``, as many again with each ``further``.

    ``{levels}``: these levels; ``{index}``: the place of the first of them in the whole list, from 1.
    """

    first: WithLevels
    further: WithLevels
    at_once: Positive


class Sweep(_Strict):
    """A list of voltages that the unit works off by itself, its output off at the end.

    ``prepare``, ``levels`` and ``arm`` leave the output off; then the error queue is read. The first message of ``start``
    does everything from switching on to switching off, whatever becomes of the host. ``ends_off``: the words in these
    messages that make it so.
    """

    prepare: tuple[WithSweep, ...] = Field(min_length=1)
    levels: Levels
    arm: tuple[WithSweep, ...] = ()
    start: tuple[WithSweep, ...] = Field(min_length=1)
    reply: Numbers
    ends_off: Text
    source: Text

    @model_validator(mode="after")
    def _ends_off(self) -> Self:
        if not any(self.ends_off in message for message in (*self.prepare, *self.arm, self.start[0])):
            raise ValueError(
                f"found ends_off {self.ends_off!r}, expected words of a message in prepare, arm or the first one of start"
            )
        return self


class Verbs(_Strict):
    """What the unit is told, verb by verb."""

    reset: Verb[Plain]
    source_voltage: Verb[WithVolts]
    source_current: Verb[WithAmperes]
    compliance: Compliance
    output: Output
    measure: Measuring
    sweep: Sweep
    errors: Errors
    safe_state: Verb[Plain]


class Setting(_Strict):
    """What is sent for a placeholder of ``reset``, and what it means."""

    send: Text
    means: Text


class Settings(_Strict):
    """What every measurement is made with: two or four wires, integration time, automatic ranges."""

    sensing: Setting
    nplc: Setting
    autorange: Setting


class Terminators(_Strict):
    """What ends a message, and what ends an answer."""

    send: Literal["\n", "\r\n", "\r"]
    reply: Literal["\n", "\r\n", "\r"]


class Ranges(_Strict):
    """The ranges that the unit has within its limits."""

    voltage: tuple[Volts, ...] = Field(min_length=1)
    current: tuple[Amperes, ...] = Field(min_length=1)


class RangeAccuracy(_Strict):
    """± (``ppm`` of the reading + ``offset``) on one range."""

    ppm: float = Field(ge=0)


class VoltageAccuracy(RangeAccuracy):
    range: Volts = Field(gt=0)
    offset: Volts = Field(ge=0)


class CurrentAccuracy(RangeAccuracy):
    range: Amperes = Field(gt=0)
    offset: Amperes = Field(ge=0)


class Accuracy(_Strict):
    """What the data sheet promises of measurements, as limits of error, range by range; and where it says so."""

    voltage: tuple[VoltageAccuracy, ...] = Field(min_length=1)
    current: tuple[CurrentAccuracy, ...] = Field(min_length=1)
    source: Text

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for each in (self.voltage, self.current):
            ranges = [entry.range for entry in each]
            if ranges != sorted(set(ranges)):
                raise ValueError(f"found the ranges {ranges}, expected each once, in rising order")
        return self

    def voltage_limit_V(self, volts: float) -> float:
        """Return how far a measured voltage may be off, on the lowest range that holds it."""
        return _limit(self.voltage, volts)

    def current_limit_A(self, amperes: float) -> float:
        """Return how far a measured current may be off, on the lowest range that holds it."""
        return _limit(self.current, amperes)


def _limit(ranges: tuple[VoltageAccuracy, ...] | tuple[CurrentAccuracy, ...], value: float) -> float:
    held = next((entry for entry in ranges if abs(value) <= entry.range), ranges[-1])
    return abs(value) * held.ppm * 1e-6 + held.offset


class Limits(_Strict):
    """What is refused before it is sent: magnitudes, limits that the unit cannot hold, sweeps too long or too fast."""

    voltage: Volts = Field(gt=0)
    current: Amperes = Field(gt=0)
    least_voltage_limit: Volts = Field(gt=0)
    least_current_limit: Amperes = Field(gt=0)
    points: Positive
    shortest_dwell: Seconds = Field(gt=0)
    longest_dwell: Seconds = Field(gt=0)

    @model_validator(mode="after")
    def _few_digits(self) -> Self:
        for name, value in self:
            if float(f"{value:.7g}") != value:
                raise ValueError(
                    f"found {value!r} for {name}, expected at most 7 digits, so that rounding cannot cross it"
                )
        return self


class Timing(_Strict):
    """How long an answer may take; ``point``: what a measured point may take beyond its dwell."""

    reply: Seconds = Field(gt=0)
    point: Seconds = Field(gt=0)


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Several = BeforeValidator(_listed)


class Gives(_Strict):
    """What a call of the transcript returns."""

    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    voltage: Annotated[tuple[Volts, ...] | None, Several] = None
    current: Annotated[tuple[Amperes, ...] | None, Several] = None
    in_compliance: Annotated[tuple[bool, ...] | None, Several] = None
    errors: tuple[str, ...] | None = None


class Exchange(_Strict):
    """Exact bytes as ASCII text: what is sent, then what is answered."""

    out: Text
    answer: str = Field(default="", alias="in")


class Call(_Strict):
    """One call of the transcript with its values and every byte of it."""

    call: Literal[
        "identify", "reset", "source_voltage", "source_current", "compliance", "output", "measure", "sweep", "errors",
        "safe_state",
    ]  # fmt: skip
    volts: Volts | None = None
    amperes: Amperes | None = None
    on: bool | None = None
    levels: tuple[Volts, ...] | None = None
    dwell: Seconds | None = None
    compliance: Amperes | None = None
    exchange: tuple[Exchange, ...] = Field(min_length=1)
    gives: Gives | None = None


class SmuFile(_Strict):
    """A source-measure unit's file in ``drivers/``.

    ``adapter``: ``module:Class`` of a subclass of ``instrument.Smu``, for what templates cannot say.
    """

    kind: Literal["smu"]
    model: str = Field(pattern=NAME)
    description: Text
    manual: Text
    adapter: str | None = Field(default=None, pattern=CLASS)
    terminators: Terminators
    channels: dict[Positive, Text] = Field(min_length=1)  # how {channel} is spelt for channel 1, 2
    settings: Settings
    ranges: Ranges
    limits: Limits
    accuracy: Accuracy | None = None  # calibration needs it: without it no uncertainty can be stated
    timing: Timing
    identity: Identity
    verbs: Verbs
    transcript: tuple[Call, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _settings_are_sent(self) -> Self:
        sent = set().union(*(names_in(message) for message in self.verbs.reset.send))
        if missing := {"sensing", "nplc", "autorange"} - sent:
            raise ValueError(
                f"found a reset without {{{sorted(missing)[0]}}}, expected every setting in it: none may hide"
            )
        return self
