"""``drivers list``, ``show``, ``check``, ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError, RramlabError, UsageError
from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command, fail, print_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from rramlab.base.folders import Located
    from rramlab.drivers.driverfile import Driver
    from rramlab.drivers.smu.smufile import SmuFile

app = typer.Typer(help="The instrument drivers: one YAML file each.", no_args_is_help=True)


def _root(bench: Path | None) -> Path:
    from rramlab.base.folders import bench_file

    return bench_file(bench)[1]


@app.command("list")
@command
def list_(bench: BenchPath = None, as_json: Json = False) -> None:
    """List every driver file and where it is: the working bench, the repository or the installed wheel."""
    from rramlab.base.folders import listing

    out = Output(as_json)
    found = [_listed(name, located) for name, located in sorted(listing(_root(bench), "drivers").items())]
    table = out.table("driver", "kind", "model", "from", "path")
    for entry in found:
        kind, model = ("unreadable", "") if entry["error"] else (str(entry["kind"]), str(entry["model"]))
        table.add_row(entry["name"], kind, model, entry["origin"], entry["path"])
    out.say(table)
    errors = [entry["error"] for entry in found if entry["error"]]
    if errors:
        fail("; ".join(errors), RramlabError.exit_code, as_json, {"drivers": found})
    out.finish({"drivers": found})


def _listed(name: str, located: Located) -> dict[str, Any]:
    """Say what a file claims to be; whether it is that, ``check`` says. One that cannot be read says why."""
    from rramlab.base.yamlfile import load_yaml

    data, error = None, None
    try:
        data = load_yaml(located.path).data
    except (DataError, UsageError) as problem:
        error = str(problem)
    said = data if isinstance(data, dict) else {}
    return {
        "name": name,
        "kind": said.get("kind"),
        "model": said.get("model"),
        "origin": located.origin,
        "path": str(located.path),
        "error": error,
    }


@app.command("show")
@command
def show(
    name: Annotated[str, typer.Argument(help="A driver's name, or a file.")],
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show what a driver file says: identity, limits and what is sent for each verb, or the figures of a board."""
    from rramlab.drivers.driverfile import load_driver
    from rramlab.drivers.smu.smufile import SmuFile

    out = Output(as_json)
    driver = load_driver(_root(bench), name)
    document: dict[str, Any] = {"path": str(driver.located.path), "origin": driver.located.origin}
    if isinstance(driver.file, SmuFile):
        _show_smu(out, driver.file)
        document |= driver.file.model_dump(mode="json", exclude={"transcript"}, exclude_none=True)
    else:
        figures = tagged_figures(driver.document.data)
        table = out.table("figure", "value", "tag", "source", title=f"board {driver.file.model}")
        for entry in figures:
            table.add_row(entry["figure"], entry["shown"], entry["tag"], entry["source"])
        out.say(table)
        document |= {"kind": "board", "model": driver.file.model, "figures": figures}
    out.say(f"From {driver.located.origin}: {driver.located.path}")
    out.finish(document)


_UNITS = {"voltage": "V", "voltage_limit": "V", "current": "A", "current_limit": "A", "dwell": "s"}


def _show_smu(out: Output, file: SmuFile) -> None:
    from rramlab.base.units import show as spell

    facts = out.facts(f"{file.model}: {file.description}")
    facts.add_row("manual", file.manual)
    facts.add_row("identity", file.identity.reply)
    facts.add_row("channels", ", ".join(f"{number}: {text}" for number, text in file.channels.items()))
    for name, setting in file.settings:
        facts.add_row(name, f"{setting.means} ({setting.send})")
    for name, value in file.limits:
        unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
        facts.add_row(f"limit: {name.replace('_', ' ')}", spell(value, unit) if unit else str(value))
    out.say(facts)
    table = out.table("verb", "what is sent", "source", title="verbs")
    for verb, messages, source in _verbs(file.verbs):
        table.add_row(verb, "\n".join(messages), source)
    out.say(table)


def _verbs(node: BaseModel, path: str = "") -> list[tuple[str, list[str], str]]:
    """Return name, messages and source of every verb below ``node``."""
    from rramlab.drivers.smu.smufile import Sweep, Verb

    if isinstance(node, Verb):
        return [(path, list(node.send), node.source)]
    if isinstance(node, Sweep):
        handed_over = [node.levels.first, f"{node.levels.further}  (further ones)"]
        return [(path, [*node.prepare, *handed_over, *node.arm, *node.start], node.source)]
    return [
        found
        for name, below in node
        if below is not None
        for found in _verbs(below, f"{path}.{name}" if path else name)
    ]


def tagged_figures(data: dict[str, Any]) -> list[dict[str, str]]:
    """List every tagged figure of a board file as a person wrote it."""
    return [
        {"figure": name, "shown": _shown(entry["value"]), "tag": entry["tag"], "source": entry["source"]}
        for group in data.values()
        if isinstance(group, dict)
        for name, entry in group.items()
        if isinstance(entry, dict) and "tag" in entry
    ]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command("check")
@command
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help="Default: every driver.")] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Read driver files whole; replay the transcript of an SMU byte by byte, compute the table of a board."""
    from rramlab.base.folders import listing
    from rramlab.drivers.driverfile import load_driver

    out = Output(as_json)
    root = _root(bench)
    checked = []
    for name in names or sorted(listing(root, "drivers")):
        driver = load_driver(root, name)
        what = _checked(driver)
        out.say(f"{driver.file.model}: {what}")
        checked.append(
            {
                "model": driver.file.model,
                "kind": driver.file.kind,
                "path": str(driver.located.path),
                "origin": driver.located.origin,
                "checked": what,
            }
        )
    out.finish({"drivers": checked})


def _checked(driver: Driver) -> str:
    from rramlab.drivers.driverfile import smu_class
    from rramlab.drivers.smu.smufile import SmuFile
    from rramlab.drivers.smu.transcript import replay

    if isinstance(driver.file, SmuFile):
        calls = replay(driver.file, driver.document, smu_class(driver.file, driver.document))
        return f"{calls} calls of its transcript replayed, every byte as written"
    rows, columns = driver.file.table().geometry.shape
    return f"table of {rows} × {columns} cells computed"


@app.command("schema")
@command
def schema(
    kind: Annotated[str, typer.Argument(metavar="[smu|board]", help="Of which kind of file.")] = "smu",
    as_json: Json = False,
) -> None:
    """Print the JSON schema of a kind of driver file, for editors that complete and check YAML."""
    from rramlab.drivers.driverfile import schema_of

    print_json(schema_of(kind))
