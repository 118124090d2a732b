"""Broken lines, select bits and converters of a simulated board: what reads, products and pulses make of them."""

from __future__ import annotations

import numpy as np
import pytest
from workbench import SmallBench, conducting_now, forming_plan, hidden, ledger_of

from rramlab.base.errors import InstrumentError, OutOfLimits, UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.regions import Region

DIE = "small-1"
ROWS, COLUMNS, GROUP = 32, 16, 8
ADC = 4  # columns of one converter
TOP = (1 << 14) - 1
VOLTS = {"electroform": 3.75, "set": 2.0, "reset": 2.0}


def broken(folder, faults="{}", preset="ideal", **more):
    """A bench whose board has ``faults``; ideal apart from them, so that formulas hold to a code."""
    options = ", ".join([f"preset: {preset}", f"faults: {faults}", *(f"{key}: {value}" for key, value in more.items())])
    return SmallBench(folder, dies={DIE: f"preset: {preset}, seed: 5"}, board_options=f"{{{options}}}").write()


def board_of(session):
    return session.bench.controllers[DIE]


def pulse(session, cells, kind="electroform", op_id=1):
    """Send one pulse past every guard, to the board itself; return what it reports."""
    table, geometry = session.description.board, session.description.board.geometry
    volts, gate = table.dac_code(VOLTS[kind]), table.dac_code(1.6)
    return board_of(session).pulse(op_id, kind, Region(cells).bound(geometry), volts, 1000, gate, 1)


def formed(folder):
    """Form a checkerboard while all is well."""
    with broken(folder).open() as session:
        pulse(session, "checkerboard")
        return conducting_now(session).copy()


def read_codes(session):
    """What one read of each cell gives, in codes above zero, and codes a siemens: float64[rows, columns], float."""
    table = session.description.board
    bias = table.dac_code(table.read_voltage_V)
    codes = board_of(session).read(CellSelection.everything(table.geometry), 1, bias)
    scale = table.dac_volts(bias) / table.read_voltage_V / table.read_step_S
    return codes.reshape(table.geometry.shape).astype(float) - table.zero_code, scale


# reads ----------------------------------------------------------------------------------------------------------------


def expected_read(cells, open_rows=(), open_columns=(), shorts=(), stuck_rows=()):
    """Kirchhoff, with every unselected row at 0 V: the currents of all bit lines that are on add up."""
    seen = cells.astype(float)
    for row, column in shorts:
        seen[row, column] += 5e-3
    seen[list(open_rows)] = 0
    seen[:, list(open_columns)] = 0
    on = np.eye(len(seen), dtype=bool)
    on[:, list(stuck_rows)] = True
    return on @ seen


READS = [
    ("{}", {}),
    ("{open_rows: [3, 31]}", {"open_rows": [3, 31]}),
    ("{open_columns: [0, 9]}", {"open_columns": [0, 9]}),
    ("{shorts: [[3, 4]]}", {"shorts": [(3, 4)]}),
    ("{stuck_rows: [5]}", {"stuck_rows": [5]}),
    ("{stuck_rows: [5], open_rows: [5, 6]}", {"stuck_rows": [5], "open_rows": [5, 6]}),
    ("{stuck_rows: [5], shorts: [[5, 2]]}", {"stuck_rows": [5], "shorts": [(5, 2)]}),
    ("{open_rows: [3], shorts: [[3, 4]]}", {"open_rows": [3], "shorts": [(3, 4)]}),
]


@pytest.mark.parametrize(("faults", "named"), READS, ids=[faults for faults, _ in READS])
def test_a_read_sees_what_the_lines_carry(tmp_path, faults, named):
    cells = formed(tmp_path)
    with broken(tmp_path, faults).open() as session:
        found, scale = read_codes(session)
        expected = np.clip(expected_read(cells, **named) * scale, 0, TOP - session.description.board.zero_code)
        assert np.abs(found - expected).max() <= 0.51
        assert np.array_equal(conducting_now(session), cells)  # the cells are as they were


def test_a_converter_that_is_saturated_gives_its_highest_code_whatever_it_reads(tmp_path):
    cells = formed(tmp_path)
    with broken(tmp_path, "{saturated_adcs: [1, 3]}").open() as session:
        table = session.description.board
        found, scale = read_codes(session)
        dead = np.isin(np.arange(COLUMNS) // ADC, [1, 3])
        assert (found[:, dead] == TOP - table.zero_code).all()
        assert np.abs(found[:, ~dead] - cells[:, ~dead] * scale).max() <= 0.51


# products -------------------------------------------------------------------------------------------------------------


def product(session, pattern_rows, x, bits):
    """What the board answers for inputs ``x`` on ``pattern_rows``, every column on."""
    driven = np.zeros((1, ROWS), bool)
    driven[0, pattern_rows] = True
    board_of(session).load_gates(0, driven, np.zeros(COLUMNS, np.int16))
    return board_of(session).multiply(x, bits, 0, np.arange(COLUMNS))


def formula(table, seen, pattern_rows, x, bits, stuck_rows=(), saturated=()):
    """Return sums, and how many conversions saturate: plane by plane, group by group, each conversion rounded once."""
    stuck = np.isin(np.arange(ROWS), stuck_rows)
    sums, count = np.zeros((len(x), COLUMNS)), np.zeros(COLUMNS, int)
    for group in np.unique(np.array(pattern_rows) // GROUP):
        for plane in range(bits):
            on = np.zeros((len(x), ROWS))
            on[:, pattern_rows] = (x >> plane) & 1
            on[:, (np.arange(ROWS) // GROUP != group)] = 0
            on[:, stuck] = 1  # whatever the inputs and the group are
            codes = table.zero_code + on @ seen / table.multiply_step_S
            codes[:, np.isin(np.arange(COLUMNS) // ADC, saturated)] = TOP
            codes = np.clip(np.rint(codes), 0, TOP)
            count += np.count_nonzero((codes <= 0) | (codes >= TOP), axis=0)
            sums += codes * 2**plane
    return sums, count


PRODUCTS = [
    ("{}", {}, {}),
    ("{open_rows: [3]}", {"open_rows": [3]}, {}),
    ("{open_columns: [9]}", {"open_columns": [9]}, {}),
    ("{shorts: [[3, 4]]}", {"shorts": [(3, 4)]}, {}),
    ("{stuck_rows: [5]}", {}, {"stuck_rows": [5]}),
    ("{stuck_rows: [5, 30]}", {}, {"stuck_rows": [5, 30]}),
    ("{stuck_rows: [5], open_rows: [5]}", {"open_rows": [5]}, {"stuck_rows": [5]}),
    ("{saturated_adcs: [1]}", {}, {"saturated": [1]}),
]


@pytest.mark.parametrize(("faults", "seen", "lines"), PRODUCTS, ids=[faults for faults, _, _ in PRODUCTS])
@pytest.mark.parametrize("rows", [range(ROWS), [0, 3, 5, 6, 12, 13]], ids=["all rows", "some rows"])
def test_a_product_is_the_formula_of_the_broken_board(tmp_path, faults, seen, lines, rows):
    cells, rows, bits = formed(tmp_path), list(rows), 3
    x = np.random.default_rng(2).integers(0, 1 << bits, (20, len(rows)), dtype=np.uint8)
    with broken(tmp_path, faults).open() as session:
        table = session.description.board
        found = product(session, rows, x, bits)
        sums, saturated = formula(table, expected_read(cells, **seen), rows, x, bits, **lines)
        # A sum that lies on the border between two codes may be rounded either way, once in a plane and group. The grid
        # on which the cells lie is the coarser the more the largest of them conducts.
        assert np.abs(found.codes - sums).max() <= 2**bits - 1
        assert np.count_nonzero(found.codes != sums) < sums.size / (5 if "shorts" in seen else 50)
        assert np.array_equal(found.saturated, saturated)


def test_what_a_stuck_bit_adds_does_not_depend_on_the_inputs(tmp_path):
    cells = formed(tmp_path)
    quiet = np.zeros((1, ROWS), np.uint8)
    with broken(tmp_path, "{stuck_rows: [5]}").open() as session:
        table = session.description.board
        found = product(session, list(range(ROWS)), quiet, 1).codes[0]
        groups = ROWS // GROUP
        assert np.abs(found / groups - table.zero_code - cells[5] / table.multiply_step_S).max() <= 0.51
        alone = np.where(np.arange(ROWS) == 5, 1, 0).astype(np.uint8)[None]
        assert np.array_equal(product(session, list(range(ROWS)), alone, 1).codes[0], found)


# pulses ---------------------------------------------------------------------------------------------------------------


PULSES = [
    ("{open_rows: [3]}", "rows 0-7", "electroform", lambda bits: bits.__setitem__(3, False)),
    ("{open_rows: [3]}", "row 3", "electroform", lambda bits: bits.fill(False)),
    ("{open_columns: [9]}", "rows 0-7", "electroform", lambda bits: bits.__setitem__((slice(None), 9), False)),
    (
        "{stuck_columns: [9]}",
        "rows 2-5 & cols 0-3",
        "electroform",
        lambda bits: bits.__setitem__((slice(2, 6), 9), True),
    ),
    ("{stuck_columns: [9]}", "rows 2-5 & cols 0-3", "set", lambda bits: bits.__setitem__((slice(2, 6), 9), True)),
    ("{stuck_columns: [9]}", "rows 2-5 & cols 0-3", "reset", lambda bits: None),  # source lines are at ground
    (
        "{stuck_columns: [9], open_rows: [4]}",
        "rows 2-5 & cols 0-3",
        "electroform",
        lambda bits: (bits.__setitem__((slice(2, 6), 9), True), bits.__setitem__(4, False)),
    ),
    ("{saturated_adcs: [0]}", "rows 0-7", "electroform", lambda bits: None),
    ("{stuck_rows: [5]}", "rows 0-3", "electroform", lambda bits: None),  # word lines of other rows are off
]


@pytest.mark.parametrize(("faults", "asked", "kind", "changes"), PULSES)
def test_a_pulse_reaches_the_cells_that_the_lines_lead_to(tmp_path, faults, asked, kind, changes):
    with broken(tmp_path, faults).open() as session:
        before = conducting_now(session).copy()
        report = pulse(session, asked, kind)
        wanted = Region(asked).bound(session.description.board.geometry)
        assert report.done == wanted  # the board does not know better
        reached = wanted.bits.copy()
        changes(reached)
        assert np.array_equal(hidden(session).pulses, reached.astype(int))
        untouched = conducting_now(session)[~reached]
        assert np.array_equal(untouched, before[~reached])


# the bench file, the contact test, the temperature ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("{open_rows: [32]}", ["open_rows has 32", "0 to 31"]),
        ("{open_columns: [16]}", ["open_columns has 16", "0 to 15"]),
        ("{open_rows: [-1]}", ["open_rows has -1"]),
        ("{shorts: [[32, 0]]}", ["shorts (rows) has 32"]),
        ("{shorts: [[0, 16]]}", ["shorts (columns) has 16"]),
        ("{shorts: [3]}", ["faults.shorts.0"]),
        ("{stuck_rows: [99]}", ["stuck_rows has 99"]),
        ("{stuck_columns: [16]}", ["stuck_columns has 16"]),
        ("{saturated_adcs: [4]}", ["saturated_adcs has 4", "0 to 3"]),
        ("{open_row: [1]}", ["faults.open_row"]),
        ("{open_rows: [a]}", ["faults.open_rows.0"]),
        ("3", ["faults"]),
    ],
)
def test_what_is_not_on_the_board_is_a_usage_error(tmp_path, faults, words):
    with pytest.raises(UsageError) as caught, broken(tmp_path, faults).open():
        pass
    for word in ("bench.yaml", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("{open_rows: [7]}", "open bit lines (rows): 7"),
        ("{open_columns: [9]}", "open source lines (columns): 9"),
        ("{shorts: [[3, 4]]}", "shorted cells: (3, 4)"),
        ("{stuck_rows: [5]}", "rows that are always on: 5"),
        ("{saturated_adcs: [1]}", "columns with a saturated ADC: 4, 5, 6, 7"),
    ],
)
def test_the_contact_test_names_what_it_can_see(tmp_path, faults, words):
    with broken(tmp_path, faults, preset="published").open() as session:
        with pytest.raises(OutOfLimits) as caught:
            session.run("contact")
        assert words in str(caught.value)
        with pytest.raises(OutOfLimits):
            session.run(forming_plan(), arm=DIE)  # nothing is pulsed through broken lines
        assert not hidden(session).pulses.any()
        assert not ledger_of(session).pulse_counts().any()


def test_a_board_that_is_too_hot_refuses_pulses_in_words_and_reads_on(tmp_path):
    with broken(tmp_path, temperature=130).open() as session:
        with pytest.raises(InstrumentError) as caught:
            session.run(forming_plan(), arm=DIE)
        for words in ("SIM-0009", "over-temperature", "130 °C", "125 °C", "nothing was pulsed", "cool down"):
            assert words in str(caught.value)
        assert not hidden(session).pulses.any()
        assert np.isfinite(session.macro.read("all")).all()
        assert session.bench.identities[DIE].temperature_C == 130
        assert board_of(session).status().temperature_C == 130


@pytest.mark.parametrize("celsius", [-55, 125])
def test_a_board_within_its_temperatures_pulses(tmp_path, celsius):
    with broken(tmp_path, temperature=celsius).open() as session:
        pulse(session, "row 0")
        assert hidden(session).pulses[0].all()


def test_after_the_board_has_cooled_down_the_refused_operation_is_done_once(tmp_path):
    with broken(tmp_path, temperature=130).open() as session, pytest.raises(InstrumentError):
        session.run(forming_plan("rows 0-7"), arm=DIE)
    with broken(tmp_path, temperature=25).open() as session:
        session.run(forming_plan("rows 0-7"), arm=DIE)
        assert (hidden(session).pulses[:8] == 1).all()
        assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
