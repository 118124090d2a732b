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


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1e-6", 1e-6),
        ("1.5", 1.5),
        (".5", 0.5),
        ("+3", 3),
        ("-0.25", -0.25),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("2026-13-45", "2026-13-45"),
        ("2026-01-31 10:00:00", "2026-01-31 10:00:00"),
        ("3.75 V", "3.75 V"),
        ("1.2.3", "1.2.3"),
        ("'010'", "010"),
        ('"yes"', "yes"),
        ("1,5", "1,5"),
    ],
)
def test_a_value_is_what_a_person_would_take_it_for(write, written, value):
    found = load_yaml(write(f"key: {written}\n")).data["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("written", ["010", "0x1F", "0o17", "0b11", "1_000", "-007", "9" * 5000])
def test_a_number_that_can_be_read_in_two_ways_is_refused(write, written):
    with pytest.raises(UsageError, match="expected a decimal number") as caught:
        load_yaml(write(f"key:\n  - {written}\n"))
    assert (caught.value.source.line, caught.value.source.column) == (2, 5)


@pytest.mark.parametrize(
    "text", ["%YAML 1.1\n---\nkey: yes\nother: 1:30\n", "\ufeffkey: yes\nother: 1:30\n", "key: yes\r\nother: 1:30\r\n"]
)
def test_an_older_yaml_a_byte_order_mark_and_windows_lines_change_nothing(write, text):
    assert load_yaml(write(text)).data == {"key": "yes", "other": "1:30"}


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_BOMB, "values, aliases counted"),
        ("a: &a [*a]\n", "deep|alias"),
        ("a: " + "[" * 100 + "]" * 100 + "\n", "deep"),
        ("a: " + "[" * 600 + "\n", "YAML|deep"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("a: !mine x\n", "tag"),
        ("a: !mine {b: 1}\n", "tag"),
        ("!mine a: 1\n", "tag"),
        ("? [1, 2]\n: 3\n", "key"),
        ("a: *nowhere\n", "alias"),
        ("a: 1\n---\nb: 2\n", "document"),
        ("a: 1\n\x07b: 2\n", "character"),
        ("a: 1\n\tb: 2\n", "spaces"),
        ("a:\n  <<: 3\n", "mapping"),
    ],
    ids=[
        "bomb",
        "itself",
        "deep",
        "deeper",
        "python",
        "tag",
        "tagged",
        "tagged-key",
        "key",
        "alias",
        "two",
        "control",
        "tab",
        "merge",
    ],
)
def test_what_could_surprise_is_refused_with_its_place(write, text, words):
    with pytest.raises(UsageError, match=words) as caught:
        load_yaml(write(text))
    assert caught.value.source.line > 0
    assert caught.value.source.column > 0


def test_an_alias_stands_where_its_anchor_does_and_own_keys_win_over_merged_ones(write):
    document = load_yaml(write("base: &base {one: 1, two: 2}\nmine:\n  two: 3\n  <<: *base\nlist: [*base]\n"))
    assert document.data["mine"] == {"one": 1, "two": 3}
    assert document.at(("mine", "two")).line == 3
    assert document.at(("list", 0, "two")).line == 1


def test_an_alias_gives_what_its_anchor_does_wherever_either_stands(write):
    text = "&k one: &list [1, {two: 2}]\n*k : *list\nmore: {<<: [{one: &three 3}, {one: 4, two: 5}]}\nlast: *three\n"
    with pytest.raises(UsageError, match="stands twice"):
        load_yaml(write(text))
    document = load_yaml(write(text.replace("*k ", "two")))
    assert document.data == {
        "one": [1, {"two": 2}],
        "two": [1, {"two": 2}],
        "more": {"one": 3, "two": 5},
        "last": 3,
    }
    for location, place in (
        (("two",), (2, 1)),
        (("two", 1, "two"), (1, 20)),
        (("more", "one"), (3, 14)),
        (("more", "two"), (3, 39)),
        (("last", "nothing", 0), (4, 1)),
        (("one", 7), (1, 1)),
        ((), (1, 1)),
    ):
        assert (document.at(location).line, document.at(location).column) == place, location


def test_text_with_a_comma_in_braces_is_told_what_it_needs(write):
    with pytest.raises(UsageError, match="comma goes in quotes"):
        load_model(write("name: x\nparts:\n  - {voltage: 1 V, because I say so}\n"), _Outer)
