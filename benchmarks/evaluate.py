"""All Fashion-MNIST test images with every product computed by the macro: in process, and by the emulated board over TCP.

A virgin simulated die with the published non-idealities is formed by the protocol ``electroform``; 64 lines at once, inputs
of 4 bits. ``edge``: every weight is kept or pruned by itself; ``phase16``: 16 gate patterns a layer. Scores stay random, and
where the data set is not found synthetic images stand in for it: what a product takes depends on neither. Over TCP the board
is ``rramlab sim serve`` in a process of its own. Both ways begin with the same virgin die and must give the same outputs.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import subprocess
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from figures import command_line, report

import rramlab
from rramlab.base.errors import DataError
from rramlab.nn import vectors_of
from rramlab.training import Dataset, load_dataset, load_recipe, settle_statistics
from rramlab.training.experiment import Experiment
from rramlab.training.loop import keep_freed_memory, predict
from rramlab.training.onchip import chip_in_the_loop

DIE = "sim-0001"  # of the shipped bench
IMAGES, LIMITS_S = 10_000, {"in_process": 90, "tcp": 360}
VARIANTS = {"edge": {}, "phase16": {"granularity": "phase", "phases": 16}}
SETTLED_ON = 600  # images that statistics and activation ranges are taken from


@dataclass(frozen=True)
class Evaluated:
    """What came of one mask. ``vectors``: products of one image, a layer's tiles counted as one."""

    outputs: np.ndarray
    chip_s: float
    host_s: float
    conversions: int
    vectors: int


def images(count, folder):
    """Return what the images are, and float32[count, 1, 28, 28]."""
    try:
        return "Fashion-MNIST, test images", load_dataset("fashion-mnist", folder).test_x[:count]
    except DataError:
        rng = np.random.default_rng(0)
        return "synthetic: Fashion-MNIST was not found", rng.random((count, 1, 28, 28), np.float32)


@contextmanager
def served(folder):
    """Serve the bench of ``folder`` in a process of its own; yield the folder of a host that reaches it over TCP."""
    host = folder / "host"
    words = [sys.executable, "-m", "rramlab", "sim", "serve", "--bench", folder, "--write-host", host, "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if line == "}\n":  # the end of the document that it prints when it is ready
                    break
            yield host
        finally:
            process.terminate()


def evaluated(session, folder, changes, x):
    """Evaluate a network with random scores on the host and on the session's die."""
    macro = session.macro
    y = np.zeros(len(x), np.int64)
    data = Dataset("images", x, y, x, y, tuple("0123456789"))
    experiment = Experiment.begin(folder, load_recipe("fashion-mnist").changed(changes), session.macros, data)
    model = experiment.model()
    torch.manual_seed(0)  # of the read noise of training, with which the statistics are taken
    settle_statistics(model, x[:SETTLED_ON])
    deployment = experiment.deployment(folder.name, (), model, experiment.conductance_S, [])
    begun = time.perf_counter()
    predict(model, x)
    host_s = time.perf_counter() - begun
    before, begun = macro.conversions, time.perf_counter()
    with chip_in_the_loop(model, session.macros, deployment):
        outputs = predict(model, x)
    chip_s = time.perf_counter() - begun
    return Evaluated(
        outputs, chip_s, host_s, macro.conversions - before, sum(vectors_of(model, torch.from_numpy(x[:1])).values())
    )


def all_evaluated(reach, folder, x):
    """Form a virgin die of the bench that ``reach`` makes of ``folder`` and evaluate every variant on it."""
    folder.mkdir()
    with reach(folder) as where, rramlab.open_bench(where) as session:
        session.run("electroform", arm=DIE)
        return {name: evaluated(session, folder / name, changes, x) for name, changes in VARIANTS.items()}


def main():
    arguments = command_line(
        "evaluate",
        images={"type": int, "default": IMAGES, "help": "how many; the limits are scaled with them"},
        data={"type": Path, "help": "folder with Fashion-MNIST"},
    )
    keep_freed_memory()  # as the command line does
    source, x = images(arguments.images, arguments.data)
    with tempfile.TemporaryDirectory() as temporary:
        ways = {
            name: all_evaluated(reach, Path(temporary) / name, x)
            for name, reach in (("in_process", nullcontext), ("tcp", served))
        }
    ratios, seconds, notes, figures = {}, {}, {}, {"images": len(x), "source": source}
    for way, variants in ways.items():
        limit_s = LIMITS_S[way] * len(x) / IMAGES
        for variant, found in variants.items():
            assert np.array_equal(found.outputs, ways["in_process"][variant].outputs), f"other outputs by {way}"
            key = f"{variant}_{way}"
            ratios[f"{key}_to_limit"] = found.chip_s / limit_s
            notes[f"{key}_to_limit"] = f"the limit of {limit_s:g} s for {len(x):,} images"
            ratios[f"{key}_to_host"] = found.chip_s / found.host_s
            notes[f"{key}_to_host"] = "the same images through the same network on the host, ideal"
            seconds[key], seconds[f"{key}_host"] = found.chip_s, found.host_s
            figures[key] = {
                "images_per_s": round(len(x) / found.chip_s, 1),
                "vectors_per_s": round(found.vectors * len(x) / found.chip_s),
                "conversions": found.conversions,
                "conversions_per_s": round(found.conversions / found.chip_s),
            }
    report("evaluate", ratios, seconds, notes, arguments, figures)


if __name__ == "__main__":
    main()
