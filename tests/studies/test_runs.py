"""Chapter 4's tables: how a run was made, how far its blocks are from keeping the norm, several runs at a glance."""

import math

import pandas as pd
import pytest
import tiny

from paperlib.studies import runs


@pytest.fixture
def record():
    return tiny.record()


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


def test_blocks_close_to_one_are_counted_in_the_last_epoch(record):
    kinds = ["transition", "residual", "residual", "transition"]
    ratios = {1: [1.0, 1.0, 1.0, 1.0], 2: [1e-6, 1.25, 1.26, 0.9]}
    rows = [
        {"epoch": epoch, "block": i, "name": kind, "kind": kind, "log_ratio": math.log(ratio)}
        for epoch, values in ratios.items()
        for i, (kind, ratio) in enumerate(zip(kinds, values, strict=True), 1)
    ]
    record.frames["blocks"] = pd.DataFrame(rows)
    (row,) = runs.close([record]).to_dict("records")
    assert [row[name] for name in ("blocks", "close", "transitions", "close transitions")] == [2, 1, 2, 1]
    assert row["first transition"] == pytest.approx(1e-6)
    assert row["lowest test error"] == pytest.approx(1 / 3) and row["run"] == record.label
    assert runs.close([record], factor=2).close[0] == 2
    record.frames["blocks"] = pd.DataFrame()
    assert runs.close([record]).empty
