"""The kinds of files that are damaged: where they lie, how often each is chosen, and what is asked then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flipping import questions as ask
from flipping.questions import Question
from flipping.scenes import Scene

# Of these runs; those of calibrations have hundreds of blocks.
_RUNS = ("form", "prune", "loop", "sweep", "multiply-ones", "interactive", "write-verify")
_REPEATABLE = tuple(name for name in _RUNS if name != "interactive")
_OF_RUN = (ask.data, ask.gathered, ask.exported)


@dataclass(frozen=True)
class Kind:
    """``share``: of all flips, in parts of a hundred. ``globs``: below the scene's folder; ``but``: endings that are left out.

    ``also``: what else an error may call the file: a ledger's log is the ledger's. ``beside``: asked, too, of other people's
    programs, and told; what they believe is no verdict on this one.
    """

    name: str
    scene: str
    share: float
    globs: tuple[str, ...]
    questions: tuple[Question, ...]
    also: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    beside: tuple[Question, ...] = ()

    def files(self, scene: Scene) -> list[Path]:
        return sorted({path for path in self._found(scene) if path.is_file() and path.stat().st_size})

    def _found(self, scene: Scene) -> Iterator[Path]:
        for pattern in self.globs:
            for path in scene.folder.glob(pattern):
                if not path.name.endswith(self.but or ("\0",)):
                    yield path


def _runs(pattern: str, runs: tuple[str, ...] = _RUNS) -> tuple[str, ...]:
    return tuple(f"bench/data/runs/*-{run}-*/{pattern}" for run in runs)


_DIE = "bench/data/dies/*"
_WITNESSES = (f"{_DIE}/*witness*", f"{_DIE}/*witness*/**/*", "state/**/*")
_LEDGER = ("ledger",)
KINDS = (
    Kind("ledger, closed", "closed", 13, (f"{_DIE}/ledger.db",), (ask.view, ask.write), _LEDGER),
    Kind("ledger of a killed process", "killed", 7, (f"{_DIE}/ledger.db",), (ask.view, ask.write, ask.resume), _LEDGER),
    Kind("its log (-wal)", "killed", 12, (f"{_DIE}/ledger.db-wal",), (ask.view, ask.write, ask.resume), _LEDGER),
    Kind("its index (-shm)", "killed", 2, (f"{_DIE}/ledger.db-shm",), (ask.view, ask.write, ask.resume), _LEDGER),
    Kind("witnesses, closed", "closed", 3, _WITNESSES, (ask.view, ask.write), ("ledger", "witness"), (".lock",)),
    Kind(
        "witnesses, killed",
        "killed",
        3,
        _WITNESSES,
        (ask.view, ask.write, ask.resume),
        ("ledger", "witness"),
        (".lock",),
    ),
    Kind("last read", "closed", 3, (f"{_DIE}/last_read*",), (ask.last_read,)),
    Kind("run.json", "closed", 4, _runs("run.json"), (ask.record, *_OF_RUN)),
    Kind("plan.json", "closed", 4, _runs("plan.json"), (ask.record,)),
    Kind("provenance", "closed", 3, _runs("provenance*.json"), (ask.record,)),
    Kind("bench, board and records beside a run", "closed", 3, _runs("*.yaml", _REPEATABLE), (ask.repeated,)),
    Kind("blocks' descriptions", "closed", 8, _runs("blocks/*.json"), _OF_RUN),
    Kind("blocks' arrays", "closed", 5, _runs("blocks/*.npy"), _OF_RUN),
    Kind("frozen selections", "closed", 2, _runs("selections/*"), (ask.data,)),
    Kind("judgements", "closed", 2, _runs("judgements/*"), (ask.data,)),
    Kind("run.h5", "closed", 8, _runs("run.h5"), (ask.checked,), beside=(ask.hdf5,)),
    Kind("snapshots", "closed", 2, _runs("snapshot/*"), (ask.snapshot,)),
    Kind("calibration records", "closed", 7, ("bench/calibration/*.yaml",), (ask.shown, ask.in_force, ask.applied)),
    Kind("their arrays", "closed", 3, ("bench/calibration/*.h5",), (ask.shown, ask.in_force, ask.applied)),
    Kind("deployment", "learning", 3, ("bench/data/deployments/*/*",), (ask.deployment,)),
    Kind("trainings", "learning", 3, ("bench/data/checkpoints/*/*",), (ask.network,), but=("log.csv",)),
)
