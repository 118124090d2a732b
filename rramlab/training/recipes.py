"""Recipes: everything that decides a training but the die and the data, as one YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from torch import nn

from rramlab.base.errors import InvalidValue, UsageError
from rramlab.base.names import NAME
from rramlab.base.numbers import shown
from rramlab.base.yamlfile import explain, load_model
from rramlab.macro.masks import Granularity
from rramlab.nn import Assignment, HysteresisRule, load_weights, masked_layers
from rramlab.training import networks
from rramlab.training.datasets import Data

Forming = Literal["all", "partial", "one-of-pair"]
Mode = Literal["off", "weights", "multiply"]
# Share of the cells that conduct after one pulse of 1 µs: 400 cells measured by ramp (design, section 7).
FORMING_V = (3.2, 3.3, 3.4, 3.45, 3.5, 3.55, 3.6, 3.65, 3.7)
FORMED_FRACTION = (0.03, 0.16, 0.39, 0.55, 0.71, 0.835, 0.94, 0.98, 1.0)


class Recipe(BaseModel):
    """How a network is trained. Immutable; two equal recipes on the same read of a die give the same network, bit for bit.

    The same computer and number of threads provided. Every training reads the die anew, and reads differ by their noise: on the
    same die two equal recipes give masks of which 5 to 7 % differ. ``Experiment.begin(reads_of=…)`` and ``rramlab train
    --reads-of`` train on what an earlier training read.

    Attributes:
        dataset: the name of a data set, or the path of an .npz of arrays, see ``data.load_dataset``.
        network: one of ``networks.NETWORKS``, or ``FILE.py:FUNCTION`` that makes a plain torch model. In a recipe file both
            paths are relative to its folder.
        forming: which cells of the die get their pulse (design, section 8); the protocol ``electroform`` does it, with
            ``forming_parameters``. ``formed_fraction``: of ``partial``, the share of the cells that shall conduct.
        kept: fraction of the weights that stays: of each layer, or of the ``network``, as ``kept_of`` says (then one
            threshold over all layers decides).
        hysteresis: width of the band about the threshold, as a fraction of it, in which a weight does not switch; goes
            from epoch to epoch to ``hysteresis_end`` (None: stays) as the learning rate goes to 0: the steps that a score
            wanders by become smaller alike. ``hysteresis_rule``: see ``nn.MaskedLayer``.
        granularity: what is kept or pruned together: single weights (``edge``), the rows of a set of outputs
            (``phase``), rows and outputs (``line``).
        phases: of granularity ``phase``: sets of outputs in each layer, so gate patterns a tile.
        assignment: which outputs share a phase: neighbours (``contiguous``), such that each ADC converts in every phase
            (``adc``), or those whose scores came to be alike (``learned``, in the first half of the epochs).
        activation_bits: bits of the codes into every masked layer.
        read_noise: relative σ of the weights while training; 2 % is what the authors use for a read. ``measured``: as repeated
            reads of the network's cells show it.
        in_the_loop: what training asks of the dies: nothing (``off``), to read the conductances again every ``read_every``
            steps (``weights``), or every product (``multiply``); see ``training.chiploop``.
        epochs, batch, learning_rate, momentum, weight_decay: of SGD; a last, incomplete batch is left out.
        class_weights: how much a sample or pixel of each class counts in the loss, one figure a class; None: all alike. For
            classes of which some are rare.
        stretch: of training samples, at random, along each of their last axes: by how many values their ends move at most; see
            ``training.stretching``. None: samples stay as they are.
        schedule: "cosine" falls from ``learning_rate`` to 0 over all steps.
        test_samples: evaluate each epoch on so many test samples alone, the same ones in whatever order they come (of images
            that are judged pixel by pixel: the first); None: on all. With every product on the chip the whole test set can take
            hours.
        digital: layers of a network of one's own that stay on the host; see ``nn.convert``.
        threads: of torch while training; None leaves torch's own choice. One is best for small networks: they gain
            nothing from a second, and lose much where another process has its core.
        seed: of scores, order of the data and noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    name: str = Field(pattern=NAME)
    description: str
    dataset: str
    network: str
    forming: Forming = "one-of-pair"
    formed_fraction: float = Field(0.55, gt=0.05, lt=0.95)
    kept: float = Field(0.5, gt=0, le=1)
    kept_of: Literal["layer", "network"] = "layer"
    hysteresis: float = Field(0.0, ge=0, lt=1)
    hysteresis_end: float | None = Field(None, ge=0, lt=1)
    hysteresis_rule: HysteresisRule = "dead-band"
    granularity: Granularity = "edge"
    phases: int | None = Field(None, ge=1)
    assignment: Assignment = "contiguous"
    activation_bits: int = Field(4, ge=1, le=8)
    read_noise: Annotated[float, Field(ge=0, lt=1)] | Literal["measured"] = 0.0
    in_the_loop: Mode = "off"
    read_every: int = Field(100, ge=1)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    stretch: Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)] | None = (
        None
    )
    schedule: Literal["cosine"] = "cosine"
    test_samples: int | None = Field(None, ge=1)
    digital: tuple[str, ...] = ()
    threads: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    _keeper: Path | None = PrivateAttr(None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def is_code(self) -> bool:
        """Whether the network is a function of a file, not one of the package."""
        return self.network not in networks.NETWORKS

    @property
    def keeper(self) -> Path | None:
        """The folder of the training whose data the recipe is; None: a person named it, in this command or program."""
        return self._keeper

    def kept_in(self, folder: Path | None) -> Recipe:
        """Return the same recipe with another ``keeper``: what a folder names is only executed if a person confirmed it."""
        found = self.model_copy()
        found._keeper = folder
        return found

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        if name not in networks.NETWORKS and ".py:" not in name:
            raise ValueError(
                f"found {name!r}, expected one of {', '.join(sorted(networks.NETWORKS))}, or FILE.py:FUNCTION of your own"
            )
        return name

    @model_validator(mode="after")
    def _phases_are_of_phase(self) -> Recipe:
        if (self.granularity == "phase") != (self.phases is not None):
            found = "no phases" if self.phases is None else f"phases {self.phases}"
            raise ValueError(
                f"found granularity {self.granularity} with {found}: 'phase' needs a number, the others none"
            )
        return self

    @model_validator(mode="after")
    def _lines_have_no_common_threshold(self) -> Recipe:
        if self.granularity == "line" and self.kept_of == "network":
            raise ValueError("found granularity line with kept_of network: whole lines have a kept fraction a layer")
        return self

    def changed(self, changes: Mapping[str, object]) -> Recipe:
        """Return the recipe with other values, checked as those of a file are.

        A granularity other than ``phase`` takes the recipe's phases away.

        Raises:
            UsageError: a value that no recipe may have.
        """
        values = {**self.model_dump(), **changes}
        if "granularity" in changes and "phases" not in changes and changes["granularity"] != "phase":
            values["phases"] = None
        try:
            found = Recipe.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"recipe {self.name!r}: {explain(error.errors()[0], Recipe)}") from None
        # A network that is named here is the caller's.
        return found if "network" in changes else found.kept_in(self.keeper)

    def require(self, data: Data) -> None:
        """Refuse a data set that the network is not made for: it is tried on two samples.

        Raises:
            UsageError: samples of another shape or below 0, more classes than outputs, or not a class weight for each output.
        """
        self.steps(data)
        model = self.model()
        rng = np.random.default_rng(0)
        signs = {name: rng.choice([-1e-5, 1e-5], layer.shape) for name, layer in masked_layers(model).items()}
        load_weights(model, {name: sign.astype(np.float32) for name, sign in signs.items()})
        found = f"samples of shape {data.sample} in {len(data.classes)} classes"
        remedy = "name another network or data set in the recipe"
        with torch.random.fork_rng(devices=[]):
            inputs, labels = data.batch(torch.arange(2))
        try:
            with torch.no_grad():
                outputs = model(inputs)
        except Exception as error:  # a network of one's own can raise what it likes
            raise UsageError(
                f"the network {self.network!r} does not take {found}, which the data set {data.name!r} has ({error}); {remedy}"
            ) from error
        if outputs.shape[2:] != labels.shape[1:] or outputs.ndim < 2 or outputs.shape[1] < len(data.classes):
            raise UsageError(
                f"the network {self.network!r} gives outputs of shape {tuple(outputs.shape[1:])}, the data set {data.name!r} "
                f"has {found}; {remedy}"
            )
        if self.stretch is not None and (
            labels.ndim > 1 or len(self.stretch) > len(data.sample) or 1 in data.sample[-len(self.stretch) :]
        ):
            raise UsageError(
                f"the recipe {self.name!r} stretches samples along their last {len(self.stretch)} axes, which needs two values "
                f"along each and one class a sample; the data set {data.name!r} has {found}, with labels of shape "
                f"{tuple(labels.shape[1:])}"
            )
        if self.class_weights is not None and len(self.class_weights) != outputs.shape[1]:
            raise UsageError(
                f"the recipe {self.name!r} has {len(self.class_weights)} class weights, its network {outputs.shape[1]} "
                "classes; give one for each"
            )

    def steps(self, data: Data) -> int:
        """Return the training steps of an epoch; a last, incomplete batch is left out.

        Raises:
            UsageError: the data set is smaller than a batch.
        """
        count = data.size
        if count < self.batch:
            raise UsageError(
                f"a batch of {self.batch} is more than the {count} training images of {data.name}; make the batch of the "
                "recipe smaller"
            )
        return count // self.batch

    def hysteresis_in(self, epoch: int) -> float:
        """Return the hysteresis of an epoch, counted from 1."""
        end = self.hysteresis if self.hysteresis_end is None else self.hysteresis_end
        fallen = (1.0 - math.cos(math.pi * (epoch - 1) / max(1, self.epochs - 1))) / 2.0
        return self.hysteresis + (end - self.hysteresis) * fallen

    def forming_parameters(self) -> dict[str, object]:
        """Return the parameters of the protocol ``electroform`` for the recipe's forming.

        The voltage of ``partial`` is that of the cells that were measured (design, section 7), interpolated: a bench whose
        die has a forming curve does better with ``rramlab run electroform --fraction``.
        """
        if self.forming == "partial":
            volts = float(np.interp(self.formed_fraction, FORMED_FRACTION, FORMING_V))
            return {"cells": "all", "voltage": f"{volts:.5g}V", "expected": self.formed_fraction}
        return {"cells": "all" if self.forming == "all" else "one-of-pair(seed=7)"}

    def model(self) -> nn.Module:
        """Return the recipe's network with fresh scores and no weights yet: the same for the same seed."""
        return networks.build(
            self.network,
            0.0 if self.read_noise == "measured" else self.read_noise,
            self.seed,
            self.kept_of == "network",
            self.digital,
            self.keeper,
            kept=self.kept,
            bits=self.activation_bits,
            granularity=self.granularity,
            phases=self.phases,
            assignment=self.assignment,
            hysteresis_rule=self.hysteresis_rule,
        )


def with_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as it was written down once, with the keys that came later at their defaults: as it was done then."""
    later = {name: field.default for name, field in Recipe.model_fields.items() if not field.is_required()}
    return {**later, **saved}


def builtin_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("rramlab.training") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def beside(recipe: Recipe, folder: Path) -> Recipe:
    """Let files that a recipe names lie beside it: their paths become absolute."""
    changes: dict[str, object] = {}
    if ".py:" in recipe.network:
        file, _, function = recipe.network.rpartition(":")
        changes["network"] = f"{(folder / file).resolve()}:{function}"
    if recipe.dataset.endswith(".npz"):
        changes["dataset"] = str((folder / recipe.dataset).resolve())
    return recipe.changed(changes).kept_in(recipe.keeper) if changes else recipe


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a built-in recipe by name, or a recipe file by a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        UsageError: no such built-in recipe (the message lists them), or the file breaks the schema (file,
            line, column).
        DataError: the file cannot be read.
    """
    if not isinstance(name_or_path, str | Path):
        raise InvalidValue(f"found the recipe {shown(name_or_path)}, expected its name or path")
    if Path(name_or_path).suffix in {".yaml", ".yml"}:
        return beside(load_model(Path(name_or_path), Recipe), Path(name_or_path).parent)
    known = builtin_recipes()
    if str(name_or_path) not in known:
        raise UsageError(
            f"there is no recipe {shown(str(name_or_path))}; built in: {', '.join(known)}; "
            "a recipe of your own is named by its path, ending in .yaml"
        )
    with resources.as_file(resources.files("rramlab.training") / "recipes" / f"{name_or_path}.yaml") as path:
        return load_model(path, Recipe)
