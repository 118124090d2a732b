"""Learned weights into virgin dies: each cell brought to its target by pulses and reads, or given one pulse and left so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rramlab.base.files import read_object, write_json
from rramlab.deploy.writing import write_verify_plan, written_cells
from rramlab.drivers.bench import BenchDescription
from rramlab.engine.session import Session
from rramlab.macro.cells import CellSelection, is_conducting
from rramlab.macro.pulses import PulseKind
from rramlab.macro.regions import Region
from rramlab.reproduction.benches import WINDOW, virgin

# A weight is one cell of 3 to 15 µS: what set and reset pulses of this memory reach (assumed model). Below, no pulse.
LOWEST_S, HIGHEST_S = 3e-6, 15e-6
# Of write-verify: half-width, and pulses a cell at most: so many that hardly a cell is left where its last set brought it. With
# 60 one in forty is, for 3 % fewer pulses and several points of accuracy.
TOLERANCE_S, BUDGET = 1e-6, 200
# Gates at which a sacrificial die is formed, to learn what a gate's pulse gives; rows of each.
GATES_V = (0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0)
ROWS_A_GATE = 8
LEVELS = 12  # conductances that single pulses are asked for
KINDS: tuple[PulseKind, ...] = ("electroform", "set", "reset")
Floats = npt.NDArray[np.float32]
Curve = tuple[Sequence[float], Sequence[float]]  # gates in V, and the median conductance of one pulse in S


def with_verify(description: BenchDescription, dies: Sequence[str], targets_S: Floats, budget: int = BUDGET) -> None:
    """Form the written cells of virgin dies and bring each to its target.

    ``targets_S``: float32[dies, rows, columns], 0 or NaN for cells that stay pristine. ``budget``: pulses a
    cell, at most.
    """
    with Session(description) as session:
        for die, target_S in zip(dies, targets_S, strict=True):
            cells = written_cells(target_S)
            session.run("electroform", {"cells": Region.of(cells).text, **WINDOW}, arm=die, die=die)
            session.run(write_verify_plan(target_S, TOLERANCE_S, budget), arm=die, die=die)


def once(description: BenchDescription, dies: Sequence[str], targets_S: Floats, curve: Curve) -> None:
    """Give each written cell of virgin dies one electroforming pulse, at the gate that should bring its target."""
    levels_S = np.geomspace(LOWEST_S, HIGHEST_S, LEVELS)
    edges_S = np.sqrt(levels_S[1:] * levels_S[:-1])
    with Session(description) as session:
        for die, target_S in zip(dies, targets_S, strict=True):
            cells = written_cells(target_S)
            level = np.digitize(np.nan_to_num(target_S), edges_S)
            for number in np.unique(level[cells.bits]).tolist():
                chosen = CellSelection(cells.bits & (level == number))
                settings = {"cells": Region.of(chosen).text, "gate": f"{gate_for(levels_S[number], curve)} V"}
                session.run("electroform", {**settings, **WINDOW, "within": 0.2}, arm=die, die=die)


def gate_for(conductance_S: float, curve: Curve) -> float:
    """Return the gate whose pulse gives ``conductance_S`` in the median; the nearest that was tried, beyond them."""
    gates_V, medians_S = curve
    return float(np.round(np.interp(np.log(conductance_S), np.log(medians_S), gates_V), 3))


def gate_curve(folder: Path, memory: str) -> Curve:
    """Measure on a sacrificial die what one pulse gives at each gate; once a reproduction, kept in ``gates.json``."""
    path = folder / "gates.json"
    if not path.exists():
        description = virgin(folder / "gates", ["sacrificial"], memory)
        medians = []
        with Session(description) as session:
            for number, gate_V in enumerate(GATES_V):
                first = number * ROWS_A_GATE
                rows = f"rows {first}-{first + ROWS_A_GATE - 1}"
                session.run(
                    "electroform", {"cells": rows, "gate": f"{gate_V} V", **WINDOW, "within": 0.2}, arm="sacrificial"
                )
                found_S = session.macro.read(rows, 4)
                medians.append(float(np.median(found_S[is_conducting(found_S)])))
        write_json(path, {"gates_V": list(GATES_V), "medians_S": medians})
    known = read_object(path, "gates_V", "medians_S")
    return known["gates_V"], known["medians_S"]


def pulses(description: BenchDescription) -> dict[str, int]:
    """Return how many pulses the ledgers of a bench's dies count, by kind."""
    found: dict[str, int] = {}
    with Session(description) as session:
        for station in session.stations.values():
            for kind in KINDS:
                found[kind] = found.get(kind, 0) + int(station.ledger.pulse_counts(kind).sum())
    return {kind: count for kind, count in found.items() if count}
