"""Keysight B2900 series, after its SCPI Command Reference (B2910-90030): one or two channels, lists up to 2500 points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from rramlab.sim.smus.core import LINE_HZ, Channel, Reading, Refusal
from rramlab.sim.smus.instrument import Error
from rramlab.sim.smus.scpi import Call, channel_list, choice
from rramlab.sim.smus.scpismu import INFINITE, NAMES, NOT_A_NUMBER, ScpiSmu
from rramlab.sim.smus.specification import Quantity

LONGEST_LIST, MOST_TRIGGERS = 2500, 100_000
ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus", "SOURce")
FUNCTIONS = {"VOLT": "VOLTage[:DC]", "CURR": "CURRent[:DC]", "RES": "RESistance"}


@dataclass
class _Program:
    """What a channel does when it is triggered, and what it measured then."""

    on_auto: bool = True
    off_auto: bool = False
    protection: bool = False
    measured: set[str] = field(default_factory=lambda: {"VOLT", "CURR"})
    volt_mode: str = "FIX"
    curr_mode: str = "FIX"
    acq_count: float = 1
    tran_count: float = 1
    arm_count: float = 1
    acq_source: str = "AINT"
    tran_source: str = "AINT"
    acq_timer: float = 1e-5
    tran_timer: float = 1e-5
    acq_delay: float = 0.0
    tran_delay: float = 0.0
    data: list[Reading] = field(default_factory=list)


class B2900(ScpiSmu):
    queue_size: ClassVar[int] = 30
    overflow: ClassVar[Error] = (-350, "Error queue overflow")
    none: ClassVar[str] = '+0,"No error"'

    def identity(self) -> str:
        return f"Keysight Technologies,{self.model},{self.serial},3.4.2011.5100"

    def numeral(self, value: float) -> str:
        return f"{value:+.6E}"

    def defaults(self) -> None:
        self._programs = [_Program() for _ in self.channels]
        self.chosen_elements = [choice(name, ELEMENTS) for name in ELEMENTS]

    def program(self, channel: Channel) -> _Program:
        return self._programs[channel.number - 1]

    def declare(self) -> None:
        self._outputs_and_sources()
        self._senses()
        self._triggers()
        self._results()
        for quantity in NAMES:
            self._quantity(quantity)
        self.kept(":FORMat[:DATA]", "ASC", "ASCii")
        self.kept(":SYSTem:BEEPer[:STATe]", "0")
        self.kept(":SYSTem:LFRequency", "50", allowed=(50, 60))
        self.kept(":DISPlay:ENABle", "1")

    def _outputs_and_sources(self) -> None:
        self.switch(":OUTPut#[:STATe]", lambda c: c.output, lambda c, on: c.set_output(on))
        self.switch(":OUTPut#:ON:AUTO", *self.of("on_auto"))
        self.switch(":OUTPut#:OFF:AUTO", *self.of("off_auto"))
        self.switch(":OUTPut#:PROTection[:STATe]", *self.of("protection"))
        self.kept(":OUTPut#:OFF:MODE", "NORM", "NORMal", "HIZ", "ZERO")
        self.kept(":OUTPut#:LOW", "GRO", "GROund", "FLOat")
        self.kept(":OUTPut#:HCAPacitance[:STATe]", "0")
        self.kept(":OUTPut#:FILTer[:LPASs][:STATe]", "1")
        self.function("[:SOURce#]:FUNCtion:MODE")
        self.kept("[:SOURce#]:FUNCtion[:SHAPe]", "DC", "DC")
        self.kept("[:SOURce#]:FUNCtion:TRIGgered:CONTinuous", "0")
        self.kept("[:SOURce#]:WAIT[:STATe]", "1")

    def _senses(self) -> None:
        def functions(change: Callable[[set[str], set[str]], None]) -> Callable[[Call], None]:
            def write(call: Call) -> None:
                names = tuple(name.replace("[:DC]", "") for name in FUNCTIONS.values())
                chosen = {choice(each.upper().replace(":DC", ""), names) for each in call.arguments}
                if not chosen:
                    raise Refusal("missing")
                change(self.program(self.channel(call)).measured, chosen)

            return write

        def measured(channel: Channel) -> str:
            return ",".join(f'"{name}"' for name in FUNCTIONS if name in self.program(channel).measured)

        add = self.tree.add
        add(":SENSe#:FUNCtion[:ON]", functions(set.update))
        self.query(":SENSe#:FUNCtion[:ON]", measured)
        add(":SENSe#:FUNCtion:OFF", functions(set.difference_update))
        add(":SENSe#:FUNCtion[:ON]:ALL", lambda call: self.program(self.channel(call)).measured.update(FUNCTIONS))
        add(":SENSe#:FUNCtion:OFF:ALL", lambda call: self.program(self.channel(call)).measured.clear())
        self.kept(":SENSe#:REMote", "0")
        self.kept(":SENSe#:WAIT[:STATe]", "1")

    def _quantity(self, quantity: Quantity) -> None:
        name = NAMES[quantity]
        source, sense = f"[:SOURce#]:{name}", f":SENSe#:{name}[:DC]"
        self.level(f"{source}[:LEVel][:IMMediate][:AMPLitude]", quantity)
        self.ranges(f"{source}:RANGe", f"{source}:RANGe:AUTO", "source", quantity)
        self.choice(f"{source}:MODE", *self.of(f"{quantity.lower()}_mode"), "FIXed", "LIST")
        self.source_list(f"[:SOURce#]:LIST:{name}", quantity, LONGEST_LIST, LONGEST_LIST)
        for side in ("[:BOTH]", ":POSitive", ":NEGative"):
            self.limit(f"{sense}:PROTection[:LEVel]{side}", quantity)
        self.tripped(f"{sense}:PROTection:TRIPped", quantity)
        self.ranges(f"{sense}:RANGe[:UPPer]", f"{sense}:RANGe:AUTO", "measure", quantity)
        self.lowest(f"{sense}:RANGe:AUTO:LLIMit", quantity)
        self.kept(f"{sense}:RANGe:AUTO:MODE", "NORM", "NORMal", "RESolution", "SPEed")
        # One aperture serves all quantities of a channel; setting it ends its automatic choice.
        self.nplc(f"{sense}:NPLCycles", 4e-4, 100.0)
        aperture = (8e-6, 2.0, self.specification.nplc / LINE_HZ)
        self.number(
            f"{sense}:APERture", lambda c: c.nplc / LINE_HZ, lambda c, v: setattr(c, "nplc", v * LINE_HZ), aperture
        )
        self.kept(f"{sense}:NPLCycles:AUTO", "1")
        self.kept(f"{sense}:APERture:AUTO", "1")

    def _triggers(self) -> None:
        for layer, name in (("acq", ":ACQuire"), ("tran", ":TRANsient")):
            trigger = f":TRIGger#{name}"
            self.number(f"{trigger}:COUNt", *self.of(f"{layer}_count"), (1, MOST_TRIGGERS, 1), whole=True)
            self.number(f"{trigger}:TIMer", *self.of(f"{layer}_timer"), (1e-5, 1e5, 1e-5))
            self.number(f"{trigger}:DELay", *self.of(f"{layer}_delay"), (0, 1e5, 0))
            self.choice(f"{trigger}:SOURce[:SIGNal]", *self.of(f"{layer}_source"), "AINT", "TIMer")
        for setting, key, bounds in (
            ("COUNt", "count", (1, MOST_TRIGGERS, 1)),
            ("TIMer", "timer", (1e-5, 1e5, 1e-5)),
            ("DELay", "delay", (0, 1e5, 0)),
        ):
            get, _ = self.of(f"acq_{key}")
            self.number(f":TRIGger#[:ALL]:{setting}", get, self._both(key), bounds, whole=key == "count")
        self.choice(":TRIGger#[:ALL]:SOURce[:SIGNal]", self.of("acq_source")[0], self._both("source"), "AINT", "TIMer")
        for name in ("[:ALL]", ":ACQuire", ":TRANsient"):
            self.number(f":ARM#{name}:COUNt", *self.of("arm_count"), (1, MOST_TRIGGERS, 1), whole=True)
            self.kept(f":ARM#{name}:SOURce[:SIGNal]", "AINT", "AINT")
            # Nothing runs on after the command that started it.
            self.tree.add(f":ABORt{name}", self._abort)
            self.tree.add(f":IDLE{name}", read=lambda call: "1")
        self.tree.add(":INITiate[:IMMediate][:ALL]", lambda call: self._initiate(call, "acq", "tran"))
        self.tree.add(":INITiate[:IMMediate]:ACQuire", lambda call: self._initiate(call, "acq"))
        self.tree.add(":INITiate[:IMMediate]:TRANsient", lambda call: self._initiate(call, "tran"))

    def _both(self, key: str) -> Callable[[Channel, object], None]:
        def put(channel: Channel, value: object) -> None:
            for layer in ("acq", "tran"):
                setattr(self.program(channel), f"{layer}_{key}", value)

        return put

    def _chosen(self, call: Call) -> list[Channel]:
        numbers = channel_list(call.one(), len(self.channels)) if call.arguments else [1]
        return [self.channels[number - 1] for number in numbers]

    def _abort(self, call: Call) -> None:
        self._chosen(call)

    def _initiate(self, call: Call, *layers: str) -> None:
        for channel in self._chosen(call):
            self._run(channel, layers)

    def _run(self, channel: Channel, layers: tuple[str, ...]) -> None:
        program = self.program(channel)
        function, before = channel.function, channel.level[channel.function]
        listed = getattr(program, f"{function.lower()}_mode") == "LIST" and "tran" in layers
        levels = (self.listed(channel, function) or [0.0]) if listed else []
        counts = {layer: int(getattr(program, f"{layer}_count")) if layer in layers else 0 for layer in ("acq", "tran")}
        if max(counts.values()) * program.arm_count > MOST_TRIGGERS:
            raise Refusal("conflict")
        program.data = []
        if program.on_auto:
            channel.set_output(True)
        for _ in range(int(program.arm_count)):
            for point in range(max(counts.values())):
                began = channel.clock_s
                if levels and point < counts["tran"]:
                    channel.go(levels[point % len(levels)])
                if point < counts["acq"]:
                    program.data.append(channel.measure(program.acq_delay))
                layer = "acq" if "acq" in layers else "tran"
                period = getattr(program, f"{layer}_timer") if getattr(program, f"{layer}_source") == "TIM" else 0.0
                if channel.clock_s - began < period:
                    channel.wait(period - (channel.clock_s - began))
                if program.protection and channel.limited:
                    channel.set_output(False)
        if program.off_auto:
            channel.set_output(False)
        channel.go(before)
        channel.settle()

    def _results(self) -> None:
        self.elements(":FORMat:ELEMents:SENSe", ELEMENTS)
        self._result("", "")
        for short, name in {**FUNCTIONS, "SOUR": "SOURce", "STAT": "STATus", "TIME": "TIME"}.items():
            self._result(f":{name}", short)

    def _result(self, name: str, element: str) -> None:
        """Add the queries for one element, or with none named for those of FORMat:ELEMents."""

        def spot(call: Call) -> None:
            for channel in self._chosen(call):
                self.program(channel).data = [channel.measure()]

        def run(call: Call) -> None:
            self._initiate(call, "acq", "tran")

        def answer(first: Callable[[Call], None], last: bool) -> Callable[[Call], str]:
            def read(call: Call) -> str:
                first(call)
                return self._text(self._chosen(call), [element] if element else self.chosen_elements, last)

            return read

        self.tree.add(f":MEASure{name}", read=answer(spot, last=True))
        for scalar, last in (("[:SCALar]", True), (":ARRay", False)):
            self.tree.add(f":READ{scalar}{name}", read=answer(run, last))
            self.tree.add(f":FETCh{scalar}{name}", read=answer(lambda call: None, last))

    def _text(self, channels: list[Channel], elements: list[str], last: bool) -> str:
        columns = [self.program(each).data for each in channels]
        # With the last readings only, each channel's own last one counts.
        rows = [[each[-1:] for each in columns]] if last else []
        if not last:
            rows = [[each[n : n + 1] for each in columns] for n in range(max(1, *(len(each) for each in columns)))]
        return ",".join(
            self._element(element, reading[0] if reading else None, self.program(channel).measured)
            for row in rows
            for channel, reading in zip(channels, row, strict=True)
            for element in elements
        )

    def _element(self, element: str, reading: Reading | None, measured: set[str]) -> str:
        value = NOT_A_NUMBER
        if reading is not None:
            status = (reading.function == "CURR") | (2 if reading.limited else 0)
            status |= 8192 if reading.over("VOLT") or reading.over("CURR") else 0
            values = {
                "VOLT": reading.volts,
                "CURR": reading.amperes,
                "RES": reading.ohms,
                "TIME": reading.time_s,
                "STAT": float(status),
                "SOUR": reading.level,
            }
            if element not in FUNCTIONS or element in measured:
                value = values[element]
        return self.numeral(math.copysign(INFINITE, value) if math.isinf(value) else value)
