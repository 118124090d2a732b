"""The cases of the campaign: what is changed in the recipe, and what is measured of each die."""

import json
from datetime import UTC, datetime, timedelta

from pruning.lab import figures, lab, on_host
from rramlab.sim.bank import age
from rramlab.training import load_recipe

LONGER = {"epochs": 15}  # flips to and fro go on for as long as training does
P16 = {"granularity": "phase", "phases": 16}
# Mean and spread of drift (assumed) and time of storage that cost more than 5 points; the model's own drift costs none.
DRIFT, STORAGE = 0.02, timedelta(days=365)

# Group -> case -> changes of the recipe. Only the groups "chip" and "ageing" are evaluated on the die; of the others, a case
# that stands in two groups is trained once.
GROUPS = {
    "chip": {
        "edge": {},
        "16 phases": P16,
        "edge, dead band 50% to 0": {"hysteresis": 0.5, "hysteresis_end": 0.0},
        "large, edge": {"network": "fashion-cnn-large", "epochs": 15},
    },
    "phases": {
        "1": {"granularity": "phase", "phases": 1},
        "4": {"granularity": "phase", "phases": 4},
        "16": P16,
        "64": {"granularity": "phase", "phases": 64},
        "a column": {},
        "lines": {"granularity": "line"},
    },
    "kept": {f"{kept:.0%}": {"kept": kept} for kept in (0.1, 0.3, 0.5, 0.7, 0.9)},
    "assignment": {name: {**P16, "assignment": name} for name in ("contiguous", "adc", "learned")},
    "forming": {name: {"forming": name} for name in ("one-of-pair", "partial", "all")},
    "noise": {f"{noise:.0%}": {"read_noise": noise} for noise in (0.0, 0.02, 0.05)},
    "hysteresis": {
        "none": LONGER,
        "dead band 10%": {**LONGER, "hysteresis": 0.1},
        "dead band 20%": {**LONGER, "hysteresis": 0.2},
        "dead band 50% to 0": {**LONGER, "hysteresis": 0.5, "hysteresis_end": 0.0},
        "published, 1 % to 0.7 %": {
            **LONGER,
            "hysteresis": 0.01,
            "hysteresis_end": 0.007,
            "hysteresis_rule": "consecutive",
        },
    },
    "ageing": {"weights": {}, "multiply": {}},
}
ON_CHIP = ("chip", "ageing")
EPOCHS = 5  # of all cases that do not say it, but those of the group "chip", which take the recipe's
NOISY = 0.05  # relative read noise that trainings on the host are evaluated with, too


def settings(group, case):
    """Return what the outcome of a case is kept under: cases of the host alone by what is changed."""
    if group == "ageing":
        return {"group": group, "case": case, "drift": DRIFT}
    if group in ON_CHIP:
        return {"group": group, "case": case}
    # Of the recipe's own: said, so that a case that says it is the same one.
    own = {"kept": 0.5, "read_noise": 0.02, "forming": "one-of-pair"}
    usual = own | ({"assignment": "contiguous"} if "phases" in GROUPS[group][case] else {})
    return {"changes": json.dumps({**usual, **GROUPS[group][case]}, sort_keys=True)}


def one(group, case, number, data, epochs):
    """Train one case on one die of its own, with a seed of its own; return its figures."""
    recipe = load_recipe("fashion-mnist").changed({"seed": number, "threads": 1, **GROUPS[group][case]})
    if epochs is not None or (group != "chip" and "epochs" not in GROUPS[group][case]):
        recipe = recipe.changed({"epochs": epochs or EPOCHS})
    drift = DRIFT if group == "ageing" else None
    with lab(f"die-{number}", recipe, drift) as bench:
        experiment = bench.begin("training", recipe, data)
        model, training = bench.train(experiment, data)
        found = {"epochs": recipe.epochs, **figures(model, training.history, data)}
        if group in ON_CHIP:
            before = bench.pulses()
            found["chip"], deployment, verification, found["conversions"] = bench.on_chip(experiment, data)
            found["pulses"] = bench.pulses() - before
            found["patterns"] = sum(pattern.phases for pattern in deployment.gates().values())
            found["read_back"] = str(verification)
        else:
            found["host_very_noisy"] = on_host(model, data, NOISY)
        if group == "ageing":
            found |= _aged(bench, experiment, deployment, data, case)
    return {"number": number, **found, "passed": True, "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _aged(bench, experiment, deployment, data, mode):
    """Store the die, see what is left, and let the network learn on with the chip in the loop."""
    age(bench.description, bench.die, STORAGE.total_seconds(), 85.0)
    before = bench.pulses()
    aged = bench.again_on_chip(experiment, deployment, data)
    changes = {"epochs": 2, "learning_rate": 0.05, "in_the_loop": mode}
    if mode == "multiply":
        changes |= {"epochs": 1}
        part = slice(0, 6000)
        data = type(data)(data.name, data.train_x[part], data.train_y[part], data.test_x, data.test_y, data.classes)
    adapted = bench.begin("adapted", experiment.recipe.changed(changes), data, experiment)
    bench.train(adapted, data)
    recovered = bench.on_chip(adapted, data)[0]
    return {"chip_aged": aged, "chip_adapted": recovered, "pulses_adapting": bench.pulses() - before}
