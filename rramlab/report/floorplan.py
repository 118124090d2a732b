"""The floor plan of a placement: which rows and pairs of which die hold which layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile
from rramlab.report.figures import save_figure
from rramlab.report.theme import INK, LINE, SERIES, SOFT, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_ACROSS = 6  # dies in a row of the picture
_SMALLEST_LABEL = (
    0.02  # of a die's pairs, or four times as much of its rows: a tile below has its name in the legend alone
)


def save_floor_plan(
    placement: Placement, dies: Sequence[str], lines_at_once: int, path: Path, title: str, mask: Mask | None = None
) -> None:
    """Write a PNG: each die with its tiles; lines mark the groups of rows that are driven at once.

    ``mask``: kept weights are drawn dark, pruned ones light.
    """
    from matplotlib.figure import Figure

    layers = list(placement.layers)
    across = min(placement.dies, _MOST_ACROSS)
    down = -(-placement.dies // across)
    side = 5.6 if placement.dies == 1 else 3.4 if placement.dies <= 2 * _MOST_ACROSS else 2.2
    with drawing():
        figure = Figure(figsize=(max(side * across, 6.4) + 1.8, side * down + 0.9), dpi=110, layout="constrained")
        panels = figure.subplots(down, across, squeeze=False)
        for number, axes in enumerate(panels.ravel()):
            if number >= placement.dies:
                axes.set_axis_off()
                continue
            _draw_die(axes, placement, number, layers, lines_at_once, mask)
            used = sum(tile.inputs * tile.outputs for tile in placement.on(number))
            share = used / (placement.geometry.rows * placement.geometry.pairs)
            axes.set_title(f"{dies[number]}: {share:.0%} of its pairs")
            if number % across:
                axes.set_ylabel("")
            if number + across < placement.dies:
                axes.set_xlabel("")
        _legend(figure, placement, layers)
        figure.suptitle(title, color=INK, fontsize=11)
        save_figure(figure, path)


def _draw_die(
    axes: Axes, placement: Placement, die: int, layers: list[str], lines_at_once: int, mask: Mask | None
) -> None:
    from matplotlib.patches import Rectangle

    rows, pairs = placement.geometry.rows, placement.geometry.pairs
    for tile in placement.on(die):
        colour = _colour(layers.index(tile.layer))
        corner = (tile.pair, tile.row)
        alpha = 0.85 if mask is None else 0.25
        axes.add_patch(Rectangle(corner, tile.outputs, tile.inputs, facecolor=colour, alpha=alpha, linewidth=0))
        if mask is not None:
            _draw_kept(axes, tile, mask, colour)
        axes.add_patch(Rectangle(corner, tile.outputs, tile.inputs, facecolor="none", edgecolor=INK, linewidth=0.6))
        if tile.outputs >= _SMALLEST_LABEL * pairs and tile.inputs >= 4 * _SMALLEST_LABEL * rows:
            axes.text(
                tile.pair + tile.outputs / 2,
                tile.row + tile.inputs / 2,
                tile.layer,
                ha="center",
                va="center",
                rotation=90 if tile.inputs / rows > 2 * tile.outputs / pairs else 0,
                fontsize=8,
                color="white" if mask is None else INK,
                bbox=None if mask is None else {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5},
            )
    for row in range(lines_at_once, rows, lines_at_once):
        axes.axhline(row, color=LINE, linewidth=0.5, zorder=0)
    axes.spines[:].set_visible(True)
    axes.set(
        xlim=(0, pairs),
        ylim=(rows, 0),
        box_aspect=1,
        xlabel="pair (two source lines)",
        ylabel="row (bit line)",
        facecolor="#f6f8fa",
    )


def _draw_kept(axes: Axes, tile: Tile, mask: Mask, colour: str) -> None:
    from matplotlib.colors import to_rgb

    kept = mask.layers[tile.layer][tile.of_layer]
    image = np.zeros((*kept.shape, 4))
    image[..., :3] = to_rgb(colour)
    image[..., 3] = kept
    extent = (tile.pair, tile.pair + tile.outputs, tile.row + tile.inputs, tile.row)
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")


def _legend(figure: object, placement: Placement, layers: list[str]) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    assert isinstance(figure, Figure)
    shapes = placement.layers
    handles = [
        Patch(facecolor=_colour(index), label=f"{name}  {shapes[name][0]} × {shapes[name][1]}")
        for index, name in enumerate(layers)
    ]
    legend = figure.legend(handles=handles, loc="outside right upper", title="layer  inputs × outputs", fontsize=8)
    legend.get_title().set_color(SOFT)


def _colour(index: int) -> str:
    """Return the colour of a layer; a network of many layers has each one again, lighter."""
    from matplotlib.colors import to_hex, to_rgb

    base = np.array(to_rgb(SERIES[index % len(SERIES)]))
    lighter = min(0.6, 0.2 * (index // len(SERIES)))
    red, green, blue = (base + (1 - base) * lighter).tolist()
    return to_hex((red, green, blue))
