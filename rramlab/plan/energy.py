"""Where the energy of products goes, component by component, and what a graphics processor would spend on them.

Array and converters are what :mod:`rramlab.plan.cost` counts. Amplifiers and DAC are on for as long as the products take. The
controller (a ZYNQ's processor and logic) is left out: its share depends on the firmware and nothing is published.
"""

from __future__ import annotations

from collections.abc import Iterable

from rramlab.macro.board import BoardTable
from rramlab.macro.gates import GatePattern
from rramlab.plan import cost

AMPLIFIER_W = 8e-3  # one transimpedance amplifier an ADC
DAC_W = 16.5e-3
SOURCES = {
    "array": "V² · G · t of the driven lines, half of the inputs' bits set; read voltage and wiring assumed",
    "converters": "ADS8324, data sheet: 2.5 mW at 50 kS/s, 50 nJ a conversion",
    "amplifiers": "OPA4322-Q1, data sheet: 1.6 mA a channel; at 5 V, one channel an ADC (assumed), while products last",
    "DAC": "DAC80508, data sheet: about 3.3 mA in all; at 5 V, while products last",
}
# NVIDIA A100, data sheet: 19.5 TFLOPS of float32, 400 W (SXM). At its peak, which no small network reaches: the least that it
# could spend.
GPU_J_A_MAC = 2.0 * 400.0 / 19.5e12
GPU_SOURCE = (
    "NVIDIA A100, data sheet: 400 W and 19.5 TFLOPS of float32, two operations a multiply-accumulate: 41 pJ each at its peak, "
    "with every unit busy (assumed; no network as small comes near it)"
)
Product = tuple[GatePattern, int, int]  # a tile's pattern, vectors, bits


def by_component(products: Iterable[Product], board: BoardTable) -> dict[str, float]:
    """Return the energy of products in J, by the names of ``SOURCES``."""
    found = dict.fromkeys(SOURCES, 0.0)
    for pattern, vectors, bits in products:
        whole = cost.multiply(pattern, vectors, bits, board)
        converters = whole.conversions * board.conversion_energy_J
        found["converters"] += converters
        found["array"] += whole.energy_J - converters
        found["amplifiers"] += board.adcs * AMPLIFIER_W * whole.time_s
        found["DAC"] += DAC_W * whole.time_s
    return found
