"""Training with the chip in the loop: its conductances are read again and again, or every product is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from rramlab.macro.conditions import Conditions
from rramlab.macro.placement import Placement
from rramlab.macro.protocol import read_whole
from rramlab.nn import load_weights
from rramlab.training.onchip import Macros, multiplied_by

# A read of every weight is the mean of so many: at 2 % read noise it is known to 1 %.
REPEATS = 4


@dataclass(frozen=True, eq=False)
class ChipLoop:
    """What a training asks of the dies it runs on.

    ``weights``: every ``every`` steps the conductances are read anew, once a cell, so that what is trained is what the die is,
    with its read noise; products are the host's. ``multiply``: every product is the dies', the gradient is that of the
    host's weights, which are read every ``every`` steps. No pulse is sent in either.
    """

    mode: Literal["weights", "multiply"]
    macros: Macros
    dies: tuple[str, ...]
    placement: Placement
    every: int

    @contextmanager
    def around(self, model: nn.Module) -> Iterator[Callable[[int], None]]:
        """Yield what is to be called before each training step with its number.

        Raises:
            whatever a link raises when it is lost: the bench is in its safe state then, the last checkpoint whole.
        """

        def before(step: int) -> None:
            if step % self.every == 0:
                conductance_S, taken = read_dies(self.macros, self.dies, self.placement, 1)
                load_dies(model, self.placement, conductance_S, taken)

        if self.mode == "weights":
            yield before
        else:
            with multiplied_by(model, self.macros, self.dies, self.placement):
                yield before


def read_dies(
    macros: Macros, dies: tuple[str, ...], placement: Placement, repeats: int
) -> tuple[npt.NDArray[np.float32], tuple[Conditions, ...]]:
    """Read what a placement uses of its dies: float32[dies, rows, columns] in siemens, NaN elsewhere."""
    taken = tuple(macros[die].conditions() for die in dies)
    found = [read_whole(macros[die], placement.used(number), repeats) for number, die in enumerate(dies)]
    return np.stack(found), taken


def load_dies(
    model: nn.Module, placement: Placement, conductance_S: npt.NDArray[np.float32], taken: tuple[Conditions, ...]
) -> None:
    """Give a model the weights that :func:`read_dies` found."""
    load_weights(model, placement.weights(conductance_S), origin_of(taken), placement.loudness(conductance_S))


def origin_of(taken: tuple[Conditions, ...]) -> dict[str, str]:
    """Return where the weights of a network on these dies come from, as its layers keep it."""
    origins = [each.origin for each in taken]
    return {key: ", ".join(dict.fromkeys(origin[key] for origin in origins)) for key in origins[0]}
