"""What sections share: what was asked for, what a section found, pulses, durations and bands."""

from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim import measured

FULL, SMALL = Geometry(512, 512), Geometry(64, 64)
# The defaults of protocols/electroform.yaml, set.yaml and prune.yaml.
FORM, SET, RESET = Pulse(3.75, 1e-6, 1.6), Pulse(2.0, 1e-6, 1.6), Pulse(2.0, 1e-6, 3.0)
HOUR, DAY, YEAR = 3600.0, 86400.0, 365.25 * 86400.0
Z95 = 1.96


@dataclass(frozen=True)
class Run:
    """What was asked for: ``dies`` of a large sample; ``data``, the measured arrays by name, if there are any."""

    dies: int
    quick: bool
    data: dict[str, np.ndarray] | None

    @property
    def full(self):
        """The geometry of whole dies."""
        return Geometry(128, 128) if self.quick else FULL

    @property
    def medium(self):
        return SMALL if self.quick else Geometry(128, 128)

    def seeds(self, share=1):
        """Return the seeds of a section that needs one in ``share`` of the dies."""
        return range(1, max(2, self.dies // share) + 1)

    def measured_S(self):
        """Return the formed conductances to compare with, and what they are."""
        if self.data is None:
            return measured.conductances(), "the shipped quantiles of the measured cells"
        cells = np.concatenate([self.data[f"conductance_{layer}_uS"].ravel() for layer in ("input", "hidden")])
        return cells[cells > 0] * 1e-6, "the measured cells themselves"


@dataclass
class Found:
    """What a section found: promises with their verdicts, further findings as sentences, raw figures, one drawing."""

    about: str
    seeds: str = "1"
    promises: list[dict] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    figures: dict = field(default_factory=dict)
    drawing: Figure | None = None

    def promise(self, what, promised, found, kept):
        self.promises.append({"what": what, "promised": promised, "measured": found, "passed": bool(kept)})

    def document(self):
        return {name: value for name, value in vars(self).items() if name != "drawing"}


def from_to(seeds):
    return f"{seeds[0]} to {seeds[-1]}"


def in_uS(siemens):
    return np.asarray(siemens) * 1e6


def exact_band(count, total):
    """Return the exact 95 % band (Clopper–Pearson) of a share."""
    band = stats.binomtest(int(count), total).proportion_ci(0.95, "exact")
    return float(band.low), float(band.high)
