"""Noise of reads, and telegraph noise; that of products is in ``products``."""

import numpy as np
from scipy import stats

from rramlab.macro.cells import CONDUCTING_THRESHOLD_S
from validation import products
from validation.common import DAY, FORM, HOUR, SMALL, Found, exact_band
from validation.dies import Bench
from validation.plots import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, panels

TITLE = "Read, telegraph and product noise"


def validate(run):
    found = Found(
        "Repeated reads of formed cells by the simulated board; telegraph noise found in means of 64 reads, from a day after "
        "forming; noise of the product (one draw a conversion, variance by a second matrix product) against a draw a cell "
        "and conversion, on a die and board of which nothing but the noise differs from one conversion to the next.",
        "1 (reads), 2 (telegraph noise), 3 (products), boards 1 to 10",
    )
    figure, axes = panels(10.0, 3.0, 3, width_ratios=[1, 1.25, 1.1])
    _reads(run, found, axes[0])
    _telegraph(run, found, axes[1])
    products.compare(run, found, axes[2])
    found.drawing = figure
    return found


def _reads(run, found, axis):
    """Read 512 cells often."""
    repeats = 1000 if run.quick else 4000
    bench = Bench(SMALL, 1)
    bench.pulse("electroform", bench.all, FORM)
    rows = np.zeros(SMALL.shape, np.bool_)
    rows[::8] = True
    codes = bench.read(rows, repeats).astype(np.float64) - bench.table.zero_code
    mean = codes.mean(axis=0)
    conducting = mean * bench.table.read_step_S > CONDUCTING_THRESHOLD_S
    share = codes[:, conducting] / mean[conducting] - 1
    sigma, text = float(share.std()), f"{share.size:,} reads"
    kept = abs(sigma / 0.02 - 1) < 0.01
    found.promise("read noise, σ of G", "2 % within 1 % of it", f"{sigma:.3%}, {text}", kept)
    normal = float(np.mean(stats.jarque_bera(share, axis=0).pvalue > 0.05))
    name = "cells whose reads pass for normal (Jarque–Bera, p > 0.05)"
    text = f"{normal:.1%} of {share.shape[1]} cells, {repeats:,} reads each"
    found.promise(name, "at least 90 %", text, normal >= 0.9)
    z = share / share.std(axis=0)
    # The reads' own mean is taken out, which makes −1/repeats of correlation.
    after, beside = float((z[1:] * z[:-1]).mean()) + 1 / repeats, float((z[:, 1:] * z[:, :-1]).mean())
    limit = stats.norm.isf(0.005) / np.sqrt(z[1:].size)
    name = "correlation of successive reads of a cell, and of reads of neighbours"
    text = f"{after:+.5f} and {beside:+.5f}"
    found.promise(name, f"within ± {limit:.5f} (99 %)", text, max(abs(after), abs(beside)) <= limit)
    found.findings.append(
        f"The largest of {share.size:,} reads lies {np.abs(share).max() / 0.02:.2f} σ from its cell's mean; of so many normal "
        f"ones it would be about {stats.norm.isf(0.25 / share.size):.1f}. Noise is drawn from 65,536 tabulated values, which "
        "end at 4.33."
    )
    found.figures |= {"read_sigma": sigma, "read_normal_share": normal, "read_lag_one": after}
    edges = np.linspace(-5, 5, 81)
    axis.hist((share / 0.02).ravel(), edges, density=True, color=SKY, label=f"{share.size:,} reads")
    axis.plot(edges, stats.norm.pdf(edges), color=BLACK, lw=1, label="normal")
    axis.set(yscale="log", ylim=(1e-6, 1), xlabel="read − cell's mean, σ of 2 %", ylabel="density", title="Read noise")
    axis.legend(loc="lower center", frameon=True)


def _telegraph(run, found, axis):
    """Find cells that step, and compare their number with what the model must show."""
    samples, every_s = (24, 1800.0) if run.quick else (72, 600.0)
    bench = Bench(SMALL, 2)
    bench.pulse("electroform", bench.all, FORM)
    bench.die.age(DAY)  # relaxation ends after some hours
    begun, logs = bench.die.state.clock_ns, []
    for index in range(samples):
        bench.die.pass_time(begun + round(index * every_s * 1e9) - bench.die.state.clock_ns)
        logs.append(np.log(bench.read_S(bench.all, 64)))
    logs, model = np.array(logs), bench.die.model.noise
    steps = np.abs(np.diff(logs, axis=0))
    # Half a trap's step is some six σ of the difference of two averages of 64 reads.
    stepping = (steps > -np.log1p(-model.telegraph_amplitude) / 2).any(axis=0)
    expected = model.telegraph_share * _seen_switching(model, samples, every_s)
    low, high = exact_band(stepping.sum(), stepping.size)
    found.promise(
        f"cells seen to step in {samples} samples over {samples * every_s / HOUR:.0f} h",
        f"{expected:.2%} of cells ({model.telegraph_share:.0%} have a trap; the slowest do not switch in that time)",
        f"{stepping.mean():.2%} ({low:.2%} to {high:.2%}), {stepping.size:,} cells",
        low <= expected <= high,
    )
    # A slow trap steps once or a few times: levels before and after are well known.
    amplitude = float(1 - np.exp(-np.median(steps[steps > 0.02])))
    promised, kept = f"{model.telegraph_amplitude:.1%} of G", abs(amplitude / model.telegraph_amplitude - 1) <= 0.1
    found.promise("height of a step", f"{promised} within a tenth of it", f"{amplitude:.2%}", kept)
    found.figures |= {"telegraph_seen": float(stepping.mean()), "telegraph_expected": expected}
    switches = (steps > 0.02).sum(axis=0)
    shown = np.concatenate([np.flatnonzero(switches == want)[:1] for want in (samples // 3, 6, 3, 1, 0)])
    hours = np.arange(samples) * every_s / HOUR
    for place, (cell, colour) in enumerate(zip(shown[::-1], (GREY, PINK, GREEN, ORANGE, BLUE), strict=False)):
        change = np.expm1(logs[:, cell] - np.quantile(logs[:, cell], 0.95))
        axis.step(hours, 100 * change + 8 * place, where="post", color=colour, lw=0.9)
    axis.errorbar(-0.5, 2, 2, color=BLACK, capsize=2, lw=1)
    axis.text(-1.0, 2, "4 %", rotation=90, va="center", ha="right", fontsize=7)
    axis.set(xlabel="time, h", ylabel="G", yticks=[], xlim=(-2, None), title="Four cells with a trap, one without")


def _seen_switching(model, samples, every_s):
    """Return the chance that a trap is seen in both states: a coin for each of its time slots that was looked at.

    Computed from the time constants' law (even in log time) and a phase that is even in the slot, not by simulation.
    """
    share = np.linspace(0, 1, 100_001)
    slot_s = model.telegraph_shortest_s * (model.telegraph_longest_s / model.telegraph_shortest_s) ** share
    further = (samples - 1) * np.minimum(every_s / slot_s, 1)  # slots beyond the first, in the mean
    return float(np.mean(1 - 0.5 ** np.floor(further) * (1 - further % 1 / 2)))
