"""What each line carries in each operation, and so what the cells feel that were not meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rramlab.macro.pulses import PulseKind

# amplitude, gate: the operation's; on, off: a word line that opens or closes its row's transistors; read: the input
# voltage; sense: a transimpedance amplifier's virtual ground; inhibited: half of the amplitude.
Level = Literal["ground", "amplitude", "gate", "float", "off", "on", "read", "sense", "inhibited"]


@dataclass(frozen=True)
class Lines:
    """The levels of a bit line, a source line and a word line."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # when read from a board's file
    bl: Level
    sl: Level
    wl: Level


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


def _across(kind: PulseKind, bl: Level, sl: Level, wl: Level, amplitude_V: float, float_coupling: float) -> float:
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
