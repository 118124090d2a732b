"""Ledgers of version 0.1.0 that are brought to today's form by processes that are killed: ``docs/results/takeover.md``.

A campaign: each outcome is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # what 0.1.0 wrote

from campaign.command import parser_of, tell
from campaign.kept import Kept
from runs.firstledger import add, begun

from rramlab.base.host import STATE
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger import Ledger, view_ledger
from rramlab.runs.ledger.migration import NEW, OLD

FULL = 100
_STAGES = {
    (False, False): "nothing yet",
    (True, False): "the new one beside",
    (True, True): "the old one kept, too",
    (False, True): "taken over",
}
DIE, GEOMETRY, OPERATIONS = "d-1", Geometry(64, 64), 1500
OPENER = f"""
import sys
from pathlib import Path
from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger import Ledger
print("begun", flush=True)
Ledger(Path(sys.argv[1]), {DIE!r}, Geometry(64, 64)).close()
print("done", flush=True)
"""


def answers(view):
    return (
        [(each.op_id, each.outcome, each.cells.packed(), each.spent.packed()) for each in view.entries()],
        view.pulse_counts().tobytes(),
        view.unknown().packed(),
        [each.op_id for each in view.dangling()],
    )


def old_ledger(path):
    """Make one that a process of 0.1.0 left behind when it was killed: the newest operations in the log alone."""
    whole = CellSelection.everything(GEOMETRY)
    database = begun(path.parent / "alive" / path.name, GEOMETRY, DIE)
    for number in range(OPERATIONS):
        row = number % GEOMETRY.rows
        ended = "intended" if number == OPERATIONS - 1 else "done"
        add(database, whole.within(row, row + 1), "reset", ended, run=f"run-{number // 100}")
        if number == OPERATIONS // 2:
            database.execute("PRAGMA wal_checkpoint(FULL)")
    for ending in ("", "-wal"):
        shutil.copyfile(path.parent / "alive" / f"{path.name}{ending}", path.with_name(f"{path.name}{ending}"))
    database.close()
    shutil.rmtree(path.parent / "alive")


def opening(path):
    process = subprocess.Popen([sys.executable, "-c", OPENER, str(path)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    return process, time.monotonic()


def one(number, seed, left, before, whole_s):
    """Kill a takeover, sometimes twice, and see what is there after each, and what comes of it in the end."""
    chance = random.Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "die" / "ledger.db"
        shutil.copytree(left.parent, path.parent)
        stages, kept = [], True
        for _ in range(chance.choice([1, 1, 2])):
            process, began = opening(path)
            time.sleep(max(0.0, began + chance.random() * whole_s - time.monotonic()))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            new, old = path.with_name(NEW).exists(), path.with_name(OLD).exists()
            stages.append(
                "taken over" if old and not new else "old one kept" if old else "new one beside" if new else "begun"
            )
            with view_ledger(path) as view:
                kept &= answers(view) == before
        with closing(Ledger(path, DIE, GEOMETRY)) as ledger:
            ledger.check()
            same = answers(ledger) == before
        with view_ledger(path.with_name(OLD)) as view:
            stays = answers(view) == before
    passed = kept and same and stays
    return {"number": number, "passed": passed, "stages": stages, "kept": kept, "same": same, "old_one_stays": stays}


def page(document):
    lines = [f"| {stage} | {count} |" for stage, count in sorted(document["stages"].items())]
    return f"""# Ledgers of version 0.1.0, brought over by processes that are killed

Written by `python benchmarks/takeover.py`. A ledger of 0.1.0 with {OPERATIONS:,} operations, half of them in its write-ahead
log, is opened by a process that is killed at a random moment of the takeover, in a third of the cases twice. After each
kill it is looked into; in the end it is opened and compared.

{document["kills"]:,} kills in {document["cases"]:,} cases; **{document["not_as_promised"]} not as promised**: something
lost or changed, or the old file gone.

| what was there after a kill | kills |
|---|---|
{chr(10).join(lines)}
"""


def main():
    parser = parser_of(__doc__, "takeover", "moments", "kills")
    parser.add_argument("--kills", type=int, default=FULL, metavar="N", help="cases (100)")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[STATE] = str(Path(folder) / "state")
        left = Path(folder) / "left" / "ledger.db"
        left.parent.mkdir()
        old_ledger(left)
        with view_ledger(left) as view:
            before = answers(view)
        shutil.copytree(left.parent, left.parent.with_name("calm"))
        process, began = opening(left.parent.with_name("calm") / left.name)
        process.communicate()
        whole_s = time.monotonic() - began
        kept = Kept(asked.out / "takeover.jsonl", {"seed": asked.seed})
        outcomes = kept.complete("takeovers", range(asked.kills), lambda n: one(n, asked.seed, left, before, whole_s))
    stages = [stage for each in outcomes for stage in each["stages"]]
    bad = [each["number"] for each in outcomes if not each["passed"]]
    document = {
        "ratios": {"as_promised": 1 - len(bad) / len(outcomes)},
        "ratio_to": {"as_promised": "all cases"},
        "cases": len(outcomes),
        "kills": len(stages),
        "stages": {stage: stages.count(stage) for stage in set(stages)},
        "not_as_promised": len(bad),
        "which": bad,
        "seconds_of_a_takeover": round(whole_s, 3),
    }
    tell(asked, "takeover", asked.kills >= FULL, document, page(document))
    return 0 if not bad else 1


if __name__ == "__main__":
    sys.exit(main())
