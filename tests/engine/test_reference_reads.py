"""A reference read in a session: what is kept of it, where it is kept, and that it is made once."""

import csv
from dataclasses import replace

import h5py
import numpy as np
import pytest
from workbench import hidden

from rramlab.base.errors import OutOfLimits, Refused, UsageError
from rramlab.plan.limits import Limits
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ExpectStep, ForEachStep, ReadStep, ReferenceStep, RepeatStep, Round, Window
from rramlab.runs.export import export
from rramlab.runs.store import Run, find_run

DIE = "small-1"


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


def plan_of(*steps, **more):
    return Plan(name="references", steps=steps, **more)


def done(session, *steps):
    return find_run(session.runs, session.run(plan_of(*steps)).run_id)


def board_of(session):
    return session.bench.controllers[DIE].board


def ladder(*volts, **more):
    """A reference read at each voltage."""
    rounds = tuple(Round(value=v, unit="V", steps=(ReferenceStep(resistor=1, voltage=v, **more),)) for v in volts)
    return ForEachStep(name="level", rounds=rounds)


def test_a_block_has_the_codes_of_every_column_and_says_what_they_are(session):
    run = done(session, ReferenceStep(resistor=1, range="multiply", voltage=0.15, repeats=3, name="look"))
    (block,) = run.blocks()
    array = block.load()
    assert array.dtype == np.dtype([("codes", np.uint16, (3,))])
    assert array.shape == (16,)
    code = session.description.board.dac_code(0.15)
    level, _ = board_of(session).reference_level(1, True, code)
    assert np.array_equal(array["codes"], np.repeat(np.rint(level)[:, None], 3, axis=1))
    about = block.attributes
    assert (about["form"], about["resistor"], about["range"], about["voltage_V"]) == ("reference", 1, "multiply", 0.15)
    assert (about["conversions"], about["repeats"], about["calibration"]) == (48, 3, "nominal")


def test_open_inputs_are_null_in_the_block_and_a_word_in_the_file(session):
    run = done(session, ReferenceStep(resistor="open", voltage=0.0))
    (block,) = run.blocks()
    assert block.attributes["resistor"] is None
    with h5py.File(run.folder / "run.h5") as file:
        group = file["step-000-reference"]
        assert group.attrs["resistor"] == "open"
        assert group.attrs["range"] == "read"
        assert group.attrs["voltage_V"] == 0.0


def test_the_run_says_what_it_came_to(session):
    result = session.run(plan_of(ReferenceStep(resistor=0, repeats=2), ReadStep(cells="row 0")))
    (found,) = result.references
    codes = next(find_run(session.runs, result.run_id).blocks("reference")).load()["codes"]
    assert (found["resistor"], found["range"], found["columns"], found["repeats"]) == (0, "read", 16, 2)
    assert found["mean_code"] == pytest.approx(codes.mean())
    assert found["column_spread_code"] == pytest.approx(codes.mean(axis=1).std())
    assert found["saturated"] == 0
    assert result.conversions == 2 * 16 + 16
    assert find_run(session.runs, result.run_id).record["references"] == result.references


def test_a_loop_over_voltages_is_one_array_with_a_dimension_round(session, tmp_path):
    run = done(session, ladder(0.0, 0.1, 0.2, repeats=2))
    with h5py.File(run.folder / "run.h5") as file:
        (name,) = file
        group = file[name]
        assert name == "step-000-000-reference"
        assert group["codes"].shape == (3, 2, 16)
        assert [dimension.label for dimension in group["codes"].dims] == ["round", "repeat", "column"]
        assert group["codes"].attrs["units"] == "1"
        assert group["voltage_V"][()].tolist() == group["level"][()].tolist() == [0.0, 0.1, 0.2]
        assert group["voltage_V"].attrs["units"] == "V"
        assert group.attrs["resistor"] == 1
        codes = group["codes"][()].astype(int)
    assert np.all(np.diff(codes[:, 0].mean(axis=1)) > 100)
    (path,) = export(run, "csv", tmp_path / "csv")
    with path.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == codes.size
    for line in lines:
        at = int(line["round"]), int(line["repeat"]), int(line["column"])
        assert int(line["codes"]) == codes[at]
        assert float(line["level_V"]) == [0.0, 0.1, 0.2][at[0]]
    (path,) = export(run, "npz", tmp_path / "all.npz")
    with np.load(path) as arrays:
        assert np.array_equal(arrays["step-000-000-reference/codes"], codes)


def test_rounds_of_unlike_repeats_stay_apart(session, tmp_path):
    rounds = tuple(Round(value=n, steps=(ReferenceStep(resistor="open", repeats=n),)) for n in (1, 4))
    run = done(session, ForEachStep(name="count", rounds=rounds))
    with h5py.File(run.folder / "run.h5") as file:
        shapes = sorted(group["codes"].shape for group in file["step-000-000-reference"].values())
    assert shapes == [(1, 16), (4, 16)]
    assert len(export(run, "csv", tmp_path / "csv")) == 2


def test_resistors_and_open_inputs_in_one_loop_are_told_apart(session):
    rounds = tuple(Round(value=str(each), steps=(ReferenceStep(resistor=each),)) for each in (0, 1, "open"))
    run = done(session, ForEachStep(name="what", rounds=rounds))
    with h5py.File(run.folder / "run.h5") as file:
        group = file["step-000-000-reference"]
        assert group["resistor"].asstr()[()].tolist() == ["0", "1", "open"]
        means = group["codes"][()].mean(axis=(1, 2))
    assert means[0] > means[1] > means[2]


def interrupted(session, *steps):
    """A run that fails after its last step but one, and can go on."""
    impossible = ExpectStep(cells="row 0", window=Window(formed_fraction=(1, 1)))
    with pytest.raises(OutOfLimits):
        session.run(plan_of(*steps, ReadStep(cells="row 0"), impossible))
    return find_run(session.runs, "last")


def resumed(session, run):
    with pytest.raises(OutOfLimits):
        session.resume(run.id)
    return Run(run.folder)


def test_a_block_that_is_there_is_not_read_again(session):
    run = interrupted(session, ReferenceStep(resistor=0), RepeatStep(times=2, steps=(ReferenceStep(resistor="open"),)))
    clock, written = hidden(session).clock_ns, [block.attributes["written_at"] for block in run.blocks()]
    again = resumed(session, run)
    assert hidden(session).clock_ns == clock
    assert [block.attributes["written_at"] for block in again.blocks()] == written
    assert len(again.record["references"]) == 3
    assert again.record["references"] == run.record["references"]


@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_a_damaged_block_is_measured_anew(session, ending):
    """A resistor is what it was."""
    run = interrupted(session, ReferenceStep(resistor=0, repeats=4))
    block = next(run.blocks("reference"))
    codes, path = block.load()["codes"], block.path.with_suffix(ending)
    path.write_bytes(path.read_bytes()[:20])
    if ending == ".json":
        path.unlink()
    again = resumed(session, run)
    assert np.array_equal(next(again.blocks("reference")).load()["codes"], codes)


def test_what_is_not_there_is_refused_before_anything_is_energised(session):
    called = []
    session.bench.controllers[DIE].read_reference = lambda *arguments: called.append(arguments)
    for plan, word in (
        (plan_of(ReadStep(cells="row 0"), ReferenceStep(resistor=2)), "no reference resistor 2"),
        (plan_of(ReadStep(cells="row 0"), ReferenceStep(resistor=0, voltage=0.3)), "read_voltage"),
        (plan_of(ReferenceStep(resistor=0, voltage=0.1), limits=Limits(read_voltage=0.05)), "read_voltage"),
    ):
        clock = hidden(session).clock_ns
        with pytest.raises(Refused, match=word):
            session.run(plan)
        assert hidden(session).clock_ns == clock
    assert not called


def test_a_protocol_names_the_place_of_a_resistor_that_is_not_there(session, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: x\nsteps:\n  - read: {cells: row 0}\n  - reference: {resistor: 2}\n")
    clock = hidden(session).clock_ns
    with pytest.raises(Refused) as caught:
        session.run(str(path))
    assert (caught.value.source.file, caught.value.source.line) == (str(path), 5)
    assert caught.value.source.column > 0
    assert hidden(session).clock_ns == clock


def test_a_protocol_reaches_every_column(session, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndescription: x\nparameters:\n  which: {type: integer, default: 1, description: x}\nsteps:\n"
        "  - for_each:\n      values: {level: [0 V, 0.1 V]}\n      steps:\n"
        '        - reference: {resistor: "${which}", range: multiply, voltage: "${level}", repeats: 2, name: look}\n'
    )
    result = session.run(str(path))
    assert [(each["resistor"], each["range"], each["voltage_V"]) for each in result.references] == [
        (1, "multiply", 0.0),
        (1, "multiply", 0.1),
    ]
    path.write_text(path.read_text().replace("range", "rnage"))
    with pytest.raises(UsageError, match="unknown key 'rnage'"):
        session.run(str(path))


def test_a_board_that_reports_no_reference_reads_is_refused(session):
    controller = session.bench.controllers[DIE]
    identity, clock = controller.hello(), hidden(session).clock_ns
    controller.hello = lambda: replace(identity, capabilities=identity.capabilities - {"reference_reads"})
    session.stations[DIE].identify()
    with pytest.raises(Refused, match="reports no reference_reads"):
        session.run(plan_of(ReferenceStep(resistor=0)))
    assert hidden(session).clock_ns == clock
