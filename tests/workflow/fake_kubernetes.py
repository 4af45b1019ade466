"""Snakemake with a cluster of Kubernetes that is not there: ``python fake_kubernetes.py FOLDER OPTIONS OF SNAKEMAKE``.

Each job that is submitted is written to ``FOLDER/<name>.json``, as it would be sent.  With ``FAKE_PODS=run`` its
command is then executed: in an empty folder, in the environment that the image of ``workflow/Containerfile`` gives
(this interpreter is its ``python``, this checkout its ``paperlib``), with PAPERLIB_RUNS set to ``FAKE_RUNS``.
Otherwise each job fails at once.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import kubernetes
from snakemake.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = Path(sys.argv[1])


def pod(container):
    """Start what a container does; the process."""
    place = Path(tempfile.mkdtemp(dir=FOLDER, prefix="pod-"))
    tools, workdir = place / "bin", place / "workdir"
    for folder in (tools, workdir):
        folder.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "pip").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    image = {"PYTHONPATH": str(CHECKOUT), "PAPERLIB_RUNS": os.environ["FAKE_RUNS"], "HOME": str(place)}
    path = os.pathsep.join((str(tools), os.defpath, "/usr/local/bin"))
    with (place / "said.txt").open("w") as said:
        return subprocess.Popen(
            [*container.command, *container.args], cwd=workdir, env=image | {"PATH": path}, stdout=said, stderr=said
        )


class Cluster:
    """What the executor asks of ``CoreV1Api`` and ``BatchV1Api``."""

    started: dict = {}

    def create_namespaced_job(self, namespace, body):
        sent = kubernetes.client.ApiClient().sanitize_for_serialization(body)
        sent = {"apiVersion": "batch/v1", "kind": "Job"} | sent  # which the client leaves to the address
        (FOLDER / f"{body.metadata.name}.json").write_text(json.dumps(sent))
        runs = os.environ.get("FAKE_PODS") == "run"
        self.started[body.metadata.name] = pod(body.spec.template.spec.containers[0]) if runs else None
        return body

    def read_namespaced_job_status(self, name, namespace):
        process = self.started[name]
        status = process.poll() if process else 1
        return SimpleNamespace(
            status=SimpleNamespace(failed=int(bool(status)), succeeded=int(status == 0), active=int(status is None))
        )

    def list_namespaced_pod(self, *args, **kwargs):
        return SimpleNamespace(items=[])

    def create_namespaced_secret(self, namespace, body):
        assert body.data == {}, "a variable of this machine is sent"

    def delete_namespaced_secret(self, *args, **kwargs):
        pass

    def delete_namespaced_job(self, *args, **kwargs):
        pass


kubernetes.config.load_kube_config = lambda: None
kubernetes.client.CoreV1Api = kubernetes.client.BatchV1Api = Cluster
main(sys.argv[2:])
