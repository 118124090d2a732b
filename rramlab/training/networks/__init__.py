"""The networks that recipes name. Every layer but the first rectifies its input: that is the ReLU before it."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol, Unpack

import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import Masking, configure, convert, share_kept
from rramlab.training.networks.digits import digits_mlp
from rramlab.training.networks.fashion import fashion_cnn, fashion_cnn_large
from rramlab.training.networks.speech import spoken_crnn
from rramlab.training.networks.unet import drive_unet, drive_unet_small


class Network(Protocol):
    """Makes a network whose masked layers are told the same."""

    def __call__(self, **masking: Unpack[Masking]) -> nn.Module: ...


NETWORKS: dict[str, Network] = {
    "digits-mlp": digits_mlp,
    "drive-unet": drive_unet,
    "drive-unet-small": drive_unet_small,
    "fashion-cnn": fashion_cnn,
    "fashion-cnn-large": fashion_cnn_large,
    "spoken-crnn": spoken_crnn,
}


def network(name: str, digital: Collection[str] = ()) -> Network:
    """Return a network by name, or what ``FILE.py:FUNCTION`` makes, a plain torch model, with masked layers.

    Raises:
        UsageError: no such network, file or function; the message lists the networks that exist.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        raise UsageError(
            f"there is no network {name!r}; known: {', '.join(sorted(NETWORKS))}, or FILE.py:FUNCTION of your own"
        )
    if not Path(file).is_file():
        raise UsageError(f"the network {name!r}: there is no file {file}")
    make = _run(name, lambda: runpy.run_path(file), Path(file).parent).get(function)
    if not callable(make):
        raise UsageError(f"the network {name!r}: {file} has no function {function!r} that makes one")

    def converted(**masking: Unpack[Masking]) -> nn.Module:
        made = _run(name, make, Path(file).parent)
        if not isinstance(made, nn.Module):
            raise UsageError(
                f"the network {name!r}: {function} returned a {type(made).__name__}, expected a torch module"
            )
        return convert(made, digital=digital, **masking)

    return converted


def _run(name: str, code: Callable[[], Any], folder: Path) -> Any:
    """Call a stranger's code with its folder importable; whatever it raises is said to be its own.

    Raises:
        UsageError: it raised.
    """
    sys.path.insert(0, str(folder))
    try:
        return code()
    except Exception as error:  # it can raise what it likes
        raise UsageError(f"the network {name!r} cannot be made: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(folder))


def build(
    name: str,
    read_noise: float = 0.0,
    seed: int | None = None,
    share: bool = False,
    digital: Collection[str] = (),
    **masking: Unpack[Masking],
) -> nn.Module:
    """Return a network with fresh scores and no weights yet; ``seed`` fixes the scores, ``share``: one threshold.

    Raises:
        UsageError: no such network; the message lists those that exist.
    """
    make = network(name, digital)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model = make(**masking)
    configure(model, read_noise=read_noise)
    if share:
        share_kept(model)
    return model
