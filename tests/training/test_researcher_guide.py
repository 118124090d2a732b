"""The researcher's guide is executed as it stands: files are written, commands run, Python goes on from block to block."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rramlab.cli.app import app

GUIDE = Path(__file__).parents[2] / "docs" / "researcher.md"
BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")


@pytest.mark.timeout(480)
def test_every_block_of_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"sh", "python", "yaml"}
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "guide"}
    for language, text in blocks:
        named = FILE.match(text)
        if named:
            Path(named[1]).write_text(text, encoding="utf-8")
        elif language == "python":
            monkeypatch.syspath_prepend(str(Path.cwd()))
            exec(compile(text, f"{GUIDE}: python", "exec"), scope)
        else:
            for line in text.splitlines():
                words = shlex.split(line)
                if words[0] == "cd":
                    monkeypatch.chdir(words[1])
                    continue
                assert words[0] == "rramlab", line
                done = CliRunner().invoke(app, words[1:])
                assert done.exit_code == 0, f"{line}\n{done.stderr}"
    assert Path("floorplan.png").read_bytes().startswith(b"\x89PNG")
    assert float(scope["right"]) > 0.8  # type: ignore[arg-type]
