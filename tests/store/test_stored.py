"""Stored things: what is read is what was saved, anything else is refused, and saving again loses nothing."""

import json
import math
import os
from typing import ClassVar, Literal

import pandas as pd
import pytest

from paperlib.errors import RecordError
from paperlib.store import Provenance, Stored, files
from paperlib.store.stored import LOCK, sealed


class Note(Stored):
    FILE: ClassVar[str] = "note.json"
    NOUN: ClassVar[str] = "note"
    REMEDY: ClassVar[str] = "write it again"
    TABLES: ClassVar[tuple[str, ...]] = ("main",)

    kind: Literal["note"] = "note"
    value: float


def content(folder):
    """What a folder holds, but for the lock of those who save."""
    return sorted(path for path in folder.iterdir() if path.name != LOCK)


def note(value=1.5, **tables):
    frames = {"main": pd.DataFrame({"a": [1, 2], "b": [1 / 3, math.nan]})} | tables
    return Note(value=value, provenance=Provenance.here("x"), frames=frames)


@pytest.mark.parametrize("value", [1.5, 1 / 3, math.nan, math.inf, -math.inf])
def test_what_is_read_is_what_was_saved(tmp_path, value):
    mine = note(value, other=pd.DataFrame({"s": ["ä", "b"]}))
    assert mine.folder is None
    assert mine.save(tmp_path / "n") == tmp_path / "n"
    again = Note.read(tmp_path / "n")
    assert again == mine
    assert again.folder == mine.folder == tmp_path / "n"
    assert again != note(value)  # another table
    assert again != again.model_copy(update={"value": 7.0})
    assert Note.read_all(tmp_path) == [mine]
    assert Note.read_all(tmp_path / "none") == []


def test_a_table_is_named_by_its_content_and_an_old_one_goes(tmp_path):
    note().save(tmp_path)
    before = content(tmp_path)
    note(2.0).save(tmp_path)
    assert content(tmp_path) == before  # the same table
    note(main=pd.DataFrame({"a": [3]})).save(tmp_path)
    assert len(content(tmp_path)) == 2
    assert Note.read(tmp_path).frames["main"].a.tolist() == [3]


def leaves(value, path=()):
    """The path to every leaf of some JSON."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def test_every_edited_leaf_is_noticed(tmp_path):
    note(other=pd.DataFrame({"s": ["x"]})).save(tmp_path)
    file = tmp_path / "note.json"
    whole = file.read_text()
    paths = list(leaves(json.loads(whole)))
    assert len(paths) > 15
    for path in paths:
        raw = json.loads(whole)
        inner = raw
        for key in path[:-1]:
            inner = inner[key]
        old = inner[path[-1]]
        inner[path[-1]] = old + 1 if isinstance(old, int | float) and not isinstance(old, bool) else f"{old}x"
        file.write_text(json.dumps(raw))
        with pytest.raises(
            RecordError, match="is not a readable note .*; (write it again|a newer paperlib reads it)"
        ) as e:
            Note.read(tmp_path)
        assert "\n" not in str(e.value) and str(file) in str(e.value)
    file.write_text(json.dumps(json.loads(whole)))  # other white space is the same content
    assert Note.read(tmp_path).value == 1.5


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is not a readable note"),
        (b"{", "is not a readable note"),
        (b"\xff\xfe", "is not a readable note"),
        (b"[]", "schema version None"),
        (b'{"schema_version": 99}', "schema version 99, and this paperlib reads 2; a newer paperlib reads it"),
        (b'{"schema_version": 1}', "schema version 1, .*; make it again"),
        (b'{"schema_version": "2"}', "schema version '2'"),
        (b'{"schema_version": 2}', "its seal is not that of its content"),
        (b"[" * 100_000, "is not a readable note"),
        (json.dumps(sealed({"schema_version": 2})).encode(), "malformed at 'kind'|malformed at 'provenance'"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, raw, said):
    note().save(tmp_path)
    (tmp_path / "note.json").write_bytes(raw)
    with pytest.raises(RecordError, match=said) as e:
        Note.read(tmp_path)
    assert "\n" not in str(e.value)


def test_another_kind_is_refused(tmp_path):
    note().save(tmp_path)
    file = tmp_path / "note.json"
    file.write_text(json.dumps(sealed(json.loads(file.read_text()) | {"kind": "run"})))
    with pytest.raises(RecordError, match="malformed at 'kind'"):
        Note.read(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda table: table.unlink(), r"main-\w{8}\.parquet is missing"),
        (lambda table: table.write_bytes(table.read_bytes()[:-1]), "its checksum is not the recorded one"),
        (lambda table: table.write_bytes(b""), "its checksum is not the recorded one"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, damage, said):
    note().save(tmp_path)
    damage(next(tmp_path.glob("main-*.parquet")))
    with pytest.raises(RecordError, match=said):
        Note.read(tmp_path)


@pytest.mark.parametrize("tables", [None, {}, [], {"other": "0"}])
def test_tables_that_are_not_named_are_refused(tmp_path, tables):
    note().save(tmp_path)
    file = tmp_path / "note.json"
    file.write_text(json.dumps(sealed(json.loads(file.read_text()) | {"tables": tables})))
    with pytest.raises(RecordError, match="it does not name its tables"):
        Note.read(tmp_path)


def test_a_full_disk_at_any_point_leaves_the_old_one_and_no_scraps(tmp_path, monkeypatch):
    old, new = note(), note(2.0, main=pd.DataFrame({"a": [3]}), other=pd.DataFrame({"s": ["x"]}))
    old.save(tmp_path)
    before = content(tmp_path)
    write, failed = files.write_atomically, 0
    for point in range(1, 4):  # two tables, one JSON file
        count = iter(range(1, 100))

        def full(path, content, point=point, count=count):
            if next(count) == point:
                raise OSError(28, "No space left on device")
            write(path, content)

        monkeypatch.setattr(files, "write_atomically", full)
        with pytest.raises(RecordError, match="the note could not be written to .*: No space left on device"):
            new.save(tmp_path)
        failed += 1
        assert Note.read(tmp_path) == old
        assert content(tmp_path) == before
    monkeypatch.undo()
    assert failed == 3
    new.save(tmp_path)
    assert Note.read(tmp_path) == new


@pytest.mark.parametrize("frames", [{}, {"other": pd.DataFrame({"a": [1]})}])
def test_what_could_not_be_read_back_is_not_saved(tmp_path, frames):
    with pytest.raises(ValueError, match="a note without main cannot be saved"):
        note().model_copy(update={"frames": frames}).save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_several_processes_save_and_read_at_the_same_time(tmp_path):
    """Each save is whole, and no reader meets a half."""
    note(0.0).save(tmp_path)
    children = []
    for k in (1, 2, 3):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for i in range(15):
                    note(float(k), main=pd.DataFrame({"k": [k, i % 2]})).save(tmp_path)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    while children:
        found = Note.read(tmp_path)
        assert found.value == 0 or found.frames["main"].k[0] == found.value
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            assert status == 0
            children.remove(child)
    assert len(content(tmp_path)) == 2


def test_only_its_own_files_are_removed(tmp_path):
    """Not somebody's table whose name ends like one, and not that of another kind."""
    for name in ("my-analysis-20240131.parquet", "main-20240131.parquet", "other-0123abcd.parquet"):
        (tmp_path / name).write_bytes(b"precious")
    note().save(tmp_path)
    note(main=pd.DataFrame({"a": [3]})).save(tmp_path)
    assert [p.name for p in content(tmp_path) if p.read_bytes() == b"precious"] == [
        "my-analysis-20240131.parquet",
        "other-0123abcd.parquet",
    ]
    assert len(content(tmp_path)) == 4


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="the note could not be written to"):
        note().save(tmp_path / "file")


def test_a_table_file_that_is_a_folder_is_said(tmp_path):
    note().save(tmp_path)
    table = next(tmp_path.glob("main-*.parquet"))
    table.unlink()
    os.mkdir(table)
    with pytest.raises(RecordError, match="is not a readable note"):
        Note.read(tmp_path)
