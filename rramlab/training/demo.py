"""The whole story on one die: form, read, train, deploy, run there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.files import refuse_unwritable
from rramlab.deploy import Method, Verification
from rramlab.engine.session import Session
from rramlab.macro.cells import is_conducting
from rramlab.training.checkpoint import EpochResult
from rramlab.training.datasets import Data
from rramlab.training.deploying import checkpoints, deployments, put_on_chip
from rramlab.training.experiment import Experiment
from rramlab.training.onchip import scores_on_chip
from rramlab.training.recipes import Forming, Recipe

FORMED: dict[Forming, str] = {
    "all": "one electroforming pulse for every cell",
    "partial": "one electroforming pulse for every cell, at a voltage that forms a part of them",
    "one-of-pair": "one electroforming pulse for one cell of each pair, chosen at random",
}


@dataclass(frozen=True, eq=False)
class Story:
    """What the demo did. Fractions are of 1; ``conductance_S`` is the die after forming, float32[rows, columns]."""

    die: str
    recipe: str
    method: Method
    formed_fraction: float
    median_S: float
    weights: int
    kept: int
    accuracy_random: float
    accuracy_trained: float
    accuracy_on_chip: float
    images: int
    pulses: int
    conversions: int
    saturated: int
    seconds: float
    seconds_by_part: dict[str, float]
    verification: Verification
    conductance_S: npt.NDArray[np.float32]


def tell(
    session: Session,
    recipe: Recipe,
    data: Data,
    method: Method = "gate",
    on_part: Callable[[str], None] = lambda part: None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    forming: Mapping[str, object] | None = None,
) -> Story:
    """Form the session's virgin die in single-shot mode, learn a mask on its weights, deploy it, evaluate it there.

    ``forming``: parameters of the protocol ``electroform``, above those of the recipe.
    """
    name = f"{recipe.name}-{session.macro.die_id}"
    for folder in (checkpoints(session.description.data), deployments(session.description.data)):
        refuse_unwritable(folder / name / "any", "what the demo learns")  # before a die is formed for it
    begun = time.perf_counter()
    parts: dict[str, float] = {}
    macro = session.macro
    clock = [begun]

    def part(name: str) -> None:
        now = time.perf_counter()
        parts[name] = round(now - clock[0], 3)
        clock[0] = now

    on_part(f"form: {FORMED[recipe.forming]}")
    formed = session.run("electroform", {**recipe.forming_parameters(), **(forming or {})}, arm=macro.die_id)
    part("form")
    on_part("read: every cell of the die")
    conductance = macro.read()
    pulsed = session.stations[macro.die_id].ledger.pulse_counts() > 0
    conducting = is_conducting(conductance)
    part("read")

    on_part(f"train: which of the random weights to keep, on {data.name}")
    experiment = Experiment.begin(checkpoints(session.description.data) / name, recipe, session.macros, data)
    random_accuracy = experiment.random_scores(data)["accuracy"]
    model, training = experiment.train(data, resume=False, on_epoch=on_epoch, macros=session.macros)
    part("train")

    on_part(f"deploy: the mask, by {method}")
    reset = experiment.placement.layers if method == "reset" else ()
    deployment, deployed, verification = put_on_chip(session, experiment, reset, experiment.name, arm=macro.die_id)
    part("deploy")
    on_part(f"evaluate: {data.tests:,} images, every product computed by the macro")
    conversions, saturated = macro.conversions, macro.saturated
    on_chip = scores_on_chip(model, session.macros, deployment, data)["accuracy"]
    part("evaluate")
    return Story(
        die=macro.die_id,
        recipe=recipe.name,
        method=method,
        formed_fraction=int(np.count_nonzero(conducting & pulsed)) / max(1, int(np.count_nonzero(pulsed))),
        median_S=float(np.median(conductance[conducting])),
        weights=deployment.mask.weights,
        kept=deployment.mask.kept,
        accuracy_random=random_accuracy,
        accuracy_trained=training.history[-1].test_accuracy,
        accuracy_on_chip=on_chip,
        images=data.tests,
        pulses=formed.pulses + sum(result.pulses for result in deployed),
        conversions=macro.conversions - conversions,
        saturated=macro.saturated - saturated,
        seconds=round(time.perf_counter() - begun, 3),
        seconds_by_part=parts,
        verification=verification,
        conductance_S=conductance,
    )
