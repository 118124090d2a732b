"""``protocols list``, ``show``, ``check``, ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import RramlabError, UsageError
from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command, fail, print_json, styled

if TYPE_CHECKING:
    from rramlab.drivers.bench import BenchDescription
    from rramlab.protocols.files import Protocol

app = typer.Typer(help="The programming protocols: one YAML file each.", no_args_is_help=True)

_WHERE = {"wheel": "installed"}
_CHANGES = {"no": "harmless", "yes": "changes the die", "depends": "as its parameters say"}


@app.command("list")
@command
def list_(bench: BenchPath = None, as_json: Json = False) -> None:
    """List every protocol: what it does, whether it changes the die for good, and where its file is."""
    from rramlab.base.folders import bench_file, listing

    out = Output(as_json)
    root = bench_file(bench)[1]
    table = out.table("protocol", "what it does", "die", "from")
    found = []
    for name, located in sorted(listing(root, "protocols").items()):
        entry = {"name": name, "origin": located.origin, "path": str(located.path), **_said(root, name)}
        found.append(entry)
        what = entry["description"] or entry["error"]
        table.add_row(name, what, _CHANGES.get(entry["changes"], "?"), _WHERE.get(located.origin, located.origin))
    out.say(table)
    out.finish({"protocols": found})


def _said(root: Path, name: str) -> dict[str, Any]:
    """Say what a file is for; one that cannot be read says why, and does not hide the others."""
    from rramlab.protocols.files import load_protocol

    try:
        protocol = load_protocol(root, name)
    except RramlabError as error:
        return {"description": None, "changes": None, "error": str(error)}
    return {"description": protocol.file.description, "changes": protocol.changes, "error": None}


@app.command("show")
@command
def show(
    name: Annotated[str, typer.Argument(help="A protocol's name, or a file.")],
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show a protocol: its parameters with type, default and range, its limits and its steps."""
    from rramlab.base.folders import bench_file
    from rramlab.protocols.files import load_protocol

    out = Output(as_json)
    protocol = load_protocol(bench_file(bench)[1], name)
    file = protocol.file
    out.say(styled(file.name), f": {file.description}")
    parameters = [
        {
            "name": name,
            "type": each.type,
            "unit": each.unit,
            "default": each.default,
            "minimum": each.minimum,
            "maximum": each.maximum,
            "choices": list(each.choices),
            "example": each.example,
            "description": each.description,
        }
        for name, each in file.parameters.items()
    ]
    if parameters:
        table = out.table("parameter", "type", "unit", "default", "range", "what it is")
        for name, each in file.parameters.items():
            default = "must be given" if each.default is None else str(each.default)
            if each.default is None and each.example is not None:
                default += f", such as {each.example}"
            table.add_row(name, each.type, each.unit or "", default, each.range, each.description)
        out.say(table)
    limits = protocol.document.data.get("limits") or {}
    if limits:
        out.say("limits: " + ", ".join(f"{name} {value}" for name, value in limits.items()))
    out.say(protocol.text_of_steps)
    out.say(
        f"It {'is harmless' if protocol.changes == 'no' else _CHANGES[protocol.changes]}. "
        f"From {_WHERE.get(protocol.origin, protocol.origin)}: {protocol.path}"
    )
    out.finish({"name": file.name, "description": file.description, "changes": protocol.changes, "origin": protocol.origin,
                "path": str(protocol.path), "parameters": parameters, "limits": limits,
                "steps": protocol.document.data["steps"]})  # fmt: skip


@app.command("check")
@command
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help="Default: every protocol.")
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Read protocols whole and check what they would do, at worst, with the bench's limits; nothing is opened."""
    from rramlab.base.folders import listing
    from rramlab.drivers.bench import describe_bench

    out = Output(as_json)
    description = describe_bench(bench)
    checked = [_checked(description, name) for name in names or sorted(listing(description.root, "protocols"))]
    for entry in checked:
        out.say(f"{entry['name']}: ", styled("OK", "green") if entry["ok"] else styled(entry["error"], "red"))
    wrong = [entry for entry in checked if not entry["ok"]]
    document = {"protocols": checked}
    if wrong:
        fail(
            f"{len(wrong)} of {len(checked)} protocols cannot be run as they are",
            UsageError.exit_code,
            as_json,
            document,
        )
    out.finish(document)


def _checked(description: BenchDescription, name: str) -> dict[str, Any]:
    """Plan a protocol with its defaults, and examples for what must be given, and check that at its worst case."""
    from rramlab.engine.guard import check_worst_case
    from rramlab.protocols.files import load_protocol
    from rramlab.runs.fitting import refuse_unkeepable

    protocol: Protocol | None = None
    error = None
    try:
        protocol = load_protocol(description.root, name)
        plan = protocol.plan(description.board.geometry, protocol.examples())
        check_worst_case(plan, description.limits, description.board, description.smu_files)
        refuse_unkeepable(plan, description.data / "runs")
    except RramlabError as found:
        error = str(found)
    path = None if protocol is None else str(protocol.path)
    return {"name": name, "path": path, "ok": error is None, "error": error}


@app.command("schema")
@command
def schema(
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write it there instead.")] = None,
    as_json: Json = False,
) -> None:
    """Print the JSON schema of protocol files, for editors that complete and check YAML."""
    from rramlab.base.files import write_atomic
    from rramlab.protocols.schema import as_text, protocol_schema

    found = protocol_schema()
    if output is None:
        print_json(found)
        return
    write_atomic(output, as_text(found).encode())
    out = Output(as_json)
    out.say(f"Written: {output}")
    out.finish({"schema": str(output)})
