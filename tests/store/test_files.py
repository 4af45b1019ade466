"""Files are there whole or not at all, and a folder has one worker at a time."""

import os
import stat

import filelock
import pytest

from paperlib.errors import PaperlibError
from paperlib.store import files


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for content in (b"one", b"two"):
        files.write_atomically(path, content)
        assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["fsync", "chmod", "replace"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "a.txt"
    files.write_atomically(path, b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_scraps_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    for name in (".a.txt.x1.tmp", ".b.txt.x2.tmp", "a.txt", ".lock", ".a.txt.lock"):
        (tmp_path / name).write_text("")
    files.remove_scraps(tmp_path, "a.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.txt.lock", ".b.txt.x2.tmp", ".lock", "a.txt"]


def test_a_seal_finds_every_changed_byte():
    raw = files.seal(b"payload")
    assert files.unseal(raw) == b"payload"
    for i in range(len(raw)):
        assert files.unseal(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]) is None
    assert files.unseal(raw[:-1]) is None
    assert files.unseal(b"") is None


def test_a_locked_folder_has_one_worker(tmp_path):
    folder = tmp_path / "run"
    with files.locked(folder, "run"), pytest.raises(filelock.Timeout):
        filelock.FileLock(folder / ".lock").acquire(timeout=0)
    with (
        filelock.FileLock(folder / ".lock"),
        pytest.raises(PaperlibError, match="another process is working on this grid"),
        files.locked(folder, "grid"),
    ):
        pass
    with files.locked(folder, "run"):  # the lock is released with its block
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(PaperlibError, match="cannot be written .*set PAPERLIB_RUNS"),
        files.locked(tmp_path / "file", "run"),
    ):
        pass
