"""Paired timing: two or more workers, each in a process of its own, take turns; the ratio is taken pair by pair.

A process of its own keeps one variant's allocator and thread settings out of the other's.  Taking turns keeps a machine
whose speed drifts from favouring either.  Absolute times mean little on a shared machine: quote the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from paperlib.store import Provenance
from paperlib.store.files import write_atomically
from paperlib.store.stored import sealed
from paperlib.studies.overhead import seconds

RESULTS = Path(__file__).resolve().parent / "results"


def _serve(make: Callable[[], Callable[[], Any]], pipe: Any) -> None:
    """In a worker: make the closure, call it twice to warm up, then time it whenever asked."""
    step = make()
    step()
    step()
    pipe.send("ready")
    while pipe.recv():
        pipe.send(seconds(step))


def times(makers: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round.  ``makers`` are picklable functions that return the closure to time."""
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, make in makers.items():
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(make, there), daemon=True)
        process.start()
        there.close()  # so that a worker that dies ends the wait
        here.recv()
        workers[name] = (process, here)
    measured: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, (_, pipe) in workers.items():
            pipe.send(True)
            measured[name].append(pipe.recv())
    for process, pipe in workers.values():
        pipe.send(False)
        process.join()
    return measured


def in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """As :func:`times`, but in this process: for short calls that share nothing.  Each is called once before."""
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            measured[name].append(seconds(call))
    return measured


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """The ratio pair by pair, as its median, smallest and largest; and the ratio of the two best times."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "median": round(statistics.median(each), 3),
        "smallest": round(min(each), 3),
        "largest": round(max(each), 3),
        "best_against_best": round(min(slow) / min(fast), 3),
    }


def arguments(description: str, rounds: int, **options: dict[str, Any]) -> argparse.Namespace:
    """The options that every benchmark has, and further ones: ``published={"metavar": ...}`` is ``--published``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--depth", type=int, default=164)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/<name>.json")
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    return parser.parse_args()


def report(name: str, measured: dict[str, Any], save: bool, suffix: str = "", out: str | None = None) -> None:
    """Print what was measured with its provenance.

    If asked, keep it in ``results/<name><suffix>.json``, or in the file ``out``.
    """
    command = " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    made = Provenance.here(command, "cuda" if torch.cuda.is_available() else "cpu")
    content = {
        "benchmark": name,
        "command": made.command,
        "date": made.started[:10],
        "device": made.device.name,
        "threads": made.threads,
        "versions": made.versions,
        "git": {"commit": made.last.commit, "dirty": made.last.dirty},
        **measured,
    }
    text = json.dumps(sealed(content), indent=2)
    print(text)
    if save:
        write_atomically(RESULTS / f"{name}{suffix}.json", (text + "\n").encode())
    if out is not None:
        write_atomically(Path(out), (text + "\n").encode())
