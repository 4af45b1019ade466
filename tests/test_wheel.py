"""The wheel: a chapter that runs outside of a checkout finds the records that it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from paperlib.store import places

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))

# Executes what a chapter has before its first section: imports, and what it says from the records at once.
OPENING = """
import json, sys
from pathlib import Path
import matplotlib
from IPython.core.interactiveshell import InteractiveShell

matplotlib.use("agg")
shell = InteractiveShell.instance()
for chapter in sys.argv[1:]:
    shell.reset(new_session=False)
    for cell in json.loads(Path(chapter).read_text(encoding="utf-8"))["cells"]:
        source = "".join(line for line in cell["source"] if not line.startswith("%"))
        if cell["cell_type"] == "code":
            shell.run_cell(source).raise_error()
        elif "\\n## " in "\\n" + source:
            break
"""
SUMMARY = """
import json
from paperlib import claims, scorecard
from paperlib.scorecard import price
from paperlib.store import results_root

root = results_root()
summary = {
    "findings": sorted(f"{f.claim} {f.preset}" for f in claims.read_all(root)),
    "scorecard": scorecard.build(root).json_text(),
    "jobs": len(price.here(root).jobs),
    "benchmarks": sorted(p.name for p in (root.parent / "benchmarks" / "results").iterdir()),
}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel was unpacked, and a function that runs Python with it, far from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 20e6
    site, elsewhere = folder / "site", folder / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()

    def run(code, *arguments):
        env = {name: value for name, value in os.environ.items() if name != places.RUNS_VARIABLE}
        env |= {"PYTHONPATH": str(site), "PAPERLIB_PRESET": "smoke", "IPYTHONDIR": str(folder / "ipython")}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=elsewhere,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return site, run


@pytest.mark.slow
def test_the_wheel_has_the_records_of_the_checkout(installed):
    site, run = installed
    root, there = map(
        json.loads, run(SUMMARY + "print(json.dumps(str(root)), json.dumps(summary), sep='\\n')").splitlines()
    )
    assert Path(root) == site / "paperlib" / "committed" / "results"
    here = {}
    exec(SUMMARY, here)
    assert here["root"] == ROOT / "results"
    assert there == here["summary"]
    assert all(there.values())


@pytest.mark.slow
def test_the_chapters_begin_outside_of_a_checkout(installed):
    chapters = [str(ROOT / "notebooks" / name) for name in CHAPTERS]
    installed[1](OPENING, *chapters)


def test_the_wheel_names_its_distribution(installed):
    (metadata,) = installed[0].glob("*.dist-info/METADATA")
    assert f"\nName: {places.DISTRIBUTION}\n" in metadata.read_text(encoding="utf-8")
