"""Forming runs that are killed at random moments, again and again, and gone on with: ``docs/results/kills.md``.

A campaign: each outcome is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))  # its small benches

from campaign.kept import Kept
from killing import forming
from killing.page import PARTS, markdown, summary

RESULTS = ROOT / "docs" / "results"
FULL = 300


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip("."))
    parser.add_argument("--runs", type=int, default=FULL, metavar="N", help="runs of each part (300)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first run (0)")
    parser.add_argument("--seed", type=int, default=1, help="of modes and moments (1)")
    usual = ROOT / "data" / "kills"
    parser.add_argument("--out", type=Path, default=usual, metavar="DIR", help="partial results, and runs that failed")
    said = "docs/results; of fewer runs the folder of --out"
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"where the page is written ({said})")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
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
    folder = asked.results or (RESULTS if asked.runs >= FULL else asked.out)
    page = folder / "kills.md"
    page.write_text(markdown(document), encoding="utf-8")
    (folder / "kills.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if asked.json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        for name, value in document["ratios"].items():
            print(f"{name:32} {value:.4f}")
        print(f"written to {page}")
    return 0 if not any(document["not_as_promised"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
