"""A source-measure unit in a few lines, and what it and the board were told, in order."""

from __future__ import annotations

import numpy as np

from rramlab.base.errors import InstrumentError
from rramlab.drivers.smu.readings import Reading, SweepCurve
from rramlab.sim.routes import Terminals


class FakeSmu:
    """Implements what the engine asks of a unit; ``log`` holds (what, value). ``fail``: the verb that raises, and what.

    ``bad``: which of the points that are measured next are no measurement, by their number → what is answered.
    """

    swept = None

    def __init__(self, port, log):
        self.port, self.log = port, log
        self.on, self.level_V, self.limit_A = False, 0.0, 0.0
        self.fail = {}
        self.bad = {}
        self.measured = 0

    def _told(self, what, value=None):
        self.log.append((what, value))
        if what in self.fail:
            raise self.fail[what]

    def reset(self, tick=None):
        self.on = False
        self._told("reset")

    def source_voltage(self, volts, tick=None):
        self.level_V = volts
        self._told("volts", volts)

    def source_current(self, amperes, tick=None):
        self._told("amperes", amperes)

    def compliance(self, amperes=None, volts=None, tick=None):
        self.limit_A = amperes
        self._told("compliance" if volts is None else "voltage limit", amperes if volts is None else volts)

    def output(self, on, tick=None):
        self.on = on
        self._told("on" if on else "off")

    def measure(self, tick=None):
        self._told("measure")
        tick()
        if self.limit_A is None:
            volts, amperes = self.port.force_current(0.0, 10.0, 0.01)
        else:
            volts, amperes = self.port.force_voltage(self.level_V, self.limit_A, 0.01)
        self.measured += 1
        if said := self.bad.get(self.measured - 1):
            return Reading(volts, np.nan, False, said)
        return Reading(volts, amperes, self.limit_A is not None and abs(amperes) >= self.limit_A)

    def sweep(self, program, tick=None):
        self._told("sweep", program)
        found = []
        for volts in program.levels_V.tolist():
            tick()
            found.append(self.port.force_voltage(volts, program.compliance_A, program.dwell_s))
        self._told("half-way")
        volts, amperes = np.array(found).T
        limited = np.abs(amperes) >= program.compliance_A * 0.999
        amperes[list(self.bad)] = np.nan
        self.swept = SweepCurve(volts, amperes, limited, self.bad)
        if "queue" in self.fail:
            raise self.fail["queue"]
        return self.swept

    def safe_state(self, tick=None):
        self.on = False
        self._told("safe")
        return []


def put_on_the_table(session, *names, die=None):
    """Give an open session fake units called ``names``; return (units by name, log of units, board and ledger)."""
    station = session.stations[die or next(iter(session.stations))]
    log = []
    controller, route, heartbeat = station.controller, station.controller.route, station.controller.heartbeat

    def routed(target, bias, op_id=0):
        log.append(("route", None if target is None else (target, bias, op_id)))
        route(target, bias, op_id)

    def beat():
        log.append(("beat", None))
        heartbeat()

    controller.route, controller.heartbeat = routed, beat
    units = {name: FakeSmu(Terminals([controller]), log) for name in names or ("smu",)}
    station.smus = units
    station.guard.smus = dict.fromkeys(units)
    return units, log


def words(log):
    """What was told, without signs of life."""
    return [what for what, _ in log if what != "beat"]


LOST = InstrumentError("the unit does not answer")
