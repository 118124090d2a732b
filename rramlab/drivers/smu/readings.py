"""What a source-measure unit is asked for and what it answers, whatever its make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SmuIdentity:
    """What a unit says of itself. ``text``: its whole answer."""

    model: str
    serial: str
    firmware: str
    text: str


@dataclass(frozen=True)
class Reading:
    """One measurement. ``in_compliance``: the limit held the output, so the level that was asked for was not reached.

    ``bad``: what was answered, where that is no measurement: what is no number of it is NaN then.
    """

    voltage_V: float
    current_A: float
    in_compliance: bool
    bad: str = ""


@dataclass(frozen=True, eq=False)
class SweepProgram:
    """A finite voltage program that the unit executes by itself, its output off at the end.

    ``levels_V``: float64[points], in order; ``dwell_s``: how long each is held before it is measured; ``compliance_A``:
    the limit on the magnitude of the current.
    """

    levels_V: Floats
    dwell_s: float
    compliance_A: float

    @classmethod
    def staircase(
        cls, peak_V: float, points: int, dwell_s: float, compliance_A: float, both_ways: bool
    ) -> SweepProgram:
        """From 0 V to ``peak_V`` in ``points`` levels and, ``both_ways``, back again without measuring the peak twice."""
        up = np.linspace(0.0, peak_V, points)
        return cls(np.concatenate([up, up[-2::-1]]) if both_ways else up, dwell_s, compliance_A)


@dataclass(frozen=True, eq=False)
class SweepCurve:
    """What was measured: float64[points] each, and bool[points] where the unit was in compliance.

    ``bad``: number of a point from 0 → what was answered for it, where that is no measurement (beyond the range, not a
    number, garbled): what is no number of it is NaN. ``answer``: the whole answer where its points cannot be told from one
    another; then every point is bad.
    """

    voltage_V: Floats
    current_A: Floats
    in_compliance: npt.NDArray[np.bool_]
    bad: Mapping[int, str] = field(default_factory=dict)
    answer: str | None = None
