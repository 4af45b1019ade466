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
from numbers import Integral
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["circular", "zeros"]


def check_weight(weight: Tensor) -> None:
    """Raise ``ValueError`` unless ``weight`` is the real kernel ``(d, c, kh, kw)`` of an ungrouped 2-D convolution."""
    if not isinstance(weight, Tensor) or weight.ndim != 4 or weight.is_complex() or not weight.is_floating_point():
        what = f"{weight.dtype} of {tuple(weight.shape)}" if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight must be a real floating-point tensor of shape (d, c, kh, kw), not {what}")
    if not weight.numel():
        raise ValueError(f"weight of shape {tuple(weight.shape)} is empty: it is no convolution")


def check_finite(weight: Tensor) -> None:
    """Raise ``ValueError`` for a kernel with NaN or infinite entries."""
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("the kernel holds NaN or infinite values: it has no singular values")


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """``size`` as ``(h, w)``; ``ValueError`` for anything but one or two positive whole numbers."""
    pair = (size, size) if isinstance(size, Integral) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in pair):
        raise ValueError(f"size must be the side of the output or its two sides (h, w), not {size!r}")
    return int(pair[0]), int(pair[1])


def check_stride(stride: int) -> int:
    """``stride``; ``ValueError`` unless it is one positive whole number."""
    if not isinstance(stride, Integral) or isinstance(stride, bool) or stride < 1:
        raise ValueError(f"stride must be one whole number of at least 1, the same both ways, not {stride!r}")
    return int(stride)


def polyphase(weight: Tensor, stride: int) -> Tensor:
    """The stride-1 kernel on the phases of the input that a strided kernel amounts to.

    A convolution with stride s reads every s-th pixel, so its input splits into s² images, one for each position
    modulo s; as channels of one image of the output's size they make the stride 1.  Tap (s·i + p, s·j + q) of channel
    a becomes tap (i, j) of channel (a, p, q).  Phases that no tap reads (k < s) are left out: a kernel with k ≤ s, a
    strided 1×1 convolution or a patch embedding, becomes a 1×1 kernel, one matrix.

    Returns ``(d, c·ph·pw, ⌈kh/s⌉, ⌈kw/s⌉)`` with ph = min(kh, s), pw = min(kw, s); differentiable.

    Examples
    --------
    >>> polyphase(torch.ones(8, 3, 3, 3), 2).shape, polyphase(torch.ones(8, 3, 4, 4), 4).shape
    (torch.Size([8, 12, 2, 2]), torch.Size([8, 48, 1, 1]))
    """
    check_weight(weight)
    if check_stride(stride) == 1:
        return weight
    d, c, kh, kw = weight.shape
    ph, pw = min(kh, stride), min(kw, stride)
    th, tw = -(-kh // stride), -(-kw // stride)
    # A kernel smaller than the stride has one tap in each of its phases and is not filled up.
    fill_h, fill_w = (th * stride - kh if kh > stride else 0), (tw * stride - kw if kw > stride else 0)
    taps = F.pad(weight, (0, fill_w, 0, fill_h)).reshape(d, c, th, ph, tw, pw)
    return taps.permute(0, 1, 3, 5, 2, 4).reshape(d, c * ph * pw, th, tw)


def from_polyphase(phases: Tensor, weight_shape: tuple[int, ...], stride: int) -> Tensor:
    """The strided kernel of ``weight_shape`` with these :func:`polyphase` ``phases``; taps beyond its edge are dropped."""
    if stride == 1:
        return phases
    d, c, kh, kw = weight_shape
    ph, pw = min(kh, stride), min(kw, stride)
    th, tw = phases.shape[2:]
    taps = phases.reshape(d, c, ph, pw, th, tw).permute(0, 1, 4, 2, 5, 3)
    return taps.reshape(d, c, th * ph, tw * pw)[:, :, :kh, :kw]


def waves(grid: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """exp(-i (u·a/h + v·b/w) 2π) for the half spectrum of an h×w grid and the offsets a in ``rows``, b in ``columns``.

    Returns ``(h·(⌊w/2⌋+1), len(rows)·len(columns))``, complex, in the offsets' precision.  Made on their device, with
    nothing copied to it.
    """
    h, w = grid
    u = torch.arange(h, dtype=rows.dtype, device=rows.device)
    v = torch.arange(w // 2 + 1, dtype=rows.dtype, device=rows.device)
    one = torch.ones((), dtype=rows.dtype, device=rows.device)
    # Reducing u·a modulo h first keeps the angle below 2π, where sine and cosine are exact to the last digit.
    along_h = torch.polar(one, -2 * math.pi / h * torch.remainder(u[:, None] * rows, h))
    along_w = torch.polar(one, -2 * math.pi / w * torch.remainder(v[:, None] * columns, w))
    return (along_h[:, None, :, None] * along_w[None, :, None, :]).reshape(u.numel() * v.numel(), -1)


def transfer_matrices(weight: Tensor, size: int | tuple[int, int], stride: int = 1) -> Tensor:
    """The kernel's Fourier transform at each frequency of the half spectrum: the matrices P of Theorem 3.

    (torch's convolution is a correlation and acts by their conjugates; singular values are the same.)

    Returns ``(h, ⌊w/2⌋+1, d, c')``, complex; c' = c, or the number of read phases times c with a stride.  At (-u, -v) the
    matrix is the conjugate of the one at (u, v).  Differentiable.  Raises ``ValueError`` for a bad ``weight``,
    ``size`` or ``stride``.

    A product with a small table of waves, not an FFT: for the few taps of a kernel it is cheaper than transforming
    the zeros around them.

    Examples
    --------
    >>> w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    >>> fft = torch.fft.rfft2(w, s=(8, 8)).permute(2, 3, 0, 1)
    >>> torch.allclose(transfer_matrices(w, 8), fft)
    True
    """
    h, w = sides(size)
    kernel = polyphase(weight, stride)
    kernel = kernel if kernel.dtype == torch.float64 else kernel.float()
    d, c, kh, kw = kernel.shape
    row, column = (torch.arange(k, dtype=kernel.dtype, device=kernel.device) for k in (kh, kw))
    table = waves((h, w), row, column)
    flat = kernel.flatten(2).permute(2, 0, 1).reshape(kh * kw, d * c)
    return torch.complex(table.real @ flat, table.imag @ flat).reshape(h, w // 2 + 1, d, c)


def singular_values(weight: Tensor, size: int | tuple[int, int], stride: int = 1) -> Tensor:
    """All singular values of a convolution with circular padding, frequency by frequency (Theorem 3).

    Parameters
    ----------
    weight : ``(d, c, kh, kw)``, any kernel size, odd or even, on any device.
    size : side (or sides ``(h, w)``) of the **output**; the input is ``stride`` times as large.
    stride : the same both ways.

    Returns
    -------
    ``(h, w, min(d, s²c))``, largest first at each frequency: with multiplicity, the singular values of the whole
    operator from c·(s·h)·(s·w) to d·h·w numbers, those that are zero because phases are skipped included.  float64
    for float64, else float32; differentiable.

    Raises
    ------
    ValueError : a bad ``weight`` (NaN and infinite values, too), ``size`` or ``stride``.

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
    kernel = polyphase(weight, stride)
    check_finite(kernel)
    rank, full = min(kernel.shape[:2]), min(weight.shape[0], stride * stride * weight.shape[1])
    if kernel.shape[2:] == (1, 1):  # the same matrix at every frequency
        matrix = kernel[:, :, 0, 0]
        values = torch.linalg.svdvals(matrix if matrix.dtype == torch.float64 else matrix.float())
        return F.pad(values, (0, full - rank)).expand(h, w, full)
    half = torch.linalg.svdvals(transfer_matrices(weight, (h, w), stride))
    # The frequency (u, v) beyond the half has the values of (-u, -v), inside it.
    u = torch.arange(h, device=half.device)
    v = torch.arange(w // 2 + 1, w, device=half.device)
    mirrored = half[(-u % h)[:, None], w - v]
    return F.pad(torch.cat([half, mirrored], dim=1), (0, full - rank))


def _pad(x: Tensor, k: tuple[int, int], stride: int, padding: Padding) -> Tensor:
    """``x`` with the border that gives an output ``stride`` times smaller: (k-1)//2 before, what is missing after."""
    border = []
    for side in (1, 0):
        before = (k[side] - 1) // 2
        border += [before, k[side] - stride - before]
    if padding == "zeros":
        return F.pad(x, border)  # a negative border cuts pixels off that a wide stride never reads
    for axis, before, after in ((3, *border[:2]), (2, *border[2:])):
        n = x.shape[axis]
        # By index: torch's own circular padding refuses a border wider than the image.
        x = x.index_select(axis, torch.arange(-before, n + after, device=x.device) % n)
    return x


def _check_padding(padding: str) -> None:
    if padding not in ("circular", "zeros"):
        raise ValueError(f"padding must be 'circular' or 'zeros', not {padding!r}")


def dense(weight: Tensor, size: int | tuple[int, int], stride: int = 1, padding: Padding = "circular") -> Tensor:
    """The convolution as one matrix ``(d·h·w, c·s·h·s·w)``: an identity basis pushed through torch's own ``conv2d``.

    For small cases only, to check the rest against: the matrix has d·c·s²·(h·w)² entries.
    """
    check_weight(weight)
    _check_padding(padding)
    (h, w), c = sides(size), weight.shape[1]
    n = c * h * w * check_stride(stride) ** 2
    basis = torch.eye(n, dtype=weight.dtype, device=weight.device).reshape(n, c, h * stride, w * stride)
    return F.conv2d(_pad(basis, weight.shape[2:], stride, padding), weight, stride=stride).flatten(1).T


def operator_norm_bound(weight: Tensor, size: int | tuple[int, int], stride: int = 1) -> Tensor:
    """A certified upper bound on the norm of the zero-padded convolution: the circular norm on a slightly larger map.

    An image with p zero pixels beside it is a circular image of n + p pixels, so the zero-padded operator is a
    submatrix of the circular one on that map, and no submatrix has a larger norm.  (The norm of the weight reshaped
    to d × c·k² is *not* a bound.)

    Returns a scalar tensor; differentiable.  Raises as :func:`singular_values`.

    Examples
    --------
    >>> w = torch.ones(1, 1, 3, 3)
    >>> float(operator_norm(w, 4, "zeros")) < float(operator_norm_bound(w, 4))
    True
    """
    check_weight(weight)
    check_stride(stride)
    grid = tuple(n + -(-(k // 2) // stride) for n, k in zip(sides(size), weight.shape[2:], strict=True))
    return singular_values(weight, grid, stride).max()


def operator_norm(
    weight: Tensor, size: int | tuple[int, int], padding: Padding = "circular", stride: int = 1, tolerance: float = 1e-9
) -> Tensor:
    """The largest singular value of a convolution: exact for circular padding, by an iteration for zero padding.

    With ``padding="zeros"`` (k // 2 pixels on either side for an odd k, as networks do; for an even one (k-1)//2 before and
    the rest after) there is no closed form.  A restarted Lanczos iteration
    in float64, on the convolution and its adjoint, is run until the residual of the leading singular pair is below
    ``tolerance`` times the norm.  What it returns is never above the exact norm; :func:`operator_norm_bound` is never
    below it.

    Returns
    -------
    A scalar tensor, float64 for float64 and float32 otherwise; differentiable.

    Raises
    ------
    ValueError : a bad argument, or a weight that is not finite.
    RuntimeError : the iteration did not converge.

    Examples
    --------
    >>> w = torch.randn(8, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> exact = torch.linalg.matrix_norm(dense(w, 6, padding="zeros"), 2)
    >>> abs(operator_norm(w, 6, "zeros") - exact).item() < 1e-10
    True
    """
    check_weight(weight)
    _check_padding(padding)
    if padding == "circular":
        return singular_values(weight, size, stride)[..., 0].max()
    (h, w), k = sides(size), weight.shape[2:]
    shape = (1, weight.shape[1], h * check_stride(stride), w * stride)
    kernel = weight if weight.dtype == torch.float64 else weight.float()
    check_finite(weight)
    constant = kernel.detach().double()
    # Its square, which the iteration sees, could overflow or vanish where the kernel does not.
    constant = constant / constant.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)

    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(_pad(x.reshape(shape), k, stride, "zeros"), kernel, stride=stride)

    def normal(x: Tensor) -> Tensor:  # x -> AᵀA x; the adjoint is the vector-Jacobian product
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = forward(x, constant)
            return torch.autograd.grad(y, x, y.detach())[0]

    right = _leading_eigenvector(normal, math.prod(shape), constant, tolerance)
    left = forward(right, constant)
    norm = left.norm()
    if norm == 0:
        return 0 * kernel.sum()
    # uᵀ A v with u and v fixed: its derivative in A is the norm's own.
    return ((left / norm).to(kernel.dtype) * forward(right.to(kernel.dtype), kernel)).sum()


def _leading_eigenvector(apply, n: int, like: Tensor, tolerance: float, basis: int = 48, kept: int = 12) -> Tensor:
    """The eigenvector of the largest eigenvalue of a symmetric positive operator: Lanczos with thick restarts."""
    generator = torch.Generator().manual_seed(0)
    basis = min(basis, n)
    vectors = torch.zeros(basis, n, dtype=like.dtype, device=like.device)
    small = torch.zeros(basis, basis, dtype=like.dtype)
    new = torch.randn(n, generator=generator, dtype=like.dtype).to(like.device)
    new /= new.norm()
    j = 0
    for _ in range(5000):
        vectors[j] = new
        image = apply(new).reshape(-1)
        column = vectors[: j + 1] @ image
        new = image - vectors[: j + 1].T @ column
        new -= vectors[: j + 1].T @ (vectors[: j + 1] @ new)  # once more: rounding leaves the first one short
        small[: j + 1, j] = small[j, : j + 1] = column.cpu()
        rest = new.norm()
        j += 1
        values, mixed = torch.linalg.eigh(small[:j, :j])
        # |AᵀA x - θ x| is a residual of the square; half of it is that of the norm.
        if j == n or rest * abs(mixed[-1, -1]) <= 2 * tolerance * values[-1].clamp_min(1e-300):
            x = vectors[:j].T @ mixed[:, -1].to(like.device)
            return x / x.norm()
        new = new / rest
        if j == basis:
            j = min(kept, basis - 1)
            vectors[:j] = mixed[:, -j:].T.to(like.device) @ vectors
            small.zero_()
            small.diagonal()[:j] = values[-j:]
    raise RuntimeError(f"the operator norm did not converge to {tolerance:g}: ask for a larger tolerance")
