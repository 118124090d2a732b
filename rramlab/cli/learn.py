"""``train``, ``deploy``, ``evaluate``, ``data list``."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rramlab.base.errors import OutOfLimits, RramlabError, Stopped, UsageError
from rramlab.base.names import checked
from rramlab.cli.options import Arm, BenchPath, DataFolder, DieName, Json
from rramlab.cli.output import Output, command, note_bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rramlab.drivers.bench import BenchDescription
    from rramlab.training.checkpoint import EpochResult
    from rramlab.training.experiment import Experiment
    from rramlab.training.recipes import Recipe

data_app = typer.Typer(help="Data sets that recipes train on.", no_args_is_help=True)

TrainingName = Annotated[str | None, typer.Option("--name", help="Name of the training; default: RECIPE-DIE.")]


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


@command
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe: digits, fashion-mnist, or a path ending in .yaml.")
    ] = "digits",
    name: TrainingName = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's.")] = None,
    granularity: Annotated[
        Literal["edge", "phase", "line"] | None,
        typer.Option("--granularity", help="What is kept or pruned together, instead of the recipe's."),
    ] = None,
    phases: Annotated[
        int | None, typer.Option("--phases", min=1, help="Of granularity phase: gate patterns a tile, at most.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a training of this name.")] = False,
    data: DataFolder = None,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Learn which of the die's random weights to keep. Reads the die, sends no pulse."""
    need_torch()
    from rramlab.drivers.bench import describe_bench
    from rramlab.training import load_dataset, load_recipe
    from rramlab.training.deploying import checkpoints

    out = Output(as_json)
    if resume and overwrite:
        raise UsageError("--resume goes on with a training and --overwrite replaces it; give one of the two")
    given = {"epochs": epochs, "seed": seed, "granularity": granularity, "phases": phases}
    changes = {key: value for key, value in given.items() if value is not None}
    chosen = load_recipe(recipe).changed(changes)
    description = describe_bench(bench, die)
    note_bench(description)
    dataset = load_dataset(chosen.dataset, data, description.root)
    chosen.require(dataset)
    die_id = _only_die(description)
    folder = checkpoints(description.data) / checked(name or f"{chosen.name}-{die_id}", "training's name")
    experiment = _experiment(out, description, chosen, changes, folder, resume, overwrite)
    random = experiment.random_accuracy(dataset)
    out.say(f"The unpruned random network: {random:.2%} of {len(dataset.test_x):,} test images.")
    with epochs_shown(out, experiment.recipe.epochs) as on_epoch, stoppable() as stop:
        model, training = experiment.train(dataset, resume, on_epoch, stop)
    if training.stopped:
        raise Stopped(
            f"training {experiment.name!r} was stopped after epoch {len(training.history)} of "
            f"{experiment.recipe.epochs}; go on with: rramlab train {recipe} --name {experiment.name} --resume"
        )
    mask = experiment.mask(model)
    mask.save(folder / "mask.npz")
    out.say(
        f"Trained on the host: [bold]{training.accuracy:.2%}[/] with {mask.kept:,} of {mask.weights:,} weights kept, "
        f"by {mask.granularity}{f' of {mask.phases}' if mask.phases else ''}. "
        f"Put it on the die with: rramlab deploy {experiment.name}"
    )
    out.finish(
        {
            "name": experiment.name,
            "recipe": experiment.recipe.model_dump(mode="json"),
            "die": experiment.die_id,
            "folder": str(folder),
            "accuracy_random": random,
            "accuracy_trained": training.accuracy,
            "kept": mask.kept,
            "weights": mask.weights,
            "history": [vars(epoch) for epoch in training.history],
        }
    )


@command
def deploy(
    training: Annotated[str, typer.Argument(help="Name of a training, as rramlab train printed it.")],
    method: Annotated[
        Literal["gate", "reset"],
        typer.Option("--method", help="gate: disable rows and columns, no pulse; reset: reset the pruned cells."),
    ] = "gate",
    name: Annotated[str | None, typer.Option("--name", help="Name of the deployment; default: the training's.")] = None,
    arm: Arm = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Put a trained mask on the die, verify it by reading back, keep it as a deployment file."""
    need_torch()
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.session import Session
    from rramlab.training.deploying import checkpoints, put_on_chip
    from rramlab.training.experiment import Experiment

    out = Output(as_json)
    description = describe_bench(bench)
    experiment = Experiment.load(checkpoints(description.data) / checked(training, "training's name"))
    description = describe_bench(bench, experiment.die_id)
    with Session(description) as session:
        deployment, result, found = put_on_chip(
            session, experiment, method, checked(name or training, "deployment's name"), arm
        )
    out.say(f"Deployed [bold]{deployment.name}[/] on die {deployment.die_id} by {method}: {result.pulses:,} pulses.")
    out.say(f"Read back: {found}.")
    out.say(f"Run the network there with: rramlab evaluate {deployment.name}")
    out.finish(
        {
            "name": deployment.name,
            "die": deployment.die_id,
            "method": method,
            "pulses": result.pulses,
            "run": result.run_id,
            "phases": sum(pattern.phases for pattern in deployment.gates().values()),
            "verification": found.as_json(),
        }
    )


@command
def evaluate(
    deployment: Annotated[str, typer.Argument(help="Name of a deployment, as rramlab deploy printed it.")],
    images: Annotated[int | None, typer.Option("--images", min=1, help="Only the first so many test images.")] = None,
    data: DataFolder = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Verify a deployment, then run its network with every product computed by the macro."""
    need_torch()
    from rramlab.deploy import find_deployment
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.session import Session
    from rramlab.training import accuracy, load_dataset
    from rramlab.training.deploying import checkpoints, deployments, verified
    from rramlab.training.experiment import Experiment
    from rramlab.training.onchip import accuracy_on_chip

    out = Output(as_json)
    description = describe_bench(bench)
    found = find_deployment(deployments(description.data), checked(deployment, "deployment's name"))
    experiment = Experiment.load(checkpoints(description.data) / found.about["training"])
    dataset = load_dataset(experiment.recipe.dataset, data, description.root)
    model = experiment.trained()
    host = accuracy(model, dataset.test_x[:images], dataset.test_y[:images])
    with Session(describe_bench(bench, found.die_id)) as session:
        verification = verified(session, found)
        if not verification.passed:
            raise OutOfLimits(
                f"deployment {found.name!r} is no longer what it was: {verification}. Deploy it again, or train again on "
                "what the die is now"
            )
        chip = accuracy_on_chip(model, session.macro, found, dataset, images)
        conversions, saturated = session.macro.conversions, session.macro.saturated
    count = len(dataset.test_x[:images])
    out.say(f"Read back: {verification}.")
    out.say(
        f"{count:,} images: [bold]{chip:.2%}[/] on the chip, {host:.2%} on the host; {conversions:,} conversions, "
        f"{saturated:,} saturated."
    )
    out.finish(
        {
            "deployment": found.name,
            "die": found.die_id,
            "images": count,
            "accuracy_on_chip": chip,
            "accuracy_trained": host,
            "conversions": conversions,
            "saturated": saturated,
            "verification": verification.as_json(),
        }
    )


@data_app.command("list")
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


def _only_die(description: BenchDescription) -> str:
    dies = [die.id for die in description.file.dies]
    if len(dies) != 1:
        raise UsageError(f"the bench has dies {', '.join(dies)}; name one with --die")
    return dies[0]


def _experiment(
    out: Output,
    description: BenchDescription,
    recipe: Recipe,
    changes: Mapping[str, object],
    folder: Path,
    resume: bool,
    overwrite: bool,
) -> Experiment:
    """Go on with an experiment, or read the die's weights for a new one and release the bench again."""
    from rramlab.engine.session import Session
    from rramlab.training.experiment import Experiment

    if resume:
        experiment = Experiment.load(folder)
        given = {"name": recipe.name, **changes}
        for key, value in given.items():
            if getattr(experiment.recipe, key) != value:
                raise UsageError(
                    f"training {folder.name!r} was begun with {key} {getattr(experiment.recipe, key)!r}, not {value!r}; a "
                    "resume goes on with the recipe it was begun with. Leave the option out, or train under another --name"
                )
        return experiment
    if (folder / "experiment.json").exists() and not overwrite:
        raise UsageError(
            f"there is a training {folder.name!r} already; nothing was changed. Go on with it by --resume, choose another "
            "--name, or replace it with --overwrite"
        )
    with Session(description) as session:
        experiment = Experiment.begin(folder, recipe, session.macro)
    out.say(f"Read the weights of die [bold]{experiment.die_id}[/] for {folder.name}.")
    return experiment


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop at the next step; the second is Python's own."""
    wished = []

    def wish(number: int, frame: object) -> None:
        wished.append(number)
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, wish)
    try:
        yield lambda: bool(wished)
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def epochs_shown(out: Output, total: int) -> Iterator[Callable[[EpochResult], None]]:
    """Show a bar with the last epoch's figures; a line an epoch where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("training", total=total)

        def on_epoch(result: EpochResult) -> None:
            text = f"epoch {result.epoch}: loss {result.loss:.3f}, test {result.test_accuracy:.2%}"
            bar.update(task, completed=result.epoch, description=text)
            if not console.is_terminal and (result.epoch % max(1, total // 10) == 0 or result.epoch == total):
                console.print(f"{text} ({result.epoch}/{total}, {result.seconds:.1f} s)")

        yield on_epoch
