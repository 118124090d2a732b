"""What a read is expected to show."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rramlab.base.units import Siemens
from rramlab.plan.stepmodel import Fraction


class Window(BaseModel):
    """What a read is expected to show. Formed fraction = conducting cells over cells in the region."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    formed_fraction: tuple[Fraction, Fraction] | None = None
    median: tuple[Siemens, Siemens] | None = None  # of the conducting cells
    hint: str = ""  # said when a read is not as expected: what may be the cause, and what to do

    @field_validator("formed_fraction", mode="before")
    @classmethod
    def _around(cls, value: Any) -> Any:
        """Accept ``{expected: 0.55, within: 0.05}`` beside ``[0.5, 0.6]``."""
        if isinstance(value, dict):
            if set(value) != {"expected", "within"}:
                raise ValueError(f"found keys {', '.join(value)}, expected the keys expected and within")
            try:
                centre, width = float(value["expected"]), float(value["within"])
            except (TypeError, ValueError):
                raise ValueError(f"found {value}, expected two numbers, such as expected: 0.55, within: 0.05") from None
            if not (0 <= centre <= 1 and 0 <= width <= 1):  # false for NaN, too
                raise ValueError(f"found {value}, expected two numbers from 0 to 1")
            return (max(0.0, centre - width), min(1.0, centre + width))
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        for name, window in (("formed_fraction", self.formed_fraction), ("median", self.median)):
            if window is not None and window[0] > window[1]:
                raise ValueError(f"found {name} from {window[0]} to {window[1]}, expected the lower bound first")
        if self.formed_fraction is None and self.median is None:
            raise ValueError("found an empty window, expected formed_fraction, median, or both")
        return self


class Pilot(Window):
    """The first rows are formed and read before the rest; the run stops unless they are in the window."""

    rows: int = Field(default=4, ge=1, le=16)
    recheck_rows: int = Field(default=128, ge=1, le=256)  # the last block formed is read again every so many rows

    @model_validator(mode="after")
    def _judges(self) -> Pilot:
        """A pilot block that anything passes is none."""
        if self.formed_fraction is None or self.median is None:
            raise ValueError("found a pilot block without formed_fraction or median, expected both")
        if self.formed_fraction[1] - self.formed_fraction[0] > 0.5:
            raise ValueError(f"found formed_fraction {list(self.formed_fraction)}, expected a window of at most 0.5")
        return self
