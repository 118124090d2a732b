"""The board's electrical table: everything that time, energy, limits and conversion to siemens are computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rramlab.base.errors import InvalidValue
from rramlab.macro.bias import BiasTable
from rramlab.macro.geometry import Geometry


@dataclass(frozen=True)
class BoardTable:
    """One board's figures in SI units. Their sources stand beside them in the board's file in ``drivers/``."""

    name: str
    geometry: Geometry
    # converters
    dac_bits: int
    dac_full_scale_V: float
    dac_channels: int
    adc_bits: int
    adc_rate_Hz: float  # conversions a second of one ADC
    columns_per_adc: int  # contiguous columns that share one ADC
    zero_code: int  # the code of no current: a pedestal, so that negative noise and offsets are seen
    conversion_energy_J: float
    # ranges
    read_step_S: float  # one code of the single-cell read, at the read voltage
    multiply_full_scale_S: float  # span of one multiply conversion, at the read voltage
    lines_at_once: int
    input_bits: int  # widest bit-serial input code
    read_voltage_V: float
    contact_voltage_V: float
    # lines
    switch_resistance_Ohm: float
    tia_resistance_Ohm: float
    wire_resistance_Ohm: float  # one segment, cell to cell
    max_line_current_A: float
    max_supply_current_A: float
    forming_current_A: float  # worst-case current of one cell while forming or setting (compliance)
    cells_per_pulse: int
    reference_Ohm: tuple[float, ...]  # resistors that the SMU can be connected to
    # time
    min_width_s: float
    max_width_s: float
    settle_time_s: float
    dead_man_s: float
    # silicon: limits on differences of line voltages
    max_sl_minus_bl_V: float
    max_bl_minus_sl_V: float
    max_wl_minus_bl_V: float
    max_sl_minus_off_wl_V: float
    gate_slots: int
    operation_memory: int  # operation ids that the controller remembers
    capabilities: frozenset[str]
    bias: BiasTable

    @property
    def input_V(self) -> float:
        """What the DAC is asked for on a bit line that is on: the read voltage, or the next code below it."""
        return self.dac_volts(self.dac_code(self.read_voltage_V))

    @property
    def multiply_step_S(self) -> float:
        """One code of a multiply conversion: of the full scale at the read voltage, for inputs at :attr:`input_V`."""
        return self.multiply_full_scale_S / (1 << self.adc_bits) * (self.read_voltage_V / self.input_V)

    @property
    def adcs(self) -> int:
        return -(-self.geometry.columns // self.columns_per_adc)

    def dac_code(self, volts: float) -> int:
        """Return the highest DAC code that does not exceed ``volts``: a limit that holds for the value holds on the line.

        Raises:
            InvalidValue: beyond the DAC's range: never clipped.
        """
        code = math.floor(volts / self.dac_full_scale_V * ((1 << self.dac_bits) - 1))
        if not 0 <= code < (1 << self.dac_bits):
            raise InvalidValue(f"{volts} V is outside the DAC's range of 0 to {self.dac_full_scale_V} V")
        return code

    def dac_volts(self, code: int) -> float:
        return code * self.dac_full_scale_V / ((1 << self.dac_bits) - 1)
