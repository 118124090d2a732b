"""The array's shape. A row shares a bit line (input side), a column shares a source line (output side)."""

from __future__ import annotations

from dataclasses import dataclass

from rramlab.base.errors import InvalidValue
from rramlab.base.numbers import whole


@dataclass(frozen=True)
class Geometry:
    """Rows × columns of 1T1R cells; pair j of a row is columns 2j (G⁺) and 2j + 1 (G⁻)."""

    rows: int = 512
    columns: int = 512

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            object.__setattr__(self, name, whole(getattr(self, name), f"the number of {name}", 1))
        if self.columns % 2:
            raise InvalidValue(
                f"found {self.rows} × {self.columns} cells, expected at least one row and an even number of columns"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.columns)

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    @property
    def pairs(self) -> int:
        """Pairs in one row."""
        return self.columns // 2
