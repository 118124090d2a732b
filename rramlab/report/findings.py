"""What a run left behind, gathered for its report; what cannot be read is named, and the rest is told nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import RramlabError
from rramlab.base.files import read_object
from rramlab.macro.cells import Bools
from rramlab.plan.plan import Plan
from rramlab.report.givenpulses import GivenPulses, pulses_of
from rramlab.report.rounds import Reads
from rramlab.runs.hdf5 import damage
from rramlab.runs.store import Block, Run
from rramlab.runs.waits import Waits, waits_of

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
_TEXTS = ("protocol.yaml", "bench.yaml", "board.yaml")


@dataclass
class Findings:
    """A run as its folder and its die's ledger tell it. Maps are float32[rows, columns] in siemens, NaN where not known."""

    id: str
    folder: Path
    record: dict[str, Any]
    busy: bool  # a process holds the bench: a run that is not finished may be going on
    plan: Plan | None = None
    provenance: list[dict[str, Any]] = field(default_factory=list)  # of the start, and of each resume
    texts: dict[str, str] = field(default_factory=dict)
    given: GivenPulses | None = None
    before_S: Floats | None = None  # of each cell what was read before its first pulse of this run
    after_S: Floats | None = None  # of each cell the last read, unless it was pulsed since
    before_by_contact: Bools | None = None  # cells that were last read, or before, by a contact test: coarser, at 0.1 V
    after_by_contact: Bools | None = None
    reads: Reads = field(default_factory=Reads)
    waits: Waits | None = None  # of the run, where its plan has some
    curves: list[tuple[Block, npt.NDArray[Any]]] = field(default_factory=list)
    products: list[tuple[Block, npt.NDArray[Any]]] = field(default_factory=list)
    contact_S: Floats | None = None  # of the last contact test
    moments: list[tuple[str, int, str]] = field(
        default_factory=list
    )  # position, rounds so far, when: of what left a trace
    problems: list[str] = field(default_factory=list)

    @property
    def pulsed(self) -> bool:
        """Whether the run sent a pulse, as far as anything can tell."""
        if self.given is not None:
            return bool(self.given.settings)
        return int(self.record.get("pulses") or 0) > 0 or (self.record["status"] != "done" and self.destructive)

    @property
    def destructive(self) -> bool:
        return self.plan is not None and self.plan.destructive

    @property
    def unknown(self) -> int:
        """Cells of which nobody can say whether the last pulse arrived, or of which the next session will."""
        if self.given is not None:
            return int(np.count_nonzero(self.given.unknown)) + self.given.undecided
        return sum(int(each.get("unknown", 0)) for each in self.record.get("reconciled") or [])


def gather(run: Run, ledger: Path, busy: bool) -> Findings:
    """Read everything that a run left. ``ledger``: its die's; ``busy``: whether a process holds the bench.

    Raises:
        DataError: run.json itself cannot be read; there is nothing to report then.
    """
    found = Findings(run.id, run.folder, run.record, busy)

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (RramlabError, OSError, ValueError) as error:
            found.problems.append(str(error))
            return None

    found.plan = attempt(lambda: run.plan)
    for path in sorted(run.folder.glob("provenance*.json"), key=lambda each: (len(each.name), each.name)):
        about = attempt(lambda path=path: read_object(path))  # type: ignore[misc]  # bound at once
        if about is not None:
            found.provenance.append(about)
    for name in _TEXTS:
        if (run.folder / name).exists():
            text = attempt(lambda name=name: run.text(name))  # type: ignore[misc]
            if text is not None:
                found.texts[name] = text
    found.given = attempt(lambda: pulses_of(ledger, run.id))
    if found.given is not None and not found.record.get(
        "clock"
    ):  # the ledger's times are those of the clock that was set
        found.moments = [(position, 0, when) for position, when in found.given.moments]
    if found.given is not None and found.given.counts.size:
        found.reads.pristine = (found.given.counts == 0) & ~found.given.others
    found.waits = attempt(lambda: waits_of(run))
    began = datetime.fromisoformat(str(found.record["started_at"]))
    blocks = [(_since_s(block, began), block) for block in run.readable(found.problems)]
    # In the order in which they were read: a contact test is repeated when a run is resumed.
    for since_s, block in sorted(blocks, key=lambda each: (each[0], each[1].position)):
        rounds = int(block.attributes["round"][0]) + 1 if block.attributes.get("round") else 0
        found.moments.append((block.position, rounds, (began + timedelta(seconds=since_s)).isoformat()))
        array = attempt(block.load)
        if array is None:
            continue
        try:
            _take(found, block, array)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            found.problems.append(f"the block {block.path.name} is not what its description says ({error!r})")
    found.reads.finish()
    gathered = run.folder / "run.h5"
    if gathered.exists() and (wrong := damage(gathered)):
        found.problems.append(
            f"{wrong}. This page is of the blocks; make the file anew: rramlab runs consolidate {run.id}"
        )
    return found


def _since_s(block: Block, began: datetime) -> float:
    try:
        return block.since_s(began)
    except (KeyError, TypeError, ValueError):  # of an older block that does not say
        return 0.0


def _take(found: Findings, block: Block, array: npt.NDArray[Any]) -> None:
    match block.attributes.get("form"):
        case "cells":
            _take_cells(found, block, array)
        case "curve":
            found.curves.append((block, array))
        case "products":
            found.products.append((block, array))
        case "reference":
            pass  # its figures stand in the run's record
        case other:
            found.problems.append(f"the block {block.path.name} has the unknown form {other!r}; it is left out")


def _take_cells(found: Findings, block: Block, array: npt.NDArray[Any]) -> None:
    about = block.attributes
    shape = tuple(int(size) for size in about["shape"])
    start, stop = (int(row) for row in about["rows"])
    if found.after_S is None or found.before_S is None:
        found.before_S, found.after_S = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        found.before_by_contact, found.after_by_contact = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    valid, siemens = array["valid"], array["conductance"]
    at = int(about["operation"])  # the last operation of the ledger before this read
    given = found.given
    state: npt.NDArray[np.int8] | None = None
    if given is not None and given.counts.shape == shape:
        first, last = given.first[start:stop], given.last[start:stop]
        early, fresh = valid & ((first == 0) | (at < first)), valid & (last <= at)
        chosen = valid & (given.counts[start:stop] > 0)
        state = np.where(last <= at, 2, np.where(at < first, 0, 1)).astype(np.int8)
    else:
        early, fresh, chosen = valid & (at <= int(found.record["operation"])), valid, valid
    if about.get("isolated"):  # while other cells were cut off: no part of a map
        early, fresh = np.zeros_like(valid), np.zeros_like(valid)
    early &= np.isnan(found.before_S[start:stop])
    found.before_S[start:stop][early] = siemens[early]
    found.after_S[start:stop][fresh] = siemens[fresh]
    for by_contact, taken in ((found.before_by_contact, early), (found.after_by_contact, fresh)):
        if by_contact is not None:
            by_contact[start:stop][taken] = block.dataset == "contact"
    if block.dataset == "contact":
        found.contact_S = np.full(shape, np.nan, np.float32)
        found.contact_S[start:stop] = np.where(valid, siemens, np.nan)
        return
    found.reads.take(block, array, chosen if chosen.any() else valid, found.plan, state, found.waits)
