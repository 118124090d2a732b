"""What a campaign of flipped bits has found, as figures and as a page."""

from __future__ import annotations

from collections import Counter

from flipping.flip import FAILURES, VERDICTS
from flipping.kinds import KINDS

_MOST_LISTED = 200

HEAD = """# Flipped bits

{verdict} Made by
`python benchmarks/flips.py --flips {flips}`, which keeps what is done and goes on where it was stopped. The numbers are in
[flips.json](flips.json).

Three simulated benches are prepared: one that was calibrated, formed, measured and closed; one whose process was killed in the
middle of a pulse, so that the newest operations stand in the ledger's log alone; and a whole die on which a network was
trained, adapted and deployed. Each flip turns one bit of one file over, both drawn evenly; then a user asks what would be asked
first:

* of a ledger and its witnesses: everything that a view of it says; everything that a session says that opens the bench for
  work, and what its guard would allow; where a process was killed, what comes of `resume`, by the die's own counters;
* of a run: its record, plan and provenance; every block, frozen selection and judgement; the gathered file, and an export; of
  the bench's files beside it and its snapshot, what it is repeated with; of `run.h5` what `runs check` says of it;
* of records: `calibrate show` and `history`; what a session converts with on a bench that demands a calibration;
  `calibrate apply`;
* of a last read, a deployment and a training: all that is loaded from them.

Every answer is compared with that of the whole file. It is *refused* by an error that names the file (or the run, record or
training; of a log and of witnesses: the ledger), *said* by a warning that names it, or *harmless*: every answer is the same.
Anything else is not as promised.
"""


def summary(outcomes: list[dict], settings: dict) -> dict:
    """Return the figures of all outcomes."""
    kinds = {kind.name: [each for each in outcomes if each.get("kind") == kind.name] for kind in KINDS}
    failures = [each for each in outcomes if not each["passed"]]
    return {
        "benchmark": "flips",
        "ratios": {"nothing_believed_in_silence": sum(each["passed"] for each in outcomes) / len(outcomes)},
        "ratio_to": {"nothing_believed_in_silence": "all flips: refused, said or harmless"},
        **settings,
        "seconds": round(sum(each["seconds"] for each in outcomes), 1),
        "verdicts": dict(Counter(each["verdict"] for each in outcomes)),
        "kinds": {name: _of(some) for name, some in kinds.items()},
        "beside": dict(Counter(words for each in outcomes for words in each.get("beside", []))),
        "questions": _questions(failures),
        "not_as_promised": [each["number"] for each in failures],
        "failures": [
            {name: each.get(name) for name in ("number", "kind", "file", "byte", "bit", "verdict", "findings")}
            for each in failures[:_MOST_LISTED]
        ],
    }


def _of(outcomes):
    return {
        "flips": len(outcomes),
        "files": len({each["file"] for each in outcomes}),
        **{name: sum(each["verdict"] == name for each in outcomes) for name in (*VERDICTS, *FAILURES)},
    }


def _questions(failures):
    """Return how often which question was not answered as promised, by kind."""
    found = Counter(
        (each.get("kind", ""), finding["question"], finding["verdict"])
        for each in failures
        for finding in each["findings"]
        if finding["verdict"] in FAILURES
    )
    return [[*what, count] for what, count in found.most_common()]


def markdown(found: dict) -> str:
    """Return the page of a summary."""
    flips, bad = found["flips"], len(found["not_as_promised"])
    verdict = f"Of {flips:,} flipped bits {flips - bad:,} were refused, said or harmless, {bad:,} were not."
    lines = [HEAD.format(verdict=verdict, flips=flips), *_table(found)]
    if found["beside"]:
        silent, all_of_them = found["beside"].get("hdf5: silent", 0), found["kinds"]["run.h5"]["flips"]
        lines += [
            "",
            "A reader of HDF5 that knows nothing of rramlab, and so nothing of the sum over the whole file, reads other "
            f"values or words in {silent} of {all_of_them} flips of `run.h5`.",
        ]
    if found["questions"]:
        lines += ["", "| kind | question | not as promised | flips |", "|---|---|---|---|"]
        lines += [
            f"| {kind} | {question} | {FAILURES[why]} | {count:,} |"
            for kind, question, why, count in found["questions"]
        ]
    if bad:
        numbers = ", ".join(map(str, found["not_as_promised"][:_MOST_LISTED]))
        some = f"the first {_MOST_LISTED}" if bad > _MOST_LISTED else "all"
        lines += ["", f"Not as promised, {some}: {numbers}. `--again NUMBER` does one once more, and tells all of it."]
    return "\n".join([*lines, "", NOT_COVERED])


def _table(found):
    yield "| | flips | files | " + " | ".join(VERDICTS) + " | " + " | ".join(FAILURES.values()) + " | |"
    yield "|---|---|---|" + "---|" * (len(VERDICTS) + len(FAILURES) + 1)
    for name, each in found["kinds"].items():
        if not each["flips"]:
            yield f"| {name} | none: there is no such file |" + " |" * (len(VERDICTS) + len(FAILURES) + 2)
            continue
        counts = " | ".join(f"{each[what]:,}" for what in (*VERDICTS, *FAILURES))
        verdict = "**fail**" if any(each[what] for what in FAILURES) else "pass"
        yield f"| {name} | {each['flips']:,} | {each['files']:,} | {counts} | {verdict} |"


NOT_COVERED = """## What is not covered

* Two bits at once, and files that are cut short, lost, or replaced by older copies.
* A person who edits a file and its check sum: sums guard against accidents.
* The files of a bench that a person writes: `bench.yaml`, drivers, protocols.
"""
