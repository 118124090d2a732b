"""stdout and stderr as a command writes to them: they take any text, and no failure to print reaches the work.

What the stream's encoding lacks is written in other letters (``µS`` as ``uS``). A stream that cannot be written any more is
given up once and for all: what a command does, and what it keeps of that, must not depend on who reads its words.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_OTHERWISE = {
    "\N{MICRO SIGN}": "u", "\N{GREEK SMALL LETTER MU}": "u", "\N{OHM SIGN}": "Ohm", "\N{GREEK CAPITAL LETTER OMEGA}": "Ohm",
    "°": "deg", "σ": "sigma", "±": "+-", "×": "x", "·": "*", "−": "-", "–": "-",
    "—": "-", "…": "...", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "∩": "&", "⁺": "+", "⁻": "-", "“": '"',
    "”": '"', "‘": "'", "’": "'", "•": "*", "█": "#", "▀": "#", "│": "|", "└": "+", "─": "-", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
_HANDLER = "rramlab.otherwise"


def _otherwise(error: UnicodeError) -> tuple[str, int]:
    """Answer for characters that an encoding lacks: another spelling, the letter without its accent, or the number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelled, error.object[error.start : error.end])), error.end


def _spelled(character: str) -> str:
    if character in _OTHERWISE:
        return _OTHERWISE[character]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or ascii(character)[1:-1]


codecs.register_error(_HANDLER, _otherwise)


def fitting(text: str, encoding: str) -> str:
    """Return ``text`` as far as ``encoding`` has its characters, the others spelled in those that it has."""
    if text.isascii():
        return text
    return text.encode(encoding, _HANDLER).decode(encoding)


def harmless(text: str) -> str:
    """Return ``text`` with what would steer a terminal made visible: names and messages come from files and instruments."""
    if text.isprintable():
        return text
    return "".join(each if each in "\n\t" or _shows(each) else ascii(each)[1:-1] for each in text)


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # spaces that do not break, or are narrow


class Outlet(io.TextIOBase):
    """A standard stream that never raises. ``trouble``: why nothing is written any more, None as long as it is."""

    def __init__(self, stream: TextIO | None) -> None:
        """``stream``: None where it was closed before the program began."""
        self._stream = stream
        self.trouble: Exception | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def lost(self) -> Exception | None:
        """Why somebody who still reads has not got everything; a reader who went away has got what he wanted."""
        return None if isinstance(self.trouble, BrokenPipeError) else self.trouble

    def write(self, text: str) -> int:
        if self._stream is not None and self.trouble is None:
            try:
                self._stream.write(fitting(text, self.encoding))
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None and self.trouble is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Send what is still in the stream's buffer nowhere: Python flushes it at its end."""
        self.trouble = error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream is not None and self.trouble is None and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()


@contextmanager
def outlets() -> Iterator[tuple[Outlet, Outlet]]:
    """Write through outlets, which are stdout and stderr for that long."""
    before = sys.stdout, sys.stderr
    out, err = (Outlet(stream) for stream in before)
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        for each in (out, err):
            each.flush()
        sys.stdout, sys.stderr = before
