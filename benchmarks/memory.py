"""Peak memory and time of one training step of a very deep network, with and without recomputing activations.

Each variant runs in a process of its own; give ``--depth 1001`` and some minutes.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import torch
from paired import arguments, report

from paperlib import machine
from paperlib.config import RunConfig
from paperlib.training import steps


def measure(depth: int, size: int, recompute: bool, answer: Any) -> None:
    """Put the peak and the time of one step into the queue ``answer``."""
    config = RunConfig(preset="desk", depth=depth, checkpoint_activations=recompute).resolve()
    machine.keep_freed_memory()
    model = steps.make_network(config)
    optimizer = steps.make_optimizer(config, model)
    torch.manual_seed(0)
    images = torch.randn(size, 3, 32, 32, device=config.device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (size,), device=config.device)
    began = time.perf_counter()
    loss, _, _, finite = steps.backward(model, optimizer, images, labels, config)
    optimizer.step()
    seconds = time.perf_counter() - began
    peak = machine.peak_memory(torch.device(config.device))
    answer.put(
        {"peak_gib": round(peak / 2**30, 2), "seconds": round(seconds, 1), "loss": round(loss, 4), "finite": finite}
    )


if __name__ == "__main__":
    a = arguments(__doc__, rounds=1)
    context = multiprocessing.get_context("spawn")
    found = {}
    for recompute in (True, False):
        answer = context.Queue()
        process = context.Process(target=measure, args=(a.depth, a.batch_size, recompute, answer))
        process.start()
        found["recomputed" if recompute else "kept"] = answer.get()
        process.join()
    report("memory", {"depth": a.depth, "batch_size": a.batch_size, **found}, a.save)
