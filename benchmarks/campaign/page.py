"""The figures of a campaign, and the page that tells them."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from campaign import deadman, forming

HEAD = """\
# Faults and kills

{verdict} Made by
`python benchmarks/faults.py --runs {runs} --kills {kills}`, which keeps what is done and goes on where it was stopped.
The bench is simulated, as by `rramlab sim serve`; host and bench are processes of their own that speak over TCP or a
pseudo-terminal, and the kills are SIGKILL. The numbers are in [faults.json](faults.json).
"""

FORMING = """\
## Forming a region

Each run forms 256 cells, one of each pair, of a die of 32 × 16: contact test, pilot block, pulses, reads and a check.
All the time {share:g} % of the frames in each direction are dropped, damaged, doubled, delayed by 20 to 300 ms or split. At
a moment drawn uniformly over the run's nominal course something is killed: the host; the board, which comes back with its
memory of operation ids; the board, which comes back without; or the board's supply for a moment, after which the die is as
it was and the memory is lost. A board comes back at the same port or another, at once or when the host has given up. One
run in five is hit a second time. Then the run is resumed, the faults still on, at most {most} times. Half of the runs
pulse at 3.75 V, where nearly every pulsed cell conducts, half at 3.45 V, where half of them do not, and so prove nothing
once the memory is lost.

Judged by the state file of the die, against the host's ledger and the run's record:
"""

DEADMAN = """\
## The dead man's switch

The host is killed at a random moment of a pulse train of six seconds, or while it holds a cell routed to a source-measure
unit (on TCP). How long until every line is at 0 V and the path is open, by the clock in the board's own process, which is
asked nothing meanwhile. Promised is 1 s, the dead-man time of the board's file. A host's last sign of life is up to 0.2 s
older than its death in a train, and up to 0.05 s while it holds a route; the emulated board acts after 0.9 s of silence.
"""

NOT_COVERED = """\
## What is not covered

* A real board, a real loss of power, real cables. A simulated die whose board's process is killed loses what was not yet in its
  state file, some 20 ms of pulses, and the board's memory of them: as if they had not happened. Where the supply is killed
  nothing is lost of the die, but power goes between two turns of the emulator's loop, never inside a row.
* A board that goes silent without a word: a killed process closes its connections, so hosts over TCP learn of it at once.
  They mostly give up before the board is back, even where it is started again at once.
* A host that hangs and lives: to the board its silence is the same.
* The host's own disk: what the operating system was given survives a killed process; a computer that loses power may lose
  files that were not synced. Intents and outcomes of the ledger are synced.
* More than two kills in a run, several dies on one bench, other firmware than the emulator's.
* The output of a source-measure unit stays as it was when its host dies: it has no dead man's switch. The path to the die is
  open, and the next session switches the output off before anything else.
"""


def summary(runs, kills, settings):
    """Return the figures of a campaign as one JSON object."""
    violations = {name: sum(each["violations"][name] for each in runs) for name in forming.PROMISES}
    groups = {}
    for victim in forming.VICTIMS:
        some = [each for each in runs if each["victim"] == victim]
        groups[victim] = {
            "runs": len(some),
            "passed": sum(each["passed"] for each in some),
            "attempts": sum(len(each["attempts"]) for each in some),
            "with_unknown": sum(each["unknown"] > 0 for each in some),
            "unknown": sum(each["unknown"] for each in some),
            "unknown_pulsed": sum(each["unknown_pulsed"] for each in some),
        }
    times = {}
    for what in deadman.WHAT:
        spans = [each["safe_after_s"] for each in kills if each["what"] == what]
        if spans:
            low, median, high = np.quantile(spans, (0.0, 0.5, 1.0)).round(3).tolist()
            passed = sum(each["passed"] for each in kills if each["what"] == what)
            times[what] = {"kills": len(spans), "safe": passed, "min_s": low, "median_s": median, "max_s": high}
            times[what]["tenths_s"] = np.quantile(spans, np.arange(0.1, 1.0, 0.1)).round(3).tolist()
    attempts = [len(each["attempts"]) for each in runs]
    ratios = {"runs_as_promised": runs, "hosts_dead_and_lines_safe": kills}
    return {
        "benchmark": "faults",
        "ratios": {name: sum(each["passed"] for each in some) / len(some) for name, some in ratios.items() if some},
        "ratio_to": {
            "runs_as_promised": "all runs",
            "hosts_dead_and_lines_safe": "all kills; safe within the dead-man time of 1 s",
        },
        **settings,
        "runs": len(runs),
        "kills": len(kills),
        "cells": 256 * len(runs),
        "violations": violations,
        "victims": groups,
        "second_kills": sum(len(each["kills"]) > 1 for each in runs),
        "attempts": {str(count): number for count, number in sorted(Counter(attempts).items())},
        "ended": dict(Counter(attempt["ended"] for each in runs for attempt in each["attempts"])),
        "said": _said(runs),
        "unknown_not_in_reconciled": sum(each["reconciled_names"] != each["unknown"] for each in runs),
        "frames": sum(each["frames"] for each in runs),
        "damaged": sum(each["damaged"] for each in runs),
        "resent": sum(each["resent"] for each in runs),
        "seconds": round(sum(each["seconds"] for each in runs)),
        "dead_man": times,
        "not_as_promised": {
            "runs": [each["number"] for each in runs if not each["passed"]],
            "kills": [each["number"] for each in kills if not each["passed"]],
        },
    }


def _said(runs):
    """Return what hosts said when they gave up, without its numbers and addresses, and how often; most often first."""
    said = Counter()
    for attempt in (attempt for each in runs for attempt in each["attempts"]):
        if attempt["ended"] not in ("done", "killed"):
            text = re.sub(r"(tcp://|/dev/)[\w.:/]+\w", "…", attempt["reason"])
            said[re.sub(r"\d[\d,:.+T-]*\d|\d", "N", text)[:150]] += 1
    return dict(said.most_common())


def markdown(found):
    """Return the page of a summary."""
    bad = found["not_as_promised"]
    good_runs, good_kills = found["runs"] - len(bad["runs"]), found["kills"] - len(bad["kills"])
    verdict = (
        f"{good_runs:,} of {found['runs']:,} runs and {good_kills} of {found['kills']} kills came out as promised."
    )
    lines = [HEAD.format(verdict=verdict, runs=found["runs"], kills=found["kills"])]
    if found["runs"]:
        lines += [FORMING.format(share=100 * found["share"], most=forming.MOST_ATTEMPTS - 1)]
        lines += _forming(found)
    if found["kills"]:
        lines += [DEADMAN, *_deadman(found)]
    return "\n".join([*lines, NOT_COVERED])


def _forming(found):
    yield f"| of {found['cells']:,} cells in {found['runs']:,} runs | promised | found | |"
    yield "|---|---|---|---|"
    for name, what in forming.PROMISES.items():
        count = found["violations"][name]
        yield f"| {what} | 0 | {count} | {'**fail**' if count else 'pass'} |"
    yield ""
    yield "| killed | runs | attempts | runs with unknown cells | unknown cells | of them pulsed, by the die |"
    yield "|---|---|---|---|---|---|"
    for victim, group in found["victims"].items():
        yield (
            f"| {victim} | {group['runs']:,} | {group['attempts']:,} | {group['with_unknown']:,} | {group['unknown']:,} | "
            f"{group['unknown_pulsed']:,} |"
        )
    attempts = ", ".join(f"{number:,} runs took {count}" for count, number in found["attempts"].items())
    ended = ", ".join(f"{number:,} {what}" for what, number in found["ended"].items())
    yield ""
    yield f"* Attempts a run: {attempts}. How attempts ended: {ended}. A second kill hit {found['second_kills']:,} runs."
    yield (
        f"* The boards took {found['frames']:,} good frames and dropped {found['damaged']:,} damaged ones; the hosts sent "
        f"{found['resent']:,} frames again (of attempts that ended by themselves, and of killed ones as far as they had told)."
    )
    yield (
        "* A cell is unknown where the board no longer knows an operation that was under way, and the cell does not conduct, "
        "which proves nothing. It counts as pulsed, is reported and is not pulsed again."
    )
    with_unknown = sum(group["with_unknown"] for group in found["victims"].values())
    yield (
        "* The run's record counts its unknown cells in its last check. Its list `reconciled` is of the last attempt alone: in "
        f"{found['unknown_not_in_reconciled']:,} of {with_unknown:,} runs with "
        "unknown cells it does not hold all of them, since an earlier attempt had decided them."
    )
    if found["not_as_promised"]["runs"]:
        yield f"* Not as promised: runs {', '.join(map(str, found['not_as_promised']['runs']))}."
    yield ""
    yield "What hosts said when they gave up, as it begins, without numbers and addresses:"
    yield ""
    yield "| said | attempts |"
    yield "|---|---|"
    for text, count in found["said"].items():
        yield f"| {text.replace('|', '/')} … | {count:,} |"
    yield ""


def _deadman(found):
    yield "| host killed in a | kills | safe in time | shortest | median | longest |"
    yield "|---|---|---|---|---|---|"
    for what, each in found["dead_man"].items():
        yield (
            f"| {what} | {each['kills']} | {each['safe']} | {each['min_s']:.3f} s | {each['median_s']:.3f} s | "
            f"{each['max_s']:.3f} s |"
        )
    yield ""
    for what, each in found["dead_man"].items():
        yield f"* {what}, by tenths of the kills: {', '.join(f'{span:.3f}' for span in each['tenths_s'])} s."
    yield "* Safe in time: lines at 0 V, path open, no row pulsed afterwards, and the board's error queue names the switch."
    if found["not_as_promised"]["kills"]:
        yield f"* Not as promised: kills {', '.join(map(str, found['not_as_promised']['kills']))}."
    yield ""
