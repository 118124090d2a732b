"""``report``: a run as one HTML file, its figures as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramlab.cli.options import BenchPath, Json, RunName
from rramlab.cli.output import Output, command, warn

if TYPE_CHECKING:
    from rramlab.report.shell import Written

OpenIt = Annotated[bool, typer.Option("--open", help="Show it in the browser.")]
Figures = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Also write every figure as PNG and PDF.")
]


@command
def report(
    name: RunName,
    show: OpenIt = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to; default: report.html in the run's folder."),
    ] = None,
    figures: Figures = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Write a run's report: one HTML file that needs no network. Energises nothing."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.lock import BenchLock
    from rramlab.report.findings import gather
    from rramlab.report.page import write_report
    from rramlab.runs import LEDGER
    from rramlab.runs.store import find_run

    out = Output(as_json)
    data = describe_bench(bench).data
    run = find_run(data / "runs", name)
    found = gather(run, data / "dies" / run.die / LEDGER, busy=BenchLock(data).holder() is not None)
    written = write_report(found, output or run.folder / "report.html", figures)
    out.say(f"{run.id}: {written.headline}.")
    tell(out, written, figures, show)
    out.finish(
        {
            "run": run.id,
            "report": str(written.path),
            "verdict": written.headline,
            "figures": [str(path) for path in written.figures],
            "problems": list(written.problems),
        }
    )


def tell(out: Output, written: Written, figures: Path | None, show: bool) -> None:
    """Say what was written and what could not be read; show it in the browser, if asked to."""
    out.say(f"Report: {written.path}")
    if written.figures:
        out.say(f"Figures: {len(written.figures)} files in {figures}")
    for problem in written.problems:
        warn(problem)
    if show and not _opened(written.path):
        warn(f"no browser was found; open {written.path} yourself")


def _opened(path: Path) -> bool:
    import webbrowser

    return webbrowser.open(path.absolute().as_uri())
