"""What a row of the table came to on one number of dies, and how it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rramlab.base.errors import DataError
from rramlab.base.files import read_whole, write_json

Row = Literal["edge", "phases", "reset", "random", "read-out", "write-verify", "single-shot", "ideal", "dense"]


class Outcome(BaseModel):
    """One row, one number.

    Attributes:
        number: of the dies and of the seed.
        scores: by name, of the last epoch: with every product on the macro where ``samples`` is above 0, else on the host.
        samples: how many test samples ``scores`` are of on the macro.
        host: the same on the host with the read noise of the paper, on all test samples; ``ideal``: without noise.
        weights, kept: of the network.
        pulses: by kind, of what the row did to its dies, forming included.
        repruning: pulses by kind that the mask's switches while training would have cost, had they been made on the die.
        macs: multiply-accumulates of one test sample, pruned ones included.
        conversions, time_s, energy_J: of the products of one test sample, by the board's rates; energy by component.
        history: a test score an epoch.
        seconds: of this computer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    row: Row
    number: int
    scores: dict[str, float]
    samples: int = 0
    host: dict[str, float] = {}
    ideal: dict[str, float] = {}
    weights: int = 0
    kept: int = 0
    pulses: dict[str, int] = {}
    repruning: dict[str, int] = {}
    macs: int = 0
    conversions: int = 0
    time_s: float = 0.0
    energy_J: dict[str, float] = {}
    history: tuple[dict[str, float], ...] = ()
    seconds: float = 0.0


def path_of(folder: Path, row: str, number: int) -> Path:
    return folder / "outcomes" / f"{row}-{number}.json"


def save(folder: Path, outcome: Outcome) -> None:
    write_json(path_of(folder, outcome.row, outcome.number), outcome.model_dump(mode="json"))


def load(path: Path) -> Outcome:
    """Read an outcome.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return Outcome.model_validate_json(read_whole(path))
    except (DataError, ValidationError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, and it is measured again") from error
