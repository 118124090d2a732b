"""The simulated die and board against the measured cells and against their own model: ``docs/results/twin.md``.

Every section can be run alone (``--only forming,noise``); what the others found before is kept in ``twin.json``.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from validation import ageing, conductance, correlation, cycles, forming, memories, noise, resistance, write_verify
from validation.common import Run
from validation.page import markdown

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
MODULES = (forming, conductance, correlation, cycles, noise, resistance, write_verify, ageing, memories)
SECTIONS = {each.__name__.removeprefix("validation.").replace("_", "-"): each for each in MODULES}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip("."))
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="holds measured/esgnn.npz: compare with these cells"
    )
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="dies of the large samples (100)")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="A,B", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="20 seeds, small dies, within half a minute")
    usual = "docs/results; with --quick a temporary one"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"folder of the results ({usual})")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    asked = parser.parse_args()
    unknown = sorted(set(asked.only.split(",")) - set(SECTIONS))
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    if asked.seeds < 2:
        parser.error("at least two seeds")
    if asked.data is not None and not (asked.data / "measured" / "esgnn.npz").is_file():
        parser.error(f"{asked.data} holds no measured/esgnn.npz")
    return asked


def main():
    asked = arguments()
    data = None
    if asked.data is not None:
        with np.load(asked.data / "measured" / "esgnn.npz") as arrays:
            data = dict(arrays)
    run = Run(min(asked.seeds, 20) if asked.quick else asked.seeds, asked.quick, data)
    folder = asked.output or (Path(tempfile.gettempdir()) / "rramlab-twin" if asked.quick else RESULTS)
    (folder / "twin").mkdir(parents=True, exist_ok=True)
    path, page = folder / "twin.json", folder / "twin.md"
    done = json.loads(path.read_text(encoding="utf-8"))["sections"] if path.exists() else {}
    only = asked.only.split(",")
    for name in only:
        print(f"{name} …", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        found = SECTIONS[name].validate(run)
        seconds = round(time.perf_counter() - begun, 1)
        found.drawing.savefig(folder / "twin" / f"{name}.png")
        done[name] = {"quick": run.quick, "seconds": seconds, **found.document()}
        # After each section: what is done is kept if the next one is stopped.
        sections = {each: done[each] for each in SECTIONS if each in done}
        document = {"benchmark": "twin", "sections": sections}
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        page.write_text(markdown(sections, {each: SECTIONS[each].TITLE for each in sections}), encoding="utf-8")
    promises = [(name, each) for name in only for each in done[name]["promises"]]
    if asked.json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        for name, each in promises:
            verdict = "pass" if each["passed"] else "FAIL"
            print(f"{verdict}  {name}: {each['what']}: {each['measured']} (promised {each['promised']})")
        print(f"written to {page}")
    return 0 if all(each["passed"] for _, each in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
