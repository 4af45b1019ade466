"""Records: what is read is what was saved; anything else is refused in one sentence."""

import json

import pandas as pd
import pytest

from paperlib import records
from paperlib.config import RunConfig
from paperlib.errors import RecordError


@pytest.fixture
def record():
    c = RunConfig(preset="smoke", depth=20).resolve()
    epochs = pd.DataFrame({"epoch": [1, 2], "lr": [0.1, 0.01], "test_error": [50.0, 1 / 3]})
    blocks = pd.DataFrame({"epoch": [1], "block": [1], "name": ["a"], "kind": ["transition"], "log_ratio": [0.1]})
    return records.Record(
        status="finished",
        network=c.network,
        config=c.model_dump(),
        config_hash=c.digest(),
        command=c.command(),
        git=records.git_state(),
        versions=records.versions(),
        device={"type": "cpu", "name": "test"},
        threads=2,
        precision="float32",
        memory_format="contiguous",
        determinism={},
        data={"dataset": "cifar10", "source": "sample", "checksum": "0", "train_images": 300, "test_images": 100},
        parameters=1,
        started="2020-01-01T00:00:00+00:00",
        wall_seconds=1.5,
        sessions=1,
        epoch_seconds=[0.7, 0.8],
        peak_memory_bytes=1,
        final={"test_error": 1 / 3, "train_error": 0.5},
        left_out=c.left_out(),
    ).with_tables(epochs, blocks)


def test_round_trip(record, tmp_path):
    records.save(record, tmp_path / "a")
    again = records.read(tmp_path / "a")
    assert again == record
    assert again.epochs.equals(record.epochs)
    assert again.blocks.equals(record.blocks)
    assert again.folder == tmp_path / "a"
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["blocks.parquet", "epochs.parquet", "record.json"]


def test_read_all_and_overview(record, tmp_path):
    assert records.read_all(tmp_path) == []
    for k in (2, 1):
        records.save(record, tmp_path / f"p/d/n/seed{k}")
    found = records.read_all(tmp_path)
    assert [r.folder.name for r in found] == ["seed1", "seed2"]
    table = records.overview(found)
    assert list(table["test error %"]) == [0.33, 0.33]


def test_saving_again_replaces(record, tmp_path):
    records.save(record, tmp_path)
    record.with_tables(record.epochs.assign(lr=0.5), record.blocks)
    records.save(record, tmp_path)
    assert set(records.read(tmp_path).epochs.lr) == {0.5}


def damage_json(folder):
    (folder / "record.json").write_text((folder / "record.json").read_text()[:100])


def damage_table(folder):
    content = bytearray((folder / "epochs.parquet").read_bytes())
    content[50] ^= 1
    (folder / "epochs.parquet").write_bytes(content)


def drop_table(folder):
    (folder / "blocks.parquet").unlink()


def edit(**changes):
    def change(folder):
        raw = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps({k: v for k, v in (raw | changes).items() if v != "drop"}))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_json, "not a readable record"),
        (damage_table, "checksum"),
        (drop_table, "blocks.parquet is missing"),
        (edit(schema_version=99), "schema version 99"),
        (edit(schema_version="drop"), "schema version None"),
        (edit(status="great"), "malformed at 'status'"),
        (edit(threads="drop"), "malformed at 'threads'"),
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

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(RecordError, match="No space left on device"):
        records.save(record, tmp_path)
    monkeypatch.undo()
    assert records.read(tmp_path) == record
    assert len(list(tmp_path.iterdir())) == 3


def test_the_commit_and_whether_it_is_dirty(tmp_path, monkeypatch):
    import shutil
    import subprocess

    (tmp_path / "paperlib").mkdir()
    module = tmp_path / "paperlib" / "records.py"
    shutil.copy(records.__file__, module)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(records, "__file__", str(module))
    clean = records.git_state()
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    module.write_text("# changed")
    assert records.git_state()["dirty"] is True
