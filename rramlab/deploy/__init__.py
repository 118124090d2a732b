"""From a mask to a plan, and a deployment file that the next session re-applies and verifies. Knows no instrument."""

from rramlab.deploy.deployment import Deployment, Method, find_deployment
from rramlab.deploy.planner import deployment_plan, pruned_cells
from rramlab.deploy.verify import Verification, verify

__all__ = [
    "Deployment",
    "Method",
    "Verification",
    "deployment_plan",
    "find_deployment",
    "pruned_cells",
    "verify",
]
