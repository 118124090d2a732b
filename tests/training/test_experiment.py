"""An experiment on dies that are only as real as it needs: forming, read noise, and when a read no longer holds."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from rramlab.base.errors import DataError, InstrumentError, OutOfLimits, UsageError
from rramlab.macro.conditions import OLDEST, WARMER_C, Conditions
from rramlab.nn import masked_layers
from rramlab.protocols.files import parse_assignments
from rramlab.training import Dataset, load_dataset, load_recipe
from rramlab.training.experiment import CHANGED_SHARE, Experiment

RECIPE = load_recipe("digits").changed({"epochs": 1})
DIGITS = load_dataset("digits")


@dataclass
class Die:
    """What a training asks of a macro: conditions, and reads that come out a little different each time."""

    die_id: str
    board: object
    conductance_S: np.ndarray
    noise: float = 0.02
    now: Conditions = None
    reads: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self):
        self.now = Conditions(self.die_id, datetime(2026, 3, 1, tzinfo=UTC), 25.0, "", 7)

    @property
    def geometry(self):
        return self.board.geometry

    def conditions(self):
        return self.now

    def read(self, cells, repeats=1):
        self.reads += repeats
        noise = self.noise / np.sqrt(repeats) * self.rng.standard_normal(self.geometry.shape)
        return np.where(cells.bits, self.conductance_S * (1 + noise), np.nan).astype(np.float32)


def formed(table, forming="one-of-pair", share=1.0, seed=0):
    """Conductances of a die whose cells were given one pulse, of which ``share`` conduct."""
    rng = np.random.default_rng(seed)
    rows, columns = table.geometry.shape
    pulsed = np.ones((rows, columns // 2, 2), bool)
    if forming == "one-of-pair":
        pulsed = rng.integers(0, 2, (rows, columns // 2, 1)) == np.arange(2)
    conducting = pulsed.reshape(rows, columns) & (rng.random((rows, columns)) < share)
    return np.where(conducting, 12.2e-6 * np.exp(0.1475 * rng.standard_normal((rows, columns))), 1e-7)


@pytest.fixture
def die(table):
    return Die("d1", table, formed(table))


def begun(folder, die, recipe=RECIPE, **more):
    return Experiment.begin(folder / "mine", recipe, {die.die_id: die}, DIGITS, **more)


@pytest.fixture
def trained(tmp_path, die, digits):
    experiment = begun(tmp_path, die)
    experiment.train(digits, resume=False)
    return experiment


# forming ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forming", ["all", "partial", "one-of-pair"])
def test_a_die_that_is_not_formed_is_refused_with_how_to_form_it(tmp_path, table, forming):
    recipe, virgin = RECIPE.changed({"forming": forming}), Die("d1", table, np.full(table.geometry.shape, 1e-7))
    with pytest.raises(UsageError, match="not formed") as caught:
        begun(tmp_path, virgin, recipe)
    assert not (tmp_path / "mine").exists()
    # As a person copies it into a shell.
    words = shlex.split(str(caught.value).partition("rramlab ")[2])
    assert words[:6] == ["run", "electroform", "--die", "d1", "--arm", "d1"]
    assert words[6::2] == ["--set"] * (len(words[6:]) // 2)
    expected = {key: str(value) for key, value in recipe.forming_parameters().items()}
    assert parse_assignments(words[7::2]) == expected


@pytest.mark.parametrize(
    ("recipe", "die", "fits"),
    [
        ("all", "all", True),
        ("one-of-pair", "one-of-pair", True),
        ("all", "one-of-pair", False),
        ("one-of-pair", "all", False),
    ],
)
def test_a_recipe_is_for_dies_that_are_formed_as_it_says(tmp_path, table, recipe, die, fits):
    found = Die("d1", table, formed(table, die))
    asked = RECIPE.changed({"forming": recipe})
    if fits:
        assert begun(tmp_path, found, asked).dies == ("d1",)
    else:
        with pytest.raises(UsageError, match="--set forming"):
            begun(tmp_path, found, asked)


@pytest.mark.parametrize("share", [0.2, 0.55, 0.9])
def test_partial_forming_is_taken_where_so_many_cells_conduct(tmp_path, table, share):
    recipe = RECIPE.changed({"forming": "partial", "formed_fraction": share})
    experiment = begun(tmp_path, Die("d1", table, formed(table, "all", share)), recipe)
    weights = torch.cat([layer.conductance.flatten() for layer in masked_layers(experiment.model()).values()])
    # Both cells or none of a pair: its weight is small, or nothing.
    assert float((weights.abs() > 5e-6).float().mean()) == pytest.approx(2 * share * (1 - share), abs=0.05)


# reading ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_the_read_noise_is_measured_where_the_recipe_asks_for_it(tmp_path, table, noise):
    die = Die("d1", table, formed(table), noise)
    experiment = begun(tmp_path, die, RECIPE.changed({"read_noise": "measured"}))
    assert experiment.read_noise == pytest.approx(noise, rel=0.02)
    loaded = Experiment.load(experiment.folder)
    assert loaded.read_noise == experiment.read_noise
    assert {layer.read_noise for layer in masked_layers(loaded.model()).values()} == {loaded.read_noise}


def test_a_recipe_with_a_read_noise_of_its_own_measures_none(tmp_path, die):
    experiment = begun(tmp_path, die)
    assert experiment.read_noise is None
    assert die.reads == 4
    assert {layer.read_noise for layer in masked_layers(experiment.model()).values()} == {RECIPE.read_noise}


def test_dies_that_are_not_needed_are_not_read(tmp_path, table):
    dies = {name: Die(name, table, formed(table, seed=number)) for number, name in enumerate("abc")}
    experiment = Experiment.begin(tmp_path / "mine", RECIPE, dies, DIGITS)
    assert (experiment.dies, experiment.placement.dies) == (("a",), 1)
    assert (dies["b"].reads, dies["c"].reads) == (0, 0)


def test_an_experiment_survives_its_folder(tmp_path, die):
    experiment = begun(tmp_path, die)
    loaded = Experiment.load(experiment.folder)
    assert (loaded.recipe, loaded.taken, loaded.placement) == (experiment.recipe, (die.now,), experiment.placement)
    assert np.array_equal(loaded.conductance_S, experiment.conductance_S, equal_nan=True)
    one, other = experiment.model().state_dict(), loaded.model().state_dict()
    assert torch.equal(one["fc2.conductance"], other["fc2.conductance"])
    origin = {"die": "d1", "taken_at": "2026-03-01T00:00:00+00:00", "calibration": ""}
    assert one["fc2._extra_state"].items() >= origin.items()


def test_the_chip_in_the_loop_needs_its_dies(tmp_path, die, digits):
    experiment = begun(tmp_path, die, RECIPE.changed({"in_the_loop": "weights"}))
    with pytest.raises(UsageError, match="needs its dies"):
        experiment.train(digits, resume=False)
    assert not experiment.checkpoint.exists()


# when a read no longer holds ----------------------------------------------------------------------------------------------


def test_a_network_may_be_used_while_its_die_is_what_it_was(trained, die):
    trained.require_current({"d1": die})
    die.now = replace(die.now, taken_at=die.now.taken_at + OLDEST, temperature_C=25 + WARMER_C, operation=99)
    trained.require_current({"d1": die})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"taken_at": datetime(2026, 3, 31, tzinfo=UTC)}, "30 days old"),
        ({"temperature_C": 60.0}, "25 °C and the board is at 60 °C"),
        ({"temperature_C": -10.0}, "25 °C and the board is at -10 °C"),
    ],
)
def test_a_stale_read_is_refused_with_the_remedy(trained, die, change, words):
    die.now = replace(die.now, **change)
    with pytest.raises(DataError, match=rf"(?s){words}.*rramlab adapt mine"):
        trained.require_current({"d1": die})


@pytest.mark.parametrize(("share", "fits"), [(0.5 * CHANGED_SHARE, True), (2 * CHANGED_SHARE, False), (0.5, False)])
def test_cells_that_were_lost_since_are_found(trained, die, share, fits):
    die.conductance_S = np.where(np.random.default_rng(1).random(die.geometry.shape) < share, 1e-7, die.conductance_S)
    if fits:
        trained.require_current({"d1": die})
    else:
        with pytest.raises(OutOfLimits, match=r"no longer what 'mine' was trained on.*rramlab adapt mine"):
            trained.require_current({"d1": die})


def test_what_it_prunes_may_be_lost_it_was_deployed_by_reset_before(trained, die):
    mask = trained.mask(trained.trained())
    pruned = trained.placement.used().bits & ~trained.placement.cells(mask).bits
    die.conductance_S = np.where(pruned, 1e-7, die.conductance_S)
    trained.require_current({"d1": die})


# adapting -----------------------------------------------------------------------------------------------------------------


def test_an_adapted_network_begins_with_what_was_learned_on_weights_that_are_read_now(tmp_path, table, trained):
    other = Die("d2", table, formed(table, seed=5))
    adapted = Experiment.begin(tmp_path / "again", RECIPE, {"d2": other}, DIGITS, trained)
    assert (adapted.adapted_from, adapted.dies) == ("mine", ("d2",))
    for experiment in (adapted, Experiment.load(adapted.folder)):
        begins, learned = experiment.model().state_dict(), trained.trained().state_dict()
        of_the_die = ("conductance", "scale", "_extra_state", "kept_weights", "switches")
        same = [name for name in learned if not name.endswith(of_the_die)]
        assert {"fc1.scores", "norm1.running_mean"} <= set(same)
        assert all(torch.equal(begins[name], learned[name]) for name in same)
        assert not torch.equal(begins["fc1.conductance"], learned["fc1.conductance"])
        assert begins["fc1._extra_state"]["die"] == "d2"
        assert begins["fc1.switches"].tolist() == [learned["fc1.switches"][0], 0, 0]  # switches are counted anew


@pytest.mark.parametrize(
    "changes",
    [{"kept": 0.2}, {"granularity": "phase", "phases": 8}, {"granularity": "phase", "phases": 4, "assignment": "adc"}],
)
def test_an_adapted_network_is_what_its_own_recipe_says(tmp_path, die, digits, trained, changes):
    recipe = RECIPE.changed(changes)
    adapted = Experiment.begin(tmp_path / "again", recipe, {"d1": die}, DIGITS, trained)
    model, _ = adapted.train(digits, resume=False)
    fresh = masked_layers(recipe.model())
    for name, layer in masked_layers(model).items():
        assert int(layer.kept_weights) == int(fresh[name].kept_weights)
        assert layer.mask().float().mean() == pytest.approx(recipe.kept, abs=0.1)
        if layer.phase is not None:
            assert torch.equal(layer.phase, fresh[name].phase)


def test_other_data_than_it_was_begun_with_are_refused(tmp_path, trained, digits):
    other = replace(digits, train_x=np.ascontiguousarray(digits.train_x[::-1]))
    with pytest.raises(DataError, match="begun with other data"):
        trained.train(other, resume=True)


def test_what_an_older_training_left_does_not_stay(tmp_path, die, trained):
    (trained.folder / "mask.npz").write_bytes(b"of the older one")
    assert trained.log.exists()
    begun(tmp_path, die)
    assert not (trained.folder / "mask.npz").exists()
    assert not trained.log.exists()


def test_a_log_that_was_not_written_is_written_when_it_goes_on(trained, digits):
    trained.log.unlink()
    trained.train(digits, resume=True)
    assert len(trained.log.read_text().splitlines()) == 1 + trained.recipe.epochs


def test_reads_under_another_compensation_do_not_speak_of_the_same_cells(trained, die):
    die.now = replace(die.now, compensated=True)
    with pytest.raises(DataError, match=r"compensation in bench\.yaml"):
        trained.require_current({"d1": die})


def test_a_die_whose_cells_are_all_formed_is_adapted_after_its_deployment_by_reset(tmp_path, table, digits):
    recipe = RECIPE.changed({"forming": "all", "kept": 0.3})
    die = Die("d1", table, formed(table, "all"))
    experiment = begun(tmp_path, die, recipe)
    experiment.train(digits, resume=False)
    gone = experiment.placement.used().bits & ~experiment.placement.cells(experiment.mask(experiment.trained())).bits
    die.conductance_S = np.where(gone, 1e-7, die.conductance_S)
    Experiment.begin(tmp_path / "again", recipe, {"d1": die}, digits, experiment)


def test_the_noise_of_a_weight_is_that_of_both_its_cells(tmp_path, table):
    die = Die("d1", table, formed(table, "all"))
    recipe = RECIPE.changed({"forming": "all", "read_noise": 0.02, "kept": 1.0})
    model = begun(tmp_path, die, recipe).model().train()
    layer = masked_layers(model)["fc2"]
    spread = torch.stack([layer.weights().detach() for _ in range(300)]).std(dim=0) / layer.scale
    assert float(spread.mean()) == pytest.approx(0.02 * 12.3e-6 * 2**0.5, rel=0.1)


def test_a_network_that_was_not_trained_to_its_end_is_not_adapted(tmp_path, die, digits):
    experiment = begun(tmp_path, die, RECIPE.changed({"epochs": 3}))
    with pytest.raises(DataError, match="no checkpoint yet"):
        Experiment.begin(tmp_path / "again", RECIPE, {"d1": die}, DIGITS, experiment)
    steps = iter(range(60))  # 23 an epoch
    experiment.train(digits, resume=False, stop=lambda: next(steps, None) is None)
    with pytest.raises(DataError, match="stopped after epoch 2 of 3"):
        Experiment.begin(tmp_path / "again", RECIPE, {"d1": die}, DIGITS, experiment)
    assert not (tmp_path / "again").exists()


def test_a_training_of_another_network_is_not_adapted(tmp_path, die, trained):
    images, labels = np.zeros((60, 1, 28, 28), np.float32), np.arange(60) % 10
    data = Dataset("images", images, labels, images, labels, tuple("0123456789"))
    with pytest.raises(UsageError, match="another network"):
        Experiment.begin(tmp_path / "again", load_recipe("fashion-mnist"), {"d1": die}, data, trained)
    assert not (tmp_path / "again").exists()


def test_a_network_of_few_kept_weights_is_adapted_after_its_deployment_by_reset(tmp_path, die, digits):
    experiment = begun(tmp_path, die, RECIPE.changed({"kept": 0.2}))
    experiment.train(digits, resume=False)
    mask = experiment.mask(experiment.trained())
    gone = experiment.placement.used().bits & ~experiment.placement.cells(mask).bits
    die.conductance_S = np.where(gone, 1e-7, die.conductance_S)
    experiment.require_current({"d1": die})
    Experiment.begin(tmp_path / "again", experiment.recipe, {"d1": die}, digits, experiment)


def test_cells_that_appeared_since_are_found(trained, die):
    die.conductance_S = np.full(die.geometry.shape, 1.2e-5)
    with pytest.raises(OutOfLimits, match="no longer what"):
        trained.require_current({"d1": die})


# on the reads of an earlier training ----------------------------------------------------------------------------------------


def masks_of(experiment, digits):
    model, training = experiment.train(digits, resume=False)
    return experiment.mask(model).layers, training.history


def test_two_trainings_read_the_die_anew_and_come_to_two_masks(tmp_path, die, digits):
    (first, _), (second, _) = (masks_of(begun(tmp_path / name, die), digits) for name in "ab")
    assert any(not np.array_equal(mask, second[name]) for name, mask in first.items())


@pytest.mark.parametrize("changes", [{}, {"read_noise": "measured"}, {"granularity": "phase", "phases": 8}])
def test_a_training_on_the_reads_of_another_comes_to_its_mask_bit_for_bit(tmp_path, die, digits, changes):
    recipe = RECIPE.changed(changes)
    first = begun(tmp_path / "a", die, recipe)
    mask, history = masks_of(first, digits)
    again = begun(tmp_path / "b", die, recipe, reads_of=Experiment.load(first.folder))
    assert (again.reads_of, Experiment.load(again.folder).reads_of) == ("mine", "mine")
    for experiment in (again, Experiment.load(again.folder)):
        found, other = masks_of(experiment, digits)
        assert all(np.array_equal(layer, found[name]) for name, layer in mask.items())
        assert [replace(each, seconds=0.0) for each in other] == [replace(each, seconds=0.0) for each in history]


def test_another_recipe_learns_on_the_same_reads(tmp_path, die, digits):
    first = begun(tmp_path / "a", die)
    again = begun(tmp_path / "b", die, RECIPE.changed({"seed": 5, "kept": 0.3}), reads_of=first)
    assert np.array_equal(again.conductance_S, first.conductance_S, equal_nan=True)
    assert not np.array_equal(masks_of(first, digits)[0]["fc1"], masks_of(again, digits)[0]["fc1"])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"now": {"taken_at": datetime(2026, 3, 31, tzinfo=UTC)}}, DataError, "stale: it is 30 days old"),
        ({"now": {"temperature_C": 60.0}}, DataError, "stale: it was taken at 25"),
        ({"lost": 0.05}, OutOfLimits, "no longer what 'mine' was trained on"),
        ({"recipe": {"in_the_loop": "weights"}}, UsageError, "no two such trainings are alike"),
        ({"die": "d2"}, UsageError, "are of die d1, not of d2"),
        ({"network": "fashion-cnn"}, UsageError, "its network is another one"),
    ],
)
def test_reads_that_are_not_the_die_are_refused_before_anything_is_written(tmp_path, table, die, change, error, words):
    first = begun(tmp_path / "a", die)
    recipe, data = RECIPE.changed(change.get("recipe", {})), DIGITS
    if "network" in change:
        images, labels = np.zeros((60, 1, 28, 28), np.float32), np.arange(60) % 10
        recipe = load_recipe("fashion-mnist")
        data = Dataset("images", images, labels, images, labels, tuple("0123456789"))
    die.now = replace(die.now, **change.get("now", {}))
    lost = np.random.default_rng(1).random(die.geometry.shape) < change.get("lost", 0.0)
    die.conductance_S = np.where(lost, 1e-7, die.conductance_S)
    here = Die(change["die"], table, formed(table, seed=5)) if "die" in change else die
    with pytest.raises(error, match=words):
        Experiment.begin(tmp_path / "b", recipe, {here.die_id: here}, data, reads_of=first)
    assert not (tmp_path / "b").exists()


def test_cells_that_a_deployment_reset_are_no_longer_what_was_read(tmp_path, trained, die):
    """For its own mask that is of no matter (it may be used); another one could keep them."""
    pruned = trained.placement.used().bits & ~trained.placement.cells(trained.mask(trained.trained())).bits
    die.conductance_S = np.where(pruned, 1e-7, die.conductance_S)
    trained.require_current({"d1": die})
    with pytest.raises(OutOfLimits, match="Train on a read of your own"):
        begun(tmp_path / "b", die, reads_of=trained)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_read_that_is_no_number_is_refused_and_nothing_written(tmp_path, die, value):
    die.conductance_S[17, 5] = value
    with pytest.raises(InstrumentError, match=r"die 'd1' gave no number for 1 of .* row 17, column 5"):
        begun(tmp_path, die)
    assert not (tmp_path / "mine").exists()


def test_a_network_is_not_used_where_a_read_gives_no_number(trained, die):
    row, column = np.argwhere(trained.placement.used().bits)[0]
    die.conductance_S[row, column] = np.nan
    with pytest.raises(InstrumentError, match=f"row {row}, column {column}"):
        trained.require_current({"d1": die})
