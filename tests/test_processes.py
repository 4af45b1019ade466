"""One run on several processes: the same numbers as alone, the same checkpoints, and an end that all of them share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import worker
from tiny import RUN, tiny
from worker import STEADY

from paperlib import __main__ as command
from paperlib import checkpoints, processes, records, training
from paperlib.errors import ConfigError, PaperlibError
from paperlib.processes import Processes, World
from paperlib.training.run import Run

HERE = Path(__file__).parent
WORDS = [w for name, value in (RUN | STEADY).items() for w in ("-p", name, str(value))]


def torchrun(*words, **environment):
    """Two processes of one thread; returns what came of them."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return training.train(tiny(**STEADY), root=tmp_path_factory.mktemp("whole"), quiet=True)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a run of one process that was stopped after its first epoch."""
    root, save = tmp_path_factory.mktemp("begun"), Run.save

    def die(self):
        save(self)
        raise Stop

    with pytest.MonkeyPatch.context() as m:
        m.setattr(Run, "save", die)
        with pytest.raises(Stop):
            training.train(tiny(**STEADY), root=root, quiet=True)
    return root


@pytest.fixture(scope="module")
def found(tmp_path_factory, begun):
    """What two processes computed, and what one does."""
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    done = torchrun(HERE / "worker.py", "compare", two, begun)
    assert done.returncode == 0, done.stderr
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return json.loads((two / "found.json").read_text()), worker.compared(World(), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("n", worker.SIZES)
def test_a_step_is_that_of_one_process(found, n):
    """Loss, gradients, norms at the blocks, statistics, for parts of equal and unequal sizes, and an empty one."""
    two, one = (each[str(n)] for each in found)
    assert two.keys() == one.keys()
    for name, value in one.items():
        # The loss is rounded to float32 on its way to the gradients' scale.
        assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-8), name


@pytest.mark.slow
def test_ten_steps_have_the_same_losses(found):
    two, one = found
    assert len(one["losses"]) == 10
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["float64"] == pytest.approx(one["float64"], rel=1e-6)
    assert two["variance"] == pytest.approx(one["variance"], rel=1e-4)
    for ratios in ("initial", "ratio"):
        assert two[ratios] == pytest.approx(one[ratios], rel=1e-2)
    assert two["settings"] == one["settings"] | {"processes": "2"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kernel", "gradient"])
def test_a_divergence_names_the_same_block(found, kind):
    two, one = found
    assert two[kind] == one[kind]
    assert two[kind]["what"] == ("loss" if kind == "kernel" else "gradient")


@pytest.mark.slow
def test_all_processes_fail_together(found):
    assert found[0]["refused"] == [["no room", "they differ"]] * 2


def same_files(one, other):
    """Checkpoints of one run, with the same names everywhere."""
    a, b = (checkpoints.read(folder, "cpu") for folder in (one, other))
    assert a["model"].keys() == b["model"].keys()
    assert not any(name.startswith("module.") for name in a["model"])
    assert a["config"] == b["config"]
    assert a["probe"].keys() == b["probe"].keys() and a["state"].keys() == b["state"].keys()
    assert all(v.shape == b["model"][k].shape and v.dtype == b["model"][k].dtype for k, v in a["model"].items())


def close(one, other):
    """The same run, the rounding being another."""
    assert one.config.digest() == other.config.digest()
    for name in ("train_loss", "clean_train_loss", "test_loss"):
        assert list(other.epochs[name]) == pytest.approx(list(one.epochs[name]), rel=1e-3), name
    assert list(other.initial.ratio) == pytest.approx(list(one.initial.ratio), rel=1e-2)
    same_files(one.folder, other.folder)


@pytest.mark.slow
def test_what_one_process_began_several_finish(found, begun, whole):
    (record,) = records.read_all(begun)
    assert [s.settings.get("processes") for s in record.provenance.sessions] == [None, "2"]
    assert len(record.epochs) == 3
    assert record.epochs.iloc[0].equals(whole.epochs.iloc[0])
    close(whole, record)


@pytest.mark.slow
def test_killed_then_stopped_then_finished_alone(tmp_path, whole, monkeypatch):
    """A dead process ends the run with one sentence; SIGTERM to torchrun saves; one process goes on."""
    folder = tiny(**STEADY).resolve().folder(tmp_path)
    killed = torchrun(HERE / "worker.py", "kill", tmp_path, "train", *WORDS, PAPERLIB_RUNS=str(tmp_path))
    assert killed.returncode != 0
    assert killed.stderr.count(processes.LOST) == 1 and killed.stderr.count("error: ") == 1
    state = checkpoints.read(folder, "cpu")["state"]
    assert (state["epoch"], state["step"]) == (2, 0)
    stopped = torchrun(HERE / "worker.py", "term", tmp_path, "train", *WORDS, PAPERLIB_RUNS=str(tmp_path))
    assert stopped.returncode != 0
    assert stopped.stderr.count("run it again to go on") == 1
    assert stopped.stderr.count("interrupted: run the same command again") == 1
    state = checkpoints.read(folder, "cpu")["state"]
    assert (state["epoch"] - 1) * 4 + state["step"] >= 4 + 6
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    with pytest.warns(UserWarning, match="was started with 2 processes and goes on with 1"):
        assert command.main(["train", *WORDS]) == 0
    record = records.read(folder)
    assert [s.settings.get("processes") for s in record.provenance.sessions] == ["2", "2", None]
    close(whole, record)


@pytest.mark.slow
def test_bad_parameters_are_said_once(tmp_path):
    done = torchrun("-m", "paperlib", "train", "-p", "depth", "21", PAPERLIB_RUNS=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.count("error: depth 21 is not of the form") == 1
    assert not list(tmp_path.iterdir())


# -- in this process -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 128])
def test_the_parts_are_the_whole(size, n):
    parts = []
    for rank in range(size):
        world = World()
        world.rank, world.size = rank, size
        part = world.part(10, 10 + n)
        parts.append(list(range(part.start, part.stop)))
    assert sum(parts, []) == list(range(10, 10 + n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_devices_are_checked(monkeypatch):
    world = Processes.__new__(Processes)
    world.rank, world.size = 0, 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="is one device for 2 processes: use device cuda"):
        world.check("cuda:1")
    with pytest.raises(ConfigError, match="2 processes need as many CUDA devices, and there are 1"):
        world.check("cuda")
    world.check("cpu")


def test_only_train_is_for_several_processes(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command.main(["run"]) == 1
    assert "torchrun is for paperlib train" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert command.main(["run"]) == 1
    assert capsys.readouterr().err == (
        "error: the environment variable WORLD_SIZE must be a whole number, not 'two': remove it\n"
    )


def test_a_lost_process_is_told_from_other_errors():
    assert processes._is_loss(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert not processes._is_loss(RuntimeError("out of memory"))
    assert not processes._is_loss(PaperlibError("the connection reset"))


def test_training_without_torchrun(tmp_path, monkeypatch, capsys, whole):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    assert command.main(["train", *WORDS]) == 0
    told = capsys.readouterr().out
    record = records.read(tiny(**STEADY).resolve().folder(tmp_path))
    assert record.epochs.equals(whole.epochs) and record.provenance.last.settings == {"deterministic": "yes"}
    assert f"test error   {record.final['test_error']:.2f} %" in told
    assert str(record.folder / "record.json") in told and record.left_out in told
