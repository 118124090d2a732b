"""The page of the campaign: means over dies and seeds, last epoch, and the curves."""

import statistics

from campaign.kept import Kept

from pruning.cases import DRIFT, GROUPS, NOISY, STORAGE, settings
from rramlab.report.figures import save_figure
from rramlab.report.theme import MARKERS, SERIES, drawing

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


def mean(outcomes, key):
    values = [each[key] for each in outcomes if key in each]
    return statistics.mean(values) if values else None


def spread(outcomes, key):
    values = [each[key] for each in outcomes if key in each]
    return statistics.stdev(values) if len(values) > 1 else 0.0


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
        if group != "hysteresis":
            counted = [key for key in counted if key != "switched"]
        if group not in ("noise", "forming"):
            shown = [key for key in shown if key != "host_very_noisy"]
        lines += ["", f"## {TITLES[group]}", "", *([notes[group], ""] if group in notes else [])]
        lines.append(f"| case | dies | epochs | {' | '.join((COLUMNS | COUNTS)[key] for key in (*shown, *counted))} |")
        lines.append("|---" * (3 + len(shown) + len(counted)) + "|")
        for case, outcomes in cases.items():
            cells = [f"{mean(outcomes, key):.2%} ± {spread(outcomes, key):.2%}" for key in shown]
            cells += [f"{mean(outcomes, key):,.0f}" for key in counted]
            lines.append(f"| {case} | {len(outcomes)} | {outcomes[0]['epochs']} | {' | '.join(cells)} |")
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
                axes.legend(loc="lower right")
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
