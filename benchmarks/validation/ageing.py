"""What storage does to formed cells; and what operations of a whole die take by its meter."""

import numpy as np
from scipy.constants import Boltzmann, elementary_charge, zero_Celsius

from rramlab.sim.state import KINDS
from validation.common import DAY, FORM, FULL, HOUR, YEAR, Found
from validation.dies import TABLE, Bench, formed, logarithms
from validation.plots import BLUE, GREY, ORANGE, RED, panels

TITLE = "Ageing, time and energy"


def validate(run):
    geometry = run.medium
    found = Found(
        f"Formed dies of {geometry.rows} × {geometry.columns} stored at 25, 85 and 125 °C, without telegraph noise; and what "
        "standard operations of a whole die of 512 × 512 take by its meter. Ageing is assumed throughout: what is tested is "
        "that it follows its figures."
    )
    # Slow changes are folded in every 10 s.
    times = np.logspace(1, np.log10(10 * YEAR), 12 if run.quick else 34)
    curves = {celsius: _store(geometry, celsius, times) for celsius in (25, 85, 125)}
    at = int(np.argmin(np.abs(times - 1e5)))
    for celsius, (model, medians, spreads) in curves.items():
        inverse = 1 / (model.reference_C + zero_Celsius) - 1 / (celsius + zero_Celsius)
        worth_s = times[at] * np.exp(model.activation_eV * elementary_charge / Boltzmann * inverse)
        aged = np.log1p(worth_s / model.drift_start_s)
        median = -model.relax_mean - model.drift * aged
        spread = np.hypot(model.relax_ln_sigma, model.drift_sigma * aged)
        error = 4 * spread / np.sqrt(geometry.cells) + 2e-4
        found.promise(
            f"{celsius} °C, after {times[at] / HOUR:.0f} h: median and σ of the change of ln G",
            f"{median:+.4f} ± {error:.4f}, σ {spread:.4f} within 4 %",
            f"{medians[at]:+.4f}, σ {spreads[at]:.4f}",
            abs(medians[at] - median) <= error and abs(spreads[at] / spread - 1) <= 0.04,
        )
        day, day_spread = (np.interp(np.log(DAY), np.log(times), values) for values in (medians, spreads))
        found.findings.append(
            f"{celsius} °C: after a day {np.expm1(day):+.1%} in the median, σ of the change {day_spread:.1%}; "
            f"after ten years {np.expm1(medians[-1]):+.1%}, {spreads[-1]:.1%}."
        )
        series = {"seconds": times.tolist(), "median_ln": medians.tolist(), "sigma_ln": spreads.tolist()}
        found.figures[f"{celsius} C"] = series
    _meter(run, found)
    found.drawing = _draw(times, curves)
    return found


def _store(geometry, celsius, times):
    """Return the model of ageing, and median and σ of the change of ln G at each of ``times`` (s)."""
    die = formed(geometry, 1, noise={"telegraph_share": 0.0})
    start, model = logarithms(die), die.model.relaxation
    die.set_temperature(celsius)
    # Hot cells conduct less while they are hot: what stays is what counts.
    start += np.log1p(model.temperature_coefficient * (celsius - model.reference_C))
    changes = []
    for seconds in times.tolist():
        die.pass_time(max(0, round(seconds * 1e9) - die.state.clock_ns))
        changes.append((logarithms(die) - start).ravel())
    return model, np.median(changes, axis=1), np.std(changes, axis=1)


def _meter(run, found):
    """Form, read and multiply on a whole die; say what its meter counted."""
    bench, vectors = Bench(FULL, 1), 64 if run.quick else 1024
    bench.pulse("electroform", bench.all, FORM)
    bench.read(bench.all)
    bench.multiply(np.random.default_rng(0).integers(0, 256, (vectors, 512)).astype(np.uint8), 8)
    form_s = 512 * 512 / TABLE.cells_per_pulse * (FORM.width_s + TABLE.settle_time_s)
    line_s = TABLE.columns_per_adc / TABLE.adc_rate_Hz + TABLE.settle_time_s
    planes = vectors * 8 * 512 // TABLE.lines_at_once
    meter = bench.die.state.meter
    for name, kind, expected_s, unit in (
        ("form every cell, 8 together", "electroform", form_s, "pulses"),
        ("read every cell once", "read", 512 * line_s, "conversions"),
        (f"multiply {vectors:,} vectors of 512 × 8 bits", "multiply", planes * line_s, "conversions"),
    ):
        index = KINDS.index(kind)
        time_s, energy_J, events = meter.time_ns[index] / 1e9, meter.energy_J[index], int(meter.events[index])
        kept = abs(time_s / expected_s - 1) < 1e-6
        found.promise(f"{name}: simulated time", f"{expected_s:.4g} s by the board's table", f"{time_s:.4g} s", kept)
        found.figures[name] = {"time_s": float(time_s), "energy_J": float(energy_J), "events": events}
        found.findings.append(
            f"To {name} takes {time_s:.3g} s and {energy_J:.3g} J ({events:,} {unit}), {energy_J / events * 1e9:.3g} nJ each."
        )


def _draw(times, curves):
    figure, (left, right) = panels(7.6, 3.0, 2, sharex=True)
    for (celsius, (_, medians, spreads)), colour, marker in zip(
        curves.items(), (BLUE, ORANGE, RED), ("o", "s", "^"), strict=True
    ):
        style = {"marker": marker, "ms": 2.5, "lw": 1, "color": colour}
        left.plot(times, 100 * np.expm1(medians), label=f"{celsius} °C", **style)
        right.plot(times, 100 * spreads, **style)
    for axis in (left, right):
        axis.set(xscale="log", xlabel="time since forming, s")
        for seconds, name in ((HOUR, "1 h"), (DAY, "1 d"), (YEAR, "1 y")):
            axis.axvline(seconds, color=GREY, lw=0.6)
            axis.text(seconds * 1.15, 0.03, name, color=GREY, fontsize=6.5, transform=axis.get_xaxis_transform())
    left.set(ylabel="median change of G, %", title="Median (at 25 °C again)")
    right.set(ylabel="σ of the change, %", title="Spread between cells", ylim=(0, None))
    left.legend(loc="lower left", bbox_to_anchor=(0, 0.1))
    return figure
