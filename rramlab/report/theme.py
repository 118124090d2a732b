"""Colours that figures and pages share, by role, in a light and a dark variant."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

# Role -> (light, dark). Each pair stands out from its background by 4.5 : 1 or more, but for lines that only guide the
# eye. Figures are drawn in the light colours; in a page each becomes its CSS variable, hence no two of them are alike.
COLOURS: dict[str, tuple[str, str]] = {
    "ink": ("#1b2530", "#e6ecf2"),
    "soft": ("#5a6673", "#a3b0bd"),
    "line": ("#c9d1d9", "#3a4653"),
    "one": ("#22638f", "#6db8ea"),
    "two": ("#b03a75", "#f48fc0"),
    "three": ("#a35a00", "#f0b04e"),
    "four": ("#3d7a33", "#8ccf7e"),
    "five": ("#6a4ba3", "#b9a1ee"),
}
INK, SOFT, LINE = (COLOURS[role][0] for role in ("ink", "soft", "line"))
ONE, TWO, THREE, FOUR, FIVE = (COLOURS[role][0] for role in ("one", "two", "three", "four", "five"))
SERIES = (ONE, TWO, THREE, FOUR, FIVE)
# Told apart without colour, too.
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "white",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "hatch.color": LINE,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text
}


def drawing(**more: Any) -> AbstractContextManager[None]:
    """Let matplotlib draw in the house's style for as long as the context lasts; ``more``: settings, ``__`` for a dot."""
    from matplotlib import rc_context

    settings: Any = {**_STYLE, **{name.replace("__", "."): value for name, value in more.items()}}
    return rc_context(settings)


def variables() -> str:
    """Return the style sheet's lines that give each role its colour, light first."""
    light = "".join(f"--{role}: {pair[0]}; " for role, pair in COLOURS.items())
    dark = "".join(f"--{role}: {pair[1]}; " for role, pair in COLOURS.items())
    return f":root {{ {light}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
