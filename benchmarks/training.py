"""A training step of the paper's networks against a dense forward and backward of the same network.

The step is the trainer's own: choice of a batch, masks, quantisers, backward, optimiser, schedule, count of hits. The dense
network has the same layers with plain weights, no mask and no quantiser; of it only forward, loss and backward are timed.
``edge_to_channels_last``: against the dense network in the memory layout that the masked one computes in. Data are synthetic.
One step of each takes turns, and the best of each counts. ``selection_share``: the part of a step that the choice of all
masks takes. ``unet``: the same of the DRIVE network of Li, Wang et al. (arXiv 2311.07164), 4.3 million weights in 19
convolutions, on 32 patches of 48 × 48, the optimiser's step included.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import time
from collections import OrderedDict

import numpy as np
import torch
from figures import best, report
from torch import nn

from rramlab.nn import load_weights, masked_layers, masks
from rramlab.training import Dataset, fit, load_recipe
from rramlab.training.loop import keep_freed_memory

STEPS, UNET_STEPS = 250, 6
CNN, CRNN = "fashion-mnist", "spoken-digits"
VARIANTS = {
    "edge": (CNN, {"read_noise": 0.0}, 1.15),
    "phase16": (CNN, {"read_noise": 0.0, "granularity": "phase", "phases": 16}, 1.15),
    "edge_hysteresis": (CNN, {"read_noise": 0.0, "hysteresis": 0.1}, 1.15),
    "edge_noise": (CNN, {"read_noise": 0.05}, 1.3),
    "phase16_noise": (CNN, {"read_noise": 0.05, "granularity": "phase", "phases": 16}, 1.3),
    "crnn": (CRNN, {"read_noise": 0.0}, 1.3),
    "crnn_noise": (CRNN, {"read_noise": 0.02}, 1.3),
}


class DenseCRNN(nn.Module):
    """The spoken-digit network with plain weights."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 64, (3, 2), (2, 1), bias=False), nn.BatchNorm2d(64, affine=False)
        self.conv2, self.norm2 = nn.Conv2d(64, 32, (3, 2), (2, 1), bias=False), nn.BatchNorm2d(32, affine=False)
        self.rnn = nn.RNN(32, 128, nonlinearity="relu", bias=False)
        self.fc1, self.fc2 = nn.Linear(128, 256, bias=False), nn.Linear(256, 10, bias=False)

    def forward(self, x):
        x = self.norm1(nn.functional.max_pool2d(self.conv1(x), 2)).relu_()
        x = self.norm2(nn.functional.max_pool2d(self.conv2(x), 2)).relu_()
        return self.fc2(self.fc1(self.rnn(x.squeeze(2).permute(2, 0, 1))[0].mean(0)).relu_())


def dense():
    return nn.Sequential(
        OrderedDict(
            pool0=nn.MaxPool2d(2),
            conv1=nn.Conv2d(1, 64, 3, bias=False),
            norm1=nn.BatchNorm2d(64, affine=False),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(64, 16, 3, bias=False),
            pool2=nn.MaxPool2d(2),
            norm2=nn.BatchNorm2d(16, affine=False),
            relu2=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            fc1=nn.Linear(400, 128, bias=False),
            relu3=nn.ReLU(inplace=True),
            fc2=nn.Linear(128, 10, bias=False),
        )
    )


rng = np.random.default_rng(0)
keep_freed_memory()
floors = {
    CNN: {"dense": dense(), "channels_last": dense().to(memory_format=torch.channels_last)},
    CRNN: {"dense": DenseCRNN()},
}


def synthetic(task, batch):
    """Return a data set of noise, of the task's shape."""
    x = rng.random((batch * STEPS, 1, *{CNN: (28, 28), CRNN: (23, 20)}[task]), np.float32)
    y = rng.integers(0, 10, len(x))
    return Dataset("synthetic", x, y, x[:1], y[:1], tuple("0123456789"))


class Turns:
    """Asked by the trainer before every step whether to stop; lets the dense networks have their turn and takes the times."""

    def __init__(self, networks, images, labels):
        self.networks, self.images, self.labels = networks, images, labels
        self.steps, self.dense, self.since = [], {name: [] for name in networks}, None

    def __call__(self):
        now = time.perf_counter()
        if self.since is not None:
            self.steps.append(now - self.since)
        for name, floor in self.networks.items():
            begun = time.perf_counter()
            floor.zero_grad()
            nn.functional.cross_entropy(floor(self.images), self.labels).backward()
            self.dense[name].append(time.perf_counter() - begun)
        self.since = time.perf_counter()
        return False


class Block(nn.Sequential):
    """Two convolutions of 3 × 3 with norm and ReLU."""

    def __init__(self, inputs, middle, outputs):
        super().__init__(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(inplace=True),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        )  # fmt: skip


class UNet(nn.Module):
    """The recipe drive's network with plain weights: base 32, depth 4, bilinear, 1 × 64 × 64 -> 2 × 64 × 64."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([Block(1, 32, 32), Block(32, 64, 64), Block(64, 128, 128), Block(128, 256, 256)])
        self.bottom = Block(256, 256, 256)
        self.up = nn.ModuleList([Block(512, 256, 128), Block(256, 128, 64), Block(128, 64, 32), Block(64, 32, 32)])
        self.head = nn.Conv2d(32, 2, 1, bias=False)

    def forward(self, x):
        kept = []
        for block in self.down:
            kept.append(block(x))
            x = nn.functional.max_pool2d(kept[-1], 2)
        x = self.bottom(x)
        for block in self.up:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = block(torch.cat([kept.pop(), x], dim=1))
        return self.head(x)


def masked(recipe):
    model = recipe.model()
    signs = {name: rng.choice([-1.0, 1.0], layer.shape) for name, layer in masked_layers(model).items()}
    load_weights(model, {name: (12e-6 * sign).astype(np.float32) for name, sign in signs.items()})
    return model


ratios, seconds, notes = {}, {}, {}
for name, (task, changes, limit) in VARIANTS.items():
    recipe = load_recipe(task).changed({"epochs": 1, **changes})
    data = synthetic(task, recipe.batch)
    model = masked(recipe)
    turns = Turns(floors[task], *data.batch(torch.arange(recipe.batch)))
    fit(model, recipe, data, stop=turns)
    step, bare = min(turns.steps), min(turns.dense["dense"])
    seconds[name], seconds[f"{name}_dense"] = step, bare
    ratios[name] = step / bare
    ratios[f"{name}_to_limit"] = ratios[name] / limit
    notes[name] = "a dense forward and backward of the same network"
    notes[f"{name}_to_limit"] = f"the limit of {limit} ×"
    seconds[f"{name}_selection"] = best(lambda model=model: masks(model), 50)
    if name == "edge":
        ratios["edge_to_channels_last"] = step / min(turns.dense["channels_last"])
        notes["edge_to_channels_last"] = "the dense network, its memory laid out channels last"
    ratios[f"{name}_selection_share"] = seconds[f"{name}_selection"] / step
    notes[f"{name}_selection_share"] = "the step"

unet, dense_unet = masked(load_recipe("drive")).train(), UNet()
optimiser = torch.optim.SGD(unet.parameters(), 0.1, momentum=0.9, fused=True)
patches, truth = torch.rand(32, 1, 48, 48), torch.randint(0, 2, (32, 48, 48))


def unet_pass(network):
    begun = time.perf_counter()
    network.zero_grad()
    nn.functional.cross_entropy(network(patches), truth).backward()
    if network is unet:
        optimiser.step()
    return time.perf_counter() - begun


unet_times = [(unet_pass(unet), unet_pass(dense_unet)) for _ in range(UNET_STEPS)]
seconds["unet"], seconds["unet_dense"] = map(min, zip(*unet_times, strict=True))
seconds["unet_selection"] = best(lambda: masks(unet), 5)
ratios["unet"] = seconds["unet"] / seconds["unet_dense"]
ratios["unet_to_limit"] = ratios["unet"] / 1.2
ratios["unet_selection_share"] = seconds["unet_selection"] / seconds["unet"]
ratios["unet_selection_share_to_limit"] = ratios["unet_selection_share"] / 0.03
notes["unet"] = notes["edge"]
notes["unet_to_limit"] = "the limit of 1.2 ×"
notes["unet_selection_share"] = "the step"
notes["unet_selection_share_to_limit"] = "the limit of 3 %"

report("training", ratios, seconds, notes)
