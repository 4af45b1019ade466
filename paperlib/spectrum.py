"""The singular values of a convolution (Theorem 3), from small matrices instead of the whole operator.

With circular padding a convolution is diagonal in frequency: at each of the h·w frequencies it acts as one d×c
matrix, the kernel's Fourier transform there, and its singular values are those of these matrices together
[Sedghi2019]_.  A stride s is no exception: a strided convolution is an ordinary one that reads the s² phases of its
input as s²·c channels (:func:`polyphase`).  Groups are convolutions beside one another.  A dilation permutes the
frequencies.  The kernel is real, so frequencies come in conjugate pairs and half of them are enough.

Networks pad with zeros.  That operator is a part of a slightly larger circular one, which bounds its norm from above
(:func:`operator_norm_bound`); its exact norm needs an iteration (:func:`operator_norm`).

The functions take a layer or a bare weight.

A **layer** (``nn.Conv1d`` to ``nn.Conv3d``, ``nn.ConvTranspose1d`` to ``nn.ConvTranspose3d``, ``nn.Linear``) is taken
as it is, with its padding, stride, dilation and groups, on an input with the sides ``input_size``.  Its current weight
is used, also that of a parametrisation.  Its bias plays no part: these are the numbers of the linear map.

A **bare weight** is ``(d, c, kh, kw)``, PyTorch's layout for ``nn.Conv2d``, and ``size`` is the side of the feature map
at the convolution's **output**, or its two sides ``(h, w)``; the input is ``stride`` times as large, and the padding is
the one that fits.  A weight does not say how many groups it has.  One of shape ``(d, 1, k, k)`` may belong to a
convolution of one channel, and is taken for that, or to a depthwise one of d channels: say ``groups=d``.

float64 is computed in float64, anything else in float32, with or without autocast.

.. [Sedghi2019] Sedghi, Gupta, Long: *The singular values of convolutional layers*, ICLR 2019, Theorem 6.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib import _checks
from paperlib._checks import each_axis, finite, one_of, sides
from paperlib._lanczos import leading_vector
from paperlib.geometry import Convolution, adjoint, described, matrix, reduced, without_autocast

Padding = Literal["circular", "zeros"]

LARGEST_MATRIX = 2**24
"""How many entries a matrix may have that :func:`singular_values` takes apart as a whole (128 MiB in float64)."""


def polyphase(weight: Tensor, stride: int | tuple[int, ...]) -> Tensor:
    """The stride-1 kernel on the phases of the input that a strided kernel amounts to.

    A convolution with stride s reads every s-th pixel, so its input splits into s² images, one for each position
    modulo s.  As channels of one image of the output's size they make the stride 1.  Tap (s·i + p, s·j + q) of channel
    a becomes tap (i, j) of channel (a, p, q).  Phases that no tap reads (k < s) are left out: a kernel with k ≤ s, a
    strided 1×1 convolution or a patch embedding, becomes a 1×1 kernel, one matrix.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel of the strided convolution, of two axes or any other number.
    stride : int or tuple of int
        The stride s, the same along all axes or one for each.

    Returns
    -------
    Tensor, (d, c·ph·pw, ⌈kh/s⌉, ⌈kw/s⌉)
        The kernel on ph·pw phases, where ph = min(kh, s) and pw = min(kw, s); differentiable.

    Examples
    --------
    >>> polyphase(torch.ones(8, 3, 3, 3), 2).shape, polyphase(torch.ones(8, 3, 4, 4), 4).shape
    (torch.Size([8, 12, 2, 2]), torch.Size([8, 48, 1, 1]))
    """
    _checks.real_tensor("weight", weight, "(..., d, c)")
    d, c, *taps = weight.shape
    strides = each_axis("stride", stride, len(taps))
    if all(s == 1 for s in strides):
        return weight
    border = [n for k, s in zip(reversed(taps), reversed(strides), strict=True) for n in (0, -k % s)]
    split = [n for k, s in zip(taps, strides, strict=True) for n in (-(-k // s), s)]
    phases = F.pad(weight, border).reshape(d, c, *split).permute(0, 1, *_phases_first(len(taps)))
    # A kernel that is smaller than the stride reads only the first of the phases.
    for axis, (k, s) in enumerate(zip(taps, strides, strict=True)):
        phases = phases.narrow(2 + axis, 0, min(k, s))
    return phases.flatten(1, 1 + len(taps))


def _phases_first(axes: int) -> list[int]:
    """The order that takes (rows, phase of rows, columns, phase of columns, ...) to all phases, then all places."""
    return [*range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2)]


def from_polyphase(phases: Tensor, weight_shape: tuple[int, ...], stride: int | tuple[int, ...]) -> Tensor:
    """The strided kernel of ``weight_shape`` with these :func:`polyphase` ``phases``; taps beyond its edge are dropped.

    Examples
    --------
    >>> w = torch.randn(8, 3, 3, 3)
    >>> torch.equal(from_polyphase(polyphase(w, 2), w.shape, 2), w)
    True
    """
    d, c, *taps = weight_shape
    strides, axes = each_axis("stride", stride, len(taps)), len(taps)
    if all(s == 1 for s in strides):
        return phases
    read = phases.unflatten(1, (c, *(min(k, s) for k, s in zip(taps, strides, strict=True))))
    missing = [n for k, s in zip(reversed(taps), reversed(strides), strict=True) for n in (0, max(0, s - k))]
    every = F.pad(read, [0] * (2 * axes) + missing)
    back = [n for axis in range(axes) for n in (2 + axes + axis, 2 + axis)]
    whole = every.permute(0, 1, *back).reshape(d, c, *(-(-k // s) * s for k, s in zip(taps, strides, strict=True)))
    for axis, k in enumerate(taps):
        whole = whole.narrow(2 + axis, 0, k)
    return whole


def waves(grid: tuple[int, ...], *offsets: Tensor) -> Tensor:
    """exp(-i (u·a/h + v·b/w) 2π) for the half spectrum of an h×w grid and the offsets a, b along its two axes.

    There may be any other number of axes; half of the spectrum is left out along the last one.  Returns
    ``(h·(⌊w/2⌋+1), product of the numbers of offsets)``, complex, in the offsets' precision.  The table is made on
    their device, and nothing is copied to it.
    """
    table = None
    for i, (n, places) in enumerate(zip(grid, offsets, strict=True)):
        number = n // 2 + 1 if i == len(grid) - 1 else n
        u = torch.arange(number, dtype=places.dtype, device=places.device)
        one = torch.ones((), dtype=places.dtype, device=places.device)
        # Reducing u·a modulo h first keeps the angle below 2π, where sine and cosine are exact to the last digit.
        along = torch.polar(one, -2 * math.pi / n * torch.remainder(u[:, None] * places, n))
        if table is not None:
            along = (table[:, None, :, None] * along[None, :, None, :]).flatten(2).flatten(0, 1)
        table = along
    assert table is not None
    return table


def half_weights(w: int, like: Tensor) -> Tensor:
    """How many frequencies each column of the half spectrum of a map of width ``w`` stands for: ``(⌊w/2⌋+1,)``.

    Each stands for its mirror image as well, except those that are their own.  In the dtype and on the device of
    ``like``.

    Examples
    --------
    >>> half_weights(6, torch.zeros(())), half_weights(5, torch.zeros(()))
    (tensor([1., 2., 2., 1.]), tensor([1., 2., 2.]))
    """
    # Not by setting single entries: on CUDA each would wait for the device.
    column = torch.arange(w // 2 + 1, device=like.device)
    return 2 - ((column == 0) | (2 * column == w)).to(like.dtype)


@without_autocast
def transfer_matrices(weight: Tensor, size: int | tuple[int, ...], stride: int | tuple[int, ...] = 1) -> Tensor:
    """The kernel's Fourier transform at each frequency of the half spectrum: the matrices P of Theorem 3.

    (torch's convolution is a correlation and acts by their conjugates; the singular values are the same.)  At (-u, -v)
    the matrix is the conjugate of the one at (u, v).

    They come from a product with a small table of waves, not from an FFT: for the few taps of a kernel that is cheaper
    than transforming the zeros around them.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel, of two axes or any other number.
    size : int or tuple of int
        The side of the output, or its sides ``(h, w)``.
    stride : int or tuple of int
        The convolution's stride, the same along all axes or one for each.

    Returns
    -------
    Tensor, (h, ⌊w/2⌋+1, d, c'), complex
        The matrices, differentiable; c' = c, or with a stride c times the number of phases that are read.

    Raises
    ------
    ValueError
        For a bad ``size`` or ``stride``.

    Examples
    --------
    >>> w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    >>> fft = torch.fft.rfft2(w, s=(8, 8)).permute(2, 3, 0, 1)
    >>> torch.allclose(transfer_matrices(w, 8), fft)
    True
    """
    _checks.real_tensor("weight", weight, "(..., d, c, k)")
    *grid, last = sides(size, weight.ndim - 2)
    kernel = _precise(polyphase(weight, stride))
    d, c, *taps = kernel.shape
    table = waves((*grid, last), *(torch.arange(k, dtype=kernel.dtype, device=kernel.device) for k in taps))
    flat = kernel.flatten(2).permute(2, 0, 1).reshape(-1, d * c)
    return torch.complex(table.real @ flat, table.imag @ flat).reshape(*grid, last // 2 + 1, d, c)


_TOO_LARGE = "the kernel's numbers are too large for sums of them in float32: give it in float64, or scale it"


def _precise(kernel: Tensor) -> Tensor:
    """The kernel in the precision that it is computed in: float64 as it is, anything else in float32."""
    return kernel if kernel.dtype == torch.float64 else kernel.float()


def _circular_values(found: Convolution, size: tuple[int, ...]) -> Tensor:
    """The singular values ``(*size, number)`` of the circular convolution with that kernel and that output."""
    weight, groups = found.weight, found.groups
    stride, step = reduced(found.stride, found.dilation)
    kernel = finite(polyphase(weight, stride))
    d, c = kernel.shape[0] // groups, kernel.shape[1]
    full = min(d, math.prod(found.stride) * weight.shape[1])
    if all(k == 1 for k in kernel.shape[2:]):  # the same matrix at every frequency
        values = torch.linalg.svdvals(_precise(kernel.flatten(1)).unflatten(0, (groups, d)))
        return _together(values, full - min(d, c)).expand(*size, -1)
    matrices = transfer_matrices(weight, size, stride)
    if not bool(torch.isfinite(torch.view_as_real(matrices.detach())).all()):
        raise ValueError(_TOO_LARGE)
    half = torch.linalg.svdvals(matrices.unflatten(-2, (groups, d)))
    # The frequency (u, v) beyond the half has the values of (-u, -v), inside it.
    *grid, last = size
    beyond = [-torch.arange(n, device=half.device) % n for n in grid]
    beyond.append(last - torch.arange(last // 2 + 1, last, device=half.device))
    mirrored = half[torch.meshgrid(*beyond, indexing="ij")]
    values = _together(torch.cat([half, mirrored], dim=len(size) - 1), full - min(d, c))
    for axis, (n, along) in enumerate(zip(size, step, strict=True)):
        if along % n != 1 % n:
            values = values.index_select(axis, torch.arange(n, device=values.device) * along % n)
    return values


def _together(values: Tensor, zeros: int) -> Tensor:
    """The values of all groups ``(..., groups, number)`` with so many zeros for each, the largest first."""
    values = F.pad(values, (0, zeros))
    return values.flatten(-2) if values.shape[-2] == 1 else values.flatten(-2).sort(dim=-1, descending=True).values


def frequencies(found: Convolution, padding: str | None) -> tuple[int, ...] | None:
    """The grid of frequencies at which the map's singular values are to be taken, or None if it is not circular.

    ``padding="circular"`` asks for those of a circular convolution in any case.
    """
    if found.is_circular():
        return found.size
    if padding != "circular":
        return None
    if not found.is_divisible():
        where = "an output (see output_padding)" if found.transposed else "an input"
        raise ValueError(
            f"padding='circular' needs {where} that the stride divides: {found.stride} does not divide "
            f"{tuple(axis.inputs for axis in found.axes)}"
        )
    return tuple(axis.inputs // axis.stride for axis in found.axes)


def _asked(weight: Any, padding: Any) -> str | None:
    """What ``padding`` says, "circular" by default for a bare weight; None is a layer's own."""
    if isinstance(weight, nn.Module):
        if padding not in (None, "circular"):
            raise ValueError(
                f"padding {_checks.shown(padding)} is for a bare weight: a layer has its own, or may be taken as "
                "'circular'"
            )
        return padding
    return one_of("padding", "circular" if padding is None else padding, get_args(Padding))


@without_autocast
def singular_values(
    weight: Tensor | nn.Module,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    *,
    input_size: int | tuple[int, ...] | None = None,
    padding: Padding | None = None,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """All singular values of a convolution or of a linear layer.

    Those of a circular convolution come frequency by frequency (Theorem 3), whatever its size.  Those of any other
    layer come from the matrix that it is, if it has no more than 2²⁴ entries (:data:`LARGEST_MATRIX`).

    Parameters
    ----------
    weight : Tensor, (d, c / groups, kh, kw), or nn.Module
        The kernel, of any size, odd or even, on any device; or a layer, see the head of this page.
    size : int or tuple of int
        For a bare weight, the side (or the sides ``(h, w)``) of the **output**; the input is ``stride`` times as large.
    stride : int or (int, int)
        For a bare weight, the convolution's stride, the same both ways; by default 1.
    input_size : int or tuple of int
        For a layer, the side or the sides of its **input**.  A linear layer has none.
    padding : {"circular", "zeros"}, optional
        What lies beyond the border of a bare weight's image, by default "circular".  With a layer, "circular" asks for
        an approximation: the values as if the layer had circular padding of the width that fits.
    groups : int
        For a bare weight, the number of groups; d for a depthwise convolution.
    dilation : int or tuple of int
        For a bare weight, the distance of its taps.

    Returns
    -------
    Tensor, (h, w, number) or (number,)
        For a circular convolution the singular values at each frequency, largest first: min(d, s²c) for one group.
        Together they are those of the whole operator from c·(s·h)·(s·w) to d·h·w numbers, with multiplicity; those that
        are zero because phases are skipped are included.  There is one axis of frequencies for each axis of the
        convolution, and none for a linear layer.  For any other layer all min(inputs, outputs) of them, largest first.
        float64 for a float64 weight, else float32; differentiable.

    Raises
    ------
    ValueError
        For a bad argument (NaN and infinite weights, too), and for a layer that is not circular and whose matrix is
        too large.

    Examples
    --------
    >>> w = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> s = singular_values(w, size=5)
    >>> s.shape
    torch.Size([5, 5, 3])
    >>> exact = torch.linalg.svdvals(dense(w, size=5))
    >>> torch.allclose(s.flatten().sort(descending=True).values, exact, atol=1e-12)
    True
    >>> singular_values(nn.Conv2d(3, 4, 3, stride=2), input_size=9).shape  # no padding: 4x4 outputs of 4 channels
    torch.Size([64])
    """
    asked = _asked(weight, padding)
    found = described(weight, size, stride, input_size, groups, dilation, asked or "")
    grid = frequencies(found, asked)
    if grid is not None:
        return _circular_values(found, grid)
    return torch.linalg.svdvals(_small_matrix(found))


def _small_matrix(found: Convolution) -> Tensor:
    inputs, outputs = _numbers(found)
    if inputs * outputs > LARGEST_MATRIX:
        raise ValueError(
            f"this convolution is not circular, and its matrix of {outputs} by {inputs} entries is too large to take "
            "apart: ask for its operator_norm, or for the values of its circular approximation, padding='circular'"
        )
    return matrix(found, _precise(finite(found.weight)))


def _numbers(found: Convolution) -> tuple[int, int]:
    """How many numbers go into the map, and how many come out of it."""
    d, c = found.weight.shape[0], found.groups * found.weight.shape[1]
    small, large = d * math.prod(found.size), c * math.prod(axis.inputs for axis in found.axes)
    return (small, large) if found.transposed else (large, small)


@without_autocast
def dense(
    weight: Tensor, size: int | tuple[int, int], stride: int | tuple[int, int] = 1, padding: Padding = "circular"
) -> Tensor:
    """The convolution as one matrix ``(d·h·w, c·s·h·s·w)``: an identity basis pushed through torch's own ``conv2d``.

    It is for small cases only, to check the rest against: the matrix has d·c·s²·(h·w)² entries.

    Examples
    --------
    >>> dense(torch.ones(4, 3, 3, 3), size=5, padding="zeros").shape
    torch.Size([100, 75])
    """
    _checks.conv_weight(weight)
    one_of("padding", padding, get_args(Padding))
    return matrix(described(weight, size, stride, padding=padding), weight)


@without_autocast
def operator_norm_bound(
    weight: Tensor | nn.Module,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    *,
    input_size: int | tuple[int, ...] | None = None,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """A certified upper bound on the norm of the zero-padded convolution: the circular norm on a slightly larger map.

    An image with p zero pixels beside it is a circular image of n + p pixels, so the zero-padded operator is a
    submatrix of the circular one on that map, and no submatrix has a larger norm.  (The norm of the weight reshaped
    to d × c·k² is *not* a bound.)  The same holds for a layer of any padding.  Where it is filled with pixels of the
    image ("reflect", "replicate", "circular"), the bound is multiplied along each axis by the square root of how often
    a pixel is there at most: that is the norm of the padding.

    The arguments are those of :func:`singular_values`.  Returns a scalar tensor; differentiable.  Raises ``ValueError``
    for a bad argument.

    Examples
    --------
    >>> w = torch.ones(1, 1, 3, 3)
    >>> float(operator_norm(w, 4, "zeros")) < float(operator_norm_bound(w, 4))
    True
    """
    found = described(weight, size, stride, input_size, groups, dilation, "zeros")
    if found.is_circular():
        return _circular_values(found, found.size).max()
    filled = found.mode != "zeros"
    grid = tuple(axis.circular_outputs(filled) for axis in found.axes)
    copies = math.prod(axis.copies(found.mode) for axis in found.axes) if filled else 1
    return math.sqrt(copies) * _circular_values(found, grid).max()


@without_autocast
def operator_norm(
    weight: Tensor | nn.Module,
    size: int | tuple[int, int] | None = None,
    padding: Padding | None = None,
    stride: int | tuple[int, int] | None = None,
    tolerance: float = 1e-9,
    *,
    input_size: int | tuple[int, ...] | None = None,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """The largest singular value of a convolution or of a linear layer, also where it is not circular.

    For circular padding it is exact (:func:`singular_values`), as it is for a map whose matrix has a small side.  There
    is no closed form for anything else.  A block Lanczos iteration runs on the layer's own forward pass and its
    adjoint, first in float32 and then in float64, until the estimated error of the square of the norm is below
    ``tolerance`` times that square.  What it returns is never above the exact norm; :func:`operator_norm_bound` is
    never below it.  Both hold up to rounding, a few parts in 10⁷ in float32.

    The derivative is that of the norm at the singular vectors that were found.  Where the two largest singular values
    are nearly the same, it may be that of any mixture of their vectors.  There is no second derivative; asking for one
    is an error.

    Parameters
    ----------
    weight : Tensor, (d, c / groups, kh, kw), or nn.Module
        The kernel, or a layer, see the head of this page.
    size : int or tuple of int
        For a bare weight, the side (or the sides ``(h, w)``) of the **output**.
    padding : {"circular", "zeros"}, optional
        What lies beyond the border of a bare weight's image, by default "circular".  "zeros" puts k // 2 pixels on
        either side for an odd k, as networks do; for an even one (k-1)//2 before and the rest after.  With a layer,
        "circular" asks for an approximation: the norm as if the layer had circular padding of the width that fits.
    stride : int or (int, int)
        For a bare weight, the convolution's stride, the same both ways; by default 1.
    tolerance : float
        When to stop: above 0, and at most 0.1, where the first digit is still right.
    input_size : int or tuple of int
        For a layer, the side or the sides of its **input**.  A linear layer has none.
    groups : int
        For a bare weight, the number of groups; d for a depthwise convolution.
    dilation : int or tuple of int
        For a bare weight, the distance of its taps.

    Returns
    -------
    Tensor, ()
        The norm, on the weight's device; float64 for a float64 weight, else float32; differentiable.

    Raises
    ------
    ValueError
        For a bad argument, or a weight that is not finite.
    RuntimeError
        If the iteration does not converge.

    Examples
    --------
    >>> w = torch.randn(8, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> exact = torch.linalg.matrix_norm(dense(w, 6, padding="zeros"), 2)
    >>> abs(operator_norm(w, 6, "zeros") - exact).item() < 1e-10
    True
    >>> layer = nn.Conv2d(8, 8, 3, dilation=2, padding=2, padding_mode="reflect", groups=8)
    >>> bool(operator_norm(layer, input_size=15) <= operator_norm_bound(layer, input_size=15))
    True
    """
    # The estimate of the error, and so the norm, would mean little with a larger one.
    _checks.number("tolerance", tolerance, above=0, most=0.1)
    asked = _asked(weight, padding)
    found = described(weight, size, stride, input_size, groups, dilation, asked or "")
    grid = frequencies(found, asked)
    if grid is not None:
        return _circular_values(found, grid)[..., 0].max()
    kernel = _precise(finite(found.weight))
    # Other accelerators lack float64.
    here = kernel.detach() if kernel.device.type in ("cpu", "cuda") else kernel.detach().cpu()
    # The square of the map, which the iteration sees, could overflow or vanish where the kernel does not.
    constant = here.double() / here.abs().amax().double().clamp_min(torch.finfo(torch.float64).tiny)
    right = _leading_image(found, constant, tolerance)
    left = found.apply(right, constant)
    norm = left.norm()
    if norm == 0:
        return 0 * kernel.sum()
    if norm * here.abs().amax() > torch.finfo(kernel.dtype).max:
        raise ValueError(_TOO_LARGE)
    # uᵀ A v with u and v fixed: its derivative in A is the norm's own.
    return _FirstDerivative.apply(((left / norm).to(kernel) * found.apply(right.to(kernel), kernel)).sum(), kernel)


class _FirstDerivative(torch.autograd.Function):
    """``x``, whose second derivatives in the kernel are refused: with u and v fixed a part of them would be missing."""

    generate_vmap_rule = True  # for torch.func.jacrev

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _NoDerivative.apply(grad, *ctx.saved_tensors), None


class _NoDerivative(_FirstDerivative):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        raise RuntimeError(
            "operator_norm has no second derivative where it is found by an iteration: "
            "operator_norm_bound, and operator_norm of a circular convolution, have one"
        )


def _narrowed(found: Convolution, kernel: Tensor) -> Tensor:
    """A kernel with fewer output channels that stretches every image by as much, where there is one.

    A pixel's d outputs are a matrix of d rows times the c·k² numbers under the kernel.  If d is larger, the matrix is
    QR, and Q, whose columns are orthonormal, changes no norm.
    """
    numbers = math.prod(kernel.shape[1:])
    if found.transposed or found.groups > 1 or kernel.shape[0] <= numbers:
        return kernel
    return torch.linalg.qr(kernel.flatten(1), mode="r")[1].reshape(numbers, *kernel.shape[1:])


_DIRECT = 128  # a side of the matrix up to which it is taken apart as a whole: nothing is gained by iterating


def _leading_image(found: Convolution, kernel: Tensor, tolerance: float) -> Tensor:
    """The image ``(1, *input_shape)`` of norm 1 that the map stretches most, in the kernel's float64."""
    inputs, outputs = _numbers(found)
    if min(inputs, outputs) <= _DIRECT:
        return torch.linalg.svd(matrix(found, kernel), full_matrices=False).Vh[0].reshape(1, *found.input_shape)
    kernel = _narrowed(found, kernel)
    kernels = {torch.float32: kernel.float(), torch.float64: kernel}
    backs = {dtype: adjoint(found, weight, 2) for dtype, weight in kernels.items()}
    output_shape = found.apply(kernel.new_zeros(1, *found.input_shape), kernel).shape[1:]
    outputs = math.prod(output_shape)

    def forward(images: Tensor) -> Tensor:
        return found.apply(images.reshape(-1, *found.input_shape), kernels[images.dtype]).flatten(1)

    def back(images: Tensor) -> Tensor:
        return backs[images.dtype](images.reshape(-1, *output_shape)).flatten(1)

    # Always the same start, made on the CPU, so that the result is repeatable on any device.
    start = torch.randn(2, min(inputs, outputs), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if inputs <= outputs:  # the iteration runs on the smaller side
        image = leading_vector(lambda x: back(forward(x)), start.to(kernel.device), tolerance)
    else:
        left = leading_vector(lambda x: forward(back(x)), start.to(kernel.device), tolerance)
        image = back(left.expand(2, -1))[0]
    return (image / image.norm().clamp_min(torch.finfo(torch.float64).tiny)).reshape(1, *found.input_shape)
