"""``train`` and ``adapt``: learn which of the dies' random weights to keep. Neither sends a pulse."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rramlab.base.errors import InstrumentError, Stopped, UsageError
from rramlab.base.names import checked, fresh
from rramlab.cli.learning import Dies, bench_of, epochs_shown, need_torch, spell, stoppable, trained_in
from rramlab.cli.options import Assignments, BenchPath, DataFolder, Device, DieName, Json
from rramlab.cli.output import Output, command, note_bench, styled
from rramlab.cli.trusting import TrustCode, confirmed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rramlab.drivers.bench import BenchDescription
    from rramlab.training.datasets import Data
    from rramlab.training.experiment import Experiment
    from rramlab.training.onchip import Macros
    from rramlab.training.recipes import Recipe

TRAINED = {
    "off": "on the host",
    "weights": "on weights that were read again and again",
    "multiply": "with every product on the chip",
}
ADAPTING = 3  # epochs of an adaptation, if none are given
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a training of this name.")]
Loop = Annotated[
    Literal["off", "weights", "multiply"] | None,
    typer.Option(
        "--in-the-loop",
        help="weights: read the dies again and again while training; multiply: every product is the dies'.",
    ),
]


@command
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe: digits, fashion-mnist, …, or a path ending in .yaml.")
    ] = "digits",
    name: Annotated[str | None, typer.Option("--name", help="Name of the training; default: RECIPE-DIE.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's.")] = None,
    granularity: Annotated[
        Literal["edge", "phase", "line"] | None,
        typer.Option("--granularity", help="What is kept or pruned together, instead of the recipe's."),
    ] = None,
    phases: Annotated[
        int | None, typer.Option("--phases", min=1, help="Of granularity phase: gate patterns a tile, at most.")
    ] = None,
    loop: Loop = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value of a key of the recipe: --set kept=0.3."),
    ] = None,
    reads_of: Annotated[
        str | None,
        typer.Option(
            "--reads-of",
            metavar="TRAINING",
            help="Train on what an earlier training read of the dies: the same recipe then gives the same mask.",
        ),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    data: DataFolder = None,
    die: DieName = None,
    dies: Dies = None,
    device: Device = "cpu",
    trust_code: TrustCode = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Learn which of the dies' random weights to keep. Reads them, sends no pulse.

    Each training reads the dies anew, and no two reads are alike: the same recipe twice gives two masks that differ a little.
    """
    need_torch()
    from rramlab.drivers.bench import describe_bench
    from rramlab.training import load_recipe
    from rramlab.training.recipes import beside

    given = {"epochs": epochs, "seed": seed, "granularity": granularity, "phases": phases, "in_the_loop": loop}
    changes = settings(given, assignments)
    earlier = None if reads_of is None else _training(describe_bench(bench), reads_of)
    if earlier is not None and die is None and dies is None and not resume:
        dies = ",".join(earlier.dies)
    _learn(
        Output(as_json),
        Bench(bench, die, dies),
        beside(load_recipe(recipe).changed(changes), Path.cwd()),
        changes,
        name,
        resume,
        overwrite,
        data,
        f"rramlab train {recipe}",
        device=device,
        reads_of=earlier,
        trust_code=trust_code,
    )


@command
def adapt(
    training: Annotated[str, typer.Argument(help="Name of a finished training, as rramlab train printed it.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new training; default: TRAINING-adapted.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Of the adaptation; default: 3.")] = None,
    loop: Loop = None,
    assignments: Assignments = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    data: DataFolder = None,
    die: DieName = None,
    dies: Dies = None,
    device: Device = "cpu",
    trust_code: TrustCode = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Let a trained network learn on, on what its dies have become or on others: a few epochs, no pulse.

    It begins with the scores that were learned, on weights that are read now; without --in-the-loop they are read again and
    again.
    """
    need_torch()
    from rramlab.drivers.bench import describe_bench
    from rramlab.training.recipes import beside

    source = trained_in(describe_bench(bench), training, trust_code)
    changes = settings({"epochs": epochs, "in_the_loop": loop}, assignments)
    usual = {} if resume else {"epochs": ADAPTING, "in_the_loop": "weights"}
    if die is None and dies is None and not resume:
        dies = ",".join(source.dies)
    _learn(
        Output(as_json),
        Bench(bench, die, dies),
        beside(source.recipe.changed({**usual, **changes}), Path.cwd()),
        changes,
        name or f"{training}-adapted",
        resume,
        overwrite,
        data,
        f"rramlab adapt {training}",
        source,
        device,
        trust_code=trust_code,
    )


@dataclass(frozen=True)
class Bench:
    """Which bench, and which of its dies, a command line names."""

    where: Path | None
    die: str | None
    dies: str | None

    def described(self, training: str | None) -> BenchDescription:
        """Describe it; with the dies of a ``training`` that goes on, where none are named."""
        from rramlab.drivers.bench import describe_bench

        if training is not None and self.die is None and self.dies is None:
            return describe_bench(self.where, _training(describe_bench(self.where), training).dies)
        return bench_of(self.where, self.die, self.dies)


def settings(given: Mapping[str, object], assignments: list[str] | None) -> dict[str, object]:
    """Return the values of a recipe's keys that a command line gives, by options of their own or by ``--set``."""
    from rramlab.protocols.files import parse_assignments

    changes = {key: value for key, value in given.items() if value is not None}
    assigned = parse_assignments(assignments or [])
    twice = sorted(changes.keys() & assigned.keys())
    if twice:
        raise UsageError(f"{twice[0]!r} is given by an option of its own and by --set; give one of the two")
    return {**changes, **assigned}


def _training(description: BenchDescription, name: str) -> Experiment:
    """Return the training called ``name`` on a bench."""
    from rramlab.training.deploying import checkpoints
    from rramlab.training.experiment import Experiment

    return Experiment.load(checkpoints(description.data) / checked(name, "training's name"))


def _learn(
    out: Output,
    bench: Bench,
    recipe: Recipe,
    changes: Mapping[str, object],
    name: str | None,
    resume: bool,
    overwrite: bool,
    data: Path | None,
    words: str,
    source: Experiment | None = None,
    device: str = "cpu",
    reads_of: Experiment | None = None,
    trust_code: bool = False,
) -> None:
    """Train, with the bench open for as long as it is needed: for the read of the weights, or all the time."""
    from rramlab.engine.session import Session
    from rramlab.training import load_dataset
    from rramlab.training.deploying import checkpoints
    from rramlab.training.device import device_named
    from rramlab.training.networks.own import remember

    device_named(device)  # before a die is read
    if resume and overwrite:
        raise UsageError("--resume goes on with a training and --overwrite replaces it; give one of the two")
    description = bench.described(name if resume else None)
    note_bench(description)
    die_ids = [entry.id for entry in description.file.dies]
    folder = checkpoints(description.data) / checked(
        name or f"{recipe.name}-{'-'.join(die_ids)}"[:64], "training's name"
    )
    begun = _begun(folder, recipe, changes, die_ids) if resume else None
    if begun is not None and begun.recipe.is_code:
        if recipe.keeper is None and recipe.network == begun.recipe.network:  # it was named in this command
            begun = replace(begun, recipe=begun.recipe.kept_in(None))
        confirmed(begun.recipe.model, trust_code)
        remember(begun.recipe.network, folder)
    if begun is not None and reads_of is not None and begun.reads_of != reads_of.name:
        found = "a read of its own" if begun.reads_of is None else f"the reads of {begun.reads_of!r}"
        raise UsageError(
            f"training {folder.name!r} was begun on {found}, not on those of {reads_of.name!r}; leave --reads-of out, or train "
            "under another --name"
        )
    followed = recipe if begun is None else begun.recipe
    dataset = load_dataset(followed.dataset, data, description.root)
    if not folder.exists():
        fresh(folder.name, "training's name", folder.parent)
    with ExitStack() as opened:
        macros: Macros | None = None
        if followed.in_the_loop != "off":
            macros = opened.enter_context(Session(description)).macros
        experiment = begun or _experiment(
            out, description, recipe, folder, overwrite, macros, dataset, source, words, reads_of
        )
        if experiment.recipe.in_the_loop == "multiply":
            _announce(out, description, experiment, dataset)
        random = experiment.random_scores(dataset)
        out.say(f"The unpruned random network: {spell(random)} of {dataset.tests:,} test samples.")
        progress = opened.enter_context(epochs_shown(out, experiment.recipe.epochs))
        stop = opened.enter_context(stoppable())
        try:
            model, training = experiment.train(dataset, resume, progress, stop, macros, device)
        except InstrumentError as error:
            raise InstrumentError(
                f"{error}. Training {experiment.name!r} keeps its last whole epoch; go on with: {words} --name "
                f"{experiment.name} --resume"
            ) from error
    if training.stopped:
        raise Stopped(
            f"training {experiment.name!r} was stopped after epoch {len(training.history)} of "
            f"{experiment.recipe.epochs}; go on with: {words} --name {experiment.name} --resume"
        )
    mask = experiment.mask(model)
    mask.save(folder / "mask.npz")
    how = TRAINED[experiment.recipe.in_the_loop]
    last = training.history[-1]
    out.say(
        f"Trained {how}: ",
        styled(spell({"accuracy": training.accuracy, **last.scores})),
        f" with {mask.kept:,} of {mask.weights:,} weights kept, by {mask.granularity}"
        f"{f' of {mask.phases}' if mask.phases else ''}. "
        f"Epoch by epoch: {folder / 'log.csv'}. Put it on the die with: rramlab deploy {experiment.name}",
    )
    document: dict[str, Any] = {
        "name": experiment.name,
        "recipe": experiment.recipe.model_dump(mode="json"),
        "dies": list(experiment.dies),
        "adapted_from": experiment.adapted_from,
        "reads_of": experiment.reads_of,
        "read_noise": experiment.read_noise,
        "folder": str(folder),
        "accuracy_random": random["accuracy"],
        "accuracy_trained": training.accuracy,
        "kept": mask.kept,
        "weights": mask.weights,
        "switched_on": last.switched_on,
        "switched_off": last.switched_off,
        "history": [epoch.flat() for epoch in training.history],
    }
    out.finish(document)


def _announce(out: Output, description: BenchDescription, experiment: Experiment, dataset: Data) -> None:
    """Say how long the bench will be at it, before it begins; the test set is evaluated every epoch, too."""
    from rramlab.base.units import show_duration
    from rramlab.deploy import sample_cost

    model = experiment.model()
    gates = experiment.placement.gates(experiment.mask(model))
    sample = sample_cost(gates, experiment.load_a_sample(model), description.board)
    recipe = experiment.recipe
    samples = recipe.epochs * (recipe.steps(dataset) * recipe.batch + dataset.tests * dataset.inputs_a_test)
    out.say(
        f"Every product is the die's: about {show_duration(samples * sample.time_s)} of bench time for {recipe.epochs} "
        "epochs, by the board's rates."
    )


def _begun(folder: Path, recipe: Recipe, changes: Mapping[str, object], here: list[str]) -> Experiment:
    """Return the training that goes on.

    Raises:
        UsageError: it is of other dies than ``here``, or was begun with other values than those given now.
    """
    from rramlab.training.experiment import Experiment

    begun = Experiment.load(folder)
    if not set(begun.dies) <= set(here):
        raise UsageError(
            f"training {folder.name!r} is of die {begun.die}, not of {', '.join(here)}; leave --die and --dies out, "
            "they are known; or let it learn on, on the other die: rramlab adapt"
        )
    wanted: dict[str, object] = {key: getattr(recipe, key) for key in ("name", *changes)}
    for key, value in wanted.items():
        if getattr(begun.recipe, key) != value:
            raise UsageError(
                f"training {folder.name!r} was begun with {key} {getattr(begun.recipe, key)!r}, not {value!r}; a "
                "resume goes on with the recipe it was begun with. Leave the option out, or train under another --name"
            )
    return begun


def _experiment(
    out: Output,
    description: BenchDescription,
    recipe: Recipe,
    folder: Path,
    overwrite: bool,
    macros: Macros | None,
    dataset: Data,
    source: Experiment | None,
    words: str,
    reads_of: Experiment | None,
) -> Experiment:
    """Read the dies' weights for a new experiment; without ``macros`` the bench is released again."""
    from rramlab.engine.session import Session
    from rramlab.training.experiment import Experiment

    if (folder / "experiment.json").exists() and not overwrite:
        raise UsageError(
            f"there is a training {folder.name!r} already; nothing was changed. Go on with it by --resume, choose another "
            "--name, or replace it with --overwrite"
        )
    with ExitStack() as opened:
        found = macros or opened.enter_context(Session(description)).macros
        experiment = Experiment.begin(folder, recipe, found, dataset, source, words, reads_of)
    if reads_of is None:
        out.say("Read the weights of die ", styled(experiment.die), f" for {folder.name}.")
    else:
        out.say(
            "Die ",
            styled(experiment.die),
            f" is still what {reads_of.name} read of it: {folder.name} is trained on that.",
        )
    if experiment.read_noise is not None:
        out.say(f"Read noise, measured: {experiment.read_noise:.2%} of the conductance.")
    return experiment
