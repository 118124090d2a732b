"""A board's driver file: the electrical table, every entry tagged published, datasheet or assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import UsageError
from rramlab.base.folders import Located, find
from rramlab.base.units import Amperes, Hertz, Joules, Ohms, Seconds, Siemens, Volts
from rramlab.base.yamlfile import load_model
from rramlab.macro.bias import BiasTable
from rramlab.macro.board import BoardTable
from rramlab.macro.geometry import Geometry

T = TypeVar("T")
Tag = Literal["published", "datasheet", "assumed"]
Capability = Literal["sl_select", "per_row_wl", "reference_resistors", "smu_route", "reference_reads", "isolated_reads"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


Positive = Annotated[int, Field(ge=1)]
Bits = Annotated[int, Field(ge=4, le=16)]


class Entry(_Strict, Generic[T]):
    """One figure, and where it comes from."""

    value: T
    tag: Tag
    source: str = Field(min_length=1)


class _Geometry(_Strict):
    rows: Entry[Positive]
    columns: Entry[Positive]


class _Converters(_Strict):
    dac_bits: Entry[Bits]
    dac_full_scale: Entry[Volts]
    dac_channels: Entry[Positive]
    adc_bits: Entry[Bits]
    adc_rate: Entry[Hertz]
    columns_per_adc: Entry[Positive]
    zero_code: Entry[Annotated[int, Field(ge=0)]]
    conversion_energy: Entry[Joules]


class _Ranges(_Strict):
    read_step: Entry[Siemens]
    multiply_full_scale: Entry[Siemens]
    lines_at_once: Entry[Positive]
    input_bits: Entry[Annotated[int, Field(ge=1, le=8)]]
    read_voltage: Entry[Volts]
    contact_voltage: Entry[Volts]


class _Lines(_Strict):
    switch_resistance: Entry[Ohms]
    tia_resistance: Entry[Ohms]
    wire_resistance: Entry[Ohms]
    max_line_current: Entry[Amperes]
    max_supply_current: Entry[Amperes]
    forming_current: Entry[Amperes]
    cells_per_pulse: Entry[Positive]
    reference_resistors: Entry[tuple[Annotated[Ohms, Field(gt=0)], ...]]


class _Time(_Strict):
    min_width: Entry[Seconds]
    max_width: Entry[Seconds]
    settle_time: Entry[Seconds]
    dead_man: Entry[Seconds]


class _Silicon(_Strict):
    max_sl_minus_bl: Entry[Volts]
    max_bl_minus_sl: Entry[Volts]
    max_wl_minus_bl: Entry[Volts]
    max_sl_minus_off_wl: Entry[Volts]


class _Controller(_Strict):
    gate_slots: Entry[Positive]
    operation_memory: Entry[Positive]


class BoardFile(_Strict):
    """A board's file in ``drivers/``."""

    kind: Literal["board"]
    model: str
    description: str = ""
    geometry: _Geometry
    converters: _Converters
    ranges: _Ranges
    lines: _Lines
    time: _Time
    silicon: _Silicon
    controller: _Controller
    capabilities: frozenset[Capability] = frozenset()
    bias: BiasTable
    power_up: tuple[str, ...] = ()

    def table(self) -> BoardTable:
        """Return the figures alone, in SI units.

        Raises:
            UsageError: figures that contradict each other.
        """
        if self.geometry.columns.value % 2:
            raise UsageError(f"{self.model} has {self.geometry.columns.value} columns, expected an even number: pairs")
        if self.converters.zero_code.value >= 1 << self.converters.adc_bits.value:
            raise UsageError(f"the zero code of {self.model} is beyond its ADC's highest code")
        needed = {"per_row_wl", "sl_select"}
        if "isolated_reads" in self.capabilities and not needed <= self.capabilities:
            raise UsageError(
                f"{self.model} has the capability isolated_reads without {' and '.join(sorted(needed - self.capabilities))}, "
                "expected them with it: it switches word lines by the row and source lines by the column"
            )
        c, r, li, t, s = self.converters, self.ranges, self.lines, self.time, self.silicon
        if t.dead_man.value > 1:
            raise UsageError(f"the dead-man time of {self.model} is {t.dead_man.value} s, expected at most 1 s")
        if r.contact_voltage.value > 0.1:
            raise UsageError(
                f"the contact voltage of {self.model} is {r.contact_voltage.value} V, expected at most 0.1 V"
            )
        return BoardTable(
            name=self.model,
            geometry=Geometry(self.geometry.rows.value, self.geometry.columns.value),
            dac_bits=c.dac_bits.value,
            dac_full_scale_V=c.dac_full_scale.value,
            dac_channels=c.dac_channels.value,
            adc_bits=c.adc_bits.value,
            adc_rate_Hz=c.adc_rate.value,
            columns_per_adc=c.columns_per_adc.value,
            zero_code=c.zero_code.value,
            conversion_energy_J=c.conversion_energy.value,
            read_step_S=r.read_step.value,
            multiply_full_scale_S=r.multiply_full_scale.value,
            lines_at_once=r.lines_at_once.value,
            input_bits=r.input_bits.value,
            read_voltage_V=r.read_voltage.value,
            contact_voltage_V=r.contact_voltage.value,
            switch_resistance_Ohm=li.switch_resistance.value,
            tia_resistance_Ohm=li.tia_resistance.value,
            wire_resistance_Ohm=li.wire_resistance.value,
            max_line_current_A=li.max_line_current.value,
            max_supply_current_A=li.max_supply_current.value,
            forming_current_A=li.forming_current.value,
            cells_per_pulse=li.cells_per_pulse.value,
            reference_Ohm=li.reference_resistors.value,
            min_width_s=t.min_width.value,
            max_width_s=t.max_width.value,
            settle_time_s=t.settle_time.value,
            dead_man_s=t.dead_man.value,
            max_sl_minus_bl_V=s.max_sl_minus_bl.value,
            max_bl_minus_sl_V=s.max_bl_minus_sl.value,
            max_wl_minus_bl_V=s.max_wl_minus_bl.value,
            max_sl_minus_off_wl_V=s.max_sl_minus_off_wl.value,
            gate_slots=self.controller.gate_slots.value,
            operation_memory=self.controller.operation_memory.value,
            capabilities=frozenset(self.capabilities),
            bias=self.bias,
        )


def load_board(root: Path, name: str) -> tuple[BoardFile, Located]:
    """Find and read the board file ``name`` for the bench at ``root``."""
    located = find(root, "drivers", name)
    return load_model(located.path, BoardFile), located


__all__ = ["BoardFile", "Entry", "load_board"]
