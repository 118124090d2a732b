"""The calibration report: one HTML file that needs nothing else, to be looked at, printed and kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import rramlab
from rramlab.records.files import BoardRecord, Kept
from rramlab.records.sections import FormingSection, NoiseSection, Section
from rramlab.records.values import DAY_S
from rramlab.report.calibration.boardfigures import board_pictures
from rramlab.report.calibration.budget import (
    REPEATS,
    TYPICAL_S,
    Reading,
    budget_pictures,
    budget_section,
    readings,
    why_none,
    wrong_below,
)
from rramlab.report.calibration.contents import contents
from rramlab.report.calibration.diefigures import die_pictures
from rramlab.report.calibration.findings import Findings
from rramlab.report.calibration.judging import Judgement, Part, headline, parts
from rramlab.report.calibration.methods import method
from rramlab.report.markup import Html, facts, section, table, tag
from rramlab.report.pictures import Picture
from rramlab.report.shell import Rows, Written, document, figures, mark, shortened, strip, verdict_box, write
from rramlab.report.wording import clock

_CHECKED = {
    "whole": "it says what it said when it was written or accepted",
    "changed": "it was changed by hand, and nobody has accepted that",
    "unsummed": "none: it was written by rramlab 0.1.0",
}


def write_report(found: Findings, path: Path, folder: Path | None = None) -> Written:
    """Write the report of some records; with ``folder`` also every figure of it as PNG and PDF into that."""
    shown = pictures(found)
    made = write(path, page(found), shown, folder, f"{_subject(found)}, {found.now:%Y-%m-%d}")
    return Written(path, made, headline(found, parts(found)).words, found.problems)


def pictures(found: Findings) -> dict[str, list[Picture]]:
    """Return the pictures by the anchor of the section that they belong to."""
    shown: dict[str, list[Picture]] = {}
    for kept in found.records:
        label = found.label(kept)
        groups = board_pictures(kept, label) if isinstance(kept.record, BoardRecord) else die_pictures(kept, label)
        shown |= {f"{label}-{name}": group for name, group in groups.items() if group}
    for reading in readings(found):
        shown[f"{reading.label}-budget"] = budget_pictures(reading)
    return shown


def page(found: Findings) -> str:
    """Return the whole page."""
    shown, listed, budgets = pictures(found), parts(found), readings(found)
    judgement = headline(found, listed)
    main = tag(
        "main",
        _overview(found, listed),
        _origins(found, listed),
        *(_section(found, part, shown) for part in listed if part.section is not None),
        *(budget_section(each, shown.get(f"{each.label}-budget", ()), listed) for each in budgets),
        _missing(found, listed, budgets),
        _problems(found),
    )
    title = f"Calibration of {_subject(found)}: {judgement.words}"
    return document(title, _header(found, judgement), _strip(listed, budgets), main, _footer(found))


def _subject(found: Findings) -> str:
    names = [f"{kept.record.kind} {kept.record.owner}" for kept in found.records]
    return " and ".join(dict.fromkeys(names))


def _header(found: Findings, judgement: Judgement) -> Html:
    subject = _subject(found)
    judged = f"Judged on {clock(found.now)}, on the bench of board {found.board}"
    if found.temperature_C is not None:
        judged += f", at {found.temperature_C:.4g} °C: what the board said at its last run, {found.as_of}"
    else:
        judged += "; the board's temperature is not known, since it has made no run here"
    return tag(
        "header",
        tag("p", "Calibration report", class_="eyebrow"),
        tag("h1", f"{subject[0].upper()}{subject[1:]}"),
        tag("p", f"{judged}.", class_="note whole"),
        verdict_box(judgement.tone, judgement.words, judgement.reason, role="status"),
    )


def _strip(listed: Sequence[Part], budgets: Sequence[Reading]) -> Html:
    """The calibration in a handful of figures; what does not hold is left out."""
    measured = [each for each in listed if each.section is not None]
    hold = sum(each.judgement.tone == "good" for each in measured)
    tiles = [("sections that hold", f"{hold} of {len(measured)}", "of those measured")]
    ends = [_until(each.section) for each in measured if each.section is not None and each.judgement.tone == "good"]
    if ends:
        tiles.append(("all of these until", f"{min(ends):%Y-%m-%d}", "unless the temperature leaves its window"))
    for each in budgets:
        if wrong_below(each, listed):
            continue
        budget = each.budget(TYPICAL_S, REPEATS)
        on = f"{each.die}, " if len(budgets) > 1 else ""
        tiles.append(("scale of all conductances", f"{each.adc.scale_uncertainty:.3%}", "standard uncertainty"))
        tiles.append(
            (
                f"a read of {TYPICAL_S * 1e6:g} µS",
                f"± {budget.expanded_S / budget.conductance_S:.2%}",
                f"{on}{REPEATS} reads, k = 2",
            )
        )
    for part in measured:
        match part.section:
            case NoiseSection() as noise if part.judgement.tone == "good":
                tiles.append(("noise of one read", f"{noise.read.value:.2%}", f"of the conductance, {noise.die}"))
            case FormingSection() as forming if part.judgement.tone == "good":
                tiles.append(("half of the cells form at", f"{forming.curve.voltage_V(0.5):.3f} V", forming.die))
    return strip(dict.fromkeys(tiles), "The calibration in figures")


def _until(measured: Section) -> datetime:
    return measured.measured_at + timedelta(seconds=measured.valid_for)


def _overview(found: Findings, listed: Sequence[Part]) -> Html | None:
    rows: Rows = []
    for part in listed:
        whose = f"{part.kept.record.kind} {found.label(part.kept)}"
        if part.section is None:
            rows.append((part.title, _verdict(part), whose, "", "", tag("code", part.judgement.command)))
            continue
        about = part.section
        rows.append(
            (
                tag("a", part.title, href=f"#{part.anchor}"),
                _verdict(part),
                whose,
                clock(about.measured_at),
                f"{_until(about):%Y-%m-%d}, {about.valid_for / DAY_S:,.4g} d",
                f"{about.temperature:.4g} °C ± {about.temperature_window:.3g} °C",
            )
        )
    for kind, owner in found.absent:
        command = "rramlab calibrate all" + (f" --die {owner} --arm {owner}" if kind == "die" else "")
        rows.append((f"all of {kind} {owner}", mark("warn", "no record"), "", "", "", tag("code", command)))
    head = ("section", "verdict", "of", "measured", "holds until", "within")
    return section("Verdicts", "verdicts", table(head, rows, "Whether each section holds"))


def _verdict(part: Part) -> Html:
    return mark(part.judgement.tone, part.judgement.words)


def _section(found: Findings, part: Part, shown: dict[str, list[Picture]]) -> Html | None:
    about = part.section
    assert about is not None
    judged = part.judgement
    whose = f"{part.kept.record.kind} {part.kept.record.owner}"
    said = (
        f" · {whose} · measured {clock(about.measured_at)} at {about.temperature:.4g} °C · holds until "
        f"{_until(about):%Y-%m-%d}, within {about.temperature_window:.3g} °C"
    )
    loud = None
    if judged.tone != "good":
        advice = "Measure it again:" if judged.command else ""
        loud = verdict_box(
            judged.tone, judged.words[0].upper() + judged.words[1:], judged.reason, advice, judged.command
        )
    return section(
        part.title,
        part.anchor,
        tag("p", _verdict(part), said, class_="note whole"),
        loud,
        *_laid_out(shown.get(part.anchor, []), [*contents(part.kept, about, found.table)], method(part.name, about)),
    )


def _laid_out(pictures: Sequence[Picture], tables: Sequence[Html | None], said: Html) -> list[Html | None]:
    """Put one picture beside the tables, and several above them; the last two tables stand beside each other."""
    if len(pictures) == 1:
        return [tag("div", figures(pictures), tag("div", *tables, said), class_="beside")]
    *before, last = tables
    if len(tables) > 1:
        return [said, figures(pictures), *before[:-1], tag("div", before[-1], last, class_="beside")]
    return [said, figures(pictures), last]


def _missing(found: Findings, listed: Sequence[Part], budgets: Sequence[Reading]) -> Html | None:
    said = [
        tag(
            "li",
            f"{part.name} of {part.kept.record.kind} {part.kept.record.owner}: not measured; ",
            tag("code", part.judgement.command),
        )
        for part in listed
        if part.section is None
    ]
    said += [tag("li", f"{kind} {owner}: there is no record of it") for kind, owner in found.absent]
    if not budgets:
        said.append(tag("li", why_none(found)))
    return section("What is not there", "missing", tag("ul", *said)) if said else None


def _origins(found: Findings, listed: Sequence[Part]) -> Html | None:
    rows: Rows = [
        (
            part.title,
            tag("code", ", ".join(part.section.runs)),
            "; ".join(_instrument(each) for each in part.section.instruments) or "board alone",
            part.section.software,
            f"{part.section.board}, {part.section.die}",
        )
        for part in listed
        if part.section is not None
    ]
    head = ("section", "runs", "instruments", "software", "board, die in the socket")
    said = (
        "Uncertainties are standard uncertainties u after JCGM 100:2008 (GUM); limits of error of a data sheet are taken as "
        "rectangular, u = limit / √3. 95 % intervals are value ± 1.96 u."
    )
    return section(
        "Origins",
        "origins",
        *(_record_facts(found, kept) for kept in found.records),
        shortened(head, rows, "What each section comes from", ()),
        tag("p", said, class_="note"),
    )


def _record_facts(found: Findings, kept: Kept) -> Html:
    record = kept.record
    newer = found.in_force[record.kind, record.owner].id
    return facts(
        (
            (f"record of {record.kind} {record.owner}", tag("code", kept.id)),
            ("written", f"{clock(record.written_at)}; {'in force' if newer == kept.id else f'{newer} is in force'}"),
            ("check sum", _CHECKED[kept.state]),
            *(("word of a person", str(each)) for each in record.accepted or ()),
            (
                "SHA-256 of its arrays",
                None if record.arrays is None else tag("code", record.arrays.sha256),
            ),
        )
    )


def _instrument(identity: str) -> str:
    """Spell what a unit says it is; standard answers are maker, model, serial number, firmware."""
    said = [each.strip() for each in identity.split(",")]
    if len(said) != 4:
        return identity
    return f"{said[0]} {said[1]}, serial number {said[2]}, firmware {said[3]}"


def _problems(found: Findings) -> Html | None:
    said = (tag("li", each) for each in found.problems)
    return section("What could not be read", "problems", tag("ul", *said)) if found.problems else None


def _footer(found: Findings) -> Html:
    names = ", ".join(kept.id for kept in found.records)
    return tag("footer", tag("p", f"Made by rramlab {rramlab.__version__} on {clock(found.now)} from {names}."))
