"""What the data sheets promise of each model: ranges, one-year accuracies, and what the output can give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quantity = Literal["VOLT", "CURR"]
Direction = Literal["source", "measure"]


@dataclass(frozen=True)
class Accuracy:
    """± (share of the setting or reading + offset in V or A), for one year at 23 °C ± 5 °C and one power-line cycle."""

    share: float
    offset: float


@dataclass(frozen=True)
class Range:
    full: float  # V or A
    accuracy: Accuracy


@dataclass(frozen=True)
class Specification:
    """One model. Ranges rise; ``envelope`` holds pairs (V, A) of which a setting must fit into one."""

    model: str
    family: Literal["B2900", "2400", "2450", "2600"]
    channels: int
    source: dict[Quantity, tuple[Range, ...]]
    measure: dict[Quantity, tuple[Range, ...]]
    envelope: tuple[tuple[float, float], ...]
    source_over: float  # a range sources up to this many times its full scale …
    measure_over: float  # … and measures up to this many times
    limit_V: float  # limits after power-up and reset
    limit_A: float
    nplc: float  # power-line cycles a reading after power-up and reset
    lowest_A: float  # automatic ranging goes no lower after power-up and reset
    clamps: bool = False  # a fixed range of measurement lowers the limit ("range compliance")

    def ranges(self, direction: Direction, quantity: Quantity) -> tuple[Range, ...]:
        return (self.source if direction == "source" else self.measure)[quantity]

    def highest(self, quantity: Quantity) -> float:
        """Return the greatest magnitude that can be sourced, or set as a limit: V or A."""
        return max(pair[quantity == "CURR"] for pair in self.envelope)


def _ranges(*rows: tuple[float, float, float]) -> tuple[Range, ...]:
    """Return ranges from rows of (full scale, per cent of the value, offset)."""
    return tuple(Range(full, Accuracy(percent / 100, offset)) for full, percent, offset in rows)


# Keysight data sheet 5990-7009EN: the tables of source and of measurement are the same.
_B2900_V = _ranges((0.2, 0.015, 225e-6), (2, 0.02, 350e-6), (20, 0.015, 5e-3), (200, 0.015, 50e-3))
_B2900_A = _ranges(
    (100e-9, 0.06, 100e-12),
    (1e-6, 0.025, 500e-12),
    (10e-6, 0.025, 1.5e-9),
    (100e-6, 0.02, 25e-9),
    (1e-3, 0.02, 200e-9),
    (10e-3, 0.02, 2.5e-6),
    (100e-3, 0.02, 20e-6),
    (1, 0.03, 1.5e-3),
    (1.5, 0.05, 3.5e-3),
    (3, 0.4, 7e-3),
)
_B2910_A = _ranges((10e-9, 0.1, 50e-12)) + _B2900_A


def _b2900(model: str, channels: int, amperes: tuple[Range, ...]) -> Specification:
    ranges: dict[Quantity, tuple[Range, ...]] = {"VOLT": _B2900_V, "CURR": amperes}
    return Specification(
        model=model,
        family="B2900",
        channels=channels,
        source=ranges,
        measure=ranges,
        envelope=((6, 3.03), (21, 1.515), (210, 0.105)),
        source_over=1.05,
        measure_over=1.06,
        limit_V=2.0,
        limit_A=100e-6,
        nplc=0.1,
        lowest_A=1e-6,
    )


# Keithley specification SPEC-2400 rev. H.
_K2400 = Specification(
    model="2400",
    family="2400",
    channels=1,
    source={
        "VOLT": _ranges((0.2, 0.02, 600e-6), (2, 0.02, 600e-6), (20, 0.02, 2.4e-3), (200, 0.02, 24e-3)),
        "CURR": _ranges(
            (1e-6, 0.035, 600e-12),
            (10e-6, 0.033, 2e-9),
            (100e-6, 0.031, 20e-9),
            (1e-3, 0.034, 200e-9),
            (10e-3, 0.045, 2e-6),
            (100e-3, 0.066, 20e-6),
            (1, 0.27, 900e-6),
        ),
    },
    measure={
        "VOLT": _ranges((0.2, 0.012, 300e-6), (2, 0.012, 300e-6), (20, 0.015, 1.5e-3), (200, 0.015, 10e-3)),
        "CURR": _ranges(
            (1e-6, 0.029, 300e-12),
            (10e-6, 0.027, 700e-12),
            (100e-6, 0.025, 6e-9),
            (1e-3, 0.027, 60e-9),
            (10e-3, 0.035, 600e-9),
            (100e-3, 0.055, 6e-6),
            (1, 0.22, 570e-6),
        ),
    },
    envelope=((21, 1.05), (210, 0.105)),
    source_over=1.05,
    measure_over=1.05,
    limit_V=21.0,
    limit_A=105e-6,
    nplc=1.0,
    lowest_A=1e-6,
    clamps=True,
)

# Keithley specification SPEC-2450 rev. A.
_K2450 = Specification(
    model="2450",
    family="2450",
    channels=1,
    source={
        "VOLT": _ranges(
            (0.02, 0.1, 200e-6), (0.2, 0.015, 200e-6), (2, 0.02, 300e-6), (20, 0.015, 2.4e-3), (200, 0.015, 24e-3)
        ),
        "CURR": _ranges(
            (10e-9, 0.1, 100e-12),
            (100e-9, 0.06, 150e-12),
            (1e-6, 0.025, 400e-12),
            (10e-6, 0.025, 1.5e-9),
            (100e-6, 0.02, 15e-9),
            (1e-3, 0.02, 150e-9),
            (10e-3, 0.02, 1.5e-6),
            (100e-3, 0.025, 15e-6),
            (1, 0.067, 900e-6),
        ),
    },
    measure={
        "VOLT": _ranges(
            (0.02, 0.1, 150e-6), (0.2, 0.012, 200e-6), (2, 0.012, 300e-6), (20, 0.015, 1e-3), (200, 0.015, 10e-3)
        ),
        "CURR": _ranges(
            (10e-9, 0.1, 50e-12),
            (100e-9, 0.06, 100e-12),
            (1e-6, 0.025, 300e-12),
            (10e-6, 0.025, 700e-12),
            (100e-6, 0.02, 6e-9),
            (1e-3, 0.02, 60e-9),
            (10e-3, 0.02, 600e-9),
            (100e-3, 0.025, 6e-6),
            (1, 0.03, 500e-6),
        ),
    },
    envelope=((21, 1.05), (210, 0.105)),
    source_over=1.05,
    measure_over=1.05,
    limit_V=21.0,
    limit_A=105e-6,
    nplc=1.0,
    lowest_A=10e-9,
)


def _k2600(model: str, channels: int) -> Specification:
    """Keithley specification of the models 2634B, 2635B and 2636B."""
    return Specification(
        model=model,
        family="2600",
        channels=channels,
        source={
            "VOLT": _ranges((0.2, 0.02, 375e-6), (2, 0.02, 600e-6), (20, 0.02, 5e-3), (200, 0.02, 50e-3)),
            "CURR": _ranges(
                (1e-9, 0.15, 2e-12),
                (10e-9, 0.15, 5e-12),
                (100e-9, 0.06, 50e-12),
                (1e-6, 0.03, 700e-12),
                (10e-6, 0.03, 5e-9),
                (100e-6, 0.03, 60e-9),
                (1e-3, 0.03, 300e-9),
                (10e-3, 0.03, 6e-6),
                (100e-3, 0.03, 30e-6),
                (1, 0.05, 1.8e-3),
                (1.5, 0.06, 4e-3),
            ),
        },
        measure={
            "VOLT": _ranges((0.2, 0.015, 225e-6), (2, 0.02, 350e-6), (20, 0.015, 5e-3), (200, 0.015, 50e-3)),
            "CURR": _ranges(
                (100e-12, 0.15, 120e-15),
                (1e-9, 0.15, 240e-15),
                (10e-9, 0.15, 3e-12),
                (100e-9, 0.06, 40e-12),
                (1e-6, 0.025, 400e-12),
                (10e-6, 0.025, 1.5e-9),
                (100e-6, 0.02, 25e-9),
                (1e-3, 0.02, 200e-9),
                (10e-3, 0.02, 2.5e-6),
                (100e-3, 0.02, 20e-6),
                (1, 0.03, 1.5e-3),
                (1.5, 0.05, 3.5e-3),
            ),
        },
        envelope=((20.2, 1.515), (202, 0.101)),
        source_over=1.01,
        measure_over=1.02,
        limit_V=20.0,
        limit_A=100e-3,
        nplc=1.0,
        lowest_A=100e-12,
    )


SPECIFICATIONS = {
    each.model: each
    for each in (
        _b2900("B2901A", 1, _B2900_A),
        _b2900("B2902A", 2, _B2900_A),
        _b2900("B2911A", 1, _B2910_A),
        _b2900("B2912A", 2, _B2910_A),
        _K2400,
        _K2450,
        _k2600("2635B", 1),
        _k2600("2636B", 2),
    )
}
