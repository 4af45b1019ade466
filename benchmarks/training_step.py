"""A ResNet-164 training step as ``train`` does it, against a plain loop.

The plain loop has float32, contiguous images, and torch's default optimiser and allocator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from paired import arguments, ratios, report, times

from paperlib import models
from paperlib.studies.overhead import random_batch
from paperlib.training import benchmark_step


def ours(depth: int, size: int) -> Callable[[], float]:
    """One step of the library's loop."""
    return benchmark_step("resnet", depth, *random_batch(size))


def plain(depth: int, size: int) -> Callable[[], float]:
    """One step of the plain loop."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models.build("resnet", depth).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images, labels = (x.to(device) for x in random_batch(size))

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    a = arguments(__doc__, rounds=10)
    t = times({"plain": partial(plain, a.depth, a.batch_size), "ours": partial(ours, a.depth, a.batch_size)}, a.rounds)
    speed = {name: round(a.batch_size / min(seconds), 1) for name, seconds in t.items()}
    measured = {
        "depth": a.depth,
        "batch_size": a.batch_size,
        "rounds": a.rounds,
        "best_images_per_second": speed,
        "plain_over_ours": ratios(t["plain"], t["ours"]),
    }
    report("training_step", measured, a.save)
