"""What plan, guard, ledger and store add to forming a whole array, and how long a dry run of 10,000 steps takes."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from figures import best, report
from typer.testing import CliRunner

import rramlab
from rramlab.base.folders import shipped
from rramlab.cli.app import app
from rramlab.drivers.bench import describe_bench
from rramlab.engine.guard import check_worst_case
from rramlab.plan.worst import bounds
from rramlab.protocols.files import load_protocol
from rramlab.runs.ledger import Ledger
from rramlab.sim.backend import open_simulated

DIE = "sim-0001"
OVERHEAD_LIMIT = 2.0
DRY_RUN_LIMIT_S = 1.0
STEPS = 10_000
ATTEMPTS = 7
CALLS = ("hello", "pulse", "read", "acknowledge", "history", "safe_state", "status", "load_gates")
BLOB = 6000  # bytes of a packed selection of 64 whole rows and what stands beside it, at most


def watched(owner, name, note):
    """Let ``owner.name`` tell ``note`` its arguments before it does what it does; return what puts it back."""
    original = getattr(owner, name)

    def told(*arguments, **more):
        note(*arguments)
        return original(*arguments, **more)

    setattr(owner, name, told)
    return lambda: setattr(owner, name, original)


def form(folder, script=None):
    """Form all cells through a session; return seconds. ``script``: takes down what is done, for :func:`bare`."""
    with rramlab.open_bench(folder) as session:
        undo = [] if script is None else _take_down(session, script)
        begun = time.perf_counter()
        session.run("electroform", {"cells": "all"}, arm=DIE)
        taken = time.perf_counter() - begun
        for each in undo:
            each()
    return taken


def _take_down(session, script):
    (controller,) = session.bench.controllers.values()

    def renamed(temporary, target):
        if Path(target) != controller.path:  # that file is the controller's own
            script.append(("file", temporary.stat().st_size))

    undo = [watched(Path, "replace", renamed)]
    for name in ("intend", "finish", "put"):
        undo.append(watched(Ledger, name, lambda *_: script.append(("transaction", BLOB))))
    for name in CALLS:
        undo.append(watched(controller, name, lambda *arguments, name=name: script.append((name, arguments))))
    return undo


def bare(folder, script):
    """Do the same controller calls on a die like it, with as many synced transactions and files; return seconds."""
    description = describe_bench(folder)
    backend = open_simulated(description.file, description.board, description.data)
    controller = backend.controllers[DIE]
    (folder / "files").mkdir()
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE operations (id INTEGER PRIMARY KEY, cells BLOB)")
        begun = time.perf_counter()
        for number, (what, detail) in enumerate(script):
            match what:
                case "transaction":
                    database.execute("INSERT INTO operations (cells) VALUES (?)", (bytes(detail),))
                case "file":
                    _write(folder / "files" / str(number), bytes(detail))
                case _:
                    getattr(controller, what)(*detail)
        return time.perf_counter() - begun


def _write(path, data):
    """A file that survives a crash: written, synced, renamed, its folder synced."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def overhead():
    """Return the shortest seconds through a session and bare, and how many syncs of each kind there were."""
    script = []
    with tempfile.TemporaryDirectory() as name:
        form(Path(name), script)
    pairs = []
    for _ in range(ATTEMPTS):  # in turn, so that both see the same disk
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            pairs.append((form(Path(one)), bare(Path(other), script)))
    kinds = [what for what, _ in script]
    return *np.min(pairs, axis=0).tolist(), kinds.count("transaction"), kinds.count("file")


HEAD = "name: many\ndescription: a protocol of many steps\nlimits: {reset_voltage: 2.2 V}\nsteps:\n  - contact\n"
ROUND = (
    "- reset: {{cells: {0}, voltage: {1}, width: 1 us, gate: 3 V}}",
    "- read: {{cells: {0}, repeats: 2}}",
)


def _alike(number):
    """One of 64 regions and one of 50 voltages."""
    first = number % 64 * 8
    return f"rows {first}-{first + 7}", f"{1.5 + number % 50 / 100:.2f} V"


def _different(number):
    """A region and a voltage that no other number has."""
    first, left = number % 500, number * 7 % 500
    return f"rows {first}-{first + 7} & cols {left}-{left + 1 + number // 500}", f"{1.5 + number / 10_000:.4f} V"


def _lines(indent, count, of=_alike):
    for number in range(count // len(ROUND)):
        for text in ROUND:
            yield " " * indent + text.format(*of(number))


def protocols():
    """Return texts of protocols with 10,000 steps: written out, alike or all different, and as rounds of a loop."""
    return {
        "written_out": HEAD + "\n".join(_lines(2, STEPS)) + "\n",
        "all_different": HEAD + "\n".join(_lines(2, STEPS, _different)) + "\n",
        "repeat": HEAD + f"  - repeat:\n      times: {STEPS // 100}\n      steps:\n" + "\n".join(_lines(8, 100)) + "\n",
    }


def check(text):
    """Return the shortest seconds of making a plan of a protocol that was read, checking it at its worst, and its bounds."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "many.yaml").write_text(text, encoding="utf-8")
        description = describe_bench(Path(name))
        protocol = load_protocol(description.root, str(Path(name) / "many.yaml"))

        def once():
            plan = protocol.plan(description.board.geometry, {})
            expanded = check_worst_case(plan, description.limits, description.board, description.smu_files)
            bounds(expanded, description.board)

        return best(once, 3)


def dry_run(text):
    """Return the shortest seconds of ``rramlab run FILE --dry-run`` in this process, which has all imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench.yaml").write_text(
            (shipped().path / "bench.yaml").read_text(encoding="utf-8"), encoding="utf-8"
        )
        (folder / "many.yaml").write_text(text, encoding="utf-8")
        words = ["run", str(folder / "many.yaml"), "--dry-run", "--json", "--bench", name]
        durations = []
        for _ in range(3):
            begun = time.perf_counter()
            done = CliRunner().invoke(app, words)
            durations.append(time.perf_counter() - begun)
            if done.exit_code:
                raise RuntimeError(f"the dry run ended with {done.exit_code}: {done.stderr}")
    return min(durations)


def main():
    formed, calls, transactions, files = overhead()
    texts = protocols()
    checked = check(texts["written_out"])
    dry = {name: dry_run(text) for name, text in texts.items()}
    limit = f"the limit of {DRY_RUN_LIMIT_S:g} s for {STEPS:,} steps"
    report(
        "engine",
        {
            "session_to_bare": formed / calls,
            "check_to_limit": checked / DRY_RUN_LIMIT_S,
            "dry_run_written_out_to_limit": dry["written_out"] / DRY_RUN_LIMIT_S,
            "dry_run_repeat_to_limit": dry["repeat"] / DRY_RUN_LIMIT_S,
            "dry_run_all_different_to_written_out": dry["all_different"] / dry["written_out"],
        },
        {
            "session": formed,
            "bare": calls,
            "check": checked,
            **{f"dry_run_{name}": taken for name, taken in dry.items()},
        },
        {
            "session_to_bare": (
                f"the same controller calls, {transactions} synced transactions and {files} synced files; limit "
                f"{OVERHEAD_LIMIT:g}"
            ),
            "check_to_limit": f"{limit} that were read already: plan, check and bounds",
            "dry_run_written_out_to_limit": f"{limit}, each on a line of its own, of 64 regions and 50 voltages: the command",
            "dry_run_repeat_to_limit": f"{limit}, as rounds of a repeat: the command",
            "dry_run_all_different_to_written_out": "as many steps; no two pulses have a region or a voltage in common",
        },
    )


if __name__ == "__main__":
    main()
