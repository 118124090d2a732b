"""Ctrl-C and termination while a command starts: nothing has begun, so it ends quietly."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for a child")

# The moment is found in the program, not by a clock: the signal comes when a module is about to be loaded.
AT = """
import os, signal, sys
number, wanted, words = int(sys.argv[1]), sys.argv[2], sys.argv[3:]

class Sends:
    def find_spec(self, name, path=None, target=None):
        if name == wanted and os.environ.pop("SEND", None):
            os.kill(os.getpid(), number)
        return None

sys.meta_path.insert(0, Sends())
sys.argv = ["rramlab", *words]
from rramlab.cli import main
main()
"""


def ended(number, module, *words):
    command = [sys.executable, "-c", AT, str(int(number)), module, *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SEND": "1"}, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module",
    [
        "rramlab.cli.app", "typer", "typer.core", "pydantic", "pydantic_core", "rramlab.cli.bench",  # nothing has begun
        "rramlab.drivers.bench", "rramlab.drivers.boardfile", "yaml", "rich.table",  # the command has
    ],
)  # fmt: skip
def test_a_signal_while_it_starts_ends_it_quietly(tmp_path, number, module):
    done = ended(number, module, "bench", "show", "--bench", str(tmp_path))
    assert done.returncode == 4, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "stopped by the user" in done.stderr


@pytest.mark.parametrize("module", ["rramlab.cli.process", "rramlab.base.errors", "contextlib"])
def test_a_signal_before_anybody_looks_after_it_leaves_no_traceback(tmp_path, module):
    done = ended(signal.SIGINT, module, "bench", "show", "--bench", str(tmp_path))
    assert done.returncode in (0, 4)
    assert "Traceback" not in done.stderr


def test_what_was_ignored_stays_so(tmp_path):
    """As with nohup, or a job in the background."""
    code = AT.replace(
        "import os, signal, sys", "import os, signal, sys\nsignal.signal(signal.SIGINT, signal.SIG_IGN)", 1
    )
    command = [sys.executable, "-c", code, str(int(signal.SIGINT)), "yaml", "bench", "show", "--bench", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SEND": "1"}, timeout=60)
    assert done.returncode == 0
    assert "macro-40nm" in done.stdout


@pytest.mark.parametrize("seed", range(6))
def test_at_any_moment_after_python_itself_has_started(tmp_path, seed):
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "rramlab", "bench", "show", "--bench", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:  # rramlab itself is being imported
        if "rramlab" in line:
            break
    time.sleep(random.Random(seed).uniform(0, 0.3))
    process.send_signal(signal.SIGINT)
    said = "".join(line for line in process.stderr if not line.startswith("import time:"))
    process.stderr.close()
    assert process.wait(60) in (0, 4)
    assert "Traceback" not in said
    assert "Exception ignored" not in said
