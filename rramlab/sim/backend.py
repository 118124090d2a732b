"""The entry point ``simulated``: a bench's dies as in-process controllers, their state kept in the bench's data folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rramlab.base.errors import DataError, UsageError
from rramlab.base.yamlfile import explain
from rramlab.drivers.bench import Backend, BenchFile, DieEntry, SmuEntry
from rramlab.drivers.links import Link
from rramlab.drivers.trace import Trace
from rramlab.macro.board import BoardTable
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.faults import LineFaults
from rramlab.sim.models import BoardModel, DieModel, figures
from rramlab.sim.routes import Terminals
from rramlab.sim.smus.inmemory import InMemory, simulated_smu

STATE_FILE = "die.npz"
M = TypeVar("M", bound=BaseModel)
Options = TypeVar("Options", bound="_Options")


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    seed: int | None = Field(default=None, ge=0, lt=2**64)  # default: from the die's id or the board's serial number
    preset: str = "published"
    model: dict[str, Any] = Field(default_factory=dict)  # single figures that differ from the preset's


class DieOptions(_Options):
    """``options`` of a die in bench.yaml: what it is made of. Once it is made its state file holds them."""

    def die_model(self) -> DieModel:
        return DieModel.preset(self.preset, self.model)


class BoardOptions(_Options):
    """``options`` of the controller in bench.yaml. ``temperature``: of the bench, in °C."""

    temperature: float = Field(default=25.0, ge=-55, le=150)
    faults: LineFaults = LineFaults()

    def board_model(self) -> BoardModel:
        return BoardModel.preset(self.preset, self.model)


def seed_of(name: str) -> int:
    """Return the seed that belongs to a name: the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def open_simulated(bench: BenchFile, board: BoardTable, data: Path, trace: Trace | None = None) -> Backend:
    """Open (or make) every die of the bench, and source-measure units on the same table. Nothing is energised.

    Raises:
        DataError: a state file is damaged; nothing is overwritten. UsageError: unknown options.
    """
    simulated = simulated_board(bench, board)
    controllers = {entry.id: open_die(entry, simulated, state_file(data, entry.id)) for entry in bench.dies}
    terminals = Terminals(controllers.values())

    def open_smu(entry: SmuEntry, model: str, terminator: bytes) -> Link:
        link: Link = InMemory(entry.name, simulated_smu(entry, model, terminals))
        return trace.tap(link) if trace is not None else link

    return Backend(lambda: controllers, open_smu)


def simulated_board(bench: BenchFile, table: BoardTable) -> SimulatedBoard:
    """Return the bench's board, with what its serial number hides.

    Raises:
        UsageError: unknown options.
    """
    options = _options(BoardOptions, bench.controller.options, "the controller")
    serial = bench.controller.board
    model = _of("the controller", options.board_model)
    return SimulatedBoard(table, model, serial, _seed(options.seed, serial), options.temperature, options.faults)


def made_of(entry: DieEntry) -> tuple[DieOptions, DieModel, int]:
    """Return a die's options in bench.yaml, and the model and seed that follow from them.

    Raises:
        UsageError: unknown options.
    """
    whose = f"die {entry.id!r}"
    options = _options(DieOptions, entry.options, whose)
    return options, _of(whose, options.die_model), _seed(options.seed, entry.id)


def state_file(data: Path, die: str) -> Path:
    """Return where the state of a simulated die is kept."""
    return data / "dies" / die / STATE_FILE


def make_die(path: Path, board: SimulatedBoard, model: DieModel, seed: int) -> SimulatedController:
    """Make a virgin die and write its state file."""
    controller = SimulatedController(SimulatedDie(board.table.geometry, model, seed), board, path)
    controller.persist()
    return controller


def _options(kind: type[Options], found: dict[str, Any], whose: str) -> Options:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise UsageError(f"bench.yaml, options of {whose}: {explain(error.errors()[0], kind)}") from None


def _of(whose: str, build: Callable[[], M]) -> M:
    try:
        return build()
    except UsageError as error:
        raise UsageError(f"bench.yaml, options of {whose}: {error}") from None


def _seed(given: int | None, name: str) -> int:
    return seed_of(name) if given is None else given


def open_die(entry: DieEntry, board: SimulatedBoard, path: Path) -> SimulatedController:
    options, model, seed = made_of(entry)
    if not path.exists():
        if (path.parent / "ledger.db").exists():
            raise DataError(
                f"die {entry.id!r} has a ledger but its state file {path} is missing; nothing was energised. Restore the "
                "file from a copy: a virgin die in its place would contradict the ledger"
            )
        return make_die(path, board, model, seed)  # before any ledger: a ledger without a die is an error
    die, memory = SimulatedDie.load(path, board.table.geometry)
    _refuse_another(entry, options, die, path)
    controller = SimulatedController(die, board, path)
    try:
        controller.remember(memory)
    except (KeyError, ValueError) as error:
        raise DataError(f"the state file {path} lacks the board's memory ({error}); it is left as it is") from error
    return controller


def _refuse_another(entry: DieEntry, options: DieOptions, die: SimulatedDie, path: Path) -> None:
    """A die stays what it was made as; a bench file that says otherwise means another die."""
    wrong = []
    if options.seed is not None and options.seed != die.seed:
        wrong.append(f"the seed {options.seed}, it has {die.seed}")
    if {"preset", "model"} & options.model_fields_set and options.die_model() != die.model:
        asked, made = ({each.name: each.value for each in figures(model)} for model in (options.die_model(), die.model))
        wrong.append(f"other figures ({', '.join(name for name in asked if asked[name] != made[name])})")
    if wrong:
        raise UsageError(
            f"bench.yaml, options of die {entry.id!r}: {' and '.join(wrong)} (state file {path}). A die does not change: "
            "take the options away, or give the new die an id of its own"
        )
