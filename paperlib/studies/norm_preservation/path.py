"""Theorem 1's constructions, measured: rates, errors, spectra, gradients on their way back, and where they break."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_args

import pandas as pd
import torch
from torch import Tensor

from paperlib.studies.norm_preservation.rates import DEPTHS
from paperlib.theorems import (
    Path,
    PathStep,
    Schedule,
    SmoothMap,
    Twist,
    ball,
    cuts_bound,
    gaussian,
    gradient_delta,
    identity_distance,
    linear_map,
    lower_bound,
    near_identity_path,
    path_jacobians,
    times,
)

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def theorem1_rates(
    maps: dict[str, SmoothMap],
    depths: Iterable[int] = DEPTHS,
    schedules: Iterable[Schedule] = SCHEDULES,
    points: int = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """How near to norm-preserving the blocks of Theorem 1 are, by depth.

    Columns: ``map``, ``schedule``, ``L``, ``distance`` (the largest ‖J − I‖ over blocks and points of the unit ball),
    ``delta`` (the largest ``|σ(J) − 1|``), ``bound`` (proven, on both) and ``lower`` (what no blocks can go below).
    """
    rows = []
    for name, f in maps.items():
        x, path = ball(f.dim, points, seed), Path(f)
        derivative = f.jacobian(x)
        for schedule in schedules:
            for L in depths:
                cuts = times(path, L, schedule)
                jacobians = path_jacobians(path, cuts, x)
                rows.append(
                    {
                        "map": name,
                        "schedule": schedule,
                        "L": L,
                        "distance": identity_distance(jacobians).max().item(),
                        "delta": gradient_delta(jacobians).max().item(),
                        "bound": cuts_bound(path, cuts),
                        "lower": lower_bound(derivative, L),
                    }
                )
    return pd.DataFrame(rows)


def theorem1_errors(
    maps: dict[str, SmoothMap],
    depths: Iterable[int],
    schedules: Iterable[Schedule] = SCHEDULES,
    points: int = 32,
    seed: int = 1,
) -> pd.DataFrame:
    """Whether the blocks compose to the map: each one is called on the result of the one before.

    Columns: ``map``, ``schedule``, ``L``, ``forward`` (largest ‖composition − F‖), ``backward`` (largest distance from
    the start after all inverses), ``jacobian`` (largest entry of the product of the blocks' derivatives less F's).
    """
    rows = []
    for name, f in maps.items():
        x = ball(f.dim, points, seed)
        for schedule in schedules:
            for L in depths:
                blocks = near_identity_path(f, L, schedule)
                y, product = x, torch.eye(f.dim, dtype=x.dtype)
                for block in blocks:
                    product = block.jacobian(y) @ product
                    y = block(y)
                back = y
                for block in reversed(blocks):
                    back = block.inverse(back)
                rows.append(
                    {
                        "map": name,
                        "schedule": schedule,
                        "L": L,
                        "forward": (y - f(x)).norm(dim=-1).max().item(),
                        "backward": (back - x).norm(dim=-1).max().item(),
                        "jacobian": (product - f.jacobian(x)).abs().max().item(),
                    }
                )
    return pd.DataFrame(rows)


def lemma_lipschitz(f: SmoothMap, scales: Sequence[float], pairs: int = 256, seed: int = 0) -> pd.DataFrame:
    """The two inequalities behind Theorem 1, for κ(a x)/a at growing ``scales`` a, on random pairs of points.

    Columns: ``block``, ``measured`` (the largest ‖(h−Id)x − (h−Id)y‖/‖x−y‖ over pairs near and far) and ``bound``: α̃ a₁
    for the first block, α̃ β̃ (aᵢ − aᵢ₋₁) for the others.
    """
    path = Path(f)
    x = ball(f.dim, pairs, seed)
    near = x + 1e-4 * gaussian(*x.shape, seed=seed)
    others = torch.cat([x.roll(1, 0), 0.999 * near])
    firsts = torch.cat([x, 0.999 * x])
    rows, start = [], 0.0
    for i, stop in enumerate(scales, 1):
        block = PathStep(path, (0.0, start), (0.0, stop))
        a, b = (path((0.0, start), p) for p in (firsts, others))  # where the block meets these trajectories
        ratio = (block.residual(a) - block.residual(b)).norm(dim=-1) / (a - b).norm(dim=-1)
        factor = 1.0 if i == 1 else path.kappa.beta
        rows.append({"block": i, "measured": ratio.max().item(), "bound": path.kappa.alpha * factor * (stop - start)})
        start = stop
    return pd.DataFrame(rows)


def block_spectra(
    f: SmoothMap, L: int, schedules: Iterable[Schedule] = SCHEDULES, points: int = 64, seed: int = 0
) -> pd.DataFrame:
    """The range of the singular values of each block's derivative over the unit ball.

    Columns: ``schedule``, ``block`` (1 to L), ``lowest``, ``highest``.
    """
    path, x = Path(f), ball(f.dim, points, seed)
    parts = []
    for schedule in schedules:
        values = torch.linalg.svdvals(path_jacobians(path, times(path, L, schedule), x)).flatten(1)
        ends = {"lowest": values.amin(1).numpy(), "highest": values.amax(1).numpy()}
        parts.append(pd.DataFrame({"schedule": schedule, "block": range(1, L + 1)} | ends))
    return pd.concat(parts, ignore_index=True)


def carried_grid(maps: dict[str, SmoothMap], at: Sequence[float], lines: int = 9, samples: int = 81) -> pd.DataFrame:
    """What the path G_t makes of a grid on the unit disk, for smooth maps of the plane.

    Columns: ``map``, ``t``, ``line``, ``direction`` (0: horizontal), ``x``, ``y``: polylines, in order.
    """
    along = torch.linspace(-1, 1, samples, dtype=torch.float64)
    grid = []
    for direction in (0, 1):
        for i, place in enumerate(torch.linspace(-1, 1, lines, dtype=torch.float64)[1:-1]):
            chord, offset = along * math.sqrt(1 - place.item() ** 2), place.expand(samples)
            line = torch.stack((chord, offset) if direction == 0 else (offset, chord), -1)
            grid.append((direction * lines + i, direction, line))
    parts = []
    for name, f in maps.items():
        path = Path(f)
        for t in at:
            for number, direction, line in grid:
                x, y = path((t, t), line).T.numpy()
                kind = {"map": name, "t": t, "line": number, "direction": direction}
                parts.append(pd.DataFrame(kind | {"x": x, "y": y}))
    return pd.concat(parts, ignore_index=True)


def pure_scaling(factors: Sequence[float] = (2.0, 10.0, 100.0), L: int = 16) -> pd.DataFrame:
    """F(x) = K x has α = 0 and β = 1/K, and still needs δ = K^{1/L} − 1.

    Columns: ``K``, ``alpha``, ``beta``, ``delta``, ``lower``.
    """
    rows = []
    for K in factors:
        f = Twist(K * torch.eye(2, dtype=torch.float64), omega=0.0)
        x, path = ball(2, 16), Path(f)
        delta = gradient_delta(path_jacobians(path, times(path, L), x)).max().item()
        rows.append({"K": K, "alpha": f.alpha, "beta": f.beta, "delta": delta, "lower": lower_bound(f.jacobian(x), L)})
    return pd.DataFrame(rows)


def two_layer_fit(
    L: int = 16, widths: Iterable[int] = (16, 64, 256, 1024), points: int = 4096, seed: int = 0
) -> pd.DataFrame:
    """How well a two-layer ReLU block W₂ρ(W₁x + b) can be one of Theorem 1's: a twist's last block in 4 dimensions.

    W₁ and b are random, W₂ is the least-squares solution.  Columns: ``width``, ``with biases`` and ``without``: the
    error on fresh points over the residual's own size.  Without biases the block is positively homogeneous, and a twist
    is not.
    """
    *before, block = near_identity_path(Twist(linear_map(4, 0.7)), L)

    def at_block(x: Tensor) -> Tensor:
        for b in before:
            x = b(x)
        return x

    train, test = (at_block(ball(4, points, seed + i)) for i in (0, 1))
    target, wanted = block.residual(train), block.residual(test)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for width in widths:
        weight = gaussian(width, 4, seed=generator)
        bias = 2 * torch.rand(width, generator=generator, dtype=torch.float64) - 1
        row: dict[str, float] = {"width": width}
        for name, b in (("with biases", bias), ("without", 0 * bias)):
            hidden, unseen = ((z @ weight.T + b).relu() for z in (train, test))
            gram = hidden.T @ hidden + 1e-7 * len(hidden) * torch.eye(width, dtype=torch.float64)
            solution = torch.linalg.solve(gram, hidden.T @ target)
            row[name] = ((unseen @ solution - wanted).norm() / wanted.norm()).item()
        rows.append(row)
    return pd.DataFrame(rows)
