"""Theorem 2: a matrix of positive determinant as a product of matrices near the identity, and how near they can be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from paperlib import _checks
from paperlib._checks import one_of, whole_number
from paperlib.theorems.norm_change import lower_bound
from paperlib.theorems.rotations import RotationStretch


def linear_factors(R: Tensor, L: int) -> Tensor:
    """Theorem 2 built: L matrices A_l, each small, with (I + A_L) ⋯ (I + A_1) = R.

    R = QP is a rotation times a stretch; block l does an L-th of each: I + A_l = Q^{l/L} P^{1/L} Q^{−(l−1)/L}
    [derived].  Then ‖A_l‖ ≤ θ/L + e^{γ/L} − 1, and the singular values of I + A_l are σ(R)^{1/L}: for the gradient's
    norm no factors are better (:func:`paperlib.theorems.lower_bound`), and rotation costs nothing.

    Parameters
    ----------
    R : Tensor, (N, N)
        A real, invertible matrix with det R > 0.  The computation is in float64.
    L : int
        The number of blocks, at least 1.

    Returns
    -------
    Tensor, (L, N, N)
        The matrices A_l, the first layer first, in R's floating-point type (float64 for integers), on its device.

    Raises
    ------
    ValueError
        For L < 1; for an R that is not square, not real, not finite, singular, or of negative determinant; or for an L
        so small that a layer would have to shrink by more than I + A can hold in this precision.  (Many layers add up
        their rounding errors: compose thousands of them in float64.)

    Examples
    --------
    >>> R = torch.tensor([[0.0, -2.0], [1.0, 0.0]], dtype=torch.float64)
    >>> product = torch.eye(2, dtype=torch.float64)
    >>> for A in linear_factors(R, 100):
    ...     product = product + A @ product
    >>> bool((product - R).abs().max() < 1e-14)
    True
    """
    whole_number("L", L, unit="block")
    powers, R = RotationStretch(R), torch.as_tensor(R)
    _checks.fits("L", L, *R.shape)
    before = powers.rotation(torch.arange(L, dtype=torch.float64) / L)
    step = powers.rotation(1 / L)
    stretch = before @ powers.stretch(1 / L, minus_identity=True) @ before.mT
    factors = powers.rotation(1 / L, minus_identity=True) + step @ stretch
    dtype = R.dtype if R.is_floating_point() else torch.float64
    smallest = powers.values[-1].item() ** (1 / L)
    if smallest < torch.finfo(dtype).eps ** 0.5:
        raise ValueError(
            f"with L = {L} a layer has to shrink some direction by {smallest:.0e}, of which I + A keeps few digits in "
            f"{str(dtype).removeprefix('torch.')}: use more layers, or factor a multiple of R"
        )
    return factors.to(dtype).to(R.device)


def compose(factors: Iterable[Tensor]) -> Tensor:
    """(I + A_L) ⋯ (I + A_1), the first layer first; ``ValueError`` if there are no factors."""
    is_batch = isinstance(factors, Tensor) and factors.ndim == 3
    matrices = list(factors) if is_batch else _checks.items("factors", factors, "square matrices")
    for matrix in matrices:
        if _checks.real_tensor("factors", matrix, "(n, n)", square=True).shape != matrices[0].shape:
            raise ValueError("factors must be matrices of one size")
    product = None
    for A in matrices:
        product = A + torch.eye(len(A), dtype=A.dtype, device=A.device) if product is None else product + A @ product
    if product is None:
        raise ValueError("there are no factors to multiply")
    return product


def theorem2_bound(R: Tensor, L: int, form: Literal["sharp", "published"] = "sharp") -> float:
    """A bound on max ‖A_l‖ over the best L linear blocks for R.

    γ = ``max |log σ(R)|``, and θ ≤ π is the largest angle of R's rotation.

    Parameters
    ----------
    R : Tensor, (N, N)
        As for :func:`linear_factors`.
    L : int
        The number of blocks, at least 1.
    form : {"sharp", "published"}
        ``"published"`` is c/L with c = 2 (√π + √(3γ))², for L ≥ 3γ (Theorem 2, after Hardt and Ma, arXiv 1611.04231).
        ``"sharp"`` is θ/L + e^{γ/L} − 1, for every L, from :func:`linear_factors` [derived].

    Returns
    -------
    float
        The bound.

    Raises
    ------
    ValueError
        As :func:`linear_factors`, and for the published form where L < 3γ.

    Examples
    --------
    >>> R = torch.diag(torch.tensor([8.0, 0.5]))
    >>> [f"{theorem2_bound(R, 16, form):.2f}" for form in ("sharp", "published")]
    ['0.14', '2.28']
    """
    whole_number("L", L, unit="block")
    powers = RotationStretch(R)
    one_of("form", form, ("sharp", "published"))
    if form == "sharp":
        return powers.distance_bound(1 / L)
    if L < 3 * powers.gamma:
        raise ValueError(
            f"the published bound is for L >= 3γ = {3 * powers.gamma:.2f}, and L is {L}: use more blocks, or the sharp "
            "form, which holds for every L"
        )
    return 2 * (math.sqrt(math.pi) + math.sqrt(3 * powers.gamma)) ** 2 / L


def theorem2_delta(R: Tensor, L: int) -> float:
    """The smallest δ that L linear blocks for R can have: max(σ_max^{1/L} − 1, 1 − σ_min^{1/L}).

    :func:`linear_factors` attains it.  Raises ``ValueError`` as that function does.
    """
    RotationStretch(R)  # for what it refuses
    return lower_bound(torch.as_tensor(R).double(), L)
