"""What all benchmarks share: the best time of several, and one JSON object on stdout, ratios first."""

import argparse
import json
import platform
import time


def best(function, repeats=5):
    """Return the shortest of ``repeats`` durations in s: the one that other processes disturbed least."""
    durations = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        durations.append(time.perf_counter() - begun)
    return min(durations)


def command_line(name, **options):
    """Return the parsed arguments of a benchmark; ``options``: its own, by name, as argparse takes them."""
    parser = argparse.ArgumentParser(description=f"benchmark {name}")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    for option, how in options.items():
        parser.add_argument(f"--{option}", **how)
    return parser.parse_args()


def report(name, ratios, seconds, notes, arguments=None, figures=None):
    """Print the figures; ``notes`` says what each ratio is to. ``figures``: what else there is to say."""
    document = {
        "benchmark": name,
        "ratios": {key: round(value, 4) for key, value in ratios.items()},
        "seconds": {key: round(value, 5) for key, value in seconds.items()},
        **({"figures": figures} if figures else {}),
        "ratio_to": notes,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if (arguments or command_line(name)).json:
        print(json.dumps(document, indent=1))
        return
    for key, value in document["ratios"].items():
        print(f"{key:34} {value:10.3f} × {notes.get(key, '')}")
    for key, value in document["seconds"].items():
        print(f"{key:34} {value:10.5f} s")
    for key, value in (figures or {}).items():
        print(f"{key:34} {value}")
