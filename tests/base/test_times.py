"""Two clocks: how long something took is counted, whatever anybody does to the clock on the wall."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import HostClock

from rramlab.base import times
from rramlab.base.order import ORDER, as_made, time_now
from rramlab.base.times import Clock, age_s, counted, stamp
from rramlab.base.units import show, show_duration

FORM = "%Y%m%d-%H%M%S-%f"


@pytest.fixture
def clock(monkeypatch):
    return HostClock(monkeypatch)


def test_what_is_counted_never_runs_backwards():
    seen = [counted() for _ in range(1000)]
    assert seen == sorted(seen)


@pytest.mark.parametrize("hours", [-2, 2, 26_000])
def test_a_clock_on_the_wall_that_is_set_moves_no_duration(clock, hours):
    work = Clock.start(before_s=5.0)
    clock.go_on(seconds=3)
    assert work.passed_s == pytest.approx(8, abs=0.01)
    clock.set_by(hours=hours)
    assert work.passed_s == pytest.approx(8, abs=0.01)
    assert (work.now - work.began).total_seconds() == pytest.approx(3, abs=0.01)
    assert work.moved_s == pytest.approx(hours * 3600, abs=0.01)


def test_an_age_is_what_was_counted_on_the_same_start_of_the_computer(clock):
    made = stamp()
    for set_by, passed in ((-5, 10), (3, 20), (-100, 30)):
        clock.set_by(hours=set_by)
        clock.go_on(minutes=10)
        assert age_s(made) == pytest.approx(passed * 60, abs=0.1)


def test_after_a_restart_of_the_computer_no_age_can_be_told(clock, monkeypatch):
    monkeypatch.setattr(times, "boot", lambda: "one")
    made = stamp()
    monkeypatch.setattr(times, "boot", lambda: "two")
    assert age_s(made) is None


@pytest.mark.parametrize(("set_by", "passed", "age"), [(-1, 2, 2), (1, 2, 3), (-3, 2, None)])
def test_where_a_restart_cannot_be_told_the_longer_time_counts(clock, monkeypatch, set_by, passed, age):
    monkeypatch.setattr(times, "boot", lambda: "")
    made = stamp()
    clock.set_by(hours=set_by)
    clock.go_on(hours=passed)
    assert age_s(made) == (None if age is None else pytest.approx(age * 3600, abs=1))


def test_what_0_1_0_wrote_down_is_as_old_as_the_clock_on_the_wall_says(clock):
    made = {"at": stamp()["at"]}
    clock.set_by(minutes=20)
    assert age_s(made) == pytest.approx(1200, abs=0.1)
    clock.set_by(minutes=-30)
    assert age_s(made) is None


@given(st.floats(0, 119.99))
def test_durations_that_are_spelled_in_a_hurry_read_like_the_others(seconds):
    assert show_duration(seconds) == show(seconds, "s")


# Names that hold the time ---------------------------------------------------------------------------------------------------


class Shelf:
    """Things that are made one after the other, named by the time."""

    def __init__(self, folder):
        self.folder, self.times = folder, {}

    def make(self, ending="x"):
        text = time_now(self.folder, self.times, FORM).strftime(FORM)[:-3]
        self.times[f"{text}-{ending}"] = text
        return f"{text}-{ending}"

    @property
    def order(self):
        return as_made(self.folder, self.times)


@given(st.lists(st.tuples(st.integers(-400_000, 400_000) | st.sampled_from([0, 1, -1, -3600, 2_300_000_000]),
                          st.sampled_from("abz")), max_size=12))  # fmt: skip
def test_names_say_what_the_clock_said_and_the_order_is_that_of_making(tmp_path_factory, moves):
    with pytest.MonkeyPatch.context() as patch:
        clock, shelf, made = HostClock(patch), Shelf(tmp_path_factory.mktemp("shelf")), []
        for seconds, ending in moves:
            clock.set_by(seconds=seconds)
            made.append(shelf.make(ending))
            said = clock.at.strftime(FORM)[:-3]
            assert made[-1][: len("20260301-1200")] == said[: len("20260301-1200")] or abs(seconds) <= 1
        assert shelf.order == made
        assert len(set(made)) == len(made)


def test_one_name_of_another_century_drags_no_later_one_along(tmp_path, clock):
    shelf = Shelf(tmp_path)
    first = shelf.make()
    clock.set_by(days=26_000)
    wrong = shelf.make()
    clock.set_by(days=-26_000)
    later = [shelf.make() for _ in range(3)]
    assert wrong > max(later)
    assert all(name.startswith("20260301") for name in later)
    assert shelf.order == [first, wrong, *later]
    (tmp_path / ORDER).unlink()
    assert shelf.order == [first, *later, wrong]  # of the names alone it cannot be told


def test_a_clock_that_is_right_leaves_no_list(tmp_path, clock):
    shelf = Shelf(tmp_path)
    clock.step = timedelta(0)
    made = [shelf.make() for _ in range(3)]
    clock.set_by(milliseconds=-400)  # as a time server does
    made.append(shelf.make())
    assert shelf.order == made == sorted(made)
    assert not (tmp_path / ORDER).exists()
