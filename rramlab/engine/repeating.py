"""Repeating a run on the simulated die that it had, in a bench folder made of the run's own texts."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from rramlab.base.errors import DataError, RramlabError, Stopped, UsageError
from rramlab.base.files import write_atomic
from rramlab.base.folders import BENCH_FILE
from rramlab.base.times import stamp
from rramlab.drivers.bench import BenchDescription, describe_bench
from rramlab.engine.results import Listener
from rramlab.engine.session import Session
from rramlab.macro.cells import CellSelection
from rramlab.records.files import FOLDER as RECORDS
from rramlab.runs import CONTACT_KEY, LEDGER
from rramlab.runs.ledger import Ledger, Moment, view_ledger
from rramlab.runs.snapshot import DRIVERS, MOMENT, SEEN, load_snapshot
from rramlab.runs.store import Run, list_runs

_BOARD = "board"
_RECORD = "calibration-"  # in a run's folder, before a record's own name


@dataclass(frozen=True)
class Repetition:
    """A run that was executed again. ``error``: what ended it early, empty when nothing did."""

    run: Run
    die_folder: Path
    error: str


def repeat(run: Run, folder: Path, listen: Listener) -> Repetition:
    """Execute a run's plan once more in ``folder``, which becomes a bench of its own; the run and its die are untouched.

    Raises:
        DataError: there is no snapshot of the die, a file of the run is damaged, or the die's ledger is gone. UsageError:
        ``folder`` is not empty, or the run has no plan. Stopped: by the user.
    """
    if run.record["name"] == "interactive":
        raise UsageError(f"run {run.id} was interactive: it has no plan that could be executed again")
    files, plan = load_snapshot(run), run.plan
    seen = files.pop(SEEN, None)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; nothing was done. Name a new folder")
    if MOMENT in files:  # older snapshots hold a whole ledger
        files[LEDGER] = _ledger_then(run, files.pop(MOMENT))
    description = _bench(run, folder, files)
    die_folder = description.data / "dies" / run.die
    for name, data in files.items():
        if not name.startswith(DRIVERS):
            write_atomic(die_folder / Path(name).name, data)
    _renew_contact(die_folder / LEDGER, run.die, description)
    _put_records(run, folder)
    calibrating, why = bool(run.provenance.get("calibrating")), ""
    # What was electroformed again, then, is so again. 0.1.0 did not ask what had been read.
    with Session(description, calibrating) as session, session._single_shot("never" if seen is None else "always"):
        if seen is not None:
            session.stations[run.die].look_back(_cells(seen, run, session))
        try:
            session.run(plan, arm=run.die, die=run.die, listen=listen)
        except Stopped:
            raise
        except RramlabError as error:
            if not list_runs(session.runs):  # nothing was executed: that is no result, it is a failure
                raise
            why = str(error)
    (again,) = list_runs(description.data / "runs")
    return Repetition(again, die_folder, why)


def _cells(packed: bytes, run: Run, session: Session) -> CellSelection:
    try:
        return CellSelection.from_packed(packed, session.description.board.geometry)
    except ValueError as error:
        raise DataError(f"the snapshot of run {run.id} is damaged ({error}); restore it from a copy") from error


def _bench(run: Run, folder: Path, files: dict[str, bytes]) -> BenchDescription:
    """Write bench file and drivers into ``folder``. Nothing that they name may lie outside of it: not the data, above all."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text, board = (run.text(name) for name in (BENCH_FILE, "board.yaml"))
        document = YAML(typ="rt", pure=True).load(text)
        document["data"] = "data"
        document["controller"]["driver"] = _BOARD
        drivers = {f"{_BOARD}.yaml": board.encode()}
        for entry in document.get("smus", ()):
            entry["driver"] = f"smu-{entry['name']}"
            drivers[f"smu-{entry['name']}.yaml"] = files[f"{DRIVERS}{entry['name']}.yaml"]
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the bench of run {run.id} cannot be read from {run.folder} ({error!r}); restore the folder from a copy"
        ) from error
    stream = io.StringIO()
    YAML(typ="rt", pure=True).dump(document, stream)
    write_atomic(folder / BENCH_FILE, stream.getvalue().encode())
    for name, data in drivers.items():
        write_atomic(folder / "drivers" / name, data)
    return describe_bench(folder, run.die)


def _put_records(run: Run, folder: Path) -> None:
    """Put the calibration records that the run was converted with into ``folder``, with their arrays from its bench's own."""
    for path in run.folder.glob(f"{_RECORD}*.yaml"):
        name = Path(path.name.removeprefix(_RECORD))
        arrays = run.folder.parents[2] / RECORDS / name.with_suffix(".h5")
        write_atomic(folder / RECORDS / name, run.text(path.name).encode())
        if arrays.exists():
            write_atomic(folder / RECORDS / arrays.name, arrays.read_bytes())


def _ledger_then(run: Run, moment: bytes) -> bytes:
    """Return the ledger of the run's die as it was when the run began."""
    try:
        about = json.loads(moment)
        at = Moment(int(about["last_id"]), tuple(about["dangling"]), dict(about["facts"]))
        with view_ledger(run.folder.parents[1] / "dies" / run.die / LEDGER) as ledger:
            return ledger.image(at)
    except (DataError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"run {run.id} cannot be repeated, for its die's ledger cannot be brought back to what it was: {error}"
        ) from error


def _renew_contact(path: Path, die: str, description: BenchDescription) -> None:
    """A contact test that was recent enough when the run began is so when it begins again."""
    ledger = Ledger(path, die, description.board.geometry)
    try:
        known = ledger.get(CONTACT_KEY)
        if known:
            ledger.put(CONTACT_KEY, json.dumps({**json.loads(known), **stamp()}))
    finally:
        ledger.close()
