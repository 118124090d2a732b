"""Form, read and save the whole array through plan, guard, ledger and store."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import tempfile
import time
from pathlib import Path

import numpy as np
from figures import best, report

import rramlab
from rramlab.drivers.controller import MacroController
from rramlab.macro.cells import CellSelection

LIMIT_S = 2.0
ATTEMPTS = 5


def bare_controller(folder):
    """Pulse and read the whole array with nothing above the controller."""
    with rramlab.open_bench(folder) as session:
        controller: MacroController = session.bench.controllers["sim-0001"]
        board = session.description.board
        cells = CellSelection.everything(board.geometry)
        begun = time.perf_counter()
        controller.pulse(1, "electroform", cells, board.dac_code(3.75), 1000, board.dac_code(1.6), 8)
        controller.read(cells, 1, board.dac_code(board.read_voltage_V))
        return time.perf_counter() - begun


def attempt():
    """Return seconds of forming all 262,144 cells, of reading them, and of closing (which saves)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        with rramlab.open_bench(folder) as session:
            opened = time.perf_counter()
            # The protocol forms with pilot and rechecks, reads every cell and consolidates run.h5.
            session.run("electroform", {"cells": "all"}, arm="sim-0001")
            formed = time.perf_counter()
            session.macro.read()
            read = time.perf_counter()
        saved = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        bare = bare_controller(Path(name))
    return opened - begun, formed - opened, read - formed, saved - read, bare


opened, formed, read, saved, bare = np.min([attempt() for _ in range(ATTEMPTS)], axis=0).tolist()
normals = best(lambda: np.random.default_rng(0).standard_normal(512 * 512))
total = formed + read + saved
report(
    "array",
    {
        "total_to_limit": total / LIMIT_S,
        "total_to_bare_controller": total / bare,
        "total_to_normals": total / normals,
    },
    {
        "open": opened,
        "form_read_consolidate": formed,
        "read": read,
        "save": saved,
        "total": total,
        "bare_controller": bare,
        "normals": normals,
    },
    {
        "total_to_limit": f"the limit of {LIMIT_S} s",
        "total_to_bare_controller": "the same pulses and one read by the controller alone (one write of the state file)",
        "total_to_normals": "drawing 262,144 normals with numpy",
    },
)
