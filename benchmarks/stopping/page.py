"""What a campaign of kills and interrupts has found, as figures and as a page."""

from __future__ import annotations

from collections import Counter

from stopping.cases import PARTS
from stopping.judging import PROMISES
from stopping.works import EPOCHS, WORKS

HEAD = """# Kills and interrupts

{verdict} Made by
`python benchmarks/stops.py --cases {cases}`, which keeps what is done and goes on where it was stopped. The numbers are in
[stops.json](stops.json). Forming has a campaign of its own: [kills.md](kills.md).

Each case does one work on a simulated die in process and stops it at a random moment; then a person's next step is taken until
it is done. Half of the moments are drawn evenly over the time that an undisturbed work takes; the other half wait until files
of die, run, training or record have changed so and so often, and come within 3 ms. One command in four is stopped once more
while it goes on.

| work | command | and after a stop |
|---|---|---|
| set, reset | `rramlab run set`, `reset`: 224 cells, a row at a time | `rramlab resume` |
| write-verify | `rramlab run write-verify`: 32 cells, at most 50 pulses each | `rramlab resume` |
| calibration | `rramlab calibrate forming`: a ramp of 16 voltages on a corner of 64 cells | the same; what its refusal says |
| deployment | `rramlab deploy --method reset`: a network of 50,432 weights on a whole die | the same |
| training | `rramlab train --in-the-loop weights`: {epochs} epochs, the die read every 4 steps | the same with `--resume` |

* Kills: the process of the command gets SIGKILL. In half of the cases on a small die (32 × 16 cells) its file is written after
  each row, so that a kill leaves operations half done.
* Interrupts: SIGINT, twice within 30 ms, or SIGTERM, for every other one the command, else a script that holds a session open.
* A notebook: a Jupyter kernel (ipykernel) with a session that is opened in one cell and used in the next; the kernel is
  interrupted as the button does it. What follows happens in the same session.

After an interrupt a session that is still open is asked what it knows, and that is compared with the file of the ledger and
with what the board has received. In the end the die's own counters are compared with the ledger, and the die with one that was
left alone.
"""


def summary(parts: dict[str, list[dict]], settings: dict, not_measured: dict[str, str]) -> dict:
    """Return the figures of outcomes, by part. ``not_measured``: parts that could not be, and why."""
    everything = [each for outcomes in parts.values() for each in outcomes]
    measured = {part: outcomes for part, outcomes in parts.items() if outcomes}
    return {
        "benchmark": "stops",
        "ratios": {f"{part}_as_promised": _share(outcomes) for part, outcomes in measured.items()},
        "ratio_to": {f"{part}_as_promised": f"all cases of {PARTS[part]}" for part in measured},
        **settings,
        "not_measured": not_measured,
        "cases": len(everything),
        "stops": sum(len(each["stops"]) for each in everything),
        "seconds": round(sum(each["seconds"] for each in everything)),
        "parts": {part: _of(outcomes) for part, outcomes in parts.items()},
        "works": {
            name: {part: _of([each for each in outcomes if each["work"] == name]) for part, outcomes in parts.items()}
            for name in WORKS
        },
        "not_as_promised": {
            part: [each["number"] for each in outcomes if not each["passed"]] for part, outcomes in parts.items()
        },
    }


def _share(outcomes):
    return sum(each["passed"] for each in outcomes) / len(outcomes)


def _of(outcomes):
    stops = [stop for each in outcomes for stop in each["stops"]]
    looks = [look for each in outcomes for look in each["looks"]]
    return {
        "cases": len(outcomes),
        "passed": sum(each["passed"] for each in outcomes),
        "violations": {name: sum(each["violations"][name] for each in outcomes) for name in PROMISES},
        "by": dict(Counter(each["by"] for each in outcomes)),
        "signals": dict(Counter(" ".join(each["signals"]) for each in outcomes)),
        "stops": len(stops),
        "aimed": sum(stop["aimed"] for stop in stops),
        "before_a_pulse": sum(stop["pulses"] == 0 for stop in stops),
        "with_an_open_intent": sum(stop["dangling"] > 0 for stop in stops),
        "open_sessions_looked_at": sum(bool(look.get("open")) for look in looks),
        "ended": dict(Counter(how for each in outcomes for how in each["ended"])),
        "missed": sum(each["missed"] for each in outcomes),
        "pulses": sum(each["pulses"] for each in outcomes),
        "unknown": sum(each["unknown"] for each in outcomes),
    }


def markdown(found: dict) -> str:
    """Return the page of a summary."""
    parts = {part: each for part, each in found["parts"].items() if each["cases"]}
    good = sum(each["passed"] for each in parts.values())
    kills = parts.get("kills", {"stops": 0})["stops"]
    stopped = f"{kills:,} kills and {found['stops'] - kills:,} interrupts"
    verdict = f"{good:,} of {found['cases']:,} cases, with {stopped}, came out as promised."
    lines = [HEAD.format(verdict=verdict, cases=found["wanted"], epochs=EPOCHS)]
    for part, why in found["not_measured"].items():
        lines += [f"Not measured: {PARTS[part]}: {why}.", ""]
    lines += [*_promises(parts), "", *_works(found, parts), "", *_ends(parts), ""]
    for part, numbers in found["not_as_promised"].items():
        if numbers:
            lines += [f"Not as promised: {part} {', '.join(map(str, numbers))}.", ""]
    return "\n".join([*lines, NOT_COVERED])


def _promises(parts):
    yield "| | promised | " + " | ".join(parts) + " | |"
    yield "|---|---|" + "---|" * (len(parts) + 1)
    for name, what in PROMISES.items():
        counts = [each["violations"][name] for each in parts.values()]
        yield f"| {what} | 0 | {' | '.join(f'{count:,}' for count in counts)} | {'**fail**' if any(counts) else 'pass'} |"


def _works(found, parts):
    yield "| cases as promised, of all | " + " | ".join(parts) + " |"
    yield "|---|" + "---|" * len(parts)
    for name, of in found["works"].items():
        yield f"| {name} | " + " | ".join(f"{of[part]['passed']} of {of[part]['cases']}" for part in parts) + " |"


def _ends(parts):
    for part, each in parts.items():
        signals = ", ".join(f"{count} {name}" for name, count in each["signals"].items())
        by = ", ".join(f"{count} {name}" for name, count in each["by"].items())
        yield (
            f"* {part} ({PARTS[part]}): {each['cases']} cases ({by}; {signals}), {each['stops']} stops, {each['aimed']} of "
            f"them just after a file had changed; {each['before_a_pulse']} came before the first pulse, "
            f"{each['with_an_open_intent']} left an intent without an outcome; {each['open_sessions_looked_at']} looks at open "
            f"sessions; {each['pulses']:,} pulses. {each['missed']} more were done before their stop and were begun anew."
        )


NOT_COVERED = """## What is not covered

* Boards that live on while their host is dead: [faults.md](faults.md) kills host and board apart, over the wire.
* The moments are drawn from outside, by time and by files that change; nothing in the program tells where it is.
"""
