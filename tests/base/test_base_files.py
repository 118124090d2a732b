"""Files are replaced whole or not at all; errors carry the exit codes that scripts rely on."""

import json

import pytest

from rramlab.base import errors
from rramlab.base.errors import DataError
from rramlab.base.files import read_json, read_text, write_atomic, write_json, write_through


def test_an_atomic_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [item.name for item in path.parent.iterdir()] == ["b.bin"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, failure):
    path = tmp_path / "b.bin"
    write_atomic(path, b"old")

    def half(stream):
        stream.write(b"half")
        raise failure("in the middle")

    with pytest.raises(failure):
        write_through(path, half)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["b.bin"]


def test_json_round_trip(tmp_path):
    document = {"text": "µS", "number": 1.25, "list": [1, None, True]}
    write_json(tmp_path / "x.json", document)
    assert read_json(tmp_path / "x.json") == document
    plain = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))  # any other reader of JSON
    assert plain == {"sum": plain["sum"], **document}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"not json"])
def test_damaged_json_is_a_data_error_naming_the_file(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_missing_json_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json"):
        read_json(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RramlabError, 1),
        (errors.DataError, 1),
        (errors.BenchLocked, 1),
        (errors.InstrumentError, 1),
        (errors.UsageError, 2),
        (errors.Refused, 3),
        (errors.Stopped, 4),
        (errors.OutOfLimits, 5),
    ],
)
def test_exit_codes(error, code):
    assert error.exit_code == code
    assert isinstance(error("x"), errors.RramlabError)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_a_text_may_begin_with_the_mark_of_windows_and_end_its_lines_as_there(tmp_path, before):
    path = tmp_path / "a.yaml"
    path.write_bytes(before + "name: µ\r\nnext: 1\r\n".encode())
    assert read_text(path) == "name: µ\nnext: 1\n"


@pytest.mark.parametrize(("encoding", "line", "byte"), [("cp1252", 2, "0xb5"), ("utf-16", 1, "0xff")])
def test_a_text_in_another_encoding_is_refused_with_the_line(tmp_path, encoding, line, byte):
    path = tmp_path / "a.yaml"
    path.write_bytes("name: a\nunit: µS\n".encode(encoding))
    with pytest.raises(DataError, match=f"line {line} holds the byte {byte}") as caught:
        read_text(path)
    assert "Save it as UTF-8" in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path)
