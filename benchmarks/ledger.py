"""How long a ledger takes to open by how many operations it has, against one of 100; process CPU, not the clock."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import command_line, report

import rramlab
from rramlab.base.folders import shipped
from rramlab.base.host import STATE
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.plan.operations import PulseOp
from rramlab.runs.ledger import Ledger

DIE, GEOMETRY = "sim-0001", Geometry(512, 512)
FEW, MANY = 100, 100_000
LIMIT_S, LIMIT_RATIO = 0.5, 10.0
PROMISED = ("writing", "viewing", "bench")
ATTEMPTS = 5
KINDS = ("electroform", "reset", "set")  # first, and then in turn
RUN = "20261122-090000-000-set-0000"
IN_MEMORY = Path("/dev/shm")

# Each is done in a process of its own that has everything imported; it prints the CPU that the last line took, in s.
OPENINGS = {
    "writing": """
from rramlab.runs.ledger import Ledger
from rramlab.macro.geometry import Geometry
begun = time.process_time()
Ledger(path, die, Geometry(512, 512)).close()
""",
    "viewing": """
from rramlab.runs.ledger import view_ledger
begun = time.process_time()
with view_ledger(path) as ledger:
    ledger.last_id
""",
    "counting": """
from rramlab.runs.ledger import view_ledger
begun = time.process_time()
with view_ledger(path) as ledger:
    ledger.pulse_counts(), ledger.unknown(), ledger.dangling(), ledger.last_operation()
""",
    "bench": """
import rramlab, rramlab.engine.session, rramlab.sim.backend, rramlab.sim.smus.instruments
begun = time.process_time()
with rramlab.open_bench(bench):
    pass
""",
}
SCRIPT = """
import sys, time
from pathlib import Path
bench, die = Path(sys.argv[1]), sys.argv[2]
path = bench / "data" / "dies" / die / "ledger.db"
{opening}
print(time.process_time() - begun)
"""


def make(bench, count):
    """Make a bench whose die has a ledger of ``count`` operations; return s a transaction."""
    bench.mkdir(parents=True)
    shutil.copy(shipped().path / "bench.yaml", bench / "bench.yaml")
    with rramlab.open_bench(bench) as session:
        session.macro.contact()  # the die is enrolled, and has a file
    return fill(bench / "data" / "dies" / DIE / "ledger.db", DIE, GEOMETRY, count)


def fill(path, die, geometry, count):
    """Write ``count`` operations into a ledger, of a row each and all done; return s a transaction."""
    everywhere = np.ones(geometry.columns, np.bool_)
    rows = [CellSelection.crossing(_only(row, geometry.rows), everywhere) for row in range(geometry.rows)]
    ledger = Ledger(path, die, geometry)
    begun = time.perf_counter()
    for number in range(count):
        cells, turn = rows[number % geometry.rows], number // geometry.rows
        operation = PulseOp(KINDS[min(turn, 1 + turn % 2)], cells, Pulse(2.0, 1e-6, 1.6), 8)
        ledger.finish(ledger.intend(operation, RUN, f"001.{number:05d}", 1), cells)
    taken = time.perf_counter() - begun
    ledger.close()
    return taken / (2 * count)


def _only(row, rows):
    found = np.zeros(rows, np.bool_)
    found[row] = True
    return found


def cpu(opening, bench, attempts=ATTEMPTS):
    """Return the least CPU of several openings, in s."""
    words = [sys.executable, "-c", SCRIPT.format(opening=opening.strip()), str(bench), DIE]
    found = []
    for _ in range(attempts):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found.append(float(done.stdout))
    return min(found)


def checking(bench):
    """Return how long ``rramlab dies check`` takes as a process of its own, CPU in s; None where there is no such command."""
    from resource import RUSAGE_CHILDREN, getrusage

    words = [sys.executable, "-m", "rramlab", "dies", "check", DIE, "--bench", str(bench), "--json"]
    before = getrusage(RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    after = getrusage(RUSAGE_CHILDREN)
    if done.returncode == 2:
        return None
    if done.returncode:
        raise RuntimeError(
            f"the check of a ledger that is whole ended with {done.returncode}: {done.stdout}{done.stderr}"
        )
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder, few, many):
    """Return the CPU of each opening of a small and of a large ledger, by name, and what else was seen."""
    seconds, figures = {}, {"operations": [few, many]}
    for name, count in (("few", few), ("many", many)):
        bench = folder / name
        os.environ[STATE] = str(folder / f"state-{name}")
        figures[f"transaction_{name}_ms"] = round(1e3 * make(bench, count), 4)
        figures[f"bytes_{name}"] = (bench / "data" / "dies" / DIE / "ledger.db").stat().st_size
        for opening, script in OPENINGS.items():
            seconds[f"{opening}_{name}"] = cpu(script, bench)
        if (taken := checking(bench)) is not None:
            seconds[f"check_{name}"] = taken
    return seconds, figures


def ratios(seconds):
    found = {}
    for opening in OPENINGS:
        found[f"{opening}_to_limit"] = seconds[f"{opening}_many"] / LIMIT_S
        found[f"{opening}_to_few"] = seconds[f"{opening}_many"] / seconds[f"{opening}_few"]
    return found


NAMES = {
    "writing": "opening it to write",
    "viewing": "opening it to look",
    "counting": "opening it to look, and asking for all counts",
    "bench": "opening a bench whose die has it",
}
PAGE = """# How long a ledger takes to open

Made by `python benchmarks/ledger.py`: process CPU, the least of {attempts}, each in a process of its own that has everything
imported. The ledgers are of a die of 512 × 512 cells; each operation pulses a row, and all are done. The numbers are in
[ledger.json](ledger.json).

| | {few:,} operations | {many:,} operations | promised |
|---|---|---|---|
{lines}

* Promised: at most {limit_s:g} s, and {limit_ratio:g} times what the small one takes.
* An intent or an outcome, committed, took {transaction_few_ms:.2f} ms in the small ledger and {transaction_many_ms:.2f} ms in
  the large one, which has {bytes_many:,} bytes. They lay in {where}.
"""


def page(seconds, figures, where):
    few, many = figures["operations"]

    def line(name, what):
        small, large = (f"{1e3 * seconds[f'{name}_{which}']:.1f} ms" for which in ("few", "many"))
        return f"| {what} | {small} | {large} | {_verdict(name, seconds)} |"

    lines = [line(name, what) for name, what in NAMES.items()]
    if "check_many" in seconds:
        lines.append(
            f"| `rramlab dies check`, the whole command | {seconds['check_few']:.2f} s | {seconds['check_many']:.2f} s | |"
        )
    return PAGE.format(
        attempts=ATTEMPTS,
        few=few,
        many=many,
        lines="\n".join(lines),
        limit_s=LIMIT_S,
        limit_ratio=LIMIT_RATIO,
        where=where,
        **figures,
    )


def _verdict(name, seconds):
    if name not in PROMISED:
        return ""
    few, many = seconds[f"{name}_few"], seconds[f"{name}_many"]
    return "pass" if many <= LIMIT_S and many <= LIMIT_RATIO * few else "**fail**"


def main():
    asked = command_line(
        "ledger",
        operations={"type": int, "default": MANY, "help": f"of the large ledger ({MANY:,})"},
        out={"type": Path, "help": "where the ledgers are made (memory, where there is room)"},
        results={"type": Path, "help": "write the page and the figures into this folder"},
    )
    where = asked.out or (IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix="rramlab-ledger-", dir=where) as folder:
        seconds, figures = measure(Path(folder), FEW, asked.operations)
    found = ratios(seconds)
    notes = {
        **{f"{name}_to_limit": f"the limit of {LIMIT_S} s; {what}" for name, what in NAMES.items()},
        **{f"{name}_to_few": f"a ledger of {FEW} operations; limit {LIMIT_RATIO:g}" for name in NAMES},
    }
    report("ledger", found, seconds, notes, asked, figures)
    if asked.results:
        (asked.results / "ledger.md").write_text(page(seconds, figures, where), encoding="utf-8")
        document = {"benchmark": "ledger", "ratios": found, "ratio_to": notes, "seconds": seconds, "figures": figures}
        (asked.results / "ledger.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(_verdict(name, seconds) == "**fail**" for name in PROMISED))


if __name__ == "__main__":
    sys.exit(main())
