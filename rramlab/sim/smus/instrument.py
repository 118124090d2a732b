"""What all emulated instruments share: bytes in and out, the error queue, and faults that can be asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b

from rramlab.sim.smus.core import Channel, OpenTerminals
from rramlab.sim.smus.port import Port
from rramlab.sim.smus.specification import Specification

INPUT_BYTES = 1 << 20  # a line longer than this is thrown away

Error = tuple[int, str]


@dataclass(frozen=True)
class SmuFaults:
    """What goes wrong between instrument and computer; nothing by default."""

    late_s: float = 0.0  # answers come this much too late: for whoever carries them, `feed` itself returns at once
    garbage: int = 0  # every n-th answer is garbled; 0: none
    over: int = 0  # every n-th thing that is measured lies beyond the range; 0: none
    queued: bool = False  # an error stands in the queue at power-up
    silent: bool = False  # commands are carried out and nothing is ever answered


class ErrorQueue:
    """First in, first out; when full, the last entry says that errors were lost."""

    def __init__(self, size: int, overflow: Error) -> None:
        self._size, self._overflow, self._entries = size, overflow, deque[Error]()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, error: Error) -> None:
        if len(self._entries) < self._size:
            self._entries.append(error)
        else:
            self._entries[-1] = self._overflow

    def next(self) -> Error | None:
        return self._entries.popleft() if self._entries else None

    def clear(self) -> None:
        self._entries.clear()


class EmulatedSmu(ABC):
    """An instrument that takes bytes and answers bytes; it is powered up when made, and forces nothing."""

    queue: ErrorQueue

    def __init__(self, specification: Specification, port: Port, serial: str, seed: int, faults: SmuFaults) -> None:
        self.model, self.serial, self.faults = specification.model, serial, faults
        digest = blake2b(f"{serial}/{seed}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        # A die has one place for a source-measure unit: the first channel is wired to it.
        self.channels = [
            Channel(specification, port if number == 1 else OpenTerminals(), key, number)
            for number in range(1, specification.channels + 1)
        ]
        for channel in self.channels:
            channel.over_every = faults.over
        self._received = b""
        self._answered = 0

    @property
    def output_on(self) -> bool:
        """Whether any channel's output is on."""
        return any(channel.output for channel in self.channels)

    @property
    def clock_s(self) -> float:
        """Simulated time since power-up."""
        return max(channel.clock_s for channel in self.channels)

    def feed(self, data: bytes) -> bytes:
        """Take whatever bytes arrived, carry out each whole line, and return the answers."""
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > INPUT_BYTES:
            self._received = b""
            self.queue.put((-363, "Input buffer overrun"))
        answers = b""
        for line in lines:
            text = line.decode("ascii", errors="replace").strip()
            answer = self.execute(text) if text else ""
            if answer:
                answers += self._faulty(answer.encode("ascii", errors="replace") + b"\n")
        return answers

    def _faulty(self, answer: bytes) -> bytes:
        if self.faults.silent:
            return b""
        self._answered += 1
        if self.faults.garbage and self._answered % self.faults.garbage == 0:
            return bytes(byte | 0x80 for byte in answer[:-1]) + b"\n"
        return answer

    def close(self) -> None:
        """The connection was closed: half a line is forgotten; settings and output stay, as in a real instrument."""
        self._received = b""

    @abstractmethod
    def execute(self, line: str) -> str:
        """Carry out one line and return its answer, several lines of it joined by line feeds, or nothing."""
