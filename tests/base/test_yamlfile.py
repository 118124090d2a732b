"""A mistake in a YAML file is said with file, line and column."""

import contextlib

import pytest
from pydantic import BaseModel, ConfigDict

from rramlab.base.errors import DataError, SourceRef, UsageError
from rramlab.base.units import Volts
from rramlab.base.yamlfile import load_model, load_yaml


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    voltage: Volts
    count: int = 1


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    parts: list[_Inner] = []


@pytest.fixture
def write(tmp_path):
    def put(text):
        path = tmp_path / "some.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def test_a_good_file_is_read(write):
    found = load_model(write("name: x\nparts:\n  - {voltage: 3.5 V}\n  - voltage: 250 mV\n    count: 3\n"), _Outer)
    assert [part.voltage for part in found.parts] == [3.5, 0.25]
    assert found.parts[1].count == 3


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("name: x\nprats: []\n", 2, 1, "unknown key 'prats'"),
        ("name: x\nparts:\n  - {voltage: 1 V, cuont: 2}\n", 3, 20, "cuont"),
        ("name: x\nparts:\n  - voltage: 1 A\n", 3, 5, "expected a quantity in V"),
        ("name: x\nparts:\n  - count: 2\n", 3, 5, "'parts.0.voltage' is missing"),
        ("name: x\nparts:\n  - voltage: 3.5\n", 3, 5, "expected a quantity in V"),
        ("name: x\nparts:\n  - voltage: 1 V\n    count: many\n", 4, 5, "many"),
        ("name: x\nname: y\n", 2, 1, "name"),
        ("name: x\n parts: [\n", 2, None, "YAML"),
        ("name: [1, 2\nparts: 3}\n", 2, None, "YAML"),
        ("name: x\n\tparts: 1\n", 2, None, "YAML"),
        ("- a\n- b\n", 1, 1, "expected keys and values"),
        ("", 1, 1, "expected keys and values"),
    ],
)
def test_a_mistake_is_named_with_its_place(write, text, line, column, words):
    path = write(text)
    with pytest.raises(UsageError, match=r"some\.yaml") as caught:
        load_model(path, _Outer)
    source = caught.value.source
    assert (source.file, source.line) == (str(path), line)
    if column is not None:
        assert source.column == column
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_line_is_counted_from_one_whatever_comes_before(write):
    path = write("# a comment\n\n---\nname: x\n\nparts:\n  - voltage: 1 V\n    wrong: 1\n")
    with pytest.raises(UsageError) as caught:
        load_model(path, _Outer)
    assert (caught.value.source.line, caught.value.source.column) == (8, 5)


def test_merge_keys_are_understood_or_refused_but_never_a_crash(write):
    path = write("base: &base {voltage: 1 V}\nname: x\nparts:\n  - <<: *base\n    count: 2\n")
    with contextlib.suppress(UsageError):
        assert load_yaml(path).data["parts"][0] == {"voltage": "1 V", "count": 2}


@pytest.mark.parametrize("text", [b"\xff\xfe\x00n", b"name: \x80\n"])
def test_a_file_that_is_no_text_is_a_data_error(write, text):
    with pytest.raises(DataError, match=r"some\.yaml"):
        load_yaml(write(text))


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.yaml"):
        load_yaml(tmp_path / "gone.yaml")


def test_a_source_is_written_as_editors_read_it():
    assert str(SourceRef("a.yaml", 3, 7)) == "a.yaml:3:7"
    assert str(SourceRef("a.yaml")) == "a.yaml"
    assert str(SourceRef()) == ""
