"""A run's images on its device, and the batches that an epoch makes of them.

Nothing is drawn from a shared random stream: an epoch's order and augmentation depend on the seed and the epoch alone,
so that they are the same whenever they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from paperlib import augmentation, cifar
from paperlib.config import ResolvedRun
from paperlib.processes import World
from paperlib.training.steps import memory_format


class Batches:
    """Training and test images (uint8) with their labels (int64), where the run computes.

    Parameters
    ----------
    config : ResolvedRun
        The run's.
    data : Cifar
        What it trains and is tested on.
    world : World
        The processes that share each batch.
    """

    def __init__(self, config: ResolvedRun, data: cifar.Cifar, world: World) -> None:
        self.config, self.world, self.device = config, world, torch.device(config.device)
        self.train_images, self.train_labels = data.train_images.to(self.device), data.train_labels.to(self.device)
        self.test_images, self.test_labels = data.test_images.to(self.device), data.test_labels.to(self.device)
        self.mean, self.std = data.mean.to(self.device), data.std.to(self.device)
        self.steps = math.ceil(len(self.train_labels) / config.batch_size)  # in an epoch

    @property
    def clean(self) -> tuple[Tensor, Tensor]:
        """As many training images as there are test images, and their labels.

        They are evaluated without augmentation, so that the gap between the two has two like sides.
        """
        n = min(len(self.test_labels), len(self.train_labels))
        return self.train_images[:n], self.train_labels[:n]

    def drawn(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """An epoch's order (n,), flips (n,) and shifts (n, 2), on the device."""
        n = len(self.train_labels)
        generator = augmentation.epoch_generator(self.config.seed, epoch)
        order = torch.randperm(n, generator=generator)
        flip, shift = augmentation.draw_augmentation(n, generator)
        return order.to(self.device), flip.to(self.device), shift.to(self.device)

    def images_in(self, step: int) -> int:
        """How many images a step of an epoch has, counted from 0: the last one has what is left."""
        return min(self.config.batch_size, len(self.train_labels) - step * self.config.batch_size)

    def of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of an epoch's batches from step ``start`` on, normalised and augmented."""
        order, flip, shift = self.drawn(epoch)
        for step in range(start, self.steps):
            first = step * self.config.batch_size
            part = self.world.part(first, first + self.images_in(step))
            chosen = order[part]
            yield self.prepare(self.train_images[chosen], flip[part], shift[part]), self.train_labels[chosen]

    def prepare(self, images: Tensor, flip: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """What the network takes: normalised, and augmented if it is said how and the run asks for it."""
        images = augmentation.normalise(images, self.mean, self.std)
        images = images.contiguous(memory_format=memory_format(self.config))
        if flip is None or shift is None or not self.config.augment:
            return images
        return augmentation.apply_augmentation(images, flip, shift)
