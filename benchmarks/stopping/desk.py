"""A session as a person has it in a notebook: opened in one cell, used in others, interrupted, looked at, gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

import rramlab
from rramlab.base.errors import RramlabError
from rramlab.base.host import STATE
from rramlab.engine.session import Session
from rramlab.runs.ledger import view_ledger
from stopping.works import EPOCHS, TRAINING, WORKS

FOUND = "found.json"  # beside the bench's folder: what the last look has found
BEGUN = "begun"  # and how often the work was begun


class Desk:
    """The bench in ``folder``, and a session on it. Each method is what one cell of a notebook does."""

    def __init__(self, folder: str, work: str, known: list[str]) -> None:
        self.folder, self.work, self.known = Path(folder), WORKS[work], set(known)
        self.session: Session | None = None
        os.environ[STATE] = str(self.folder / "state")

    @property
    def bench(self) -> Path:
        return self.folder / "bench"

    def open(self) -> None:
        if self.session is None:
            session = rramlab.open_bench(self.bench)
            self.session = session.__enter__()

    def do(self) -> None:
        """Begin the work, or go on with it; nothing where it is done."""
        with (self.folder / BEGUN).open("a") as file:
            file.write("begun\n")
        session, work = self.session, self.work
        assert session is not None
        if work.name == "deployment":
            self._deploy(session)
        elif work.name == "training":
            self._train(session)
        elif run := work.unfinished(self.bench, self.known):
            session.resume(run, arm=work.die)
        elif not work.newest(self.bench, self.known):
            session.run(work.protocol, work.given, arm=work.die)

    def _deploy(self, session: Session) -> None:
        from rramlab.training.deploying import checkpoints, put_on_chip
        from rramlab.training.experiment import Experiment

        experiment = Experiment.load(checkpoints(session.description.data) / TRAINING)
        put_on_chip(session, experiment, tuple(experiment.placement.layers), TRAINING, self.work.die)

    def _train(self, session: Session) -> None:
        from rramlab.training import load_dataset, load_recipe
        from rramlab.training.deploying import checkpoints
        from rramlab.training.experiment import Experiment

        data = load_dataset("digits")
        folder = checkpoints(session.description.data) / TRAINING
        if (folder / "experiment.json").exists():
            experiment = Experiment.load(folder)
        else:
            recipe = load_recipe("digits").changed({"epochs": EPOCHS, "in_the_loop": "weights", "read_every": 4})
            experiment = Experiment.begin(folder, recipe, session.macros, data)
        experiment.train(data, resume=True, macros=session.macros)

    def look(self) -> dict[str, object]:
        """Return how the session's memory, the ledger's file, and what the board knows differ."""
        try:
            return self._look()
        except RramlabError as error:
            return {"failed": f"{type(error).__name__}: {error}"}

    def note(self) -> None:
        """Look, and write it down."""
        (self.folder / FOUND).write_text(json.dumps(self.look()))

    def _look(self) -> dict[str, object]:
        from rramlab.drivers.controller import History

        session = self.session
        if session is None or self.work.die not in session.stations:
            return {"open": False}
        station = session.stations[self.work.die]
        ours, controller = station.ledger, session.bench.controllers[self.work.die]
        with view_ledger(self.bench / "data" / "dies" / self.work.die / "ledger.db") as file:
            dangling = {entry.op_id: entry.cells.count for entry in file.dangling()}
            remembered = {entry.op_id for entry in ours.dangling()}
            differs = (ours.pulse_counts() != file.pulse_counts()) | (ours.unknown().bits != file.unknown().bits)
            never = [each for each in dangling if controller.history(each) is History.NEVER]
            truth = controller.die.state.pulses  # a simulated die's own counters
            return {
                "open": True,
                "memory": int(np.count_nonzero(differs)) + len(dangling.keys() ^ remembered),
                "dangling": len(dangling),
                "stranded": len(never),
                "unreported": int(np.count_nonzero(truth > file.pulse_counts())),
            }

    def close(self) -> None:
        if self.session is not None:
            session, self.session = self.session, None
            session.__exit__(None, None, None)
