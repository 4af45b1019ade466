"""Batch normalisation with the ReLU behind it, and with the skip around it, in kernels that move less memory.

The statistics are summed in float32, whatever the input's precision.  Each program sums about a mean of its own, and
their sums are merged by the formula of Chan, Golub and LeVeque (1983), so that a mean far from zero costs no digits.
The order is the same every time: the kernels are deterministic.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paperlib.fused._launch import PROGRAMS, on_device, runs, stretches, tl, triton

LARGEST = 512  # channels


def usual(norm: nn.BatchNorm2d) -> bool:
    """Whether a layer does what the kernels do: in training, with an average over time and weights of its own."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.momentum is not None
        and norm.track_running_stats
        and norm.affine
    )


def fits(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether the kernels can do what ``norm`` would; else torch does it."""
    c = x.shape[1]
    return (
        runs(x)
        and usual(norm)
        and x.dtype in (torch.float32, torch.bfloat16)
        and 8 <= c <= LARGEST
        and c & (c - 1) == 0
        and x.numel() > c
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def norm_relu(x: Tensor, norm: nn.BatchNorm2d, relu: bool = True) -> Tensor:
    """``relu(norm(x))``, or ``norm(x)``; the running statistics follow.

    Parameters
    ----------
    x : Tensor, float32 or bfloat16 (N, C, H, W)
        The input, not changed.  Anything but a channels-last tensor of 8, 16, ... 512 channels goes to torch.
    norm : nn.BatchNorm2d
        The layer.
    relu : bool
        Whether a ReLU follows.

    Returns
    -------
    Tensor, (N, C, H, W)
        In the input's dtype and format.

    Examples
    --------
    >>> norm_relu(torch.randn(2, 8, 4, 4), nn.BatchNorm2d(8)).min()
    tensor(0., grad_fn=<MinBackward1>)
    """
    if not fits(x, norm):
        y = norm(x)
        return F.relu(y, inplace=True) if relu else y
    with on_device(x):
        return _NormReLU.apply(x, norm.weight, norm.bias, norm, relu)[0]


def norm_relu_fork(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """:func:`norm_relu`, and ``x`` itself for a skip around what follows.

    The backward pass adds the skip's gradient while it makes the branch's, instead of in a pass of its own.

    Examples
    --------
    >>> x = torch.randn(2, 8, 4, 4)
    >>> branch, skip = norm_relu_fork(x, nn.BatchNorm2d(8))
    >>> skip is x
    True
    """
    if not fits(x, norm):
        return norm_relu(x, norm), x
    with on_device(x):
        return _NormReLU.apply(x, norm.weight, norm.bias, norm, True)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, relu: bool
    ) -> tuple[Tensor, Tensor]:
        tiles = _Tiles(x)
        statistics = take_moments(x, norm)
        y = torch.empty_like(x)
        _normalise[(tiles.number,)](
            x, y, statistics, weight, bias, tiles.rows, tiles.channels, tiles.height, relu, num_warps=tiles.warps
        )
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.relu = relu
        ctx.set_materialize_grads(False)
        return y, x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, skip: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, statistics = ctx.saved_tensors
        if grad is None:
            return skip, None, None, None, None
        grad = grad.contiguous(memory_format=torch.channels_last)
        if skip is not None:
            skip = skip.contiguous(memory_format=torch.channels_last)
        tiles = _Tiles(x)
        sums = tiles.partial()
        _gradient_sums[(tiles.programs,)](
            x, grad, sums, statistics, weight, bias, tiles.rows, tiles.stretch, tiles.channels, tiles.height, ctx.relu,
            num_warps=tiles.warps,
        )  # fmt: skip
        total = torch.empty(2, tiles.channels, dtype=torch.float32, device=x.device)  # of bias, of weight
        _finish_sums[(tiles.channels // 8,)](sums, total, tiles.programs, tiles.channels, tiles.slots)
        out = input_gradient(x, statistics, weight, bias, ctx.relu, grad, total, skip)
        return out, total[1], total[0], None, None


def take_moments(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Mean and one over the standard deviation of each channel (2, C); the running statistics follow."""
    tiles = _Tiles(x)
    moments = tiles.partial()
    _moments[(tiles.programs,)](
        x, moments, tiles.rows, tiles.stretch, tiles.channels, tiles.height, num_warps=tiles.warps
    )
    statistics = torch.empty(2, tiles.channels, dtype=torch.float32, device=x.device)
    _finish_moments[(tiles.channels // 8,)](
        moments, statistics, norm.running_mean, norm.running_var, norm.num_batches_tracked, tiles.rows,
        norm.momentum, norm.eps, tiles.programs, tiles.stretch * tiles.height, tiles.channels, tiles.slots,
    )  # fmt: skip
    return statistics


def input_gradient(
    x: Tensor, statistics: Tensor, weight: Tensor, bias: Tensor, relu: bool, grad: Tensor, total: Tensor,
    skip: Tensor | None,
) -> Tensor:  # fmt: skip
    """The gradient of what is normalised, and that of the skip around it added.

    ``grad`` is that of the result; ``total`` (2, C) has the sums, behind the ReLU's mask, of it and of it times the
    normalised input.
    """
    tiles = _Tiles(x)
    out = torch.empty_like(x)
    _input_gradient[(tiles.number,)](
        x, grad, out if skip is None else skip, out, statistics, weight, bias, total, tiles.rows, tiles.channels,
        tiles.height, relu, skip is not None, num_warps=tiles.warps,
    )  # fmt: skip
    return out


class _Tiles:
    """How a channels-last tensor, a matrix of pixels by channels, is cut for the programs.

    A program of the reductions has a stretch of tiles one below the other, one of the other kernels a single tile.
    """

    def __init__(self, x: Tensor) -> None:
        self.device = x.device
        self.channels = x.shape[1]
        self.rows = x.numel() // self.channels
        # What one program has in registers: less where the tensor is small, so that there are enough programs.
        elements = 8192 if x.numel() >= 1 << 22 else 4096 if x.numel() >= 1 << 20 else 2048
        self.warps = elements // 1024
        self.height = elements // self.channels  # of a tile
        self.number = triton.cdiv(self.rows, self.height)
        self.stretch, self.programs = stretches(self.number)
        self.slots = triton.next_power_of_2(PROGRAMS)

    def partial(self) -> Tensor:
        """Room for two numbers per program and channel."""
        return torch.empty(self.programs, 2, self.channels, dtype=torch.float32, device=self.device)


if triton is not None:

    @triton.jit
    def _moments(x, out, rows, stretch, C: tl.constexpr, HEIGHT: tl.constexpr):
        """The mean of a stretch of rows, and the sum of squares about it; summed about the mean of its first tile."""
        program = tl.program_id(0)
        channels = tl.arange(0, C)
        start = program * stretch * HEIGHT
        row = start + tl.arange(0, HEIGHT)
        # Float32 at once: a variable that the loop assigns again has to have one type.
        value = tl.load(x + row[:, None] * C + channels[None, :], mask=(row < rows)[:, None], other=0.0).to(tl.float32)
        first = (tl.sum(value, 0) / tl.minimum(rows - start, HEIGHT))[None, :]
        plain = tl.zeros((HEIGHT, C), tl.float32)
        squares = tl.zeros((HEIGHT, C), tl.float32)
        for tile in range(stretch):
            row = (program * stretch + tile) * HEIGHT + tl.arange(0, HEIGHT)
            inside = (row < rows)[:, None]
            value = tl.load(x + row[:, None] * C + channels[None, :], mask=inside, other=0.0).to(tl.float32)
            value = tl.where(inside, value - first, 0.0)
            plain += value
            squares += value * value
        count = tl.minimum(rows - start, stretch * HEIGHT).to(tl.float32)
        total = tl.sum(plain, 0)
        tl.store(out + program * 2 * C + channels, tl.sum(first, 0) + total / count)
        tl.store(out + program * 2 * C + C + channels, tl.sum(squares, 0) - total * total / count)

    @triton.jit
    def keep_moments(
        mean, variance, channels, statistics, running_mean, running_var, momentum, eps, rows, C: tl.constexpr
    ):  # fmt: skip
        """Store mean and one over the standard deviation, and let the running statistics follow."""
        variance = tl.maximum(variance, 0.0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(statistics + channels, mean)
        tl.store(statistics + C + channels, 1.0 / tl.sqrt(variance + eps))
        before = tl.load(running_mean + channels)
        tl.store(running_mean + channels, before + momentum * (mean - before))
        before = tl.load(running_var + channels)
        unbiased = variance * (rows / (rows - 1.0))
        tl.store(running_var + channels, before + momentum * (unbiased - before))

    @triton.jit
    def _finish_moments(
        moments, statistics, running_mean, running_var, batches, rows, momentum, eps,
        programs, length, C: tl.constexpr, SLOTS: tl.constexpr,
    ):  # fmt: skip
        """Merge the stretches: mean and one over the standard deviation, and the running statistics."""
        channels = tl.program_id(0) * 8 + tl.arange(0, 8)
        slot = tl.arange(0, SLOTS)
        there = (slot < programs)[:, None]
        place = moments + slot[:, None] * 2 * C + channels[None, :]
        means = tl.load(place, mask=there, other=0.0)
        squares = tl.load(place + C, mask=there, other=0.0)
        counts = tl.minimum(tl.maximum(rows - slot * length, 0), length).to(tl.float32)[:, None]
        mean = tl.sum(means * (counts / rows), 0)
        apart = tl.where(there, means - mean[None, :], 0.0)
        variance = (tl.sum(squares, 0) + tl.sum(apart * apart * counts, 0)) / rows
        keep_moments(mean, variance, channels, statistics, running_mean, running_var, momentum, eps, rows, C)
        if tl.program_id(0) == 0:
            tl.store(batches, tl.load(batches) + 1)

    @triton.jit
    def _normalise(x, y, statistics, weight, bias, rows, C: tl.constexpr, HEIGHT: tl.constexpr, RELU: tl.constexpr):
        channels = tl.arange(0, C)
        row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
        place = row[:, None] * C + channels[None, :]
        inside = (row < rows)[:, None]
        mean = tl.load(statistics + channels)
        scale = tl.load(statistics + C + channels) * tl.load(weight + channels)
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        value = (value - mean[None, :]) * scale[None, :] + tl.load(bias + channels)[None, :]
        if RELU:
            value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def _gradient_sums(
        x, grad, out, statistics, weight, bias, rows, stretch,
        C: tl.constexpr, HEIGHT: tl.constexpr, RELU: tl.constexpr,
    ):  # fmt: skip
        """Sums over a stretch of rows: of the gradient behind the ReLU's mask, and of it times the normalised input."""
        program = tl.program_id(0)
        channels = tl.arange(0, C)
        mean = tl.load(statistics + channels)[None, :]
        inverse = tl.load(statistics + C + channels)[None, :]
        gamma = tl.load(weight + channels)[None, :]
        beta = tl.load(bias + channels)[None, :]
        plain = tl.zeros((HEIGHT, C), tl.float32)
        weighted = tl.zeros((HEIGHT, C), tl.float32)
        for tile in range(stretch):
            row = (program * stretch + tile) * HEIGHT + tl.arange(0, HEIGHT)
            place = row[:, None] * C + channels[None, :]
            inside = (row < rows)[:, None]
            value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - mean
            g = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
            if RELU:
                g = tl.where(value * (inverse * gamma) + beta <= 0.0, 0.0, g)
            plain += g
            weighted += g * (value * inverse)
        tl.store(out + program * 2 * C + channels, tl.sum(plain, 0))
        tl.store(out + program * 2 * C + C + channels, tl.sum(weighted, 0))

    @triton.jit
    def _finish_sums(sums, total, programs, C: tl.constexpr, SLOTS: tl.constexpr):
        channels = tl.program_id(0) * 8 + tl.arange(0, 8)
        slot = tl.arange(0, SLOTS)
        there = (slot < programs)[:, None]
        place = sums + slot[:, None] * 2 * C + channels[None, :]
        tl.store(total + channels, tl.sum(tl.load(place, mask=there, other=0.0), 0))
        tl.store(total + C + channels, tl.sum(tl.load(place + C, mask=there, other=0.0), 0))

    @triton.jit
    def _input_gradient(
        x, grad, skip, out, statistics, weight, bias, total, rows,
        C: tl.constexpr, HEIGHT: tl.constexpr, RELU: tl.constexpr, SKIP: tl.constexpr,
    ):  # fmt: skip
        channels = tl.arange(0, C)
        row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
        place = row[:, None] * C + channels[None, :]
        inside = (row < rows)[:, None]
        inverse = tl.load(statistics + C + channels)[None, :]
        scale = inverse * tl.load(weight + channels)[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - tl.load(statistics + channels)[None, :]
        g = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            g = tl.where(value * scale + tl.load(bias + channels)[None, :] <= 0.0, 0.0, g)
        plain = tl.load(total + channels)[None, :] / rows
        weighted = tl.load(total + C + channels)[None, :] / rows
        result = scale * (g - plain - value * inverse * weighted)
        if SKIP:
            result += tl.load(skip + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)
