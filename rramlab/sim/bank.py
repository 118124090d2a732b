"""A bank of simulated dies: made with seeds of their own, aged in storage, and looked into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import write_atomic
from rramlab.base.names import checked
from rramlab.base.yamlfile import load_model
from rramlab.drivers.bench import BenchDescription, BenchFile, DieEntry
from rramlab.drivers.lock import Ownership
from rramlab.macro.cells import is_conducting
from rramlab.sim.backend import made_of, make_die, seed_of, simulated_board, state_file
from rramlab.sim.die import SimulatedDie
from rramlab.sim.entering import with_dies
from rramlab.sim.models import DieModel, figures
from rramlab.sim.truth import find, require_simulated

LARGEST_BANK = 1000


def parse_figures(pairs: Iterable[str]) -> dict[str, Any]:
    """Read ``noise.read=0.05`` … into changes nested as the model of a die is; values are written as in YAML.

    Raises:
        UsageError: not of that form, no such figure, or one given twice.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    known = {figure.name: figure.value for figure in figures(DieModel())}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            raise UsageError(f"found {pair!r}, expected name=value such as noise.read=0.05")
        if name not in known:
            raise UsageError(f"there is no figure {name!r} of a die; {_nearest(name, known)}")
        *parents, key = name.split(".")
        inner = changes
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if key in inner:
            raise UsageError(f"the figure {name!r} is given twice")
        try:
            inner[key] = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError):
            raise UsageError(f"the figure {name!r}: found {text!r}, expected a value as YAML writes it") from None
        if isinstance(inner[key], bool) and not isinstance(known[name], bool):
            raise UsageError(f"the figure {name!r}: found {text!r}, expected what {known[name]!r} is")
    return changes


def _nearest(name: str, known: Iterable[str]) -> str:
    part = name.partition(".")[0]
    own = [each for each in known if each.startswith(f"{part}.")]
    if own:
        return f"those of {part}: {', '.join(own)}"
    return f"its parts: {', '.join(dict.fromkeys(each.partition('.')[0] for each in known))}"


# Making -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewDie:
    """A die to be made."""

    id: str
    seed: int
    preset: str
    changes: dict[str, Any]  # single figures that differ from the preset's
    model: DieModel

    @property
    def options(self) -> dict[str, Any]:
        """Its options in bench.yaml."""
        return {"seed": self.seed, "preset": self.preset, **({"model": self.changes} if self.changes else {})}


def planned(
    name: str, count: int = 1, seed: int | None = None, preset: str = "published", changes: dict[str, Any] | None = None
) -> list[NewDie]:
    """Return the dies ``name``, or ``name-01`` … where several are wanted. Seeds rise from ``seed``, or follow from each id.

    Raises:
        UsageError: a name, number, preset or figure that cannot be.
    """
    checked(name, "die id")
    if not 1 <= count <= LARGEST_BANK:
        raise UsageError(f"found a count of {count} dies, expected 1 to {LARGEST_BANK}")
    if seed is not None and not 0 <= seed <= 2**64 - count:
        raise UsageError(f"found the seed {seed}, expected 0 to {2**64 - count}")
    width = max(2, len(str(count)))
    ids = [name] if count == 1 else [f"{name}-{number:0{width}}" for number in range(1, count + 1)]
    model = DieModel.preset(preset, changes)
    return [
        NewDie(checked(each, "die id"), seed_of(each) if seed is None else seed + index, preset, changes or {}, model)
        for index, each in enumerate(ids)
    ]


def make(description: BenchDescription, dies: Sequence[NewDie], enter: bool = False) -> list[Path]:
    """Make virgin dies under the bench's lock and return their state files. ``enter``: also list them in bench.yaml.

    Everything is checked before anything is written. bench.yaml comes first, so a crash leaves a bench that makes
    those missing, as listed, when it is next opened; the same call makes what is missing, too.

    Raises:
        UsageError: one exists, bench.yaml lists it otherwise, or it cannot be entered. BenchLocked: the bench is in use.
    """
    require_simulated(description)
    board = simulated_board(description.file, description.board)
    _missing(description, dies)
    _entered(description, dies, enter)
    with Ownership(description.data, (), bench=description.root):
        missing = _missing(description, dies)
        text = _entered(description, dies, enter)  # again: another process may have been quicker
        if text is not None:
            path = description.located.path.resolve()
            mode = path.stat().st_mode
            write_atomic(path, text.encode())
            path.chmod(mode)
        for die in missing:
            make_die(state_file(description.data, die.id), board, die.model, die.seed)
    return [state_file(description.data, die.id) for die in dies]


def _entered(description: BenchDescription, dies: Sequence[NewDie], enter: bool) -> str | None:
    """Return the new text of bench.yaml if that changes; refuse dies that exist or that it lists otherwise."""
    path = description.located.path
    file = load_model(path, BenchFile)
    if enter and path.parent.resolve() != description.root.resolve():
        raise UsageError(
            f"{description.root} has no bench.yaml of its own to enter dies in; nothing was made. Make one with: "
            f"rramlab init {description.root}, or leave --enter away and name the die with --die"
        )
    listed = {entry.id: entry for entry in file.dies}
    for die in dies:
        if die.id in listed:
            _refuse_otherwise(die, listed[die.id], path, enter)
    new = [{"id": die.id, "options": die.options} for die in dies if die.id not in listed]
    return with_dies(path, new) if enter and new else None


def _missing(description: BenchDescription, dies: Sequence[NewDie]) -> list[NewDie]:
    """Return the dies that are still to be made; of a bank whose making was cut short the rest is kept.

    Raises:
        UsageError: one exists that is not virgin, or not as asked for; or all exist.
    """
    folder = description.data / "dies"
    missing, others = [], []
    for die in dies:
        path = state_file(description.data, die.id)
        if not path.exists() and not (path.parent / "ledger.db").exists():
            missing.append(die)
        elif not _is(path, die, description):
            others.append(die)
    if len(dies) == 1 and not missing:
        raise UsageError(
            f"die {dies[0].id!r} exists in {folder}; nothing was made. Choose another id, or look at it with: rramlab sim "
            f"info {dies[0].id}"
        )
    if others or not missing:
        told = _ranges([die in others for die in dies], dies) if others else "all of them, as asked for"
        raise UsageError(
            f"nothing was made. In {folder} there are already: {told}{', used or of another make' if others else ''}; "
            "choose another id for the bank"
        )
    return missing


def _is(path: Path, die: NewDie, description: BenchDescription) -> bool:
    """Say whether the state file holds just this die, virgin."""
    if not path.exists() or (path.parent / "ledger.db").exists():
        return False
    try:
        found, _ = SimulatedDie.load(path, description.board.geometry)
    except DataError:
        return False
    return found.virgin and found.seed == die.seed and found.model == die.model


def _ranges(chosen: Sequence[bool], dies: Sequence[NewDie]) -> str:
    """Say which of the dies are chosen, neighbours as a range."""
    found: list[list[str]] = []
    for index, (wanted, die) in enumerate(zip(chosen, dies, strict=True)):
        if wanted and index and chosen[index - 1]:
            found[-1][1:] = [die.id]
        elif wanted:
            found.append([die.id])
    return ", ".join(" to ".join(each) for each in found)


def _refuse_otherwise(die: NewDie, entry: DieEntry, path: Path, enter: bool) -> None:
    """The bench would refuse to open a die that is not what its file says."""
    options, model, seed = made_of(entry)
    said = {"seed": options.seed is not None, "model": bool({"preset", "model"} & options.model_fields_set)}
    wrong = [
        what
        for what, differs in (("seed", seed != die.seed), ("model", model != die.model))
        if differs and (enter or said[what])
    ]
    if wrong:
        raise UsageError(
            f"{path} lists die {die.id!r} with another {' and '.join(wrong)}; nothing was made. Correct its options there, "
            "or choose another id"
        )


# Ageing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aged:
    """What storage did to a die. Medians are of the cells that conducted before; None where there were none."""

    die: str
    seconds: float
    celsius: float
    back_at_celsius: float
    clock_before_s: float
    clock_after_s: float
    conducting_before: int
    conducting_after: int
    median_before_S: float | None
    median_after_S: float | None


def age(description: BenchDescription, die: str, seconds: float, celsius: float | None = None) -> Aged:
    """Store a die for a time under the bench's lock; default at the bench's temperature. What the board remembers stays.

    Raises:
        UsageError: there is no such die, or a time or temperature that cannot be. DataError: its file is damaged.
        BenchLocked: the bench is in use.
    """
    path = find(description, die)
    board = simulated_board(description.file, description.board)
    stored = board.temperature_C if celsius is None else celsius
    with Ownership(description.data, [die], bench=description.root):
        simulated, memory = SimulatedDie.load(path, description.board.geometry)
        state, before, began = simulated.state, simulated.conductance_S, simulated.state.clock_s
        conducted = is_conducting(before)
        simulated.age(seconds, stored)
        after = simulated.conductance_S
        simulated.save(path, **memory)
    return Aged(
        die,
        seconds,
        stored,
        state.temperature_C,
        began,
        state.clock_s,
        int(np.count_nonzero(conducted)),
        int(np.count_nonzero(is_conducting(after))),
        float(np.median(before[conducted])) if conducted.any() else None,
        float(np.median(after[conducted])) if conducted.any() else None,
    )
