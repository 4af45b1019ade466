"""The paper's runs in the time that a GPU is there for.

    python workflow/gpu.py --minutes 15

First the tests that need a device, then the speed of training steps and what the projection costs, which a GPU decides,
then the channel grids, which decide three claims and may take all the time that is left, then the paper's runs from a
queue, side by side, until the time is up.  What is on record is left out, a grid goes on with the cells that are
missing, and interrupted runs go on from their checkpoints, so the same command again continues where the last one
stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from paperlib import checkpoints, cifar, claims
from paperlib.claims.overhead import Cost
from paperlib.config import RunConfig
from paperlib.errors import PaperlibError
from paperlib.models import Arch, Fused
from paperlib.records import Record
from paperlib.store.places import runs_root
from paperlib.training import BenchmarkRun, train_together

CHECKOUT = Path(__file__).resolve().parent.parent
FUSED: dict[str, Fused] = {"layers": True, "blocks": "blocks"}
SAVING = 20  # seconds before the end in which everything is saved
COSTS = [name for name, claim in claims.CLAIMS.items() if claim.on_gpu]
GRIDS = ("F2a", "F2b", "P3")  # the first two take a grid each, and the third both
MARKED = r"^@(pytest\.mark\.cuda|RUNS)$"  # in front of a test that needs a device
STARTING = 25  # seconds that the benchmark takes beside its timings


def queue(
    depths: list[int], seeds: list[int], precision: str, device: str = "cuda", fused: Fused = True
) -> Iterator[list[RunConfig]]:
    """What to train, as batches of runs that are trained side by side.

    First comes one seed of Figures 3 and 4 and of Table I (100 epochs at a constant rate), then Table II's networks
    (300 epochs), then the other seeds, EraseReLU and depth 272.
    """
    common: dict[str, Any] = {"preset": "paper", "device": device, "precision": precision, "fused": fused}
    pair = ("resnet", "procresnet")
    for i, seed in enumerate(seeds):
        for depth in depths:
            constant = common | {"schedule": "constant", "depth": depth, "seed": seed}
            yield [RunConfig(**constant, arch=arch) for arch in get_args(Arch)]
        if i == 0:
            yield [RunConfig(**common, arch=arch, depth=164, seed=seed) for arch in pair]
    yield [RunConfig(**common, arch=arch, depth=164, seed=seed) for seed in seeds[1:] for arch in pair]
    yield [RunConfig(**common, arch=arch, depth=164, erase_relu=True, seed=seed) for seed in seeds for arch in pair]
    yield [RunConfig(**common, arch="procresnet", depth=272, seed=seed) for seed in seeds]


def state(config: RunConfig, root: Path | None) -> str:
    """How far a run is, in words; nothing if it was not begun."""
    folder = config.resolve().folder(root)
    if (folder / Record.FILE).exists():
        record = Record.read(folder)
        last, seconds = record.epochs.iloc[-1], sum(record.epoch_seconds) / len(record.epoch_seconds)
        error = f"test error {last.test_error:.2f} %"
        return f"{record.status}, {len(record.epochs)} epochs, {error}, {seconds:.2f} s an epoch"
    content = checkpoints.read(folder, "cpu")
    if content is None:
        return ""
    epochs = content["state"]["epochs"]
    error = f", test error {epochs[-1]['test_error']:.2f} %" if epochs else ""
    return f"interrupted after {len(epochs)} epochs{error}"


def work(batches: list[list[RunConfig]], seconds: float, root: Path | None) -> None:
    """Train one batch after another for so long; whatever is under way then is saved."""
    timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGTERM])
    timer.daemon = True
    before = signal.signal(signal.SIGTERM, _stop)  # between two batches, too, it ends in good order
    try:
        timer.start()
        for batch in batches:
            began = time.monotonic()
            train_together(batch, root, quiet=True)
            print(f"{len(batch)} runs side by side, {time.monotonic() - began:.0f} s", flush=True)
    except SystemExit:
        print("The time is up. The same command goes on from here.", flush=True)
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
        for config in (config for batch in batches for config in batch):
            try:
                found = state(config, root)
            except PaperlibError as error:
                found = str(error)
            if found:
                print(f"{config.resolve().stem()}: {found}", flush=True)


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def first_steps(config: RunConfig) -> None:
    """An epoch's steps, for which kernels are compiled; one of the sizes is that of the last batch."""
    run = BenchmarkRun(config.resolve())
    run(math.ceil(run.run.config.train_images / run.run.config.batch_size))


def compile_kernels(device: str = "cuda") -> list[Any]:
    """Begin to compile the kernels, in processes beside each other; Triton keeps them for all that come later."""
    common: dict[str, Any] = {"preset": "paper", "depth": 20, "device": device, "cuda_graphs": False,
                              "train_images": 5 * 128 + 80, "test_images": 10}  # fmt: skip
    configs = [
        RunConfig(**common, arch=arch, precision=precision, fused=fused)
        for precision in ("bfloat16", "float32")
        for fused in ("blocks", True)
        for arch in ("resnet", "plain")
    ]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=first_steps, args=(config,), daemon=True) for config in configs]
    for process in processes:
        process.start()
    return processes


def finish_compiling(processes: list[Any], seconds: float) -> None:
    """Wait for the kernels, for so long at most; what is not compiled then is compiled where it is first needed."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        process.terminate()


def faster(measured: Path, precision: str) -> Fused:
    """Which fused kernels took less time at the greatest depth where both were measured; the layers' if none was."""
    try:
        content = json.loads(measured.read_text())
    except (OSError, ValueError):
        return True
    found: Fused = True
    for depth in sorted((key for key in content if key.startswith("depth ")), key=lambda key: int(key.split()[1])):
        speeds = [
            content[depth].get(f"{precision}, graphs and fused{what}: images per second") for what in ("", " blocks")
        ]
        if all(speeds):
            found = "blocks" if speeds[1] > speeds[0] else True
    return found


def files() -> list[str]:
    """The files with tests that need a device.  To collect the others takes what only the book needs."""
    tests = sorted((CHECKOUT / "tests").rglob("test_*.py"))
    return [str(f.relative_to(CHECKOUT)) for f in tests if re.search(MARKED, f.read_text(), re.MULTILINE)]


def bounded(command: list[str], seconds: float, late: str, root: Path | None = None) -> int | None:
    """The exit status of a command in the checkout; if it takes longer than that, ``late`` is said, and it is None.

    ``root``: where the command leaves its runs.
    """
    environment = os.environ | ({} if root is None else {"PAPERLIB_RUNS": str(root)})
    try:
        return subprocess.run(command, cwd=CHECKOUT, timeout=seconds, env=environment).returncode
    except subprocess.TimeoutExpired:
        print(f"{late} within {seconds:.0f} s.", flush=True)
        return None


def check(seconds: float, which: str) -> bool | None:
    """Whether the tests that need a device and that pytest's ``-k`` selects pass; None if they take longer than that.

    The first that fails ends them.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "cuda", "-k", which, "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", "4"]
    status = bounded([*command, *files()], seconds, "The tests were stopped: they did not end")
    return None if status is None else status == 0


def check_all(wanted: str, seconds: float) -> str:
    """Which kernels are left to choose from, ``wanted`` ones or fewer; ``SystemExit`` if another test fails.

    Blocks are left only where all of their tests passed.
    """
    blocks = wanted != "layers" and check(seconds / 2, "blocks")
    if check(seconds / 2, "not blocks") is False or (wanted == "blocks" and blocks is False):
        raise SystemExit("A test fails on this device: no run is made. Give --skip tests to make them all the same.")
    return wanted if blocks else "layers"


def measure(seconds: float, out: Path) -> None:
    """The speed of steps at depth 164 beside the textbook loop, for so long at most; kept in a file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)  # what another device or version was measured at
    limits = ["--depths", "164", "--rounds", "2", "--steps", "15", "--budget", str(max(5.0, seconds - STARTING))]
    command = [sys.executable, "benchmarks/gpu_step.py", *limits, "--out", str(out)]
    bounded(command, seconds, "The benchmark was stopped: it did not end")


def judge(names: Sequence[str], seconds: float, root: Path, *options: str, preset: str = "paper") -> None:
    """Measure those of these claims that have no finding yet, for so long at most."""
    known = {(finding.claim, finding.preset) for finding in claims.read_all(root)}
    left = [name for name in names if (name, preset) not in known]
    command = [sys.executable, "-m", "paperlib", "measure", *left, "--preset", preset, *options, "--out", str(root)]
    if left:
        late = f"{', '.join(left)}: what was measured, or trained for them, is kept; not all of it was done"
        bounded(command, seconds, late, root)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="of the GPU, all parts together (15)")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 83, 164], help="of Figures 3 and 4 (20 83 164)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="in this order (0 1 2)")
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"], help="of activations")
    parser.add_argument("--fused", default="auto", choices=["auto", *FUSED],
                        help="kernels for layers or whole blocks; auto: what the benchmark finds faster")  # fmt: skip
    parser.add_argument("--skip", nargs="+", default=[], choices=["tests", "benchmark", "claims", "grids"],
                        help="parts to leave out")  # fmt: skip
    parser.add_argument("--root", type=Path, help="the folder of all runs (PAPERLIB_RUNS, else runs/)")
    chosen = parser.parse_args(arguments)
    end = time.monotonic() + 60 * chosen.minutes - SAVING
    root = (chosen.root or runs_root()).absolute()
    measured = root / "gpu_step.json"
    try:
        first = next(queue(chosen.depths, chosen.seeds, chosen.precision))[0].resolve()  # is there a device?
        cifar.load(first.dataset, first.source)  # and the data?
        compiling = compile_kernels()
        if "tests" not in chosen.skip:
            chosen.fused = check_all(chosen.fused, (end - time.monotonic()) / 3)
        finish_compiling(compiling, 60)
        if "benchmark" not in chosen.skip:
            measure((end - time.monotonic()) / 4, measured)
        if "claims" not in chosen.skip:
            judge(COSTS, (end - time.monotonic()) / 3, root, "--seeds", str(Cost.ROUNDS))
        if "grids" not in chosen.skip:
            judge(GRIDS, max(1.0, end - time.monotonic()), root)
        fused = faster(measured, chosen.precision) if chosen.fused == "auto" else FUSED[chosen.fused]
        print(f"The runs take {'whole blocks' if fused == 'blocks' else 'layers'} as kernels.", flush=True)
        batches = list(queue(chosen.depths, chosen.seeds, chosen.precision, fused=fused))
        work(batches, max(0.0, end - time.monotonic()), chosen.root)
    except PaperlibError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
