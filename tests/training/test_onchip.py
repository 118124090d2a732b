"""A trained network on the die: every product of its masked layers is the macro's."""

import numpy as np
import pytest
import torch
from torch import nn
from workbench import SmallBench, forming_plan

from rramlab.base.errors import DataError, UsageError
from rramlab.deploy import Deployment
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.nn import MaskedConv2d, MaskedLinear, load_weights, masked_layers, masks
from rramlab.training import load_dataset, load_recipe
from rramlab.training.experiment import Experiment
from rramlab.training.onchip import chip_in_the_loop

IDEAL = {"dies": {"small-1": "preset: ideal"}, "board_options": "{preset: ideal}"}


class Network(nn.Module):
    """A convolution whose 36 inputs need two tiles of a 32-row die, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = MaskedConv2d(4, 3, 3)
        self.linear = MaskedLinear(12, 2)

    def forward(self, x):
        return self.linear(torch.relu(self.conv(x)).flatten(1))


@pytest.fixture
def on_die(tmp_path):
    """A formed ideal die with the network's mask deployed by gate, the network, and its session."""
    bench = SmallBench(tmp_path / "ideal", **IDEAL).write()
    torch.manual_seed(0)
    model = Network()
    with bench.open() as session:
        session.run(forming_plan(block_rows=64), arm="small-1")
        shapes = {name: layer.shape for name, layer in masked_layers(model).items()}
        placement = Placement.pack(shapes, session.macro.geometry, 8)
        conductance = session.macro.read(placement.used())
        load_weights(model, placement.weights(conductance))
        model(torch.rand(50, 4, 4, 4))  # follows the activation ranges
        model.eval()
        deployment = Deployment("d", ("small-1",), (), placement, Mask(masks(model)), conductance[None], {})
        yield session, model, deployment


def test_the_chip_computes_what_the_host_does(on_die):
    session, model, deployment = on_die
    x = torch.rand(40, 4, 4, 4)
    with torch.no_grad():
        host = model(x)
        with chip_in_the_loop(model, session.macros, deployment):
            before = session.macro.conversions
            chip = model(x)
            assert session.macro.conversions > before
        again = model(x)
    # An ideal die: only converters differ, each product to half a code of 61 nS a conversion.
    assert torch.equal(host, again)
    assert np.corrcoef(host.flatten(), chip.flatten())[0, 1] > 0.999


def test_a_split_layer_is_summed_digitally(on_die):
    _, _, deployment = on_die
    assert len(deployment.placement.of("conv")) == 2


def test_the_loop_is_open_again_after_an_error(on_die):
    session, model, deployment = on_die
    with pytest.raises(ZeroDivisionError), chip_in_the_loop(model, session.macros, deployment):
        raise ZeroDivisionError
    assert all(layer.multiply is None for layer in masked_layers(model).values())


def test_a_deployment_of_another_die_or_network_is_refused(on_die):
    session, model, deployment = on_die
    other = Deployment("d", ("small-2",), (), deployment.placement, deployment.mask, deployment.conductance_S, {})
    with pytest.raises(UsageError, match="small-2"), chip_in_the_loop(model, session.macros, other):
        pass
    stranger = nn.Sequential(MaskedLinear(3, 2))
    with pytest.raises(UsageError, match="another network"), chip_in_the_loop(stranger, session.macros, deployment):
        pass


def test_a_network_that_does_not_fit_is_refused_before_any_training(tmp_path):
    with SmallBench(tmp_path / "small").write().open() as session, pytest.raises(UsageError, match="does not fit"):
        Experiment.begin(tmp_path / "experiment", load_recipe("digits"), session.macros, load_dataset("digits"))
    assert not (tmp_path / "experiment").exists()


def test_a_missing_or_damaged_experiment_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no training"):
        Experiment.load(tmp_path / "nothing")
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "experiment.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        Experiment.load(folder)
