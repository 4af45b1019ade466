"""The largest eigenvalue of a large symmetric operator, by a block Lanczos iteration with thick restarts.

A real convolution's leading singular vectors come in pairs, a wave and the same wave a quarter of a period on, and with
zero padding their singular values differ by as little as one part in ten million.  An iteration on one vector sees the
second of the pair late or never, and stops at the wrong one; two vectors at a time see both [Golub1977]_.

Most of the work is done in float32, where a convolution takes a third of the time.  It ends where rounding does not
let the residual fall further, and float64 goes on from there, so that the result is float64's.

.. [Golub1977] Golub, Underwood: *The block Lanczos method for computing eigenvalues*, Mathematical Software III, 1977.
   The restart: Wu, Simon, *Thick-restart Lanczos method for large symmetric eigenvalue problems*, SIAM J. Matrix Anal.
   Appl. 22, 2000.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 2
_BASIS = 32  # vectors before a restart
_KEPT = 10  # of them after it
_FLOOR = 1.5e-6  # the relative residual that float32 reaches
_STEPS = 3000
_LITTLE = 0.01


def leading_vector(gram: Callable[[Tensor], Tensor], start: Tensor, tolerance: float) -> Tensor:
    """The unit eigenvector ``(n,)``, float64, of the largest eigenvalue of a positive semi-definite operator.

    ``gram`` applies it to the rows of a matrix ``(2, n)`` of float32 or float64, and ``start`` ``(2, n)``, float64, is
    where to begin.  The error of the eigenvalue is estimated by the square of the residual over the gap behind it,
    and the iteration ends when this is below ``tolerance`` times the eigenvalue.

    Raises
    ------
    RuntimeError
        If it does not converge.

    Examples
    --------
    >>> diagonal = torch.linspace(1, 2, 200, dtype=torch.float64)
    >>> start = torch.randn(2, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> vector = leading_vector(lambda x: x * diagonal.to(x.dtype), start, 1e-9)
    >>> abs(vector[-1].item()) > 0.9999
    True
    """
    block = _iterate(gram, start.float(), tolerance / 10, _FLOOR)
    if not bool(torch.isfinite(block).all()):
        block = start
    return _iterate(gram, block.double(), tolerance, 0.0)[-1]


def _iterate(gram: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, floor: float) -> Tensor:
    """The leading Ritz vectors ``(2, n)``, the largest last; a ``floor`` above 0 also ends it, at this residual."""
    block = torch.linalg.qr(start.T)[0].T
    basis = start.new_zeros(_BASIS + _BLOCK, start.shape[1])
    basis[:_BLOCK] = block
    projected = torch.zeros(_BASIS, _BASIS, dtype=torch.float64, device=start.device)
    filled = 0
    for step in range(_STEPS):
        behind = basis[: filled + _BLOCK]
        recent = len(behind) if filled == _KEPT else min(len(behind), 2 * _BLOCK)
        whole = step % 2 == 0 or not floor
        block, along, rest = _orthogonal(gram(basis[filled : filled + _BLOCK]), behind, recent, whole)
        projected[: filled + _BLOCK, filled : filled + _BLOCK] = along
        projected[filled : filled + _BLOCK, : filled + _BLOCK] = along.T
        filled += _BLOCK
        basis[filled : filled + _BLOCK] = block
        values, vectors = torch.linalg.eigh(projected[:filled, :filled])
        residuals = torch.linalg.vector_norm(rest @ vectors[-_BLOCK:], dim=0)
        error = _error(values[-3:].tolist(), residuals[-2:].tolist())
        largest = values[-1].item()
        if not largest > 0 or error <= tolerance or residuals[-1].item() <= floor * largest:
            return vectors[:, -_BLOCK:].T.to(basis) @ basis[:filled]
        if filled == _BASIS:
            basis[:_KEPT] = vectors[:, -_KEPT:].T.to(basis) @ basis[:filled]
            basis[_KEPT : _KEPT + _BLOCK] = block
            projected.zero_()
            projected.diagonal()[:_KEPT] = values[-_KEPT:]
            filled = _KEPT
    if floor:
        return vectors[:, -_BLOCK:].T.to(basis) @ basis[:filled]
    raise RuntimeError(f"the operator norm did not converge to {tolerance:g}: ask for a larger tolerance")


def _orthogonal(images: Tensor, basis: Tensor, recent: int, whole: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that are orthonormal, and to the basis too; the images' coefficients in the basis, and in these rows.

    Twice is needed, and is enough.  The first time only the ``recent`` rows of the basis count, since but for rounding
    the images have no part in the others.  What rounding adds grows slowly: the second time, too, the ``whole`` basis
    is needed at every other step only, where a later iteration in float64 has the last word.
    """
    near = basis[-recent:]
    first = near @ images.T
    left = images - first.T @ near
    second = basis if whole else near
    along = images.new_zeros(len(basis), _BLOCK)
    along[-len(second) :] = second @ left.T
    rows, rest = torch.linalg.qr((left - along[-len(second) :].T @ second).T)
    along[-recent:] += first
    if rest.diagonal().abs().amin().item() < _LITTLE * torch.linalg.vector_norm(first).item():
        # What is left is little more than rounding: once more, on rows that are now of norm 1.
        again = basis @ rows
        rows, change = torch.linalg.qr(rows - basis.T @ again)
        along, rest = along + again @ rest, change @ rest
    return rows.T, along.double(), rest.double()


def _error(values: list[float], residuals: list[float]) -> float:
    """The estimated relative error of the largest Ritz value, from the last three values and the last two residuals."""
    largest = values[-1]
    if not largest > 0:
        return 0.0
    errors = [residuals[-1]]  # an eigenvalue is never further away than the residual
    if len(values) == 3:
        # The pair counts as one: how far the two are from one another does not matter for the value.
        for square, gap in (
            (residuals[-1] ** 2, values[2] - values[1]),
            (sum(r * r for r in residuals), values[1] - values[0]),
        ):
            errors += [square / gap] if gap > 0 else []
    return min(errors) / largest
