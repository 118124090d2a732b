"""Witnesses: who else knows how far a ledger has come. One that is ahead shows that rows are missing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from rramlab.base.host import state_folder
from rramlab.runs.ledger.events import canonical, summed

_SLOT = 2048  # bytes; a file has two, written in turn: what is torn by a crash is never the newest that was whole
_LONGEST = 1200  # letters of a path that are kept, from its end


@dataclass(frozen=True)
class Witness:
    """How far a ledger was. ``seq``, ``sum``: of its newest row. ``op``: its newest operation. ``where``: its file.

    ``superseded``: the identity of the copy that a person chose to go on with in this ledger's place.
    """

    die: str
    ledger: str
    seq: int
    op: int
    sum: str
    at: str
    where: str = ""
    superseded: str = ""


@dataclass(frozen=True)
class Testimony:
    """What a witness's file says. ``damaged``: one of its two records is not as it was written."""

    path: Path
    witness: Witness | None
    damaged: bool


def beside(path: Path) -> Path:
    """Return the file of the witness beside a ledger's."""
    return path.with_suffix(".witness")


def outside(ledger: str) -> Path:
    """Return the file of the witness outside every bench folder. ``ledger``: the ledger's identity."""
    return state_folder() / "ledgers" / f"{ledger}.witness"


def testimony(path: Path) -> Testimony:
    """Read a witness's file; one that is not there has seen nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Testimony(path, None, False)
    found = [_read(data[start : start + _SLOT]) for start in (0, _SLOT)]
    known = [each for each in found if isinstance(each, Witness)]
    damaged = any(each is False for each in found) or len(data) != 2 * _SLOT
    return Testimony(path, max(known, key=lambda each: each.seq, default=None), damaged)


def _read(slot: bytes) -> Witness | bool | None:
    """Return a record, None where there was never one, or False where it is damaged."""
    if not slot.strip(b"\0"):
        return None
    try:
        text, written = slot.rstrip(b"\0").decode().rsplit("\n", 1)
        if summed(text.encode()).hex() != written:
            return False
        return Witness(**json.loads(text))
    except (ValueError, TypeError):
        return False


class WitnessFile:
    """A witness that is told of each row, in two records in turn."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            OSError: it cannot be written.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self._file: IO[bytes] = os.fdopen(handle, "r+b", buffering=0)
        if os.fstat(handle).st_size != 2 * _SLOT:
            self._file.truncate(2 * _SLOT)
        slots = [_read(path.read_bytes()[start : start + _SLOT]) for start in (0, _SLOT)]
        seen = [each.seq if isinstance(each, Witness) else -1 for each in slots]
        self._next = 0 if seen[0] < seen[1] else 1

    def tell(self, witness: Witness, sync: bool) -> None:
        """Write a record in place of the older one. ``sync``: before this returns it lasts through a power cut."""
        text = canonical(asdict(witness))
        if len(text) > _SLOT - 64:
            text = canonical({**asdict(witness), "where": f"…{witness.where[-_LONGEST // 2 :]}"})
        record = f"{text}\n{summed(text.encode()).hex()}".encode().ljust(_SLOT, b"\0")
        self._file.seek(self._next * _SLOT)
        self._file.write(record)
        if sync:
            os.fsync(self._file.fileno())
        self._next = 1 - self._next

    def close(self) -> None:
        self._file.close()
