"""HTML that cannot be forged: whatever is not markup already is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is markup, made by :func:`tag` alone or from what the program itself wrote."""

    __slots__ = ()


Content = Html | str | None


def quoted(text: str) -> str:
    """Escape text for an attribute or an element; what a browser must not see (control characters) is shown as a box."""
    shown = "".join(sign if sign in "\n\t" or sign.isprintable() else "�" for sign in text)
    return html.escape(shown, quote=True)


def tag(name: str, *content: Content, **attributes: str) -> Html:
    """Return an element; text in it is escaped, ``None`` left out. ``class_`` means class, ``_`` in a name is ``-``."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{quoted(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{join(content)}</{name}>")


def join(content: Iterable[Content]) -> Html:
    """Put pieces one after the other; text is escaped."""
    return Html("".join(each if isinstance(each, Html) else quoted(each) for each in content if each is not None))


def table(
    head: Sequence[str], rows: Iterable[Sequence[Content]], caption: str = "", numbers: Iterable[int] = ()
) -> Html:
    """Return a table with a head; the first cell of a row names it. ``numbers``: columns that hold figures."""
    right = set(numbers)

    def cell(kind: str, index: int, content: Content, **more: str) -> Html:
        return tag(kind, content, **({"class_": "number"} if index in right else {}), **more)

    heads = tag("tr", *(cell("th", index, each, scope="col") for index, each in enumerate(head)))
    body = []
    for row in rows:
        first, *others = row
        cells = [cell("th", 0, first, scope="row"), *(cell("td", index, each) for index, each in enumerate(others, 1))]
        body.append(tag("tr", *cells))
    whole = tag("table", tag("caption", caption) if caption else None, tag("thead", heads), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="group", aria_label=caption or "table")


def facts(rows: Iterable[tuple[str, Content]]) -> Html:
    """Return names and values as a description list; what is empty is left out."""
    found = (tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value not in (None, ""))
    return tag("dl", *found, class_="facts")


def section(title: str, name: str, *content: Content) -> Html | None:
    """Return a section with a heading and an anchor; without content there is none."""
    if not any(content):
        return None
    return tag("section", tag("h2", title, id=f"{name}-title"), *content, id=name, aria_labelledby=f"{name}-title")
