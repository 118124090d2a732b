"""What a simulated die and a simulated board are: every figure with its unit (in its name), its source or ``assumed``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from rramlab.base import units
from rramlab.base.errors import UsageError
from rramlab.base.yamlfile import explain
from rramlab.sim import memories
from rramlab.sim.measured import BREAKDOWN_LAW

WANG = "Wang et al., Nat. Mach. Intell. 5, 104 (2023)"
# No figure of a die lies beyond these; what does would not fit the state file's float32 and nanoseconds.
Volts = Annotated[units.Volts, Field(ge=-100, le=100)]
Siemens = Annotated[units.Siemens, Field(ge=0, le=1)]
Seconds = Annotated[units.Seconds, Field(ge=1e-9, le=9e9)]
Ohms = Annotated[units.Ohms, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def _figure(default: Any, source: str, **bounds: Any) -> Any:
    """Return a field with its ``source``; a figure that nobody published says ``assumed``."""
    return Field(default, description=source, validate_default=True, **bounds)


class Forming(_Part):
    """How a pristine cell breaks down."""

    pristine_S: Siemens = _figure(0.1e-6, f"about 10 MΩ: {WANG}, Ext. Data Fig. 1", ge=1e-15)
    pristine_ln_sigma: float = _figure(0.1, "assumed", ge=0, le=3)
    breakdown_law: tuple[tuple[Share, Volts], ...] = _figure(
        BREAKDOWN_LAW, f"(share of cells, V) measured by ramp on 400 cells, {WANG}, public data"
    )
    breakdown_shift_V: Volts = _figure(0.0, "this die against the measured ones", ge=-10, le=10)
    width_slope_V: Volts = _figure(0.1, "assumed: a decade of pulse width lowers breakdown by this much", ge=0, le=2)
    reference_width_s: Seconds = _figure(1e-6, "assumed: width at which the law holds")
    partial_V: Volts = _figure(0.03, "assumed: a pulse that falls short by less leaves a cell partly formed", ge=0)
    partial_S: Siemens = _figure(0.6e-6, "assumed: median of a partly formed cell", ge=1e-15)
    partial_ln_sigma: float = _figure(0.4, "assumed", ge=0, le=3)
    overstress_V: Volts = _figure(4.3, "assumed: mean voltage at which a cell breaks down for good", gt=0)
    overstress_sigma_V: Volts = _figure(0.05, "assumed", ge=0)
    stuck_S: Siemens = _figure(60e-6, "assumed: conductance of a cell that broke down for good", ge=1e-15)
    stuck_low_share: Share = _figure(1e-5, "assumed: cells that never form")
    stuck_high_share: Share = _figure(1e-5, "assumed: cells shorted from the start")

    @model_validator(mode="after")
    def _law_rises(self) -> Self:
        shares, volts = zip(*self.breakdown_law, strict=True) if self.breakdown_law else ((), ())
        if len(shares) < 2 or shares[0] != 0 or shares[-1] != 1 or list(shares) != sorted(shares):
            raise ValueError("breakdown_law must rise from share 0 to share 1, at least two points")
        if any(later <= earlier for earlier, later in pairwise(volts)) or volts[0] + self.breakdown_shift_V <= 0:
            raise ValueError("the voltages of breakdown_law must rise, and with the shift be positive")
        if self.stuck_low_share + self.stuck_high_share > 1:
            raise ValueError("stuck_low_share and stuck_high_share add up to more than all cells")
        return self

    def breakdown(self, probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the breakdown voltage (V, at the reference width) at each ``probability``: the inverse law."""
        shares, volts = np.array(self.breakdown_law).T
        return np.asarray(np.interp(probability, shares, volts) + self.breakdown_shift_V)


class Conductance(_Part):
    """What a cell conducts after it formed or was set."""

    median_S: Siemens = _figure(12.2e-6, f"measured, 1,430 formed cells, {WANG}, public data", ge=1e-15)
    ln_sigma: float = _figure(0.1475, "measured, the same 1,430 cells; not used beside law_S", ge=0, le=3)
    law_S: tuple[Siemens, ...] | None = _figure(
        None, "quantiles at equal steps of probability from 0 to 1, in place of the lognormal law: your own measurement"
    )
    column_share: Share = _figure(
        0.017, "share of the variance between columns: measured, sibling work; not used beside law_S"
    )
    outlier_share: Share = _figure(2e-4, "cells that come out high: measured, sibling work")
    outlier_low_S: Siemens = _figure(15e-6, "above the draw, from; sibling work", ge=0)
    outlier_high_S: Siemens = _figure(20e-6, "above the draw, to; sibling work", ge=0)
    reference_gate_V: Volts = _figure(1.6, "assumed: gate at which the median holds", gt=0)
    threshold_V: Volts = _figure(0.5, "assumed: at a gate of no more than this the transistor stays off", ge=0)
    gate_exponent: float = _figure(0.8, "assumed: median ∝ gate^exponent, compliance by the transistor", ge=0, le=5)
    compliance_V: Volts = _figure(
        1.3,
        "assumed: across a cell at compliance, so its current is median × this (Ielmini, IEEE TED 58, 4309, 2011)",
        gt=0,
    )

    @model_validator(mode="after")
    def _quantiles_rise(self) -> Self:
        law = self.law_S
        if law is not None and (len(law) < 2 or law[0] < 1e-15 or list(law) != sorted(law)):
            raise ValueError("law_S must hold at least two conductances of at least 1 fS in rising order")
        if self.outlier_high_S < self.outlier_low_S:
            raise ValueError("outlier_high_S lies below outlier_low_S")
        return self

    @property
    def typical_S(self) -> float:
        """The median at the reference gate, of whichever law holds."""
        return self.median_S if self.law_S is None else self.law_S[len(self.law_S) // 2]

    def current(self, gate_V: float) -> float:
        """Return the compliance current of one formed cell, A."""
        return self.typical_S * self.gate_factor(gate_V) * self.compliance_V

    def gate_factor(self, gate_V: float) -> float:
        return float((gate_V / self.reference_gate_V) ** self.gate_exponent)


class Switching(_Part):
    """Set, reset, wear and disturb. TaOx literature values unless measured: all assumed for this macro."""

    reset_V: Volts = _figure(1.4, "assumed: mean voltage at which a cell begins to reset", gt=0)
    reset_sigma_V: Volts = _figure(0.12, "assumed: between cells", ge=0)
    reset_cycle_sigma_V: Volts = _figure(0.03, "assumed: from pulse to pulse", ge=0)
    reset_span_V: Volts = _figure(0.35, "assumed: from the first change to the full high-resistance state", gt=0)
    hrs_median_S: Siemens = _figure(0.4e-6, "assumed", ge=1e-15)
    hrs_ln_sigma: float = _figure(0.5, "assumed", ge=0, le=3)
    set_V: Volts = _figure(1.3, "assumed: mean set voltage after a reset", gt=0)
    set_sigma_V: Volts = _figure(0.12, "assumed: between cells", ge=0)
    set_cycle_sigma_V: Volts = _figure(0.03, "assumed: from pulse to pulse", ge=0)
    growth: Share = _figure(0.5, "assumed: how far a further set pulse lifts ln G towards the compliance's median")
    ceiling_ln_sigma: float = _figure(
        0.1, "assumed: spread between cells of where a compliance stops growth", ge=0, le=3
    )
    redraw_ln: float = _figure(0.7, "assumed: a cell that lies further below its ceiling is set anew", ge=0, le=10)
    pulse_ln_sigma: float = _figure(0.03, "assumed: scatter of a partial set or reset", ge=0, le=1)
    width_slope_V: Volts = _figure(0.1, "assumed: a decade of width is worth this much amplitude", ge=0, le=2)
    reference_width_s: Seconds = _figure(1e-6, "assumed: width at which the voltages hold")
    endurance_pulses: float = _figure(1e6, "assumed: median life of a cell in pulses", gt=1)
    endurance_ln_sigma: float = _figure(1.0, "assumed", ge=0, le=5)
    disturb_rate: float = _figure(1e-6, "assumed: ln G a half-selecting pulse, × (exp(V / disturb_V) − 1)", ge=0, le=1)
    disturb_V: Volts = _figure(0.15, "assumed", gt=0)
    float_coupling: Share = _figure(0.1, "assumed: share of the amplitude that a floating line picks up")


class Noise(_Part):
    """What differs from one conversion to the next, and the telegraph noise of single traps."""

    read: float = _figure(
        0.02, "σ of G, Gaussian, independent a conversion: value the authors use (1–10 %)", ge=0, lt=1
    )
    telegraph_share: Share = _figure(0.05, "assumed: cells with a trap that switches")
    telegraph_amplitude: float = _figure(
        0.04, "assumed: G of the lower level, relative to the upper, is 1 − this", ge=0, lt=1
    )
    telegraph_shortest_s: Seconds = _figure(1.0, "assumed: time constants are spread evenly in log time, from")
    telegraph_longest_s: Seconds = _figure(1e5, "assumed: to")

    @model_validator(mode="after")
    def _times_rise(self) -> Self:
        if self.telegraph_longest_s < self.telegraph_shortest_s:
            raise ValueError("telegraph_longest_s lies below telegraph_shortest_s")
        return self


class Relaxation(_Part):
    """What time and temperature do to a programmed cell."""

    relax_mean: float = _figure(0.01, "assumed: fall of ln G by the end of relaxation", ge=-2, le=2)
    relax_ln_sigma: float = _figure(0.03, "assumed: its spread", ge=0, le=2)
    relax_start_s: Seconds = _figure(1.0, "assumed: relaxation goes with log time, from")
    relax_end_s: Seconds = _figure(1e4, "assumed: to (hours)")
    drift: float = _figure(
        0.001, "assumed: retention, G ∝ (1 + t/drift_start)^−drift at the reference temperature", ge=-1, le=1
    )
    drift_sigma: float = _figure(0.0005, "assumed: between cells", ge=0, le=1)
    drift_start_s: Seconds = _figure(1.0, "assumed")
    activation_eV: float = _figure(1.15, "assumed: Arrhenius, heat makes drift_time run faster", ge=0, le=5)
    reference_C: float = _figure(25.0, "assumed: temperature at which the figures hold", gt=-273.15, le=400)
    temperature_coefficient: float = _figure(-5e-4, "assumed: of G, a kelvin", ge=-0.1, le=0.1)
    interval_s: Seconds = _figure(10.0, "assumed: slow changes are folded into G at multiples of this")

    @model_validator(mode="after")
    def _times_rise(self) -> Self:
        if self.relax_end_s <= self.relax_start_s:
            raise ValueError("relax_end_s does not lie above relax_start_s")
        return self


class Wires(_Part):
    """The lines of the array."""

    segment_Ohm: Ohms | None = _figure(
        None, "wire, cell to cell; none: the figure of the board's file, which is assumed"
    )
    solver: Literal["none", "fast", "exact"] = _figure(
        "none", "none: lines without resistance, for none is published; fast, exact: with wire, switches and TIA"
    )


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        before = both.get(key, {})
        nested = isinstance(value, Mapping) and isinstance(before, Mapping)
        both[key] = _merged(before, value) if nested else value
    return both


class _Model(_Part):
    what: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]  # name -> figures that differ from the published ones

    @classmethod
    def preset(cls, name: str, changes: Mapping[str, Any] | None = None) -> Self:
        """Return the model called ``name``, with ``changes`` to single figures (nested as the model is).

        Raises:
            UsageError: there is no such preset, or a figure that does not exist or cannot be.
        """
        if name not in cls.presets:
            raise UsageError(
                f"there is no preset {name!r} of a simulated {cls.what}; known: {', '.join(sorted(cls.presets))}"
            )
        try:
            return cls.model_validate(_merged(cls.presets[name], changes or {}))
        except ValidationError as error:
            raise UsageError(f"preset {name!r} of a simulated {cls.what}: {explain(error.errors()[0], cls)}") from None


class DieModel(_Model):
    """A die: what its cells and wires are and do. SI units.

    Presets: ``published`` (the default; what is not published is assumed and says so), ``ideal`` (cells differ as
    measured, and nothing else: no noise, no change with time), ``harsh`` (every imperfection at the bad end, with
    line resistance), and those of other memories in :mod:`rramlab.sim.memories`.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {},
        "ideal": {
            "forming": {"partial_V": 0.0, "stuck_low_share": 0.0, "stuck_high_share": 0.0},
            "conductance": {"column_share": 0.0, "outlier_share": 0.0},
            "switching": {"disturb_rate": 0.0, "endurance_pulses": 1e15},
            "noise": {"read": 0.0, "telegraph_share": 0.0},
            "relaxation": {
                "relax_mean": 0.0,
                "relax_ln_sigma": 0.0,
                "drift": 0.0,
                "drift_sigma": 0.0,
                "temperature_coefficient": 0.0,
            },
        },
        "harsh": {
            "forming": {"stuck_low_share": 1e-3, "stuck_high_share": 1e-4, "overstress_V": 4.1},
            "conductance": {"column_share": 0.1, "outlier_share": 2e-3},
            "switching": {"endurance_pulses": 1e4, "disturb_rate": 1e-5, "float_coupling": 0.2, "hrs_median_S": 1e-6},
            "noise": {"read": 0.1, "telegraph_share": 0.25, "telegraph_amplitude": 0.15},
            "relaxation": {"relax_mean": 0.05, "relax_ln_sigma": 0.1, "drift": 0.01, "drift_sigma": 0.005},
            "wires": {"solver": "fast"},
        },
        **{name: memories.values(name) for name in memories.MEMORIES},
    }

    what: ClassVar[str] = "die"
    memory: str = _figure("TaOx", f"TaN/TaOx/Ta/TiN, 40 nm, {WANG}; others: rramlab/sim/memories.py")
    forming: Forming = Forming()
    conductance: Conductance = Conductance()
    switching: Switching = Switching()
    noise: Noise = Noise()
    relaxation: Relaxation = Relaxation()
    wires: Wires = Wires()

    @model_validator(mode="after")
    def _states_differ(self) -> Self:
        if self.switching.hrs_median_S >= self.conductance.typical_S:
            raise ValueError("switching.hrs_median_S does not lie below the median of the conductances")
        return self


class BoardModel(_Model):
    """A board's hidden errors. It outlives dies."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {},
        "ideal": {
            "gain_sigma": 0.0,
            "range_sigma": 0.0,
            "offset_sigma": 0.0,
            "dac_gain_sigma": 0.0,
            "dac_offset_sigma_V": 0.0,
            "switch_sigma": 0.0,
            "reference_sigma": 0.0,
            "droop": False,
        },
        "harsh": {
            "gain_sigma": 0.02,
            "range_sigma": 0.01,
            "offset_sigma": 4.0,
            "dac_gain_sigma": 0.001,
            "dac_offset_sigma_V": 0.002,
            "switch_sigma": 0.2,
        },
    }

    what: ClassVar[str] = "board"
    gain_sigma: float = _figure(0.005, "TIA gain a column, relative: assumed, 0.5 % resistors", ge=0, lt=0.3)
    range_sigma: float = _figure(0.002, "further gain error of the multiply range: assumed", ge=0, lt=0.3)
    offset_sigma: float = _figure(1.0, "offset a column, codes, each range: assumed", ge=0, le=1000)
    dac_gain_sigma: float = _figure(
        0.0003, "assumed; the DAC80508's data sheet allows 0.1 % of full scale", ge=0, lt=0.1
    )
    dac_offset_sigma_V: Volts = _figure(0.0003, "assumed; the DAC80508's data sheet allows 1.5 mV", ge=0, le=0.1)
    switch_sigma: float = _figure(0.04, "assumed; CD4051B: 5 Ω of 125 Ω between channels, typical", ge=0, lt=0.5)
    reference_sigma: float = _figure(0.001, "assumed: reference resistors of 0.1 %", ge=0, lt=0.1)
    highest_C: float = _figure(
        125.0, "above it the board refuses pulses: assumed, its parts' highest rated", ge=0, le=400
    )
    droop: bool = _figure(True, "cells that form together lift their bit line through its switch")


@dataclass(frozen=True)
class Figure:
    """One figure of a model: its dotted name, its value, and where it comes from."""

    name: str
    value: Any
    source: str


def figures(model: DieModel | BoardModel) -> list[Figure]:
    """Return every figure of a model with its source."""
    of_memory = memories.MEMORIES.get(model.memory, {}) if isinstance(model, DieModel) else {}
    found = []
    for name, field in type(model).model_fields.items():
        part = getattr(model, name)
        if not isinstance(part, _Part):
            found.append(Figure(name, part, _source(part, field, None)))
            continue
        for key, inner in type(part).model_fields.items():
            value = getattr(part, key)
            found.append(Figure(f"{name}.{key}", value, _source(value, inner, of_memory.get(name, {}).get(key))))
    return found


def _source(value: Any, field: FieldInfo, of_memory: tuple[Any, str] | None) -> str:
    """A figure that is neither the default nor the memory's own was chosen: by another preset or by a person."""
    if of_memory is not None and value == of_memory[0]:
        return of_memory[1]
    if value == field.default or value in memories.MEMORIES:
        return str(field.description)
    return "assumed: differs from the published preset"
