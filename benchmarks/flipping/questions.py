"""What a user asks first of a file: the ledger's counts, a run's record and data, a record in force, a trained network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import rramlab
from flipping.scenes import ADAPTED, DEPLOYMENT, TRAINING, Scene
from rramlab.base.errors import Refused, RramlabError
from rramlab.engine.guard import CONTACT_KEY
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.records.files import find
from rramlab.runs.export import export
from rramlab.runs.ledger import LedgerView, view_ledger
from rramlab.runs.snapshot import load_snapshot
from rramlab.runs.store import Run

GEOMETRY = Geometry(32, 16)


@dataclass
class Answer:
    """What a question brought: ``parts``, by name a digest of each; and ``words`` that were said beside it.

    ``refused``: the error's words; ``defect``: an exception that is no error of rramlab's own.
    """

    parts: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    refused: str = ""
    defect: str = ""


Question = Callable[[Scene, Path], dict[str, Any]]


WRITING: set[Question] = set()  # questions that change what lies there


def writes(question: Question) -> Question:
    WRITING.add(question)
    return question


def ask(question: Question, scene: Scene, target: Path) -> Answer:
    """Ask, and take down what comes back."""
    answer = Answer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = question(scene, target)
        except RramlabError as error:
            answer.refused = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001  # whatever it is: it is what is looked for
            answer.defect = f"{type(error).__name__}: {error}"
        else:
            answer.words += found.pop("words", [])
            answer.parts = {name: digest(value) for name, value in found.items()}
    answer.words += [str(each.message) for each in caught]
    return answer


def digest(value: Any) -> str:
    """Return a digest of what a value says, whatever it is made of."""
    found = hashlib.blake2b(digest_size=12)
    _feed(found, value)
    return found.hexdigest()


def _feed(found, value):
    if isinstance(value, CellSelection):
        value = value.bits
    if isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            found.update(f"{key}:".encode())
            _feed(found, value[key])
    elif isinstance(value, list | tuple):
        found.update(f"[{len(value)}".encode())
        for each in value:
            _feed(found, each)
    elif is_dataclass(value):
        found.update(type(value).__name__.encode())
        for each in fields(value):
            _feed(found, getattr(value, each.name))
    elif hasattr(value, "model_dump"):
        _feed(found, value.model_dump(mode="json"))
    elif hasattr(value, "detach"):
        _feed(found, value.detach().cpu().numpy())
    elif isinstance(value, bytes):
        found.update(value)
    else:
        found.update(repr(value).encode())


# a die's ledger ---------------------------------------------------------------------------------------------------------


def _of_ledger(ledger: LedgerView) -> dict[str, Any]:
    entries = [
        (
            e.op_id,
            e.run,
            e.position,
            e.kind,
            e.pulse,
            e.cells_per_pulse,
            e.cells,
            e.outcome,
            e.done,
            e.unknown,
            e.intended_at,
        )
        for e in ledger.entries()
    ]
    return {
        "pulses": ledger.pulse_counts(),
        **{f"pulses of {kind}": ledger.pulse_counts(kind) for kind in ("electroform", "set", "reset")},
        **{f"peak of {kind}": ledger.peak_voltage(kind) for kind in ("electroform", "set", "reset")},
        "unknown": ledger.unknown(),
        "doubtful": ledger.doubtful(),
        "last operation": ledger.last_operation(),
        "last id": ledger.last_id,
        "dangling": [entry.op_id for entry in ledger.dangling()],
        "operations": entries,
        "facts": {key: ledger.get(key) for key in ("enrolled_at", CONTACT_KEY)},
    }


def view(scene: Scene, target: Path) -> dict[str, Any]:
    """Look into the ledger."""
    with view_ledger(scene.bench / "data" / "dies" / scene.die / "ledger.db") as ledger:
        return _of_ledger(ledger)


@writes
def write(scene: Scene, target: Path) -> dict[str, Any]:
    """Open the bench for work, and see what the guard would allow."""
    with rramlab.open_bench(scene.bench) as session:
        found = _of_ledger(session.stations[scene.die].ledger)
        for cells in ("row 0", "row 20"):  # formed, and never pulsed
            try:
                session.stations[scene.die].guard.admit_plan(session.plan("electroform", {"cells": cells}))
                found[f"forming {cells}"] = "admitted"
            except Refused as error:
                found[f"forming {cells}"] = str(error)
    return found


@writes
def resume(scene: Scene, target: Path) -> dict[str, Any]:
    """Go on with the run that was killed: what the die has had in the end, by its own counters."""
    with rramlab.open_bench(scene.bench) as session:
        run = Run(scene.runs / scene.ids()[-1])
        session.resume(run.id, arm=scene.die)
        found = _of_ledger(session.stations[scene.die].ledger)
        return {
            "the die's own counts": session.bench.controllers[scene.die].die.state.pulses.copy(),
            "pulses": found["pulses"],
            "unknown": found["unknown"],
            "dangling": found["dangling"],
            "status": run.record["status"],
        }


@writes
def last_read(scene: Scene, target: Path) -> dict[str, Any]:
    """What is known of the cells' conductances."""
    with rramlab.open_bench(scene.bench) as session:
        station = session.stations[scene.die]
        everything = np.ones(GEOMETRY.shape, np.bool_)
        return {"conductances": station.state.conductance_S, "reads": station.last_read.origins(everything)}


# a run's folder ---------------------------------------------------------------------------------------------------------


def run_of(scene: Scene, target: Path) -> Run:
    return Run(scene.runs / target.relative_to(scene.runs).parts[0])


def record(scene: Scene, target: Path) -> dict[str, Any]:
    """The run's record, plan and provenance, and what ``runs show`` says."""
    run = run_of(scene, target)
    return {
        "record": run.record,
        "plan": run.plan,
        "provenance": run.provenance,
        **command(scene, "runs", "show", run.id),
    }


def data(scene: Scene, target: Path) -> dict[str, Any]:
    """Blocks, frozen selections and judgements, as a resumed run takes them."""
    run = run_of(scene, target)
    found: dict[str, Any] = {}
    for block in run.blocks():
        found[f"block {block.position}-{block.dataset}"] = [block.attributes, block.load()]
    for kind, ask_for in (("selections", lambda name: run.frozen(name, GEOMETRY)), ("judgements", run.judged)):
        for path in sorted((run.folder / kind).glob("*")):
            found[f"{kind} {path.stem}"] = ask_for(path.stem)
    return found


@writes
def gathered(scene: Scene, target: Path) -> dict[str, Any]:
    """Gather the run anew, and read what was gathered."""
    return _arrays_of(run_of(scene, target).consolidate())


def exported(scene: Scene, target: Path) -> dict[str, Any]:
    """Export the run's data."""
    output = scene.folder / "exported.npz"
    output.unlink(missing_ok=True)
    export(run_of(scene, target), "npz", output)
    with np.load(output, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def checked(scene: Scene, target: Path) -> dict[str, Any]:
    """Have the run's files compared with their sums."""
    return command(scene, "runs", "check", run_of(scene, target).id)


_PATIENCE_S = 5


def hdf5(scene: Scene, target: Path) -> dict[str, Any]:
    """Read ``run.h5`` as any reader of HDF5 does; that its check sums refuse, or that the reader dies, is a refusal."""
    reader = os.fork()
    if not reader:  # first where nothing is lost if HDF5 ends the process, or does not come back
        signal.alarm(_PATIENCE_S)
        with contextlib.suppress(Exception):
            _arrays_of(target)
        os._exit(0)
    if os.WIFSIGNALED(os.waitpid(reader, 0)[1]):
        raise RramlabError(f"{target.name}: HDF5 ended the process that read it, or held it up")
    try:
        return _arrays_of(target)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError, MemoryError) as error:
        raise RramlabError(f"{target.name}: {type(error).__name__}: {error}") from error


def _arrays_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def take(name, item):
        found[name] = [item[()] if isinstance(item, h5py.Dataset) else None, _attributes(item)]

    with h5py.File(path, "r") as file:
        found["/"] = _attributes(file)
        file.visititems(take)
    return found


def _attributes(item):
    plain = {}
    for name in item.attrs:
        value = item.attrs[name]
        # What refers to the scales of dimensions are numbers of this very file.
        refers = name in ("DIMENSION_LIST", "REFERENCE_LIST") or getattr(value, "dtype", np.dtype("u1")).kind == "O"
        plain[name] = None if refers else value
    return plain


def snapshot(scene: Scene, target: Path) -> dict[str, Any]:
    """What the run would be repeated with."""
    return dict(load_snapshot(run_of(scene, target)))


@writes
def repeated(scene: Scene, target: Path) -> dict[str, Any]:
    """Repeat the run on the die that it had."""
    from rramlab.engine.repeating import repeat

    folder = scene.folder / "repeated"
    shutil.rmtree(folder, ignore_errors=True)
    again = repeat(run_of(scene, target), folder, lambda progress: None)
    found: dict[str, Any] = {f"{b.position}-{b.dataset}": b.load() for b in again.run.blocks()}
    return {**found, "error": again.error, "name": again.run.record["name"]}


# what is known of board and die -----------------------------------------------------------------------------------------


def shown(scene: Scene, target: Path) -> dict[str, Any]:
    """Show one record, and all."""
    answers = {**command(scene, "calibrate", "show", target.stem), **command(scene, "calibrate", "history")}
    kept = find(scene.bench, target.stem)
    return {**answers, "arrays": dict(kept.arrays)}


@writes
def in_force(scene: Scene, target: Path) -> dict[str, Any]:
    """Open the bench, which demands a calibration that holds, and convert by it."""
    with rramlab.open_bench(scene.bench) as session:
        conversion = session.conversions[scene.die]
        calibration, columns = conversion.calibration, np.arange(GEOMETRY.columns)
        codes = np.full((1, GEOMETRY.columns), 2000, np.uint16)
        bias = session.stations[scene.die].board.dac_code(0.2)
        return {
            "conductances": calibration.conductance(codes, columns, bias),
            "levels": [calibration.dac_code(level) for level in (0.2, 1.6, 2.0, 3.75)],
            "record": calibration.record,
            "words": [str(each) for each in conversion.faults],
        }


@writes
def applied(scene: Scene, target: Path) -> dict[str, Any]:
    """Convert a run anew by the board's record that is in force."""
    run = next(each for each in scene.ids() if "-form-" in each)
    found = command(scene, "calibrate", "apply", run)
    blocks = {
        b.position: b.load()["conductance"] for b in Run(scene.runs / run).blocks() if b.attributes["form"] == "cells"
    }
    return {**found, **blocks}


# trained networks -------------------------------------------------------------------------------------------------------


def deployment(scene: Scene, target: Path) -> dict[str, Any]:
    """Load the deployment."""
    from rramlab.deploy import find_deployment

    found = find_deployment(scene.bench / "data" / "deployments", DEPLOYMENT)
    return {
        "dies": found.dies,
        "reset": found.reset,
        "placement": found.placement,
        "mask": [found.mask.layers, found.mask.granularity],
        "conductances": found.conductance_S,
        "about": found.about,
        "gates": {str(tile): [gates.rows, gates.phase] for tile, gates in found.gates().items()},
    }


def network(scene: Scene, target: Path) -> dict[str, Any]:
    """Load the training and its network."""
    from rramlab.training.experiment import Experiment

    name = target.relative_to(scene.bench / "data" / "checkpoints").parts[0]
    assert name in (TRAINING, ADAPTED)
    found = Experiment.load(scene.bench / "data" / "checkpoints" / name)
    return {
        "recipe": found.recipe,
        "taken": [each.as_json() for each in found.taken],
        "placement": found.placement,
        "conductances": found.conductance_S,
        "about": [found.sample, found.data, found.read_noise, found.adapted_from, found.words],
        "begun": dict(found.model().state_dict()),
        "trained": dict(found.trained().state_dict()),
    }


# the command line -------------------------------------------------------------------------------------------------------


@cache
def _commands() -> Any:
    """The tree of commands, which Typer would make anew for every call."""
    from typer.main import Typer, get_command

    from rramlab.cli.app import app

    return get_command(app) if isinstance(app, Typer) else app


def _notes(value: Any) -> Iterator[str]:
    """Yield what a document says under ``notes``, wherever that is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from map(str, inner) if key == "notes" and isinstance(inner, list) else _notes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _notes(inner)


_PLACES = re.compile(r"/\S*/")


def command(scene: Scene, *words: str) -> dict[str, Any]:
    """Type a command and return its document; what it warns of are words.

    Raises:
        RramlabError: it ended with an error, whose words these are.
    """
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            _commands()([*words, "--bench", str(scene.bench), "--json"], prog_name="rramlab")
        except SystemExit as end:
            code = end.code
    said = [line for line in map(str.strip, err.getvalue().splitlines()) if line.startswith(("warning:", "note:"))]
    if code:
        if "Traceback" in err.getvalue():
            raise AssertionError(f"a defect in {' '.join(words)}: {err.getvalue()[-600:]}")
        raise RramlabError(err.getvalue().partition("error: ")[2].strip() or f"exit code {code}: {err.getvalue()}")
    for line in said:
        warnings.warn(line, stacklevel=2)
    document = json.loads(out.getvalue())
    for note in _notes(document):
        warnings.warn(note, stacklevel=2)
    return {f"{' '.join(words[:2])}: {key}": _PLACES.sub("", json.dumps(value)) for key, value in document.items()}
