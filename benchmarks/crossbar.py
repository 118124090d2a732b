"""The transfer matrix of a formed 512 × 512 array with resistive lines, against limits and badcrossbar if it is there."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import logging

import numpy as np
from figures import best, report

from rramlab.macro.crossbar import LineResistances, lone_rows, transfer

SHAPE = 512, 512
EXACT_LIMIT_S = 20.0
FAST_LIMIT_S = 5.0
FAST_ERROR_LIMIT = 0.005

conductance = 12.2e-6 * np.exp(0.1475 * np.random.default_rng(0).standard_normal(SHAPE))
lines = LineResistances.uniform(SHAPE, bl_Ohm=125.0, sl_Ohm=125.0, segment_Ohm=1.0)
matrices = {}


def solve(solver):
    matrices[solver] = transfer(conductance, lines, solver)


seconds = {
    "exact": best(lambda: solve("exact"), 3),
    "fast": best(lambda: solve("fast")),
    "lone_rows": best(lambda: lone_rows(conductance, lines)),
}
exact, fast = (matrices[solver].sum(axis=0) for solver in ("exact", "fast"))
ratios = {
    "exact_to_limit": seconds["exact"] / EXACT_LIMIT_S,
    "fast_to_limit": seconds["fast"] / FAST_LIMIT_S,
    "fast_error_to_limit": float(np.abs(fast / exact - 1).max()) / FAST_ERROR_LIMIT,
}
notes = {
    "exact_to_limit": f"the limit of {EXACT_LIMIT_S} s",
    "fast_to_limit": f"the limit of {FAST_LIMIT_S} s",
    "fast_error_to_limit": f"{FAST_ERROR_LIMIT:.1%} of the worst column current, all rows driven, against exact",
}

try:
    import badcrossbar
except ImportError:
    pass  # about 70 s and 6.5 GB
else:
    logging.disable(logging.CRITICAL)  # it logs to stdout
    found = []

    def peer():
        every = badcrossbar.compute(np.eye(SHAPE[0]), 1 / conductance, 1.0, node_voltages=False, all_currents=False)
        found.append(every.currents.output)

    seconds["badcrossbar"] = best(peer, 1)
    # The only lines that it knows begin and end with one more segment.
    same = transfer(conductance, LineResistances.uniform(SHAPE, 1.0, 1.0, 1.0))
    ratios["exact_to_badcrossbar"] = seconds["exact"] / seconds["badcrossbar"]
    ratios["fast_to_badcrossbar"] = seconds["fast"] / seconds["badcrossbar"]
    difference = float(np.abs(same / found[0] - 1).max())
    notes["exact_to_badcrossbar"] = (
        f"badcrossbar, one factorisation and 512 vectors (elements differ by {difference:.0e})"
    )
    notes["fast_to_badcrossbar"] = "the same"

report("crossbar", ratios, seconds, notes)
