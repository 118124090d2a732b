"""Pulses and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from rramlab.base.names import one_of
from rramlab.base.numbers import real

if TYPE_CHECKING:
    from rramlab.macro.cells import CellSelection

PulseKind = Literal["electroform", "set", "reset"]
PULSE_KINDS: tuple[PulseKind, ...] = get_args(PulseKind)


def pulse_kind(value: object) -> PulseKind:
    """Return a kind of pulse as it was given.

    Raises:
        InvalidValue: there is no such kind.
    """
    return one_of(value, "kind of pulse", PULSE_KINDS)


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
        for name in ("amplitude_V", "width_s", "gate_V"):
            object.__setattr__(self, name, real(getattr(self, name), f"the pulse's {name}", 0.0))


@dataclass(frozen=True)
class PulseReport:
    """Which cells got their pulse; ``truncated``: the last row was cut short (a cut pulse counts as delivered)."""

    done: CellSelection
    truncated: bool = False
