"""The table of all commands: a call of each that really prints something, and a bench on which it can be made.

A command that is added needs a line in ``EXAMPLES``; :func:`commands` walks the tree, so none is forgotten.
"""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from workbench import SmallBench, copy_bench

from rramlab.cli.app import app
from rramlab.cli.process import answer

# What is called, and what comes of it: the exit code. {run}: a run that read; {record}, {later}: two records; {host}: a bench
# on a wire that nobody serves; ~: a blank. Calls are made in this order, on one bench.
EXAMPLES: dict[str, list[tuple[str, int]]] = {
    "init": [("init new", 0), ("init .", 2)],
    "bench show": [("bench show", 0)],
    "bench check": [("bench check", 0), ("bench check --no-power-up", 5), ("bench check --bench {host}", 1)],
    "bench discover": [("bench discover", 0)],
    "bench trace": [("bench trace talk.trace", 0)],
    "drivers list": [("drivers list", 0)],
    "drivers show": [("drivers show small", 0), ("drivers show keithley-2600", 0)],
    "drivers check": [("drivers check keysight-b2900 small", 0)],
    "drivers schema": [("drivers schema board", 0)],
    "protocols list": [("protocols list", 0)],
    "protocols show": [("protocols show electroform", 0)],
    "protocols check": [("protocols check set reset", 0)],
    "protocols schema": [("protocols schema --output schema.json", 0)],
    "run": [
        ("run read-array --dry-run", 0),
        ("run read-array --set repeats=2", 0),
        ("run set --set cells=row~0 --arm small-1", 0),
        ("run electroform", 3),
        ("run electroform --arm Ω", 3),
        ("run electroform --set voltage=3.75Ω --dry-run", 2),
    ],
    "resume": [("resume last", 1)],
    "runs list": [("runs list", 0)],
    "runs show": [("runs show {run}", 0)],
    "runs check": [("runs check {run}", 0), ("runs check --all", 0)],
    "runs export": [("runs export {run} --output exported", 0)],
    "runs compare": [("runs compare {run} last", 0)],
    "runs consolidate": [("runs consolidate {run}", 0)],
    "runs repeat": [("runs repeat {run}", 0)],
    "dies list": [("dies list", 0)],
    "dies show": [("dies show small-1", 0)],
    "dies wear": [("dies wear small-1", 0)],
    "dies check": [("dies check small-1", 0)],
    "dies adopt": [("dies adopt small-1 --by µ --reason Ω", 0)],
    "report": [("report {run}", 0)],
    "contact": [("contact", 0)],
    "route": [("route --reference 0 --count 2", 0)],
    "sweep": [("sweep --cell 3,7 --points 5", 0), ("sweep --cell 3,7 --points 5 --dry-run", 0)],
    "map": [("map", 0)],
    "estop": [("estop", 0)],
    "calibrate dac": [("calibrate dac", 0)],
    "calibrate adc": [("calibrate adc --run {run}", 1)],
    "calibrate noise": [("calibrate noise --run {run}", 1)],
    "calibrate linearity": [("calibrate linearity --run {run}", 1)],
    "calibrate lines": [("calibrate lines --run {run}", 1)],
    "calibrate smu": [("calibrate smu --run {run}", 1)],
    "calibrate forming": [("calibrate forming", 2)],
    "calibrate all": [("calibrate all --arm another", 3)],
    "calibrate show": [("calibrate show", 0)],
    "calibrate history": [("calibrate history", 0)],
    "calibrate compare": [("calibrate compare {record} {later}", 0)],
    "calibrate accept": [("calibrate accept {record} --by µ --reason Ω", 2)],
    "calibrate apply": [("calibrate apply {run}", 1)],
    "calibrate report": [("calibrate report", 0)],
    "sim new": [("sim new µ", 2), ("sim new bank --count 2 --preset harsh", 0)],
    "sim fork": [("sim fork", 0)],
    "sim age": [("sim age small-1 --for 500~ms", 0)],
    "sim info": [("sim info", 0), ("sim info small-1 --figures", 0)],
    "sim serve": [("sim serve --fault drop=µ", 2)],
    "data list": [("data list", 0)],
}
# On a bench with a die large enough for a network.
LEARNING: dict[str, list[tuple[str, int]]] = {
    "place": [("place digits", 0)],
    "train": [("train digits --epochs 1 --name again", 0), ("train digits --set kept=µ", 2)],
    "adapt": [("adapt digits-sim-0001 --epochs 1 --in-the-loop off", 0)],
    "deploy": [("deploy digits-sim-0001 --dry-run", 0)],
    "evaluate": [("evaluate digits-sim-0001 --images 2", 0)],
    "demo": [("demo --die sim-0001 --epochs 1", 2)],
    "reproduce": [("reproduce drive --quick --data .", 1)],
}


def commands() -> list[str]:
    """Every command there is, by its words."""
    root = typer.main.get_command(app)
    found = []
    context = root.make_context("rramlab", [], resilient_parsing=True)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        below = getattr(command, "commands", None)
        found += [name] if below is None else [f"{name} {each}" for each in below]
    return found


@dataclass
class Answered:
    code: int
    out: bytes
    err: bytes


def called(words: list[str], encoding: str = "utf-8") -> Answered:
    """Execute a command line in this process; its streams have ``encoding``, and take nothing else."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", write_through=True) for _ in range(2)]
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams
    try:
        code = answer(words)
    finally:
        sys.stdout, sys.stderr = before
    return Answered(code, *(stream.buffer.getvalue() for stream in streams))


def words_of(call: str, known: dict[str, str]) -> list[str]:
    return [word.replace("~", " ").format_map(known) for word in call.split()]


def small_lab(folder: Path) -> dict[str, str]:
    """Make a bench with a small die that was formed, read, swept and calibrated; return what its examples name."""
    SmallBench(folder).write()
    with (folder / "bench.yaml").open("a") as stream:
        stream.write("smus:\n  - {name: unit, driver: keysight-b2900, address: simulated}\n")
    host = folder / "host"
    SmallBench(host).write()
    text = (host / "bench.yaml").read_text().replace("backend: simulated", "backend: wire")
    (host / "bench.yaml").write_text(
        text.replace("board: SIM-0009, options: {}", "board: SIM-0009, address: 'tcp://127.0.0.1:9'")
    )
    before = Path.cwd()
    os.chdir(folder)
    try:
        for call in (
            "run electroform --set cells=one-of-pair(seed=3) --set within=0.2 --arm small-1 --trace talk.trace",
            "run read-array",
            "calibrate noise",
            "calibrate noise",
        ):
            done = called(call.split())
            assert done.code == 0, (call, done.err.decode())
    finally:
        os.chdir(before)
    runs = sorted(path.name for path in (folder / "data" / "runs").iterdir())
    records = sorted(path.stem for path in (folder / "calibration").glob("*.yaml"))
    return {"run": runs[1], "record": records[0], "later": records[-1], "host": str(host)}


def learning_lab(folder: Path) -> dict[str, str]:
    """Make a bench with a whole formed die and a network trained on it and deployed."""
    folder.mkdir()
    before = Path.cwd()
    os.chdir(folder)
    try:
        for call in (
            "run electroform --arm sim-0001",
            "train digits --epochs 1",
            "deploy digits-sim-0001",
        ):
            done = called(call.split())
            assert done.code == 0, (call, done.err.decode())
    finally:
        os.chdir(before)
    return {}


def fresh(prepared: Path, place: Path) -> None:
    """Put a copy of a prepared bench at ``place``."""
    copy_bench(prepared, place)
