"""Records: what is read is what was saved; anything else is refused in one sentence."""

import json

import pandas as pd
import pytest
import tiny

from paperlib import records
from paperlib.errors import RecordError
from paperlib.store import files
from paperlib.store.stored import LOCK, sealed
from paperlib.studies import runs


@pytest.fixture
def record():
    return tiny.fitted(tiny.record())


def test_round_trip(record, tmp_path):
    records.save(record, tmp_path / "a")
    again = records.read(tmp_path / "a")
    assert again == record
    assert again.epochs.equals(record.epochs)
    assert again.blocks.equals(record.blocks)
    assert again.folder == tmp_path / "a"
    names = sorted(p.name for p in (tmp_path / "a").iterdir() if p.name != LOCK)
    assert [name.split("-")[0] for name in names] == ["blocks", "epochs", "record.json"]


def test_read_all_and_overview(record, tmp_path):
    assert records.read_all(tmp_path) == []
    for k in (2, 1):
        record.config = record.config.model_copy(update={"seed": k})
        records.save(record, tmp_path / f"p/d/n/seed{k}")
    found = records.read_all(tmp_path)
    assert [r.folder.name for r in found] == ["seed1", "seed2"]
    table = runs.overview(found)
    assert list(table["test error %"]) == [0.33, 0.33]


def test_saving_again_replaces(record, tmp_path):
    records.save(record, tmp_path)
    record.frames["epochs"] = record.epochs.assign(test_loss=0.5)
    records.save(record, tmp_path)
    assert set(records.read(tmp_path).epochs.test_loss) == {0.5}


def damage_json(folder):
    (folder / "record.json").write_text((folder / "record.json").read_text()[:100])


def damage_table(folder):
    (table,) = folder.glob("epochs-*.parquet")
    content = bytearray(table.read_bytes())
    content[50] ^= 1
    table.write_bytes(content)


def drop_table(folder):
    next(folder.glob("blocks-*.parquet")).unlink()


def edit(**changes):
    def change(folder):
        raw = json.loads((folder / "record.json").read_text())
        changed = {k: v for k, v in (raw | changes).items() if v != "drop"}
        (folder / "record.json").write_text(json.dumps(sealed(changed)))  # as if it had been written so

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_json, "not a readable record"),
        (damage_table, "checksum"),
        (drop_table, r"blocks-\w{8}\.parquet is missing"),
        (edit(schema_version=99), "schema version 99"),
        (edit(schema_version="drop"), "schema version None"),
        (edit(status="great"), "malformed at 'status'"),
        (edit(parameters="drop"), "malformed at 'parameters'"),
        (edit(config={"depth": 21}), "malformed at 'config'.*20 and 29"),
        (edit(kind="grid"), "malformed at 'kind'"),
        (edit(surprise=1), "malformed at 'surprise'"),
        (lambda folder: (folder / "record.json").write_text("[]"), "schema version None"),
    ],
)
def test_damaged_records_are_refused(record, tmp_path, damage, said):
    records.save(record, tmp_path)
    damage(tmp_path)
    for reader in (records.read, records.read_all):
        with pytest.raises(RecordError, match=said) as e:
            reader(tmp_path)
        assert str(tmp_path) in str(e.value)


def test_a_full_disk_leaves_the_old_record_and_no_scraps(record, tmp_path, monkeypatch):
    records.save(record, tmp_path)

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RecordError, match="No space left on device"):
        records.save(record, tmp_path)
    monkeypatch.undo()
    assert records.read(tmp_path) == record
    assert len([p for p in tmp_path.iterdir() if p.name != LOCK]) == 3


def test_what_follows_from_the_tables_is_not_stored(record, tmp_path):
    assert record.final == {
        "train_loss": 1.0,
        "train_error": 0.5,
        "test_loss": 2.25,
        "test_error": 1 / 3,
        "gap_mean": (-10 + 1 / 3 - 0.5) / 2,
        "gap_max": 1 / 3 - 0.5,
    }
    assert record.left_out == record.config.left_out() != ""
    record.save(tmp_path)
    raw = json.loads((tmp_path / "record.json").read_text())
    assert not {"final", "left_out", "network", "digest"} & raw.keys()


def test_an_epoch_that_was_not_evaluated_does_not_count(record):
    record.frames["epochs"] = record.epochs.assign(test_error=[50.0, float("nan")])
    assert record.final["test_error"] == 50.0 and record.final["gap_max"] == -10
    record.frames["epochs"] = record.epochs.assign(test_error=float("inf"))
    assert record.final == {}


def test_table_1_looks_at_a_hundred_epochs(record):
    n = 150
    record.frames["epochs"] = pd.DataFrame({"train_error": [0.0] * n, "test_error": [1.0] * 100 + [9.0] * 50})
    assert (record.final["gap_mean"], record.final["gap_max"], record.final["test_error"]) == (1, 1, 9)


def test_endings_and_labels(record):
    assert record.ending() == "resnet-20 finished its 2 epochs."
    where = {"epoch": 2, "step": 7, "what": "loss", "block": "stage1_block2"}
    other = record.model_copy(update={"status": "diverged", "divergence": records.Divergence(**where)})
    assert other.ending() == ("resnet-20 diverged in epoch 2, step 7: the loss was not finite, first in stage1_block2.")
    config = record.config.model_copy(update={"precision": "float32"})
    assert other.model_copy(update={"config": config}).label == "resnet-20 (float32, diverged in epoch 2)"
