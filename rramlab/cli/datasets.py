"""``data list``: which data sets are found where."""

from __future__ import annotations

import typer

from rramlab.cli.options import BenchPath, DataFolder, Json
from rramlab.cli.output import Output, command

app = typer.Typer(help="Data sets that recipes train on.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("list")
@command
def data_list(data: DataFolder = None, bench: BenchPath = None, as_json: Json = False) -> None:
    """Say which data sets are found where, and how to get what is missing."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.training import find_datasets

    out = Output(as_json)
    found = find_datasets(data, describe_bench(bench).root)
    table = out.table("data set", "there", "where", "")
    for each in found:
        table.add_row(each.name, "yes" if each.available else "no", str(each.folder or ""), each.detail)
    out.say(table)
    out.finish({"datasets": [{**vars(each), "folder": str(each.folder) if each.folder else None} for each in found]})
