"""The polar factor of a matrix: the closest matrix with orthonormal columns (or rows) [Gower2004]_, and ways to it.

For a tall P it is U = P (PᴴP)^(-1/2), for a wide one (PPᴴ)^(-1/2) P (equation 8): the singular values become 1, the
singular vectors stay.  Everything here works on batches and on either side takes the *smaller* Gram matrix; the
larger one is singular.

Two ways to the inverse square root.  ``"eigh"`` decomposes the Gram matrix.  The others need matrix products alone:
an odd polynomial, applied again and again, drives every singular value to 1 (:func:`coefficients`).  The paper's is
Newton-Schulz (equation 9, [Higham1997]_), x (3 - x²) / 2; with coefficients chosen for the interval in which the
singular values are known to lie, the same products get there in fewer steps [ChenChow2014]_ [Amsel2025]_.

.. [Gower2004] Gower, Dijksterhuis: *Procrustes problems*, Oxford University Press, 2004.
.. [Higham1997] Higham: *Stable iterations for the matrix square root*, Numerical Algorithms 15, 1997.
.. [ChenChow2014] Chen, Chow: *A stable scaling of Newton-Schulz for improving the sign function computation of a Hermitian matrix*, 2014.
.. [Amsel2025] Amsel, Persson, Musco, Gower: *The Polar Express*, arXiv 2505.16932.
"""

from __future__ import annotations

import functools
import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Products = Literal["newton-schulz", "scaled-newton-schulz", "quintic"]
Method = Literal["eigh", "newton-schulz", "scaled-newton-schulz", "quintic"]
# Below this part of the largest singular value one counts as zero: float32's resolution of it.
RANK_TOLERANCE = 1e-7
# The products are prepared for singular values down to this part of their upper bound.
PREPARED_FOR = 1e-5


def _minimax_quintic(lower: float, upper: float) -> tuple[float, float, float]:
    """The odd polynomial a x + b x³ + c x⁵ that is closest to 1 on [lower, upper], by Remez's exchange."""
    if lower > 0.999 * upper:  # the interval's ends merge: the limit is the Taylor polynomial, scaled
        r = 2 / (lower + upper)
        return 15 / 8 * r, -10 / 8 * r**3, 3 / 8 * r**5
    # Start from Chebyshev's points; four extrema are the two ends and the two zeros of the derivative.
    x = (lower + upper) / 2 - (upper - lower) / 2 * np.cos(np.pi * np.arange(4) / 3)
    for _ in range(100):
        system = np.stack([x, x**3, x**5, (-1.0) ** np.arange(4)], axis=1)
        a, b, c, error = np.linalg.solve(system, np.ones(4))
        root = math.sqrt(max(9 * b * b - 20 * a * c, 0.0))
        inner = np.sqrt(np.maximum([(-3 * b - root) / (10 * c), (-3 * b + root) / (10 * c)], 0.0))
        new = np.array([lower, *np.clip(inner, lower, upper), upper])
        if np.abs(new - x).max() <= 1e-14 * upper:
            break
        x = new
    return float(a), float(b), float(c)


@functools.lru_cache(maxsize=64)
def coefficients(method: Products, lower: float, steps: int) -> tuple[tuple[float, float, float], ...]:
    """Coefficients (a, b, c) of a x + b x³ + c x⁵ for each of ``steps`` steps, for singular values in [lower, 1].

    ``"newton-schulz"`` is (3/2, -1/2, 0) always.  ``"scaled-newton-schulz"`` scales x before each such step so that
    both ends of the interval land on one value, which makes it the best cubic; ``"quintic"`` is the best polynomial
    of degree five.  Both converge to the plain form.

    Raises ``ValueError`` for an unknown method, ``lower`` outside (0, 1] or ``steps`` < 0.

    Examples
    --------
    >>> x = torch.linspace(0.05, 1, 1000, dtype=torch.float64)
    >>> for method, steps in (("newton-schulz", 10), ("scaled-newton-schulz", 6), ("quintic", 4)):
    ...     y = x
    ...     for a, b, c in coefficients(method, 0.05, steps):
    ...         y = a * y + b * y**3 + c * y**5
    ...     print(f"{method}: {(y - 1).abs().max():.0e} after {steps}")
    newton-schulz: 5e-04 after 10
    scaled-newton-schulz: 2e-06 after 6
    quintic: 2e-07 after 4
    """
    if method not in get_args(Products):
        raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(get_args(Products))}")
    if not 0 < lower <= 1 or steps < 0:
        raise ValueError(f"lower must be above 0 and at most 1, and steps at least 0, not {lower!r} and {steps!r}")
    out, lo, hi = [], float(lower), 1.0
    for _ in range(steps):
        if method == "newton-schulz":
            a, b, c = 1.5, -0.5, 0.0
        elif method == "scaled-newton-schulz":
            r = math.sqrt(3 / (hi * hi + hi * lo + lo * lo))  # p(lo) = p(hi)
            a, b, c = 1.5 * r, -0.5 * r**3, 0.0
            lo, hi = a * lo + b * lo**3, 1.0
        else:
            a, b, c = _minimax_quintic(lo, hi)
            lo = a * lo + b * lo**3 + c * lo**5
            hi = max(2 - lo, lo)  # the error has the same size on both sides
        out.append((a, b, c))
    return tuple(out)


@functools.lru_cache(maxsize=64)
def steps_needed(method: Products, lower: float, error: float = 1e-15) -> int:
    """How many steps bring every singular value in [lower, 1] to within ``error`` of 1 (in exact arithmetic)."""
    # The polynomial is increasing near the lower end, which therefore is the last to arrive.
    steps, x = 0, lower
    while 1 - x > error and steps < 200:
        steps += 1
        x = lower
        for a, b, c in coefficients(method, lower, steps):
            x = min(x * (a + x * x * (b + x * x * c)), 1.0)
    return steps


def _identity(gram: Tensor) -> Tensor:
    return torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _norm_bound(gram: Tensor) -> Tensor:
    """An upper bound on the spectral norm of each Hermitian matrix: the smaller of two easy ones."""
    rows = gram.abs().sum(-1).amax(-1)
    return torch.minimum(rows, torch.linalg.vector_norm(gram, dim=(-2, -1)))[..., None, None]


def inverse_sqrt(gram: Tensor, method: Method = "eigh") -> tuple[Tensor, Tensor]:
    """The inverse square root of a batch of Hermitian positive matrices, and whether it can be trusted.

    Parameters
    ----------
    gram : ``(..., n, n)``, float64 or complex128: Gram matrices square the condition number, and float32 would lose
        its small half.
    method : ``"eigh"``, or products alone: a fixed number of steps of :func:`coefficients`, which on CUDA never waits
        for the device.

    Returns
    -------
    The roots, ``(..., n, n)``, and a boolean scalar tensor: every matrix was finite, of full rank to working
    precision, and (for the products) the result, put to the test, is an inverse square root to 1e-6.  Where it is
    false the roots mean nothing.
    """
    if method == "eigh":
        finite = torch.isfinite(torch.view_as_real(gram) if gram.is_complex() else gram).all()
        if not finite:
            return torch.zeros_like(gram), finite
        values, vectors = torch.linalg.eigh(gram)
        ok = (values[..., 0] > RANK_TOLERANCE**2 * values[..., -1]).all()
        return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mH, ok
    # Coupled as in equation 9: y -> sqrt(g), z -> 1 / sqrt(g), which keeps rounding errors from growing.
    scale = _norm_bound(gram)
    y = gram / scale
    one = _identity(gram)
    z = one.expand_as(gram)
    for a, b, c in coefficients(method, PREPARED_FOR, steps_needed(method, PREPARED_FOR)):
        m = z @ y
        step = a * one + b * m
        if c:
            step = step + c * (m @ m)
        y, z = y @ step, step @ z
    ok = ((z @ (gram / scale) @ z - one).abs() < 1e-6).all()  # false for NaN, too
    return z * scale.rsqrt(), ok


def polar_factor(matrix: Tensor, method: Method = "eigh") -> Tensor:
    """The closest matrix with all singular values 1: ``P (PᴴP)^(-1/2)``, or ``(PPᴴ)^(-1/2) P`` for a wide P.

    Parameters
    ----------
    matrix : a batch ``(..., p, q)`` of full-rank real or complex matrices.
    method : see :func:`inverse_sqrt`.

    Returns
    -------
    The polar factors, in the input's shape and dtype; computed in float64.

    Raises
    ------
    ValueError : a matrix that is not finite, or rank-deficient to working precision: the closest orthogonal matrix is
        then not unique.

    Examples
    --------
    >>> u = polar_factor(torch.randn(5, 3, dtype=torch.float64))
    >>> torch.allclose(u.T @ u, torch.eye(3, dtype=torch.float64))
    True
    """
    m = matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)
    if not torch.isfinite(torch.view_as_real(m) if m.is_complex() else m).all():
        raise ValueError("the matrix holds NaN or infinite values: it has no polar factor")
    # Neither the factor nor the rank depends on the scale, and the Gram matrix would overflow or vanish long before
    # the matrix.
    m = m / m.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    wide = m.shape[-2] < m.shape[-1]
    root, ok = inverse_sqrt(m @ m.mH if wide else m.mH @ m, method)
    if not ok:
        raise ValueError("a matrix is rank-deficient (or zero): its polar factor is not unique")
    return (root @ m if wide else m @ root).to(matrix.dtype)


def polar_iterates(matrix: Tensor, method: Literal[Products, "qdwh"], steps: int, lower: float) -> list[Tensor]:
    """The matrix, scaled to a norm of at most 1, and what each step of an iteration makes of it: to look at, not to
    use.

    ``lower`` is the smallest singular value that the scaled matrix may have.  ``"qdwh"`` is the rational iteration of
    Nakatsukasa, Bai and Gygi (2010), which converges cubically but solves a linear system in each step.  In the
    matrix's own precision.

    Examples
    --------
    >>> x = polar_iterates(torch.diag(torch.linspace(0.05, 1, 9, dtype=torch.float64)), "qdwh", 3, 0.05)[-1]
    >>> bool((torch.linalg.svdvals(x) - 1).abs().max() < 1e-12)
    True
    """
    tall = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mH
    x = tall / torch.linalg.matrix_norm(tall, 2)[..., None, None]
    out = [x]
    one = _identity(x.mH @ x)
    if method == "qdwh":
        lo = lower
        for _ in range(steps):
            d = (4 * (1 - lo**2) / lo**4) ** (1 / 3)
            a = math.sqrt(1 + d) + 0.5 * math.sqrt(8 - 4 * d + 8 * (2 - lo**2) / (lo**2 * math.sqrt(1 + d)))
            b = (a - 1) ** 2 / 4
            c = a + b - 1
            x = b / c * x + (a - b / c) * torch.linalg.solve(one + c * (x.mH @ x), x.mH).mH
            lo = min(1.0, lo * (a + b * lo**2) / (1 + c * lo**2))
            out.append(x)
    else:
        for a, b, c in coefficients(method, lower, steps):
            m = x.mH @ x
            x = x @ (a * one + b * m + c * (m @ m))
            out.append(x)
    return out if tall is matrix else [x.mH for x in out]
