"""Set, reset, write-verify, calibration, deployment and training, killed or interrupted: ``docs/results/stops.md``.

A campaign: each outcome is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import os
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # its small benches

from campaign.command import parser_of, tell
from campaign.kept import Kept
from stopping import hosts
from stopping.cases import PARTS, Slot, one
from stopping.page import markdown, summary
from stopping.works import WORKS

FULL = 300
IN_MEMORY = Path("/dev/shm")


def arguments():
    parser = parser_of(__doc__, "stops", "moments and signals", "cases")
    parser.add_argument("--cases", type=int, default=FULL, metavar="N", help="kills, and as many interrupts (300)")
    parser.add_argument("--part", choices=list(PARTS), action="append", help="of this part alone; may be repeated")
    parser.add_argument("--only", choices=list(WORKS), action="append", help="of this work alone; may be repeated")
    asked = parser.parse_args()
    if asked.cases < 1:
        parser.error("expected at least one case")
    return asked


def numbers(part, cases, only):
    """Return the numbers of the cases of a part: half of the interrupts are a notebook's."""
    count = cases if part == "kills" else (cases + (part == "interrupts")) // 2
    names = list(WORKS)
    return [number for number in range(count) if names[number % len(names)] in (only or names)]


def main():
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    hosts.preload()
    lacks = hosts.notebook_lacks()
    parts, not_measured = {}, {}
    where = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else asked.out
    with tempfile.TemporaryDirectory(prefix="rramlab-stops-", dir=where) as root:
        slot, kernel = Slot(Path(root)), hosts.Kernel()
        try:
            for part, what in PARTS.items():
                kept = Kept(asked.out / f"{part}.jsonl", {"seed": asked.seed})
                wanted = numbers(part, asked.cases, asked.only)
                if asked.part and part not in asked.part:
                    wanted = [number for number in wanted if number in kept.known]
                elif part == "notebook" and lacks and any(number not in kept.known for number in wanted):
                    not_measured[part] = lacks
                    wanted = [number for number in wanted if number in kept.known]

                def do(number, part=part):
                    return one(part, number, asked.seed, slot, kernel, asked.out / "failed")

                parts[part] = kept.complete(what, wanted, do)
        finally:
            kernel.stop()
    document = summary(parts, {"seed": asked.seed, "wanted": asked.cases}, not_measured)
    full = asked.cases >= FULL and not asked.only and not asked.part
    tell(asked, "stops", full, document, markdown(document))
    return 0 if not any(document["not_as_promised"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
