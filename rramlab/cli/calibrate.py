"""``calibrate``: measure what a die is, and look at the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.cli.options import Arm, Assignments, BenchPath, DieName, Json
from rramlab.cli.output import Output, command
from rramlab.cli.preview import announce, refuse_other_die
from rramlab.cli.run import progress, tell

if TYPE_CHECKING:
    from rramlab.calibration.records import FormingRecord
    from rramlab.drivers.bench import BenchDescription

app = typer.Typer(help="Measure what a die is; look at its records.", no_args_is_help=True)
RAMP = "electroform-ramp"


@app.command("forming")
@command
def forming(
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Take this run of electroform-ramp; otherwise one is made."),
    ] = None,
    assignments: Assignments = None,
    arm: Arm = None,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Find the voltage at which a die's cells form, on a sacrificial corner (electroform-ramp); writes a record."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.session import Session
    from rramlab.protocols.files import load_protocol, parse_assignments
    from rramlab.runs.store import find_run

    out = Output(as_json)
    description = describe_bench(bench, die)
    if run is None:
        plan = load_protocol(description.root, RAMP).plan(
            description.board.geometry, parse_assignments(assignments or [])
        )
        refuse_other_die(description, arm)
        announce(out, description, plan)
        with Session(description) as session, progress(out) as listen:
            result = session.run(plan, arm=arm, die=die, listen=listen)
        tell(out, result)
        run = result.run_id
    _finish(out, description, find_run(description.data / "runs", run))


def _finish(out: Output, description: BenchDescription, run: Any) -> None:
    """Analyse a ramp and write its record."""
    from datetime import datetime

    from rramlab.base.files import read_json
    from rramlab.base.units import parse
    from rramlab.calibration import forming as analysis
    from rramlab.calibration.records import FormingRecord, Voltage, save

    found = analysis.fit(analysis.ramp_of(run))
    about, parameters = read_json(run.folder / "provenance.json"), run.plan.parameters
    record = FormingRecord(
        die=run.die,
        board=about["board_serial"],
        measured_at=datetime.fromisoformat(run.record["started_at"]),
        run=run.id,
        mean=Voltage(value=found.mean_V, uncertainty=found.mean_u),
        sigma=Voltage(value=found.sigma_V, uncertainty=found.sigma_u),
        width=parse(parameters["width"], "s"),
        gate=parse(parameters["gate"], "V"),
        cells=found.cells,
        formed=found.formed,
        temperature_C=about["temperature_C"],
        software=str(about["rramlab"]),
    )
    path = save(description.root, record)
    _say(out, record)
    out.say(f"Record: {path}. To form half of the cells: rramlab run electroform --fraction 0.5 --arm {record.die}")
    out.finish({"record": str(path), **record.model_dump(mode="json")})


def _say(out: Output, record: FormingRecord) -> None:
    from rramlab.base.units import show

    out.say(
        f"Die [bold]{record.die}[/] on board {record.board}, {record.measured_at:%Y-%m-%d %H:%M} UTC: breakdown at "
        f"{record.mean}, spread {record.sigma}, of {record.cells} cells (pulses of {show(record.width, 's')}, gate "
        f"{show(record.gate, 'V')})."
    )
    table = out.table("wanted share of formed cells", "voltage")
    for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        table.add_row(f"{share:.0%}", show(record.curve.voltage_V(share), "V"))
    out.say(table)


@app.command("show")
@command
def show_(die: DieName = None, bench: BenchPath = None, as_json: Json = False) -> None:
    """Show the forming records of the dies on the bench, the one in force last."""
    from rramlab.calibration.records import history
    from rramlab.drivers.bench import describe_bench

    out = Output(as_json)
    description = describe_bench(bench, die)
    documents = []
    for each in description.file.dies:
        found = list(history(description.root, each.id))
        if not found:
            out.say(f"Die {each.id} has no forming record. Measure one: rramlab calibrate forming --arm {each.id}")
        for path, record in found:
            documents.append({"record": str(path), **record.model_dump(mode="json")})
            _say(out, record)
    out.finish({"forming": documents})
