"""Topology learned on simulated dies: accuracy on the chip, and what moves it. ``docs/results/topology.md``.

A campaign: each training is appended to a file and not repeated, so that it goes on where it was stopped. The groups
``chip`` and ``ageing`` compute all 10,000 test images on the macro, calibrated, with its published non-idealities; the others
compare recipes on the host's model of it. Every case has a die and a seed of its own for each number.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
from pathlib import Path

from campaign.kept import Kept
from pruning.cases import GROUPS, one, settings
from pruning.page import FILE, document_of, draw, markdown

from rramlab.training import load_dataset
from rramlab.training.loop import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", choices=(*GROUPS, "all"), default="all")
    parser.add_argument("--case", help="only this case of the group")
    parser.add_argument("--dies", type=int, default=3, metavar="N", help="dies and seeds of each case (3)")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--data", type=Path, help="folder with Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "topology", metavar="DIR", help="partial results")
    parser.add_argument("--page", action="store_true", help="train nothing; write the page of what is there")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    data = None if asked.page else load_dataset("fashion-mnist", asked.data, ROOT)
    for group in GROUPS if asked.group == "all" else (asked.group,):
        for case in GROUPS[group] if asked.case is None else (asked.case,):
            kept = Kept(asked.out / FILE, settings(group, case))
            if not asked.page:
                kept.complete(
                    f"{group}, {case}",
                    range(asked.dies),
                    lambda number, group=group, case=case: one(group, case, number, data, asked.epochs),
                )
    document = document_of(asked.out)
    (RESULTS / "topology.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / "topology.md").write_text(markdown(document), encoding="utf-8")
    draw(document, RESULTS / "topology.png")
    print(json.dumps(document, ensure_ascii=False) if asked.json else markdown(document))


if __name__ == "__main__":
    main()
