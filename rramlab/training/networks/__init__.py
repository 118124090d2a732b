"""The networks that recipes name. Every layer but the first rectifies its input: that is the ReLU before it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol, Unpack

import torch
from torch import nn

from rramlab.base.errors import UsageError
from rramlab.nn import Masking, configure, convert, share_kept
from rramlab.training.networks import own
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


def network(name: str, digital: Collection[str] = (), kept_in: Path | None = None) -> Network:
    """Return a network by name, or what ``FILE.py:FUNCTION`` makes, a plain torch model, with masked layers.

    ``kept_in``: the folder of the training whose data name it; None: the caller does. See ``own``.

    Raises:
        UsageError: no such network, file or function; the message lists the networks that exist. Unconfirmed: it is code that
            ``kept_in`` names, and nobody has confirmed it.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if not name.rpartition(":")[0].endswith(".py"):
        raise UsageError(
            f"there is no network {name!r}; known: {', '.join(sorted(NETWORKS))}, or FILE.py:FUNCTION of your own"
        )

    make = own.function(name, kept_in)

    def converted(**masking: Unpack[Masking]) -> nn.Module:
        made = make()
        if not isinstance(made, nn.Module):
            raise UsageError(f"the network {name!r}: it returned a {type(made).__name__}, expected a torch module")
        return convert(made, digital=digital, **masking)

    return converted


def build(
    name: str,
    read_noise: float = 0.0,
    seed: int | None = None,
    share: bool = False,
    digital: Collection[str] = (),
    kept_in: Path | None = None,
    **masking: Unpack[Masking],
) -> nn.Module:
    """Return a network with fresh scores and no weights yet; ``seed`` fixes the scores, ``share``: one threshold.

    Raises:
        UsageError, Unconfirmed: as :func:`network`.
    """
    make = network(name, digital, kept_in)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model = make(**masking)
    configure(model, read_noise=read_noise)
    if share:
        share_kept(model)
    return model
