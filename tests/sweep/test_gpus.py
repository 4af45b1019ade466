"""Jobs of a sweep share out the machine's GPUs: locks and variables, which need none."""

import os
import subprocess
import sys

import pytest
import torch

from paperlib.errors import PaperlibError
from paperlib.sweep import drive, gpus, plan

JOB = """
import os, sys
from paperlib.sweep import gpus
gpus.take()
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def machine(monkeypatch):
    """One with three GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def started(folder, shared):
    job = subprocess.Popen(
        [sys.executable, "-c", JOB], cwd=folder, env=os.environ | {gpus.VARIABLE: shared},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return job, job.stdout.readline().strip()


def test_each_job_takes_a_gpu_that_no_other_holds_and_a_killed_one_gives_it_back(tmp_path, monkeypatch):
    first, a = started(tmp_path, "4,7")
    second, b = started(tmp_path, "4,7")
    assert (a, b) == ("4", "7")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(gpus.VARIABLE, "4,7")
    with pytest.raises(PaperlibError, match=r"other jobs of this sweep hold all of its GPUs \(4,7\)"):
        gpus.take()
    first.kill()
    first.communicate()
    third, c = started(tmp_path, "4,7")
    assert c == "4"
    for job in (second, third):
        job.communicate("")


def test_outside_of_a_sweep_nothing_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    gpus.take()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("named", "seen"), [(None, ["0", "1", "2"]), ("5,GPU-a,6", ["5", "GPU-a", "6"])])
def test_gpus_are_named_as_the_variable_names_them(machine, named, seen):
    if named:
        machine.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible() == seen


@pytest.mark.parametrize(
    ("on_gpus", "arguments", "told"),
    [(True, [], "0,1,2"), (True, ["--quiet"], "0,1,2"), (False, [], None), (True, ["--executor", "slurm"], None)],
)
def test_a_sweep_tells_its_jobs_here_which_gpus_there_are(machine, on_gpus, arguments, told):
    machine.setattr(plan.Plan, "on_gpus", on_gpus)
    made = plan.Plan("a", None, [], None, 3)
    assert drive._environment(made, arguments).get(gpus.VARIABLE) == told
