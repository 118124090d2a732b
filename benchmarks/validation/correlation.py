"""Correlation between neighbours: there is none but a factor that each column has."""

from dataclasses import replace

import numpy as np
from scipy import stats

from validation.common import FORM, Z95, Found, from_to
from validation.dies import conducts, formed, logarithms
from validation.plots import BLUE, GREY, RED, panels

TITLE = "Spatial correlation"
LAGS = range(1, 9)
SHARE = 0.017  # of the variance of ln G between columns: measured, see rramlab/sim/models.py


def validate(run):
    seeds, (rows, columns) = run.seeds(5), run.full.shape
    found = Found(
        "Correlation between neighbours 1 to 8 apart in a row and in a column: formed or not at 3.45 V, and ln G of cells "
        f"formed at 3.75 V, on whole dies of {rows} × {columns}, with the 95 % band for independent cells. Columns differ "
        "by a factor of their own, so cells of one column correlate by its share of the variance; for the test the "
        "columns' means are taken out, and the −1/(rows − 1) that this brings.",
        from_to(seeds),
    )
    series = {name: [] for name in ("formed, row", "formed, column", "ln G, row", "ln G, column")}
    shares, raw, bands = [], [], {}
    for seed in seeds:
        partly = conducts(formed(run.full, seed, replace(FORM, amplitude_V=3.45))).astype(np.float64)
        logs = logarithms(formed(run.full, seed))
        shares.append(_column_share(logs))
        raw.append(_correlations(logs, 0)[0])
        for name, values in zip(series, (partly, partly, logs, logs - logs.mean(axis=0)), strict=True):
            correlation, bands[name] = _correlations(values, 1 if name.endswith("row") else 0)
            series[name].append(correlation + (1 / (rows - 1) if name == "ln G, column" else 0))
    # Columns' factors meet their neighbours' by chance: in a row that adds a little to the chance of single cells.
    bands["ln G, row"] = np.hypot(bands["ln G, row"], Z95 * SHARE / np.sqrt(columns))
    for name, values in series.items():
        z = np.abs(np.array(values) / bands[name] * Z95)
        inside = np.mean(z <= Z95)
        # Both limits are crossed by chance once in a hundred.
        least, limit = stats.binom.ppf(0.01, z.size, 0.95) / z.size, stats.norm.isf(0.005 / z.size)
        found.promise(
            f"{name}: lags inside the 95 % band, and the largest departure",
            f"at least {least:.1%}, below {limit:.1f} σ (each 1 % by chance)",
            f"{inside:.1%} of {z.size}, {z.max():.1f} σ, mean correlation {np.mean(values):+.5f}",
            inside >= least and z.max() < limit,
        )
    error = Z95 * SHARE * np.sqrt(2 / (columns - 1) / len(shares))
    found.promise(
        "share of the variance of ln G between columns",
        f"{100 * SHARE:.1f} ± {100 * error:.2f} % (95 % of {len(shares)} dies)",
        f"{np.mean(shares):.2%}, of single dies {min(shares):.2%} to {max(shares):.2%}",
        abs(np.mean(shares) - SHARE) <= error,
    )
    found.figures |= {"seeds": len(shares), "column_share": shares, "raw_column": np.mean(raw, axis=0).tolist()}
    found.figures["mean"] = {name: np.mean(values, axis=0).tolist() for name, values in series.items()}
    if run.data is not None:
        _measured(run.data, found)
    found.findings.append(
        f"Along columns, means left in, ln G correlates by {np.mean(raw):+.4f} at every lag: the column's own factor."
    )
    found.drawing = _draw(series, bands, np.mean(raw, axis=0))
    return found


def _correlations(values, axis, valid=None):
    """Return the correlation between neighbours at each lag along an axis, and the 95 % band for independence."""
    valid = np.ones(values.shape, np.bool_) if valid is None else valid
    scaled = np.where(valid, (values - values[valid].mean()) / values[valid].std(), 0.0)
    scaled, valid = np.moveaxis(scaled, axis, 0), np.moveaxis(valid, axis, 0)
    pairs = np.array([np.sum(valid[lag:] & valid[:-lag]) for lag in LAGS])
    return np.array([np.sum(scaled[lag:] * scaled[:-lag]) for lag in LAGS]) / pairs, Z95 / np.sqrt(pairs)


def _column_share(values):
    """Return the share of the variance that lies between columns: one-way analysis of variance."""
    within = values.var(axis=0, ddof=1).mean()
    column = values.mean(axis=0).var(ddof=1) - within / len(values)
    return float(column / (column + within))


def _measured(data, found):
    """Put the measured arrays to the same test."""
    cells, known = data["conductance_hidden_uS"], {}
    grown = cells > 0
    for name, values, valid in (
        ("breakdown voltage, 20 × 20", data["breakdown_voltage_V"], None),
        ("formed, 50 × 50", grown.astype(np.float64), None),
        ("ln G, 50 × 50", np.log(np.where(grown, cells, 1.0)), grown),
    ):
        for axis, way in ((1, "row"), (0, "column")):
            known[f"{name}, {way}"] = _correlations(values, axis, valid)
    outside = sum(int(np.sum(np.abs(r) > band)) for r, band in known.values())
    lag_one = ", ".join(f"{name} {r[0]:+.3f} (± {band[0]:.3f})" for name, (r, band) in known.items())
    found.figures["measured"] = {name: {"r": r.tolist(), "band": band.tolist()} for name, (r, band) in known.items()}
    found.findings.append(
        f"The measured arrays, same test: {outside} of {len(known) * len(LAGS)} lags outside their bands (5 % by chance). "
        f"At lag 1: {lag_one}."
    )


def _draw(series, bands, raw):
    figure, axes = panels(7.6, 3.3, 2, sharey=True)
    lags = np.array(LAGS)
    for axis, kind, title in zip(axes, ("formed", "ln G"), ("Formed or not, 3.45 V", "ln G, 3.75 V"), strict=True):
        band = bands[f"{kind}, row"]
        axis.fill_between(lags, -band, band, color=GREY, alpha=0.3, lw=0, label="95 %, independent, one die")
        for way, colour, marker, shift in (("row", BLUE, "o", -0.12), ("column", RED, "s", 0.12)):
            values = np.array(series[f"{kind}, {way}"])
            axis.plot(lags + shift, values.T, ".", color=colour, ms=2, alpha=0.5)
            mean = values.mean(axis=0)
            axis.plot(lags + shift, mean, marker, color=colour, ms=4, label=f"along a {way}, mean of dies")
        axis.set(xlabel="lag, cells", title=title, xticks=lags)
    axes[1].plot(lags + 0.12, raw, "s", mfc="none", color=RED, ms=4, label="column's factor left in")
    axes[1].axhline(SHARE, color=RED, lw=0.7, ls="--", label=f"its share, {SHARE:.1%}")
    axes[0].set_ylabel("correlation")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
