"""Theorem 2's explicit optimum, by depth."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from paperlib.studies.norm_preservation.rates import DEPTHS
from paperlib.theorems import (
    RotationStretch,
    compose,
    gaussian,
    gradient_delta,
    linear_factors,
    lower_bound,
    theorem2_bound,
)


def gaussian_matrix(n: int = 16, seed: int = 0) -> Tensor:
    """A Gaussian matrix ``(n, n)``, float64, with a positive determinant: the first row's sign is turned if need be."""
    matrix = gaussian(n, n, seed=seed)
    if torch.linalg.det(matrix) < 0:
        matrix[0] *= -1
    return matrix


def theorem2_rates(R: Tensor, depths: Iterable[int] = DEPTHS) -> pd.DataFrame:
    """The explicit optimum of Theorem 2, by depth.

    Columns: ``L``, ``distance`` (the largest ‖A_l‖), ``sharp`` and ``published`` (bounds on it; the latter NaN for
    L < 3γ), ``delta``, ``lower`` (what no factors can go below), ``error`` (of the product, over R's condition number).
    """
    powers = RotationStretch(R)
    eye, condition = torch.eye(len(R), dtype=torch.float64), (powers.values[0] / powers.values[-1]).item()
    rows = []
    for L in depths:
        factors = linear_factors(R, L)
        rows.append(
            {
                "L": L,
                "distance": torch.linalg.matrix_norm(factors, 2).max().item(),
                "sharp": theorem2_bound(R, L),
                "published": theorem2_bound(R, L, "published") if L >= 3 * powers.gamma else math.nan,
                "delta": gradient_delta(eye + factors).max().item(),
                "lower": lower_bound(R, L),
                "error": (compose(factors) - R).abs().max().item() / condition,
            }
        )
    return pd.DataFrame(rows)
