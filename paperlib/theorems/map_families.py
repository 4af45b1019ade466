"""Two families of smooth maps with known constants, :class:`Twist` and :class:`Monotone`, and matrices for them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paperlib import _checks
from paperlib.theorems.rotations import quarter_turns
from paperlib.theorems.samples import gaussian
from paperlib.theorems.smooth_maps import Normalised, SmoothMap, is_invertible

LARGEST_STRETCH = 300.0
"""Of a map, in the logarithm: float64 ends at 709, and squares are taken."""
LARGEST = 1e6
"""Of a constant that multiplies: beyond it the maps are so bent that nothing is left of their digits."""


class Twist(SmoothMap):
    """F(x) = A exp(ω‖x‖²J) x with J² = −I: spheres turn, the more the larger they are; then a linear map.

    J turns each of the planes (x₁, x₂), (x₃, x₄), …  The inverse is exact.  Without A, α = max over φ of
    ``√(4ω²(1 + 8c²) + 16ω⁴c⁴ + 32|ω|³c³s)``, c = cos φ, s = sin φ [derived: the second derivative is symmetric, so it
    is largest at equal arguments], and ``β = |ω| + √(1 + ω²)``, the norm of a shear.

    Parameters
    ----------
    linear : Tensor, (N, N)
        A, invertible, with N even.
    omega : float
        ω, by how much the unit sphere turns, in radians.

    Raises
    ------
    ValueError
        For an odd dimension or a singular A.

    Examples
    --------
    >>> f = Twist(linear_map(8, 0.7), omega=0.5)
    >>> round(f.alpha, 2), round(f.beta, 2)
    (6.48, 3.26)
    """

    def __init__(self, linear: Tensor, omega: float = 0.5):
        omega = _checks.number("omega", omega, least=-LARGEST, most=LARGEST)
        n = _side(linear)
        if n % 2:
            raise ValueError(f"a twist needs an even dimension, not {n}: it turns planes")
        self.dim, self.linear, self.omega, self.j = n, linear, omega, quarter_turns(n, linear.dtype)
        values = torch.linalg.svdvals(linear)
        angle = torch.linspace(0, math.pi / 2, 20001, dtype=torch.float64)
        c, s, w = angle.cos(), angle.sin(), abs(omega)
        curvature = (4 * w**2 * (1 + 8 * c**2) + 16 * w**4 * c**4 + 32 * w**3 * c**3 * s).max().sqrt().item()
        self.alpha = values[0].item() * curvature
        self.beta = (w + math.hypot(1, w)) / values[-1].item()

    def _turn(self, x: Tensor, sign: float) -> Tensor:
        angle = sign * self.omega * x.square().sum(-1, keepdim=True)
        return angle.cos() * x + angle.sin() * (x @ self.j.T)

    def __call__(self, x: Tensor) -> Tensor:
        """F(x) for points ``(..., N)``."""
        return self._turn(_checks.points(x, self.dim, self.linear.dtype), 1) @ self.linear.T

    def inverse(self, y: Tensor) -> Tensor:
        """F⁻¹(y): the linear map undone, then the turn."""
        _checks.points(y, self.dim, self.linear.dtype)
        return self._turn(torch.linalg.solve(self.linear, y.unsqueeze(-1)).squeeze(-1), -1)

    def jacobian(self, x: Tensor) -> Tensor:
        """F'(x): a shear, a rotation and the linear map."""
        _checks.points(x, self.dim, self.linear.dtype)
        angle = (self.omega * x.square().sum(-1))[..., None, None]
        eye = torch.eye(self.dim, dtype=x.dtype)
        shear = eye + 2 * self.omega * (x @ self.j.T).unsqueeze(-1) * x.unsqueeze(-2)
        return self.linear @ (angle.cos() * eye + angle.sin() * self.j) @ shear

    def normalised(self) -> Twist:
        """κ, the same twist without A."""
        return Twist(torch.eye(self.dim, dtype=self.linear.dtype), self.omega)


class Monotone(SmoothMap):
    """F(x) = A (x + ε Bᵀ tanh(B x)): one step of a residual network with tied weights, then a linear map.

    α ≤ 4/(3√3) ε ‖A‖ ‖B‖² max‖bᵢ‖ and β = ‖A⁻¹‖ [derived: 4/(3√3) is the largest value of tanh'', and the bracket's
    derivative is at least the identity].

    Parameters
    ----------
    linear : Tensor, (N, N)
        The matrix A, invertible.
    features : Tensor, (M, N)
        The matrix B.
    epsilon : float
        ε, at least 0.

    Raises
    ------
    ValueError
        For a singular A, a B of another width, or ε < 0.

    Examples
    --------
    >>> f = Monotone(linear_map(8, 0.5), features(8, 16), epsilon=1.0)
    >>> x = torch.randn(5, 8, dtype=torch.float64)
    >>> bool((f.inverse(f(x)) - x).abs().max() < 1e-12)
    True
    """

    def __init__(self, linear: Tensor, features: Tensor, epsilon: float = 1.0):
        n = _side(linear)
        _checks.real_tensor("features", features, "(M, n)")
        if features.shape[1] != n:
            raise ValueError(f"features must be (M, {n}), not of shape {tuple(features.shape)}")
        if features.dtype != linear.dtype:
            raise ValueError(f"features must be in the precision of linear, {linear.dtype}, not {features.dtype}")
        _checks.finite(features, "features")
        epsilon = _checks.number("epsilon", epsilon, least=0, most=LARGEST)  # below 0 the map would not be monotone
        self.dim, self.linear, self.features, self.epsilon = n, linear, features, epsilon
        values = torch.linalg.svdvals(linear)
        self._curvature = (
            4 / (3 * math.sqrt(3)) * epsilon * torch.linalg.matrix_norm(features, 2) ** 2 * features.norm(dim=1).max()
        ).item()
        self.alpha = values[0].item() * self._curvature
        self.beta = 1 / values[-1].item()

    def __call__(self, x: Tensor) -> Tensor:
        """F(x) for points ``(..., N)``."""
        _checks.points(x, self.dim, self.linear.dtype)
        return (x + self.epsilon * torch.tanh(x @ self.features.T) @ self.features) @ self.linear.T

    def jacobian(self, x: Tensor) -> Tensor:
        """F'(x) = A (I + ε Bᵀ diag(tanh'(B x)) B)."""
        _checks.points(x, self.dim, self.linear.dtype)
        slope = 1 - torch.tanh(x @ self.features.T).square()
        eye = torch.eye(self.dim, dtype=x.dtype)
        return self.linear @ (eye + self.epsilon * (self.features.T * slope.unsqueeze(-2)) @ self.features)

    def normalised(self) -> Normalised:
        """κ = (I + εBᵀB)⁻¹ (x + εBᵀ tanh(Bx)): A is gone, and the inverse's derivative is at most 1 + ε‖B‖²."""
        gram = torch.linalg.eigvalsh(self.features.T @ self.features)
        alpha = self._curvature / (1 + self.epsilon * gram[0].clamp_min(0).item())
        return Normalised(self, alpha=alpha, beta=1 + self.epsilon * gram[-1].item())


def linear_map(n: int, stretch: float, angle: float = 1.0, seed: int = 0) -> Tensor:
    """A random matrix QP: P stretches along random axes, Q is a random rotation.

    Parameters
    ----------
    n : int
        The dimension.
    stretch : float
        P's singular values lie from exp(-``stretch``) to exp(``stretch``), equally spaced in their logarithm.
    angle : float
        The largest angle of Q, 0 to π, in radians.
    seed : int
        The seed of the random numbers.

    Returns
    -------
    Tensor, (n, n), float64
        The matrix.

    Examples
    --------
    >>> a = linear_map(8, stretch=0.7)
    >>> bool(torch.det(a) > 0), round(torch.linalg.matrix_norm(a, 2).log().item(), 6)
    (True, 0.7)
    """
    _checks.fits("n", _checks.whole_number("n", n), n)
    stretch = _checks.number("stretch", stretch, least=-LARGEST_STRETCH, most=LARGEST_STRETCH)
    angle = _checks.number("angle", angle, least=0, most=math.pi)
    seed = _checks.seed("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(gaussian(n, n, seed=generator)).Q
    values = torch.linspace(-stretch, stretch, n, dtype=torch.float64).exp()
    turn = gaussian(n, n, seed=generator)
    turn = turn - turn.T
    if n > 1:
        turn = angle * turn / torch.linalg.matrix_norm(turn, 2)
    return torch.linalg.matrix_exp(turn) @ (axes * values) @ axes.T


def features(n: int, m: int, norm: float = 1.7, seed: int = 0) -> Tensor:
    """A random matrix ``(m, n)``, float64, of the given spectral norm: the B of a :class:`Monotone` map."""
    _checks.fits("n", _checks.whole_number("n", n))
    _checks.fits("m", n, _checks.whole_number("m", m))
    norm = _checks.number("norm", norm, least=0, most=LARGEST)
    _checks.seed("seed", seed)
    matrix = gaussian(m, n, seed=seed)
    return norm * matrix / torch.linalg.matrix_norm(matrix, 2)


def _side(linear: Tensor) -> int:
    """The side of A; ``ValueError`` unless it is square, finite and invertible."""
    _checks.real_tensor("linear", linear, "(n, n)")
    if linear.ndim != 2 or linear.shape[0] != linear.shape[1]:
        raise ValueError(f"linear must be a square matrix, not of shape {tuple(linear.shape)}")
    if not is_invertible(linear):
        raise ValueError("linear is singular or not finite: the map would have no inverse")
    return linear.shape[0]
