"""When each step of a run was at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from rramlab.report.findings import Findings
from rramlab.report.wording import describe_step, moment


@dataclass
class Stretch:
    """One step of the plan, loops as a whole. ``rounds``: how often its outermost loop went round, 0 outside loops."""

    step: str
    kind: str
    what: str
    began: datetime
    ended: datetime
    rounds: int = 0


def timeline(found: Findings) -> list[Stretch]:
    """Return what was when: as the run's record says or, where it does not, by what was written and pulsed.

    Steps that left no trace (gates, checks) have no time then.
    """
    stretches: dict[str, Stretch] = {}
    for step, began, ended, rounds in (*_recorded(found), *_traced(found)):
        known = stretches.get(step)
        if known is None:
            stretches[step] = Stretch(step, *_name(found, int(step)), began, ended, rounds)
        else:
            known.began, known.ended = min(known.began, began), max(known.ended, ended)
            known.rounds = max(known.rounds, rounds)
    return [stretches[step] for step in sorted(stretches, key=int)]


def _recorded(found: Findings) -> Iterator[tuple[str, datetime, datetime, int]]:
    start = moment(found.record.get("started_at"))
    for each in found.record.get("timeline") or ():
        began, ended = moment(each.get("began")), moment(each.get("ended"))
        if start is not None and "began_s" in each:  # as it was counted, whatever the wall clock said meanwhile
            began, ended = (start + timedelta(seconds=float(each[key])) for key in ("began_s", "ended_s"))
        step = str(each.get("step", "")).split("-")[0]
        if began is not None and step.isdigit():
            yield step, began, ended or began, int(each.get("rounds") or 0)


def _traced(found: Findings) -> Iterator[tuple[str, datetime, datetime, int]]:
    for position, rounds, text in found.moments:
        when, step = moment(text), position.split(".")[0].split("-")[0]
        if when is not None and step.isdigit():
            yield step, when, when, rounds


def _name(found: Findings, number: int) -> tuple[str, str]:
    steps = found.plan.steps if found.plan is not None else ()
    if number < len(steps):
        return steps[number].kind.replace("_", " "), describe_step(steps[number])
    return "call" if found.record.get("name") == "interactive" else "step", ""
