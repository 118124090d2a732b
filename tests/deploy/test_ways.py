"""The ways to deploy a mask, and what each costs: the same cells and products that a deployment then has."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramlab.base.errors import UsageError
from rramlab.deploy import Load, Way, best, deployment_plan, pruned_cells, ways
from rramlab.macro.cells import CellState, is_conducting
from rramlab.macro.geometry import Geometry
from rramlab.macro.masks import Mask
from rramlab.macro.placement import Placement
from rramlab.plan import cost
from rramlab.plan.cost import Cost
from rramlab.plan.plan import selection
from rramlab.plan.steps import PulseStep

GEOMETRY = Geometry(32, 16)
# The first needs more rows than a die has; the part that is left shares the second die with the others.
LAYERS = {"first": (40, 7), "second": (9, 8), "third": (8, 3)}
PLACEMENT = Placement.pack(LAYERS, GEOMETRY, 8, None)
LOAD = Load({"first": 5, "second": 2, "third": 1}, {"first": 4, "second": 3, "third": 8})
OBJECTIVES = ("pulses", "wear", "conversions", "time", "energy")

seeds = st.integers(0, 2**32)


def random_mask(seed, kept=0.5):
    rng = np.random.default_rng(seed)
    return Mask({name: rng.random(shape) < kept for name, shape in LAYERS.items()})


def line_mask(seed):
    rng = np.random.default_rng(seed)
    layers = {}
    for name, (inputs, outputs) in LAYERS.items():
        rows, columns = rng.random(inputs) < 0.5, rng.random(outputs) < 0.5
        rows[0] = columns[0] = True  # a layer keeps something
        layers[name] = rows[:, None] & columns
    return Mask(layers, "line")


def dies(seed, formed=0.5):
    """Conductances as read, and pulses by the ledgers: [dies, rows, columns]."""
    rng = np.random.default_rng(seed)
    shape = (PLACEMENT.dies, *GEOMETRY.shape)
    conductance_S = np.where(rng.random(shape) < formed, 1.2e-5, 1e-7).astype(np.float32)
    return conductance_S, rng.integers(0, 4, shape).astype(np.uint32)


def cells_to_reset(mask, conductance_S, reset):
    """Which cells the plans of a deployment pulse: bool[dies, rows, columns]."""
    found = np.zeros(conductance_S.shape, np.bool_)
    for die in range(PLACEMENT.dies):
        plan = deployment_plan(PLACEMENT, mask, reset, die)
        for step in plan.steps:
            if isinstance(step, PulseStep):
                state = CellState(*(np.zeros(GEOMETRY.shape, kind) for kind in (np.uint32, np.float32, np.bool_)))
                found[die] |= selection(step, GEOMETRY, replace(state, conductance_S=conductance_S[die])).bits
    return found


def found_ways(small_table, mask, conductance_S, pulsed):
    return ways(PLACEMENT, mask, conductance_S, pulsed, LOAD, small_table)


def test_the_placement_of_these_tests_has_two_dies():
    assert PLACEMENT.dies == 2


@given(seed=seeds, kept=st.floats(0, 1), formed=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@settings(max_examples=30)
def test_each_way_is_what_its_deployment_would_do(small_table, seed, kept, formed):
    mask, (conductance_S, pulsed) = random_mask(seed, kept), dies(seed, formed)
    found = found_ways(small_table, mask, conductance_S, pulsed)
    for way in found:
        reset = cells_to_reset(mask, conductance_S, way.reset)
        selected = np.stack([pruned_cells(PLACEMENT, mask, way.reset, die).bits for die in range(PLACEMENT.dies)])
        assert np.array_equal(reset, selected & is_conducting(conductance_S))
        assert way.deploying.pulses == np.count_nonzero(reset)
        assert way.wear == (pulsed + reset).max()
        gates = PLACEMENT.gates(mask, way.reset)
        assert way.patterns == sum(pattern.phases for pattern in gates.values())
        sample = Cost()
        for tile, pattern in gates.items():
            sample += cost.multiply(pattern, LOAD.vectors[tile.layer], LOAD.bits[tile.layer], small_table)
        assert way.sample.conversions == sample.conversions
        assert way.sample.time_s == pytest.approx(sample.time_s)
        assert way.sample.energy_J == pytest.approx(sample.energy_J)
        assert way.sample.pulses == 0


@given(seed=seeds, kept=st.floats(0.05, 0.95), formed=st.sampled_from([0.0, 0.02, 0.5]))
@settings(max_examples=30)
def test_the_ways_go_from_gates_alone_to_every_layer_that_needs_pulses(small_table, seed, kept, formed):
    mask, (conductance_S, pulsed) = random_mask(seed, kept), dies(seed, formed)
    found = found_ways(small_table, mask, conductance_S, pulsed)
    needing = {name for name in LAYERS if cells_to_reset(mask, conductance_S, (name,)).any()}
    assert found[0].reset == ()
    assert found[0].deploying == Cost()
    assert found[0].wear == pulsed.max()
    assert set(found[-1].reset) == needing
    assert len(found) == len(needing) + 1
    for before, after in pairwise(found):
        (added,) = set(after.reset) - set(before.reset)
        assert set(before.reset) < set(after.reset)
        assert after.deploying.pulses > before.deploying.pulses
        assert after.deploying.time_s > before.deploying.time_s
        assert after.patterns <= before.patterns
        assert list(after.reset) == [name for name in LAYERS if name in after.reset], added


@given(seed=seeds)
@settings(max_examples=20)
def test_what_is_reset_first_saves_most_time_a_pulse(small_table, seed):
    mask, (conductance_S, pulsed) = random_mask(seed), dies(seed)
    found = found_ways(small_table, mask, conductance_S, pulsed)
    gains = [
        (before.sample.time_s - after.sample.time_s) / (after.deploying.pulses - before.deploying.pulses)
        for before, after in pairwise(found)
    ]
    assert len(gains) == len(LAYERS)
    assert all(one >= other - 1e-15 for one, other in pairwise(gains))


@given(seed=seeds, formed=st.sampled_from([0.1, 1.0]))
@settings(max_examples=20)
def test_a_mask_of_whole_lines_needs_no_pulse_in_any_way(small_table, seed, formed):
    conductance_S, pulsed = dies(seed, formed)
    (only,) = found_ways(small_table, line_mask(seed), conductance_S, pulsed)
    assert (only.reset, only.deploying) == ((), Cost())
    assert only.patterns <= len(PLACEMENT.tiles)  # of tiles that keep nothing, none


@given(seed=seeds, objective=st.sampled_from(OBJECTIVES))
@settings(max_examples=30)
def test_the_best_way_has_the_smallest_figure(small_table, seed, objective):
    found = found_ways(small_table, random_mask(seed), *dies(seed))
    chosen = best(found, objective)
    assert chosen in found
    assert all(chosen.figure(objective) <= way.figure(objective) for way in found)
    if objective in ("pulses", "wear"):
        assert chosen.deploying.pulses == 0
    equal = [way for way in found if way.figure(objective) == chosen.figure(objective)]
    assert chosen.deploying.pulses == min(way.deploying.pulses for way in equal)


@given(seed=seeds, objective=st.sampled_from(OBJECTIVES), data=st.data())
@settings(max_examples=30)
def test_the_best_way_has_no_more_pulses_than_are_allowed(small_table, seed, objective, data):
    found = found_ways(small_table, random_mask(seed), *dies(seed))
    most = data.draw(st.sampled_from([way.deploying.pulses + more for way in found for more in (0, 1)]))
    chosen = best(found, objective, most)
    allowed = [way for way in found if way.deploying.pulses <= most]
    assert chosen in allowed
    assert chosen.figure(objective) == min(way.figure(objective) for way in allowed)


def way(pulses=0, wear=1, conversions=10, time_s=1.0, energy_J=1.0):
    return Way((), Cost(pulses=pulses), wear, Cost(time_s, energy_J, 0, conversions), 1)


def test_each_objective_looks_at_its_own_figure():
    plain = way(pulses=5, wear=5, conversions=50, time_s=5.0, energy_J=5.0)
    better = {
        "pulses": replace(plain, deploying=Cost(pulses=1)),
        "wear": replace(plain, wear=1),
        "conversions": replace(plain, sample=Cost(5.0, 5.0, 0, 10)),
        "time": replace(plain, sample=Cost(1.0, 5.0, 0, 50)),
        "energy": replace(plain, sample=Cost(5.0, 1.0, 0, 50)),
    }
    for objective in OBJECTIVES:
        assert best([plain, *better.values()], objective) == better[objective]


def test_of_equal_ways_that_with_the_fewest_pulses_and_then_the_least_time_is_taken():
    dear, slow, quick = way(pulses=3, time_s=0.1), way(pulses=2, time_s=2.0), way(pulses=2, time_s=1.0)
    assert best([dear, slow, quick], "conversions") is quick


def test_no_way_with_so_few_pulses_is_refused_with_the_fewest_there_are():
    with pytest.raises(UsageError, match=r"at most 1,000 pulses; the fewest are 1,001"):
        best([way(pulses=2000), way(pulses=1001)], "time", 1000)
    assert best([way(pulses=2000), way(pulses=1001)], "time", 1001).deploying.pulses == 1001


def test_wear_counts_what_the_ledgers_count_and_the_reset(small_table):
    mask = random_mask(1)
    conductance_S, pulsed = dies(1)
    cells = cells_to_reset(mask, conductance_S, tuple(LAYERS))
    assert cells.any(axis=(1, 2)).all()  # on both dies
    for die, row, column in (np.argwhere(cells)[0], np.argwhere(cells)[-1], np.argwhere(~cells)[0]):
        worn = np.zeros_like(pulsed)
        worn[die, row, column] = 41
        found = ways(PLACEMENT, mask, conductance_S, worn, LOAD, small_table)
        assert found[0].wear == 41
        assert found[-1].wear == 41 + int(cells[die, row, column])
