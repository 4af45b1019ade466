"""A network's gradient-norm ratios before its first update, and the variances that predict them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from paperlib import _checks
from paperlib.models import Network
from paperlib.probes import GradientNorms
from paperlib.processes import World

BATCHES = 8  # at most; a ratio's spread over batches is a few per cent: eight bring its mean to one


@contextlib.contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Whatever runs within, the model's buffers (the statistics of its batch normalisation) are as before afterwards.

    Examples
    --------
    >>> norm = nn.BatchNorm1d(2)
    >>> with kept_buffers(norm):
    ...     _ = norm(torch.randn(4, 2) + 5)
    >>> norm.running_mean
    tensor([0., 0.])
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])


class _Variances:
    """The variance of each block's input, per channel over images and pixels, then averaged over channels."""

    def __init__(self, model: Network, world: World) -> None:
        self.world = world
        self.sums: list[Any] = [0.0] * len(model.blocks)
        self.calls = [0] * len(model.blocks)
        self.handles = [
            block.module.register_forward_pre_hook(lambda module, args, i=i: self._add(i, args[0]))
            for i, block in enumerate(model.blocks)
        ]

    @torch.no_grad()
    def _add(self, i: int, x: Tensor) -> None:
        self.sums[i] = self.sums[i] + self.world.variance(x.float()).mean()
        self.calls[i] += 1

    def take(self) -> list[float]:
        """The means over all calls; the hooks are removed."""
        for handle in self.handles:
            handle.remove()
        pairs = zip(self.sums, self.calls, strict=True)
        return [float(total) / calls if calls else float("nan") for total, calls in pairs]


def initial_ratios(
    model: Network,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    world: World | None = None,
) -> list[dict[str, Any]]:
    """Measure the ratios over some batches without changing the network: no update, and no new statistics.

    Parameters
    ----------
    model : Network
        In training mode: its batch normalisation uses each batch's own statistics, as in a training step.
    batches : iterable of (Tensor, Tensor)
        Prepared images (N, 3, H, W) and labels (N,).
    loss : callable
        Takes a batch's images and labels, and returns the loss of the network as a scalar with a graph.
    world : World, optional
        The processes that share each batch; ``batches`` has this process's parts, and ``loss`` is as
        :meth:`paperlib.processes.World.mean_loss` scales it.  By default this process is alone.

    Returns
    -------
    list of dict
        One per block, in forward order: what :meth:`paperlib.probes.GradientNorms.averages` has, and ``variance``, the
        variance of the block's input per channel over images and pixels, averaged over channels and batches.

    Examples
    --------
    >>> from paperlib.models import build
    >>> model = build("resnet", 11)
    >>> batch = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    >>> rows = initial_ratios(model, [batch] * 2, lambda x, y: nn.functional.cross_entropy(model(x), y))
    >>> [row["steps"] for row in rows], rows[0]["variance"] > 0
    ([2, 2, 2], True)
    """
    _checks.instance("model", model, Network, "a paperlib.models.Network")
    _checks.function("loss", loss)
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise TypeError(f"batches must be a list of pairs of images and labels, not {_checks.shown(batches)}")
    if world is not None:
        _checks.instance("world", world, World, "a paperlib.processes.World")
    world = world or World()
    variances = _Variances(model, world)
    with kept_buffers(model):
        try:
            with GradientNorms(model, combine=world.norms) as probe:
                for batch in batches:
                    if not isinstance(batch, tuple | list) or len(batch) != 2:
                        raise ValueError(f"batches must hold pairs of images and labels, not {_checks.shown(batch)}")
                    images, labels = batch
                    loss(images, labels).backward()
                    model.zero_grad(set_to_none=True)
        finally:
            means = variances.take()
    return [row | {"variance": variance} for row, variance in zip(probe.averages(), means, strict=True)]
