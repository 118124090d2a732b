"""Puts a trained network's mask on its die, through the session, and verifies what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rramlab.base.errors import OutOfLimits, Refused, UsageError
from rramlab.base.files import read_object, refuse_unwritable
from rramlab.base.names import fresh
from rramlab.deploy import Deployment, Verification, deployment_plan, verify
from rramlab.deploy.planner import RESETTING, pruned_cells
from rramlab.engine.results import Flawed, RunResult, result_of
from rramlab.engine.session import Session
from rramlab.macro.cells import Bools
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan, leaves
from rramlab.runs.attempts import is_over
from rramlab.runs.store import Run, list_runs
from rramlab.training.chiploop import REPEATS, read_dies
from rramlab.training.experiment import Experiment


@dataclass(frozen=True)
class Attempt:
    """A run that gives, or gave, cells of a die their reset for a mask. ``layers``: those of which it is the newest."""

    die: str
    run: Run
    layers: tuple[str, ...]

    @property
    def is_over(self) -> bool:
        return is_over(self.run)

    def __str__(self) -> str:
        layers = ", ".join(self.layers)
        if self.is_over:
            return (
                f"Run {self.run.id} has reset the pruned cells of {layers} on die {self.die} for this mask: none gets another "
                f"pulse (for that: --again {self.run.id})."
            )
        return (
            f"Run {self.run.id}, which resets the pruned cells of {layers} on die {self.die} for this mask, is not over: it is "
            "gone on with, and what it has pulsed is not pulsed again."
        )


def attempts_of(data: Path, experiment: Experiment, again: str | None = None) -> list[Attempt]:
    """Return the runs that have put a training's mask on its dies by pulses, or were about to; of each layer the newest.

    ``again``: runs that shall not count, with commas between: what they have pulsed may be pulsed once more.

    Raises:
        UsageError: ``again`` names none of them. DataError: a run cannot be read, so nobody can say whether it is one.
    """
    placement, mask = experiment.placement, experiment.mask(experiment.trained())
    found: list[Attempt] = []
    for number, die in enumerate(experiment.dies):
        cells = {layer: pruned_cells(placement, mask, (layer,), number).bits for layer in placement.layers}
        free = {layer for layer, bits in cells.items() if bits.any()}
        for run in reversed(list_runs(data / "runs")):
            record = run.record
            if record["die"] != die or record["name"] != RESETTING or not free:
                continue
            pulsed = _pulsed(run.plan, placement.geometry)
            inside = {layer for layer, bits in cells.items() if bits.any() and not (bits & ~pulsed).any()}
            total = np.any([cells[layer] for layer in inside], axis=0) if inside else np.zeros_like(pulsed)
            if inside & free and np.array_equal(total, pulsed):
                found.append(Attempt(die, run, tuple(layer for layer in placement.layers if layer in inside & free)))
                free -= inside
    abandoned = set() if again is None else {name.strip() for name in again.split(",")}
    if strangers := sorted(abandoned - {each.run.id for each in found}):
        said = ", ".join(f"{each.run.id} of die {each.die}" for each in found) or "none"
        raise UsageError(
            f"--again {strangers[0]}: that is not the newest run that resets cells for this mask; nothing was energised. The "
            f"newest: {said}. Leave --again out to go on with what was begun"
        )
    return [each for each in found if each.run.id not in abandoned]


def _pulsed(plan: Plan, geometry: Geometry) -> Bools:
    """Return the cells that a plan may pulse: bool[rows, columns]."""
    found = np.zeros(geometry.shape, np.bool_)
    for each in leaves(plan.steps):
        if each.step.stresses:
            found |= Region(getattr(each.step, "cells", "all")).bound(geometry).bits
    return found


@dataclass(frozen=True)
class Deploying:
    """A mask about to be put on its dies. ``reset``: the layers whose pruned cells are reset.

    ``attempts``: what was begun of it, or done: no cell gets a pulse for the same mask twice.
    """

    experiment: Experiment
    mask: Mask
    reset: tuple[str, ...]
    attempts: tuple[Attempt, ...]

    @classmethod
    def of(
        cls, data: Path, experiment: Experiment, reset: Collection[str], name: str, again: str | None = None
    ) -> Deploying:
        """Look for what was begun, see :func:`attempts_of`, and that the deployment ``name`` can be kept.

        Raises:
            UsageError: it is the name of another training's deployment; or a run that is not over resets more layers than
                these. DataError: a run or a deployment cannot be read, or none can be written.
        """
        there = deployments(data) / name / "deployment.json"
        if not there.exists():
            fresh(name, "deployment's name", deployments(data))
        refuse_unwritable(there, f"the deployment {name!r}")
        if there.exists() and (owner := str(read_object(there, "training")["training"])) != experiment.name:
            raise UsageError(
                f"there is a deployment {name!r} of training {owner!r} already, which says what lies on its dies; nothing was "
                "changed. Choose another --name"
            )
        attempts = [each for each in attempts_of(data, experiment, again) if set(each.layers) & set(reset)]
        for each in attempts:
            if not each.is_over and (more := set(each.layers) - set(reset)):
                raise UsageError(
                    f"run {each.run.id} is not over and resets {', '.join(sorted(more))}, too, which is not asked for here; "
                    f"nothing was energised. Go on with it (--method reset), or leave it as it is: --again {each.run.id}"
                )
        return cls(experiment, experiment.mask(experiment.trained()), tuple(reset), tuple(attempts))

    def of_die(self, die: str) -> list[Attempt]:
        return [each for each in self.attempts if each.die == die]

    def plan(self, number: int) -> Plan | None:
        """Return what is left to be done on a die beside its attempts; None: nothing."""
        attempts = self.of_die(self.experiment.dies[number])
        begun = {layer for each in attempts for layer in each.layers}
        left = tuple(layer for layer in self.reset if layer not in begun)
        found = deployment_plan(self.experiment.placement, self.mask, left, number)
        return None if attempts and not found.destructive else found

    @property
    def pulsed(self) -> set[str]:
        """The dies that must be armed."""
        plans = {die: self.plan(number) for number, die in enumerate(self.experiment.dies)}
        fresh = {die for die, plan in plans.items() if plan is not None and plan.destructive}
        return fresh | {each.die for each in self.attempts if not each.is_over}


def put_on_chip(
    session: Session,
    experiment: Experiment,
    reset: Collection[str],
    name: str,
    arm: str | None = None,
    again: str | None = None,
) -> tuple[Deployment, list[RunResult], Verification]:
    """Execute the plans of a trained network's mask, verify it by reading back, keep the deployment file.

    ``reset``: the layers whose pruned cells are reset; all others are gated. One run a die, earlier attempts gone on with.
    ``arm``: the dies that may be pulsed, with commas between; nothing is pulsed unless all are that must be. ``again``: runs
    that are no attempts to go on with, see :meth:`Deploying.of`.

    Raises:
        DataError: the weights that the network was trained on are stale, or the deployment could not be kept.
        Refused: a die that must be pulsed is not armed.
        OutOfLimits: the weights are no longer those of the die; or what was read back is not what was deployed: the file is
            kept, no further pulse is sent.
    """
    deploying = Deploying.of(session.description.data, experiment, reset, name, again)
    armed = set() if arm is None else {each.strip() for each in arm.split(",")}
    _require_armed(deploying.pulsed, armed, experiment)
    experiment.require_current(session.macros)
    results: list[RunResult] = []
    for number, die in enumerate(experiment.dies):
        results += _carried_out(session, deploying, number, die if die in armed else None)
    conductance_S, _ = read_dies(session.macros, experiment.dies, experiment.placement, REPEATS)
    model = experiment.trained()
    deployment = experiment.deployment(name, reset, model, conductance_S, [result.run_id for result in results])
    deployment.save(deployments(session.description.data))
    found = verified(session, deployment)
    if not found.passed:
        pulsed = ",".join(result.run_id for result in results if result.pulses)
        more = (
            f". Begin it again, at a further pulse for the cells that still conduct, with --again {pulsed}"
            if pulsed
            else ""
        )
        raise OutOfLimits(
            f"deployment {name!r} on die {', '.join(experiment.dies)} is not what was planned: {found}. No further pulse was "
            f"sent; read the die, and decide on a new, explicit plan{more}"
        )
    return deployment, results, found


def _carried_out(session: Session, deploying: Deploying, number: int, arm: str | None) -> list[RunResult]:
    """Go on with what was begun on a die, then do what is left."""
    die, results = deploying.experiment.dies[number], []
    for each in deploying.of_die(die):
        try:
            results.append(
                result_of(each.run) if each.is_over else _whatever_it_lacks(session.resume, each.run.id, arm=arm)
            )
        except Refused as error:
            error.args = (f"{error}. To leave that run as it is and deploy anew: --again {each.run.id}",)
            raise
    plan = deploying.plan(number)
    return results if plan is None else [*results, _whatever_it_lacks(session.run, plan, arm=arm, die=die)]


def _whatever_it_lacks(execute: Callable[..., RunResult], *given: Any, **more: Any) -> RunResult:
    """Return what a run did also where some of what it measured is lost: what is on the die is verified anyway."""
    try:
        return execute(*given, **more)
    except Flawed as flawed:
        return flawed.result


def _require_armed(pulsed: set[str], armed: set[str], experiment: Experiment) -> None:
    """Refuse to pulse a part of the dies, and a name that is none of them."""
    strangers = sorted(armed - set(experiment.dies))
    if strangers or not pulsed <= armed:
        wanted = ",".join(die for die in experiment.dies if die in pulsed)
        found = f"armed for {', '.join(sorted(armed))}" if armed else "nothing is armed"
        raise Refused(
            f"deploying {experiment.name!r} "
            + (f"resets cells of die {wanted.replace(',', ', ')}" if wanted else "pulses no die")
            + f", but {found}; nothing was energised. "
            + (f"To allow it: --arm {wanted}" if wanted else "Leave --arm out")
        )


def verified(session: Session, deployment: Deployment) -> Verification:
    """Verify a deployment on the bench and note the finding in its file."""
    found = verify(session.macros, deployment)
    deployment.note(deployments(session.description.data), verification=found.as_json())
    return found


def checkpoints(data: Path) -> Path:
    return data / "checkpoints"


def deployments(data: Path) -> Path:
    return data / "deployments"
