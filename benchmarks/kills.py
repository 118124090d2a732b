"""Forming runs that are killed at random moments, again and again, and gone on with: ``docs/results/kills.md``.

A campaign: each outcome is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # its small benches

from campaign.command import parser_of, tell
from campaign.kept import Kept
from killing import forming
from killing.page import PARTS, markdown, summary

FULL = 300


def arguments():
    parser = parser_of(__doc__, "kills", "modes and moments", "runs")
    parser.add_argument("--runs", type=int, default=FULL, metavar="N", help="runs of each part (300)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first run (0)")
    asked = parser.parse_args()
    if asked.runs < 1 or asked.first < 0:
        parser.error("expected at least one run, and a first number of at least 0")
    return asked


def main():
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    wanted = range(asked.first, asked.first + asked.runs)
    parts = {}
    with tempfile.TemporaryDirectory() as undisturbed:
        nominals = forming.Nominals(Path(undisturbed))
        for part, what in PARTS.items():

            def one(number, part=part):
                folder = asked.out / f"{part}-{number}"
                return forming.one(number, asked.seed, folder, nominals, part == "forgotten")

            parts[part] = Kept(asked.out / f"{part}.jsonl", {"seed": asked.seed}).complete(what, wanted, one)
    document = summary(parts, {"seed": asked.seed, "runs": asked.runs})
    tell(asked, "kills", asked.runs >= FULL, document, markdown(document))
    return 0 if not any(document["not_as_promised"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
