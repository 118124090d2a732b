"""Calibration against the simulator's hidden truth, 20 boards and dies: ``docs/results/calibration.md``.

A campaign: each board is appended to a file and not repeated, so that it goes on where it was stopped.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
from pathlib import Path

from calibrating.one import one
from calibrating.page import markdown, summary
from campaign.kept import Kept

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FULL = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=FULL, metavar="N", help=f"boards of each kind ({FULL})")
    usual = ROOT / "data" / "calibration"
    parser.add_argument("--out", type=Path, default=usual, metavar="DIR", help="partial results")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    wanted, found = range(asked.boards), []
    for name, lossy in (("ideal lines", False), ("lines with resistance", True)):
        kept = Kept(asked.out / f"{'lossy' if lossy else 'ideal'}.jsonl", {})
        found += kept.complete(name, wanted, lambda number, lossy=lossy: one(number, lossy))
    document = summary(found)
    folder = RESULTS if asked.boards >= FULL else asked.out
    (folder / "calibration.md").write_text(markdown(document), encoding="utf-8")
    (folder / "calibration.json").write_text(json.dumps({**document, "boards": found}, ensure_ascii=False) + "\n",
                                             encoding="utf-8")  # fmt: skip
    if asked.json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        print(markdown(document))
    return 0 if all(each["kept"] for each in document["promises"]) else 1


if __name__ == "__main__":
    sys.exit(main())
