"""What the program wrote and reads again is as it was written, or is refused by name."""

import json
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from turned import believed, bits_of

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.base.files import read_json, read_object, read_summed, write_json, write_summed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
DOCUMENT = {"position": "000.00001", "rows": [0, 64], "µ": 1.5e-6, "none": None, "inner": {"sum": 3}}


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "sum"), PLAIN, max_size=5))
def test_an_object_is_read_back_as_it_was_whatever_is_in_it(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, document)
    assert read_json(path) == document


def test_no_flipped_bit_of_an_object_is_believed(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, DOCUMENT)
    assert believed(path, bits_of(path, 10_000), lambda: read_object(path)) == []


def test_an_object_without_a_check_sum_is_read_as_0_1_0_wrote_it(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(DOCUMENT, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_object(path, "rows") == DOCUMENT


def test_an_edited_object_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, DOCUMENT)
    path.write_text(path.read_text(encoding="utf-8").replace("64", "65"), encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json.*check sum differs.*restore it from a copy"):
        read_object(path)


def test_the_check_sum_can_be_compared_without_this_program(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, DOCUMENT)
    said = json.loads(path.read_text(encoding="utf-8"))["sum"]
    told = subprocess.run(
        ["sh", "-c", f"tail -c +47 {path} | b2sum -l 128"], capture_output=True, text=True, check=True
    )
    assert told.stdout.split()[0] == said


def test_no_flipped_bit_of_plain_bytes_is_believed_and_those_of_0_1_0_are_read(tmp_path):
    path, data = tmp_path / "x.bits", bytes(range(64))
    write_summed(path, data)
    assert read_summed(path, 64) == data
    assert believed(path, bits_of(path, 10_000), lambda: read_summed(path, 64)) == []
    path.write_bytes(data)
    assert read_summed(path, 64) == data
    for length in (63, 65, 79, 81):
        path.write_bytes((data + bytes(32))[:length])
        with pytest.raises(DataError, match=r"x\.bits"):
            read_summed(path, 64)


@pytest.mark.parametrize("compressed", [True, False])
def test_no_flipped_bit_of_an_archive_is_believed(tmp_path, compressed):
    """In the directory of a zip file one bit hides members, which no check sum of a member sees."""
    path = tmp_path / "x.npz"
    arrays = {"conductance_S": np.linspace(0, 1, 30, dtype=np.float32), "look": np.zeros((3, 4), np.int32)}
    save_arrays(path, arrays, compressed)

    def read():
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in load_arrays(path).items()}

    assert believed(path, bits_of(path, 10_000), read) == []
    with np.load(path) as plain:  # by any other reader
        assert np.array_equal(plain["conductance_S"], arrays["conductance_S"])


def test_archives_without_a_check_sum_are_read_and_must_list_all_their_members(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, conductance_S=np.ones(5), look=np.zeros(5))
    assert set(load_arrays(path)) == {"conductance_S", "look"}
    assert believed(path, bits_of(path, 20_000), lambda: set(load_arrays(path))) == []


@pytest.mark.parametrize("lost", [1, 7, 30, 64])
def test_an_archive_that_was_cut_off_is_refused(tmp_path, lost):
    path = tmp_path / "some.npz"
    save_arrays(path, {"a": np.arange(4)})
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match=r"some\.npz"):
        load_arrays(path)
