"""The transcript of a driver file, replayed through the real class: every byte out and in, nothing left over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.yamlfile import YamlDocument
from rramlab.drivers.smu.instrument import Smu
from rramlab.drivers.smu.readings import SweepProgram
from rramlab.drivers.smu.smufile import Call, Exchange, Gives, SmuFile

# What a transcript must show: every verb, and each kind of it.
EVERY_CALL = frozenset(
    {
        "identify", "reset", "source_voltage", "source_current", "compliance in amperes", "compliance in volts",
        "output on", "output off", "measure sourcing voltage", "measure sourcing current", "sweep", "errors", "safe_state",
    }
)  # fmt: skip


class ScriptedLink:
    """A link that knows what comes next, byte by byte, and fails on anything else."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._script: list[tuple[Exchange, SourceRef]] = []
        self._sent = ""
        self._answer = ""
        self._what = ""
        self._last = SourceRef()  # of the exchange that was completed last

    def expect(self, what: str, script: Sequence[tuple[Exchange, SourceRef]]) -> None:
        """Take the exchanges of the next call."""
        self._what, self._script, self._sent = what, list(script), ""

    def write(self, data: bytes, deadline: float) -> None:
        if self._answer:
            self._fail(f"more was sent ({data!r}) before the answer {self._answer!r} was read", self._place())
        if not self._script:
            self._fail(f"{data!r} was sent where the transcript has nothing more", self._place())
        exchange, place = self._script[0]
        self._sent += data.decode("ascii")
        if not exchange.out.startswith(self._sent):
            self._fail(f"expected {exchange.out!r}, {self._sent!r} was sent", place)
        if self._sent == exchange.out:
            self._script.pop(0)
            self._sent, self._answer = "", exchange.answer
            self._last = place

    def read(self, deadline: float) -> bytes:
        if not self._answer and deadline > time.monotonic():
            self._fail("an answer is awaited where the transcript has none", self._place())
        answer, self._answer = self._answer, ""
        return answer.encode("ascii")

    def finish(self) -> None:
        """Fail on what is left over."""
        if self._answer:
            self._fail(f"the answer {self._answer!r} was never read", self._place())
        if self._script:
            exchange, place = self._script[0]
            self._fail(f"expected {exchange.out!r}, {self._sent!r} was sent", place)

    def close(self) -> None:
        """Nothing is held."""

    def _place(self) -> SourceRef:
        return self._script[0][1] if self._script else self._last

    def _fail(self, what: str, place: SourceRef) -> NoReturn:
        raise UsageError(f"the transcript does not match, {self._what}: {what}", place)


def replay(file: SmuFile, document: YamlDocument, smu_class: type[Smu]) -> int:
    """Replay the transcript of ``file``, which was read from ``document``; return the number of its calls.

    Raises:
        UsageError: with file and line: the call, the bytes expected and those sent, what it should have returned, or a verb
            that the transcript does not show.
    """
    link = ScriptedLink(document.path.name)
    smu = smu_class("transcript", file, link, min(file.channels))
    shown = set()
    for index, call in enumerate(file.transcript):
        at = ("transcript", index)
        place = document.at(at)
        shown.add(_kind(call, smu))
        link.expect(
            f"call {index + 1} ({call.call})",
            [(each, document.at((*at, "exchange", row))) for row, each in enumerate(call.exchange)],
        )
        found = _perform(smu, call, place)
        link.finish()
        if found != call.gives:
            raise UsageError(
                f"the transcript does not match, call {index + 1} ({call.call}): expected that it gives "
                f"{_spell(call.gives)}, it gave {_spell(found)}",
                place,
            )
    if missing := EVERY_CALL - shown:
        raise UsageError(
            f"found a transcript without {', '.join(sorted(missing))}; expected every verb and kind of it",
            document.at(("transcript",)),
        )
    smu.close()
    return len(file.transcript)


def _kind(call: Call, smu: Smu) -> str:
    match call.call:
        case "compliance":
            return "compliance in volts" if call.amperes is None else "compliance in amperes"
        case "output":
            return "output on" if call.on else "output off"
        case "measure":
            return f"measure sourcing {smu.sourcing}"
        case other:
            return other


def _perform(smu: Smu, call: Call, place: SourceRef) -> Gives | None:
    """Make one call; return what it gave, None where it gives nothing."""

    def given(name: str) -> float:
        value = getattr(call, name)
        if value is None:
            raise UsageError(f"found {call.call} without {name!r}, expected it beside call", place)
        return float(value)

    match call.call:
        case "identify":
            identity = smu.identify()
            return Gives(model=identity.model, serial=identity.serial, firmware=identity.firmware)
        case "reset":
            smu.reset()
        case "source_voltage":
            smu.source_voltage(given("volts"))
        case "source_current":
            smu.source_current(given("amperes"))
        case "compliance":
            smu.compliance(amperes=call.amperes, volts=call.volts)
        case "output":
            smu.output(bool(given("on")))
        case "measure":
            reading = smu.measure()
            return Gives(
                voltage=(reading.voltage_V,), current=(reading.current_A,), in_compliance=(reading.in_compliance,)
            )
        case "sweep":
            levels = np.array(call.levels or (), dtype=np.float64)
            curve = smu.sweep(SweepProgram(levels, given("dwell"), given("compliance")))
            return Gives(
                voltage=tuple(curve.voltage_V.tolist()),
                current=tuple(curve.current_A.tolist()),
                in_compliance=tuple(curve.in_compliance.tolist()),
            )
        case "errors":
            return Gives(errors=tuple(smu.errors()))
        case "safe_state":
            return Gives(errors=tuple(smu.safe_state()))
    return None


def _spell(gives: Gives | None) -> str:
    return str(gives.model_dump(exclude_none=True)) if gives else "nothing"
