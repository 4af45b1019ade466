"""One training step by itself, without CUDA graphs: what ``benchmarks/`` and the prediction of costs measure."""

from __future__ import annotations

import torch
from torch import Tensor

from paperlib import _checks
from paperlib.config import ResolvedRun, RunConfig
from paperlib.machine import keep_freed_memory
from paperlib.training import steps


class BenchmarkStep:
    """One full training step on the same images each time: what :func:`benchmark_step` returns.

    It has the attributes ``model``, ``optimizer`` and ``config``, to attach a probe or a projection.
    """

    def __init__(self, config: ResolvedRun, images: Tensor, labels: Tensor) -> None:
        if config.device == "cpu":
            keep_freed_memory()
        self.config = config
        self.model = steps.make_network(config)
        self.optimizer = steps.make_optimizer(config, self.model)
        images = images.to(config.device)
        images = images.float().div(255) if images.dtype == torch.uint8 else images
        self.images = images.contiguous(memory_format=steps.memory_format(config))
        self.labels = labels.to(config.device)

    def __call__(self) -> float:
        done = steps.backward(self.model, self.optimizer, self.images, self.labels, self.config)
        if done.finite:
            self.optimizer.step()
        return done.loss


def benchmark_step(
    arch: str,
    depth: int,
    images: Tensor,
    labels: Tensor,
    device: str = "auto",
    precision: str = "auto",
    memory_format: str = "auto",
) -> BenchmarkStep:
    """A closure that does one training step as :func:`paperlib.training.train` does it, and returns the loss.

    It exists for ``benchmarks/``.  The step is forward, backward and update, launched kernel by kernel; on CUDA
    ``train`` replays its steps as graphs (:mod:`paperlib.captured`), which takes less time.

    Parameters
    ----------
    arch : str
        As in :class:`paperlib.config.RunConfig`, like ``depth``, ``device``, ``precision`` and ``memory_format``.
    depth : int
        The base network's depth 9n+2.
    images : Tensor, (N, 3, H, W)
        uint8, or floats.
    labels : Tensor, (N,)
        int64.
    device : str
        Where to train.
    precision : str
        Of the activations.
    memory_format : str
        Of images and weights.

    Returns
    -------
    BenchmarkStep
        Call it without arguments.

    Examples
    --------
    >>> step = benchmark_step("resnet", 20, torch.zeros(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64))
    >>> step() > 0
    True
    """
    _checks.images("images", images)
    _checks.labels("labels", labels)
    values = {"arch": arch, "depth": depth, "device": device, "precision": precision, "memory_format": memory_format}
    return BenchmarkStep(RunConfig(**values, checkpoint_activations=False).resolve(), images, labels)
