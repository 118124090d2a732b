"""Values of the instrument's Lua: numbers are floats, texts and booleans Python's own, nil is None."""

from __future__ import annotations

from typing import Any, Protocol


class TspSyntaxError(Exception):
    """The chunk cannot be read; the message is the instrument's own."""


class TspRuntimeError(Exception):
    """The chunk stopped half-way; the message is the instrument's own."""


class Indexable(Protocol):
    """What stands before a dot or a bracket: a table, or a part of the instrument."""

    def get(self, key: Any) -> Any: ...
    def set(self, key: Any, value: Any) -> None: ...


class Table:
    """A Lua table; whole numbers are one key however they were written."""

    def __init__(self, values: list[Any] | None = None) -> None:
        self._items: dict[Any, Any] = {float(n): value for n, value in enumerate(values or [], start=1)}

    def get(self, key: Any) -> Any:
        return self._items.get(key)

    def set(self, key: Any, value: Any) -> None:
        if value is None:
            self._items.pop(key, None)
        else:
            self._items[key] = value

    def __len__(self) -> int:
        length = 0
        while float(length + 1) in self._items:
            length += 1
        return length

    def listed(self) -> list[Any]:
        return [self._items[float(n)] for n in range(1, len(self) + 1)]


class Several(tuple[Any, ...]):
    """What a function returns when that is not exactly one value."""

    __slots__ = ()


def one(value: Any) -> Any:
    """Return the first of several values."""
    if isinstance(value, Several):
        return value[0] if value else None
    return value


def truth(value: Any) -> bool:
    return value is not None and value is not False


def kind(value: Any) -> str:
    """Return Lua's name of a value's type."""
    names: dict[type, str] = {bool: "boolean", float: "number", str: "string", type(None): "nil"}
    return names.get(type(value), "function" if callable(value) else "table")


def spell(value: Any) -> str:
    """Return a value as concatenation writes it."""
    return f"{value:.14g}" if type(value) is float else str(value)
