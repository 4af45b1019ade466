"""Theorems 1 and 2 and Corollary 1 as constructions: blocks that are near the identity and compose to a given map.

If a block's derivative is J, the gradient's norm changes across it by at most

    ``δ = max |σ(J) − 1| ≤ ‖J − I‖``                                               (Lemma 1)

* :func:`near_identity_path`: any smooth invertible map as L residual blocks (Theorem 1), δ = O(log(2L)/L) by the
  decomposition that the paper uses [Bartlett2018]_, O(1/L) by a better one;
* :func:`linear_factors`: a matrix with positive determinant as L linear residual blocks (Theorem 2), with the smallest
  possible δ;
* :func:`corollary_bound`: δ of a given residual block, from the norms of its weights (Corollary 1).

Beside each stands what bounds it: :func:`theorem1_bound` and :func:`lower_bound`, :func:`theorem2_bound`.

.. [Bartlett2018] Bartlett, Evans, Long: *Representing smooth functions as compositions of near-identity functions with
   implications for deep network optimization*, arXiv 1804.05012.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Literal, get_args

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from paperlib.maps import SmoothMap, check_map
from paperlib.models import Bottleneck
from paperlib.spectrum import operator_norm, operator_norm_bound

Schedule = Literal["geometric", "uniform", "arc"]


# -- Lemma 1 ---------------------------------------------------------------------------------------------------
def identity_distance(jacobians: Tensor) -> Tensor:
    """‖J − I‖ for each of the matrices ``(..., N, N)``."""
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
    squares = torch.linalg.eigvalsh(jacobians.mT @ jacobians)
    return (squares[..., [0, -1]].clamp_min(0).sqrt() - 1).abs().amax(-1)


# -- matrices to a fractional power ------------------------------------------------------------------------------
class PolarPowers:
    """Qᵗ and Pᵗ for R = QP, a rotation times a symmetric positive matrix.

    ``rotation(t)`` and ``stretch(t)`` are ``(..., N, N)`` for numbers or tensors ``t`` of shape ``(...)``; with
    ``minus_identity`` they return the difference from I without cancellation, however small t is.

    Raises ``ValueError`` for anything but a real square matrix that is finite, invertible and of positive determinant.
    """

    def __init__(self, matrix: Tensor):
        matrix = torch.as_tensor(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.numel():
            raise ValueError(
                f"the matrix must be square, not of shape {tuple(matrix.shape)}: a block with an identity skip returns as many "
                "numbers as it takes"
            )
        if matrix.is_complex() or not bool(torch.isfinite(matrix).all()):
            raise ValueError("the matrix must be real and finite: it holds complex, NaN or infinite entries")
        matrix = matrix.detach().double().cpu()
        left, self.values, right = torch.linalg.svd(matrix)
        if self.values[-1] <= len(matrix) * torch.finfo(torch.float64).eps * self.values[0]:
            raise ValueError(
                f"the matrix is singular (its singular values lie between {self.values[-1].item():.1e} and "
                f"{self.values[0].item():.1e}): a product of blocks near the identity is invertible"
            )
        rotation = left @ right
        if torch.linalg.det(rotation) < 0:
            raise ValueError(
                "the matrix has a negative determinant: blocks nearer than 1 to the identity have positive ones, and so has their "
                "product. Flip the sign of one row (a reflection behind the network)"
            )
        self.axes = _orthonormal(right.mT)
        # The real Schur form of a rotation: planes that turn by an angle each, fixed axes, and pairs of axes that are
        # both reversed, which is a plane that turns by π.
        form, basis = scipy.linalg.schur(rotation.numpy(), output="real")
        self.basis = _orthonormal(torch.from_numpy(np.ascontiguousarray(basis)))
        n = len(form)
        self.angles = torch.zeros(n, dtype=torch.float64)
        self.turns = torch.zeros(n, n, dtype=torch.float64)
        reversed_axes = []
        i = 0
        while i < n:
            if i + 1 < n and form[i + 1, i] != 0:
                self._plane(i, i + 1, math.atan2(form[i + 1, i] - form[i, i + 1], form[i, i] + form[i + 1, i + 1]))
                i += 2
            else:
                if form[i, i] < 0:
                    reversed_axes.append(i)
                i += 1
        for a, b in zip(reversed_axes[::2], reversed_axes[1::2], strict=True):
            self._plane(a, b, math.pi)

    def _plane(self, a: int, b: int, angle: float) -> None:
        self.angles[a] = self.angles[b] = angle
        self.turns[a, b], self.turns[b, a] = -1.0, 1.0

    @property
    def largest_angle(self) -> float:
        """θ, the largest angle by which Q turns a plane, 0 to π."""
        return self.angles.abs().max().item()

    @property
    def gamma(self) -> float:
        """``γ = max |log σ|``, the paper's measure of how much R stretches."""
        return self.values.log().abs().max().item()

    def rotation(self, t: float | Tensor, minus_identity: bool = False) -> Tensor:
        angle = torch.as_tensor(t, dtype=torch.float64)[..., None] * self.angles
        real = -2 * (angle / 2).sin().square() if minus_identity else angle.cos()
        return self.basis @ (torch.diag_embed(real) + angle.sin().unsqueeze(-1) * self.turns) @ self.basis.T

    def stretch(self, t: float | Tensor, minus_identity: bool = False) -> Tensor:
        exponent = torch.as_tensor(t, dtype=torch.float64)[..., None] * self.values.log()
        powers = torch.expm1(exponent) if minus_identity else exponent.exp()
        return (self.axes * powers.unsqueeze(-2)) @ self.axes.T


def _orthonormal(basis: Tensor) -> Tensor:
    """One Newton-Schulz step: LAPACK's bases are orthonormal to some rounding errors, and a long chain adds them up."""
    return basis @ (1.5 * torch.eye(len(basis), dtype=basis.dtype) - 0.5 * basis.T @ basis)


# -- Theorem 1 -------------------------------------------------------------------------------------------------
class Path:
    """Maps G_{s,t} that lead from the identity, at (0, 0), to F, at (1, 1).

    G_{s,t}(x) = Qˢ Pˢ κ(t x)/t + s F(0), with F'(0) = QP and κ(x) = F'(0)⁻¹ (F(x) − F(0)).

    Along t the map bends, along s it turns and stretches.  Points are ``(..., N)``, float64.
    Raises ``ValueError`` if ``f`` is no :class:`paperlib.maps.SmoothMap` of R^N in float64, or F'(0) is singular or has a
    negative determinant.
    """

    def __init__(self, f: SmoothMap):
        check_map(f)
        self.f, self.kappa = f, f.normalised()
        origin = torch.zeros(f.dim, dtype=torch.float64)
        self.powers, self.shift = PolarPowers(f.jacobian(origin)), f(origin)
        self._lengths: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def linear(self, s: float | Tensor) -> Tensor:
        """Qˢ Pˢ."""
        return self.powers.rotation(s) @ self.powers.stretch(s)

    def __call__(self, at: tuple[float, float], x: Tensor) -> Tensor:
        s, t = at
        bent = self.kappa(t * x) / t if t else x
        return bent @ self.linear(s).T + s * self.shift if s else bent

    def inverse(self, at: tuple[float, float], y: Tensor) -> Tensor:
        s, t = at
        if s:
            y = (y - s * self.shift) @ self.powers.rotation(s) @ self.powers.stretch(-s)
        return self.kappa.inverse(t * y) / t if t else y

    def jacobian(self, at: tuple[float | Tensor, float | Tensor], x: Tensor) -> Tensor:
        """DG_{s,t} at the points; s and t are numbers, or tensors ``(T,)`` for a result ``(T, ..., N, N)``."""
        s, t = (torch.as_tensor(v, dtype=torch.float64) for v in at)
        linear = self.linear(s).reshape(*s.shape, *([1] * (x.ndim - 1)), self.f.dim, self.f.dim)
        return linear @ self.kappa.jacobian(t.reshape(*t.shape, *([1] * x.ndim)) * x)

    def length(self, points: int, seed: int, grid: int) -> tuple[Tensor, Tensor]:
        """The arc's length up to each of ``grid`` + 1 times t, over its whole, as seen at random points of the unit ball.

        A tenth of it is t itself: then no cut is longer than 10/L in t, wherever the map may bend unseen between the
        points.  Kept, because every depth asks for the same.
        """
        key = (points, seed, grid)
        if key not in self._lengths:
            at = torch.linspace(0, 1, grid + 1, dtype=torch.float64)
            jacobians = self.jacobian((at, at), ball(self.f.dim, points, seed))
            steps = torch.linalg.solve(jacobians[:-1], jacobians[1:], left=False)
            length = torch.cat([at[:1], identity_distance(steps).amax(1).cumsum(0)])
            total = length[-1].clamp_min(torch.finfo(length.dtype).tiny)
            length = 0.9 * length / total + 0.1 * at
            self._lengths[key] = at, length / length[-1]
        return self._lengths[key]


class Block:
    """One residual block x ↦ x + F_l(x): from one point of a :class:`Path` to the next.

    Call it on points ``(..., N)``; ``inverse(y)`` takes them back, ``jacobian(x)`` is ``(..., N, N)``, and
    ``residual(x)`` is F_l(x) alone.
    """

    def __init__(self, path: Path, start: tuple[float, float], stop: tuple[float, float]):
        self.path, self.start, self.stop = path, start, stop

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.residual(x)

    def residual(self, x: Tensor) -> Tensor:
        return self._difference(self.path.inverse(self.start, x))

    def inverse(self, y: Tensor) -> Tensor:
        return y - self._difference(self.path.inverse(self.stop, y))

    def _difference(self, z: Tensor) -> Tensor:
        # Not the end alone: what is systematically off in both cancels here, and would add up over many blocks.
        return self.path(self.stop, z) - self.path(self.start, z)

    def jacobian(self, x: Tensor) -> Tensor:
        z = self.path.inverse(self.start, x)
        return torch.linalg.solve(self.path.jacobian(self.start, z), self.path.jacobian(self.stop, z), left=False)

    def __repr__(self) -> str:
        (s0, t0), (s1, t1) = self.start, self.stop
        return f"Block(({s0:.4g}, {t0:.4g}) → ({s1:.4g}, {t1:.4g}))"


def ball(n: int, points: int, seed: int = 0) -> Tensor:
    """``(points, n)``, float64: random points of the unit ball, half of them on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(points, n, generator=generator, dtype=torch.float64)
    radius = torch.rand(points, 1, generator=generator, dtype=torch.float64) ** (1 / n)
    radius[: points // 2] = 1
    return radius * x / x.norm(dim=-1, keepdim=True)


def times(
    path: Path, L: int, schedule: Schedule = "arc", points: int = 64, seed: int = 0, grid: int = 512
) -> list[tuple[float, float]]:
    """The L + 1 points (s, t) of a path between which the blocks lie: see :func:`near_identity_path`."""
    _check_depth(L)
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, not {schedule!r}")
    if not isinstance(points, Integral) or points < 1:
        raise ValueError(f"points must be a whole number of at least 1, not {points!r}")
    x = ball(path.f.dim, points, seed)
    if not bool((torch.linalg.det(path.f.jacobian(x)) > 0).all()):
        raise ValueError(
            f"the derivative of {type(path.f).__name__} has no positive determinant at some point of the unit ball: the map folds or "
            "reflects there, and no chain of blocks near the identity does"
        )
    if schedule == "arc":
        at, length = path.length(points, seed, grid)
        inner = np.interp(np.linspace(0, 1, L + 1)[1:-1], length.numpy(), at.numpy()).tolist()
        return [(t, t) for t in (0.0, *inner, 1.0)]
    m = (L + 1) // 2
    linear = [(j / (L - m), 1.0) for j in range(1, L - m + 1)]
    if schedule == "geometric":
        rho = math.log(2 * m) / m
        bend = [(1 - rho) ** (m - i) for i in range(1, m + 1)]
    else:
        bend = [i / m for i in range(1, m + 1)]
    if not linear:  # one block does it all
        return [(0.0, 0.0), (1.0, 1.0)]
    return [(0.0, 0.0), *((0.0, t) for t in bend), *linear]


def near_identity_path(
    f: SmoothMap, L: int, schedule: Schedule = "arc", points: int = 64, seed: int = 0
) -> list[Block]:
    """Theorem 1 built: L residual blocks, each near the identity, whose composition is ``f``.

    Parameters
    ----------
    f : a smooth invertible map with det F'(0) > 0, from :mod:`paperlib.maps` or your own.
    L : the number of blocks, at least 1.
    schedule : ``"geometric"`` is the decomposition of Bartlett, Evans and Long (2018), which the paper's proof uses:
        half of the blocks (one more if L is odd) take a₁ < … < a_m = 1 in geometric progression and make κ, the map
        without its linear part; the other half make the linear part.  Its δ falls like log(2L)/L.  ``"uniform"`` takes
        aᵢ = i/m instead, and δ falls like 1/L.  ``"arc"`` bends, turns and stretches at the same time, in steps of (nine tenths)
        equal length as measured on ``points`` random points of the unit ball: 1/L with a smaller constant.
    points, seed : of that measurement.

    Returns
    -------
    The blocks, the first applied first.  Float64 throughout.

    Raises
    ------
    ValueError : L < 1, an unknown schedule, something that is no map of R^N in float64, or a derivative whose
        determinant is not positive at 0 or at one of the ``points`` (Assumption 1 (iii)).  A map that folds elsewhere is not
        noticed.

    Examples
    --------
    >>> from paperlib.maps import Twist, linear_map
    >>> f = Twist(linear_map(8, 0.7))
    >>> x = y = ball(8, 32)
    >>> for block in near_identity_path(f, 16):
    ...     y = block(y)
    >>> bool((y - f(x)).abs().max() < 1e-13)
    True
    """
    path = Path(f)
    return [Block(path, start, stop) for start, stop in pairwise(times(path, L, schedule, points, seed))]


def path_jacobians(path: Path, at: Sequence[tuple[float, float]], x: Tensor) -> Tensor:
    """The blocks' derivatives along the trajectories that start at ``x``, ``(L, points, N, N)``, in one go.

    The same as each block's ``jacobian`` at the images of ``x``, without inverting the map.
    """
    s, t = (torch.tensor(v, dtype=torch.float64) for v in zip(*at, strict=True))
    jacobians = path.jacobian((s, t), x)
    return torch.linalg.solve(jacobians[:-1], jacobians[1:], left=False)


def theorem1_bound(f: SmoothMap, L: int, schedule: Schedule = "arc", points: int = 64, seed: int = 0) -> float:
    """A proven bound on ‖J − I‖ of every block of :func:`near_identity_path` with the same arguments [derived].

    With α̃, β̃ of the normalised map κ, F'(0) = QP, θ the largest angle of Q, γ = ``max |log σ(P)|`` and χ = cond P:

    * a block that bends from radius a to b: α̃ b if a = 0, else α̃ β̃ (b − a);
    * a block that makes a share h of the linear part: θ h + e^{γh} − 1;
    * a block along the arc from t = a to b: e^ℓ − 1 with ℓ = (θ + γ)(b − a) + α̃β̃ (χᵇ − χᵃ)/log χ, which bounds the length
      of the path there.

    The largest over all blocks is returned: with m of L blocks for κ, α̃β̃ log(2m)/m or α̃β̃/m, and O(1/L) along the arc.
    Infinite for a map without ``alpha`` and ``beta``.  Raises as :func:`near_identity_path`.

    Examples
    --------
    >>> from paperlib.maps import Twist, linear_map
    >>> [round(theorem1_bound(Twist(linear_map(8, 0.7)), 1024, s), 3) for s in ("geometric", "uniform", "arc")]
    [0.071, 0.01, 0.016]
    """
    path = Path(f)
    return cuts_bound(path, times(path, L, schedule, points, seed))


def cuts_bound(path: Path, at: Sequence[tuple[float, float]]) -> float:
    """:func:`theorem1_bound` for a path that is cut at these points (s, t)."""
    return max(_step_bound(path, start, stop) for start, stop in pairwise(at))


def _step_bound(path: Path, start: tuple[float, float], stop: tuple[float, float]) -> float:
    (s0, t0), (s1, t1) = start, stop
    kappa, powers = path.kappa, path.powers
    bend = kappa.alpha * kappa.beta if kappa.alpha else 0.0
    if s0 == s1:
        return kappa.alpha * t1 if t0 == 0 else bend * (t1 - t0)
    if t0 == t1:
        return _linear_bound(powers, s1 - s0)
    if start == (0, 0) and stop == (1, 1):  # one block does it all: J − I = (A − I) + A (κ' − I)
        linear = path.linear(1.0)
        return identity_distance(linear).item() + torch.linalg.matrix_norm(linear, 2).item() * kappa.alpha
    spread = math.log(powers.values[0] / powers.values[-1])
    weight = t1 - t0 if spread < 1e-9 else (_expm1(spread * t1) - _expm1(spread * t0)) / spread
    return _expm1((powers.largest_angle + powers.gamma) * (t1 - t0) + bend * weight)


def lower_bound(jacobians: Tensor, L: int) -> float:
    """The δ that no L blocks can go below, whatever they are, if their composition has these derivatives.

    L factors of the derivative multiply to it, so max(‖DF‖^{1/L} − 1, 1 − ‖DF⁻¹‖^{−1/L}) ≤ δ.  ``jacobians`` is
    ``(..., N, N)``; the largest over all of them is returned, a lower bound for Theorem 1's δ as for ‖J − I‖.
    Raises ``ValueError`` for L < 1.

    Examples
    --------
    >>> f"{lower_bound(torch.diag(torch.tensor([8.0, 1.0])), 3):.2f}"  # three factors, one stretches by at least 2
    '1.00'
    """
    _check_depth(L)
    values = torch.linalg.svdvals(jacobians.double())
    return max(_expm1(values[..., 0].max().log().item() / L), -_expm1(values[..., -1].min().log().item() / L))


# -- Theorem 2 -------------------------------------------------------------------------------------------------
def linear_factors(R: Tensor, L: int) -> Tensor:
    """Theorem 2 built: L matrices A_l, each small, with (I + A_L) ⋯ (I + A_1) = R.

    R = QP is a rotation times a stretch; block l does an L-th of each: I + A_l = Q^{l/L} P^{1/L} Q^{−(l−1)/L}
    [derived].  Then ‖A_l‖ ≤ θ/L + e^{γ/L} − 1, and the singular values of I + A_l are σ(R)^{1/L}: for the gradient's norm no
    factors are better (:func:`lower_bound`), and rotation costs nothing.

    Parameters
    ----------
    R : ``(N, N)``, real, invertible, det R > 0.  Computed in float64.
    L : the number of blocks, at least 1.

    Returns
    -------
    ``(L, N, N)``, the first layer first, in R's floating-point type (float64 for integers), on its device.

    Raises
    ------
    ValueError : L < 1; R not square, not real, not finite, singular, or of negative determinant; or L so small that a
        layer would have to shrink by more than I + A can hold in this precision.  (Many layers add up their rounding
        errors: compose thousands of them in float64.)

    Examples
    --------
    >>> R = torch.tensor([[0.0, -2.0], [1.0, 0.0]], dtype=torch.float64)
    >>> product = torch.eye(2, dtype=torch.float64)
    >>> for A in linear_factors(R, 100):
    ...     product = product + A @ product
    >>> bool((product - R).abs().max() < 1e-14)
    True
    """
    _check_depth(L)
    R = torch.as_tensor(R)
    powers = PolarPowers(R)
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
    """(I + A_L) ⋯ (I + A_1), the first layer first."""
    product = None
    for A in factors:
        product = A + torch.eye(len(A), dtype=A.dtype, device=A.device) if product is None else product + A @ product
    if product is None:
        raise ValueError("there are no factors to multiply")
    return product


def theorem2_bound(R: Tensor, L: int, form: Literal["sharp", "published"] = "sharp") -> float:
    """A bound on max ‖A_l‖ over the best L linear blocks for R.

    ``"published"``: c/L with c = 2 (√π + √(3γ))², for L ≥ 3γ (Theorem 2, after Hardt and Ma, arXiv 1611.04231).
    ``"sharp"``: θ/L + e^{γ/L} − 1, for every L, from :func:`linear_factors` [derived].  ``γ = max |log σ(R)|``; θ ≤ π is the
    largest angle of R's rotation.

    Raises ``ValueError`` as :func:`linear_factors`, and for the published form where L < 3γ.

    Examples
    --------
    >>> R = torch.diag(torch.tensor([8.0, 0.5]))
    >>> [f"{theorem2_bound(R, 16, form):.2f}" for form in ("sharp", "published")]
    ['0.14', '2.28']
    """
    _check_depth(L)
    powers = PolarPowers(R)
    if form == "sharp":
        return _linear_bound(powers, 1 / L)
    if form != "published":
        raise ValueError(f"form must be 'sharp' or 'published', not {form!r}")
    if L < 3 * powers.gamma:
        raise ValueError(
            f"the published bound is for L >= 3γ = {3 * powers.gamma:.2f}, and L is {L}: use more blocks, or the sharp form, "
            "which holds for every L"
        )
    return 2 * (math.sqrt(math.pi) + math.sqrt(3 * powers.gamma)) ** 2 / L


def theorem2_delta(R: Tensor, L: int) -> float:
    """The smallest δ that L linear blocks for R can have: max(σ_max^{1/L} − 1, 1 − σ_min^{1/L}), which
    :func:`linear_factors` attains.  Raises as :func:`linear_factors`."""
    PolarPowers(R)  # for what it refuses
    return lower_bound(torch.as_tensor(R), L)


def _linear_bound(powers: PolarPowers, share: float) -> float:
    """θh + e^{γh} − 1, a bound on the distance of QʰPʰ (in rotated axes) from I."""
    return powers.largest_angle * share + _expm1(powers.gamma * share)


def _expm1(x: float) -> float:
    return math.expm1(x) if x < 700 else math.inf


def _check_depth(L: int) -> None:
    if not isinstance(L, Integral) or isinstance(L, bool) or L < 1:
        raise ValueError(f"L, the number of blocks, must be a whole number of at least 1, not {L!r}")


# -- Corollary 1 -----------------------------------------------------------------------------------------------
# max |ρ'|; those of the smooth ones, where the maximum has no closed form, to ten digits [derived: maximised here].
# torch's hard sigmoid has 1/6 rounded to float32, upwards.
_SLOPES: dict[type[nn.Module], float] = {
    nn.Identity: 1, nn.Flatten: 1, nn.ReLU: 1, nn.ReLU6: 1, nn.Hardtanh: 1, nn.Tanh: 1, nn.Softplus: 1, nn.Softsign: 1,
    nn.LogSigmoid: 1, nn.Sigmoid: 0.25, nn.Hardsigmoid: 0.1666666716337204, nn.Hardswish: 1.5, nn.SiLU: 1.0998393201,
    nn.Mish: 1.0884981613, nn.SELU: 1.0507009873554805 * 1.6732632423543772,
}  # fmt: skip


def corollary_bound(
    block: nn.Module | Sequence[nn.Module], size: int | tuple[int, int] | None = None, certified: bool = False
) -> Tensor:
    """Corollary 1: δ of a residual block x + F_l(x), from its weights alone: the product of its layers' norms.

    For W₂ ρ(W₁ x) it is c_ρ ‖W₁‖ ‖W₂‖; every further activation adds its own largest slope, every further layer its
    norm.  At any input, each singular value of the block's derivative is within δ of 1.

    Parameters
    ----------
    block : the *branch* F_l: an ``nn.Sequential`` (nested ones too) or a sequence of modules, or one
        of this library's bottlenecks with an identity skip.  Known are linear and ungrouped 2-D convolutional layers of stride 1
        that keep the map's size, batch norm and dropout in evaluation mode, and torch's elementwise activations.
    size : side (or sides) of the feature map; needed where there is a convolution.
    certified : bound a zero-padded convolution's norm from above in closed form instead of computing it by an
        iteration, which approaches it from below (to about nine digits).

    Returns
    -------
    A scalar tensor, differentiable in the weights.

    Raises
    ------
    ValueError : a module that is not known (a subclass with a ``forward`` of its own is not), or not for this
        corollary; layers that do not fit each other or a skip; weights that are not finite or are made anew before
        each call; no ``size`` for a convolution; batch norm in training mode, whose slope depends on the batch.

    Examples
    --------
    >>> w = torch.eye(4)
    >>> block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    >>> _ = block[0].weight.data.copy_(0.5 * w), block[2].weight.data.copy_(0.1 * w)
    >>> f"{corollary_bound(block).item():.3f}"
    '0.050'
    """
    if isinstance(block, Bottleneck):
        if not block.identity:
            raise ValueError("corollary 1 is about blocks with an identity skip: this one has none")
        block = block.branch()
    modules = list(_leaves(block))
    layers = [m for m in modules if _is(m, nn.Linear) or _is(m, nn.Conv2d)]
    if not layers:
        raise ValueError("the block has no linear or convolutional layer")
    _check_widths(modules)
    bound: Tensor | float = 1.0
    for m in modules:
        bound = bound * _norm(m, size, certified)
    return bound


def _is(m: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether ``m`` is of that kind and computes what it computes: a subclass with a ``forward`` of its own may not."""
    return isinstance(m, kind) and type(m).forward is kind.forward


def _leaves(block: nn.Module | Sequence[nn.Module]) -> Iterable[nn.Module]:
    if isinstance(block, list | tuple) or (isinstance(block, nn.Module) and _is(block, nn.Sequential)):
        for m in block:
            yield from _leaves(m)
    else:
        yield block


def _check_widths(modules: Sequence[nn.Module]) -> None:
    """Raise ``ValueError`` unless each layer takes what the one before returns, and the first what the last returns."""
    taken = width = None  # of the layers since a flattening, which hides how many there are
    for m in modules:
        if _is(m, nn.Flatten):
            taken = width = None
        if not (_is(m, nn.Linear) or _is(m, nn.Conv2d)):
            continue
        takes, returns = (m.in_features, m.out_features) if _is(m, nn.Linear) else (m.in_channels, m.out_channels)
        if width is not None and takes != width:
            raise ValueError(f"{m} takes {takes} numbers or channels, and the layer before it returns {width}")
        taken, width = takes if taken is None else taken, returns
    if taken != width:
        raise ValueError(
            f"the block takes {taken} numbers or channels and returns {width}: with an identity skip they must be as many"
        )


def _weight(m: nn.Module) -> Tensor:
    """The weight of a layer, at least in float32; ``ValueError`` if it is not finite or not the layer's own."""
    if "weight" not in m._parameters and not is_parametrized(m, "weight"):
        raise ValueError(
            f"the weight of {m} is made anew before each call (pruning, or the old weight_norm or spectral_norm): remove that, or use "
            "torch.nn.utils.parametrizations"
        )
    if not bool(torch.isfinite(m.weight).all()):
        raise ValueError(f"the weight of {m} holds NaN or infinite values: it has no norm")
    return m.weight if m.weight.dtype == torch.float64 else m.weight.float()


def _norm(m: nn.Module, size: int | tuple[int, int] | None, certified: bool) -> Tensor | float:
    """The Lipschitz constant of one layer."""
    name = type(m).__name__
    if _is(m, nn.Linear):
        return torch.linalg.matrix_norm(_weight(m), 2)
    if _is(m, nn.Conv2d):
        if size is None:
            raise ValueError("a convolution's norm depends on the feature map: give its side as size")
        k = m.kernel_size
        same = m.padding == "same" or m.padding == tuple(n // 2 for n in k)
        if m.stride != (1, 1) or m.dilation != (1, 1) or m.groups != 1 or not same or any(n % 2 == 0 for n in k):
            raise ValueError(
                f"{m} does not keep the feature map's size with an odd, ungrouped kernel: a block with an identity skip needs that"
            )
        if m.padding_mode not in ("zeros", "circular"):
            raise ValueError(f"the norm of a convolution with padding_mode {m.padding_mode!r} is not known here")
        weight = _weight(m)
        if m.padding_mode == "circular" or k == (1, 1):
            return operator_norm(weight, size)
        return operator_norm_bound(weight, size) if certified else operator_norm(weight, size, "zeros")
    if _is(m, nn.BatchNorm1d) or _is(m, nn.BatchNorm2d):
        if m.training or m.running_var is None:
            raise ValueError("batch norm in training mode depends on the batch: call block.eval() first")
        scale = (m.running_var + m.eps).rsqrt()
        return (scale if m.weight is None else m.weight * scale).abs().max()
    if (_is(m, nn.Dropout) or _is(m, nn.Dropout2d)) and not m.training:
        return 1.0
    if _is(m, nn.LeakyReLU):
        return max(1.0, abs(m.negative_slope))
    if _is(m, nn.PReLU):
        return m.weight.abs().max().clamp_min(1.0)
    if _is(m, nn.ELU):
        return max(1.0, abs(m.alpha))
    if _is(m, nn.CELU):
        if m.alpha <= 0:
            raise ValueError(f"{m} has no largest slope: its alpha must be positive")
        return 1.0
    if _is(m, nn.GELU):
        return 1.1289041452 if m.approximate == "none" else 1.1289930687
    if type(m) in _SLOPES:
        return _SLOPES[type(m)]
    raise ValueError(
        f"corollary_bound knows no bound for {name}: pass the block's branch as an nn.Sequential of linear or convolutional layers, "
        "batch norms and elementwise activations"
    )
