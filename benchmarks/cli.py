"""CPU of whole processes: commands that compute nothing, and what they cannot do without."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import os
import resource
import subprocess
import tempfile

from figures import best, report

LIMITS_S = {"help": 0.3, "estop": 0.5}  # of CPU
OTHERS_S = 0.4
COMMANDS = {
    "help": "--help",
    "version": "--version",
    "estop": "estop",
    "bench_show": "bench show",
    "drivers_list": "drivers list",
    "drivers_show": "drivers show keithley-2450",
    "protocols_list": "protocols list",
    "protocols_show": "protocols show electroform",
    "runs_list": "runs list",
    "dies_list": "dies list",
    "data_list": "data list",
    "calibrate_show": "calibrate show",
    "unknown_protocol": "run nonsense",
    "unknown_run": "runs show nonsense",
}


def cpu(*words, folder):
    """Return the CPU seconds of a process, the least of several."""
    found = []
    environment = {**os.environ, "RRAMLAB_BENCH": folder}

    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=False, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    best(once)
    return min(found)


with tempfile.TemporaryDirectory() as folder:
    bare = cpu("-c", "pass", folder=folder)
    peer = cpu("-c", "import typer, pydantic, rich.console", folder=folder)
    seconds = {name: cpu("-m", "rramlab", *words.split(), folder=folder) for name, words in COMMANDS.items()}
report(
    "cli",
    {
        **{f"{name}_to_limit": found / LIMITS_S.get(name, OTHERS_S) for name, found in seconds.items()},
        "help_to_bare": seconds["help"] / bare,
        "help_to_typer": seconds["help"] / peer,
        "bench_show_to_bare": seconds["bench_show"] / bare,
    },
    {**seconds, "import_typer_pydantic_and_rich": peer, "bare_interpreter": bare},
    {
        **{f"{name}_to_limit": f"the limit of {LIMITS_S.get(name, OTHERS_S)} s of CPU" for name in seconds},
        "help_to_bare": "python -c pass",
        "help_to_typer": "importing typer, pydantic and rich alone",
        "bench_show_to_bare": "python -c pass",
    },
)
