"""What the README says works, in the order in which it says it, in a folder that is new."""

import re
import shlex
import tomllib

import numpy as np
import pytest
from table import called

from rramlab.base.folders import shipped

ROOT = shipped().path
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.is_file(), reason="the package is installed, and the README is not with it")

# What a test cannot do, and why.
LEFT_OUT = {
    "rramlab sim serve": "it serves until Ctrl-C; tests/sim/emulator does that",
    "rramlab reproduce": "hours",
    "rramlab calibrate all": "12 s; tests/cli/test_cli_calibrate.py does that on a small die",
}
# What a test does otherwise: it opens no browser, and trains for less long.
OTHERWISE = {
    "--open": "",
    "train digits": "train digits --epochs 2",
    "adapt digits-sim-0001": "adapt digits-sim-0001 --epochs 1",
}


def blocks():
    """The blocks from the bench to the end, one after the other: language and text."""
    text = README.read_text(encoding="utf-8")
    part = text[text.index("## At the bench") : text.index("## Where things are")]
    return re.findall(r"```(sh|python)\n(.*?)```", part, re.DOTALL)


def commands(block):
    for line in block.splitlines():
        for command in line.split("  #")[0].strip().split(" && "):
            for said, done in OTHERWISE.items():
                command = command.replace(said, done)
            if not command.startswith(tuple(LEFT_OUT)):
                yield shlex.split(command)


def test_the_readme_works_from_its_first_command_to_its_last(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="the learning side needs rramlab[train]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRAMLAB_BENCH", raising=False)
    done, found = 0, {}
    for language, block in blocks():
        if language == "python":
            exec(compile(block, "README.md", "exec"), found)  # it is the README's own
            continue
        for words in commands(block):
            if words[0] == "cd":
                monkeypatch.chdir(words[1])
                continue
            assert words[0] == "rramlab"
            answer = called(words[1:])
            assert answer.code == 0, (words, answer.err.decode())
            done += 1
    assert done > 15
    assert found["siemens"].shape == (512, 512)
    assert np.isfinite(found["siemens"][:64]).all()
    assert np.isnan(found["siemens"][64:]).all()


# constraints.txt ------------------------------------------------------------------------------------------------------


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned():
    """Name -> versions that constraints.txt pins, with the marker of each."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line:
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^ ;]+)(?:\s*;\s*(.+))?", line)
            assert match, line
            found.setdefault(canonical(match[1]), []).append((match[2], match[3] or ""))
    return found


def required():
    """Every requirement of the project, extras included, as it is written."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    every = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(each for extra in extras for each in extra),
    ]
    return [each for each in every if not each.startswith("rramlab")]


def test_every_dependency_is_pinned_within_what_the_project_accepts():
    from packaging.requirements import Requirement

    versions = pinned()
    for each in map(Requirement, required()):
        assert canonical(each.name) in versions, f"{each.name} is not pinned"
        for version, _ in versions[canonical(each.name)]:
            assert each.specifier.contains(version), (
                f"{each.name} is pinned to {version}, the project wants {each.specifier}"
            )


def test_pins_are_whole_and_unambiguous():
    from packaging.markers import Marker

    for name, found in pinned().items():
        assert name != "rramlab"
        for _, marker in found:
            if marker:
                Marker(marker)
        for python in ("3.11", "3.12", "3.13"):
            for system, platform in (("Linux", "linux"), ("Darwin", "darwin"), ("Windows", "win32")):
                about = {"python_version": python, "python_full_version": f"{python}.5", "platform_system": system,
                         "sys_platform": platform}  # fmt: skip
                holds = [version for version, marker in found if not marker or Marker(marker).evaluate(about)]
                assert len(holds) <= 1, f"{name} has several versions for Python {python} on {system}"
    assert pinned()["torch"] == [("2.13.0", "")]
