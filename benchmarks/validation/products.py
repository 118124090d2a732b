"""Noise and voltage of products: two matrix products against a draw for each cell, on boards with errors."""

import numpy as np
from scipy import stats

from rramlab.macro.geometry import Geometry
from validation.dies import Bench
from validation.plots import BLUE, ORANGE

GEOMETRY = Geometry(64, 16)


def compare(run, found, axis):
    """Compare two-product noise with a draw a cell, at 1 bit and 8; draw one column both ways."""
    count, random = (4000 if run.quick else 20000), np.random.default_rng(3)
    # Nothing but read noise changes, so that every conversion sees the same cells.
    bench = Bench(GEOMETRY, 3, "ideal", noise={"read": 0.02})
    bench.form_alone()
    p_values, ratios, shifts = [], [], []
    for bits, x in ((8, random.integers(0, 256, 64)), (1, random.integers(0, 2, 64))):
        codes = bench.multiply(np.tile(x.astype(np.uint8), (count, 1)), bits)
        brute = _brute_force(bench, x, bits, count, random)
        p_values += [float(stats.ks_2samp(*columns).pvalue) for columns in zip(codes.T, brute.T, strict=True)]
        ratios += (codes.var(axis=0, ddof=1) / brute.var(axis=0, ddof=1)).tolist()
        shifts += ((codes.mean(axis=0) - brute.mean(axis=0)) / (brute.std(axis=0) * np.sqrt(2 / count))).tolist()
    tests, largest = len(p_values), np.abs(shifts).max()
    limit_z = stats.norm.isf(0.005 / tests)
    limit_f = np.sqrt(4 / count) * limit_z
    found.promise(
        "mean of a product's codes, two products against a draw a cell",
        f"equal: below {limit_z:.1f} σ in each of {tests} (1 bit and 8 bits × 16 columns; 1 % together)",
        f"largest {largest:.1f} σ",
        largest < limit_z,
    )
    text, kept = f"{min(ratios):.3f} to {max(ratios):.3f}", np.abs(np.array(ratios) - 1).max() <= limit_f
    found.promise("variance", f"ratio within 1 ± {limit_f:.3f} (1 % together)", text, kept)
    found.promise(
        "whole law of the codes (Kolmogorov–Smirnov)",
        f"smallest p above {0.01 / tests:.5f} (1 % together)",
        f"smallest {min(p_values):.4f}, {np.mean(np.array(p_values) > 0.05):.0%} above 0.05; {count:,} conversions each",
        min(p_values) > 0.01 / tests,
    )
    found.figures |= {"product_p": p_values, "product_variance_ratio": ratios}
    _voltage(found)
    codes, brute = codes[:, 0], brute[:, 0]
    edges = np.arange(min(codes.min(), brute.min()), max(codes.max(), brute.max()) + 2, 4) - 0.5
    axis.hist(brute, edges, density=True, color=ORANGE, alpha=0.6, label="a draw a cell")
    axis.hist(codes, edges, density=True, histtype="step", color=BLUE, lw=1, label="two products")
    axis.set(xlabel="ADC code", ylabel="density, 1/code", title="One column, 64 rows, one bit plane")
    axis.legend(loc="upper right")


def _brute_force(bench, x, bits, count, random):
    """Return codes, float64[count, columns], of ``count`` products with noise of its own for each cell and conversion."""
    table, codes = bench.table, np.zeros((count, GEOMETRY.columns))
    per_siemens = bench.board.multiply_gain * bench.input_V / table.input_V / table.multiply_step_S
    levels, base = bench.die.conductance_S * per_siemens, table.zero_code + bench.board.multiply_offset
    for plane in range(bits):
        on = (x >> plane & 1).astype(np.bool_)
        draws = random.standard_normal((count, int(on.sum()), GEOMETRY.columns), dtype=np.float32)
        converted = np.rint((levels[on] * (1 + 0.02 * draws)).sum(axis=1) + base)
        codes += np.clip(converted, 0, 2**table.adc_bits - 1) * 2**plane
    return codes


def _voltage(found):
    """Compare the voltage that a product's inputs have with that of a read, on boards with errors of their own."""
    errors = []
    for seed in range(1, 11):
        bench = Bench(GEOMETRY, seed, "ideal")
        bench.form_alone()
        board, table, cells = bench.board, bench.table, bench.die.conductance_S.astype(np.float64)
        product = bench.multiply(np.ones((1, 64), np.uint8), 1)[0] - table.zero_code - board.multiply_offset
        product *= table.multiply_step_S * table.input_V / (cells.sum(axis=0) * board.multiply_gain)
        read = bench.read(bench.all)[0].reshape(GEOMETRY.shape) - table.zero_code - board.read_offset
        read *= table.read_step_S * table.read_voltage_V / (cells * board.read_gain)
        errors.append(float(product.mean() / read.mean() - 1))
    largest, name = np.abs(errors).max(), "a product's inputs are at the DAC's real voltage, as a read's are"
    found.promise(name, "equal within 0.01 %, 10 boards", f"differ by up to {largest:.3%}", largest < 1e-4)
    found.figures["product_voltage_error"] = errors
