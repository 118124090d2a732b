"""The figures of the campaign of kills, and the page that tells them."""

from __future__ import annotations

from collections import Counter

from killing.judging import PROMISES
from killing.watched import INNER, WHAT

PARTS = {"remembered": "the board stays on", "forgotten": "the board is switched off and on after each kill"}

HEAD = """\
# Kills in process

{verdict} Made by
`python benchmarks/kills.py --runs {runs}`, which keeps what is done and goes on where it was stopped. The numbers are in
[kills.json](kills.json).

Each run forms one cell of each pair of a simulated die in process: contact test, pilot block, pulses, reads, a check. Its
process is killed (SIGKILL) at random moments, one to four times, also while it goes on; after each kill `resume` goes on with
it, or `run` where there was no run yet, until it is done. Seven of ten runs are sessions in a forked process on a die of
32 × 16 cells, with row blocks of 1, 2, 4 or 8 rows; in half of these the die's state is written after each row, so that a
kill leaves operations half done; and half of them pulse at 3.45 V, where half of the cells do not conduct afterwards and so
prove nothing. Two of ten are the command `rramlab run electroform --arm …` on such a die, one of ten is that command on a
whole die of 512 × 512. Four kills of ten come at any moment, drawn evenly; six (of sessions) wait for something to
begin, most often an intent, a pulse, an outcome or a block of data, and come within the time that it usually takes.

After each kill everything is looked at through a copy: the ledger opens undamaged, every block of data loads with its
checksum, and the run can be gathered into a `run.h5` that has what the blocks have. In the end the die is compared with one
that was formed by the same plan and left alone.
"""

NOT_COVERED = """\
## What is not covered

* Loss of the computer's power: what the operating system was given survives a killed process, and may not survive that. Files
  and the ledger are synced before they count; that this is enough rests on the disk.
* A die and a board that live on while the host is dead: here the die's process is the one that is killed, and what it was
  doing in the middle of a row has not happened. [faults.md](faults.md) kills host and board apart, over the wire.
* Power that is lost in the middle of an operation without a kill of the host: `tests/engine/test_resume.py`.
"""


def summary(parts: dict[str, list[dict]], settings: dict) -> dict:
    """Return the figures of a campaign as one JSON object. ``parts``: outcomes by the names of ``PARTS``."""
    runs = [each for outcomes in parts.values() for each in outcomes]
    return {
        "benchmark": "kills",
        "ratios": {
            f"runs_as_promised_{part}": sum(each["passed"] for each in outcomes) / len(outcomes)
            for part, outcomes in parts.items()
            if outcomes
        },
        "ratio_to": {f"runs_as_promised_{part}": f"all runs where {what}" for part, what in PARTS.items()},
        **settings,
        "seconds": round(sum(each["seconds"] for each in runs)),
        "parts": {part: _of_part(outcomes) for part, outcomes in parts.items()},
        "hit": _hits(runs),
        "not_as_promised": {
            part: [e["number"] for e in outcomes if not e["passed"]] for part, outcomes in parts.items()
        },
    }


def _of_part(outcomes):
    kills = [kill for each in outcomes for kill in each["kills"]]
    return {
        "runs": len(outcomes),
        "cells": sum(each["cells"] for each in outcomes),
        "violations": {name: sum(each["violations"][name] for each in outcomes) for name in PROMISES},
        "by": dict(Counter(each["by"] for each in outcomes)),
        "kills": len(kills),
        "kills_a_run": {str(n): count for n, count in sorted(Counter(len(e["kills"]) for e in outcomes).items())},
        "ended": dict(Counter(how for each in outcomes for how in each["ended"])),
        "missed": sum(each["missed"] for each in outcomes),
        "before_a_run": sum(not kill["run"] for kill in kills),
        "with_an_open_intent": sum(kill["dangling"] > 0 for kill in kills),
        "with_temporaries": sum(kill["temporaries"] > 0 for kill in kills),
        "after_done": sum(kill["status"] == "done" for kill in kills),
        "not_gathered": sum(not each["gathered"] for each in outcomes),
        "with_unknown": sum(each["unknown"] > 0 for each in outcomes),
        "unknown": sum(each["unknown"] for each in outcomes),
        "unknown_pulsed": sum(each["unknown_pulsed"] for each in outcomes),
    }


def _hits(runs):
    """Return how many kills hit what: what → within → count, of sessions; commands do not show what they do."""
    hits = {what: dict.fromkeys(INNER, 0) for what in WHAT}
    for each in runs:
        for kill in each["kills"]:
            if kill["what"]:
                hits[kill["what"]][kill["within"]] += 1
    return hits


def markdown(found: dict) -> str:
    """Return the page of a summary."""
    parts, bad = found["parts"], found["not_as_promised"]
    runs = sum(part["runs"] for part in parts.values())
    kills = sum(part["kills"] for part in parts.values())
    good = runs - sum(map(len, bad.values()))
    verdict = f"{good:,} of {runs:,} forming runs with {kills:,} kills came out as promised."
    lines = [HEAD.format(verdict=verdict, runs=found["runs"])]
    lines += [*_promises(parts), "", *_ends(parts), "", *_where(found["hit"]), ""]
    for part, numbers in bad.items():
        if numbers:
            lines += [f"Not as promised, where {PARTS[part]}: runs {', '.join(map(str, numbers))}.", ""]
    return "\n".join([*lines, NOT_COVERED])


def _promises(parts):
    yield "| | promised | " + " | ".join(PARTS[part] for part in parts) + " | |"
    yield "|---|---|" + "---|" * (len(parts) + 1)
    for name, what in PROMISES.items():
        counts = [part["violations"][name] for part in parts.values()]
        cells = " | ".join(f"{count:,}" for count in counts)
        yield f"| {what} | 0 | {cells} | {'**fail**' if any(counts) else 'pass'} |"


def _ends(parts):
    for part, found in parts.items():
        kills = ", ".join(f"{number:,} runs had {count}" for count, number in found["kills_a_run"].items())
        yield (
            f"* Where {PARTS[part]}: {found['runs']:,} runs, {found['cells']:,} cells, {found['kills']:,} kills ({kills}); "
            f"{found['missed']:,} more were done before their kill and were begun anew. {found['before_a_run']:,} kills came "
            f"before there was a run, {found['with_an_open_intent']:,} left an intent without an outcome, "
            f"{found['with_temporaries']:,} left temporary files, which nobody reads, and {found['after_done']:,} came when "
            f"the record said done; {found['not_gathered']:,} runs were done and not yet gathered into `run.h5`, which can "
            "be repeated at any time."
        )
        if found["unknown"]:
            yield (
                f"* There {found['with_unknown']:,} runs ended with {found['unknown']:,} unknown cells, of which "
                f"{found['unknown_pulsed']:,} had their pulse, by the die; none of them was pulsed again."
            )


def _where(hit):
    yield "Where the kills hit, as far as sessions show it (commands are killed at any moment and show nothing):"
    yield ""
    yield "| doing | kills | of these in a file's sync | in a rename |"
    yield "|---|---|---|---|"
    for what, within in hit.items():
        yield f"| {what} | {sum(within.values()):,} | {within['sync']:,} | {within['rename']:,} |"
