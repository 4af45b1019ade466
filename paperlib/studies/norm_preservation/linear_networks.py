"""Linear residual networks, measured: what gradient descent finds, and the landscape in which it moves."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from paperlib.theorems import gaussian, gradient_delta, linear_factors, linear_map, linear_networks, theorem2_delta


def noisy_data(R: Tensor, points: int = 4000, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """y = R x + ξ for standard Gaussian x and ξ of standard deviation ``noise``, as (R̂, Σ) of the sample."""
    generator = torch.Generator().manual_seed(seed)
    x = gaussian(points, R.shape[1], seed=generator)
    y = x @ R.T + noise * gaussian(points, R.shape[0], seed=generator)
    return linear_networks.statistics(x, y)


def descent_rates(
    R: Tensor, depths: Iterable[int] = (4, 8, 16, 32, 64, 128), rate: float = 0.15, steps: int = 4000, seed: int = 0
) -> pd.DataFrame:
    """Gradient descent from zero on noisy data of R beside the explicit optimum for the same data.

    The step size is ``rate``/L.  Columns: ``L``, ``descent`` and ``explicit`` (L times the largest ‖A_l‖), ``delta``
    and ``best delta`` (L times), ``balance``, ``excess`` (risk over the best linear map's) and ``steps``.
    """
    fitted, Sigma = noisy_data(R, seed=seed)
    eye = torch.eye(len(R), dtype=torch.float64)
    rows = []
    for L in depths:
        found, risk = linear_networks.descend(fitted, Sigma, L, rate / L, steps, tolerance=1e-20)
        rows.append(
            {
                "L": L,
                "descent": L * torch.linalg.matrix_norm(found, 2).max().item(),
                "explicit": L * torch.linalg.matrix_norm(linear_factors(fitted, L), 2).max().item(),
                "delta": L * gradient_delta(eye + found).max().item(),
                "best delta": L * theorem2_delta(fitted, L),
                "balance": linear_networks.balance(found).item(),
                "excess": risk[-1].item(),
                "steps": len(risk) - 1,
            }
        )
    return pd.DataFrame(rows)


def descents(L: int = 8, n: int = 8, rate: float = 0.3, steps: int = 3000) -> pd.DataFrame:
    """The excess risk along gradient descent for four targets.

    Two are a matrix with positive determinant and the same with a row's sign turned, both with singular values from
    e^-½ to e^½.  Two are diag(−1, −1, 1, …), started at exactly zero and 1e-3 beside it.  Columns: ``target``,
    ``step``, ``excess``, and ``floor``: what theory gives for the first two, 0 and σ_min²; NaN for the others.
    """
    positive = linear_map(n, 0.5, seed=1)
    negative = positive.clone()
    negative[0] *= -1
    half_turn = torch.diag(torch.tensor([-1.0, -1.0] + [1.0] * (n - 2), dtype=torch.float64))
    smallest = torch.linalg.svdvals(negative)[-1].square().item()
    Sigma = torch.eye(n, dtype=torch.float64)
    parts = []
    for name, R, start, floor in (
        ("det R > 0", positive, None, 0.0),
        ("det R < 0", negative, None, smallest),
        ("half turn, from zero", half_turn, None, math.nan),
        ("half turn, from 0.001 beside it", half_turn, 1e-3 * gaussian(L, n, n), math.nan),
    ):
        _, risk = linear_networks.descend(R, Sigma, L, rate / L, steps, start, tolerance=1e-20)
        parts.append(pd.DataFrame({"target": name, "step": range(len(risk)), "excess": risk.numpy(), "floor": floor}))
    return pd.concat(parts, ignore_index=True)


def critical_points(
    taus: Iterable[float] = (0.1, 0.3, 0.5, 0.7, 0.9), L: int = 4, n: int = 4, samples: int = 300, seed: int = 0
) -> pd.DataFrame:
    """Near the identity all critical points are global: ‖∇f‖² ≥ 4L(1−τ)^{2L−2} σ_min(Σ) (f − f*) for ‖A_l‖ ≤ τ < 1.

    Columns: ``tau``, ``smallest`` and ``median``: the left over the right-hand side, for random layers with ‖A_l‖ = τ
    and random R and Σ; ``at worst``, the same where all layers are −τI and Σ = I, whatever R.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []

    def ratio(A: Tensor, R: Tensor, Sigma: Tensor, tau: float) -> float:
        floor = torch.linalg.eigvalsh(Sigma)[0]
        right = 4 * L * (1 - tau) ** (2 * L - 2) * floor * linear_networks.excess_risk(A, R, Sigma)
        return (linear_networks.gradient(A, R, Sigma).square().sum() / right).item()

    eye = torch.eye(n, dtype=torch.float64)
    for tau in taus:
        found = []
        for _ in range(samples):
            A, (R, root) = gaussian(L, n, n, seed=generator), gaussian(2, n, n, seed=generator)
            found.append(ratio(tau * A / torch.linalg.matrix_norm(A, 2)[:, None, None], R, root @ root.T, tau))
        worst = ratio(-tau * eye.expand(L, n, n), R, eye, tau)
        rows.append({"tau": tau, "smallest": min(found), "median": float(np.median(found)), "at worst": worst})
    return pd.DataFrame(rows)
