"""A reproduction as one HTML file that needs nothing else, and its table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rramlab
from rramlab.base.units import show, show_duration
from rramlab.report.markup import Content, Html, facts, section, table, tag
from rramlab.report.pictures import Picture
from rramlab.report.reproduction import pictures
from rramlab.report.shell import Written, document, figures, strip, write
from rramlab.reproduction.results import Results
from rramlab.reproduction.summary import OURS, Gain, Spread, gain
from rramlab.reproduction.tasks import SOURCE

SCORED = ("row", "dies", "on the macro", "host, same noise", "host, ideal")
COSTS = (
    "row",
    "pulses",
    "after forming",
    "re-pruning",
    "conversions a sample",
    "bench time a sample",
    "energy a sample",
)


def write_report(found: Results, path: Path, folder: Path | None = None) -> Written:
    """Write the page; with ``folder`` also every figure as PNG and PDF."""
    shown = drawn(found)
    made = write(path, page(found, shown), {"": shown}, folder, found.title)
    return Written(path, made, headline(found), ())


def drawn(found: Results) -> list[Picture]:
    """Return the figures that what was found allows."""
    shown = [pictures.bars(found.lines, score) for score in found.task.scores]
    if any(outcome.history and outcome.row in pictures.TRAINED for outcome in found.outcomes):
        shown.append(pictures.epochs(found.outcomes, found.lines, found.task.score))
    if any(line.energy_J for line in found.lines):
        shown.append(pictures.energy(found.lines, found.gpu_J))
    shown.append(pictures.pulses(found.lines))
    if found.mask is not None:
        shown.append(pictures.masks(found.mask))
    if found.conductance_S is not None:
        shown.append(pictures.conductances(found.conductance_S))
    if found.confusion is not None:
        shown.append(pictures.confusion(found.confusion, found.classes))
    if found.images:
        shown.append(pictures.segments(found.images["image"], found.images["truth"], found.images["likely"]))
    return shown


def headline(found: Results) -> str:
    """Say in a line what came of it."""
    ours = [line for line in found.lines if line.row in OURS]
    if not ours:
        return "nothing was measured yet"
    score = found.task.score
    first = ours[0]
    where, pulses = "macro" if first.samples else "host", f"{first.pulses_after_forming:,.0f} pulses after forming"
    return f"{pictures.SPOKEN[score]} {spell(first.scores[score])} on the {where}, {pulses}"


def page(found: Results, shown: Sequence[Picture]) -> str:
    """Return the whole page."""
    head = tag(
        "header",
        tag("p", f"Reproduction · {found.memory} memory{' · a quick look' if found.quick else ''}", class_="eyebrow"),
        tag("h1", found.task.recipe),
        tag("p", headline(found), class_="lead"),
        tag("p", found.about, class_="note"),
    )
    body = tag(
        "main",
        section("The table", "table", _table(SCORED, scored(found))),
        section("What it costs", "costs", tag("p", _COSTS_NOTE), _table(COSTS, costs(found))),
        section("What topology gains", "gains", *_gains(found)),
        section("Figures", "figures", figures(shown)),
        section("Energy", "energy-sources", *_energy(found)),
        section(
            "How it was made", "made", facts(found.made), tag("p", "The idea and the published figures: ", SOURCE, ".")
        ),
    )
    return document(f"{found.task.recipe}: {headline(found)}", head, _strip(found), body, _footer())


def _strip(found: Results) -> Html:
    score = found.task.score
    tiles = [
        (
            line.title,
            spell(line.scores[score]),
            f"{pictures.SPOKEN[score]}, {line.dies} die{'s' if line.dies > 1 else ''}",
        )
        for line in found.lines
        if line.row in (*OURS, "single-shot", "dense")
    ]
    return strip(tiles, "The main figures")


def _footer() -> Html:
    return tag("footer", tag("p", f"rramlab {rramlab.__version__}"))


def spell(value: Spread) -> str:
    """Write a mean share with its deviation over dies."""
    return f"{value.mean:.2%}" + (f" ± {value.deviation:.2%}" if value.deviation is not None else "")


def _scores(of: dict[str, Spread], scores: Sequence[str]) -> str:
    """Write the scores of a row; where there are several, with their names."""
    there = [name for name in scores if name in of]
    named = len(scores) > 1
    return "; ".join((f"{pictures.SPOKEN[name]} " if named else "") + spell(of[name]) for name in there)


_COSTS_NOTE = (
    "Pulses of a whole network; re-pruning: those that the training would have sent, had each change of its mask been made on "
    "the die. Time and energy are of the products of one test sample."
)


def _table(head: Sequence[str], rows: Sequence[Sequence[Content]]) -> Content:
    return table(head, rows, numbers=range(1, len(head)))


def scored(found: Results) -> list[list[Content]]:
    """Return the rows of the table of scores, in brackets how many samples the macro computed."""
    scores = found.task.scores
    return [
        [
            line.title,
            str(line.dies),
            f"{_scores(line.scores, scores)} ({line.samples:,})" if line.samples else "",
            _scores(line.host, scores) or ("" if line.samples else _scores(line.scores, scores)),
            _scores(line.ideal, scores),
        ]
        for line in found.lines
    ]


def costs(found: Results) -> list[list[Content]]:
    """Return the rows of the table of costs; software has none."""
    return [
        [
            line.title,
            f"{sum(line.pulses.values()):,.0f}" if line.pulses else "0",
            f"{line.pulses_after_forming:,.0f}",
            f"{sum(line.repruning.values()):,.0f}" if line.repruning else "",
            f"{line.conversions:,.0f}" if line.conversions else "",
            show_duration(line.time_s) if line.time_s else "",
            show(line.energy_total_J, "J", 3) if line.energy_J else "",
        ]
        for line in found.lines
        if line.samples
    ]


def _gains(found: Results) -> list[Content]:
    """The gain over every other row, beside the published one, and what is saved."""
    tables = [table(head, rows, numbers=range(1, len(head))) for head, rows in gain_tables(found) if rows]
    return [tag("p", _fair(found)), *tables]


def gain_tables(found: Results) -> list[tuple[list[str], list[list[Content]]]]:
    """Return heads and rows of what our rows gain over each other one, and of the pulses and the energy that they save."""
    ours = [line for line in found.lines if line.row in OURS]
    others = [line for line in found.lines if line.row not in OURS] if ours else []
    over = {line.row: [gain(found.task, each, line) for each in ours] for line in others}
    titles = [line.title for line in ours]
    gained: list[list[Content]] = [[line.title, *map(_spell_gain, over[line.row])] for line in others]
    tables = [(["over", *titles], gained)]
    for what in ("pulses", "energy"):
        saved: list[list[Content]] = [
            [line.title, *(_spell_saved(getattr(each, what)) for each in over[line.row])]
            for line in others
            if line.samples
        ]
        tables.append(([f"{what} saved over", *titles], saved))
    return tables


def _spell_gain(found: Gain) -> str:
    return f"{100 * found.points:+.1f} points ({found.relative:+.1%}{', host' if found.host else ''})"


def _spell_saved(saved: float | None) -> str:
    """Write which share is saved, or how many times as much is spent."""
    if saved is None:
        return ""
    if saved < -0.05:
        return f"{1 - saved:.1f} × as much"
    return f"{-saved:.1%} more" if saved <= -0.0005 else f"{max(saved, 0.0):.1%}"


def _fair(found: Results) -> str:
    published = found.task.published
    unit = "points of accuracy" if published.score == "accuracy" else "% of PR-AUC"
    return (
        f"In points of {pictures.SPOKEN[found.task.score]}, in brackets as a share of what the other has; saved is "
        f"a share of what the other spends. Published: +{published.gain} {unit} and "
        f"{published.energy_reduction:.1%} less energy; the public text does not say over what. The fair comparison is with "
        "weights that were trained in the usual way and written once into each cell: the same macro, the same converters, and "
        "like ours one pulse a cell and no read on the way. The random network unpruned has learned nothing at all, so a gain "
        "over it says little."
    )


def _energy(found: Results) -> list[Content]:
    rows: list[Sequence[Content]] = [[name, text] for name, text in found.energy_sources]
    return [table(["component", "from"], rows)] if rows else []


def markdown(found: Results) -> str:
    """Return the tables for people who read text."""
    return "\n".join(
        _markdown(head, rows)
        for head, rows in ((SCORED, scored(found)), (COSTS, costs(found)), *gain_tables(found))
        if rows
    )


def _markdown(heads: Sequence[str], found: Sequence[Sequence[Content]]) -> str:
    rows = [[str(cell or "") for cell in row] for row in found]
    kept = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    text = [f"| {' | '.join(heads[index] for index in kept)} |", f"|{'---|' * len(kept)}"]
    text += [f"| {' | '.join(row[index] for index in kept)} |" for row in rows]
    return "\n".join(text) + "\n"
