"""A small sample of benchmarks/fuzz.py: damage is never executed, and the board is back within two good frames."""

import json
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[3] / "benchmarks" / "fuzz.py"
FRAMES = 5000


def test_no_damaged_frame_is_executed():
    words = [sys.executable, str(FUZZ), "--frames", str(FRAMES), "--seed", "7", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["frames"] == sum(figures["kinds"].values()) == FRAMES
    assert len(figures["kinds"]) == 6
    assert (figures["executed"], figures["taken_for_good"]) == (0, 0)
    assert figures["refused_with_nak"] == figures["counted_as_damaged"] > FRAMES / 2
    assert figures["good_frames_until_back_at_most"] == 2  # one was lost to what lay on the line, and never two
