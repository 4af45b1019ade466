"""Work that is killed or stopped at random moments, and begun again, ends with the same bits as if it never was."""

import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from faults.tally import LONG

from paperlib import checkpoints, progress, records
from paperlib.channel_grid import GridRecord
from paperlib.store.provenance import device_here
from paperlib.sweep import read
from paperlib.sweep.cost import Costs
from paperlib.training import train

HERE = Path(__file__)
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
only_long = pytest.mark.skipif(not LONG, reason="takes long: make torture")


TRIES = 20  # of a sweep
BOTH = ["SIGINT", "SIGTERM"]


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """What ``killer.py`` did, by the name of the work; and its folder."""
    root = tmp_path_factory.mktemp("tried")
    asked = {"training": [3, ["SIGKILL"]], "grid": [1, ["SIGKILL"]], "train": [2, BOTH]}
    if LONG:
        asked = {"train": [20, BOTH, False], "run": [5, BOTH], "training": [50, ["SIGKILL"]], "grid": [20, ["SIGKILL"]]}
    words = [sys.executable, str(HERE.with_name("killer.py")), str(root), json.dumps(asked)]
    path = os.pathsep.join((str(HERE.parents[2]), str(HERE.parents[1])))
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=1800,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), root


def same_training(root, folders):
    """Each folder has the run of folder 0, bit for bit, but for who made it, when, and how fast.

    Returned is how many sessions they had beyond the first, which were resumed from a checkpoint.
    """
    whole, *others = (records.read_all(root / str(folder))[0] for folder in (0, *sorted(folders)))
    neither = {"provenance", "epoch_seconds", "spent", "peak_memory_bytes"}
    for other in others:
        assert {**other.model_dump(exclude=neither)} == whole.model_dump(exclude=neither)
        assert other.frames.keys() == whole.frames.keys()
        assert all(table.equals(whole.frames[name]) for name, table in other.frames.items())
        one, two = (checkpoints.read(record.folder, "cpu")["model"] for record in (whole, other))
        assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert len(others) == len(folders) >= 1
    return sum(len(record.provenance.sessions) - 1 for record in others)


def test_a_training_that_is_killed_again_and_again_is_the_same(tried, size, tally):
    made, root = tried[0]["training"], tried[1] / "training"
    assert [one["status"] for one in made] == [-signal.SIGKILL] * size(3, 50)
    resumed = same_training(root, {one["folder"] for one in made})
    assert resumed >= size(0, 10)
    outcomes = {"left_a_checkpoint": resumed, "left_none_of_its_own": len(made) - resumed}
    tally("a training was killed, and ended with the same bits", **outcomes)


def test_a_grid_that_is_killed_again_and_again_is_the_same(tried, size, tally):
    made, root = tried[0]["grid"], tried[1] / "grid"
    assert [one["status"] for one in made] == [-signal.SIGKILL] * size(1, 20)
    folders = {one["folder"] for one in made}
    whole, *others = (GridRecord.read_all(root / str(folder))[0] for folder in (0, *folders))
    assert len(others) == len(folders) >= 1
    for other in others:
        assert other.config == whole.config
        assert other.measurements.drop(columns="seconds").equals(whole.measurements.drop(columns="seconds"))
        names = sorted(path.name.split("-")[0] for path in other.folder.iterdir())
        assert names == [".lock", ".save.lock", "grid.json", "measurements"]
    tally("a grid was killed, and went on to the same bits", killed=len(made))


# -- signals -------------------------------------------------------------------------------------------------------
ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize(("work", "number"), [("train", 20), pytest.param("run", 5, marks=only_long)])
def test_a_signal_ends_a_command_with_one_sentence_and_nothing_is_lost(work, number, tried, size, tally):
    made, root = tried[0][work], tried[1] / work
    for one in made:
        assert one["status"] == ENDS[one["signal"]], one
        assert "Traceback" not in one["said"] and one["said"].count("interrupted: run the same command again") == 1, one
    assert len(made) == size(2, number)
    same_training(root, {one["folder"] for one in made})
    tally(f"paperlib {work} got a signal", **Counter(signal.Signals(one["signal"]).name for one in made))


LONG_CELLS = """
import sys
from paperlib.channel_grid import GridConfig, run
values = {"in_channels": 2, "out_channels": "2 4", "variants": "free", "stages": "0 100000", "seeds": 1, "workers": 2}
run(GridConfig(preset="smoke", **values), root=sys.argv[1], quiet=True)
"""


@only_long  # tests/channel_grid/test_work.py has it with short cells
def test_the_workers_of_a_grid_end_with_their_killed_parent(tmp_path, tally):
    """In the middle of a cell that would take many minutes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", LONG_CELLS, str(tmp_path)], env=environment)
    wait_for(lambda: len(busy(parent.pid)), 2)
    workers = busy(parent.pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: len([pid for pid in workers if Path(f"/proc/{pid}").exists()]), 0, seconds=10)
    tally("a grid's parent was killed", workers_ended=len(workers))


def busy(parent):
    """The processes that a process started and that have computed for seconds."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,cputimes="], capture_output=True, text=True, check=True).stdout
    rows = [tuple(map(int, line.split())) for line in found.splitlines()]
    return [pid for pid, its, seconds in rows if its == parent and seconds >= 4]


def wait_for(look, wanted, seconds=120):
    """Wait until ``look`` finds what is wanted."""
    deadline = time.monotonic() + seconds
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


# -- sweeps --------------------------------------------------------------------------------------------------------
COMMON = {"device": "cpu", "threads": 1, "precision": "float32", "depth": 11, "train_images": 100, "test_images": 50}


@only_long  # tests/workflow/test_workflow.py kills one at each of its floors
@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="snakemake needs Python 3.11")
def test_a_sweep_that_is_killed_again_and_again_makes_the_same_runs(tmp_path, monkeypatch, tally):
    """Its jobs, the notebooks' kernels and Snakemake find out by themselves, and end."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[2]))
    costs, file, draw = tmp_path / "costs.json", tmp_path / "sweep.yaml", random.Random(0)
    Costs(host="a", device=device_here("cpu"), side_by_side=1, startup=1.0, per_image={"float32": (0.1, 0.0)}).save(
        costs
    )
    file.write_text(
        yaml.safe_dump({"preset": "smoke", "common": COMMON, "groups": {"a": {"epochs": 60, "seed": [0, 1]}}})
    )
    words = [
        sys.executable,
        "-m",
        "paperlib",
        "sweep",
        str(file),
        "--out",
        str(tmp_path / "out"),
        "--costs",
        str(costs),
    ]
    for i in range(TRIES):
        with (tmp_path / "told").open("w") as told:
            process = subprocess.Popen([*words, "--workers", "2"], stdout=told, stderr=told, start_new_session=True)
            if i % 2:  # while it trains; else while it plans, starts Snakemake, or starts kernels
                wait_for(lambda: len([*tmp_path.rglob(progress.FILE)]) > 0, True)
            time.sleep(draw.uniform(0, 3 if i % 2 else 20))
            process.kill()
            status = process.wait()
        assert status == -signal.SIGKILL, (tmp_path / "told").read_text()
        wait_for(lambda: len(living(str(tmp_path / "runs"))), 0)
        for left in tmp_path.rglob(progress.FILE):  # a killed training's
            left.unlink()
    subprocess.run([*words, "--workers", "2"], check=True, capture_output=True, timeout=1200)
    jobs = read(file).jobs()
    for job in jobs:
        unbroken, resumed = train(job.config, root=tmp_path / "unbroken", quiet=True), records.read(job.config.folder())
        assert all(resumed.frames[name].equals(unbroken.frames[name]) for name in ("epochs", "blocks", "initial"))
    assert len(jobs) == 2
    tally("a sweep was killed, and went on to the same bits", killed=TRIES)


def living(runs):
    """The processes that were told to keep their runs in this folder, but for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(path.name) != os.getpid() and f"PAPERLIB_RUNS={runs}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found
