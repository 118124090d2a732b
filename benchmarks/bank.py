"""Memory of a bank of 40 dies, formed and read, each having multiplied once; and what a die costs to make and form."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import resource
import time
from pathlib import Path

import numpy as np
from figures import best, report

from rramlab.drivers.boardfile import load_board
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel

DIES, LIMIT_MB, NORMALS_LIMIT = 40, 600.0, 6.0

table = load_board(Path(), "macro-40nm")[0].table()
board = SimulatedBoard(table, BoardModel(), "B-1", 1)
cells = CellSelection.everything(table.geometry)
pattern = GatePattern.lines(np.ones(512, bool), np.ones(256, bool))
vectors = np.ones((16, 512), np.uint8)


def resident_MB():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def form(seed, volts=3.75):
    """Return a formed die behind its controller, and the seconds of the pulses alone: no state file is written."""
    macro = SimulatedController(SimulatedDie(table.geometry, DieModel(), seed), board)
    begun = time.perf_counter()
    macro.pulse(1, "electroform", cells, table.dac_code(volts), 1000, table.dac_code(1.6), table.cells_per_pulse)
    return macro, time.perf_counter() - begun


before = resident_MB()
bank = []
for seed in range(DIES):
    macro, _ = form(seed)
    macro.read(cells, 1, table.dac_code(table.read_voltage_V))
    macro.load_gates(0, pattern.rows, pattern.phase)
    macro.multiply(vectors, 1, 0, np.arange(512))
    bank.append(macro)
after = resident_MB()
normals = best(lambda: np.random.default_rng(0).standard_normal(512 * 512), 20)
formed = {f"electroform_{volts}V": min(form(seed, volts)[1] for seed in range(10)) for volts in (3.75, 3.45)}
made = best(lambda: SimulatedDie(table.geometry, DieModel(), 1))
report(
    "bank",
    {
        "memory_to_limit": after / LIMIT_MB,
        **{f"{name}_to_limit": seconds / normals / NORMALS_LIMIT for name, seconds in formed.items()},
        **{f"{name}_to_normals": seconds / normals for name, seconds in formed.items()},
    },
    {"make_a_die": made, **formed, "normals": normals},
    {
        "memory_to_limit": f"{LIMIT_MB:g} MB; the process took {after:.0f} MB with {DIES} dies, {before:.0f} MB before",
        **{f"{name}_to_limit": f"{NORMALS_LIMIT:g} × drawing 262,144 normals with numpy" for name in formed},
        **{f"{name}_to_normals": "drawing 262,144 normals with numpy" for name in formed},
    },
)
