"""Two runs side by side: whether they are the same bit for bit, and if not, how their cells differ."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import read_json
from rramlab.macro.cells import CellSelection, is_conducting
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.runs.keys import steps_of
from rramlab.runs.ledger import Entry
from rramlab.runs.store import Block, Run

Floats = npt.NDArray[np.float32]
# What two executions of one plan on one die share beside their blocks.
_RESULTS = (
    "status",
    "pulses",
    "conversions",
    "checks",
    "bystanders",
    "contact",
    "products",
    "sweeps",
    "routes",
    "references",
    "programs",
    "loops",
    "lost",
)
_VOLATILE = ("written_at", "time_s", "age_s")


@dataclass(frozen=True)
class BlockDifference:
    """A block that is not the same in two runs. ``what``: ``missing``, or which of its fields and attributes differ."""

    position: str
    dataset: str
    what: tuple[str, ...]
    cells: int  # of a read: whose codes differ
    conducting_unlike: int  # of a read: that conduct in one run and not in the other


def block_differences(first: Run, second: Run) -> tuple[int, list[BlockDifference]]:
    """Compare every block of the first run with the second's of the same position; return how many are equal bit for bit.

    Raises:
        DataError: a block is damaged.
    """
    equal, differences = 0, []
    others = {(block.position, block.dataset): block for block in second.blocks()}
    for block in first.blocks():
        other = others.get((block.position, block.dataset))
        found = _difference(block, other)
        if found is None:
            equal += 1
        else:
            differences.append(found)
    return equal, differences


def _difference(block: Block, other: Block | None) -> BlockDifference | None:
    array = block.load()
    if other is None:
        return BlockDifference(block.position, block.dataset, ("missing",), 0, 0)
    again = other.load()
    about, about_again = (
        {key: value for key, value in each.attributes.items() if key not in (*_VOLATILE, "crc32")}
        for each in (block, other)
    )
    what = [key for key in sorted({*about, *about_again}) if about.get(key) != about_again.get(key)]
    cells = unlike = 0
    if array.dtype != again.dtype or array.shape != again.shape:
        what.append("shape")
    elif array.tobytes() != again.tobytes():
        what += [name for name in array.dtype.names or () if array[name].tobytes() != again[name].tobytes()]
        if block.attributes["form"] == "cells":
            cells = int(np.count_nonzero((array["codes"] != again["codes"]).any(axis=-1)))
            conducts, conducts_again = is_conducting(array["conductance"]), is_conducting(again["conductance"])
            unlike = int(np.count_nonzero(conducts != conducts_again))
    return BlockDifference(block.position, block.dataset, tuple(what), cells, unlike) if what else None


def result_differences(first: Run, second: Run) -> list[str]:
    """Return which entries of the two records differ, of those that say what came of a run."""
    then, now = first.record, second.record
    # What is missing in the first was not yet written down when it was made.
    return [key for key in _RESULTS if key in then and _lasting(then[key]) != _lasting(now.get(key))]


def _lasting(node: Any) -> Any:
    """Leave out what depends on when a run was executed."""
    if isinstance(node, dict):
        return {key: _lasting(value) for key, value in node.items() if key not in _VOLATILE}
    return [_lasting(each) for each in node] if isinstance(node, list) else node


def pulses_by_position(entries: Iterable[Entry]) -> dict[str, tuple[PulseKind, Pulse, bytes]]:
    """Gather what each operation of a plan did: kind, pulse and cells pulsed, attempts put together.

    The cells are packed and compressed: unpacked, those of a long run would fill the memory.
    """
    found: dict[str, tuple[PulseKind, Pulse, bytes]] = {}
    for entry in entries:
        if entry.outcome == "intended":
            continue  # nobody knows yet what came of it
        done, before = entry.spent, found.get(entry.position)
        if before is not None:
            done |= CellSelection.from_packed(zlib.decompress(before[2]), done.geometry)
        found[entry.position] = (entry.kind, entry.pulse, zlib.compress(done.packed(), 1))
    return found


def software_differences(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """Return versions that differ between two runs: of rramlab, Python and the packages that compute.

    Raises:
        DataError: provenance is missing or damaged.
    """
    about = [read_json(run.folder / "provenance.json") for run in (first, second)]
    if not all(isinstance(each, dict) for each in about):
        raise DataError(f"provenance.json of {first.id} or {second.id} is damaged; restore it from a copy")
    flat = [{**{key: each.get(key) for key in ("rramlab", "python")}, **each.get("packages", {})} for each in about]
    return {
        key: (flat[0].get(key), flat[1].get(key))
        for key in sorted({*flat[0], *flat[1]})
        if flat[0].get(key) != flat[1].get(key)
    }


def last_map(run: Run) -> Floats | None:
    """Return what the run read last of each cell, float32[rows, columns] in siemens, NaN where nothing; None: no cell.

    Contact tests, at half the read voltage, and isolated reads count only where nothing else was read.
    """
    blocks = [block for block in run.blocks() if block.attributes["form"] == "cells"]
    blocks.sort(key=lambda block: block.dataset != "contact" and not block.attributes.get("isolated"))
    if not blocks:
        return None
    found = np.full(blocks[0].attributes["shape"], np.nan, np.float32)
    for block in blocks:
        array = block.load()
        start = int(block.attributes["rows"][0])
        found[start : start + len(array)][array["valid"]] = array["conductance"][array["valid"]]
    return found


@dataclass(frozen=True)
class CellComparison:
    """Cells that two runs read, by what each read of them last. Medians are of conducting cells; None where none are."""

    cells: int
    formed_fraction: tuple[float | None, float | None]
    median_S: tuple[float | None, float | None]
    correlation: float | None  # of all cells read in both
    correlation_conducting: float | None  # of those that conduct in both
    began_to_conduct: int  # in the second and not in the first
    ceased_to_conduct: int

    def as_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def compare_cells(first_S: Floats, second_S: Floats) -> CellComparison:
    """Compare two maps, float32[rows, columns] in siemens, over the cells that both have.

    Raises:
        UsageError: they are of arrays of different sizes.
    """
    if first_S.shape != second_S.shape:
        raise UsageError(
            f"the runs are of arrays of {first_S.shape} and {second_S.shape} cells; they cannot be compared"
        )
    both = np.isfinite(first_S) & np.isfinite(second_S)
    a, b = first_S[both].astype(np.float64), second_S[both].astype(np.float64)
    on_a, on_b = is_conducting(first_S[both]), is_conducting(second_S[both])
    return CellComparison(
        int(a.size),
        (_mean(on_a), _mean(on_b)),
        (_median(a[on_a]), _median(b[on_b])),
        _correlation(a, b),
        _correlation(a[on_a & on_b], b[on_a & on_b]),
        int(np.count_nonzero(on_b & ~on_a)),
        int(np.count_nonzero(on_a & ~on_b)),
    )


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None


def _median(values: npt.NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if values.size else None


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float | None:
    """Return Pearson's r; None where one of the two does not vary."""
    if a.size < 2 or not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])


def plan_differences(first: Run, second: Run) -> tuple[bool, dict[str, tuple[Any, Any]]]:
    """Return whether two runs have the same steps, and the parameters that differ.

    Raises:
        DataError: a plan is damaged.
    """
    plans = first.plan, second.plan
    steps = [steps_of(plan) for plan in plans]
    given = plans[0].parameters, plans[1].parameters
    differ = {
        name: (given[0].get(name), given[1].get(name))
        for name in sorted({*given[0], *given[1]})
        if given[0].get(name) != given[1].get(name)
    }
    return steps[0] == steps[1] and plans[0].name == plans[1].name, differ
