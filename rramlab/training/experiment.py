"""An experiment: one network on one die, from the read of its weights to its deployment, as a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import read_object, write_json
from rramlab.deploy import Deployment, Method
from rramlab.macro.cells import is_conducting
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement, Tile
from rramlab.macro.protocol import Macro
from rramlab.nn import load_weights, masked_layers, masks
from rramlab.training.checkpoint import Checkpoint, EpochResult, weights_digest
from rramlab.training.data import Dataset
from rramlab.training.loop import Training, accuracy_random, fit
from rramlab.training.recipes import Recipe

# A read of every weight is the mean of so many: at 2 % read noise it is known to 1 %.
REPEATS = 4
# A network needs weights: at least this share of its pairs must have a conducting cell.
FORMED_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Experiment:
    """``folder`` holds experiment.json, weights.npz and checkpoint.pt. ``conductance_S``: float32[rows, columns]."""

    folder: Path
    recipe: Recipe
    die_id: str
    placement: Placement
    conductance_S: npt.NDArray[np.float32]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @classmethod
    def begin(cls, folder: Path, recipe: Recipe, macro: Macro) -> Experiment:
        """Place the recipe's network on the die, read its weights, write both down.

        Raises:
            UsageError: the network does not fit, or the die is not formed.
        """
        layers = {name: layer.shape for name, layer in masked_layers(recipe.model()).items()}
        placement = Placement.pack(layers, macro.geometry, macro.board.lines_at_once)
        conductance = macro.read(placement.used, REPEATS)
        _require_forming(conductance, placement, recipe, macro.die_id)
        experiment = cls(folder, recipe, macro.die_id, placement, conductance)
        # Of a training that this one replaces; not before the die was read: until then nothing is lost.
        experiment.checkpoint.unlink(missing_ok=True)
        experiment._write()
        return experiment

    def _write(self) -> None:
        save_arrays(self.folder / "weights.npz", {"conductance_S": self.conductance_S})
        write_json(
            self.folder / "experiment.json",
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "die": self.die_id,
                "rows": self.placement.geometry.rows,
                "columns": self.placement.geometry.columns,
                "tiles": [asdict(tile) for tile in self.placement.tiles],
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Experiment:
        """Read an experiment back.

        Raises:
            DataError: there is none, or it is damaged.
        """
        if not (folder / "experiment.json").exists():
            known = ", ".join(sorted(path.parent.name for path in folder.parent.glob("*/experiment.json"))) or "none"
            raise DataError(
                f"there is no training {folder.name!r} in {folder.parent}; known: {known}. Start one with: rramlab train"
            )
        about = read_object(folder / "experiment.json", "recipe", "die", "rows", "columns", "tiles")
        try:
            placement = Placement(
                Geometry(about["rows"], about["columns"]), tuple(Tile(**tile) for tile in about["tiles"])
            )
            conductance = load_arrays(folder / "weights.npz")["conductance_S"]
            return cls(folder, Recipe.model_validate(about["recipe"]), about["die"], placement, conductance)
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"the training {folder} is damaged ({error}); train again: rramlab train") from error

    def model(self) -> nn.Module:
        """Return the network with the die's weights and fresh scores."""
        model = self.recipe.model()
        load_weights(model, self.placement.weights(self.conductance_S))
        return model

    def train(
        self,
        data: Dataset,
        resume: bool,
        on_epoch: Callable[[EpochResult], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[nn.Module, Training]:
        """Train, writing a checkpoint after every epoch; with ``resume`` go on from the last one."""
        model = self.model()
        training = fit(
            model,
            self.recipe,
            data,
            die_id=self.die_id,
            checkpoint=self.checkpoint,
            resume=resume,
            on_epoch=on_epoch,
            stop=stop,
        )
        return model, training

    def trained(self) -> nn.Module:
        """Return the network as of its last checkpoint, ready to evaluate.

        Raises:
            DataError: it was not trained, or not to its end.
        """
        if not self.checkpoint.exists():
            raise DataError(f"training {self.name!r} has no checkpoint yet; train it: rramlab train")
        saved = Checkpoint.load(self.checkpoint)
        if saved.epoch < self.recipe.epochs:
            raise DataError(
                f"training {self.name!r} stopped after epoch {saved.epoch} of {self.recipe.epochs}; go on with: "
                f"rramlab train {self.recipe.name} --name {self.name} --resume"
            )
        model = self.model()
        saved.require(self.recipe, self.die_id, weights_digest(model), self.checkpoint)
        model.load_state_dict(saved.model)
        return model.eval()

    def random_accuracy(self, data: Dataset) -> float:
        """Return the test accuracy of the unpruned random network: what topology has to improve on."""
        return accuracy_random(self.model(), data)

    def mask(self, model: nn.Module) -> Mask:
        """Return the mask of a trained model."""
        return Mask(masks(model), self.recipe.granularity, self.recipe.phases)

    def deployment(
        self, name: str, method: Method, model: nn.Module, conductance_S: npt.NDArray[np.float32], run: str
    ) -> Deployment:
        """Return the deployment of a trained model whose plan was executed in ``run``."""
        about = {"training": self.name, "run": run, "deployed_at": datetime.now(UTC).isoformat(timespec="seconds")}
        return Deployment(name, self.die_id, method, self.placement, self.mask(model), conductance_S, about)


def _require_forming(conductance_S: npt.NDArray[np.float32], placement: Placement, recipe: Recipe, die_id: str) -> None:
    """Refuse a die whose pairs are not formed as the recipe says."""
    rows, columns = conductance_S.shape
    conducting = np.count_nonzero(is_conducting(conductance_S).reshape(rows, columns // 2, 2), axis=2)
    pairs = sum(tile.inputs * tile.outputs for tile in placement.tiles)
    one, both = np.count_nonzero(conducting == 1) / pairs, np.count_nonzero(conducting == 2) / pairs
    how = f"rramlab run electroform --die {die_id} --arm {die_id}"
    if one + both < FORMED_SHARE:
        raise UsageError(
            f"die {die_id!r} is not formed: {one + both:.1%} of the network's pairs have a conducting cell, training needs "
            f"{FORMED_SHARE:.0%}. Form it first: {how}"
        )
    if (recipe.forming == "all" and both < 0.5) or (recipe.forming == "one-of-pair" and both > 0.1):
        raise UsageError(
            f"recipe {recipe.name!r} is for a die formed {recipe.forming!r}, but in {both:.0%} of the network's pairs of die "
            f"{die_id!r} both cells conduct. Take a die formed that way, or correct the key 'forming' of the recipe"
        )
