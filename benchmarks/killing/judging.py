"""What a killed run has left on disk, and whether what it came to is what was promised."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from rramlab.base.arrays import load_arrays
from rramlab.drivers.bench import describe_bench
from rramlab.macro.regions import Region
from rramlab.runs.ledger import view_ledger
from rramlab.runs.store import list_runs

PROMISES = {
    "twice": "cells that had more than one pulse",
    "outside": "pulsed cells that nobody chose",
    "lost": "cells that the ledger calls pulsed and the die does not",
    "unreported": "pulsed cells that the ledger calls neither pulsed nor unknown",
    "forgotten": "cells of the region that in the end are neither pulsed nor unknown",
    "undecided": "operations without an outcome in the end",
    "otherwise": "pulsed cells that are not, bit for bit, as in an undisturbed run",
    "needlessly": "cells called unknown although the board knew, or they conduct",
    "hidden": "cells that nobody can decide and that are not called unknown",
    "again": "unknown cells that were pulsed after the kill",
    "unnamed": "unknown cells that the run's last check does not count",
    "unreadable": "files that a kill left damaged, or that could not be gathered",
    "vanished": "blocks of data that were there at a kill and are gone or changed in the end",
    "failed": "attempts that ended otherwise than killed or done",
    "ended": "runs that did not come to their end",
}
_CONDUCTS_S = 2e-6
_CLOSE = 0.2  # so near to the threshold the noise of a read decides what a cell counts as


@dataclass
class Left:
    """What is on disk, read from a copy, so that what goes on afterwards finds what the kill left.

    ``dangling``: bool[rows, columns], cells of intents without an outcome. ``blocks``: checksums of all that was measured.
    """

    pulses: np.ndarray
    conductance_S: np.ndarray
    dangling: np.ndarray
    done: np.ndarray
    unknown: np.ndarray
    undecided: int = 0
    runs: int = 0
    record: dict = field(default_factory=dict)
    blocks: dict = field(default_factory=dict)
    unfinished: int = 0  # temporary files, which nobody reads
    damage: list = field(default_factory=list)

    @property
    def about(self):
        """What a page tells of it."""
        return {
            "run": bool(self.runs),
            "dangling": int(np.count_nonzero(self.dangling)),
            "temporaries": self.unfinished,
        }


def look(bench: Path, die: str, copy: Path, known: Collection[str] = ()) -> Left:
    """Look at everything in the data folder of ``bench`` through a copy of it, which is gathered into run.h5 too.

    ``known``: runs from before, which are left out. The ledger is viewed where it is.
    """
    description = describe_bench(bench)
    geometry = description.board.geometry
    nothing = np.zeros(geometry.shape, np.bool_)
    left = Left(np.zeros(geometry.shape, np.uint32), nothing * np.float32(0), *(nothing.copy() for _ in range(3)))
    if copy.exists():
        shutil.rmtree(copy)
    if not description.data.exists():
        return left
    shutil.copytree(description.data, copy, ignore=shutil.ignore_patterns("bench.lock", *known))
    left.unfinished = len(list(copy.rglob("*.tmp")))
    state = copy / "dies" / die / "die.npz"
    if state.exists():
        arrays = load_arrays(state)
        left.pulses, left.conductance_S = arrays["pulses"], arrays["conductance_S"]
    path = description.data / "dies" / die / "ledger.db"
    if path.exists():
        with view_ledger(path) as ledger:
            for entry in ledger.entries():
                left.done |= entry.done.bits
            left.unknown = ledger.unknown().bits.copy()
            for entry in ledger.dangling():
                left.dangling |= entry.cells.bits
                left.undecided += 1
    runs = list_runs(copy / "runs")
    left.runs = len(runs)
    for run in runs:
        left.record = run.record
        _read(run, left)
    shutil.rmtree(copy)
    return left


def _read(run, left):
    """Load every block of a run, gather it, and compare ``run.h5`` with the blocks."""
    blocks = [(block, block.load()) for block in run.blocks()]
    for block, _ in blocks:
        if block.dataset != "contact":  # measured anew by each attempt
            left.blocks[f"{run.id}/{block.position}-{block.dataset}"] = block.attributes["crc32"]
    if run.plan.name != run.record["name"]:
        left.damage.append(f"the plan of {run.id} is another")
    with h5py.File(run.consolidate()) as file:
        for block, array in blocks:
            if block.attributes["form"] != "cells":
                continue
            group = file[f"step-{block.step}-{block.dataset}"]
            if not any(_holds(layer, block, array) for layer in _layers(group)):
                left.damage.append(f"run.h5 of {run.id} lacks block {block.position} of {block.dataset}")


def _layers(group):
    """Yield codes[repeat, row, column] and valid[row, column] of each look at the cells of a data set."""
    codes, valid = group["codes"][()], group["valid"][()]
    yield from zip(codes, valid, strict=True) if valid.ndim == 3 else [(codes, valid)]


def _holds(layer, block, array):
    codes, valid = (each[..., slice(*block.attributes["rows"]), :] for each in layer)
    mask = array["valid"]
    return valid[mask].all() and np.array_equal(codes[:, mask].T, array["codes"][mask])


def undecidable(left: Left):
    """Return the cells that a power cycle now makes unknown: bool[rows, columns], and those too close to call."""
    close = left.dangling & (np.abs(left.conductance_S / _CONDUCTS_S - 1) < _CLOSE)
    return left.dangling & (left.conductance_S < _CONDUCTS_S) & ~close, close


def judge(end: Left, seen: list[Left], cells: str, expected: dict, cycled: bool) -> dict:
    """Compare the end with the undisturbed run and with what each kill left; return counts of what is not as promised.

    ``expected``: the state file of the die after an undisturbed run. ``cycled``: power was cycled after each kill.
    """
    region = Region(cells).bound(_geometry(end)).bits
    unknown, close = np.zeros_like(region), np.zeros_like(region)
    again = np.zeros_like(region)
    for left in seen if cycled else ():
        some, near = undecidable(left)
        unknown |= some
        close |= near
        again |= end.unknown & left.dangling & (end.pulses != left.pulses)
    blocks = {name: crc for left in seen for name, crc in left.blocks.items()}
    checks = end.record.get("checks") or [{"unknown": 0}]
    found = {
        "twice": end.pulses > 1,
        "outside": (end.pulses > 0) & ~region,
        "lost": end.done & (end.pulses == 0),
        "unreported": (end.pulses > 0) & ~(end.done | end.unknown),
        "forgotten": region & ~(end.done | end.unknown),
        "otherwise": (end.pulses > 0) & (end.conductance_S != expected["conductance_S"]),
        "needlessly": end.unknown & ~unknown & ~close,
        "hidden": unknown & ~end.unknown,
        "again": again,
    }
    return {
        **{name: int(np.count_nonzero(bits)) for name, bits in found.items()},
        "undecided": end.undecided,
        "unnamed": abs(int(np.count_nonzero(end.unknown)) - checks[-1]["unknown"]),
        "unreadable": sum(len(left.damage) for left in [*seen, end]),
        "vanished": sum(end.blocks.get(name) != crc for name, crc in blocks.items()),
        "ended": int(end.record.get("status") != "done"),
    }


def _geometry(left):
    from rramlab.macro.geometry import Geometry

    return Geometry(*left.pulses.shape)
