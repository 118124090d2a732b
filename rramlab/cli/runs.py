"""``runs list``, ``runs show``."""

from __future__ import annotations

from typing import Annotated

import typer

from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command
from rramlab.cli.run import say_checks

app = typer.Typer(help="What was run, and what came of it.", no_args_is_help=True)


@app.command("list")
@command
def list_(bench: BenchPath = None, as_json: Json = False) -> None:
    """List all runs, oldest first."""
    from rramlab.base.errors import DataError
    from rramlab.drivers.bench import BenchLock, describe_bench
    from rramlab.runs.store import list_runs

    out = Output(as_json)
    data = describe_bench(bench).data
    held = BenchLock(data).holder() is not None
    records = []
    for run in list_runs(data / "runs"):
        try:
            record = run.record
        except DataError as error:
            record = {"id": run.id, "die": "", "status": "unreadable", "reason": str(error)}
        if record["status"] == "running" and not held:
            record["status"] = "interrupted"  # its process is gone, and nobody wrote how it ended
        records.append(record)
    table = out.table("run", "die", "status", "pulses", "reason")
    for record in records:
        table.add_row(record["id"], record["die"], record["status"], f"{record.get('pulses', 0):,}", record["reason"])
    out.say(table if records else "There are no runs yet. Start one with: rramlab contact")
    out.finish({"runs": records})


@app.command("show")
@command
def show(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, its beginning, or 'last'.")],
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show one run: how it ended, what was checked, what it measured."""
    from rramlab.base.files import read_json
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.store import find_run

    out = Output(as_json)
    found = find_run(describe_bench(bench).data / "runs", name)
    record = found.record
    blocks: dict[str, int] = {}
    for block in found.blocks():
        key = f"step {block.position.split('.')[0]}: {block.dataset}"
        blocks[key] = blocks.get(key, 0) + 1
    table = out.facts(found.id)
    for key in ("die", "status", "reason", "started_at", "finished_at"):
        table.add_row(key.replace("_", " "), str(record.get(key, "")))
    for key in ("pulses", "conversions"):
        table.add_row(key, f"{record.get(key, 0):,}")
    for key, value in found.plan.parameters.items():
        table.add_row(f"parameter {key}", str(value))
    for key, count in blocks.items():
        table.add_row(key, f"{count} blocks")
    table.add_row("folder", str(found.folder))
    out.say(table)
    say_checks(out, record.get("checks", []))
    provenance = read_json(found.folder / "provenance.json")
    out.finish({**record, "folder": str(found.folder), "blocks": blocks, "provenance": provenance})
