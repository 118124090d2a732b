"""What stands in files of a bench, in a form that later versions are compared by: contents, not bytes of a file's format.

Used by ``make.py`` with the code of the version that is recorded, and by the tests with the code of today.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.special import ndtri
from typer.testing import CliRunner
from workbench import SmallBench, hidden

import rramlab
from rramlab.base.errors import RramlabError
from rramlab.cli.app import app
from rramlab.drivers.bench import describe_bench
from rramlab.macro.cells import CellSelection
from rramlab.plan.operations import Operation, describe
from rramlab.plan.plan import Plan, leaves, operations, selection
from rramlab.records.files import Kept
from rramlab.runs.export import export

try:
    from rramlab.runs.ledger import view_ledger
except ImportError:  # version 0.1.0, with which make.py is run
    from rramlab.runs.ledger import view_ledger
from rramlab.runs.store import Run, list_runs

# Of a block or a record: when, not what; and numbers of the ledger, which may count otherwise one day.
_VOLATILE = (
    "written_at", "crc32", "operation", "started_at", "finished_at", "began", "ended", "timeline", "age_s", "rests_on",
    "reason", "decided_by", "folder", "path", "files", "duration_s",
)  # fmt: skip
_OF_OPERATIONS = (
    "dataset", "repeats", "isolated", "bias", "pulse", "cells_per_pulse", "resistor", "voltage_V", "range", "slot", "bits",
    "purpose", "peak_V", "points", "dwell_s", "compliance_A", "gate_V", "both_ways", "smu", "target", "count", "hold_s",
    "time_s", "what", "stop", "before", "after",
)  # fmt: skip


def fingerprint() -> str:
    """Return what the functions that a simulated die is made of give on this machine, to the last bit.

    They are NumPy's, SciPy's and the processor's: where it is another than that of the record, bits of a conductance may be
    others, and nothing that is measured can be compared to the last digit.
    """
    x = np.linspace(0.001, 0.999, 4099)
    wide = x.astype(np.float32)
    found = [
        np.exp(x),
        np.log(x),
        np.exp(wide),
        np.log(wide),
        np.sin(x),
        np.power(x, 0.37),
        ndtri(x),
        x[:4096].reshape(64, 64) @ x[:64],
    ]
    found += [np.square(wide).sum(keepdims=True), wide[:4096].reshape(64, 64) @ wide[:4096].reshape(64, 64)]
    return digest(np.concatenate([each.ravel().astype(np.float64) for each in found]))


def digest(array: Any) -> str:
    """Return a few letters that tell an array, its type and its shape from any other."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        array = np.array([str(each) for each in array.ravel()], np.str_)
        head = "text"
    else:
        head = array.dtype.str
    data = "\0".join(array.tolist()).encode() if head == "text" else np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(f"{head}{array.shape}".encode() + data).hexdigest()[:16]


def cells(selected: CellSelection) -> str:
    """Say cells: how many, in which rows, and letters that tell them from any others."""
    rows = selected.rows
    where = f"{rows[0]}-{rows[-1]}" if rows.size else "none"
    return f"{selected.count} in rows {where}, {hashlib.sha256(selected.packed()).hexdigest()[:12]}"


def lasting(node: Any) -> Any:
    """Leave out what says when or where, of a document."""
    if isinstance(node, dict):
        return {key: lasting(value) for key, value in node.items() if key not in _VOLATILE}
    return [lasting(each) for each in node] if isinstance(node, (list, tuple)) else node


def plain(node: Any) -> Any:
    """Return a document as JSON gives it back."""
    return json.loads(json.dumps(node))


def missing(recorded: Any, found: Any, place: str = "") -> list[str]:
    """Return where ``found`` does not say all that was recorded; it may say more."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        return [
            each
            for key, value in recorded.items()
            for each in (
                missing(value, found[key], f"{place}/{key}")
                if key in found
                else [f"{place}/{key} is gone, was {value!r}"]
            )
        ]
    if isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        return [
            each
            for at, pair in enumerate(zip(recorded, found, strict=True))
            for each in missing(*pair, f"{place}/{at}")
        ]
    return [] if recorded == found else [f"{place}: {found!r}, was {recorded!r}"]


# Commands -------------------------------------------------------------------------------------------------------------


def said(*words: Any) -> tuple[int, Any]:
    """Give a command in this process; return its exit code and its JSON document."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # software that differs, runs that are passed over
        result = CliRunner().invoke(app, [*map(str, words), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


# Dies -----------------------------------------------------------------------------------------------------------------


def life(bench: Path, die: str, ours: bool = False) -> dict[str, Any]:
    """Return all that the ledger of a die says. ``ours``: its runs have ids that were drawn just now."""
    with view_ledger(bench / "data" / "dies" / die / "ledger.db") as ledger:
        return {
            "operations": [
                [
                    *([] if ours else [entry.run]), entry.position, entry.kind, entry.pulse.amplitude_V, entry.pulse.width_s,
                    entry.pulse.gate_V, entry.cells_per_pulse, cells(entry.cells), entry.outcome, cells(entry.done),
                    cells(entry.unknown),
                ]
                for entry in ledger.entries()
            ],
            "pulses": digest(ledger.pulse_counts().astype(np.uint32)),
            "kinds": {kind: int(ledger.pulse_counts(kind).sum()) for kind in ("electroform", "set", "reset")},
            "most": int(ledger.pulse_counts().max()),
            "unknown": cells(ledger.unknown()),
            "doubtful": cells(ledger.doubtful()),
            "dangling": len(ledger.dangling()),
        }  # fmt: skip


def felt(bench: Path, die: str) -> dict[str, Any]:
    """Return what the cells of a simulated die have felt, which no program may look at but a judge."""
    with rramlab.open_bench(bench, die) as session:
        state = hidden(session, die)
        pulses = np.asarray(state.pulses)
        return {
            "pulses": digest(pulses.astype(np.uint32)),
            "total": int(pulses.sum()),
            "most": int(pulses.max()),
            "measured": {"conductance": digest(state.conductance_S)},
        }


def dies_of(bench: Path) -> list[str]:
    return sorted(path.parent.name for path in (bench / "data" / "dies").glob("*/ledger.db"))


# Runs -----------------------------------------------------------------------------------------------------------------


def blocks(run: Run) -> dict[str, Any]:
    """Return every block of a run by its place: what it is, and ``measured``, which is to the last bit."""
    found = {}
    for block in run.blocks():
        array = block.load()
        names = array.dtype.names or ()
        valid = [name for name in names if name == "valid"]
        found[f"{block.position}-{block.dataset}"] = {
            **lasting(plain(block.attributes)),
            "shape": list(array.shape),
            "valid": [digest(array[name]) for name in valid],
            "measured": {name: digest(array[name]) for name in names} if names else {"": digest(array)},
        }
    return found


def judgements(run: Run) -> list[str]:
    return sorted(path.stem for path in (run.folder / "judgements").glob("*.json"))


def frozen(run: Run, bench: Path) -> dict[str, str]:
    """Return the selections that a run has frozen, by step."""
    geometry = describe_bench(bench).board.geometry
    found = {}
    for path in sorted((run.folder / "selections").glob("*")):
        chosen = run.frozen(path.stem, geometry)
        assert chosen is not None
        found[path.stem] = cells(chosen)
    return found


def run_as_it_is(run: Run, bench: Path, scratch: Path) -> dict[str, Any]:
    """Return all that a run's folder says, without a change to it. Its export is left out where it only formed the die."""
    _, shown = said("runs", "show", run.id, "--bench", bench)
    return {
        "shown": {key: value for key, value in shown.items() if key != "folder"},
        "blocks": blocks(run),
        "judgements": judgements(run),
        "frozen": frozen(run, bench),
        **({} if run.record["name"] == "electroform" else {"exported": exported(run, scratch)}),
    }


def exported(run: Run, scratch: Path) -> dict[str, Any]:
    """Return what a run's export is: columns of its tables, and arrays; those of run.h5 where there is one."""
    shutil.rmtree(scratch, ignore_errors=True)
    tables = {}
    for path in export(run, "csv", scratch / "csv"):
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = list(csv.reader(file))
        columns = zip(*rows, strict=True) if rows else [()] * len(head)
        tables[path.name] = {
            "rows": len(rows),
            **{name: digest(np.array(each, np.str_)) for name, each in zip(head, columns, strict=True)},
        }
    gathered = run.folder / "run.h5"
    if gathered.exists():
        arrays = arrays_of(gathered)
    else:
        (numpy,) = export(run, "npz", scratch / "run.npz")
        with np.load(numpy) as file:
            arrays = {name: digest(file[name]) for name in sorted(file.files) if name != "units"}
    shutil.rmtree(scratch, ignore_errors=True)
    return {"csv": tables, "arrays": arrays}


def arrays_of(path: Path) -> dict[str, str]:
    """Return every data set of an HDF5 file by its name."""
    found: dict[str, str] = {}
    with h5py.File(path) as file:

        def take(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                data = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
                found[name] = digest(data)

        file.visititems(take)
    return found


def repeated(run: Run, bench: Path) -> dict[str, Any]:
    """Return what ``runs repeat`` says of a run."""
    code, document = said("runs", "repeat", run.id, "--bench", bench)
    wanted = ("equal", "blocks_equal", "results", "pulses_equal", "cells_equal")
    return {"code": code, **{key: document.get(key) for key in wanted}, "differ": len(document.get("blocks", ()))}


def resumed(run: Run, bench: Path) -> dict[str, Any]:
    """Go on with a run in ``bench``, which is a copy, and return what it ends in."""
    die = run.die
    code, _ = said("resume", run.id, "--arm", die, "--bench", bench)
    again = Run(run.folder)
    reconciled = [
        {key: each[key] for key in ("kind", "cells", "pulsed", "unknown")}
        for each in again.record.get("reconciled", [])
    ]
    return {
        "code": code,
        "record": {
            key: lasting(plain(again.record.get(key)))
            for key in ("status", "pulses", "conversions", "bystanders", "lost")
        },
        "reconciled": reconciled,
        "checks": [[each["passed"], each["cells"], each.get("left_out", 0)] for each in again.record.get("checks", [])],
        "loops": [[each["passed"], each["cells"]] for each in again.record.get("loops", [])],
        "blocks": blocks(again),
        "judgements": judgements(again),
        "frozen": frozen(again, bench),
        "life": life(bench, die),
        "felt": felt(bench, die),
    }


# Records --------------------------------------------------------------------------------------------------------------


def kept_record(path: Path) -> dict[str, Any]:
    """Return a calibration record with its arrays."""
    kept = Kept.load(path)
    return {
        "id": kept.id,
        "record": plain(json.loads(kept.record.model_dump_json(exclude_none=True))),
        "arrays": {name: digest(array) for name, array in sorted(kept.arrays.items())},
    }


# Expansions -----------------------------------------------------------------------------------------------------------


def expanded(plan: Plan, bench: SmallBench) -> list[dict[str, Any]]:
    """Return the operations of a plan without loops on a virgin die: place, words, cells and all else that is sent."""
    board = describe_bench(bench.folder).board
    patterns: dict[int, Any] = {}
    found = []
    for path, step, _, _ in leaves(plan.steps):
        chosen = selection(step, board.geometry, None)
        for number, operation in enumerate(operations(step, chosen, board, plan.block_rows, patterns)):
            found.append({"place": f"{path}.{number:05d}", **described(operation)})
    return found


def described(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"says": describe(operation), "kind": operation.kind}
    for name in ("cells", "others"):
        if hasattr(operation, name):
            told[name] = cells(getattr(operation, name))
    for name in _OF_OPERATIONS:
        if hasattr(operation, name):
            value = getattr(operation, name)
            told[name] = value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
    if hasattr(operation, "pattern"):
        told["pattern"] = operation.pattern.digest
    if hasattr(operation, "x"):
        told["x"] = digest(operation.x)
    if hasattr(operation, "window"):
        told["window"] = json.loads(operation.window.model_dump_json(exclude={"hint"}))
    return plain(told)


def executed(plan: Plan, bench: SmallBench) -> dict[str, Any]:
    """Execute a plan on a die of its own and return each operation's words, in order, and every place that was written."""
    told: list[str] = []
    with bench.open() as session:
        try:
            session.run(plan, arm="small-1", listen=lambda progress: told.append(progress.message))
        except RramlabError as error:
            told.append(f"ended by {type(error).__name__}")
        (run,) = list_runs(session.runs)
    return {
        "says": told,
        "pulses": [each[:5] + each[6:7] for each in life(bench.folder, "small-1", ours=True)["operations"]],
        "blocks": {
            name: {key: block.get(key) for key in ("step", "round", "rounds", "labels", "valid", "rows", "repeats")}
            for name, block in blocks(run).items()
        },
        "judgements": judgements(run),
        "frozen": frozen(run, bench.folder),
    }


# Trainings ------------------------------------------------------------------------------------------------------------


def register_network() -> None:
    """Make the small network of the recorded trainings known by its name, as those of the package are.

    A network in a file of one's own would be code that a folder brings along, and its path one of a machine.
    """
    from torch import nn

    from rramlab.nn import MaskedLinear
    from rramlab.training import networks

    def tiny(**masking: Any) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            MaskedLinear(64, 6, **masking),
            nn.BatchNorm1d(6, affine=False),
            MaskedLinear(6, 10, **{**masking, "rectify": True}),
        )

    networks.NETWORKS["tiny-mlp"] = tiny


def torch_version() -> str:
    import torch

    return str(torch.__version__)


def training(folder: Path) -> dict[str, Any]:
    """Return what a training's folder holds."""
    from rramlab.training.checkpoint import Checkpoint
    from rramlab.training.experiment import Experiment

    experiment = Experiment.load(folder)
    saved = Checkpoint.load(experiment.checkpoint)
    found = {
        "recipe": plain(experiment.recipe.model_dump(mode="json")),
        "dies": list(experiment.dies),
        "weights": digest(experiment.conductance_S),
        "placement": plain(experiment.placement.as_json()),
        "epoch": saved.epoch,
        "history": history(saved.history),
        "state": {name: digest(tensor.numpy()) for name, tensor in saved.model.items() if hasattr(tensor, "numpy")},
        "log": (folder / "log.csv").read_text().count("\n"),
    }
    if saved.epoch == experiment.recipe.epochs:
        mask = experiment.mask(experiment.trained())
        found["mask"] = {name: digest(np.asarray(kept)) for name, kept in mask.layers.items()}
        found["kept"] = mask.kept
    return found


def history(epochs: Iterable[Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in plain(each.flat()).items() if key != "seconds"} for each in epochs]


def gone_on(bench: Path, name: str) -> dict[str, Any]:
    """Let a training go on to its end, in a copy."""
    code, document = said("train", bench / "tiny.yaml", "--name", name, "--resume", "--bench", bench)
    return {
        "code": code,
        "accuracy": document.get("accuracy_trained"),
        **training(bench / "data" / "checkpoints" / name),
    }


def deployment(bench: Path, name: str) -> dict[str, Any]:
    from rramlab.deploy import find_deployment

    found = find_deployment(bench / "data" / "deployments", name)
    return {
        "dies": list(found.dies),
        "method": found.method,
        "reset": list(found.reset),
        "training": found.about["training"],
        "runs": found.about["runs"],
        "mask": {layer: digest(np.asarray(kept)) for layer, kept in found.mask.layers.items()},
        "conductance": digest(found.conductance_S),
        "patterns": {f"{tile.layer}/{tile.row}/{tile.pair}": gates.digest for tile, gates in found.gates().items()},
    }


def evaluated(bench: Path, name: str) -> dict[str, Any]:
    code, document = said("evaluate", name, "--images", "60", "--bench", bench)
    measured = ("accuracy_on_chip", "accuracy_trained", "conversions", "verification")
    return {"code": code, "images": document.get("images"), "measured": {key: document.get(key) for key in measured}}


# A whole bench --------------------------------------------------------------------------------------------------------


def copied(bench: Path, to: Path) -> Path:
    """Copy a recorded bench: nothing is ever written into it."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(bench, to))


def has_plan(run: Run) -> bool:
    return bool(run.record["name"] != "interactive")


def everything(bench: Path, scratch: Path) -> dict[str, Any]:
    """Return what stands in a bench's folder, and what becomes of copies of it in ``scratch``."""
    found: dict[str, Any] = {}
    _, listed = said("dies", "list", "--bench", bench)
    found["dies"] = listed["dies"]
    found["lives"] = {die: life(bench, die) for die in dies_of(bench)}
    found["shown"] = {die: said("dies", "show", die, "--bench", bench)[1] for die in dies_of(bench)}
    runs = list_runs(bench / "data" / "runs")
    found["runs"] = {run.id: run_as_it_is(run, bench, scratch) for run in runs}
    found["repeated"] = {run.id: repeated(run, bench) for run in runs if has_plan(run)}
    found["resumed"] = {}
    for run in runs:
        if run.record["status"] != "done" and has_plan(run):
            copy = copied(bench, scratch)
            found["resumed"][run.id] = resumed(Run(copy / "data" / "runs" / run.id), copy)
    if not found["resumed"] and any(each["dangling"] for each in found["lives"].values()):
        found["next"] = decided(copied(bench, scratch))
    found["records"] = [kept_record(path) for path in sorted((bench / "calibration").glob("*.yaml"))]
    trainings = sorted(path.parent for path in (bench / "data" / "checkpoints").glob("*/experiment.json"))
    if trainings:
        found["torch"] = torch_version()
        found["trainings"] = {folder.name: training(folder) for folder in trainings}
        unfinished = [name for name, each in found["trainings"].items() if "mask" not in each]
        found["gone_on"] = {name: gone_on(copied(bench, scratch), name) for name in unfinished}
        deployments = sorted(path.name for path in (bench / "data" / "deployments").glob("*"))
        found["deployments"] = {name: deployment(bench, name) for name in deployments}
        found["evaluated"] = {name: evaluated(copied(bench, scratch), name) for name in deployments}
    shutil.rmtree(scratch, ignore_errors=True)
    return found


def decided(bench: Path) -> dict[str, Any]:
    """Return what the next run on a bench, a contact test, makes of an operation that nobody knows the outcome of."""
    (die,) = dies_of(bench)
    code, document = said("run", "contact", "--die", die, "--bench", bench)
    wanted = ("kind", "cells", "pulsed", "unknown")
    return {
        "code": code,
        "reconciled": [{key: each[key] for key in wanted} for each in document["reconciled"]],
        "life": life(bench, die, ours=True),
        "felt": felt(bench, die),
    }
