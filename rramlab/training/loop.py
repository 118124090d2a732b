"""The training loop: SGD over the scores, one checkpoint an epoch, resumed bit for bit."""

from __future__ import annotations

import copy
import ctypes
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rramlab.base.errors import RramlabError, UsageError
from rramlab.nn import RefusedInput, UnsignedQuantiser, configure, masked_layers, regroup
from rramlab.training.checkpoint import Checkpoint, EpochResult, take, weights_digest
from rramlab.training.datasets import Data, Scores
from rramlab.training.datasets.arrays import by_content, require_numbers
from rramlab.training.device import device_of, forked_randomness, generator_state, set_generator_state
from rramlab.training.recipes import Recipe
from rramlab.training.stretching import stretched

STATISTICS_IMAGES = 6000  # at most: enough for means and variances of a channel to a few percent

Images = Tensor | npt.NDArray[np.float32]
Labels = Tensor | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Training:
    """How a training ended: the finished epochs, and whether it was stopped before the last one."""

    history: tuple[EpochResult, ...]
    stopped: bool

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch (never that of the best one); NaN if none was finished."""
        return self.history[-1].test_accuracy if self.history else math.nan


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    *,
    die_id: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochResult], None] | None = None,
    stop: Callable[[], bool] | None = None,
    before_step: Callable[[int], None] = lambda step: None,
) -> Training:
    """Train the scores of ``model``, whose weights are loaded, in place, on the device that it is on.

    ``checkpoint`` is written after every epoch; with ``resume`` the training goes on from it (from the start
    if it does not exist), and ends with the same bits as one that was never interrupted, given the same
    number of threads, or the same CUDA device. ``stop`` is asked before every step; when it says so, the begun epoch is lost,
    and resuming repeats it. ``before_step`` is called before every step with its number, counted from 0. The
    caller's random state is left as it was.

    Raises:
        UsageError: no weights are loaded, the data set is smaller than a batch, or the checkpoint is of
            another training.
        DataError: the checkpoint is damaged.
        RramlabError: the loss is not finite.
    """
    if resume and checkpoint is None:
        raise UsageError("resuming needs the checkpoint to go on from")
    run = _Run(model, recipe, data, die_id)
    with forked_randomness(run.device), _threads(recipe.threads):
        torch.manual_seed(recipe.seed)
        if resume and checkpoint is not None and checkpoint.exists():
            run.restore(Checkpoint.load(checkpoint), checkpoint)
        while len(run.history) < recipe.epochs:
            result = run.epoch(stop or (lambda: False), before_step)
            if result is None:
                return Training(tuple(run.history), stopped=True)
            run.history.append(result)
            if checkpoint is not None:
                run.snapshot().save(checkpoint)
            if on_epoch is not None:
                on_epoch(result)
    model.eval()
    return Training(tuple(run.history), stopped=False)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch compute with ``count`` threads within the block; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of one step for the next instead of returning it: a quarter less time a step.

    Set for the whole process; where the C library is another, nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mmap_threshold, 1 << 25)  # the most that glibc takes
    mallopt(trim_threshold, 1 << 30)


class _Run:
    """One training under way."""

    def __init__(self, model: nn.Module, recipe: Recipe, data: Data, die_id: str) -> None:
        self.model, self.recipe, self.data, self.die_id = model, recipe, data, die_id
        missing = [name for name, layer in masked_layers(model).items() if not layer.loaded]
        if missing:
            raise UsageError(f"the layers {', '.join(missing)} have no weights: load_weights(model, ...) first")
        self.steps, self.device = recipe.steps(data), device_of(model)
        self.class_weights = (
            None if recipe.class_weights is None else torch.tensor(recipe.class_weights, device=self.device)
        )
        self.digest = weights_digest(model)
        self.history: list[EpochResult] = []
        self.optimiser = torch.optim.SGD(
            model.parameters(),
            recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,  # one pass over the scores
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, recipe.epochs * self.steps)

    # In a notebook an interrupt may land in the very call that turns gradients on again, and they stay off for its process.
    @torch.enable_grad()
    def epoch(self, stop: Callable[[], bool], before_step: Callable[[int], None]) -> EpochResult | None:
        """Train one epoch; None if stopped before its end."""
        begun = time.perf_counter()
        batch = self.recipe.batch
        order = torch.randperm(self.data.size)
        loss_sum, right, answers = 0.0, 0, 0
        configure(self.model, hysteresis=self.recipe.hysteresis_in(len(self.history) + 1))
        self.model.train()
        for step in range(self.steps):
            if stop():
                return None
            before_step(len(self.history) * self.steps + step)
            inputs, labels = self.data.batch(order[step * batch : (step + 1) * batch])
            if self.recipe.stretch is not None:
                inputs = stretched(inputs, self.recipe.stretch)
            inputs, labels = inputs.to(self.device), labels.to(self.device)
            try:
                outputs = self.model(inputs)
            except RefusedInput as error:
                chosen = order[step * batch : (step + 1) * batch]
                raise self._blamed(inputs, error, chosen) from error
            loss = functional.cross_entropy(outputs, labels, self.class_weights)
            value = float(loss.detach())
            if not math.isfinite(value):  # before anything is learned of it
                raise RramlabError(f"the loss is {value} in epoch {len(self.history) + 1}: {self._diverged}")
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.schedule.step()
            loss_sum += value
            right += int((outputs.detach().argmax(1) == labels).sum())
            answers += int((labels >= 0).sum())  # what has no class does not count
        if 2 * (len(self.history) + 1) <= self.recipe.epochs:  # what is learned with the last phases needs time, too
            regroup(self.model)
        tested = scores(self.model, self.data, self.recipe.test_samples, stop=stop)
        if tested is None:
            return None
        switches = [layer.switches.cpu().numpy() for layer in masked_layers(self.model).values()]
        return EpochResult(
            epoch=len(self.history) + 1,
            loss=loss_sum / self.steps,
            train_accuracy=right / answers,
            test_accuracy=tested.pop("accuracy"),
            learning_rate=float(self.schedule.get_last_lr()[0]),
            hysteresis=self.recipe.hysteresis_in(len(self.history) + 1),
            switched_on=sum(int(count[1]) for count in switches),
            switched_off=sum(int(count[2]) for count in switches),
            seconds=time.perf_counter() - begun,
            scores=tested,
        )

    @property
    def _diverged(self) -> str:
        kept = f"; what was learned until the end of epoch {len(self.history)} is kept" if self.history else ""
        return f"training diverged; lower the learning rate ({self.recipe.learning_rate}) of the recipe{kept}"

    def _blamed(self, inputs: Tensor, error: RefusedInput, chosen: Tensor) -> RramlabError:
        """Say whose fault it is that a layer refused its input: that of a sample, or of what was learned."""
        if math.isfinite(error.value) or not bool(torch.isfinite(inputs).all()):
            known = error.sample is not None and error.sample < len(chosen)
            return error.at(int(chosen[error.sample]), f"of the training set {self.data.name!r}") if known else error
        return RramlabError(f"{error.layer} got {error.value} in epoch {len(self.history) + 1}: {self._diverged}")

    def snapshot(self) -> Checkpoint:
        return Checkpoint(
            recipe=self.recipe.model_dump(mode="json"),
            die_id=self.die_id,
            weights_digest=self.digest,
            epoch=len(self.history),
            model=self.model.state_dict(),
            optimiser=self.optimiser.state_dict(),
            schedule=self.schedule.state_dict(),
            generator=torch.get_rng_state(),
            history=tuple(self.history),
            device_generator=generator_state(self.device),
        )

    def restore(self, saved: Checkpoint, path: Path) -> None:
        saved.require(self.recipe, self.die_id, self.digest, path)
        take(self.model, saved)
        self.optimiser.load_state_dict(saved.optimiser)
        self.schedule.load_state_dict(saved.schedule)
        torch.set_rng_state(saved.generator)
        set_generator_state(self.device, saved.device_generator)
        self.history = list(saved.history)


@overload
def accuracy(model: nn.Module, x: Images, y: Labels, batch: int = 1000) -> float: ...
@overload
def accuracy(
    model: nn.Module, x: Images, y: Labels, batch: int = 1000, *, stop: Callable[[], bool]
) -> float | None: ...
def accuracy(
    model: nn.Module, x: Images, y: Labels, batch: int = 1000, *, stop: Callable[[], bool] = lambda: False
) -> float | None:
    """Return the fraction of ``x`` [n, …] that ``model`` classifies as ``y``; None if ``stop`` says so between batches.

    It is run in evaluation mode, and its mode left as it was. ``batch`` bounds memory and, with the chip in
    the loop, is how many images go through a layer at once.

    Raises:
        UsageError: there are no images, not a class for each, or a layer refuses an image. DataError: what the network says of
            one is no number.
    """
    images, wanted = torch.as_tensor(x), np.asarray(y)
    if wanted.shape != (len(images),) or wanted.dtype.kind not in "iub":
        raise UsageError(
            f"found labels {wanted.dtype}{wanted.shape} for {len(images):,} images, expected int64[{len(images)}]"
        )
    guessed = []
    for start, part in _parts(images, batch):
        if stop():
            return None
        guessed.append(_predicted(model, part, start).argmax(axis=1))
    return float(np.mean(np.concatenate(guessed) == wanted))


class _WishedError(Exception):
    """Whoever evaluates was asked to stop."""


def scores(
    model: nn.Module,
    data: Data,
    count: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """Return how good ``model`` is on the test samples of ``data``, or on ``count`` of them; None if ``stop`` says so.

    It is run in evaluation mode, and its mode left as it was.
    """
    batch = data.at_once

    def predicted(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found = []
        for start, part in _parts(torch.from_numpy(x), batch):
            if stop():
                raise _WishedError
            found.append(_predicted(model, part, start))
        return np.concatenate(found)

    try:
        return data.score(predicted, count)
    except _WishedError:
        return None


def predict(model: nn.Module, x: Images, batch: int = 1000) -> npt.NDArray[np.float32]:
    """Return the outputs of ``model`` in evaluation mode, float32[n, classes]; its mode is left as it was.

    Raises:
        UsageError: there are no images, or a layer refuses one. DataError: what the network says of one is no number.
    """
    return np.concatenate([_predicted(model, part, start) for start, part in _parts(torch.as_tensor(x), batch)])


def _parts(images: Tensor, batch: int) -> Iterator[tuple[int, Tensor]]:
    """Yield images in parts of at most ``batch``, each with the number of its first."""
    if len(images) == 0:
        raise UsageError("there are no images to evaluate")
    yield from zip(range(0, len(images), batch), torch.split(images, batch), strict=True)


def _predicted(model: nn.Module, part: Tensor, start: int) -> npt.NDArray[np.float32]:
    """Return what ``model`` says of images, of which the first is the sample ``start``."""
    with in_modes(model), torch.no_grad():
        model.eval()
        try:
            said: npt.NDArray[np.float32] = model(part.to(device_of(model))).cpu().numpy()
        except RefusedInput as error:
            raise error if error.sample is None else error.at(start + error.sample, "of those evaluated") from error
    require_numbers(said, start)
    return said


@contextmanager
def in_modes(model: nn.Module) -> Iterator[None]:
    """Leave each module in the mode, training or evaluation, that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def settle_statistics(model: nn.Module, x: Images, batch: int = 60) -> None:
    """Measure batch norm statistics and activation ranges anew on ``x``.

    For a network whose weights are not those it was trained with: unpruned, drifted, read again. Each is the plain mean over
    all batches, about equally large, and what stands in a batch is decided by what the samples hold: in whatever order they
    come, the figures are the same. Scores do not change, nothing is dropped out. Products are the host's.

    Raises:
        UsageError: there are no samples, or a layer refuses one. The statistics are those of before then, as after any error.
    """
    images = torch.as_tensor(x)
    if len(images) == 0:
        raise UsageError("there are no samples to settle statistics on")
    if not bool(torch.isfinite(images).all()):
        bad = int(torch.nonzero(~torch.isfinite(images).flatten(1).all(1))[0])
        raise UsageError(
            f"sample {bad:,} of those to settle statistics on holds values that are no numbers; leave it out"
        )
    order = torch.from_numpy(by_content(images.cpu().numpy()))
    layers = masked_layers(model)
    elsewhere = {name: layer.multiply for name, layer in layers.items()}
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    quantisers = [module for module in model.modules() if isinstance(module, UnsignedQuantiser)]
    momenta = [norm.momentum for norm in norms]
    before = [{name: value.clone() for name, value in module.named_buffers()} for module in (*norms, *quantisers)]
    with in_modes(model), torch.no_grad():
        try:
            configure(model, multiply=None)
            model.train()
            for module in model.modules():
                if isinstance(module, nn.modules.dropout._DropoutNd):
                    module.eval()
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain average over all batches
            for quantiser in quantisers:
                quantiser.settle(True)
            batches = max(1, len(order) // batch)
            for number in range(batches):  # of samples that are alike each gets its share
                model(images[order[number::batches]].to(device_of(model)))
        except BaseException:
            for module, values in zip((*norms, *quantisers), before, strict=True):
                for name, value in values.items():
                    module.get_buffer(name).copy_(value)
            raise
        finally:
            for name, layer in layers.items():
                layer.multiply = elsewhere[name]
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            for quantiser in quantisers:
                quantiser.settle(False)


def scores_random(model: nn.Module, data: Data) -> Scores:
    """Return how good the unpruned network of ``model``'s weights is; ``model`` stays as it is."""
    found = scores(unpruned(model, data), data)
    assert found is not None  # nobody asks it to stop
    return found


def unpruned(model: nn.Module, data: Data) -> nn.Module:
    """Return a copy of ``model`` in which every weight stays.

    Batch norm and activation ranges are measured for it on the training inputs, so that what is missing is the topology
    alone.
    """
    found = copy.deepcopy(model)
    configure(found, keep_all=True, read_noise=0.0, multiply=None)
    settle_statistics(found, data.settling(STATISTICS_IMAGES))
    return found
