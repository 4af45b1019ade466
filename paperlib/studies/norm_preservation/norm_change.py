"""Lemma 1, by numbers."""

from __future__ import annotations

import pandas as pd
import torch

from paperlib.theorems import gaussian, quarter_turns


def lemma1(n: int = 8, norm: float = 0.6, seed: int = 0) -> pd.DataFrame:
    """Lemma 1 for some kinds of M ``(n, n)``, n even, all of the same norm: where it is attained and where it is loose.

    Columns: ``M``, ``lower`` (1 − σ_max(M)), ``smallest`` and ``largest`` singular value of I + M, ``upper``.
    """
    generator = torch.Generator().manual_seed(seed)
    general, u, v = (gaussian(n, k, seed=generator) for k in (n, 1, 1))
    singular = general.clone()
    singular[:, 0] = singular[:, 1]
    eye = torch.eye(n, dtype=torch.float64)
    rows = []
    for name, m in {
        "random": general,
        "random, singular": singular,
        "rank one": u @ v.T,
        "a multiple of I": eye,
        "a negative multiple of I": -eye,
        "skew-symmetric": quarter_turns(n),
    }.items():
        values = torch.linalg.svdvals(eye + norm * m / torch.linalg.matrix_norm(m, 2))
        ends = {"smallest": values[-1].item(), "largest": values[0].item()}
        rows.append({"M": name, "lower": 1 - norm} | ends | {"upper": 1 + norm})
    return pd.DataFrame(rows)
