"""The story of a task: rows are kept as they are done, the same call goes on, and the page says what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rramlab.base.errors import DataError, Stopped, UsageError
from rramlab.base.folders import shipped
from rramlab.deploy.writing import write_verify_plan
from rramlab.drivers.bench import describe_bench
from rramlab.engine.session import Session
from rramlab.macro.gates import GatePattern
from rramlab.macro.masks import Mask
from rramlab.plan import cost
from rramlab.plan.energy import SOURCES, by_component
from rramlab.report.reproduction.page import markdown, write_report
from rramlab.reproduction import benches, outcomes, results, writing
from rramlab.reproduction.campaign import reproduce
from rramlab.reproduction.outcomes import Outcome, Row
from rramlab.reproduction.summary import TITLES, Gain, Line, Spread, gain, lines
from rramlab.reproduction.tasks import TASKS, Task, task_of
from rramlab.training import Dataset, load_dataset

# The smallest task: digits instead of the paper's data, a few steps.
SMALL = Task(
    "digits",
    "accuracy",
    ("accuracy",),
    TASKS["fashion-mnist"].published,
    quick={"epochs": 2},
    quick_samples=40,
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    found = load_dataset("digits")
    assert isinstance(found, Dataset)
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setitem(TASKS, "digits", SMALL)
    return SMALL


def test_rows_are_kept_and_the_same_call_goes_on(tmp_path: Path, digits: Dataset, small: Task) -> None:
    rows: tuple[Row, ...] = ("edge", "reset", "random", "dense")
    folder, said = tmp_path / "out", []
    asked = iter([False] * 30 + [True] * 1000)
    with pytest.raises(Stopped, match="stopped after epoch 1"):
        reproduce(folder, small, digits, [0], rows, quick=True, stop=lambda: next(asked))
    assert not outcomes.path_of(folder, "edge", 0).exists()
    once = reproduce(folder, small, digits, [0], rows[:2], quick=True)
    outcomes.path_of(folder, "reset", 0).unlink()  # as if it had been killed while dies were pulsed
    found = reproduce(folder, small, digits, [0], rows, quick=True, say=said.append)
    assert found.lines[:2] == once.lines
    assert [outcome.row for outcome in sorted(found.outcomes, key=lambda each: rows.index(each.row))] == list(rows)
    edge, reset, random, dense = found.lines
    assert edge.scores["accuracy"].mean > random.scores["accuracy"].mean + 0.3
    assert (edge.samples, dense.samples) == (40, 0)
    assert edge.pulses == random.pulses == {"electroform": 131072}  # no row sent a pulse after forming
    assert edge.pulses_after_forming == 0
    # Of every pruned pair one cell conducts, so half of the network's weights take one reset each.
    assert reset.pulses["electroform"] == 131072
    assert 0.48 * reset.weights < reset.pulses_after_forming == reset.pulses["reset"] < 0.52 * reset.weights
    assert reset.scores["accuracy"].mean > edge.scores["accuracy"].mean - 0.15
    assert (reset.kept, reset.weights) == (edge.kept, edge.weights)
    assert reset.time_s <= random.time_s < edge.time_s  # one gate pattern a tile, as with nothing pruned
    assert edge.repruning.keys() == {"set", "reset"}
    assert edge.conversions > 0
    assert edge.energy_J.keys() == SOURCES.keys()
    assert len(found.outcomes[0].history) == 2
    assert found.confusion is not None
    assert found.confusion.sum() == 40
    before = {path.name: path.read_bytes() for path in (folder / "outcomes").iterdir()}
    said.clear()
    reproduce(folder, small, digits, [0], rows, quick=True, say=said.append)
    assert not said
    assert {path.name: path.read_bytes() for path in (folder / "outcomes").iterdir()} == before
    with pytest.raises(UsageError, match="another quick"):
        reproduce(folder, small, digits, [0], rows)
    written = write_report(found, folder / "report.html", None)
    text = written.path.read_text()
    for line in found.lines:
        assert line.title in text
    assert "0 pulses after forming" in written.headline


def outcome(row: Row, number: int, accuracy: float, **more: object) -> Outcome:
    return Outcome.model_validate({"row": row, "number": number, "scores": {"accuracy": accuracy}, **more})


def test_the_table_is_means_over_dies_in_its_own_order() -> None:
    found = lines(
        [
            outcome("single-shot", 0, 0.7, samples=10, pulses={"electroform": 4}),
            outcome("edge", 1, 0.9, samples=10, pulses={"electroform": 8}),
            outcome("edge", 0, 0.8, samples=20, pulses={"electroform": 6}),
        ]
    )
    assert [line.row for line in found] == ["edge", "single-shot"]
    edge = found[0]
    assert (edge.dies, edge.samples) == (2, 10)
    assert edge.scores["accuracy"].mean == pytest.approx(0.85)
    assert edge.scores["accuracy"].deviation == pytest.approx(0.1 / 2**0.5)
    assert edge.pulses == {"electroform": 7}


def test_a_gain_is_over_the_same_samples_and_savings_are_of_what_the_other_spends() -> None:
    task = task_of("drive")
    ours, written, software = lines(
        [
            outcome("edge", 0, 0.9, samples=4, pulses={"electroform": 50}, energy_J={"array": 3.0}),
            outcome("single-shot", 0, 0.8, samples=1, pulses={"electroform": 30, "set": 70}, energy_J={"array": 2.0}),
            outcome("dense", 0, 0.95),
        ]
    )

    def with_scores(line: Line, on_chip: float, host: float | None = None) -> Line:
        found = {} if host is None else {"pr_auc": Spread.of([host])}
        return replace(line, scores={"pr_auc": Spread.of([on_chip])}, host=found)

    ours, written = with_scores(ours, 0.9, 0.84), with_scores(written, 0.5, 0.8)
    # The macro computed four images of one and one image of the other: all images on the host are compared.
    assert gain(task, ours, written) == Gain(pytest.approx(0.04), pytest.approx(0.05), True, 0.5, -0.5)
    alike = gain(task, ours, replace(written, samples=4))
    assert (alike.points, alike.host) == (pytest.approx(0.4), False)
    # Software has all images, so ours are those of the host; where the macro computed all of them, they are the macro's.
    dense = with_scores(software, 0.8)
    assert gain(task, ours, dense) == Gain(pytest.approx(0.04), pytest.approx(0.05), True, None, None)
    whole = gain(replace(task, on_chip=None), ours, dense)
    assert (whole.points, whole.host) == (pytest.approx(0.1), False)


def settings(task: str, **more: object) -> dict[str, object]:
    recipe = task_of(task).made(quick=True).model_dump(mode="json")
    return {"task": task, "memory": "published", "quick": True, "recipe": recipe, "classes": ["a", "b"], **more}


def test_a_page_of_every_row_names_it_and_is_one_file(tmp_path: Path) -> None:
    results.begin(tmp_path / "out", settings("spoken-digits"))
    for number in range(2):
        for place, row in enumerate(TITLES):
            more = {"samples": 5, "energy_J": {"array": 1e-3}, "macs": 1000} if place < 7 else {}
            outcomes.save(
                tmp_path / "out", outcome(row, number, 0.5 + 0.05 * place, history=[{"accuracy": 0.3}] * 3, **more)
            )
    results.keep(
        tmp_path / "out",
        Mask({"fc": np.eye(4, dtype=bool)}),
        np.full((1, 8, 8), 1e-5, np.float32),
        np.array([[3, 1], [0, 4]]),
        {},
    )
    found = results.Results.load(tmp_path / "out")
    written = write_report(found, tmp_path / "report.html")
    text = written.path.read_text()
    for title in TITLES.values():
        assert title in text
    assert "http" not in text.replace("http://www.w3.org", "")  # it needs no network
    assert text.count("<svg") == 7
    scores, costs, gains, pulses, energy = (table.splitlines() for table in markdown(found).split("\n\n"))
    assert len(scores) == 2 + len(TITLES)
    assert len(costs) == 2 + 7  # software costs the macro nothing
    assert len(gains) == 2 + len(TITLES) - 3  # nobody is compared with himself
    assert len(pulses) == len(energy) == 2 + 7 - 3
    assert pulses[2].count("|") == 2  # nobody here sent a pulse
    assert {cell.strip() for cell in energy[2].split("|")[2:5]} == {"0.0%"}


def test_a_row_whose_training_is_another_rows_has_no_picture_of_epochs(tmp_path: Path) -> None:
    results.begin(tmp_path / "out", settings("spoken-digits"))
    outcomes.save(tmp_path / "out", outcome("single-shot", 0, 0.5, samples=5, history=[{"accuracy": 0.3}]))
    written = write_report(results.Results.load(tmp_path / "out"), tmp_path / "report.html", tmp_path / "figures")
    assert "weights trained, each cell written once" in written.path.read_text()
    assert not list((tmp_path / "figures").glob("epochs*"))


def test_a_folder_of_before_a_recipe_key_was_known_goes_on(tmp_path: Path) -> None:
    now = settings("drive")
    recipe = now["recipe"]
    assert isinstance(recipe, dict)
    results.begin(tmp_path / "out", {**now, "recipe": {key: recipe[key] for key in recipe if key != "stretch"}})
    results.begin(tmp_path / "out", now)
    with pytest.raises(UsageError, match="another recipe"):
        results.begin(tmp_path / "out", {**now, "recipe": {**recipe, "stretch": [1.0]}})


def test_folders_are_not_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    results.begin(folder, settings("drive"))
    results.begin(folder, settings("drive"))
    with pytest.raises(UsageError, match="another memory"):
        results.begin(folder, settings("drive", memory="phase-change"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is no reproduction"):
        results.begin(tmp_path / "full", settings("drive"))
    outcomes.path_of(folder, "edge", 0).parent.mkdir()
    outcomes.path_of(folder, "edge", 0).write_text(json.dumps({"row": "edge"}))
    with pytest.raises(DataError, match="delete it, and it is measured again"):
        results.Results.load(folder)


def test_components_add_up_to_what_products_cost_and_name_their_sources() -> None:
    board = describe_bench(shipped().path).board
    kept = np.zeros((board.geometry.rows, board.geometry.pairs), bool)
    kept[:100, :7] = True
    pattern = GatePattern.of_pairs(kept)
    parts = by_component([(pattern, 5, 4), (pattern, 3, 4)], board)
    assert parts.keys() == SOURCES.keys()
    assert all(value > 0 for value in parts.values())
    whole = cost.multiply(pattern, 8, 4, board)
    assert parts["array"] + parts["converters"] == pytest.approx(whole.energy_J)
    assert parts["converters"] == pytest.approx(whole.conversions * board.conversion_energy_J)


@pytest.fixture(scope="module")
def one_die(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], object]:
    folder = tmp_path_factory.mktemp("written") / "bench"
    return lambda: benches.virgin(folder, ["w-0"])


def test_weights_are_written_with_and_without_verify(one_die: Callable[[], object]) -> None:
    rng = np.random.default_rng(0)
    description = one_die()
    target = np.full((1, 512, 512), np.nan, np.float32)
    target[0, :8, :64] = rng.choice([0.0, 4e-6, 8e-6, 14e-6], (8, 64))
    curve = ((0.8, 1.6, 3.0), (7e-6, 12.2e-6, 20e-6))
    written = target[0] > 0
    writing.once(description, ["w-0"], target, curve)
    assert writing.pulses(description) == {"electroform": np.count_nonzero(written)}
    with Session(description) as session:
        counts = session.stations["w-0"].ledger.pulse_counts()
        np.testing.assert_array_equal(counts, written)  # one pulse, and to no other cell
        once = session.macro.read("all", 4)
        session.run(write_verify_plan(target[0], 1e-6, 20), arm="w-0")
        verified = session.macro.read("all", 4)
        counts = session.stations["w-0"].ledger.pulse_counts()
    assert counts[written].max() <= 21
    assert not counts[~written].any()

    def worst(found: np.ndarray) -> float:
        return float(np.mean(np.abs(found - target[0])[written] > 1.5e-6))

    assert worst(verified) < 0.3
    assert worst(once) > 1.3 * worst(verified)


def test_a_gate_is_found_for_a_conductance_between_those_tried() -> None:
    curve = ((0.8, 1.6, 3.0), (6e-6, 12e-6, 24e-6))
    assert writing.gate_for(12e-6, curve) == 1.6
    assert writing.gate_for(6e-6 * 2**0.5, curve) == pytest.approx(1.2)
    assert (writing.gate_for(1e-6, curve), writing.gate_for(1e-3, curve)) == (0.8, 3.0)


def test_nothing_to_write_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to write"):
        write_verify_plan(np.zeros((4, 4), np.float32), 1e-6, 10)


def test_an_unknown_task_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="known: fashion-mnist, spoken-digits, drive"):
        task_of("imagenet")
