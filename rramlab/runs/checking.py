"""Whether a run's folder is as it was written: every file in it that anything is read from again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rramlab.base.errors import DataError
from rramlab.base.files import as_changed, digest, read_object
from rramlab.runs.hdf5 import damage
from rramlab.runs.snapshot import SNAPSHOT, load_snapshot
from rramlab.runs.store import TEXTS, Run


@dataclass
class Checked:
    """``problems``: a sentence for each damaged file. ``unsummed``: the run was begun by 0.1.0, which wrote no check sums."""

    run: str
    problems: list[str] = field(default_factory=list)
    unsummed: bool = False


def check(run: Run) -> Checked:
    """Read every file of a run; nothing is changed."""
    found = Checked(run.id)

    def attempt(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except DataError as error:
            found.problems.append(str(error))
            return None

    attempt(lambda: run.record)
    about = attempt(lambda: run.provenance)
    sums = (about or {}).get(TEXTS)
    found.unsummed = about is not None and sums is None
    for name in sums or ():
        attempt(partial(run.text, name))
    attempt(lambda: run.plan)
    for block in run.readable(found.problems):
        attempt(block.load)
    for pattern in ("provenance-*.json", "judgements/*.json"):
        for path in sorted(run.folder.glob(pattern)):
            attempt(partial(read_object, path))
    for path in sorted(run.folder.glob("selections/*.bits")):
        data = path.read_bytes()
        if not found.unsummed and data[-16:].hex() != digest(data[:-16]):
            found.problems.append(str(as_changed(path)))
    if (run.folder / SNAPSHOT).exists():
        attempt(partial(load_snapshot, run))
    path = run.folder / "run.h5"
    if path.exists() and (wrong := damage(path)):
        found.problems.append(f"{wrong}. Make it anew from the blocks: rramlab runs consolidate {run.id}")
    return found
