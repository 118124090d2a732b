"""Reads of a run in figures: one line a data set, and how it went from round to round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.units import time_unit
from rramlab.macro.cells import Bools, is_conducting
from rramlab.plan.plan import AFTER, BEFORE, Plan, leaves
from rramlab.plan.steps import ForEachStep, ProgramStep, RepeatStep, Step
from rramlab.runs.store import Block
from rramlab.runs.waits import Waits

Floats = npt.NDArray[np.float32]
_ENOUGH_REPEATS = 8  # to say how much a read scatters


# Which cells the quartiles of a loop are of. Cells that never conducted say nothing of what becomes of those that do: where
# nothing is pulsed those that conducted when it began; in cycles of set and reset those that conducted in the first round;
# while cells are formed those that conduct at each read; of a write-verify all that have a target.
Follows = Literal["first read", "first round", "each read", "all"]
FOLLOWED: dict[Follows, str] = {
    "first read": "cells that conducted at the first read",
    "first round": "cells that conducted in the first round",
    "each read": "cells that conduct at each read",
    "all": "all cells",
}


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
    waited_s: float | None = None  # by the run before it; None where its plan has no waits
    followed: int = (
        0  # the cells that its series follows: how many were read, how many of them conduct, what they conduct
    )
    followed_conducting: int = 0
    followed_S: tuple[float, float, float] = (np.nan, np.nan, np.nan)


@dataclass
class Series:
    """All reads of one data set at one step, in order. ``step``: its path, without round numbers."""

    step: str
    dataset: str
    program: bool  # the reads of a write-verify: each adds to what is known of its cells
    isolated: bool = False  # while other cells were cut off
    target_S: float | None = None
    tolerance_S: float | None = None
    follows: Follows = "all"
    before: Point | None = (
        None  # the last read of these cells before a loop that pulses nothing: what its time begins with
    )
    began_s: float | None = None  # how long the run had waited when its outermost loop began
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
    """Collects blocks of cells in the order in which they were read.

    ``pristine``: bool[rows, columns], cells that by the ledger never had a pulse; they are never followed.
    """

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self.pristine: Bools | None = None
        self._open: dict[tuple[str, str], _Open] = {}
        self._first: dict[
            tuple[str, str], Floats
        ] = {}  # the first read of each series, until its followed cells are known
        self._states: dict[tuple[str, str], npt.NDArray[np.int8]] = {}
        self._followed: dict[tuple[str, str], Bools] = {}
        self._last: _Last | None = None
        self._before: dict[str, _Last] = {}  # by outermost loop: what was read before it

    def take(
        self,
        block: Block,
        array: npt.NDArray[Any],
        chosen: Bools,
        plan: Plan | None,
        state: npt.NDArray[np.int8] | None = None,
        waits: Waits | None = None,
    ) -> None:
        """Add a block. ``chosen``: bool[rows spanned, columns], the cells that figures are made of.

        ``state``: int8[rows spanned, columns]: 0 before the run's first pulse of a cell, 2 after its last, 1 in between.
        """
        about = block.attributes
        rounds = tuple(int(each) for each in about.get("round", ()))
        step = step_at(plan, block.step, rounds)
        if isinstance(step, ProgramStep):
            chosen = array["valid"]  # those in tolerance from the beginning have no pulse, and count
        key, start, waited_s = (block.step, block.dataset), int(about["rows"][0]), None
        if waits is not None:
            waited_s = waits.before(block.position)
        outermost = block.step.partition("-")[0]
        if rounds and self._last is not None and outermost not in self._before:
            self._before[outermost] = self._last.copy()
        if key not in self.series:
            program = step if isinstance(step, ProgramStep) and step.name == block.dataset else None
            target = program.target if program is not None and isinstance(program.target, float) else None
            tolerance = program.tolerance if program is not None else None
            follows = "all" if program is not None else _follows(plan, outermost)
            self.series[key] = Series(
                block.step, block.dataset, program is not None, bool(about.get("isolated")), target, tolerance, follows,
                None, None if waits is None else waits.before(outermost),
            )  # fmt: skip
        series = self.series[key]
        current = self._open.get(key)
        again = current is not None and rounds != current.rounds
        if current is not None and again:
            self._close(key, current)
        if current is None or again:
            same = current is not None and series.program and current.rounds[:-1] == rounds[:-1]
            known = current.known if current is not None and same else None
            current = self._open[key] = _Open(rounds, dict(about.get("labels") or {}), tuple(about["shape"]), known)
            current.waited_s = waited_s
        current.add(array, chosen, start, state)
        if not series.isolated and block.dataset not in (BEFORE, AFTER):
            if self._last is None:
                self._last = _Last(tuple(about["shape"]))
            self._last.take(array, chosen, start, state, waited_s)

    def finish(self) -> None:
        """Close what is open: no more blocks will come."""
        for key, current in self._open.items():
            self._close(key, current)
        for key, first_S in self._first.items():
            series = self.series[key]
            series.points[0] = self._following(key, series.points[0], first_S)
            before = self._before.get(series.step.partition("-")[0])
            if series.follows == "first read" and before and not series.isolated and len(series.points) > 1:
                known_S = np.where(before.state == self._states[key], before.known, np.float32(np.nan))
                if np.isfinite(known_S[self._population(key)]).any():
                    at = _point((), {}, known_S, 1, np.nan, None, before.waited_s)
                    series.before = self._following(key, at, known_S)
        self._open.clear()
        self._first.clear()

    def _close(self, key: tuple[str, str], current: _Open) -> None:
        series = self.series[key]
        point = current.close(series)
        if not series.points:
            self._first[key] = current.known.copy()
            self._states[key] = current.state
            series.points.append(point)
            return
        series.points.append(self._following(key, point, current.known))

    def _following(self, key: tuple[str, str], point: Point, known_S: Floats) -> Point:
        """Add what the followed cells conducted."""
        each_read = self.series[key].follows == "each read"
        cells = known_S[(is_conducting(known_S) if each_read else self._population(key)) & ~np.isnan(known_S)]
        if not cells.size:
            return point
        low, middle, high = np.percentile(cells, (25, 50, 75))
        return replace(
            point,
            followed=int(cells.size),
            followed_conducting=int(np.count_nonzero(is_conducting(cells))),
            followed_S=(float(low), float(middle), float(high)),
        )

    def _population(self, key: tuple[str, str]) -> Bools:
        """Return the cells that a series follows: bool[rows, columns]; for ever those that it followed first."""
        if key not in self._followed:
            self._followed[key] = self._chosen(key)
        return self._followed[key]

    def _chosen(self, key: tuple[str, str]) -> Bools:
        series, first_S = self.series[key], self._first_of(key)
        match series.follows:
            case "first read":
                before = self._before.get(series.step.partition("-")[0])
                begun_S = first_S
                if before is not None and not series.isolated:  # not where a pulse came between the two reads
                    same = (before.state == self._states[key]) & np.isfinite(before.known) & (before.state != 1)
                    begun_S = np.where(same, before.known, first_S)
                chosen = is_conducting(begun_S) & np.isfinite(first_S)
            case "first round":
                beside = [each for each in self.series if self.series[each].loop == series.loop]
                chosen = np.any([is_conducting(self._first_of(each)) for each in beside], axis=0)
            case _:
                return np.isfinite(first_S)
        return np.asarray(chosen if self.pristine is None else chosen & ~self.pristine)

    def _first_of(self, key: tuple[str, str]) -> Floats:
        return self._first[key] if key in self._first else self._open[key].known

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
        self.state = np.zeros(shape, np.int8)
        self.waited_s: float | None = None
        self._noise: list[Floats] = []

    def add(self, array: npt.NDArray[Any], chosen: Bools, start: int, state: npt.NDArray[np.int8] | None) -> None:
        self.known[start : start + len(array)][chosen] = array["conductance"][chosen]
        if state is not None:
            self.state[start : start + len(array)] = state
        codes = array["codes"][chosen & is_conducting(array["conductance"])].astype(np.float32)
        self.repeats = max(self.repeats, array["codes"].shape[2])
        if array["codes"].shape[2] >= _ENOUGH_REPEATS and codes.size:
            self._noise.append(codes.std(axis=1, ddof=1) / np.maximum(codes.mean(axis=1), 1))

    def close(self, series: Series) -> Point:
        noise = float(np.median(np.concatenate(self._noise))) if self._noise else np.nan
        reached = series.reached(self.known[~np.isnan(self.known)])
        return _point(self.rounds, self.labels, self.known, self.repeats, noise, reached, self.waited_s)


class _Last:
    """What was read last of each cell: float32[rows, columns] in siemens, and int8, before, between or after pulses."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.known, self.state = np.full(shape, np.nan, np.float32), np.zeros(shape, np.int8)
        self.waited_s: float | None = None

    def take(
        self,
        array: npt.NDArray[Any],
        chosen: Bools,
        start: int,
        state: npt.NDArray[np.int8] | None,
        waited_s: float | None,
    ) -> None:
        rows = slice(start, start + len(array))
        self.known[rows][chosen] = array["conductance"][chosen]
        if state is not None:
            self.state[rows][chosen] = state[chosen]
        self.waited_s = waited_s

    def copy(self) -> _Last:
        found = _Last(self.known.shape)
        found.known, found.state, found.waited_s = self.known.copy(), self.state.copy(), self.waited_s
        return found


def _point(
    rounds: tuple[int, ...],
    labels: dict[str, Any],
    known_S: Floats,
    repeats: int,
    noise: float,
    reached: int | None,
    waited_s: float | None,
) -> Point:
    """Say a read, float32[rows, columns] in siemens with NaN where nothing was read, in figures."""
    cells = known_S[~np.isnan(known_S)]
    conducting = cells[is_conducting(cells)]
    low, middle, high = np.percentile(cells, (25, 50, 75)) if cells.size else (np.nan,) * 3
    return Point(
        rounds,
        labels,
        int(cells.size),
        int(conducting.size),
        float(cells.min()) if cells.size else np.nan,
        (float(low), float(middle), float(high)),
        float(cells.max()) if cells.size else np.nan,
        float(np.median(conducting)) if conducting.size else np.nan,
        repeats,
        noise,
        reached,
        waited_s,
    )


def _follows(plan: Plan | None, outermost: str) -> Follows:
    """Choose which cells a loop's figures follow, by what its steps pulse."""
    number = int(outermost) if outermost.isdecimal() else 0
    steps = plan.steps[number : number + 1] if plan is not None else ()
    kinds = {each.step.stresses for each in leaves(steps)} - {None}
    return "each read" if "electroform" in kinds else "first round" if kinds else "first read"


@dataclass(frozen=True)
class Axis:
    """What a series is drawn over, ``points`` one by one. ``ticks``: words in place of numbers, one a point."""

    label: str
    values: tuple[float, ...]
    logarithmic: bool
    points: tuple[Point, ...]
    ticks: tuple[str, ...] = ()


def axes_of(all_series: Sequence[Series]) -> list[Axis]:
    """Choose what the series of one loop are drawn over: the time waited, the label of the loop, or the number of the round.

    Time begins with the last read of the cells before the loop, which is then the first point, or with the loop. It is that
    of the waits, all together, in the unit that a person would take. Logarithmic where two decades are spanned.
    """
    times = [_times(series) for series in all_series]
    unit, many = time_unit(at for each in times if each is not None for at, _ in each)
    return [_axis(series, found, unit, many) for series, found in zip(all_series, times, strict=True)]


def _times(series: Series) -> list[tuple[float, Point]] | None:
    """Return the points of a series with how long was waited before each; None where that is not what tells them apart."""
    waits = [point.waited_s for point in series.points]
    began = series.began_s if series.before is None else series.before.waited_s
    if series.program or began is None or len(set(waits)) < 2 or _label(series.points[-1])[2] not in ("", "s"):
        return None
    points = [*([series.before] if series.before else []), *series.points]
    return [(point.waited_s - began, point) for point in points if point.waited_s is not None]


def _axis(series: Series, times: list[tuple[float, Point]] | None, unit: str, many: float) -> Axis:
    points = tuple(series.points)
    if series.program:
        return Axis("verification", tuple(float(number) for number in range(len(points))), False, points)
    if times is not None:
        return _numeric(f"time waited ({unit})", [at / many for at, _ in times], tuple(point for _, point in times))
    name, value, of = _label(points[-1])
    if name and isinstance(value, (int, float)):
        values = [float(_label(point)[1]) for point in points]
        if len(set(values)) == len(values):
            scale = time_unit(values) if of == "s" else (of, 1.0)
            return _numeric(f"{name} ({scale[0]})" if of else name, [each / scale[1] for each in values], points)
    if name and len(points) <= 24:
        words = tuple(f"{_label(point)[1]}{f' {of}' if of else ''}" for point in points)
        return Axis(name, tuple(float(number) for number in range(len(points))), False, points, words)
    return _numeric("round", [float(number) for number in range(len(points))], points)


def _numeric(label: str, values: Sequence[float], points: tuple[Point, ...]) -> Axis:
    positive = [value for value in values if value > 0]
    decades = len(positive) > 2 and min(values) >= 0 and max(positive) / min(positive) >= 100
    return Axis(label, tuple(values), decades, points)


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
