"""Batch normalisation over the whole batch, where each of several processes has a part of it.

Normalised by their own parts, the processes would train another network than one process does: the statistics would be
of smaller batches.  torch's ``SyncBatchNorm`` does this on CUDA only; :class:`BatchNorm2d` does it on any device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Sum(torch.autograd.Function):
    """The sum over all processes.  All of them use it, so its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        result = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(result)
        return result


class Moments(NamedTuple):
    """What :func:`moments` finds: ``mean`` and ``variance`` (C,), the input less its mean, and the number of values."""

    mean: Tensor
    variance: Tensor
    centred: Tensor
    total: Tensor


def moments(x: Tensor) -> Moments:
    """Mean and variance per channel, over the images and pixels of all processes.

    Differentiable.  Every process must call it, with any number of images, even none.  The squares are summed about
    the mean, in a second pass, so that a mean far from zero costs no digits.

    Parameters
    ----------
    x : Tensor, float (N, C, H, W)
        This process's part of the batch.

    Returns
    -------
    Moments
        ``variance`` is the mean square; ``centred`` (N, C, H, W) is of this part; ``total`` () is the number of
        values per channel.
    """
    number = x.new_full((1,), x.numel() // x.shape[1])
    sums = _Sum.apply(torch.cat([x.sum(dim=(0, 2, 3)), number]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = x - mean[:, None, None]
    return Moments(mean, _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / total, centred, total)


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, trained with the statistics of all processes' images.

    It has the same parameters, buffers and names.  In evaluation it is the ordinary one, and waits for nobody.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        found = moments(x.to(torch.promote_types(x.dtype, torch.float32)))
        self._follow(found)
        y = found.centred * torch.rsqrt(found.variance + self.eps)[:, None, None]
        return (y * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _follow(self, found: Moments) -> None:
        """Take a batch into the running averages, the variance without its bias, as torch does."""
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(found.mean, self.momentum)
        self.running_var.lerp_(found.variance * (found.total / (found.total - 1)), self.momentum)


def synchronise(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace every ``nn.BatchNorm2d`` within ``model`` by one over all processes: torch's on CUDA, else this file's.

    Parameters and buffers are the same tensors as before, under the same names.

    Parameters
    ----------
    model : nn.Module
        Its batch norms are affine and track their statistics with a momentum, as is torch's default.
    device : torch.device or str
        Where it is trained.

    Returns
    -------
    nn.Module
        ``model``.
    """
    kind = nn.SyncBatchNorm if torch.device(device).type == "cuda" else BatchNorm2d
    for parent in list(model.modules()):
        for name, old in list(parent.named_children()):
            if type(old) is nn.BatchNorm2d:
                new = kind(old.num_features, old.eps, old.momentum).train(old.training)
                new._parameters.update(old._parameters)
                new._buffers.update(old._buffers)
                setattr(parent, name, new)
    return model
