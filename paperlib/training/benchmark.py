"""Training steps by themselves, nothing being evaluated or saved: what ``benchmarks/`` and predicted costs measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from paperlib import _checks
from paperlib.cifar import Cifar
from paperlib.config import ResolvedRun, RunConfig
from paperlib.machine import keep_freed_memory
from paperlib.training import steps
from paperlib.training.run import Run


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


class BenchmarkRun:
    """A run's steps as :func:`paperlib.training.train` makes them, over as many epochs as it takes.

    They gather and augment their batches, watch the blocks and hold the transitions; on CUDA they are graphs.

    Parameters
    ----------
    config : ResolvedRun
        The run.  Settings of the process, such as its threads, are the caller's.
    data : Cifar, optional
        Its images; by default noise in the run's sizes.  Time does not depend on what is seen.

    Examples
    --------
    >>> steps = BenchmarkRun(RunConfig(preset="smoke", depth=11, device="cpu", train_images=20).resolve())
    >>> steps(3)
    >>> steps.run.state.epoch  # 20 images are one step
    3
    """

    def __init__(self, config: ResolvedRun, data: Cifar | None = None) -> None:
        self.run = Run(config, "", Path(), data or noise(config.train_images, config.test_images))
        if self.run.probe:
            self.run.probe.attach()
        self._going = self._forever()

    def _forever(self) -> Iterator[object]:
        run = self.run
        while True:
            yield from run.replayed() if run.replays else run.stepped()
            run.state.epoch, run.state.step, run.state.sums = run.state.epoch + 1, 0, [0.0] * 4

    def __call__(self, number: int = 1) -> None:
        """Make so many steps.

        Raises
        ------
        FloatingPointError
            One of them was not finite.
        """
        for _ in range(number):
            if (found := next(self._going)) is not None:
                raise FloatingPointError(f"diverged: {found}")


def noise(train_images: int, test_images: int) -> Cifar:
    """Noise in the shape of CIFAR-10, so many images to train on and to test.

    Examples
    --------
    >>> noise(20, 10).train_images.shape
    torch.Size([20, 3, 32, 32])
    """
    images = [torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8) for n in (train_images, test_images)]
    labels = [torch.randint(10, (len(x),)) for x in images]
    return Cifar("cifar10", "sample", images[0], labels[0], images[1], labels[1], "noise")


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
    ``train`` replays its steps as graphs (:mod:`paperlib.captured`), which takes less time: see
    :class:`paperlib.training.BenchmarkRun`.

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
