"""One run a key: whoever schedules runs gives each a key, and may say the same again after whatever has happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rramlab.base.errors import Refused
from rramlab.base.names import KEY, checked
from rramlab.plan.plan import Plan
from rramlab.runs.store import Run, only_one, under_key


def begun(runs: Path, die: str, key: str, plan: Plan) -> Run | None:
    """Return the run of a key, to go on with or to say that it is done; None: it is to be begun.

    Raises:
        UsageError: it cannot be a key. Refused: the key is of another die or plan; nothing was energised. DataError: see
        :func:`rramlab.runs.store.find_key`.
    """
    run = only_one(under_key(runs, checked(key, "key", KEY)), key)
    if run is None:
        return None
    if run.die != die:
        raise Refused(
            f"the key {key!r} is of run {run.id} on die {run.die!r}, not on die {die!r}; nothing was energised. A key is of "
            "one run: take another for this die"
        )
    if differences := plan_differences(run.plan, plan):
        raise Refused(
            f"the key {key!r} is of run {run.id}, which was begun with another plan ({'; '.join(differences)}); nothing was "
            "energised. Say the same as then to go on with it, or take another key for a new run"
        )
    return run


def plan_differences(then: Plan, now: Plan) -> list[str]:
    """Say in what two plans differ that matters to the die; comments and lines of a file do not."""
    found = [
        f"{what} {old!r} then, {new!r} now"
        for what, old, new in (
            ("the protocol", then.name, now.name),
            *(
                (f"the parameter {name}", then.parameters.get(name), now.parameters.get(name))
                for name in sorted({*then.parameters, *now.parameters})
            ),
            ("block_rows", then.block_rows, now.block_rows),
        )
        if old != new
    ]
    if then.limits != now.limits:
        found.append("its limits")
    if not found and steps_of(then) != steps_of(now):
        found.append("its steps")
    return found


def steps_of(plan: Plan) -> list[Any]:
    """Return the steps of a plan as plain data, without where each was written."""
    return [_unplaced(step.model_dump()) for step in plan.steps]


def _unplaced(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _unplaced(value) for key, value in node.items() if key != "source"}
    return [_unplaced(each) for each in node] if isinstance(node, (list, tuple)) else node
