"""A bank of simulated dies: what a person may write, what bench.yaml becomes, what ageing leaves alone."""

import math
from pathlib import Path

import numpy as np
import pytest
from workbench import SmallBench, forming_plan, hidden

import rramlab
from rramlab.base.arrays import load_arrays
from rramlab.base.errors import BenchLocked, DataError, UsageError
from rramlab.base.folders import shipped
from rramlab.drivers.bench import BenchFile, describe_bench
from rramlab.drivers.lock import BenchLock
from rramlab.sim import bank
from rramlab.sim import truth as truth_of
from rramlab.sim.entering import with_dies
from rramlab.sim.models import DieModel, figures
from rramlab.sim.truth import Damaged

# what a person writes -----------------------------------------------------------------------------------------


def test_figures_are_read_as_yaml_writes_them():
    changes = bank.parse_figures(
        ["noise.read=0.05", "forming.pristine_S = 0.2 uS", "wires.solver=none", "noise.telegraph_share=1e-3"]
    )
    assert changes == {
        "noise": {"read": 0.05, "telegraph_share": 1e-3},
        "forming": {"pristine_S": "0.2 uS"},
        "wires": {"solver": "none"},
    }
    model = DieModel.preset("published", changes)
    assert model.forming.pristine_S == pytest.approx(0.2e-6)


NUMBERS = ("_C", "_eV", "breakdown_shift_V", "width_slope_V")  # figures that take a bare number only


def test_every_figure_of_every_preset_can_be_set_to_what_is_shown():
    for name in DieModel.presets:
        for figure in figures(DieModel.preset(name)):
            if isinstance(figure.value, float) and not figure.name.endswith(NUMBERS):
                shown = truth_of.show_figure(figure)
                changed = DieModel.preset("published", bank.parse_figures([f"{figure.name}={shown}"]))
                value = next(each.value for each in figures(changed) if each.name == figure.name)
                assert value == pytest.approx(figure.value, rel=1e-3)


BAD_FIGURES = {
    "no value": (["noise.read"], "name=value"),
    "no name": (["=3"], "name=value"),
    "unknown part": (["nose.read=1"], "noise"),
    "unknown figure": (["noise.rad=1"], "noise.read"),
    "a whole part": (["noise={read: 1}"], "noise.read"),
    "twice": (["noise.read=0.1", "noise.read=0.2"], "twice"),
    "not YAML": (["noise.read=["], "YAML"),
    "two documents": (["noise.read=1\n---\n2"], "YAML"),
    "not a number": (["noise.read=yes"], "number"),
    "true": (["noise.read=true"], "0.02"),
    "nothing": (["noise.read="], "number"),
    "a date": (["noise.read=2001-01-01"], "number"),
    "out of range": (["noise.read=2"], "less than 1"),
    "beyond 64 bits": (["switching.endurance_pulses=1" + 400 * "0"], "endurance_pulses"),
    "not finite": (["noise.read=.nan"], "finite"),
    "wrong unit": (["forming.pristine_S=1 V"], "quantity in S"),
    "a solver that is none": (["wires.solver=quick"], "exact"),
    "contradicting": (["relaxation.relax_end_s=0.1 s"], "relax_start_s"),
    "beyond 32 bits": (["forming.stuck_S=1e300"], "stuck_S: found 1e+300, expected less than or equal to 1"),
    "below 32 bits": (["forming.pristine_S=1e-300"], "pristine_S"),
    "law beyond 32 bits": (["forming.breakdown_law=[[0, 1], [1, 1e300]]"], "less than or equal to 100"),
    "below the clock's tick": (["noise.telegraph_shortest_s=1e-12"], "telegraph_shortest_s"),
    "beyond the clock": (["relaxation.interval_s=1e300"], "interval_s"),
}


@pytest.mark.parametrize(("pairs", "words"), BAD_FIGURES.values(), ids=BAD_FIGURES.keys())
def test_an_impossible_figure_is_refused_with_the_reason(pairs, words):
    with pytest.raises(UsageError) as caught:
        bank.planned("a", changes=bank.parse_figures(pairs))
    assert words in str(caught.value)


def test_ids_and_seeds_of_a_bank():
    assert [(die.id, die.seed) for die in bank.planned("a", 3, 7)] == [("a-01", 7), ("a-02", 8), ("a-03", 9)]
    many = bank.planned("a", 100)
    assert (many[0].id, many[-1].id) == ("a-001", "a-100")
    assert len({die.seed for die in many}) == 100
    assert [die.id for die in bank.planned("a")] == ["a"]
    assert bank.planned("a", 2, 2**64 - 2)[-1].seed == 2**64 - 1


BAD_BANKS = {
    "name": {"name": "../a"},
    "name that is too long with its number": {"name": "a" * 62, "count": 2},
    "no die": {"name": "a", "count": 0},
    "too many": {"name": "a", "count": 1001},
    "negative seed": {"name": "a", "seed": -1},
    "last seed too high": {"name": "a", "seed": 2**64 - 1, "count": 2},
    "preset": {"name": "a", "preset": "perfect"},
}


@pytest.mark.parametrize("what", BAD_BANKS.values(), ids=BAD_BANKS.keys())
def test_a_bank_that_cannot_be_is_refused(what):
    with pytest.raises(UsageError):
        bank.planned(**what)


# bench.yaml ---------------------------------------------------------------------------------------------------

NEW = [{"id": "007", "options": {"seed": 2**64 - 1, "preset": "harsh", "model": {"noise": {"read": 0.05}}}}]
STYLES = {
    "as shipped": (shipped().path / "bench.yaml").read_text(encoding="utf-8"),
    "not indented": "name: a\ndies:\n- id: x\n  options:\n    seed: 3   # three\n\n# about limits\nlimits: {}\n",
    "at the end, without an end of line": "limits: {}\ndies:\n    - id: x",
    "followed by comments": "dies:\n  - {id: x}\n  # - {id: y}\n# the end\n",
    "in one line": "dies: [{id: x}]  # one\nlimits: {}\n",
    "in braces": "dies: [\n  {id: x},  # one\n  {id: y}  # two\n]\nlimits: {}\n",
    "with a last comma": "dies: [{id: x}, ]\n",
    "carriage returns": "dies:\r\n  - id: x # one\r\nlimits: {}\r\n",
    "beyond ASCII": "name: Prüfplatz 😀\ndies:\n  - id: x # µ\nlimits: {}\n",
    "many lines": "dies:\n  - id: x\n    options:\n      model:\n        noise: {read: 0.1,\n          telegraph_share: 0}\n",
}


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES.keys())
def test_dies_are_added_and_nothing_else_changes(tmp_path, text):
    path = tmp_path / "bench.yaml"
    path.write_bytes(text.encode())
    changed = with_dies(path, NEW)
    # The new text is the old one with one piece put in.
    added = len(changed) - len(text)
    assert any(changed[:at] + changed[at + added :] == text for at in range(len(text) + 1))
    assert ("\r\n" in text) == ("\r\n" in changed)
    assert changed.replace("\r\n", "").count("\r") == 0


@pytest.mark.parametrize(
    "text",
    [
        "other: &d\n  - id: x\ndies: *d\n",
        "a: &a {dies: [{id: x}]}\n<<: *a\n",
        "dies: &d\n  - id: x\n",
        "dies: [{id: x}, # one\n]",
    ],
)
def test_a_file_that_cannot_be_added_to_is_refused_with_what_to_write(tmp_path, text):
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"by hand: \{id: '007'"):
        with_dies(path, NEW)


# on a bench ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small(small_bench):
    return describe_bench(small_bench.folder)


def tree(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_dies_of_a_bank_differ_and_a_die_is_its_seed(small):
    paths = bank.make(small, bank.planned("a", 3))
    cells = [load_arrays(path)["conductance_S"] for path in paths]
    assert not np.array_equal(cells[0], cells[1])
    assert not np.array_equal(cells[1], cells[2])
    (again,) = bank.make(small, bank.planned("b", seed=bank.planned("a", 3)[2].seed))
    assert np.array_equal(load_arrays(again)["conductance_S"], cells[2])


def test_entered_dies_open_and_stay_what_they_are(small_bench, small):
    dies = bank.planned("a", 2, 7, "harsh", {"noise": {"read": 0.05}})
    bank.make(small, dies, enter=True)
    with small_bench.open() as session:
        assert sorted(session.macros) == ["a-01", "a-02", "small-1"]
        model = session.bench.controllers["a-02"].die.model
        assert model.noise.read == 0.05
        assert model.wires.solver == "fast"
    path = small_bench.folder / "bench.yaml"
    for old, new in (("seed: 8", "seed: 9"), ("preset: harsh", "preset: ideal"), ("read: 0.05", "read: 0.06")):
        text = path.read_text()
        path.write_text(text.replace(old, new))
        with pytest.raises(UsageError, match="a-0"), small_bench.open():
            pass
        path.write_text(text)


def test_an_entry_makes_the_same_die_elsewhere(small_bench, small, tmp_path):
    (made,) = bank.make(small, bank.planned("a", preset="harsh", changes={"noise": {"read": 0.05}}), enter=True)
    other = SmallBench(tmp_path / "other").write()
    (other.folder / "bench.yaml").write_bytes((small_bench.folder / "bench.yaml").read_bytes())
    with other.open():
        pass
    copy = other.folder / "data" / "dies" / "a" / "die.npz"
    found, expected = load_arrays(copy), load_arrays(made)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("listed", "preset", "enter", "refused"),
    [
        ("", "harsh", False, False),  # says nothing: the state file holds what the die is
        ("", "harsh", True, True),
        ("", "published", True, False),
        ("seed: 5", "published", False, True),
        ("seed: 7", "published", False, False),
        ("preset: ideal", "published", False, True),
        ("preset: harsh", "harsh", True, True),  # its seed follows from the id
        ("preset: harsh, seed: 7", "harsh", True, False),
        ("sede: 7", "published", False, True),
    ],
)
def test_a_die_that_is_listed_is_made_only_as_listed(tmp_path, listed, preset, enter, refused):
    bench = SmallBench(tmp_path / "b", dies={"x": listed}).write()
    before = tree(bench.folder)
    seed = None if not listed and enter else 7
    if refused:
        with pytest.raises(UsageError, match=r"bench\.yaml"):
            bank.make(describe_bench(bench.folder), bank.planned("x", seed=seed, preset=preset), enter)
        assert tree(bench.folder) == before
        assert not (bench.folder / "data").exists()
    else:
        bank.make(describe_bench(bench.folder), bank.planned("x", seed=seed, preset=preset), enter)
        assert (bench.folder / "bench.yaml").read_bytes() == before[bench.folder / "bench.yaml"]
        with bench.open():
            pass


def test_entering_keeps_the_mode_of_the_file_and_a_link_to_it(small_bench):
    path = small_bench.folder / "bench.yaml"
    path.chmod(0o660)
    real = small_bench.folder.parent / "elsewhere.yaml"
    path.rename(real)
    path.symlink_to(real)
    bank.make(describe_bench(small_bench.folder), bank.planned("a"), enter=True)
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o660
    assert [die.id for die in describe_bench(small_bench.folder).file.dies] == ["small-1", "a"]


def test_a_ledger_alone_is_a_die_that_exists(small):
    folder = small.data / "dies" / "a-02"
    folder.mkdir(parents=True)
    (folder / "ledger.db").write_bytes(b"")
    with pytest.raises(UsageError, match=r"already: a-02, used or of another make"):
        bank.make(small, bank.planned("a", 5))
    assert [path.name for path in small.data.rglob("*") if path.is_file()] == ["ledger.db"]


class KilledError(BaseException):
    """In place of a signal that nobody can catch."""


@pytest.mark.parametrize("enter", [False, True])
def test_a_death_half_way_leaves_whole_files_and_a_rerun_makes_the_rest(small_bench, small, monkeypatch, enter):
    replace, done = Path.replace, []

    def dying(self, target):
        if Path(target).name == "die.npz":
            if len(done) == 2:
                raise KilledError
            done.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # the dead clean nothing up
        with pytest.raises(KilledError):
            bank.make(small, bank.planned("a", 4, 7), enter)
    found = truth_of.survey(small)
    assert [die.die for die in found] == ["a-01", "a-02"]
    assert not any(isinstance(die, Damaged) for die in found)
    again = describe_bench(small_bench.folder)
    first = (small.data / "dies" / "a-01" / "die.npz").read_bytes()
    for wrong in (bank.planned("a", 4, 8), bank.planned("a", 4, 7, "ideal")):  # not what was begun
        with pytest.raises(UsageError, match="nothing was made"):
            bank.make(again, wrong, enter)
    if enter:  # what bench.yaml lists is made when the bench is opened, too
        with small_bench.open():
            pass
    else:
        bank.make(again, bank.planned("a", 4, 7), enter)
        with pytest.raises(UsageError, match="all of them"):
            bank.make(again, bank.planned("a", 4, 7), enter)
    assert [die.seed for die in truth_of.survey(small) if die.die.startswith("a-")] == [7, 8, 9, 10]
    assert (small.data / "dies" / "a-01" / "die.npz").read_bytes() == first


def test_two_that_enter_at_once_lose_no_die(small_bench, small, monkeypatch):
    """The file is read again under the lock."""
    acquire = BenchLock.acquire

    def late(self):
        monkeypatch.setattr(BenchLock, "acquire", acquire)
        bank.make(describe_bench(small_bench.folder), bank.planned("quicker"), enter=True)
        acquire(self)

    monkeypatch.setattr(BenchLock, "acquire", late)
    bank.make(small, bank.planned("slower"), enter=True)
    assert [die.id for die in describe_bench(small_bench.folder).file.dies] == ["small-1", "quicker", "slower"]


def test_a_real_bench_is_refused(small):
    real = BenchFile.model_validate({**dict(small.file), "backend": "zynq"})
    description = type(small)(**{**vars(small), "file": real})
    for call in (
        lambda: bank.make(description, bank.planned("a")),
        lambda: bank.age(description, "a", 1.0),
        lambda: truth_of.survey(description),
        lambda: truth_of.look(description, "a"),
    ):
        with pytest.raises(UsageError, match="zynq"):
            call()


# ageing -------------------------------------------------------------------------------------------------------


@pytest.fixture
def formed(small_bench):
    with small_bench.open() as session:
        session.run(forming_plan("all"), arm="small-1")
    return describe_bench(small_bench.folder)


def test_ageing_keeps_pulses_and_the_boards_memory(formed):
    path = formed.data / "dies" / "small-1" / "die.npz"
    before = load_arrays(path)
    aged = bank.age(formed, "small-1", 10 * 365.25 * 86400, 150.0)
    after = load_arrays(path)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"clock_ns", "history_ns", "history_C"}
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype for name in before)
    assert before["pulses"].all()
    assert aged.clock_after_s - aged.clock_before_s == pytest.approx(10 * 365.25 * 86400)
    assert aged.median_after_S < 0.99 * aged.median_before_S
    assert (aged.celsius, aged.back_at_celsius) == (150.0, 25.0)


def test_an_aged_die_works_on_and_reads_otherwise(formed, small_bench):
    with small_bench.open() as session:
        before = session.macro.read("all", repeats=16)
    bank.age(formed, "small-1", 10 * 365.25 * 86400, 150.0)
    with small_bench.open() as session:
        after = session.macro.read("all", repeats=16)
        assert hidden(session).clock_s > 3e8
        assert session.stations["small-1"].ledger.pulse_counts().max() == 1
    assert np.median(after) < 0.99 * np.median(before)


def test_ageing_goes_by_the_bench_unless_told(tmp_path):
    bench = SmallBench(tmp_path / "warm", board_options="{temperature: 40}").write()
    description = describe_bench(bench.folder)
    bank.make(description, bank.planned("a"))
    assert bank.age(description, "a", 3600).celsius == 40
    truth = truth_of.look(description, "a")
    assert truth.temperature_C == 40
    assert truth.clock_s == 3600


@pytest.mark.parametrize(("seconds", "celsius"), [(1e10, 25.0), (3600, 500.0), (3600, -300.0), (3600, math.nan)])
def test_impossible_storage_leaves_the_die_as_it_was(formed, seconds, celsius):
    before = tree(formed.data / "dies")
    with pytest.raises(UsageError):
        bank.age(formed, "small-1", seconds, celsius)
    assert tree(formed.data / "dies") == before


def test_a_die_in_use_does_not_age(formed, small_bench):
    before = tree(formed.data / "dies")
    with small_bench.open(), pytest.raises(BenchLocked):
        bank.age(formed, "small-1", 3600)
    assert load_arrays(formed.data / "dies" / "small-1" / "die.npz")["clock_ns"] < 1e12
    assert before.keys() <= tree(formed.data / "dies").keys()


# looking ------------------------------------------------------------------------------------------------------


def test_the_truth_of_a_formed_die(formed):
    before = tree(formed.root)
    truth = truth_of.look(formed, "small-1")
    assert truth.preset == "published"
    assert (truth.cells, truth.pulsed, truth.pulses_of_a_cell) == (512, 512, 1)
    assert sum(truth.phases.values()) == 512
    assert truth.conducting == pytest.approx(512, abs=8)
    assert truth.median_S == pytest.approx(12.2e-6, rel=0.05)
    assert truth.ln_sigma == pytest.approx(0.15, abs=0.03)
    assert truth.breakdown_median_V == pytest.approx(3.433, abs=0.05)
    assert truth.meter["electroform"]["events"] == 512
    assert truth.energy_J == pytest.approx(sum(one["energy_J"] for one in truth.meter.values()))
    assert truth.conversions == truth.meter["read"]["events"] > 0
    assert truth_of.survey(formed) == [truth]
    assert tree(formed.root) == before


def test_a_virgin_die_has_no_median(small):
    bank.make(small, bank.planned("a", preset="ideal"))
    truth = truth_of.look(small, "a")
    assert (truth.median_S, truth.ln_sigma, truth.conducting) == (None, None, 0)
    aged = bank.age(small, "a", 3600)
    assert (aged.median_before_S, aged.median_after_S) == (None, None)


def test_every_preset_is_recognised(small):
    for name in DieModel.presets:
        bank.make(small, bank.planned(name, preset=name))
    bank.make(small, bank.planned("own", changes={"noise": {"read": 0.05}}))
    found = {die.die: die.preset for die in truth_of.survey(small)}
    assert found == {**{name: name for name in DieModel.presets}, "own": None}


def test_a_damaged_die_does_not_hide_the_others(small):
    paths = bank.make(small, bank.planned("a", 5))
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    arrays = load_arrays(paths[1])
    np.savez(paths[1], **{**arrays, "version": np.array(1)})
    np.savez(paths[2], **{**arrays, "phase": np.zeros((8, 8), np.uint8)})
    paths[3].unlink()
    (paths[3].parent / "ledger.db").write_bytes(b"")
    before = tree(small.data)
    found = truth_of.survey(small)
    assert [type(die).__name__ for die in found] == ["Damaged"] * 4 + ["Truth"]
    for die, words in zip(found, ["damaged", "version 1", "cells", "missing"], strict=False):
        assert words in die.reason
    with pytest.raises(DataError, match="missing"):
        truth_of.look(small, "a-04")
    with pytest.raises(DataError, match="damaged"):
        bank.age(small, "a-01", 3600)
    assert {path: data for path, data in tree(small.data).items() if path.parent.parent.name == "dies"} == {
        path: data for path, data in before.items() if path.parent.parent.name == "dies"
    }


def test_a_folder_without_a_die_is_none(small):
    (small.data / "dies" / "nothing").mkdir(parents=True)
    (small.data / "dies" / "nothing" / ".die.npz.12.tmp").write_bytes(b"half")
    assert truth_of.survey(small) == []
    with pytest.raises(UsageError, match="known: none"):
        truth_of.look(small, "nothing")


def test_a_die_made_with_figures_of_its_own_is_not_changed_by_opening_it(small_bench, small):
    bank.make(small, bank.planned("a", seed=3, preset="phase-change"))
    with rramlab.open_bench(small_bench.folder, die="a") as session:
        assert session.bench.controllers["a"].die.seed == 3
    assert truth_of.look(small, "a").preset == "phase-change"
