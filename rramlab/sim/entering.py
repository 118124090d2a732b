"""Adding dies to the text of a bench file, and leaving every other byte of it as its people wrote it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rramlab.base.errors import UsageError


def with_dies(path: Path, new: Sequence[dict[str, Any]]) -> str:
    """Return the text of a bench file with dies added after its last one; nothing else in it changes.

    Raises:
        UsageError: the file is written so that they cannot be added.
    """
    from ruamel.yaml import YAML

    text = path.read_bytes().decode()
    writer = YAML(typ="rt", pure=True)
    writer.default_flow_style, writer.width = True, 1 << 20
    entries = []
    for entry in new:
        stream = io.StringIO()
        writer.dump(entry, stream)
        entries.append(stream.getvalue().strip())
    changed = _spliced(text, entries)
    if not _adds(text, changed, new):
        raise UsageError(
            f"the dies of {path} are written in a way that cannot be added to; nothing was made. Leave --enter away, "
            f"or write them there by hand: {'; '.join(entries)}"
        )
    return changed


def _spliced(text: str, entries: Sequence[str]) -> str:
    """Put entries behind the last die, in the style of the list: a line each, or within the brackets."""
    from ruamel.yaml import YAML

    tree = YAML(typ="rt", pure=True).compose(text)
    dies = next((value for key, value in tree.value if key.value == "dies"), None)
    if dies is None:
        return text
    if dies.flow_style:
        head = text[: dies.end_mark.index - 1]
        comma = "" if head.rstrip().endswith((",", "[")) else ", "
        return head + comma + ", ".join(entries) + text[len(head) :]
    lines = text[: dies.end_mark.index].splitlines(keepends=True)
    while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
        lines.pop()  # they belong to what follows
    head, end = "".join(lines), "\r\n" if lines[-1].endswith("\r\n") else "\n"
    indent = " " * dies.start_mark.column
    added = ("" if head.endswith("\n") else end) + "".join(f"{indent}- {entry}{end}" for entry in entries)
    return head + added + text[len(head) :]


def _adds(before: str, after: str, new: Sequence[dict[str, Any]]) -> bool:
    """Return whether the second document is the first with dies added, and nothing else."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        was, now = (YAML(typ="safe", pure=True).load(text) for text in (before, after))
    except YAMLError:
        return False
    return bool(now == {**was, "dies": [*was["dies"], *new]})
