"""A mistake in a protocol is refused with file, line and column, before anything is energised.

The mistakes are those of ``mistakes.py``: all that were written by hand, and of the shipped protocols with something broken
(1,300 and more) every thirteenth; with ``RRAMLAB_ALL_MISTAKES=1`` in the environment all of them.
"""

import re

import numpy as np
import pytest
from mistakes import broken_shipped, one_in, written_by_hand
from workbench import hidden

import rramlab
from rramlab.base.errors import RramlabError, UsageError
from rramlab.base.folders import listing, shipped
from rramlab.engine.guard import check_worst_case
from rramlab.macro.geometry import Geometry
from rramlab.protocols.files import load_protocol

BROKEN = list(broken_shipped())[:: one_in(13)]
WRONG = [*written_by_hand(), *BROKEN]
# In what words a file is refused: what was found, or what is wrong with it.
SAID = re.compile(r"found|unknown|missing|twice|not valid YAML|the limit|without a pilot|no earlier|which has|has no")

GOOD = """\
name: mine
description: For a test.
parameters:
  voltage: {type: quantity, unit: V, default: 2 V, minimum: 1 V, maximum: 3 V, description: some}
  share: {type: number, default: 0.5, description: some}
limits:
  reset_voltage: 2.5 V
steps:
  - contact
  - read: {cells: all, repeats: 2}
  - reset:
      cells: rows 0-3
      voltage: ${voltage}
      width: 1 us
      gate: 1.6 V
  - expect:
      cells: rows 0-3
      window:
        formed_fraction: {expected: "${share}", within: 0.05}
  - gate: {rows: rows 0-7, columns: cols 0-7}
  - multiply: {inputs: ones}
"""


def written(folder, text):
    path = folder / "protocols" / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_good_one_is_good(tmp_path):
    written(tmp_path, GOOD)
    plan = load_protocol(tmp_path, "mine").plan(Geometry())
    kinds = [step.kind for step in plan.steps]
    assert kinds == ["contact", "read", "reset", "expect", "gate", "multiply"]
    assert plan.steps[2].source.line == 11


MISTAKES = [
    # what is written, what for, line, what the error says
    ("name: mine", "nmae: mine", 1, "nmae"),
    ("name: mine", "name: My Protocol", 1, "name"),
    ("description: For a test.\n", "", 1, "'description' is missing"),
    ("type: quantity, unit: V", "type: quanity, unit: V", 4, "quanity"),
    ("type: quantity, unit: V", "type: quantity", 4, "unit"),
    ("default: 2 V", "default: 2 A", 4, "2 A"),
    ("default: 2 V", "default: 2", 4, "unit"),
    ("default: 2 V", "default: 5 V", 4, "at most 3 V"),
    ("default: 2 V, minimum", "defualt: 2 V, minimum", 4, "defualt"),
    ("minimum: 1 V", "minimum: 1 A", 4, "1 A"),
    ("type: number, default: 0.5", "type: number, unit: V, default: 0.5", 5, "unit"),
    ("default: 0.5", "default: half", 5, "half"),
    ("reset_voltage: 2.5 V", "reset_votlage: 2.5 V", 7, "reset_votlage"),
    ("reset_voltage: 2.5 V", "reset_voltage: 2.5", 7, "unit"),
    ("reset_voltage: 2.5 V", "reset_voltage: 2.5 s", 7, "2.5 s"),
    ("- contact", "- contcat", 9, "contcat"),
    ("- contact", "- 7", 9, "7"),
    ("- contact", "- {contact: null, read: null}", 9, "one step"),
    ("- contact", "- contact: {cells: all}", 9, "cells"),
    ("- contact", "- contact: all", 9, "all"),
    ("repeats: 2", "repaets: 2", 10, "repaets"),
    ("repeats: 2", "repeats: 0", 10, "repeats"),
    ("repeats: 2", "repeats: two", 10, "two"),
    ("repeats: 2", "kind: read", 10, "kind"),
    ("repeats: 2", "source: x", 10, "source"),
    ("      cells: rows 0-3\n      voltage", "      cells: rows 0-512\n      voltage", 12, "off the die"),
    ("      cells: rows 0-3\n      voltage", "      cells: raws 0-3\n      voltage", 12, "raws"),
    ("voltage: ${voltage}", "voltage: ${votlage}", 13, "votlage"),
    ("voltage: ${voltage}", "voltage: 2", 13, "unit"),
    ("voltage: ${voltage}", "voltage: -2 V", 13, "voltage"),
    ("width: 1 us", "width: 1 uS", 14, "1 uS"),
    ("width: 1 us", "width: [1 us]", 14, "width"),
    ("      gate: 1.6 V\n", "", 11, "'gate' is missing"),
    (
        "      gate: 1.6 V\n",
        "      gate: 1.6 V\n      pilot: {formed_fraction: [0.5, 1], median: [8 uS, 18 uS]}\n",
        11,
        "pilot",
    ),
    ('expected: "${share}"', "expected: null", 19, "formed_fraction"),
    ('expected: "${share}"', "expected: .nan", 19, "formed_fraction"),
    ('expected: "${share}"', 'expcted: "${share}"', 19, "formed_fraction"),
    ("formed_fraction: {", "formed_fracton: {", 19, "formed_fracton"),
    ("columns: cols 0-7", "columns: cols 0-6", 20, "pairs"),
    ("columns: cols 0-7", "columns: cols 0-512", 20, "off the die"),
    ("inputs: ones", "inputs: twos", 21, "twos"),
    ("- read: {cells: all, repeats: 2}", "- read: {cells: all, cells: all}", 10, "cells"),
    ("cells: all, repeats: 2}", "cells: all, repeats: 2", 11, "YAML"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), MISTAKES, ids=[new.strip()[:40] for _, new, _, _ in MISTAKES])
def test_a_mistake_is_refused_with_its_place(tmp_path, old, new, line, words):
    assert GOOD.count(old) == 1
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load_protocol(tmp_path, "mine").plan(Geometry())
    error = caught.value
    assert error.exit_code == 2
    assert words in str(error)
    assert error.source is not None
    assert error.source.file == str(path)
    assert error.source.line == line
    assert error.source.column > 0
    assert str(error).startswith(f"{path}:{line}:{error.source.column}: ")


def test_the_column_is_that_of_the_key(tmp_path):
    written(tmp_path, GOOD.replace("repeats: 2", "repaets: 2"))
    with pytest.raises(UsageError) as caught:
        load_protocol(tmp_path, "mine").plan(Geometry())
    assert caught.value.source.column == GOOD.splitlines()[9].index("repeats") + 1


@pytest.mark.parametrize("text", ["", "steps: []\n", GOOD.split("steps:")[0], GOOD.split("steps:")[0] + "steps: []\n"])
def test_a_protocol_without_steps_is_refused(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=str(path)):
        load_protocol(tmp_path, "mine")


def test_a_missing_protocol_lists_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"electrofrom.*electroform"):
        load_protocol(tmp_path, "electrofrom")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("repeats: 2", "repaets: 2"),
        ("width: 1 us", "width: 1 uS"),
        ("cells: rows 0-3\n      voltage", "cells: rows 0-32\n      voltage"),
        ("- contact", "- contcat"),
        ("voltage: ${voltage}", "voltage: ${votlage}"),
    ],
)
def test_nothing_is_energised_by_it(small_bench, old, new):
    written(small_bench.folder, GOOD.replace(old, new))
    with small_bench.open() as session:
        with pytest.raises(UsageError):
            session.run("mine", arm="small-1")
        state = hidden(session)
        assert not state.pulses.any()
        assert state.conversions == 0
        assert state.clock_s == 0
        assert not session.runs.exists() or not list(session.runs.iterdir())


def test_a_protocol_runs_on_the_die_it_was_checked_for(small_bench):
    written(small_bench.folder, GOOD.replace("      window:", "      on_failure: continue\n      window:"))
    with small_bench.open() as session:
        session.run("mine", arm="small-1")
        expected = np.zeros((32, 16), np.uint32)
        expected[:4] = 1
        assert np.array_equal(hidden(session).pulses, expected)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """An empty bench folder, served by the shipped simulated bench: the array is whole."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def session(bench):
    with rramlab.open_bench(bench) as session:
        yield session


@pytest.fixture(scope="module")
def examples(bench):
    return {name: load_protocol(bench, name).examples() for name in listing(shipped().path, "protocols")}


def test_there_are_enough_of_them():
    assert len(WRONG) >= 200
    assert len({each.name for each in WRONG}) == len(WRONG)
    assert {each.text for each in WRONG}.isdisjoint(
        located.path.read_text(encoding="utf-8") for located in listing(shipped().path, "protocols").values()
    )


@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: each.name)
def test_it_is_refused_by_a_dry_run_and_by_a_run(bench, session, examples, wrong):
    path = bench / f"{wrong.name}.yaml"
    path.write_text(wrong.text, encoding="utf-8")
    of = max((name for name in examples if wrong.name.startswith(f"{name}-")), key=len, default=None)
    given = examples.get(of, {})

    def dry_run():
        description = session.description
        plan = load_protocol(bench, str(path)).plan(description.board.geometry, given)
        check_worst_case(plan, description.limits, description.board, description.smu_files)

    def run():
        session.run(path, arm="sim-0001", parameters=given)

    said = []
    for attempt in (dry_run, run):
        with pytest.raises(RramlabError) as caught:
            attempt()
        error = caught.value
        assert error.exit_code in (2, 3)
        assert (error.source.file, error.source.column > 0) == (str(path), True)
        assert error.source.line == wrong.line or (not wrong.line and error.source.line > 0)
        assert wrong.word in str(error)
        assert SAID.search(str(error))
        assert "\n" not in str(error)
        said.append(str(error))
    assert said[0] == said[1]
    state = hidden(session)
    assert not state.pulses.any()
    assert state.conversions == 0
    assert state.clock_s == 0
    assert not session.runs.exists() or not list(session.runs.iterdir())
