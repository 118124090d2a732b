"""Runs a trained network on the die: every product of its masked layers is the macro's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

import numpy as np
import numpy.typing as npt
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.deploy import Deployment
from rramlab.macro.gates import GatePattern
from rramlab.macro.placement import Tile
from rramlab.macro.protocol import Macro
from rramlab.nn import MaskedLayer, masked_layers, masks
from rramlab.training.data import Dataset
from rramlab.training.loop import accuracy


@contextmanager
def chip_in_the_loop(model: nn.Module, macro: Macro, deployment: Deployment) -> Iterator[None]:
    """Within the block, every product of ``model``'s masked layers is computed by ``macro``.

    Raises:
        UsageError: the deployment is of another network or another die.
    """
    if deployment.die_id != macro.die_id:
        raise UsageError(f"the deployment is of die {deployment.die_id!r}, on the bench is {macro.die_id!r}")
    layers = masked_layers(model)
    if {name: layer.shape for name, layer in layers.items()} != deployment.placement.layers:
        raise UsageError(f"deployment {deployment.name!r} is of another network: {deployment.placement.layers}")
    if not all(np.array_equal(mask, deployment.mask.layers[name]) for name, mask in masks(model).items()):
        raise UsageError(
            f"deployment {deployment.name!r} has another mask than the network: it was trained again since. Deploy it again"
        )
    gates = deployment.gates()
    try:
        for name, layer in layers.items():
            layer.multiply = _Products(macro, layer, {t: gates[t] for t in deployment.placement.of(name)})
        yield
    finally:
        for layer in layers.values():
            layer.multiply = None


class _Products:
    """The product of one layer: its tiles' partial sums are added digitally."""

    def __init__(self, macro: Macro, layer: MaskedLayer, tiles: dict[Tile, GatePattern]) -> None:
        self.macro, self.bits, self.tiles = macro, layer.bits, tiles

    def __call__(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        parts = (
            self.macro.multiply(codes[:, tile.input_slice], self.bits, tile, gates)
            for tile, gates in self.tiles.items()
        )
        return reduce(np.add, parts)


def accuracy_on_chip(
    model: nn.Module, macro: Macro, deployment: Deployment, data: Dataset, images: int | None = None
) -> float:
    """Return the test accuracy with every product on the die; ``images``: only the first so many."""
    with chip_in_the_loop(model, macro, deployment):
        return accuracy(model, data.test_x[:images], data.test_y[:images])
