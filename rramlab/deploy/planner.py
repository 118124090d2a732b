"""Turns a mask into a plan: with gate patterns no pulse at all, or one reset pulse a conducting cell of a pruned pair."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rramlab.base.errors import SourceRef
from rramlab.macro.cells import CellSelection
from rramlab.macro.masks import Mask, lines_of
from rramlab.macro.placement import Placement
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, PulseStep, ReadStep, Step

RESETTING = "deploy-reset"  # name of the plans that pulse
# Assumed, TaOx literature: well above the mean reset voltage of the simulated die, below the limit of the shipped bench.
RESET = Pulse(amplitude_V=2.0, width_s=1e-6, gate_V=3.0)


def pruned_cells(placement: Placement, mask: Mask, reset: Collection[str], die: int = 0) -> CellSelection:
    """Return the cells of a die in pruned pairs that only a reset can take out, of the layers named in ``reset``.

    Rows and pairs of a tile that keep nothing are left alone: a gate turns them off without a pulse.
    """
    kept = placement.kept(mask, die)
    pruned = np.zeros_like(kept)
    for tile in placement.on(die):
        if tile.layer in reset:
            part = kept[tile.row_slice, tile.pair_slice]
            pruned[tile.row_slice, tile.pair_slice] = lines_of(part) & ~part
    return CellSelection(np.repeat(pruned, 2, axis=1))


def deployment_plan(
    placement: Placement, mask: Mask, reset: Collection[str] = (), die: int = 0, pulse: Pulse = RESET
) -> Plan:
    """Return the plan that puts ``mask`` on a die and reads back what is there.

    The data set ``deployed`` is the read after it. Gating needs no pulse and so no arming: its patterns are loaded by whoever
    multiplies. Each *conducting* cell of a pruned pair of a layer in ``reset`` gets one pulse, frozen when the step begins.
    """
    used = Region.of(placement.used(die)).text
    steps: list[Step] = [ContactStep()]
    pruned = pruned_cells(placement, mask, reset, die)
    if pruned.count:
        steps += [
            ReadStep(cells=used, name="before"),
            PulseStep(
                kind="reset",
                cells=f"{Region.of(pruned).text} & conducting",
                voltage=pulse.amplitude_V,
                width=pulse.width_s,
                gate=pulse.gate_V,
                source=SourceRef("deployment by reset"),
            ),
        ]
    steps.append(ReadStep(cells=used, repeats=4, name="deployed"))
    return Plan(name=RESETTING if reset else "deploy-gate", steps=tuple(steps))
