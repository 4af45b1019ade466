"""Theorem 1: a path of smooth maps from the identity to a given one, cut into residual blocks near the identity.

A point of the path is a pair (s, t).  L + 1 of them cut it: block l leads from point l − 1 to point l.  Where the cuts
lie is the *schedule*, see :func:`paperlib.theorems.near_identity_path`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from paperlib import _checks
from paperlib._checks import one_of, whole_number
from paperlib.theorems.norm_change import identity_distance, relative_change
from paperlib.theorems.rotations import RotationStretch
from paperlib.theorems.samples import ball
from paperlib.theorems.smooth_maps import SmoothMap, check_smooth_map

MOST_BLOCKS = 1_000_000  # each is a Python object; the bounds of the theorem differ by their last digits there
Schedule = Literal["geometric", "uniform", "arc"]
AT_ONCE = 2**23
"""Entries of derivatives that are held at once, in float64: 64 MB, and several times that while they are made."""


class Path:
    """Smooth maps G_{s,t} that lead from the identity, at (0, 0), to F, at (1, 1).

    G_{s,t}(x) = Qˢ Pˢ κ(t x)/t + s F(0), with F'(0) = QP and κ(x) = F'(0)⁻¹ (F(x) − F(0)).

    Along t the map bends, along s it turns and stretches.  Points are ``(..., N)``, float64.

    Raises
    ------
    ValueError
        If ``f`` is no smooth map of R^N in float64, or F'(0) is singular or has a negative determinant.
    """

    def __init__(self, f: SmoothMap):
        check_smooth_map(f)
        self.f, self.kappa = f, f.normalised()
        origin = torch.zeros(f.dim, dtype=torch.float64)
        self.powers, self.shift = RotationStretch(f.jacobian(origin)), f(origin)
        self._lengths: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def linear(self, s: float | Tensor) -> Tensor:
        """Qˢ Pˢ, ``(..., N, N)`` for powers ``(...)``."""
        s = _checks.numbers("s", s)
        return self.powers.rotation(s) @ self.powers.stretch(s)

    def __call__(self, at: tuple[float, float], x: Tensor) -> Tensor:
        """G_{s,t}(x) for (s, t) = ``at``."""
        (s, t), x = _place(at), _checks.points(x, self.f.dim)
        bent = self.kappa(t * x) / t if t else x
        return bent @ self.linear(s).T + s * self.shift if s else bent

    def inverse(self, at: tuple[float, float], y: Tensor) -> Tensor:
        """The points that G_{s,t} takes to ``y``."""
        (s, t), y = _place(at), _checks.points(y, self.f.dim)
        if s:
            y = (y - s * self.shift) @ self.powers.rotation(s) @ self.powers.stretch(-s)
        return self.kappa.inverse(t * y) / t if t else y

    def jacobian(self, at: tuple[float | Tensor, float | Tensor], x: Tensor) -> Tensor:
        """DG_{s,t} at the points; s and t are numbers, or tensors ``(T,)`` for a result ``(T, ..., N, N)``."""
        s, t = (_checks.numbers("at", v) for v in _two(at))
        _checks.points(x, self.f.dim)
        linear = self.linear(s).reshape(*s.shape, *([1] * (x.ndim - 1)), self.f.dim, self.f.dim)
        return linear @ self.kappa.jacobian(t.reshape(*t.shape, *([1] * x.ndim)) * x)

    def length(self, points: int, seed: int, grid: int) -> tuple[Tensor, Tensor]:
        """How far along the arc s = t the times t lie, as seen at random points of the unit ball.

        Returns ``grid`` + 1 times from 0 to 1, and the length of the arc up to each of them over the length of the
        whole.  A tenth of the length is t itself: then no step is longer than 10/L in t, wherever the map may bend
        unseen between the points.  The result is kept, because every depth asks for the same.
        """
        points, seed, grid = key = _sample(self, points, seed, grid)
        if key not in self._lengths:
            at = torch.linspace(0, 1, grid + 1, dtype=torch.float64)
            longest = torch.zeros(grid, dtype=torch.float64)
            for part in ball(self.f.dim, points, seed).split(max(1, AT_ONCE // ((grid + 1) * self.f.dim**2))):
                jacobians = self.jacobian((at, at), part)
                steps = torch.linalg.solve(jacobians[:-1], jacobians[1:], left=False)
                longest = torch.maximum(longest, identity_distance(steps).amax(1))
            length = torch.cat([at[:1], longest.cumsum(0)])
            total = length[-1].clamp_min(torch.finfo(length.dtype).tiny)
            length = 0.9 * length / total + 0.1 * at
            self._lengths[key] = at, length / length[-1]
        return self._lengths[key]


def _two(at: Any) -> list[Any]:
    """The s and the t of a point of a path."""
    found = _checks.items("at", at, "two numbers, s and t")
    if len(found) != 2:
        raise ValueError(f"at must be two numbers, s and t, not {_checks.shown(at)}")
    return found


def _place(at: Any) -> tuple[float, float]:
    """A point (s, t) of a path."""
    s, t = (_checks.number("at", v, least=0, most=1) for v in _two(at))
    return s, t


def _cuts(path: Path, at: Any) -> list[tuple[float, float]]:
    """The points at which a path is cut, at least two."""
    _checks.instance("path", path, Path, "a paperlib.theorems.Path")
    found = [_place(point) for point in _checks.items("at", at, "points (s, t)")]
    if len(found) < 2:
        raise ValueError(f"at must hold two points (s, t) or more, not {len(found)}")
    return found


def _sample(path: Path, points: int, seed: int, grid: int) -> tuple[int, int, int]:
    """How an arc's length is measured, checked."""
    n, points, grid = path.f.dim, whole_number("points", points), whole_number("grid", grid)
    _checks.fits("points", points, n, n)
    _checks.fits("grid", grid, n, n)
    return points, _checks.seed("seed", seed), grid


class PathStep:
    """One residual block x ↦ x + F_l(x): the step from one point (s, t) of a :class:`Path` to the next.

    Call it on points ``(..., N)``.
    """

    def __init__(self, path: Path, start: tuple[float, float], stop: tuple[float, float]):
        self.path, self.start, self.stop = path, start, stop

    def __call__(self, x: Tensor) -> Tensor:
        """The block's output for points ``(..., N)``."""
        return x + self.residual(x)

    def residual(self, x: Tensor) -> Tensor:
        """F_l(x) alone."""
        return self._difference(self.path.inverse(self.start, x))

    def inverse(self, y: Tensor) -> Tensor:
        """The points that the block takes to ``y``."""
        return y - self._difference(self.path.inverse(self.stop, y))

    def _difference(self, z: Tensor) -> Tensor:
        # Not the end alone: what is systematically off in both cancels here, and would add up over many blocks.
        return self.path(self.stop, z) - self.path(self.start, z)

    def jacobian(self, x: Tensor) -> Tensor:
        """The block's derivative at the points, ``(..., N, N)``."""
        z = self.path.inverse(self.start, x)
        return torch.linalg.solve(self.path.jacobian(self.start, z), self.path.jacobian(self.stop, z), left=False)

    def __repr__(self) -> str:
        (s0, t0), (s1, t1) = self.start, self.stop
        return f"PathStep(({s0:.4g}, {t0:.4g}) → ({s1:.4g}, {t1:.4g}))"


def times(
    path: Path, L: int, schedule: Schedule = "arc", points: int = 64, seed: int = 0, grid: int = 512
) -> list[tuple[float, float]]:
    """The L + 1 points (s, t) of a path, from (0, 0) to (1, 1), between which the blocks lie.

    The arguments and errors are those of :func:`near_identity_path`; the arc's length is summed over ``grid`` steps.
    """
    _checks.instance("path", path, Path, "a paperlib.theorems.Path")
    _sample(path, points, seed, grid)
    whole_number("L", L, unit="block", most=MOST_BLOCKS)
    one_of("schedule", schedule, get_args(Schedule))
    if not bool((torch.linalg.det(path.f.jacobian(ball(path.f.dim, points, seed))) > 0).all()):
        raise ValueError(
            f"the derivative of {type(path.f).__name__} has no positive determinant at some point of the unit ball: "
            "the map folds or reflects there, and no chain of blocks near the identity does"
        )
    if schedule == "arc":
        at, length = path.length(points, seed, grid)
        inner = np.interp(np.linspace(0, 1, L + 1)[1:-1], length.numpy(), at.numpy()).tolist()
        return [(t, t) for t in (0.0, *inner, 1.0)]
    if L == 1:  # one block bends, turns and stretches
        return [(0.0, 0.0), (1.0, 1.0)]
    m = (L + 1) // 2
    if schedule == "geometric":
        rho = math.log(2 * m) / m
        bend = [(1 - rho) ** (m - i) for i in range(1, m + 1)]
    else:
        bend = [i / m for i in range(1, m + 1)]
    return [(0.0, 0.0), *((0.0, t) for t in bend), *((j / (L - m), 1.0) for j in range(1, L - m + 1))]


def near_identity_path(
    f: SmoothMap, L: int, schedule: Schedule = "arc", points: int = 64, seed: int = 0
) -> list[PathStep]:
    """Theorem 1 built: L residual blocks, each near the identity, whose composition is ``f``.

    Parameters
    ----------
    f : SmoothMap
        A smooth invertible map with det F'(0) > 0: one of this package's or your own.
    L : int
        The number of blocks, at least 1.
    schedule : {"geometric", "uniform", "arc"}
        Where the path is cut.  ``"geometric"`` is the decomposition of Bartlett, Evans and Long (2018), which the
        paper's proof uses: half of the blocks (one more if L is odd) take a₁ < … < a_m = 1 in geometric progression and
        make κ, the map without its linear part; the other half make the linear part.  Its δ falls like log(2L)/L.
        ``"uniform"`` takes aᵢ = i/m instead, and δ falls like 1/L.  ``"arc"`` bends, turns and stretches at the same
        time, in steps of (nine tenths) equal length: 1/L with a smaller constant.
    points, seed : int
        The arc's length is measured on that many random points of the unit ball, drawn with that seed.

    Returns
    -------
    list of PathStep
        The blocks, the first applied first.  Float64 throughout.

    Raises
    ------
    ValueError
        For L < 1, an unknown schedule, something that is no smooth map of R^N in float64, or a derivative whose
        determinant is not positive at 0 or at one of the ``points`` (Assumption 1 (iii)).  A map that folds elsewhere
        is not noticed.

    Examples
    --------
    >>> from paperlib.theorems import Twist, linear_map
    >>> f = Twist(linear_map(8, 0.7))
    >>> x = y = ball(8, 32)
    >>> for block in near_identity_path(f, 16):
    ...     y = block(y)
    >>> bool((y - f(x)).abs().max() < 1e-13)
    True
    """
    path = Path(f)
    return [PathStep(path, start, stop) for start, stop in pairwise(times(path, L, schedule, points, seed))]


def path_jacobians(path: Path, at: Sequence[tuple[float, float]], x: Tensor) -> Tensor:
    """The blocks' derivatives along the trajectories that start at ``x``, ``(L, points, N, N)``, all at once.

    ``at`` are the points (s, t) where the path is cut.  The derivatives are the same as each block's ``jacobian`` at
    the images of ``x``, but the map is not inverted.
    """
    s, t = (torch.tensor(v, dtype=torch.float64) for v in zip(*_cuts(path, at), strict=True))
    jacobians = path.jacobian((s, t), x)
    return torch.linalg.solve(jacobians[:-1], jacobians[1:], left=False)


def theorem1_bound(f: SmoothMap, L: int, schedule: Schedule = "arc", points: int = 64, seed: int = 0) -> float:
    """A proven bound on ‖J − I‖ of every block of :func:`near_identity_path` with the same arguments [derived].

    With α̃, β̃ of the normalised map κ, F'(0) = QP, θ the largest angle of Q, γ = ``max |log σ(P)|`` and χ = cond P:

    * a block that bends from radius a to b: α̃ b if a = 0, else α̃ β̃ (b − a);
    * a block that makes a share h of the linear part: θ h + e^{γh} − 1;
    * a block along the arc from t = a to b: e^ℓ − 1 with ℓ = (θ + γ)(b − a) + α̃β̃ (χᵇ − χᵃ)/log χ, which bounds the
      length of the path there.

    The largest over all blocks is returned: with m of L blocks for κ, α̃β̃ log(2m)/m or α̃β̃/m, and O(1/L) along the arc.
    It is infinite for a map without ``alpha`` and ``beta``.  Errors are those of :func:`near_identity_path`.

    Examples
    --------
    >>> from paperlib.theorems import Twist, linear_map
    >>> [round(theorem1_bound(Twist(linear_map(8, 0.7)), 1024, s), 3) for s in ("geometric", "uniform", "arc")]
    [0.071, 0.01, 0.016]
    """
    path = Path(f)
    return cuts_bound(path, times(path, L, schedule, points, seed))


def cuts_bound(path: Path, at: Sequence[tuple[float, float]]) -> float:
    """:func:`theorem1_bound` for a path that is cut at these points (s, t)."""
    return max(_step_bound(path, start, stop) for start, stop in pairwise(_cuts(path, at)))


def _step_bound(path: Path, start: tuple[float, float], stop: tuple[float, float]) -> float:
    (s0, t0), (s1, t1) = start, stop
    kappa, powers = path.kappa, path.powers
    bend = kappa.alpha * kappa.beta if kappa.alpha else 0.0
    if s0 == s1:
        return kappa.alpha * t1 if t0 == 0 else bend * (t1 - t0)
    if t0 == t1:
        return powers.distance_bound(s1 - s0)
    if start == (0, 0) and stop == (1, 1):  # one block does it all: J − I = (A − I) + A (κ' − I)
        linear = path.linear(1.0)
        return identity_distance(linear).item() + torch.linalg.matrix_norm(linear, 2).item() * kappa.alpha
    spread = math.log(powers.values[0] / powers.values[-1])
    weight = t1 - t0 if spread < 1e-9 else (relative_change(spread * t1) - relative_change(spread * t0)) / spread
    return relative_change((powers.largest_angle + powers.gamma) * (t1 - t0) + bend * weight)
