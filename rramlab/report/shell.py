"""What all pages share: the document around them, and the pieces that they are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from rramlab.base.files import write_atomic
from rramlab.report.markup import Content, Html, join, quoted, table, tag
from rramlab.report.pictures import Picture
from rramlab.report.theme import variables

Tone = Literal["good", "warn", "bad"]
MARKS: dict[Tone, str] = {"good": "✓", "warn": "!", "bad": "✗"}
WORDS: dict[Tone, str] = {"good": "good", "warn": "look at it", "bad": "not good"}
Rows = list[Sequence[Content]]
Pictures = Mapping[str, Sequence[Picture]]
MOST_ROWS = 40  # of a table; what is left out is counted


@dataclass(frozen=True)
class Written:
    """What a report came to: its file, the files of its figures, how it judges, what could not be read."""

    path: Path
    figures: tuple[Path, ...]
    headline: str
    problems: tuple[str, ...]


def write(path: Path, text: str, pictures: Pictures, folder: Path | None, heading: str) -> tuple[Path, ...]:
    """Write a page and, with ``folder``, each of its pictures as PNG and PDF with ``heading`` below its title."""
    write_atomic(path, text.encode(errors="backslashreplace"))
    if folder is None:
        return ()
    return tuple(each for group in pictures.values() for picture in group for each in picture.save(folder, heading))


def document(title: str, *body: Content) -> str:
    """Return a page that needs nothing else: its style sheet is in it, light and dark."""
    style = variables() + files("rramlab.report").joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{quoted(title)}</title><style>{style}</style>'
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{join(body)}</body></html>\n'


def verdict_box(tone: Tone, headline: str, reason: str = "", advice: str = "", command: str = "", **more: str) -> Html:
    """Return a judgement that is seen first; ``command``: what to type for the ``advice``."""
    sign = tag("span", MARKS[tone], class_="sign", role="img", aria_label=WORDS[tone])
    return tag(
        "div",
        tag("p", sign, tag("strong", headline), class_="headline"),
        tag("p", reason, class_="reason") if reason else None,
        tag("p", advice) if advice else None,
        tag("p", tag("code", command)) if command else None,
        class_=f"verdict {tone}",
        **more,
    )


def strip(tiles: Iterable[tuple[str, str, str]], label: str) -> Html:
    """Return a handful of figures: name, value, what else there is to say of it."""
    made = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))
        for name, value, more in tiles
    )
    return tag("dl", *made, class_="strip", aria_label=label)


def mark(tone: Tone, text: str) -> Html:
    """A verdict in a line that does not live by its colour."""
    return tag("span", f"{MARKS[tone]} {text}", class_=f"mark {tone}")


def figures(pictures: Sequence[Picture]) -> Html | None:
    """Return pictures side by side, each with its title and caption."""
    if not pictures:
        return None
    made = (
        tag(
            "figure",
            tag("figcaption", tag("strong", each.title), f" {each.caption}" if each.caption else None),
            each.svg(),
            class_="wide" if each.size[0] > 6 else "",
        )
        for each in pictures
    )
    return tag("div", *made, class_="figures")


def shortened(
    head: Sequence[str], rows: Sequence[Sequence[Content]], caption: str, numbers: Iterable[int]
) -> Html | None:
    """Return a table of the first and last rows, without the columns in which nothing stands; None where there is none."""
    filled = [index for index in range(len(head)) if any(row[index] not in (None, "") for row in rows)]
    if not filled:
        return None
    right = set(numbers)
    numbers = [place for place, index in enumerate(filled) if index in right]
    head, rows = [head[index] for index in filled], [[row[index] for index in filled] for row in rows]
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        gap: Sequence[Content] = (f"… {len(rows) - 2 * half:,} more", *("" for _ in head[1:]))
        rows = [*rows[:half], gap, *rows[-half:]]
    return table(head, rows, caption, numbers)
