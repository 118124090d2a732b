"""Regions: how a person spells which cells are meant, and how that becomes a selection.

    all | rows 0-63 | row 5 | cols 10-20 | col 3 | cell (3, 7) | checkerboard | one-of-pair(seed=7)
    conducting | pristine | unknown
    A & B   both       A | B   either       A - B   in A and not in B       ~A   not in A       ( … )

``conducting``, ``pristine`` and ``unknown`` depend on data; :meth:`Region.bound` is their worst case.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rramlab.base.errors import Refused, UsageError
from rramlab.macro.cells import Bools, CellSelection, CellState
from rramlab.macro.geometry import Geometry

# What is known of the cells, by word (some or all of conducting, pristine, unknown): certainly, and possibly.
_Known = Mapping[str, tuple[Bools, Bools]]
# A node answers with the cells that it certainly holds and those that it possibly holds; where all that it asks for
# is known both are the same.
_Node = Callable[[Geometry, _Known], tuple[Bools, Bools]]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<span>(?P<axis>rows?|cols?|columns?)\s+(?P<first>[0-9]+)(?:\s*(?:-|–|to)\s*(?P<last>[0-9]+))?)
    | (?P<cell>cell\s*\(\s*(?P<row>[0-9]+)\s*,\s*(?P<column>[0-9]+)\s*\))
    | (?P<pairs>one-of-pair\s*(?:\(\s*(?:seed\s*=\s*)?(?P<seed>[0-9]+)\s*\)))
    | (?P<bits>bits\((?P<data>[A-Za-z0-9+/=]*)\))
    | (?P<word>all|checkerboard|conducting|pristine|unknown)\b
    | (?P<operator>[&|~()\-])
    )""",
    re.VERBOSE,
)
_SPELLINGS = (
    "all, rows 0-63, row 5, cols 10-20, cell (3, 7), checkerboard, one-of-pair(seed=7), conducting, pristine, "
    "unknown, joined by & | - ~ and parentheses"
)


@dataclass(frozen=True)
class Region:
    """A spelling of cells; see the module for the grammar.

    Raises:
        UsageError: on construction, when the text is not a region.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self._node

    @classmethod
    def of(cls, selection: CellSelection) -> Region:
        """Spell any selection as text, so that a plan with it stays plain JSON."""
        packed = base64.b64encode(zlib.compress(selection.packed(), 6)).decode()
        return cls(f"bits({packed})")

    @cached_property
    def _node(self) -> _Node:
        return _Parser(self.text).parse()

    @property
    def depends_on_data(self) -> bool:
        """Whether the selection can differ from one die, or one moment, to the next."""
        return re.search(r"\b(conducting|pristine|unknown)\b", self.text) is not None

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
        open_question = int(np.count_nonzero(certain != possible))
        if open_question:
            raise Refused(
                f"the region {self} asks which cells conduct, but {open_question:,} of them were not read since their last "
                "pulse, or never; nothing was pulsed. Read them first: rramlab run read-array"
            )
        return CellSelection(possible)

    def bound(self, geometry: Geometry, pristine: tuple[Bools, Bools] | None = None) -> CellSelection:
        """Return every cell that the region could mean, whatever the data: the worst case that a plan is checked for.

        ``pristine``: the cells that certainly, and those that possibly are, where the ledger is at hand.
        """
        return CellSelection(self._node(geometry, {} if pristine is None else {"pristine": pristine})[1])

    def __str__(self) -> str:
        return self.text if len(self.text) <= 60 else f"{self.text[:40]}…"


class _Parser:
    """Recursive descent over the grammar: choice := both ('|' both)*, both := term (('&' | '-') term)*."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[re.Match[str]] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                raise UsageError(
                    f"found {text[position:].strip()!r} in the region {text!r}, expected one of: {_SPELLINGS}"
                )
            self.tokens.append(match)
            position = match.end()
        self.next = 0

    def parse(self) -> _Node:
        node = self.choice()
        if self.next < len(self.tokens):
            found = self.tokens[self.next].group().strip()
            raise UsageError(f"found {found!r} after a complete region in {self.text!r}, expected & | or -")
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
            node = _either(node, self.both())
        return node

    def both(self) -> _Node:
        node = self.term()
        while operator := self.take("&-"):
            other = self.term()
            node = _both(node, other if operator == "&" else _not(other))
        return node

    def term(self) -> _Node:
        if self.take("~"):
            return _not(self.term())
        if self.take("("):
            node = self.choice()
            if not self.take(")"):
                raise UsageError(f"a closing parenthesis is missing in the region {self.text!r}")
            return node
        if self.next >= len(self.tokens):
            raise UsageError(f"the region {self.text!r} ends too early, expected one of: {_SPELLINGS}")
        match = self.tokens[self.next]
        if match["operator"]:
            raise UsageError(f"found {match['operator']!r} in {self.text!r}, expected one of: {_SPELLINGS}")
        self.next += 1
        return _atom(match, self.text)


def _both(a: _Node, b: _Node) -> _Node:
    def node(geometry: Geometry, known: _Known) -> tuple[Bools, Bools]:
        (low, high), (other_low, other_high) = a(geometry, known), b(geometry, known)
        return low & other_low, high & other_high

    return node


def _either(a: _Node, b: _Node) -> _Node:
    def node(geometry: Geometry, known: _Known) -> tuple[Bools, Bools]:
        (low, high), (other_low, other_high) = a(geometry, known), b(geometry, known)
        return low | other_low, high | other_high

    return node


def _not(a: _Node) -> _Node:
    def node(geometry: Geometry, known: _Known) -> tuple[Bools, Bools]:
        low, high = a(geometry, known)
        return ~high, ~low

    return node


def _atom(match: re.Match[str], text: str) -> _Node:
    def data(geometry: Geometry, known: _Known) -> tuple[Bools, Bools]:
        nothing = np.zeros(geometry.shape, np.bool_)
        return known.get(match["word"], (nothing, ~nothing))

    def fixed(geometry: Geometry, known: _Known) -> tuple[Bools, Bools]:
        bits = _fixed(match, geometry, text)
        return bits, bits

    return data if match["word"] in ("conducting", "pristine", "unknown") else fixed


def _fixed(match: re.Match[str], geometry: Geometry, text: str) -> Bools:
    bits = np.zeros(geometry.shape, np.bool_)
    if match["span"]:
        first = int(match["first"])
        last = int(match["last"] or first)
        along_rows = match["axis"].startswith("row")
        count = geometry.rows if along_rows else geometry.columns
        if last < first:
            raise UsageError(f"found {match['span']!r}, whose last is before its first")
        if last >= count:
            raise UsageError(
                f"found {match['span']!r} in the region {text!r}, expected "
                f"{'rows' if along_rows else 'columns'} 0-{count - 1}: it lies off the die"
            )
        bits[(slice(first, last + 1), slice(None)) if along_rows else (slice(None), slice(first, last + 1))] = True
    elif match["cell"]:
        row, column = int(match["row"]), int(match["column"])
        if row >= geometry.rows or column >= geometry.columns:
            raise UsageError(
                f"found {match['cell']!r} in the region {text!r}, expected a cell up to "
                f"({geometry.rows - 1}, {geometry.columns - 1}): it lies off the die"
            )
        bits[row, column] = True
    elif match["pairs"]:
        return one_of_pair(geometry, int(match["seed"]))
    elif match["bits"] is not None:
        return _decode(match["data"], geometry)
    elif match["word"] == "checkerboard":
        bits = np.add.outer(np.arange(geometry.rows), np.arange(geometry.columns)) % 2 == 0
    else:
        bits[:] = True
    return bits


def _decode(data: str, geometry: Geometry) -> Bools:
    try:
        return CellSelection.from_packed(zlib.decompress(base64.b64decode(data, validate=True)), geometry).bits
    except (binascii.Error, zlib.error, ValueError) as error:
        raise UsageError(f"a bits(…) region cannot be read: {error}") from error


def one_of_pair(geometry: Geometry, seed: int) -> Bools:
    """Choose exactly one cell of each pair at random; the same for a seed on every machine.

    The bits are the top bits of Philox's raw words, so they do not depend on numpy's samplers.
    """
    if not 0 <= seed < 2**64:
        raise UsageError(f"found one-of-pair(seed={seed}), expected a seed from 0 to 2^64 - 1")
    words = np.random.Philox(key=seed).random_raw(geometry.rows * geometry.pairs)
    second = (words >> np.uint64(63)).astype(np.bool_).reshape(geometry.rows, geometry.pairs)
    return np.stack([~second, second], axis=-1).reshape(geometry.shape)
