"""Puts a trained network's mask on its die, through the session, and verifies what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rramlab.base.errors import OutOfLimits
from rramlab.deploy import Deployment, Method, Verification, deployment_plan, verify
from rramlab.engine.results import RunResult
from rramlab.engine.session import Session
from rramlab.training.experiment import Experiment


def put_on_chip(
    session: Session, experiment: Experiment, method: Method, name: str, arm: str | None = None
) -> tuple[Deployment, RunResult, Verification]:
    """Execute the plan of a trained network's mask, verify it by reading back, keep the deployment file.

    Raises:
        OutOfLimits: what was read back is not what was deployed; the file is kept, so that it can be looked at.
    """
    model = experiment.trained()
    plan = deployment_plan(experiment.placement, experiment.mask(model), method)
    result = session.run(plan, arm=arm, die=experiment.die_id)
    conductance = session.stations[experiment.die_id].conductance_S.copy()
    conductance[~experiment.placement.used.bits] = np.nan
    deployment = experiment.deployment(name, method, model, conductance, result.run_id)
    deployment.save(deployments(session.description.data))
    found = verified(session, deployment)
    if not found.passed:
        raise OutOfLimits(
            f"deployment {name!r} on die {experiment.die_id!r} is not what was planned: {found}. No further pulse was sent; "
            "read the die, and decide on a new, explicit plan"
        )
    return deployment, result, found


def verified(session: Session, deployment: Deployment) -> Verification:
    """Verify a deployment on the bench and note the finding in its file."""
    found = verify(session.macros[deployment.die_id], deployment)
    deployment.note(deployments(session.description.data), verification=found.as_json())
    return found


def checkpoints(data: Path) -> Path:
    return data / "checkpoints"


def deployments(data: Path) -> Path:
    return data / "deployments"
