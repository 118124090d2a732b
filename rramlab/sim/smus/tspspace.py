"""Tables of a TSP environment that stand for a part of the instrument: attributes, constants, functions, buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rramlab.sim.smus.core import Refusal
from rramlab.sim.smus.luavalues import Several, TspRuntimeError

CAPACITY = 60_000  # readings of a nonvolatile buffer, with time stamps and source values (reference manual, section 3)

Guard = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Setting:
    """An attribute that is read, and unless ``put`` is missing written, through functions."""

    get: Callable[[], Any]
    put: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Constant:
    value: Any


class Space:
    """A table of the instrument: unknown names read as nil, and only ``grows`` lets new ones be made."""

    def __init__(self, guard: Guard, name: str, *, grows: bool = False) -> None:
        self._guard, self._name, self._grows = guard, name, grows
        self._items: dict[str, Any] = {}

    def fill(self, **items: Any) -> Space:
        """Add attributes: a plain number, text or boolean is one that can be written and changes nothing."""
        self._items.update(items)
        return self

    def get(self, key: Any) -> Any:
        item = self._items.get(key)
        if isinstance(item, Setting):
            return self._guard(item.get)
        if isinstance(item, Constant):
            return item.value
        if callable(item):
            return lambda *arguments: self._guard(lambda: _call(item, arguments))
        return item

    def set(self, key: Any, value: Any) -> None:
        item = self._items.get(key)
        if isinstance(item, Setting) and item.put is not None:
            put = item.put
            self._guard(lambda: put(value))
        elif self._grows or isinstance(item, (float, str, bool)):
            self._items[key] = value
        else:
            what = "modify read-only" if item is not None else "write undefined"
            raise TspRuntimeError(f"TSP Runtime error at line 1: attempt to {what} attribute `{self._name}.{key}'")


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        value = function(*arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refusal("parameter") from error
    return Several() if value is None else value


def whole(value: Any) -> int:
    """Return a whole number of Lua."""
    if type(value) is not float or value != int(value):
        raise Refusal("parameter")
    return int(value)


def within(value: Any, least: float, most: float) -> float:
    """Return a number in these bounds."""
    if type(value) is not float:
        raise Refusal("parameter")
    if not least <= value <= most:
        raise Refusal("small" if value < least else "range")
    return value


class Column:
    """One column of a buffer, counted from 1."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def get(self, key: Any) -> Any:
        inside = type(key) is float and 1 <= key <= len(self.values)
        return self.values[int(key) - 1] if inside else None

    def set(self, key: Any, value: Any) -> None:
        raise TspRuntimeError("TSP Runtime error at line 1: attempt to modify a reading buffer")


class Buffer(Space):
    """A reading buffer: columns beside each other."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(guard, "buffer")
        self.readings, self._levels, self._times, self._statuses = Column(), Column(), Column(), Column()
        self.fill(
            readings=Constant(self.readings),
            sourcevalues=Constant(self._levels),
            timestamps=Constant(self._times),
            statuses=Constant(self._statuses),
            n=Setting(lambda: float(len(self.readings.values))),
            capacity=Constant(float(CAPACITY)),
            appendmode=0.0,
            collectsourcevalues=0.0,
            collecttimestamps=0.0,
            clear=self.clear,
            clearcache=lambda: None,
        )

    def get(self, key: Any) -> Any:
        return self.readings.get(key) if type(key) is float else super().get(key)

    def clear(self) -> None:
        for column in (self.readings, self._levels, self._times, self._statuses):
            column.values.clear()

    def begin(self) -> None:
        """Make room for new readings: unless they are appended, they replace the old ones."""
        if not self.get("appendmode"):
            self.clear()

    def store(self, value: float, level: float, time_s: float, status: int) -> None:
        if len(self.readings.values) >= CAPACITY:
            raise Refusal("conflict")
        self.readings.values.append(value)
        self._levels.values.append(level)
        self._times.values.append(time_s)
        self._statuses.values.append(float(status))
