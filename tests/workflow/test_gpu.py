"""The queue of a GPU's runs: its order, and that what the time cuts off goes on at the next call."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from emulated_graphs import at_launch, emulate
from tiny import tiny

from paperlib import claims
from paperlib.__main__ import main
from paperlib.claims import overhead
from paperlib.claims.channel_grid import GridClaim
from paperlib.studies.overhead import METHODS

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "workflow" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_queue_begins_with_a_seed_of_everything(gpu):
    batches = list(gpu.queue([20, 83, 164], [0, 1, 2], "bfloat16"))
    names = [[(c.arch, c.depth, c.seed, c.schedule) for c in batch] for batch in batches]
    assert [{depth for _, depth, _, _ in batch} for batch in names[:4]] == [{20}, {83}, {164}, {164}]
    assert {arch for arch, *_ in names[0]} == {"plain", "resnet", "procresnet"}
    assert all(seed == 0 for batch in names[:4] for _, _, seed, _ in batch)
    assert names[3] == [("resnet", 164, 0, "steps"), ("procresnet", 164, 0, "steps")]
    every = [name for batch in batches for name in [c.model_dump_json() for c in batch]]
    assert len(set(every)) == len(every)
    assert all(c.preset == "paper" for batch in batches for c in batch)


def test_when_the_time_is_up_everything_is_saved_and_goes_on(gpu, tmp_path, monkeypatch, capsys):
    emulate(monkeypatch)
    batches = [[tiny(seed=seed, epochs=2) for seed in (0, 1)], [tiny(arch="procresnet", epochs=2)]]
    with monkeypatch.context() as patch:
        at_launch(patch, 11, lambda: gpu.signal.raise_signal(gpu.signal.SIGTERM))
        gpu.work(batches, 1000, tmp_path)
    told = capsys.readouterr().out
    assert "The time is up" in told and told.count("interrupted after 1 epochs") == 2
    gpu.work(batches, 1000, tmp_path)
    told = capsys.readouterr().out
    assert told.count("finished, 2 epochs") == 3 and "2 runs side by side" in told
    gpu.work(batches, 0.0, tmp_path)  # nothing is left to do, or it is stopped before it is begun
    assert capsys.readouterr().out.count("finished, 2 epochs") == 3


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, True),
        ({"depth 164": {"bfloat16, graphs and fused: images per second": 10}}, True),
        ({"depth 164": {"bfloat16, graphs and fused: images per second": 10,
                        "bfloat16, graphs and fused blocks: images per second": 11}}, "blocks"),
        ({"depth 20": {"bfloat16, graphs and fused: images per second": 10,
                       "bfloat16, graphs and fused blocks: images per second": 11},
          "depth 164": {"bfloat16, graphs and fused: images per second": 11,
                        "bfloat16, graphs and fused blocks: images per second": 10}}, True),
    ],
)  # fmt: skip
def test_the_faster_kernels_are_taken(gpu, tmp_path, content, found):
    file = tmp_path / "gpu_step.json"
    assert gpu.faster(file, "bfloat16") is True  # nothing was measured
    file.write_text(json.dumps({"batch_size": 128} | content))
    assert gpu.faster(file, "bfloat16") == found
    assert gpu.faster(file, "float32") is True
    batches = gpu.queue([20], [0], "bfloat16", fused=found)
    assert {c.fused for batch in batches for c in batch} == {found}


@pytest.mark.parametrize(
    ("wanted", "blocks", "others", "left"),
    [("auto", True, True, "auto"), ("auto", False, True, "layers"), ("auto", None, True, "layers"),
     ("layers", False, True, "layers"), ("auto", True, False, None), ("blocks", False, True, None),
     ("blocks", True, True, "blocks"), ("auto", True, None, "auto")],
)  # fmt: skip
def test_kernels_whose_tests_fail_are_not_taken(gpu, monkeypatch, wanted, blocks, others, left):
    """``None``: the tests were not done in time."""
    monkeypatch.setattr(gpu, "check", lambda seconds, which: blocks if which == "blocks" else others)
    if left is None:
        with pytest.raises(SystemExit, match="no run is made"):
            gpu.check_all(wanted, 1.0)
    else:
        assert gpu.check_all(wanted, 1.0) == left


def top_level_imports(file, known):
    """What is imported as soon as a test file is, by it and by the tests' own modules."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in {name.split(".")[0] for name in names} - known:
            own = next((path for path in (file.parent / f"{name}.py", TESTS / f"{name}.py") if path.exists()), None)
            known |= {name}
            found |= top_level_imports(own, known) if own else {name}
    return found


def test_the_tests_for_a_device_need_nothing_of_the_book(gpu):
    files = [ROOT / name for name in gpu.files()]
    assert TESTS / "fused" / "test_blocks.py" in files and Path(__file__) not in files
    # The conftests of their folders are imported with them.
    files += [path for file in files if (path := file.parent / "conftest.py").exists()]
    needed = {name for file in files for name in top_level_imports(file, set())} - set(sys.stdlib_module_names)
    assert needed <= {"numpy", "pandas", "hypothesis", "paperlib", "pytest", "scipy", "torch", "torchvision", "triton"}


def test_the_tests_for_a_device_are_those_that_are_marked(gpu):
    """No other file has one, whatever way it is marked."""
    others = {path for path in TESTS.rglob("*.py") if re.search(r"mark\W*cuda", path.read_text())}
    assert others - {ROOT / name for name in gpu.files()} == {TESTS / "kernels.py"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "cuda", *gpu.files()],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    collected = {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert collected == set(gpu.files())


def test_the_projection_s_cost_is_measured_once(gpu, tmp_path, monkeypatch, capsys):
    """Of four claims the first two are measured before the time is up; the next call goes on with the third."""
    table = pd.DataFrame({"round": range(3), "load": 1.0, "step": 1.0, "library": 0.1} | dict.fromkeys(METHODS, 0.1))
    monkeypatch.setattr(overhead, "_seconds", lambda *sizes: table)
    both = [table[["round", "load", "step", "iteration"]].assign(depth=depth, recomputed=False) for depth in (20, 29)]
    monkeypatch.setattr(overhead, "deepening", lambda *sizes: pd.concat(both))
    calls = []

    def run(command, cwd, timeout, env):
        """The command itself, in this process; at first it is stopped after two claims."""
        calls.append(command[4:])
        assert command[1:3] == ["-m", "paperlib"] and timeout == 60
        first = calls[-1] if len(calls) > 1 else [*command[4:6], *command[8:]]
        assert main([command[3], *first]) == 0
        if len(calls) == 1:
            raise subprocess.TimeoutExpired(command, timeout)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(gpu, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))
    for _ in range(3):
        gpu.judge(gpu.COSTS, 60, tmp_path, "--seeds", "3", preset="smoke")
    rest = ["--preset", "smoke", "--seeds", "3", "--out", str(tmp_path)]
    assert calls == [["O1a", "O1b", "O1c", "O1d", *rest], ["O1c", "O1d", *rest]]
    assert "O1a, O1b, O1c, O1d: what was measured, or trained for them, is kept" in capsys.readouterr().out
    assert {finding.claim for finding in claims.read_all(tmp_path)} == {"O1a", "O1b", "O1c", "O1d"}


def test_a_grid_that_was_not_done_in_time_goes_on_with_the_cells_that_are_missing(gpu, tmp_path, monkeypatch, capfd):
    """The command itself, in a process of its own, which is killed once a cell is finished."""
    monkeypatch.setenv("PAPERLIB_PRESET", "smoke")

    def run(command, cwd, timeout, env):
        with subprocess.Popen(command, cwd=cwd, env=env) as process:
            while not list(tmp_path.rglob("*.cell")):
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        raise subprocess.TimeoutExpired(command, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(gpu, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))
        gpu.judge(["F2a"], 60, tmp_path, preset="smoke")
    assert (
        "F2a: what was measured, or trained for them, is kept; not all of it was done within" in capfd.readouterr().out
    )
    finished = {cell.name: cell.read_bytes() for cell in tmp_path.rglob("*.cell")}
    assert finished and not claims.read_all(tmp_path)
    kept = []
    monkeypatch.setattr("paperlib.channel_grid.work._save_cell", lambda path, *rest: kept.append(path.name))
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    assert main(["measure", "F2a", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    assert kept and not finished.keys() & set(kept)
    assert [finding.claim for finding in claims.read_all(tmp_path)] == ["F2a"]


def test_the_claims_of_the_grids_are_all_that_read_one(gpu):
    assert set(gpu.GRIDS) == {name for name, claim in claims.CLAIMS.items() if isinstance(claim, GridClaim)}


def test_the_first_steps_are_those_of_a_run(gpu):
    gpu.first_steps(tiny())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--depths", "21"], "depth 21 is not of the form"),
        (["--skip", "tests", "benchmark", "claims", "grids"], "CUDA devices found: 0"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(gpu, monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main(arguments) == 1
    assert sentence in capsys.readouterr().err
