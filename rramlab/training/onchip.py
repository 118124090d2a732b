"""Runs a network on its dies: every product of its masked layers is the macro's, in evaluation and in training."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.deploy import Deployment
from rramlab.macro.cells import Bools
from rramlab.macro.gates import GatePattern
from rramlab.macro.placement import Placement, Tile
from rramlab.macro.protocol import Macro
from rramlab.nn import MaskedLayer, configure, fix_masks, load_weights, masked_layers, masks
from rramlab.training.datasets import Data, Scores
from rramlab.training.loop import STATISTICS_IMAGES, scores, settle_statistics

Macros = Mapping[str, Macro]  # by die id


@contextmanager
def chip_in_the_loop(model: nn.Module, macros: Macros, deployment: Deployment) -> Iterator[None]:
    """Within the block, every product of ``model``'s masked layers is computed by the dies of its deployment.

    Raises:
        UsageError: the deployment is of another network or another die.
    """
    _require_deployed(model, macros, deployment)
    with multiplied_by(model, macros, deployment.dies, deployment.placement, deployment.reset):
        yield


def _require_deployed(model: nn.Module, macros: Macros, deployment: Deployment) -> None:
    missing = [die for die in deployment.dies if die not in macros]
    if missing:
        raise UsageError(f"the deployment is of die {', '.join(missing)!r}, on the bench is {', '.join(macros)!r}")
    _require_layers(model, deployment.placement)
    if not all(np.array_equal(mask, deployment.mask.layers[name]) for name, mask in masks(model).items()):
        raise UsageError(
            f"deployment {deployment.name!r} has another mask than the network: it was trained again since. Deploy it again"
        )


@contextmanager
def multiplied_by(
    model: nn.Module, macros: Macros, dies: tuple[str, ...], placement: Placement, reset: Collection[str] = ()
) -> Iterator[None]:
    """Within the block, the dies multiply with whatever masks the layers have then.

    ``dies``: those of ``placement``, in its order; ``reset``: the layers whose pruned cells were reset.

    Raises:
        UsageError: the placement is of another network.
    """
    _require_layers(model, placement)
    layers = masked_layers(model)
    banks = [macros[die] for die in dies]
    try:
        for name, layer in layers.items():
            layer.multiply = _Products(banks, layer, placement, name, name in reset)
        yield
    finally:
        for layer in layers.values():
            layer.multiply = None


def _require_layers(model: nn.Module, placement: Placement) -> None:
    found = {name: layer.shape for name, layer in masked_layers(model).items()}
    if found != placement.layers:
        raise UsageError(f"what is placed on the die is another network: {placement.layers}, not {found}")


class _Products:
    """The product of one layer: its tiles' partial sums are added digitally, their outputs joined."""

    def __init__(
        self, banks: list[Macro], layer: MaskedLayer, placement: Placement, name: str, lines_only: bool
    ) -> None:
        self.banks, self.bits, self.placement, self.lines_only = banks, layer.bits, placement, lines_only
        self.tiles, self.shape = placement.of(name), layer.shape
        self._gates: tuple[Bools, dict[Tile, GatePattern]] | None = None

    def __call__(self, codes: npt.NDArray[np.uint8], mask: Bools) -> npt.NDArray[np.float32]:
        sums = np.zeros((len(codes), self.shape[1]), np.float32)
        for tile, gates in self._of(mask).items():
            x = np.ascontiguousarray(codes[:, tile.input_slice])
            sums[:, tile.output_slice] += self.banks[tile.die].multiply(x, self.bits, tile, gates)
        return sums

    def _of(self, mask: Bools) -> dict[Tile, GatePattern]:
        """Return the gate patterns of a mask; most calls have the mask of the one before."""
        if self._gates is None or not np.array_equal(self._gates[0], mask):
            placed = self.placement
            self._gates = (
                mask.copy(),
                {tile: placed.gates_of(tile, mask[tile.of_layer], self.lines_only) for tile in self.tiles},
            )
        return self._gates[1]


def with_resets(model: nn.Module, deployment: Deployment, data: Data) -> nn.Module:
    """Return the network as resets have left it on its dies.

    In the layers that are deployed so a pruned pair is a small weight, not none. A copy computes with what was read when it was
    deployed, and has batch norm statistics and activation ranges measured for that on the training inputs.
    """
    found, placement = copy.deepcopy(model), deployment.placement
    left = placement.lines(deployment.mask).layers
    fix_masks(found, {name: left[name] for name in deployment.reset})
    load_weights(
        found, placement.weights(deployment.conductance_S), loudness_S=placement.loudness(deployment.conductance_S)
    )
    configure(found, read_noise=0.0, multiply=None)
    settle_statistics(found, data.settling(STATISTICS_IMAGES))
    return found


def scores_on_chip(
    model: nn.Module, macros: Macros, deployment: Deployment, data: Data, count: int | None = None
) -> Scores:
    """Return how good the network is with every product on the dies; ``count``: on so many test samples alone.

    Deployed by reset it runs with the statistics of :func:`with_resets`.

    Raises:
        UsageError: the deployment is of another network or another die.
    """
    _require_deployed(model, macros, deployment)
    here = with_resets(model, deployment, data) if deployment.reset else model
    with multiplied_by(here, macros, deployment.dies, deployment.placement):
        found = scores(here, data, count)
    assert found is not None  # nobody asks it to stop
    return found
