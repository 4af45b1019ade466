"""A sweep of three tiny runs, and what they would cost."""

import shutil

import pytest
import yaml

from paperlib import records, training
from paperlib.store.provenance import device_here
from paperlib.sweep import read
from paperlib.sweep.cost import Costs

TINY = {
    "preset": "smoke",
    "common": {"device": "cpu", "threads": 1, "precision": "float32", "epochs": 2, "train_images": 100,
               "test_images": 50, "batch_size": 50},
    "groups": {"depths": {"depth": [11, 20]}, "seeds": {"depth": 11, "seed": [0, 1]}},
}  # fmt: skip


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder of runs."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def costs(tmp_path):
    """A file of costs that nobody timed."""
    made = Costs(host="a", device=device_here("cpu"), side_by_side=1, startup=10.0, per_image={"float32": (0.001, 0.0)})
    made.save(tmp_path / "costs.json")
    return tmp_path / "costs.json"


@pytest.fixture
def sweep_file(tmp_path, runs):
    """The file of the sweep."""
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY, sort_keys=False))
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with the sweep's first run, trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    return training.train(read(folder / "tiny.yaml").jobs()[0].config, root=folder, quiet=True).folder


@pytest.fixture
def put(trained):
    """Put the trained run where a job with its parameters has its record; the record."""

    def at(job):
        shutil.copytree(trained, job.config.folder())
        return records.read(job.config.folder())

    return at
