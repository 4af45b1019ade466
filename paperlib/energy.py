"""Where the gradient's energy is: the assumption behind the target singular value (equation 7), to be measured.

A convolution with more outputs than inputs passes on only the part of its output's gradient that lies in a subspace: at each frequency, of r of d dimensions
(:func:`paperlib.projection.rank`).  σ² = d/r keeps the gradient's norm if that part has r/d of the energy.  It has on average, if gradients point
everywhere alike.  Gradients of one layer are correlated, though, and have energy in few directions; how much of *these* the subspace happens to
hold then varies from kernel to kernel (:func:`relative_sd`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paperlib.projection import rank
from paperlib.spectrum import check_weight, transfer_matrices


@torch.no_grad()
def energy_fraction(weight: Tensor, gradient: Tensor, stride: int = 1) -> Tensor:
    """The share of each gradient's energy that the convolution passes back to its input.

    Parameters
    ----------
    weight : ``(d, c, kh, kw)``, real.
    gradient : ``(N, d, h, w)``, the loss's gradient at the convolution's **output**.
    stride : the convolution's stride.

    Returns
    -------
    ``(N,)``, float64, between 0 and 1: the squared norm of the gradient's part outside of the adjoint's null space, over its squared norm; NaN for a zero gradient.
    For circular padding; zero padding differs at the border only.  Equation 7 assumes r/d.

    Raises
    ------
    ValueError : shapes that do not belong together, a bad stride.

    Examples
    --------
    >>> w, g = torch.randn(64, 16, 1, 1), torch.randn(500, 64, 4, 4)
    >>> round(energy_fraction(w, g).mean().item(), 2)  # isotropic gradients: 16 / 64
    0.25
    """
    check_weight(weight)
    if gradient.ndim != 4 or gradient.shape[1] != weight.shape[0]:
        raise ValueError(
            f"gradient must be (N, {weight.shape[0]}, h, w) for this weight, not of shape {tuple(gradient.shape)}"
        )
    h, w = gradient.shape[2:]
    spectrum = torch.fft.rfft2(gradient.double()).permute(2, 3, 1, 0)  # h, w//2+1, d, N
    twice = torch.full((w // 2 + 1, 1), 2.0, dtype=torch.float64, device=gradient.device)
    twice[0] = 1
    if w % 2 == 0:
        twice[-1] = 1
    whole = (spectrum.abs().square().sum(2) * twice).sum((0, 1))
    if rank(tuple(weight.shape), stride) == weight.shape[0]:  # nothing is lost, whatever the gradient
        return whole / whole
    left, values, _ = torch.linalg.svd(transfer_matrices(weight.double(), (h, w), stride), full_matrices=False)
    left = left * (values > 1e-7 * values.max()).unsqueeze(-2)
    passed = ((left.mH @ spectrum).abs().square().sum(2) * twice).sum((0, 1))
    return passed / whole


@torch.no_grad()
def effective_rank(gradient: Tensor) -> float:
    """How many directions in channel space the gradients use: (Σλ)² / Σλ² over the eigenvalues of their second moment.

    ``gradient`` is ``(N, d, h, w)``; every position of every image counts as one vector of d numbers.  d for isotropic gradients, 1 if all
    are multiples of one another (the participation ratio).  Raises ``ValueError`` for another number of dimensions.

    Examples
    --------
    >>> round(effective_rank(torch.randn(100, 8, 16, 16)), 1), round(effective_rank(torch.ones(4, 8, 2, 2)), 1)
    (8.0, 1.0)
    """
    if gradient.ndim != 4:
        raise ValueError(f"gradient must be (N, d, h, w), not of shape {tuple(gradient.shape)}")
    vectors = gradient.double().transpose(0, 1).flatten(1)
    moment = vectors @ vectors.T
    return (moment.trace().square() / moment.square().sum()).item()


def relative_sd(d: int, r: int, gradient_rank: float = 1.0) -> float:
    """The standard deviation of the energy fraction over its mean r/d, for a random r-dimensional subspace of d dimensions.

    For gradients that fill ``gradient_rank`` dimensions evenly: sqrt(2 (d-r) (d-m) / (r m (d-1) (d+2))) with m for ``gradient_rank`` [derived: the variance of the
    trace of a product of two random projections].  It is zero for isotropic gradients (m = d), and largest for one direction (m = 1).

    Examples
    --------
    >>> f"{relative_sd(64, 3):.2f}, {relative_sd(128, 64):.2f}"
    '0.78, 0.12'
    """
    if not (1 <= r <= d and 1 <= gradient_rank <= d):
        raise ValueError(f"r and gradient_rank must be between 1 and d, not {r!r} and {gradient_rank!r} with d = {d!r}")
    if d == 1:
        return 0.0
    return math.sqrt(2 * (d - r) * (d - gradient_rank) / (r * gradient_rank * (d - 1) * (d + 2)))
