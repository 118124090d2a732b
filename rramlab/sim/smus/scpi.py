"""Messages in SCPI: headers in short and long form with optional nodes and suffixes, and their parameters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from rramlab.sim.smus.core import Refusal


@dataclass(frozen=True)
class Call:
    """A command or query as it was sent: the suffix of its header (1 where none was) and its parameters."""

    channel: int
    arguments: tuple[str, ...]

    def none(self) -> None:
        """Refuse any parameter."""
        if self.arguments:
            raise Refusal("extra")

    def one(self) -> str:
        """Return the only parameter."""
        if not self.arguments:
            raise Refusal("missing")
        if len(self.arguments) > 1:
            raise Refusal("extra")
        return self.arguments[0]


Write = Callable[[Call], None]
Read = Callable[[Call], str]


@dataclass
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    numbered: bool = False
    write: Write | None = None
    read: Read | None = None


_PATTERN_NODE = re.compile(r"(\[?):?(\*?[A-Za-z0-9]+)(#?)\]?")
_MNEMONIC = re.compile(r"(\*?[A-Z]+)(\d{0,4})")
_UNIT = re.compile(r"([:*]?[A-Za-z][:\w]*\??)(?:\s+(.*)|(\(.*))?", re.DOTALL)
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:\s*[Ee]\s*[+-]?\d+)?)\s*([A-Za-z]*)")
_SUFFIX = re.compile(r"([PNUMK]?)(V|A|S|OHM|)")
_SCALE = {"P": 1e-12, "N": 1e-9, "U": 1e-6, "M": 1e-3, "K": 1e3, "": 1.0}


class Tree:
    """All headers that an instrument knows."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, pattern: str, write: Write | None = None, read: Read | None = None) -> None:
        """Add a header: ``[:SENSe#]:CURRent[:DC]:RANGe``. Capitals are the short form, brackets hold what may be
        left out, ``#`` takes a suffix. Without ``read`` it cannot be asked, without ``write`` it cannot be set."""
        nodes = _PATTERN_NODE.findall(pattern)
        for kept in itertools.product(*([True, False] if optional else [True] for optional, _, _ in nodes)):
            node = self._root
            for (_, name, numbered), keep in zip(nodes, kept, strict=True):
                if keep:
                    node = self._child(node, name, bool(numbered))
            node.write, node.read = write or node.write, read or node.read

    @staticmethod
    def _child(node: _Node, name: str, numbered: bool) -> _Node:
        child = node.children.setdefault(name.upper(), _Node())
        node.children["".join(each for each in name if not each.islower())] = child
        child.numbered = child.numbered or numbered
        return child

    def find(self, mnemonics: list[str]) -> tuple[_Node, int]:
        """Return the node of a header and the first suffix on the way to it."""
        node, suffixes = self._root, []
        for mnemonic in mnemonics:
            exact = node.children.get(mnemonic)  # names such as SOURce2 end in a digit of their own
            match = _MNEMONIC.fullmatch(mnemonic)
            child = exact or (node.children.get(match[1]) if match else None)
            if child is None:
                raise Refusal("header")
            if exact is None and match and match[2]:
                if not child.numbered:
                    raise Refusal("suffix")
                suffixes.append(int(match[2]))
            elif child.numbered:
                suffixes.append(1)
            node = child
        return node, suffixes[0] if suffixes else 1

    def units(self, message: str) -> Iterator[Callable[[], str | None]]:
        """Yield each command of a message, ready to be carried out; what it returns is its answer."""
        path: list[str] = []
        for unit in split(message, ";"):
            match = _UNIT.fullmatch(unit)
            if not unit:
                continue
            if match is None:
                raise Refusal("syntax")
            header = match[1].upper()
            arguments = tuple(split(match[2] or match[3] or "", ",")) if (match[2] or match[3]) else ()
            asked, header = header.endswith("?"), header.rstrip("?")
            if header.startswith("*"):
                mnemonics = [header]
            else:
                # A header goes on where the one before it in the message ended, unless it starts with a colon.
                relative = not header.startswith(":")
                mnemonics = (path if relative else []) + header.lstrip(":").split(":")
                path = mnemonics[:-1]
            yield partial(self._run, mnemonics, asked, arguments)

    def _run(self, mnemonics: list[str], asked: bool, arguments: tuple[str, ...]) -> str | None:
        node, suffix = self.find(mnemonics)
        call = Call(suffix, arguments)
        if asked and node.read is not None:
            return node.read(call)
        if asked or node.write is None:
            raise Refusal("header")
        node.write(call)
        return None


def split(text: str, separator: str) -> list[str]:
    """Split outside of quotes and parentheses, and strip the parts."""
    parts, quote, depth, start = [], "", 0, 0
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == separator and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def number(text: str, minimum: float, maximum: float, default: float) -> float:
    """Return a number in base units: ``1E-3``, ``1 mA``, ``MINimum``, ``MAXimum``, ``DEFault``."""
    named = {"MIN": minimum, "MINIMUM": minimum, "MAX": maximum, "MAXIMUM": maximum, "DEF": default, "DEFAULT": default}
    if text.upper() in named:
        return named[text.upper()]
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise Refusal("type" if text else "missing")
    suffix = _SUFFIX.fullmatch(match[2].upper())
    if suffix is None:
        raise Refusal("unit")
    value = float(re.sub(r"\s", "", match[1])) * _SCALE[suffix[1]]
    if not minimum <= value <= maximum:
        raise Refusal("range")
    return value


def boolean(text: str) -> bool:
    if text.upper() in ("1", "ON"):
        return True
    if text.upper() in ("0", "OFF"):
        return False
    raise Refusal("value" if text else "missing")


def choice(text: str, names: tuple[str, ...]) -> str:
    """Return the short form of one of ``names`` (``FIXed``), quoted or not."""
    word = unquoted(text).upper()
    for name in names:
        short = "".join(each for each in name if not each.islower())
        if word in (short, name.upper()):
            return short
    raise Refusal("value" if text else "missing")


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def channel_list(text: str, channels: int) -> list[int]:
    """Return the channels of ``(@1)``, ``(@1,2)`` or ``(@1:2)``, in rising order."""
    match = re.fullmatch(r"\(@\s*(\d{1,4})\s*(?:[,:]\s*(\d{1,4})\s*)?\)", text)
    if match is None:
        raise Refusal("type")
    chosen = sorted({int(each) for each in (match[1], match[2]) if each})
    if chosen[-1] > channels or chosen[0] < 1:
        raise Refusal("range")
    return chosen
