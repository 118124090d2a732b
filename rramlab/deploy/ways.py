"""The ways in which a mask can be put on dies, and what each costs: to deploy, and then for every sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import UsageError
from rramlab.deploy.planner import RESET, pruned_cells
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import CellSelection, is_conducting
from rramlab.macro.gates import GatePattern
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile
from rramlab.plan import cost
from rramlab.plan.cost import Cost
from rramlab.plan.operations import PulseOp

Objective = Literal["pulses", "wear", "conversions", "time", "energy"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """One way to deploy a mask.

    ``reset``: the layers whose pruned cells are reset; all others are gated. ``deploying``: its pulses, their time and energy.
    ``wear``: the most pulses that a cell of the dies has had then. ``sample``: what the products of one sample cost.
    ``patterns``: gate patterns of all tiles.
    """

    reset: tuple[str, ...]
    deploying: Cost
    wear: int
    sample: Cost
    patterns: int

    def figure(self, objective: Objective) -> float:
        """Return what ``objective`` would have small; of conversions, time and energy that of a sample."""
        match objective:
            case "pulses":
                return self.deploying.pulses
            case "wear":
                return self.wear
            case "conversions":
                return self.sample.conversions
            case "time":
                return self.sample.time_s
            case "energy":
                return self.sample.energy_J


@dataclass(frozen=True, eq=False)
class Load:
    """What a network asks of its dies: ``vectors`` of a sample, and ``bits`` of their codes, by layer."""

    vectors: Mapping[str, int]
    bits: Mapping[str, int]


def ways(
    placement: Placement,
    mask: Mask,
    conductance_S: Floats,
    pulsed: npt.NDArray[np.uint32],
    load: Load,
    board: BoardTable,
    begun: Sequence[Collection[str]] = (),
) -> list[Way]:
    """Return the ways worth a choice: by gates alone; then one layer after another reset, the one first that saves most
    time a pulse; at last all. Layers whose pruned weights lie in whole lines need no pulse in any.

    ``conductance_S``, ``pulsed``: [dies, rows, columns], as last read and as the ledgers count. ``begun``: sets of
    layers that runs have reset, or were about to: those ways are among them, and the last one resets all of them, too.
    """
    gated, lines = (
        {name: _products(placement.gates(mask, reset), name, load, board) for name in placement.layers}
        for reset in ((), tuple(placement.layers))
    )
    cells = {name: _to_reset(placement, mask, conductance_S, name) for name in placement.layers}
    resets = {name: sum((_resetting(each, board) for each in dies), Cost()) for name, dies in cells.items()}
    some = [name for name in placement.layers if resets[name].pulses]
    some.sort(key=lambda name: (lines[name].time_s - gated[name].time_s) / resets[name].pulses)
    sets = [{*some[:count]} for count in range(len(some) + 1)]
    sets[-1] = sets[-1].union(*begun)
    for each in begun:
        if {*each} not in sets:
            sets.insert(-1, {*each})
    found = []
    for chosen in sets:
        reset = tuple(name for name in placement.layers if name in chosen)
        after = pulsed.astype(np.int64)
        for name in reset:
            after += np.stack([each.bits for each in cells[name]])
        found.append(
            Way(
                reset,
                sum((resets[name] for name in reset), Cost()),
                int(after.max(initial=0)),
                sum(((lines if name in reset else gated)[name] for name in placement.layers), Cost()),
                sum(pattern.phases for pattern in placement.gates(mask, reset).values()),
            )
        )
    return found


def best(found: Sequence[Way], objective: Objective, most_pulses: int | None = None) -> Way:
    """Return the way with the smallest figure; of equal ones that with the fewest pulses, then the least time.

    Raises:
        UsageError: none takes so few pulses.
    """
    allowed = [way for way in found if most_pulses is None or way.deploying.pulses <= most_pulses]
    if not allowed:
        fewest = min(way.deploying.pulses for way in found)
        raise UsageError(f"no way deploys this mask with at most {most_pulses:,} pulses; the fewest are {fewest:,}")
    return min(allowed, key=lambda way: (way.figure(objective), way.deploying.pulses, way.sample.time_s))


def sample_cost(gates: Mapping[Tile, GatePattern], load: Load, board: BoardTable) -> Cost:
    """Return what the products of one sample cost with these patterns: bench time, energy, conversions."""
    parts = (
        cost.multiply(pattern, load.vectors[tile.layer], load.bits[tile.layer], board)
        for tile, pattern in gates.items()
    )
    return sum(parts, Cost())


def _products(gates: Mapping[Tile, GatePattern], layer: str, load: Load, board: BoardTable) -> Cost:
    return sample_cost({tile: pattern for tile, pattern in gates.items() if tile.layer == layer}, load, board)


def _to_reset(placement: Placement, mask: Mask, conductance_S: Floats, layer: str) -> list[CellSelection]:
    """Return the conducting cells of a layer's pruned pairs, a die."""
    return [
        CellSelection(pruned_cells(placement, mask, (layer,), die).bits & is_conducting(conductance_S[die]))
        for die in range(placement.dies)
    ]


def _resetting(cells: CellSelection, board: BoardTable) -> Cost:
    return cost.of(PulseOp("reset", cells, RESET, board.cells_per_pulse), board)
