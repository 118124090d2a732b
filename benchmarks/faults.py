"""Forming while frames are lost and either side is killed, and hosts killed while lines are live: ``docs/results/faults.md``.

A campaign: each outcome is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # its small benches

from campaign import deadman, forming
from campaign.command import parser_of, tell
from campaign.kept import Kept
from campaign.page import markdown, summary

FULL = {"runs": 1000, "kills": 100}


def arguments():
    parser = parser_of(__doc__, "faults", "faults and moments", "runs or kills")
    parser.add_argument("--runs", type=int, default=FULL["runs"], metavar="N", help="runs of forming a region (1000)")
    parser.add_argument(
        "--kills", type=int, default=FULL["kills"], metavar="N", help="hosts killed with live lines (100)"
    )
    parser.add_argument("--share", type=float, default=0.01, help="of the frames that suffer a fault (0.01)")
    asked = parser.parse_args()
    if asked.runs < 0 or asked.kills < 0 or not asked.runs + asked.kills or not 0 <= asked.share <= 1:
        parser.error("expected runs and kills of at least 0 and not both 0, and a share from 0 to 1")
    return asked


def main():
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    settings = {"seed": asked.seed, "share": asked.share}
    with tempfile.TemporaryDirectory() as undisturbed:
        expected_S = forming.references(Path(undisturbed))
    runs = Kept(asked.out / "forming.jsonl", settings).complete(
        "forming",
        range(asked.runs),
        lambda number: forming.one(number, asked.seed, asked.out / f"run-{number}", expected_S, asked.share),
    )
    kills = Kept(asked.out / "deadman.jsonl", settings).complete(
        "dead man's switch",
        range(asked.kills),
        lambda number: deadman.one(number, asked.seed, asked.out / f"kill-{number}"),
    )
    full = asked.runs >= FULL["runs"] and asked.kills >= FULL["kills"]
    document = summary(runs, kills, settings)
    tell(asked, "faults", full, document, markdown(document))
    return 0 if all(each["passed"] for each in runs + kills) else 1


if __name__ == "__main__":
    sys.exit(main())
