"""``place``: where a network lies on one die or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rramlab.base.names import checked
from rramlab.cli.learning import need_torch
from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command


@command
def place(
    network: Annotated[
        str, typer.Argument(help="A recipe, or the name of a training; of that the kept weights are drawn, too.")
    ],
    dies: Annotated[
        int | None, typer.Option("--dies", min=1, help="On at most so many dies; default: as many as it takes.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Also draw the floor plan as a picture.")] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show which rows and pairs of which die hold which layer. Reads files only."""
    need_torch()
    from rramlab.drivers.bench import describe_bench
    from rramlab.macro.masks import Mask
    from rramlab.macro.placement import Placement
    from rramlab.nn import masked_layers
    from rramlab.training import load_recipe
    from rramlab.training.deploying import checkpoints
    from rramlab.training.experiment import Experiment

    out = Output(as_json)
    description = describe_bench(bench)
    board = description.board
    folder = checkpoints(description.data) / Path(network).name
    mask = None
    if (folder / "experiment.json").exists() and Path(network).name == network:
        experiment = Experiment.load(checkpoints(description.data) / checked(network, "training's name"))
        placement, names = experiment.placement, list(experiment.dies)
        mask = Mask.load(folder / "mask.npz") if (folder / "mask.npz").exists() else None
    else:
        layers = {name: layer.shape for name, layer in masked_layers(load_recipe(network).model()).items()}
        placement = Placement.pack(layers, board.geometry, board.lines_at_once, dies)
        names = [f"die {number + 1}" for number in range(placement.dies)]
    geometry = placement.geometry
    table = out.table("layer", "weights", "die", "rows", "pairs", "row groups")
    for tile in placement.tiles:
        table.add_row(
            tile.layer,
            f"{tile.inputs * tile.outputs:,}",
            names[tile.die],
            f"{tile.row}-{tile.row + tile.inputs - 1}",
            f"{tile.pair}-{tile.pair + tile.outputs - 1}",
            str(-(-(tile.row + tile.inputs) // board.lines_at_once) - tile.row // board.lines_at_once),
        )
    out.say(table)
    weights = sum(tile.inputs * tile.outputs for tile in placement.tiles)
    share = weights / (placement.dies * geometry.rows * geometry.pairs)
    out.say(
        f"{weights:,} weights on {placement.dies} of {geometry.rows} × {geometry.columns} cells: {share:.0%} of the pairs."
    )
    if png is not None:
        from rramlab.report.floorplan import save_floor_plan

        save_floor_plan(placement, names, board.lines_at_once, png, network, mask)
        out.say(f"Picture: {png}")
    out.finish(
        {"dies": names, "weights": weights, "share": share, "png": str(png) if png else None, **placement.as_json()}
    )
