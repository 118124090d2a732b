"""Where a network is trained: the host's processor, or a CUDA device. What it learns is put on the chip alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rramlab.base.errors import UsageError

CPU = "cpu"


def device_named(name: str) -> torch.device:
    """Return a device by its name: ``cpu``, ``cuda``, ``cuda:1`` …

    Raises:
        UsageError: torch knows no such device, or does not find it here.
    """
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}; known: cpu, cuda, cuda:0 …") from error
    if found.type == "cpu":
        return found
    count = torch.cuda.device_count() if found.type == "cuda" else 0
    if (found.index or 0) >= count:
        raise UsageError(
            f"torch {torch.__version__} finds no device {name!r} here ({count} of CUDA); take --device cpu, or install a torch "
            "that is built for the graphics processor of this computer"
        )
    return torch.device("cuda", found.index or 0)


def device_of(model: nn.Module) -> torch.device:
    """Return where the parameters of ``model`` are."""
    return next(model.parameters()).device


@contextmanager
def forked_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's generators as they are: the processor's, and that of ``device``."""
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        yield


def generator_state(device: torch.device) -> Tensor | None:
    """Return the state of the device's own generator; None of the processor's, which is kept in any case."""
    return None if device.type == "cpu" else torch.cuda.get_rng_state(device)


def set_generator_state(device: torch.device, state: Tensor | None) -> None:
    """Go on from such a state; a training that comes from a device of another kind goes on with fresh noise."""
    if state is not None and device.type != "cpu":
        torch.cuda.set_rng_state(state, device)
