"""Chapter 4's tables: how a run was made, how far its blocks are from keeping the norm, several runs at a glance."""

import pandas as pd
import pytest

from paperlib import records
from paperlib.config import RunConfig
from paperlib.store import Provenance
from paperlib.studies import runs


@pytest.fixture
def record():
    epochs = pd.DataFrame(
        {
            "epoch": [1, 2],
            "lr": [0.1, 0.01],
            "train_loss": [2.0, 1.0],
            "train_error": [60.0, 0.5],
            "test_loss": [2.5, 2.25],
            "test_error": [50.0, 1 / 3],
        }
    )
    blocks = pd.DataFrame({"epoch": [1], "block": [1], "name": ["a"], "kind": ["transition"], "log_ratio": [0.1]})
    config = RunConfig(preset="smoke", depth=20).resolve()
    return records.Record(
        status="finished",
        config=config,
        provenance=Provenance.here(config.command()),
        data={"dataset": "cifar10", "source": "sample", "checksum": "0", "train_images": 300, "test_images": 100},
        parameters=1,
        epoch_seconds=[0.7, 0.8],
        peak_memory_bytes=1,
        frames={"epochs": epochs, "blocks": blocks},
    )


def test_overview(record):
    table = runs.overview([record, record])
    assert list(table["test error %"]) == [0.33, 0.33] and list(table.network) == ["resnet-20"] * 2


def test_every_session_of_a_run_is_told(record):
    """What differs between sessions is listed, what does not is said once."""
    first = record.provenance.last
    first.commit, first.dirty = "a" * 40, True
    told = runs.provenance(record)[""]
    assert told["wall time"].endswith("in 1 session") and told["commit"] == "a" * 40 + " with uncommitted changes"
    changes = [{"dirty": False}, {"commit": "b" * 40, "dirty": False, "threads": 77}, {}]
    record.provenance.sessions += [first.model_copy(update=change) for change in changes]
    told = runs.provenance(record)[""]
    assert told["wall time"].endswith("in 4 sessions")
    assert told["commit"] == f"{'a' * 40} with uncommitted changes; {'a' * 40}; {'b' * 40}"
    assert told["device"].count(";") == 1 and "77 CPU threads" in told["device"]
    assert ";" not in told["versions"]


def test_norm_preservation_of_a_run(record):
    table = runs.norm_preservation(record)
    assert table[["epoch", "kind", "blocks"]].values.tolist() == [[1, "transition", 1]]
    assert table.smallest[0] == table.largest[0] == pytest.approx(1.10517, abs=1e-5)
    assert table.distance[0] == pytest.approx(0.1)
    record.frames["blocks"] = pd.DataFrame()
    assert runs.norm_preservation(record).empty
