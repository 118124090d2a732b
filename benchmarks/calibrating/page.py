"""The page of the calibration campaign: promises with their figures, coverage of the intervals."""

import math

import numpy as np

COVERAGE = 1.96


def summary(boards):
    """Return promises, each with its figure and limit, and how the pulls of each kind of value are spread."""
    ideal = [each for each in boards if not each["lossy"]]
    lossy = [each for each in boards if each["lossy"]]
    promises = []

    def promise(what, figure, limit, at_most=True, spelled="{:.3g}"):
        kept = figure <= limit if at_most else figure >= limit
        promises.append(
            {"what": what, "figure": figure, "limit": limit, "at_most": at_most, "kept": bool(kept), "spelled": spelled}
        )

    for name in ("read", "multiply"):
        promise(f"relative column gain, {name} range, p95, worst board", max(each[f"{name}_gain_p95"] for each in boards), 5e-4,
                spelled="{:.4%}")  # fmt: skip
        promise(
            f"column offset, {name} range, p95 in LSB, worst board",
            max(each[f"{name}_offset_p95"] for each in boards),
            0.5,
        )
    if ideal:
        worst = max(each["conductance_relative_p95"] for each in ideal)
        promise("conductance above 5 µS, relative, p95, worst board", worst, 5e-3, spelled="{:.3%}")
        largest = max(abs(each["conductance_scale"]) / (math.sqrt(3) * each["scale_u"]) for each in ideal)
        promise("conductance, absolute, over the unit's limit of error, worst board", largest, 1.0)
        promise("boards and units that agree on cells", sum(each["agrees"] for each in ideal) / len(ideal), 0.95, at_most=False,
                spelled="{:.0%}")  # fmt: skip
        worst = max(each["linearity_residual"] for each in ideal)
        promise("products against sums of reads, departure, worst board", worst, 1e-3, spelled="{:.4%}")
    errors = np.array([each["breakdown_error_V"] for each in boards])
    promise("breakdown mean from 400 cells, RMS error in mV", float(np.sqrt(np.mean(errors**2))) * 1e3, 7.0)
    within = np.mean([abs(each["formed_of_half"] - 0.5) <= 0.03 for each in boards])
    promise("dies whose formed share is within 3 points of 50 %", float(within), 0.8, at_most=False, spelled="{:.0%}")
    if lossy:
        for name, what in (("bl", "bit-line"), ("sl", "source-line")):
            promise(
                f"{what} path, worst single line", max(each[f"{name}_worst"] for each in lossy), 0.1, spelled="{:.2%}"
            )
        promise("wire segment, worst die", max(abs(each["segment_error"]) for each in lossy), 0.1, spelled="{:.2%}")
        for name in ("all", "16 phases"):
            ratios = [each[f"products {name}"][0] / each[f"products {name}"][1] for each in lossy]
            promise(f"multiply error without over with compensation, {name}, least", min(ratios), 5.0, at_most=False)
    pulls = {}
    for each in boards:
        for what, error, uncertainty in each["cases"]:
            pulls.setdefault(what, []).append(error / uncertainty)
    kinds = {
        what: {
            "cases": len(values),
            "covered": float(np.mean(np.abs(values) <= COVERAGE)),
            "pull_mean": float(np.mean(values)),
            "pull_rms": float(np.sqrt(np.mean(np.square(values)))),
        }
        for what, values in pulls.items()
    }
    pooled = np.concatenate([np.asarray(values) for values in pulls.values()])
    promise("95 % intervals that cover the truth, pooled, at least", float(np.mean(np.abs(pooled) <= COVERAGE)), 0.92,
            at_most=False, spelled="{:.1%}")  # fmt: skip
    promise("the same, at most", float(np.mean(np.abs(pooled) <= COVERAGE)), 0.98, spelled="{:.1%}")
    promise("RMS of the pulls, pooled, at least", float(np.sqrt(np.mean(pooled**2))), 0.8, at_most=False)
    promise("the same, at most", float(np.sqrt(np.mean(pooled**2))), 1.2)
    before = {
        "column gain, p95": float(np.median([each["read_gain_before_p95"] for each in boards])),
        "column offset in LSB, p95": float(np.median([each["read_offset_before_p95"] for each in boards])),
        "conductance above 5 µS, p95": float(np.median([each["conductance_before_p95"] for each in ideal]))
        if ideal
        else None,
    }
    count = {"boards": len(boards), "ideal": len(ideal), "lossy": len(lossy), "cases": int(pooled.size)}
    return {"count": count, "promises": promises, "pulls": kinds, "before": before}


def markdown(document):
    count = document["count"]
    lines = [
        "# Calibration against the simulator's hidden truth",
        "",
        f"{count['boards']} boards and dies, each virgin at first: {count['ideal']} whose lines lose nothing and "
        f"{count['lossy']} with "
        "1 Ω a segment and 125 Ω switches (assumed). Every other board is of the harsh kind (gains spread by 2 %, "
        "offsets by 4 codes, "
        "switches by 20 %). Each went through `dac`, `adc` and `forming` (400 cells), was formed at the voltage for 50 "
        "%, rested for "
        "four hours, and then through `noise`, `linearity` and `smu`, or `lines`. Nothing but the bench's commands was "
        "used to find "
        "the values; the truth was looked up afterwards.",
        "",
        f"Made by `python benchmarks/calibration.py --boards {count['ideal']}`; every board is in `calibration.json`.",
        "",
        "| promise | found | limit | |",
        "|---|---|---|---|",
    ]
    for each in document["promises"]:
        spelled, sign = each["spelled"], "≤" if each["at_most"] else "≥"
        limit = f"{sign} {spelled.format(each['limit'])}"
        lines.append(
            f"| {each['what']} | {spelled.format(each['figure'])} | {limit} | {'kept' if each['kept'] else '**not kept**'} |"
        )
    before = document["before"]
    lines += ["", "Without calibration, median board:"]
    lines += [f"* {what}: {value:.3g}" for what, value in before.items() if value is not None]
    lines += [
        "",
        f"## Uncertainties: {count['cases']:,} cases",
        "",
        "A pull is the error over the stated standard uncertainty; of columns and lines eight are drawn from each board.",
        "",
        "| value | cases | 95 % covered | mean pull | RMS pull |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {what} | {each['cases']} | {each['covered']:.1%} | {each['pull_mean']:+.2f} | {each['pull_rms']:.2f} |"
        for what, each in sorted(document["pulls"].items())
    ]
    lines += [
        "",
        "Where a source-measure unit's specification dominates (DAC, resistors, mean gains, absolute conductance), "
        "pulls are small by "
        "design: a limit of error is no standard deviation, and the emulated units lie within 80 % of theirs.",
    ]
    return "\n".join(lines) + "\n"
