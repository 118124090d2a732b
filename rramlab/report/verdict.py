"""How a run ended, in words: the verdict, why, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rramlab.report.findings import Findings
from rramlab.report.shell import Tone


@dataclass(frozen=True)
class Verdict:
    """``advice``: what to do next, sentence by sentence; ``command``: what to type for it, if anything."""

    tone: Tone
    headline: str
    reason: str
    advice: str
    command: str = ""


def verdict(found: Findings) -> Verdict:
    """Judge a run by its record; what is not written down is not guessed."""
    record = found.record
    status, reason = str(record["status"]), str(record.get("reason") or "")
    failed = [check for check in checks(found) if not check.get("passed")]
    interactive = record.get("name") == "interactive"
    arm = f" --arm {record['die']}" if found.destructive else ""
    resume = "" if interactive else f"rramlab resume {found.id}{arm}"
    goes_on = f"Then go on with it{'; no cell gets a pulse twice' if found.destructive else ''}."
    if interactive:
        goes_on = "It had no plan, so there is nothing to resume."
    match status:
        case "done":
            return _done(found, failed)
        case "running" if found.busy:
            advice = (
                "The bench is in use: this run goes on, or its process died and another one has the bench. This page tells "
                "what was written so far; make it again when the run is over."
            )
            return Verdict("warn", "Not finished", reason, advice)
        case "running":
            advice = (
                f"What was measured is whole. Pulses that were under way are decided when the run goes on. {goes_on}"
            )
            return Verdict(
                "bad", "Interrupted: its process is gone, and nobody wrote how it ended", reason, advice, resume
            )
        case "stopped":
            return Verdict("warn", "Stopped by the user", reason, f"The bench was left safe. {goes_on}", resume)
        case "refused":
            headline = "Refused: a limit, a missing arming or a missing precondition forbade it"
            return Verdict("warn", headline, reason, f"Change what the reason names. {goes_on}", resume)
        case "failed" if record.get("complete") and record.get("flaws"):
            headline = "Carried out to its end, but not all that it asked for was measured, or is still there"
            advice = "The table of checks lists what; the rest is whole. No pulse is given again by a resume."
            return Verdict("bad", headline, reason, advice)
        case "failed" if failed or _contact_failed(found):
            advice = "Find out why before more cells are pulsed: the reason says where to look."
            return Verdict("bad", "Failed: a measurement was not as expected", reason, f"{advice} {goes_on}", resume)
        case "failed":
            return Verdict("bad", "Failed", reason, f"Set right what the reason names. {goes_on}", resume)
        case _:
            return Verdict("bad", f"Of unknown status {status!r}", reason, "Look at run.json in the run's folder.")


def _done(found: Findings, failed: list[dict[str, Any]]) -> Verdict:
    every = checks(found)
    if failed:
        headline = f"Done, but {len(failed)} of {len(every)} checks failed"
        return Verdict("bad", headline, "", "The table of checks says which, and by how much.")
    if found.unknown:
        headline = f"Done; of {found.unknown:,} cells nobody can say whether they had their pulse"
        return Verdict("warn", headline, "", "They are not pulsed again. Leave them out, or read them and decide.")
    if every:
        return Verdict("good", f"Done: {'the check' if len(every) == 1 else f'all {len(every)} checks'} passed", "", "")
    if found.record.get("contact"):
        return Verdict("good", "Done: the contact test passed, nothing else was checked", "", "")
    return Verdict("good", "Done; nothing was checked", "", "")


def _contact_failed(found: Findings) -> bool:
    contact = found.record.get("contact")
    return isinstance(contact, dict) and not contact.get("passed", True)


def checks(found: Findings) -> list[dict[str, Any]]:
    """Return every judgement in the run's record, the pilot's and the bystanders' among them."""
    every = found.record.get("checks") or []
    return [check for check in every if isinstance(check, dict)]
