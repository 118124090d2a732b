"""The page of the campaign: means over dies and seeds, last epoch, and the curves."""

import statistics

import numpy as np
import torch
from campaign.kept import Kept

from pruning.cases import DRIFT, GROUPS, NOISY, STORAGE, settings
from rramlab.base.folders import shipped
from rramlab.base.units import show
from rramlab.deploy import Load, ways
from rramlab.drivers.bench import describe_bench
from rramlab.macro.cells import is_conducting
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.nn import load_weights, masked_layers, masks, vectors_of
from rramlab.report.figures import save_figure
from rramlab.report.theme import MARKERS, SERIES, drawing
from rramlab.training import load_recipe

FILE = "trainings.jsonl"
TITLES = {
    "chip": "On the chip",
    "phases": "Accuracy against the number of phases",
    "kept": "Accuracy against the kept fraction",
    "assignment": "Which outputs share one of 16 phases",
    "forming": "Which cells get their pulse",
    "noise": "Read noise in training",
    "hysteresis": "Hysteresis",
    "ageing": "Ageing and adaptation",
}
COSTED = {
    "edge": {},
    **{f"{count} phases": {"granularity": "phase", "phases": count} for count in (64, 16, 4, 1)},
    "16 phases, adc": {"granularity": "phase", "phases": 16, "assignment": "adc"},
}
COLUMNS = {
    "host": "ideal host",
    "host_noisy": "host, 2 % noise",
    "host_very_noisy": f"host, {NOISY:.0%} noise",
    "chip": "chip",
    "chip_aged": "chip, aged",
    "chip_adapted": "chip, adapted",
    "train": "training",
}
COUNTS = {
    "switched": "mask flips",
    "pulses": "pulses after forming",
    "pulses_adapting": "pulses of adapting",
    "patterns": "gate patterns",
    "conversions": "conversions",
}


def document_of(folder):
    """Return group -> case -> outcomes of every die, of what lies in ``folder``."""
    found = {}
    for group, cases in GROUPS.items():
        known = {case: Kept(folder / FILE, settings(group, case)).known for case in cases}
        found[group] = {case: [each[number] for number in sorted(each)] for case, each in known.items() if each}
    return found


def costs():
    """Return what each way of deploying costs: name -> way. Masks are of random scores: their structure is what counts."""
    board = describe_bench(shipped().path).board
    rows, columns = board.geometry.shape
    formed = np.random.default_rng(0).integers(0, 2, (rows, columns // 2, 1)) == np.arange(2)
    conductance_S = np.where(formed.reshape(1, rows, columns), 12e-6, 1e-7).astype(np.float32)
    pulsed = is_conducting(conductance_S).astype(np.uint32)
    found = {}
    for name, changes in COSTED.items():
        recipe = load_recipe("fashion-mnist").changed(changes)
        model, image = recipe.model(), torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        layers = masked_layers(model)
        shapes = {each: layer.shape for each, layer in layers.items()}
        placement = Placement.pack(shapes, board.geometry, board.lines_at_once)
        load_weights(model, placement.weights(conductance_S))
        model.train()(image)  # activation ranges
        load = Load(vectors_of(model, image[:1]), {each: layer.bits for each, layer in layers.items()})
        mask = Mask(masks(model), recipe.granularity, recipe.phases)
        every = ways(placement, mask, conductance_S, pulsed, load, board)
        found[f"{name}, by gates"] = every[0]
        if not changes:
            found[f"{name}, {every[1].reset[0]} reset"], found[f"{name}, reset"] = every[1], every[-1]
    return found


def mean(outcomes, key):
    values = [each[key] for each in outcomes if key in each]
    return statistics.mean(values) if values else None


def spread(outcomes, key):
    values = [each[key] for each in outcomes if key in each]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def cell(outcomes, key):
    """Return mean and standard deviation; of one die the mean alone."""
    deviation = f" ± {spread(outcomes, key):.2%}" if len(outcomes) > 1 else ""
    return f"{mean(outcomes, key):.2%}{deviation}"


def markdown(document):
    lines = [
        "# Topology: which random weights stay",
        "",
        "Fashion-MNIST, the network and recipe `fashion-mnist` but for what a table says. Each die is a virgin one of its own",
        "seed, with the published model, on a board of its own that was calibrated by its own procedures (`calibration_policy:",
        "require`); each training has a seed of its own. Mean ± standard deviation over dies, last epoch, never the best one.",
        "*Chip*: all 10,000 test images with every product computed by the macro, deployed by gates. *Host*: float products of",
        "the quantised network with the weights as read, ideal or with fresh Gaussian noise a batch. The recipe's settings",
        "were compared by test accuracy on other, synthetic dies, so the figures carry a slight selection bias.",
        "",
        "Made by `python benchmarks/topology.py`; every training is in `topology.json`.",
        "",
        "![Accuracy against phases and kept fraction](topology.png)",
    ]
    notes = {
        "ageing": f"Stored for {STORAGE.days} days at 85 °C with a drift whose mean and spread, {DRIFT} a natural logarithm of "
        "time, are assumed: the published dies do not say. Adaptation: `weights`, 2 epochs with a read every 100 steps; "
        "`multiply`, one epoch over 6,000 images with every product of training on the macro. No pulse is sent.",
        "hysteresis": "*Mask flips* are weights that training steps switched, on or off, over the whole training.",
        "noise": "Trained with the noise named, evaluated with three.",
    }
    for group, cases in document.items():
        if not cases:
            continue
        first = next(iter(cases.values()))
        shown = [key for key in COLUMNS if any(key in each for each in first)]
        counted = [key for key in COUNTS if any(key in each for each in first)]
        if group not in ("hysteresis", "chip"):
            counted = [key for key in counted if key != "switched"]
        if group not in ("noise", "forming"):
            shown = [key for key in shown if key != "host_very_noisy"]
        lines += ["", f"## {TITLES[group]}", "", *([notes[group], ""] if group in notes else [])]
        lines.append(f"| case | dies | epochs | {' | '.join((COLUMNS | COUNTS)[key] for key in (*shown, *counted))} |")
        lines.append("|---" * (3 + len(shown) + len(counted)) + "|")
        for case, outcomes in cases.items():
            cells = [cell(outcomes, key) for key in shown]
            cells += [f"{mean(outcomes, key):,.0f}" for key in counted]
            lines.append(f"| {case} | {len(outcomes)} | {outcomes[0]['epochs']} | {' | '.join(cells)} |")
    lines += [
        "",
        "## What each way costs",
        "",
        "By the planner (`rramlab deploy --dry-run`), of the macro's products alone, at the rates of the shipped board file.",
        "",
        "| way | pulses | gate patterns | conversions an image | time an image | energy an image |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {way.deploying.pulses:,} | {way.patterns:,} | {way.sample.conversions:,} | "
        f"{show(way.sample.time_s, 's')} | {show(way.sample.energy_J, 'J')} |"
        for name, way in costs().items()
    ]
    return "\n".join(lines) + "\n"


def draw(document, path):
    """Draw the curves against phases and kept fraction."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
        left, right = figure.subplots(1, 2)
        phases = {case: each for case, each in document["phases"].items() if case != "lines"}
        _curves(left, phases, range(len(phases)))
        left.set(xlabel="phases, K", xticks=range(len(phases)), xticklabels=list(phases), ylabel="test accuracy (%)")
        kept = document["kept"]
        _curves(right, kept, [100 * float(case.rstrip("%")) / 100 for case in kept])
        right.set(xlabel="weights kept (%)", ylabel="test accuracy (%)")
        for axes in (left, right):
            axes.grid(axis="y")
            if axes.lines:
                axes.legend(loc="lower center")
        save_figure(figure, path)


def _curves(axes, cases, places):
    for number, key in enumerate(("host", "host_noisy")):
        values = [100 * mean(each, key) for each in cases.values()]
        errors = [100 * spread(each, key) for each in cases.values()]
        if values:
            axes.errorbar(
                list(places),
                values,
                errors,
                label=COLUMNS[key],
                color=SERIES[number],
                marker=MARKERS[number],
                capsize=3,
            )
