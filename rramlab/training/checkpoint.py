"""Checkpoints: all that a training needs to go on exactly as if it had never stopped.

A file is one text line with format and SHA-256 of what follows, then what ``torch.save`` writes. The digest
is there because torch reads a file with flipped bits without complaint; ``weights_only=True`` is, because a
checkpoint must not be able to run code.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import write_atomic
from rramlab.nn import Undescribed, masked_layers
from rramlab.training.recipes import Recipe, with_defaults

FORMAT = b"rramlab checkpoint 3"


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch, counted from 1; ``loss`` and ``train_accuracy`` are means over its steps.

    ``learning_rate``: at its end. ``switched_on``, ``switched_off``: weights that training steps switched so far.
    ``scores``: of the test samples, what the data have besides the accuracy.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    learning_rate: float
    hysteresis: float
    switched_on: int
    switched_off: int
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """Return everything by name, as a line of a table has it."""
        return {name: value for name, value in asdict(self).items() if name != "scores"} | self.scores


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state after ``epoch`` finished epochs.

    ``model``, ``optimiser`` and ``schedule`` are state dicts, ``generator`` is torch's CPU generator, ``device_generator``
    that of the device trained on, if it is another; ``weights_digest`` names the conductances that were trained on.
    """

    recipe: dict[str, Any]
    die_id: str
    weights_digest: str
    epoch: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    generator: Tensor
    history: tuple[EpochResult, ...]
    device_generator: Tensor | None = None

    def save(self, path: Path) -> None:
        """Write the checkpoint so that ``path`` is always a whole one: the old or the new."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document["history"] = [asdict(result) for result in self.history]
        save_state(path, document)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            DataError: missing, not a checkpoint of this format, or damaged.
        """
        document = load_state(path)
        history = tuple(EpochResult(**result) for result in document.pop("history"))
        return cls(**document, history=history)

    def require(self, recipe: Recipe, die_id: str, weights_digest: str, path: Path) -> None:
        """Refuse to go on with another training than the one that was saved.

        Raises:
            UsageError: another recipe, die, or conductances; the message says which and what differs.
        """
        wanted, saved = recipe.model_dump(mode="json"), with_defaults(self.recipe)
        if saved != wanted:
            keys = sorted(key for key in {*wanted, *saved} if wanted.get(key) != saved.get(key))
            changes = ", ".join(f"{key} {saved.get(key)!r} → {wanted.get(key)!r}" for key in keys)
            raise UsageError(
                f"the checkpoint {path} is of another recipe ({changes}); use that one, or another checkpoint"
            )
        if self.die_id != die_id:
            raise UsageError(
                f"the checkpoint {path} is of die {self.die_id!r}, not {die_id!r}: a mask suits only the die "
                "it was learned on; use that die, or another checkpoint"
            )
        if self.weights_digest != weights_digest:
            raise UsageError(
                f"the checkpoint {path} was trained on another read of die {die_id!r}; "
                "resume with the weights that training started with, or train from the start"
            )


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values so that ``path`` is always a whole file."""
    stream = io.BytesIO()
    torch.save(state, stream)
    payload = stream.getvalue()
    write_atomic(path, FORMAT + b" " + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        DataError: missing, not a file of this format, or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"the checkpoint {path} cannot be read: {error.strerror}; train from the start"
        raise DataError(message) from error
    head, _, payload = data.partition(b"\n")
    if not head.startswith(FORMAT + b" "):
        raise DataError(f"{path} is not a checkpoint of rramlab: it does not begin {FORMAT.decode()!r}")
    if head != FORMAT + b" " + hashlib.sha256(payload).hexdigest().encode():
        raise DataError(f"the checkpoint {path} is damaged (SHA-256 differs); remove it and train again")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


def take(model: nn.Module, saved: Checkpoint) -> None:
    """Load what a checkpoint learned into the model that its recipe makes; see :meth:`Checkpoint.require`.

    Raises:
        UsageError: the model is another one. Checkpoints of version 0.1.0 do not say of what masking they are: of those the
            recipe does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Undescribed)
        model.load_state_dict(saved.model)


def learned_state(model: nn.Module, same_phases: bool) -> dict[str, Any]:
    """Return what a network learned, without the weights that it learned on: for a network on other ones.

    How many weights stay is the new recipe's, and so is which outputs share a phase, unless it has ``same_phases``. Switches
    are counted anew.
    """
    others = ("conductance", "scale", "_extra_state", "kept_weights", *(() if same_phases else ("phase",)))
    left_out = {f"{name}.{what}" for name in masked_layers(model) for what in others}
    state = {name: value for name, value in model.state_dict().items() if name not in left_out}
    for name in masked_layers(model):
        state[f"{name}.switches"] = state[f"{name}.switches"] * torch.tensor([1, 0, 0])
    return state


def write_log(path: Path, history: Sequence[EpochResult]) -> None:
    """Write one line of CSV an epoch; the file is always a whole one."""
    stream = io.StringIO()
    names = list(history[0].flat()) if history else [each.name for each in fields(EpochResult) if each.name != "scores"]
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    writer.writerows(result.flat() for result in history)
    write_atomic(path, stream.getvalue().encode())


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 (hexadecimal) of the conductances of every masked layer, by name and shape."""
    digest = hashlib.sha256()
    for name, layer in masked_layers(model).items():
        digest.update(f"{name} {layer.shape}\n".encode())
        digest.update(layer.conductance.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
