"""The paper's runs in the time that a GPU is there for: from a queue, side by side, until the time is up.

    python workflow/gpu.py --minutes 12

Runs that are on record are left out, and interrupted ones go on from their checkpoints, so the same command again
continues where the last one stopped.  Each batch of the queue is trained side by side on the one device.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from paperlib import checkpoints
from paperlib.config import RunConfig
from paperlib.records import Record
from paperlib.training import train_together

ARCHS = ("procresnet", "resnet", "plain")


def queue(depths: list[int], seeds: list[int], precision: str) -> list[list[RunConfig]]:
    """Figures 3 and 4 and Table I first, 100 epochs at a constant rate; then Table II's networks, 300 epochs."""
    common: dict[str, Any] = {"preset": "paper", "device": "cuda", "precision": precision}
    constant = common | {"schedule": "constant"}
    batches = [
        [
            RunConfig(**constant, arch=arch, depth=depth, seed=seed)
            for arch in ARCHS
            for seed in (seeds if depth == 20 else [0])
        ]
        for depth in depths
    ]
    batches.append([RunConfig(**common, arch=arch, depth=164) for arch in ("resnet", "procresnet")])
    for seed in seeds[1:]:
        batches += [
            [RunConfig(**constant, arch=arch, depth=depth, seed=seed) for arch in ARCHS] for depth in depths[1:]
        ]
    batches.append([RunConfig(**common, arch=arch, depth=164, erase_relu=True) for arch in ("resnet", "procresnet")])
    batches.append([RunConfig(**common, arch="procresnet", depth=272)])
    return batches


def state(config: RunConfig, root: Path | None) -> str:
    """How far a run is, in words."""
    folder = config.resolve().folder(root)
    if (folder / Record.FILE).exists():
        record = Record.read(folder)
        last = record.epochs.iloc[-1]
        seconds = sum(record.epoch_seconds) / len(record.epoch_seconds)
        error = f"test error {last.test_error:.2f} %"
        return f"{record.status}, {len(record.epochs)} epochs, {error}, {seconds:.2f} s an epoch"
    content = checkpoints.read(folder, "cpu")
    if content is None:
        return "not begun"
    epochs = content["state"]["epochs"]
    error = f", test error {epochs[-1]['test_error']:.2f} %" if epochs else ""
    return f"interrupted after {len(epochs)} epochs{error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=12.0, help="stop, with everything saved, after so long")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 83, 164])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--root", type=Path, help="the folder of all runs (default: PAPERLIB_RUNS, else runs/)")
    a = parser.parse_args()
    timer = threading.Timer(60 * a.minutes, signal.raise_signal, [signal.SIGTERM])
    timer.daemon = True
    timer.start()
    batches = queue(a.depths, a.seeds, a.precision)
    try:
        for batch in batches:
            began = time.monotonic()
            train_together(batch, a.root, quiet=True)
            print(f"{len(batch)} runs in {time.monotonic() - began:.0f} s", flush=True)
    except SystemExit:
        print("the time is up: the same command goes on from here", flush=True)
    finally:
        timer.cancel()
        for config in (config for batch in batches for config in batch):
            resolved = config.resolve()
            if (found := state(config, a.root)) != "not begun":
                print(f"{resolved.stem()}: {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
