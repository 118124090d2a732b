"""Is what was read what was expected? Pilot blocks and ``expect`` steps ask the same question."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import Bools, is_conducting
from rramlab.plan.operations import Expect


def compare(operation: Expect, conductance_S: npt.NDArray[np.float32], unknown: Bools) -> dict[str, Any]:
    """Compare reads, float32[rows, columns] in siemens, NaN where not read, with an operation's window.

    ``unknown``: bool[rows, columns], cells that nobody can say whether they were pulsed; they are counted and left out.
    Returns what was found, with ``passed`` and ``reason``.
    """
    cells = conductance_S[operation.cells.bits & ~unknown]
    conducting = is_conducting(cells)
    unread = int(np.count_nonzero(np.isnan(cells)))
    fraction = float(conducting.mean()) if cells.size else 0.0
    median = float(np.median(cells[conducting])) if conducting.any() else 0.0
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
        failures.append(f"median {median * 1e6:.2f} µS, expected {low * 1e6:.4g} to {high * 1e6:.4g} µS")
    return {
        "what": operation.what,
        "cells": int(cells.size),
        "unknown": operation.cells.count - int(cells.size),
        "formed_fraction": fraction,
        "median_S": median,
        "passed": not failures,
        "reason": "; ".join(failures),
    }
