"""What each line carries in each operation, and so what the cells feel that were not meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar, Literal

from rramlab.macro.pulses import PulseKind

# amplitude, gate: the operation's; on, off: a word line that opens or closes its row's transistors; read: the input
# voltage; sense: a transimpedance amplifier's virtual ground; inhibited: half of the amplitude.
BitLine = Literal["ground", "amplitude", "float", "read", "inhibited"]
SourceLine = Literal["ground", "amplitude", "float", "sense", "inhibited"]
WordLine = Literal["off", "gate", "on"]
Level = BitLine | SourceLine | WordLine


@dataclass(frozen=True)
class Lines:
    """The levels of a bit line, a source line and a word line."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # when read from a board's file
    bl: BitLine
    sl: SourceLine
    wl: WordLine


@dataclass(frozen=True)
class Bias:
    """One operation: selected rows and columns, and all others."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    selected: Lines
    unselected: Lines

    def half_selected_V(self, kind: PulseKind, amplitude_V: float, float_coupling: float) -> tuple[float, float]:
        """Return the voltage (V) across cells that share a row, and across those that share a column, with a pulsed one.

        Positive in the direction of the pulse. A cell whose word line is off feels nothing; a line that floats picks
        up ``float_coupling`` of the amplitude.
        """
        row, column = self.selected, self.unselected  # whose bit line and word line the cell has
        return (
            _across(kind, row.bl, self.unselected.sl, row.wl, amplitude_V, float_coupling),
            _across(kind, column.bl, self.selected.sl, column.wl, amplitude_V, float_coupling),
        )

    def worst_V(self, amplitude_V: float, gate_V: float) -> dict[str, float]:
        """Return the largest differences (V) that any cell sees, by the name of the limit that bounds each.

        A line that floats takes part in none: what it picks up lies between the others. A word line is compared with
        the lower of its cells' terminals, where its transistor's source is.
        """
        worst = dict.fromkeys(("sl_minus_bl", "bl_minus_sl", "wl_minus_bl", "sl_minus_off_wl"), 0.0)
        volts = _volts(amplitude_V, gate_V)
        for name, high, low in self._differences:
            worst[name] = max(worst[name], volts[high] - volts[low])
        return worst

    @cached_property
    def _differences(self) -> frozenset[tuple[str, Level, Level]]:
        """What cells see the difference of, one level over the other, by the name of the limit that bounds it."""
        found: set[tuple[str, Level, Level]] = set()
        known = _volts(0, 0)
        for row, column in product((self.selected, self.unselected), repeat=2):
            terminals: list[Level] = [level for level in (row.bl, column.sl) if level in known]
            if len(terminals) == 2:
                found |= {("sl_minus_bl", column.sl, row.bl), ("bl_minus_sl", row.bl, column.sl)}
            if row.wl in known:
                found |= {("wl_minus_bl", row.wl, low) for low in terminals or ["ground"]}
            if row.wl == "off" and column.sl in terminals:
                found.add(("sl_minus_off_wl", column.sl, "ground"))
        return frozenset(found)


def _volts(amplitude_V: float, gate_V: float) -> dict[Level, float]:
    """Return the voltage of a line in a pulse by its level; without those that float or that the pulse does not set."""
    return {
        "ground": 0.0, "off": 0.0, "sense": 0.0, "amplitude": amplitude_V, "inhibited": amplitude_V / 2, "gate": gate_V,
    }  # fmt: skip


def _across(
    kind: PulseKind, bl: BitLine, sl: SourceLine, wl: WordLine, amplitude_V: float, float_coupling: float
) -> float:
    if wl == "off":
        return 0.0
    if "float" in (bl, sl):
        return float_coupling * amplitude_V
    levels = {"amplitude": amplitude_V, "inhibited": amplitude_V / 2}
    forward = levels.get(sl, 0.0) - levels.get(bl, 0.0)
    return -forward if kind == "reset" else forward


@dataclass(frozen=True)
class BiasTable:
    """The bias of every operation."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    electroform: Bias
    set: Bias
    reset: Bias
    read: Bias
    multiply: Bias

    def pulse(self, kind: PulseKind) -> Bias:
        return {"electroform": self.electroform, "set": self.set, "reset": self.reset}[kind]
