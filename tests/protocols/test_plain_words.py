"""Whatever is wrong in a file that people write is said in our words: what was found, what was expected.

Of the broken protocols every fourth is tried; with ``RRAMLAB_ALL_MISTAKES=1`` in the environment all of them.
"""

import copy
import itertools
import re

import pytest
import yaml
from mistakes import one_in

from rramlab.base.errors import RramlabError
from rramlab.base.folders import shipped
from rramlab.base.yamlfile import YamlDocument, load_yaml, validate
from rramlab.drivers.bench import BenchFile
from rramlab.drivers.boardfile import BoardFile
from rramlab.drivers.smu.smufile import SmuFile
from rramlab.macro.geometry import Geometry
from rramlab.protocols.files import load_protocol
from rramlab.records.files import BoardRecord, DieRecord

JUNK = ["", "Ä ö", 7, -1, 1.5, float("inf"), True, None, [], [1], {}, {"a": 1}, "2020-13-45"]
# How pydantic speaks; and the names that it gives to types.
FOREIGN = re.compile(
    r"[Ii]nput should|should (be|have|match)|valid (str|int|num|bool|dict|list|tuple|date)|Value error|Field required|"
    r"after validation|instance of|unable to parse|function-|constrained|\[key\]|'\^"
)
UNIT = {"name": "smu", "driver": "keysight-b2900", "address": "simulated", "serial": "1", "channel": 1, "baud": 9600}
HOW = {
    "measured_at": "2026-11-22T14:00:00+00:00", "board": "b", "die": "d", "runs": ["r"], "instruments": ["i"],
    "temperature": "25 °C", "temperature_window": "5 °C", "valid_for": "90 d", "software": "x",
}  # fmt: skip
SMALL = {"value": "1 mV", "uncertainty": "0.1 mV"}
VOLTS, NUMBER = {"value": "3.4 V", "uncertainty": "1 mV"}, {"value": 1.0, "uncertainty": 0.001}
ARRAYS = {"file": "x.h5", "sha256": "0" * 64}
RANGE = {
    "gain": NUMBER, "gain_spread": 0.01, "column_gain_uncertainty": 1e-5, "offset": 0.1, "offset_spread": 1.0,
    "offset_uncertainty": 0.1, "residual": 0.3,
}  # fmt: skip
RESISTOR = {
    "resistor": 0,
    "resistance": {"value": "20 kOhm", "uncertainty": "15 Ohm"},
    "voltage": "0.2 V",
    "readings": 4,
}
RECORDS = {
    BoardRecord: {
        "kind": "board", "written_at": "2026-11-22T14:00:00+00:00", "serial": "b", "arrays": ARRAYS,
        "dac": {**HOW, "channel": 0, "levels": 9, "highest": "2 V", "gain": NUMBER, "offset": SMALL, "residual": "1 uV"},
        "adc": {**HOW, "method": "reference resistors", "references": [RESISTOR], "scale_uncertainty": 1e-3, "read": RANGE,
                "multiply": RANGE, "dac_gain": NUMBER, "dac_offset": SMALL},
    },
    DieRecord: {
        "kind": "die", "written_at": "2026-11-22T14:00:00+00:00", "die": "d",
        "forming": {**HOW, "mean": VOLTS, "sigma": SMALL, "width": "1 us", "gate": "1.6 V", "cells": 400, "formed": 390},
    },
}  # fmt: skip
LADDER = {"start": "1 V", "to": "2 V", "step": "50 mV", "width": "1 us", "gate": "1.6 V"}
WINDOW = {"formed_fraction": [0, 1], "median": ["8 uS", "18 uS"], "hint": "Look."}
PULSE = {"cells": "row 0", "voltage": "2 V", "width": "1 us", "gate": "3 V", "cells_per_pulse": 4, "bystanders": 8}
PROTOCOL = {
    "name": "all-steps",
    "description": "Every step with every key.",
    "block_rows": 8,
    "limits": {"set_voltage": "2 V", "pulses_per_cell": 4},
    "parameters": {
        "often": {"type": "integer", "default": 2, "minimum": 1, "maximum": 4, "description": "how often"},
        "which": {"type": "word", "default": "a", "choices": ["a", "b"], "description": "which"},
    },
    "steps": [
        "contact",
        {"read": {"cells": "all", "repeats": "${often}", "name": "${which}"}},
        {"electroform": {**PULSE, "pilot": {"rows": 4, "recheck_rows": 64, **WINDOW, "formed_fraction": [0.9, 1]}}},
        {"program": {"cells": "row 0", "target": "12 uS", "tolerance": "1 uS", "budget": 5, "set": LADDER, "reset": LADDER}},
        {"gate": {"slot": 0, "rows": "rows 0-3", "columns": "cols 0-7"}},
        {"multiply": {"slot": 0, "inputs": "ones", "seed": 1, "batch": 1, "bits": 1, "name": "m"}},
        {"sweep": {"cell": "(3, 7)", "voltage": "0.2 V", "points": 11, "dwell": "1 ms", "both_ways": True, "name": "s"}},
        {"route": {"reference": 0, "voltage": "0.1 V", "count": 1, "hold": "0 s", "compliance": "1 uA", "gate": "3 V"}},
        {"expect": {"cells": "all", "window": WINDOW, "on_failure": "stop"}},
        {"repeat": {"times": 2, "until": {"cells": "all", "window": WINDOW}, "steps": [{"wait": {"time": "1 s"}}]}},
        {"for_each": {"values": {"n": [1, 2]}, "steps": [{"read": {"repeats": "${n}"}}]}},
    ],
}  # fmt: skip


def places(node, at=()):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*at, key)
        yield from places(value, (*at, key))


def broken(data):
    """Yield the data with one value after another replaced by each piece of junk, and with a key that nobody knows."""
    for at in list(places(data)):
        for junk in JUNK:
            changed = copy.deepcopy(data)
            node = changed
            for key in at[:-1]:
                node = node[key]
            node[at[-1]] = junk
            yield at, junk, changed


def refusals(data, read, every=1):
    """Return what is said of each broken file that is refused; nothing but our own errors may come of any."""
    read(data)
    found = []
    for at, junk, changed in itertools.islice(broken(data), 0, None, every):
        try:
            read(changed)
        except RramlabError as error:
            found.append((at, junk, str(error)))
    return found


def assert_plain(found, least):
    assert len(found) > least
    assert [each for each in found if FOREIGN.search(each[2])] == []
    for at, junk, said in found:
        assert re.search(r"found|unknown|missing|no earlier", said), (at, junk, said)


@pytest.mark.parametrize(
    "model", [BenchFile, BoardFile, SmuFile, BoardRecord, DieRecord], ids=lambda model: model.__name__
)
def test_bench_driver_and_record_are_refused_in_plain_words(model):
    path = shipped().path / "bench.yaml"
    data = RECORDS.get(model)
    if model is BenchFile:
        data = load_yaml(path).data
        data["controller"] |= {"address": "x", "baud": 9600, "options": {}}
        data["smus"] = [UNIT]
    if model is BoardFile:
        data = load_yaml(shipped().path / "drivers" / "macro-40nm.yaml").data
    if model is SmuFile:
        data = load_yaml(shipped().path / "drivers" / "keithley-2450.yaml").data
        data["transcript"] = data["transcript"][:2]
    assert_plain(refusals(data, lambda data: validate(YamlDocument(path, data, {}), model)), 100)


def test_protocols_are_refused_in_plain_words(tmp_path):
    path = tmp_path / "all-steps.yaml"

    def read(data):
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        load_protocol(tmp_path, str(path)).plan(Geometry(), {})

    every = one_in(4)
    assert_plain(refusals(PROTOCOL, read, every), 500 // every)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "my own"}, "name: found 'my own', expected lower-case letters, digits or '-', the first a letter"),
        ({"steps": []}, "steps: found [], expected 1 or more entries"),
        ({"steps": "contact"}, "steps: found 'contact', expected a list"),
        ({"name": 12}, "name: found 12, expected text: put it in quotes"),
        ({"description": None}, "description: found nothing, expected text"),
        ({"block_rows": "many"}, "block_rows: found 'many', expected a whole number"),
        ({"parameters": ["often"]}, "parameters: found ['often'], expected keys and values"),
        ({"steps": [{"read": {"name": "A B"}}]},
         "name: found 'A B', expected lower-case letters, digits, '_' or '-', the first a letter"),
        ({"steps": [{"program": {**PROTOCOL["steps"][3]["program"], "target": "x"}}]},
         "target: found 'x', expected a quantity in S with its unit, such as '12 uS'"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_was_found_and_expected(tmp_path, change, words):
    path = tmp_path / "bad.yaml"
    path.write_text(
        yaml.safe_dump({"name": "bad", "description": "x", "steps": ["contact"], **change}, allow_unicode=True)
    )
    with pytest.raises(RramlabError) as caught:
        load_protocol(tmp_path, str(path)).plan(Geometry(), {})
    assert str(caught.value).endswith(words)


def test_the_kind_of_a_driver_file_is_a_word(tmp_path):
    from rramlab.drivers.driverfile import load_driver

    path = tmp_path / "d.yaml"
    path.write_text("kind: [smu]\n")
    with pytest.raises(RramlabError, match=r"found the kind \['smu'\], expected smu or board"):
        load_driver(tmp_path, str(path))
