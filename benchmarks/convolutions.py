"""Where a training step's time goes, and what torch's convolutions reach alone: the ceiling of the step's arithmetic.

``roofline.py`` says how much of the rate of a large matrix product a step reaches.  Here each convolution of the
network is timed by itself, forward and backward, in turns with that product.  What all of them reach together is what
a step would reach if normalisations, ReLUs and sums took no time at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from paired import arguments, report
from roofline import SIZE, product
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from paperlib import models
from paperlib.machine import full_float32, keep_freed_memory
from paperlib.studies.overhead import random_batch, seconds
from paperlib.training import benchmark_step

KINDS = {
    "convolutions": ("convolution",),
    "normalisations": ("batch_norm",),
    "ReLUs": ("relu", "clamp_min", "threshold"),
    "sums": ("aten::add",),
}
"""Parts of the names of torch's operators."""


class Shape(NamedTuple):
    """A convolution of the network: channels in and out, kernel, stride, and the side of its input."""

    c: int
    d: int
    k: int
    stride: int
    size: int

    def operations(self, images: int) -> int:
        """Of the forward pass, and of the gradients at kernel and input (of the images none is taken)."""
        passes = 2 if self.c == 3 else 3
        return passes * 2 * images * (self.size // self.stride) ** 2 * self.c * self.d * self.k**2


def shapes(arch: str, depth: int) -> Counter[Shape]:
    """How often each convolution stands in a network."""
    found: Counter[Shape] = Counter()

    def count(module: nn.Conv2d, inputs: tuple[Tensor], out: Tensor) -> None:
        c, d = module.in_channels, module.out_channels
        found[Shape(c, d, module.kernel_size[0], module.stride[0], inputs[0].shape[-1])] += 1

    with torch.device("meta"):
        model = models.build(arch, depth)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        model(torch.empty(2, 3, 32, 32))
    return found


def alone(shape: Shape, images: int, precision: str) -> Callable[[], object]:
    """A convolution forward and backward, in channels-last."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    side, out, pad = shape.size, shape.size // shape.stride, shape.k // 2

    def random(*sides: int) -> Tensor:
        return torch.randn(sides).to(dtype).to(memory_format=torch.channels_last)

    x, weight = random(images, shape.c, side, side), random(shape.d, shape.c, shape.k, shape.k)
    grad, stride = random(images, shape.d, out, out), (shape.stride, shape.stride)
    wanted = (shape.c != 3, True, False)

    def both() -> object:
        F.conv2d(x, weight, None, stride, pad)
        rest = (None, stride, (pad, pad), (1, 1), False, (0, 0), 1, wanted)
        return torch.ops.aten.convolution_backward(grad, x, weight, *rest)

    return both


def by_kind(arch: str, depth: int, images: int, precision: str, rounds: int) -> dict[str, float]:
    """The share of each kind of operation in a step's time, from torch's profiler."""
    step = benchmark_step(arch, depth, *random_batch(images), device="cpu", precision=precision)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(rounds):
            step()
    spent: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), "the rest")
        spent[kind] += event.self_cpu_time_total
    return {kind: round(spent[kind] / sum(spent.values()), 3) for kind in (*KINDS, "the rest")}


def measure(arch: str, depth: int, images: int, precision: str, rounds: int) -> dict[str, Any]:
    """A step's time by kind, and the convolutions alone; products and convolutions take turns."""
    kinds = by_kind(arch, depth, images, precision, rounds)
    multiply, peak = product(precision, "cpu"), 0.0
    multiply()
    lasts = work = 0.0
    each = {}
    for shape, times in shapes(arch, depth).items():
        call, taken = alone(shape, images, precision), []
        call()
        for _ in range(rounds):
            peak = max(peak, 2 * SIZE**3 / seconds(multiply))
            taken.append(seconds(call))
        lasts += times * min(taken)
        work += times * shape.operations(images)
        each[shape] = shape.operations(images) / min(taken)
    return {
        "shares_of_a_step": kinds,
        "peak_gflops_per_second": round(peak / 1e9, 1),
        "convolutions_alone_of_the_peak": round(work / lasts / peak, 3),
        "each": {f"{s.c}->{s.d}, {s.k}x{s.k}/{s.stride} on {s.size}": round(each[s] / peak, 3) for s in each},
    }


if __name__ == "__main__":
    a = arguments(
        __doc__, rounds=7,
        depths={"type": int, "nargs": "+", "default": [20, 164]},
        precisions={"nargs": "+", "default": ["float32"], "choices": ["bfloat16", "float32"]},
    )  # fmt: skip
    keep_freed_memory()
    found: dict[str, Any] = {"batch_size": a.batch_size, "rounds": a.rounds, "matrices": SIZE}
    with full_float32():
        for depth in a.depths:
            for precision in a.precisions:
                made = measure("resnet", depth, a.batch_size, precision, a.rounds)
                found[f"depth {depth}, {precision}"] = made
    report("convolutions", found, a.save)
