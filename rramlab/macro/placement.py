"""Placement: which rows and pairs of the die hold which part of which layer. Its one home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import UsageError
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tile:
    """Inputs ``first_input`` … of a layer on rows ``row`` …, its outputs on pairs ``pair`` … of one die."""

    layer: str
    first_input: int
    inputs: int
    outputs: int
    row: int
    pair: int

    @property
    def input_slice(self) -> slice:
        return slice(self.first_input, self.first_input + self.inputs)

    @property
    def row_slice(self) -> slice:
        return slice(self.row, self.row + self.inputs)

    @property
    def pair_slice(self) -> slice:
        return slice(self.pair, self.pair + self.outputs)

    @property
    def column_slice(self) -> slice:
        return slice(2 * self.pair, 2 * (self.pair + self.outputs))


@dataclass(frozen=True)
class Placement:
    """Where every layer lies on one die. Layers with more inputs than rows are split; the parts are summed digitally."""

    geometry: Geometry
    tiles: tuple[Tile, ...]

    def __post_init__(self) -> None:
        taken = np.zeros((self.geometry.rows, self.geometry.pairs), np.bool_)
        for tile in self.tiles:
            area = taken[tile.row_slice, tile.pair_slice]
            if area.shape != (tile.inputs, tile.outputs) or min(tile.row, tile.pair) < 0:
                raise ValueError(f"the tile of layer {tile.layer!r} at row {tile.row}, pair {tile.pair} leaves the die")
            if area.any():
                raise ValueError(
                    f"the tile of layer {tile.layer!r} at row {tile.row}, pair {tile.pair} overlaps another"
                )
            area[:] = True

    @classmethod
    def pack(cls, layers: Mapping[str, tuple[int, int]], geometry: Geometry, align: int = 64) -> Placement:
        """Place ``layers`` (name → (inputs, outputs)) on one die, largest first, at the first free place.

        Tiles start at multiples of ``align`` rows (the board's lines at once), so that none needs a row group
        more than its inputs do.

        Raises:
            UsageError: the network does not fit.
        """
        parts = [part for name, (inputs, outputs) in layers.items() for part in _split(name, inputs, outputs, geometry)]
        taken = np.zeros((geometry.rows, geometry.pairs), np.bool_)
        placed: dict[int, Tile] = {}
        for index in sorted(range(len(parts)), key=lambda i: (-parts[i][2], -parts[i][3])):
            name, first, inputs, outputs = parts[index]
            where = _first_free(taken, inputs, outputs, align)
            if where is None:
                weights = sum(i * o for i, o in layers.values())
                raise UsageError(
                    f"the network does not fit on one die: layer {name!r} ({inputs} × {outputs} weights) finds no room; "
                    f"the network has {weights:,} weights, a die {geometry.rows * geometry.pairs:,} pairs "
                    f"({geometry.rows} rows × {geometry.pairs}); use fewer or narrower layers"
                )
            tile = Tile(name, first, inputs, outputs, *where)
            taken[tile.row_slice, tile.pair_slice] = True
            placed[index] = tile
        return cls(geometry, tuple(placed[index] for index in range(len(parts))))

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Layer name → (inputs, outputs), in placement order."""
        shapes: dict[str, tuple[int, int]] = {}
        for tile in self.tiles:
            inputs = max(shapes.get(tile.layer, (0, 0))[0], tile.first_input + tile.inputs)
            shapes[tile.layer] = (inputs, tile.outputs)
        return shapes

    def of(self, layer: str) -> tuple[Tile, ...]:
        return tuple(tile for tile in self.tiles if tile.layer == layer)

    def weights(self, conductance_S: Floats) -> dict[str, Floats]:
        """Return G⁺ − G⁻ of every layer's pairs, float32[inputs, outputs], from float32[rows, columns] in siemens."""
        weights = {name: np.empty(shape, np.float32) for name, shape in self.layers.items()}
        for tile in self.tiles:
            cells = conductance_S[tile.row_slice, tile.column_slice]
            weights[tile.layer][tile.input_slice] = cells[:, 0::2] - cells[:, 1::2]
        return weights

    def kept(self, mask: Mask) -> Bools:
        """Return the kept pairs of the die: bool[rows, pairs]; pairs outside every tile are not kept.

        Raises:
            UsageError: the mask's layers are not those placed.
        """
        found = {name: layer.shape for name, layer in mask.layers.items()}
        if found != self.layers:
            raise UsageError(
                f"the mask has layers {found}, the placement {self.layers}: they are of different networks"
            )
        kept = np.zeros((self.geometry.rows, self.geometry.pairs), np.bool_)
        for tile in self.tiles:
            kept[tile.row_slice, tile.pair_slice] = mask.layers[tile.layer][tile.input_slice]
        return kept

    def cells(self, mask: Mask) -> CellSelection:
        """Return the cells of kept pairs."""
        return CellSelection(np.repeat(self.kept(mask), 2, axis=1))

    @property
    def used(self) -> CellSelection:
        """Every cell that a tile holds."""
        return self.cells(Mask({name: np.ones(shape, np.bool_) for name, shape in self.layers.items()}))

    def gates(self, mask: Mask, lines_only: bool = False) -> dict[Tile, GatePattern]:
        """Return each tile's gate pattern.

        Pairs with equal row sets share a phase. With ``lines_only`` there is one phase: the rows and the pairs
        that keep anything (what remains to be gated when pruned cells are reset).
        """
        kept = self.kept(mask)
        patterns: dict[Tile, GatePattern] = {}
        for tile in self.tiles:
            mine = np.zeros_like(kept)
            mine[tile.row_slice, tile.pair_slice] = kept[tile.row_slice, tile.pair_slice]
            if lines_only:
                patterns[tile] = GatePattern.lines(np.asarray(mine.any(axis=1)), np.asarray(mine.any(axis=0)))
            else:
                patterns[tile] = GatePattern.of_pairs(mine)
        return patterns


def _split(name: str, inputs: int, outputs: int, geometry: Geometry) -> list[tuple[str, int, int, int]]:
    """Cut a layer into parts of at most ``geometry.rows`` inputs: whole arrays first, then the rest."""
    return [(name, first, min(geometry.rows, inputs - first), outputs) for first in range(0, inputs, geometry.rows)]


def _first_free(taken: Bools, inputs: int, outputs: int, align: int) -> tuple[int, int] | None:
    """Find the first free rectangle, scanning pairs and then aligned rows, by a summed-area table."""
    rows, pairs = taken.shape
    if inputs > rows or outputs > pairs:
        return None
    area = np.zeros((rows + 1, pairs + 1), np.int64)
    area[1:, 1:] = taken.cumsum(axis=0).cumsum(axis=1)
    starts = np.arange(0, rows - inputs + 1, align)
    load = area[starts + inputs] - area[starts]
    free = (load[:, outputs:] - load[:, : load.shape[1] - outputs]) == 0
    pair, start = np.nonzero(free.T)
    return (int(starts[start[0]]), int(pair[0])) if pair.size else None
