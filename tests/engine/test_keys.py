"""One run a key: the first time begins it, and the same again goes on with it or says that it is done."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest
from workbench import SmallBench, child, forming_plan, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import BenchLocked, DataError, InstrumentError, OutOfLimits, Refused, Stopped, UsageError
from rramlab.engine.repeating import repeat
from rramlab.plan.limits import Limits
from rramlab.plan.steps import ExpectStep, ReadStep, Window
from rramlab.runs.store import find_key, list_runs

DIE, KEY = "small-1", "job-17/forming:2026-11-29"
# One pulse a cell: a second run of it would be refused for its wear budget.
PLAN = forming_plan(block_rows=4).model_copy(update={"limits": Limits(pulses_per_cell=1)})


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


def broken_off(session, plan, pulses, **more):
    controller, left = session.bench.controllers[DIE], [pulses]
    pulse = controller.pulse

    def failing(*arguments, **given):
        left[0] -= 1
        if left[0] < 0:
            raise InstrumentError("the link is gone")
        return pulse(*arguments, **given)

    controller.pulse = failing
    with pytest.raises(InstrumentError):
        session.run(plan, arm=DIE, **more)
    controller.pulse = pulse


def as_json(value):
    return json.loads(json.dumps(value))


def only_run(session):
    (run,) = list_runs(session.runs)
    return run


def test_the_key_stands_in_the_record_and_finds_the_run(session):
    result = session.run(PLAN, arm=DIE, key=KEY)
    session.run("read-array")
    assert result.key == KEY
    assert not result.already_done
    found = find_key(session.runs, DIE, KEY)
    assert found.id == result.run_id
    assert found.record["key"] == KEY
    assert find_key(session.runs, DIE, "another") is None
    assert find_key(session.runs, "another", KEY) is None
    assert "key" not in list_runs(session.runs)[-1].record


def test_what_is_done_is_not_done_again_and_says_what_it_came_to(session):
    first = session.run(PLAN, arm=DIE, key=KEY)
    pulses, conversions = hidden(session).pulses.copy(), hidden(session).conversions
    again = session.run(PLAN, key=KEY)  # nothing is energised: it need not be armed
    assert again.already_done
    for name in (
        "run_id",
        "die",
        "folder",
        "pulses",
        "conversions",
        "saturated",
        "contact",
        "bystanders",
        "key",
        "passed",
    ):
        assert as_json(getattr(again, name)) == as_json(getattr(first, name)), name
    assert len(again.checks) == len(first.checks)
    assert np.array_equal(hidden(session).pulses, pulses)
    assert hidden(session).conversions == conversions
    assert len(list_runs(session.runs)) == 1


@pytest.mark.parametrize("pulses", [0, 1, 4, 7])
def test_what_was_broken_off_is_gone_on_with(small_bench, pulses):
    with small_bench.open() as session:
        broken_off(session, PLAN, pulses, key=KEY)
        assert only_run(session).record["status"] == "failed"
    with small_bench.open() as session:
        with pytest.raises(Refused, match="--arm"):
            session.run(PLAN, key=KEY)
        session.run(PLAN, arm=DIE, key=KEY)
        assert only_run(session).record["status"] == "done"
        assert hidden(session).pulses.max() == 1
        assert hidden(session).pulses.sum() == 32 * 8
        assert np.array_equal(hidden(session).pulses, ledger_of(session).pulse_counts())


def test_what_was_stopped_is_gone_on_with(session):
    def stop(progress):
        if progress.done == 5:
            raise Stopped("stopped by the user")

    with pytest.raises(Stopped):
        session.run(PLAN, arm=DIE, key=KEY, listen=stop)
    session.run(PLAN, arm=DIE, key=KEY)
    assert only_run(session).record["status"] == "done"
    assert hidden(session).pulses.max() == 1


def test_what_failed_for_good_says_so_each_time(session):
    never = plain_plan(pulse_step("rows 0-1"), ReadStep(), ExpectStep(window=Window(median=(1.0, 2.0))))
    for _ in range(3):
        with pytest.raises(OutOfLimits, match="median"):
            session.run(never, arm=DIE, key=KEY)
    assert only_run(session).record["status"] == "failed"
    assert hidden(session).pulses.sum() == 32


def test_what_is_refused_before_its_first_pulse_is_no_run_and_can_be_put_right(session):
    wrong = plain_plan(pulse_step("rows 0-1", voltage=4.2))
    for _ in range(2):
        with pytest.raises(Refused, match="electroform_voltage"):
            session.run(wrong, arm=DIE, key=KEY)
    with pytest.raises(Refused, match="--arm"):
        session.run(PLAN, key=KEY)
    assert not list_runs(session.runs)
    session.run(PLAN, arm=DIE, key=KEY)
    assert only_run(session).record["status"] == "done"


def test_what_was_refused_on_the_way_is_refused_again_by_name(session):
    broken_off(session, PLAN, 3, key=KEY)
    with session._single_shot("never"):
        session.run(plain_plan(pulse_step("row 20")), arm=DIE)
    before = hidden(session).pulses.copy()
    for _ in range(2):
        with pytest.raises(Refused, match="were pulsed by run"):
            session.run(PLAN, arm=DIE, key=KEY)
    assert np.array_equal(hidden(session).pulses, before)
    assert find_key(session.runs, DIE, KEY).record["status"] == "refused"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (PLAN.model_copy(update={"name": "other"}), "the protocol 'form' then, 'other' now"),
        (PLAN.model_copy(update={"block_rows": 8}), "block_rows 4 then, 8 now"),
        (PLAN.model_copy(update={"limits": Limits()}), "its limits"),
        (PLAN.model_copy(update={"steps": PLAN.steps[:2]}), "its steps"),
        (forming_plan(block_rows=4, voltage=3.7).model_copy(update={"limits": PLAN.limits}), "its steps"),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_another_plan_under_the_same_key_is_refused(session, changed, words, done):
    if done:
        session.run(PLAN, arm=DIE, key=KEY)
    else:
        broken_off(session, PLAN, 2, key=KEY)
    before = hidden(session).pulses.copy()
    with pytest.raises(Refused, match="begun with another plan") as caught:
        session.run(changed, arm=DIE, key=KEY)
    assert words in str(caught.value)
    assert caught.value.exit_code == 3
    assert np.array_equal(hidden(session).pulses, before)
    session.run(PLAN, arm=DIE, key=KEY)


def test_other_parameters_are_named_and_another_line_of_the_file_is_no_other_plan(small_bench):
    path = small_bench.folder / "protocols" / "mine.yaml"
    path.parent.mkdir()
    text = (
        "name: mine\ndescription: some\nparameters:\n  n: {type: integer, default: 2, description: x}\n"
        "steps:\n  - read: {repeats: '${n}'}\n"
    )
    path.write_text(text)
    with small_bench.open() as session:
        session.run("mine", key=KEY)
        with pytest.raises(Refused, match="the parameter n 2 then, 3 now"):
            session.run("mine", {"n": 3}, key=KEY)
        path.write_text(f"# a remark\n{text}")
        assert session.run("mine", {"n": 2}, key=KEY).already_done
        path.write_text(text.replace("'${n}'", "'${n}', name: other"))
        with pytest.raises(Refused, match="its steps"):
            session.run("mine", key=KEY)


def test_another_die_under_the_same_key_is_refused(tmp_path):
    with SmallBench(tmp_path, dies={"a": "", "b": ""}).write().open() as session:
        session.run("read-array", die="a", key=KEY)
        with pytest.raises(Refused, match="on die 'a', not on die 'b'"):
            session.run("read-array", die="b", key=KEY)
        assert session.run("read-array", die="a", key=KEY).already_done
        session.run("read-array", die="b", key=f"{KEY}-b")


@pytest.mark.parametrize("key", ["", " ", "a b", "-a", "a\n", "a\x00", "ä", "a" * 129, "../../x y", "/etc", "a;b"])
def test_a_key_is_a_word(session, key):
    with pytest.raises(UsageError, match="found the key"):
        session.run("read-array", key=key)
    assert not list_runs(session.runs)


def test_a_copied_run_leaves_a_key_to_be_asked_about(session):
    session.run(PLAN, arm=DIE, key=KEY)
    run = only_run(session)
    shutil.copytree(run.folder, run.folder.with_name(f"{run.id}-copy"))
    with pytest.raises(DataError, match=r"2 runs .* have the key"):
        session.run(PLAN, arm=DIE, key=KEY)
    assert hidden(session).pulses.max() == 1


def test_a_record_that_cannot_be_read_may_be_the_one(session):
    """Begun anew in silence, a plan of set and reset pulses would be sent a second time."""
    session.run(PLAN, arm=DIE, key=KEY)
    record = only_run(session).folder / "run.json"
    record.write_bytes(record.read_bytes()[:-20])
    with pytest.raises(DataError, match="whether a run was begun under the key"):
        session.run(PLAN, arm=DIE, key=KEY)
    assert hidden(session).pulses.max() == 1


def test_a_folder_that_is_no_run_yet_is_none(session, monkeypatch):
    """Killed while the folder was made, before the record was written: nothing was pulsed, and the key is free."""
    from rramlab.runs import store

    def killed(path, *more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        write = store.write_json
        patch.setattr(
            store, "write_json", lambda path, *more: (killed if path.name == "run.json" else write)(path, *more)
        )
        with pytest.raises(KeyboardInterrupt):
            session.run(PLAN, arm=DIE, key=KEY)
    assert len(list(session.runs.iterdir())) == 1
    assert not list_runs(session.runs)
    session.run(PLAN, arm=DIE, key=KEY)
    assert only_run(session).record["status"] == "done"
    assert hidden(session).pulses.max() == 1


def test_a_run_that_was_made_and_not_begun_keeps_its_die_when_it_is(session, tmp_path, monkeypatch):
    """Killed between its record and its first operation: it can be repeated like any other."""
    from rramlab.engine import session as sessions

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "capture", killed)
        with pytest.raises(KeyboardInterrupt):
            session.run(PLAN, arm=DIE, key=KEY)
    session.run(PLAN, arm=DIE, key=KEY)
    run = only_run(session)
    again = repeat(run, tmp_path / "repeat", lambda progress: None)
    assert again.run.record["pulses"] == run.record["pulses"] == 32 * 8
    first, second = (
        {block.position: block.load()["codes"].tobytes() for block in each.blocks("read")} for each in (run, again.run)
    )
    assert first == second


# two processes, and kills ------------------------------------------------------------------------------------------

KEYED = """
import sys
sys.path.insert(0, ".")
import rramlab
from rramlab.plan.plan import Plan
from pathlib import Path
plan = Plan.model_validate_json(Path(sys.argv[2]).read_text())
with rramlab.open_bench(sys.argv[1]) as session:
    result = session.run(plan, arm="small-1", key=sys.argv[3], listen=lambda told: print(told.done, flush=True))
    print("already done" if result.already_done else "done")
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_scheduler_that_repeats_itself_after_kills_never_begins_a_second_run(tmp_path):
    bench = SmallBench(tmp_path / "lab").write()
    stored = tmp_path / "plan.json"
    stored.write_text(PLAN.model_copy(update={"block_rows": 1}).model_dump_json())
    ends = []
    for count in (1, 8, 30, 9999, 9999):
        process = child(KEYED, bench.folder, stored, KEY)
        last = ""
        for line in process.stdout:
            last = line.strip()
            if last.isdigit() and int(last) >= count:
                process.send_signal(signal.SIGKILL)
                break
        said = process.communicate()[1]
        assert process.returncode in (0, -signal.SIGKILL), said
        ends.append(last)
    assert ends[-2:] == ["done", "already done"]
    with bench.open() as session:
        assert only_run(session).record["status"] == "done"
        assert hidden(session).pulses.sum() == 32 * 8
        assert hidden(session).pulses.max() == 1
        assert np.array_equal(hidden(session).pulses, ledger_of(session).pulse_counts())


def test_two_at_the_same_time_are_one_run(small_bench):
    """The second is told that the bench is held; said again afterwards, it is told that the run is done."""
    inside, go_on, refusals = threading.Event(), threading.Event(), []

    def listen(progress):
        inside.set()
        go_on.wait(10)

    with small_bench.open() as session:

        def second():
            inside.wait(10)
            try:
                with small_bench.open() as other:
                    other.run(PLAN, arm=DIE, key=KEY)
            except BenchLocked as error:
                refusals.append(error)
            go_on.set()

        thread = threading.Thread(target=second)
        thread.start()
        session.run(PLAN, arm=DIE, key=KEY, listen=listen)
        thread.join()
    assert len(refusals) == 1
    with small_bench.open() as session:
        assert session.run(PLAN, key=KEY).already_done
        assert len(list_runs(session.runs)) == 1
