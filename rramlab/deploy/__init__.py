"""From a mask to a plan, and a deployment file that the next session re-applies and verifies. Knows no instrument."""

from rramlab.deploy.deployment import Deployment, Method, find_deployment
from rramlab.deploy.planner import deployment_plan, pruned_cells
from rramlab.deploy.verify import Verification, verify
from rramlab.deploy.ways import Load, Objective, Way, best, sample_cost, ways

__all__ = [
    "Deployment",
    "Load",
    "Method",
    "Objective",
    "Verification",
    "Way",
    "best",
    "deployment_plan",
    "find_deployment",
    "pruned_cells",
    "sample_cost",
    "verify",
    "ways",
]
