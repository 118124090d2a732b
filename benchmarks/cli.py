"""How long the command line takes to answer ``--help`` and ``bench show``."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import os
import subprocess
import tempfile

from figures import best, report

LIMIT_S = 0.3


def run(*words):
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RRAMLAB_BENCH": folder}
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)


bare = best(lambda: run("-c", "pass"))
peer = best(lambda: run("-c", "import typer, rich.console"))
seconds = {
    "help": best(lambda: run("-m", "rramlab", "--help")),
    "bench_show": best(lambda: run("-m", "rramlab", "bench", "show")),
    "import_typer_and_rich": peer,
    "bare_interpreter": bare,
}
report(
    "cli",
    {
        "help_to_limit": seconds["help"] / LIMIT_S,
        "help_to_bare": seconds["help"] / bare,
        "help_to_typer": seconds["help"] / peer,
        "bench_show_to_bare": seconds["bench_show"] / bare,
    },
    seconds,
    {
        "help_to_limit": f"the limit of {LIMIT_S} s",
        "help_to_bare": "python -c pass",
        "help_to_typer": "importing typer and rich alone",
        "bench_show_to_bare": "python -c pass",
    },
)
