"""The training steps of a group of networks, each network on the images in an order of its own.

The images stay on the device.  On CUDA a step of such small networks takes longer to launch than to compute, so that
what comes again and again is replayed as a CUDA graph: a step of a whole batch, and a projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.augmentation import epoch_generator, normalise
from paperlib.channel_grid.networks import Networks, memory_format
from paperlib.cifar import Cifar
from paperlib.machine import aside

WARM = 2  # times that something is done before it is captured: libraries prepare themselves, the momentum is made
EVERY = 2  # steps from one projection to the next, as in the paper


class Batches:
    """Batches of training images, in random order, normalised and not augmented.

    Parameters
    ----------
    data : Cifar
        The images.
    seeds : sequence of int
        One for each network of the group; the order of its images depends on it alone.
    size : int
        Images of a batch.  The last one of an epoch has what is left.
    device : torch.device
        Where they are wanted.
    """

    def __init__(self, data: Cifar, seeds: Sequence[int], size: int, device: torch.device) -> None:
        self.seeds, self.size = seeds, size
        self.images, self.labels = data.train_images.to(device), data.train_labels.to(device)
        self.mean, self.std = data.mean.to(device), data.std.to(device)
        self.order = torch.zeros(len(self.labels), len(seeds), dtype=torch.int64, device=device)
        self.position = torch.zeros((), dtype=torch.int64, device=device)  # in the epoch; a replayed step reads it
        self._epoch, self._given = 0, len(self.labels)

    def next_size(self) -> int:
        """How many images the next batch has; where an epoch has ended, another one begins."""
        if self._given == len(self.labels):
            generators = [epoch_generator(seed, self._epoch) for seed in self.seeds]
            self.order.copy_(torch.stack([torch.randperm(len(self.labels), generator=g) for g in generators], 1))
            self.position.zero_()
            self._epoch, self._given = self._epoch + 1, 0
        size = min(self.size, len(self.labels) - self._given)
        self._given += size
        return size

    def take(self, size: int) -> tuple[Tensor, Tensor]:
        """The next batch: images ``(size, S·3, 32, 32)``, labels ``(S, size)``; nothing here waits for the device."""
        chosen = self.order[self.position + torch.arange(size, device=self.position.device)]
        self.position += size
        batch = normalise(self.images[chosen.flatten()], self.mean, self.std).unflatten(0, chosen.shape)
        images = batch.flatten(1, 2).contiguous(memory_format=memory_format(batch.device))
        return images, self.labels[chosen.T]


class _Replayed(Protocol):
    def replay(self) -> object: ...


class Steps:
    """The steps of plain SGD on a group of networks, with the projection after every second one.

    Parameters
    ----------
    networks : Networks
        What is trained.
    optimizer : torch.optim.Optimizer
        Of their parameters.
    batches : Batches
        On the networks' device.
    """

    def __init__(self, networks: Networks, optimizer: torch.optim.Optimizer, batches: Batches) -> None:
        self.networks, self.optimizer, self.batches = networks, optimizer, batches
        self.done = 0
        device = batches.position.device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._times: dict[str, int] = {}
        self._graphs: dict[str, _Replayed] = {}

    def until(self, step: int) -> None:
        """Train until so many steps are done."""
        while self.done < step:
            size = self.batches.next_size()
            if size == self.batches.size:
                self._do("step", partial(self._step, size))
            else:
                self._step(size)  # once an epoch: not worth a graph
            self.done += 1
            if self.done % EVERY == 0 and self.networks.variant.sigma is not None:
                self._do("projection", self.networks.project)

    def _step(self, size: int) -> None:
        images, labels = self.batches.take(size)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.networks(images)
        # Summed over the networks: each gets the gradient of its own mean.
        (F.cross_entropy(logits.flatten(0, 1), labels.flatten()) * self.networks.groups).backward()
        self.optimizer.step()

    def _do(self, name: str, work: Callable[[], None]) -> None:
        """Do some work; on CUDA, from the third time on, by replaying it."""
        if self._stream is None:
            work()
            return
        times = self._times[name] = self._times.get(name, 0) + 1
        if times <= WARM:
            with aside(self._stream):
                work()
            return
        if name not in self._graphs:
            self._graphs[name] = self._capture(work)
        self._graphs[name].replay()

    def _capture(self, work: Callable[[], None]) -> _Replayed:
        """A graph of some work, which is not done by capturing it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph
