"""The communication log: every byte of every link, with its time; and a link that answers from such a log."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rramlab.base.errors import DataError, InstrumentError, UsageError
from rramlab.drivers.links import Link, LinkLost
from rramlab.drivers.wire.frames import Decoder, Frame, Kind, decode, encode
from rramlab.drivers.wire.messages import Opcode, pack_beat

REPLAY = "replay:"  # an address that names a log
_SHOWN = 24  # bytes of a payload that are shown
# The next sequence number, in the payload of an answer to HELLO (docs/wire.md).
_NEXT, _NEXT_AT = struct.Struct("<I"), 14

Way = Literal["out", "in"]


class Trace:
    """One line of JSON for each read and write: seconds since the start, link, ``out`` or ``in``, the bytes in hex.

    Each line is written out at once: after a crash the log ends with the last thing that was said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.monotonic()
        self._broken = False
        try:
            self._file = path.open("x", encoding="utf-8", buffering=1)
        except FileExistsError:
            raise UsageError(f"the log {path} exists; it is left as it is. Name a new file") from None
        except OSError as error:
            raise UsageError(
                f"the log {path} cannot be made ({error}); nothing was opened. Name another file"
            ) from None

    def tap(self, link: Link) -> Link:
        """Return ``link``, with all that passes over it written down."""
        return _Tapped(link, self)

    def write(self, name: str, way: Way, data: bytes) -> None:
        """Write one line.

        Raises:
            DataError: it cannot be written; said once, for a safe state must not fail for want of a log.
        """
        if self._broken:
            return
        line = {"at": round(time.monotonic() - self._began, 6), "link": name, "way": way, "data": data.hex()}
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            self._broken = True
            raise DataError(
                f"the log {self.path} cannot be written any more ({error}); it ends here. What was being sent was sent: go on "
                "with rramlab resume, without --trace or with space for it"
            ) from error

    def close(self) -> None:
        with contextlib.suppress(OSError) if self._broken else contextlib.nullcontext():
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
        try:
            self._trace.write(self.name, "out", data)
        finally:
            self._link.write(data, deadline)  # whatever becomes of the log

    def close(self) -> None:
        self._link.close()


@dataclass(frozen=True)
class Entry:
    """One line of a log. ``at``: s since it began."""

    at: float
    link: str
    way: Way
    data: bytes


def load_trace(path: Path) -> list[Entry]:
    """Read a log.

    Raises:
        DataError: it is missing, or a line of it is none of a log; a last line that was cut short is left out.
    """
    try:
        *lines, rest = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the log {path} cannot be read: {error}") from error
    entries = []
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            entries.append(_entry(line))
        except (ValueError, KeyError, TypeError) as error:
            if number > len(lines):
                break
            raise DataError(
                f"{path}:{number}: this is no line of a communication log: {error!r}. The file is not what --trace wrote: take "
                "another copy, or leave the line out"
            ) from error
    return entries


def _entry(line: str) -> Entry:
    found = json.loads(line)
    at, link, way = float(found["at"]), found["link"], found["way"]
    if not isinstance(link, str) or way not in ("out", "in"):
        raise ValueError(f"link {link!r}, way {way!r}")
    return Entry(at, link, way, bytes.fromhex(found["data"]))


@dataclass(frozen=True)
class _Piece:
    """What was said at once: a frame, or bytes that are none.

    ``ahead``: in an answer to HELLO, how many sequence numbers the board had seen of others than this host.
    """

    way: Way
    data: bytes
    frame: Frame | None = None
    ahead: int = 0


class ReplayLink:
    """Answers from a log, ``replay:FILE#LINK`` (the link's name may be left out where the log has one alone).

    What is sent must be what was sent then, and is answered at once with what was answered then. Heartbeats depend on the
    time of day, and they count in the sequence numbers of frames: so they are answered here and not compared, and the
    numbers of this conversation take the place of those in the log, in the answer to HELLO as well.

    Raises:
        DataError: no such log, or several links in it and none named.
    """

    def __init__(self, address: str) -> None:
        self.name = address
        path, _, name = address.removeprefix(REPLAY).partition("#")
        entries = load_trace(Path(path))
        names = sorted({entry.link for entry in entries})
        if not name and len(names) == 1:
            name = names[0]
        if name not in names:
            raise DataError(f"{path} has the links {', '.join(names) or 'none'}; name one: {REPLAY}{path}#LINK")
        entries = [entry for entry in entries if entry.link == name]
        self._wire = _speaks_frames(entries)
        pieces = _frames(entries) if self._wire else (_Piece(entry.way, entry.data) for entry in entries)
        self._script = deque(pieces)
        self._sent = Decoder()
        self._sequence: dict[int, int] = {}  # of a request in the log -> of the same one now
        self._highest = 0  # that was sent
        self._beats = b""  # answers to heartbeats

    def read(self, deadline: float) -> bytes:
        said = b""
        while self._script and self._script[0].way == "in":
            said += self._now(self._script.popleft())
        said, self._beats = said + self._beats, b""  # last: it shows that nothing else will come
        if not said and not self._script:
            raise LinkLost(f"{self.name}: the log ends here")
        if not said:
            time.sleep(max(0.0, deadline - time.monotonic()))
        return said

    def write(self, data: bytes, deadline: float) -> None:
        if not self._wire:
            self._expect(_Piece("out", data))
            return
        for frame in filter(None, self._sent.feed(data)):
            self._highest = max(self._highest, frame.sequence)
            if frame.opcode == Opcode.HEARTBEAT:
                self._beats += encode(Frame(Kind.REPLY, Opcode.HEARTBEAT, frame.sequence, pack_beat(None)))
            else:
                self._expect(_Piece("out", data, frame))

    def _expect(self, piece: _Piece) -> None:
        """Take what was sent for the next thing that the log has as sent; answers before it are still to be read."""
        place = next((index for index, each in enumerate(self._script) if each.way == "out"), None)
        logged = None if place is None else self._script[place]
        if place is None or logged is None or not self._same(logged, piece):
            expected = "nothing more" if logged is None else _words(logged)
            raise InstrumentError(
                f"{self.name}: {_words(piece)} was sent, the log has {expected}: this is not the conversation that was "
                "logged. Use the same version, the same protocol and a copy of the ledger as it was then"
            )
        del self._script[place]

    def _same(self, logged: _Piece, piece: _Piece) -> bool:
        if logged.frame is None or piece.frame is None:
            return logged.data == piece.data
        now = self._sequence.setdefault(logged.frame.sequence, piece.frame.sequence)
        return logged.frame._replace(sequence=now) == piece.frame

    def _now(self, piece: _Piece) -> bytes:
        """Return what was answered then as the answer to what is asked now."""
        if piece.frame is None:
            return piece.data
        then = piece.frame.sequence
        if piece.frame.kind == Kind.NAK:  # of the last good frame, which may have been a heartbeat
            then = max((each for each in self._sequence if each <= then), default=then)
        frame = piece.frame._replace(sequence=self._sequence.get(then, then))
        if _greets(frame):
            coming = _NEXT.pack((self._highest + 1 + piece.ahead) & 0xFFFFFFFF)
            payload = frame.payload[:_NEXT_AT] + coming + frame.payload[_NEXT_AT + _NEXT.size :]
            frame = frame._replace(payload=payload)
        return encode(frame)

    def close(self) -> None:
        self._script.clear()


def _speaks_frames(entries: Iterable[Entry]) -> bool:
    decoders = {"in": Decoder(), "out": Decoder()}
    return any(frame is not None for entry in entries for frame in decoders[entry.way].feed(entry.data))


def _frames(entries: Iterable[Entry]) -> Iterator[_Piece]:
    """Cut a log into frames, without heartbeats; what came in damaged stays, for it was asked for again."""
    held = {"in": b"", "out": b""}
    highest = 0
    for entry in entries:
        *whole, held[entry.way] = (held[entry.way] + entry.data).split(b"\0")
        for part in filter(None, whole):
            frame, ahead = decode(part), 0
            if frame is not None and entry.way == "out":
                highest = max(highest, frame.sequence)
            elif frame is not None and _greets(frame):
                ahead = _NEXT.unpack_from(frame.payload, _NEXT_AT)[0] - highest - 1
            if frame is None or frame.opcode != Opcode.HEARTBEAT:
                yield _Piece(entry.way, part + b"\0", frame, ahead)


def _greets(frame: Frame) -> bool:
    return frame.kind == Kind.REPLY and frame.opcode == Opcode.HELLO and len(frame.payload) >= _NEXT_AT + _NEXT.size


def spoken(entries: list[Entry]) -> Iterator[tuple[Entry, str]]:
    """Say what a log means: each frame with the entry that completes it, or text as it stands."""
    links = {entry.link for entry in entries}
    wires = {link for link in links if _speaks_frames(each for each in entries if each.link == link)}
    decoders = {(link, way): Decoder() for link in wires for way in ("out", "in")}
    for entry in entries:
        if entry.link not in wires:
            if entry.data.strip():
                yield entry, _text(entry.data)
            continue
        for frame in decoders[entry.link, entry.way].feed(entry.data):
            yield entry, "a damaged frame" if frame is None else _frame(frame)


def _words(piece: _Piece) -> str:
    return _text(piece.data) if piece.frame is None else _frame(piece.frame)


def _text(data: bytes) -> str:
    return data.decode("ascii", errors="backslashreplace").strip()


def _frame(frame: Frame) -> str:
    kind = Kind(frame.kind).name if frame.kind in list(Kind) else f"kind {frame.kind}"
    name = Opcode(frame.opcode).name if frame.opcode in list(Opcode) else f"opcode 0x{frame.opcode:04x}"
    text = frame.payload[:_SHOWN].hex(" ") + (" …" if len(frame.payload) > _SHOWN else "")
    return f"{kind} {name} #{frame.sequence}, {len(frame.payload)} bytes {text}".rstrip()
