"""The rows of a ledger: only added, each bound to the one before it by a sum."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind

What = Literal["enrolled", "intended", "done", "undelivered", "decided", "adopted", "moved", "fact"]
WORDS: tuple[str, ...] = get_args(What)
ENDINGS = ("done", "undelivered", "decided")  # the words that end an operation
KINDS: tuple[PulseKind, ...] = get_args(PulseKind)
Outcome = Literal["intended", "done", "undelivered"]
SUM_BYTES = SALT_BYTES = 16
NO_SUM = bytes(SUM_BYTES)  # before the first row


class Damaged(ValueError):
    """What was read is not what was written."""


@dataclass(frozen=True, slots=True)
class Event:
    """One row. ``op``: of which operation, 0 where it is of the die. ``body``: JSON, by ``what``.

    ``salt``: random, so that the same row written twice, in two copies of a ledger, has two sums.
    """

    seq: int
    op: int
    what: What
    body: str
    salt: bytes
    sum: bytes

    @property
    def about(self) -> dict[str, Any]:
        """The body as an object.

        Raises:
            Damaged: it is none.
        """
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise Damaged(f"row {self.seq} is no JSON ({error})") from error
        if not isinstance(found, dict):
            raise Damaged(f"row {self.seq} holds no object")
        return found

    def follows(self, previous: bytes) -> bool:
        """Return whether this row is as it was written, after a row of the sum ``previous``."""
        return self.what in WORDS and self.sum == _chained(previous, self.seq, self.op, self.what, self.body, self.salt)


def stored(fields: tuple[Any, ...]) -> Event:
    """Return a row as a file gave it: damaged, it may hold anything.

    Raises:
        Damaged: its fields have other types.
    """
    seq, op, what, body, salt, chained = fields
    texts = isinstance(what, str) and isinstance(body, str) and isinstance(salt, bytes) and isinstance(chained, bytes)
    if not (texts and isinstance(seq, int) and isinstance(op, int) and seq >= 1 and op >= 0):
        raise Damaged(f"has a row {seq!r} of other types than it was written with")
    return Event(seq, op, what, body, salt, chained)


def event(previous: bytes, seq: int, op: int, what: What, about: dict[str, Any]) -> Event:
    """Return a new row after one of the sum ``previous``."""
    body, salt = canonical(about), secrets.token_bytes(SALT_BYTES)
    return Event(seq, op, what, body, salt, _chained(previous, seq, op, what, body, salt))


def canonical(about: dict[str, Any]) -> str:
    return json.dumps(about, sort_keys=True, separators=(",", ":"))


def _chained(previous: bytes, seq: int, op: int, what: str, body: str, salt: bytes) -> bytes:
    """blake2b with 128 bits over the sum before and the row; a NUL stands in no word, and lengths are fixed but the last."""
    row = b"".join((previous, seq.to_bytes(8, "big"), op.to_bytes(8, "big"), salt, what.encode(), b"\0", body.encode()))
    return summed(row)


def summed(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=SUM_BYTES).digest()


def cells_as_json(cells: CellSelection) -> dict[str, Any]:
    """Return a selection as JSON: the first row, how many rows, and their packed bits, zlib, base64."""
    bits = np.packbits(cells.in_span)
    packed = base64.b64encode(zlib.compress(bits.tobytes(), 1)).decode("ascii")
    return {"first": cells.span.start, "rows": len(cells.in_span), "bits": packed}


def cells_from_json(found: Any, geometry: Geometry) -> CellSelection:
    """Read what :func:`cells_as_json` made.

    Raises:
        Damaged: it is something else.
    """
    try:
        first, rows = int(found["first"]), int(found["rows"])
        packed = zlib.decompress(base64.b64decode(found["bits"], validate=True))
        if not 0 <= first <= first + rows <= geometry.rows or len(packed) != -(-rows * geometry.columns // 8):
            raise Damaged(f"found a selection of {rows} rows from {first} on in {len(packed)} bytes")
        chosen = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * geometry.columns)
        return CellSelection.of_rows(chosen.reshape(rows, geometry.columns).astype(np.bool_), first, geometry.rows)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise Damaged(f"a selection of cells is damaged ({error})") from error


@lru_cache(maxsize=8)
def no_cells(geometry: Geometry) -> CellSelection:
    return CellSelection(np.zeros(geometry.shape, np.bool_))


@dataclass(frozen=True)
class Entry:
    """One pulse operation in a die's life.

    ``board``: the serial number of the board that it was meant for, empty where version 0.1.0 did not write that down.
    ``again``: a person asked for a second electroforming pulse.
    """

    op_id: int
    run: str
    position: str
    kind: PulseKind
    pulse: Pulse
    cells_per_pulse: int
    boot_nonce: int
    cells: CellSelection
    outcome: Outcome
    done: CellSelection
    unknown: CellSelection
    intended_at: str
    board: str = ""
    again: bool = False

    @property
    def spent(self) -> CellSelection:
        """Cells that count as pulsed: delivered, possibly delivered, or intended and not yet decided."""
        return self.cells if self.outcome == "intended" else self.done | self.unknown


def entry_of(intended: Event, ended: Event | None, geometry: Geometry) -> Entry:
    """Put an operation together from its rows.

    Raises:
        Damaged: they do not say what such rows say.
    """
    about = intended.about
    nothing = no_cells(geometry)
    try:
        kind = about["kind"]
        if kind not in KINDS:
            raise Damaged(f"row {intended.seq} has the pulse kind {kind!r}")
        cells = cells_from_json(about["cells"], geometry)
        done = unknown = nothing
        outcome: Outcome = "intended"
        if ended is not None:
            came = ended.about
            done = cells if came["done"] is None else cells_from_json(came["done"], geometry)
            unknown = nothing if came["unknown"] is None else cells_from_json(came["unknown"], geometry)
            outcome = "done" if done.count or unknown.count else "undelivered"
        return Entry(
            intended.op,
            str(about["run"]),
            str(about["position"]),
            kind,
            Pulse(float(about["amplitude_V"]), float(about["width_s"]), float(about["gate_V"])),
            int(about["cells_per_pulse"]),
            int(about["boot_nonce"]),
            cells,
            outcome,
            done,
            unknown,
            str(about["at"]),
            str(about["board"]),
            bool(about["again"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"operation {intended.op} is damaged ({error!r})") from error
