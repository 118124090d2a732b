"""``deploy`` and ``evaluate``: put a trained mask on its dies, and run the network there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rramlab.base.errors import OutOfLimits, UsageError
from rramlab.base.names import checked
from rramlab.cli.learning import need_torch, spell, trained_in
from rramlab.cli.options import Arm, BenchPath, DataFolder, Json
from rramlab.cli.output import Output, command, fail, styled
from rramlab.cli.trusting import TrustCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rramlab.deploy import Way
    from rramlab.drivers.bench import BenchDescription
    from rramlab.training.deploying import Attempt
    from rramlab.training.experiment import Experiment


@command
def deploy(
    training: Annotated[str, typer.Argument(help="Name of a training, as rramlab train printed it.")],
    method: Annotated[
        Literal["gate", "reset"] | None,
        typer.Option("--method", help="gate: disable rows and columns, no pulse; reset: reset the pruned cells."),
    ] = None,
    objective: Annotated[
        Literal["pulses", "wear", "conversions", "time", "energy"] | None,
        typer.Option("--least", help="Take the way with the least of this; default: pulses."),
    ] = None,
    most_pulses: Annotated[int | None, typer.Option("--most-pulses", min=0, help="Take no way with more.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what each way costs.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the deployment; default: the training's.")] = None,
    again: Annotated[
        str | None,
        typer.Option(
            "--again", metavar="RUN", help="Leave this run as it is and reset cells that still conduct once more."
        ),
    ] = None,
    arm: Arm = None,
    trust_code: TrustCode = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Put a trained mask on its dies, verify it by reading back, keep it as a deployment file.

    Shows first what each way costs. The default takes no pulse. Repeated after it was stopped or killed it goes on: what the
    same mask has pulsed is not pulsed again.
    """
    need_torch()
    from rramlab.deploy import best
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.results import Flawed
    from rramlab.engine.session import Session
    from rramlab.training.deploying import Deploying, attempts_of, put_on_chip

    if method is not None and (objective is not None or most_pulses is not None):
        raise UsageError("--method names a way, --least and --most-pulses look for one; give one or the other")
    out = Output(as_json)
    description = describe_bench(bench)
    experiment = trained_in(description, training, trust_code)
    description = describe_bench(bench, experiment.dies)
    name = checked(name or training, "deployment's name")
    attempts = attempts_of(description.data, experiment, again)
    found = _ways(description, experiment, attempts)
    fixed = {"gate": found[0], "reset": found[-1]}
    # No way has fewer pulses than that by gates alone, and what was reset before makes another no less.
    fewest = objective in (None, "pulses")
    chosen = fixed[method] if method else found[0] if fewest else best(found, objective or "pulses", most_pulses)
    begun = _layers(each for each in attempts if not each.is_over)
    if begun and method is None and objective is not None:
        # What was begun is the way that was the best before it was begun.
        chosen = next(way for way in found if begun <= set(way.reset))
    _show(out, found, chosen)
    deploying = Deploying.of(description.data, experiment, chosen.reset, name, again)
    for each in deploying.attempts:
        out.say(str(each))
    if again is not None:
        _warn_of_second(out, description, experiment, again)
    earlier = [each.run.id for each in deploying.attempts]
    document: dict[str, Any] = {
        "ways": [_way(each) for each in found],
        "chosen": found.index(chosen),
        "earlier": earlier,
    }
    if dry_run:
        out.finish({"training": experiment.name, "dies": list(experiment.dies), **document})
        return
    before = sum(_given(description, each) for each in deploying.attempts)
    with Session(description) as session:
        deployment, results, verification = put_on_chip(
            session,
            experiment,
            chosen.reset,
            name,
            arm,
            again,
        )
    pulses = sum(result.pulses for result in results)
    now = pulses - before
    dies = ", ".join(deployment.dies)
    given = f"{pulses:,} pulses, {now:,} of them now." if before else f"{pulses:,} pulses."
    out.say("Deployed ", styled(deployment.name), f" on die {dies} by {deployment.method}: {given}")
    out.say(f"Read back: {verification}.")
    out.say(f"Run the network there with: rramlab evaluate {deployment.name}")
    document = {
        "name": deployment.name,
        "dies": list(deployment.dies),
        "method": deployment.method,
        "reset": list(deployment.reset),
        "pulses": pulses,
        "pulses_now": now,
        "runs": [result.run_id for result in results],
        "phases": sum(pattern.phases for pattern in deployment.gates().values()),
        "verification": verification.as_json(),
        "flaws": [flaw for result in results for flaw in result.flaws],
        **document,
    }
    flawed = next((result for result in results if result.flaws), None)
    if flawed is not None:
        fail(f"it is deployed and verified, but {Flawed(flawed)}", OutOfLimits.exit_code, out.json, document)
    out.finish(document)


def _warn_of_second(out: Output, description: BenchDescription, experiment: Experiment, again: str) -> None:
    """Say what beginning again costs: cells that had their pulse and may get another."""
    import numpy as np

    from rramlab.cli.dies import life_in
    from rramlab.macro.cells import is_conducting
    from rramlab.runs import LEDGER
    from rramlab.runs.ledger import view_ledger

    runs = {name.strip() for name in again.split(",")}
    for die in experiment.dies:
        with view_ledger(description.data / "dies" / die / LEDGER) as ledger:
            spent = np.zeros(description.board.geometry.shape, np.bool_)
            for entry in (entry for run in runs for entry in ledger.of_run(run)):
                spent |= entry.spent.bits
        if not spent.any():
            continue
        last_S = life_in(description, die)[0].state.conductance_S
        open_ = spent & ~(np.isfinite(last_S) & ~is_conducting(last_S))
        out.say(
            styled("Again:"),
            f" {np.count_nonzero(spent):,} cells of die {die} had their reset in {', '.join(sorted(runs))}; "
            f"those of them that still conduct, at most {np.count_nonzero(open_):,}, get another, which wears them.",
        )


def _ways(description: BenchDescription, experiment: Experiment, attempts: Sequence[Attempt]) -> list[Way]:
    """Return the ways with what is left to do of each."""
    import numpy as np

    from rramlab.cli.dies import life_in
    from rramlab.deploy import ways
    from rramlab.runs import LEDGER
    from rramlab.runs.ledger import view_ledger

    model = experiment.trained()
    load = experiment.load_a_sample(model)
    lives = [life_in(description, die)[0] for die in experiment.dies]
    last_S = np.stack([life.state.conductance_S for life in lives])
    known_S = np.where(np.isfinite(last_S), last_S, experiment.conductance_S)
    pulsed = np.stack([life.pulses for life in lives])
    for each in attempts:  # what they have pulsed gets no other pulse
        with view_ledger(description.data / "dies" / each.die / LEDGER) as ledger:
            for entry in ledger.of_run(each.run.id):
                known_S[experiment.dies.index(each.die)][entry.spent.bits] = 0.0
    begun = [_layers(each for each in attempts if not each.is_over), _layers(attempts)]
    return ways(experiment.placement, experiment.mask(model), known_S, pulsed, load, description.board, begun)


def _given(description: BenchDescription, attempt: Attempt) -> int:
    """Return how many pulses an attempt has given so far."""
    from rramlab.runs import LEDGER
    from rramlab.runs.ledger import view_ledger

    with view_ledger(description.data / "dies" / attempt.die / LEDGER) as ledger:
        return sum(entry.done.count for entry in ledger.of_run(attempt.run.id))


def _layers(attempts: Iterable[Attempt]) -> set[str]:
    return {layer for each in attempts for layer in each.layers}


def _show(out: Output, found: list[Way], chosen: Way) -> None:
    from rramlab.base.units import show

    table = out.table(
        "",
        "reset pulses for",
        "pulses",
        "wear",
        "time to deploy",
        "patterns",
        "conversions a sample",
        "time a sample",
        "energy a sample",
        title="Ways to deploy it",
    )
    for number, way in enumerate(found):
        table.add_row(
            "→" if way is chosen else "",
            "none: gates alone"
            if not way.reset
            else ", ".join(way.reset)
            if number < len(found) - 1
            else "every layer",
            f"{way.deploying.pulses:,}",
            f"{way.wear:,}",
            show(way.deploying.time_s, "s"),
            f"{way.patterns:,}",
            f"{way.sample.conversions:,}",
            show(way.sample.time_s, "s"),
            show(way.sample.energy_J, "J"),
        )
    out.say(table)
    out.say(
        "wear: the most pulses that a cell of the dies has had then. What a sample costs is the macro's products alone."
    )


def _way(way: Way) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(way), "reset": list(way.reset)}


@command
def evaluate(
    deployment: Annotated[str, typer.Argument(help="Name of a deployment, as rramlab deploy printed it.")],
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Only so many test images, a fair share of all.")
    ] = None,
    data: DataFolder = None,
    trust_code: TrustCode = False,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Verify a deployment, then run its network with every product computed by the macro."""
    need_torch()
    from rramlab.base.units import show_duration
    from rramlab.deploy import find_deployment, sample_cost
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.session import Session
    from rramlab.training import load_dataset, scores
    from rramlab.training.deploying import deployments, verified
    from rramlab.training.onchip import scores_on_chip

    out = Output(as_json)
    description = describe_bench(bench)
    found = find_deployment(deployments(description.data), checked(deployment, "deployment's name"))
    experiment = trained_in(description, found.about["training"], trust_code)
    dataset = load_dataset(experiment.recipe.dataset, data, description.root)
    experiment.require_data(dataset)
    model = experiment.trained()
    host = scores(model, dataset, images) or {}
    count = min(dataset.tests, images or dataset.tests)
    inputs = count * dataset.inputs_a_test
    sample = sample_cost(found.gates(), experiment.load_a_sample(model), description.board)
    out.say(
        f"{count:,} images take {show_duration(inputs * sample.time_s)} of bench time, by the board's rates"
        + ("; --images N takes fewer." if images is None else ".")
    )
    with Session(describe_bench(bench, found.dies)) as session:
        verification = verified(session, found)
        if not verification.passed:
            raise OutOfLimits(
                f"deployment {found.name!r} is no longer what it was: {verification}. Let the network learn what the die is "
                f"now (rramlab adapt {experiment.name}) and deploy that, or train again"
            )
        chip = scores_on_chip(model, session.macros, found, dataset, images)
        macros = session.macros.values()
        conversions, saturated = sum(each.conversions for each in macros), sum(each.saturated for each in macros)
    out.say(f"Read back: {verification}.")
    out.say(
        f"{count:,} images: ",
        styled(spell(chip)),
        f" on the chip, {spell(host)} on the host; {conversions:,} conversions, {saturated:,} saturated.",
    )
    out.finish(
        {
            "deployment": found.name,
            "dies": list(found.dies),
            "images": count,
            "bench_s": inputs * sample.time_s,
            "accuracy_on_chip": chip["accuracy"],
            "accuracy_trained": host["accuracy"],
            "scores_on_chip": chip,
            "scores_trained": host,
            "conversions": conversions,
            "saturated": saturated,
            "verification": verification.as_json(),
        }
    )
