"""How figures look: panels of one style, in colours that are told apart with any colour vision (Okabe and Ito)."""

import matplotlib as mpl
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip

mpl.rcParams.update({"font.size": 8, "axes.titlesize": 8.5, "axes.grid": True, "grid.alpha": 0.25})
mpl.rcParams.update({"legend.fontsize": 7, "legend.frameon": False, "savefig.dpi": 150})


def panels(width, height, columns=1, rows=1, **options):
    """Return a figure of so many inches, and its axes."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)
