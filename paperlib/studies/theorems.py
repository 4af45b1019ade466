"""Chapter 1: the constructions of Theorems 1 and 2, Corollary 1 at random weights, and the landscape of linear residual
networks, measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from paperlib import linear
from paperlib.maps import Monotone, SmoothMap, Twist, features, linear_map
from paperlib.theorems import (
    Block,
    Path,
    PolarPowers,
    Schedule,
    ball,
    compose,
    corollary_bound,
    cuts_bound,
    gradient_delta,
    identity_distance,
    linear_factors,
    lower_bound,
    near_identity_path,
    path_jacobians,
    theorem2_bound,
    theorem2_delta,
    times,
)

DEPTHS = tuple(2**i for i in range(1, 11))


def example_maps(n: int = 8, seed: int = 0) -> dict[str, SmoothMap]:
    """The chapter's two maps: a twist with ω = 1/2 behind a matrix of condition e^1.4, and a monotone one with 2n features
    behind a matrix of condition e."""
    return {
        "twist": Twist(linear_map(n, 0.7, seed=seed), omega=0.5),
        "tanh": Monotone(linear_map(n, 0.5, seed=seed), features(n, 2 * n, seed=seed)),
    }


def slopes(table: pd.DataFrame, value: str, by: Sequence[str], start: int = 16) -> pd.DataFrame:
    """Least-squares slopes of log ``value`` for L ≥ ``start``: in log L, and in log of log(2L)/L.

    Columns: those of ``by`` (one row for all if it is empty), ``in L``, ``in log(2L)/L``.  (log(2L)/L itself has a slope of about −0.81 in L.)

    Examples
    --------
    >>> t = pd.DataFrame({"L": [16, 32, 64], "delta": [3 / 16, 3 / 32, 3 / 64], "map": "a"})
    >>> slopes(t, "delta", ["map"])["in L"].round(6).tolist()
    [-1.0]
    """
    rows = []
    deep = table[table.L >= start]
    for key, part in deep.groupby(list(by), sort=False) if by else [((), deep)]:
        depth, y = part.L.to_numpy(float), np.log(part[value].to_numpy())
        fits = [float(np.polyfit(np.log(x), y, 1)[0]) for x in (depth, np.log(2 * depth) / depth)]
        rows.append(dict(zip([*by, "in L", "in log(2L)/L"], [*key, *fits], strict=True)))
    return pd.DataFrame(rows)


def plane_maps() -> dict[str, SmoothMap]:
    """Two maps of the plane, of the same two kinds, to look at."""
    third = math.pi * torch.arange(3, dtype=torch.float64) / 3
    star = 6 * torch.stack([third.cos(), third.sin()], dim=1)
    return {
        "twist": Twist(linear_map(2, 0.4, seed=1), omega=1.5),
        "tanh": Monotone(linear_map(2, 0.2, seed=0), star, epsilon=0.04),
    }


# -- Lemma 1 ---------------------------------------------------------------------------------------------------
def lemma1(n: int = 8, norm: float = 0.6, seed: int = 0) -> pd.DataFrame:
    """Lemma 1 for some kinds of M ``(n, n)``, n even, all of the same norm: where it is attained and where it is loose.

    Columns: ``M``, ``lower`` (1 − σ_max(M)), ``smallest`` and ``largest`` singular value of I + M, ``upper``.
    """
    generator = torch.Generator().manual_seed(seed)
    general, u, v = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (n, 1, 1))
    singular = general.clone()
    singular[:, 0] = singular[:, 1]
    eye = torch.eye(n, dtype=torch.float64)
    quarter = torch.kron(eye[: n // 2, : n // 2], torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))
    rows = []
    for name, m in {
        "random": general,
        "random, singular": singular,
        "rank one": u @ v.T,
        "a multiple of I": eye,
        "a negative multiple of I": -eye,
        "skew-symmetric": quarter,
    }.items():
        values = torch.linalg.svdvals(eye + norm * m / torch.linalg.matrix_norm(m, 2))
        ends = {"smallest": values[-1].item(), "largest": values[0].item()}
        rows.append({"M": name, "lower": 1 - norm} | ends | {"upper": 1 + norm})
    return pd.DataFrame(rows)


# -- Theorem 1 -------------------------------------------------------------------------------------------------
def theorem1_rates(
    maps: dict[str, SmoothMap],
    depths: Iterable[int] = DEPTHS,
    schedules: Iterable[Schedule] = get_args(Schedule),
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
    schedules: Iterable[Schedule] = get_args(Schedule),
    points: int = 32,
    seed: int = 1,
) -> pd.DataFrame:
    """Whether the blocks compose to the map: each one called on the one before's result.

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

    Columns: ``block``, ``measured`` (the largest ‖(h−Id)x − (h−Id)y‖/‖x−y‖ over pairs near and far) and ``bound``: α̃ a₁ for
    the first block, α̃ β̃ (aᵢ − aᵢ₋₁) for the others.
    """
    path = Path(f)
    x = ball(f.dim, pairs, seed)
    near = x + 1e-4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    others = torch.cat([x.roll(1, 0), 0.999 * near])
    firsts = torch.cat([x, 0.999 * x])
    rows, start = [], 0.0
    for i, stop in enumerate(scales, 1):
        block = Block(path, (0.0, start), (0.0, stop))
        a, b = (path((0.0, start), p) for p in (firsts, others))  # where the block meets these trajectories
        ratio = (block.residual(a) - block.residual(b)).norm(dim=-1) / (a - b).norm(dim=-1)
        factor = 1.0 if i == 1 else path.kappa.beta
        rows.append({"block": i, "measured": ratio.max().item(), "bound": path.kappa.alpha * factor * (stop - start)})
        start = stop
    return pd.DataFrame(rows)


def block_spectra(
    f: SmoothMap, L: int, schedules: Iterable[Schedule] = get_args(Schedule), points: int = 64, seed: int = 0
) -> pd.DataFrame:
    """The range of the singular values of each block's derivative over the unit ball: columns ``schedule``, ``block`` (1 to
    L), ``lowest``, ``highest``."""
    path, x = Path(f), ball(f.dim, points, seed)
    parts = []
    for schedule in schedules:
        values = torch.linalg.svdvals(path_jacobians(path, times(path, L, schedule), x)).flatten(1)
        parts.append(
            pd.DataFrame(
                {
                    "schedule": schedule,
                    "block": range(1, L + 1),
                    "lowest": values.min(1).values.numpy(),
                    "highest": values.max(1).values.numpy(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def carried_grid(maps: dict[str, SmoothMap], at: Sequence[float], lines: int = 9, samples: int = 81) -> pd.DataFrame:
    """What the path G_t makes of a grid on the unit disk, for maps of the plane.

    Columns: ``map``, ``t``, ``line``, ``direction`` (0: horizontal), ``x``, ``y``: polylines, in order.
    """
    place = torch.linspace(-1, 1, lines, dtype=torch.float64)[1:-1]
    along = torch.linspace(-1, 1, samples, dtype=torch.float64)
    parts = []
    for name, f in maps.items():
        path = Path(f)
        for t in at:
            for direction in (0, 1):
                for i, p in enumerate(place):
                    chord = along * math.sqrt(1 - p.item() ** 2)
                    pair = (chord, p.expand(samples)) if direction == 0 else (p.expand(samples), chord)
                    moved = path((t, t), torch.stack(pair, -1))
                    parts.append(
                        pd.DataFrame(
                            {
                                "map": name,
                                "t": t,
                                "line": direction * lines + i,
                                "direction": direction,
                                "x": moved[:, 0].numpy(),
                                "y": moved[:, 1].numpy(),
                            }
                        )
                    )
    return pd.concat(parts, ignore_index=True)


def backward_norms(f: SmoothMap, L: int, points: int = 64, seed: int = 0) -> pd.DataFrame:
    """The gradient's norm on its way back: through the L blocks of Theorem 1, and through L plain layers.

    Random gradients of norm 1 start behind the last layer.  The plain layers are x ↦ W tanh(x) of the map's width, W
    Gaussian with variance 1/N, so that each keeps a gradient's squared norm on average where tanh is nearly linear.  (They make another map; no
    plain layers are near the identity by nature.)  Columns: ``network``, ``layer`` (L: behind the last one), ``lowest``,
    ``median``, ``highest``.
    """
    generator = torch.Generator().manual_seed(seed)
    x, path = ball(f.dim, points, seed), Path(f)
    first = torch.randn(points, f.dim, generator=generator, dtype=x.dtype)
    first = first / first.norm(dim=-1, keepdim=True)
    plain, y = [], x
    for _ in range(L):
        weight = torch.randn(f.dim, f.dim, generator=generator, dtype=x.dtype) / math.sqrt(f.dim)
        plain.append(weight * (1 - torch.tanh(y).square()).unsqueeze(-2))
        y = torch.tanh(y) @ weight.T
    rows = []
    for network, jacobians in (
        ("residual blocks", path_jacobians(path, times(path, L), x)),
        ("plain layers", torch.stack(plain)),
    ):
        g = first
        for layer in range(L, -1, -1):
            norm = g.norm(dim=-1)
            rows.append(
                {
                    "network": network,
                    "layer": layer,
                    "lowest": norm.min().item(),
                    "median": norm.median().item(),
                    "highest": norm.max().item(),
                }
            )
            if layer:
                g = (jacobians[layer - 1].mT @ g.unsqueeze(-1)).squeeze(-1)
    return pd.DataFrame(rows)


# -- Corollary 1 -----------------------------------------------------------------------------------------------
def two_layer_blocks(seed: int = 0) -> dict[str, tuple[nn.Sequential, int | None, tuple[int, ...]]]:
    """Random two-layer blocks by a name: the branch W₂ρ(W₁x), the side of its feature map if it has one, its input's shape."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        blocks: dict[str, tuple[nn.Sequential, int | None, tuple[int, ...]]] = {}
        for n in (16, 64, 256):
            blocks[f"dense, {n}"] = (_dense(n), None, (n,))
        tied = _dense(64)
        tied[2].weight.data = tied[0].weight.data.T.clone()
        blocks["dense, 64, tied"] = (tied, None, (64,))
        for mode in ("circular", "zeros"):
            conv = [nn.Conv2d(6, 6, 3, padding=1, padding_mode=mode, bias=False) for _ in range(2)]
            blocks[f"conv, 6 channels, {mode}"] = (
                nn.Sequential(conv[0], nn.ReLU(), conv[1]).double(),
                8,
                (6, 8, 8),
            )
    finally:
        torch.set_rng_state(torch_state)
    return blocks


def _dense(n: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(n, n, bias=False), nn.ReLU(), nn.Linear(n, n, bias=False)).double()
    for layer in (layers[0], layers[2]):
        nn.init.normal_(layer.weight, std=n**-0.5)
    return layers


def corollary_tightness(seeds: Iterable[int] = range(5), inputs: int = 4, gradients: int = 32) -> pd.DataFrame:
    """Corollary 1 at random weights: how much of the bound a block's derivative uses.

    Weights are scaled so that the bound is 1/4.  Columns: ``block``, ``seed``, ``bound``, ``measured`` (the largest
    ‖J − I‖ over random inputs), ``ratio`` (measured over bound), ``delta`` (the largest ``|σ(J) − 1|``), ``random`` (the mean of
    ``|‖Jᵀg‖/‖g‖ − 1|`` over random gradients g) and ``reshaped``, what the bound would be with the norm of each kernel reshaped to a matrix.
    """
    rows = []
    for seed in seeds:
        for name, (block, size, shape) in two_layer_blocks(seed).items():
            scale = math.sqrt(0.25 / corollary_bound(block, size).item())
            for layer in (block[0], block[2]):
                layer.weight.data *= scale
            generator = torch.Generator().manual_seed(seed)
            n = math.prod(shape)
            eye = torch.eye(n, dtype=torch.float64)
            measured, delta, change = [], [], []
            for _ in range(inputs):
                x = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
                # One input, n times: the batch's i-th row gets the i-th unit vector, and returns a row of the derivative.
                many = x.expand(n, *shape).clone().requires_grad_()
                rows_of_j = torch.autograd.grad(block(many), many, eye.reshape(n, *shape))[0].flatten(1)
                jacobian = eye + rows_of_j
                measured.append(torch.linalg.matrix_norm(rows_of_j, 2).item())
                delta.append(gradient_delta(jacobian).item())
                g = torch.randn(gradients, n, generator=generator, dtype=torch.float64)
                change.append(((g @ jacobian).norm(dim=1) / g.norm(dim=1) - 1).abs().mean().item())
            bound = corollary_bound(block, size).item()
            reshaped = math.prod(
                torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in (block[0], block[2])
            )
            rows.append(
                {
                    "block": name,
                    "seed": seed,
                    "bound": bound,
                    "measured": max(measured),
                    "ratio": max(measured) / bound,
                    "delta": max(delta),
                    "random": float(np.mean(change)),
                    "reshaped": reshaped,
                }
            )
    return pd.DataFrame(rows)


def bound_in_training(
    decays: Sequence[float] = (0.0, 1e-2), width: int = 16, depth: int = 8, steps: int = 300, seed: int = 0
) -> pd.DataFrame:
    """Corollary 1's bound of every block before and after training a small residual network.

    ``depth`` blocks x + W₂ ReLU(W₁ x + b) learn the chapter's twist in ``width`` dimensions, from 1,024 points of the unit
    ball, by SGD with momentum, float64, once for each weight decay.  Columns: ``decay``, ``when``, ``block``, ``bound``,
    ``delta`` (the largest ``|σ(J) − 1|`` over 32 points), ``risk`` (E‖ŷ − y‖², the same in all rows of one state).
    """
    f = Twist(linear_map(width, 0.7, seed=seed))
    x = ball(width, 1024, seed)
    y = f(x)
    rows = []
    for decay in decays:
        generator = torch.Generator().manual_seed(seed)
        blocks = [
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width, bias=False)).double()
            for _ in range(depth)
        ]
        for block in blocks:
            for layer, gain in ((block[0], 1.0), (block[2], 0.1)):
                nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(block[0].bias)
        optimizer = torch.optim.SGD(
            [p for b in blocks for p in b.parameters()], lr=0.05, momentum=0.9, weight_decay=decay
        )

        def forward(points: Tensor, blocks=blocks) -> Tensor:
            for block in blocks:
                points = points + block(points)
            return points

        for when in ("before", "after"):
            with torch.no_grad():
                risk = (forward(x) - y).square().sum(1).mean().item()
                points = x[:32]
                for i, block in enumerate(blocks, 1):
                    first, last = block[0], block[2]
                    active = (first(points) > 0).double()
                    jacobian = torch.eye(width, dtype=x.dtype) + last.weight @ (active.unsqueeze(-1) * first.weight)
                    rows.append(
                        {
                            "decay": decay,
                            "when": when,
                            "block": i,
                            "bound": corollary_bound(block).item(),
                            "delta": gradient_delta(jacobian).max().item(),
                            "risk": risk,
                        }
                    )
                    points = points + block(points)
            if when == "before":
                for _ in range(steps):
                    optimizer.zero_grad()
                    (forward(x) - y).square().sum(1).mean().backward()
                    optimizer.step()
    return pd.DataFrame(rows)


# -- Theorem 2 -------------------------------------------------------------------------------------------------
def gaussian_matrix(n: int = 16, seed: int = 0) -> Tensor:
    """A Gaussian matrix ``(n, n)``, float64, with a positive determinant (the first row's sign is turned if need be)."""
    matrix = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if torch.linalg.det(matrix) < 0:
        matrix[0] *= -1
    return matrix


def theorem2_rates(R: Tensor, depths: Iterable[int] = DEPTHS) -> pd.DataFrame:
    """The explicit optimum of Theorem 2, by depth.

    Columns: ``L``, ``distance`` (the largest ‖A_l‖), ``sharp`` and ``published`` (bounds on it; the latter NaN for L < 3γ),
    ``delta``, ``lower`` (what no factors can go below), ``error`` (of the product, over R's condition number).
    """
    powers = PolarPowers(R)
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


def noisy_data(R: Tensor, points: int = 4000, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """y = R x + ξ for standard Gaussian x and ξ of standard deviation ``noise``, as (R̂, Σ) of the sample."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(points, R.shape[1], generator=generator, dtype=torch.float64)
    y = x @ R.T + noise * torch.randn(points, R.shape[0], generator=generator, dtype=torch.float64)
    return linear.statistics(x, y)


def descent_rates(
    R: Tensor, depths: Iterable[int] = (4, 8, 16, 32, 64, 128), rate: float = 0.15, steps: int = 4000, seed: int = 0
) -> pd.DataFrame:
    """Gradient descent from zero on noisy data of R beside the explicit optimum for the same data.

    The step size is ``rate``/L.  Columns: ``L``, ``descent`` and ``explicit`` (L times the largest ‖A_l‖), ``delta`` and
    ``best delta`` (L times), ``balance``, ``excess`` (risk over the best linear map's) and ``steps``.
    """
    fitted, Sigma = noisy_data(R, seed=seed)
    eye = torch.eye(len(R), dtype=torch.float64)
    rows = []
    for L in depths:
        found, risk = linear.descend(fitted, Sigma, L, rate / L, steps, tolerance=1e-20)
        rows.append(
            {
                "L": L,
                "descent": L * torch.linalg.matrix_norm(found, 2).max().item(),
                "explicit": L * torch.linalg.matrix_norm(linear_factors(fitted, L), 2).max().item(),
                "delta": L * gradient_delta(eye + found).max().item(),
                "best delta": L * theorem2_delta(fitted, L),
                "balance": linear.balance(found).item(),
                "excess": risk[-1].item(),
                "steps": len(risk) - 1,
            }
        )
    return pd.DataFrame(rows)


def descents(L: int = 8, n: int = 8, rate: float = 0.3, steps: int = 3000) -> pd.DataFrame:
    """The excess risk along gradient descent for four targets: columns ``target``, ``step``, ``excess``, ``floor``.

    A matrix with positive and one with negative determinant (the first with a row's sign turned), both with singular values from
    e^-½ to e^½; and diag(−1, −1, 1, …), started at exactly zero and 1e-3 beside it.  ``floor`` is what theory gives
    for the first two, 0 and σ_min²; NaN for the others.
    """
    positive = linear_map(n, 0.5, seed=1)
    negative = positive.clone()
    negative[0] *= -1
    half_turn = torch.diag(torch.tensor([-1.0, -1.0] + [1.0] * (n - 2), dtype=torch.float64))
    aside = 1e-3 * torch.randn(L, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smallest = torch.linalg.svdvals(negative)[-1].square().item()
    Sigma = torch.eye(n, dtype=torch.float64)
    parts = []
    for name, R, start, floor in (
        ("det R > 0", positive, None, 0.0),
        ("det R < 0", negative, None, smallest),
        ("half turn, from zero", half_turn, None, math.nan),
        ("half turn, from 0.001 beside it", half_turn, aside, math.nan),
    ):
        _, risk = linear.descend(R, Sigma, L, rate / L, steps, start, tolerance=1e-20)
        parts.append(pd.DataFrame({"target": name, "step": range(len(risk)), "excess": risk.numpy(), "floor": floor}))
    return pd.concat(parts, ignore_index=True)


def critical_points(
    taus: Iterable[float] = (0.1, 0.3, 0.5, 0.7, 0.9), L: int = 4, n: int = 4, samples: int = 300, seed: int = 0
) -> pd.DataFrame:
    """No critical points near the identity but global ones: ‖∇f‖² ≥ 4L(1−τ)^{2L−2} σ_min(Σ) (f − f*) for ‖A_l‖ ≤ τ < 1.

    Columns: ``tau``, ``smallest`` and ``median``: the left over the right-hand side, for random layers with ‖A_l‖ = τ and random R
    and Σ; ``at worst``, the same where all layers are −τI and Σ = I, whatever R.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []

    def ratio(A: Tensor, R: Tensor, Sigma: Tensor, tau: float) -> float:
        floor = torch.linalg.eigvalsh(Sigma)[0]
        right = 4 * L * (1 - tau) ** (2 * L - 2) * floor * linear.excess_risk(A, R, Sigma)
        return (linear.gradient(A, R, Sigma).square().sum() / right).item()

    eye = torch.eye(n, dtype=torch.float64)
    for tau in taus:
        found = []
        for _ in range(samples):
            A = torch.randn(L, n, n, generator=generator, dtype=torch.float64)
            R, root = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
            found.append(ratio(tau * A / torch.linalg.matrix_norm(A, 2)[:, None, None], R, root @ root.T, tau))
        worst = ratio(-tau * eye.expand(L, n, n), R, eye, tau)
        rows.append({"tau": tau, "smallest": min(found), "median": float(np.median(found)), "at worst": worst})
    return pd.DataFrame(rows)


def bad_critical_point(n: int = 4) -> dict[str, float]:
    """Where τ reaches 1: two layers A = −e₁e₁ᵀ, R = diag(2, 1, …), Σ = I.  The gradient's norm and the excess risk there."""
    A = torch.zeros(2, n, n, dtype=torch.float64)
    A[:, 0, 0] = -1
    R = torch.diag(torch.tensor([2.0] + [1.0] * (n - 1), dtype=torch.float64))
    eye = torch.eye(n, dtype=torch.float64)
    return {
        "gradient": linear.gradient(A, R, eye).norm().item(),
        "excess": linear.excess_risk(A, R, eye).item(),
    }


def scalar_landscape(target: float = 2.0, side: int = 161, reach: float = 2.4) -> pd.DataFrame:
    """f(a₁, a₂) = (target − (1 + a₁)(1 + a₂))², the risk of two scalar layers, on a square: columns ``a1``, ``a2``, ``f``."""
    a = np.linspace(-reach, reach - 1, side)
    first, second = np.meshgrid(a, a)
    return pd.DataFrame(
        {"a1": first.ravel(), "a2": second.ravel(), "f": ((target - (1 + first) * (1 + second)) ** 2).ravel()}
    )


# -- footnotes -------------------------------------------------------------------------------------------------
def pure_scaling(factors: Sequence[float] = (2.0, 10.0, 100.0), L: int = 16) -> pd.DataFrame:
    """F(x) = K x has α = 0 and β = 1/K, and still needs δ = K^{1/L} − 1: columns ``K``, ``alpha``, ``beta``, ``delta``,
    ``lower``."""
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
    """How well a two-layer ReLU block W₂ρ(W₁x + b) can be one of Theorem 1's: the twist's last block in 4 dimensions.

    W₁ and b are random, W₂ is the least-squares solution; columns ``width``, ``with biases`` and ``without``: the error on
    fresh points over the residual's own size.  Without biases the block is positively homogeneous, and a twist is not.
    """
    f = Twist(linear_map(4, 0.7))
    block = near_identity_path(f, L)[-1]
    before = near_identity_path(f, L)[:-1]

    def at_block(x: Tensor) -> Tensor:
        for b in before:
            x = b(x)
        return x

    train, test = (at_block(ball(4, points, seed + i)) for i in (0, 1))
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for width in widths:
        weight = torch.randn(width, 4, generator=generator, dtype=torch.float64)
        bias = 2 * torch.rand(width, generator=generator, dtype=torch.float64) - 1
        row = {"width": width}
        for name, b in (("with biases", bias), ("without", 0 * bias)):
            hidden, unseen = ((z @ weight.T + b).relu() for z in (train, test))
            gram = hidden.T @ hidden + 1e-7 * len(hidden) * torch.eye(width, dtype=torch.float64)
            solution = torch.linalg.solve(gram, hidden.T @ block.residual(train))
            wanted = block.residual(test)
            row[name] = ((unseen @ solution - wanted).norm() / wanted.norm()).item()
        rows.append(row)
    return pd.DataFrame(rows)


def dead_block(n: int = 4, points: int = 64) -> dict[str, float]:
    """A critical point of a non-linear residual network that is no minimum: x + W₂ReLU(W₁x) with W₁x < 0 on all data.

    Returns the risk E‖ŷ − 1.5x‖² there, its gradient's norm, and the risk after W₁ is turned to −W₁ and W₂ chosen best.
    """
    x = ball(n, points).abs()
    w1 = torch.full((n, n), -0.1, dtype=torch.float64).fill_diagonal_(-1.0).requires_grad_()
    w2 = torch.zeros(n, n, dtype=torch.float64, requires_grad=True)
    risk = (x + (x @ w1.T).relu() @ w2.T - 1.5 * x).square().sum(1).mean()
    gradients = torch.autograd.grad(risk, (w1, w2))
    hidden = (-x @ w1.detach().T).relu()
    best = torch.linalg.lstsq(hidden, 0.5 * x).solution
    return {
        "risk": risk.item(),
        "gradient": math.sqrt(sum(g.square().sum().item() for g in gradients)),
        "reachable": (hidden @ best - 0.5 * x).square().sum(1).mean().item(),
    }
