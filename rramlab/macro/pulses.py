"""Pulses and what came of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rramlab.macro.cells import CellSelection

PulseKind = Literal["electroform", "set", "reset"]
PULSE_KINDS: tuple[PulseKind, ...] = get_args(PulseKind)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One rectangular pulse.

    ``amplitude_V``: across the cell (SL − BL when forming and setting, BL − SL in reset), positive.
    ``gate_V``: the word line: compliance when forming and setting, pass-gate overdrive in reset.
    """

    amplitude_V: float
    width_s: float
    gate_V: float

    def __post_init__(self) -> None:
        for name, value in (("amplitude", self.amplitude_V), ("width", self.width_s), ("gate", self.gate_V)):
            if not 0 <= value < math.inf:
                raise ValueError(f"the pulse's {name} is {value}, expected a finite number that is not negative")


@dataclass(frozen=True)
class PulseReport:
    """Which cells got their pulse; ``truncated``: the last row was cut short (a cut pulse counts as delivered)."""

    done: CellSelection
    truncated: bool = False
