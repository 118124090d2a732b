"""Puts a trained network's mask on its die, through the session, and verifies what is there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rramlab.base.errors import OutOfLimits, Refused
from rramlab.deploy import Deployment, Verification, deployment_plan, verify
from rramlab.engine.results import RunResult
from rramlab.engine.session import Session
from rramlab.training.chiploop import REPEATS, read_dies
from rramlab.training.experiment import Experiment


def put_on_chip(
    session: Session, experiment: Experiment, reset: Collection[str], name: str, arm: str | None = None
) -> tuple[Deployment, list[RunResult], Verification]:
    """Execute the plans of a trained network's mask, verify it by reading back, keep the deployment file.

    ``reset``: the layers whose pruned cells are reset; all others are gated. One run a die. ``arm``: the dies that may be
    pulsed, with commas between; nothing is pulsed unless all are that must be.

    Raises:
        DataError: the weights that the network was trained on are stale.
        Refused: a die that must be pulsed is not armed.
        OutOfLimits: the weights are no longer those of the die; or what was read back is not what was deployed: the file is
            kept then, so that it can be looked at.
    """
    model = experiment.trained()
    mask, placement = experiment.mask(model), experiment.placement
    plans = {die: deployment_plan(placement, mask, reset, number) for number, die in enumerate(experiment.dies)}
    armed = set() if arm is None else {name.strip() for name in arm.split(",")}
    _require_armed({die for die, plan in plans.items() if plan.destructive}, armed, experiment)
    experiment.require_current(session.macros)
    results = [session.run(plan, arm=die if die in armed else None, die=die) for die, plan in plans.items()]
    conductance_S, _ = read_dies(session.macros, experiment.dies, placement, REPEATS)
    deployment = experiment.deployment(name, reset, model, conductance_S, [result.run_id for result in results])
    deployment.save(deployments(session.description.data))
    found = verified(session, deployment)
    if not found.passed:
        raise OutOfLimits(
            f"deployment {name!r} on die {', '.join(experiment.dies)} is not what was planned: {found}. No further pulse was "
            "sent; read the die, and decide on a new, explicit plan"
        )
    return deployment, results, found


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
