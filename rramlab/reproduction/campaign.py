"""The whole of a reproduction: every row on every number of dies, each kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rramlab.deploy import find_deployment
from rramlab.drivers.bench import describe_bench
from rramlab.engine.session import Session
from rramlab.macro.masks import Mask
from rramlab.nn import masked_layers
from rramlab.reproduction import outcomes, results
from rramlab.reproduction.benches import PUBLISHED
from rramlab.reproduction.outcomes import Outcome, Row
from rramlab.reproduction.rows import Place, row
from rramlab.reproduction.summary import TITLES
from rramlab.reproduction.tasks import QUICK_BUDGET, QUICK_PART, QUICK_PATCHES, Task
from rramlab.reproduction.writing import BUDGET
from rramlab.training.datasets import Data, Dataset
from rramlab.training.datasets.segmentation import Segmentation, probabilities
from rramlab.training.deploying import deployments
from rramlab.training.device import CPU, device_named
from rramlab.training.experiment import Experiment
from rramlab.training.loop import predict
from rramlab.training.onchip import chip_in_the_loop

SHOWN_PART = 192  # pixels a side of the picture of a segmentation
SHOWN_SAMPLES = 1000  # of a confusion matrix, at most


def reproduce(
    folder: Path,
    task: Task,
    data: Data,
    numbers: Sequence[int],
    rows: Sequence[Row] = tuple(TITLES),
    memory: str = PUBLISHED,
    quick: bool = False,
    say: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
    done: Callable[[Outcome], None] = lambda outcome: None,
    device: str = CPU,
    samples: int | None = None,
) -> results.Results:
    """Do what is left of a reproduction in ``folder`` and return everything that is there.

    ``numbers``: which, of dies and seeds, counted from 0. Each row of each is kept when it is done, a training after every
    epoch, so the same call goes on where it was interrupted. ``device``: what networks are
    trained on. ``samples``: test samples of a row on the macro; None: the task's number.

    Raises:
        UsageError: the folder is of another reproduction, or there is no such device. Stopped: it was asked to.
    """
    device_named(device)  # before a die is formed
    recipe = task.made(quick)
    if quick and isinstance(data, Segmentation):
        data = replace(data.part(QUICK_PART, 1), patches=QUICK_PATCHES)
    recipe.require(data)
    results.begin(
        folder,
        {
            "task": task.recipe,
            "memory": memory,
            "quick": quick,
            "recipe": recipe.model_dump(mode="json"),
            "data": data.digest,
            "classes": list(data.classes),
        },
    )
    board = describe_bench(folder).board
    samples = samples or (task.quick_samples if quick else task.on_chip)
    budget = QUICK_BUDGET if quick else BUDGET
    for number in numbers:
        place = Place(folder, board, number, task, recipe, data, memory, samples, budget, say, stop, device)
        for name in rows:
            if outcomes.path_of(folder, name, number).exists():
                continue
            outcome = row(name, place)
            if name == "edge" and number == 0:
                _keep_shown(place)
            outcomes.save(folder, outcome)
            done(outcome)
    return results.Results.load(folder)


def _keep_shown(place: Place) -> None:
    """Keep what pictures are drawn from: the mask, the dies, and what the network says on the macro of a few samples."""
    description = place.formed()
    experiment = Experiment.load(description.data / "checkpoints" / "edge")
    model, data = experiment.trained(), place.data
    deployment = find_deployment(deployments(description.data), "edge")
    confusion, images = None, {}
    with Session(description) as session, chip_in_the_loop(model, session.macros, deployment):
        if isinstance(data, Dataset):
            count = min(place.samples or SHOWN_SAMPLES, SHOWN_SAMPLES, data.tests)
            x, y = data.tested(count)
            said = predict(model, x).argmax(axis=1)
            confusion = np.zeros((len(data.classes), len(data.classes)), np.int64)
            np.add.at(confusion, (y, said), 1)
        elif isinstance(data, Segmentation):
            part = data.part(SHOWN_PART, 1).test
            likely = probabilities(lambda x: predict(model, x, data.at_once), part.image[0], part.field[0])
            images = {"image": part.image[0], "truth": part.truth[0], "likely": likely}
    mask = Mask({name: layer.mask().numpy() for name, layer in masked_layers(model).items()})
    results.keep(place.folder, mask, experiment.conductance_S, confusion, images)
