"""What a board can connect to the terminals of a source-measure unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RoutedCell:
    """One cell. The unit drives ``line`` of it, its other line is at ground.

    So positive is SL − BL for ``sl`` and BL − SL for ``bl``.
    """

    row: int
    column: int
    line: Literal["sl", "bl"] = "sl"

    def __str__(self) -> str:
        return f"cell ({self.row}, {self.column}), {self.line.upper()} to the SMU"


@dataclass(frozen=True)
class RoutedReference:
    """One of the board's reference resistors, from the terminals to ground."""

    index: int

    def __str__(self) -> str:
        return f"reference resistor {self.index}"


@dataclass(frozen=True)
class RoutedDac:
    """One channel of the board's DAC, held at a code, for the unit to measure."""

    channel: int

    def __str__(self) -> str:
        return f"DAC channel {self.channel}"


Target = RoutedCell | RoutedReference | RoutedDac
