"""Is what was read what was expected? Pilot blocks, ``expect`` steps, ends of loops and bystanders ask that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.units import show_duration
from rramlab.macro.cells import Bools, is_conducting
from rramlab.plan.operations import Expect, Unchanged

# A bystander that changed by more than both was disturbed: read noise of 10 % and telegraph noise stay below (assumed).
CHANGE_SHARE, CHANGE_S = 0.5, 1e-6
# More bystanders than this share, and more than one, must have changed: a single cell may switch by itself (assumed).
DISTURBED_SHARE = 0.02
_ONE_SECOND = 1.0


def compare(
    operation: Expect, conductance_S: npt.NDArray[np.float32], doubtful: Bools, unknown: Bools
) -> dict[str, Any]:
    """Compare reads, float32[rows, columns] in siemens, NaN where not read, with an operation's window.

    ``doubtful``, ``unknown``: bool[rows, columns], by the ledger. Doubtful cells are left out: after a power cut only those
    that conduct are known to have been pulsed. Where none is left there is nothing to judge, and nothing fails.
    Returns what was found, with ``passed`` and ``reason``.
    """
    chosen = operation.cells.bits
    cells = conductance_S[chosen & ~doubtful]
    unread = int(np.count_nonzero(np.isnan(cells)))
    found = _counts(operation.what, cells)
    fraction, median = found["formed_fraction"], found["median_S"]
    counts = {
        **found,
        "left_out": int(np.count_nonzero(chosen & doubtful)),
        "unknown": int(np.count_nonzero(chosen & unknown)),
        "window": operation.window.model_dump(exclude_none=True, include={"formed_fraction", "median"}),
    }
    if counts["left_out"] and not cells.size:
        return {**counts, "passed": True, "reason": "not judged: power was lost in the operation of all its cells"}
    window = operation.window
    failures = []
    if not cells.size:
        failures.append("there is no cell to judge")
    if unread:
        failures.append(f"{unread:,} of its {cells.size:,} cells were not read since their last pulse")
    if window.formed_fraction and not window.formed_fraction[0] <= fraction <= window.formed_fraction[1]:
        low, high = window.formed_fraction
        failures.append(f"formed fraction {fraction:.4f}, expected {low:.4g} to {high:.4g}")
    if window.median and not window.median[0] <= median <= window.median[1]:
        low, high = window.median
        seen = f"median {median * 1e6:.2f} µS" if fraction else "no cell conducts, so there is no median"
        failures.append(f"{seen}, expected {low * 1e6:.4g} to {high * 1e6:.4g} µS")
    return {**counts, "passed": not failures, "reason": "; ".join(failures)}


def _counts(what: str, cells_S: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return what every judgement says of the cells that it is about: float32[cells] in siemens."""
    conducting = is_conducting(cells_S)
    return {
        "what": what,
        "cells": int(cells_S.size),
        "formed_fraction": float(conducting.mean()) if cells_S.size else 0.0,
        "median_S": float(np.median(cells_S[conducting])) if conducting.any() else 0.0,
    }


def ages(origins: Mapping[str | None, tuple[int, str | None]], at: datetime) -> list[dict[str, Any]]:
    """Return what a judgement rests on of earlier runs: of each the cells, the oldest read and its age, the newest first.

    ``origins``: see :meth:`rramlab.runs.lastread.LastRead.origins`. None for what nobody wrote down, an age
    also where the clock was set back.
    """
    found: list[dict[str, Any]] = []
    for run, (cells, read_at) in origins.items():
        age_s = (at - datetime.fromisoformat(read_at)).total_seconds() if read_at else None
        if age_s is not None and age_s < 0:  # to the second, as reads are written down; else the clock was set back
            age_s = 0.0 if age_s > -_ONE_SECOND else None
        found.append({"run": run, "cells": cells, "read_at": read_at, "age_s": age_s})
    return sorted(found, key=lambda each: (each["age_s"] is None, each["age_s"] or 0.0))


def say_ages(found: Mapping[str, Any]) -> list[str]:
    """Say what a judgement rests on that was not read in its own run: a sentence for each run that did; often none."""
    said = []
    for each in found.get("rests_on", ()):
        unknown = "the clock was set back since" if each["read_at"] else "nobody wrote down when"
        when = unknown if each["age_s"] is None else f"up to {show_duration(each['age_s'])} before"
        which = f"in run {each['run']}" if each["run"] else "in an earlier run"
        said.append(f"{each['cells']:,} of its {found['cells']:,} cells were last read {which}, {when}")
    return said


def compare_bystanders(
    operation: Unchanged, before_S: npt.NDArray[np.float32], after_S: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """Compare reads of cells before and after others were pulsed: float32[rows, columns] in siemens.

    Returns what was found, with ``passed`` and ``reason``, as :func:`compare`.
    """
    compared = operation.cells.bits & ~np.isnan(before_S) & ~np.isnan(after_S)
    before, after = before_S[compared], after_S[compared]
    change = np.abs(after - before)
    changed = change > np.maximum(CHANGE_S, CHANGE_SHARE * np.maximum(before, after))
    count = int(np.count_nonzero(changed))
    found = {
        **_counts(operation.what, after),
        "left_out": 0,
        "unknown": 0,
        "passed": count <= max(1, DISTURBED_SHARE * before.size),
        "reason": "",
    }
    if not found["passed"]:
        row, column = (int(index) for index in np.argwhere(compared)[np.flatnonzero(changed)[0]])
        found["reason"] = (
            f"{count} of {before.size} cells on the same lines that were not pulsed changed, the first at ({row}, {column}) "
            f"from {before[changed][0] * 1e6:.3g} to {after[changed][0] * 1e6:.3g} µS"
        )
    return found
