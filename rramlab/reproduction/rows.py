"""What each row of the table does, and what it measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rramlab.base.errors import DataError, Stopped
from rramlab.drivers.bench import BenchDescription
from rramlab.engine.session import Session
from rramlab.macro.board import BoardTable
from rramlab.macro.conditions import Conditions
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.nn import (
    configure,
    learn_weights,
    load_weights,
    masked_layers,
    masks,
    run_as_written,
    vectors_of,
    wanted_S,
)
from rramlab.plan import cost
from rramlab.plan.energy import by_component
from rramlab.reproduction import writing
from rramlab.reproduction.benches import again, formed, rest, virgin
from rramlab.reproduction.outcomes import Outcome, Row
from rramlab.reproduction.tasks import Task
from rramlab.training.chiploop import REPEATS, load_dies, read_dies
from rramlab.training.datasets import Data, Scores
from rramlab.training.deploying import put_on_chip
from rramlab.training.device import CPU, device_named, forked_randomness
from rramlab.training.experiment import Experiment
from rramlab.training.loop import STATISTICS_IMAGES, Training, fit, scores, settle_statistics, unpruned
from rramlab.training.onchip import multiplied_by, scores_on_chip, with_resets
from rramlab.training.recipes import Recipe

READ_NOISE = 0.02  # of the published die model: what the host's model of the chip is evaluated with


@dataclass(frozen=True)
class Place:
    """Where one number of a reproduction is worked on.

    ``say``: told what is being done; ``stop``: asked whether to stop.
    """

    folder: Path  # of the reproduction
    board: BoardTable
    number: int  # of the dies, and the seed
    task: Task
    recipe: Recipe
    data: Data
    memory: str
    samples: int | None  # test samples on the macro; None: all
    budget: int  # pulses a cell of write-verify, at most
    say: Callable[[str], None] = lambda text: None
    stop: Callable[[], bool] = lambda: False
    device: str = CPU  # that networks are trained on

    @property
    def placement(self) -> Placement:
        layers = {name: layer.shape for name, layer in masked_layers(self.recipe.model()).items()}
        return Placement.pack(layers, self.board.geometry, self.board.lines_at_once, None)

    @property
    def dies(self) -> tuple[str, ...]:
        return tuple(f"{self.recipe.name}-{self.number}-{die}" for die in range(self.placement.dies))

    def formed(self) -> BenchDescription:
        """Return the bench with the number's dies formed as the recipe says: all rows that send no further pulse share it."""
        return formed(
            self.folder / f"dies-{self.number}" / "formed", self.dies, self.recipe, self.memory, self.task.die
        )

    def formed_again(self, purpose: str) -> BenchDescription:
        """Return a bench of its own with the formed dies as they are now, for a row that pulses them further."""
        there = self.folder / f"dies-{self.number}"
        return again(there / "formed", there / purpose, self.dies)

    def virgin(self, purpose: str) -> BenchDescription:
        """Return a bench with the same dies, virgin."""
        return virgin(self.folder / f"dies-{self.number}" / purpose, self.dies, self.memory, self.task.die)


def row(name: Row, place: Place) -> Outcome:
    """Do one row for one number.

    Raises:
        Stopped: it was asked to; what was trained is kept to the last whole epoch.
    """
    begun = time.perf_counter()
    place.say(f"{name}, number {place.number}")
    found = _ROWS[name](name, place)
    return found.model_copy(update={"seconds": round(time.perf_counter() - begun, 1)})


def _learned(name: Row, place: Place) -> tuple[BenchDescription, Experiment, nn.Module, Training]:
    """Learn a mask on the weights of the formed dies."""
    changes: dict[str, object] = {"seed": place.number}
    if name == "phases":
        changes |= {"granularity": "phase", "phases": place.task.phases}
    recipe = place.recipe.changed(changes)
    description = place.formed()
    folder = description.data / "checkpoints" / name
    if (folder / "experiment.json").exists():
        experiment = Experiment.load(folder)
        if experiment.recipe != recipe:
            raise DataError(
                f"the training {folder} is of another recipe than its reproduction; restore it, or remove it to train it anew"
            )
    else:
        with Session(description) as session:
            experiment = Experiment.begin(folder, recipe, session.macros, place.data)
    place.say(f"  train {recipe.epochs} epochs")
    model, training = experiment.train(place.data, resume=True, stop=place.stop, device=place.device)
    _require_whole(training)
    return description, experiment, model, training


def _topology(name: Row, place: Place) -> Outcome:
    """Learn a mask on the dies' weights, deploy it by gates, run it on the macro."""
    description, experiment, model, training = _learned(name, place)
    host, ideal = _on_host(model, place)
    place.say("  deploy, and run on the macro")
    with Session(description) as session:
        deployment, _, _ = put_on_chip(session, experiment, (), name)
        on_chip = scores_on_chip(model, session.macros, deployment, place.data, place.samples)
    flips = [layer.switches.cpu().numpy() for layer in masked_layers(model).values()]
    return Outcome(
        row=name,
        number=place.number,
        scores=on_chip,
        samples=_samples(place),
        host=host,
        ideal=ideal,
        weights=deployment.mask.weights,
        kept=deployment.mask.kept,
        pulses=writing.pulses(description),
        repruning={"set": int(sum(each[1] for each in flips)), "reset": int(sum(each[2] for each in flips))},
        history=_history(training),
        **_costs(place, model, deployment.mask, description),
    )


def _reset(name: Row, place: Place) -> Outcome:
    """Learn as ``edge`` does, then give each pruned cell one reset: all that is left runs at once, what resets leave, too."""
    _, experiment, model, _ = _learned("edge", place)
    place.say("  reset the pruned cells")
    description = place.formed_again(name)
    with Session(description) as session:
        here = Experiment.load(description.data / "checkpoints" / experiment.name)
        deployment, _, _ = put_on_chip(session, here, tuple(masked_layers(model)), name, ",".join(place.dies))
    rest(description, place.memory)
    conductance_S, _ = _reading(place, description)
    model = with_resets(model, replace(deployment, conductance_S=conductance_S), place.data)
    return _on_macro(name, place, model, description).model_copy(update={"kept": deployment.mask.kept})


def _random(name: Row, place: Place) -> Outcome:
    """Run every weight of the formed dies on the macro."""
    recipe = place.recipe.changed({"seed": place.number})
    description = place.formed()
    model = unpruned(_read(place, recipe, description), place.data)
    return _on_macro(name, place, model, description)


def _read_out(name: Row, place: Place) -> Outcome:
    """Train the last layer alone, in software, behind the random network of the formed dies."""
    recipe = place.recipe.changed({"seed": place.number, **place.task.conventional})
    description = place.formed()
    model = _read(place, recipe, description)
    configure(model, keep_all=True)
    last = list(masked_layers(model))[-1]
    learn_weights(model, only=last, seed=recipe.seed)
    place.say(f"  train the layer {last}")
    training = _fit(place, model, recipe, name)
    return _on_macro(name, place, model, description, training, digital=last)


def _written(name: Row, place: Place) -> Outcome:
    """Train weights in the conventional way, write them into virgin dies, run them on the macro."""
    recipe = place.recipe.changed({"seed": place.number, **place.task.conventional})
    place.say("  train weights")
    model, training = _conventional(place, recipe, exact=False)
    place.say("  write them")
    description = place.virgin(name)
    targets_S = place.placement.targets(wanted_S(model, writing.LOWEST_S, writing.HIGHEST_S))
    if name == "write-verify":
        writing.with_verify(description, place.dies, targets_S, place.budget)
    else:
        writing.once(description, place.dies, targets_S, writing.gate_curve(place.folder, place.memory))
    rest(description, place.memory)
    run_as_written(model)
    _settle_on(model, place, description)
    return _on_macro(name, place, model, description, training)


def _on_macro(
    name: Row,
    place: Place,
    model: nn.Module,
    description: BenchDescription,
    training: Training | None = None,
    digital: str | None = None,
) -> Outcome:
    """Run what the network's masks leave of the dies; ``digital``: the layer that stays software."""
    host, ideal = _on_host(model, place)
    place.say("  run on the macro")
    with (
        Session(description) as session,
        multiplied_by(model, session.macros, place.dies, place.placement),
    ):
        if digital is not None:
            masked_layers(model)[digital].multiply = None
        on_chip = _require(scores(model, place.data, place.samples, stop=place.stop))
    return Outcome(
        row=name,
        number=place.number,
        scores=on_chip,
        samples=_samples(place),
        host=host,
        ideal=ideal,
        pulses=writing.pulses(description),
        history=() if training is None else _history(training),
        **_sizes(model),
        **_costs(place, model, Mask(masks(model)), description, digital),
    )


def _ideal(name: Row, place: Place) -> Outcome:
    """Learn a topology of ideal weights: signed constants, as Ramanujan et al. 2020 found best; no noise, codes of 8 bits."""
    recipe = place.recipe.changed({"seed": place.number, "read_noise": 0.0, "activation_bits": 8})
    model = recipe.model()
    rng = np.random.default_rng(place.number)
    layers = masked_layers(model)
    load_weights(
        model,
        {
            name: np.where(rng.random(layer.shape) < 0.5, -1e-5, 1e-5).astype(np.float32)
            for name, layer in layers.items()
        },
    )
    place.say(f"  train {recipe.epochs} epochs")
    training = _fit(place, model, recipe, name)
    found = _require(scores(model, place.data, stop=place.stop))
    return Outcome(row=name, number=place.number, scores=found, history=_history(training), **_sizes(model))


def _dense(name: Row, place: Place) -> Outcome:
    """Train the same network as dense float32 software."""
    recipe = place.recipe.changed({"seed": place.number, **place.task.conventional})
    place.say(f"  train {recipe.epochs} epochs")
    model, training = _conventional(place, recipe, exact=True)
    found = _require(scores(model, place.data, stop=place.stop))
    return Outcome(row=name, number=place.number, scores=found, history=_history(training), **_sizes(model))


_ROWS: Mapping[Row, Callable[[Row, Place], Outcome]] = {
    "edge": _topology,
    "phases": _topology,
    "reset": _reset,
    "random": _random,
    "read-out": _read_out,
    "write-verify": _written,
    "single-shot": _written,
    "ideal": _ideal,
    "dense": _dense,
}


def _conventional(place: Place, recipe: Recipe, exact: bool) -> tuple[nn.Module, Training]:
    model = recipe.changed({"read_noise": 0.0}).model() if exact else recipe.model()
    learn_weights(model, exact, seed=recipe.seed)
    return model, _fit(place, model, recipe, "dense" if exact else "weights")


def _fit(place: Place, model: nn.Module, recipe: Recipe, name: str) -> Training:
    """Train, going on from a checkpoint of before."""
    checkpoint = place.folder / "trainings" / f"{name}-{place.number}.pt"
    model.to(device_named(place.device))
    training = fit(model, recipe, place.data, checkpoint=checkpoint, resume=True, stop=place.stop)
    _require_whole(training)
    return training


def _require_whole(training: Training) -> None:
    if training.stopped:
        raise Stopped(f"stopped after epoch {len(training.history)}; the same command goes on from there")


def _require(found: Scores | None) -> Scores:
    if found is None:
        raise Stopped("stopped while testing; the same command goes on from there")
    return found


def _read(place: Place, recipe: Recipe, description: BenchDescription) -> nn.Module:
    """Return the recipe's network with the weights of the dies."""
    model = recipe.model()
    load_dies(model, place.placement, *_reading(place, description))
    return model.to(device_named(place.device))


def _reading(place: Place, description: BenchDescription) -> tuple[npt.NDArray[np.float32], tuple[Conditions, ...]]:
    with Session(description) as session:
        return read_dies(session.macros, place.dies, place.placement, REPEATS)


def _settle_on(model: nn.Module, place: Place, description: BenchDescription) -> None:
    """Read what pulses made of the dies, and measure the statistics that the network has with it."""
    load_dies(model, place.placement, *_reading(place, description))
    with _same_noise(place):
        settle_statistics(model, place.data.settling(STATISTICS_IMAGES))


def _on_host(model: nn.Module, place: Place) -> tuple[Scores, Scores]:
    """Return the scores of all test samples on the host: with the paper's read noise, and without."""
    ideal = _require(scores(model, place.data))
    configure(model, evaluation_noise=READ_NOISE)
    try:
        with _same_noise(place):
            return _require(scores(model, place.data)), ideal
    finally:
        configure(model, evaluation_noise=0.0)


@contextmanager
def _same_noise(place: Place) -> Iterator[None]:
    """Within the block, torch draws what it draws for this number every time: a row done again comes to the same."""
    with forked_randomness(device_named(place.device)):
        torch.manual_seed(place.number)
        yield


def _samples(place: Place) -> int:
    return min(place.data.tests, place.samples or place.data.tests)


def _sizes(model: nn.Module) -> dict[str, int]:
    found = Mask(masks(model))
    return {"weights": found.weights, "kept": found.kept}


def _history(training: Training) -> tuple[dict[str, float], ...]:
    return tuple({"accuracy": each.test_accuracy, **each.scores} for each in training.history)


def _costs(
    place: Place, model: nn.Module, mask: Mask, description: BenchDescription, digital: str | None = None
) -> dict[str, Any]:
    """Return conversions, bench time and energy by component of the products of one test sample.

    ``digital``: the layer that stays software.
    """
    vectors = vectors_of(model, torch.zeros(1, *place.data.sample))
    products = [
        (gates, vectors[tile.layer], place.recipe.activation_bits)
        for tile, gates in place.placement.gates(mask).items()
        if tile.layer != digital
    ]
    times = place.data.inputs_a_test
    whole = sum((cost.multiply(*product, description.board) for product in products), cost.Cost()) * times
    sizes = {name: layer.scores.numel() for name, layer in masked_layers(model).items()}
    return {
        "macs": times * sum(vectors[name] * size for name, size in sizes.items()),
        "conversions": whole.conversions,
        "time_s": whole.time_s,
        "energy_J": {name: value * times for name, value in by_component(products, description.board).items()},
    }
