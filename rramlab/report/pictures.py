"""A picture and its three forms: a PNG, a PDF, and an SVG that takes the colours of the page it stands in."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rramlab.base.files import write_atomic
from rramlab.report.markup import Html, quoted
from rramlab.report.theme import COLOURS, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One figure. ``alt``: what it shows, in words, for who does not see it."""

    name: str  # of its files
    title: str
    alt: str
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (5.4, 3.6)  # inches
    caption: str = ""

    def figure(self, title: bool) -> Figure:
        """Draw it; with its title above where it will stand alone."""
        from matplotlib.figure import Figure

        with drawing():
            figure = Figure(figsize=self.size, dpi=160, layout="constrained")
            if title:
                figure.suptitle(self.title, fontsize=11)
            self.draw(figure)
        return figure

    def save(self, folder: Path, heading: str) -> list[Path]:
        """Write ``NAME.png`` and ``NAME.pdf`` into a folder; ``heading``: stands below its title."""

        whole = Picture(self.name, f"{self.title}\n{heading}", self.alt, self.draw, self.size)
        found = []
        with drawing():
            figure = whole.figure(title=True)
            for kind in ("png", "pdf"):
                stream = io.BytesIO()
                figure.savefig(stream, format=kind)
                path = folder / f"{self.name}.{kind}"
                write_atomic(path, stream.getvalue())
                found.append(path)
        return found

    def svg(self) -> Html:
        """Return the picture as markup that stands in a page: colours are variables, text is text, images are palettes."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        stream = io.StringIO()
        with drawing(svg__hashsalt=self.name):
            figure = self.figure(title=False)
            figure.patch.set_alpha(0)
            FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
        text = stream.getvalue()
        text = text[text.index("<svg") :]
        box = re.search(r'viewBox="([^"]+)"', text)
        text = text[text.index(">") + 1 :]
        text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
        text = re.sub(r'xlink:href="data:image/png;base64,([^"]+)"', _smaller, text)
        # Several pictures share one page: their ids must not meet. Groups are named for nobody.
        text = re.sub(r'<g id="[^"]+"', "<g", text)
        text = re.sub(r' id="([^"]+)"', rf' id="{self.name}-\1"', text)
        text = re.sub(r"url\(#([^)]+)\)", rf"url(#{self.name}-\1)", text)
        text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{self.name}-\1"', text)
        # The page has a font, a tenth of a point is as good as a millionth, and nobody reads the indentation.
        text = re.sub(r"font: (?:[0-9]+ |bold )?([0-9.]+)px [^;\"]*", r"font-size: \1px", text)
        text = re.sub(r"font-family: [^;\"]*; ?", "", text)
        text = re.sub(r'(?<= )(?:d|x|y)="[^"]+"', _rounded, text)
        text = re.sub(r"\s*\n\s*", "\n", text)
        for role, (light, _) in COLOURS.items():
            text = text.replace(light, f"var(--{role})")
        view = box[1] if box else f"0 0 {self.size[0] * 72:g} {self.size[1] * 72:g}"
        return Html(f'<svg viewBox="{view}" role="img" aria-label="{quoted(self.alt)}">{text}')


def _rounded(found: re.Match[str]) -> str:
    return re.sub(r"(\d+\.\d)\d+", r"\1", found[0])


def _smaller(found: re.Match[str]) -> str:
    """Write an embedded PNG of at most 256 colours as a palette: the same picture in a third of the size."""
    from matplotlib.image import imread

    pixels = np.round(imread(io.BytesIO(base64.b64decode(found[1]))) * 255).astype(np.uint8)
    colours, index = np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0, return_inverse=True)
    if len(colours) > 256 or pixels.shape[2] != 4:
        return f'href="data:image/png;base64,{found[1]}"'
    data = palette_png(index.reshape(pixels.shape[:2]).astype(np.uint8), colours)
    return f'href="data:image/png;base64,{base64.b64encode(data).decode()}"'


def palette_png(index: Any, colours: Any) -> bytes:
    """Return a PNG of ``index``, uint8[rows, columns], into ``colours``, uint8[up to 256, 4] as red, green, blue, opacity."""
    rows, columns = index.shape
    scanlines = np.zeros((rows, columns + 1), np.uint8)  # each begins with its filter: none
    scanlines[:, 1:] = index
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", colours[:, :3].tobytes()),
            _chunk(b"tRNS", colours[:, 3].tobytes()),
            _chunk(b"IDAT", zlib.compress(scanlines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
