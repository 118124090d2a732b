"""The entry point ``simulated``: a bench's dies as in-process controllers, their state kept in the bench's data folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rramlab.base.errors import DataError, UsageError
from rramlab.base.yamlfile import explain
from rramlab.drivers.bench import BenchFile, DieEntry
from rramlab.drivers.controller import MacroController
from rramlab.macro.board import BoardTable
from rramlab.sim.controller import SimulatedBoard, SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel, Preset

STATE_FILE = "die.npz"


class DieOptions(BaseModel):
    """``options`` of a die in bench.yaml; used when the die is made, its state file holds them afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int | None = Field(default=None, ge=0, lt=2**64)  # default: from the die's id
    preset: Preset = "published"


class BoardOptions(BaseModel):
    """``options`` of the controller in bench.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int | None = Field(default=None, ge=0, lt=2**64)  # default: from the board's serial number
    preset: Preset = "published"


def seed_of(name: str) -> int:
    """Return the seed that belongs to a name: the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def open_simulated(bench: BenchFile, board: BoardTable, data: Path) -> Mapping[str, MacroController]:
    """Open (or make) every die of the bench. Nothing is energised.

    Raises:
        DataError: a state file is damaged; nothing is overwritten. UsageError: unknown options.
    """
    try:
        options = BoardOptions.model_validate(bench.controller.options)
    except ValidationError as error:
        raise UsageError(f"bench.yaml, options of the controller: {explain(error.errors()[0], BoardOptions)}") from None
    serial = bench.controller.board
    simulated = SimulatedBoard(board, BoardModel.preset(options.preset), serial, _seed(options.seed, serial))
    return {entry.id: _open_die(entry, simulated, data / "dies" / entry.id / STATE_FILE) for entry in bench.dies}


def _seed(given: int | None, name: str) -> int:
    return seed_of(name) if given is None else given


def _open_die(entry: DieEntry, board: SimulatedBoard, path: Path) -> SimulatedController:
    try:
        options = DieOptions.model_validate(entry.options)
    except ValidationError as error:
        raise UsageError(f"bench.yaml, options of die {entry.id!r}: {explain(error.errors()[0], DieOptions)}") from None
    geometry = board.table.geometry
    if not path.exists():
        if (path.parent / "ledger.db").exists():
            raise DataError(
                f"die {entry.id!r} has a ledger but its state file {path} is missing; nothing was energised. Restore the "
                "file from a copy: a virgin die in its place would contradict the ledger"
            )
        die = SimulatedDie(geometry, DieModel.preset(options.preset), _seed(options.seed, entry.id))
        controller = SimulatedController(die, board, path)
        controller.persist()  # before any ledger: a ledger without a die is an error
        return controller
    die, memory = SimulatedDie.load(path, geometry)
    controller = SimulatedController(die, board, path)
    try:
        controller.remember(memory)
    except (KeyError, ValueError) as error:
        raise DataError(f"the state file {path} lacks the board's memory ({error}); it is left as it is") from error
    return controller
