"""A cell is electroformed once in its life, on every path; ``again`` is explicit, for cells that somebody has looked at."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import put_on_the_table
from typer.testing import CliRunner
from workbench import SmallBench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import InstrumentError, Refused, UsageError
from rramlab.base.folders import shipped
from rramlab.cli.app import app
from rramlab.engine.repeating import repeat
from rramlab.macro.cells import CellSelection
from rramlab.macro.pulses import Pulse
from rramlab.plan.operations import PulseOp
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, ForEachStep, ReadStep, RepeatStep, Round, SweepStep
from rramlab.runs.snapshot import SEEN, keep_snapshot, load_snapshot
from rramlab.runs.store import find_run, list_runs

DIE = "small-1"
ONCE = Pulse(3.75, 1e-6, 1.6)
LOW = Pulse(3.2, 1e-6, 1.6)  # forms few
RESET = {"voltage": 2.0, "width": 1e-6, "gate": 3.0}
HAD = "have had a pulse by the ledger"


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        opened.arm(DIE)
        opened.macro.contact()
        yield opened


def refused(session, call, match):
    """Refused with exit code 3, the die and its ledger as they were."""
    before, known = hidden(session).pulses.copy(), len(ledger_of(session).history())
    with pytest.raises(Refused, match=match) as caught:
        call()
    assert caught.value.exit_code == 3
    assert np.array_equal(hidden(session).pulses, before)
    assert len(ledger_of(session).history()) == known
    return str(caught.value)


# single pulses from Python ----------------------------------------------------------------------------------------


def test_a_second_pulse_from_python_is_refused(session):
    session.macro.pulse("electroform", "rows 0-1", ONCE)
    said = refused(session, lambda: session.macro.pulse("electroform", "rows 1-2", ONCE), HAD)
    assert "16 cells, the first at (1, 0)" in said
    assert "again" in said
    session.macro.pulse("electroform", "rows 1-2 & pristine", ONCE)
    assert np.array_equal(hidden(session).pulses[:4, 0], [1, 1, 1, 0])


def test_again_is_for_cells_read_since_their_last_pulse(session):
    macro = session.macro
    macro.pulse("electroform", "rows 0-1", LOW)
    unread = "not read in this session since"
    refused(session, lambda: macro.pulse("electroform", "rows 0-1", LOW, again=True), unread)
    macro.read("row 0")
    refused(session, lambda: macro.pulse("electroform", "rows 0-1", LOW, again=True), unread)
    macro.pulse("electroform", "row 0", LOW, again=True)
    refused(session, lambda: macro.pulse("electroform", "row 0", LOW, again=True), unread)
    macro.read("rows 0-1")
    macro.pulse("electroform", "rows 0-2", LOW, again=True)  # beside them pristine ones, which nobody need have read
    assert np.array_equal(hidden(session).pulses[:3, 0], [3, 2, 1])


def test_what_looks_otherwise_is_no_look(session):
    macro = session.macro
    macro.pulse("electroform", "row 0", LOW)
    macro.contact()
    session.run(plain_plan(ReadStep(isolated=True)))
    refused(session, lambda: macro.pulse("electroform", "row 0", LOW, again=True), "not read in this session")


def test_a_read_of_an_earlier_session_is_no_look(small_bench):
    with small_bench.open() as session:
        session.arm(DIE)
        session.macro.contact()
        session.macro.pulse("electroform", "row 0", LOW)
        session.macro.read()
    with small_bench.open() as session:
        session.arm(DIE)
        assert not np.isnan(session.stations[DIE].state.conductance_S).any()
        refused(session, lambda: session.macro.pulse("electroform", "row 0", LOW, again=True), "in this session")
        session.run("read-array")  # a run of this session is as good as a read from Python
        session.macro.pulse("electroform", "row 0", LOW, again=True)
        assert hidden(session).pulses.max() == 2


def test_unknown_cells_are_never_formed_again(session):
    controller = session.bench.controllers[DIE]
    pulse = controller.pulse

    def lost(*arguments, **more):
        controller.power_cycle()
        raise InstrumentError("the link is gone")

    controller.pulse = lost
    with pytest.raises(InstrumentError):
        session.macro.pulse("electroform", "row 0", ONCE)
    controller.pulse = pulse
    session.macro.contact()
    session.stations[DIE].reconcile()
    assert ledger_of(session).unknown().count == 16
    session.macro.read()
    refused(session, lambda: session.macro.pulse("electroform", "row 0", ONCE, again=True), "unknown")
    again = pulse_step("row 0", again=True)
    refused(session, lambda: session.run(plain_plan(ReadStep(), again)), "unknown")
    refused(session, lambda: session.run(plain_plan(RepeatStep(times=2, steps=(ReadStep(), again)))), "unknown")
    session.run(plain_plan(ReadStep(), pulse_step("rows 0-1 - unknown", again=True)))
    assert np.array_equal(hidden(session).pulses[:2, 0], [0, 1])


@pytest.mark.parametrize("said", ["no", "yes", 1, None, np.array([True])])
def test_again_is_yes_or_no(session, said):
    session.macro.pulse("electroform", "row 0", LOW)
    session.macro.read()
    with pytest.raises(UsageError, match="expected True or False"):
        session.macro.pulse("electroform", "row 0", LOW, again=said)
    assert hidden(session).pulses.max() == 1


@pytest.mark.parametrize("kind", ["set", "reset"])
def test_again_means_nothing_for_other_kinds(session, kind):
    session.macro.pulse("electroform", "row 0", ONCE)
    with pytest.raises(UsageError, match="electroform only"):
        session.macro.pulse(kind, "row 0", Pulse(2.0, 1e-6, 1.6), again=True)
    with pytest.raises(ValueError, match="electroform only"):
        pulse_step("row 0", kind, voltage=2.0, again=True)
    operation = PulseOp(
        kind, CellSelection(np.arange(32)[:, None] + np.zeros((1, 16)) == 0), Pulse(2.0, 1e-6, 1.6), 8, again=True
    )
    with pytest.raises(UsageError, match="electroform only"):
        session.stations[DIE].pulse(operation, "r", "000.00000")
    assert hidden(session).pulses.sum() == 16


# plans ------------------------------------------------------------------------------------------------------------


def formed_in(step, *more):
    return plain_plan(*more, step)


@pytest.mark.parametrize(
    "steps",
    [
        (pulse_step("row 0"), pulse_step("rows 0-1")),
        (pulse_step("row 0"), ReadStep(), pulse_step("row 0 - conducting")),
        (pulse_step("row 0", "reset", **RESET), pulse_step("row 0")),
        (RepeatStep(times=2, steps=(pulse_step("row 0"),)),),
        (RepeatStep(times=3, steps=(ReadStep(), pulse_step("row 0 - conducting"))),),
        (RepeatStep(times=2, steps=(RepeatStep(times=2, steps=(pulse_step("row 0"),)),)),),
        (
            ForEachStep(
                name="v",
                rounds=tuple(Round(value=v, steps=(pulse_step("row 0", voltage=v), ReadStep())) for v in (3.0, 3.5)),
            ),
        ),
        (pulse_step("row 0"), SweepStep(cell="(0, 3)", purpose="electroform", voltage=3.75, points=5)),
        (SweepStep(cell="(0, 3)", purpose="electroform", voltage=3.75, points=5), pulse_step("row 0")),
    ],
)
def test_a_plan_that_forms_a_cell_twice_is_refused_before_its_first_volt(session, steps):
    put_on_the_table(session)
    clock = hidden(session).clock_ns
    refused(session, lambda: session.run(plain_plan(*steps)), r"once|formed")
    assert hidden(session).clock_ns == clock
    assert not [run for run in list_runs(session.runs) if run.record["name"] == "plain"]


def test_a_plan_that_forms_what_an_earlier_run_has_formed_is_refused(session):
    session.run(plain_plan(pulse_step("rows 0-1")))
    refused(session, lambda: session.run(plain_plan(ReadStep(), pulse_step("row 1"))), HAD)
    session.run(plain_plan(pulse_step("rows 1-2 & pristine")))
    assert hidden(session).pulses.max() == 1


def test_pristine_cells_in_a_loop_are_formed_once(session):
    loop = RepeatStep(times=3, steps=(pulse_step("rows 0-2 & pristine"), ReadStep()))
    session.run(plain_plan(loop, pulse_step("rows 0-3 & pristine")))
    assert np.array_equal(hidden(session).pulses[:5, 0], [1, 1, 1, 1, 0])


def test_again_in_a_plan_needs_a_read_before_each_pulse(session):
    again = pulse_step("row 0", voltage=3.2, again=True)
    unread = "not read in this session"
    refused(session, lambda: session.run(plain_plan(RepeatStep(times=3, steps=(again,)))), unread)
    refused(session, lambda: session.run(plain_plan(ReadStep(), again, again)), unread)
    alone = ReadStep(isolated=True)
    refused(session, lambda: session.run(plain_plan(RepeatStep(times=3, steps=(alone, again)))), unread)
    session.run(plain_plan(RepeatStep(times=3, steps=(again, ReadStep(cells="row 0")))))
    session.run(plain_plan(again))  # read by the run before, in this session
    assert hidden(session).pulses[0].max() == hidden(session).pulses[0].min() == 4


def test_cells_chosen_by_data_are_checked_as_they_are_sent(session):
    """Which of them it will be nobody can tell before; those that nobody has looked at since are not formed again."""
    loop = RepeatStep(times=2, steps=(pulse_step("rows 0-1", voltage=3.2, again=True), ReadStep(cells="rows 0-1")))
    session.run(plain_plan(loop))
    session.run(plain_plan(pulse_step("rows 0-1 - unknown", "reset", **RESET)))
    before = hidden(session).pulses.copy()
    with pytest.raises(Refused, match="not read in this session"):
        session.run(plain_plan(pulse_step("rows 0-1 - unknown", again=True)))
    assert np.array_equal(hidden(session).pulses, before)
    assert not ledger_of(session).dangling()


def test_a_run_that_forms_again_is_resumed_with_what_it_has_read(small_bench):
    """Its reads stand for it: they are what its later pulses were allowed for."""
    loop = RepeatStep(times=4, steps=(ReadStep(cells="rows 0-1"), pulse_step("rows 0-1", voltage=3.2, again=True)))
    with small_bench.open() as session:
        controller, left = session.bench.controllers[DIE], [3]
        pulse = controller.pulse

        def failing(*arguments, **more):
            left[0] -= 1
            if not left[0]:
                raise InstrumentError("the link is gone")
            return pulse(*arguments, **more)

        controller.pulse = failing
        with pytest.raises(InstrumentError):
            session.run(plain_plan(loop, block_rows=1), arm=DIE)
    with small_bench.open() as session:
        session.resume("last", arm=DIE)
        assert np.all(hidden(session).pulses[:2] == 4)
        assert np.array_equal(hidden(session).pulses, ledger_of(session).pulse_counts())


# protocols --------------------------------------------------------------------------------------------------------

PROTOCOL = """name: mine
description: some
steps:
  - contact
  - read
  - {kind}: {{cells: row 0, voltage: 2.5 V, width: 1 us, gate: 1.6 V{more}}}
"""


def protocol(bench, kind="electroform", more=""):
    path = bench.folder / "protocols" / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROTOCOL.format(kind=kind, more=more), encoding="utf-8")
    return path


@pytest.mark.parametrize("said", ["yes", '"yes"', "true", "on"])
def test_a_protocol_says_again(small_bench, said):
    protocol(small_bench, more=f", again: {said}")
    with small_bench.open() as session:
        for _ in range(2):
            session.run("mine", arm=DIE)
        assert np.all(hidden(session).pulses[0] == 2)


def test_a_protocol_that_does_not_say_it_is_refused_with_its_line(small_bench):
    path = protocol(small_bench)
    with small_bench.open() as session:
        session.run("mine", arm=DIE)
        refused(session, lambda: session.run("mine", arm=DIE), f"mine.yaml:6:.*{HAD}")
    protocol(small_bench, more=", again: no")
    with small_bench.open() as session:
        refused(session, lambda: session.run("mine", arm=DIE), HAD)
    protocol(small_bench, "reset", ", again: yes")
    with small_bench.open() as session, pytest.raises(UsageError, match=r"mine\.yaml:6.*electroform only"):
        session.run("mine", arm=DIE)
    assert path.exists()


def test_a_dry_run_says_it_too(small_bench):
    path = protocol(small_bench)
    words = ["run", "mine", "--dry-run", "--bench", str(small_bench.folder)]
    dry = CliRunner()
    assert dry.invoke(app, words).exit_code == 0  # no die was ever formed here
    with small_bench.open() as session:
        session.run("mine", arm=DIE)
    form = "{electroform: {cells: row 9, voltage: 3 V, width: 1 us, gate: 1 V}}"
    looped = f"name: mine\ndescription: x\nsteps:\n  - contact\n  - repeat: {{times: 2, steps: [{form}]}}\n"
    for text, code in (
        (path.read_text(), 3),
        (path.read_text().replace("row 0", '"row 0 & pristine"'), 0),
        (path.read_text().replace("gate: 1.6 V", "gate: 1.6 V, again: yes"), 0),
        (path.read_text().replace("gate: 1.6 V", "gate: 1.6 V, again: yes").replace("  - read\n", ""), 3),
        (looped, 3),
    ):  # fmt: skip
        path.write_text(text)
        answer = dry.invoke(app, words)
        assert answer.exit_code == code, answer.output


# what 0.1.0 began -------------------------------------------------------------------------------------------------


def without_the_rule(session):
    return session._single_shot("never")  # as 0.1.0 was


def begun_by_0_1_0(bench, plan, pulses):
    """A run of 0.1.0, which knew no rule of one, broken off at a pulse; return its id."""
    with bench.open() as session, without_the_rule(session):
        controller, left = session.bench.controllers[DIE], [pulses]
        pulse = controller.pulse

        def failing(*arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                raise InstrumentError("the link is gone")
            return pulse(*arguments, **more)

        controller.pulse = failing
        with pytest.raises(InstrumentError):
            session.run(plan, arm=DIE)
        run = find_run(session.runs, "last")
    as_stored_by_0_1_0(run)
    return run.id


def as_stored_by_0_1_0(run):
    def forgotten(node):
        if isinstance(node, dict):
            return {key: forgotten(value) for key, value in node.items() if key != "again"}
        return [forgotten(each) for each in node] if isinstance(node, list) else node

    (run.folder / "plan.json").write_text(json.dumps(forgotten(run.plan.model_dump(mode="json"))))
    said_by(run, "0.1.0")


def said_by(run, version):
    (run.folder / "provenance.json").write_text(json.dumps({**run.provenance, "rramlab": version}))


LOOP = RepeatStep(times=3, steps=(pulse_step("rows 0-1", voltage=3.2),))


def test_what_0_1_0_began_goes_on_as_it_was_begun(small_bench):
    run = begun_by_0_1_0(small_bench, plain_plan(LOOP, block_rows=1), 3)
    with small_bench.open() as session:
        session.resume(run, arm=DIE)
        assert np.all(hidden(session).pulses[:2] == 3)
        with pytest.raises(Refused, match="once"):  # and the rule holds for what is begun now
            session.run(plain_plan(LOOP), arm=DIE)


def test_only_a_run_of_0_1_0_goes_on_without_the_rule(small_bench):
    run = begun_by_0_1_0(small_bench, plain_plan(LOOP, block_rows=1), 3)
    said_by(find_run(small_bench.folder / "data" / "runs", run), "0.2.0")
    with small_bench.open() as session:
        before = hidden(session).pulses.copy()
        with pytest.raises(Refused, match="once"):
            session.resume(run, arm=DIE)
        assert np.array_equal(hidden(session).pulses, before)


def test_the_ramp_as_0_1_0_shipped_it_still_runs_and_one_that_was_changed_says_what_to_write(small_bench):
    text = (shipped().path / "protocols" / "electroform-ramp.yaml").read_text(encoding="utf-8")
    old = text.replace(
        '- unknown", voltage: "${voltage}", width: "${width}", gate: "${gate}",\n'
        '                       again: "yes",        # here alone a cell gets more than one: each was read since its last\n',
        '", voltage: "${voltage}", width: "${width}", gate: "${gate}",\n',
    ).replace('- conducting "', '- conducting"')
    assert "again:" not in old
    path = small_bench.folder / "protocols" / "electroform-ramp.yaml"
    path.parent.mkdir()
    path.write_text(old, encoding="utf-8")
    ramp = {"cells": "rows 0-1", "from": "3.2 V", "to": "3.5 V", "step": "100 mV"}
    with small_bench.open() as session:
        session.run("electroform-ramp", ramp, arm=DIE)
        assert hidden(session).pulses.max() > 1
    path.write_text(old.replace("default: 3 V", "default: 3.1 V"), encoding="utf-8")
    with small_bench.open() as session:
        refused(
            session, lambda: session.run("electroform-ramp", ramp, arm=DIE), "electroform-ramp.yaml:23:.*again: yes"
        )


# repeated ---------------------------------------------------------------------------------------------------------


def repeated(run, folder):
    found = repeat(run, folder, lambda progress: None)
    with SmallBench(folder).open() as session:
        return found, ledger_of(session).pulse_counts("electroform")


def test_a_run_is_repeated_with_what_its_session_had_read(session, tmp_path):
    """Also one that was refused for want of it."""
    session.macro.pulse("electroform", "rows 0-1", LOW)
    session.macro.read("row 0")
    formed_again = plain_plan(ReadStep(cells="row 9"), pulse_step("row 0", voltage=3.2, again=True))
    run = find_run(session.runs, session.run(formed_again).run_id)
    found, formed = repeated(run, tmp_path / "again")
    assert (found.error, found.run.record["status"]) == ("", "done")
    assert np.array_equal(formed, ledger_of(session).pulse_counts("electroform"))
    with pytest.raises(Refused):
        session.run(plain_plan(pulse_step("rows 0-1 - unknown", voltage=3.2, again=True)))
    found, formed = repeated(find_run(session.runs, "last"), tmp_path / "refused")
    assert found.run.record["status"] == "refused"
    assert formed.max() == 2


def test_what_0_1_0_did_is_repeated_as_it_was(session, tmp_path):
    with without_the_rule(session):
        run = find_run(session.runs, session.run(plain_plan(LOOP)).run_id)
    as_stored_by_0_1_0(run)
    keep_snapshot(run, {name: data for name, data in load_snapshot(run).items() if name != SEEN})
    found, formed = repeated(run, tmp_path / "again")
    assert (found.error, found.run.record["status"]) == ("", "done")
    assert np.all(formed[:2] == 3)


# whatever is called -----------------------------------------------------------------------------------------------

regions = st.sampled_from(
    [
        "rows 0-3",
        "row 2",
        "cell (1, 3)",
        "rows 1-2 & cols 0-7",
        "rows 0-3 & pristine",
        "row 1 - conducting",
        "all - pristine",
    ]
)
volts = st.sampled_from([3.2, 3.6])
forming = st.builds(lambda cells, v, again: pulse_step(cells, voltage=v, again=again), regions, volts, st.booleans())
looks = st.builds(lambda cells: ReadStep(cells=cells), regions)
resets = st.builds(lambda cells: pulse_step(cells, "reset", **RESET), regions)
sweeps = st.just(SweepStep(cell="(1, 3)", purpose="electroform", voltage=3.6, points=4, dwell=1e-5))
leaves = forming | looks | resets | sweeps
some = st.lists(leaves, min_size=1, max_size=2).map(tuple)
loops = st.builds(lambda times, steps: RepeatStep(times=times, steps=steps), st.integers(1, 3), some)
calls = st.one_of(
    st.tuples(st.just("pulse"), st.sampled_from(["electroform", "reset"]), regions, st.booleans()),
    st.tuples(st.just("read"), regions),
    st.tuples(st.just("run"), st.lists(leaves | loops, min_size=1, max_size=3), st.integers(0, 4)),
    st.tuples(st.just("session"), st.booleans()),
)


class Formed:
    """How often each cell was electroformed, by the board; and how often without ``again``, which may be so once."""

    def __init__(self):
        self.pulses = np.zeros((32, 16), int)
        self.unsaid = np.zeros((32, 16), int)

    def watch(self, session):
        station, controller = session.stations[DIE], session.bench.controllers[DIE]
        pulse, route, intend = controller.pulse, controller.route, station.ledger.intend
        self.left, self.said = None, False

        def intended(operation, *more):
            self.said = operation.again
            return intend(operation, *more)

        def pulsed(op_id, kind, cells, *more):
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise InstrumentError("the link is gone")
            report = pulse(op_id, kind, cells, *more)
            if kind == "electroform":
                self._count(report.done.bits)
            return report

        def routed(target, bias, op_id=0):
            if op_id:
                cell = np.zeros((32, 16), bool)
                cell[target.row, target.column] = True
                self._count(cell)
            return route(target, bias, op_id)

        controller.pulse, controller.route, station.ledger.intend = pulsed, routed, intended

    def _count(self, cells):
        self.unsaid += cells & (not self.said) & (self.pulses > 0)
        self.pulses += cells


def play(session, formed, call):
    what, *about = call
    if what == "pulse":
        kind, cells, again = about
        session.macro.pulse(kind, cells, LOW if kind == "electroform" else Pulse(2.0, 1e-6, 3.0), again=again)
    elif what == "read":
        session.macro.read(*about)
    else:
        steps, formed.left = about
        plan = Plan(name="p", steps=(ContactStep(), *steps), block_rows=1)
        try:
            session.run(plan)
        except InstrumentError:
            formed.left = None
            session.resume(list_runs(session.runs)[-1].id)
        finally:
            formed.left = None


@settings(max_examples=30)
@given(st.lists(calls, min_size=2, max_size=8))
def test_no_cell_is_formed_twice_without_a_word_whatever_is_called(tmp_path_factory, told):
    bench = SmallBench(tmp_path_factory.mktemp("calls")).write()
    formed, waiting, refusals = Formed(), list(told), 0
    while waiting:
        with bench.open() as session:
            session.arm(DIE)
            put_on_the_table(session)
            session.macro.contact()
            formed.watch(session)
            while waiting:
                call = waiting.pop(0)
                if call[0] == "session":
                    if call[1]:
                        session.bench.controllers[DIE].power_cycle()
                    break
                try:
                    play(session, formed, call)
                except (Refused, UsageError):
                    refusals += 1
            counts = ledger_of(session).pulse_counts("electroform")
            assert np.all(counts >= formed.pulses)
    assert not formed.unsaid.any()
