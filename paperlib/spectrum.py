"""The singular values of a convolution (Theorem 3), from small matrices instead of the whole operator.

With circular padding a convolution is diagonal in frequency: at each of the h·w frequencies it acts as one d×c
matrix, the kernel's Fourier transform there, and its singular values are those of these matrices together
[Sedghi2019]_.  A stride s is no exception: a strided convolution is an ordinary one that reads the s² phases of its
input as s²·c channels (:func:`polyphase`).  The kernel is real, so frequencies come in conjugate pairs and half of
them are enough.

Networks pad with zeros.  That operator is a part of a slightly larger circular one, which bounds its norm from above
(:func:`operator_norm_bound`); its exact norm needs an iteration (:func:`operator_norm`).

Everywhere ``weight`` is ``(d, c, kh, kw)``, PyTorch's layout, and ``size`` is the side of the feature map at the
convolution's **output**, or its two sides ``(h, w)``; the input is ``stride`` times as large.  float64 is computed in
float64, anything else in float32.

.. [Sedghi2019] Sedghi, Gupta, Long: *The singular values of convolutional layers*, ICLR 2019, Theorem 6.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, svds
from torch import Tensor

from paperlib._checks import conv_weight, finite, one_of, sides, whole_number

Padding = Literal["circular", "zeros"]


def polyphase(weight: Tensor, stride: int) -> Tensor:
    """The stride-1 kernel on the phases of the input that a strided kernel amounts to.

    A convolution with stride s reads every s-th pixel, so its input splits into s² images, one for each position
    modulo s.  As channels of one image of the output's size they make the stride 1.  Tap (s·i + p, s·j + q) of channel
    a becomes tap (i, j) of channel (a, p, q).  Phases that no tap reads (k < s) are left out: a kernel with k ≤ s, a
    strided 1×1 convolution or a patch embedding, becomes a 1×1 kernel, one matrix.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel of the strided convolution.
    stride : int
        The stride s, the same both ways.

    Returns
    -------
    Tensor, (d, c·ph·pw, ⌈kh/s⌉, ⌈kw/s⌉)
        The kernel on ph·pw phases, where ph = min(kh, s) and pw = min(kw, s); differentiable.

    Examples
    --------
    >>> polyphase(torch.ones(8, 3, 3, 3), 2).shape, polyphase(torch.ones(8, 3, 4, 4), 4).shape
    (torch.Size([8, 12, 2, 2]), torch.Size([8, 48, 1, 1]))
    """
    _, c, kh, kw = conv_weight(weight).shape
    if whole_number("stride", stride, unit="(the same both ways)") == 1:
        return weight
    phases = F.pixel_unshuffle(F.pad(weight, (0, -kw % stride, 0, -kh % stride)), stride)
    # A kernel that is smaller than the stride reads only the first of the phases.
    return phases.unflatten(1, (c, stride, stride))[:, :, :kh, :kw].flatten(1, 3)


def from_polyphase(phases: Tensor, weight_shape: tuple[int, ...], stride: int) -> Tensor:
    """The strided kernel of ``weight_shape`` with these :func:`polyphase` ``phases``; taps beyond its edge are dropped.

    Examples
    --------
    >>> w = torch.randn(8, 3, 3, 3)
    >>> torch.equal(from_polyphase(polyphase(w, 2), w.shape, 2), w)
    True
    """
    if stride == 1:
        return phases
    _, c, kh, kw = weight_shape
    ph, pw = min(kh, stride), min(kw, stride)
    read = phases.unflatten(1, (c, ph, pw))
    every = F.pad(read, (0, 0, 0, 0, 0, stride - pw, 0, stride - ph))
    return F.pixel_shuffle(every.flatten(1, 3), stride)[:, :, :kh, :kw]


def waves(grid: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """exp(-i (u·a/h + v·b/w) 2π) for the half spectrum of an h×w grid and the offsets a in ``rows``, b in ``columns``.

    Returns ``(h·(⌊w/2⌋+1), len(rows)·len(columns))``, complex, in the offsets' precision.  The table is made on their
    device, and nothing is copied to it.
    """
    h, w = grid
    u = torch.arange(h, dtype=rows.dtype, device=rows.device)
    v = torch.arange(w // 2 + 1, dtype=rows.dtype, device=rows.device)
    one = torch.ones((), dtype=rows.dtype, device=rows.device)
    # Reducing u·a modulo h first keeps the angle below 2π, where sine and cosine are exact to the last digit.
    along_h = torch.polar(one, -2 * math.pi / h * torch.remainder(u[:, None] * rows, h))
    along_w = torch.polar(one, -2 * math.pi / w * torch.remainder(v[:, None] * columns, w))
    return (along_h[:, None, :, None] * along_w[None, :, None, :]).reshape(u.numel() * v.numel(), -1)


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


def transfer_matrices(weight: Tensor, size: int | tuple[int, int], stride: int = 1) -> Tensor:
    """The kernel's Fourier transform at each frequency of the half spectrum: the matrices P of Theorem 3.

    (torch's convolution is a correlation and acts by their conjugates; the singular values are the same.)  At (-u, -v)
    the matrix is the conjugate of the one at (u, v).

    They come from a product with a small table of waves, not from an FFT: for the few taps of a kernel that is cheaper
    than transforming the zeros around them.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel.
    size : int or tuple of int
        The side of the output, or its two sides ``(h, w)``.
    stride : int
        The convolution's stride, the same both ways.

    Returns
    -------
    Tensor, (h, ⌊w/2⌋+1, d, c'), complex
        The matrices, differentiable; c' = c, or with a stride c times the number of phases that are read.

    Raises
    ------
    ValueError
        For a bad ``weight``, ``size`` or ``stride``.

    Examples
    --------
    >>> w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    >>> fft = torch.fft.rfft2(w, s=(8, 8)).permute(2, 3, 0, 1)
    >>> torch.allclose(transfer_matrices(w, 8), fft)
    True
    """
    h, w = sides(size)
    kernel = _precise(polyphase(weight, stride))
    d, c, kh, kw = kernel.shape
    row, column = (torch.arange(k, dtype=kernel.dtype, device=kernel.device) for k in (kh, kw))
    table = waves((h, w), row, column)
    flat = kernel.flatten(2).permute(2, 0, 1).reshape(kh * kw, d * c)
    return torch.complex(table.real @ flat, table.imag @ flat).reshape(h, w // 2 + 1, d, c)


def _precise(kernel: Tensor) -> Tensor:
    """The kernel in the precision that it is computed in: float64 as it is, anything else in float32."""
    return kernel if kernel.dtype == torch.float64 else kernel.float()


def singular_values(weight: Tensor, size: int | tuple[int, int], stride: int = 1) -> Tensor:
    """All singular values of a convolution with circular padding, frequency by frequency (Theorem 3).

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel: of any size, odd or even, on any device.
    size : int or tuple of int
        The side (or the sides ``(h, w)``) of the **output**; the input is ``stride`` times as large.
    stride : int
        The convolution's stride, the same both ways.

    Returns
    -------
    Tensor, (h, w, min(d, s²c))
        The singular values at each frequency, largest first.  Together they are those of the whole operator from
        c·(s·h)·(s·w) to d·h·w numbers, with multiplicity; those that are zero because phases are skipped are included.
        float64 for a float64 weight, else float32; differentiable.

    Raises
    ------
    ValueError
        For a bad ``weight`` (NaN and infinite values, too), ``size`` or ``stride``.

    Examples
    --------
    >>> w = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> s = singular_values(w, size=5)
    >>> s.shape
    torch.Size([5, 5, 3])
    >>> exact = torch.linalg.svdvals(dense(w, size=5))
    >>> torch.allclose(s.flatten().sort(descending=True).values, exact, atol=1e-12)
    True
    """
    h, w = sides(size)
    kernel = finite(polyphase(weight, stride))
    rank, full = min(kernel.shape[:2]), min(weight.shape[0], stride * stride * weight.shape[1])
    if kernel.shape[2:] == (1, 1):  # the same matrix at every frequency
        values = torch.linalg.svdvals(_precise(kernel[:, :, 0, 0]))
        return F.pad(values, (0, full - rank)).expand(h, w, full)
    half = torch.linalg.svdvals(transfer_matrices(weight, (h, w), stride))
    # The frequency (u, v) beyond the half has the values of (-u, -v), inside it.
    u = torch.arange(h, device=half.device)
    v = torch.arange(w // 2 + 1, w, device=half.device)
    mirrored = half[(-u % h)[:, None], w - v]
    return F.pad(torch.cat([half, mirrored], dim=1), (0, full - rank))


def _pad(x: Tensor, k: tuple[int, ...], stride: int, padding: Padding) -> Tensor:
    """``x`` with the border that gives an output ``stride`` times smaller: (k-1)//2 before, what is missing after."""
    border = []
    for side in (1, 0):
        before = (k[side] - 1) // 2
        border += [before, k[side] - stride - before]
    if padding == "zeros":
        return F.pad(x, border)  # a negative border cuts pixels off that a wide stride never reads
    for axis, before, after in ((3, border[0], border[1]), (2, border[2], border[3])):
        n = x.shape[axis]
        # By index: torch's own circular padding refuses a border wider than the image.
        x = x.index_select(axis, torch.arange(-before, n + after, device=x.device) % n)
    return x


def dense(weight: Tensor, size: int | tuple[int, int], stride: int = 1, padding: Padding = "circular") -> Tensor:
    """The convolution as one matrix ``(d·h·w, c·s·h·s·w)``: an identity basis pushed through torch's own ``conv2d``.

    It is for small cases only, to check the rest against: the matrix has d·c·s²·(h·w)² entries.

    Examples
    --------
    >>> dense(torch.ones(4, 3, 3, 3), size=5, padding="zeros").shape
    torch.Size([100, 75])
    """
    conv_weight(weight)
    one_of("padding", padding, get_args(Padding))
    (h, w), c = sides(size), weight.shape[1]
    n = c * h * w * whole_number("stride", stride, unit="(the same both ways)") ** 2
    basis = torch.eye(n, dtype=weight.dtype, device=weight.device).reshape(n, c, h * stride, w * stride)
    return F.conv2d(_pad(basis, weight.shape[2:], stride, padding), weight, stride=stride).flatten(1).T


def operator_norm_bound(weight: Tensor, size: int | tuple[int, int], stride: int = 1) -> Tensor:
    """A certified upper bound on the norm of the zero-padded convolution: the circular norm on a slightly larger map.

    An image with p zero pixels beside it is a circular image of n + p pixels, so the zero-padded operator is a
    submatrix of the circular one on that map, and no submatrix has a larger norm.  (The norm of the weight reshaped
    to d × c·k² is *not* a bound.)

    Returns a scalar tensor; differentiable.  Raises ``ValueError`` as :func:`singular_values` does.

    Examples
    --------
    >>> w = torch.ones(1, 1, 3, 3)
    >>> float(operator_norm(w, 4, "zeros")) < float(operator_norm_bound(w, 4))
    True
    """
    _, _, kh, kw = conv_weight(weight).shape
    (h, w), stride = sides(size), whole_number("stride", stride, unit="(the same both ways)")
    grid = h + -(-(kh // 2) // stride), w + -(-(kw // 2) // stride)
    return singular_values(weight, grid, stride).max()


def operator_norm(
    weight: Tensor, size: int | tuple[int, int], padding: Padding = "circular", stride: int = 1, tolerance: float = 1e-9
) -> Tensor:
    """The largest singular value of a convolution: exact for circular padding, by an iteration for zero padding.

    ``padding="zeros"`` puts k // 2 pixels on either side for an odd k, as networks do; for an even one (k-1)//2 before
    and the rest after.  There is no closed form for it.  SciPy's restarted Lanczos iteration (ARPACK), in float64 and
    on the CPU, is run on the convolution and its adjoint until the residual of the leading singular pair is below
    ``tolerance`` times the norm.  What it returns is never above the exact norm; :func:`operator_norm_bound` is never
    below it.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel.
    size : int or tuple of int
        The side (or the sides ``(h, w)``) of the output.
    padding : {"circular", "zeros"}
        What lies beyond the border of the image.
    stride : int
        The convolution's stride, the same both ways.
    tolerance : float
        When to stop: the residual over the norm.

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
    """
    conv_weight(weight)
    if one_of("padding", padding, get_args(Padding)) == "circular":
        return singular_values(weight, size, stride)[..., 0].max()
    (h, w), s = sides(size), whole_number("stride", stride, unit="(the same both ways)")
    kernel = _precise(finite(weight))
    constant = kernel.detach().cpu().double()
    # Its square, which the iteration sees, could overflow or vanish where the kernel does not.
    constant = constant / constant.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)
    right = _leading_image(constant, (h * s, w * s), s, tolerance)
    left = _zero_padded(right, constant, s)
    norm = left.norm()
    if norm == 0:
        return 0 * kernel.sum()
    # uᵀ A v with u and v fixed: its derivative in A is the norm's own.
    return ((left / norm).to(kernel) * _zero_padded(right.to(kernel), kernel, s)).sum()


def _zero_padded(images: Tensor, kernel: Tensor, stride: int) -> Tensor:
    return F.conv2d(_pad(images, kernel.shape[2:], stride, "zeros"), kernel, stride=stride)


def _leading_image(kernel: Tensor, size: tuple[int, int], stride: int, tolerance: float) -> Tensor:
    """The image ``(1, c, *size)`` of norm 1 that the zero-padded convolution stretches most; float64, on the CPU."""
    shape = (1, kernel.shape[1], *size)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The convolution is linear: its derivative at any image is the convolution itself.
    image, adjoint = torch.func.vjp(lambda x: _zero_padded(x, kernel, stride), start)[:2]
    if not image.any():  # nor would any other image be seen: each tap is zero or lies beyond the border
        return start
    rows, columns = image.numel(), start.numel()
    operator = LinearOperator(
        (rows, columns),
        matvec=lambda x: _zero_padded(torch.from_numpy(x).reshape(shape), kernel, stride).flatten().numpy(),
        rmatvec=lambda y: adjoint(torch.from_numpy(y).reshape(image.shape))[0].flatten().numpy(),
        dtype=np.float64,
    )
    if min(rows, columns) <= 20:  # no larger than the iteration's working space
        matrix = operator.matmat(np.eye(columns)) if columns <= rows else operator.rmatmat(np.eye(rows)).T
        vectors = np.linalg.svd(matrix, full_matrices=False)[2]
    else:
        first = start if columns <= rows else image  # the iteration runs on the smaller side
        # |AᵀA x - θ x| ≤ tol² θ is where it ends: a residual of the square, and half of it is that of the norm.
        options = {"v0": first.flatten().numpy(), "tol": math.sqrt(2 * tolerance), "maxiter": 1000}
        try:
            _, _, vectors = svds(operator, k=1, **options)
        except ArpackNoConvergence as e:
            raise RuntimeError(
                f"the operator norm did not converge to {tolerance:g}: ask for a larger tolerance"
            ) from e
    return torch.from_numpy(vectors[0].copy()).reshape(shape)
