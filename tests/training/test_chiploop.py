"""Training with the chip in the loop: what is asked of the dies, how often, and that no die is pulsed for it."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from workbench import SmallBench, copy_bench, forming_plan, ledger_of, tampered

import rramlab
from rramlab.base.errors import InstrumentError, UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.placement import Placement
from rramlab.nn import MaskedLinear, load_weights, masked_layers
from rramlab.training import Checkpoint, Dataset, fit, load_recipe
from rramlab.training.chiploop import ChipLoop, origin_of, read_dies

DIES = ("small-1", "small-2")
EVERY = 3
MODES = ("weights", "multiply")


def network():
    """The first layer has more inputs than a die has rows: it lies on both dies."""
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(8, affine=False)
    return nn.Sequential(nn.Flatten(), MaskedLinear(40, 8), norm, MaskedLinear(8, 3, rectify=True))


def placed(model):
    layers = {name: layer.shape for name, layer in masked_layers(model).items()}
    return Placement.pack(layers, Geometry(32, 16), 8, len(DIES))


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """Bench folders with two formed dies of each preset, made once and copied for each test."""
    folders = {}
    for preset in ("published", "ideal"):
        options = f"preset: {preset}"
        bench = SmallBench(tmp_path_factory.mktemp(preset), dies=dict.fromkeys(DIES, options))
        bench.board_options = f"{{{options}}}"
        with bench.write().open() as session:
            for number, die in enumerate(DIES):
                session.run(forming_plan(f"one-of-pair(seed={number})", block_rows=64), arm=die, die=die)
        folders[preset] = bench.folder
    return folders


@contextmanager
def opened(folder, copy):
    """Open a copy; whatever is done with it, no die may get a pulse."""
    copy_bench(folder, copy)
    with rramlab.open_bench(copy) as session:
        before = pulses(session)
        yield session
        assert np.array_equal(pulses(session), before)


@pytest.fixture
def session(formed, tmp_path):
    with opened(formed["published"], tmp_path / "lab") as found:
        yield found


@pytest.fixture
def ideal(formed, tmp_path):
    """Dies without noise on a board without errors."""
    with opened(formed["ideal"], tmp_path / "ideal") as found:
        yield found


@pytest.fixture
def data():
    """Three classes of 40 pixels that differ in where they are bright."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    means = rng.random((3, 40)).astype(np.float32)
    x = np.clip(means[labels] + 0.15 * rng.standard_normal((200, 40)), 0, 1).astype(np.float32)
    x = x.reshape(-1, 1, 5, 8)
    return Dataset("stripes", x[:150], labels[:150], x[150:], labels[150:], ("a", "b", "c"))


RECIPE = load_recipe("digits").changed({"epochs": 2, "batch": 15, "learning_rate": 0.2})


def pulses(session):
    return np.stack([ledger_of(session, die).pulse_counts() for die in DIES])


def conversions(session):
    return [session.macros[die].conversions for die in DIES]


def loaded(session, model):
    """Give the network its dies' weights; return its placement."""
    placement = placed(model)
    read, taken = read_dies(session.macros, DIES, placement, 4)
    load_weights(model, placement.weights(read), origin_of(taken))
    return placement


def loop(session, placement, mode, every=EVERY):
    return ChipLoop(mode, session.macros, DIES, placement, every)


def conductances(model):
    return [layer.conductance.clone() for layer in masked_layers(model).values()]


def sizes(model):
    """The median conductance of each layer."""
    return np.array([float(each.abs().median()) for each in conductances(model)])


def differ(some, others):
    return [not torch.equal(one, other) for one, other in zip(some, others, strict=True)]


@pytest.mark.parametrize("mode", MODES)
def test_conductances_are_read_anew_every_so_many_steps_and_not_between(session, mode):
    model = network()
    placement = loaded(session, model)
    scales = [float(layer.scale) for layer in masked_layers(model).values()]
    with loop(session, placement, mode).around(model) as before_step:
        for step in range(2 * EVERY + 1):
            known = conductances(model)
            before_step(step)
            # Two reads of the same cell differ by its read noise.
            assert differ(conductances(model), known) == [step % EVERY == 0] * 2
    assert [float(layer.scale) for layer in masked_layers(model).values()] == scales
    assert {layer.origin["die"] for layer in masked_layers(model).values()} == {"small-1, small-2"}


def test_what_is_trained_is_what_the_dies_have_become(session):
    model = network()
    placement = loaded(session, model)
    known = sizes(model)
    with loop(session, placement, "weights").around(model) as before_step:
        before_step(0)
        for die in DIES:
            tampered(session, die).conductance_S[:] *= np.float32(0.8)
        before_step(1)
        assert sizes(model) == pytest.approx(known, rel=0.03)
        before_step(EVERY)
        assert sizes(model) == pytest.approx(0.8 * known, rel=0.03)


def test_with_weights_in_the_loop_products_are_the_hosts(session, data):
    model = network()
    placement = loaded(session, model)
    with loop(session, placement, "weights").around(model) as before_step:
        assert all(layer.multiply is None for layer in masked_layers(model).values())
        fit(model, RECIPE, data, before_step=before_step)
    assert conversions(session) == [0, 0]


def test_with_multiply_in_the_loop_every_product_is_the_dies(session, data):
    model = network()
    placement = loaded(session, model)
    x = torch.from_numpy(data.train_x[:10])
    model(x)
    with loop(session, placement, "multiply").around(model):
        for _ in range(2):
            before = conversions(session)
            model(x)
            assert all(now > then for now, then in zip(conversions(session), before, strict=True))
        model.eval()
        with torch.no_grad():
            before = conversions(session)
            model(x)
            assert all(now > then for now, then in zip(conversions(session), before, strict=True))


def test_the_gradient_of_measured_products_is_that_of_the_host(ideal):
    """Of one layer with a fixed weight on each output, the gradient does not depend on the output's value."""
    torch.manual_seed(2)
    model = nn.Sequential(MaskedLinear(40, 8))
    placement = loaded(ideal, model)
    (layer,) = masked_layers(model).values()
    x, slope = torch.rand(30, 40), torch.randn(8)
    values, gradients = [], []
    for chip in (False, True):
        layer.scores.grad = None
        if chip:
            with loop(ideal, placement, "multiply").around(model):
                found = model(x)
        else:
            found = model(x)
        (found @ slope).sum().backward()
        values.append(found.detach())
        gradients.append(layer.scores.grad.clone())
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)
    # Ideal dies: only converters differ.
    assert not torch.equal(*values)
    assert np.corrcoef(*(each.flatten() for each in values))[0, 1] > 0.999


def test_the_mask_that_a_step_learned_is_the_one_of_the_next_product(ideal):
    torch.manual_seed(2)
    model = nn.Sequential(MaskedLinear(40, 8))
    placement = loaded(ideal, model)
    (layer,) = masked_layers(model).values()
    x = torch.rand(30, 40)
    with loop(ideal, placement, "multiply").around(model):
        first = model(x).detach()
        with torch.no_grad():
            layer.scores.copy_(-layer.scores.abs().max() / (1e-3 + layer.scores.abs()))  # what was weak is strong
        chip = model(x).detach()
    host = model(x).detach()
    assert np.corrcoef(chip.flatten(), host.flatten())[0, 1] > 0.999
    assert np.corrcoef(chip.flatten(), first.flatten())[0, 1] < 0.9


@pytest.mark.parametrize("mode", MODES)
def test_a_network_learns_on_its_dies(session, data, mode):
    model = network()
    placement = loaded(session, model)
    scores = [layer.scores.detach().clone() for layer in masked_layers(model).values()]
    with loop(session, placement, mode).around(model) as before_step:
        training = fit(model, RECIPE, data, before_step=before_step)
        assert training.accuracy > 0.7
    assert all(differ(scores, [layer.scores for layer in masked_layers(model).values()]))
    assert (sum(conversions(session)) > 0) == (mode == "multiply")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("failing", [True, False])
def test_behind_the_block_the_host_computes(session, mode, failing):
    model = network()
    placement = loaded(session, model)
    x = torch.rand(20, 1, 5, 8)
    try:
        with loop(session, placement, mode).around(model) as before_step:
            before_step(0)
            model(x)
            if failing:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    before = conversions(session)
    model.eval()
    functional.cross_entropy(model(x), torch.zeros(20, dtype=torch.int64)).backward()
    assert conversions(session) == before
    assert all(layer.multiply is None for layer in masked_layers(model).values())


class Lost:
    """A die whose link is lost after so many products."""

    def __init__(self, macro, left):
        self._macro, self.left = macro, left

    def __getattr__(self, name):
        return getattr(self._macro, name)

    def multiply(self, *arguments):
        self.left -= 1
        if self.left < 0:
            raise InstrumentError("the board does not answer")
        return self._macro.multiply(*arguments)


def test_a_link_that_is_lost_costs_the_epoch_and_no_more(session, data, tmp_path):
    recipe = RECIPE.changed({"epochs": 3})
    path = tmp_path / "checkpoint.pt"
    model = network()
    placement = loaded(session, model)
    first_read = conductances(model)
    macros = {DIES[0]: session.macros[DIES[0]], DIES[1]: Lost(session.macros[DIES[1]], 40)}  # two a forward pass
    with (
        pytest.raises(InstrumentError, match="does not answer"),
        ChipLoop("multiply", macros, DIES, placement, EVERY).around(model) as before_step,
    ):
        fit(model, recipe, data, checkpoint=path, before_step=before_step)
    assert all(layer.multiply is None for layer in masked_layers(model).values())
    assert Checkpoint.load(path).epoch == 1
    again = network()
    load_weights(again, {name: w.numpy() for name, w in zip(masked_layers(again), first_read, strict=True)})
    with loop(session, placement, "multiply").around(again) as before_step:
        training = fit(again, recipe, data, checkpoint=path, resume=True, before_step=before_step)
    assert [result.epoch for result in training.history] == [1, 2, 3]


def test_a_placement_of_another_network_is_refused(session):
    placement = loaded(session, network())
    stranger = nn.Sequential(MaskedLinear(40, 3))
    with (
        pytest.raises(UsageError, match="another network"),
        loop(session, placement, "multiply").around(stranger),
    ):
        pass


def test_only_what_is_placed_is_read(session):
    placement = placed(network())
    read, taken = read_dies(session.macros, DIES, placement, 1)
    assert read.shape == (2, 32, 16)
    assert [each.die for each in taken] == list(DIES)
    for number, known in enumerate(read):
        assert np.array_equal(~np.isnan(known), placement.used(number).bits)
