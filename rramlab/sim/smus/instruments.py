"""Emulated instruments by the model's name."""

from __future__ import annotations

from rramlab.base.errors import UsageError
from rramlab.sim.smus.b2900 import B2900
from rramlab.sim.smus.instrument import EmulatedSmu, SmuFaults
from rramlab.sim.smus.k2400 import K2400
from rramlab.sim.smus.k2450 import K2450
from rramlab.sim.smus.k2600 import K2600
from rramlab.sim.smus.port import Port
from rramlab.sim.smus.specification import SPECIFICATIONS

NO_FAULTS = SmuFaults()
# A driver file is written for a series; one of the series is made for it.
SERIES = {"keysight-b2900": "B2902A", "keithley-2400": "2400", "keithley-2450": "2450", "keithley-2600": "2636B"}
FAMILIES: dict[str, type[EmulatedSmu]] = {"B2900": B2900, "2400": K2400, "2450": K2450, "2600": K2600}


def make_smu(model: str, port: Port, serial: str, seed: int, faults: SmuFaults = NO_FAULTS) -> EmulatedSmu:
    """Return a powered-up instrument with its output off; ``port`` is what its first channel is wired to.

    ``model``: as the maker calls it (``2636B``), or a series as driver files name it (``keithley-2600``).

    Gains and offsets are drawn once from ``serial`` and ``seed``, within the data sheet's one-year accuracy. Raises
    ``UsageError`` for a model that is not emulated.
    """
    specification = SPECIFICATIONS.get(SERIES.get(model, model))
    if specification is None:
        known = ", ".join((*SPECIFICATIONS, *SERIES))
        raise UsageError(
            f"found the model {model!r} of a source-measure unit, expected one that can be emulated: {known}"
        )
    return FAMILIES[specification.family](specification, port, serial, seed, faults)
