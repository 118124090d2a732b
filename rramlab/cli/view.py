"""``map``: what the die looked like at its last read; curves in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramlab.base.errors import DataError
from rramlab.cli.options import BenchPath, DieName, Json
from rramlab.cli.output import Output, command, styled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.text import Text

# Dark to bright, after the viridis colour map: readable without colour vision, too.
_COLOURS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
_SHADES = " .:-=+*%@"
_WIDTH, _HEIGHT = 64, 32


@command
def map_(
    png: Annotated[Path | None, typer.Option("--png", help="Also write the map and histogram as a picture.")] = None,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Show the die's conductances at their last read: heat map and histogram. Energises nothing."""
    import numpy as np

    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.lastread import load_last_read

    out = Output(as_json)
    description = describe_bench(bench, die)
    die_id = description.file.dies[0].id
    conductance = load_last_read(description.data / "dies" / die_id, description.board.geometry)[0].conductance_S
    if np.isnan(conductance).all():
        raise DataError(f"die {die_id!r} was never read; read it with: rramlab run read-array --die {die_id}")
    if png is not None:
        from rramlab.report.figures import save_map

        save_map(conductance, png, f"die {die_id}")
    document = {"die": die_id, "png": str(png) if png else None, **draw(out, conductance, die_id)}
    if png is not None:
        out.say(f"Picture: {png}")
    out.finish(document)


def draw(out: Output, conductance_S: npt.NDArray[np.float32], title: str) -> dict[str, Any]:
    """Print heat map and histogram of float32[rows, columns]; return the figures that they show."""
    import numpy as np

    from rramlab.macro.cells import is_conducting

    known = conductance_S[np.isfinite(conductance_S)]
    conducting = known[is_conducting(known)]
    rows, columns = conductance_S.shape
    out.say(styled(title), f": {rows} × {columns} cells, brightness = mean conductance of a block")
    out.say(_heat_map(conductance_S, colour=out.console.color_system is not None and out.shows("▀")))
    out.say(_histogram(known))
    median = float(np.median(conducting)) if conducting.size else 0.0
    out.say(
        f"{known.size:,} cells read, {conducting.size:,} conduct (≥ 2 µS), their median {median * 1e6:.2f} µS, "
        f"spread of the logarithm {float(np.log(conducting).std()) if conducting.size else 0:.3f}"
    )
    return {"cells_read": int(known.size), "conducting": int(conducting.size), "median_S": median}


def _heat_map(conductance_S: npt.NDArray[np.float32], colour: bool) -> Text:
    import numpy as np
    from rich.text import Text

    rows, columns = conductance_S.shape
    height, width = min(_HEIGHT, rows), min(_WIDTH, columns)
    row_of, column_of = np.arange(rows) * height // rows, np.arange(columns) * width // columns
    block = (row_of[:, None] * width + column_of[None, :]).ravel()
    finite = np.isfinite(conductance_S).ravel()
    total = np.bincount(block, np.where(finite, conductance_S.ravel(), 0), height * width)
    count = np.bincount(block, finite, height * width)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(height, width)
    top = max(float(np.nanmax(mean)), 2e-6)
    level = np.nan_to_num(mean / top * (len(_COLOURS) - 1)).round().astype(int)
    text = Text()
    if colour:  # two rows of blocks a line: the upper half's colour in front, the lower half's behind
        for upper, lower in zip(level[0::2], level[1::2], strict=False):
            for above, below in zip(upper, lower, strict=True):
                text.append("▀", style=f"{_COLOURS[above]} on {_COLOURS[below]}")
            text.append("\n")
    else:
        for line in level[0::2]:
            text.append("".join(_SHADES[index] for index in line) + "\n")
    text.append(f"dark 0 … bright {top * 1e6:.1f} µS", style="dim")
    return text


def _histogram(known_S: npt.NDArray[np.float32]) -> Text:
    import numpy as np
    from rich.text import Text

    top = max(24.0, float(np.ceil(known_S.max() * 1e6 / 2) * 2)) if known_S.size else 24.0
    counts, edges = np.histogram(known_S * 1e6, bins=np.arange(0, min(top, 40.0) + 1, 2))
    longest = max(1, int(counts.max()))
    text = Text()
    for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        text.append(f"{low:4.0f}–{high:2.0f} µS ")
        text.append("█" * round(40 * count / longest), style="cyan")
        text.append(f" {count:,}\n")
    beyond = int(np.count_nonzero(known_S * 1e6 > edges[-1]))
    if beyond:
        text.append(f"  above {edges[-1]:.0f} µS: {beyond:,}\n")
    return text


def draw_curve(out: Output, curve: npt.NDArray[Any], compliance_A: float) -> None:
    """Print current over voltage; ``curve``: see :mod:`rramlab.runs.curves`. Points that are no measurement are left out."""
    import numpy as np

    from rramlab.base.units import show
    from rramlab.runs.curves import measured

    every, curve = len(curve), measured(curve)
    left_out = every - len(curve)
    if not len(curve):
        out.say(f"None of {every} points is a measurement: there is nothing to draw.")
        return
    volts, amperes = curve["voltage"], curve["current"]
    (left, right), (low, high) = (
        (min(0.0, float(values.min())), max(0.0, float(values.max()))) for values in (volts, amperes)
    )
    places = np.full((_HEIGHT // 2, _WIDTH), " ")

    def put(mask: npt.NDArray[np.bool_], mark: str) -> None:
        across = np.rint((volts[mask] - left) / (right - left or 1) * (_WIDTH - 1)).astype(int)
        up = np.rint((amperes[mask] - low) / (high - low or 1) * (len(places) - 1)).astype(int)
        places[len(places) - 1 - up, across] = mark

    limited = curve["in_compliance"]
    put(~limited, "·")
    put(limited, "×")
    margin = max(len(show(low, "A")), len(show(high, "A")))
    for index, line in enumerate(places):
        label = {0: show(high, "A"), len(places) - 1: show(low, "A")}.get(index, "")
        out.say(_plain(f"{label:>{margin}} │{''.join(line)}"))
    out.say(_plain(f"{'':>{margin}} └{'─' * _WIDTH}"))
    ends = show(left, "V"), show(right, "V")
    out.say(_plain(f"{'':>{margin}}  {ends[0]}{ends[1]:>{_WIDTH - len(ends[0])}}"))
    if limited.any():
        out.say(_plain(f"× in compliance: the unit held the current at its limit of {show(compliance_A, 'A')}"))
    if left_out:
        out.say(_plain(f"left out: {left_out} of {every} points, which are no measurement"))


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text, no_wrap=True)
