"""The simulated die has the published statistics, and its randomness depends on seed, cell and pulse count only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from workbench import ones

from rramlab.base.errors import DataError, UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim import randomness
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel

FULL = Geometry()
SMALL = Geometry(16, 12)
FORM = Pulse(3.75, 1e-6, 1.6)
WHOLE = {"stuck_low_share": 0.0, "stuck_high_share": 0.0}
RESET = Pulse(2.0, 1e-6, 3.0)
SET = Pulse(2.0, 1e-6, 1.6)


def die(seed=1, geometry=SMALL, **figures):
    return SimulatedDie(geometry, DieModel.preset("published", figures), seed)


def conducting(some):
    return some.state.conductance_S >= 2e-6


MEASURED = [  # volts, share of 400 measured cells that had formed
    (3.2, 0.03),
    (3.3, 0.16),
    (3.4, 0.39),
    (3.45, 0.55),
    (3.5, 0.71),
    (3.55, 0.835),
    (3.6, 0.94),
    (3.65, 0.98),
    (3.7, 1.0),
]


@pytest.mark.parametrize(("volts", "measured"), MEASURED)
def test_formed_fraction_is_within_the_band_of_the_measured_cells(volts, measured):
    """A die of 262,144 cells knows its own fraction to 0.1 %; the 400 measured cells are the uncertain ones."""
    form = die(geometry=FULL, seed=11)
    form.pulse("electroform", ones(FULL), Pulse(volts, 1e-6, 1.6))
    fraction = conducting(form).mean()
    low, high = stats.binom.interval(0.999, 400, fraction)
    assert low <= round(measured * 400) <= high


def test_breakdown_is_centred_on_the_measured_steps():
    """The published mean is 3.433 V; at 3.45 V, in the middle of a 20 mV step, .5525 of the 400 cells are formed."""
    volts = DieModel().forming.breakdown((np.arange(1_000_000) + 0.5) / 1_000_000)
    assert volts.mean() == pytest.approx(3.433, abs=0.002)
    assert (volts <= 3.45).mean() == pytest.approx(0.5525, abs=0.001)
    drawn = [die(geometry=FULL, seed=seed) for seed in (11, 12)]
    for form in drawn:
        form.pulse("electroform", ones(FULL), Pulse(3.45, 1e-6, 1.6))
        assert conducting(form).mean() == pytest.approx(0.5525, abs=0.01)


def test_the_mean_breakdown_voltage_of_many_cells():
    """By a staircase in small steps: what a person with a real die could measure."""
    form, formed = die(geometry=FULL, seed=13), 0.0
    mean, step = 0.0, 0.01
    for volts in np.arange(3.10, 3.76, step):
        form.pulse("electroform", ones(FULL), Pulse(float(volts), 1e-6, 1.6))
        share = conducting(form).mean()
        mean += (share - formed) * (volts - step / 2)
        formed = share
    assert formed > 0.999
    assert mean / formed == pytest.approx(3.433, abs=0.002)


@pytest.mark.parametrize("seed", range(4))
def test_400_cells_of_any_die_look_like_the_measured_ones(seed):
    form = die(geometry=Geometry(20, 20), seed=seed)
    for volts, measured in MEASURED:  # a staircase: breakdown voltages are cells' own
        form.pulse("electroform", ones(Geometry(20, 20)), Pulse(volts, 1e-6, 1.6))
        either_sample = np.sqrt(2 * measured * (1 - measured) / 400)
        assert abs(conducting(form).mean() - measured) < 4 * either_sample + 0.01


def test_conductance_after_forming_is_lognormal_as_measured():
    form = die(geometry=FULL, seed=3, conductance={"outlier_share": 0.0}, forming=WHOLE)
    form.pulse("electroform", ones(FULL), FORM)
    logs = np.log(form.state.conductance_S.astype(float))
    n = logs.size
    columns_sigma = 0.1475 * np.sqrt(0.017 / 512)
    assert abs(np.median(logs) - np.log(12.2e-6)) < 4 * (columns_sigma + 1.25 * 0.1475 / np.sqrt(n))
    assert logs.std() == pytest.approx(0.1475, rel=0.01)
    assert abs(stats.skew(logs.ravel())) < 0.03
    assert abs(stats.kurtosis(logs.ravel())) < 0.06
    share = logs.mean(axis=0).var() / logs.var()
    assert share == pytest.approx(0.017 + 1 / 512, rel=0.35)


def test_outliers_are_isolated_high_and_rare():
    form = die(geometry=FULL, seed=3, forming=WHOLE)
    form.pulse("electroform", ones(FULL), FORM)
    plain = die(geometry=FULL, seed=3, conductance={"outlier_share": 0.0}, forming=WHOLE)
    plain.pulse("electroform", ones(FULL), FORM)
    extra = form.state.conductance_S - plain.state.conductance_S
    outliers = extra[extra > 1e-9]
    low, high = stats.poisson.interval(0.999, 2e-4 * FULL.cells)
    assert low <= outliers.size <= high
    assert outliers.min() >= 14.9e-6
    assert outliers.max() <= 20.1e-6


def test_neighbours_are_independent():
    form = die(geometry=FULL, seed=5)
    form.pulse("electroform", ones(FULL), Pulse(3.45, 1e-6, 1.6))
    formed = conducting(form) * 1.0 - conducting(form).mean()
    for product in (formed[1:] * formed[:-1], formed[:, 1:] * formed[:, :-1]):
        assert abs(product.mean()) < 4 * formed.var() / np.sqrt(product.size)


def test_pristine_cells_are_a_tenth_of_a_microsiemens():
    assert np.median(die(geometry=FULL).state.conductance_S) == pytest.approx(0.1e-6, rel=0.02)


def test_the_gate_sets_the_median_and_a_longer_pulse_forms_at_lower_voltage():
    medians = []
    for gate in (1.2, 1.6, 2.4):
        form = die(geometry=Geometry(64, 64))
        form.pulse("electroform", ones(form.geometry), Pulse(3.75, 1e-6, gate))
        medians.append(np.median(form.state.conductance_S))
    assert medians == sorted(set(medians))
    fractions = []
    for width in (1e-7, 1e-6, 1e-5):
        form = die(geometry=Geometry(64, 64))
        form.pulse("electroform", ones(form.geometry), Pulse(3.45, width, 1.6))
        fractions.append(conducting(form).mean())
    assert fractions == sorted(set(fractions))


selected = hnp.arrays(np.bool_, SMALL.shape)


@given(selected, st.sampled_from(["electroform", "reset", "set"]))
def test_a_pulse_changes_selected_cells_only(bits, kind):
    some = die()
    some.pulse("electroform", ones(SMALL), FORM)
    if kind == "set":
        some.pulse("reset", ones(SMALL), RESET)
    before, pulses = some.state.conductance_S.copy(), some.state.pulses.copy()
    some.pulse(kind, CellSelection(bits), {"electroform": FORM, "reset": RESET, "set": SET}[kind])
    assert np.array_equal(some.state.conductance_S[~bits], before[~bits])
    assert np.array_equal(some.state.pulses, pulses + bits)


def test_reset_makes_formed_cells_stop_conducting_and_leaves_pristine_ones():
    some = die(geometry=Geometry(64, 64))
    some.pulse("electroform", ones(some.geometry), Pulse(3.45, 1e-6, 1.6))
    formed, before = conducting(some), some.state.conductance_S.copy()
    assert 0.4 < formed.mean() < 0.7
    some.pulse("reset", ones(some.geometry), RESET)
    assert conducting(some).mean() < 0.01
    assert np.array_equal(some.state.conductance_S[~formed], before[~formed])
    assert np.median(some.state.conductance_S[formed]) == pytest.approx(0.4e-6, rel=0.1)


def test_a_set_after_a_reset_draws_a_new_conductance():
    some = die(geometry=Geometry(64, 64))
    some.pulse("electroform", ones(some.geometry), FORM)
    first = some.state.conductance_S.copy()
    some.pulse("reset", ones(some.geometry), RESET)
    some.pulse("set", ones(some.geometry), SET)
    second = some.state.conductance_S.copy()
    assert conducting(some).mean() > 0.99
    both = np.log(first.astype(float)).ravel(), np.log(second.astype(float)).ravel()
    assert not np.any(first == second)
    assert abs(np.corrcoef(*both)[0, 1]) < 0.017 + 4 / np.sqrt(first.size) + 0.02
    assert np.median(second) == pytest.approx(12.2e-6, rel=0.02)
    some.pulse("set", ones(some.geometry), SET)
    third = some.state.conductance_S
    assert np.all(third >= second)  # a further pulse lifts those that the compliance exceeds, none falls
    assert np.array_equal(third[second > 17e-6], second[second > 17e-6])


def test_a_set_does_not_form_a_pristine_cell():
    some = die()
    before = some.state.conductance_S.copy()
    some.pulse("set", ones(SMALL), Pulse(2.5, 1e-6, 1.6))
    assert np.array_equal(some.state.conductance_S, before)


def life(some, blocks):
    """The same pulses in other row blocks."""
    chess = np.add.outer(np.arange(16), np.arange(12)) % 2 == 0
    half = np.arange(16)[:, None] < 8
    for kind, bits, pulse in (
        ("electroform", chess, Pulse(3.5, 1e-6, 1.6)),
        ("electroform", np.ones_like(chess), Pulse(3.6, 1e-6, 1.6)),
        ("reset", half & chess, RESET),
        ("set", half & np.ones_like(chess), SET),
        ("reset", ~chess, RESET),
    ):
        for _, _, part in CellSelection(bits).blocks(blocks):
            some.pulse(kind, part, pulse)
    return some.state


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 7, 15])
def test_the_same_pulses_in_other_row_blocks_give_the_same_die(blocks):
    one, other = life(die(seed=9), 16), life(die(seed=9), blocks)
    assert np.array_equal(one.conductance_S, other.conductance_S)
    assert np.array_equal(one.pulses, other.pulses)
    assert np.array_equal(one.phase, other.phase)


def test_dies_differ_by_seed_and_are_repeatable():
    first, same, other = life(die(seed=9), 16), life(die(seed=9), 16), life(die(seed=10), 16)
    assert np.array_equal(first.conductance_S, same.conductance_S)
    assert not np.any(first.conductance_S == other.conductance_S)


@given(
    st.integers(0, 2**64 - 1),
    st.sampled_from([1, 12, 20]),
    st.integers(0, 300),
    st.integers(0, 1000),
    st.integers(1, 40),
)
def test_position_n_of_a_stream_is_always_the_same_number(seed, purpose, draw, start, count):
    whole = randomness.words(seed, purpose, draw, 0, start + count)
    assert np.array_equal(randomness.words(seed, purpose, draw, start, count), whole[start:])
    longer = randomness.uniforms(seed, purpose, draw, 0, start + count)
    assert np.array_equal(randomness.uniforms(seed, purpose, draw, start, count), longer[start:])
    assert np.array_equal(noise(seed, start, count), noise(seed, 0, start + count)[start:])


def noise(seed, start, count):
    return randomness.ShortNormals(seed, randomness.READ_NOISE).take(start, count)


@given(st.integers(0, 2**64 - 1), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=12))
def test_noise_is_the_same_however_it_is_taken(seed, takes):
    """In parts that follow one another, or from another place."""
    stream, position = randomness.ShortNormals(seed, randomness.READ_NOISE), 0
    for skip, count in takes:
        position += skip
        assert np.array_equal(stream.take(position, count), noise(seed, position, count))
        position += count


def test_streams_of_different_purpose_seed_and_draw_do_not_repeat_each_other():
    keys = [(s, p, d) for s in (0, 1, 2) for p in (1, 2, 12) for d in (0, 1, 2)]
    words = np.concatenate([randomness.words(*key, 0, 64) for key in keys])
    assert np.unique(words).size == words.size


def test_noise_is_standard_normal():
    drawn = noise(7, 12345, 400_000).astype(float)
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
    assert drawn.var() == pytest.approx(1, abs=4 * np.sqrt(2 / drawn.size))
    assert abs(np.mean(drawn[1:] * drawn[:-1])) < 4 / np.sqrt(drawn.size)
    assert stats.kstest(drawn[:50_000], "norm").pvalue > 1e-3
    uniform = randomness.uniforms(7, 1, 0, 5, 400_000)
    assert uniform.min() > 0
    assert uniform.max() < 1


def test_presets():
    assert DieModel.preset("published") == DieModel()
    assert DieModel.preset("ideal").noise.read == 0
    assert BoardModel.preset("ideal").gain_sigma == BoardModel.preset("ideal").offset_sigma == 0
    assert BoardModel.preset("published").gain_sigma > 0
    for model in (DieModel, BoardModel):
        with pytest.raises(UsageError, match="ideal"):
            model.preset("perfect")


# the state file -----------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    some = die(seed=21, conductance={"median_S": 10e-6})
    life(some, 16)
    some.take_noise(77)
    some.age(12.5)
    some.save(tmp_path / "die.npz", extra=np.arange(3))
    return some, tmp_path / "die.npz"


def test_a_state_file_brings_back_the_same_die(saved):
    some, path = saved
    found, memory = SimulatedDie.load(path, SMALL)
    assert memory["extra"].tolist() == [0, 1, 2]
    assert found.model == some.model
    assert (found.state.conversions, found.state.clock_ns) == (77, some.state.clock_ns)
    for name in ("phase", "conductance_S", "pulses", "programmed_ns", "luck", "disturb_ppm", "history_ns", "history_C"):
        assert np.array_equal(getattr(found.state, name), getattr(some.state, name))
    # and it goes on as the first would have
    for each in (some, found):
        each.pulse("electroform", ones(SMALL), FORM)
        each.pulse("reset", ones(SMALL), RESET)
    assert np.array_equal(found.state.conductance_S, some.state.conductance_S)
    assert np.array_equal(found.take_noise(10), some.take_noise(10))


def refused(path, geometry=SMALL):
    before = path.read_bytes()
    with pytest.raises(DataError, match=path.name) as caught:
        SimulatedDie.load(path, geometry)
    assert path.read_bytes() == before
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_state_file_is_refused(saved, share):
    _, path = saved
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("content", [b"not an archive", bytes(5000), b"PK\x03\x04" + bytes(100), b"\x80\x04N."])
def test_a_file_that_is_no_state_is_refused(saved, content):
    _, path = saved
    path.write_bytes(content)
    refused(path)


def test_a_plain_array_is_refused(saved):
    _, path = saved
    with path.open("wb") as stream:
        np.save(stream, np.zeros(SMALL.shape))
    refused(path)


def test_another_version_or_geometry_or_a_lost_entry_is_refused(saved):
    _, path = saved
    with np.load(path) as file:
        arrays = dict(file)
    refused(path, Geometry(16, 14))
    for change in (
        {"version": np.int64(99)},
        {"pulses": arrays["pulses"][:-1]},
        {"model": np.array('{"noise": {"read": 7}}')},
        {"model": np.array("{")},
        {"seed": np.array("x")},
    ):
        np.savez(path, **{**arrays, **change})
        refused(path)
    for name in (
        "version",
        "phase",
        "conductance_S",
        "pulses",
        "conversions",
        "clock_ns",
        "seed",
        "model",
        "luck",
        "history_C",
    ):
        np.savez(path, **{key: value for key, value in arrays.items() if key != name})
        refused(path)


def test_a_damaged_byte_anywhere_is_refused_or_harmless(saved):
    """Whatever single byte is damaged, the die is the same or refused in words."""
    some, path = saved
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    directory = good.rindex(b"PK\x01\x02", 0, len(good)) if b"PK\x01\x02" in good else 0
    places = {*range(60), *range(directory, len(good)), *rng.integers(0, len(good), 250).tolist()}
    for place in sorted(places):
        data = bytearray(good)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        try:
            found, _ = SimulatedDie.load(path, SMALL)
        except DataError:
            continue
        assert np.array_equal(found.state.conductance_S, some.state.conductance_S), place
        assert np.array_equal(found.state.pulses, some.state.pulses), place
        assert (found.seed, found.model) == (some.seed, some.model), place


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    some, path = saved
    before = path.read_bytes()

    def full(stream, **arrays):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        some.save(path)
    assert path.read_bytes() == before
