"""The workflow as a whole: its jobs, killed and started again, and with one job that cannot work."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from paperlib import checkpoints, records
from paperlib.store.provenance import device_here
from paperlib.sweep import read, state
from paperlib.sweep.cost import Costs
from paperlib.training import train

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="snakemake needs Python 3.11")
COMMON = {"device": "cpu", "threads": 1, "precision": "float32", "depth": 11, "train_images": 100, "test_images": 50}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for runs, and costs that need not be timed."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = Costs(host="a", device=device_here("cpu"), side_by_side=1, startup=10.0, per_image={"float32": (0.001, 0.0)})
    made.save(tmp_path / "costs.json")
    return tmp_path


def written(place, **content):
    file = place / "sweep.yaml"
    file.write_text(yaml.safe_dump({"preset": "smoke", "common": COMMON} | content, sort_keys=False))
    return file


def words(place, file):
    return [
        *(sys.executable, "-m", "paperlib", "sweep", str(file), "--out", str(place / "out")),
        *("--costs", str(place / "costs.json"), "--workers", "2"),
    ]


def swept(place, file):
    return subprocess.run(words(place, file), capture_output=True, text=True, check=False, timeout=400)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "jobs"), [("smoke", 7 + 3), ("desk", 60 + 3), ("paper", 96 + 3)])
def test_the_dry_run_counts_the_jobs(name, jobs, place):
    """Every run; the channel grid, the findings, and the whole."""
    told = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--dry-run"),
            *("--directory", str(place / "out"), "--cores", "2", "--scheduler", "greedy", "--config"),
            f"sweep={ROOT / 'workflow' / 'config' / name}.yaml",
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    totals = [line.split()[1] for line in told.splitlines() if line.startswith("total")]
    chapter = int((ROOT / "notebooks" / "05_results.ipynb").exists())
    assert {int(total) for total in totals} == {jobs + chapter}


@pytest.mark.slow
def test_one_job_that_cannot_work_does_not_stop_the_others(place):
    file = written(
        place, groups={"a": {"epochs": 1, "seed": [0, 1]}}, channel_grid={"in_channels": 2, "out_channels": 2}
    )
    poisoned, other = read(file).jobs()
    damaged = poisoned.config.folder() / checkpoints.FILE
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no checkpoint")
    done = swept(place, file)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 finished" in done.stdout
    assert f"failed: {poisoned.name}: CheckpointError: the checkpoint {damaged} is damaged" in done.stdout
    assert damaged.read_bytes() == b"no checkpoint"
    assert state.look(other, place / "out").done
    assert "record" in (place / "out" / "channel_grid.txt").read_text()
    # What was wrong is mended: the same command makes the rest.
    damaged.unlink()
    done = swept(place, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 finished" in done.stdout
    assert (place / "out" / "findings.txt").exists()


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_records(place):
    """Killed in five ways while trainings are under way: by the keyboard, and without a warning, at each floor."""
    file = written(place, groups={"a": {"epochs": 60, "seed": [0, 1]}})
    jobs, draw = read(file).jobs(), random.Random(0)
    for kill in ("INT", "TERM", "KILL", "KILL snakemake", "KILL a job"):
        with (place / "told").open("w") as told:
            process = subprocess.Popen(words(place, file), stdout=told, stderr=told, start_new_session=True)
            deadline = time.monotonic() + 120
            while not any(state.look(job, place / "out", quick=True).running for job in jobs):
                assert process.poll() is None and time.monotonic() < deadline, (place / "told").read_text()
                time.sleep(0.1)
            time.sleep(2 * draw.random())
            family = tree(process.pid)
            victim = process.pid if " " not in kill else descendant(process.pid, kill.split()[-1])
            os.kill(victim, getattr(signal, f"SIG{kill.split()[0]}"))
            status = process.wait(120)
        assert status != 0 or kill == "KILL a job"
        wait_for_silence(family)
        for left in (place / "runs").rglob("progress.json"):  # a killed training's, which looks alive for a minute
            left.unlink()
    done = swept(place, file)
    assert done.returncode == 0, done.stdout + done.stderr
    for job in jobs:
        unbroken = train(job.config, root=place / "unbroken", quiet=True)
        resumed = records.read(job.config.folder())
        for name in ("epochs", "blocks"):
            assert resumed.frames[name].equals(unbroken.frames[name])


def processes():
    """The processes here: number, parent, and command line."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    for line in found.splitlines():
        pid, parent, said = line.split(None, 2)
        yield int(pid), int(parent), said


def descendant(pid, what):
    """Snakemake, or one of its jobs."""
    (snakemake,) = [p for p, parent, said in processes() if parent == pid and "snakemake" in said]
    if what == "snakemake":
        return snakemake
    return next(p for p, parent, said in processes() if parent == snakemake and "paperlib run" in said)


def tree(pid):
    """A process and all that it started, directly or not."""
    found, everything = {pid}, list(processes())
    for _ in range(6):
        found |= {p for p, parent, _ in everything if parent in found}
    return {(p, said) for p, _, said in everything if p in found}


def wait_for_silence(family):
    """Wait until none of these processes is left; one that stays is an orphan."""
    deadline = time.monotonic() + 60
    while left := {(p, said) for p, _, said in processes()} & family:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
