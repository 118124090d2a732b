"""One board and one die, virgin, through all procedures; what they found against what the simulator hides."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rramlab.base.folders import shipped
from rramlab.calibration.procedures import analyse, chosen, measure
from rramlab.drivers.bench import describe_bench
from rramlab.engine.session import Session
from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.gates import GatePattern
from rramlab.macro.placement import Tile
from rramlab.records.applied import calibration_of
from rramlab.records.files import newest
from rramlab.runs.store import find_run

SAMPLED = 8  # columns and lines of each board whose pulls are kept
CORNER_ROW = 508
REPEATS = 256
REST_S = 4 * 3600.0  # after forming: cells relax for hours


def bench(folder, number, lossy):
    """Write a bench of its own board and die. Every other board is of the harsh kind; lossy dies have line resistance."""
    name = f"{'lossy' if lossy else 'ideal'}-{number:02d}"
    text = (shipped().path / "bench.yaml").read_text(encoding="utf-8")
    head, _, rest = text.partition("controller:")
    board = f"{{driver: macro-40nm, board: CAL-{name}, options: {{preset: {'harsh' if number % 2 else 'published'}}}}}"
    die = f"{{id: cal-{name}, options: {{model: {{wires: {{solver: {'fast' if lossy else 'none'}}}}}}}}}"
    smu = f"{{name: smu, driver: keysight-b2900, address: simulated, options: {{seed: {number}}}}}"
    tail = rest[rest.index("limits:") :]
    (folder / "bench.yaml").write_text(
        f"{head}controller: {board}\nsmus: [{smu}]\ndies: [{die}]\n{tail}", encoding="utf-8"
    )
    return describe_bench(folder)


class Bench:
    """A board and a die with what they hide."""

    def __init__(self, folder, number, lossy):
        self.description, self.lossy = bench(folder, number, lossy), lossy
        self.die = self.description.file.dies[0].id
        self.table = self.description.board
        with Session(self.description, calibrating=True) as session:
            controller = session.bench.controllers[self.die]
            self.board = controller.board
            self.breakdown_V = controller.die.breakdown_V.astype(np.float64)
            self.read_noise = controller.die.model.noise.read

    def calibrate(self, name, **parameters):
        procedure = chosen(name, self.table.capabilities)
        result = measure(self.description, procedure, parameters, arm=self.die)
        return analyse(self.description, procedure, find_run(self.description.data / "runs", result.run_id))


def one(number, lossy):
    """Calibrate board and die ``number``; return figures, and cases of (what, estimate − truth, standard uncertainty)."""
    with tempfile.TemporaryDirectory() as name:
        under = Bench(Path(name), number, lossy)
        found = {"number": number, "lossy": lossy, "board": "harsh" if number % 2 else "published"}
        cases = []
        _virgin(under, found, cases)
        _forming(under, found, cases)
        if lossy:
            _lines(under, found, cases)
            _products(under, found)
        else:
            _reads(under, found, cases)
        found["cases"] = cases
        found["passed"] = found["read_gain_p95"] <= 5e-4 and found["multiply_gain_p95"] <= 5e-4
        found["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        return found


def _sample(number, count):
    return np.random.default_rng(number).choice(count, SAMPLED, replace=False)


def _virgin(under, found, cases):
    """DAC and converters need no cell."""
    under.calibrate("dac")
    done = under.calibrate("adc")
    record, arrays, board = done.board.record, done.board.arrays, under.board
    cases.append(("DAC gain", record.dac.gain.value - board._dac_gain, record.dac.gain.uncertainty))
    cases.append(("DAC offset", record.dac.offset.value - board._dac_offset_V, record.dac.offset.uncertainty))
    for reference in record.adc.references:
        error = reference.resistance.value - float(board.reference_Ohm[reference.resistor])
        cases.append(("reference resistor", error, reference.resistance.uncertainty))
    for name in ("read", "multiply"):
        spread = getattr(record.adc, name)
        true_gain, true_offset = getattr(board, f"{name}_gain"), getattr(board, f"{name}_offset")
        gain, offset = arrays[f"adc/{name}_gain"], arrays[f"adc/{name}_offset"]
        relative = gain / gain.mean() / (true_gain / true_gain.mean()) - 1
        found[f"{name}_gain_p95"] = float(np.percentile(np.abs(relative), 95))
        found[f"{name}_offset_p95"] = float(np.percentile(np.abs(offset - true_offset), 95))
        found[f"{name}_gain_before_p95"] = float(np.percentile(np.abs(true_gain / true_gain.mean() - 1), 95))
        found[f"{name}_offset_before_p95"] = float(np.percentile(np.abs(true_offset), 95))
        cases.append((f"mean gain, {name}", spread.gain.value - float(true_gain.mean()), spread.gain.uncertainty))
        for column in _sample(found["number"], gain.size).tolist():
            cases.append((f"column gain, {name}", float(relative[column]), spread.column_gain_uncertainty))
            cases.append((f"column offset, {name}", float((offset - true_offset)[column]), spread.offset_uncertainty))


def _forming(under, found, cases):
    """A ramp on 400 cells; then half of the rest, wanted, at the voltage that it gives."""
    done = under.calibrate("forming")
    section = done.die.record.forming
    found["breakdown_error_V"] = section.mean.value - float(under.breakdown_V.mean())
    cases.append(("breakdown mean", found["breakdown_error_V"], section.mean.uncertainty))
    cases.append(("breakdown σ", section.sigma.value - float(under.breakdown_V.std()), section.sigma.uncertainty))
    parameters = {"cells": f"rows 0-{CORNER_ROW - 1}", "voltage": f"{section.curve.voltage_V(0.5):.5f} V",
                  "expected": "0.5", "within": "0.15", "together": "1", "lowest": "3 uS"}  # fmt: skip
    with Session(under.description, calibrating=True) as session:
        session.run("electroform", parameters, arm=under.die)
        controller = session.bench.controllers[under.die]
        controller.wait(REST_S)
        phase = controller.die.conductance_S[:CORNER_ROW]
        found["formed_of_half"] = float(np.mean(phase >= 2e-6))


def _conductances(under, isolated=False):
    """Read the first rows often; return codes' conductance by nominal figures and by the record, and the truth."""
    with Session(under.description, calibrating=True) as session:
        truth = session.bench.controllers[under.die].die.conductance_S[:64].astype(np.float64)
        result = session.run("read-array", {"cells": "rows 0-63", "repeats": str(REPEATS)})
        run = find_run(session.runs, result.run_id)
    (block,) = run.blocks("read")
    array = block.load()
    columns = np.nonzero(array["valid"])[1]
    bias = under.table.dac_code(under.table.read_voltage_V)
    kept = newest(under.description.root, "board", under.board.serial)
    codes = array["codes"][array["valid"]].T
    both = [
        each.conductance(codes, columns, bias).reshape(truth.shape).astype(np.float64)
        for each in (BoardCalibration.nominal(under.table), calibration_of(kept, under.table))
    ]
    return *both, truth, kept


def _reads(under, found, cases):
    noise = under.calibrate("noise").die.record.noise
    cases.append(("read noise", noise.read.value - under.read_noise, noise.read.uncertainty))
    linearity = under.calibrate("linearity").board.record.linearity
    found["linearity_residual"], found["linearity_slope"] = linearity.residual, linearity.slope.value
    agreement = under.calibrate("smu").board.record.agreement
    found["agreement"], found["agrees"] = agreement.ratio.value, agreement.agrees
    before, after, truth, kept = _conductances(under)
    above = truth > 5e-6
    ratio = after[above] / truth[above]
    found["conductance_relative_p95"] = float(np.percentile(np.abs(ratio / np.median(ratio) - 1), 95))
    found["conductance_before_p95"] = float(np.percentile(np.abs(before[above] / truth[above] - 1), 95))
    scale = float(np.median(ratio)) - 1
    scatter = 1.2533 * float(np.std(ratio)) / np.sqrt(ratio.size)
    found["conductance_scale"], found["scale_u"] = scale, kept.record.adc.scale_uncertainty
    cases.append(("conductance, absolute", scale, float(np.hypot(kept.record.adc.scale_uncertainty, scatter))))


def _lines(under, found, cases):
    done = under.calibrate("lines")
    formed = slice(0, CORNER_ROW)
    for name, what in (("bl", "bit line"), ("sl", "source line")):
        truth = getattr(under.board, f"{name}_Ohm")[formed if name == "bl" else slice(None)]
        values, each_u = (done.board.arrays[f"lines/{name}_{kind}"][: truth.size] for kind in ("Ohm", "u"))
        found[f"{name}_mean_error"] = float(values.mean() / truth.mean() - 1)
        found[f"{name}_worst"] = float(np.abs(values / truth - 1).max())
        for line in _sample(found["number"] + 1000, truth.size).tolist():
            cases.append((what, float(values[line] - truth[line]), float(each_u[line])))
    segment = done.die.record.wires.segment
    found["segment_error"] = segment.value / under.table.wire_resistance_Ohm - 1
    cases.append(("wire segment", segment.value - under.table.wire_resistance_Ohm, segment.uncertainty))


def _products(under, found):
    """Random vectors through random phases: against what the bare cells would give, with and without compensation."""
    rng = np.random.default_rng(found["number"])
    x = rng.integers(0, 16, (256, 512)).astype(np.uint8)
    tile = Tile("all", 0, 512, 256, 0, 0)
    patterns = {
        "all": GatePattern.lines(np.ones(512, bool), np.ones(256, bool)),
        "16 phases": GatePattern(rng.random((16, 512)) < 0.5, np.repeat(np.arange(256) % 16, 2).astype(np.int16)),
    }
    with Session(under.description, calibrating=True) as session:
        macro = session.macro
        cells = session.bench.controllers[under.die].die.conductance_S.astype(np.float64)
        for name, gates in patterns.items():
            wanted = x @ ((cells[:, 0::2] - cells[:, 1::2]) * gates.cells[:, 0::2])
            size = np.sqrt(np.mean(wanted**2))
            errors = []
            for macro.compensated in (False, True):
                errors.append(float(np.sqrt(np.mean((macro.multiply(x, 4, tile, gates) - wanted) ** 2)) / size))
            found[f"products {name}"] = errors
