"""Every command says what it says in any encoding: the exit code does not depend on who can read it."""

import json
import os
import re

import pytest
from table import EXAMPLES, LEARNING, called, commands, fresh, learning_lab, small_lab, words_of

ENCODINGS = ["utf-8", "ascii", "cp1252", "cp437", "latin-1"]
# Calls that change nothing, and whose document is the same each time.
LOOKING = [
    "bench show", "drivers show small", "drivers schema smu", "protocols list", "protocols show electroform",
    "protocols schema", "runs list", "runs show {run}", "dies show small-1", "dies wear small-1", "map", "calibrate show",
    "calibrate compare {record} {later}", "sim info small-1 --figures", "bench trace talk.trace",
    "run electroform --set voltage=3.75Ω --dry-run", "sim new µ",
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "lab"
    return folder, small_lab(folder)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    pytest.importorskip("torch", reason="the learning side needs rramlab[train]")
    folder = tmp_path_factory.mktemp("learned") / "lab"
    return folder, learning_lab(folder)


def try_all(examples, prepared, place, encoding):
    folder, known = prepared
    fresh(folder, place)
    os.chdir(place)
    for calls in examples.values():
        for call, code in calls:
            done = called(words_of(call, known), encoding)
            said = done.out.decode(encoding), done.err.decode(encoding)
            assert done.code == code, (call, said)
            assert any(each.strip() for each in said), call
            assert "defect of rramlab" not in said[1], (call, said)
            assert "Traceback" not in said[1], (call, said)


def test_the_table_has_every_command():
    assert sorted([*EXAMPLES, *LEARNING]) == sorted(commands())


@pytest.mark.xdist_group("encodings")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_command_ends_in_every_encoding_as_it_does_in_utf_8(small, tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    try_all(EXAMPLES, small, tmp_path / "lab", encoding)


@pytest.mark.xdist_group("encodings")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_so_does_a_command_of_the_learning_side(learned, tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    try_all(LEARNING, learned, tmp_path / "lab", encoding)


@pytest.mark.xdist_group("encodings")
@pytest.mark.parametrize("call", LOOKING)
def test_a_document_is_the_same_in_every_encoding(small, monkeypatch, call):
    folder, known = small
    monkeypatch.chdir(folder)
    words = [*words_of(call, known), "--json"]
    documents = [json.loads(called(words, encoding).out.decode(encoding)) for encoding in ("utf-8", "ascii", "cp437")]
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]


def test_what_an_encoding_lacks_is_spelled_otherwise_and_columns_stay_straight(small, monkeypatch):
    folder, _ = small
    monkeypatch.chdir(folder)
    said = called(["drivers", "show", "small"], "ascii").out.decode("ascii")
    assert re.search(r"100 Ohm|Ohm", said)
    lines = [line for line in said.splitlines() if line.startswith(("|", "+"))]
    assert len(lines) > 10
    assert len({len(line) for line in lines}) == 1
    spoken = called(["map"], "ascii").out.decode("ascii")
    assert "uS" in spoken
    assert "\\u" not in spoken
