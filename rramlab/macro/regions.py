"""Regions: how a person spells which cells are meant, and how that becomes a selection.

    all | rows 0-63 | row 5 | rows 0-3, 8, 10-12 | cols 10-20 | col 3 | cell (3, 7) | cells (3, 7), (4, 9)
    checkerboard | one-of-pair(seed=7) | mask(file.npy) | conducting | pristine | unknown
    A & B   both       A | B   either       A - B   in A and not in B       ~A   not in A       ( … )

``~`` binds tightest, then ``&`` and ``-`` from the left, then ``|``. A comma goes on with a list of rows, columns or
cells, and joins nothing else. ``conducting``, ``pristine`` and ``unknown`` depend on data; :meth:`Region.bound` is their
worst case. A mask file is read where a protocol is, and stands in its plan as the cells that it holds: ``bits(…)``.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from operator import and_, or_

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import Refused, UsageError
from rramlab.base.names import text
from rramlab.base.numbers import from_digits, whole
from rramlab.macro.cells import Bools, CellSelection, CellState
from rramlab.macro.geometry import Geometry

# What is known of the cells, by word (some or all of conducting, pristine, unknown): certainly, and possibly.
_Known = Mapping[str, tuple[Bools, Bools]]
# A node answers with the cells that it certainly holds and those that it possibly holds; where all that it asks for
# is known both are the same.
_Node = Callable[[Geometry, _Known], tuple[CellSelection, CellSelection]]

_OF_DATA = ("conducting", "pristine", "unknown")
_RANGE = r"[0-9]+(?:\s*(?:-|–|to)\s*[0-9]+)?"
_PAIR = r"\(\s*[0-9]+\s*,\s*[0-9]+\s*\)"
_MASK = r"""mask\s*\(\s*(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<plain>[^()"']+?))\s*\)"""
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<span>(?P<axis>rows?|cols?|columns?)\s+(?P<ranges>{_RANGE}(?:\s*,\s*{_RANGE})*))
    | (?P<cell>cells?\s*(?P<places>{_PAIR}(?:\s*,\s*{_PAIR})*))
    | (?P<pairs>one-of-pair\s*\(\s*(?:seed\s*=\s*)?(?P<seed>[0-9]+)\s*\))
    | (?P<bits>bits\((?P<data>[A-Za-z0-9+/=]*)\))
    | (?P<mask>{_MASK})
    | (?P<word>all|checkerboard|conducting|pristine|unknown)\b
    | (?P<operator>[&|~()\-])
    )""",
    re.VERBOSE,
)
_EXAMPLES = {
    "all": "all",
    "row": "row 5",
    "rows": "rows 0-63",
    "col": "col 3",
    "cols": "cols 10-20",
    "column": "col 3",
    "columns": "cols 10-20",
    "cell": "cell (3, 7)",
    "cells": "cells (3, 7), (4, 9)",
    "checkerboard": "checkerboard",
    "one-of-pair": "one-of-pair(seed=7)",
    "mask": "mask(file.npy)",
    "conducting": "conducting",
    "pristine": "pristine",
    "unknown": "unknown",
}
_SPELLINGS = (
    "all, rows 0-63, row 5, rows 0-3, 8, 10-12, cols 10-20, cell (3, 7), checkerboard, one-of-pair(seed=7), "
    "mask(file.npy), conducting, pristine, unknown, joined by & | - ~ and parentheses"
)


@dataclass(frozen=True)
class Region:
    """A spelling of cells; see the module for the grammar.

    Raises:
        UsageError: on construction, when the text is not a region: what was found where in it, and what was expected.
    """

    text: str

    def __post_init__(self) -> None:
        _parsed(text(self.text, "the region"))

    @classmethod
    def of(cls, cells: CellSelection | npt.ArrayLike) -> Region:
        """Spell any selection, or bool[rows, columns], as text, so that a plan with it stays plain JSON.

        Raises:
            UsageError: it is not an array of that kind.
        """
        if not isinstance(cells, CellSelection):
            bits = np.asarray(cells)
            if bits.ndim != 2 or bits.dtype != np.bool_:
                raise UsageError(f"found an array {bits.dtype}{list(bits.shape)}, expected bool[rows, columns]")
            cells = CellSelection(bits)
        packed = base64.b64encode(zlib.compress(cells.packed(), 6)).decode()
        return cls(f"bits({packed})")

    @property
    def _node(self) -> _Node:
        return _parsed(self.text)[0]

    @property
    def depends_on_data(self) -> bool:
        """Whether the selection can differ from one die, or one moment, to the next."""
        return _parsed(self.text)[1]

    def with_masks(self, read: Callable[[str], CellSelection]) -> Region:
        """Return the region with each ``mask(file)`` replaced by the cells that ``read`` returns for that file."""

        def spelled(match: re.Match[str]) -> str:
            return Region.of(read(_mask_file(match))).text

        return Region(re.sub(_MASK, spelled, self.text)) if "mask" in self.text else self

    def resolve(self, geometry: Geometry, state: CellState) -> CellSelection:
        """Return the cells meant, given what is known of each.

        Raises:
            UsageError: the region names a row, column or cell that the die does not have.
            Refused: it asks which cells conduct, and that is not known of a cell that it could mean.
        """
        read = ~np.isnan(state.conductance_S)
        known = {
            "conducting": (state.conducting, state.conducting | ~read),
            "pristine": (state.pristine, state.pristine),
            "unknown": (state.unknown, state.unknown),
        }
        certain, possible = self._node(geometry, known)
        open_question = int(np.count_nonzero(certain.bits != possible.bits))
        if open_question:
            raise Refused(
                f"the region {self} asks which cells conduct, but {open_question:,} of them were not read since their last "
                "pulse, or never; nothing was pulsed. Read them first: rramlab run read-array"
            )
        return possible

    def bound(self, geometry: Geometry, pristine: tuple[Bools, Bools] | None = None) -> CellSelection:
        """Return every cell that the region could mean, whatever the data: the worst case that a plan is checked for.

        ``pristine``: the cells that certainly, and those that possibly are, where the ledger is at hand.
        """
        return self._node(geometry, {} if pristine is None else {"pristine": pristine})[1]

    def __str__(self) -> str:
        return self.text if len(self.text) <= 60 else f"{self.text[:40]}…"


@lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[_Node, bool]:
    """Return what a region means, and whether that depends on data; a plan spells the same region many times."""
    parser = _Parser(text)
    return parser.parse(), any(token["word"] in _OF_DATA for token in parser.tokens)


class _Parser:
    """Recursive descent over the grammar: choice := both ('|' both)*, both := term (('&' | '-') term)*."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[re.Match[str]] = []
        self.next = 0
        self.depth = 0
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.wrong(*_not_a_token(text, position))
            self.tokens.append(match)
            position = match.end()

    def wrong(self, found: str, at: int, expected: str) -> UsageError:
        """Say what stands at the character ``at`` (from 0) of the text, and what should."""
        at += len(self.text[at:]) - len(self.text[at:].lstrip())
        whole = self.text if len(self.text) <= 80 else f"{self.text[:60]}…"
        return UsageError(f"found {found} at character {at + 1} of the region {whole!r}, expected {expected}")

    def parse(self) -> _Node:
        node = self.choice()
        if self.next < len(self.tokens):
            token = self.tokens[self.next]
            expected = "an operator such as & or |, or the end"
            if token["operator"] == ")":
                expected = "an opening parenthesis before it"
            raise self.wrong(repr(_short(token.group())), token.start(), expected)
        return node

    def take(self, operators: str) -> str | None:
        if self.next < len(self.tokens):
            operator = self.tokens[self.next]["operator"]
            if operator and operator in operators:
                self.next += 1
                return operator
        return None

    def choice(self) -> _Node:
        node = self.both()
        while self.take("|"):
            node = _joined(or_, node, self.both())
        return node

    def both(self) -> _Node:
        node = self.term()
        while operator := self.take("&-"):
            other = self.term()
            node = _joined(and_, node, other if operator == "&" else _not(other))
        return node

    def term(self) -> _Node:
        self.depth += 1
        try:
            return self.nested()
        finally:
            self.depth -= 1

    def nested(self) -> _Node:
        at = self.tokens[self.next].start() if self.next < len(self.tokens) else len(self.text.rstrip())
        if self.depth > 50:
            raise self.wrong("parentheses or ~ more than 50 deep", at, "a simpler region")
        if self.take("~"):
            return _not(self.term())
        if self.take("("):
            node = self.choice()
            if not self.take(")"):
                raise self.wrong("no ')' for the '('", at, "a closing parenthesis after it")
            return node
        if self.next >= len(self.tokens):
            raise self.wrong("the end", at, f"one of: {_SPELLINGS}")
        match = self.tokens[self.next]
        if match["operator"]:
            raise self.wrong(repr(match["operator"]), at, f"one of: {_SPELLINGS}")
        self.next += 1
        return _atom(match, self.text)


def _not_a_token(text: str, position: int) -> tuple[str, int, str]:
    """Return what stands at ``position``, where no token does: what was found, where, and what is expected there."""
    rest = text[position:].lstrip()
    if rest.startswith(","):
        return "','", position, "a further row, column or cell in a list of them, or | to join regions"
    word = re.match(r"[\w-]*", rest)
    found = word.group() if word and word.group() else rest[0]
    example = _EXAMPLES.get(found)
    if example is not None:
        return repr(_short(rest)), position, f"it written as '{example}'"
    close = get_close_matches(found, _EXAMPLES, 1)
    meant = f"; did you mean '{_EXAMPLES[close[0]]}'?" if close else ""
    return repr(_short(found)), position, f"one of: {_SPELLINGS}{meant}"


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 30 else f"{text[:30]}…"


def _mask_file(match: re.Match[str]) -> str:
    return str(match["double"] or match["single"] or match["plain"])


def _joined(join: Callable[[CellSelection, CellSelection], CellSelection], a: _Node, b: _Node) -> _Node:
    def node(geometry: Geometry, known: _Known) -> tuple[CellSelection, CellSelection]:
        (low, high), (other_low, other_high) = a(geometry, known), b(geometry, known)
        certain = join(low, other_low)
        return certain, certain if low is high and other_low is other_high else join(high, other_high)

    return node


def _not(a: _Node) -> _Node:
    def node(geometry: Geometry, known: _Known) -> tuple[CellSelection, CellSelection]:
        low, high = a(geometry, known)
        beyond = ~high
        return beyond, beyond if low is high else ~low

    return node


def _atom(match: re.Match[str], text: str) -> _Node:
    def data(geometry: Geometry, known: _Known) -> tuple[CellSelection, CellSelection]:
        everything = np.ones(geometry.shape, np.bool_)
        certain, possible = known.get(match["word"], (~everything, everything))
        return CellSelection(certain), CellSelection(possible)

    def fixed(geometry: Geometry, known: _Known) -> tuple[CellSelection, CellSelection]:
        cells = _fixed(match, geometry, text)
        return cells, cells

    return data if match["word"] in _OF_DATA else fixed


def _fixed(match: re.Match[str], geometry: Geometry, text: str) -> CellSelection:
    if match["span"]:
        return _lines(match, geometry, text)
    if match["bits"] is not None:
        return _decode(match["data"], geometry)
    if match["mask"]:
        raise UsageError(
            f"found {match['mask']!r}, whose file was not read: a mask file is read with the protocol that names it. In "
            "Python: Region.of(mask)"
        )
    if match["word"] == "all":
        return CellSelection.everything(geometry)
    if match["pairs"]:
        return CellSelection(one_of_pair(geometry, from_digits(match["seed"])))
    if match["word"] == "checkerboard":
        return CellSelection(np.add.outer(np.arange(geometry.rows), np.arange(geometry.columns)) % 2 == 0)
    bits = np.zeros(geometry.shape, np.bool_)
    for row, column in (
        (from_digits(row), from_digits(column))
        for row, column in re.findall(r"([0-9]+)\s*,\s*([0-9]+)\s*\)", match["places"])
    ):
        if row >= geometry.rows or column >= geometry.columns:
            raise UsageError(
                f"found cell ({row}, {column}) in the region {_short(text)!r}, expected a cell up to "
                f"({geometry.rows - 1}, {geometry.columns - 1}): it lies off the die"
            )
        bits[row, column] = True
    return CellSelection(bits)


def _lines(match: re.Match[str], geometry: Geometry, text: str) -> CellSelection:
    along_rows = match["axis"].startswith("row")
    rows, columns = np.ones(geometry.rows, np.bool_), np.ones(geometry.columns, np.bool_)
    chosen, lines = (rows, "rows") if along_rows else (columns, "columns")
    chosen[:] = False
    count = chosen.size
    for each in match["ranges"].split(","):
        first, last, *_ = (from_digits(number) for number in 2 * re.findall("[0-9]+", each))
        if last < first:
            raise UsageError(
                f"found {each.strip()!r} in the region {_short(text)!r}, whose last is before its first; expected the "
                f"lower of the two first: {last}-{first}"
            )
        if last >= count:
            raise UsageError(
                f"found {_short(match['span'])!r} in the region {_short(text)!r}, expected {lines} 0-{count - 1}: {lines} "
                f"{last} lies off the die"
            )
        chosen[first : last + 1] = True
    return CellSelection.crossing(rows, columns)


def _decode(data: str, geometry: Geometry) -> CellSelection:
    try:
        return CellSelection.from_packed(zlib.decompress(base64.b64decode(data, validate=True)), geometry)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise UsageError(f"a bits(…) region cannot be read: {error}") from error


def one_of_pair(geometry: Geometry, seed: int) -> Bools:
    """Choose exactly one cell of each pair at random; the same for a seed on every machine.

    The bits are the top bits of Philox's raw words, so they do not depend on numpy's samplers.
    """
    seed = whole(seed, "the seed of one-of-pair", 0, 2**64 - 1)
    words = np.random.Philox(key=seed).random_raw(geometry.rows * geometry.pairs)
    second = (words >> np.uint64(63)).astype(np.bool_).reshape(geometry.rows, geometry.pairs)
    return np.stack([~second, second], axis=-1).reshape(geometry.shape)
