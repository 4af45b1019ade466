"""What ``GradientNorms`` adds to a ResNet-164 training step when every step is recorded.

Watched and unwatched steps take turns in one process on one network.  On a shared machine single steps differ by 20 %,
more than what is to be measured.  So the time spent in the probe's own hooks is added up, too, on the CPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from paired import arguments, ratios, report
from training_step import ours

from paperlib.probes import GradientNorms, steps

if __name__ == "__main__":
    a = arguments(__doc__, rounds=30)
    step = ours(a.depth, a.batch_size)
    step()
    step()
    probe = GradientNorms(step.model)

    def seconds() -> float:
        began = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began

    inside = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                inside[0] += time.perf_counter() - began

        return call

    # The tensor hooks spend their time in norm(); the others are the module hooks and the flush.
    steps.norm = timed(steps.norm)
    for name in ("_start", "_before", "_after", "averages"):
        setattr(probe, name, timed(getattr(probe, name)))

    without, watched, share = [], [], []
    for i in range(a.rounds):
        for on in (i % 2 == 0, i % 2 == 1):
            if on:
                probe.attach()
                inside[0] = 0.0
                began = time.perf_counter()
                step()
                probe.averages()  # reading the result is part of the cost
                watched.append(time.perf_counter() - began)
                share.append(inside[0] / (watched[-1] - inside[0]))
                probe.detach()
            else:
                without.append(seconds())
    measured = {
        "depth": a.depth,
        "batch_size": a.batch_size,
        "rounds": a.rounds,
        "median_seconds": {
            "without": round(statistics.median(without), 3),
            "watched": round(statistics.median(watched), 3),
        },
        "watched_over_without": ratios(watched, without),
        "of_medians": round(statistics.median(watched) / statistics.median(without), 4),
        "hooks_over_rest_of_step": {
            "median": round(statistics.median(share), 4),
            "largest": round(max(share), 4),
        },
    }
    report("probe_overhead", measured, a.save)
