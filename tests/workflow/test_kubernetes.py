"""The sweep on Kubernetes: the jobs that would be submitted, captured and checked without a cluster."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from paperlib.sweep import command, state
from paperlib.sweep.file import read
from paperlib.sweep.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_kubernetes.py")
PROFILE = ROOT / "workflow" / "profiles" / "kubernetes"
MISSING = [
    name
    for name in ("snakemake", "snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")
    if importlib.util.find_spec(name) is None
]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not here, which Snakemake copies to volumes with"),
]
SCHEMA = "1.31"  # of Kubernetes


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """A volume that this machine and the pods see at the same place; the command is given in the checkout."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def submitted(volume, content, **variables):
    """What Snakemake said, and the jobs that it submitted."""
    file, caught, out = volume / "sweep.yaml", volume / "caught", volume / "out"
    file.write_text(yaml.safe_dump(content))
    caught.mkdir()
    states = [state.State(job, "to do") for job in read(file).jobs()]
    plan = Plan("sweep", read(file), states, None, 1)
    options = ["--kubernetes-persistent-volumes", f"paperlib-runs:{volume}", "--seconds-between-status-checks", "1"]
    options += ["--retries", "0", "--latency-wait", "5"]
    words = command.command(file, out, plan, ["--profile", str(PROFILE), *options])
    words[1:3] = [str(FAKE), str(caught)]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500, env=os.environ | variables)
    return told.stdout + told.stderr, [json.loads(path.read_text()) for path in sorted(caught.glob("*.json"))]


@pytest.mark.slow
def test_the_job_that_is_submitted_is_one_of_kubernetes(volume):
    run = {"device": "cuda", "precision": "float32", "depth": 164, "seed": 0}
    said, jobs = submitted(volume, {"preset": "paper", "groups": {"a": run}})
    assert len(jobs) == 1, said
    (job,) = jobs
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    asked = container["resources"]
    # The server refuses a GPU that has no limit, or another one than it requests; no schema says so.
    assert asked["limits"]["nvidia.com/gpu"] == asked["requests"]["nvidia.com/gpu"] == "1"
    assert asked["limits"]["memory"] == asked["requests"]["memory"]
    assert {"name": "paperlib-runs", "mountPath": str(volume)} in container["volumeMounts"]
    (words,) = container["args"][1:]
    assert "--snakefile 'workflow/Snakefile'" in words
    assert f"sweep={volume / 'sweep.yaml'}" in words and "runs=" not in words
    for path in (ROOT, Path(sys.prefix)):
        assert str(path) not in words.replace(str(volume), "")
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate has the schema")
    validator.validate(job, SCHEMA, strict=True)
    del container["image"], pod["restartPolicy"]
    container["comand"] = []
    with pytest.raises(validator.ValidationError):
        validator.validate(job, SCHEMA, strict=True)


@pytest.mark.slow
@pytest.mark.skipif("PAPERLIB_TRY_PODS" not in os.environ, reason="takes minutes: PAPERLIB_TRY_PODS=1 asks for it")
def test_what_pods_are_told_makes_the_runs_and_the_findings(volume):
    common = {"device": "cpu", "threads": 1, "precision": "float32"}
    content = {"preset": "smoke", "common": common, "groups": {"a": {"arch": "plain", "depth": 20, "schedule": "constant"}}}
    said, jobs = submitted(volume, content, FAKE_PODS="run", FAKE_RUNS=str(volume / "runs"))
    told = "".join(path.read_text() for path in volume.glob("caught/pod-*/said.txt"))
    (run,) = read(volume / "sweep.yaml").jobs()
    assert state.look(run, volume / "out").done, said + told
    assert "F3a: " in (volume / "out" / "findings.txt").read_text(), said + told
