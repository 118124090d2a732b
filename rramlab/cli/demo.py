"""``demo``: from a virgin simulated die to a network that runs on it, shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from rramlab.base.errors import UsageError
from rramlab.base.files import refuse_unwritable
from rramlab.cli.options import Assignments, BenchPath, DataFolder, Json
from rramlab.cli.output import Output, command, styled

EPOCHS = {"digits": 60, "fashion-mnist": 5}  # what shows the way in a minute; the recipe of fashion-mnist has more


@command
def demo(
    task: Annotated[Literal["digits", "fashion-mnist"], typer.Option("--task", help="What to learn.")] = "digits",
    method: Annotated[
        Literal["gate", "reset"],
        typer.Option("--method", help="gate: disable rows and columns, no pulse; reset: reset the pruned cells."),
    ] = "gate",
    die: Annotated[
        str | None, typer.Option("--die", help="Id, and so seed, of the new die; default: from the time.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Default: 60 of digits, 5 of fashion-mnist.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Also write map and histogram as a picture.")] = None,
    data: DataFolder = None,
    bench: BenchPath = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Form a whole simulated die, train a mask on its random weights, deploy it, run it there, show what happened."""
    from rramlab.cli.learning import epochs_shown, need_torch
    from rramlab.cli.view import draw

    need_torch()
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.session import Session
    from rramlab.protocols.files import parse_assignments
    from rramlab.training import load_dataset, load_recipe
    from rramlab.training.demo import tell

    out = Output(as_json)
    die_id = die or datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S")
    description = describe_bench(bench, die_id)
    if description.file.backend != "simulated":
        raise UsageError(
            f"the demo forms a whole die; {description.located.path} is a real bench. Use: rramlab run electroform"
        )
    if png is not None:
        refuse_unwritable(png, "the picture")
    recipe = load_recipe(task)
    recipe = recipe.model_copy(update={"epochs": epochs or min(recipe.epochs, EPOCHS[task])})
    dataset = load_dataset(recipe.dataset, data, description.root)
    recipe.require(dataset)
    out.say("die ", styled(die_id), f", simulated; {recipe.description}")
    with Session(description) as session, epochs_shown(out, recipe.epochs) as on_epoch:
        if session.stations[die_id].ledger.pulse_counts().any():
            raise UsageError(f"die {die_id!r} has been pulsed; the demo forms a virgin one: choose another with --die")
        story = tell(
            session,
            recipe,
            dataset,
            method,
            lambda part: out.say(styled("·"), f" {part}"),
            on_epoch,
            parse_assignments(assignments or []),
        )
    draw(out, story.conductance_S, die_id)
    if png is not None:
        from rramlab.report.figures import save_map

        save_map(story.conductance_S, png, f"die {die_id}")
    table = out.facts(f"{task} on die {die_id}")
    for name, value in (
        ("cells pulsed, once each", f"{story.pulses:,}"),
        ("of them conducting", f"{story.formed_fraction:.2%}"),
        ("weights kept", f"{story.kept:,} of {story.weights:,}"),
        ("accuracy, random network unpruned", f"{story.accuracy_random:.2%}"),
        ("accuracy, pruned, on the host", f"{story.accuracy_trained:.2%}"),
        ("accuracy, pruned, on the chip", styled(f"{story.accuracy_on_chip:.2%}")),
        ("conversions on the chip", f"{story.conversions:,}, {story.saturated:,} saturated"),
        ("read back", str(story.verification)),
        ("seconds", f"{story.seconds:.1f}  ({', '.join(f'{k} {v:.1f}' for k, v in story.seconds_by_part.items())})"),
    ):
        table.add_row(name, value)
    out.say(table)
    out.say(
        f"Look closer: rramlab map --die {die_id} --png map.png; rramlab runs list; rramlab evaluate {task}-{die_id}"
    )
    out.finish(
        {
            "die": story.die,
            "task": task,
            "method": story.method,
            "formed_fraction": story.formed_fraction,
            "median_S": story.median_S,
            "accuracy_random": story.accuracy_random,
            "accuracy_trained": story.accuracy_trained,
            "accuracy_on_chip": story.accuracy_on_chip,
            "images": story.images,
            "weights": story.weights,
            "kept": story.kept,
            "pulses": story.pulses,
            "conversions": story.conversions,
            "saturated": story.saturated,
            "verification": story.verification.as_json(),
            "seconds": story.seconds,
            "seconds_by_part": story.seconds_by_part,
        }
    )
