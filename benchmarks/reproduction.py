"""The paper's three tasks: what ``rramlab reproduce`` left in its folders, as one page. ``docs/results/reproduction.md``.

Give it the folders of full reproductions, or of single rows and numbers of them. What is measured is kept in
``reproduction.json`` and joined with what was before, of the same settings; pictures are drawn of what the folders hold.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
from dataclasses import replace
from pathlib import Path

from rramlab.report.reproduction.page import drawn, headline, markdown
from rramlab.reproduction.outcomes import Outcome
from rramlab.reproduction.results import Results
from rramlab.reproduction.summary import OURS
from rramlab.reproduction.tasks import task_of
from rramlab.training.recipes import with_defaults

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FILE = "reproduction.json"
SHOWN = ("bars-accuracy", "bars-pr-auc", "epochs", "confusion", "segments")
HEAD = """# The paper's three tasks

Each task from virgin dies to a table, with every baseline on the same dies. A number is a bank of dies, a calibrated board
and a seed of its own; mean ± standard deviation over numbers, the last epoch, never the best one. *On the macro*: every
product computed by the simulated macro with its published non-idealities, in brackets how many test samples. *Host*: all
test samples on the host's model of the chip. What each row is: [the three tasks](../reproduction.md).

Made by `rramlab reproduce TASK`, rows and numbers side by side in folders of their own (`--rows`, `--only`). DRIVE's number
0 learned topology for any connection on two cores in 41 minutes; number 1 of that row and the software rows were trained with
`--device cuda`; these and the unpruned rows were computed with torch 2.11, everything else with the pinned version.

Every outcome is in `reproduction.json`; the page is made by `python benchmarks/reproduction.py FOLDER…`.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="of full reproductions: data/reproductions/TASK")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    asked = parser.parse_args()
    path = RESULTS / FILE
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for folder in asked.folders:
        found = Results.load(folder)
        kept[found.name] = section(found, kept.get(found.name))
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / "reproduction.md").write_text(page(kept), encoding="utf-8")
    print(json.dumps(figures(kept), ensure_ascii=False) if asked.json else page(kept))


def section(found, before):
    """Return what is kept of a reproduction; draw its pictures.

    ``before``: what was kept so far. Of the same settings, its rows and numbers stay beside those found now; its pictures
    too, of what these do not hold.
    """
    outcomes, pictures = {}, {}
    if before and before["settings"] | {"recipe": with_defaults(before["settings"]["recipe"])} == found.settings:
        outcomes = {(each["row"], each["number"]): each for each in before["outcomes"]}
        pictures = dict(before["pictures"])
    outcomes |= {(each.row, each.number): each.model_dump(mode="json") for each in found.outcomes}
    ordered = [outcomes[key] for key in sorted(outcomes)]
    folder, name = RESULTS / "reproduction", found.name
    folder.mkdir(exist_ok=True)
    for picture in drawn(replace(found, outcomes=tuple(map(Outcome.model_validate, ordered)))):
        if picture.name in SHOWN:
            file = f"{name}-{picture.name}.png"
            picture.figure(title=False).savefig(folder / file, dpi=110)
            pictures[file] = f"{picture.title}. {picture.caption}".strip()
    return {"settings": found.settings, "pictures": list(pictures.items()), "outcomes": ordered}


def results_of(each):
    """Return what is kept of a reproduction as its folder had it, but for what pictures are drawn of."""
    outcomes = tuple(map(Outcome.model_validate, each["outcomes"]))
    return Results(task_of(each["settings"]["task"]), each["settings"], outcomes)


def page(kept):
    text = [HEAD]
    for each in kept.values():
        found = results_of(each)
        text.append(f"## {found.title[0].upper()}{found.title[1:]}\n\n{headline(found)}. {found.about}.\n")
        text.append(markdown(found))
        text += [f"![{alt}](reproduction/{name})\n\n{alt}\n" for name, alt in each["pictures"]]
    return "\n".join(text)


def figures(kept):
    """Name every mean of our rows, and what it is of the limit or peer: dense software of the same task."""
    ratios, means = {}, {}
    for name, each in kept.items():
        lines = {line.row: line for line in results_of(each).lines}
        for row in (row for row in OURS if row in lines):
            for score, spread in lines[row].scores.items():
                means[f"{name}_{row}_{score}"] = spread.mean
                if "dense" in lines:
                    ratios[f"{name}_{row}_{score}_over_dense"] = spread.mean / lines["dense"].scores[score].mean
    return ratios | means


if __name__ == "__main__":
    main()
