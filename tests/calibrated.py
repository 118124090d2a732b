"""A bench whose board and die were calibrated, without a session: records as the procedures would have written them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from workbench import SmallBench, plain_plan

from rramlab.calibration.dac import fit as fit_dac
from rramlab.calibration.uncertainty import reading
from rramlab.drivers.bench import describe_bench
from rramlab.plan.steps import ReadStep
from rramlab.records.files import BoardRecord, DieRecord, newest, save
from rramlab.records.sections import (
    AdcSection,
    AgreementSection,
    ColumnSpread,
    DacSection,
    FormingSection,
    LinearitySection,
    LinesSection,
    MeasuredReference,
    NoiseSection,
    WiresSection,
)
from rramlab.records.values import DAY_S, Number, Resistance, Voltage
from rramlab.runs.store import Run

BOARD, DIE, IDENTITY = "SIM-0009", "small-1", "Keysight Technologies,B2902A,MY5678,3.4.2011.5100"
MEASURED = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)
ROWS, COLUMNS, LEVELS = 32, 16, 20
SMU = "smus:\n  - {name: unit, driver: keysight-b2900, address: simulated}\n"


class Recorded:
    """A small bench with records of its board and die.

    ``leave_out``: sections that were not measured; ``temperature``: of the last run; ``changes``: section → fields.
    """

    def __init__(self, folder: Path, leave_out=(), temperature=25.0, **changes):
        bench = SmallBench(folder, ROWS, COLUMNS).write()
        path = bench.folder / "bench.yaml"
        path.write_text(path.read_text().replace("dies:\n", f"{SMU}dies:\n"))
        self.folder, self.changes = bench.folder, changes
        self.description = describe_bench(self.folder)
        self.accuracy = self.description.smu_files["unit"].accuracy
        self.run = self._run(temperature)
        self.random = np.random.default_rng(5)
        self.write(leave_out)

    def write(self, leave_out=()):
        """Write records of all sections but some; older ones of them stay."""
        made = {"board": {}, "die": {}}
        arrays = {"board": {}, "die": {}}
        for whose, name, make in (
            ("board", "dac", self._dac), ("board", "adc", self._adc), ("board", "lines", self._lines),
            ("board", "linearity", self._linearity), ("board", "agreement", self._agreement),
            ("die", "forming", self._forming), ("die", "noise", self._noise), ("die", "wires", self._wires),
        ):  # fmt: skip
            if name not in leave_out:
                section, found = make()
                made[whose][name] = section.model_copy(update=self.changes.get(name, {}))
                arrays[whose] |= {f"{name}/{key}": value for key, value in found.items()}
        root = self.folder
        if made["board"]:
            begun = BoardRecord(serial=BOARD, written_at=MEASURED)
            self.board = save(root, begun, made["board"], arrays["board"], newest(root, "board", BOARD))
        if made["die"]:
            begun = DieRecord(die=DIE, written_at=MEASURED)
            self.die = save(root, begun, made["die"], arrays["die"], newest(root, "die", DIE))

    def _run(self, temperature):
        about = {"board_serial": BOARD, "temperature_C": temperature, "instruments": {"unit": IDENTITY}}
        return Run.create(self.description.data / "runs", plain_plan(ReadStep()), DIE, {}, about)

    def _common(self, model, *instruments):
        return {
            "measured_at": MEASURED, "board": BOARD, "die": DIE, "runs": (self.run.id,), "instruments": instruments,
            "temperature": 25.0, "valid_for": model.days * DAY_S, "software": "rramlab 0.1.0",
        }  # fmt: skip

    def _dac(self):
        nominal = np.concatenate([np.linspace(0.02, 0.2, 10), np.linspace(0.4, 2.0, 9)])
        measured = 1.0002 * nominal - 1e-4 + self.random.normal(0, 2e-5, nominal.size)
        found = fit_dac(nominal, measured, self.accuracy)
        section = DacSection(
            **self._common(DacSection, IDENTITY), channel=0, levels=nominal.size, highest=2.0,
            gain=Number(value=found.gain, uncertainty=found.gain_u),
            offset=Voltage(value=found.offset_V, uncertainty=found.offset_u), residual=found.residual_V,
        )  # fmt: skip
        arrays = {"nominal_V": (nominal, "V"), "measured_V": (measured, "V"), "covariance": (found.covariance, "1")}
        return section, arrays

    def readings(self, ohm):
        """Return what the unit read of a resistor."""
        volts = np.full(32, 0.1997)
        amperes = volts / ohm * (1 + self.random.normal(0, 5e-5, 32))
        return reading(volts, amperes, np.zeros(32, np.bool_), self.accuracy, "resistor")

    def _adc(self):
        level = np.linspace(100, 8000, LEVELS)
        gain, offset = 1 + self.random.normal(0, 5e-3, COLUMNS), self.random.normal(0, 1, COLUMNS)
        residual = self.random.uniform(-0.5, 0.5, (LEVELS, COLUMNS))
        before = level[:, None] * (gain - 1) + offset + residual
        found = {0: self.readings(20e3), 1: self.readings(100e3)}
        references = tuple(
            MeasuredReference(
                resistor=index,
                resistance=Resistance(value=1 / each.siemens, uncertainty=each.relative / each.siemens),
                voltage=each.volts,
                readings=each.count,
            )
            for index, each in found.items()
        )
        spread = ColumnSpread(
            gain=Number(value=float(gain.mean()), uncertainty=2.3e-4), gain_spread=float(gain.std()),
            column_gain_uncertainty=1.5e-5, offset=float(offset.mean()), offset_spread=float(offset.std()),
            offset_uncertainty=0.067, residual=float(np.sqrt(np.mean(residual**2))),
        )  # fmt: skip
        section = AdcSection(
            **self._common(AdcSection, IDENTITY), method="reference resistors", references=references,
            scale_uncertainty=min(each.relative for each in found.values()), read=spread, multiply=spread,
            dac_gain=Number(value=1.0002, uncertainty=1e-4), dac_offset=Voltage(value=-1.5e-4, uncertainty=1e-4),
        )  # fmt: skip
        kinds = {"gain": gain, "offset": offset, "residual": residual, "before": before, "level": level}
        return section, {
            f"{name}_{kind}": (values, "1") for name in ("read", "multiply") for kind, values in kinds.items()
        }

    def _lines(self):
        bl, sl = self.random.normal(125, 4, ROWS), self.random.normal(175, 5, COLUMNS)
        section = LinesSection(
            **self._common(LinesSection), bit_line=Resistance(value=125.1, uncertainty=0.2),
            bit_line_spread=Resistance(value=4.0, uncertainty=0.5), source_line=Resistance(value=175.2, uncertainty=0.4),
            source_line_spread=Resistance(value=5.1, uncertainty=0.9), cells=400,
        )  # fmt: skip
        u = {"bl_u": (np.full(ROWS, 1.2), "Ω"), "sl_u": (np.full(COLUMNS, 1.5), "Ω")}
        return section, {"bl_Ohm": (bl, "Ω"), "sl_Ohm": (sl, "Ω"), **u}

    def _linearity(self):
        sums = np.linspace(6e-6, 400e-6, 32)
        residual = self.random.normal(0, 1e-8, sums.size)
        section = LinearitySection(
            **self._common(LinearitySection), columns=COLUMNS, lines=sums.size,
            slope=Number(value=1.00007, uncertainty=2.5e-5), offset=0.006, residual=3.2e-5,
        )  # fmt: skip
        products = 1.00007 * sums + residual
        return section, {"sums_S": (sums, "S"), "products_S": (products, "S"), "residual_S": (residual, "S")}

    def _agreement(self):
        unit, u = np.linspace(8e-6, 18e-6, 24), np.full(24, 1e-3)
        board = unit * (1 + self.random.normal(4e-4, 1e-3, 24))
        section = AgreementSection(
            **self._common(AgreementSection, IDENTITY), cells=24, ratio=Number(value=1.0004, uncertainty=8e-4),
            spread=1.1e-3, expected_spread=1e-3, largest_deviation=2.2, agrees=True,
        )  # fmt: skip
        return section, {"board_S": (board, "S"), "unit_S": (unit, "S"), "ratio_u": (u, "1")}

    def _forming(self):
        edges = np.concatenate([[-np.inf], np.arange(3.1, 3.76, 0.05), [np.inf]])
        place = np.searchsorted(edges, self.random.normal(3.433, 0.114, 400))
        section = FormingSection(
            **self._common(FormingSection), mean=Voltage(value=3.4356, uncertainty=5.6e-3),
            sigma=Voltage(value=0.1107, uncertainty=4e-3), width=1e-6, gate=1.6, cells=400,
            formed=int(np.count_nonzero(place < len(edges) - 1)),
        )  # fmt: skip
        return section, {"low_V": (edges[place - 1], "V"), "high_V": (edges[place], "V")}

    def _noise(self):
        section = NoiseSection(
            **self._common(NoiseSection), cells=300, reads=100, watched=99.0, read=Number(value=0.02, uncertainty=1e-4),
            telegraph_share=Number(value=0.05, uncertainty=0.01),
            telegraph_amplitude=Number(value=0.033, uncertainty=0.002), median=12.1e-6,
        )  # fmt: skip
        steps = np.concatenate([self.random.gamma(20, 0.12, 285), self.random.uniform(5.2, 11, 15)])
        return section, {
            "of_cell": (self.random.normal(0.02, 0.002, 300), "1"), "steps": (steps, "1"), "threshold": ([4.9], "1")
        }  # fmt: skip

    def _wires(self):
        section = WiresSection(
            **self._common(WiresSection), segment=Resistance(value=1.02, uncertainty=0.004), cells=400
        )
        columns = np.arange(COLUMNS)
        return section, {
            f"loss_{load}": (1 - lost - 1e-4 * columns, "1")
            for load, lost in (("light", 0.004), ("row", 0.05), ("full", 0.09))
        }
