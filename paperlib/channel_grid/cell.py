"""One cell of the channel grid: its parameters, its training, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from paperlib.augmentation import normalise
from paperlib.channel_grid.measures import measure
from paperlib.channel_grid.networks import VARIANTS, Head, Networks, check_variant, memory_format
from paperlib.channel_grid.steps import Batches, Steps
from paperlib.cifar import Cifar
from paperlib.errors import ConfigError
from paperlib.machine import full_float32, settings
from paperlib.parameters import Channel, Count, Lr, Momentum, Parameters, Seeds, Stages, WeightDecay, resolve_device


class Recipe(Parameters):
    """How the networks of a grid are trained: plain SGD at a constant rate."""

    lr: Lr = Field(0.01, description="constant")
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 1e-4
    head: Head = Field("mean", description="the logits are the mean over the feature map, or a linear function of it")


class Cell(Recipe):
    """One cell: the networks with ``c`` and ``d`` channels around the middle convolution, one per seed, of one variant.

    Raises
    ------
    ConfigError
        A name is unknown, a type is wrong, or a value is impossible.
    """

    c: Channel = Field(description="channels at the input of the middle convolution")
    d: Channel = Field(description="channels at its output")
    variant: str = Field("conv-relu", description="a key of ``VARIANTS``")
    seeds: Seeds = Field((0,), description="one or several; weights and order of the images depend on it alone")
    stages: Stages = Field((0, 100), description="numbers of steps after which to measure; the largest ends a run")
    batch_size: Count = Field(128, description="images of a training step")
    probe_images: Count = Field(128, description="measure on the first so many training images")
    device: str = Field("cpu", description="auto, cpu, cuda or cuda:N; in float32, on CUDA without TF32")

    @field_validator("variant")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_variant(value)


def _probe(cell: Cell, data: Cifar) -> tuple[Tensor, Tensor]:
    """The images and labels that the cell is measured on, on the CPU."""
    images = normalise(data.train_images[: cell.probe_images], data.mean, data.std)
    return images.contiguous(memory_format=torch.channels_last), data.train_labels[: cell.probe_images]


def started(cell: Cell, seeds: Sequence[int], data: Cifar, device: torch.device) -> Steps:
    """The steps of one group of seeds, none of which is done."""
    networks = Networks(cell.c, cell.d, VARIANTS[cell.variant], seeds, len(data.classes), cell.head).to(device)
    if device.type == "cuda":  # they are made as a CPU likes them
        networks.to(memory_format=memory_format(device))
    optimizer = torch.optim.SGD(
        networks.parameters(), lr=cell.lr, momentum=cell.momentum, weight_decay=cell.weight_decay, fused=True
    )
    return Steps(networks, optimizer, Batches(data, seeds, cell.batch_size, device))


def _train(cell: Cell, seeds: Sequence[int], data: Cifar) -> list[dict[str, Any]]:
    """Train one group of seeds together and measure each of its networks at every stage."""
    steps = started(cell, seeds, data, torch.device(cell.device))
    probe, rows = _probe(cell, data), []
    for stage in cell.stages:
        steps.until(stage)
        for j, seed in enumerate(seeds):
            here = {"c": cell.c, "d": cell.d, "variant": cell.variant, "seed": seed, "step": stage}
            # On the CPU, always: most of it is singular value decompositions of many small matrices.
            rows.append(here | measure(steps.networks.alone(j), *probe))
    return rows


def train_cell(cell: Cell, data: Cifar, together: bool | None = None) -> pd.DataFrame:
    """Train the three-layer networks of one cell of the grid and measure their middle Conv-ReLU.

    Parameters
    ----------
    cell : Cell
        What to train.
    data : Cifar
        The images.  They are taken in random order, normalised, and not augmented.
    together : bool, optional
        Train the seeds side by side, in grouped convolutions.  By default on CUDA, where small networks leave the
        device idle; on a CPU only the smallest networks gain by it.  Seed j comes out the same up to float32's
        rounding, which training amplifies.

    Returns
    -------
    DataFrame
        One row per seed and stage: ``c``, ``d``, ``variant``, ``seed``, ``step``, and what
        :func:`paperlib.channel_grid.measure` returns.

    Raises
    ------
    ConfigError
        The device is not there, or ``probe_images`` or the batch is larger than the data set.
    TypeError
        ``data`` is no data set in memory.

    Examples
    --------
    >>> from paperlib import cifar
    >>> cell = Cell(c=4, d=8, seeds=[0, 1], stages=(0, 2), probe_images=50)
    >>> table = train_cell(cell, cifar.load("cifar10", "sample"))
    >>> table[["seed", "step"]].values.tolist(), bool((table.log_ratio.abs() < 1).all())
    ([[0, 0], [0, 2], [1, 0], [1, 2]], True)
    """
    if not isinstance(data, Cifar):
        raise TypeError(f"data must be what paperlib.cifar.load returns, not {data!r:.80}")
    cell = Cell.checked(cell)
    for name in ("batch_size", "probe_images"):
        if getattr(cell, name) > len(data.train_labels):
            raise ConfigError(
                f"{name} {getattr(cell, name)} is more than there is: {len(data.train_labels)} training images"
            )
    cell = cell.model_copy(update={"device": resolve_device(cell.device)})
    together = cell.device.startswith("cuda") if together is None else together
    groups = [cell.seeds] if together else [(seed,) for seed in cell.seeds]
    with settings(cell.device), full_float32():
        rows = [row for group in groups for row in _train(cell, group, data)]
    return pd.DataFrame(rows).sort_values(["seed", "step"], ignore_index=True)
