"""The parts of a run's report that say what it measured and did to the die."""

from __future__ import annotations

from typing import Any

import numpy as np

from rramlab.base.units import show
from rramlab.engine.expectation import say_ages
from rramlab.macro.cells import is_conducting
from rramlab.report.findings import Findings
from rramlab.report.markup import Html, facts, section, tag
from rramlab.report.pictures import Picture
from rramlab.report.rounds import FOLLOWED, Point, Series
from rramlab.report.runfigures import known
from rramlab.report.shell import MOST_ROWS, Rows, figures, mark, shortened
from rramlab.report.verdict import checks
from rramlab.report.wording import percent, quantity, say_check, say_labels

_WHICH = "of the cells that this run pulsed, where there are any among them;"
_GONE = "The die's ledger is not there or cannot be read: "


def die(found: Findings, pictures: dict[str, list[Picture]]) -> Html | None:
    """The maps or why there are none, the histogram, the lines, every data set of cells."""
    notes: list[str] = []
    if found.pulsed:
        if not known(found.before_S):
            notes.append("Before: no cell was read before its first pulse of this run.")
        elif found.before_S is not None and np.isnan(found.before_S).any():
            notes.append(_not_read_before(found))
        if not known(found.after_S):
            notes.append("After: nothing was read since the last pulses; what came of them is not known.")
        if found.given is None:
            notes.append(
                f"{_GONE}cells that were pulsed after their last read of this run cannot be told from the others."
            )
    elif not known(found.after_S):
        notes.append("This run read no cell, so there is no map.")
    said = (tag("p", each, class_="note") for each in notes)
    return section("The die", "die", *said, figures(pictures.get("die", [])), _reads(found))


def _not_read_before(found: Findings) -> str:
    assert found.before_S is not None
    unread = np.isnan(found.before_S)
    said = f"Before: {np.count_nonzero(unread):,} cells were not read before their first pulse of this run"
    if found.given is not None and found.given.others.shape == unread.shape:
        pristine = int(np.count_nonzero(unread & ~found.given.others))
        said += f"; by the ledger {pristine:,} of them were pristine then"
    return f"{said}."


def _reads(found: Findings) -> Html | None:
    """Every data set of cells in figures."""
    rows: Rows = []
    for series in found.reads.series.values():
        last = series.points[-1]
        name = f"step {series.step}: {series.dataset}{', isolated' if series.isolated else ''}"
        rows.append((name, f"{len(series.points):,}", *_figures_of(last)))
    head = (
        "data set",
        "reads",
        "cells",
        "conducting",
        "median of these",
        "quartiles of all",
        "lowest and highest",
        "noise",
    )
    return shortened(head, rows, f"What was read: {_WHICH} figures are those of a data set's last read", range(1, 8))


def _figures_of(point: Point) -> tuple[str, ...]:
    def micro(siemens: float) -> str:
        return f"{siemens * 1e6:.2f}"

    if not point.cells:
        return "0", "none", "none", "none", "none", ""
    low, _, high = point.quartiles_S
    return (
        f"{point.cells:,}" + (f" × {point.repeats}" if point.repeats > 1 else ""),
        percent(point.conducting, point.cells),
        f"{micro(point.median_conducting_S)} µS" if point.conducting else "none",
        f"{micro(low)} to {micro(high)} µS",
        f"{micro(point.lowest_S)} to {micro(point.highest_S)} µS",
        f"{point.noise:.2%}" if np.isfinite(point.noise) else "",
    )


def judged(found: Findings) -> Html | None:
    """Every check, and how loops ended: what was expected, what was found, whether it passed, and of when that was."""
    rows: Rows = []
    for check in checks(found):
        rows.append((say_check(check), _passed(bool(check.get("passed"))), *_judgement_of(check)))
    loops = [each for each in found.record.get("loops") or [] if isinstance(each, dict)]
    for loop in loops:
        reached = "reached" if loop.get("passed") else "not reached"
        rows.append((say_check(loop), reached, *_judgement_of(loop)))
    ages = [f"{say_check(each)}: {said}." for each in (*checks(found), *loops) for said in say_ages(each)]
    compared = found.record.get("bystanders")
    undisturbed = isinstance(compared, int) and compared and all(check.get("passed") for check in checks(found))
    note = ""
    if undisturbed:
        often = "once" if compared == 1 else f"{compared:,} times"
        note = f"Cells beside those that were pulsed were compared {often}; none was disturbed."
    flaws: Rows = [
        (str(each.get("position")), str(each.get("dataset")), str(each.get("reason")))
        for each in found.record.get("flaws") or []
        if isinstance(each, dict)
    ]
    head = ("check", "verdict", "cells", "conducting", "median", "expected")
    return section(
        "Checks",
        "checks",
        shortened(head, rows, "Every judgement of this run", (2, 3, 4)),
        shortened(("step", "data set", "what"), flaws, "What was not measured, or is lost", ()),
        tag("p", note, class_="note") if note else None,
        *(tag("p", said, class_="note") for said in ages[:MOST_ROWS]),
    )


def _judgement_of(check: dict[str, Any]) -> tuple[str, ...]:
    left_out = int(check.get("left_out") or 0)
    return (
        quantity("cells", check.get("cells")) + (f" ({left_out:,} left out)" if left_out else ""),
        percent(float(check.get("formed_fraction") or 0)),
        f"{float(check.get('median_S') or 0) * 1e6:.2f} µS",
        _window(check.get("window")) or str(check.get("reason") or ""),
    )


def _window(window: Any) -> str:
    if not isinstance(window, dict):
        return ""
    parts = [
        f"{name.replace('_', ' ')} {quantity(name, bounds)}"
        for name, bounds in window.items()
        if isinstance(bounds, (list, tuple))
    ]
    return ", ".join(parts)


def _passed(passed: bool) -> Html:
    return mark("good", "passed") if passed else mark("bad", "failed")


def contact(found: Findings, pictures: dict[str, list[Picture]]) -> Html | None:
    """The contact test's verdict, its lines and cells."""
    report = found.record.get("contact")
    if not isinstance(report, dict):
        return None
    wrong = [
        (name.replace("_", " "), f"{len(found_there):,}: {', '.join(str(each) for each in found_there[:40])}")
        for name, found_there in report.items()
        if isinstance(found_there, list) and found_there
    ]
    said = tag("p", _passed(bool(report.get("passed"))), f" {report.get('verdict', '')}.")
    return section(
        "Contact test", "contact", said, facts(wrong) if wrong else None, figures(pictures.get("contact", []))
    )


def pulses(found: Findings) -> Html | None:
    """Pulses by kind, cells that nobody can decide, what was decided after a crash."""
    given = found.given
    decided = [each for each in found.record.get("reconciled") or [] if isinstance(each, dict)]
    parts: list[Html | None] = []
    if given is None and found.pulsed:
        total = found.record.get("pulses")
        said = (
            f"the run's own record says {int(total):,} pulses in all."
            if total is not None
            else "how many is not known."
        )
        parts.append(tag("p", f"{_GONE}{said}", class_="note"))
    if given is not None and given.settings:
        rows: Rows = []
        for each in given.settings:
            chosen = each.cells & ~np.isnan(found.after_S) if found.after_S is not None else np.zeros(0, np.bool_)
            read = found.after_S[chosen] if found.after_S is not None else np.zeros(0, np.float32)
            conducting = read[is_conducting(read)] if read.size else read
            doubt = each.unknown + each.undecided
            rows.append(
                (
                    each.kind,
                    show(each.amplitude_V, "V"),
                    show(each.width_s, "s"),
                    show(each.gate_V, "V"),
                    f"{each.pulses:,}",
                    f"{np.count_nonzero(each.cells):,}",
                    f"{doubt:,}",
                    percent(conducting.size, read.size) if read.size else "not read",
                    f"{np.median(conducting) * 1e6:.2f} µS" if conducting.size else "none",
                )
            )
        head = (
            "kind",
            "amplitude",
            "width",
            "gate",
            "pulses",
            "cells",
            "not decided",
            "conduct at the end",
            "their median",
        )
        parts.append(shortened(head, rows, "Pulses by kind and form, by the die's ledger", range(1, 9)))
        most = int(given.counts.max())
        wear = f"No cell had more than {most} pulse{'' if most == 1 else 's'} of this run."
        parts.append(tag("p", wear, class_="note"))
        if given.unknown.any():
            listed = ", ".join(f"({row}, {column})" for row, column in np.argwhere(given.unknown)[:20].tolist())
            more = " …" if np.count_nonzero(given.unknown) > 20 else ""
            parts.append(tag("p", f"Cells of which nobody knows whether they had their pulse: {listed}{more}. They are not "
                             "pulsed again.", class_="note"))  # fmt: skip
    if decided:
        doubtful = ("operation", "kind", "cells", "pulsed", "unknown", "decided by")
        keys = ("operation", "kind", "cells", "pulsed", "unknown", "decided_by")
        doubts = [[quantity(key, each.get(key, "")) for key in keys] for each in decided]
        parts.append(shortened(doubtful, doubts, "Operations that were in doubt after a crash", (2, 3, 4)))
    return section("Pulses", "pulses", *parts)


def rounds(found: Findings, pictures: dict[str, list[Picture]]) -> Html | None:
    """How data sets went from round to round, and write-verify."""
    parts: list[Html | None] = [figures(pictures.get("rounds", []))]
    for loop, all_series in found.reads.loops.items():
        tables = (_round_table(series) for series in all_series)
        parts.append(tag("details", tag("summary", f"Every round of step {loop} in figures"), *tables))
    programs = [each for each in found.record.get("programs") or [] if isinstance(each, dict)]
    keys = ("dataset", "cells", "reached", "pulses", "most_pulses", "rounds", "tolerance_S", "rms_error_S")
    verified = (
        "write-verify",
        "cells",
        "in tolerance",
        "pulses",
        "most a cell",
        "verifications",
        "tolerance",
        "RMS error",
    )
    done = [[quantity(key, each.get(key, "")) for key in keys] for each in programs]
    parts.append(shortened(verified, done, "Write-verify", range(1, 8)))
    return section("Rounds", "rounds", *parts)


def _round_table(series: Series) -> Html | None:
    """Every round of a series in figures; where there is one the read before the loop comes first."""
    rows: Rows = []
    began = series.began_s if series.before is None else series.before.waited_s
    for point in (*([series.before] if series.before else ()), *series.points):
        reached = percent(point.reached, point.cells) if point.reached is not None else ""
        waited = "" if point.waited_s is None or began is None else show(point.waited_s - began, "s")
        low, middle, high = (f"{siemens * 1e6:.2f}" for siemens in point.followed_S)
        rows.append(
            (
                "before" if point is series.before else ".".join(str(each) for each in point.rounds),
                say_labels(point.labels),
                waited,
                *_figures_of(point)[:3],
                f"{point.followed:,}",
                f"{middle} µS, {low} to {high}" if point.followed else "none",
                reached,
            )
        )
    head = (
        "round", "label", "waited", "cells", "conducting", "median of these", "followed", "their median, quartiles",
        "in tolerance",
    )  # fmt: skip
    return shortened(head, rows, f"Data set {series.dataset}; followed: {FOLLOWED[series.follows]}", range(2, 9))


def probed(found: Findings, pictures: dict[str, list[Picture]]) -> Html | None:
    """Sweeps and routes at a source-measure unit."""
    rows: Rows = []
    for each in (*(found.record.get("sweeps") or ()), *(found.record.get("routes") or ())):
        what = each.get("target") or f"{each.get('kind')} sweep of cell ({each.get('row')}, {each.get('column')})"
        if each.get("lost"):
            rows.append(
                (str(what), "its curve was lost with a process that was killed; it is not repeated", "", "", "", "", "")
            )
            continue
        conductance = each.get("conductance_S")
        at = f" at {show(each['at_V'], 'V')}" if each.get("at_V") else ""
        rows.append(
            (
                str(what),
                f"{int(each.get('points', 0)):,}",
                f"{len(each['bad']):,}" if each.get("bad") else "",
                f"{int(each.get('in_compliance', 0)):,}",
                show(float(each.get("max_current_A", 0.0)), "A"),
                f"{show(conductance, 'S')}{at}" if conductance is not None else "none",
                str(each.get("smu", "")),
            )
        )
    head = ("what", "points", "not measured", "in compliance", "highest current", "conductance", "unit")
    return section(
        "Source-measure unit",
        "probed",
        figures(pictures.get("curves", [])),
        shortened(head, rows, "Sweeps and routes", (1, 2, 3, 4, 5)),
    )


def references(found: Findings) -> Html | None:
    """Reference resistors, as the converters saw them."""
    rows: Rows = [
        (
            str(each.get("dataset")),
            "open inputs" if each.get("resistor") is None else f"resistor {each['resistor']}",
            str(each.get("range")),
            show(float(each.get("voltage_V", 0.0)), "V"),
            f"{int(each.get('columns', 0)):,} × {int(each.get('repeats', 0)):,}",
            f"{float(each.get('mean_code', 0.0)):.1f}",
            f"{float(each.get('column_spread_code', 0.0)):.1f}",
            f"{int(each.get('saturated', 0)):,}",
        )
        for each in found.record.get("references") or ()
    ]
    head = ("data set", "what", "range", "voltage", "conversions", "mean code", "spread of columns", "saturated")
    return section(
        "Reference reads",
        "references",
        shortened(head, rows, "Reference resistors by the board's converters", range(3, 8)),
    )


def products(found: Findings, pictures: dict[str, list[Picture]]) -> Html | None:
    """Multiplies."""
    keys = ("dataset", "vectors", "columns", "mean_S", "column_spread_S", "vector_spread_S", "saturated")
    head = ("data set", "vectors", "columns", "mean", "spread of columns", "spread of vectors", "saturated conversions")
    rows: Rows = [
        tuple(quantity(key, each.get(key, "")) for key in keys) for each in found.record.get("products") or ()
    ]
    return section(
        "Multiplies", "products", figures(pictures.get("products", [])), shortened(head, rows, "Products", range(1, 7))
    )
