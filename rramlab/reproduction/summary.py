"""From outcomes to a table: means over dies, and what the topology gains over every baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from rramlab.reproduction.outcomes import Outcome, Row
from rramlab.reproduction.tasks import Task

TITLES: dict[Row, str] = {
    "edge": "topology learned, any connection",
    "phases": "topology learned, gate phases",
    "reset": "topology learned, pruned cells reset",
    "random": "random network, unpruned",
    "read-out": "random network, read-out trained in software",
    "write-verify": "weights trained, written with verify",
    "single-shot": "weights trained, each cell written once",
    "ideal": "topology learned, ideal software",
    "dense": "dense float32 software",
}
OURS: tuple[Row, ...] = ("edge", "phases", "reset")


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over dies; of one die the latter is None."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Line:
    """A row over all its dies. Costs are means, of one test sample; pulses are means of a whole network."""

    row: Row
    dies: int
    samples: int
    scores: dict[str, Spread]
    host: dict[str, Spread]
    ideal: dict[str, Spread]
    weights: int
    kept: int
    pulses: dict[str, float]
    repruning: dict[str, float]
    conversions: float
    time_s: float
    energy_J: dict[str, float]

    @property
    def title(self) -> str:
        return TITLES[self.row]

    @property
    def pulses_after_forming(self) -> float:
        return sum(count for kind, count in self.pulses.items() if kind != "electroform")

    @property
    def energy_total_J(self) -> float:
        return sum(self.energy_J.values())


def lines(outcomes: Iterable[Outcome]) -> list[Line]:
    """Return a line for each row that has an outcome, in the order of the table."""
    by_row: dict[Row, list[Outcome]] = {}
    for outcome in outcomes:
        by_row.setdefault(outcome.row, []).append(outcome)
    return [_line(row, by_row[row]) for row in TITLES if row in by_row]


def _line(row: Row, found: list[Outcome]) -> Line:
    return Line(
        row,
        len(found),
        min(each.samples for each in found),
        _spreads([each.scores for each in found]),
        _spreads([each.host for each in found]),
        _spreads([each.ideal for each in found]),
        found[0].weights,
        found[0].kept,
        _means([each.pulses for each in found]),
        _means([each.repruning for each in found]),
        fmean(each.conversions for each in found),
        fmean(each.time_s for each in found),
        _means([each.energy_J for each in found]),
    )


def _spreads(found: Sequence[dict[str, float]]) -> dict[str, Spread]:
    return {name: Spread.of([each[name] for each in found]) for name in found[0]}


def _means(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: fmean(each.get(name, 0) for each in found) for name in dict.fromkeys(key for d in found for key in d)}


@dataclass(frozen=True)
class Gain:
    """What one of our rows has over another one.

    ``points``: of the score that counts, a difference of shares of 1; ``relative``: the same, of the other's score. ``host``:
    whether both are of all test samples on the host's model of the chip, because the macro computed other samples of each.
    ``pulses``, ``energy``: which share is saved of the other's, of a whole network with forming, and of a sample's products;
    None where the other has none.
    """

    points: float
    relative: float
    host: bool
    pulses: float | None
    energy: float | None


def gain(task: Task, ours: Line, other: Line) -> Gain:
    """Compare two rows of a table, each by as many test samples as the other."""
    others = ours.samples != other.samples if other.samples else task.on_chip is not None
    host = others and bool(ours.host) and bool(other.host or not other.samples)
    mine, theirs = (((each.host if host else {}) or each.scores)[task.score].mean for each in (ours, other))
    return Gain(
        mine - theirs,
        mine / theirs - 1.0,
        host,
        _saved(sum(ours.pulses.values()), sum(other.pulses.values())),
        _saved(ours.energy_total_J, other.energy_total_J),
    )


def _saved(ours: float, other: float) -> float | None:
    return 1.0 - ours / other if other else None
