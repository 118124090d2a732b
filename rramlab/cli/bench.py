"""``init``, ``bench show``, ``bench check``, ``estop``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import InstrumentError, RramlabError, UsageError
from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command, note_bench

if TYPE_CHECKING:
    from rramlab.drivers.bench import BenchDescription

app = typer.Typer(help="What is on the table.", no_args_is_help=True)


@command
def init(folder: Annotated[Path, typer.Argument(help="New bench folder.")], as_json: Json = False) -> None:
    """Make a bench folder: bench.yaml, drivers/, protocols/, calibration/, data/."""
    from rramlab.base.folders import BENCH_FILE, ROOMS, shipped

    out = Output(as_json)
    if (folder / BENCH_FILE).exists():
        raise UsageError(f"{folder / BENCH_FILE} exists; nothing was changed. Choose another folder")
    source = shipped().path
    written = []
    for room in (*ROOMS, "data"):
        (folder / room).mkdir(parents=True, exist_ok=True)
        for path in sorted([*(source / room).glob("*.yaml"), *(source / room).glob("README.md")]):
            target = folder / room / path.name
            if not target.exists():
                shutil.copyfile(path, target)
                written.append(str(target))
    shutil.copyfile(source / BENCH_FILE, folder / BENCH_FILE)
    written.append(str(folder / BENCH_FILE))
    out.say(f"Made the bench folder [bold]{folder}[/] with {len(written)} files.")
    out.say(f"Next: cd {folder} && rramlab bench check")
    out.finish({"folder": str(folder), "files": written})


@app.command("show")
@command
def show(bench: BenchPath = None, as_json: Json = False) -> None:
    """Show what the bench files say, where each came from, and every figure with its tag. Opens nothing."""
    from rramlab.base.folders import listing
    from rramlab.drivers.bench import describe_bench

    out = Output(as_json)
    description = describe_bench(bench)
    protocols = listing(description.root, "protocols")
    figures = _electrical(description)
    document: dict[str, Any] = {
        "name": description.file.name,
        "root": str(description.root),
        "bench_file": {"path": str(description.located.path), "origin": description.located.origin},
        "board_file": {"path": str(description.board_located.path), "origin": description.board_located.origin},
        "protocols": {name: {"path": str(at.path), "origin": at.origin} for name, at in protocols.items()},
        "backend": description.file.backend,
        "board": description.file.controller.board,
        "dies": [die.id for die in description.file.dies],
        "limits": description.limits.model_dump(exclude_none=True),
        "data": str(description.data),
        "electrical": figures,
    }
    files = out.table("file", "from", "path", title=f"{description.file.name}: {description.root}")
    files.add_row("bench.yaml", description.located.origin, str(description.located.path))
    files.add_row(description.board.name, description.board_located.origin, str(description.board_located.path))
    for name, at in protocols.items():
        files.add_row(name, at.origin, str(at.path))
    out.say(files)
    electrical = out.table("figure", "value", "tag", "source", title=f"board {description.board.name}")
    for entry in figures:
        electrical.add_row(entry["figure"], entry["shown"], entry["tag"], entry["source"])
    out.say(electrical)
    out.say(_limits_table(out, description.limits.model_dump(exclude_none=True), "limits: board ∩ bench"))
    out.finish(document)


@app.command("check")
@command
def check(bench: BenchPath = None, as_json: Json = False) -> None:
    """Open every instrument, identify it, compare with the bench file. Energises nothing."""
    from rramlab.drivers.bench import Bench, describe_bench

    out = Output(as_json)
    description = describe_bench(bench)
    note_bench(description)
    found = []
    with Bench(description) as opened:
        table = out.table("die", "board", "firmware", "array", "protocol", "temperature", title=description.file.name)
        for die, identity in opened.identities.items():
            rows, columns = identity.geometry.shape
            table.add_row(
                die,
                identity.board_serial,
                identity.firmware,
                f"{rows} × {columns}",
                str(identity.protocol),
                f"{identity.temperature_C:.1f} °C",
            )
            found.append(
                {
                    "die": die,
                    "board": identity.board_serial,
                    "firmware": identity.firmware,
                    "rows": rows,
                    "columns": columns,
                    "protocol": identity.protocol,
                    "temperature_C": identity.temperature_C,
                    "capabilities": sorted(identity.capabilities),
                }
            )
        limits = opened.limits.model_dump(exclude_none=True)
    out.say(table)
    out.say(_limits_table(out, limits, "limits: silicon ∩ controller ∩ bench"))
    out.say("The board must have at power-up:")
    for item in description.board_file.power_up:
        out.say(f"  · {item}")
    out.say("All instruments answered as expected; nothing was energised.")
    out.finish({"instruments": found, "limits": limits, "power_up": list(description.board_file.power_up)})


@command
def estop(bench: BenchPath = None, as_json: Json = False) -> None:
    """Bring the bench to its safe state now: signal the process that holds it, or do it here if none does."""
    from rramlab.drivers.bench import Bench, BenchLock, describe_bench

    out = Output(as_json)
    description = describe_bench(bench)
    lock = BenchLock(description.data)
    holder = lock.holder()
    if holder is None:
        with Bench(description) as opened:
            opened.safe_state()
        out.say("No process held the bench; every instrument was brought to its safe state.")
        out.finish({"signalled": None, "safe": True})
        return
    pid, host = holder.get("pid"), holder.get("host")
    if type(pid) is not int or pid <= 1 or host != socket.gethostname():
        raise RramlabError(
            f"the bench is held by process {pid or 'unknown'} on {host or 'an unknown host'}, which cannot be signalled from "
            "here. Run rramlab estop there, or switch the bench's supplies off by hand"
        )
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        out.say(f"Process {pid} is gone already.")
    deadline = time.monotonic() + 10
    while lock.holder() is not None:
        if time.monotonic() > deadline:
            raise InstrumentError(
                f"process {pid} was signalled and still holds the bench after 10 s; assume that its lines are live. Switch "
                "the bench's supplies off by hand"
            )
        time.sleep(0.05)
    with Bench(description) as opened:  # whatever the process could still do: now it is certain
        opened.safe_state()
    out.say(f"Process {pid} ({holder.get('command')}) was stopped; the bench is in its safe state.")
    out.finish({"signalled": pid, "safe": True})


_UNITS = {
    "voltage": "V", "sl_minus_bl": "V", "bl_minus_sl": "V", "wl_minus_bl": "V", "sl_minus_off_wl": "V",
    "current": "A", "pulse": "s",
}  # fmt: skip


def _limits_table(out: Output, limits: dict[str, Any], title: str) -> Any:
    from rramlab.base.units import show as spell

    table = out.table("limit", "value", title=title)
    for name, value in limits.items():
        unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
        table.add_row(name, spell(value, unit) if unit else str(value))
    return table


def _electrical(description: BenchDescription) -> list[dict[str, str]]:
    """List every figure of the board file as a person wrote it."""
    from rramlab.base.yamlfile import load_yaml

    document = load_yaml(description.board_located.path).data
    return [
        {"figure": name, "shown": str(entry["value"]), "tag": entry["tag"], "source": entry["source"]}
        for group in document.values()
        if isinstance(group, dict)
        for name, entry in group.items()
        if isinstance(entry, dict) and "tag" in entry
    ]
