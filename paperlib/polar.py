"""The polar factor of a matrix: the closest matrix with orthonormal columns (or rows) [Gower2004]_, and ways to it.

For a tall P it is U = P (PᴴP)^(-1/2), for a wide one (PPᴴ)^(-1/2) P (equation 8): the singular values become 1, the
singular vectors stay.  Everything here works on batches, and takes the *smaller* of the two Gram matrices; the larger
one is singular.

Two ways to the inverse square root.  ``"eigh"`` decomposes the Gram matrix.  The others need matrix products alone:
an odd polynomial, applied again and again, drives every singular value to 1 (:func:`coefficients`).  The paper's is
Newton-Schulz (equation 9, [Higham1997]_), x (3 - x²) / 2; with coefficients chosen for the interval in which the
singular values are known to lie, the same products get there in fewer steps [ChenChow2014]_ [Amsel2025]_.

.. [Gower2004] Gower, Dijksterhuis: *Procrustes problems*, Oxford University Press, 2004.
.. [Higham1997] Higham: *Stable iterations for the matrix square root*, Numerical Algorithms 15, 1997.
.. [ChenChow2014] Chen, Chow: *A stable scaling of Newton-Schulz for improving the sign function computation of a
   Hermitian matrix*, 2014.
.. [Amsel2025] Amsel, Persson, Musco, Gower: *The Polar Express*, arXiv 2505.16932.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from paperlib import _checks
from paperlib._checks import one_of, whole_number

Polynomial = tuple[float, float, float]  # (a, b, c) of a x + b x³ + c x⁵
NEWTON_SCHULZ: Polynomial = (1.5, -0.5, 0.0)
Products = Literal["newton-schulz", "scaled-newton-schulz", "quintic"]
Method = Literal["eigh", "newton-schulz", "scaled-newton-schulz", "quintic"]
Iteration = Literal["newton-schulz", "scaled-newton-schulz", "quintic", "qdwh"]
# Below this part of the largest singular value one counts as zero: float32's resolution of it.
RANK_TOLERANCE = 1e-7
# The products are prepared for singular values down to this part of their upper bound.
PREPARED_FOR = 1e-5
MOST_STEPS = 1000  # Newton-Schulz needs 60 for the smallest singular value that float64 tells from zero


def _minimax_quintic(lower: float, upper: float) -> Polynomial:
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


def coefficients(method: Products, lower: float, steps: int) -> tuple[Polynomial, ...]:
    """Coefficients (a, b, c) of a x + b x³ + c x⁵ for each of ``steps`` steps, for singular values in [lower, 1].

    ``"newton-schulz"`` is (3/2, -1/2, 0) always.  ``"scaled-newton-schulz"`` scales x before each such step so that
    both ends of the interval land on one value, which makes it the best cubic; ``"quintic"`` is the best polynomial
    of degree five.  Both converge to the plain form.

    Parameters
    ----------
    method : {"newton-schulz", "scaled-newton-schulz", "quintic"}
        Which polynomials.
    lower : float
        The lower end of the interval, above 0 and at most 1.
    steps : int
        How many steps, at least 0.

    Returns
    -------
    tuple of (float, float, float)
        The coefficients (a, b, c) of each step.

    Raises
    ------
    ValueError
        For an unknown method, ``lower`` outside of (0, 1], or ``steps`` below 0.

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
    one_of("method", method, get_args(Products))
    lower = _checks.number("lower", lower, above=0, most=1)
    return _coefficients(method, lower, whole_number("steps", steps, least=0, most=MOST_STEPS))


@functools.lru_cache(maxsize=64)
def _coefficients(method: Products, lower: float, steps: int) -> tuple[Polynomial, ...]:
    out, lo, hi = [], lower, 1.0
    for _ in range(steps):
        if method == "newton-schulz":
            a, b, c = NEWTON_SCHULZ
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


def steps_needed(method: Products, lower: float, error: float = 1e-15) -> int:
    """How many steps bring every singular value in [lower, 1] to within ``error`` of 1 (in exact arithmetic)."""
    _checks.one_of("method", method, get_args(Products))
    return _steps_needed(
        method, _checks.number("lower", lower, above=0, most=1), _checks.number("error", error, least=0)
    )


@functools.lru_cache(maxsize=64)
def _steps_needed(method: Products, lower: float, error: float) -> int:
    # The polynomial is increasing near the lower end, which therefore is the last to arrive.
    steps, x = 0, lower
    while 1 - x > error and steps < 200:
        steps += 1
        x = lower
        for a, b, c in coefficients(method, lower, steps):
            x = min(x * (a + x * x * (b + x * x * c)), 1.0)
    return steps


def identity_like(gram: Tensor) -> Tensor:
    """The identity matrix ``(n, n)`` that fits a batch ``(..., n, n)``."""
    return torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _of_square(square: Tensor, polynomial: Polynomial) -> Tensor:
    """a + b·M + c·M² for a batch of square matrices M: a step's polynomial of x, over x, at M = x²."""
    a, b, c = polynomial
    out = b * square
    out.diagonal(dim1=-2, dim2=-1).add_(a)
    return out + c * (square @ square) if c else out


def coupled_step(y: Tensor, z: Tensor, polynomial: Polynomial = NEWTON_SCHULZ) -> tuple[Tensor, Tensor]:
    """One step of the coupled iteration of equation 9, on batches ``(..., n, n)``.

    It starts from a scaled Gram matrix Y = G and the identity Z.  Then Y goes to G^(1/2) and Z to G^(-1/2).  Because
    they are coupled, rounding errors do not grow from step to step.

    Examples
    --------
    >>> g = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
    >>> y, z = g, identity_like(g)
    >>> for _ in range(10):
    ...     y, z = coupled_step(y, z)
    >>> [round(x, 6) for x in z.diagonal().tolist()]
    [1.0, 2.0]
    """
    step = _of_square(z @ y, polynomial)
    return y @ step, step @ z


def _norm_bound(gram: Tensor) -> Tensor:
    """An upper bound on the spectral norm of each Hermitian matrix: the smaller of two easy ones."""
    rows = gram.abs().sum(-1).amax(-1)
    return torch.minimum(rows, torch.linalg.vector_norm(gram, dim=(-2, -1)))[..., None, None]


def inverse_sqrt(gram: Tensor, method: Method = "eigh") -> tuple[Tensor, Tensor]:
    """The inverse square root of a batch of Hermitian positive matrices, and whether it can be trusted.

    Parameters
    ----------
    gram : Tensor, (..., n, n)
        The matrices, in float64 or complex128: Gram matrices square the condition number, and float32 would lose its
        small half.
    method : {"eigh", "newton-schulz", "scaled-newton-schulz", "quintic"}
        ``"eigh"`` decomposes.  The others are products alone, a fixed number of steps of :func:`coefficients`, which
        on CUDA never wait for the device.

    Returns
    -------
    roots : Tensor, (..., n, n)
        The inverse square roots.
    ok : Tensor, (), bool
        Whether every matrix was finite and of full rank to working precision, and (for the products) the result, put
        to the test, is an inverse square root to 1e-6.  Where it is false the roots mean nothing.

    Examples
    --------
    >>> root, ok = inverse_sqrt(torch.diag(torch.tensor([4.0, 0.25], dtype=torch.float64)), "quintic")
    >>> [round(x, 6) for x in root.diagonal().tolist()], ok.item()
    ([0.5, 2.0], True)
    """
    _checks.matrices("gram", gram, square=True, precise=True)
    _checks.one_of("method", method, get_args(Method))
    if method == "eigh":
        finite = torch.isfinite(torch.view_as_real(gram) if gram.is_complex() else gram).all()
        if not finite:
            return torch.zeros_like(gram), finite
        values, vectors = torch.linalg.eigh(gram)
        ok = (values[..., 0] > RANK_TOLERANCE**2 * values[..., -1]).all()
        return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mH, ok
    scale, one = _norm_bound(gram), identity_like(gram)
    y, z = gram / scale, one
    for polynomial in coefficients(method, PREPARED_FOR, steps_needed(method, PREPARED_FOR)):
        y, z = coupled_step(y, z, polynomial)
    ok = ((z @ (gram / scale) @ z - one).abs() < 1e-6).all()  # false for NaN, too
    return z * scale.rsqrt(), ok


def polar_factor(matrix: Tensor, method: Method = "eigh") -> Tensor:
    """The closest matrix with all singular values 1: ``P (PᴴP)^(-1/2)``, or ``(PPᴴ)^(-1/2) P`` for a wide P.

    Parameters
    ----------
    matrix : Tensor, (..., p, q)
        Full-rank real or complex matrices.
    method : {"eigh", "newton-schulz", "scaled-newton-schulz", "quintic"}
        See :func:`inverse_sqrt`.

    Returns
    -------
    Tensor, (..., p, q)
        The polar factors, in the input's dtype; computed in float64.

    Raises
    ------
    ValueError
        For a matrix that is not finite, or rank-deficient to working precision: the closest orthogonal matrix is then
        not unique.

    Examples
    --------
    >>> u = polar_factor(torch.randn(5, 3, dtype=torch.float64))
    >>> torch.allclose(u.T @ u, torch.eye(3, dtype=torch.float64))
    True
    """
    _checks.one_of("method", method, get_args(Method))
    _checks.matrices("matrix", matrix)
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


def polar_iterates(matrix: Tensor, method: Iteration, steps: int, lower: float) -> list[Tensor]:
    """The matrix, scaled to a norm of at most 1, and what each step of an iteration makes of it.

    These iterates are there to be looked at; :func:`polar_factor` is there to be used.

    Parameters
    ----------
    matrix : Tensor, (..., p, q)
        The matrices; the iteration is run in their precision.
    method : {"newton-schulz", "scaled-newton-schulz", "quintic", "qdwh"}
        One of :func:`coefficients`, or the rational iteration of Nakatsukasa, Bai and Gygi (2010), which converges
        cubically but solves a linear system in each step.
    steps : int
        How many steps.
    lower : float
        The smallest singular value that the scaled matrix may have.

    Returns
    -------
    list of Tensor, (..., p, q)
        The scaled matrix and the ``steps`` iterates.

    Examples
    --------
    >>> x = polar_iterates(torch.diag(torch.linspace(0.05, 1, 9, dtype=torch.float64)), "qdwh", 3, 0.05)[-1]
    >>> bool((torch.linalg.svdvals(x) - 1).abs().max() < 1e-12)
    True
    """
    _checks.finite(_checks.matrices("matrix", matrix, precise=True), "matrix")
    _checks.one_of("method", method, get_args(Iteration))
    _checks.number("lower", lower, above=0, most=1)
    _checks.whole_number("steps", steps, least=0, most=MOST_STEPS)
    tall = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mH
    norm = torch.linalg.matrix_norm(tall, 2)
    if not bool((norm > 0).all()):
        raise ValueError("a matrix is zero: it cannot be scaled to a norm of 1")
    x = tall / norm[..., None, None]
    out = [x]
    if method == "qdwh":
        for a, b, c in _qdwh_weights(lower, steps):
            gram = x.mH @ x
            x = b / c * x + (a - b / c) * torch.linalg.solve(identity_like(gram) + c * gram, x.mH).mH
            out.append(x)
    else:
        for polynomial in coefficients(method, lower, steps):
            x = x @ _of_square(x.mH @ x, polynomial)
            out.append(x)
    return out if tall is matrix else [x.mH for x in out]


def _qdwh_weights(lower: float, steps: int) -> Iterator[tuple[float, float, float]]:
    """(a, b, c) of x (a + b x²) / (1 + c x²) in each step, for singular values in [``lower``, 1]."""
    for _ in range(steps):
        d = (4 * (1 - lower**2) / lower**4) ** (1 / 3)
        a = math.sqrt(1 + d) + 0.5 * math.sqrt(8 - 4 * d + 8 * (2 - lower**2) / (lower**2 * math.sqrt(1 + d)))
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        yield a, b, c
        lower = min(1.0, lower * (a + b * lower**2) / (1 + c * lower**2))
