"""Ledgers as version 0.1.0 wrote them, by its own tables."""

from __future__ import annotations

import sqlite3
import zlib

SCHEMA = """
CREATE TABLE die (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    position TEXT NOT NULL,
    kind TEXT NOT NULL,
    amplitude_V REAL NOT NULL,
    width_s REAL NOT NULL,
    gate_V REAL NOT NULL,
    cells_per_pulse INTEGER NOT NULL,
    boot_nonce INTEGER NOT NULL,
    cells BLOB NOT NULL,
    outcome TEXT NOT NULL,
    done BLOB,
    unknown BLOB,
    intended_at TEXT NOT NULL,
    finished_at TEXT
) STRICT;
CREATE INDEX by_run ON operations (run, position);
"""
FIELDS = (
    "run, position, kind, amplitude_V, width_s, gate_V, cells_per_pulse, boot_nonce, cells, outcome, done, unknown, "
    "intended_at, finished_at"
)


def begun(path, geometry, die="d-1"):
    """Make an empty one; return the open connection, in the mode that 0.1.0 used."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    facts = {"schema": "1", "die": die, "rows": str(geometry.rows), "columns": str(geometry.columns)}
    facts |= {
        "enrolled_at": "2026-11-20T10:00:00.000+00:00",
        "contact_passed_at": '{"at": "2026-11-20T11:00:00+00:00"}',
    }
    database.executemany("INSERT INTO die VALUES (?, ?)", facts.items())
    return database


def add(database, cells, kind="electroform", outcome="done", done=None, unknown=None, run="r", position="000.00000"):
    """Add one operation. ``done``: None where all of ``cells`` had it."""
    pack = lambda chosen: None if chosen is None else zlib.compress(chosen.packed(), 1)  # noqa: E731
    values = (run, position, kind, 3.75, 1e-6, 1.6, 8, 1, pack(cells), outcome, pack(done), pack(unknown), "at", "then")
    marks = ", ".join("?" * len(values))
    return database.execute(f"INSERT INTO operations ({FIELDS}) VALUES ({marks})", values).lastrowid
