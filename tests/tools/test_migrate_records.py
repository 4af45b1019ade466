"""The migration of records of schema 1: everything that can be checked is, and nothing is lost where a check fails."""

import hashlib
import json

import migrate_records
import pytest

from paperlib.records import Record, read, read_all
from paperlib.store import results_root
from paperlib.store.stored import LOCK


@pytest.fixture(scope="module")
def record():
    return next(r for r in read_all(results_root()) if r.network == "procresnet-166-published")


@pytest.fixture
def old(record, tmp_path):
    """A folder with a committed run in its old form, and the run."""
    folder = tmp_path / "desk" / "cifar10" / "procresnet-166-reference" / "seed0"
    folder.mkdir(parents=True)
    raw = json.loads((record.folder / "record.json").read_text())
    for name, checksum in raw["tables"].items():
        table = record.folder / f"{name}-{checksum[:8]}.parquet"
        (folder / f"{name}.parquet").write_bytes(table.read_bytes())
    config = {k: v for k, v in raw["config"].items() if k != "projector"} | {"reference_quirks": True}
    digested = {k: v for k, v in config.items() if k not in ("threads", "checkpoint_activations")}
    session = raw["provenance"]["sessions"][0]
    content = {k: raw[k] for k in ("status", "data", "parameters", "epoch_seconds", "peak_memory_bytes", "divergence")}
    content |= {
        "schema_version": 1,
        "network": "procresnet-166-reference",
        "config": config,
        "config_hash": hashlib.sha256(json.dumps(digested, sort_keys=True).encode()).hexdigest(),
        "command": raw["provenance"]["command"].replace("-p projector published", "-p reference_quirks True"),
        "git": {"commit": session["commit"], "dirty": session["dirty"]},
        "versions": session["versions"],
        "device": session["device"],
        "threads": session["threads"],
        "started": session["started"],
        "wall_seconds": session["seconds"],
        "sessions": 1,
        "precision": config["precision"],
        "memory_format": config["memory_format"],
        "determinism": {"deterministic_algorithms": True, "cudnn_benchmark": False},
        "final": record.final,
        "left_out": record.left_out,
        "tables": raw["tables"],
    }
    (folder / "record.json").write_text(json.dumps(content))
    return folder, record


def test_a_run_is_what_it_was(old):
    folder, record = old
    with pytest.raises(Exception, match="schema version 1"):
        read(folder)
    new = migrate_records.migrate(folder / Record.FILE)
    assert new.parts[-2:] == ("procresnet-166-published", "seed0")
    assert read(new) == record
    assert not folder.exists() and len([p for p in new.iterdir() if p.name != LOCK]) == 3
    assert migrate_records.migrate(new / Record.FILE) is None  # once is enough


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"final": {"test_error": 5.0}}, "final"),
        ({"left_out": ""}, "left_out"),
        ({"network": "resnet-164"}, "network"),
        ({"config_hash": "0" * 64}, "config_hash"),
        ({"precision": "float32"}, "precision"),
        ({"sessions": 2}, "sessions"),
        ({"tables": {"epochs": "0" * 64}}, "epochs.parquet"),
    ],
)
def test_what_does_not_follow_is_refused_and_kept(old, changed, said):
    folder, _ = old
    file = folder / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit, match=said):
        migrate_records.migrate(file)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
