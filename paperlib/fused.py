"""Kernels for CUDA, written in Triton: batch normalisation with the ReLU behind it, small convolutions, and a norm.

A training step of the paper's networks moves memory far more than it computes.  torch's own kernels read and write a
block's wide tensors 26 times a step, those of this file 17 times: the ReLU is taken where the normalised value is made,
its mask is found again from the input in the backward pass, and the gradient of a skip is added where that of the
branch is made.

The statistics are summed in float32, whatever the input's precision.  Each program sums about a mean of its own, and
their sums are merged by the formula of Chan, Golub and LeVeque (1983), so that a mean far from zero costs no digits.
The order is the same every time: the kernels are deterministic.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

try:
    import triton
    import triton.language as tl
except ImportError:  # torch brings it on Linux with CUDA
    triton = None

PROGRAMS = 264  # two for each multiprocessor of a large device
LARGEST = 512  # channels
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # by Triton itself, without a device: for tests


def available(device: torch.device | str) -> bool:
    """Whether there are fused kernels for a device.

    Examples
    --------
    >>> available("cpu")
    False
    """
    return triton is not None and torch.device(device).type == "cuda"


def _runs(x: Tensor) -> bool:
    """Whether there are kernels for where a tensor is, and whether it has entries that 32 bits can count."""
    return triton is not None and (x.is_cuda or INTERPRETED) and 0 < x.numel() < 2**31


def _on_device(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Within it kernels are launched where the tensor is."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def _fits(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether the kernels can do what ``norm`` would; else torch does it."""
    c = x.shape[1]
    return (
        _runs(x)
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.momentum is not None
        and norm.track_running_stats
        and norm.affine
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
    if not _fits(x, norm):
        y = norm(x)
        return F.relu(y, inplace=True) if relu else y
    with _on_device(x):
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
    if not _fits(x, norm):
        return norm_relu(x, norm), x
    with _on_device(x):
        return _NormReLU.apply(x, norm.weight, norm.bias, norm, True)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, relu: bool
    ) -> tuple[Tensor, Tensor]:
        tiles = _Tiles(x)
        moments = tiles.partial()
        _moments[(tiles.programs,)](
            x, moments, tiles.rows, tiles.stretch, tiles.channels, tiles.height, num_warps=tiles.warps
        )
        # Rows: mean, one over the standard deviation.
        statistics = torch.empty(2, tiles.channels, dtype=torch.float32, device=x.device)
        _finish_moments[(tiles.channels // 8,)](
            moments, statistics, norm.running_mean, norm.running_var, norm.num_batches_tracked, tiles.rows,
            norm.momentum, norm.eps, tiles.programs, tiles.stretch * tiles.height, tiles.channels, tiles.slots,
        )  # fmt: skip
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
        out = torch.empty_like(x)
        _input_gradient[(tiles.number,)](
            x, grad, out if skip is None else skip, out, statistics, weight, bias, total, tiles.rows, tiles.channels,
            tiles.height, ctx.relu, skip is not None, num_warps=tiles.warps,
        )  # fmt: skip
        return out, total[1], total[0], None, None


def _stretches(tiles: int, most: int = PROGRAMS) -> tuple[int, int]:
    """How many tiles each program has, one below the other, and how many programs, at most ``most``, there then are."""
    stretch = triton.cdiv(tiles, most)
    return stretch, triton.cdiv(tiles, stretch)


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
        self.stretch, self.programs = _stretches(self.number)
        self.slots = triton.next_power_of_2(PROGRAMS)

    def partial(self) -> Tensor:
        """Room for two numbers per program and channel."""
        return torch.empty(self.programs, 2, self.channels, dtype=torch.float32, device=self.device)


def euclidean_norm(x: Tensor) -> Tensor:
    """The Euclidean norm of all entries, added in float64, in one reading of ``x``.

    torch's own would write a copy of ``x`` in float64 first.

    Parameters
    ----------
    x : Tensor
        On CUDA, of any floating dtype, without gaps in memory, and not empty.

    Returns
    -------
    Tensor, ()
        float64 for a float64 ``x``, else float32.
    """
    stretch, programs = _stretches(triton.cdiv(x.numel(), 2048), 4 * PROGRAMS)
    sums = torch.empty(programs, dtype=torch.float64, device=x.device)
    out = torch.empty((), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32, device=x.device)
    with _on_device(x):
        _square_sums[(programs,)](x, sums, x.numel(), stretch, 2048, num_warps=4)
        _finish_norm[(1,)](sums, out, programs, triton.next_power_of_2(4 * PROGRAMS))
    return out


def conv3x3(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """``conv(x)`` for a 3×3 convolution that keeps size and channels, in kernels for few channels.

    cuDNN's take five to ten times as long as reading and writing the tensors of 16 channels does.

    Parameters
    ----------
    x : Tensor, bfloat16 (N, C, H, W)
        Under autocast, or with a bfloat16 weight.  Anything but a channels-last tensor of 16 or 32 channels goes to
        torch.
    conv : nn.Conv2d
        The layer.  Its hooks are not called.

    Returns
    -------
    Tensor, bfloat16 (N, C, H, W)
        In the channels-last format.
    """
    c = x.shape[1]
    fits = (
        _runs(x)
        and x.dtype == torch.bfloat16
        and c in (16, 32)
        and conv.weight.shape == (c, c, 3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.bias is None
        and x.is_contiguous(memory_format=torch.channels_last)
    )
    if not fits:
        return conv(x)
    with _on_device(x):
        return _Conv3x3.apply(x, conv.weight.bfloat16().contiguous(memory_format=torch.channels_last))


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        n, c, h, w = x.shape
        rows = n * h * w
        height = 64
        stretch, programs = _stretches(triton.cdiv(rows, height))
        sums = torch.empty(programs, 9, c * c, dtype=torch.float32, device=x.device)
        _weight_gradient[(programs, 3)](x, grad, sums, rows, h, w, stretch, c, height, num_warps=2)
        out = torch.empty_like(weight)
        _finish_weight[(9, c * c // 16)](sums, out, programs, c, c * c, 9, triton.next_power_of_2(PROGRAMS))
        return _convolve(grad, weight, transposed=True), out


def conv1x1(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """``conv(x)`` for a 1×1 convolution, with a kernel for the gradient of a small weight.

    That gradient is a sum over all pixels of products of few channels, for which cuDNN has nothing fast.

    Parameters
    ----------
    x : Tensor, bfloat16 (N, C, H, W)
        As for :func:`conv3x3`, with any number of channels that is a power of two; large weights go to torch.
    conv : nn.Conv2d
        The layer.  Its hooks are not called.

    Returns
    -------
    Tensor, bfloat16 (N, D, H, W)
        In the channels-last format.
    """
    d, c = conv.weight.shape[:2]
    fits = (
        _runs(x)
        and x.dtype == torch.bfloat16
        and x.shape[1] == c  # in groups, a weight has fewer channels than the input
        and min(c, d) >= 16
        and c * d <= 4096
        and c & (c - 1) == d & (d - 1) == 0
        and conv.kernel_size == (1, 1)
        and conv.stride == (1, 1)
        and conv.padding == (0, 0)
        and conv.bias is None
        and conv.weight.requires_grad
        and x.numel() * max(1, d // c) < 2**31
        and x.is_contiguous(memory_format=torch.channels_last)
    )
    if not fits:
        return conv(x)
    with _on_device(x):
        return _Conv1x1.apply(x, conv.weight.bfloat16())


class _Conv1x1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        (d, c), rows = weight.shape[:2], x.numel() // x.shape[1]
        height = 64
        stretch, programs = _stretches(triton.cdiv(rows, height))
        sums = torch.empty(programs, d * c, dtype=torch.float32, device=x.device)
        _pointwise_gradient[(programs,)](x, grad, sums, rows, stretch, c, d, height, num_warps=4)
        out = torch.empty_like(weight)
        _finish_weight[(1, d * c // 16)](sums, out, programs, c, d * c, 1, triton.next_power_of_2(PROGRAMS))
        back = torch.ops.aten.convolution_backward(
            grad, x, weight, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (True, False, False)
        )
        return back[0], out


def _convolve(x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    n, c, h, w = x.shape
    out = torch.empty_like(x)
    _conv3x3[(triton.cdiv(n * h * w, 128),)](x, weight, out, n * h * w, h, w, c, 128, transposed, num_warps=4)
    return out


if triton is not None:

    @triton.jit
    def _conv3x3(x, weight, out, rows, h, w, C: tl.constexpr, HEIGHT: tl.constexpr, TRANSPOSED: tl.constexpr):
        """A tile of pixels by channels; ``weight`` lies as (out, 3, 3, in)."""
        pixel = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
        channels = tl.arange(0, C)
        column = pixel % w
        row = (pixel // w) % h
        total = tl.zeros((HEIGHT, C), tl.float32)
        for tap in tl.static_range(9):
            i, j = tap // 3 - 1, tap % 3 - 1
            inside = (pixel < rows) & (row + i >= 0) & (row + i < h) & (column + j >= 0) & (column + j < w)
            value = tl.load(x + (pixel + i * w + j)[:, None] * C + channels[None, :], mask=inside[:, None], other=0.0)
            if TRANSPOSED:
                taps = tl.load(weight + channels[:, None] * 9 * C + (8 - tap) * C + channels[None, :])
            else:
                taps = tl.load(weight + channels[None, :] * 9 * C + tap * C + channels[:, None])
            total = tl.dot(value, taps, total, input_precision="ieee")
        place = out + pixel[:, None] * C + channels[None, :]
        tl.store(place, total.to(out.dtype.element_ty), mask=(pixel < rows)[:, None])

    @triton.jit
    def _weight_gradient(x, grad, out, rows, h, w, stretch, C: tl.constexpr, HEIGHT: tl.constexpr):
        """Over a stretch of pixels, the products (out, in) of one row of taps."""
        program, i = tl.program_id(0), tl.program_id(1) - 1
        channels = tl.arange(0, C)
        left = tl.zeros((C, C), tl.float32)
        middle = tl.zeros((C, C), tl.float32)
        right = tl.zeros((C, C), tl.float32)
        for tile in range(stretch):
            pixel = (program * stretch + tile) * HEIGHT + tl.arange(0, HEIGHT)
            column = pixel % w
            row = (pixel // w) % h
            there = (pixel < rows) & (row + i >= 0) & (row + i < h)
            g = tl.load(grad + pixel[None, :] * C + channels[:, None], mask=(pixel < rows)[None, :], other=0.0)
            place = x + (pixel + i * w)[:, None] * C + channels[None, :]
            left = tl.dot(
                g, tl.load(place - C, mask=(there & (column > 0))[:, None], other=0.0), left, input_precision="ieee"
            )
            middle = tl.dot(g, tl.load(place, mask=there[:, None], other=0.0), middle, input_precision="ieee")
            right = tl.dot(
                g,
                tl.load(place + C, mask=(there & (column < w - 1))[:, None], other=0.0),
                right,
                input_precision="ieee",
            )
        place = out + (program * 9 + 3 * (i + 1)) * C * C + channels[:, None] * C + channels[None, :]
        tl.store(place, left)
        tl.store(place + C * C, middle)
        tl.store(place + 2 * C * C, right)

    @triton.jit
    def _pointwise_gradient(
        x, grad, out, rows, stretch, C: tl.constexpr, D: tl.constexpr, HEIGHT: tl.constexpr
    ):  # fmt: skip
        """The products (out, in) over a stretch of pixels."""
        program = tl.program_id(0)
        channels = tl.arange(0, C)
        outputs = tl.arange(0, D)
        total = tl.zeros((D, C), tl.float32)
        for tile in range(stretch):
            pixel = (program * stretch + tile) * HEIGHT + tl.arange(0, HEIGHT)
            g = tl.load(grad + pixel[None, :] * D + outputs[:, None], mask=(pixel < rows)[None, :], other=0.0)
            value = tl.load(x + pixel[:, None] * C + channels[None, :], mask=(pixel < rows)[:, None], other=0.0)
            total = tl.dot(g, value, total, input_precision="ieee")
        tl.store(out + program * D * C + outputs[:, None] * C + channels[None, :], total)

    @triton.jit
    def _finish_weight(
        sums, out, programs, C: tl.constexpr, ENTRIES: tl.constexpr, TAPS: tl.constexpr, SLOTS: tl.constexpr
    ):  # fmt: skip
        """Add the stretches' products; ``out`` lies as (out, tap, in)."""
        tap = tl.program_id(0)
        entry = tl.program_id(1) * 16 + tl.arange(0, 16)
        slot = tl.arange(0, SLOTS)
        place = sums + (slot[:, None] * TAPS + tap) * ENTRIES + entry[None, :]
        total = tl.sum(tl.load(place, mask=(slot < programs)[:, None], other=0.0), 0)
        tl.store(out + (entry // C) * TAPS * C + tap * C + entry % C, total.to(out.dtype.element_ty))

    @triton.jit
    def _square_sums(x, out, number, stretch, SIZE: tl.constexpr):
        program = tl.program_id(0).to(tl.int64)  # the last stretch may end beyond what 32 bits count
        total = tl.zeros((SIZE,), tl.float64)
        for tile in range(stretch):
            place = (program * stretch + tile) * SIZE + tl.arange(0, SIZE)
            value = tl.load(x + place, mask=place < number, other=0.0).to(tl.float64)
            total += value * value
        tl.store(out + program, tl.sum(total, 0))

    @triton.jit
    def _finish_norm(sums, out, programs, SLOTS: tl.constexpr):
        slot = tl.arange(0, SLOTS)
        total = tl.sum(tl.load(sums + slot, mask=slot < programs, other=0.0), 0)
        tl.store(out, tl.sqrt(total).to(out.dtype.element_ty))

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
        variance = tl.maximum(variance, 0.0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(statistics + channels, mean)
        tl.store(statistics + C + channels, 1.0 / tl.sqrt(variance + eps))
        before = tl.load(running_mean + channels)
        tl.store(running_mean + channels, before + momentum * (mean - before))
        before = tl.load(running_var + channels)
        unbiased = variance * (rows / (rows - 1.0))
        tl.store(running_var + channels, before + momentum * (unbiased - before))
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
