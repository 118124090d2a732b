"""What is kept of a simulated die at the start of a run, so that the run can be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from rramlab.base.folders import find
from rramlab.drivers.bench import BenchDescription
from rramlab.engine.station import Station
from rramlab.runs.lastread import LAST_READ
from rramlab.runs.snapshot import DRIVERS, keep_snapshot
from rramlab.runs.store import Run


@runtime_checkable
class KeptInFile(Protocol):
    """A controller whose die is a file, which a real one's is not."""

    path: Path | None

    def settle(self) -> None:
        """Bring the file up to what the die is now."""
        ...


def capture(run: Run, station: Station, description: BenchDescription) -> None:
    """Keep ledger, last read and state of a simulated die in the run's folder; of a real one nothing can be kept."""
    controller = station.controller
    if not isinstance(controller, KeptInFile) or controller.path is None:
        return
    controller.settle()
    station.keep_last_read()
    files = {
        station.ledger.path.name: station.ledger.image(),
        LAST_READ: (station.folder / LAST_READ).read_bytes(),
        controller.path.name: controller.path.read_bytes(),
    }
    for entry in description.file.smus:
        files[f"{DRIVERS}{entry.name}.yaml"] = find(description.root, "drivers", entry.driver).path.read_bytes()
    keep_snapshot(run, files)
