"""Earlier attempts at what is about to be done: whoever repeats a command that was killed goes on, and pulses nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rramlab.plan.plan import Plan, leaves
from rramlab.runs.store import Run, list_runs


def attempt(runs: Path, die: str, plan: Plan) -> Run | None:
    """Return the newest run on a die that gives the same cells the same pulses as a plan of this name; None: there is none.

    Raises:
        DataError: a run of that name cannot be read, so nobody can say whether it was one.
    """
    wanted = _pulses(plan)
    for run in reversed(list_runs(runs)):
        record = run.record
        if record["die"] == die and record["name"] == plan.name and _pulses(run.plan) == wanted:
            return run
    return None


def is_over(run: Run) -> bool:
    """Say whether every step of a run was carried out, however it ended."""
    record = run.record
    return record["status"] == "done" or bool(record.get("complete"))


def _pulses(plan: Plan) -> list[dict[str, Any]]:
    """Return the steps of a plan that pulse, without where they were written."""
    return [each.step.model_dump(exclude={"source"}) for each in leaves(plan.steps) if each.step.stresses]
