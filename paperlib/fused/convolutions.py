"""Convolutions of few channels, for which cuDNN has nothing fast."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paperlib.fused._launch import PROGRAMS, on_device, runs, stretches, tl, triton


def keeps_size(conv: nn.Conv2d, shape: tuple[int, ...]) -> bool:
    """Whether a layer is a plain convolution with a weight of this shape, and its output as large as its input.

    In groups, a weight has fewer channels than the input.
    """
    side = shape[-1]
    return (
        conv.weight.shape == shape
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (side // 2, side // 2)
        and conv.padding_mode == "zeros"
        and conv.bias is None
    )


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
        runs(x)
        and x.dtype == torch.bfloat16
        and c in (16, 32)
        and keeps_size(conv, (c, c, 3, 3))
        and x.is_contiguous(memory_format=torch.channels_last)
    )
    if not fits:
        return conv(x)
    with on_device(x):
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
        stretch, programs = stretches(triton.cdiv(rows, height))
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
        runs(x)
        and x.dtype == torch.bfloat16
        and keeps_size(conv, (d, x.shape[1], 1, 1))
        and min(c, d) >= 16
        and c * d <= 4096
        and c & (c - 1) == d & (d - 1) == 0
        and conv.weight.requires_grad
        and x.numel() * max(1, d // c) < 2**31
        and x.is_contiguous(memory_format=torch.channels_last)
    )
    if not fits:
        return conv(x)
    with on_device(x):
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
        stretch, programs = stretches(triton.cdiv(rows, height))
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
