"""The report of a run: one HTML file that needs nothing else, to be looked at, printed and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rramlab
from rramlab.base.times import wall
from rramlab.macro.cells import is_conducting
from rramlab.report import origins, sections
from rramlab.report.findings import Findings
from rramlab.report.markup import Html, section, tag
from rramlab.report.runfigures import known, pictures
from rramlab.report.shell import Written, document, strip, verdict_box, write
from rramlab.report.verdict import Verdict, checks, verdict
from rramlab.report.wording import clock, percent


def write_report(found: Findings, path: Path, figures: Path | None = None) -> Written:
    """Write the report of a run; with ``figures`` also every figure of it as PNG and PDF into that folder."""
    made = write(path, page(found), pictures(found), figures, f"{found.record['die']}, {found.id}")
    return Written(path, made, verdict(found).headline, tuple(found.problems))


def page(found: Findings) -> str:
    """Return the whole page."""
    shown, judgement = pictures(found), verdict(found)
    parts = [
        sections.judged(found),
        sections.probed(found, shown),
        sections.references(found),
        sections.products(found, shown),
        sections.rounds(found, shown),
        sections.die(found, shown),
        sections.pulses(found),
        sections.contact(found, shown),
        origins.when(found),
        origins.parameters(found),
        origins.bounds(found),
        origins.provenance(found),
        origins.texts(found),
        _problems(found),
    ]
    title = f"{found.record['name']} on {found.record['die']}: {judgement.headline}"
    return document(title, _header(found, judgement), _strip(found), tag("main", *parts), _footer(found))


def _header(found: Findings, judgement: Verdict) -> Html:
    record = found.record
    began, lasted = origins.times(found)
    description = origins.about_protocol(found).get("description")
    ended = verdict_box(
        judgement.tone, judgement.headline, judgement.reason, judgement.advice, judgement.command, role="status"
    )
    return tag(
        "header",
        tag("p", f"Run report · die {record['die']}", class_="eyebrow"),
        tag("h1", str(record["name"])),
        tag("p", str(description), class_="lead") if isinstance(description, str) else None,
        tag("p", tag("code", found.id), f" · {began}{f' · {lasted}' if lasted else ''}", class_="note"),
        ended,
    )


def _strip(found: Findings) -> Html:
    """The run in a handful of figures; what was not measured is left out."""
    tiles: list[tuple[str, str, str]] = []
    given, after = found.given, found.after_S
    pulses = given.pulses if given is not None else found.record.get("pulses")
    if pulses is not None:
        count = int(np.count_nonzero(given.counts)) if given is not None else 0
        cells = f"on {count:,} cell{'' if count == 1 else 's'}" if count else ""
        tiles.append(("pulses", f"{int(pulses):,}", cells))
    if given is not None and after is not None and given.counts.shape == after.shape:
        formed = np.zeros(after.shape, np.bool_)
        for each in given.settings:
            formed |= each.cells & (each.kind == "electroform")
        read = after[formed & ~np.isnan(after)]
        if read.size:
            conducting = int(np.count_nonzero(is_conducting(read)))
            tiles.append(("formed fraction", percent(conducting, read.size), f"{conducting:,} of {read.size:,}"))
    if after is not None and known(after):
        conducting_S = after[is_conducting(after)]
        if conducting_S.size:
            spread = f"ln-σ {np.log(conducting_S).std():.3f}" if conducting_S.size > 1 else ""
            tiles.append(("median, whole die", f"{np.median(conducting_S) * 1e6:.2f} µS", spread or "of one cell"))
        share = f"of {np.count_nonzero(np.isfinite(after)):,} cells read"
        tiles.append(("conducting, whole die", f"{conducting_S.size:,}", share))
    every = checks(found)
    if every:
        tiles.append(("checks passed", f"{sum(bool(each.get('passed')) for each in every)} of {len(every)}", ""))
    if pulses or found.unknown:
        tiles.append(("cells unknown", f"{found.unknown:,}", "" if given is not None else "by the run's record"))
    lasted = origins.times(found)[1]
    if lasted:
        tiles.append(("duration", lasted, ""))
    return strip(tiles, "The run in figures")


def _problems(found: Findings) -> Html | None:
    said = (tag("li", each) for each in found.problems)
    return section("What could not be read", "problems", tag("ul", *said)) if found.problems else None


def _footer(found: Findings) -> Html:
    return tag(
        "footer",
        tag(
            "p",
            f"Made by rramlab {rramlab.__version__} on {clock(wall())} from the folder of run {found.id}.",
        ),
    )
