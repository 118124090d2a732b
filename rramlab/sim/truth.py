"""Looking into simulated dies: the hidden truth, which no instrument of a real bench can show."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rramlab.base import units
from rramlab.base.errors import DataError, UsageError
from rramlab.base.names import checked
from rramlab.drivers.bench import BenchDescription
from rramlab.macro.cells import is_conducting
from rramlab.macro.geometry import Geometry
from rramlab.sim.backend import STATE_FILE, state_file
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import DieModel, Figure, figures
from rramlab.sim.state import KINDS, PHASES

# What the ending of a figure's name says of its value. A law of breakdown pairs shares with volts.
_UNITS = {"S": "S", "V": "V", "law": "V", "s": "s", "Ohm": "Ω", "eV": "eV", "C": "°C"}


def require_simulated(description: BenchDescription) -> None:
    """Refuse a bench whose dies are real.

    Raises:
        UsageError: it is one.
    """
    if description.file.backend != "simulated":
        raise UsageError(
            f"{description.located.path} has the backend {description.file.backend!r}, its dies are real; nothing was "
            "done. Dies can be made, aged and looked into on a simulated bench only"
        )


def find(description: BenchDescription, die: str) -> Path:
    """Return the state file of a die of the bench.

    Raises:
        UsageError: there is no such die, or the bench is not simulated. DataError: it has a ledger and no state file.
    """
    require_simulated(description)
    path = state_file(description.data, checked(die, "die id"))
    if path.exists():
        return path
    if (path.parent / "ledger.db").exists():
        raise DataError(f"die {die!r}: {_LOST.format(path=path)}")
    names = [folder.name for folder in _folders(description.data)]
    known = ", ".join([*names[:20], *([f"and {len(names) - 20} more"] if len(names) > 20 else [])]) or "none"
    raise UsageError(
        f"there is no simulated die {die!r} in {description.data / 'dies'}; known: {known}. Make it with: rramlab sim new {die}"
    )


_LOST = "it has a ledger but its state file {path} is missing; restore the file from a copy"


def _folders(data: Path) -> list[Path]:
    folders = (path.parent for name in (STATE_FILE, "ledger.db") for path in (data / "dies").glob(f"*/{name}"))
    return sorted(set(folders))


@dataclass(frozen=True)
class Damaged:
    """A die that cannot be read."""

    die: str
    path: Path
    size: int
    reason: str


@dataclass(frozen=True)
class Truth:
    """The hidden truth of a die: what no bench could measure. ``median_S`` and ``ln_sigma``: of what conducts now."""

    die: str
    path: Path
    size: int
    model: DieModel = field(repr=False)
    preset: str | None  # that it is equal to
    seed: int
    clock_s: float
    temperature_C: float
    cells: int
    pulsed: int
    pulses_of_a_cell: int  # at most
    phases: dict[str, int]
    conducting: int
    median_S: float | None
    ln_sigma: float | None
    breakdown_median_V: float
    temperatures: tuple[tuple[float, float], ...]  # (clock in s, °C from then on)
    meter: dict[str, dict[str, float]]  # kind of operation -> time_s, energy_J, events
    energy_J: float
    conversions: int

    @property
    def figures(self) -> list[Figure]:
        return figures(self.model)


def survey(description: BenchDescription) -> list[Truth | Damaged]:
    """Look into every simulated die of the bench's data folder; writes nothing."""
    require_simulated(description)
    presets = _presets()
    found: list[Truth | Damaged] = []
    for folder in _folders(description.data):
        path = folder / STATE_FILE
        try:
            if not path.exists():
                raise DataError(_LOST.format(path=path))
            found.append(_look(path, description.board.geometry, presets))
        except DataError as error:
            found.append(Damaged(folder.name, path, path.stat().st_size if path.exists() else 0, str(error)))
    return found


def look(description: BenchDescription, die: str) -> Truth:
    """Look into one die; writes nothing.

    Raises:
        UsageError: there is no such die. DataError: its file is damaged.
    """
    return _look(find(description, die), description.board.geometry, _presets())


def _presets() -> dict[str, DieModel]:
    return {name: DieModel.preset(name) for name in DieModel.presets}


def _look(path: Path, geometry: Geometry, presets: dict[str, DieModel]) -> Truth:
    die, _ = SimulatedDie.load(path, geometry)
    state, meter, now = die.state, die.state.meter, die.conductance_S
    conducting = now[is_conducting(now)]
    counts = np.bincount(state.phase.reshape(-1), minlength=len(PHASES)).tolist()
    spent = zip(KINDS, meter.time_ns.tolist(), meter.energy_J.tolist(), meter.events.tolist(), strict=True)
    return Truth(
        path.parent.name,
        path,
        path.stat().st_size,
        die.model,
        next((name for name, model in presets.items() if model == die.model), None),
        die.seed,
        state.clock_s,
        state.temperature_C,
        geometry.cells,
        int(np.count_nonzero(state.pulses)),
        int(state.pulses.max()),
        dict(zip(PHASES, counts, strict=True)),
        int(conducting.size),
        float(np.median(conducting)) if conducting.size else None,
        float(np.log(conducting).std()) if conducting.size else None,
        float(np.median(die.breakdown_V)),
        tuple(zip((state.history_ns / 1e9).tolist(), state.history_C.tolist(), strict=True)),
        {kind: {"time_s": time / 1e9, "energy_J": energy, "events": events} for kind, time, energy, events in spent},
        float(meter.energy_J.sum()),
        state.conversions,
    )


def show_figure(figure: Figure) -> str:
    """Return a figure's value with the unit that its name bears; of a long law its ends."""
    value, unit = figure.value, _unit(figure.name)
    if value is None:
        return "not used"
    if isinstance(value, tuple):
        first, last = (each[1] if isinstance(each, tuple) else each for each in (value[0], value[-1]))
        return f"{len(value)} points, {units.show(first, unit)} to {units.show(last, unit)}"
    if isinstance(value, float) and unit in {"S", "V", "s", "Ω"}:
        return units.show(value, unit)
    return f"{value:g} {unit}".strip() if isinstance(value, float) else str(value)


def _unit(name: str) -> str:
    return _UNITS.get(name.rpartition("_")[2], "")
