"""Gradient descent on targets with a positive determinant, and on their mirror images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from paperlib.theorems import gaussian, linear_map, linear_networks

SPECTRA: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "2 dimensions": (0.6, 1.8),
        "3, all alike": (0.7, 0.7, 0.7),
        "4, none below 1": (1.0, 1.2, 1.5, 2.0),
        "5, one small": (0.4, 1.0, 1.0, 1.0, 1.0),
        "6, one large": (0.8, 0.8, 0.8, 0.8, 0.8, 2.5),
        "8, geometric": tuple(np.geomspace(0.5, 2.0, 8).tolist()),
        "12, none above 1": tuple(np.linspace(0.5, 1.0, 12).tolist()),
    }
)
"""The singular values of some targets, by name: several sizes and shapes of a spectrum."""


def mirrored_descents(
    spectra: Mapping[str, Sequence[float]] = SPECTRA,
    L: int = 4,
    rate: float = 0.3,
    steps: int = 3000,
    seed: int = 0,
) -> pd.DataFrame:
    """Where gradient descent from zero ends for targets R with det R > 0, and for each with a row's sign turned.

    The data have Σ = I.  By theory descent reaches R itself where det R > 0, and its excess risk tends to σ_min(R)²
    where det R < 0: the product of layers near the identity has a positive determinant, and can do no better than to
    come close to a singular matrix.

    Parameters
    ----------
    spectra : mapping of str to sequence of float
        The singular values of each target, by its name.  The singular vectors are random.
    L : int
        The number of layers.
    rate : float
        The step size times L, on half the squared error.
    steps : int
        The largest number of steps; a descent stops before where its excess risk is below 1e-20.
    seed : int
        The seed of the singular vectors.

    Returns
    -------
    pandas.DataFrame
        Two rows a target.  Columns: ``target``, ``n`` (the dimension), ``determinant`` (of R), ``step`` (how many were
        taken), ``excess`` (the risk above the best linear map's) and ``floor``, what theory gives for it: 0 or
        σ_min(R)².

    Examples
    --------
    >>> table = mirrored_descents({"small": (0.5, 2.0)}, steps=500)
    >>> table[["target", "floor"]].values.tolist()
    [['small, det R > 0', 0.0], ['small, det R < 0', 0.25]]
    >>> bool(table.excess[0] < 1e-18), float(round(table.excess[1] / table.floor[1], 1))
    (True, 1.0)
    """
    rows: list[dict[str, object]] = []
    for place, (name, values) in enumerate(spectra.items()):
        positive = _target(values, len(spectra) * seed + place)
        negative = positive.clone()
        negative[0] *= -1
        for sign, R, floor in ((">", positive, 0.0), ("<", negative, float(min(values)) ** 2)):
            Sigma = torch.eye(len(R), dtype=R.dtype)
            _, risk = linear_networks.descend(R, Sigma, L, rate / L, steps, tolerance=1e-20)
            found = {"step": len(risk) - 1, "excess": risk[-1].item(), "floor": floor}
            determinant = torch.linalg.det(R).item()
            rows.append({"target": f"{name}, det R {sign} 0", "n": len(R), "determinant": determinant, **found})
    return pd.DataFrame(rows)


def _target(values: Iterable[float], seed: int) -> Tensor:
    """QP with P of these singular values along random axes, and Q a random rotation by at most one radian."""
    spectrum = torch.tensor(list(values), dtype=torch.float64)
    axes = torch.linalg.qr(gaussian(len(spectrum), len(spectrum), seed=seed)).Q
    return linear_map(len(spectrum), 0.0, seed=seed) @ (axes * spectrum) @ axes.T
