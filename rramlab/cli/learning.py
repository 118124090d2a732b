"""What the commands of the learning side share: the demand for torch, Ctrl-C while a network trains, its progress."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from rramlab.base.errors import RramlabError, UsageError
from rramlab.base.names import checked
from rramlab.cli.output import console, whisper
from rramlab.cli.trusting import confirmed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rramlab.cli.output import Output
    from rramlab.drivers.bench import BenchDescription
    from rramlab.training.checkpoint import EpochResult
    from rramlab.training.experiment import Experiment

NAMES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
Dies = Annotated[
    str | None,
    typer.Option("--dies", metavar="A,B,…", help="The dies that the network is spread over, in their order."),
]


def need_torch() -> None:
    """Refuse with the remedy where the learning side is not installed; prepare the process where it is."""
    missing = [name for name in ("torch", "sklearn") if find_spec(name) is None]
    if missing:
        raise RramlabError(
            f"training needs {' and '.join(missing)}, which are not installed. Install them with: "
            "pip install torch==2.13.0 scikit-learn"
        )
    from rramlab.training.loop import keep_freed_memory

    keep_freed_memory()


def bench_of(bench: Path | None, die: str | None, dies: str | None) -> BenchDescription:
    """Describe the bench with the dies that a network shall lie on: the one named, those named, or the only one.

    Raises:
        UsageError: both options are given, a die twice, or the bench has several and none is named.
    """
    from rramlab.drivers.bench import describe_bench

    if die is not None and dies is not None:
        raise UsageError("--die names one die and --dies several; give one of the two")
    names = None if dies is None else [checked(name.strip(), "die id") for name in dies.split(",")]
    if names is not None and len(set(names)) != len(names):
        raise UsageError(f"--dies names a die twice: {', '.join(names)}")
    description = describe_bench(bench, names or die)
    found = [entry.id for entry in description.file.dies]
    if len(found) != 1 and names is None:
        raise UsageError(f"the bench has dies {', '.join(found)}; name one with --die, or several with --dies")
    return description


def trained_in(description: BenchDescription, name: str, trust_code: bool) -> Experiment:
    """Return the training called ``name`` on a bench, with its network, where that is code outside of rramlab, confirmed.

    Whoever executes what a training's folder names gets it here.

    Raises:
        DataError: there is none. Unconfirmed: its network is code that nobody confirmed.
    """
    from rramlab.training.deploying import checkpoints
    from rramlab.training.experiment import Experiment

    found = Experiment.load(checkpoints(description.data) / checked(name, "training's name"))
    if found.recipe.is_code:
        confirmed(found.recipe.model, trust_code)
    return found


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop at the next step; the second is what it was before."""
    wished = []

    def wish(number: int, frame: object) -> None:
        wished.append(number)
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.SIG_IGN:  # a job in the background: what was ignored stays so
        yield lambda: False
        return
    signal.signal(signal.SIGINT, wish)
    try:
        yield lambda: bool(wished)
    finally:
        signal.signal(signal.SIGINT, previous)


def spell(scores: Mapping[str, float]) -> str:
    """Write scores for a line: the accuracy alone, or each with its name."""
    if scores.keys() == {"accuracy"}:
        return f"{scores['accuracy']:.2%}"
    return ", ".join(f"{NAMES.get(name, name)} {value:.2%}" for name, value in scores.items())


@contextmanager
def epochs_shown(out: Output, total: int) -> Iterator[Callable[[EpochResult], None]]:
    """Show a bar with the last epoch's figures; a line an epoch where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    terminal = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=terminal,
        disable=not terminal.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("training", total=total)

        def on_epoch(result: EpochResult) -> None:
            told = spell({"accuracy": result.test_accuracy, **result.scores})
            text = f"epoch {result.epoch}: loss {result.loss:.3f}, test {told}"
            bar.update(task, completed=result.epoch, description=text)
            if not terminal.is_terminal and (result.epoch % max(1, total // 10) == 0 or result.epoch == total):
                whisper(f"{text} ({result.epoch}/{total}, {result.seconds:.1f} s)")

        yield on_epoch
