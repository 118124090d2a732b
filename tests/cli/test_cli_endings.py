"""How commands end when their terminal, their reader or their room on the disk goes away."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workbench import SmallBench

from rramlab.runs.store import find_run

DIE = "sim-0001"
LONG = """
name: long
description: many reads, so that there is time to interrupt it
steps:
  - repeat: {times: 100000, steps: [read: {cells: row 0}]}
"""


def started(folder, *words, **streams):
    command = [sys.executable, "-m", "rramlab", *words, "--bench", str(folder)]
    return subprocess.Popen(command, **streams)


def when(condition, what):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen")


def test_a_run_goes_on_when_nobody_reads_what_it_says(rramlab, tmp_path):
    rramlab("init", tmp_path)
    process = started(tmp_path, "run", "electroform", "--arm", DIE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    process.stderr.close()
    process.wait(60)
    record = find_run(tmp_path / "data" / "runs", "last").record
    assert record["status"] == "done"
    assert record["pulses"] == 131072


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP on this system")
def test_a_terminal_that_is_closed_stops_a_run_safely(rramlab, tmp_path):
    rramlab("init", tmp_path)
    (tmp_path / "protocols" / "long.yaml").write_text(LONG)
    with Path(os.devnull).open("w") as nowhere:
        process = started(tmp_path, "run", "long", stdout=nowhere, stderr=nowhere)
        runs = tmp_path / "data" / "runs"
        when(lambda: len(list(runs.glob("*/blocks/*.json"))) > 5, "the run")
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 4
    assert find_run(runs, "last").record["status"] == "stopped"


def test_arming_another_die_makes_none(rramlab, tmp_path):
    rramlab("init", tmp_path)
    answer = rramlab("run", "electroform", "--die", "new-1", "--arm", "other-1")
    assert answer.exit_code == 3
    assert "'new-1'" in answer.stderr
    assert not (tmp_path / "data" / "dies" / "new-1").exists()


def test_a_resume_says_first_what_it_goes_on_with(rramlab, tmp_path):
    rramlab("init", tmp_path)
    rramlab("run", "electroform", "--set", "voltage=3V", "--arm", DIE)
    answer = rramlab("resume", "last", "--arm", DIE)
    assert answer.exit_code == 5
    assert "Going on with" in answer.stdout
    assert "A resume would fail at the same check" in answer.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_document_for_which_there_is_no_room_is_no_traceback(rramlab, tmp_path):
    rramlab("init", tmp_path)
    with Path("/dev/full").open("w") as full:
        process = started(tmp_path, "run", "read-array", "--json", stdout=full, stderr=subprocess.PIPE, text=True)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert (
        json.loads((find_run(tmp_path / "data" / "runs", "last").folder / "run.json").read_text())["status"] == "done"
    )


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode on this system")
def test_a_file_whose_name_is_not_utf_8_does_not_spoil_the_document(rramlab, tmp_path):
    rramlab("init", tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/long\xff.yaml")).write_text(LONG)
    words = ["run", os.fsencode(tmp_path) + b"/long\xff.yaml", "--dry-run", "--json"]
    process = started(tmp_path, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found, _ = process.communicate(timeout=60)
    (step,) = json.loads(found)["steps"]
    assert step["source"].endswith("long\udcff.yaml:5:37")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode on this system")
def test_a_bench_in_a_folder_whose_name_is_not_utf_8_works_as_any(rramlab, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lab\xff"))
    SmallBench(folder).write()
    Path(os.fsdecode(os.fsencode(folder) + b"/long\xff.yaml")).write_text(LONG.replace("100000", "2"))
    words = [
        ["run", "contact"],
        ["run", Path(os.fsdecode(b"long\xff.yaml"))],
        ["runs", "show", "last"],
        ["report", "last"],
    ]
    words += [
        ["runs", "repeat", "last"],
        ["runs", "export", "last", "--output", Path(os.fsdecode(b"x\xff"))],
        ["dies", "check", "small-1"],
    ]
    os.chdir(folder)
    for each in words:
        answer = rramlab(*each)
        assert answer.exit_code == 0, (each, answer.stderr)
