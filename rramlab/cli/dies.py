"""``dies list``, ``show``, ``wear``: what ledgers say. Reads files only, also of a bench that a process holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError, RramlabError, UsageError
from rramlab.cli.options import BenchPath, Json
from rramlab.cli.output import Output, command, styled

if TYPE_CHECKING:
    from rramlab.drivers.bench import BenchDescription
    from rramlab.runs.life import Life, Wear

app = typer.Typer(help="The life of each die, by its ledger.", no_args_is_help=True)
DieId = Annotated[str, typer.Argument(metavar="DIE", help="The die's id.")]
_RUNS = 12  # of a die that are listed for people


@app.command("list")
@command
def list_(bench: BenchPath = None, as_json: Json = False) -> None:
    """List the dies of the bench and every die that was worked on here."""
    from rramlab.drivers.bench import describe_bench

    out = Output(as_json)
    description = describe_bench(bench)
    on_bench = [entry.id for entry in description.file.dies]
    folders = sorted(path.name for path in (description.data / "dies").glob("*") if path.is_dir())
    found = [_entry(description, die, die in on_bench) for die in dict.fromkeys([*on_bench, *folders])]
    table = out.table("die", "enrolled", "pulses", "pristine", "conducting", "unknown", "last contact test", "wear")
    for each in found:
        if each["problem"]:
            table.add_row(each["die"], each["problem"])
            continue
        cells = [f"{each[key]:,}" for key in ("pulses", "pristine", "conducting", "unknown")]
        table.add_row(each["die"], _day(each["enrolled_at"]), *cells, _contact(each), _wear_text(each))
    out.say(table)
    unread = [each["die"] for each in found if not each["problem"] and each["unread"] and not each["pristine"]]
    if unread:
        out.say(f"Of {', '.join(unread)} cells were pulsed and not read since: rramlab run read-array --die DIE")
    out.finish({"dies": found})


@app.command("show")
@command
def show(die: DieId, bench: BenchPath = None, as_json: Json = False) -> None:
    """Show a die's life: operations by kind, runs, peak voltages, what is unknown or dangling."""
    from rramlab.base.units import show as spell
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.life import tally_as_json

    out = Output(as_json)
    description = describe_bench(bench)
    life, contact = life_in(description, die)
    document = {
        **_facts(description, life, contact),
        "on_bench": die in [entry.id for entry in description.file.dies],
        "kinds": {kind: tally_as_json(tally) for kind, tally in life.kinds.items()},
        "first_at": life.total.first_at,
        "last_at": life.total.last_at,
        "runs": [
            {"run": run, **tally_as_json(tally), "kept": (description.data / "runs" / run / "run.json").exists()}
            for run, tally in life.runs.items()
        ],
        "dangling": [
            {"operation": entry.op_id, "run": entry.run, "kind": entry.kind, "cells": entry.cells.count,
             "intended_at": entry.intended_at}
            for entry in life.dangling
        ],
    }  # fmt: skip
    table = out.facts(die)
    table.add_row("enrolled", _moment(life.enrolled_at))
    table.add_row("last contact test", _contact(document))
    table.add_row("cells", f"{life.pulses.size:,}: {life.pristine:,} pristine, {life.conducting:,} conduct, "
                           f"{life.unread:,} not read since their last pulse, {life.unknown:,} unknown")  # fmt: skip
    table.add_row("wear", _wear_text(document))
    if life.total.operations:
        table.add_row("first and last pulse", f"{_moment(life.total.first_at)}, {_moment(life.total.last_at)}")
    out.say(table)
    if life.kinds:
        table = out.table("kind", "operations", "pulses", "highest voltage", "first", "last")
        for kind, tally in life.kinds.items():
            table.add_row(kind, f"{tally.operations:,}", f"{tally.pulses:,}", spell(tally.peak_V, "V"),
                          _moment(tally.first_at), _moment(tally.last_at))  # fmt: skip
        out.say(table)
        _say_runs(out, document["runs"])
    else:
        out.say("No pulse was ever sent to it.")
    for entry in document["dangling"]:
        out.say(
            f"Operation {entry['operation']} ({entry['kind']} of {entry['cells']:,} cells, run {entry['run']}) was intended "
            "and has no outcome: it goes on now, or was cut off. The next run of this die decides it."
        )
    if life.unknown:
        out.say(f"{life.unknown:,} cells may or may not have had their last pulse; they are left alone.")
    out.finish(document)


@app.command("wear")
@command
def wear(
    die: DieId,
    region: Annotated[
        str, typer.Option("--region", metavar="CELLS", help="Of these cells, such as 'rows 0-3'.")
    ] = "all",
    png: Annotated[Path | None, typer.Option("--png", help="Also write a map and histogram as a picture.")] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show how often cells were pulsed, against the bench's wear budget: histogram, and the most worn."""
    from dataclasses import asdict

    from rramlab.drivers.bench import describe_bench
    from rramlab.macro.regions import Region
    from rramlab.runs.life import wear_of

    out = Output(as_json)
    description = describe_bench(bench)
    life, _ = life_in(description, die)
    from rramlab.macro.geometry import Geometry

    cells = Region(region).resolve(Geometry(*life.pulses.shape), life.state).bits
    if not cells.any():
        raise UsageError(f"found the region {region!r}, which means no cell of die {die!r} as it is")
    found = wear_of(life.pulses, cells, description.limits.pulses_per_cell)
    _say_wear(out, die, region, found)
    if png is not None:
        from rramlab.report.diefigures import save_wear

        save_wear(life.pulses, cells, png, f"die {die}" + ("" if region == "all" else f", {region}"))
        out.say(f"Picture: {png}")
    out.finish({"die": die, "region": region, **asdict(found), "share": found.share, "png": str(png) if png else None})


@app.command("check")
@command
def check(die: DieId, bench: BenchPath = None, as_json: Json = False) -> None:
    """Compare all that a die's ledger says: every row with its sum, the counts, the index, every witness, every run."""
    from contextlib import closing

    from rramlab.base.errors import BenchLocked
    from rramlab.base.times import now
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.ledger import Ledger, view_ledger
    from rramlab.runs.ledger.check import check as compare
    from rramlab.runs.ledger.writer import CHECKED

    out = Output(as_json)
    description = describe_bench(bench)
    path = _ledger_of(description, die)
    with view_ledger(path, hear=False) as view:
        found = compare(view, description.data / "runs")
        geometry = view.geometry
    if found.problems:
        raise DataError(f"die {die!r}: " + "; and: ".join(found.problems))
    noted = True
    try:
        with closing(Ledger(path, die, geometry)) as ledger:
            ledger.put(CHECKED, now())
    except BenchLocked:
        noted = False  # whoever works with it checks it again when it is old
    out.say(
        f"{die}: {found.rows:,} rows of {found.operations:,} operations, counts, index and {len(found.witnesses):,} witnesses "
        "agree."
    )
    out.finish(
        {
            "die": die,
            "rows": found.rows,
            "operations": found.operations,
            "witnesses": list(found.witnesses),
            "noted": noted,
        }
    )


@app.command("adopt")
@command
def adopt(
    die: DieId,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who says so.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why this ledger is the die's.")],
    cells: Annotated[
        str | None,
        typer.Option(
            "--cells",
            metavar="CELLS",
            help="Cells that may have had other pulses, where a person knows it: 'rows 0-63'.",
        ),
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Say that the ledger of this bench folder is the die's, where another one is, or was, elsewhere.

    Cells that the other one may have pulsed become unknown and are left alone; no cell has fewer pulses than before. Without
    --cells they are found in the other ledger, or are all cells where nobody can tell. The other is refused from then on.
    """
    from contextlib import closing

    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import BenchLock
    from rramlab.macro.regions import Region
    from rramlab.runs.ledger import Ledger, view_ledger
    from rramlab.runs.ledger.adopting import foreign_to
    from rramlab.runs.ledger.life import check_life

    out = Output(as_json)
    description = describe_bench(bench)
    path = _ledger_of(description, die)
    if not by.strip() or not reason.strip():
        raise UsageError("who adopts the ledger, and why, must be said: --by NAME --reason TEXT; nothing was changed")
    lock = BenchLock(description.data)
    lock.acquire()
    try:
        with view_ledger(path, hear=False) as view:
            check_life(view)
            foreign, geometry = foreign_to(view), view.geometry
        touched = foreign.cells if cells is None else Region(cells).bound(geometry)
        with closing(Ledger(path, die, geometry, believe=True)) as ledger:
            ledger.adopt(touched, by, reason)
            unknown = ledger.unknown().count
    finally:
        lock.release()
    missing = "nobody can tell how many" if foreign.operations is None else f"{foreign.operations:,}"
    out.say(
        f"The ledger {path} is the die's now, by {by}. Operations that it does not know: {missing} ({foreign.told_by}). "
        f"{touched.count:,} cells may have had pulses that it does not know; {unknown:,} cells are unknown and are left alone."
    )
    out.finish(
        {"die": die, "by": by, "reason": reason, "missing_operations": foreign.operations, "told_by": foreign.told_by,
         "cells": touched.count, "unknown": unknown}
    )  # fmt: skip


def _ledger_of(description: BenchDescription, die: str) -> Path:
    """Return the path of a die's ledger.

    Raises:
        DataError: it has none here.
    """
    from rramlab.base.names import checked
    from rramlab.runs import LEDGER

    path = description.data / "dies" / checked(die, "die id") / LEDGER
    if not path.exists():
        raise DataError(f"die {die!r} is not enrolled: it has no ledger {path}")
    return path


def _say_wear(out: Output, die: str, region: str, found: Wear) -> None:
    several = "the bench sets no budget" if found.budget is None else (
        f"the budget of {found.budget:,} is used up in {found.used_up:,} cells, the most worn cell has used {found.share:.2%}"
    )  # fmt: skip
    out.say(
        styled(die),
        f", {region}: {found.cells:,} cell{'' if found.cells == 1 else 's'} had {found.pulses:,} "
        f"pulse{'' if found.pulses == 1 else 's'}, {found.mean:.3g} each, at most {found.most:,}; {several}.",
    )
    table = out.table("pulses", "cells", "")
    longest = max(1, *(count for _, _, count in found.histogram))
    for low, high, count in found.histogram:
        table.add_row(
            f"{low:,}" if low == high else f"{low:,}–{high:,}", f"{count:,}", "█" * round(40 * count / longest)
        )
    out.say(table)
    if found.worst:
        worst = ", ".join(f"({row}, {column}): {count:,}" for row, column, count in found.worst)
        out.say(f"The most worn: {worst}")


def life_in(description: BenchDescription, die: str) -> tuple[Life, dict[str, Any]]:
    """Return a die's life, and its last contact test: empty where there is none that holds.

    Raises:
        UsageError: nobody has heard of the die. DataError: it is not enrolled, or its ledger cannot be read.
    """
    import json

    from rramlab.base.names import checked
    from rramlab.runs import CONTACT_KEY, LEDGER
    from rramlab.runs.ledger import view_ledger
    from rramlab.runs.life import life_of

    folder = description.data / "dies" / checked(die, "die id")
    if not folder.is_dir() and die not in [entry.id for entry in description.file.dies]:
        known = sorted(path.name for path in (description.data / "dies").glob("*") if path.is_dir())
        raise UsageError(
            f"there is no die {die!r} in {description.located.path}, and none was worked on in {description.data}; known: "
            f"{', '.join(dict.fromkeys([*(entry.id for entry in description.file.dies), *known]))}"
        )
    if not (folder / LEDGER).exists():
        raise DataError(
            f"die {die!r} is not enrolled: it has no ledger {folder / LEDGER}. It is enrolled when a command first opens the "
            "bench with it, such as: rramlab contact"
        )
    with view_ledger(folder / LEDGER) as ledger:
        known_contact = ledger.get(CONTACT_KEY)
        return life_of(ledger, folder), json.loads(known_contact) if known_contact else {}


def _facts(description: BenchDescription, life: Life, contact: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from rramlab.runs.life import wear_of

    worn = wear_of(life.pulses, np.ones(life.pulses.shape, np.bool_), description.limits.pulses_per_cell)
    return {
        "die": life.die,
        "enrolled_at": life.enrolled_at,
        "cells": int(life.pulses.size),
        "pulses": life.total.pulses,
        "pristine": life.pristine,
        "conducting": life.conducting,
        "unread": life.unread,
        "unknown": life.unknown,
        "contact_passed_at": contact.get("at"),
        "most_pulses": worn.most,
        "budget": worn.budget,
        "wear": worn.share,
    }


def _entry(description: BenchDescription, die: str, on_bench: bool) -> dict[str, Any]:
    """Return one line of the list; a die that cannot be read does not hide the others."""
    from rramlab.runs import LEDGER

    about: dict[str, Any] = {"die": die, "on_bench": on_bench, "enrolled": False, "problem": ""}
    try:
        if not (description.data / "dies" / die / LEDGER).exists():
            return {**about, "problem": "not enrolled"}
        life, contact = life_in(description, die)
    except (RramlabError, OSError, ValueError) as error:
        return {**about, "enrolled": True, "problem": str(error)}
    return {**about, "enrolled": True, **_facts(description, life, contact)}


def _say_runs(out: Output, runs: list[dict[str, Any]]) -> None:
    table = out.table("run", "operations", "pulses", "first", "data")
    for each in runs[-_RUNS:]:
        kept = "kept" if each["kept"] else "its folder is gone"
        table.add_row(each["run"], f"{each['operations']:,}", f"{each['pulses']:,}", _moment(each["first_at"]), kept)
    if len(runs) > _RUNS:
        out.say(f"The last {_RUNS} of {len(runs)} runs that pulsed it; --json lists all:")
    out.say(table)


def _wear_text(facts: dict[str, Any]) -> str:
    if facts["budget"] is None:
        return f"at most {facts['most_pulses']:,} a cell, no budget"
    return f"{facts['most_pulses']:,} of {facts['budget']:,} a cell"


def _contact(facts: dict[str, Any]) -> str:
    return _moment(facts["contact_passed_at"]) if facts["contact_passed_at"] else "none that holds"


def _moment(text: str) -> str:
    """Say a moment of a ledger in local time."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def _day(text: str) -> str:
    return _moment(text)[:10]
