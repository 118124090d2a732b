"""Other analogue memories as dies: what their published models say, and what is assumed to put them on this board.

Each die is one cell a crosspoint that a single programming event gives a random conductance, as electroforming does;
its write voltage is scaled to this board's range (assumed), so that the same protocols run on it. A figure named here
stands for the public file that holds it, not for the paper behind that file; what no file holds says ``assumed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

Figures = Mapping[str, Mapping[str, tuple[Any, str]]]

_SCALED = "assumed: the write voltage, scaled to this board's range"
_OFF = "assumed: off state at the bias point that the contact test expects"
_NONE = "assumed: in the drift"


def _law(mean: float, sigma: float, low: float, high: float, points: int = 1025) -> tuple[float, ...]:
    """Return quantiles of a normal clipped to low … high; the ends are those of 1 in 2,000 cells."""
    law = NormalDist(mean, sigma)
    shares = [min(max(index / (points - 1), 5e-4), 1 - 5e-4) for index in range(points)]
    return tuple(round(min(max(law.inv_cdf(share), low), high), 12) for share in shares)


def _write(mean_V: float, sigma_V: float) -> tuple[tuple[float, float], ...]:
    """Return the law of a normal write voltage as (share, V)."""
    law = NormalDist(mean_V, sigma_V)
    inner = [(index / 40, round(law.inv_cdf(index / 40), 4)) for index in range(1, 40)]
    return ((0.0, round(mean_V - 4 * sigma_V, 4)), *inner, (1.0, round(mean_V + 4 * sigma_V, 4)))


PHASE_CHANGE: Figures = {
    "forming": {
        "pristine_S": (
            0.1e-6,
            "floor after RESET: SRNN-PCM simulator (Demirag), after Nandakumar et al., JAP 124, 152135",
        ),
        "breakdown_law": (_write(3.2, 0.1), _SCALED),
        "partial_V": (0.0, "assumed: no partial forming"),
        "stuck_low_share": (5e-4, "assumed"),
        "stuck_high_share": (5e-4, "assumed"),
    },
    "conductance": {
        "median_S": (9.1e-6, "of the law below; scales with the gate"),
        "law_S": (
            _law(9.1e-6, 2.7e-6, 0.1e-6, 20e-6),
            "computed: a burst of 20 SET pulses by SRNN-PCM's fit of single pulses, median 9.1 µS, σ 2.7 µS",
        ),
        "column_share": (0.0, "assumed"),
        "outlier_share": (0.0, "assumed"),
    },
    "switching": {"hrs_median_S": (0.1e-6, "floor after RESET, as above"), "hrs_ln_sigma": (0.1, "the same simulator")},
    "noise": {
        "read": (0.044, "0.03 G + 0.13 µS a conversion, at the median: SRNN-PCM"),
        "telegraph_share": (0.0, "assumed: in the read noise"),
    },
    "relaxation": {
        "relax_mean": (0.0, _NONE),
        "relax_ln_sigma": (0.0, _NONE),
        "drift": (0.049, "aihwkit, pcm.py: mean ν from a third of 25 µS upwards; after Joshi et al. 2020"),
        "drift_sigma": (0.008, "the same"),
        "drift_start_s": (20.0, "the same: t0"),
        "activation_eV": (0.0, "assumed: drift is hardly activated"),
        "temperature_coefficient": (0.005, "assumed"),
    },
}

FERROELECTRIC: Figures = {
    "forming": {
        "pristine_S": (0.1e-6, _OFF),
        "breakdown_law": (_write(3.2, 0.12), _SCALED),
        "partial_V": (0.0, "assumed: no partial forming"),
        "stuck_low_share": (5e-4, "assumed"),
        "stuck_high_share": (5e-4, "assumed"),
    },
    "conductance": {
        "median_S": (10e-6, "assumed: 0.04–1.79 µS of a NeuroSim fork's FeFET in a device ten times as wide"),
        "ln_sigma": (0.3, "assumed: 60–100 mV of threshold over 0.3 V of overdrive; no one-pulse spread is published"),
        "column_share": (0.0, "assumed"),
        "outlier_share": (0.0, "assumed"),
    },
    "switching": {
        "hrs_median_S": (0.4e-6, "0.04 µS of the same device, ten times as wide"),
        "endurance_pulses": (1e5, "survey of 2016–2020 publications in NVMExplorer: 1e4–1e11"),
    },
    "noise": {
        "read": (0.01, "1 %: Halter et al., arXiv 2001.06475, abstract (a WOx channel)"),
        "telegraph_share": (0.0, "assumed"),
    },
    "relaxation": {
        "relax_mean": (0.03, "assumed: detrapping after the write"),
        "relax_ln_sigma": (0.02, "assumed"),
        "relax_end_s": (10.0, "assumed"),
        "relax_start_s": (0.1, "assumed"),
        "drift": (0.01, "assumed"),
        "drift_sigma": (0.005, "assumed"),
        "activation_eV": (1.0, "assumed"),
        "temperature_coefficient": (-0.002, "assumed"),
    },
}

CHARGE_TRAP: Figures = {
    "forming": {
        "pristine_S": (0.1e-6, _OFF),
        "breakdown_law": (_write(3.2, 0.05), _SCALED),
        "partial_V": (0.0, "assumed: no partial forming"),
        "stuck_low_share": (1e-5, "assumed"),
        "stuck_high_share": (1e-5, "assumed"),
    },
    "conductance": {
        "median_S": (10e-6, "assumed, within 0–16 µS of the 40 nm SONOS array in CrossSim, SONOS.py"),
        "ln_sigma": (0.17, "assumed: 100 mV of threshold after one pulse over 0.6 V of overdrive"),
        "column_share": (0.0, "assumed"),
        "outlier_share": (0.0, "assumed"),
    },
    "switching": {
        "hrs_median_S": (1e-9, "on/off above 1e4: CrossSim, SONOS.py"),
        "endurance_pulses": (1e5, "assumed, as typical flash data sheets"),
    },
    "noise": {
        "read": (0.013, "12.58 nA · (1 − exp(−I / 215.37 nA)) at 1,000 nA: CrossSim, SONOS.py"),
        "telegraph_share": (0.0, "assumed: in the read noise"),
    },
    "relaxation": {
        "relax_mean": (0.0, _NONE),
        "relax_ln_sigma": (0.0, _NONE),
        "drift": (0.010, "computed from days 1 and 5 at 800 nA: CrossSim, SONOS.py"),
        "drift_sigma": (0.003, "assumed"),
        "drift_start_s": (4e3, "the same days"),
        "activation_eV": (1.1, "assumed"),
        "temperature_coefficient": (-0.002, "assumed"),
    },
}

MEMORIES: Mapping[str, Figures] = {
    "phase-change": PHASE_CHANGE,
    "ferroelectric": FERROELECTRIC,
    "charge-trap": CHARGE_TRAP,
}


def values(name: str) -> dict[str, Any]:
    """Return the figures of a memory without their sources, nested as the model of a die is."""
    plain: dict[str, Any] = {
        part: {field: value for field, (value, _) in figures.items()} for part, figures in MEMORIES[name].items()
    }
    return {"memory": name, **plain}
