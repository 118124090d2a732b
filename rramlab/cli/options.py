"""Options that several commands share, each with one spelling and one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout, prose on stderr.")]
BenchPath = Annotated[
    Path | None,
    typer.Option("--bench", envvar="RRAMLAB_BENCH", help="Bench folder or bench file; default: the current folder."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, its beginning, or 'last'.")]
Trace = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="Log every byte on every link to a new file; see bench trace."),
]
DieName = Annotated[
    str | None,
    typer.Option("--die", help="Which die; a new name puts a virgin die on the simulated table."),
]
Arm = Annotated[
    str | None, typer.Option("--arm", metavar="DIE", help="Allow operations that change this die for good.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="A name for one run: the first time begins it; the same command again goes on with it, or says that it is done.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter, with its unit: --set voltage=3.5V."),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder with data sets; default: $RRAMLAB_DATA, then the bench's data/.")
]
Device = Annotated[
    str, typer.Option("--device", help="What networks are trained on: cpu, or cuda where torch finds such a processor.")
]
