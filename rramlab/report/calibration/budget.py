"""The budget of uncertainties in a report: its table, what reads of other cells and of other length come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rramlab.base.units import show
from rramlab.calibration.budget import COVERAGE_FACTOR, Budget, Contribution, of_read, read_code_S
from rramlab.drivers.smu.smufile import Accuracy
from rramlab.records.applied import calibration_of
from rramlab.records.files import BoardRecord, DieRecord, Kept
from rramlab.records.sections import AdcSection, NoiseSection
from rramlab.report.calibration.drawing import SIZE
from rramlab.report.calibration.findings import Findings
from rramlab.report.calibration.judging import Part
from rramlab.report.calibration.values import known_to, spell
from rramlab.report.markup import Html, join, section, table, tag
from rramlab.report.pictures import Picture
from rramlab.report.shell import Rows, figures, verdict_box
from rramlab.report.theme import DASHES, ONE, SERIES, SOFT
from rramlab.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPICAL_S = 12e-6  # what a formed cell conducts
REPEATS = 64
_BELOW = ("dac", "adc", "noise")  # sections that a budget rests on
_CELLS_S = (0.1e-6, 0.5e-6, 2e-6, 12e-6)  # from pristine to formed
_REPEATS = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Reading:
    """What budgets of reads on one board rest on."""

    label: str  # begins names
    kept: tuple[Kept, ...]  # the records of the board and, if any, of the die
    board: str
    die: str | None
    adc: AdcSection
    code_S: float
    noise: NoiseSection | None
    accuracy: Accuracy | None

    def budget(self, conductance_S: float, repeats: int) -> Budget:
        return of_read(conductance_S, repeats, self.adc, self.code_S, self.noise, self.accuracy)


def readings(found: Findings) -> list[Reading]:
    """Return each board that has its converters measured, with each die whose noise its reads have."""
    listed = []
    for kept, record in found.boards:
        if record.adc is None:
            continue
        code_S = read_code_S(calibration_of(kept, found.table))
        accuracy = next((found.accuracies[each] for each in record.adc.instruments if each in found.accuracies), None)
        dies: Iterable[tuple[Kept, DieRecord] | None] = found.of_dies or [None]
        for die in dies:
            noise = None if die is None else die[1].noise
            name = found.label(kept) if die is None else f"{found.label(kept)}-{found.label(die[0])}"
            records = (kept,) if die is None else (kept, die[0])
            owner = None if die is None else die[1].die
            listed.append(Reading(name, records, record.serial, owner, record.adc, code_S, noise, accuracy))
    return listed


def why_none(found: Findings) -> str:
    """Say why there is no budget."""
    if not found.boards:
        return "There is no budget of a read: it rests on a board's record, which is not part of this report."
    boards: Sequence[tuple[Kept, BoardRecord]] = found.boards
    return f"There is no budget of a read: the converters of {boards[0][1].serial} were not measured (rramlab calibrate adc)."


def wrong_below(reading: Reading, listed: Sequence[Part]) -> list[Part]:
    """Return the sections that a budget rests on and that do not hold."""
    below = [each for each in listed if each.section is not None and any(each.kept is kept for kept in reading.kept)]
    return [each for each in below if each.name in _BELOW and each.judgement.tone != "good"]


def budget_section(reading: Reading, pictures: Sequence[Picture], listed: Sequence[Part]) -> Html | None:
    """Return the section of one budget."""
    wrong = wrong_below(reading, listed)
    loud = None
    if wrong:
        reason = " ".join(f"{each.title}: {each.judgement.words}." for each in wrong)
        loud = verdict_box(wrong[0].judgement.tone, "It rests on sections that do not hold", reason)
    budget = reading.budget(TYPICAL_S, REPEATS)
    on = f"board {reading.board}" + (f", die {reading.die}" if reading.die else "")
    measurand = (
        f"Measurand: the conductance between the ends of a cell's lines on {on}, {show(budget.conductance_S, 'S')}, as the "
        f"mean of {budget.repeats} reads in a column of mean gain. After JCGM 100:2008 (GUM)."
    )
    result = (
        f"G = {spell(budget.conductance_S, budget.expanded_S, 'S')} ± {known_to(budget.expanded_S, 'S')} "
        f"({budget.expanded_S / budget.conductance_S:.2%}): expanded uncertainty U = k u, k = {COVERAGE_FACTOR:g}, about 95 %; "
        f"effective degrees of freedom {_freedom(budget.freedom)}."
    )
    notes = [
        "Gain and offset of a column come from one straight line and are negatively correlated; they are added as if they "
        "were not, which overstates.",
        "Not part of it: what the lines take off (see Lines and Wires), levels that a cell changes to by itself (see Noise), "
        "drift since the calibration, and the temperature within its window.",
    ]
    if reading.noise is None:
        notes.insert(
            0,
            "The noise of reads was not measured of this die: the figure is assumed. Measure it: rramlab calibrate noise",
        )
    if reading.accuracy is None and reading.adc.references:
        notes.insert(0, "No driver file on this bench says how accurate the unit is that measured the resistors, so its part "
                     "stands as one row, as the record has it.")  # fmt: skip
    return section(
        "Budget of uncertainties",
        f"{reading.label}-budget",
        loud,
        tag("p", measurand),
        _table(budget),
        tag("p", tag("strong", result), class_="lead"),
        figures(pictures),
        _grid(reading),
        tag("ul", *(tag("li", each) for each in notes), class_="note"),
    )


def _table(budget: Budget) -> Html:
    rows: Rows = [
        (
            join((row.name, tag("small", row.source))),
            row.kind,
            row.law,
            _size(row),
            _divisor(row),
            _sensitivity(row),
            show(row.uncertainty_S, "S", 3),
            percent(budget.share(row)),
        )
        for row in budget.rows
    ]
    rows.append(("combined standard uncertainty", "", "normal", "", "", "", show(budget.combined_S, "S", 3), "100%"))
    rows.append(
        (f"expanded uncertainty, k = {COVERAGE_FACTOR:g}", "", "", "", "", "", show(budget.expanded_S, "S", 3), "")
    )
    head = ("contribution", "type", "distribution", "limit or σ", "divisor", "sensitivity", "u(G)", "of variance")
    caption = f"Budget of {show(budget.conductance_S, 'S')}, mean of {budget.repeats} reads"
    return table(head, rows, caption, (3, 4, 5, 6, 7))


def _size(row: Contribution) -> str:
    if row.unit == "":
        return f"{row.size:.2%}" if row.size >= 0.01 else f"{row.size * 100:.2g}%"
    if row.unit == "code":
        return f"{row.size:.2g} codes"
    return ("± " if row.law == "rectangular" else "") + show(row.size, row.unit, 3)


def _divisor(row: Contribution) -> str:
    rest = row.divisor / math.sqrt(3) if row.law == "rectangular" else row.divisor
    said = f"{rest:.3g}"
    if row.law == "normal":
        return said
    return "√3" if said == "1" else f"√3 × {said}"


def _sensitivity(row: Contribution) -> str:
    said = show(row.sensitivity, "S", 3)
    return {"": said, "code": f"{said} a code"}.get(row.unit, f"{said}/{row.unit}")


def _freedom(value: float) -> str:
    return "above 1,000" if value > 1000 else f"{value:.0f}"


def _grid(reading: Reading) -> Html:
    rows: Rows = []
    for conductance_S in _CELLS_S:
        budgets = [reading.budget(conductance_S, repeats) for repeats in _REPEATS]
        rows.append((show(conductance_S, "S"), *(f"{each.expanded_S / each.conductance_S:.2%}" for each in budgets)))
    head = ("conductance", *(_reads(repeats) for repeats in _REPEATS))
    return table(head, rows, "Expanded uncertainty (k = 2) of other reads, relative", range(1, len(head)))


def _reads(repeats: int) -> str:
    return f"{repeats:,} read{'' if repeats == 1 else 's'}"


def budget_pictures(reading: Reading) -> list[Picture]:
    """Return what contributes how much, and what more reads are good for."""
    budget = reading.budget(TYPICAL_S, REPEATS)
    largest = max(budget.rows, key=budget.share)
    said = f"largest: {largest.name}, {percent(budget.share(largest))}"
    floor = budget.scale * COVERAGE_FACTOR
    return [
        Picture(
            f"{reading.label}-budget-shares", "What the uncertainty is made of",
            f"Share of each contribution in the variance of a read of {show(TYPICAL_S, 'S')}: {said}.",
            lambda figure: _draw_shares(figure, budget), SIZE,
            f"Standard uncertainties of {show(TYPICAL_S, 'S')}, mean of {REPEATS} reads; {said}.",
        ),
        Picture(
            f"{reading.label}-budget-reads", "What more reads are good for",
            f"Expanded uncertainty over the conductance, down to {floor:.2%}, which all conductances share.",
            lambda figure: _draw_reads(figure, reading, floor), SIZE,
            "Expanded uncertainty, k = 2. More reads average noise and rounding, not what the source-measure unit is off by.",
        ),
    ]  # fmt: skip


def _draw_shares(figure: Figure, budget: Budget) -> None:
    axes = figure.subplots()
    rows = sorted(budget.rows, key=lambda row: row.uncertainty_S)
    sizes = [row.uncertainty_S * 1e9 for row in rows]
    axes.barh(range(len(rows)), sizes, color=ONE, alpha=0.8, height=0.62)
    combined = budget.combined_S * 1e9
    axes.axvline(combined, color=SOFT, linestyle="--", linewidth=1, label="combined")
    for place, row in enumerate(rows):
        axes.text(1.03 * combined, place, percent(budget.share(row)), va="center", fontsize=8)
    axes.text(1.03 * combined, len(rows) - 0.45, "of variance", va="center", fontsize=8, color=SOFT)
    axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows])
    axes.set(xlabel="standard uncertainty (nS)", xlim=(0, 1.24 * combined), ylim=(-0.6, len(rows) - 0.2))
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", bbox_to_anchor=(0.82, 0.0))


def _short(name: str) -> str:
    return name.partition(",")[0].replace(" over the mean", "")


def _draw_reads(figure: Figure, reading: Reading, floor: float) -> None:
    axes = figure.subplots()
    cells_S = np.geomspace(0.2e-6, 25e-6, 80)
    for number, repeats in enumerate((1, 16, 256, 4096)):
        found = [reading.budget(float(each), repeats).expanded_S / each for each in cells_S]
        axes.plot(
            cells_S * 1e6, 100 * np.array(found), color=SERIES[number], linestyle=DASHES[number], label=_reads(repeats)
        )
    axes.axhline(100 * floor, color=SOFT, linestyle=":", linewidth=1.2, label="scale alone")
    axes.set(xlabel="conductance (µS)", ylabel="expanded uncertainty (%)", xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.grid(which="major")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
