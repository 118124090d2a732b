"""The simulated product of a 512 × 512 array, published non-idealities, against a float32 torch.matmul of the same size.

One bit plane. ``lines64``: 64 lines at once, 8 conversions a column; ``lines512``: all lines at once, one conversion a
column, for which the full scale is widened to 8 mS. ``_ir``: with the resistance of wires and switches, the matrix solved
before.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from figures import best, report

from rramlab.drivers.boardfile import load_board
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel

LIMITS = {("lines64", 1): 30, ("lines512", 1): 10, ("lines64", 1024): 25, ("lines512", 1024): 6}
BATCHES = ((1, 300), (64, 40), (1024, 9))

shipped = load_board(Path(), "macro-40nm")[0].table()
boards = {
    "lines64": shipped,
    # 512 lines drive more current than the shipped board's supply allows: widened for this figure, too.
    "lines512": replace(shipped, lines_at_once=512, multiply_full_scale_S=8e-3, max_supply_current_A=10.0),
}
matrix = torch.rand(512, 512)
columns = np.arange(512)
pattern = GatePattern.lines(np.ones(512, bool), np.ones(256, bool))
ratios, seconds, notes = {}, {}, {}
for solver in ("none", "fast"):
    for name, table in boards.items():
        die = SimulatedDie(table.geometry, DieModel.preset("published", {"wires": {"solver": solver}}), 1)
        macro = SimulatedController(die, SimulatedBoard(table, BoardModel(), "B-1", 1))
        cells = CellSelection.everything(table.geometry)
        macro.pulse(1, "electroform", cells, table.dac_code(3.75), 1000, table.dac_code(1.6), 8)
        macro.load_gates(0, pattern.rows, pattern.phase)
        for batch, repeats in BATCHES:
            x = np.random.default_rng(0).integers(0, 2, (batch, 512)).astype(np.uint8)
            vectors = torch.from_numpy(x).float()
            key = f"{name}_b{batch}{'_ir' if solver == 'fast' else ''}"
            macro.multiply(x, 1, 0, columns)  # the matrix of this state, which later products share
            bare = best(lambda vectors=vectors: vectors @ matrix, repeats)
            seconds[key] = best(lambda x=x, macro=macro: macro.multiply(x, 1, 0, columns), repeats)
            seconds[f"matmul_b{batch}"] = min(bare, seconds.get(f"matmul_b{batch}", bare))
            ratios[key] = seconds[key] / bare
            limit = LIMITS.get((name, batch))
            if limit is not None:
                limit += solver == "fast"
                ratios[f"{key}_to_limit"] = ratios[key] / limit
                notes[f"{key}_to_limit"] = f"the limit of {limit} × a matmul"
            notes[key] = "torch.matmul, float32, same size and batch"

report("multiply", ratios, seconds, notes)
