"""A training's folder is data: code that it names is executed where a person named or confirmed it, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rramlab.base import trust
from rramlab.base.errors import Refused
from rramlab.base.host import STATE
from rramlab.base.trust import Code, Unconfirmed
from rramlab.macro.conditions import Conditions
from rramlab.training import load_npz, load_recipe
from rramlab.training.experiment import Experiment

NETWORK = """
from pathlib import Path
from torch import nn
from parts import WIDTH

with Path(__file__).with_name("ran").open("a") as file:
    file.write("x")

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))

def other():
    return network()
"""
RECIPE = "name: own\ndescription: mine\ndataset: own.npz\nnetwork: own.py:network\nepochs: 1\nbatch: 10\nlearning_rate: 0.1\n"


class Die:
    """A formed die that is read without noise."""

    die_id = "d1"

    def __init__(self, board: Any) -> None:
        self.board, self.geometry = board, board.geometry
        pairs = np.random.default_rng(0).integers(0, 2, (512, 256, 1)) == np.arange(2)
        self.conductance_S = np.where(pairs, 1.2e-5, 1e-7).reshape(512, 512).astype(np.float32)

    def conditions(self) -> Conditions:
        return Conditions("d1", datetime(2026, 3, 1, tzinfo=UTC), 25.0, "", 7)

    def read(self, cells: Any, repeats: int = 1) -> Any:
        return np.where(cells.bits, self.conductance_S, np.nan)


class Lab:
    """A recipe with a network and a module beside it, and a training of it."""

    def __init__(self, folder: Path, table: Any) -> None:
        self.folder, self.die = folder, Die(table)
        rng = np.random.default_rng(0)
        np.savez(folder / "own.npz", x=rng.random((60, 3, 4)), y=np.repeat([0, 1, 2], 20))
        self.write()
        self.training = folder / "checkpoints" / "own-d1"
        self.experiment = self.begin(self.training)

    def write(self, network: str = NETWORK, parts: str = "WIDTH = 8\n") -> None:
        (self.folder / "own.py").write_text(network)
        (self.folder / "parts.py").write_text(parts)
        (self.folder / "own.yaml").write_text(RECIPE)
        sys.modules.pop("parts", None)  # as in a process of its own

    def begin(self, where: Path, **more: Any) -> Experiment:
        recipe = more.pop("recipe", None) or load_recipe(self.folder / "own.yaml")
        return Experiment.begin(where, recipe, {"d1": self.die}, load_npz(self.folder / "own.npz"), **more)

    @property
    def ran(self) -> int:
        """How often a file that leaves this sign was executed."""
        found = self.folder / "ran"
        return len(found.read_text()) if found.exists() else 0

    def edit(self, **changes: Any) -> None:
        path = self.training / "experiment.json"
        document = json.loads(path.read_text())
        document["recipe"].update(changes)
        path.write_text(json.dumps(document))


@pytest.fixture
def lab(tmp_path: Path, table: Any) -> Lab:
    return Lab(tmp_path, table)


def leaves_a_sign(lab: Lab) -> str:
    return f"with open({str(lab.folder / 'ran')!r}, 'a') as file:\n    file.write('y')\n"


def refused(lab: Lab, said: str) -> None:
    before = lab.ran
    with pytest.raises(Unconfirmed, match=said) as caught:
        Experiment.load(lab.training).model()
    assert caught.value.exit_code == 3
    assert "--trust-code" in str(caught.value)
    assert lab.ran == before


def test_what_a_person_named_and_trained_goes_on_without_a_question(lab: Lab) -> None:
    again = Experiment.load(lab.training)
    sys.modules.pop("parts", None)
    one, other = again.model().state_dict(), lab.experiment.model().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one if name.endswith("scores"))


def test_a_recipe_is_the_same_whoever_keeps_it(lab: Lab) -> None:
    named, kept = load_recipe(lab.folder / "own.yaml"), Experiment.load(lab.training).recipe
    assert (named.keeper, kept.keeper) == (None, lab.training)
    assert named == kept
    assert hash(named) == hash(kept)
    assert kept.changed({"seed": 3}).keeper == lab.training
    assert kept.model_copy(update={"seed": 3}).keeper == lab.training
    assert kept.changed({"network": "own.py:network"}).keeper is None  # that was named here
    assert named != named.changed({"seed": 3})


def test_a_network_elsewhere_is_not_executed(lab: Lab) -> None:
    evil = lab.folder / "elsewhere" / "evil.py"
    evil.parent.mkdir()
    evil.write_text(
        NETWORK.replace("__file__", repr(str(lab.folder / "own.py"))).replace("from parts import WIDTH", "WIDTH = 8")
    )
    lab.edit(network=f"{evil}:network")
    refused(lab, r"evil\.py:network .* nobody has confirmed it for this folder")
    assert Experiment.load(lab.training, trust_code=True).model()  # whoever says so
    refused(lab, "nobody has confirmed it")  # for that call alone


def test_another_content_is_not_executed(lab: Lab) -> None:
    lab.write(network=NETWORK + "\nEVIL = True\n")
    refused(lab, "its content is another one than what was confirmed")
    lab.write()
    assert Experiment.load(lab.training).model()


def test_another_function_of_a_confirmed_file_is_not_called(lab: Lab) -> None:
    lab.edit(network=f"{lab.folder / 'own.py'}:other")
    refused(lab, "nobody has confirmed it")


def test_a_module_beside_it_is_code_too(lab: Lab) -> None:
    lab.write(parts=f"WIDTH = 8\n{leaves_a_sign(lab)}")
    before = lab.ran
    with pytest.raises(Unconfirmed, match=r"parts\.py .*another one than what was confirmed"):
        Experiment.load(lab.training).model()
    assert lab.ran == before


def test_a_module_that_hides_one_of_python_is_not_executed(lab: Lab) -> None:
    """Put beside a network that imports it, it would be executed before the installed one."""
    lab.write(network=NETWORK + "\nimport imaplib\n")
    trust.confirm(lab.training, Code.of(lab.experiment.recipe.network, (lab.folder / "own.py").read_bytes()))
    (lab.folder / "imaplib.py").write_text(leaves_a_sign(lab))
    sys.modules.pop("imaplib", None)
    with pytest.raises(Unconfirmed, match=r"imaplib\.py"):
        Experiment.load(lab.training).model()


def test_a_folder_of_the_name_of_a_module_hides_none(lab: Lab) -> None:
    (lab.folder / "imaplib").mkdir()
    (lab.folder / "space").mkdir()
    (lab.folder / "space" / "inner.py").write_text("WIDTH = 8\n")
    lab.write(network=NETWORK + "\nimport imaplib\nfrom space.inner import WIDTH\nassert imaplib.IMAP4\n")
    sys.modules.pop("imaplib", None)
    lab.begin(lab.training.with_name("new"))
    (lab.folder / "space" / "inner.py").write_text("WIDTH = 8  # another one\n")
    sys.modules.pop("space.inner")
    with pytest.raises(Unconfirmed, match=r"inner\.py"):
        Experiment.load(lab.training.with_name("new")).model()


def test_a_forged_cache_beside_a_module_is_not_executed(lab: Lab) -> None:
    import py_compile

    forged, source = lab.folder / "forged.py", lab.folder / "parts.py"
    forged.write_text(f"WIDTH = 8\n{leaves_a_sign(lab)}")
    cached = Path(py_compile.compile(str(forged), doraise=True))
    target = cached.with_name(cached.name.replace("forged", "parts"))
    data, stat = bytearray(cached.read_bytes()), source.stat()
    data[8:16] = int(stat.st_mtime).to_bytes(4, "little") + stat.st_size.to_bytes(4, "little")
    target.write_bytes(data)
    forged.unlink()
    sys.modules.pop("parts", None)
    before = lab.ran
    assert Experiment.load(lab.training).model()
    assert lab.ran == before + 1  # own.py, and nothing else


def test_a_confirmation_is_of_one_folder(lab: Lab) -> None:
    moved = lab.training.with_name("moved")
    lab.training.rename(moved)
    with pytest.raises(Unconfirmed, match="nobody has confirmed it for this folder"):
        Experiment.load(moved).model()
    moved.rename(lab.training)
    assert Experiment.load(lab.training).model()


def test_a_confirmation_is_of_one_user_and_outside_of_the_bench(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [path for path in lab.folder.rglob("*") if "sha256" in path.name or path.name == "code"]
    trust._also.clear()
    monkeypatch.setenv(STATE, str(lab.folder / "another"))
    refused(lab, "nobody has confirmed it")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"folder": "/", "sha256": {}}', '{"folder": 1, "sha256": 7}'])
def test_a_damaged_confirmation_confirms_nothing(lab: Lab, text: str) -> None:
    trust._also.clear()
    (file,) = Path(os.environ[STATE]).glob("code/*.json")
    file.write_text(text)
    refused(lab, "nobody has confirmed it")
    trust.confirm(lab.training, *[Code.of(str(lab.folder / "parts.py"), (lab.folder / "parts.py").read_bytes())])
    refused(lab, "nobody has confirmed it")  # the module alone


def test_where_nothing_can_be_remembered_this_process_does(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = lab.folder / "a file"
    blocked.write_text("")
    trust._also.clear()
    monkeypatch.setenv(STATE, str(blocked))
    with pytest.raises(Refused):
        Experiment.load(lab.training).model()
    lab.begin(lab.training.with_name("new"))
    assert Experiment.load(lab.training.with_name("new")).model()


def test_an_adapted_training_needs_no_second_confirmation(lab: Lab) -> None:
    lab.experiment.train(load_npz(lab.folder / "own.npz"), resume=False)
    source = Experiment.load(lab.training)
    lab.begin(lab.training.with_name("adapted"), recipe=source.recipe, source=source)
    assert Experiment.load(lab.training.with_name("adapted")).model()
    lab.write(network=NETWORK + "\nEVIL = True\n")
    with pytest.raises(Unconfirmed):
        lab.begin(lab.training.with_name("again"), recipe=source.recipe, source=source)
    assert not lab.training.with_name("again").exists()


def test_reading_a_training_executes_nothing(lab: Lab) -> None:
    lab.edit(network=f"{lab.folder / 'nowhere.py'}:network")
    assert Experiment.load(lab.training).placement == lab.experiment.placement


# where data could bring code by another way ----------------------------------------------------------------------------------

PACKAGE = Path(trust.__file__).parents[1]


def test_no_reader_takes_pickles_or_code_out_of_files() -> None:
    """What reads files of a bench: arrays without pickles, tensors without code, YAML by the project's own reader."""
    import ast

    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "shelve", "marshal", "joblib", "dill", "runpy"} & set(names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, called = ast.unparse(node.func.value), node.func.attr
                options = {key.arg: ast.unparse(key.value) for key in node.keywords}
                if (owner, called) == ("np", "load"):
                    assert options.get("allow_pickle") == "False", path
                if (owner, called) == ("torch", "load"):
                    assert options.get("weights_only") == "True", path
                assert not (owner == "yaml" and called.startswith(("load", "unsafe", "full"))), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                allowed = {"exec": {"own.py"}, "compile": {"own.py"}}
                assert node.func.id not in {"eval", "exec", "compile"} or path.name in allowed.get(
                    node.func.id, set()
                ), path


def test_the_working_folder_is_no_place_for_modules(tmp_path: Path) -> None:
    """``python -m rramlab`` puts it first on the path: a numpy.py in a bench folder would be executed."""
    for name in ("numpy", "typer", "rich", "colorama", "pydantic"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')\n")
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    words = [sys.executable, "-m", "rramlab", "drivers", "list"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "keithley-2400" in done.stdout
