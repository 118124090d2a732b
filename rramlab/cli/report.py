"""``report``: a run as one HTML file, its figures as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rramlab.cli.options import BenchPath, Json, RunName
from rramlab.cli.output import Output, command


@command
def report(
    name: RunName,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to; default: report.html in the run's folder."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Also write every figure as PNG and PDF.")
    ] = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Write a run's report: one HTML file that needs no network. Energises nothing."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import BenchLock
    from rramlab.engine.session import LEDGER
    from rramlab.report.findings import gather
    from rramlab.report.page import write_report
    from rramlab.runs.store import find_run

    out = Output(as_json)
    data = describe_bench(bench).data
    run = find_run(data / "runs", name)
    found = gather(run, data / "dies" / run.die / LEDGER, busy=BenchLock(data).holder() is not None)
    written = write_report(found, output or run.folder / "report.html", figures)
    out.say(f"{run.id}: {written.headline}.")
    out.say(f"Report: {written.path}")
    if written.figures:
        out.say(f"Figures: {len(written.figures)} files in {figures}")
    for problem in written.problems:
        typer.secho(f"warning: {problem}", err=True, fg=typer.colors.YELLOW)
    if show and not _opened(written.path):
        typer.secho(f"warning: no browser was found; open {written.path} yourself", err=True, fg=typer.colors.YELLOW)
    out.finish(
        {
            "run": run.id,
            "report": str(written.path),
            "verdict": written.headline,
            "figures": [str(path) for path in written.figures],
            "problems": list(written.problems),
        }
    )


def _opened(path: Path) -> bool:
    import webbrowser

    return webbrowser.open(path.absolute().as_uri())
