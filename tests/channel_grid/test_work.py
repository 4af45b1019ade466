"""The loop over a grid's cells: resuming cell by cell, several processes, the record, and what goes wrong."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pandas as pd
import pytest
import tiny
import torch

from paperlib.channel_grid import MEASURED, Cell, GridConfig, read, run, stored_only, train_cell, work
from paperlib.errors import ConfigError, PaperlibError, RecordError
from paperlib.store import files, provenance


def test_more_probe_images_than_there_are(tmp_path):
    with pytest.raises(ConfigError, match="probe_images 2000 is more than there is: sample has 1000"):
        run(GridConfig(**tiny.GRID, probe_images=2000), root=tmp_path)
    assert not list(tmp_path.iterdir())


def same(a, b):
    """Equal, bit for bit, but for what a session adds."""
    added = ["seconds", "commit"]
    pd.testing.assert_frame_equal(
        a.measurements.drop(columns=added), b.measurements.drop(columns=added), check_exact=True
    )


def stopped_at_the_end(config, root):
    """All cells are trained, and the process is stopped before they become a record."""
    with pytest.MonkeyPatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(work, "_together", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        run(config, root=root, quiet=True)


# -- runs --------------------------------------------------------------------------------------------------------
def test_a_grid_is_its_cells(record):
    table = record.measurements
    assert list(table.columns) == ["c", "d", "variant", "seed", "step", *MEASURED, "seconds", "commit"]
    assert table[["c", "d", "variant", "step"]].values.tolist() == [
        [2, d, v, s] for d in (2, 4) for v in ("conv-relu", "free") for s in (0, 2)
    ]
    data = work._data("sample")
    cell = Cell(c=2, d=4, variant="free", stages=(0, 2), batch_size=64, probe_images=64)
    alone = train_cell(cell, data)
    mine = table[(table.d == 4) & (table.variant == "free")].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine[list(alone.columns)], alone, rtol=1e-4)  # another number of threads
    assert record.provenance.threads == 1 and record.provenance.seconds == pytest.approx(
        table.groupby(["d", "variant"]).seconds.first().sum()
    )


def test_the_record_is_read_back(record, tmp_path):
    folder = tmp_path / "channel_grid" / "x"
    again = run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    same(again, record)
    folder = GridConfig(**tiny.GRID).resolve().folder(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock",
        ".save.lock",
        "grid.json",
        next(folder.glob("measurements-*.parquet")).name,
    ]
    stored = read(folder)
    pd.testing.assert_frame_equal(stored.measurements, again.measurements)
    assert stored == again
    assert stored.provenance.command == GridConfig(**tiny.GRID).resolve().command()
    assert len(stored.provenance.commits) == 1 and stored.data.source == "sample"
    before = (folder / "grid.json").stat().st_mtime_ns
    same(run(GridConfig(**tiny.GRID), root=tmp_path), stored)  # at once, from the record
    assert (folder / "grid.json").stat().st_mtime_ns == before


def test_an_interrupted_grid_goes_on(record, tmp_path, monkeypatch):
    trained, made = work._trained, []

    def stops_after_two(cell, config):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(cell)
        return trained(cell, config)

    monkeypatch.setattr(work, "_trained", stops_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    folder = GridConfig(**tiny.GRID).resolve().folder(tmp_path)
    assert len(list((folder / "cells").glob("*.cell"))) == 2 and not (folder / "grid.json").exists()
    monkeypatch.setattr(work, "_trained", lambda cell, config: made.append(cell) or trained(cell, config))
    same(run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True), record)
    assert len(made) == len(set(made)) == 4  # none twice


def test_a_damaged_cell_is_trained_again(record, tmp_path):
    folder = GridConfig(**tiny.GRID).resolve().folder(tmp_path)
    stopped_at_the_end(GridConfig(**tiny.GRID), tmp_path)
    first, second, *_ = sorted((folder / "cells").glob("*.cell"))
    first.write_bytes(first.read_bytes()[:-20])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    second.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged: this cell is trained again") as warned:
        same(run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True), record)
    assert len(warned) == 2


def test_a_cell_under_another_ones_name_is_trained_again(record, tmp_path):
    folder = GridConfig(**tiny.GRID).resolve().folder(tmp_path)
    stopped_at_the_end(GridConfig(**tiny.GRID), tmp_path)
    first, second, *_ = sorted((folder / "cells").glob("*.cell"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.warns(UserWarning, match="is damaged: this cell is trained again"):
        same(run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True), record)


def test_the_cells_of_another_grid_and_of_no_session_are_trained_again(record, tmp_path):
    """Under a right name and with a right seal; and cells without a plan that says who trained them."""
    mine, other = (GridConfig(**tiny.GRID | {"lr": lr}).resolve() for lr in (0.01, 0.5))
    for grid in (mine, other):
        stopped_at_the_end(grid, tmp_path)
    name = "c2_d4_free.cell"
    foreign = other.folder(tmp_path) / "cells" / name
    (mine.folder(tmp_path) / "cells" / name).write_bytes(foreign.read_bytes())
    (other.folder(tmp_path) / work.PLAN).unlink()
    for grid, bad in ((mine, 1), (other, 4)):
        with pytest.warns(UserWarning, match="is damaged: this cell is trained again") as warned:
            found = run(grid, root=tmp_path, quiet=True)
        assert len(warned) == bad and len(found.provenance.sessions) == 1
    same(run(mine, root=tmp_path, quiet=True), record)


def test_an_edited_plan_is_refused(tmp_path):
    stopped_at_the_end(GridConfig(**tiny.GRID), tmp_path)
    plan = GridConfig(**tiny.GRID).resolve().folder(tmp_path) / work.PLAN
    whole = json.loads(plan.read_text())
    whole["sessions"][0]["threads"] = 99
    plan.write_text(json.dumps(whole))
    with pytest.raises(RecordError, match="holds the cells of another grid"):
        run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)


@pytest.mark.parametrize("wrong", [{"preset": "smoke"}, "smoke", None])
def test_a_grid_is_a_grid(wrong):
    with pytest.raises(ConfigError, match="a GridConfig is needed, not .*: write GridConfig"):
        run(wrong)


def test_a_committed_record_is_read_when_asked_for(record, tmp_path, monkeypatch):
    committed, mine = tmp_path / "results", tmp_path / "runs"
    run(GridConfig(**tiny.GRID), root=committed, quiet=True)
    monkeypatch.setattr(work, "results_root", lambda: committed)
    monkeypatch.setattr(work, "_trained", None)
    same(run(GridConfig(**tiny.GRID, stored=True), root=mine), record)
    assert not mine.exists()
    with pytest.raises(TypeError):  # it would train: not asked for, or another grid
        run(GridConfig(**tiny.GRID), root=mine, quiet=True)
    with pytest.raises(TypeError):
        run(GridConfig(**tiny.GRID | {"seeds": 2}, stored=True), root=mine, quiet=True)


def test_a_committed_record_is_found_from_another_kind_of_device(record, tmp_path, monkeypatch):
    run(GridConfig(**tiny.GRID), root=tmp_path / "results", quiet=True)
    monkeypatch.setattr(work, "results_root", lambda: tmp_path / "results")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    same(run(GridConfig(**tiny.GRID, stored=True), root=tmp_path / "runs"), record)


def test_processes_change_nothing(record, tmp_path):
    same(run(GridConfig(**tiny.GRID, workers=2), root=tmp_path, quiet=True), record)


def test_a_column_that_is_the_same_experiment_is_trained_once(tmp_path, monkeypatch):
    made, trained = [], work._trained
    monkeypatch.setattr(work, "_trained", lambda cell, config: made.append(cell) or trained(cell, config))
    values = tiny.GRID | {"in_channels": "2 4", "variants": "conv published", "stages": "0"}
    table = run(GridConfig(**values), root=tmp_path, quiet=True).measurements
    assert sorted(made) == [(2, 2, "conv"), (2, 4, "conv"), (4, 2, "conv"), (4, 2, "published"), (4, 4, "conv")]
    conv, published = (table[table.variant == v].set_index(["c", "d"]).log_ratio for v in ("conv", "published"))
    assert len(conv) == len(published) == 4
    differs = conv != published
    assert differs[differs].index.tolist() == [(4, 2)]
    # √(d/c) = √½ in place of 1: the gradient shrinks by that factor, and the ratio grows by √2.  The loss differs a
    # little.
    assert published[4, 2] - conv[4, 2] == pytest.approx(0.5 * 0.6931472, abs=0.02)


def test_cells_of_several_commits_are_said(tmp_path, monkeypatch):
    trained, state = work._trained, {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr(provenance, "git_state", lambda: (state["commit"], state["dirty"]))

    def fails_at_last(cell, config):
        if cell == (2, 2, "free") and state["commit"][0] == "a":
            raise KeyboardInterrupt
        return trained(cell, config)

    monkeypatch.setattr(work, "_trained", fails_at_last)
    with pytest.raises(KeyboardInterrupt):
        run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    state["commit"] = "b" * 40
    record = run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    assert record.provenance.commits == ["aaaaaaaa", "bbbbbbbb"]
    seconds = record.measurements.groupby(["c", "d", "variant"]).first().groupby("commit").seconds.sum()
    assert [session.seconds for session in record.provenance.sessions] == pytest.approx(seconds.tolist())
    assert "several commits" in record.describe()
    assert record.measurements.groupby("commit").size().to_dict() == {"aaaaaaaa": 6, "bbbbbbbb": 2}


def test_a_whole_plan_of_another_grid_is_refused(tmp_path):
    mine, other = (GridConfig(**tiny.GRID | {"lr": lr}).resolve() for lr in (0.01, 0.5))
    plan = work.Plan(config=other.content(), sessions=[])
    mine.folder(tmp_path).mkdir(parents=True)
    plan.save(mine.folder(tmp_path))
    with pytest.raises(RecordError, match="holds the cells of another grid"):
        run(mine, root=tmp_path, quiet=True)


@pytest.mark.parametrize("plan", [b'{"digest": "0"}', b"{", b"[]", b'{"digest"', None])
def test_the_cells_of_another_grid_are_not_taken(plan, tmp_path):
    folder = GridConfig(**tiny.GRID).resolve().folder(tmp_path)
    folder.mkdir(parents=True)
    plan = plan or json.dumps({"config": GridConfig(**tiny.GRID).resolve().content()}).encode()  # only that
    (folder / "plan.json").write_bytes(plan)
    with pytest.raises(RecordError, match="holds the cells of another grid"):
        run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    assert (folder / "plan.json").read_bytes() == plan


def test_a_grid_that_others_made_is_finished_with_their_provenance(record, tmp_path, monkeypatch):
    """All cells are of commit a; commit b only puts them together."""
    state = {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr(provenance, "git_state", lambda: (state["commit"], state["dirty"]))
    stopped_at_the_end(GridConfig(**tiny.GRID), tmp_path)
    state["commit"] = "b" * 40
    found = run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    assert [session.commit for session in found.provenance.sessions] == ["a" * 40]


def test_two_processes(tmp_path):
    folder = GridConfig(**tiny.GRID).resolve().folder(tmp_path)
    folder.mkdir(parents=True)
    with (
        filelock.FileLock(folder / ".lock"),
        pytest.raises(PaperlibError, match="another process is working on this grid"),
    ):
        run(GridConfig(**tiny.GRID), root=tmp_path)


def test_a_full_disk(record, tmp_path, monkeypatch):
    write, count = files.write_atomically, []

    def full(path, content):
        count.append(path.name)
        if len(count) == 4:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(RecordError, match="No space left on device.*finished cells are kept"):
        run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    same(run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True), record)
    # The plan and two cells; the third did not fit; two cells, the table and the summary.
    assert [name.rsplit(".", 1)[1] for name in count] == [
        "json",
        "cell",
        "cell",
        "cell",
        "cell",
        "cell",
        "parquet",
        "json",
    ]


NO_ROOM = """
from paperlib.channel_grid import GridConfig, run, work
from paperlib.errors import RecordError
def _save_cell(*arguments):
    raise OSError(28, "No space left on device")
work._save_cell = _save_cell
try:
    run(GridConfig(**{config!r}), root={root!r}, quiet=True)
except RecordError as e:
    print(e)
"""


def test_a_full_disk_ends_several_processes_that_have_more_to_do(tmp_path):
    """Cells are under way, and others wait for their turn, when the first finished one cannot be saved."""
    config = tiny.GRID | {"out_channels": "2 3 4 5 6 7", "workers": 2}
    program = NO_ROOM.format(config=config, root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "could not be written (No space left on device)" in done.stdout


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PaperlibError, match="cannot be written .*set PAPERLIB_RUNS"):
        run(GridConfig(**tiny.GRID), root=tmp_path / "file")


PROGRAM = """
import os, signal, sys
from paperlib.channel_grid import GridConfig, run, work
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born with it ignored
save, n = work._save_cell, []
def _save_cell(*arguments):
    save(*arguments)
    n.append(1)
    if len(n) == 1: os.kill(os.getpid(), getattr(signal, sys.argv[1]))
work._save_cell = _save_cell
run(GridConfig(**{config!r}), root={root!r})
"""


def processes_of(word):
    """Ids of the processes whose environment holds ``word``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("name", "status", "workers"), [("SIGKILL", -9, 1), ("SIGKILL", -9, 2), ("SIGTERM", 143, 2), ("SIGINT", -2, 2)]
)
def test_ended_from_outside_and_run_again(name, status, workers, record, tmp_path):
    """Finished cells are kept, no process goes on, and the table comes out the same."""
    mark = f"ended-{name}-{workers}-{tmp_path.name}"
    program = PROGRAM.format(config=tiny.GRID | {"workers": workers}, root=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program, name],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"TEST_MARK": mark},
    )
    assert done.returncode == status, done.stderr
    assert "You could benefit" not in done.stderr
    assert len(list((GridConfig(**tiny.GRID).resolve().folder(tmp_path) / "cells").glob("*.cell"))) >= 1
    deadline = time.monotonic() + 20
    while processes_of(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(mark) == []
    same(run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True), record)


def test_work_for_a_process_that_is_gone_is_not_done(monkeypatch):
    ended = queue.Queue()
    monkeypatch.setattr(os, "_exit", ended.put)
    work._trained((2, 2, "free"), GridConfig(**tiny.GRID).resolve(), parent=os.getppid() + 1)
    assert ended.get(timeout=10) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "died or found no memory .*fewer workers; finished cells are kept"),
        (torch.OutOfMemoryError("CUDA"), "died or found no memory .*fewer workers"),
        (
            torch.linalg.LinAlgError("svd: no convergence\nmore"),
            r"decomposition failed \(svd: no convergence\); finished cells",
        ),
        *(
            (
                error("CUDA error: an illegal instruction\nmore"),
                r"the device failed \(CUDA error: an illegal instruction\)",
            )
            for error in work.DEVICE_ERRORS
        ),
    ],
)
def test_what_goes_wrong_in_a_cell_is_said(error, said, tmp_path, monkeypatch):
    def fails(key, config):
        raise error

    monkeypatch.setattr(work, "_trained", fails)
    with pytest.raises(PaperlibError, match=said) as e:
        run(GridConfig(**tiny.GRID), root=tmp_path, quiet=True)
    assert "\n" not in str(e.value)


def test_a_worker_that_dies_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_trained", _dies)
    with pytest.raises(PaperlibError, match=r"died or found no memory \(TerminatedWorkerError\)"):
        run(GridConfig(**tiny.GRID, workers=2), root=tmp_path, quiet=True)


def _dies(key, config, parent):
    os.kill(os.getpid(), 9)


def test_within_stored_only_nothing_is_trained(tmp_path):
    config = GridConfig(preset="smoke", in_channels=2, out_channels=2, variants="conv-relu", seeds=1)
    with stored_only(), pytest.raises(RecordError, match="there is no record of the grid .*: train it with"):
        run(config, root=tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())
    trained = run(config, root=tmp_path, quiet=True)
    with stored_only():
        assert run(config, root=tmp_path, quiet=True) == trained


def test_a_grid_that_was_killed_after_its_record_leaves_no_cells(tmp_path, monkeypatch):
    config = GridConfig(**tiny.GRID)
    with monkeypatch.context() as patched:  # as if it had been killed there
        patched.setattr(work, "_clear", lambda folder: None)
        folder = work.run(config, root=tmp_path, quiet=True).folder
    assert (folder / "cells").exists() and (folder / work.PLAN).exists()
    record = work.run(config, root=tmp_path, quiet=True)
    assert record.folder == folder and not (folder / "cells").exists() and not (folder / work.PLAN).exists()
