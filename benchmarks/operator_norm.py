"""The norm of a zero-padded convolution: ours against other iterations, and our bound against the Gram iteration.

The iterations work on the same operator, torch's own convolution and its adjoint in float64.  Each of them, ours too,
takes the loosest of its tolerances that brings the norm within ``ACCURACY`` of the exact one; an iteration that has
none takes a fixed number of steps, and is listed with the error that is left.  Ours is also timed with the tolerance
that it has by default.  All take turns in one process.

Peers: SciPy's ARPACK (``svds``), and its LOBPCG on two vectors; the power iteration, as PyTorch's
spectral norm does it; and, as bounds, the Gram iteration of Delattre et al., *Efficient bound of Lipschitz constant for
convolutional layers by Gram iteration*, ICML 2023, here on the circular map that the zero-padded one is a part of.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from paired import arguments, in_turns, ratios, report
from scipy.sparse.linalg import LinearOperator, lobpcg, svds

from paperlib.spectrum import operator_norm, operator_norm_bound, transfer_matrices

CASES = ((64, 64, 3, 32), (128, 128, 3, 16), (3, 64, 3, 32))
ACCURACY = 1e-9
TOLERANCES = (1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
POWER_STEPS = 100


class Operator:
    """The convolution, its adjoint, and the map to the square of the smaller side, as SciPy wants them."""

    def __init__(self, weight: torch.Tensor, n: int) -> None:
        self.weight, self.n = weight, n
        d, c = weight.shape[:2]
        self.shape = (d * n * n, c * n * n)
        self.as_scipy = LinearOperator(
            self.shape, matvec=self.forward, rmatvec=self.back, matmat=self.forward, rmatmat=self.back, dtype=np.float64
        )

    def images(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose2d(y, self.weight, padding=self.weight.shape[-1] // 2)

    def _columns(self, function: Callable, x: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(np.ascontiguousarray(x.reshape(len(x), -1).T))
        out = function(rows.reshape(len(rows), -1, self.n, self.n)).flatten(1).numpy().T
        return out.reshape(-1) if x.ndim == 1 else out

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self._columns(self.images, x)

    def back(self, y: np.ndarray) -> np.ndarray:
        return self._columns(self.adjoint, y)


def start(operator: Operator, vectors: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((min(operator.shape), vectors))


def arpack(operator: Operator, tolerance: float) -> float:
    return svds(operator.as_scipy, k=1, v0=start(operator, 1)[:, 0], tol=tolerance, return_singular_vectors=False)[0]


def lobpcg_of_two(operator: Operator, tolerance: float) -> float:
    inner, outer = (operator.forward, operator.back)
    if operator.shape[0] < operator.shape[1]:
        inner, outer = outer, inner
    size = min(operator.shape)
    both = {"matvec": lambda x: outer(inner(x)), "matmat": lambda x: outer(inner(x))}
    square = LinearOperator((size, size), dtype=np.float64, **both)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks both vectors for the tolerance, where one is needed
        values = lobpcg(square, start(operator, 2), tol=tolerance, maxiter=200)[0]
    return math.sqrt(values[0])


def power(operator: Operator, steps: int) -> float:
    x = torch.from_numpy(
        np.random.default_rng(0).standard_normal((1, operator.weight.shape[1], operator.n, operator.n))
    )
    for _ in range(steps):
        y = operator.images(x / x.norm())
        x = operator.adjoint(y)
    return y.norm().item()


def gram(weight: torch.Tensor, n: int, steps: int) -> float:
    """‖(PᴴP)^(2^t)‖_F to the power 2^-(t+1), which is never below the norm of P, at each frequency."""
    matrices = transfer_matrices(weight, n + weight.shape[-1] // 2).flatten(0, 1)
    matrices = matrices if matrices.shape[1] >= matrices.shape[2] else matrices.mH
    scale = torch.zeros(len(matrices), dtype=weight.dtype)  # the logarithm of what was divided out
    for _ in range(steps):
        norms = torch.linalg.matrix_norm(matrices)
        matrices = matrices / norms[:, None, None]
        scale = 2 * (scale + norms.log())
        matrices = matrices.mH @ matrices
    return ((torch.linalg.matrix_norm(matrices).log() + scale) / 2**steps).exp().max().item()


def ours(operator: Operator, tolerance: float) -> float:
    return operator_norm(operator.weight, operator.n, "zeros", tolerance=tolerance).item()


def loosest(peer: Callable, operator: Operator, exact: float) -> float | None:
    """The loosest tolerance that is accurate enough; None if none is."""
    for tolerance in TOLERANCES:
        if abs(peer(operator, tolerance) / exact - 1) <= ACCURACY:
            return tolerance
    return None


def compare(c: int, d: int, k: int, n: int, rounds: int) -> dict:
    weight = torch.randn(d, c, k, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight *= math.sqrt(2 / (k * k * d))
    operator = Operator(weight, n)
    exact = max(arpack(operator, 1e-7), ours(operator, 1e-14))
    calls: dict[str, Callable] = {"our_default": lambda: operator_norm(weight, n, "zeros").item()}
    settings: dict[str, float] = {}
    for peer in (ours, arpack, lobpcg_of_two):
        tolerance = loosest(peer, operator, exact)
        if tolerance is not None:
            settings[peer.__name__] = tolerance
            calls[peer.__name__] = lambda peer=peer, tolerance=tolerance: peer(operator, tolerance)
    calls[f"power_{POWER_STEPS}"] = lambda: power(operator, POWER_STEPS)
    calls["our_bound"] = lambda: operator_norm_bound(weight, n).item()
    calls["gram_bound_6"] = lambda: gram(weight, n, 6)
    errors = {name: float(f"{call() / exact - 1:.1e}") for name, call in calls.items()}
    t = in_turns(calls, rounds)
    return {
        "over_ours": {name: ratios(t[name], t["ours"]) for name in calls if name not in ("ours", "our_bound")},
        "over_our_bound": ratios(t["gram_bound_6"], t["our_bound"]),
        "relative_error": errors,
        "tolerances": settings,
        "best_milliseconds": {name: round(1e3 * min(seconds), 1) for name, seconds in t.items()},
    }


if __name__ == "__main__":
    a = arguments(__doc__, rounds=7)
    found = {f"{c}->{d} {k}x{k} n={n}": compare(c, d, k, n, a.rounds) for c, d, k, n in CASES}
    report("operator_norm", {"rounds": a.rounds, "accuracy": ACCURACY, "cases": found}, a.save)
