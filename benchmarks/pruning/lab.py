"""A virgin simulated die on a bench of its own: calibrated, formed as a recipe says, trained on, deployed, evaluated."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rramlab.base.folders import shipped
from rramlab.calibration.procedures import analyse, chosen, measure
from rramlab.drivers.bench import describe_bench
from rramlab.engine.session import Session
from rramlab.nn import configure, masks
from rramlab.runs.store import find_run
from rramlab.training import accuracy
from rramlab.training.deploying import put_on_chip
from rramlab.training.experiment import Experiment
from rramlab.training.onchip import scores_on_chip

READ_NOISE = 0.02  # of the published die model: what the host's model of the chip is evaluated with
FORMING_SEED = 7


def describe(folder, die, drift=None):
    """Write a bench with one published die and board, whose codes must be converted by a record; return its description.

    ``drift``: of the die's cells, its mean and its spread a natural logarithm of time (assumed), instead of the model's.
    """
    text = (shipped().path / "bench.yaml").read_text(encoding="utf-8")
    options = "" if drift is None else f"model: {{relaxation: {{drift: {drift}, drift_sigma: {drift}}}}}"
    text = text.replace("  - id: sim-0001", f"  - id: {die}\n    options: {{{options}}}").replace(
        "calibration_policy: none", "calibration_policy: require"
    )
    text = text.replace("board: SIM-0001", f"board: {die}-board")
    assert f"id: {die}\n" in text
    assert "policy: require" in text
    (folder / "bench.yaml").write_text(text, encoding="utf-8")
    return describe_bench(folder)


class Lab:
    """One die: ``description`` of its bench, ``folder`` for trainings."""

    def __init__(self, folder, die, recipe, drift=None):
        self.folder, self.die = folder, die
        self.description = describe(folder, die, drift)
        for name in ("dac", "adc"):
            procedure = chosen(name, self.description.board.capabilities)
            result = measure(self.description, procedure, {}, arm=die)
            analyse(self.description, procedure, find_run(self.description.data / "runs", result.run_id))
        with Session(self.description) as session:
            self.pulses_formed = session.run("electroform", recipe.forming_parameters(), arm=die).pulses

    def pulses(self):
        with Session(self.description) as session:
            return int(session.stations[self.die].ledger.pulse_counts().sum())

    def begin(self, name, recipe, data, source=None):
        with Session(self.description) as session:
            return Experiment.begin(self.folder / name, recipe, session.macros, data, source)

    def train(self, experiment, data):
        """Train on the host or with the chip in the loop, as its recipe says; return model and history."""
        if experiment.recipe.in_the_loop == "off":
            return experiment.train(data, resume=False)
        with Session(self.description) as session:
            return experiment.train(data, resume=False, macros=session.macros)

    def on_chip(self, experiment, data, images=None):
        """Deploy by gates and return the accuracy with every product on the die, its read-back, and its conversions."""
        with Session(self.description) as session:
            deployment, _, found = put_on_chip(session, experiment, (), experiment.name)
            macro, before = session.macro, session.macro.conversions
            reached = scores_on_chip(experiment.trained(), session.macros, deployment, data, images)["accuracy"]
            return reached, deployment, found, macro.conversions - before

    def again_on_chip(self, experiment, deployment, data, images=None):
        """Return the accuracy of what was deployed before, on what the die has become."""
        with Session(self.description) as session:
            return scores_on_chip(experiment.trained(), session.macros, deployment, data, images)["accuracy"]


@contextmanager
def lab(die, recipe, drift=None):
    with tempfile.TemporaryDirectory() as name:
        yield Lab(Path(name), die, recipe, drift)


def on_host(model, data, noise=0.0):
    """Return the test accuracy on the host: ideal, or with fresh read noise a batch."""
    configure(model, evaluation_noise=noise)
    try:
        return accuracy(model, data.test_x, data.test_y)
    finally:
        configure(model, evaluation_noise=0.0)


def figures(model, history, data):
    """Return what every case tells of a training: last epoch, never the best."""
    last = history[-1]
    kept = float(np.mean([mask.mean() for mask in masks(model).values()]))
    return {
        "host": on_host(model, data),
        "host_noisy": on_host(model, data, READ_NOISE),
        "train": last.train_accuracy,
        "kept": kept,
        "switched": last.switched_on + last.switched_off,
        "seconds": round(sum(each.seconds for each in history), 1),
    }
