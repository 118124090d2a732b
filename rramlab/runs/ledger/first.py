"""Ledgers as version 0.1.0 wrote them: a table of operations whose outcomes were written into the intent's own row."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any

from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.runs.ledger.events import KINDS, Damaged, Entry, Outcome, What, cells_as_json, no_cells

FIRST_VERSION = "1"  # as its table of facts says
Row = tuple[int, What, dict[str, Any]]
_SELECT = (
    "SELECT id, run, position, kind, amplitude_V, width_s, gate_V, cells_per_pulse, boot_nonce, cells, outcome, done, unknown, "
    "intended_at, finished_at FROM operations ORDER BY id"
)
_OWN = ("schema", "die", "rows", "columns", "enrolled_at")


def is_first(database: sqlite3.Connection) -> bool:
    return bool(database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'die'").fetchone()[0])


def about_die(database: sqlite3.Connection) -> tuple[str, Geometry, dict[str, str]]:
    """Return die id, geometry and all facts.

    Raises:
        Damaged: what every such ledger says is missing.
    """
    facts = {str(key): str(value) for key, value in database.execute("SELECT key, value FROM die")}
    if facts.get("schema") != FIRST_VERSION:
        raise Damaged(f"is of version {facts.get('schema')!r}, which this program does not know")
    try:
        return facts["die"], Geometry(int(facts["rows"]), int(facts["columns"])), facts
    except (KeyError, ValueError) as error:
        raise Damaged(f"does not say of which die it is ({error!r})") from error


def life_of_first(database: sqlite3.Connection) -> tuple[str, Geometry, Iterator[Row]]:
    """Return die id, geometry, and its life as rows of today's ledger.

    Raises:
        Damaged: an unknown word, or a selection that is none; also while the rows are taken.
    """
    die, geometry, facts = about_die(database)
    return die, geometry, _rows(database, geometry, facts)


def _rows(database: sqlite3.Connection, geometry: Geometry, facts: dict[str, str]) -> Iterator[Row]:
    enrolled = {
        "die": facts["die"],
        "rows": geometry.rows,
        "columns": geometry.columns,
        "enrolled_at": facts.get("enrolled_at", ""),
        "from": "a ledger of version 0.1.0",
    }
    yield 0, "enrolled", enrolled
    for entry, finished_at in entries_of_first(database, geometry):
        yield (
            entry.op_id,
            "intended",
            {
                "run": entry.run,
                "position": entry.position,
                "kind": entry.kind,
                "amplitude_V": entry.pulse.amplitude_V,
                "width_s": entry.pulse.width_s,
                "gate_V": entry.pulse.gate_V,
                "cells_per_pulse": entry.cells_per_pulse,
                "board": "",
                "boot_nonce": entry.boot_nonce,
                "again": False,
                "cells": cells_as_json(entry.cells),
                "at": entry.intended_at,
            },
        )
        if entry.outcome != "intended":
            what: What = "decided" if entry.unknown.count else entry.outcome
            yield (
                entry.op_id,
                what,
                {
                    "done": None if entry.done == entry.cells else cells_as_json(entry.done),
                    "unknown": cells_as_json(entry.unknown) if entry.unknown.count else None,
                    "by": "",
                    "at": finished_at,
                },
            )
    for key, value in facts.items():
        if key not in _OWN:
            yield 0, "fact", {"key": key, "value": value, "at": ""}


def entries_of_first(database: sqlite3.Connection, geometry: Geometry) -> Iterator[tuple[Entry, str]]:
    """Yield each operation, and when its outcome was written.

    Raises:
        Damaged: an unknown word, or a selection that is none.
    """
    nothing = no_cells(geometry)
    for fields in database.execute(_SELECT):
        op_id, run, position, kind, volts, width, gate, shots, nonce, cells, word, done, unknown, at, ended_at = fields
        if kind not in KINDS:
            raise Damaged(f"has the pulse kind {kind!r} at operation {op_id}")
        if word not in ("intended", "done", "undelivered"):
            raise Damaged(f"has the outcome {word!r} at operation {op_id}")
        meant = _unpack(cells, geometry, op_id)
        delivered = undecided = nothing
        if word != "intended":
            delivered = meant if done is None else _unpack(done, geometry, op_id)
            undecided = nothing if unknown is None else _unpack(unknown, geometry, op_id)
        outcome: Outcome = word
        if outcome == "undelivered" and (done is None or delivered.count or undecided.count):
            raise Damaged(f"calls operation {op_id} undelivered, and names cells that had it")
        if outcome == "done" and not (delivered.count or undecided.count):
            raise Damaged(f"calls operation {op_id} done, and names no cell that had it")
        if (delivered & undecided).count or ((delivered | undecided) - meant).count:
            raise Damaged(f"has an outcome of operation {op_id} that does not match its intent")
        entry = Entry(
            op_id,
            run,
            position,
            kind,
            Pulse(volts, width, gate),
            shots,
            nonce,
            meant,
            outcome,
            delivered,
            undecided,
            at,
        )
        yield entry, ended_at or ""


def _unpack(blob: object, geometry: Geometry, op_id: int) -> CellSelection:
    try:
        return CellSelection.from_packed(zlib.decompress(blob), geometry)  # type: ignore[arg-type]
    except (zlib.error, ValueError, TypeError) as error:
        raise Damaged(f"has a damaged selection at operation {op_id} ({error})") from error
