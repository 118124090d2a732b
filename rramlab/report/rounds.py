"""Reads of a run in figures: one line a data set, and how it went from round to round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import is_conducting
from rramlab.plan.plan import AFTER, BEFORE, Plan
from rramlab.plan.steps import ForEachStep, ProgramStep, RepeatStep, Step, WaitStep
from rramlab.runs.store import Block

Floats = npt.NDArray[np.float32]
_ENOUGH_REPEATS = 8  # to say how much a read scatters


@dataclass(frozen=True)
class Point:
    """One read of a data set: what its cells conducted, in siemens. ``noise``: one read's scatter relative to its mean."""

    rounds: tuple[int, ...]
    labels: dict[str, Any]
    cells: int
    conducting: int
    lowest_S: float
    quartiles_S: tuple[float, float, float]
    highest_S: float
    median_conducting_S: float  # NaN where none conducts
    repeats: int
    noise: float
    reached: int | None = None  # of a write-verify: cells within tolerance of the one target of all


@dataclass
class Series:
    """All reads of one data set at one step, in order. ``step``: its path, without round numbers."""

    step: str
    dataset: str
    program: bool  # the reads of a write-verify: each adds to what is known of its cells
    isolated: bool = False  # while other cells were cut off
    target_S: float | None = None
    tolerance_S: float | None = None
    points: list[Point] = field(default_factory=list)

    @property
    def loop(self) -> str:
        """The path of the innermost loop around the step; of a write-verify its own."""
        return self.step if self.program else self.step.rpartition("-")[0]

    def reached(self, cells_S: Floats) -> int | None:
        """Return how many of these conductances are within tolerance; None where there is not one target of all."""
        if self.target_S is None or self.tolerance_S is None:
            return None
        return int(np.count_nonzero(np.abs(cells_S - self.target_S) <= self.tolerance_S))


class Reads:
    """Collects blocks of cells in the order in which they were read."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self._open: dict[tuple[str, str], _Open] = {}

    def take(self, block: Block, array: npt.NDArray[Any], chosen: npt.NDArray[np.bool_], step: Step | None) -> None:
        """Add a block. ``chosen``: bool[rows spanned, columns], the cells that figures are made of."""
        about = block.attributes
        rounds = tuple(int(each) for each in about.get("round", ()))
        if isinstance(step, ProgramStep):
            chosen = array["valid"]  # those in tolerance from the beginning have no pulse, and count
        key = block.step, block.dataset
        if key not in self.series:
            program = step if isinstance(step, ProgramStep) and step.name == block.dataset else None
            target = program.target if program is not None and isinstance(program.target, float) else None
            tolerance = program.tolerance if program is not None else None
            self.series[key] = Series(
                block.step, block.dataset, program is not None, bool(about.get("isolated")), target, tolerance
            )
        series, start = self.series[key], int(about["rows"][0])
        current = self._open.get(key)
        again = current is not None and rounds != current.rounds
        if current is not None and again:
            series.points.append(current.close(series))
        if current is None or again:
            same = current is not None and series.program and current.rounds[:-1] == rounds[:-1]
            known = current.known if current is not None and same else None
            current = self._open[key] = _Open(rounds, dict(about.get("labels") or {}), tuple(about["shape"]), known)
        current.add(array, chosen, start)

    def finish(self) -> None:
        """Close what is open: no more blocks will come."""
        for key, current in self._open.items():
            self.series[key].points.append(current.close(self.series[key]))
        self._open.clear()

    @property
    def loops(self) -> dict[str, list[Series]]:
        """Data sets with several rounds, by the loop they stand in; bystanders are beside the matter and not among them."""
        found: dict[str, list[Series]] = {}
        for series in self.series.values():
            if len(series.points) > 1 and series.dataset not in (BEFORE, AFTER):
                found.setdefault(series.loop, []).append(series)
        return found


class _Open:
    """A read whose row blocks are still coming."""

    def __init__(self, rounds: tuple[int, ...], labels: dict[str, Any], shape: tuple[int, ...], known: Floats | None):
        self.rounds, self.labels, self.repeats = rounds, labels, 1
        self.known = np.full(shape, np.nan, np.float32) if known is None else known
        self._noise: list[Floats] = []

    def add(self, array: npt.NDArray[Any], chosen: npt.NDArray[np.bool_], start: int) -> None:
        self.known[start : start + len(array)][chosen] = array["conductance"][chosen]
        codes = array["codes"][chosen & is_conducting(array["conductance"])].astype(np.float32)
        self.repeats = max(self.repeats, array["codes"].shape[2])
        if array["codes"].shape[2] >= _ENOUGH_REPEATS and codes.size:
            self._noise.append(codes.std(axis=1, ddof=1) / np.maximum(codes.mean(axis=1), 1))

    def close(self, series: Series) -> Point:
        cells = self.known[~np.isnan(self.known)]
        conducting = cells[is_conducting(cells)]
        low, middle, high = np.percentile(cells, (25, 50, 75)) if cells.size else (np.nan,) * 3
        return Point(
            self.rounds,
            self.labels,
            int(cells.size),
            int(conducting.size),
            float(cells.min()) if cells.size else np.nan,
            (float(low), float(middle), float(high)),
            float(cells.max()) if cells.size else np.nan,
            float(np.median(conducting)) if conducting.size else np.nan,
            self.repeats,
            float(np.median(np.concatenate(self._noise))) if self._noise else np.nan,
            series.reached(cells),
        )


@dataclass(frozen=True)
class Axis:
    """What a series is drawn over. ``ticks``: words in place of numbers, one a point."""

    label: str
    values: tuple[float, ...]
    logarithmic: bool
    ticks: tuple[str, ...] = ()


def axis_of(series: Series, plan: Plan | None) -> Axis:
    """Choose what to draw a series over: the time waited, the label of its loop, or the number of the round.

    Time is that of the plan's waits, all together, before each read. Logarithmic where two decades are spanned.
    """
    points = series.points
    if series.program:
        return Axis("verification", tuple(float(number) for number in range(len(points))), False)
    waits = [waited(plan, series.step, point.rounds) for point in points]
    name, value, unit = _label(points[-1])
    if all(each is not None for each in waits) and len(set(waits)) > 1 and unit in ("", "s"):
        times = [each for each in waits if each is not None]
        return _numeric("time waited (s)", times)
    if name and isinstance(value, (int, float)):
        values = [float(_label(point)[1]) for point in points]
        if len(set(values)) == len(values):
            return _numeric(f"{name} ({unit})" if unit else name, values)
    if name and len(points) <= 24:
        words = tuple(f"{_label(point)[1]}{f' {unit}' if unit else ''}" for point in points)
        return Axis(name, tuple(float(number) for number in range(len(points))), False, words)
    return _numeric("round", [float(number) for number in range(len(points))])


def _numeric(label: str, values: Sequence[float]) -> Axis:
    positive = [value for value in values if value > 0]
    decades = len(positive) > 2 and min(values) >= 0 and max(positive) / min(positive) >= 100
    return Axis(label, tuple(values), decades)


def _label(point: Point) -> tuple[str, Any, str]:
    """Return name, value and unit of the innermost ``for_each`` around a read; no name where there is none."""
    if not point.labels:
        return "", None, ""
    name, (value, unit) = list(point.labels.items())[-1]
    return str(name), value, str(unit)


def step_at(plan: Plan | None, path: str, rounds: Sequence[int]) -> Step | None:
    """Return the step of a plan at a path (``003-001``) and round numbers; None where there is none."""
    steps = plan.steps if plan is not None else ()
    turns = list(rounds)
    found: Step | None = None
    try:
        for number in path.split("-"):
            found = steps[int(number)]
            match found:
                case RepeatStep():
                    steps, _ = found.steps, turns.pop(0) if turns else 0
                case ForEachStep():
                    steps = found.rounds[turns.pop(0) if turns else 0].steps
                case _:
                    steps = ()
    except (IndexError, ValueError):
        return None  # an interactive run has no plan; its steps are numbered as they came
    return found


def waited(plan: Plan | None, path: str, rounds: Sequence[int]) -> float | None:
    """Return the seconds that a plan has waited before a step in its loops; None where they cannot be told."""
    if plan is None or step_at(plan, path, rounds) is None:
        return None
    numbers, turns = [int(each) for each in path.split("-")], list(rounds)
    steps, total = plan.steps[numbers[0] : numbers[0] + 1], 0.0  # time begins with the outermost loop
    for depth, number in enumerate(numbers):
        inside = steps[:number] if depth else ()
        if any(isinstance(step, RepeatStep) and step.until is not None for step in inside):
            return None  # nobody wrote down how often it went round
        total += sum(_waits(step) for step in inside)
        step = steps[number] if depth else steps[0]
        match step:
            case RepeatStep():
                turn = turns.pop(0) if turns else 0
                total += turn * sum(_waits(each) for each in step.steps)
                steps = step.steps
            case ForEachStep():
                turn = turns.pop(0) if turns else 0
                total += sum(_waits(each) for one in step.rounds[:turn] for each in one.steps)
                steps = step.rounds[turn].steps
    return total


def _waits(step: Step) -> float:
    match step:
        case WaitStep():
            return step.time
        case RepeatStep():
            return step.times * sum(_waits(each) for each in step.steps)
        case ForEachStep():
            return sum(_waits(each) for one in step.rounds for each in one.steps)
        case _:
            return 0.0
