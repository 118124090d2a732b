"""What is kept of a simulated die at the start of a run, so that the run can be repeated."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

from rramlab.base.folders import find
from rramlab.drivers.bench import BenchDescription
from rramlab.engine.station import Station
from rramlab.macro.cells import CellSelection
from rramlab.runs.lastread import LAST_READ
from rramlab.runs.snapshot import DRIVERS, MOMENT, SEEN, keep_snapshot
from rramlab.runs.store import Run


@runtime_checkable
class KeptInFile(Protocol):
    """A controller whose die is a file, which a real one's is not."""

    path: Path | None

    def settle(self) -> None:
        """Bring the file up to what the die is now."""
        ...


def capture(run: Run, station: Station, description: BenchDescription) -> None:
    """Keep last read and state of a simulated die in the run's folder; of a real one nothing can be kept.

    Of the ledger, which may be long, a moment: what it was then follows from what it will be.
    """
    controller = station.controller
    if not isinstance(controller, KeptInFile) or controller.path is None:
        return
    controller.settle()
    station.keep_last_read()
    files = {
        SEEN: CellSelection(station.seen).packed(),
        MOMENT: json.dumps(asdict(station.ledger.moment)).encode(),
        LAST_READ: (station.folder / LAST_READ).read_bytes(),
        controller.path.name: controller.path.read_bytes(),
    }
    for entry in description.file.smus:
        files[f"{DRIVERS}{entry.name}.yaml"] = find(description.root, "drivers", entry.driver).path.read_bytes()
    keep_snapshot(run, files)
