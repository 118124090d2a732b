"""The models of die and board: every figure with unit and source, presets, refusals in words, other memories."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from workbench import ones

from rramlab.base.errors import UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim import memories
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel, figures

MODELS = [(model, name) for model in (DieModel, BoardModel) for name in model.presets]
IDS = [f"{model.__name__}-{name}" for model, name in MODELS]

UNIT = re.compile(r"_(V|S|s|Ohm|eV|C|A|pulses)$")
# Numbers without a unit, by what they are; their descriptions say of what.
DIMENSIONLESS = re.compile(
    r"(share|_ln|ln_sigma|exponent|growth|rate|float_coupling|noise\.read|telegraph_amplitude|relax_mean|drift|drift_sigma"
    r"|gain_sigma|range_sigma|switch_sigma|reference_sigma)$"
)
IN_WORDS = {"conductance.law_S": "quantiles", "forming.breakdown_law": "V", "offset_sigma": "codes"}
IN_WORDS |= {"relaxation.temperature_coefficient": "kelvin"}
NO_FIGURES = {"memory", "wires.solver", "droop"}  # a name, a choice, a switch

# Who says so, if not "assumed".
SOURCES = ("assumed", "Wang et al.", "measured", "sibling work", "the same cells", "value the authors use")
SOURCES += (
    "data sheet",
    "CrossSim",
    "aihwkit",
    "NVMExplorer",
    "SRNN-PCM",
    "the same",
    "arXiv",
    "NeuroSim",
    "law below",
)
SOURCES += ("of the same device", "as above")


@pytest.mark.parametrize(("model", "preset"), MODELS, ids=IDS)
def test_every_figure_has_a_unit_and_a_source_or_the_word_assumed(model, preset):
    some = figures(model.preset(preset))
    assert len(some) > 6
    assert len({figure.name for figure in some}) == len(some)
    for figure in some:
        assert figure.source.strip(), figure.name
        if figure.name in NO_FIGURES:
            continue
        assert any(source in figure.source for source in SOURCES) or figure.value is None, figure
        if figure.name in IN_WORDS:
            words = next(each.source for each in figures(model()) if each.name == figure.name)
            assert IN_WORDS[figure.name] in words, figure
        else:
            assert bool(UNIT.search(figure.name)) != bool(DIMENSIONLESS.search(figure.name)), figure.name


def leaves(model, prefix=()):
    """Every field that holds a figure, as (path, value of the default)."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value, field


def test_the_list_of_figures_is_complete():
    for model in (DieModel(), BoardModel()):
        named = {figure.name: figure.value for figure in figures(model)}
        assert named == {".".join(path): value for path, value, _ in leaves(model)}


def test_a_figure_that_a_person_changed_no_longer_claims_its_source():
    plain = {figure.name: figure.source for figure in figures(DieModel())}
    mine = DieModel.preset("published", {"conductance": {"median_S": 20e-6}})
    changed = {figure.name: figure.source for figure in figures(mine)}
    assert {name for name in plain if plain[name] != changed[name]} == {"conductance.median_S"}
    assert "assumed" in changed["conductance.median_S"]


def test_the_presets_of_the_issue_exist_and_published_is_the_default():
    for model in (DieModel, BoardModel):
        assert {"ideal", "published", "harsh"} <= set(model.presets)
        assert model.preset("published") == model()
        assert len({model.preset(name) for name in model.presets}) == len(model.presets)


def test_the_published_figures_are_those_of_the_design():
    """Section 7's table."""
    model = DieModel()
    assert model.forming.pristine_S == 0.1e-6
    assert model.conductance.median_S == 12.2e-6
    assert model.conductance.ln_sigma == 0.1475
    assert model.conductance.column_share == 0.017
    assert model.conductance.outlier_share == 2e-4
    assert (model.conductance.outlier_low_S, model.conductance.outlier_high_S) == (15e-6, 20e-6)
    assert model.noise.read == 0.02
    law = np.array(model.forming.breakdown_law)
    assert np.all((law[:, 1] >= 3.12) & (law[:, 1] <= 3.72))
    sample = model.forming.breakdown((np.arange(100_000) + 0.5) / 1e5)
    assert sample.mean() == pytest.approx(3.433, abs=0.002)
    assert sample.std() == pytest.approx(0.114, abs=0.002)
    assert np.mean(((sample - sample.mean()) / sample.std()) ** 3) == pytest.approx(-0.21, abs=0.03)


def test_harsh_is_worse_than_published_and_ideal_is_better():
    """Of every figure that says how bad things are."""
    names = ("noise.read", "noise.telegraph_share", "relaxation.drift", "conductance.column_share")
    names += ("forming.stuck_low_share", "relaxation.relax_ln_sigma", "switching.disturb_rate")
    of = {name: {f.name: f.value for f in figures(DieModel.preset(name))} for name in ("ideal", "published", "harsh")}
    for name in names:
        assert of["ideal"][name] == 0 < of["published"][name] < of["harsh"][name], name
    boards = {name: BoardModel.preset(name) for name in ("ideal", "published", "harsh")}
    for name in ("gain_sigma", "range_sigma", "offset_sigma", "dac_gain_sigma", "dac_offset_sigma_V", "switch_sigma"):
        assert 0 == getattr(boards["ideal"], name) < getattr(boards["published"], name) < getattr(boards["harsh"], name)


# refusals -------------------------------------------------------------------------------------------------------


def changed(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


def refusal(model, path, value, preset="published"):
    with pytest.raises(UsageError) as caught:
        model.preset(preset, changed(path, value))
    return str(caught.value)


NUMBERS = [
    (model, path)
    for model in (DieModel, BoardModel)
    for path, value, _ in leaves(model())
    if type(value) in (int, float)
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "many", None, [1.0], {"a": 1.0}])
def test_what_is_no_finite_number_is_refused_by_name_and_preset(value):
    for model, path in NUMBERS:
        words = refusal(model, path, value)
        assert f"simulated {model.what}" in words
        assert ".".join(path) in words
        assert "published" in words


SIGNED = {"breakdown_shift_V", "relax_mean", "drift", "temperature_coefficient", "reference_C"}


def test_figures_that_cannot_be_negative_are_refused():
    for model, path in NUMBERS:
        if path[-1] not in SIGNED:
            assert path[-1] in refusal(model, path, -1e-3), path


IMPOSSIBLE = [
    ("forming", "pristine_S", 0.0),
    ("forming", "stuck_low_share", 1.01),
    ("forming", "stuck_high_share", 1.01),
    ("forming", "reference_width_s", 0.0),
    ("forming", "overstress_V", 0.0),
    ("forming", "stuck_S", 0.0),
    ("forming", "partial_S", 0.0),
    ("forming", "breakdown_law", []),
    ("forming", "breakdown_law", [[0, 3.0]]),
    ("forming", "breakdown_law", [[0, 3.0], [0.5, 3.2]]),
    ("forming", "breakdown_law", [[0.1, 3.0], [1, 3.2]]),
    ("forming", "breakdown_law", [[0, 3.0], [0.6, 3.1], [0.5, 3.2], [1, 3.4]]),
    ("forming", "breakdown_law", [[0, 3.2], [1, 3.1]]),
    ("forming", "breakdown_law", [[0, -1.0], [1, 3.1]]),
    ("forming", "breakdown_law", [[0, 3.0], [1.5, 3.1]]),
    ("forming", "breakdown_law", "normal"),
    ("conductance", "median_S", 0.0),
    ("conductance", "column_share", 1.5),
    ("conductance", "outlier_share", 2.0),
    ("conductance", "outlier_high_S", 1e-6),
    ("conductance", "law_S", [1e-6]),
    ("conductance", "law_S", [2e-6, 1e-6]),
    ("conductance", "law_S", [0.0, 1e-6]),
    ("conductance", "reference_gate_V", 0.0),
    ("switching", "hrs_median_S", 0.0),
    ("switching", "reset_span_V", 0.0),
    ("switching", "growth", 1.5),
    ("switching", "endurance_pulses", 0),
    ("switching", "disturb_V", 0.0),
    ("switching", "float_coupling", 1.5),
    ("noise", "read", 1.0),
    ("noise", "telegraph_share", 1.5),
    ("noise", "telegraph_amplitude", 1.0),
    ("noise", "telegraph_shortest_s", 0.0),
    ("noise", "telegraph_longest_s", 0.5),
    ("relaxation", "relax_start_s", 0.0),
    ("relaxation", "relax_end_s", 1.0),
    ("relaxation", "drift_start_s", 0.0),
    ("relaxation", "interval_s", 0.0),
    ("relaxation", "reference_C", -273.15),
    ("relaxation", "reference_C", -300.0),
    ("wires", "solver", "magic"),
    ("wires", "segment_Ohm", -1.0),
]


@pytest.mark.parametrize(("part", "name", "value"), IMPOSSIBLE)
def test_an_impossible_figure_is_refused_with_its_name(part, name, value):
    assert name in refusal(DieModel, (part, name), value)


@pytest.mark.parametrize(
    "changes",
    [
        {"forming": {"breakdown_shift_V": -5.0}},  # below zero volts: cells that form without a pulse
        {"forming": {"stuck_low_share": 0.6, "stuck_high_share": 0.6}},
        {"noise": {"telegraph_shortest_s": 10.0, "telegraph_longest_s": 1.0}},
        {"relaxation": {"relax_start_s": 10.0, "relax_end_s": 5.0}},
        {"conductance": {"outlier_low_S": 30e-6}},
    ],
)
def test_figures_that_contradict_each_other_are_refused(changes):
    with pytest.raises(UsageError, match="preset 'published' of a simulated die"):
        DieModel.preset("published", changes)


@pytest.mark.parametrize("model", [DieModel, BoardModel])
@pytest.mark.parametrize("name", ["", "Published", "perfect", "RRAM"])
def test_an_unknown_preset_is_refused_and_the_known_ones_are_named(model, name):
    with pytest.raises(UsageError) as caught:
        model.preset(name)
    for known in model.presets:
        assert known in str(caught.value)


@pytest.mark.parametrize("changes", [{"noise": {"red": 0.1}}, {"nose": {}}, {"forming": 3}, {"forming": None}, {3: 4}])
def test_unknown_keys_and_things_that_are_no_group_are_refused(changes):
    with pytest.raises(UsageError):
        DieModel.preset("published", changes)


@pytest.mark.parametrize("preset", sorted(DieModel.presets))
@pytest.mark.parametrize("path", [("memory",), ("forming", "partial_V"), ("noise", "read"), ("wires", "solver")])
def test_a_group_where_a_single_figure_belongs_is_refused(preset, path):
    """Whatever the preset says of that figure itself."""
    assert ".".join(path) in refusal(DieModel, path, {"value": 1.0}, preset)


@pytest.mark.parametrize(("text", "value"), [("12 uS", 12e-6), ("8500 nS", 8.5e-6), ("0.02 mS", 2e-5)])
def test_figures_may_be_written_with_their_unit(text, value):
    model = DieModel.preset("published", {"conductance": {"median_S": text}})
    assert model.conductance.median_S == pytest.approx(value)
    with pytest.raises(UsageError, match="median_S"):
        DieModel.preset("published", {"conductance": {"median_S": text.replace("S", "V")}})


def test_a_change_to_one_figure_leaves_the_preset_and_the_others_alone():
    before = DieModel.preset("harsh")
    mine = DieModel.preset("harsh", {"noise": {"read": 0.05}})
    assert mine.noise.read == 0.05
    assert mine.noise.telegraph_share == before.noise.telegraph_share
    assert mine.model_copy(update={"noise": before.noise}) == before
    assert DieModel.preset("harsh") == before


@pytest.mark.parametrize(("model", "preset"), MODELS, ids=IDS)
def test_a_model_survives_its_file(model, preset):
    some = model.preset(preset)
    assert model.model_validate_json(some.model_dump_json()) == some


def test_models_are_frozen():
    model = DieModel()
    with pytest.raises(ValueError, match="frozen"):
        model.noise.read = 0.5
    with pytest.raises(ValueError, match="frozen"):
        model.forming = None


@given(st.data())
def test_whatever_a_model_accepts_can_be_lived_with(data):
    """Any one figure within four decades of its default, if it is accepted at all, makes a die that works."""
    model, path = data.draw(st.sampled_from([each for each in NUMBERS if each[0] is DieModel]))
    default = next(value for where, value, _ in leaves(model()) if where == path)
    value = (default or 1.0) * 10 ** data.draw(st.sampled_from([-4, -2, -1, 1, 2, 4]))
    if data.draw(st.booleans()):
        value = data.draw(st.sampled_from([0.0, 1.0, -value]))
    try:
        some = SimulatedDie(Geometry(8, 8), model.preset("published", changed(path, value)), 1)
    except UsageError:
        return
    for kind, volts in (("electroform", 3.75), ("reset", 2.0), ("set", 2.0)):
        some.pulse(kind, ones(some.geometry), Pulse(volts, 1e-6, 1.6))
        some.age(1000.0, 60.0)
        for conductance in (some.state.conductance_S, some.conductance_S):
            assert np.all(np.isfinite(conductance))
            assert np.all(conductance > 0)


# other memories -------------------------------------------------------------------------------------------------

OTHERS = sorted(memories.MEMORIES)


def test_there_are_other_memories_and_each_is_a_preset():
    assert len(OTHERS) >= 3
    for name in OTHERS:
        assert DieModel.preset(name).memory == name
        assert DieModel.preset(name) != DieModel()


@pytest.mark.parametrize("name", OTHERS)
def test_every_figure_of_a_memory_exists_and_says_where_it_comes_from(name):
    model = DieModel.preset(name)
    sources = {figure.name: figure.source for figure in figures(model)}
    for part, found in memories.MEMORIES[name].items():
        for key, (value, source) in found.items():
            kept = getattr(getattr(model, part), key)
            assert kept == value or tuple(kept) == tuple(value), (part, key)
            assert len(source) > 6
            assert sources[f"{part}.{key}"] == source
    # What it does not share with TaOx it says itself: never the measured macro's source on another device's figure.
    for named in ("forming.breakdown_law", "forming.pristine_S", "conductance.median_S", "noise.read"):
        assert "Wang" not in sources[named], named
        assert "authors" not in sources[named], named


@pytest.mark.parametrize("name", OTHERS)
def test_a_memory_forms_with_the_default_pulse_reads_and_keeps(name, small_table):
    """The same protocols run on it: 3.75 V, 1 µs, gate 1.6 V, a read and a product."""
    table = small_table
    board = SimulatedBoard(table, BoardModel.preset("ideal"), "B-1", 5)
    some = SimulatedController(SimulatedDie(table.geometry, DieModel.preset(name), 3), board)
    before = some.read(ones(table.geometry), 1, table.dac_code(0.2)).astype(float) - table.zero_code
    assert np.median(before) * table.read_step_S == pytest.approx(0.1e-6, rel=0.3)  # what the contact test expects
    some.pulse(1, "electroform", ones(table.geometry), table.dac_code(3.75), 1000, table.dac_code(1.6), 8)
    after = some.read(ones(table.geometry), 1, table.dac_code(0.2)).astype(float)[0] - table.zero_code
    law = some.die.model.conductance
    assert np.mean(after * table.read_step_S >= 2e-6) > 0.97
    assert np.median(after) * table.read_step_S == pytest.approx(law.median_S, rel=0.1)
    assert after.std() > 0.05 * np.median(after)  # a random weight, or there is nothing to prune
    some.load_gates(0, np.ones((1, 32), bool), np.zeros(16, np.int16))
    found = some.multiply(np.ones((1, 32), np.uint8), 1, 0, np.arange(16))
    assert not found.saturated.any()
    some.die.age(1e6)
    assert np.all(np.isfinite(some.die.conductance_S))
    assert np.median(some.die.conductance_S) > 0.3 * law.median_S


@pytest.mark.parametrize("name", OTHERS)
def test_a_law_given_as_quantiles_is_the_law_of_the_cells(name):
    model = DieModel.preset(name, {"forming": {"stuck_low_share": 0.0, "stuck_high_share": 0.0}})
    some = SimulatedDie(Geometry(64, 64), model, 3)
    some.pulse("electroform", ones(some.geometry), Pulse(3.75, 1e-6, 1.6))
    drawn = np.sort(some.state.conductance_S.ravel().astype(float))
    law = model.conductance
    if law.law_S is None:
        logs = np.log(drawn / law.median_S)
        assert abs(logs.mean()) < 4.5 * law.ln_sigma / 64
        assert abs(logs.std() / law.ln_sigma - 1) < 4.5 / np.sqrt(2 * 4096)
    else:
        shares = np.interp(drawn, law.law_S, np.linspace(0, 1, len(law.law_S)))
        assert np.abs(shares - (np.arange(4096) + 0.5) / 4096).max() < 2.4 / 64  # Kolmogorov, p < 2e-5
