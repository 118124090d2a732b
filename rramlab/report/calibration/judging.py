"""Whether a section of a record holds: for the bench it is on, now, at the temperature that the board has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rramlab.records.files import Kept
from rramlab.records.sections import AgreementSection, Section
from rramlab.report.calibration.findings import Findings
from rramlab.report.shell import Tone

TITLES = {
    "dac": "DAC",
    "adc": "Converters",
    "lines": "Lines",
    "linearity": "Linearity of products",
    "agreement": "Board against source-measure unit",
    "forming": "Breakdown voltages",
    "noise": "Noise of reads",
    "wires": "Wires",
}
_PROCEDURES = {"agreement": "smu", "wires": "lines"}  # where the procedure is not called like its section


@dataclass(frozen=True)
class Judgement:
    """``words``: the verdict, such as "expired"; ``reason``: in full, empty where it holds; ``command``: what to do."""

    tone: Tone
    words: str
    reason: str
    command: str


@dataclass(frozen=True)
class Part:
    """One section of one record, with its anchor in the page; ``section`` is None where it was not measured."""

    kept: Kept
    name: str
    anchor: str
    section: Section | None
    judgement: Judgement

    @property
    def title(self) -> str:
        return TITLES[self.name]


def parts(found: Findings) -> list[Part]:
    """Return every section that the records have or could have, record by record."""
    listed = []
    for kept in found.records:
        for name in TITLES:
            if name in type(kept.record).model_fields:
                section = kept.record.sections.get(name)
                listed.append(Part(kept, name, f"{found.label(kept)}-{name}", section, _judge(found, kept, name)))
    return listed


def _judge(found: Findings, kept: Kept, name: str) -> Judgement:
    section, owner = kept.record.sections.get(name), kept.record.owner
    command = f"rramlab calibrate {_PROCEDURES.get(name, name)}"
    if name == "forming":
        command += f" --arm {owner}"
    if section is None:
        return Judgement("warn", "not measured", "", command)
    faults: list[tuple[Tone, str, str]] = []
    kind = kept.record.kind
    if kept.fault:
        faults.append(("bad", "changed by hand", f"stands in a record that nobody vouches for: {kept.fault}"))
    if owner not in ((found.board,) if kind == "board" else found.dies):
        faults.append(("bad", "foreign", f"is of {kind} {owner}, which is not on this bench"))
    elif section.board != found.board:
        faults.append(("bad", "foreign", f"was measured on board {section.board}; on the bench is {found.board}"))
    if (expired := section.fault(found.now, section.temperature)) is not None:
        faults.append(("bad", "expired", expired))
    if found.temperature_C is not None:
        off = section.fault(section.measured_at, found.temperature_C)
        if off is not None:
            faults.append(("bad", "out of window", off))
    if isinstance(section, AgreementSection) and not section.agrees:
        faults.append(("bad", "disagrees", "finds that board and unit disagree by more than their uncertainties allow"))
    in_force = found.in_force[kind, owner]
    if in_force.record.sections.get(name) != section:
        faults.append(("warn", "superseded", f"was measured anew since; {in_force.id} is in force"))
    agrees = ", agrees" if isinstance(section, AgreementSection) and section.agrees else ""
    if not faults:
        return Judgement("good", f"valid{agrees}", "", "")
    tone: Tone = "bad" if any(each == "bad" for each, _, _ in faults) else "warn"
    reason = f"This section {', and it '.join(reason for _, _, reason in faults)}."
    again = any(word in ("expired", "out of window", "disagrees") for _, word, _ in faults)
    return Judgement(tone, ", ".join(word for _, word, _ in faults) + agrees, reason, command if again else "")


def headline(found: Findings, listed: Sequence[Part]) -> Judgement:
    """Return the verdict on all of them."""
    measured = [each for each in listed if each.section is not None]
    wrong = [each for each in measured if each.judgement.tone != "good"]
    missing = [each.title for each in listed if each.section is None]
    missing += [f"all of {kind} {owner}" for kind, owner in found.absent]
    tone: Tone = (
        "bad" if any(each.judgement.tone == "bad" for each in wrong) else "warn" if wrong or missing else "good"
    )
    count = len(measured)
    said = "All sections hold" if count > 1 else "The section holds"
    if missing:
        said = "What was measured holds"
    if wrong:
        said = f"{len(wrong)} of {count} sections {'does' if len(wrong) == 1 else 'do'} not hold"
    if not measured:
        said = "Nothing was measured"
    reasons = [f"{each.title}: {each.judgement.words}." for each in wrong]
    if found.unreadable:
        tone, said = "bad", f"{said}; {len(found.unreadable)} damaged record{'' if len(found.unreadable) == 1 else 's'}"
    if missing:
        reasons.append(f"Not measured: {', '.join(missing)}.")
    return Judgement(tone, said, " ".join(reasons), "")
