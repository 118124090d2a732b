"""The example benches in the documentation are read as they stand, and say what their page says."""

from __future__ import annotations

import re
import shutil

import pytest

from rramlab.base.errors import InstrumentError
from rramlab.base.folders import shipped
from rramlab.drivers.bench import Bench, describe_bench
from rramlab.drivers.links import open_link

FOLDER = shipped().path / "docs" / "benches"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def described(name, tmp_path):
    """The example, copied to where a bench would be."""
    shutil.copyfile(FOLDER / f"{name}.yaml", tmp_path / "bench.yaml")
    return describe_bench(tmp_path)


def test_each_example_has_its_line_in_the_readme():
    assert EXAMPLES == ["in-process", "serial", "tcp", "visa"]
    listed = re.findall(r"^\| \[([\w-]+)\.yaml\]\(\1\.yaml\) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_describes_a_bench(name, tmp_path):
    found = described(name, tmp_path)
    assert found.board_file.model == "macro-40nm"
    assert found.limits.electroform_voltage <= 4.0
    assert {entry.name for entry in found.file.smus} == set(found.smu_files)
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.yaml"]


@pytest.mark.parametrize(
    ("name", "backend", "board", "smu"),
    [
        ("in-process", "simulated", None, "simulated"),
        ("tcp", "wire", "tcp://", "tcp://"),
        ("serial", "wire", "/dev/tty", None),
        ("visa", "wire", "/dev/tty", "USB0::"),
    ],
)
def test_each_example_is_of_its_kind(name, backend, board, smu, tmp_path):
    file = described(name, tmp_path).file
    assert file.backend == backend
    assert (file.controller.address or "None").startswith(str(board))
    assert [entry.address.startswith(smu) for entry in file.smus] == [True] * (smu is not None)


def test_the_one_in_process_opens(tmp_path):
    with Bench(described("in-process", tmp_path)) as bench:
        assert bench.smu_identities["smu"].model.startswith("B29")


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_stands_in_a_comment_is_valid_too(name, tmp_path):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    (tmp_path / "bench.yaml").write_text(
        re.sub(r"^( *)# (\w+: \{)", r"\1\2", text, flags=re.MULTILINE), encoding="utf-8"
    )
    found = describe_bench(tmp_path)
    if name == "in-process":
        assert found.file.controller.options["faults"]["open_rows"] == [7]
        assert found.file.smus[0].options["faults"] == {"garbage": 7}
        with Bench(found) as bench, pytest.raises(InstrumentError, match="answered"):
            all(bench.smus["smu"].errors() == [] for _ in range(7))


@pytest.mark.parametrize("name", ["serial", "visa"])
def test_addresses_that_are_not_there_are_said_to_be_so(name, tmp_path):
    file = described(name, tmp_path).file
    for entry in (file.controller, *file.smus):
        with pytest.raises(InstrumentError, match="cannot be opened"):
            open_link(entry.address.replace("ttyUSB0", "ttyUSB987"), entry.baud, b"\n")
