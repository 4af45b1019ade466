"""Rotations, stretches and their fractional powers: Qᵗ and Pᵗ of a matrix R = QP."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from paperlib import _checks
from paperlib.theorems.norm_change import relative_change


class RotationStretch:
    """Qᵗ and Pᵗ for R = QP, a rotation times a symmetric positive matrix.

    Parameters
    ----------
    matrix : Tensor, (N, N)
        R: real, finite, invertible, with a positive determinant.  It is decomposed in float64 on the CPU.

    Attributes
    ----------
    values : Tensor, (N,)
        The singular values of R, the largest first.
    axes : Tensor, (N, N)
        The directions that P stretches by them, as columns.
    angles : Tensor, (N,)
        By how much Q turns the plane of each of its basis vectors, -π to π.
    basis : Tensor, (N, N)
        Q's basis of planes and fixed axes, as columns.
    turns : Tensor, (N, N)
        A right-angled turn of all these planes, in that basis.

    Raises
    ------
    ValueError
        If the matrix is anything else.

    Examples
    --------
    >>> parts = RotationStretch(torch.tensor([[0.0, -8.0], [8.0, 0.0]]))
    >>> third = parts.rotation(1 / 3) @ parts.stretch(1 / 3)
    >>> (third @ third @ third).round(decimals=6).tolist()
    [[0.0, -8.0], [8.0, 0.0]]
    """

    def __init__(self, matrix: Tensor):
        rotation, self.values, axes = _decomposed(_checked(matrix))
        self.axes = _orthonormal(axes)
        form, basis = scipy.linalg.schur(rotation.numpy(), output="real")
        self.basis = _orthonormal(torch.from_numpy(np.ascontiguousarray(basis)))
        self.angles = torch.zeros(len(form), dtype=torch.float64)
        self.turns = torch.zeros(len(form), len(form), dtype=torch.float64)
        for a, b, angle in _planes(form):
            self.angles[a] = self.angles[b] = angle
            self.turns[a, b], self.turns[b, a] = -1.0, 1.0

    @property
    def largest_angle(self) -> float:
        """θ, the largest angle by which Q turns a plane, 0 to π."""
        return self.angles.abs().max().item()

    @property
    def gamma(self) -> float:
        """``γ = max |log σ|``, the paper's measure of how much R stretches."""
        return self.values.log().abs().max().item()

    def rotation(self, t: float | Tensor, minus_identity: bool = False) -> Tensor:
        """Qᵗ, ``(..., N, N)``, for one power or for many, ``(...)``.

        With ``minus_identity`` it is Qᵗ − I, without cancellation, however small t is.
        """
        _checks.flag("minus_identity", minus_identity)
        angle = _checks.numbers("t", t)[..., None] * self.angles
        real = -2 * (angle / 2).sin().square() if minus_identity else angle.cos()
        return self.basis @ (torch.diag_embed(real) + angle.sin().unsqueeze(-1) * self.turns) @ self.basis.T

    def stretch(self, t: float | Tensor, minus_identity: bool = False) -> Tensor:
        """Pᵗ, ``(..., N, N)``, for one power or for many, ``(...)``.

        With ``minus_identity`` it is Pᵗ − I, without cancellation, however small t is.
        """
        _checks.flag("minus_identity", minus_identity)
        exponent = _checks.numbers("t", t)[..., None] * self.values.log()
        powers = torch.expm1(exponent) if minus_identity else exponent.exp()
        return (self.axes * powers.unsqueeze(-2)) @ self.axes.T

    def distance_bound(self, share: float) -> float:
        """θh + e^{γh} − 1, a bound on the distance of QʰPʰ from I, also in rotated axes; h is the ``share`` of R."""
        share = _checks.number("share", share)
        return self.largest_angle * share + relative_change(self.gamma * share)


def quarter_turns(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """J with J² = −I, ``(n, n)`` for an even n: a right-angled turn of each of the planes (x₁, x₂), (x₃, x₄), …"""
    _checks.fits("n", _checks.whole_number("n", n, least=0), n)
    _checks.floating("dtype", dtype)
    return torch.kron(torch.eye(n // 2, dtype=dtype), torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=dtype))


def _checked(matrix: Tensor) -> Tensor:
    """The matrix in float64 on the CPU; ``ValueError`` unless it is square, real and finite."""
    try:
        matrix = torch.as_tensor(matrix)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"the matrix must be a tensor, or a list of its rows, not {_checks.shown(matrix)}") from None
    _checks.stored("the matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.numel():
        raise ValueError(
            f"the matrix must be square, not of shape {tuple(matrix.shape)}: a block with an identity skip returns as "
            "many numbers as it takes"
        )
    if matrix.dtype not in _checks.NUMBERS or not bool(torch.isfinite(matrix).all()):
        raise ValueError("the matrix must be real and finite: it holds complex, NaN, infinite or 8-bit entries")
    return matrix.detach().double().cpu()


def _decomposed(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q, the singular values and P's axes; ``ValueError`` unless the determinant is positive to working precision."""
    left, values, right = torch.linalg.svd(matrix)
    if values[-1] <= len(matrix) * torch.finfo(torch.float64).eps * values[0]:
        raise ValueError(
            f"the matrix is singular (its singular values lie between {values[-1].item():.1e} and "
            f"{values[0].item():.1e}): a product of blocks near the identity is invertible"
        )
    rotation = left @ right
    if torch.linalg.det(rotation) < 0:
        raise ValueError(
            "the matrix has a negative determinant: blocks nearer than 1 to the identity have positive ones, and so "
            "has their product. Flip the sign of one row (a reflection behind the network)"
        )
    return rotation, values, right.mT


def _planes(form: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """The planes that a rotation turns, each as two axes of its real Schur ``form`` and an angle.

    The form has a 2 × 2 block for each plane that turns, 1 for a fixed axis and −1 for a reversed one.  Reversed axes
    come in pairs, and a pair is a plane that turns by π.
    """
    reversed_axes = []
    i = 0
    while i < len(form):
        if i + 1 < len(form) and form[i + 1, i] != 0:
            yield i, i + 1, math.atan2(form[i + 1, i] - form[i, i + 1], form[i, i] + form[i + 1, i + 1])
            i += 2
        else:
            if form[i, i] < 0:
                reversed_axes.append(i)
            i += 1
    for a, b in zip(reversed_axes[::2], reversed_axes[1::2], strict=True):
        yield a, b, math.pi


def _orthonormal(basis: Tensor) -> Tensor:
    """One Newton-Schulz step: LAPACK's bases are orthonormal to some rounding errors, and a long chain adds them up."""
    return basis @ (1.5 * torch.eye(len(basis), dtype=basis.dtype) - 0.5 * basis.T @ basis)
