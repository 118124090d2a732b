"""An experiment: one network on one die, from the read of its weights to its deployment, as a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError, OutOfLimits, UsageError
from rramlab.base.files import read_object, write_json
from rramlab.deploy import Deployment, Load
from rramlab.macro.cells import is_conducting
from rramlab.macro.conditions import Conditions
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.macro.protocol import read_whole
from rramlab.nn import configure, masked_layers, masks, vectors_of
from rramlab.training.checkpoint import (
    Checkpoint,
    EpochResult,
    learned_state,
    load_state,
    save_state,
    take,
    weights_digest,
    write_log,
)
from rramlab.training.chiploop import REPEATS, ChipLoop, load_dies, read_dies
from rramlab.training.datasets import Data, Scores
from rramlab.training.device import CPU, device_named
from rramlab.training.loop import Training, fit, scores_random
from rramlab.training.networks import own
from rramlab.training.onchip import Macros
from rramlab.training.recipes import Recipe

# A network needs weights: at least this share of its pairs must have a conducting cell.
FORMED_SHARE = 0.25
# Reads of every cell that the measured read noise comes from.
NOISE_READS = 16
# A die is no longer what a network was trained on when more cells than this share began or ceased to conduct, or when the
# conductances differ by more than this, relative, root mean square: ten times what noise makes of two reads (assumed).
CHANGED_SHARE, CHANGED_RMS = 0.01, 0.2


@dataclass(frozen=True, eq=False)
class Experiment:
    """One network on its dies.

    ``folder`` holds experiment.json, weights.npz, checkpoint.pt and log.csv; of an adapted one also begun.pt. ``taken``: under
    which conditions each die of ``placement`` was read, in its order. ``conductance_S``: float32[dies, rows, columns].
    ``sample``: the shape of one sample of the data. ``read_noise``: relative, as it was measured, where the recipe asks for it.
    ``data``: the digest of what it is trained on. ``words``: the command that it goes on with. ``reads_of``: the training
    whose reads of the dies it is trained on, instead of its own.
    """

    folder: Path
    recipe: Recipe
    taken: tuple[Conditions, ...]
    placement: Placement
    conductance_S: npt.NDArray[np.float32]
    sample: tuple[int, ...]
    data: str
    read_noise: float | None = None
    adapted_from: str | None = None
    words: str = "rramlab train"
    reads_of: str | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def dies(self) -> tuple[str, ...]:
        return tuple(each.die for each in self.taken)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def log(self) -> Path:
        return self.folder / "log.csv"

    @property
    def begun(self) -> Path:
        """What an adapted network had learned before; of others there is none."""
        return self.folder / "begun.pt"

    @classmethod
    def begin(
        cls,
        folder: Path,
        recipe: Recipe,
        macros: Macros,
        data: Data,
        source: Experiment | None = None,
        words: str | None = None,
        reads_of: Experiment | None = None,
    ) -> Experiment:
        """Place the recipe's network on dies, read its weights, write both down.

        ``macros``: in the order in which the dies are filled; those that are not needed are not read. ``source``: a trained
        experiment whose scores the network begins with, instead of random ones: it goes on learning on what is read now.
        ``words``: the command that this one goes on with. ``reads_of``: take what an earlier experiment read of the same dies
        instead of reading them anew: the same recipe gives the same mask then, bit for bit, on the same computer.

        Raises:
            UsageError: the network does not fit, or does not take ``data``, or a die is not formed; or ``reads_of`` is of other
                dies or cells, or the recipe reads them again. DataError: what ``reads_of`` read is stale. OutOfLimits: the
                dies' cells changed since.
        """
        recipe.require(data)
        layers = {name: layer.shape for name, layer in masked_layers(recipe.model()).items()}
        first = next(iter(macros.values()))
        placement = Placement.pack(layers, first.geometry, first.board.lines_at_once, len(macros))
        dies = tuple(macros)[: placement.dies]
        if source is not None and placement != source.placement:
            raise UsageError(f"training {source.name!r} is of another network; adapt it with its own recipe")
        if reads_of is None:
            conductance_S, taken = read_dies(macros, dies, placement, REPEATS)
        else:
            reads_of._require_read(recipe, placement, dies, macros)
            conductance_S, taken = reads_of.conductance_S, reads_of.taken
        _require_forming(conductance_S, placement, recipe, dies, adapting=source is not None)
        noise = None
        if recipe.read_noise == "measured":
            noise = reads_of.read_noise if reads_of is not None else None
            noise = _measured_noise(macros, dies, placement) if noise is None else noise
        experiment = cls(
            folder,
            recipe,
            taken,
            placement,
            conductance_S,
            data.sample,
            data.digest,
            noise,
            source.name if source else None,
            words or f"rramlab train {recipe.name}",
            reads_of.name if reads_of else None,
        )
        learned = None if source is None else learned_state(source.trained(), _phases(source.recipe) == _phases(recipe))
        # Of a training that this one replaces; not before the dies were read: until then nothing is lost.
        for old in (experiment.checkpoint, experiment.begun, experiment.log, folder / "mask.npz"):
            old.unlink(missing_ok=True)
        if learned is not None:
            save_state(experiment.begun, learned)
        experiment._write()
        own.remember(recipe.network, folder)
        return experiment

    @property
    def die(self) -> str:
        """The dies' ids in one word."""
        return ", ".join(self.dies)

    def _write(self) -> None:
        save_arrays(self.folder / "weights.npz", {"conductance_S": self.conductance_S})
        write_json(
            self.folder / "experiment.json",
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "taken": [each.as_json() for each in self.taken],
                "sample": list(self.sample),
                "data": self.data,
                "words": self.words,
                "read_noise": self.read_noise,
                "adapted_from": self.adapted_from,
                "reads_of": self.reads_of,
                **self.placement.as_json(),
            },
        )

    @classmethod
    def load(cls, folder: Path, trust_code: bool = False) -> Experiment:
        """Read an experiment back. Nothing that it names is executed by that.

        ``trust_code``: the caller takes responsibility for a network outside of the package, whatever its content is now. Else
        it is only executed as the content that a person confirmed for this folder: by training it, or by ``--trust-code``.

        Raises:
            DataError: there is none, or it is damaged.
        """
        if not (folder / "experiment.json").exists():
            known = ", ".join(sorted(path.parent.name for path in folder.parent.glob("*/experiment.json"))) or "none"
            raise DataError(
                f"there is no training {folder.name!r} in {folder.parent}; known: {known}. Start one with: rramlab train"
            )
        about = read_object(folder / "experiment.json", "recipe", "taken", "sample", "data", "rows", "columns", "tiles")
        try:
            recipe = Recipe.model_validate(about["recipe"])
            return cls(
                folder,
                recipe if trust_code else recipe.kept_in(folder),
                tuple(Conditions.from_json(each) for each in about["taken"]),
                Placement.from_json(about["rows"], about["columns"], about["tiles"]),
                load_arrays(folder / "weights.npz")["conductance_S"],
                tuple(about["sample"]),
                about["data"],
                about.get("read_noise"),
                about.get("adapted_from"),
                about.get("words", "rramlab train"),
                about.get("reads_of"),
            )
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"the training {folder} is damaged ({error}); train again: rramlab train") from error

    def model(self) -> nn.Module:
        """Return the network with the dies' weights, and fresh scores or those that it was adapted from.

        Raises:
            Unconfirmed: it is code outside of the package that nobody confirmed for the folder, see :meth:`load`.
        """
        model = self.recipe.model()
        load_dies(model, self.placement, self.conductance_S, self.taken)
        if self.adapted_from is not None:
            model.load_state_dict(load_state(self.begun), strict=False)
        if self.read_noise is not None:
            configure(model, read_noise=self.read_noise)
        return model

    def train(
        self,
        data: Data,
        resume: bool,
        on_epoch: Callable[[EpochResult], None] | None = None,
        stop: Callable[[], bool] | None = None,
        macros: Macros | None = None,
        device: str = CPU,
    ) -> tuple[nn.Module, Training]:
        """Train, writing a checkpoint and a line of log.csv after every epoch; with ``resume`` go on from the last one.

        ``macros``: the dies, for a recipe with the chip in the loop. ``device``: where; the network stays there.

        Raises:
            UsageError: the recipe needs the dies and got none, or there is no such device.
        """
        self.require_data(data)
        model = self.model().to(device_named(device))
        results: list[EpochResult] = []
        if resume and self.checkpoint.exists():
            results += Checkpoint.load(self.checkpoint).history
            write_log(self.log, results)

        def note(result: EpochResult) -> None:
            results.append(result)
            write_log(self.log, results)
            if on_epoch is not None:
                on_epoch(result)

        with self._loop(macros, model, self.recipe.steps(data)) as before_step:
            training = fit(
                model,
                self.recipe,
                data,
                die_id=self.die,
                checkpoint=self.checkpoint,
                resume=resume,
                on_epoch=note,
                stop=stop,
                before_step=before_step,
            )
        return model, training

    def _loop(
        self, macros: Macros | None, model: nn.Module, steps: int
    ) -> AbstractContextManager[Callable[[int], None]]:
        """``steps``: of an epoch; the dies are read once in each at least."""
        mode = self.recipe.in_the_loop
        if mode == "off":
            return nullcontext(lambda step: None)
        if macros is None:
            raise UsageError(
                f"the recipe {self.recipe.name!r} has the chip in the loop ({mode}): training needs its dies"
            )
        return ChipLoop(mode, macros, self.dies, self.placement, min(self.recipe.read_every, steps)).around(model)

    def require_data(self, data: Data) -> None:
        """Refuse other data than those the training was begun with.

        Raises:
            DataError: they differ.
        """
        if data.digest != self.data:
            raise DataError(
                f"training {self.name!r} was begun with other data than {data.name!r} has now: shapes, labels or values "
                "differ. Restore them, or train anew under another --name"
            )

    def require_current(self, macros: Macros) -> None:
        """Refuse to use the network on dies that are no longer what it was trained on.

        Raises:
            DataError: the read it was trained on is stale. OutOfLimits: its cells changed since. Both say what to do.
        """
        how = f"Let the network learn what the die is now, without a pulse: rramlab adapt {self.name}"
        self._require_as_read(macros, how, deployed=True)

    def _require_read(self, recipe: Recipe, placement: Placement, dies: tuple[str, ...], macros: Macros) -> None:
        """Refuse to train another network on what was read for this one, where that would not be the dies.

        Raises:
            UsageError, DataError, OutOfLimits: as :meth:`begin`.
        """
        if recipe.in_the_loop != "off":
            raise UsageError(
                f"the reads of training {self.name!r} are asked for, but the recipe reads the dies again while it trains "
                f"(in_the_loop {recipe.in_the_loop}): no two such trainings are alike. Take in_the_loop off, or no earlier "
                "reads"
            )
        if dies != self.dies:
            raise UsageError(
                f"the reads of training {self.name!r} are of die {self.die}, not of {', '.join(dies)}; name that one"
            )
        if placement != self.placement:
            raise UsageError(
                f"the reads of training {self.name!r} are of other cells: its network is another one, or lies elsewhere on the "
                "die. Take the reads of a training of the same network, or none"
            )
        self._require_as_read(macros, "Train on a read of your own: without earlier reads", deployed=False)

    def _require_as_read(self, macros: Macros, how: str, deployed: bool) -> None:
        """``how``: what to do instead. ``deployed``: cells that the mask prunes may have been reset since."""
        for number, taken in enumerate(self.taken):
            reasons = taken.stale(macros[taken.die].conditions())
            if reasons:
                raise DataError(
                    f"the read of die {taken.die!r} that {self.name!r} was trained on is stale: "
                    f"{'; '.join(reasons)}. {how}"
                )
            now_S = read_whole(macros[taken.die], self.placement.used(number), REPEATS)
            reason = self._changed(number, now_S, deployed)
            if reason:
                raise OutOfLimits(f"die {taken.die!r} is no longer what {self.name!r} was trained on: {reason}. {how}")

    def _changed(self, number: int, now_S: npt.NDArray[np.float32], deployed: bool) -> str:
        """Return how a die's cells, float32[rows, columns] in siemens, differ from those trained on; empty if they do not.

        ``deployed``: pruned cells that were reset since do not count: the network was deployed so before.
        """
        used = self.placement.used(number).bits
        then_S = self.conductance_S[number]
        before, after = is_conducting(then_S) & used, is_conducting(now_S) & used
        lost = before & ~after
        if deployed and np.count_nonzero(lost) > CHANGED_SHARE * np.count_nonzero(before):
            lost &= self.placement.cells(self.mask(self.trained()), number).bits
        both = before & after
        ratio = now_S[both] / then_S[both]
        for count, of, what in (
            (np.count_nonzero(lost), np.count_nonzero(before), "of the cells that conducted do not"),
            (np.count_nonzero(after & ~before), np.count_nonzero(used), "of its cells conduct that did not"),
        ):
            if count > CHANGED_SHARE * of:
                return f"{count / max(1, int(of)):.1%} {what}, expected at most {CHANGED_SHARE:.0%}"
        rms = float(np.sqrt(np.mean(np.square(ratio - 1.0)))) if ratio.size else 0.0
        if rms > CHANGED_RMS:
            return f"its conductances differ by {rms:.0%} (root mean square), expected at most {CHANGED_RMS:.0%}"
        return ""

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
                f"{self.words} --name {self.name} --resume"
            )
        model = self.model()
        saved.require(self.recipe, self.die, weights_digest(model), self.checkpoint)
        take(model, saved)
        return model.eval()

    def load_a_sample(self, model: nn.Module) -> Load:
        """Return what the products of one sample ask of the dies."""
        vectors = vectors_of(model, torch.zeros(1, *self.sample))
        return Load(vectors, {name: layer.bits for name, layer in masked_layers(model).items()})

    def random_scores(self, data: Data) -> Scores:
        """Return the test scores of the unpruned random network: what topology has to improve on."""
        return scores_random(self.model(), data)

    def mask(self, model: nn.Module) -> Mask:
        """Return the mask of a trained model."""
        return Mask(masks(model), self.recipe.granularity, self.recipe.phases)

    def deployment(
        self,
        name: str,
        reset: Collection[str],
        model: nn.Module,
        conductance_S: npt.NDArray[np.float32],
        runs: Sequence[str],
    ) -> Deployment:
        """Return the deployment of a trained model whose plans were executed in ``runs``."""
        about = {
            "training": self.name,
            "runs": list(runs),
            "deployed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return Deployment(name, self.dies, tuple(reset), self.placement, self.mask(model), conductance_S, about)


def _phases(recipe: Recipe) -> tuple[object, ...]:
    return recipe.granularity, recipe.phases, recipe.assignment


def _require_forming(
    conductance_S: npt.NDArray[np.float32], placement: Placement, recipe: Recipe, dies: tuple[str, ...], adapting: bool
) -> None:
    """Refuse a die whose pairs are not formed as the recipe says; ``adapting``: pruned pairs may have been reset since."""
    wanted = FORMED_SHARE * (recipe.kept if adapting else 1.0)
    if recipe.forming == "partial":
        wanted = min(wanted, (1 - (1 - recipe.formed_fraction) ** 2) / 2)
    for number, die in enumerate(dies):
        rows, columns = placement.geometry.shape
        conducting = np.count_nonzero(is_conducting(conductance_S[number]).reshape(rows, columns // 2, 2), axis=2)
        pairs = sum(tile.inputs * tile.outputs for tile in placement.on(number))
        one, both = np.count_nonzero(conducting == 1) / pairs, np.count_nonzero(conducting == 2) / pairs
        settings = " ".join(f"--set {quote(f'{key}={value}')}" for key, value in recipe.forming_parameters().items())
        if one + both < wanted:
            raise UsageError(
                f"die {die!r} is not formed: {one + both:.1%} of the network's pairs have a conducting cell, training needs "
                f"{wanted:.0%}. Form it first, {recipe.forming}: rramlab run electroform --die {die} --arm {die} "
                f"{settings}"
            )
        if (recipe.forming == "all" and both < 0.5 * (recipe.kept if adapting else 1.0)) or (
            recipe.forming == "one-of-pair" and both > 0.1
        ):
            raise UsageError(
                f"recipe {recipe.name!r} is for a die formed {recipe.forming!r}, but in {both:.0%} of the network's pairs of "
                f"die {die!r} both cells conduct. Take a die formed that way, or another --set forming=…"
            )


def _measured_noise(macros: Macros, dies: tuple[str, ...], placement: Placement) -> float:
    """Return the relative standard deviation of a single read, pooled over the conducting cells."""
    reads = np.stack([read_dies(macros, dies, placement, 1)[0] for _ in range(NOISE_READS)])
    mean, variance = reads.mean(axis=0), reads.var(axis=0, ddof=1)
    cells = is_conducting(mean)
    return float(np.sqrt(np.mean(variance[cells] / np.square(mean[cells]))))
