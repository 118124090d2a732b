"""What the command lines of campaigns share: where partial results and pages go, and how the figures are told."""

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


def parser_of(doc, name, seeded, fewer):
    """Return the parser of a campaign. ``seeded``: what its seed is of; ``fewer``: of what fewer are no full campaign."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0].rstrip("."))
    parser.add_argument("--seed", type=int, default=1, help=f"of {seeded} (1)")
    usual = ROOT / "data" / name
    parser.add_argument("--out", type=Path, default=usual, metavar="DIR", help="partial results, and runs that failed")
    said = f"docs/results; of fewer {fewer} the folder of --out"
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"where the page is written ({said})")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser


def tell(asked, name, full, document, page):
    """Write a campaign's page and figures, and print them. ``full``: it was as large as the one in docs/results."""
    folder = asked.results or (RESULTS if full else asked.out)
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if asked.json:
        print(json.dumps(document, ensure_ascii=False))
        return
    for ratio, value in document["ratios"].items():
        print(f"{ratio:32} {value:.4f}")
    print(f"written to {folder / f'{name}.md'}")
