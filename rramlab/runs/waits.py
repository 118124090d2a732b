"""How long a run has waited before each thing that it measured: on a simulated bench, too, where a wait is over at once."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from rramlab.base.errors import DataError
from rramlab.plan.plan import leaves
from rramlab.plan.steps import WaitStep
from rramlab.runs.store import Run, in_order

_ROUND = re.compile(r"-[0-9]{7,}(?=-)")  # in a position, which a path has not


@dataclass(frozen=True)
class Waits:
    """The waits of a run that have passed. ``positions``: in order, as they are compared; ``passed_s``: all up to each."""

    positions: Sequence[list[int]]
    passed_s: Sequence[float]

    def before(self, position: str) -> float:
        """Return the seconds that the run has waited before a position, or before a step by its path."""
        count = bisect_right(self.positions, in_order(position))
        return self.passed_s[count - 1] if count else 0.0


def waits_of(run: Run) -> Waits | None:
    """Return the waits that a run has written down; None where its plan has none, or cannot be read."""
    try:
        paths = {each.path for each in leaves(run.plan.steps) if isinstance(each.step, WaitStep)}
    except DataError:
        return None
    if not paths:
        return None
    found = []
    for path in (run.folder / "judgements").glob("*.json"):
        position = path.stem
        if _ROUND.sub("", position.partition(".")[0]) in paths:
            found.append((in_order(position), float((run.judged(position) or {}).get("waited_s", 0.0))))
    found.sort()
    return Waits([each for each, _ in found], list(accumulate(seconds for _, seconds in found)))
