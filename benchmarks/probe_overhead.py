"""What ``GradientNorms`` adds to a ResNet-164 training step when every step is recorded.

Both variants run in one process on one network, in turns, the probe attached and detached in between.
"""

from __future__ import annotations

import statistics
import time

import torch
from paired import arguments, ratios, report
from training_step import ours

from paperlib.probes import GradientNorms

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

    without, watched = [], []
    for i in range(a.rounds):
        for on in (i % 2 == 0, i % 2 == 1):
            if on:
                probe.attach()
                began = time.perf_counter()
                step()
                probe.averages()  # reading the result is part of the cost
                watched.append(time.perf_counter() - began)
                probe.detach()
            else:
                without.append(seconds())
    figures = {
        "depth": a.depth,
        "batch_size": a.batch_size,
        "rounds": a.rounds,
        "median_seconds": {"without": round(statistics.median(without), 3), "watched": round(statistics.median(watched), 3)},
        "watched_over_without": ratios(watched, without),
        "of_medians": round(statistics.median(watched) / statistics.median(without), 4),
    }
    report("probe_overhead", figures, a.save)
