"""The procedures of calibration: for each a protocol to run, an analysis of that run, and the records that it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from rramlab.base.errors import DataError, TooFewCells, UsageError
from rramlab.base.files import refuse_unwritable
from rramlab.base.times import wall
from rramlab.calibration import bycells, ofboard, ofdie
from rramlab.calibration.context import Context, Found
from rramlab.calibration.forming import FEWEST_CELLS
from rramlab.calibration.lines import known_lines
from rramlab.drivers.bench import BenchDescription
from rramlab.engine.results import Flawed, Listener, RunResult, result_of
from rramlab.engine.session import Session
from rramlab.macro.cells import is_conducting
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan, leaves
from rramlab.plan.steps import ReadStep
from rramlab.records.files import FOLDER, BoardRecord, DieRecord, Kept, newest, save
from rramlab.records.sections import TO_COME, Section
from rramlab.runs.attempts import attempt, is_over
from rramlab.runs.store import Run


@dataclass(frozen=True)
class Procedure:
    """``destructive``: it pulses cells and needs arming. ``cells``: how many cells it needs that conduct, 0 for none."""

    name: str
    protocol: str
    analyse: Callable[[Context], Found]
    says: str
    destructive: bool = False
    cells: int = 0


PROCEDURES = {
    each.name: each
    for each in (
        Procedure("dac", "calibrate-dac", ofboard.dac_line, "what the DAC puts out, against the source-measure unit"),
        Procedure(
            "adc",
            "calibrate-adc",
            ofboard.converters,
            "gain and offset of every column, from reference resistors or cells",
        ),
        Procedure(
            "noise",
            "read-noise",
            ofdie.noise_of_reads,
            "read noise, cells that switch by themselves, repeats needed",
            cells=64,
        ),
        Procedure(
            "linearity", "calibrate-linearity", ofboard.products, "products against the sum of single reads", cells=64
        ),
        Procedure(
            "lines",
            "calibrate-lines",
            ofdie.line_resistances,
            "resistance of switches and wires, from load dependence",
            cells=64,
        ),
        Procedure(
            "smu", "calibrate-smu", ofboard.both_ways, "whether board and source-measure unit agree on cells", cells=8
        ),
        Procedure(
            "forming",
            "electroform-ramp",
            ofdie.breakdown,
            "the breakdown curve, on a sacrificial corner",
            destructive=True,
        ),
    )
}
BY_CELLS = Procedure("adc", "calibrate-adc-cells", bycells.converters_by_cells, PROCEDURES["adc"].says, cells=64)


def chosen(name: str, capabilities: frozenset[str]) -> Procedure:
    """Return the procedure called ``name``, in the form that a board of these capabilities allows.

    Raises:
        UsageError: there is none.
    """
    if name not in PROCEDURES:
        raise UsageError(f"found the procedure {name!r}, expected one of {', '.join(PROCEDURES)}")
    return BY_CELLS if name == "adc" and "reference_reads" not in capabilities else PROCEDURES[name]


@dataclass(frozen=True)
class Calibrated:
    """What a procedure has written: its run, its sections by whose they are, and the records that hold them."""

    run: str
    found: Found
    board: Kept | None
    die: Kept | None
    left_out: tuple[str, ...] = ()  # what of the run is no measurement

    @property
    def kept(self) -> list[Kept]:
        return [each for each in (self.board, self.die) if each is not None]


def measure(
    description: BenchDescription,
    procedure: Procedure,
    parameters: Mapping[str, object],
    arm: str | None = None,
    listen: Listener | None = None,
) -> RunResult:
    """Run a procedure's protocol on the die of a bench. Readings that are no measurement are left to the analysis.

    Raises:
        UsageError, Refused, DataError: what is missing, before anything is energised. As :meth:`Session.run` otherwise.
    """
    more: dict[str, Any] = {} if listen is None else {"listen": listen}
    refuse_unwritable(description.root / FOLDER / "record.yaml", "the record of what is measured")
    known = [newest(description.root, "board", description.file.controller.board)]
    known += [newest(description.root, "die", each.id) for each in description.file.dies]
    for kept in known:
        if kept is not None:
            kept.refuse_changed("Nothing was measured: what is found would rest on it, or be written beside it")
    with Session(description, calibrating=True) as session:
        (die,) = session.stations
        given = {**_cells_for(session, procedure, parameters, more), **parameters}
        try:
            if procedure.destructive:
                earlier = _earlier(session, session.plan(procedure.protocol, given))
                if earlier is not None:
                    return result_of(earlier) if is_over(earlier) else session.resume(earlier.id, arm=arm, **more)
                _refuse_used_corner(session, session.plan(procedure.protocol, given))
            return session.run(procedure.protocol, given, arm=arm, die=die, **more)
        except Flawed as flawed:
            return flawed.result


def analyse(description: BenchDescription, procedure: Procedure, run: Run) -> Calibrated:
    """Analyse a run of a procedure and write what was found into new records.

    Raises:
        DataError, UsageError: the run is of another protocol, or shows nothing; nothing was written.
    """
    record = run.record
    if record["name"] != procedure.protocol:
        raise DataError(f"run {run.id} is of {record['name']!r}, expected one of {procedure.protocol!r}")
    flaws = [each for each in record.get("flaws") or () if record.get("complete")]
    if record["status"] != "done" and not (flaws and not any(each.get("lost") for each in flaws)):
        raise DataError(
            f"run {run.id} is {record['status']}, so what it measured is not whole; nothing was written. Go on with it first: "
            f"rramlab resume {run.id}"
        )
    found = procedure.analyse(Context.of(run, description))
    folder = description.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # another process may calibrate, too: what it finds must not be lost
        context = Context.of(run, description)
        for name, section in (found.sections["board"] | found.sections["die"]).items():
            _refuse_older(section, name, context)
        die = board = None
        if found.sections["die"]:
            begun_die = DieRecord(die=run.die, written_at=wall())
            die = save(description.root, begun_die, found.sections["die"], found.arrays["die"], context.die)
        if found.sections["board"]:
            begun = BoardRecord(serial=context.about["board_serial"], written_at=wall())
            board = save(description.root, begun, found.sections["board"], found.arrays["board"], context.board)
    return Calibrated(run.id, found, board, die, tuple(str(each["reason"]) for each in flaws))


def _refuse_older(section: Section, name: str, context: Context) -> None:
    """An old run must not put out of force what was measured after it."""
    for kept in (context.board, context.die):
        known = None if kept is None else kept.record.sections.get(name)
        if kept is None or known is None or known.measured_at > wall() + TO_COME:
            continue  # nothing, or of a clock that was wrong
        if known.measured_at > section.measured_at:
            raise DataError(
                f"run {context.run.id} is of {section.measured_at:%Y-%m-%d %H:%M}, {kept.path.name} holds {name!r} of "
                f"{known.measured_at:%Y-%m-%d %H:%M}: the older would be put in force. Nothing was written. To go back, "
                f"move the newer record and its .h5 out of {kept.path.parent} first"
            )


def _earlier(session: Session, plan: Plan) -> Run | None:
    """Return the run that was doing, or has done, what a plan would do again, unless a record holds what it found."""
    (station,) = session.stations.values()
    run = attempt(session.runs, station.die_id, plan)
    kept = newest(session.description.root, "die", station.die_id)
    known = () if kept is None else [name for each in kept.record.sections.values() for name in each.runs]
    return None if run is None or run.id in known else run


def _refuse_used_corner(session: Session, plan: Plan) -> None:
    (station,) = session.stations.values()
    step = next(each.step for each in leaves(plan.steps) if isinstance(each.step, ReadStep))
    cells = Region(step.cells).bound(station.board.geometry)
    fresh = int(np.count_nonzero(cells.bits & (station.ledger.pulse_counts() == 0)))
    if fresh < FEWEST_CELLS:
        raise DataError(
            f"{fresh} of the {cells.count} cells in {step.cells!r} were never pulsed, a ramp needs at least "
            f"{FEWEST_CELLS}; nothing was energised. Choose others in at most four rows, such as "
            '--set cells="rows 504-507 & cols 412-511"; or analyse the ramp that was made there: rramlab calibrate forming '
            "--run RUN"
        )


def _cells_for(
    session: Session, procedure: Procedure, parameters: Mapping[str, object], more: Mapping[str, Any]
) -> dict[str, object]:
    """Choose the cells that a procedure needs, by the die's last read, where they are not given.

    Raises:
        DataError: too few cells conduct.
    """
    if not procedure.cells or "cells" in parameters or "rows" in parameters:
        return {}
    (station,) = session.stations.values()
    if np.isnan(station.conductance_S).mean() > 0.5:
        session.run("read-array", {"repeats": 4}, die=station.die_id, **more)
    conducts = is_conducting(np.nan_to_num(station.conductance_S)) & ~station.ledger.unknown().bits
    if (count := int(np.count_nonzero(conducts))) < procedure.cells:
        raise TooFewCells(
            f"{count:,} cells of die {station.die_id!r} conduct, {procedure.name!r} needs at least {procedure.cells:,}; "
            f"nothing was measured. Form the die first: rramlab run electroform --arm {station.die_id}"
        )
    match procedure.protocol:
        case "calibrate-lines":
            known_lines(conducts)
            return {}
        case "calibrate-smu":
            isolated = "yes" if "isolated_reads" in station.identity.capabilities else "no"
            return {"cells": Region.of(spread(conducts, _BOTH_WAYS)).text, "isolated": isolated}
        case "read-noise":
            rows = np.flatnonzero(conducts.any(axis=1))
            few = rows[np.linspace(0, rows.size - 1, min(_NOISE_ROWS, rows.size)).round().astype(np.intp)]
            bits = np.zeros_like(conducts)
            bits[few] = conducts[few]
            return {"cells": Region.of(bits).text, "wait": "1 s"}
        case "calibrate-linearity":
            return {"rows": _best_group(conducts, station.board.lines_at_once)}
        case "calibrate-adc-cells":
            group = _best_group(conducts, station.board.lines_at_once)
            return {"rows": group, "cells": Region.of(_of_each_column(conducts)).text}
        case _:
            return {}


_BOTH_WAYS = 32  # cells that board and unit measure
_NOISE_ROWS = 8
_OF_COLUMN = 2  # conducting, and as many insulating, cells of a column that the unit measures


def spread(conducts: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.bool_]:
    """Return ``count`` of the cells, far from one another: bool[rows, columns]."""
    places = np.argwhere(conducts)
    # Along diagonals of the array, so that the cells taken share few rows and few columns.
    order = np.argsort((places[:, 1] * 7 + places[:, 0] * 13) % max(conducts.shape), kind="stable")
    taken = places[order][np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(np.intp)]
    found = np.zeros_like(conducts)
    found[tuple(taken.T)] = True
    return found


def _best_group(conducts: npt.NDArray[np.bool_], lines_at_once: int) -> str:
    rows = len(conducts)
    groups = [conducts[at : at + lines_at_once].sum() for at in range(0, rows, lines_at_once)]
    first = int(np.argmax(groups)) * lines_at_once
    return f"rows {first}-{min(first + lines_at_once, rows) - 1}"


def _of_each_column(conducts: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the first cells of each column that conduct, and the first that do not."""
    found = np.zeros_like(conducts)
    for wanted in (conducts, ~conducts):
        found |= wanted & (np.cumsum(wanted, axis=0) <= _OF_COLUMN)
    return found
