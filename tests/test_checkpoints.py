"""Checkpoints: read back as written; damaged, foreign or hostile files are refused in one sentence, and run nothing."""

import io
import os

import pytest
import torch

from paperlib import checkpoints
from paperlib.errors import CheckpointError
from paperlib.store import files


def content(folder):
    return checkpoints.read(folder, "cpu")


def test_what_is_read_is_what_was_written(tmp_path):
    assert content(tmp_path) is None
    checkpoints.write(tmp_path, {"a": torch.arange(3), "b": {"c": [1.5, None]}})
    found = content(tmp_path)
    assert torch.equal(found["a"], torch.arange(3)) and found["b"] == {"c": [1.5, None]}
    assert found["schema"] == checkpoints.SCHEMA


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:40], lambda raw: b"", lambda raw: raw[:-1], lambda raw: b"x" + raw]
)
def test_a_damaged_one_is_refused_and_kept(tmp_path, damage):
    checkpoints.write(tmp_path, {"a": 1})
    path = tmp_path / checkpoints.FILE
    bad = damage(path.read_bytes())
    path.write_bytes(bad)
    with pytest.raises(CheckpointError, match="damaged: delete it"):
        content(tmp_path)
    assert path.read_bytes() == bad


def put(folder, thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    (folder / checkpoints.FILE).write_bytes(files.seal(buffer.getvalue()))


@pytest.mark.parametrize("thing", [{"a": 1}, [1, 2]])
def test_something_else_under_a_right_checksum_is_refused(tmp_path, thing):
    put(tmp_path, thing)
    with pytest.raises(CheckpointError, match="not a checkpoint of this library"):
        content(tmp_path)


def test_another_schema_is_refused(tmp_path):
    put(tmp_path, {"schema": 99})
    with pytest.raises(CheckpointError, match="has schema 99, this paperlib writes 2: delete it to start anew"):
        content(tmp_path)


def test_it_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, ("touch " + str(tmp_path / "pwned"),))

    put(tmp_path, Evil())
    with pytest.raises(CheckpointError, match="damaged"):
        content(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_full_disk_leaves_the_older_one(tmp_path, monkeypatch):
    checkpoints.write(tmp_path, {"a": 1})

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(files.os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left on device.*PAPERLIB_RUNS"):
            checkpoints.write(tmp_path, {"a": 2})
    assert content(tmp_path)["a"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_one_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / checkpoints.FILE).mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        content(tmp_path)
