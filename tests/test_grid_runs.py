"""The channel grid as a run: parameters, resuming cell by cell, the record, and what goes wrong."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pandas as pd
import pytest
import torch

from paperlib import __main__ as command
from paperlib import grid_runs, records
from paperlib.channel_grid import MEASURED, VARIANTS, train_cell
from paperlib.config import results_root
from paperlib.errors import ConfigError, PaperlibError, RecordError
from paperlib.grid_runs import GridConfig, read, run

TINY = {
    "preset": "smoke",
    "in_channels": 2,
    "out_channels": "2 4",
    "variants": "conv-relu free",
    "seeds": 1,
    "stages": "0 2",
}


def same(a, b):
    """Equal, bit for bit, but for what a session adds."""
    added = ["seconds", "commit"]
    pd.testing.assert_frame_equal(
        a.measurements.drop(columns=added), b.measurements.drop(columns=added), check_exact=True
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return run(GridConfig(**TINY), root=tmp_path_factory.mktemp("grid"), quiet=True)


# -- parameters --------------------------------------------------------------------------------------------------
def test_presets():
    smoke, desk, paper = (GridConfig(preset=p, device="cpu").resolve() for p in ("smoke", "desk", "paper"))
    assert desk.in_channels == desk.out_channels == (2, 4, 8, 16, 32)
    assert paper.in_channels == paper.out_channels == (2, 4, 8, 16, 32, 64, 128)
    assert desk.seeds == paper.seeds == 10
    assert desk.stages == (0, 25, 50, 100)
    assert [s / 391 for s in paper.stages] == [0, 1, 2, 5, 10]  # epochs
    assert (smoke.source, desk.source) == ("sample", "auto")
    assert len(desk.cells()) == 25 and len(paper.cells()) == 49
    assert desk.resolve() == desk and desk.variants == tuple(VARIANTS)


@pytest.mark.parametrize("value", ["2 4 8", "8,2, 4", [2, 8, 4], (4, 8, 2, 2), ["2", 4, 8]])
def test_lists_in_many_forms(value):
    assert GridConfig(in_channels=value).in_channels == (2, 4, 8)


def test_one_number_is_a_list_of_one():
    assert GridConfig(in_channels=3, stages="7", variants="free").cells()[0][0] == 3
    assert GridConfig(variants="free conv").variants == ("conv", "free")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": 1}, "unknown parameter 'seed': did you mean 'seeds'"),
        ({"in_channels": "2 x"}, "in_channels must be a list of whole numbers, such as '2 4 8', not '2 x'"),
        ({"in_channels": ""}, "must be a list of whole numbers"),
        ({"in_channels": 2.5}, "must be a list of whole numbers"),
        ({"in_channels": True}, "must be a list of whole numbers"),
        ({"out_channels": "0 2"}, "out_channels must be at least 1, not 0"),
        ({"stages": [-1]}, "stages must be at least 0, not -1"),
        ({"variants": "conv-relu fre"}, "variant 'fre' is unknown: choose from conv-relu, conv"),
        ({"variants": []}, "variants must name some of conv-relu"),
        ({"variants": True}, "variants must name some of conv-relu"),
        ({"variants": 5}, "variant 5 is unknown"),
        ({"in_channels": [1, True]}, "in_channels must be a list of whole numbers"),
        (
            {"preset": "smoke", "batch_size": 5000},
            "batch_size 5000 is more than there is: sample has 1000 training images",
        ),
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": -1.0}, "lr must be greater than 0"),
        ({"preset": "big"}, "preset 'big' is unknown"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_impossible_parameters_are_refused_in_a_sentence(values, said):
    with pytest.raises(ConfigError, match=said) as e:
        GridConfig(**values).resolve()
    assert "\n" not in str(e.value)


def test_more_probe_images_than_there_are(tmp_path):
    with pytest.raises(ConfigError, match="probe_images 2000 is more than there is: sample has 1000"):
        run(GridConfig(**TINY, probe_images=2000), root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_folders_and_commands_name_what_differs_from_the_preset(tmp_path):
    plain = GridConfig(preset="desk", device="cpu")
    assert plain.folder("r").as_posix() == "r/channel_grid/desk"
    assert plain.command() == "python -m paperlib grid -p preset desk"
    assert GridConfig(preset="desk", device="cpu", seeds=10, stages="0 25 50 100").folder("r") == plain.folder("r")
    other = GridConfig(preset="desk", device="cpu", in_channels="2 4", lr=0.1, variants="free conv-relu")
    assert other.folder("r").name.startswith("desk-") and other.digest() != plain.digest()
    words = other.command()
    assert words == (
        "python -m paperlib grid -p preset desk -p in_channels '2 4' -p variants 'conv-relu free' -p lr 0.1"
    )
    # More processes are the same grid.
    assert GridConfig(preset="desk", device="cpu", workers=7).digest() == plain.digest()
    assert GridConfig(preset="desk", device="cpu", workers=7).folder("r") == plain.folder("r")


def test_the_command_makes_the_same_grid():
    """Read as the shell and the command line read it."""
    import shlex

    grid = GridConfig(preset="smoke", in_channels="2 8 16", stages=[0, 3], lr=0.5, seeds=3, device="cpu")
    words = shlex.split(grid.command())[4:]
    values = {name: command._value(value) for name, value in zip(words[1::3], words[2::3], strict=True)}
    assert GridConfig(**values).digest() == grid.digest()


# -- runs --------------------------------------------------------------------------------------------------------
def test_a_grid_is_its_cells(record):
    table = record.measurements
    assert list(table.columns) == ["c", "d", "variant", "seed", "step", *MEASURED, "seconds", "commit"]
    assert table[["c", "d", "variant", "step"]].values.tolist() == [
        [2, d, v, s] for d in (2, 4) for v in ("conv-relu", "free") for s in (0, 2)
    ]
    data = grid_runs._data("sample")
    alone = train_cell(2, 4, "free", 0, data=data, stages=(0, 2), batch_size=64, probe_images=64)
    mine = table[(table.d == 4) & (table.variant == "free")].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine[list(alone.columns)], alone, rtol=1e-4)  # another number of threads
    assert record.threads == 1 and record.wall_seconds == pytest.approx(
        table.groupby(["d", "variant"]).seconds.first().sum()
    )


def test_the_record_is_read_back(record, tmp_path):
    folder = tmp_path / "channel_grid" / "x"
    again = run(GridConfig(**TINY), root=tmp_path, quiet=True)
    same(again, record)
    folder = GridConfig(**TINY).folder(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "grid.json", "measurements.parquet"]
    stored = read(folder)
    pd.testing.assert_frame_equal(stored.measurements, again.measurements)
    assert stored.model_dump() == again.model_dump()
    assert stored.command == GridConfig(**TINY).command()
    assert set(stored.git) == {"commit", "dirty"} and stored.data["source"] == "sample"
    before = (folder / "grid.json").stat().st_mtime_ns
    same(run(GridConfig(**TINY), root=tmp_path), stored)  # at once, from the record
    assert (folder / "grid.json").stat().st_mtime_ns == before


def test_an_interrupted_grid_goes_on(record, tmp_path, monkeypatch):
    trained, made = grid_runs._trained, []

    def stops_after_two(cell, chosen):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(cell)
        return trained(cell, chosen)

    monkeypatch.setattr(grid_runs, "_trained", stops_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(GridConfig(**TINY), root=tmp_path, quiet=True)
    folder = GridConfig(**TINY).folder(tmp_path)
    assert len(list((folder / "cells").glob("*.cell"))) == 2 and not (folder / "grid.json").exists()
    monkeypatch.setattr(grid_runs, "_trained", lambda cell, chosen: made.append(cell) or trained(cell, chosen))
    same(run(GridConfig(**TINY), root=tmp_path, quiet=True), record)
    assert len(made) == len(set(made)) == 4  # none twice


def test_a_damaged_cell_is_trained_again(record, tmp_path, monkeypatch):
    folder = GridConfig(**TINY).folder(tmp_path)
    monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)  # keep the cells
    run(GridConfig(**TINY), root=tmp_path, quiet=True)
    monkeypatch.undo()
    (folder / "grid.json").unlink()
    first, second, *_ = sorted((folder / "cells").glob("*.cell"))
    first.write_bytes(first.read_bytes()[:-20])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    second.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged: this cell is trained again") as warned:
        same(run(GridConfig(**TINY), root=tmp_path, quiet=True), record)
    assert len(warned) == 2


def test_a_committed_record_is_read_when_asked_for(record, tmp_path, monkeypatch):
    committed, mine = tmp_path / "results", tmp_path / "runs"
    run(GridConfig(**TINY), root=committed, quiet=True)
    monkeypatch.setattr(grid_runs, "results_root", lambda: committed)
    monkeypatch.setattr(grid_runs, "_trained", None)
    same(run(GridConfig(**TINY, stored=True), root=mine), record)
    assert not mine.exists()
    with pytest.raises(TypeError):  # it would train: not asked for, or another grid
        run(GridConfig(**TINY), root=mine, quiet=True)
    with pytest.raises(TypeError):
        run(GridConfig(**TINY | {"seeds": 2}, stored=True), root=mine, quiet=True)


def test_a_committed_record_is_found_from_another_kind_of_device(record, tmp_path, monkeypatch):
    run(GridConfig(**TINY), root=tmp_path / "results", quiet=True)
    monkeypatch.setattr(grid_runs, "results_root", lambda: tmp_path / "results")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    same(run(GridConfig(**TINY, stored=True), root=tmp_path / "runs"), record)


def test_the_head_is_part_of_a_grid_and_the_default_one_is_that_of_the_first_records():
    mean, linear = GridConfig(preset="desk", device="cpu"), GridConfig(preset="desk", device="cpu", head="linear")
    assert mean.digest() != linear.digest() and linear.command().endswith("-p head linear")
    assert read(mean.folder(results_root())).digest == mean.digest()
    with pytest.raises(ConfigError, match="head 'max' is unknown"):
        GridConfig(head="max")


def test_the_description_says_what_was_run(record):
    told = record.describe()
    assert (
        "Preset **smoke**: 1 × 2 pairs" in told
        and "2 variants, 1 seeds (0 to 0); 2 steps of 64 images (cifar10, sample)" in told
    )
    assert record.command in told and record.short_commit in told


def test_processes_change_nothing(record, tmp_path):
    same(run(GridConfig(**TINY, workers=2), root=tmp_path, quiet=True), record)


def test_a_column_that_is_the_same_experiment_is_trained_once(tmp_path, monkeypatch):
    made, trained = [], grid_runs._trained
    monkeypatch.setattr(grid_runs, "_trained", lambda cell, chosen: made.append(cell) or trained(cell, chosen))
    values = TINY | {"in_channels": "2 4", "variants": "conv published", "stages": "0"}
    table = run(GridConfig(**values), root=tmp_path, quiet=True).measurements
    assert sorted(made) == [(2, 2, "conv"), (2, 4, "conv"), (4, 2, "conv"), (4, 2, "published"), (4, 4, "conv")]
    conv, published = (table[table.variant == v].set_index(["c", "d"]).log_ratio for v in ("conv", "published"))
    assert len(conv) == len(published) == 4
    differs = conv != published
    assert differs[differs].index.tolist() == [(4, 2)]
    # √(d/c) = √½ in place of 1: the gradient shrinks by that factor, and the ratio grows by √2 (the loss differs a little).
    assert published[4, 2] - conv[4, 2] == pytest.approx(0.5 * 0.6931472, abs=0.02)


def test_cells_of_several_commits_are_said(tmp_path, monkeypatch):
    trained, state = grid_runs._trained, {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr(records, "git_state", lambda: dict(state))

    def fails_at_last(cell, chosen):
        if cell == (2, 2, "free") and state["commit"][0] == "a":
            raise KeyboardInterrupt
        return trained(cell, chosen)

    monkeypatch.setattr(grid_runs, "_trained", fails_at_last)
    with pytest.raises(KeyboardInterrupt):
        run(GridConfig(**TINY), root=tmp_path, quiet=True)
    state["commit"] = "b" * 40
    record = run(GridConfig(**TINY), root=tmp_path, quiet=True)
    assert record.git == {"commit": None, "dirty": None, "several": ["aaaaaaaa", "bbbbbbbb"]}
    assert record.measurements.groupby("commit").size().to_dict() == {"aaaaaaaa": 6, "bbbbbbbb": 2}


COMMITTED = sorted((results_root() / "channel_grid").iterdir())


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: p.name)
def test_committed_grids_are_whole_clean_and_of_the_parameters_they_say(folder):
    record = read(folder)
    assert record.git["commit"] and not record.git["dirty"]
    assert record.data["source"] in ("torchvision", "npm")
    if record.device["type"] == GridConfig().resolve().device.split(":")[0]:
        config = GridConfig(**record.config)
        assert config.digest() == record.digest and config.folder(results_root()) == folder
        assert config.command() == record.command
    c, table = record.config, record.measurements
    cells = len(c["in_channels"]) * len(c["out_channels"]) * len(c["variants"])
    assert len(table) == cells * c["seeds"] * len(c["stages"])
    assert not table.duplicated(["c", "d", "variant", "seed", "step"]).any()


def test_the_desk_grid_is_committed():
    assert GridConfig(preset="desk", device="cpu").folder(results_root()) in COMMITTED


# -- what goes wrong ---------------------------------------------------------------------------------------------
def test_damaged_records_are_refused(tmp_path):
    config = GridConfig(**TINY | {"stages": "0", "out_channels": 2})
    with pytest.raises(RecordError, match=r"there is no grid at .*grid\.json is missing"):
        read(tmp_path)
    run(config, root=tmp_path, quiet=True)
    folder = config.folder(tmp_path)
    summary, table = folder / "grid.json", folder / "measurements.parquet"
    whole, content = summary.read_bytes(), table.read_bytes()
    for damaged in (b"{", b"[]", b"\xff", whole.replace(b'"digest"', b'"digested"')):
        summary.write_bytes(damaged)
        with pytest.raises(RecordError, match="is not a readable grid .*; delete it and run it again"):
            run(config, root=tmp_path)
    summary.write_bytes(whole)
    table.write_bytes(content[:-1])
    with pytest.raises(RecordError, match="checksum is not the recorded one"):
        read(folder)
    table.unlink()
    with pytest.raises(RecordError, match="measurements.parquet is missing"):
        read(folder)
    table.write_bytes(content)
    summary.write_text(json.dumps(json.loads(whole) | {"digest": "0"}))
    with pytest.raises(RecordError, match="holds another grid"):
        run(config, root=tmp_path)


@pytest.mark.parametrize("plan", [b'{"digest": "0"}', b"{", b"[]", b'{"digest"', None])
def test_the_cells_of_another_grid_are_not_taken(plan, tmp_path):
    folder = GridConfig(**TINY).folder(tmp_path)
    folder.mkdir(parents=True)
    plan = plan or json.dumps({"digest": GridConfig(**TINY).digest()}).encode()  # only that
    (folder / "plan.json").write_bytes(plan)
    with pytest.raises(RecordError, match="holds the cells of another grid"):
        run(GridConfig(**TINY), root=tmp_path, quiet=True)
    assert (folder / "plan.json").read_bytes() == plan


def test_a_grid_that_others_made_is_finished_with_their_provenance(record, tmp_path, monkeypatch):
    """All cells are of commit a; commit b only puts them together."""
    state = {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr(records, "git_state", lambda: dict(state))
    write = records.write_tables
    monkeypatch.setattr(records, "write_tables", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(GridConfig(**TINY), root=tmp_path, quiet=True)
    monkeypatch.setattr(records, "write_tables", write)
    state["commit"] = "b" * 40
    found = run(GridConfig(**TINY), root=tmp_path, quiet=True)
    assert found.git == {"commit": "a" * 40, "dirty": False} and len(found.sessions) == 1


def test_another_kind_of_device_is_another_grid(monkeypatch):
    here = GridConfig(preset="desk").digest()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    there, cpu = GridConfig(preset="desk"), GridConfig(preset="desk", device="cpu")
    assert cpu.digest() == here != there.digest() and cpu.folder("r") != there.folder("r")
    assert cpu.command() == "python -m paperlib grid -p preset desk -p device cpu"
    assert GridConfig().resolve().preset in ("paper", os.environ.get("PAPERLIB_PRESET"))


def test_two_processes(tmp_path):
    folder = GridConfig(**TINY).folder(tmp_path)
    folder.mkdir(parents=True)
    with (
        filelock.FileLock(folder / ".lock"),
        pytest.raises(PaperlibError, match="another process is working on this grid"),
    ):
        run(GridConfig(**TINY), root=tmp_path)


def test_a_full_disk(record, tmp_path, monkeypatch):
    write, count = records.write_atomically, []

    def full(path, content):
        count.append(path.name)
        if len(count) == 4:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(records, "write_atomically", full)
    with pytest.raises(RecordError, match="No space left on device.*finished cells are kept"):
        run(GridConfig(**TINY), root=tmp_path, quiet=True)
    same(run(GridConfig(**TINY), root=tmp_path, quiet=True), record)
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


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PaperlibError, match="cannot be written .*set PAPERLIB_RUNS"):
        run(GridConfig(**TINY), root=tmp_path / "file")


# -- the command -------------------------------------------------------------------------------------------------
def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    words = [w for name, value in TINY.items() for w in ("-p", name, str(value))]
    assert command.main(["grid", *words]) == 0
    told = capsys.readouterr().out
    assert "4 cells and variants, 1 seeds, measured after 0, 2 steps" in told
    assert str(GridConfig(**TINY).folder(tmp_path) / "grid.json") in told
    for bad, said in (("-p seed 3", "did you mean 'seeds'"), ("-p variants best", "variant 'best' is unknown")):
        assert command.main(["grid", *bad.split()]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and said in err and err.count("\n") == 1


PROGRAM = """
import os, signal, sys
from paperlib import grid_runs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born with it ignored
save, n = grid_runs._save_cell, []
def _save_cell(*arguments):
    save(*arguments)
    n.append(1)
    if len(n) == 1: os.kill(os.getpid(), getattr(signal, sys.argv[1]))
grid_runs._save_cell = _save_cell
grid_runs.run(grid_runs.GridConfig(**{config!r}), root={root!r})
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
    program = PROGRAM.format(config=TINY | {"workers": workers}, root=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program, name],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"TEST_MARK": mark},
    )
    assert done.returncode == status, done.stderr
    assert "You could benefit" not in done.stderr
    assert len(list((GridConfig(**TINY).folder(tmp_path) / "cells").glob("*.cell"))) >= 1
    if name != "SIGKILL":  # after that the workers end with the cell they are at
        deadline = time.monotonic() + 20
        while processes_of(mark) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert processes_of(mark) == []
    same(run(GridConfig(**TINY), root=tmp_path, quiet=True), record)


def test_work_for_a_process_that_is_gone_is_not_done(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", lambda status: ended.append(status) or (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        grid_runs._trained((2, 2, "free"), GridConfig(**TINY).resolve(), parent=os.getppid() + 1)
    assert ended == [1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "died or found no memory .*fewer workers; finished cells are kept"),
        (torch.OutOfMemoryError("CUDA"), "died or found no memory .*fewer workers"),
        (
            torch.linalg.LinAlgError("svd: no convergence\nmore"),
            r"decomposition failed \(svd: no convergence\); finished cells",
        ),
    ],
)
def test_what_goes_wrong_in_a_cell_is_said(error, said, tmp_path, monkeypatch):
    def fails(key, chosen):
        raise error

    monkeypatch.setattr(grid_runs, "_trained", fails)
    with pytest.raises(PaperlibError, match=said) as e:
        run(GridConfig(**TINY), root=tmp_path, quiet=True)
    assert "\n" not in str(e.value)


def test_a_worker_that_dies_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(grid_runs, "_trained", _dies)
    with pytest.raises(PaperlibError, match=r"died or found no memory \(TerminatedWorkerError\)"):
        run(GridConfig(**TINY, workers=2), root=tmp_path, quiet=True)


def _dies(key, chosen, parent):
    os.kill(os.getpid(), 9)
