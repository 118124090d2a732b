"""What a plan would do, before anything is opened: dry runs, and what is refused without asking an instrument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rramlab.base.errors import Refused, UsageError

if TYPE_CHECKING:
    from rramlab.cli.output import Output
    from rramlab.drivers.bench import BenchDescription
    from rramlab.plan.plan import Plan
    from rramlab.plan.worst import Bounds, StepAtWorst
    from rramlab.protocols.files import Protocol
    from rramlab.runs.store import Run

_MOST_LINES = 60  # of a dry run's table


def refuse_other_die(description: BenchDescription, arm: str | None) -> None:
    """Compare the die that was armed with those that are meant, before anything is opened or made.

    Raises:
        Refused: it is none of them.
    """
    dies = [die.id for die in description.file.dies]
    if arm is not None and arm not in dies:
        raise Refused(f"armed for die {arm!r}, but it goes to {', '.join(map(repr, dies))}; nothing was energised")


def for_fraction(
    out: Output, description: BenchDescription, protocol: Protocol, given: dict[str, str], fraction: float
) -> dict[str, str]:
    """Return the parameters that form a share of the cells, by the forming record of the die.

    Raises:
        UsageError: the protocol has no such parameters, they are given twice, or no such share. DataError: no record.
    """
    from rramlab.base.units import parse, show
    from rramlab.records.forming import forming_of

    names = ("voltage", "expected", "within")
    missing = [name for name in (*names, "width", "gate", "together") if name not in protocol.file.parameters]
    if missing:
        raise UsageError(
            f"--fraction is for a protocol such as electroform; {protocol.file.name!r} has no {missing[0]!r}"
        )
    if twice := [name for name in names if name in given]:
        raise UsageError(f"found --fraction and --set {twice[0]}=…, expected one of the two")
    if not 0.01 <= fraction <= 0.99:
        raise UsageError(f"found --fraction {fraction:g}, expected a share from 0.01 to 0.99")
    if len(description.file.dies) != 1:
        raise UsageError("--fraction needs one die; say which with --die")
    record = forming_of(description.root, description.file.dies[0].id, description.file.controller.board)
    for name, unit, measured in (("width", "s", record.width), ("gate", "V", record.gate)):
        asked = parse(given.get(name, protocol.file.parameters[name].default), unit)
        if abs(asked - measured) > 1e-6 * measured:
            raise UsageError(
                f"found a {name} of {show(asked, unit)}, the forming record of die {record.die!r} was measured at "
                f"{show(measured, unit)}; nothing was energised. Measure one at this {name}, or form at that of the record"
            )
    curve = record.curve
    volts, band_V = (
        curve.voltage_V(fraction),
        3 * curve.voltage_u(fraction, record.mean.uncertainty, record.sigma.uncertainty),
    )
    # Three standard uncertainties: what the curve leaves open is no reason to stop.
    within = max(0.05, curve.fraction(volts + band_V) - fraction, fraction - curve.fraction(volts - band_V))
    if within > 0.2:
        raise UsageError(
            f"the breakdown curve of die {record.die!r} leaves the share open by {within:.0%}, expected at most 20 %: "
            f"a pilot block "
            "could not tell a wrong voltage from a right one; nothing was energised. Measure it on more cells: rramlab "
            "calibrate forming"
        )
    spelled = show(volts, "V", 5)
    out.say(
        f"To form {fraction:.0%} of the cells of die {record.die}: {spelled}, by the record of {record.measured_at:%Y-%m-%d}."
    )
    # One at a time, as in the ramp: cells that form together lift their bit line, and fewer of them form.
    return {"voltage": spelled, "expected": f"{fraction:g}", "within": f"{within:.3f}", "together": "1"}


def announce(out: Output, description: BenchDescription, plan: Plan) -> None:
    """Say in a line what a plan will take, at worst, before anything is opened or asked for."""
    from rramlab.engine.guard import check_worst_case
    from rramlab.plan.worst import bounds

    expanded = check_worst_case(plan, description.limits, description.board, description.smu_files)
    out.say(f"{plan.name}: at worst {_worst(bounds(expanded, description.board))}")


def _worst(total: Bounds) -> str:
    from rramlab.base.units import show as spell
    from rramlab.base.units import show_duration

    pulses = (
        f"{total.pulses:,} pulses on {total.cells:,} cells, at most {total.pulses_per_cell} a cell"
        if total.pulses
        else "no pulse"
    )
    return (
        f"highest voltage {spell(total.max_voltage_V, 'V')}; {pulses}; {total.conversions:,} conversions; "
        f"{show_duration(total.time_s)} at the bench; {spell(total.energy_J, 'J')}"
    )


def _refuse_worn(
    description: BenchDescription, plan: Plan, expanded: list[StepAtWorst], run: Run | None = None
) -> None:
    """Compare a plan with what the cells of its die have been through, where a ledger says so; nothing is opened.

    ``run``: that goes on with the plan, whose own pulses are part of it.

    Raises:
        Refused: as the run would be.
    """
    from rramlab.engine.wear import Past, check_wear
    from rramlab.plan.limits import intersect
    from rramlab.runs import LEDGER
    from rramlab.runs.ledger import view_ledger

    budget = intersect(description.limits, plan.limits).pulses_per_cell
    if len(description.file.dies) != 1:
        return  # it is not said which one is meant: the run will ask
    ledger = description.data / "dies" / description.file.dies[0].id / LEDGER
    if not ledger.exists():
        check_wear(plan, expanded, budget, Past.virgin(description.board.geometry))
        return
    with view_ledger(ledger) as view:
        check_wear(plan, expanded, budget, Past.of(view, run))


def preview(out: Output, description: BenchDescription, plan: Plan, run: Run | None = None) -> None:
    """Print what a plan would do, at worst; open and energise nothing. ``run``: that would go on with it."""
    from rramlab.base.units import show as spell
    from rramlab.base.units import show_duration
    from rramlab.engine.guard import check_worst_case
    from rramlab.plan.worst import bounds
    from rramlab.runs.fitting import refuse_unkeepable

    expanded = check_worst_case(plan, description.limits, description.board, description.smu_files)
    refuse_unkeepable(plan, description.data / "runs")
    _refuse_worn(description, plan, expanded, run)
    total = bounds(expanded, description.board)
    table = out.table(
        "step", "times", "operations", "cells", "pulses", "time", "energy", title=f"dry run of {plan.name}: at worst"
    )
    steps = []
    for each in expanded:
        cost = each.cost * each.times
        of_round = f" ({', '.join(each.values)})" if each.values else ""
        about = {
            "path": each.path,
            "values": each.values,
            "kind": each.step.kind,
            "times": each.times,
            "cells": each.cells.count,
            "operations": each.count * each.times,
            "pulses": cost.pulses,
            "time_s": cost.time_s,
            "energy_J": cost.energy_J,
            "conversions": cost.conversions,
            "source": str(each.step.source),
        }
        steps.append(about)
        if len(steps) <= _MOST_LINES:
            table.add_row(
                f"{each.path} {each.step.kind}{of_round}",
                *(f"{about[name]:,}" for name in ("times", "operations", "cells", "pulses")),
                show_duration(cost.time_s),
                spell(cost.energy_J, "J"),
            )
    if len(steps) > _MOST_LINES:
        table.add_row(f"… and {len(steps) - _MOST_LINES:,} more: --json has them all")
    out.say(table)
    out.say(_worst(total))
    if plan.destructive:
        out.say("It changes the die for good: the run needs --arm with the die's id.")
    out.say("Nothing was opened, nothing was energised.")
    out.finish({"plan": plan.name, "parameters": plan.parameters, "bounds": total.model_dump(), "steps": steps,
                "destructive": plan.destructive})  # fmt: skip
