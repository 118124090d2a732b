"""Which blocks of a data set belong together: one map or table a round of a loop, and what tells the rounds apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.runs.store import Block


@dataclass
class Layer:
    """What lies at one place along the leading dimension: blocks that together read no cell twice.

    ``rounds``: round numbers from the outermost loop inwards, none outside loops. ``number``: which look at the same cells
    within the round, from 0. ``labels``: name of a ``for_each`` → (value in SI units, unit).
    """

    rounds: tuple[int, ...]
    number: int
    labels: dict[str, tuple[Any, str]]
    blocks: list[Block] = field(default_factory=list)

    def since_s(self, began: datetime) -> float:
        """When the last of its blocks was written, in seconds since the run ``began``."""
        return max(block.since_s(began) for block in self.blocks)


def data_sets(blocks: Iterable[Block]) -> dict[str, list[Block]]:
    """Sort the blocks of a run by step and data set: ``step-002-read``, in a loop ``step-003-001-read``."""
    found: dict[str, list[Block]] = {}
    for block in blocks:
        found.setdefault(f"step-{block.step}-{block.dataset}", []).append(block)
    return found


def layers(blocks: list[Block]) -> list[Layer]:
    """Return the layers of one data set, in order of rounds.

    Blocks of cells share a layer unless they read a cell twice, as the reads before and after a pulse do. Every other
    block is a layer of its own.
    """
    by_round: dict[tuple[int, ...], list[Layer]] = {}
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for block in blocks:
        rounds = tuple(int(number) for number in block.attributes.get("round", ()))
        among = by_round.setdefault(rounds, [])
        free = next((layer for layer in among if _fits(block, layer, masks)), None)
        if free is None:
            labels = {name: (value, str(unit)) for name, (value, unit) in block.attributes.get("labels", {}).items()}
            free = Layer(rounds, len(among), labels)
            among.append(free)
        free.blocks.append(block)
    return [layer for rounds in sorted(by_round) for layer in by_round[rounds]]


def _fits(block: Block, layer: Layer, masks: dict[str, npt.NDArray[np.bool_]]) -> bool:
    if block.attributes["form"] != "cells":
        return False
    start, stop = block.attributes["rows"]
    for other in layer.blocks:
        first, last = other.attributes["rows"]
        low, high = max(start, first), min(stop, last)
        if low >= high:
            continue
        for each in (block, other):
            if each.position not in masks:
                masks[each.position] = each.load()["valid"].copy()  # without the rest of the block
        mine, theirs = masks[block.position], masks[other.position]
        if np.any(mine[low - start : high - start] & theirs[low - first : high - first]):
            return False
    return True
