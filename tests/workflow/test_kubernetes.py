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
    pytest.mark.skipif(
        shutil.which("rsync") is None, reason="rsync is not here, which Snakemake copies to volumes with"
    ),
]
SCHEMA = "1.31"  # of Kubernetes


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A volume that this machine and the pods see at the same place; the command is given in the checkout."""
    folder, scraps = tmp_path_factory.mktemp("volume"), ROOT / ".snakemake"
    before = scraps.exists()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        patched.setenv("PAPERLIB_RUNS", str(folder / "runs"))
        yield folder
    if not before:
        shutil.rmtree(scraps, ignore_errors=True)


def submitted(volume, name, content, **variables):
    """What Snakemake said, and the jobs that it submitted."""
    file, caught, out = volume / f"{name}.yaml", volume / f"caught-{name}", volume / "out" / name
    file.write_text(yaml.safe_dump(content))
    caught.mkdir()
    states = [state.State(job, "to do") for job in read(file).jobs()]
    plan = Plan(name, read(file), states, None, 1)
    options = ["--kubernetes-persistent-volumes", f"paperlib-runs:{volume}", "--seconds-between-status-checks", "1"]
    options += ["--retries", "0", "--latency-wait", "5"]
    words = command.command(file, out, plan, ["--profile", str(PROFILE), *options])
    words[1:3] = [str(FAKE), str(caught)]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1500, env=os.environ | variables)
    return told.stdout + told.stderr, [json.loads(path.read_text()) for path in sorted(caught.glob("*.json"))]


@pytest.fixture(scope="module")
def job(volume):
    """The job of a run on a GPU."""
    run = {"device": "cuda", "precision": "float32", "depth": 164, "seed": 0}
    said, jobs = submitted(volume, "gpu", {"preset": "paper", "groups": {"a": run}})
    assert len(jobs) == 1, said
    return jobs[0]


@pytest.mark.slow
def test_the_job_has_its_gpu_its_volume_and_no_path_of_this_machine(job, volume):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    asked = container["resources"]
    # The server refuses a GPU that has no limit, or another one than it requests; no schema says so.
    assert asked["limits"]["nvidia.com/gpu"] == asked["requests"]["nvidia.com/gpu"] == "1"
    assert asked["limits"]["memory"] == asked["requests"]["memory"]
    assert {"name": "paperlib-runs", "mountPath": str(volume)} in container["volumeMounts"]
    (words,) = container["args"][1:]
    assert "--snakefile 'workflow/Snakefile'" in words
    assert f"sweep={volume / 'gpu.yaml'}" in words and "runs=" not in words
    for path in (ROOT, Path(sys.prefix)):
        assert str(path) not in words.replace(str(volume), "")


@pytest.mark.slow
def test_the_job_fits_the_schema_of_kubernetes(job):
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate has the schema")
    validator.validate(job, SCHEMA, strict=True)
    wrong = json.loads(json.dumps(job))
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, SCHEMA, strict=True)


@pytest.mark.slow
@pytest.mark.skipif("PAPERLIB_TRY_PODS" not in os.environ, reason="takes minutes: PAPERLIB_TRY_PODS=1 asks for it")
def test_what_pods_are_told_makes_the_runs_and_the_findings(volume):
    common = {"device": "cpu", "threads": 1, "precision": "float32"}
    content = {
        "preset": "smoke",
        "common": common,
        "groups": {"a": {"arch": "plain", "depth": 20, "schedule": "constant"}},
    }
    said, _ = submitted(volume, "cpu", content, FAKE_PODS="run", FAKE_RUNS=str(volume / "runs"))
    told = "".join(path.read_text() for path in volume.glob("caught-cpu/pod-*/said.txt"))
    (run,) = read(volume / "cpu.yaml").jobs()
    assert state.look(run, volume / "out" / "cpu").done, said + told
    assert "F3a: " in (volume / "out" / "cpu" / "findings.txt").read_text(), said + told
