"""``rramlab demo`` over several dies: a campaign that keeps what is done and goes on where it was stopped."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
FIELDS = ("formed_fraction", "accuracy_random", "accuracy_trained", "accuracy_on_chip", "seconds")


def run(task, method, die, data):
    """Run the demo in a folder of its own and return its JSON document."""
    words = [sys.executable, "-m", "rramlab", "demo", "--task", task, "--method", method, "--die", die, "--json"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RRAMLAB_BENCH": folder}
        done = subprocess.run(
            [*words, *(["--data", data] if data else [])], check=True, stdout=subprocess.PIPE, env=environment
        )
    return json.loads(done.stdout)


def table(runs):
    """Return the Markdown of one row a die, and of mean and standard deviation."""
    lines = [
        "| die | formed | random, unpruned | pruned, host | pruned, chip | pulses | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each['die']} | {each['formed_fraction']:.2%} | {each['accuracy_random']:.2%} | "
        f"{each['accuracy_trained']:.2%} | {each['accuracy_on_chip']:.2%} | {each['pulses']:,} | {each['seconds']:.1f} |"
        for each in runs
    ]
    means = {field: statistics.mean(each[field] for each in runs) for field in FIELDS}
    spread = {field: statistics.stdev(each[field] for each in runs) if len(runs) > 1 else 0.0 for field in FIELDS}
    cells = [f"{means[field]:.2%} ± {spread[field]:.2%}" for field in FIELDS[:-1]]
    lines.append(f"| **mean ± s.d.** | {' | '.join(cells)} | | {means['seconds']:.1f} ± {spread['seconds']:.1f} |")
    return lines


def write(results):
    lines = [
        "# The demo over several dies",
        "",
        "Each row is `rramlab demo` on a virgin simulated die of its own seed: last epoch, one read of the test set; *chip*",
        "means that every product was computed by the macro with published non-idealities and nominal (uncalibrated)",
        "conversion. The settings of the recipes were compared by test accuracy on synthetic dies, so the figures carry a",
        "slight selection bias. Made by `python benchmarks/demo.py --task TASK --dies N`; the data are in `demo.json`.",
    ]
    for key, runs in results.items():
        task, method = key.split(" by ")
        lines += ["", f"## {task}, deployed by {method}, {runs[0]['images']:,} test images", "", *table(runs)]
    (RESULTS / "demo.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--task", choices=("digits", "fashion-mnist"), default="digits")
parser.add_argument("--method", choices=("gate", "reset"), default="gate")
parser.add_argument("--dies", type=int, default=5)
parser.add_argument("--data", help="folder with Fashion-MNIST")
parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
arguments = parser.parse_args()

path = RESULTS / "demo.json"
results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
done = results.setdefault(f"{arguments.task} by {arguments.method}", [])
for number in range(len(done) + 1, arguments.dies + 1):
    done.append(run(arguments.task, arguments.method, f"demo-{number}", arguments.data))
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
write(results)
if arguments.json:
    print(json.dumps({"benchmark": "demo", "results": results}))
else:
    print("\n".join(table(done)))
