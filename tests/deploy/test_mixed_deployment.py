"""Deployments over two dies that reset some layers and gate others: what is pulsed, what is computed, what is found later."""

import numpy as np
import pytest
import torch
from torch import nn
from workbench import SmallBench, forming_plan, hidden, ledger_of, tampered

from rramlab.base.errors import DataError, Refused
from rramlab.deploy import Deployment, deployment_plan, find_deployment, pruned_cells, verify
from rramlab.macro.cells import is_conducting
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.nn import MaskedConv2d, MaskedLinear, load_weights, masked_layers, masks
from rramlab.training import Dataset
from rramlab.training.onchip import chip_in_the_loop, multiplied_by, with_resets

DIES = ("small-1", "small-2")
EVERY = ("conv", "middle", "last")
MIXTURES = [(), ("middle",), ("conv", "last"), EVERY]


class Network(nn.Module):
    """``middle`` has more inputs than a die has rows, and ``last`` more outputs than it has pairs."""

    def __init__(self):
        super().__init__()
        self.conv = MaskedConv2d(1, 6, 3)
        self.middle = MaskedLinear(54, 3, rectify=True)
        self.last = MaskedLinear(3, 10, rectify=True)

    def forward(self, x):
        return self.last(self.middle(self.conv(x).flatten(1)))


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab", dies=dict.fromkeys(DIES, "")).write()


@pytest.fixture
def network():
    torch.manual_seed(3)
    return Network()


@pytest.fixture
def formed(bench, network):
    """A session with two formed dies, the network with their weights, its placement and mask."""
    with bench.open() as session:
        for number, die in enumerate(DIES):
            session.run(forming_plan(f"one-of-pair(seed={number})", block_rows=64), arm=die, die=die)
        layers = {name: layer.shape for name, layer in masked_layers(network).items()}
        placement = Placement.pack(layers, session.macros[DIES[0]].geometry, 8, len(DIES))
        read = [session.macros[die].read(placement.used(number), 4) for number, die in enumerate(DIES)]
        load_weights(network, placement.weights(np.stack(read)))
        network(torch.rand(50, 1, 5, 5))  # follows the activation ranges
        network.eval()
        yield session, placement, Mask(masks(network))


def put(session, placement, mask, reset):
    """Execute the plans of a deployment; return it, and the results of its runs."""
    results = [
        session.run(deployment_plan(placement, mask, reset, number), arm=die if reset else None, die=die)
        for number, die in enumerate(DIES)
    ]
    reference = np.stack([session.stations[die].conductance_S for die in DIES])
    for number, known in enumerate(reference):
        known[~placement.used(number).bits] = np.nan
    return Deployment("mine", DIES, reset, placement, mask, reference, {"training": "t"}), results


def counts(session, kind=None):
    return np.stack([ledger_of(session, die).pulse_counts(*([kind] if kind else [])) for die in DIES])


def truth(session):
    return np.stack([hidden(session, die).pulses for die in DIES])


def test_the_network_needs_both_dies_and_every_kind_of_split(formed):
    _, placement, _ = formed
    assert placement.dies == 2
    assert len(placement.of("middle")) == len(placement.of("last")) == 2
    assert len({tile.first_input for tile in placement.of("middle")}) == 2
    assert len({tile.first_output for tile in placement.of("last")}) == 2
    assert len({tile.die for tile in placement.of("last")}) == 2


@pytest.mark.parametrize("reset", MIXTURES)
def test_just_the_planned_cells_are_pulsed_and_once(formed, reset):
    session, placement, mask = formed
    before, worn = counts(session), truth(session)
    conducting = [is_conducting(session.stations[die].conductance_S) for die in DIES]
    expected = np.stack(
        [pruned_cells(placement, mask, reset, number).bits & cells for number, cells in enumerate(conducting)]
    )
    _, results = put(session, placement, mask, reset)
    assert np.array_equal(counts(session) - before, expected)
    assert np.array_equal(truth(session) - worn, expected)
    assert np.array_equal(counts(session, "reset"), expected)
    assert [result.pulses for result in results] == expected.sum(axis=(1, 2)).tolist()
    assert expected.any() == bool(reset)
    gated = [tile for tile in placement.tiles if tile.layer not in reset]
    assert not any(expected[tile.die, tile.row_slice, tile.column_slice].any() for tile in gated)


@pytest.mark.parametrize("reset", MIXTURES)
def test_the_chip_computes_what_the_host_does(formed, network, reset):
    session, placement, mask = formed
    deployment, _ = put(session, placement, mask, reset)
    assert verify(session.macros, deployment).passed
    before = counts(session)
    x = torch.rand(40, 1, 5, 5)
    with torch.no_grad():
        host = network(x)
        with chip_in_the_loop(network, session.macros, deployment):
            chip = network(x)
        assert torch.equal(network(x), host)
    # Read noise, gains of 0.5 %, codes that fall to the other side, and what is left in each cell that was reset.
    assert np.corrcoef(host.flatten(), chip.flatten())[0, 1] > 0.98
    assert float((chip - host).norm() / host.norm()) < 0.2
    assert np.array_equal(counts(session), before)


@pytest.mark.parametrize("reset", MIXTURES[1:])
def test_what_resets_leave_is_part_of_the_network(formed, network, reset):
    session, placement, mask = formed
    deployment, _ = put(session, placement, mask, reset)
    x, y = np.random.default_rng(0).random((60, 1, 5, 5), np.float32), np.zeros(60, np.int64)
    here = with_resets(network, deployment, Dataset("d", x, y, x, y, ("a",)))
    lines = placement.lines(mask).layers
    for name, found in masks(here).items():
        assert np.array_equal(found, (lines if name in reset else mask.layers)[name])
    assert all(np.array_equal(found, mask.layers[name]) for name, found in masks(network).items())  # as it was
    with torch.no_grad():
        host = here(torch.as_tensor(x))
        with multiplied_by(here, session.macros, DIES, placement):
            chip = here(torch.as_tensor(x))
        with multiplied_by(network, session.macros, DIES, placement, reset):
            unaware = network(torch.as_tensor(x))
        trained = network(torch.as_tensor(x))
    error = float((chip - host).norm() / host.norm())
    assert error < 0.08  # one read a cell is known to 2 %, gains to 0.5 %
    assert error < 0.9 * float((unaware - trained).norm() / trained.norm())


def test_resets_need_arming_for_each_die(formed):
    session, placement, mask = formed
    before = counts(session)
    for number, die in enumerate(DIES):
        plan = deployment_plan(placement, mask, EVERY, number)
        with pytest.raises(Refused, match=die):
            session.run(plan, die=die)
        with pytest.raises(Refused, match=die):
            session.run(plan, die=die, arm=DIES[1 - number])  # armed for the other one
    assert np.array_equal(counts(session), before)


def test_a_deployment_is_verified_in_the_next_session_and_what_changed_on_one_die_is_found(bench, formed, tmp_path):
    session, placement, mask = formed
    put(session, placement, mask, ("conv",))[0].save(tmp_path)
    session.close()
    with bench.open() as later:
        before = counts(later)
        found = find_deployment(tmp_path, "mine")
        assert (found.dies, found.reset, found.method) == (DIES, ("conv",), "gate and reset")
        assert (found.placement, found.conductance_S.shape) == (placement, (2, 32, 16))
        whole = verify(later.macros, found)
        assert whole.passed
        assert whole.kept_cells == 2 * mask.kept
        assert whole.pruned_cells == pruned_cells(placement, mask, ("conv",), 1).count  # where the convolution lies
        kept = np.argwhere(placement.cells(mask, 1).bits & (hidden(later, DIES[1]).conductance_S > 2e-6))[:4]
        tampered(later, DIES[1]).conductance_S[tuple(kept.T)] = 1e-7
        changed = verify(later.macros, found)
        assert (changed.lost, changed.appeared) == (4, 0)
        assert not changed.passed
        assert np.array_equal(counts(later), before)


def test_a_pruned_cell_that_conducts_again_is_found(formed):
    session, placement, mask = formed
    deployment, _ = put(session, placement, mask, EVERY)
    before = verify(session.macros, deployment)
    pruned = pruned_cells(placement, mask, EVERY, 0).bits & ~is_conducting(session.stations[DIES[0]].conductance_S)
    gone = np.argwhere(pruned)[:10]
    tampered(session, DIES[0]).conductance_S[tuple(gone.T)] = 1.2e-5
    found = verify(session.macros, deployment)
    assert before.passed
    assert (found.lost, found.left) == (before.lost, before.left + 10)
    assert not found.passed


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"die": 1', '"die": -1').replace('"die": 0', '"die": -1'),
        lambda text: text.replace('"pair": 0', '"pair": 7'),
        lambda text: text.replace('"layer"', '"lair"'),
        lambda text: text.replace('"dies"', '"deis"'),
    ],
)
def test_a_damaged_list_of_tiles_is_refused(tmp_path, damage):
    placement = Placement.pack({"fc": (40, 5)}, Geometry(32, 16), 8, 2)
    mask = Mask({"fc": np.ones((40, 5), bool)})
    conductance_S = np.zeros((2, 32, 16), np.float32)
    file = Deployment("mine", DIES, (), placement, mask, conductance_S, {"training": "t"}).save(tmp_path)
    file /= "deployment.json"
    text = file.read_text()
    assert damage(text) != text
    file.write_text(damage(text))
    with pytest.raises(DataError, match="deploy"):
        find_deployment(tmp_path, "mine")
