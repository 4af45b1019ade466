"""A whole bottleneck block, with one kernel for each convolution in each direction.

Layer by layer a block takes some thirty kernels a step, most of a few microseconds, and writes every normalised tensor
to memory to read it again.  Here normalised values exist in registers only: a convolution normalises what it reads, and
sums up the moments of what it writes for the normalisation behind it.  The backward pass makes the same values again
from the convolutions' inputs, and nothing else is kept.

Moments and the gradients of a normalisation are sums over all pixels.  Each program stores its own, and the program
that ends last adds them, always in the same order: the kernels are deterministic.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paperlib.fused._launch import on_device, runs, stretches, tl, triton
from paperlib.fused.convolutions import conv1x1, conv3x3, keeps_size
from paperlib.fused.normalisation import LARGEST, input_gradient, norm_relu, norm_relu_fork, take_moments, usual

PROGRAMS = 528  # four for each multiprocessor of a large device
WIDEST = 64  # channels within a block: one program has them all
BLOCK = 64  # of a wide tensor's channels, for one program
SLOTS = 64  # partial sums that are added at once
HEIGHT = 64  # pixels of a tile
ENTRIES = 64  # of a weight's gradient, for the program that adds partial sums
PARTIAL = 1 << 20  # numbers that the partial sums of a weight's gradient may be

Norms = tuple[nn.BatchNorm2d, nn.BatchNorm2d, nn.BatchNorm2d]
Convolutions = tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]


def bottleneck(
    x: Tensor, norms: Norms, convs: Convolutions, last_relu: bool = True, skip: bool | nn.Module = True
) -> Tensor:
    """A block in training: ``x + conv(relu(norm(conv(relu(norm(conv(relu(norm(x)))))))))``.

    Parameters
    ----------
    x : Tensor, bfloat16 or float32 (N, C, H, W)
        In the channels-last format, with a power of two of 16 to 512 channels; bfloat16 under autocast, or with
        bfloat16 weights.  Any other block goes to the layers' kernels, which see whether they fit.
    norms : tuple of three nn.BatchNorm2d
        In front of each convolution; their running statistics follow.
    convs : tuple of three nn.Conv2d
        1×1 to 16, 32 or 64 channels, 3×3 among them, and 1×1 to a power of two of at most 512.  Their hooks, and the
        norms', are not called.
    last_relu : bool
        Whether a ReLU follows the last norm.
    skip : bool or nn.Module
        Whether ``x`` is added; or what is applied to ``relu(norm(x))`` and added, by the layers' kernels.

    Returns
    -------
    Tensor, (N, D, H, W)
        In the input's dtype and format.

    Examples
    --------
    >>> from paperlib.models import Bottleneck
    >>> block = Bottleneck(64, 16)
    >>> norms, convs = (block.bn1, block.bn2, block.bn3), (block.conv1, block.conv2, block.conv3)
    >>> bottleneck(torch.zeros(2, 64, 4, 4), norms, convs).shape
    torch.Size([2, 64, 4, 4])
    """
    if isinstance(skip, nn.Module) or not fits(x, norms, convs, skip):
        return by_layers(x, norms, convs, last_relu, skip)
    weights = [conv.weight.to(x.dtype).contiguous(memory_format=torch.channels_last) for conv in convs]
    affine = [p for norm in norms for p in (norm.weight, norm.bias)]
    with on_device(x):
        return _Bottleneck.apply(x, *weights, *affine, norms, last_relu, skip)


def by_layers(
    x: Tensor, norms: Norms, convs: Convolutions, last_relu: bool = True, skip: bool | nn.Module = True
) -> Tensor:
    """:func:`bottleneck`, of any size and stride, by the kernels of :func:`norm_relu`, :func:`conv1x1` and others.

    Examples
    --------
    >>> from paperlib.models import Bottleneck
    >>> block = Bottleneck(16, 16, stride=2, skip="projection")
    >>> norms, convs = (block.bn1, block.bn2, block.bn3), (block.conv1, block.conv2, block.conv3)
    >>> by_layers(torch.zeros(2, 16, 4, 4), norms, convs, skip=block.shortcut).shape
    torch.Size([2, 64, 2, 2])
    """
    a, around = norm_relu_fork(x, norms[0]) if skip is True else (norm_relu(x, norms[0]), x)
    y = conv3x3(norm_relu(conv1x1(a, convs[0]), norms[1]), convs[1])
    y = conv1x1(norm_relu(y, norms[2], relu=last_relu), convs[2])
    # In place: no backward pass needs the convolution's own output, and the sum needs no memory of its own.
    if isinstance(skip, nn.Module):
        return y.add_(skip(a))
    return y.add_(around) if skip else y


def fits(x: Tensor, norms: Norms, convs: Convolutions, skip: bool) -> bool:
    """Whether the kernels can do what the layers would."""
    c, width, d = x.shape[1], convs[0].out_channels, convs[2].out_channels
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    plain = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    return (
        runs(x)
        and (plain or x.dtype == torch.bfloat16)
        and pixels > 1
        and pixels * max(width, d) < 2**31
        and all(16 <= k <= most and k & (k - 1) == 0 for k, most in ((c, LARGEST), (width, WIDEST), (d, LARGEST)))
        and (c == d or not skip)
        and [norm.num_features for norm in norms] == [c, width, width]
        and all(usual(norm) for norm in norms)
        and keeps_size(convs[0], (width, c, 1, 1))
        and keeps_size(convs[1], (width, width, 3, 3))
        and keeps_size(convs[2], (d, width, 1, 1))
        and all(conv.weight.requires_grad for conv in convs)
        and not (plain and any(conv.weight.dtype != x.dtype for conv in convs))
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Pixels(NamedTuple):
    """The pixels of all images, which are the rows of every matrix here, and an image's height and width."""

    rows: int
    h: int
    w: int

    def cut(self, most: int) -> tuple[int, int]:
        """Tiles of a program, one below the other, and how many programs, at most so many, there then are."""
        return stretches(triton.cdiv(self.rows, HEIGHT), max(1, most))


class _Normed(NamedTuple):
    """What a convolution reads: ``x`` behind a normalisation, by mean and 1/deviation (2, C), and maybe a ReLU."""

    x: Tensor
    statistics: Tensor
    weight: Tensor
    bias: Tensor
    relu: bool


class _Gradient(NamedTuple):
    """The gradient of what a convolution writes.

    ``grad`` is this gradient itself; or, where a normalisation reads what is written, the gradient of that one's
    output behind the ReLU's mask.  Then ``total`` (2, D) has the sums, of it and of it times the normalised value.
    """

    grad: Tensor
    total: Tensor | None = None
    behind: _Normed | None = None

    def arguments(self) -> tuple[Any, ...]:
        """For a kernel, which does not look at what is not there."""
        if self.behind is None:
            return (self.grad,) * 5
        return self.grad, self.behind.x, self.behind.statistics, self.behind.weight, self.total


class _Bottleneck(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, g1: Tensor, b1: Tensor, g2: Tensor, b2: Tensor,
        g3: Tensor, b3: Tensor, norms: Norms, last_relu: bool, skip: bool,
    ) -> Tensor:  # fmt: skip
        n, _, h, w = x.shape
        pixels = _Pixels(n * h * w, h, w)
        arrived = torch.zeros(2, dtype=torch.int32, device=x.device)
        first = _Normed(x, take_moments(x, norms[0]), g1, b1, True)
        second = _Normed(*_convolve(first, w1, pixels, None, norms[1], arrived[0]), g2, b2, True)
        third = _Normed(*_convolve(second, w2, pixels, None, norms[2], arrived[1]), g3, b3, last_relu)
        ctx.save_for_backward(w1, w2, w3, *first[:4], *second[:4], *third[:4])
        ctx.last_relu, ctx.skip, ctx.pixels = last_relu, skip, pixels
        return _convolve(third, w3, pixels, x if skip else None)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        w1, w2, w3, *saved = ctx.saved_tensors
        first, second = _Normed._make([*saved[:4], True]), _Normed._make([*saved[4:8], True])
        third, pixels = _Normed._make([*saved[8:], ctx.last_relu]), ctx.pixels
        columns = triton.cdiv(first.x.shape[1], BLOCK)
        arrived = torch.zeros(2 + columns, dtype=torch.int32, device=grad.device)
        out3 = _Gradient(grad.contiguous(memory_format=torch.channels_last))
        behind, total3 = _transpose(out3, w3, third, pixels, arrived[0:])
        out2 = _Gradient(behind, total3, third)
        behind, total2 = _transpose(out2, w2, second, pixels, arrived[1:])
        out1 = _Gradient(behind, total2, second)
        behind, total1 = _transpose(out1, w1, first, pixels, arrived[2:])
        weights = _weight_gradients(((out1, first, w1), (out2, second, w2), (out3, third, w3)), pixels)
        back = input_gradient(*first, behind, total1, out3.grad if ctx.skip else None)
        affine = [p for t in (total1, total2, total3) for p in (t[1], t[0])]
        return back, *weights, *affine, None, None, None


def _convolve(
    read: _Normed, weight: Tensor, pixels: _Pixels, skip: Tensor | None = None, norm: nn.BatchNorm2d | None = None,
    arrived: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A convolution with the skip added, and the moments for the normalisation behind it, whose averages follow.

    Without a ``norm`` there are no moments; one has at most ``BLOCK`` channels.
    """
    (d, c), taps = weight.shape[:2], weight[0, 0].numel()
    n, _, h, w = read.x.shape
    out = torch.empty(n, d, h, w, dtype=read.x.dtype, device=read.x.device, memory_format=torch.channels_last)
    block = min(d, BLOCK)
    stretch, programs = pixels.cut(PROGRAMS // (d // block))
    moments = torch.empty(2, d, dtype=torch.float32, device=out.device)
    sums: tuple[Any, ...] = (out,) * 6 + (0.0, 0.0)  # which the kernel does not look at
    if norm is not None:
        partial = torch.empty(programs, 2, d, dtype=torch.float32, device=out.device)
        averages = norm.running_mean, norm.running_var, norm.num_batches_tracked
        sums = partial, arrived, moments, *averages, norm.momentum, norm.eps
    _forward[(programs, d // block)](
        *read[:4], weight, out if skip is None else skip, out, *sums, *pixels, stretch, programs, c, d, min(c, BLOCK),
        block, taps, HEIGHT, read.relu, skip is not None, norm is not None, SLOTS, num_warps=4,
        num_stages=_stages(out),
    )  # fmt: skip
    return out, moments


def _transpose(
    written: _Gradient, weight: Tensor, read: _Normed, pixels: _Pixels, arrived: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of what a convolution reads, behind the ReLU's mask, and its sums for the normalisation."""
    (d, c), taps = weight.shape[:2], weight[0, 0].numel()
    out = torch.empty_like(read.x)
    block = min(c, BLOCK)
    stretch, programs = pixels.cut(PROGRAMS // (c // block))
    partial = torch.empty(programs, 2, c, dtype=torch.float32, device=out.device)
    total = torch.empty(2, c, dtype=torch.float32, device=out.device)
    _backward[(programs, c // block)](
        *written.arguments(), weight, *read[:4], out, partial, arrived, total, *pixels, stretch, programs, c, d,
        min(d, BLOCK), block, taps, HEIGHT, written.behind is None, read.relu, SLOTS, num_warps=4,
        num_stages=_stages(out),
    )  # fmt: skip
    return out, total


def _weight_gradients(pairs: tuple[tuple[_Gradient, _Normed, Tensor], ...], pixels: _Pixels) -> list[Tensor]:
    """The gradients of the weights.  Each is a sum over pixels, in parts that one kernel adds for all of them."""
    entries = [weight.numel() for _, _, weight in pairs]
    grids, cuts = [], []
    for _, _, weight in pairs:
        (d, c), taps = weight.shape[:2], weight[0, 0].numel()
        grids.append((max(1, taps // 3), (d // min(d, BLOCK)) * (c // min(c, BLOCK))))  # rows of taps, channels
        cuts.append(pixels.cut(min(PROGRAMS // math.prod(grids[-1]), PARTIAL // weight.numel())))
    sizes = [programs * number for (_, programs), number in zip(cuts, entries, strict=True)]
    sums = torch.empty(sum(sizes), dtype=torch.float32, device=pairs[0][2].device)
    for (written, read, weight), grid, (stretch, programs), parts in zip(
        pairs, grids, cuts, sums.split(sizes), strict=True
    ):
        (d, c), taps = weight.shape[:2], weight[0, 0].numel()
        _weight[(programs, *grid)](
            *written.arguments(), *read[:4], parts, *pixels, stretch, c, d, min(c, BLOCK), min(d, BLOCK), taps,
            HEIGHT, written.behind is None, read.relu, num_warps=4, num_stages=_stages(read.x, least=1),
        )  # fmt: skip
    out = torch.empty(sum(entries), dtype=pairs[0][2].dtype, device=sums.device)
    width = pairs[1][2].shape[0]
    _finish_weights[(sum(entries) // ENTRIES,)](
        sums, out, *(p for _, p in cuts), *entries, width, SLOTS, ENTRIES, num_warps=4
    )
    return [
        part.view(weight.shape[0], *weight.shape[2:], weight.shape[1]).permute(0, 3, 1, 2)
        for part, (_, _, weight) in zip(out.split(entries), pairs, strict=True)
    ]


def _stages(x: Tensor, least: int = 2) -> int:
    """How many tiles are on their way to a program at once: fewer of float32, so that they fit on small devices."""
    return 3 if x.dtype == torch.bfloat16 else least


if triton is not None:
    from paperlib.fused.normalisation import keep_moments

    @triton.jit
    def _source(pixel, rows, h, w, tap, TAPS: tl.constexpr):
        """The pixels that a tap sees from some pixels, and whether they are there."""
        there = pixel < rows
        source = pixel
        if TAPS == 9:
            i = tap // 3 - 1
            j = tap % 3 - 1
            row = (pixel // w) % h + i
            column = pixel % w + j
            there = there & (row >= 0) & (row < h) & (column >= 0) & (column < w)
            source = pixel + i * w + j
        return there, source

    @triton.jit
    def _read(x, statistics, weight, bias, there, source, channels, C: tl.constexpr, RELU: tl.constexpr):
        """What a convolution reads of some pixels: normalised, behind the ReLU, and 0 where there is nothing."""
        value = tl.load(x + source[:, None] * C + channels[None, :], mask=there[:, None], other=0.0).to(tl.float32)
        scale = tl.load(statistics + C + channels) * tl.load(weight + channels)
        value = (value - tl.load(statistics + channels)[None, :]) * scale[None, :] + tl.load(bias + channels)[None, :]
        if RELU:
            value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
        return tl.where(there[:, None], value, 0.0).to(x.dtype.element_ty)

    @triton.jit
    def _written(
        grad, y, statistics, weight, total, there, source, channels, rows, D: tl.constexpr, DIRECT: tl.constexpr
    ):  # fmt: skip
        """The gradient of what a convolution writes, of some pixels, and 0 where there is nothing."""
        place = source[:, None] * D + channels[None, :]
        g = tl.load(grad + place, mask=there[:, None], other=0.0)
        if not DIRECT:
            inverse = tl.load(statistics + D + channels)[None, :]
            value = tl.load(y + place, mask=there[:, None], other=0.0).to(tl.float32)
            value = (value - tl.load(statistics + channels)[None, :]) * inverse
            plain = tl.load(total + channels)[None, :] / rows
            weighted = tl.load(total + D + channels)[None, :] / rows
            full = inverse * tl.load(weight + channels)[None, :] * (g.to(tl.float32) - plain - value * weighted)
            g = tl.where(there[:, None], full, 0.0).to(grad.dtype.element_ty)
        return g

    @triton.jit
    def _merge(mean, squares, count, other_mean, other_squares, other_count):
        """Moments of two sets together: the formula of Chan, Golub and LeVeque (1983)."""
        both = count + other_count
        share = other_count / tl.maximum(both, 1.0)
        apart = other_mean - mean
        return mean + apart * share, squares + other_squares + apart * apart * (count * share), both

    @triton.jit
    def _is_last(arrived, programs):
        """Whether all other programs of a column have stored their parts; then the counter is 0 again."""
        tl.debug_barrier()  # each thread's part is stored before one of them says so
        last = tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu") == programs - 1
        if last:
            tl.store(arrived, 0)
        return last

    @triton.jit
    def _finish(
        partial, moments, running_mean, running_var, batches, momentum, eps, rows, length, programs,
        D: tl.constexpr, SLOTS: tl.constexpr,
    ):  # fmt: skip
        """Merge the programs' moments: mean and 1/deviation; and the averages over time."""
        channels = tl.arange(0, D)
        mean = tl.zeros((D,), tl.float32)
        squares = tl.zeros((D,), tl.float32)
        count = 0.0
        for start in range(0, programs, SLOTS):
            slot = start + tl.arange(0, SLOTS)
            there = (slot < programs)[:, None]
            place = partial + slot[:, None] * 2 * D + channels[None, :]
            # Not from a multiprocessor's own cache, which does not see what the others store.
            means = tl.load(place, mask=there, other=0.0, cache_modifier=".cg")
            inner = tl.load(place + D, mask=there, other=0.0, cache_modifier=".cg")
            counts = tl.where(slot < programs, tl.minimum(tl.maximum(rows - slot * length, 0), length), 0)
            number = tl.sum(counts).to(tl.float32)
            counts = counts.to(tl.float32)[:, None]
            centre = tl.sum(means * (counts / tl.maximum(number, 1.0)), 0)
            apart = tl.where(there, means - centre[None, :], 0.0)
            mean, squares, count = _merge(
                mean, squares, count, centre, tl.sum(inner + apart * apart * counts, 0), number
            )
        keep_moments(mean, squares / rows, channels, moments, running_mean, running_var, momentum, eps, rows, D)
        tl.store(batches, tl.load(batches) + 1)

    @triton.jit
    def _forward(
        x, statistics, weight, bias, kernel, skip, out, partial, arrived, moments, running_mean, running_var, batches,
        momentum, eps, rows, h, w, stretch, programs, C: tl.constexpr, D: tl.constexpr, CHUNK: tl.constexpr,
        BLOCK: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, RELU: tl.constexpr, SKIP: tl.constexpr,
        MOMENTS: tl.constexpr, SLOTS: tl.constexpr,
    ):  # fmt: skip
        """Tiles of pixels by channels, one below the other; ``kernel`` lies as (out, tap, in)."""
        program = tl.program_id(0)
        outputs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        mean = tl.zeros((BLOCK,), tl.float32)
        squares = tl.zeros((BLOCK,), tl.float32)
        count = 0.0
        for tile in range(stretch):
            start = (program * stretch + tile) * TILE
            pixel = start + tl.arange(0, TILE)
            total = tl.zeros((TILE, BLOCK), tl.float32)
            for step in range(TAPS * (C // CHUNK)):
                tap = step // (C // CHUNK)
                channels = (step % (C // CHUNK)) * CHUNK + tl.arange(0, CHUNK)
                there, source = _source(pixel, rows, h, w, tap, TAPS)
                value = _read(x, statistics, weight, bias, there, source, channels, C, RELU)
                taps = tl.load(kernel + outputs[None, :] * (TAPS * C) + tap * C + channels[:, None])
                total = tl.dot(value, taps, total, input_precision="tf32x3")
            place = pixel[:, None] * D + outputs[None, :]
            inside = (pixel < rows)[:, None]
            if SKIP:
                total += tl.load(skip + place, mask=inside, other=0.0).to(tl.float32)
            rounded = total.to(out.dtype.element_ty)
            tl.store(out + place, rounded, mask=inside)
            if MOMENTS:
                value = tl.where(inside, rounded.to(tl.float32), 0.0)
                number = tl.minimum(tl.maximum(rows - start, 0), TILE).to(tl.float32)
                centre = tl.sum(value, 0) / tl.maximum(number, 1.0)
                apart = tl.where(inside, value - centre[None, :], 0.0)
                mean, squares, count = _merge(mean, squares, count, centre, tl.sum(apart * apart, 0), number)
        if MOMENTS:
            tl.store(partial + program * 2 * D + outputs, mean)
            tl.store(partial + program * 2 * D + D + outputs, squares)
            if _is_last(arrived, programs):
                _finish(
                    partial, moments, running_mean, running_var, batches, momentum, eps, rows, stretch * TILE,
                    programs, D, SLOTS,
                )  # fmt: skip

    @triton.jit
    def _backward(
        grad, y, y_statistics, y_weight, y_total, kernel, x, statistics, weight, bias, out, partial, arrived, total,
        rows, h, w, stretch, programs, C: tl.constexpr, D: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
        TAPS: tl.constexpr, TILE: tl.constexpr, DIRECT: tl.constexpr, RELU: tl.constexpr, SLOTS: tl.constexpr,
    ):  # fmt: skip
        program, column = tl.program_id(0), tl.program_id(1)
        inputs = column * BLOCK + tl.arange(0, BLOCK)
        inverse = tl.load(statistics + C + inputs)[None, :]
        middle = tl.load(statistics + inputs)[None, :]
        scale = inverse * tl.load(weight + inputs)[None, :]
        shift = tl.load(bias + inputs)[None, :]
        plain = tl.zeros((BLOCK,), tl.float32)
        weighted = tl.zeros((BLOCK,), tl.float32)
        for tile in range(stretch):
            pixel = (program * stretch + tile) * TILE + tl.arange(0, TILE)
            found = tl.zeros((TILE, BLOCK), tl.float32)
            for step in range(TAPS * (D // CHUNK)):
                tap = step // (D // CHUNK)
                channels = (step % (D // CHUNK)) * CHUNK + tl.arange(0, CHUNK)
                there, source = _source(pixel, rows, h, w, tap, TAPS)
                g = _written(
                    grad, y, y_statistics, y_weight, y_total, there, source, channels, rows, D, DIRECT
                )  # fmt: skip
                taps = tl.load(kernel + channels[:, None] * (TAPS * C) + (TAPS - 1 - tap) * C + inputs[None, :])
                found = tl.dot(g, taps, found, input_precision="tf32x3")
            place = pixel[:, None] * C + inputs[None, :]
            inside = (pixel < rows)[:, None]
            value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - middle
            rounded = found.to(out.dtype.element_ty)
            if RELU:
                rounded = tl.where(value * scale + shift <= 0.0, 0.0, rounded)
            tl.store(out + place, rounded, mask=inside)
            g = tl.where(inside, rounded.to(tl.float32), 0.0)
            plain += tl.sum(g, 0)
            weighted += tl.sum(g * (value * inverse), 0)
        tl.store(partial + program * 2 * C + inputs, plain)
        tl.store(partial + program * 2 * C + C + inputs, weighted)
        if _is_last(arrived + column, programs):
            plain = tl.zeros((BLOCK,), tl.float32)
            weighted = tl.zeros((BLOCK,), tl.float32)
            for start in range(0, programs, SLOTS):
                slot = start + tl.arange(0, SLOTS)
                place = partial + slot[:, None] * 2 * C + inputs[None, :]
                there = (slot < programs)[:, None]
                plain += tl.sum(tl.load(place, mask=there, other=0.0, cache_modifier=".cg"), 0)
                weighted += tl.sum(tl.load(place + C, mask=there, other=0.0, cache_modifier=".cg"), 0)
            tl.store(total + inputs, plain)
            tl.store(total + C + inputs, weighted)

    @triton.jit
    def _weight(
        grad, y, y_statistics, y_weight, y_total, x, statistics, weight, bias, out, rows, h, w, stretch,
        C: tl.constexpr, D: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, TAPS: tl.constexpr,
        TILE: tl.constexpr, DIRECT: tl.constexpr, RELU: tl.constexpr,
    ):  # fmt: skip
        """Products (out, in) over a stretch of pixels, of one tap or of a row of three; stored as (tap, out, in)."""
        program, i, column = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        inputs = (column % (C // INPUTS)) * INPUTS + tl.arange(0, INPUTS)
        outputs = (column // (C // INPUTS)) * OUTPUTS + tl.arange(0, OUTPUTS)
        left = tl.zeros((OUTPUTS, INPUTS), tl.float32)
        middle = tl.zeros((OUTPUTS, INPUTS), tl.float32)
        right = tl.zeros((OUTPUTS, INPUTS), tl.float32)
        for tile in range(stretch):
            pixel = (program * stretch + tile) * TILE + tl.arange(0, TILE)
            g = _written(
                grad, y, y_statistics, y_weight, y_total, pixel < rows, pixel, outputs, rows, D, DIRECT
            )  # fmt: skip
            g = tl.trans(g)
            there, source = _source(pixel, rows, h, w, 3 * i, TAPS)
            value = _read(x, statistics, weight, bias, there, source, inputs, C, RELU)
            left = tl.dot(g, value, left, input_precision="tf32x3")
            if TAPS == 9:
                there, source = _source(pixel, rows, h, w, 3 * i + 1, TAPS)
                value = _read(x, statistics, weight, bias, there, source, inputs, C, RELU)
                middle = tl.dot(g, value, middle, input_precision="tf32x3")
                there, source = _source(pixel, rows, h, w, 3 * i + 2, TAPS)
                value = _read(x, statistics, weight, bias, there, source, inputs, C, RELU)
                right = tl.dot(g, value, right, input_precision="tf32x3")
        place = out + (program * TAPS + 3 * i) * C * D + outputs[:, None] * C + inputs[None, :]
        tl.store(place, left)
        if TAPS == 9:
            tl.store(place + C * D, middle)
            tl.store(place + 2 * C * D, right)

    @triton.jit
    def _finish_weights(
        sums, out, programs1, programs2, programs3, ENTRIES1: tl.constexpr, ENTRIES2: tl.constexpr,
        ENTRIES3: tl.constexpr, WIDTH: tl.constexpr, SLOTS: tl.constexpr, SIZE: tl.constexpr,
    ):  # fmt: skip
        """Add the parts of three weights' gradients; the second's lie as (tap, out, in) and become (out, tap, in)."""
        entry = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
        target = entry
        entries = ENTRIES1
        programs = programs1
        if tl.program_id(0) * SIZE >= ENTRIES1 + ENTRIES2:
            entry -= ENTRIES1 + ENTRIES2
            sums += programs1 * ENTRIES1 + programs2 * ENTRIES2
            entries = ENTRIES3
            programs = programs3
        elif tl.program_id(0) * SIZE >= ENTRIES1:
            entry -= ENTRIES1
            sums += programs1 * ENTRIES1
            entries = ENTRIES2
            programs = programs2
            tap = entry // (WIDTH * WIDTH)
            output = (entry // WIDTH) % WIDTH
            target = ENTRIES1 + output * (9 * WIDTH) + tap * WIDTH + entry % WIDTH
        total = tl.zeros((SIZE,), tl.float32)
        for start in range(0, programs, SLOTS):
            slot = start + tl.arange(0, SLOTS)
            place = sums + slot[:, None] * entries + entry[None, :]
            total += tl.sum(tl.load(place, mask=(slot < programs)[:, None], other=0.0), 0)
        tl.store(out + target, total.to(out.dtype.element_ty))
