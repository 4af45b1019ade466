"""The workflow as a whole: the smoke grid from end to end with two runs that fail, and a sweep that is killed."""

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
from faults.tally import LONG

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
    return subprocess.run(words(place, file), capture_output=True, text=True, check=False, timeout=1500)


@pytest.mark.slow
def test_the_dry_run_counts_the_jobs(place):
    """Every run; the channel grid, the findings, and the whole.  The files' runs are counted in tests/sweep."""
    told = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--dry-run"),
            *("--directory", str(place / "out"), "--cores", "2", "--scheduler", "greedy", "--config"),
            "sweep=workflow/config/paper.yaml",
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    totals = [line.split()[1] for line in told.splitlines() if line.startswith("total")]
    chapter = int((ROOT / "notebooks" / "05_results.ipynb").exists())
    assert {int(total) for total in totals} == {96 + 3 + chapter}


# Read by every Python that finds it on its path: no checkpoint can be written in the folder that FULL names.
NO_ROOM = """
import errno, os
before = os.replace
def replace(source, target, **options):
    if str(target) == os.environ.get("FULL"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    return before(source, target, **options)
os.replace = replace
"""


@pytest.mark.slow
def test_the_smoke_grid_is_made_whatever_becomes_of_two_of_its_runs(place, monkeypatch):
    """One run's checkpoint is damaged, and the disk is full when another writes its own; then both are mended.

    While these two are trained at last, a job of the sweep is killed, and the sweep after it.
    """
    file = ROOT / "workflow" / "config" / "smoke.yaml"
    damaged, full, *others = read(file).jobs()
    checkpoint, no_room = (job.config.folder() / checkpoints.FILE for job in (damaged, full))
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"no checkpoint")
    (place / "sitecustomize.py").write_text(NO_ROOM)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join((str(place), str(ROOT))))
        patched.setenv("FULL", str(no_room))
        done = swept(place, file)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 2 finished" in done.stdout
    assert f"failed: {damaged.name}: CheckpointError: the checkpoint {checkpoint} is damaged" in done.stdout
    assert (
        f"failed: {full.name}: CheckpointError: the checkpoint {no_room} could not be written (No space" in done.stdout
    )
    assert checkpoint.read_bytes() == b"no checkpoint"
    assert all(state.look(job, place / "out").done for job in others)
    assert "record" in (place / "out" / "channel_grid.txt").read_text()
    findings = (place / "out" / "findings.txt").read_text()
    assert findings.startswith(f"missing: {damaged.name}\nmissing: {full.name}\n")
    assert "\nF3b: " in findings and "\nF3a: " not in findings  # which takes no run but the damaged one
    # What was wrong is mended: the same command makes the rest.
    checkpoint.unlink()
    killed(place, file, (damaged, full), ("KILL a job", "KILL"))
    done = swept(place, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 finished" in done.stdout
    findings = (place / "out" / "findings.txt").read_text()
    assert findings.startswith("F3a: ")
    assert_unbroken(place, (damaged, full))


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="in make torture; a job and the sweep are killed above")
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_records(place):
    """Killed in five ways while trainings are under way: by the keyboard, and without a warning, at each floor.

    A job that is killed ends nothing but itself: the sweep is then killed in the next way.  And meanwhile a second
    sweep of the same folder is refused.
    """
    file = written(place, groups={"a": {"epochs": 60, "seed": [0, 1]}})
    jobs, draw = read(file).jobs(), random.Random(0)
    for kills in [("KILL a job", "INT"), ("TERM",), ("KILL snakemake",), ("KILL",)]:
        killed(place, file, jobs, kills, wait=2 * draw.random(), meanwhile=refused_beside if "TERM" in kills else None)
    done = swept(place, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_unbroken(place, jobs)


def killed(place, file, jobs, kills, wait=0.0, meanwhile=None):
    """Start the sweep, and kill it, or a part of it, in some ways, once one of these jobs is trained."""
    with (place / "told").open("w") as told:
        process = subprocess.Popen(words(place, file), stdout=told, stderr=told, start_new_session=True)
        wait_for_training(jobs, place, process)
        if meanwhile:
            meanwhile(place, file)
        time.sleep(wait)
        family = tree(process.pid)
        for kill in kills:
            victim = process.pid if " " not in kill else descendant(process.pid, kill.split()[-1])
            os.kill(victim, getattr(signal, f"SIG{kill.split()[0]}"))
            if kill == "KILL a job":
                time.sleep(1.5)
                assert process.poll() is None, (place / "told").read_text()
        status, expected = process.wait(300), {"INT": 130, "TERM": 143}.get(kills[-1])
    said = (place / "told").read_text()
    assert status == expected if expected else status != 0, said
    assert "Traceback" not in said and said.count("interrupted: run the same command again") == bool(expected)
    wait_for_silence(family)
    for left in (place / "runs").rglob("progress.json"):  # a killed training's, which looks alive for a minute
        left.unlink()


def refused_beside(place, file):
    """A second sweep of the same folder is refused."""
    second = swept(place, file)
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert "another process is working on this sweep" in second.stderr


def assert_unbroken(place, jobs):
    """The records of these jobs are those of runs that nothing interrupted."""
    for job in jobs:
        unbroken = train(job.config, root=place / "unbroken", quiet=True)
        resumed = records.read(job.config.folder())
        for name in ("epochs", "blocks"):
            assert resumed.frames[name].equals(unbroken.frames[name])


def wait_for_training(jobs, place, process):
    """Wait until one of the runs is trained."""
    deadline = time.monotonic() + 240
    while not any(state.look(job, place / "out", quick=True).running for job in jobs):
        assert process.poll() is None and time.monotonic() < deadline, (place / "told").read_text()
        time.sleep(0.1)


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
