"""What an installation promises: a quick command line, and a wheel that finds the bench folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "h5py", "scipy", "matplotlib", "sklearn")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom rramlab.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stderr
    assert "--help" in done.stdout


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, rramlab; assert not [name for name in {HEAVY!r} if name in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def wheel_site(tmp_path_factory):
    """A folder into which the wheel is unpacked, as pip does; the dependencies are those of this environment."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = place.glob("*.whl")
    site = place / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", site, wheel],
        check=True,
        capture_output=True,
    )
    return site


def run_installed(site, folder, *words):
    """Run the installed package, and not the one in the repository, in ``folder``."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import rramlab; from pathlib import Path\n"
        "assert Path(rramlab.__file__).is_relative_to(sys.argv[1]), rramlab.__file__\n"
        "sys.argv[1:2] = []\nfrom rramlab.cli import main\nmain()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, str(site), *words], cwd=folder, capture_output=True, text=True, env=environment
    )


def test_an_installed_wheel_finds_its_bench_folders(wheel_site, tmp_path):
    shown = run_installed(wheel_site, tmp_path, "bench", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert document["bench_file"]["origin"] == "wheel"
    assert {"electroform", "read-array", "prune"} <= set(document["protocols"])
    run = run_installed(wheel_site, tmp_path, "run", "contact", "--json")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "data" / "runs").is_dir()
    made = run_installed(wheel_site, tmp_path, "init", "lab")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "lab" / "protocols" / "electroform.yaml").exists()
