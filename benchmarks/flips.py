"""Bits turned over in ledgers, runs, records and trained networks, and what a user is told: ``docs/results/flips.md``.

A campaign: each outcome is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import json
import os
import zlib
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # its small benches

from campaign import processes
from campaign.command import parser_of, tell
from campaign.kept import Kept
from flipping.flip import Worker
from flipping.page import markdown, summary

FULL = 10_000
IN_MEMORY = Path("/dev/shm")


def arguments():
    parser = parser_of(__doc__, "flips", "files and bits", "flips")
    parser.add_argument("--flips", type=int, default=FULL, metavar="N", help="how many (10000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first (0)")
    parser.add_argument("--again", type=int, metavar="N", help="only this one once more, and tell all of it")
    asked = parser.parse_args()
    if asked.flips < 1 or asked.first < 0:
        parser.error("expected at least one flip, and a first number of at least 0")
    return asked


def main():
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    processes.preload("rramlab.cli.app", "rramlab.calibration.procedures", "rramlab.sim.backend")
    # Benches lie where they were made: what is outside of their folders may know the place.
    kept = asked.out.resolve() / "benches"
    root = Path(
        f"{IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else kept}/rramlab-flips-{zlib.crc32(str(kept).encode()):08x}"
    )
    kept.mkdir(exist_ok=True)
    worker = Worker(kept, root, asked.seed)
    try:
        if asked.again is not None:
            print(json.dumps(worker.one(asked.again), indent=1, ensure_ascii=False))
            return 0
        wanted = range(asked.first, asked.first + asked.flips)
        outcomes = Kept(asked.out / "flips.jsonl", {"seed": asked.seed}).complete("flips", wanted, worker.one)
    finally:
        worker.end()
    document = summary(outcomes, {"seed": asked.seed, "flips": asked.flips})
    tell(asked, "flips", asked.flips >= FULL, document, markdown(document))
    return 0 if not document["not_as_promised"] else 1


if __name__ == "__main__":
    sys.exit(main())
