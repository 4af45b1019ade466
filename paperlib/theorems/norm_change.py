"""How much a block changes the gradient's norm (Lemma 1), and what no chain of blocks can go below."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paperlib import _checks
from paperlib._checks import whole_number


def _matrices(jacobians: Tensor) -> None:
    """``ValueError`` for what are no square matrices, or hold entries whose squares are infinite."""
    _checks.matrices("jacobians", jacobians, square=True, precise=True)
    if not bool(jacobians.detach().abs().amax() < torch.finfo(jacobians.dtype).max ** 0.5):
        raise ValueError("jacobians hold NaN or infinite values, or such that their squares are infinite")


def identity_distance(jacobians: Tensor) -> Tensor:
    """‖J − I‖, the spectral norm, for each of the matrices ``(..., N, N)``."""
    _matrices(jacobians)
    difference = jacobians - torch.eye(jacobians.shape[-1], dtype=jacobians.dtype, device=jacobians.device)
    return torch.linalg.eigvalsh(difference.mT @ difference)[..., -1].clamp_min(0).sqrt()


def gradient_delta(jacobians: Tensor) -> Tensor:
    """The smallest δ with (1−δ)‖g‖ ≤ ‖Jᵀg‖ ≤ (1+δ)‖g‖ for all g, for each of the matrices ``(..., N, N)``.

    It is ``max |σ(J) − 1|``, and by Lemma 1 at most ‖J − I‖.

    Examples
    --------
    >>> rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> gradient_delta(rotation).item(), round(identity_distance(rotation).item(), 4)
    (0.0, 1.4142)
    """
    _matrices(jacobians)
    squares = torch.linalg.eigvalsh(jacobians.mT @ jacobians)
    return (squares[..., [0, -1]].clamp_min(0).sqrt() - 1).abs().amax(-1)


def lower_bound(jacobians: Tensor, L: int) -> float:
    """The δ that no L blocks can go below, whatever they are, if their composition has these derivatives.

    L factors of the derivative multiply to it, so max(‖DF‖^{1/L} − 1, 1 − ‖DF⁻¹‖^{−1/L}) ≤ δ.  This is a lower bound
    for Theorem 1's δ, and hence for ‖J − I‖.  ``jacobians`` is ``(..., N, N)``; the largest bound over all of them is
    returned.

    Raises
    ------
    ValueError
        For L < 1.

    Examples
    --------
    >>> f"{lower_bound(torch.diag(torch.tensor([8.0, 1.0])), 3):.2f}"  # three factors, one stretches by at least 2
    '1.00'
    """
    _matrices(jacobians)
    whole_number("L", L, unit="block")
    values = torch.linalg.svdvals(jacobians.double())
    most, least = values[..., 0].max().log().item(), values[..., -1].min().log().item()
    return max(relative_change(most / L), -relative_change(least / L))


def relative_change(logarithm: float) -> float:
    """e^x − 1, the relative change of what grows by x in its logarithm; infinite beyond the range of float64."""
    return math.expm1(logarithm) if logarithm < 700 else math.inf
