"""Everything that a ledger says, compared with everything that is known of it: what opening leaves out, to be quick."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rramlab.base.errors import DataError
from rramlab.base.files import read_object
from rramlab.runs.ledger.life import check_file, check_life
from rramlab.runs.ledger.looking import contradiction
from rramlab.runs.ledger.view import LedgerView
from rramlab.runs.ledger.witnesses import Witness, beside, outside, testimony

_NEWEST_RUNS = 4


@dataclass(frozen=True)
class Checked:
    """What was compared. ``witnesses``: the files that agree. ``problems``: for a person; none is what one hopes for."""

    rows: int
    operations: int
    witnesses: tuple[str, ...]
    problems: tuple[str, ...]


def check(view: LedgerView, runs: Path | None = None) -> Checked:
    """Compare the whole chain of rows, the counts and index that follow from it, and every witness.

    ``runs``: the folder of the bench's runs, whose records are witnesses, too.
    """
    problems: list[str] = []
    for duty in (check_file, check_life):
        try:
            duty(view)
        except DataError as error:
            problems.append(str(error))
    agreed = []
    for path, witness, damaged in _witnesses(view, runs):
        if damaged:
            problems.append(f"the witness {path} is damaged, in part or as a whole")
        if witness is None:
            continue
        try:
            doubt = contradiction(view, path, witness)
        except DataError as error:
            doubt = str(error)
        if doubt:
            problems.append(doubt)
        else:
            agreed.append(str(path))
    return Checked(view.head.seq, view.head.op, tuple(agreed), tuple(dict.fromkeys(problems)))


def _witnesses(view: LedgerView, runs: Path | None) -> list[tuple[Path, Witness | None, bool]]:
    found = []
    for path in (beside(view.path), outside(view.head.ledger)):
        seen = testimony(path)
        found.append((path, seen.witness, seen.damaged))
    for path in sorted(runs.glob("*/run.json")) if runs is not None else ():
        try:
            found.append((path, of_run(read_object(path), view), False))
        except DataError:
            found.append((path, None, True))
    return found


def hear_newest_runs(view: LedgerView, runs: Path) -> None:
    """Compare a ledger with the records of the bench's newest runs: a few, since this is done at every opening.

    Raises:
        DataError: one has seen what the ledger does not have.
    """
    folders = sorted((each.name for each in os.scandir(runs)), reverse=True) if runs.is_dir() else []
    for name in folders[:_NEWEST_RUNS]:
        path = runs / name / "run.json"
        if not path.exists():
            continue
        try:
            witness = of_run(read_object(path), view)
        except DataError:
            continue  # it is told when the run is looked at
        if witness is not None:
            contradiction(view, path, replace(witness, where=str(view.path.resolve())))


def of_run(record: dict[str, Any], view: LedgerView) -> Witness | None:
    """Return what a run's record has witnessed of a ledger; None: nothing, or it is of another die."""
    if record.get("die") != view.die_id:
        return None
    seen, head, operation = record.get("ledger"), view.head, record.get("operation")
    if isinstance(seen, dict):
        try:
            witness = Witness(**seen)
        except TypeError:
            return None
        return witness if witness.ledger == head.ledger else None  # an adoption has judged what was seen before it
    if isinstance(operation, int) and operation > head.op and not view.identities():
        # Version 0.1.0 wrote down how many operations there were before a run.
        at = str(record.get("started_at", ""))
        return Witness(head.die, head.ledger, head.seq + operation - head.op, operation, "", at)
    return None
