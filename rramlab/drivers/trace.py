"""The communication log: every byte of every link, with its time; and a link that answers from such a log."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

from rramlab.base.errors import DataError, InstrumentError, UsageError
from rramlab.drivers.links import Link, LinkLost
from rramlab.drivers.wire.frames import Decoder, Frame, encode
from rramlab.drivers.wire.messages import Opcode

REPLAY = "replay:"  # an address that names a log


class Trace:
    """One line of JSON for each read and write: seconds since the start, link, ``out`` or ``in``, the bytes in hex.

    Each line is written out at once: after a crash the log ends with the last thing that was said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.monotonic()
        try:
            self._file = path.open("x", encoding="utf-8", buffering=1)
        except FileExistsError:
            raise UsageError(f"the log {path} exists; it is left as it is. Name a new file") from None

    def tap(self, link: Link) -> Link:
        """Return ``link``, with all that passes over it written down."""
        return _Tapped(link, self)

    def write(self, name: str, way: str, data: bytes) -> None:
        line = {"at": round(time.monotonic() - self._began, 6), "link": name, "way": way, "data": data.hex()}
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._file.close()


class _Tapped:
    def __init__(self, link: Link, trace: Trace) -> None:
        self._link, self._trace = link, trace
        self.name = link.name

    def read(self, deadline: float) -> bytes:
        data = self._link.read(deadline)
        if data:
            self._trace.write(self.name, "in", data)
        return data

    def write(self, data: bytes, deadline: float) -> None:
        self._trace.write(self.name, "out", data)
        self._link.write(data, deadline)

    def close(self) -> None:
        self._link.close()


def load_trace(path: Path) -> list[dict[str, Any]]:
    """Read a log: dictionaries with ``at``, ``link``, ``way`` and ``data`` (bytes).

    Raises:
        DataError: it is missing, or a line of it is none of a log; a last line that was cut short is left out.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the log {path} cannot be read: {error}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            entries.append({**entry, "at": float(entry["at"]), "data": bytes.fromhex(entry["data"])})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: this is no line of a communication log: {error!r}") from error
    return entries


class ReplayLink:
    """Answers from a log, ``replay:FILE#LINK`` (the link's name may be left out where the log has one alone).

    What is sent must be what was sent then; heartbeats, which depend on the time of day, are left out on both sides.

    Raises:
        DataError: no such log, or several links in it and none named.
    """

    def __init__(self, address: str) -> None:
        self.name = address
        path, _, name = address.removeprefix(REPLAY).partition("#")
        entries = load_trace(Path(path))
        names = sorted({entry["link"] for entry in entries})
        if not name and len(names) == 1:
            name = names[0]
        if name not in names:
            raise DataError(f"{path} has the links {', '.join(names) or 'none'}; name one: {REPLAY}{path}#LINK")
        self._script = deque(_messages([entry for entry in entries if entry["link"] == name]))
        self._sent = Decoder()
        self._wire = any(_decoded(data) for _, data in self._script)

    def read(self, deadline: float) -> bytes:
        if not self._script:
            raise LinkLost(f"{self.name}: the log ends here")
        if self._script[0][0] == "in":
            return self._script.popleft()[1]
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        if self._wire:
            frames = [
                frame for frame in self._sent.feed(data) if frame is not None and frame.opcode != Opcode.HEARTBEAT
            ]
            pieces = [encode(frame) for frame in frames]
        else:
            pieces = [data]
        for piece in pieces:
            while self._script and self._script[0][0] == "in":
                self._script.popleft()  # what came then before this was asked
            if not self._script or self._script[0][1] != piece:
                expected = _spoken(self._script[0][1]) if self._script else "nothing more"
                raise InstrumentError(
                    f"{self.name}: {_spoken(piece)} was sent, the log has {expected}: this is not the conversation that was "
                    "logged. Use the same version, the same protocol and a copy of the ledger as it was then"
                )
            self._script.popleft()

    def close(self) -> None:
        self._script.clear()


def _messages(entries: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """Return (way, bytes) in order: whole frames without heartbeats where these are frames, else as they stand."""
    decoders = {"in": Decoder(), "out": Decoder()}
    frames = []
    for entry in entries:
        for frame in decoders[entry["way"]].feed(entry["data"]):
            if frame is not None and frame.opcode != Opcode.HEARTBEAT:
                frames.append((entry["way"], encode(frame)))
    return frames or [(entry["way"], entry["data"]) for entry in entries]


def _decoded(data: bytes) -> Frame | None:
    found = Decoder().feed(data)
    return found[0] if found else None


def spoken(data: bytes) -> list[str]:
    """Return what bytes on a link mean, for people: a line for each frame, or the text."""
    frames = [frame for frame in Decoder().feed(data) if frame is not None]
    if not frames:
        return [data.decode("ascii", errors="backslashreplace").strip()] if data.strip(b"\0") else []
    return [_frame(frame) for frame in frames]


def _spoken(data: bytes) -> str:
    return "; ".join(spoken(data)) or repr(data)


def _frame(frame: Frame) -> str:
    from rramlab.drivers.wire.frames import Kind

    kind = Kind(frame.kind).name if frame.kind in list(Kind) else f"kind {frame.kind}"
    name = Opcode(frame.opcode).name if frame.opcode in list(Opcode) else f"opcode 0x{frame.opcode:04x}"
    text = frame.payload[:24].hex(" ") + (" …" if len(frame.payload) > 24 else "")
    return f"{kind} {name} #{frame.sequence}, {len(frame.payload)} bytes {text}".rstrip()
