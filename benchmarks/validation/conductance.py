"""Conductances after forming, against the 1,430 measured cells and the published figures of their law."""

import numpy as np
from scipy import stats

from rramlab.sim import measured
from validation.common import SMALL, Z95, Found, from_to, in_uS
from validation.dies import Bench, conducts, formed, logarithms
from validation.plots import BLACK, BLUE, SKY, panels

TITLE = "Conductance after forming"


def validate(run):
    target, what = run.measured_S()
    seeds = run.seeds()
    found = Found(
        f"{len(target):,} cells at random places of a die of 64 × 64, formed at 3.75 V by one pulse each, against {what} "
        "(two-sample Kolmogorov–Smirnov). One die a seed.",
        from_to(seeds),
    )
    p_true, p_read, sigmas, sample = [], [], [], []
    for seed in seeds:
        bench = Bench(SMALL, seed)
        bench.form_alone()
        cells = bench.die.conductance_S
        places = np.random.default_rng(seed).choice(np.flatnonzero(conducts(bench.die)), len(target), replace=False)
        sample.append(np.sort(cells.ravel()[places].astype(np.float64)))
        p_true.append(float(stats.ks_2samp(sample[-1], target).pvalue))
        p_read.append(float(stats.ks_2samp(bench.read_S(bench.all)[places], target).pvalue))
        sigmas.append(_difference_S(cells))
    for p_values, name in (
        (p_true, "dies that the test does not tell from the measured cells (p > 0.05)"),
        (p_read, "the same after one read by the board (2 % noise, gains as they come)"),
    ):
        share = np.mean(np.array(p_values) > 0.05)
        text = f"{share:.0%} of {len(seeds)}, median p {np.median(p_values):.2f}"
        found.promise(name, "at least 90 %", text, share >= 0.9)
    found.figures |= {"p": p_true, "p_read": p_read, "sigma_difference_S": sigmas}
    _law(run, found)
    if run.data is not None:
        distance = stats.ks_2samp(measured.conductances(), target).statistic
        name = "distance of the sample rebuilt from the shipped quantiles from the data"
        found.promise(name, "below 0.01", f"{distance:.4f}", distance < 0.01)
        pairs = " and ".join(_pairs(run.data[f"conductance_{layer}_uS"]) for layer in ("input", "hidden"))
        found.findings.append(
            f"Of the measured arrays themselves σ of G⁺ − G⁻ of pairs with both cells formed is {pairs}."
        )
    found.findings.append(
        f"σ of G⁺ − G⁻ of a die of 64 × 64 (2,048 pairs): {in_uS(min(sigmas)):.2f} to {in_uS(max(sigmas)):.2f} µS over "
        f"{len(seeds)} dies; single high outliers of +15 to +20 µS (2 in 10,000 cells) move it most."
    )
    found.drawing = _draw(target, np.array(sample))
    return found


def _difference_S(cells):
    """Return σ of G⁺ − G⁻, pairs being neighbours in a row."""
    return float((cells[:, 0::2] - cells[:, 1::2]).std())


def _pairs(cells):
    """Return the same of a measured array in words; cells that did not form hold zero."""
    plus, minus = cells[:, 0::2], cells[:, 1::2]
    both = (plus > 0) & (minus > 0)
    sigma = (plus - minus)[both].std(ddof=1)
    return f"{sigma:.2f} µS ({both.sum()} pairs of {'×'.join(map(str, cells.shape))})"


def _law(run, found):
    """Compare whole dies with the published figures, within the 95 % that 1,430 cells leave open."""
    dies = [formed(run.full, seed) for seed in run.seeds(20)]
    differences = in_uS([_difference_S(die.conductance_S) for die in dies])
    logs = [logarithms(die)[conducts(die)] for die in dies]
    medians = in_uS([np.exp(np.median(each)) for each in logs])
    spreads = np.array([each.std() for each in logs])
    median_band, spread_band = Z95 * 12.2 * 0.1475 * np.sqrt(np.pi / 2 / 1430), Z95 * 0.1475 / np.sqrt(2 * 1430)
    for name, promised, unit, digits, values, centre, band in (
        ("σ of G⁺ − G⁻, whole dies", "2.6 µS within 5 %", " µS", 3, differences, 2.6, 0.05 * 2.6),
        ("median", f"12.2 ± {median_band:.2f} µS (95 % of 1,430 cells)", " µS", 3, medians, 12.2, median_band),
        ("σ of ln G", f"0.1475 ± {spread_band:.4f} (95 % of 1,430 cells)", "", 4, spreads, 0.1475, spread_band),
    ):
        text = f"{values.min():.{digits}f} to {values.max():.{digits}f}{unit}"
        found.promise(name, promised, text, np.all(np.abs(values - centre) <= band))
    found.figures["sigma_whole_S"] = (differences * 1e-6).tolist()


def _draw(target, sample):
    figure, (left, right) = panels(7.6, 3.2, 2)
    edges, outline = np.linspace(6, 22, 49), {"histtype": "step", "color": BLACK, "lw": 1}
    left.hist(in_uS(sample.ravel()), edges, density=True, color=SKY, label=f"simulated, {len(sample)} dies")
    left.hist(in_uS(target), edges, density=True, label=f"measured, {len(target):,}", **outline)
    left.set(xlabel="conductance after forming, µS", ylabel="density, 1/µS", title="Formed cells")
    normal = stats.norm.ppf((np.arange(sample.shape[1]) + 0.5) / sample.shape[1])
    low, high = np.quantile(in_uS(sample), [0.025, 0.975], axis=0)
    right.fill_between(normal, low, high, color=SKY, lw=0, label="95 % of simulated dies")
    right.plot(normal, 12.2 * np.exp(0.1475 * normal), color=BLUE, lw=1, label="lognormal 12.2 µS, 0.1475")
    points = stats.norm.ppf(np.arange(1, 100) / 100)
    right.plot(points, measured.QUANTILES_uS[1:-1], ".", color=BLACK, ms=4, label="measured, 1 … 99 %")
    right.set(yscale="log", xlabel="standard normal quantile", ylabel="conductance, µS", title="Lognormal Q–Q")
    right.set_yticks([8, 10, 12, 15, 20, 30], labels=["8", "10", "12", "15", "20", "30"])
    right.minorticks_off()
    left.legend()
    right.legend()
    return figure
