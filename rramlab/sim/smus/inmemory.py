"""An emulated source-measure unit on the same table, without a socket between."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rramlab.base.errors import UsageError
from rramlab.base.yamlfile import explain
from rramlab.drivers.bench import SmuEntry
from rramlab.drivers.links import LinkLost
from rramlab.sim.smus.instrument import EmulatedSmu, SmuFaults
from rramlab.sim.smus.port import Port

ADDRESS = "simulated"


class SmuOptions(BaseModel):
    """``options`` of a simulated unit in bench.yaml; ``model``: of which make, default: the one its driver is for."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    model: str | None = None
    seed: int = Field(default=0, ge=0)
    faults: SmuFaults = SmuFaults()


def simulated_smu(entry: SmuEntry, model: str, port: Port) -> EmulatedSmu:
    """Make the unit of an entry in bench.yaml, for a driver file of ``model``.

    Raises:
        UsageError: a real address on a simulated bench, unknown options, or no unit of that make.
    """
    from rramlab.sim.smus.instruments import make_smu

    if entry.address != ADDRESS:
        raise UsageError(
            f"bench.yaml: found the address {entry.address!r} of SMU {entry.name!r}, expected {ADDRESS!r}: this bench is "
            "simulated and reaches no real unit. A bench with real ones has backend: wire"
        )
    try:
        options = SmuOptions.model_validate(entry.options)
    except ValidationError as error:
        raise UsageError(
            f"bench.yaml, options of SMU {entry.name!r}: {explain(error.errors()[0], SmuOptions)}"
        ) from None
    return make_smu(options.model or model, port, entry.serial or f"SIM-{entry.name}", options.seed, options.faults)


class InMemory:
    """A link to the unit called ``name`` that answers at once, unless its faults say otherwise."""

    def __init__(self, name: str, smu: EmulatedSmu) -> None:
        self.name, self.smu = f"{ADDRESS}:{name}", smu
        self._answers: list[tuple[float, bytes]] = []
        self._closed = False

    def read(self, deadline: float) -> bytes:
        if self._closed:
            raise LinkLost(f"{self.name} was closed")
        now = time.monotonic()
        at = self._answers[0][0] if self._answers else deadline
        if at > now:
            time.sleep(max(0.0, min(at, deadline) - now))
        if self._answers and self._answers[0][0] <= time.monotonic():
            return self._answers.pop(0)[1]
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        if self._closed:
            raise LinkLost(f"{self.name} was closed")
        answer = self.smu.feed(data)
        if answer:
            self._answers.append((time.monotonic() + self.smu.faults.late_s, answer))

    def close(self) -> None:
        self._closed = True
        self.smu.close()
