"""The simulated product of a 512 × 512 array against a float32 torch.matmul of the same size."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import tempfile
from pathlib import Path

import numpy as np
import torch
from figures import best, report

import rramlab
from rramlab.macro.gates import GatePattern

with tempfile.TemporaryDirectory() as name, rramlab.open_bench(Path(name)) as session:
    session.run("electroform", arm="sim-0001")
    controller, board = session.bench.controllers["sim-0001"], session.description.board
    rows, columns = board.geometry.shape
    pattern = GatePattern.lines(np.ones(rows, bool), np.ones(columns // 2, bool))
    controller.load_gates(0, pattern.rows, pattern.phase)
    matrix = torch.rand(rows, columns)
    asked = np.arange(columns)
    ratios, seconds = {}, {}
    for batch, repeats in ((1, 50), (64, 20), (1024, 5)):
        x = np.random.default_rng(0).integers(0, 2, (batch, rows)).astype(np.uint8)
        vectors = torch.from_numpy(x).float()
        seconds[f"b{batch}"] = best(lambda x=x: controller.multiply(x, 1, 0, asked), repeats)
        seconds[f"matmul_b{batch}"] = best(lambda vectors=vectors: vectors @ matrix, repeats)
        ratios[f"b{batch}"] = seconds[f"b{batch}"] / seconds[f"matmul_b{batch}"]

report(
    "multiply",
    ratios,
    seconds,
    dict.fromkeys(ratios, "torch.matmul, float32, same size (one bit plane, 64 lines at once: 8 conversions a column)"),
)
