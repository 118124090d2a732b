"""``init``, ``bench show``, ``bench check``, ``bench discover``, ``bench trace``, ``estop``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import OutOfLimits, RramlabError, UsageError
from rramlab.cli.asking import ask
from rramlab.cli.options import BenchPath, Json, Trace
from rramlab.cli.output import Output, command, fail, note_bench, styled

if TYPE_CHECKING:
    from rramlab.drivers.bench import Bench, BenchDescription

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
        for path in sorted(each for kind in ("*.yaml", "*.json", "README.md") for each in (source / room).glob(kind)):
            target = folder / room / path.name
            if not target.exists():
                shutil.copyfile(path, target)
                written.append(str(target))
    shutil.copyfile(source / BENCH_FILE, folder / BENCH_FILE)
    written.append(str(folder / BENCH_FILE))
    out.say("Made the bench folder ", styled(folder), f" with {len(written)} files.")
    out.say(f"Next: cd {folder} && rramlab bench check")
    out.finish({"folder": str(folder), "files": written})


@app.command("show")
@command
def show(bench: BenchPath = None, as_json: Json = False) -> None:
    """Show what the bench files say, where each came from, and every figure with its tag. Opens nothing."""
    from rramlab.base.folders import listing
    from rramlab.base.yamlfile import load_yaml
    from rramlab.cli.drivers import tagged_figures
    from rramlab.drivers.bench import describe_bench

    out = Output(as_json)
    description = describe_bench(bench)
    protocols = listing(description.root, "protocols")
    figures = tagged_figures(load_yaml(description.board_located.path).data)
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
def check(
    trace: Trace = None,
    power_up: Annotated[
        bool | None,
        typer.Option(
            "--power-up/--no-power-up",
            help="Answer for the hardware that the board must have at power-up, instead of being asked.",
        ),
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Open every instrument, identify it, compare with the bench file. Energises nothing."""
    from rramlab.drivers.bench import Bench, describe_bench

    out = Output(as_json)
    description = describe_bench(bench, trace=trace)
    note_bench(description)
    with Bench(description) as opened:
        found = [_board_row(opened, die) for die in opened.identities]
        units = [_smu_row(opened, name) for name in opened.smus]
        limits = opened.limits.model_dump(exclude_none=True)
    table = out.table("die", "board", "firmware", "array", "protocol", "temperature", "at", title=description.file.name)
    for row in found:
        array, celsius = f"{row['rows']} × {row['columns']}", f"{row['temperature_C']:.1f} °C"
        table.add_row(
            row["die"],
            row["board"],
            row["firmware"],
            array,
            str(row["protocol"]),
            celsius,
            row["address"] or "in process",
        )
    out.say(table)
    if units:
        table = out.table("SMU", "model", "serial", "firmware", "driver", "at")
        for unit in units:
            table.add_row(*(str(unit[key]) for key in ("name", "model", "serial", "firmware", "driver", "address")))
        out.say(table)
        for unit in units:
            for entry in unit["errors"]:
                out.say(f"note: SMU {unit['name']} had in its error queue, from before: {entry}")
    out.say(_limits_table(out, limits, "limits: silicon ∩ controller ∩ SMUs ∩ bench"))
    calibration = _calibration(out, description, found)
    real = description.file.backend != "simulated"
    answers = _power_up(out, description.board_file.power_up, power_up, real)
    _say_power_up(out, answers, real)
    lacking = [item for item, answer in answers.items() if answer is False]
    unanswered = [item for item, answer in answers.items() if answer is None and real]
    confirmed = False if lacking else None if not answers or None in answers.values() else True
    document = {
        "instruments": found, "smus": units, "calibration": calibration, "limits": limits, "power_up": list(answers),
        "power_up_unanswered": unanswered, "power_up_confirmed": confirmed,
    }  # fmt: skip
    board = description.file.controller.board
    if lacking:
        fail(
            f"board {board} lacks hardware that it must have at power-up: {'; '.join(lacking)}. Nothing was energised. Without "
            "it a line may carry a voltage before anything controls it: do not put a die into its socket",
            OutOfLimits.exit_code,
            as_json,
            document,
        )
    if unanswered:
        fail(
            f"whether board {board} has the hardware that it must have at power-up was not answered: {'; '.join(unanswered)}. "
            "Nothing was energised. Look at the board, then call it from a terminal, or with --power-up if it has all of it, "
            "with --no-power-up if it has not",
            OutOfLimits.exit_code,
            as_json,
            document,
        )
    out.say("All instruments answered as expected; nothing was energised.")
    out.finish(document)


def _board_row(bench: Bench, die: str) -> dict[str, Any]:
    identity, status = bench.identities[die], bench.controllers[die].status()
    rows, columns = identity.geometry.shape
    return {
        "die": die,
        "board": identity.board_serial,
        "firmware": identity.firmware,
        "rows": rows,
        "columns": columns,
        "protocol": identity.protocol,
        "temperature_C": identity.temperature_C,
        "capabilities": sorted(identity.capabilities),
        "address": bench.description.file.controller.address,
        "frames": status.frames,
        "damaged": status.damaged,
        "errors": list(status.errors),
    }


def _calibration(out: Output, description: BenchDescription, boards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say with which record the codes of each board become siemens, and what is wrong with it."""
    from rramlab.records.applied import faults_of
    from rramlab.records.files import newest

    found = []
    for serial, celsius in {row["board"]: row["temperature_C"] for row in boards}.items():
        kept = newest(description.root, "board", serial)
        faults = faults_of(kept, description.root, serial, celsius)
        found.append({"board": serial, "record": None if kept is None else kept.id, "faults": list(faults)})
        if kept is not None and not faults:
            out.say(f"Calibration of board {serial}: {kept.id}.")
        for fault in faults:
            out.say(f"Calibration: {fault}. The bench's policy is '{description.file.calibration_policy}'.")
    return found


def _smu_row(bench: Bench, name: str) -> dict[str, Any]:
    identity = bench.smu_identities[name]
    entry = next(each for each in bench.description.file.smus if each.name == name)
    return {
        "name": name,
        "model": identity.model,
        "serial": identity.serial,
        "firmware": identity.firmware,
        "driver": entry.driver,
        "address": entry.address,
        "errors": bench.smu_errors[name],
    }


def _power_up(out: Output, hardware: tuple[str, ...], given: bool | None, real: bool) -> dict[str, bool | None]:
    """Return whether the board has each piece of hardware: as given, or as the person at the bench says; None: not said."""
    if given is not None or not real:
        return dict.fromkeys(hardware, given)
    answers: dict[str, bool | None] = dict.fromkeys(hardware)
    for item in hardware:
        answers[item] = ask(f"Has the board {item}?", out.json)
        if answers[item] is None:
            break  # nobody is there to be asked for the rest
    return answers


def _say_power_up(out: Output, answers: dict[str, bool | None], real: bool) -> None:
    said = {True: ": yes", False: ": NO", None: ": not answered" if real else ""}
    if answers:
        out.say("The board must have at power-up:" if real else "A board must have at power-up; this one is simulated:")
        for item, answer in answers.items():
            out.say(f"  · {item}{said[answer]}")


@app.command("discover")
@command
def discover(as_json: Json = False) -> None:
    """List what VISA and the serial ports offer. Opens and energises nothing."""
    from rramlab.drivers.discover import held, serial_ports, visa_resources

    out = Output(as_json)
    ports, (resources, notes) = serial_ports(), visa_resources()
    notes = [*notes, *held([*(port["address"] for port in ports), *resources])]
    table = out.table("address for bench.yaml", "what", "by")
    for port in ports:
        table.add_row(port["address"], port["description"], "serial port")
    for resource in resources:
        table.add_row(resource, "", "VISA")
    if ports or resources:
        out.say(table)
    else:
        out.say("Neither a serial port nor a VISA resource was found.")
    for note in notes:
        out.say(f"note: {note}")
    out.say("Instruments on a network do not announce themselves here: tcp://HOST:PORT, or TCPIP::HOST::PORT::SOCKET.")
    out.finish({"serial_ports": ports, "visa_resources": resources, "notes": notes})


@app.command("trace")
@command
def trace_(
    file: Annotated[Path, typer.Argument(help="A log that --trace made.")],
    link: Annotated[str | None, typer.Option("--link", help="Of this link alone.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a communication log says; 'address: replay:FILE#LINK' in bench.yaml answers from one."""
    from rramlab.drivers.trace import load_trace, spoken

    out = Output(as_json)
    entries = load_trace(file)
    links = sorted({entry.link for entry in entries})
    if link is not None and link not in links:
        raise UsageError(f"found the link {link!r}, {file} has {', '.join(links) or 'none'}")
    lines: list[dict[str, Any]] = [
        {"at": entry.at, "link": entry.link, "way": entry.way, "says": text}
        for entry, text in spoken(entries)
        if link in (None, entry.link)
    ]
    table = out.table("s", "link", "", "what")
    for line in lines:
        table.add_row(f"{line['at']:.4f}", line["link"], "→" if line["way"] == "out" else "←", line["says"])
    out.say(table)
    out.finish({"entries": lines})


@command
def estop(bench: BenchPath = None, as_json: Json = False) -> None:
    """Bring the bench to its safe state now: stop the process that holds it, and make sure here."""
    from rramlab.base.folders import bench_file
    from rramlab.cli.output import whisper
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import Ownership
    from rramlab.drivers.stopping import end_holders, everything_in

    out = Output(as_json)
    try:
        description = describe_bench(bench)
    except RramlabError as error:
        # Whatever became of the bench's files: who holds it can still be stopped.
        data = bench_file(bench)[1] / "data"
        ended = end_holders(Ownership(data, everything_in(data)), whisper)
        stopped = (
            f"process {', '.join(str(each.pid) for each in ended)} was stopped" if ended else "no holder was found"
        )
        raise type(error)(
            f"{error}. So {stopped}, and no instrument could be asked: switch the bench's supplies off by hand"
        ) from error
    owned = description.ownership
    dies = {*(die.id for die in description.file.dies), *everything_in(description.data)}
    board = None if description.file.backend == "simulated" else description.file.controller.board
    ended = end_holders(Ownership(owned.data, sorted(dies), board, description.root), whisper)
    names = ", ".join(f"{each.pid} ({each.command})" for each in ended)
    how = "killed" if any(each.killed for each in ended) else "stopped"
    try:
        _make_safe(description)  # whatever the process could still do: now it is certain
    except RramlabError as error:
        done = f"process {names} was {how}" if ended else "no process held the bench"
        raise type(error)(
            f"{done}, but that every line is at 0 V is not confirmed: {error}. Assume that its lines are live: switch the "
            "bench's supplies off by hand"
        ) from error
    if ended:
        out.say(f"Process {names} was {how}; the bench is in its safe state.")
    else:
        out.say("No process held the bench; every instrument was brought to its safe state.")
    killed = {"killed": True} if how == "killed" else {}
    out.finish({"signalled": ended[0].pid if ended else None, "safe": True, **killed})


def _make_safe(description: BenchDescription) -> None:
    """Bring every instrument to its safe state. A simulated board has no line outside the process that works with it."""
    from rramlab.drivers.bench import Bench

    if description.file.backend != "simulated":
        with Bench(description) as opened:
            opened.safe_state()


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
