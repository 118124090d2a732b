"""Turns a mask into a plan: with gate patterns no pulse at all, or one reset pulse a conducting cell of a pruned pair."""

from __future__ import annotations

import numpy as np

from rramlab.base.errors import SourceRef
from rramlab.deploy.deployment import Method
from rramlab.macro.cells import CellSelection
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, PulseStep, ReadStep, Step

# Assumed, TaOx literature: well above the mean reset voltage of the simulated die, below the limit of the shipped bench.
RESET = Pulse(amplitude_V=2.0, width_s=1e-6, gate_V=3.0)


def pruned_cells(placement: Placement, mask: Mask) -> CellSelection:
    """Return the cells of pruned pairs that only a reset can take out.

    Rows and pairs of a tile that keep nothing are left alone: a gate turns them off without a pulse.
    """
    kept = placement.kept(mask)
    pruned = np.zeros_like(kept)
    for tile in placement.tiles:
        part = kept[tile.row_slice, tile.pair_slice]
        lines = part.any(axis=1, keepdims=True) & part.any(axis=0, keepdims=True)
        pruned[tile.row_slice, tile.pair_slice] = lines & ~part
    return CellSelection(np.repeat(pruned, 2, axis=1))


def deployment_plan(placement: Placement, mask: Mask, method: Method, reset: Pulse = RESET) -> Plan:
    """Return the plan that puts ``mask`` on the die and reads back what is there.

    The data set ``deployed`` is the read after it. ``gate`` needs no pulse and so no arming: its patterns are loaded by
    whoever multiplies. ``reset`` gives each *conducting* cell of a pruned pair one pulse, frozen when the step begins.
    """
    used = Region.of(placement.used).text
    steps: list[Step] = [ContactStep()]
    if method == "reset":
        pruned = Region.of(pruned_cells(placement, mask)).text
        steps += [
            ReadStep(cells=used, name="before"),
            PulseStep(
                kind="reset",
                cells=f"{pruned} & conducting",
                voltage=reset.amplitude_V,
                width=reset.width_s,
                gate=reset.gate_V,
                source=SourceRef(f"deployment by {method}"),
            ),
        ]
    steps.append(ReadStep(cells=used, repeats=4, name="deployed"))
    return Plan(name=f"deploy-{method}", steps=tuple(steps))
