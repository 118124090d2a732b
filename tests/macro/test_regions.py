"""Regions: what a person spells is what is selected, and the bound holds whatever the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cell_states, geometries, selections

from rramlab.base.errors import Refused, UsageError
from rramlab.macro.cells import CellSelection, CellState
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region


@st.composite
def spellings(draw, geometry):
    """A region's text and, worked out apart from it, the cells that it means in a state."""
    row = np.arange(geometry.rows)[:, None]
    column = np.arange(geometry.columns)[None, :]
    every = np.ones(geometry.shape, np.bool_)

    def atom():
        kind = draw(st.sampled_from(["all", "rows", "row", "cols", "col", "cell", "checkerboard", "data"]))
        first = draw(st.integers(0, geometry.rows - 1))
        last = draw(st.integers(first, geometry.rows - 1))
        left = draw(st.integers(0, geometry.columns - 1))
        right = draw(st.integers(left, geometry.columns - 1))
        word = draw(st.sampled_from(["conducting", "pristine", "unknown"]))
        return {
            "all": ("all", lambda state: every),
            "rows": (f"rows {first}-{last}", lambda state: every & (row >= first) & (row <= last)),
            "row": (f"row {first}", lambda state: every & (row == first)),
            "cols": (f"cols {left}-{right}", lambda state: every & (column >= left) & (column <= right)),
            "col": (f"col {left}", lambda state: every & (column == left)),
            "cell": (f"cell ({first}, {left})", lambda state: (row == first) & (column == left)),
            "checkerboard": ("checkerboard", lambda state: (row + column) % 2 == 0),
            "data": (
                word,
                {
                    "conducting": lambda state: np.nan_to_num(state.conductance_S) >= 2e-6,
                    "pristine": lambda state: state.pulses == 0,
                    "unknown": lambda state: state.unknown,
                }[word],
            ),
        }[kind]

    def expression(depth):
        if depth == 0 or draw(st.booleans()):
            return atom()
        operator = draw(st.sampled_from(["&", "|", "-", "~"]))
        text, value = expression(depth - 1)
        if operator == "~":
            return f"~({text})", lambda state: ~value(state)
        other_text, other = expression(depth - 1)
        joined = {
            "&": lambda state: value(state) & other(state),
            "|": lambda state: value(state) | other(state),
            "-": lambda state: value(state) & ~other(state),
        }[operator]
        return f"({text}) {operator} ({other_text})", joined

    return expression(3)


@given(st.data())
def test_a_region_means_what_it_says(data):
    geometry = data.draw(geometries)
    text, expected = data.draw(spellings(geometry))
    state = data.draw(cell_states(geometry))
    seen = np.nan_to_num(state.conductance_S, nan=1e-7)
    read = CellState(state.pulses, seen, state.unknown)
    assert np.array_equal(Region(text).resolve(geometry, read).bits, expected(read))


@given(st.data())
def test_what_was_not_read_is_asked_for_and_not_guessed(data):
    """Refused wherever a cell that was not read decides; where it does not, the answer is that of every possible read."""
    geometry = data.draw(geometries)
    text, expected = data.draw(spellings(geometry))
    state = data.draw(cell_states(geometry))
    either = [
        expected(CellState(state.pulses, np.nan_to_num(state.conductance_S, nan=each), state.unknown))
        for each in (1e-7, 1e-5)
    ]
    try:
        found = Region(text).resolve(geometry, state).bits
    except Refused:
        assert "conducting" in text
        assert np.isnan(state.conductance_S).any()
    else:
        assert np.array_equal(either[0], either[1])
        assert np.array_equal(found, either[0])


@pytest.mark.parametrize("text", ["conducting", "~conducting", "all - conducting", "row 0 | conducting"])
def test_a_die_that_was_never_read_answers_nothing_about_conduction(text):
    geometry = Geometry(4, 4)
    with pytest.raises(Refused, match="not read since"):
        Region(text).resolve(geometry, CellState.virgin(geometry))


@pytest.mark.parametrize(
    ("text", "same"), [("all | conducting", "all"), ("row 0 & conducting & row 1", "row 0 & row 1"), ("row 2", "row 2")]
)
def test_a_read_is_not_needed_where_it_cannot_matter(text, same):
    geometry = Geometry(4, 4)
    assert Region(text).resolve(geometry, CellState.virgin(geometry)) == Region(same).bound(geometry)


@given(st.data())
def test_the_bound_holds_whatever_the_data(data):
    geometry = data.draw(geometries)
    text, _ = data.draw(spellings(geometry))
    region, state = Region(text), data.draw(cell_states(geometry))
    read = CellState(state.pulses, np.nan_to_num(state.conductance_S, nan=1e-7), state.unknown)
    resolved, bound = region.resolve(geometry, read).bits, region.bound(geometry).bits
    assert not np.any(resolved & ~bound)
    known = region.bound(geometry, (state.pristine, state.pristine)).bits
    assert not np.any(resolved & ~known)
    assert not np.any(known & ~bound)
    if not region.depends_on_data:
        assert np.array_equal(resolved, bound)


@pytest.mark.parametrize("text", ["conducting", "~pristine", "rows 0-3 & unknown", "(all - conducting) | row 0"])
def test_regions_of_data_say_so(text):
    assert Region(text).depends_on_data
    assert not Region("one-of-pair(seed=7) & (rows 0-3 | checkerboard)").depends_on_data


@given(selections())
def test_any_selection_can_be_spelled(selection):
    region = Region.of(selection)
    assert region.resolve(selection.geometry, CellState.virgin(selection.geometry)) == selection
    assert region.bound(selection.geometry) == selection
    assert not region.depends_on_data


def test_a_spelled_selection_joins_with_others():
    geometry = Geometry(4, 4)
    state = CellState.virgin(geometry)
    some = Region("checkerboard").resolve(geometry, state)
    both = Region(f"{Region.of(some).text} & rows 0-1 - cell (0, 0)").resolve(geometry, state)
    assert np.argwhere(both.bits).tolist() == [[0, 2], [1, 1], [1, 3]]


def test_and_binds_tighter_than_or_and_minus_reads_from_the_left():
    geometry = Geometry(4, 4)
    state = CellState.virgin(geometry)

    def cells(text):
        return Region(text).resolve(geometry, state).bits

    assert np.array_equal(cells("row 0 | row 1 & col 2"), cells("row 0 | (row 1 & col 2)"))
    assert np.array_equal(cells("all - row 0 - row 1"), cells("rows 2-3"))
    assert np.array_equal(cells("~row 0 & col 1"), cells("(~row 0) & col 1"))


@given(st.integers(0, 2**63), st.integers(1, 40), st.integers(1, 20))
def test_one_of_pair_takes_exactly_one_cell_of_each_pair(seed, rows, pairs):
    geometry = Geometry(rows, 2 * pairs)
    bits = Region(f"one-of-pair(seed={seed})").bound(geometry).bits
    assert np.all(bits[:, 0::2] ^ bits[:, 1::2])


def test_one_of_pair_is_balanced_repeatable_and_differs_by_seed():
    geometry = Geometry()
    first = Region("one-of-pair(seed=7)").bound(geometry)
    assert Region("one-of-pair(7)").bound(geometry) == first
    plus = np.count_nonzero(first.bits[:, 0::2])
    pairs = geometry.rows * geometry.pairs
    assert abs(plus - pairs / 2) < 4 * np.sqrt(pairs) / 2
    other = Region("one-of-pair(seed=8)").bound(geometry)
    agree = np.count_nonzero(first.bits[:, 0::2] == other.bits[:, 0::2])
    assert abs(agree - pairs / 2) < 4 * np.sqrt(pairs) / 2


def test_one_of_pair_is_independent_between_neighbours():
    plus = Region("one-of-pair(seed=7)").bound(Geometry()).bits[:, 0::2] * 2 - 1
    for shifted in (plus[1:] * plus[:-1], plus[:, 1:] * plus[:, :-1]):
        assert abs(shifted.mean()) < 4 / np.sqrt(shifted.size)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "rows",
        "rows 5 6",
        "raws 0-3",
        "rows 3-1",
        "all all",
        "all &",
        "& all",
        "(all",
        "all)",
        "cell (1)",
        "one-of-pair",
        "one-of-pair(seed=x)",
        "rows -1-3",
        "bits(!!)",
        "conductingly",
        "rows 0-3; all",
    ],
)
def test_what_is_not_a_region_is_refused(text):
    with pytest.raises(UsageError):
        Region(text).bound(Geometry(8, 8))


@pytest.mark.parametrize(
    "text", ["rows 0-8", "row 8", "cols 7-8", "col 8", "cell (8, 0)", "cell (0, 8)", "all & row 99"]
)
def test_a_region_off_the_die_is_refused(text):
    with pytest.raises(UsageError, match="off the die"):
        Region(text).bound(Geometry(8, 8))


@pytest.mark.parametrize("text", ["bits(AAAA)", f"one-of-pair(seed={10**40})"])
def test_what_can_be_spelled_but_not_meant_is_refused(text):
    with pytest.raises(UsageError):
        Region(text).bound(Geometry(8, 8))


def test_a_spelled_selection_of_another_geometry_is_refused():
    text = Region.of(Region("all").bound(Geometry(8, 8))).text
    with pytest.raises(UsageError):
        Region(text).bound(Geometry(16, 8))


@given(st.data())
def test_the_algebra_has_its_laws(data):
    geometry = data.draw(geometries)
    (a, _), (b, _), (c, _) = (data.draw(spellings(geometry)) for _ in range(3))
    state = data.draw(cell_states(geometry))
    known = CellState(state.pulses, np.nan_to_num(state.conductance_S, nan=1e-7), state.unknown)

    def cells(text):
        return Region(text).resolve(geometry, known).bits

    for one, other in (
        (f"({a}) & ({b})", f"({b}) & ({a})"),
        (f"({a}) | ({b})", f"({b}) | ({a})"),
        (f"(({a}) & ({b})) & ({c})", f"({a}) & (({b}) & ({c}))"),
        (f"({a}) & (({b}) | ({c}))", f"(({a}) & ({b})) | (({a}) & ({c}))"),
        (f"~(({a}) | ({b}))", f"~({a}) & ~({b})"),
        (f"({a}) - ({b})", f"({a}) & ~({b})"),
        (f"~~({a})", a),
        (f"({a}) | ~({a})", "all"),
    ):
        assert np.array_equal(cells(one), cells(other)), (one, other)
    assert not cells(f"({a}) - ({a})").any()


@given(st.data())
def test_what_is_printed_is_read_back(data):
    geometry = data.draw(geometries)
    region = Region(data.draw(spellings(geometry))[0])
    assert Region(region.text) == region
    if len(region.text) <= 60:
        assert Region(str(region)) == region
    frozen = Region.of(region.bound(geometry))
    assert frozen.bound(geometry) == region.bound(geometry)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).map(sorted), min_size=1, max_size=5), st.booleans())
def test_a_list_of_lines_is_each_of_them(ranges, along_rows):
    word = "rows" if along_rows else "cols"
    listed = ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)
    joined = " | ".join(f"{word} {first}-{last}" for first, last in ranges)
    assert Region(f"{word} {listed}").bound(Geometry(8, 8)) == Region(joined).bound(Geometry(8, 8))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("rows 0-3, 6, 7 & col 0", "(rows 0-3 | rows 6-7) & col 0"),
        ("row 1,2", "rows 1-2"),
        ("columns 0 to 2, 4", "cols 0-2 | col 4"),
        ("rows 0–2", "rows 0-2"),
        ("cells (1, 2), (3, 4)", "cell (1, 2) | cell (3, 4)"),
        ("all - cell (0,0)", "~cell (0, 0)"),
    ],
)
def test_lists_and_spellings_that_people_use(text, same):
    assert Region(text).bound(Geometry(8, 8)) == Region(same).bound(Geometry(8, 8))


def test_an_array_becomes_a_region():
    mask = np.zeros((4, 6), np.bool_)
    mask[1, 2] = mask[3, 5] = True
    assert np.array_equal(Region.of(mask).bound(Geometry(4, 6)).bits, mask)
    assert Region.of(mask.tolist()) == Region.of(mask)
    for wrong in (mask.astype(int), mask[0], np.zeros((2, 2, 2), np.bool_)):
        with pytest.raises(UsageError, match=r"expected bool\[rows, columns\]"):
            Region.of(wrong)


def test_a_mask_file_is_read_by_who_knows_where_it_is():
    asked = []
    mask = np.eye(4, dtype=np.bool_)

    def read(name):
        asked.append(name)
        return CellSelection(mask)

    region = Region("mask(a.npy) & rows 0-1 | mask( \"b (2).npy\" ) - mask('c.npy')").with_masks(read)
    assert asked == ["a.npy", "b (2).npy", "c.npy"]
    assert "mask" not in region.text
    assert np.array_equal(region.bound(Geometry(4, 4)).bits, mask & (np.arange(4) < 2)[:, None])
    with pytest.raises(UsageError, match="was not read"):
        Region("mask(a.npy)").bound(Geometry(4, 4))
    assert not Region("mask(unknown.npy)").depends_on_data


@pytest.mark.parametrize(
    ("text", "found", "character", "expected"),
    [
        ("raws 0-3", "'raws'", 1, "did you mean 'rows 0-63'?"),
        ("rows 0-3 & conduting", "'conduting'", 12, "did you mean 'conducting'?"),
        ("rows", "'rows'", 1, "'rows 0-63'"),
        ("rows 0-3, all", "','", 9, "| to join regions"),
        ("(rows 0-3 & col 1", "no ')'", 1, "a closing parenthesis"),
        ("rows 0-3)", "')'", 9, "an opening parenthesis"),
        ("rows 0-3 &", "the end", 11, "one of: all, rows"),
        ("rows 0-3 col 1", "'col 1'", 10, "an operator"),
        ("rows 0-3 | | col 1", "'|'", 12, "one of: all, rows"),
        ("cell (1)", "'cell (1)'", 1, "'cell (3, 7)'"),
        ("one-of-pair(seed=x)", "'one-of-pair(seed=x)'", 1, "'one-of-pair(seed=7)'"),
        ("(" * 60 + "all" + ")" * 60, "parentheses", 51, "a simpler region"),
    ],
)
def test_a_mistake_is_told_with_its_place_in_the_text(text, found, character, expected):
    with pytest.raises(UsageError) as caught:
        Region(text)
    assert f"found {found}" in str(caught.value)
    assert f"at character {character} of the region" in str(caught.value)
    assert expected in str(caught.value).partition("expected")[2]
