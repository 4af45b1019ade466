"""How much of the machine's peak a training step reaches: its arithmetic over what matrix products of the same kind do.

The peak is measured: the best of some products of two large square matrices in the step's precision, in turns with the
steps.  A step's arithmetic is counted, not estimated: multiplications and additions of the convolutions and products
in its forward and backward pass.  What is not counted, batch normalisation, ReLU and sums, only moves memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from paired import arguments, report
from torch.utils.flop_counter import FlopCounterMode

from paperlib import models
from paperlib.machine import full_float32
from paperlib.studies.overhead import random_batch, seconds
from paperlib.training import BenchmarkStep, benchmark_step

SIZE = 2048  # of the matrices


def operations(depth: int, images: int) -> float:
    """Floating-point operations of a step's convolutions and products."""
    with torch.device("meta"):
        model = models.build("resnet", depth)
    x = torch.empty(images, 3, 32, 32, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return float(counter.get_total_flops())


def product(precision: str, device: str) -> Callable[[], object]:
    """A product of two matrices; it takes 2·SIZE³ operations."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(SIZE, SIZE, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b


def parts(step: BenchmarkStep) -> dict[str, float]:
    """Seconds of a step's forward pass, backward pass and optimiser, one after another."""
    config = step.config
    times: list[float] = []

    def tick() -> None:
        if step.images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    step.optimizer.zero_grad(set_to_none=True)
    tick()
    with torch.autocast(step.images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits = step.model(step.images).float()
    loss = F.cross_entropy(logits, step.labels)
    tick()
    loss.backward()
    tick()
    step.optimizer.step()
    tick()
    return dict(
        zip(("forward", "backward", "optimiser"), (b - a for a, b in zip(times, times[1:], strict=False)), strict=True)
    )


def measure(depth: int, precision: str, batch: int, rounds: int) -> dict[str, Any]:
    """Rates and shares at a depth; products and steps take turns."""
    step = benchmark_step("resnet", depth, *random_batch(batch), precision=precision)
    recompute = depth > 500 and step.config.device == "cpu"
    step.model.checkpoint_activations = recompute
    multiply = product(precision, step.config.device)
    step()
    multiply()
    peak, taken, split = [], [], []
    for _ in range(rounds):
        peak.append(2 * SIZE**3 / min(seconds(multiply) for _ in range(5)))
        taken.append(seconds(step))
        split.append(parts(step))
    # A recomputed forward pass is work of the machine's, too: a step then has a third more of it.
    work = operations(depth, batch) * (4 / 3 if recompute else 1)
    best = min(split, key=lambda s: sum(s.values()))
    return {
        "images_per_second": round(batch / min(taken), 1),
        "gflops_of_a_step": round(work / 1e9, 1),
        "activations_recomputed": recompute,
        "peak_gflops_per_second": round(max(peak) / 1e9, 1),
        "of_the_peak": round(work / min(taken) / max(peak), 3),
        "seconds": {name: round(value, 4) for name, value in best.items()},
        "of_the_peak_forward": round(work / (4 if recompute else 3) / best["forward"] / max(peak), 3),
    }


if __name__ == "__main__":
    a = arguments(
        __doc__, rounds=3,
        depths={"type": int, "nargs": "+", "default": [20, 164, 1001]},
        precisions={"nargs": "+", "default": ["bfloat16", "float32"], "choices": ["bfloat16", "float32"]},
    )  # fmt: skip
    found: dict[str, Any] = {"batch_size": a.batch_size, "rounds": a.rounds, "matrices": SIZE}
    with full_float32():
        for depth in a.depths:
            for precision in a.precisions:
                found[f"depth {depth}, {precision}"] = measure(depth, precision, a.batch_size, a.rounds)
    report("roofline", found, a.save)
