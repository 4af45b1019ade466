"""The sweep on Slurm, by the script that tries it on one machine."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "workflow" / "try_slurm.sh"
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
MISSING = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name, path=PLACES)]


def tried(*words, **variables):
    return subprocess.run(
        [str(SCRIPT), *words], env=os.environ | {"PYTHON": sys.executable} | variables,
        capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif("PAPERLIB_TRY_SLURM" not in os.environ, reason="takes minutes: PAPERLIB_TRY_SLURM=1 asks for it")
@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="snakemake needs Python 3.11")
@pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons need root")
@pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")
def test_runs_that_slurm_stops_go_on_and_finish():
    done = tried()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("finished, sessions: 2") == 3
    assert "F3a: " in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="a script of bash")
def test_what_is_missing_is_said_in_one_sentence(tmp_path):
    done = tried("--instal")
    assert (done.returncode, done.stderr) == (1, "error: unknown option '--instal': the only one is --install\n")
    if os.geteuid() == 0 and not MISSING:
        done = tried(PYTHON=str(tmp_path / "python"))
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "has no snakemake with its plugin for Slurm" in done.stderr
