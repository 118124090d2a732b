"""Wrong protocol files: mistakes that a person makes, written by hand, and every shipped protocol with something broken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rramlab.base.folders import listing, shipped
from rramlab.base.yamlfile import Location, load_yaml


@dataclass(frozen=True)
class Wrong:
    """A wrong file: what it is called, its text, on which line an error must be (0: any), and a word of the error."""

    name: str
    text: str
    line: int = 0
    word: str = ""


# Steps that are wrong whatever stands before them: (what, step, word of the error).
STEPS = [
    ("unknown-step", "anneal: {cells: all}", "unknown step"),
    ("misspelt-step", "raed: {cells: all}", "unknown step"),
    ("a-number", "7", "expected one step"),
    ("two-in-one", "{read: {cells: all}, contact: }", "expected one step"),
    ("list-for-mapping", "read: [all]", "expected keys and values"),
    ("text-for-mapping", "read: all", "expected keys and values"),
    ("engines-own-name", "read: {cells: all, name: pilot}", "found the data set 'pilot'"),
    ("engines-bystanders", "read: {cells: all, name: bystanders-before}", "choose another name"),
    ("unknown-key", "read: {cells: all, repaets: 2}", "unknown key 'repaets'"),
    ("off-the-die", "read: {cells: rows 0-512}", "off the die"),
    ("column-off-the-die", "read: {cells: 'rows 0-3 & cols 500-600'}", "off the die"),
    ("cell-off-the-die", "read: {cells: 'cell (512, 0)'}", "off the die"),
    ("unknown-region", "read: {cells: raws 0-3}", "did you mean"),
    ("backwards", "read: {cells: rows 7-3}", "before its first"),
    ("unclosed", "read: {cells: '(rows 0-3 & col 1'}", "closing parenthesis"),
    ("comma-joins", "read: {cells: 'rows 0-3, cols 1'}", "| to join"),
    ("no-cell", "read: {cells: 'rows 0-3 & rows 8-9'}", "means no cell"),
    ("region-a-number", "read: {cells: 5}", "cells"),
    ("no-mask-file", "read: {cells: mask(nowhere.npy)}", "file that exists"),
    ("unknown-reference", "read: {cells: '${nowhere}'}", "nowhere"),
    ("open-reference", "read: {cells: '${nowhere'}", "no '}'"),
    ("zero-repeats", "read: {repeats: 0}", "repeats"),
    ("repeats-in-words", "read: {repeats: many}", "repeats"),
    ("octal", "read: {repeats: 010}", "decimal"),
    ("no-unit", "reset: {cells: row 0, voltage: 2, width: 1 us, gate: 3 V}", "unit"),
    ("wrong-unit", "reset: {cells: row 0, voltage: 2 V, width: 1 uS, gate: 3 V}", "in s"),
    ("decimal-comma", "reset: {cells: row 0, voltage: '1,5 V', width: 1 us, gate: 3 V}", "comma"),
    ("negative", "reset: {cells: row 0, voltage: -2 V, width: 1 us, gate: 3 V}", "voltage"),
    ("nan", "reset: {cells: row 0, voltage: nan V, width: 1 us, gate: 3 V}", "finite"),
    ("infinite", "reset: {cells: row 0, voltage: 2 V, width: inf s, gate: 3 V}", "finite"),
    ("bare-infinity", "reset: {cells: row 0, voltage: .inf, width: 1 us, gate: 3 V}", "unit"),
    ("missing", "reset: {cells: row 0, voltage: 2 V, width: 1 us}", "'gate' is missing"),
    ("list-for-value", "reset: {cells: row 0, voltage: [2 V], width: 1 us, gate: 3 V}", "voltage"),
    ("nothing-for-value", "reset: {cells: row 0, voltage: , width: 1 us, gate: 3 V}", "voltage"),
    ("beyond-the-bench", "reset: {cells: row 0, voltage: 2.6 V, width: 1 us, gate: 3 V}", "limit"),
    ("too-short", "reset: {cells: row 0, voltage: 2 V, width: 1 ns, gate: 3 V}", "shortest_pulse"),
    ("gate-beyond", "reset: {cells: row 0, voltage: 2 V, width: 1 us, gate: 9 V}", "gate"),
    (
        "forming-too-high",
        "electroform: {cells: row 0, voltage: 4.5 V, width: 1 us, gate: 1.6 V}",
        "electroform_voltage",
    ),
    ("no-pilot", "electroform: {cells: rows 100-109, voltage: 3.7 V, width: 1 us, gate: 1.6 V}", "pilot"),
    ("hollow-pilot", "electroform: {cells: all, voltage: 3.7 V, width: 1 us, gate: 1.6 V, pilot: {rows: 4}}", "pilot"),
    (
        "pilot-of-a-set",
        "set: {cells: row 0, voltage: 2 V, width: 1 us, gate: 2 V, "
        "pilot: {formed_fraction: [0.9, 1], median: [8 uS, 18 uS]}}",
        "pilot",
    ),
    ("window-backwards", "expect: {window: {formed_fraction: [1, 0.5]}}", "lower bound"),
    ("window-of-one", "expect: {window: {formed_fraction: [1]}}", "formed_fraction"),
    ("empty-window", "expect: {window: {}}", "empty window"),
    ("share-beyond-one", "expect: {window: {formed_fraction: [0.5, 50]}}", "formed_fraction"),
    ("median-no-unit", "expect: {window: {median: [8, 18]}}", "unit"),
    ("unloaded-slot", "multiply: {slot: 3}", "slot 3"),
    ("unknown-inputs", "multiply: {inputs: twos}", "inputs"),
    ("split-pair", "gate: {rows: rows 0-3, columns: cols 0-6}", "pairs"),
    ("gate-of-cells", "gate: {rows: 'cell (3, 7)'}", "whole rows"),
    ("two-cells", "sweep: {cell: rows 0-1, voltage: 0.2 V}", "one cell"),
    ("sweep-for-ever", "sweep: {cell: '(3, 7)', voltage: 0.2 V, points: 100000}", "points"),
    ("sweep-too-high", "sweep: {cell: '(3, 7)', voltage: 1 V}", "read"),
    ("unknown-sweep", "sweep: {cell: '(3, 7)', voltage: 0.2 V, kind: burn}", "burn"),
    ("no-target", "route: {voltage: 0.1 V}", "no target"),
    ("two-targets", "route: {cell: '(3, 7)', reference: 0}", "cell and reference"),
    ("no-such-resistor", "route: {reference: 99}", "99"),
    ("unknown-unit-on-bench", "route: {reference: 0, smu: other}", "other"),
    ("isolated-perhaps", "read: {cells: row 0, isolated: perhaps}", "isolated"),
    ("isolated-misspelt", "read: {cells: row 0, isloated: yes}", "unknown key 'isloated'"),
    ("isolated-contact", "contact: {isolated: yes}", "unknown key 'isolated'"),
    ("reference-of-nothing", "reference", "missing"),
    ("reference-unspelled", "reference: {resistor: shut}", "counted from 0, or open"),
    ("reference-negative", "reference: {resistor: -1}", "counted from 0, or open"),
    ("reference-a-share", "reference: {resistor: 0.5}", "counted from 0, or open"),
    ("reference-not-there", "reference: {resistor: 2}", "no reference resistor 2"),
    ("reference-range", "reference: {resistor: 0, range: reed}", "range"),
    ("reference-too-high", "reference: {resistor: 0, voltage: 0.21 V}", "read_voltage"),
    ("reference-no-unit", "reference: {resistor: 0, voltage: 0.1}", "unit"),
    ("reference-too-often", "reference: {resistor: open, repeats: 4097}", "repeats"),
    ("reference-of-cells", "reference: {resistor: 0, cells: all}", "unknown key 'cells'"),
    ("reference-kind", "reference: {resistor: 0, kind: reference}", "unknown key 'kind'"),
    ("wait-in-minutes-of-yaml", "wait: {time: 1:30}", "unit"),
    ("wait-for-nothing", "wait: {time: 0 s}", "time"),
    ("wait-bare", "wait", "missing"),
    ("program-without", "program: {cells: row 0, target: 12 uS, tolerance: 1 uS, budget: 5}", "missing"),
    (
        "program-ladder-bare",
        "program: {cells: row 0, target: 12 uS, tolerance: 1 uS, budget: 5, set: {start: 1}, "
        "reset: {start: 1 V, to: 2 V, step: 50 mV, width: 1 us, gate: 3 V}}",
        "unit",
    ),
    (
        "program-file-missing",
        "program: {cells: row 0, target: gone.npy, tolerance: 1 uS, budget: 5, "
        "set: {start: 1 V, to: 2 V, step: 50 mV, width: 1 us, gate: 3 V}, "
        "reset: {start: 1 V, to: 2 V, step: 50 mV, width: 1 us, gate: 3 V}}",
        "file that exists",
    ),
    (
        "program-too-high",
        "program: {cells: row 0, target: 12 uS, tolerance: 1 uS, budget: 5, "
        "set: {start: 1 V, to: 3 V, step: 50 mV, width: 1 us, gate: 1.6 V}, "
        "reset: {start: 1 V, to: 2 V, step: 50 mV, width: 1 us, gate: 3 V}}",
        "set_voltage",
    ),
    ("repeat-nothing", "repeat: {times: 3, steps: []}", "at least one"),
    ("repeat-no-steps", "repeat: {times: 3}", "at least one"),
    ("repeat-never", "repeat: {times: 0, steps: [contact]}", "times"),
    ("repeat-key", "repeat: {time: 3, steps: [contact]}", "unknown key 'time'"),
    ("repeat-inner", "repeat: {times: 3, steps: [{read: {cells: raws 0-3}}]}", "raws"),
    ("until-without-window", "repeat: {times: 3, until: {cells: all}, steps: [contact]}", "window"),
    (
        "until-off-the-die",
        "repeat: {times: 3, until: {cells: row 600, window: {formed_fraction: [0, 1]}}, steps: [read]}",
        "off the die",
    ),
    (
        "too-deep",
        "repeat: {times: 2, steps: [repeat: {times: 2, steps: [repeat: {times: 2, steps: "
        "[repeat: {times: 2, steps: [contact]}]}]}]}",
        "at most 3 deep",
    ),
    ("for-each-unused", "for_each: {values: {v: [1, 2]}, steps: [contact]}", "do not use ${v}"),
    ("for-each-of-two", "for_each: {values: {v: [1], w: [2]}, steps: [read: {repeats: '${v}'}]}", "one name"),
    ("for-each-empty", "for_each: {values: {v: []}, steps: [read: {repeats: '${v}'}]}", "expected a list"),
    ("for-each-mixed", "for_each: {values: {v: [1 V, 2 s]}, steps: [wait: {time: '${v}'}]}", "one kind"),
    (
        "for-each-no-step",
        "for_each: {values: {v: {from: 1, to: 3}}, steps: [read: {repeats: '${v}'}]}",
        "from, to and step",
    ),
    (
        "for-each-stuck",
        "for_each: {values: {v: {from: 1, to: 3, step: 0}}, steps: [read: {repeats: '${v}'}]}",
        "above 0",
    ),
    (
        "for-each-endless",
        "for_each: {values: {v: {from: 0 V, to: 1 V, step: 1 nV}}, steps: [wait: {time: '${v}'}]}",
        "100,000",
    ),
    (
        "for-each-units",
        "for_each: {values: {v: {from: 0 V, to: 1 s, step: 1 V}}, steps: [wait: {time: '${v}'}]}",
        "one unit",
    ),
    ("for-each-key", "for_each: {valeus: {v: [1]}, steps: [read: {repeats: '${v}'}]}", "unknown key 'valeus'"),
    ("for-each-round", "for_each: {values: {v: [2, 0]}, steps: [read: {repeats: '${v}'}]}", "where v is 0"),
    ("for-each-unit", "for_each: {values: {v: [1 V]}, steps: [wait: {time: '${v}'}]}", "where v is 1.0 V"),
    (
        "for-each-limit",
        "for_each: {values: {v: {from: 2 V, to: 3 V, step: 100 mV}}, "
        "steps: [reset: {cells: row 0, voltage: '${v}', width: 1 us, gate: 3 V}]}",
        "reset_voltage",
    ),
]

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
GOOD = "name: mine\ndescription: For a test.\nsteps:\n  - contact\n"
# Files that are wrong as a whole: (what, text, line, word).
FILES = [
    ("empty", "", 1, "empty"),
    ("only-a-comment", "# to be written\n", 1, "empty"),
    ("a-list", "- contact\n", 1, "keys and values"),
    ("a-word", "contact\n", 1, "keys and values"),
    ("no-name", GOOD.replace("name: mine\n", ""), 1, "'name' is missing"),
    ("name-with-space", GOOD.replace("name: mine", "name: my own"), 1, "name"),
    ("name-a-number", GOOD.replace("name: mine", "name: 12"), 1, "name"),
    ("no-description", GOOD.replace("description: For a test.\n", ""), 1, "'description' is missing"),
    ("no-steps", GOOD.replace("steps:\n  - contact\n", ""), 1, "'steps' is missing"),
    ("empty-steps", GOOD.replace("\n  - contact", " []"), 3, "steps"),
    ("steps-of-nothing", GOOD.replace("\n  - contact", ""), 3, "steps"),
    ("steps-a-mapping", GOOD.replace("  - contact", "  contact: {}"), 3, "steps"),
    ("block-rows", GOOD + "block_rows: 0\n", 5, "block_rows"),
    ("unknown-limit", GOOD + "limits: {voltage: 2 V}\n", 5, "voltage"),
    ("limit-without-unit", GOOD + "limits: {reset_voltage: 2}\n", 5, "unit"),
    ("limit-negative", GOOD + "limits: {reset_voltage: -2 V}\n", 5, "reset_voltage"),
    ("parameters-a-list", GOOD + "parameters: [voltage]\n", 5, "parameters"),
    ("parameter-without-type", GOOD + "parameters:\n  v: {description: x}\n", 6, "type"),
    ("parameter-type", GOOD + "parameters:\n  v: {type: voltage, description: x}\n", 6, "type"),
    ("parameter-without-words", GOOD + "parameters:\n  v: {type: number}\n", 6, "description"),
    ("parameter-unit", GOOD + "parameters:\n  v: {type: quantity, unit: Volt, description: x}\n", 6, "unit"),
    ("parameter-no-unit", GOOD + "parameters:\n  v: {type: quantity, description: x}\n", 6, "unit"),
    (
        "parameter-range",
        GOOD + "parameters:\n  v: {type: number, minimum: 2, maximum: 1, description: x}\n",
        6,
        "maximum",
    ),
    (
        "parameter-default",
        GOOD + "parameters:\n  v: {type: integer, default: 5, maximum: 4, description: x}\n",
        6,
        "at most",
    ),
    ("parameter-choices", GOOD + "parameters:\n  v: {type: number, choices: [a], description: x}\n", 6, "choices"),
    ("parameter-unused", GOOD + "parameters:\n  v: {type: number, default: 1, description: x}\n", 6, "no step uses"),
    ("tab", GOOD + "\t- contact\n", 5, "tab"),
    ("twice", GOOD + "name: again\n", 5, "twice"),
    ("unclosed-brace", GOOD + "  - read: {cells: all\n", 6, "YAML"),
    ("unclosed-quote", GOOD + "  - read: {cells: 'all}\n", 6, "YAML"),
    ("bad-indent", GOOD + " - contact\n", 5, "YAML"),
    ("a-tag", GOOD + "  - !!python/object:os.system contact\n", 5, "tag"),
    ("bomb", _BOMB + GOOD, 0, "values"),
    ("unknown-anchor", GOOD + "  - read: *cells\n", 5, "alias"),
    ("two-documents", GOOD + "---\n" + GOOD, 0, "document"),
    ("control-character", GOOD + "  - \x07contact\n", 5, "character"),
    (
        "wider-limit-is-none",
        GOOD + "  - reset: {cells: row 0, voltage: 2.4 V, width: 1 us, gate: 3 V}\nlimits: {reset_voltage: 2 V}\n",
        5,
        "reset_voltage",
    ),
    (
        "taken-name",
        "name: mine\ndescription: x\nparameters: {v: {type: number, default: 1, description: x}}\nsteps:\n"
        "  - for_each: {values: {v: [1]}, steps: [read: {repeats: '${v}'}]}\n",
        5,
        "taken",
    ),
]
QUANTITY = re.compile(r"(?<![\w.-])([0-9.]+) ([num]?[VsSA]|h|d)(?![\w])")


def written_by_hand() -> Iterator[Wrong]:
    """The files and steps above; every step after one that is good."""
    for name, text, line, word in FILES:
        yield Wrong(f"file-{name}", text, line, word)
    for name, step, word in STEPS:
        yield Wrong(f"step-{name}", f"{GOOD}  - {step}\n", 5, word)


def one_in(number: int) -> int:
    """Return of how many mistakes one is to be tried: ``number``, or 1 with ``RRAMLAB_ALL_MISTAKES=1`` in the environment."""
    return 1 if os.environ.get("RRAMLAB_ALL_MISTAKES") else number


def broken_shipped() -> Iterator[Wrong]:
    """Every shipped protocol with one thing broken: each key, each quantity, each reference and each region, one at a time."""
    for name, located in sorted(listing(shipped().path, "protocols").items()):
        lines = located.path.read_text(encoding="utf-8").splitlines()
        yield from _misspelt_keys(name, located.path, lines)
        for number, line in enumerate(lines):
            code = line.partition("  #")[0]
            if ("description:" in code and "{" not in code) or code.startswith("#"):
                continue
            for index, found in enumerate(QUANTITY.finditer(code.partition("description:")[0])):
                value, unit = found.groups()
                for what, new in (("unitless", value), ("unit", f"{value} {'V' if unit.endswith('A') else 'A'}")):
                    yield _changed(f"{name}-{what}-{number + 1}-{index}", lines, number, found.span(), new)
            for index, found in enumerate(re.finditer(r"\$\{([a-z-]+)\}", code)):
                yield _changed(f"{name}-reference-{number + 1}-{index}", lines, number, found.span(), "${nowhere}")
        for what, step in (
            ("region", "read: {cells: rows 0-512}"),
            ("limit", "reset: {cells: row 0, voltage: 3 V, width: 1 us, gate: 3 V}"),
            ("step", "anneal"),
            ("tab", "\tread"),
        ):
            yield Wrong(f"{name}-last-{what}", "\n".join(lines) + f"\n  - {step}\n", len(lines) + 1)


def _misspelt_keys(name: str, path: Path, lines: list[str]) -> Iterator[Wrong]:
    document = load_yaml(path)
    aliased = set()
    for location in _keys(document.data, ()):
        key, place = location[-1], document.at(location)
        line, column = place.line, place.column
        if (line, column) in aliased:
            continue
        aliased.add((line, column))
        start = column - 1
        assert lines[line - 1][start:].startswith(key), (path, line, column)
        yield _changed(f"{name}-key-{line}-{column}", lines, line - 1, (start, start + len(key)), f"{key}x")


def _keys(data: Any, at: Location) -> Iterator[Location]:
    """Where each key of plain data stands."""
    for part, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        if isinstance(part, str):
            yield (*at, part)
        yield from _keys(value, (*at, part))


def _changed(name: str, lines: list[str], number: int, span: tuple[int, int], new: str) -> Wrong:
    line = lines[number]
    changed = [*lines[:number], line[: span[0]] + new + line[span[1] :], *lines[number + 1 :]]
    return Wrong(name, "\n".join(changed) + "\n")
