"""What ``rramlab runs list`` costs on a bench of 3,000 runs, over one without any: CPU time of the whole command.

The runs are copies of one that formed an array, with its whole record; ``last`` is looked for among them, too.
"""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import resource
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from figures import command_line, report

import rramlab
from rramlab.base import files
from rramlab.base.files import write_json
from rramlab.runs.store import list_runs

LIMIT_S = 0.5  # over an empty bench
RUNS = 3000


def cpu(*words):
    """Return the least CPU time of several calls of a command, in s."""
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "rramlab", *map(str, words)], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


arguments = command_line("listing", runs={"type": int, "default": RUNS})
with tempfile.TemporaryDirectory() as folder:
    empty, many = Path(folder, "empty"), Path(folder, "many")
    for each in (empty, many):
        subprocess.run([sys.executable, "-m", "rramlab", "init", each], check=True, capture_output=True)
    with rramlab.open_bench(many) as session:
        session.run("electroform", arm="sim-0001")
    (made,) = list_runs(many / "data" / "runs")
    at = datetime(2020, 1, 1, tzinfo=UTC)
    files.os.fsync = lambda handle: None  # nobody pulls the plug
    for number in range(arguments.runs - 1):
        at += timedelta(minutes=7)
        name = f"{at:%Y%m%d-%H%M%S}-000-electroform-{number:04x}"
        write_json(made.folder.with_name(name) / "run.json", {**made.record, "id": name, "started_at": at.isoformat()})
    size = (made.folder / "run.json").stat().st_size
    none, listed = (cpu("runs", "list", "--bench", each) for each in (empty, many))
    as_json = cpu("runs", "list", "--json", "--bench", many)
    last = cpu("report", "last", "--bench", many)
    named = cpu("report", made.id, "--bench", many)
report(
    "listing",
    {
        "list_over_empty_to_limit": (listed - none) / LIMIT_S,
        "json_over_empty_to_limit": (as_json - none) / LIMIT_S,
        "list_to_empty": listed / none,
        "last_to_its_name": last / named,
    },
    {"list": listed, "list_json": as_json, "list_of_none": none, "report_last": last, "report_by_name": named},
    {
        "list_over_empty_to_limit": f"{LIMIT_S} s of CPU over an empty bench, {arguments.runs} runs",
        "json_over_empty_to_limit": f"{LIMIT_S} s of CPU over an empty bench, {arguments.runs} runs",
        "list_to_empty": "the same command on a bench without a run",
        "last_to_its_name": "the report of the same run by its id",
    },
    arguments,
    {"runs": arguments.runs, "bytes_of_a_record": size},
)
