"""``reproduce``: a task of the paper, from virgin simulated dies to a table and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rramlab.base.errors import UsageError
from rramlab.cli.learning import need_torch, spell, stoppable
from rramlab.cli.options import BenchPath, DataFolder, Device, Json
from rramlab.cli.output import Output, command, styled

if TYPE_CHECKING:
    from rramlab.reproduction.outcomes import Outcome

DIES, QUICK_DIES = 3, 1


@command
def reproduce(
    task: Annotated[
        Literal["fashion-mnist", "spoken-digits", "drive"], typer.Argument(help="Which task of the paper.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="A look in minutes: few epochs, few samples, one die.")
    ] = False,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="A,B,…", help="Only these rows of the table; default: all.")
    ] = None,
    dies: Annotated[
        int | None, typer.Option("--dies", min=1, metavar="N", help="Numbers of dies and seeds; default: 3, quick: 1.")
    ] = None,
    only: Annotated[
        int | None,
        typer.Option(
            "--only", min=0, metavar="K", help="Only number K, counted from 0: for several computers, or cores."
        ),
    ] = None,
    memory: Annotated[
        Literal["published", "phase-change", "ferroelectric", "charge-trap"],
        typer.Option("--memory", help="The model of the dies: the paper's resistive memory, or another one."),
    ] = "published",
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=1, metavar="N", help="Test samples on the macro; default: all, of DRIVE's images 4."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Default: data/reproductions/TASK… of the bench.")
    ] = None,
    data: DataFolder = None,
    device: Device = "cpu",
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Reproduce a task of the paper on simulated dies, with the baselines that its claims are compared with.

    What is done is kept; the same command goes on where it was interrupted.
    """
    need_torch()
    from rramlab.base.errors import Stopped
    from rramlab.drivers.bench import describe_bench
    from rramlab.report.reproduction.page import headline, markdown, write_report
    from rramlab.reproduction.campaign import reproduce as complete
    from rramlab.reproduction.results import name_of
    from rramlab.reproduction.summary import TITLES
    from rramlab.reproduction.tasks import task_of
    from rramlab.training import load_dataset

    out = Output(as_json)
    description = describe_bench(bench)
    wanted = list(TITLES) if rows is None else [name.strip() for name in rows.split(",")]
    unknown = [name for name in wanted if name not in TITLES]
    if unknown:
        raise UsageError(f"there is no row {unknown[0]!r}; known: {', '.join(TITLES)}")
    found = task_of(task)
    folder = to or description.data / "reproductions" / name_of(found, memory, quick)
    dataset = load_dataset(found.made(quick).dataset, data, description.root)
    again = f"the same command goes on: rramlab reproduce {task}{' --quick' if quick else ''} …; what is done is in {folder}"

    def done(outcome: Outcome) -> None:
        where = "on the macro" if outcome.samples else "on the host"
        out.say(f"{TITLES[outcome.row]}, number {outcome.number}: ", styled(spell(outcome.scores)), f" {where}")

    out.say(styled(task), f", {memory} memory, into {folder}")
    with stoppable() as stop:
        try:
            results = complete(
                folder,
                found,
                dataset,
                range(dies or (QUICK_DIES if quick else DIES)) if only is None else [only],
                [row for row in TITLES if row in wanted],
                memory,
                quick,
                lambda text: out.say(f"· {text}"),
                stop,
                done,
                device,
                samples,
            )
        except Stopped as error:
            raise Stopped(f"{error}. {again}") from error
    written = write_report(results, folder / "report.html", folder / "figures")
    (folder / "table.md").write_text(markdown(results), encoding="utf-8")
    table = out.table("", "dies", "on the macro", "on the host", "pulses", "after forming")
    for line in results.lines:
        means = {score: spread.mean for score, spread in line.scores.items()}
        host = {score: spread.mean for score, spread in line.host.items()}
        table.add_row(
            line.title,
            str(line.dies),
            spell(means) if line.samples else "",
            spell(host if line.samples else means),
            f"{sum(line.pulses.values()):,.0f}",
            f"{line.pulses_after_forming:,.0f}",
        )
    out.say(table)
    out.say(f"{headline(results)}. Report: {written.path}")
    out.finish(
        {
            "task": task,
            "memory": memory,
            "quick": quick,
            "folder": str(folder),
            "report": str(written.path),
            "outcomes": [outcome.model_dump(mode="json") for outcome in results.outcomes],
        }
    )
