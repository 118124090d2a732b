"""A unit that answers as its driver file's transcript shows, on a clock of its own, and misbehaves when told to."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from string import Formatter

from rramlab.base.folders import shipped
from rramlab.drivers import driverfile
from rramlab.drivers.links import LinkLost
from rramlab.drivers.smu import conversation
from rramlab.drivers.smu.smufile import SmuFile
from rramlab.drivers.smu.templates import fill

SHIPPED = shipped().path
STEMS = sorted(path.stem for path in (SHIPPED / "drivers").glob("*.yaml"))
SMU_STEMS = [stem for stem in STEMS if isinstance(driverfile.load_driver(SHIPPED, stem).file, SmuFile)]


class AnsweringUnit:
    """A link and the unit at its end. Time passes only while somebody waits.

    ``late_s``: how long answers take; ``answer``: what is given instead of the next answers, one by one, None: nothing;
    ``queue``: what stands in the error queue; ``sticky``: the output stays on;
    ``more_points``: so many more are answered than a sweep has; ``swept``: what is answered to a sweep instead; ``afterwards``:
    what stands in the error queue once a sweep was answered.
    """

    name = "tcp://unit:5025"

    def __init__(self, file: SmuFile, channel: int = 1) -> None:
        self.file = file
        self.now = 100.0
        self.late_s = 0.0
        self.queue: list[str] = []
        self.answer: list[bytes | None] = []
        self.on = False
        self.sticky = False
        self.closed = False
        self.sent: list[str] = []
        self.measured = 0
        self.more_points = 0
        self.swept: bytes | None = None
        self.afterwards: list[str] = []
        self._coming: list[tuple[float, bytes]] = []
        self.levels: list[float] = []  # what was handed over since the last sweep began
        self.values = {
            "channel": file.channels[channel],
            **{name: setting.send for name, setting in file.settings},
        }
        levels = file.verbs.sweep.levels
        self._lists = (levels.first, levels.further)
        self._said = {call.call: call.exchange for call in file.transcript}

    def monotonic(self) -> float:
        return self.now

    def is_message(self, text: str, template: str) -> bool:
        return text == fill(template, self.values)

    def read(self, deadline: float) -> bytes:
        self._open()
        if self._coming and self._coming[0][0] <= max(deadline, self.now):
            at, data = self._coming.pop(0)
            self.now = max(self.now, at)
            return data
        self.now = max(self.now, deadline)
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        self._open()
        text = data.decode("ascii").removesuffix(self.file.terminators.send)
        self.sent.append(text)
        verbs = self.file.verbs
        for template in verbs.output.on.send:
            self.on |= self.is_message(text, template)
        for template in verbs.output.off.send:
            self.on &= self.sticky or not self.is_message(text, template)
        self.levels += next((found for found in map(self.numbers_in(text), self._lists) if found), [])
        answer = self._answer(text)
        if answer is not None:
            given = self.answer.pop(0) if self.answer else (answer + self.file.terminators.reply).encode("latin-1")
            if given is not None:
                self._coming.append((self.now + self.late_s, given))

    def close(self) -> None:
        self.closed = True

    def _open(self) -> None:
        if self.closed:
            raise LinkLost("closed by the other end")

    def _answer(self, text: str) -> str | None:
        verbs, said = self.file.verbs, self._said
        if self.is_message(text, self.file.identity.send[-1]):
            return said["identify"][0].answer.strip()
        if self.is_message(text, verbs.errors.send[-1]):
            entry = said["errors"][0 if self.queue else -1].answer.strip()
            return entry.replace("out of range", self.queue.pop(0)) if self.queue else entry
        if verbs.output.state and self.is_message(text, verbs.output.state.send[-1]):
            off = next(each.answer.strip() for each in said["safe_state"] if each.out.strip().endswith(text))
            return off.replace("0", "1", 1) if self.on else off
        if text == fill(verbs.sweep.start[-1], {**self.values, "points": len(self.levels)}) and self.levels:
            points, self.levels = len(self.levels), []
            self.queue, self.afterwards = self.queue + self.afterwards, []
            if self.swept is not None:
                return self.swept.decode("latin-1")
            return self.numbers(points + self.more_points)
        if self.is_message(text, verbs.measure.sourcing_voltage.send[-1]):
            return self.numbers(1)
        return None

    def numbers_in(self, text: str) -> Callable[[str], list[float]]:
        """Return what finds the numbers in ``text`` that stand in the place of a template's placeholders."""

        def find(template: str) -> list[float]:
            pattern = ""
            for literal, name, _, _ in Formatter().parse(template):
                pattern += re.escape(literal)
                if name in self.values:
                    pattern += re.escape(self.values[name])
                elif name is not None:
                    pattern += r"\d+" if name == "index" else "(.*)"
            match = re.fullmatch(pattern, text)
            return [float(number) for part in match.groups() for number in part.split(",")] if match else []

        return find

    def numbers(self, points: int) -> str:
        reply = self.file.verbs.sweep.reply
        values = []
        for _ in range(points):
            self.measured += 1
            known = {"voltage": self.measured / 8, "current": self.measured * 1e-6, "status": 0}
            values += [f"{known[column]:.6e}" for column in reply.columns]
        return reply.separator.join(values)


@functools.cache
def load(stem: str) -> SmuFile:
    file = driverfile.load_smu(SHIPPED, stem)
    assert isinstance(file, SmuFile)
    return file


def on_its_clock(monkeypatch, unit: AnsweringUnit) -> None:
    """Let the conversation read the unit's clock instead of the real one."""
    monkeypatch.setattr(conversation, "time", unit)
