"""``calibrate report``: records as one HTML file, their figures as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rramlab.base.errors import DataError
from rramlab.cli.options import BenchPath, DieName, Json
from rramlab.cli.output import Output, command, fail
from rramlab.cli.report import Figures, OpenIt, tell


@command
def calibration_report(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECORD …]", help="Records, by name or its beginning; default: those in force."),
    ] = None,
    show: OpenIt = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to; default: calibration/report.html on the bench."),
    ] = None,
    figures: Figures = None,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Write the calibration report of the board and the dies on the bench: one HTML file that needs no network.

    Values with uncertainties, residuals, a verdict for each section, and the budget of a read. Energises nothing.
    """
    from rramlab.drivers.bench import describe_bench
    from rramlab.records.files import FOLDER
    from rramlab.report.calibration.findings import gather
    from rramlab.report.calibration.judging import parts
    from rramlab.report.calibration.page import write_report

    out = Output(as_json)
    description = describe_bench(bench, die)
    found = gather(description, names or ())
    written = write_report(found, output or description.root / FOLDER / "report.html", figures)
    listed = parts(found)
    for each in listed:
        out.say(f"{found.label(each.kept)} {each.name}: {each.judgement.words}")
    out.say(f"{written.headline}.")
    tell(out, written, figures, show)
    document = {
        "report": str(written.path),
        "verdict": written.headline,
        "records": [kept.id for kept in found.records],
        "sections": [
            {"record": each.kept.id, "section": each.name, "verdict": each.judgement.words} for each in listed
        ],
        "figures": [str(path) for path in written.figures],
        "problems": list(written.problems),
    }
    if found.unreadable:
        fail("; ".join(found.unreadable), DataError.exit_code, as_json, document)
    out.finish(document)
