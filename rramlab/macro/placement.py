"""Placement: which rows and pairs of the die hold which part of which layer. Its one home."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InvalidValue, UsageError
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask, lines_of

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tile:
    """Inputs ``first_input`` … of a layer on rows ``row`` …, outputs ``first_output`` … on pairs ``pair`` … of a die.

    ``die`` counts the dies of the placement from 0.
    """

    layer: str
    first_input: int
    inputs: int
    outputs: int
    row: int
    pair: int
    first_output: int = 0
    die: int = 0

    @property
    def input_slice(self) -> slice:
        return slice(self.first_input, self.first_input + self.inputs)

    @property
    def output_slice(self) -> slice:
        return slice(self.first_output, self.first_output + self.outputs)

    @property
    def of_layer(self) -> tuple[slice, slice]:
        """Which part of the layer's [inputs, outputs] the tile holds."""
        return self.input_slice, self.output_slice

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
    """Where every layer lies on one die or several of one geometry.

    Layers with more inputs than rows are split, and the parts summed digitally; those with more outputs than pairs, too,
    and the parts joined.
    """

    geometry: Geometry
    tiles: tuple[Tile, ...]

    def __post_init__(self) -> None:
        taken = np.zeros((self.dies, self.geometry.rows, self.geometry.pairs), np.bool_)
        for tile in self.tiles:
            where = tile.die, tile.row_slice, tile.pair_slice
            if min(tile.row, tile.pair, tile.die) < 0 or taken[where].shape != (tile.inputs, tile.outputs):
                raise InvalidValue(
                    f"the tile of layer {tile.layer!r} at row {tile.row}, pair {tile.pair} leaves the die"
                )
            area = taken[where]
            if area.any():
                raise InvalidValue(
                    f"the tile of layer {tile.layer!r} at row {tile.row}, pair {tile.pair} overlaps another"
                )
            area[:] = True

    @classmethod
    def pack(
        cls, layers: Mapping[str, tuple[int, int]], geometry: Geometry, align: int = 64, dies: int | None = 1
    ) -> Placement:
        """Place ``layers`` (name → (inputs, outputs)) on ``dies`` dies, largest first, at the first free place.

        Tiles start at multiples of ``align`` rows (the board's lines at once), so that none needs a row group
        more than its inputs do. ``dies``: None takes as many as are needed.

        Raises:
            UsageError: the network does not fit; says how many dies it would take.
        """
        parts = [part for name, (inputs, outputs) in layers.items() for part in _split(name, inputs, outputs, geometry)]
        taken: list[Bools] = []
        placed: dict[int, Tile] = {}
        for index in sorted(range(len(parts)), key=lambda i: (-parts[i].inputs, -parts[i].outputs)):
            part = parts[index]
            for die in range(len(taken) + 1):
                if die == len(taken):
                    taken.append(np.zeros((geometry.rows, geometry.pairs), np.bool_))
                where = _first_free(taken[die], part.inputs, part.outputs, align)
                if where is not None:
                    break
            assert where is not None  # a part is never larger than a die
            placed[index] = replace(part, row=where[0], pair=where[1], die=die)
            taken[die][placed[index].row_slice, placed[index].pair_slice] = True
        if dies is not None and len(taken) > dies:
            weights = sum(i * o for i, o in layers.values())
            raise UsageError(
                f"the network does not fit on {'one die' if dies == 1 else f'{dies} dies'}: its {weights:,} weights in "
                f"{len(layers)} layers take {len(taken)} dies of {geometry.rows * geometry.pairs:,} pairs ({geometry.rows} "
                f"rows × {geometry.pairs}); use fewer or narrower layers, or name more dies"
            )
        return cls(geometry, tuple(placed[index] for index in range(len(parts))))

    @property
    def dies(self) -> int:
        """How many dies the placement needs."""
        return 1 + max((tile.die for tile in self.tiles), default=0)

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Layer name → (inputs, outputs), in placement order."""
        shapes: dict[str, tuple[int, int]] = {}
        for tile in self.tiles:
            inputs, outputs = shapes.get(tile.layer, (0, 0))
            shapes[tile.layer] = max(inputs, tile.input_slice.stop), max(outputs, tile.output_slice.stop)
        return shapes

    def of(self, layer: str) -> tuple[Tile, ...]:
        return tuple(tile for tile in self.tiles if tile.layer == layer)

    def on(self, die: int) -> tuple[Tile, ...]:
        return tuple(tile for tile in self.tiles if tile.die == die)

    def weights(self, conductance_S: Floats) -> dict[str, Floats]:
        """Return G⁺ − G⁻ of every layer's pairs, float32[inputs, outputs].

        ``conductance_S``: float32[rows, columns] of the only die, or float32[dies, rows, columns].
        """
        return self._of_pairs(conductance_S, np.subtract)

    def loudness(self, conductance_S: Floats) -> dict[str, Floats]:
        """Return √(G⁺² + G⁻²) of every layer's pairs, as :meth:`weights` does: what a pair's read noise goes with."""
        return self._of_pairs(conductance_S, np.hypot)

    def _of_pairs(self, conductance_S: Floats, join: np.ufunc) -> dict[str, Floats]:
        stack = conductance_S.reshape(self.dies, *self.geometry.shape)
        found = {name: np.empty(shape, np.float32) for name, shape in self.layers.items()}
        for tile in self.tiles:
            cells = stack[tile.die, tile.row_slice, tile.column_slice]
            found[tile.layer][tile.of_layer] = join(cells[:, 0::2], cells[:, 1::2])
        return found

    def targets(self, wanted_S: Mapping[str, Floats]) -> Floats:
        """Return what each cell must conduct for weights of G⁺ − G⁻, float32[dies, rows, columns] in siemens.

        The inverse of :meth:`weights`: one cell of each pair, by the sign; the other 0. NaN outside every tile.

        Raises:
            UsageError: a wanted weight is no number: its cells would count as outside.
        """
        for name, values in wanted_S.items():
            if not np.isfinite(values).all():
                raise UsageError(
                    f"layer {name!r}: the weights to be written hold values that are no numbers; nothing was planned"
                )
        stack = np.full((self.dies, *self.geometry.shape), np.nan, np.float32)
        for tile in self.tiles:
            wanted = wanted_S[tile.layer][tile.of_layer]
            cells = stack[tile.die, tile.row_slice, tile.column_slice]
            cells[:, 0::2], cells[:, 1::2] = np.maximum(wanted, 0.0), np.maximum(-wanted, 0.0)
        return stack

    def kept(self, mask: Mask, die: int = 0) -> Bools:
        """Return the kept pairs of a die: bool[rows, pairs]; pairs outside every tile are not kept.

        Raises:
            UsageError: the mask's layers are not those placed.
        """
        found = {name: layer.shape for name, layer in mask.layers.items()}
        if found != self.layers:
            raise UsageError(
                f"the mask has layers {found}, the placement {self.layers}: they are of different networks"
            )
        kept = np.zeros((self.geometry.rows, self.geometry.pairs), np.bool_)
        for tile in self.on(die):
            kept[tile.row_slice, tile.pair_slice] = mask.layers[tile.layer][tile.of_layer]
        return kept

    def cells(self, mask: Mask, die: int = 0) -> CellSelection:
        """Return the cells of kept pairs of a die."""
        return CellSelection(np.repeat(self.kept(mask, die), 2, axis=1))

    def used(self, die: int = 0) -> CellSelection:
        """Return every cell of a die that a tile holds."""
        return self.cells(Mask({name: np.ones(shape, np.bool_) for name, shape in self.layers.items()}), die)

    def lines(self, mask: Mask) -> Mask:
        """Return what stays on where the pruned cells are reset: every pair on the lines of its tile that keep anything."""
        found = {name: np.zeros_like(layer) for name, layer in mask.layers.items()}
        for tile in self.tiles:
            found[tile.layer][tile.of_layer] = lines_of(mask.layers[tile.layer][tile.of_layer])
        return Mask(found)

    def gates(self, mask: Mask, reset: Collection[str] = ()) -> dict[Tile, GatePattern]:
        """Return each tile's gate pattern, on the tile's die.

        Pairs with equal row sets share a phase. The layers named in ``reset``, whose pruned cells are reset, have one phase:
        the rows and the pairs that keep anything, which is what remains to be gated.
        """
        return {
            tile: self.gates_of(tile, mask.layers[tile.layer][tile.of_layer], tile.layer in reset)
            for tile in self.tiles
        }

    def gates_of(self, tile: Tile, kept: Bools, lines_only: bool = False) -> GatePattern:
        """Return the pattern of one tile that keeps ``kept``, bool[tile inputs, tile outputs]; see :meth:`gates`."""
        on_die = np.zeros((self.geometry.rows, self.geometry.pairs), np.bool_)
        on_die[tile.row_slice, tile.pair_slice] = kept
        if lines_only:
            return GatePattern.lines(np.asarray(on_die.any(axis=1)), np.asarray(on_die.any(axis=0)))
        return GatePattern.of_pairs(on_die)

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.geometry.rows,
            "columns": self.geometry.columns,
            "tiles": [asdict(tile) for tile in self.tiles],
        }

    @classmethod
    def from_json(cls, rows: int, columns: int, tiles: Iterable[Mapping[str, Any]]) -> Placement:
        """The inverse of :meth:`as_json`.

        Raises:
            TypeError, ValueError: it is not the JSON of a placement.
        """
        return cls(Geometry(rows, columns), tuple(Tile(**tile) for tile in tiles))


def _split(name: str, inputs: int, outputs: int, geometry: Geometry) -> list[Tile]:
    """Cut a layer into parts that fit on a die, whole arrays first, then the rest; none has its place yet."""
    return [
        Tile(name, first, min(geometry.rows, inputs - first), min(geometry.pairs, outputs - left), 0, 0, left)
        for left in range(0, outputs, geometry.pairs)
        for first in range(0, inputs, geometry.rows)
    ]


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
