"""What the models of all steps share: where they were written, and the types of their fields."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.names import WORD
from rramlab.macro.pulses import PulseKind
from rramlab.macro.regions import Region


def _region(text: str) -> str:
    try:
        Region(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _cell(text: str) -> str:
    """Accept ``(3, 7)`` and ``3, 7`` beside the region ``cell (3, 7)``."""
    short = re.fullmatch(r"\s*\(?\s*([0-9]+)\s*,\s*([0-9]+)\s*\)?\s*", text)
    region = _region(f"cell ({short[1]}, {short[2]})" if short else text)
    if Region(region).depends_on_data:
        raise ValueError(f"found {text!r}, expected one cell that depends on no data, such as '(3, 7)'")
    return region


RegionText = Annotated[str, AfterValidator(_region)]
CellText = Annotated[str, AfterValidator(_cell)]
Fraction = Annotated[float, Field(ge=0, le=1)]
DatasetName = Annotated[str, Field(pattern=WORD)]

MOST_REPEATS = 4096  # reads a cell in one operation: bounds its size


class StepModel(BaseModel):
    """What all steps share; ``source`` is where the step was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    source: SourceRef = Field(default=SourceRef(), repr=False)

    @property
    def stresses(self) -> PulseKind | None:
        """As which kind of pulse the step counts in the life of its cells; None: it is harmless."""
        return None

    @property
    def pulses_per_cell(self) -> int:
        """How many pulses each of its cells may get when it is executed once."""
        return 0 if self.stresses is None else 1
