"""The figures of a reproduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rramlab.base.units import show
from rramlab.macro.masks import Mask
from rramlab.report.figures import draw_histogram
from rramlab.report.pictures import Picture
from rramlab.report.theme import DASHES, FIVE, FOUR, ONE, SERIES, SOFT, THREE, TWO
from rramlab.reproduction.outcomes import Outcome
from rramlab.reproduction.summary import OURS, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float32]
SPOKEN = {"accuracy": "Accuracy", "pr_auc": "PR-AUC", "roc_auc": "ROC-AUC"}


def bars(lines: Sequence[Line], score: str) -> Picture:
    """Every row's score: a bar for the mean, a whisker for the standard deviation over dies."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows = [line for line in lines if score in line.scores][::-1]
        means = [line.scores[score].mean for line in rows]
        errors = [line.scores[score].deviation or 0.0 for line in rows]
        colours = [ONE if line.row in OURS else SOFT if not line.samples else THREE for line in rows]
        axes.barh([line.title for line in rows], means, xerr=errors, color=colours, height=0.65, error_kw={"lw": 1.2})
        for place, mean in enumerate(means):
            axes.text(0.01 * max(means), place, f"{mean:.1%}", va="center", color="white", fontsize=8.5)
        axes.set(xlabel=SPOKEN[score], xlim=(0, 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    told = ", ".join(f"{line.title} {line.scores[score].mean:.1%}" for line in lines if score in line.scores)
    return Picture(
        f"bars-{score.replace('_', '-')}", f"{SPOKEN[score]}, row by row", told, draw, (7.2, 3.4),
        "Blue: topology learned, on the macro. Brown: others with every product on the macro. Grey: software.",
    )  # fmt: skip


def epochs(outcomes: Sequence[Outcome], lines: Sequence[Line], score: str) -> Picture:
    """The test score over the epochs, the mean over dies."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, line in enumerate(each for each in lines if each.row in TRAINED):
            histories = [each.history for each in outcomes if each.row == line.row and each.history]
            if not histories:
                continue
            length = min(map(len, histories))
            found = np.mean([[epoch[score] for epoch in each[:length]] for each in histories], axis=0)
            colour, dash = SERIES[place % len(SERIES)], DASHES[place % len(DASHES)]
            axes.plot(
                np.arange(1, length + 1),
                found,
                label=line.title,
                color=colour,
                linestyle=dash,
                marker="o",
                markersize=3,
            )
        axes.set(xlabel="epoch", ylabel=f"{SPOKEN[score]}, on the host")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(axis="y")
        axes.legend(loc="lower right")

    return Picture("epochs", f"{SPOKEN[score]} while training", "One line a row that is trained.", draw)


TRAINED = ("edge", "phases", "ideal", "write-verify", "dense")


def energy(lines: Sequence[Line], gpu_J: float) -> Picture:
    """Energy of the products of one test sample, by component, beside that of the stated graphics processor."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows = [line for line in lines if line.energy_J][::-1]
        names = list(dict.fromkeys(name for line in rows for name in line.energy_J))
        left = np.zeros(len(rows))
        for place, name in enumerate(names):
            width = np.array([line.energy_J.get(name, 0.0) for line in rows]) * 1e3
            axes.barh([line.title for line in rows], width, left=left, label=name, color=_shade(place), height=0.65)
            left += width
        axes.set(xlabel="energy of one test sample (mJ)")
        figure.legend(loc="outside lower center", ncols=4)

    return Picture(
        "energy", "Energy by component", "Stacked bars, one a row.", draw, (7.2, 3.6),
        "Of the macro's products alone, by the rates and energies of the board file. The same products on a graphics processor "
        f"at its peak: {show(gpu_J, 'J', 3)}.",
    )  # fmt: skip


def _shade(place: int) -> str:
    return (ONE, THREE, FOUR, FIVE, TWO, SOFT)[place % 6]


def pulses(lines: Sequence[Line]) -> Picture:
    """Pulses of each row, with and without forming, and what re-pruning on the die would have cost."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows = [line for line in lines if line.pulses or line.repruning][::-1]
        place = np.arange(len(rows))
        for offset, colour, label, values in (
            (0.27, SOFT, "with forming", [sum(line.pulses.values()) for line in rows]),
            (0.0, ONE, "after forming", [line.pulses_after_forming for line in rows]),
            (-0.27, TWO, "re-pruning on the die, not done", [sum(line.repruning.values()) for line in rows]),
        ):
            axes.barh(place + offset, values, height=0.25, color=colour, label=label)
        axes.set(xlabel="pulses", yticks=place, yticklabels=[line.title for line in rows])
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, None)
        figure.legend(loc="outside lower center", ncols=4)

    return Picture("pulses", "Pulses", "Three bars a row, logarithmic.", draw, (7.2, 3.6))


def masks(mask: Mask) -> Picture:
    """The kept weights of each layer, dark, in its rows and outputs."""

    def draw(figure: Figure) -> None:
        largest = sorted(mask.layers, key=lambda name: -mask.layers[name].size)[:8]
        names = [name for name in mask.layers if name in largest]
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            layer = mask.layers[name]
            axes.imshow(layer, cmap="Blues", vmin=0, vmax=1.4, aspect="auto", interpolation="nearest")
            axes.set_title(f"{name}\n{layer.mean():.0%} of {layer.size:,}", fontsize=8)
            axes.set(xticks=[], yticks=[])
        panels[0].set_ylabel("inputs")
        figure.supxlabel("outputs", fontsize=9)

    return Picture("masks", "Masks", f"Kept weights of {len(mask.layers)} layers.", draw, (8.0, 2.8), "Dark: kept.")


def conductances(conductance_S: npt.NDArray[np.float32]) -> Picture:
    """How many cells of the dies conduct how much: float32[dies, rows, columns]."""
    return Picture(
        "conductances",
        "Conductances that the network was given",
        "A histogram of the cells that were read.",
        lambda figure: draw_histogram(figure.subplots(), conductance_S),
    )


def confusion(found: npt.NDArray[np.int64], classes: Sequence[str]) -> Picture:
    """What was taken for what, on the macro: int[true, said]."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        share = found / np.maximum(found.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        ticks = np.arange(len(classes))
        axes.set(xlabel="said on the macro", ylabel="true", xticks=ticks, yticks=ticks, yticklabels=classes)
        axes.set_xticklabels(classes, rotation=45, ha="right")
        for row, column in np.argwhere(found > 0):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{found[row, column]}", ha="center", va="center", fontsize=7, color=colour)

    return Picture("confusion", "What was taken for what", "Counts of true and said classes.", draw, (5.6, 5.0))


def segments(image: Floats, truth: Floats, likely: Floats) -> Picture:
    """An image, what is there, and what was found on the macro: float32[height, width] of 0 … 1 each."""

    def draw(figure: Figure) -> None:
        from matplotlib.colors import to_rgb

        said, there = likely > 0.5, truth > 0.5
        differing = np.ones((*truth.shape, 3))
        for pixels, colour in ((said & there, "black"), (there & ~said, ONE), (said & ~there, TWO)):
            differing[pixels] = to_rgb(colour)
        panels = (
            ("image", image),
            ("truth", truth),
            ("how likely a vessel", likely),
            ("found, missed, wrong", differing),
        )
        for axes, (name, pixels) in zip(figure.subplots(1, 4), panels, strict=True):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="none")
            axes.set_title(name)
            axes.set_axis_off()

    return Picture(
        "segments", "A test image on the macro", "Image, truth, probability and difference side by side.", draw, (8.0, 2.6),
        "Black: found; blue: missed; pink: wrong.",
    )  # fmt: skip
