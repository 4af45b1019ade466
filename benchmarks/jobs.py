"""How to share a machine's cores among training runs: one job of two threads, or two jobs of one.

A layout's throughput is the images that all its jobs train per second, in the same stretch of time.  Each layout is
measured alone, and beside a process that keeps one core busy.  ``passive`` lets waiting threads sleep instead of spin
(``OMP_WAIT_POLICY``).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from paired import arguments, report

BATCH = 128
LAYOUTS = {"1 job of 2 threads": (1, 2, "active"), "1 of 2, passive": (1, 2, "passive"), "2 of 1": (2, 1, "active")}


def work(depth: int, seconds: float) -> None:
    """Train on the same images until ``seconds`` after a line on standard input; print how many images per second."""
    from paperlib.studies.overhead import random_batch
    from paperlib.training import benchmark_step

    step = benchmark_step("resnet", depth, *random_batch(BATCH), device="cpu", precision="bfloat16")
    step()
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        done += BATCH
    print(done / (time.perf_counter() - began), flush=True)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Within it, so many processes compute without a pause."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def throughput(jobs: int, threads: int, waiting: str, depth: int, seconds: float) -> float:
    """Images per second of all jobs together."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": waiting}
    command = [sys.executable, __file__, "--worker", str(depth), str(seconds)]
    workers = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(jobs)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0]) for worker in workers)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(int(sys.argv[2]), float(sys.argv[3]))
        sys.exit()
    a = arguments(__doc__, rounds=3, depths={"type": int, "nargs": "+", "default": [20, 164]})
    found: dict[str, dict[str, dict[str, float]]] = {}
    for depth in a.depths:
        for others, title in ((0, "alone"), (1, "beside one busy process")):
            images: dict[str, list[float]] = {name: [] for name in LAYOUTS}
            with busy(others):
                for _ in range(a.rounds):
                    for name, layout in LAYOUTS.items():
                        images[name].append(throughput(*layout, depth, 10 if depth < 100 else 20))
            best = max(max(rates) for rates in images.values())
            found[f"depth {depth}, {title}"] = {name: round(max(rates) / best, 2) for name, rates in images.items()}
    measured = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "precision": "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "bfloat16, emulated",
        "rounds": a.rounds,
        "throughput_relative_to_the_best_layout": found,
    }
    report("jobs", measured, a.save)
