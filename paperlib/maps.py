"""Smooth invertible maps of R^N: what Theorem 1 decomposes.

A map says how it is computed; its inverse and its derivative follow from that (Newton's method, automatic
differentiation) unless it gives better ones.  Two are given, a :class:`Twist` and a :class:`Monotone` map, with the
constants of the paper's Assumption 1 on the unit ball:

* α: ``‖(F'(x) − F'(y)) z‖ ≤ α ‖x − y‖ ‖z‖``;
* β: ``‖F⁻¹(x) − F⁻¹(y)‖ ≤ β ‖x − y‖``.

Points are tensors ``(..., N)``, derivatives ``(..., N, N)``; everything is meant for float64.
"""

from __future__ import annotations

import abc
import math
from numbers import Integral

import torch
from torch import Tensor


class SmoothMap(abc.ABC):
    """A differentiable, invertible map of R^N that is given by its formula.

    A subclass sets ``dim`` and defines ``__call__``.  It may set ``alpha`` and ``beta``, bounds for Assumption 1 on the
    unit ball (infinite unless set: constructions work, the bounds of Theorem 1 say nothing), and override ``inverse`` and
    ``jacobian`` with closed forms.

    Examples
    --------
    >>> class Cubic(SmoothMap):
    ...     dim = 2
    ...     def __call__(self, x):
    ...         return x + x**3 / 3
    >>> x = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    >>> bool((Cubic().inverse(Cubic()(x)) - x).abs().max() < 1e-14)
    True
    >>> Cubic().jacobian(x)[0]
    tensor([[1.2500, 0.0000],
            [0.0000, 2.0000]], dtype=torch.float64)
    """

    dim: int
    alpha: float = math.inf
    beta: float = math.inf

    @abc.abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """F(x) for points ``(..., N)``."""

    def jacobian(self, x: Tensor) -> Tensor:
        """F'(x), ``(..., N, N)``, by automatic differentiation."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self(x)
            # One row a backward pass: points do not meet, so all of them share it.
            rows = [
                torch.autograd.grad(y[..., i].sum(), x, retain_graph=True, materialize_grads=True)[0]
                for i in range(self.dim)
            ]
        return torch.stack(rows, dim=-2)

    def inverse(self, y: Tensor) -> Tensor:
        """F⁻¹(y) by Newton's method, to rounding.

        Raises ``RuntimeError`` if it does not get there: ``y`` is not in the image, or F is not invertible.  Of several
        preimages it finds one, without a word.
        """
        origin = torch.zeros(self.dim, dtype=y.dtype, device=y.device)
        centre = self(origin)
        first = torch.linalg.solve(self.jacobian(origin), (y - centre).unsqueeze(-1)).squeeze(-1)
        try:
            return newton(self, y, first)
        except RuntimeError:
            # Too far for one go: walk there, along the preimage of the line from F(0) to y.
            x, steps = origin.expand_as(y), 64
            for i in range(1, steps + 1):
                x = newton(self, centre + i / steps * (y - centre), x)
            return x

    def normalised(self) -> SmoothMap:
        """κ(x) = F'(0)⁻¹ (F(x) − F(0)): the map with its affine part taken out, so that κ(0) = 0 and κ'(0) = I."""
        return Normalised(self)


def check_map(f: object) -> None:
    """Raise ``ValueError`` unless ``f`` is a map of R^N as this module means it: dimension, shape, float64, constants."""
    if not isinstance(f, SmoothMap):
        raise ValueError(
            f"f must be a paperlib.maps.SmoothMap, not {type(f).__name__}: derive a class that sets dim and __call__"
        )
    name, dim = type(f).__name__, getattr(f, "dim", None)
    if not isinstance(dim, Integral) or dim < 1:
        raise ValueError(f"{name}.dim must be the dimension N, a whole number of at least 1, not {dim!r}")
    if not (f.alpha >= 0 and f.beta > 0):
        raise ValueError(
            f"{name} has alpha {f.alpha!r} and beta {f.beta!r}: bounds are not negative, and an inverse's is above 0"
        )
    try:
        y = f(torch.zeros(dim, dtype=torch.float64))
    except (RuntimeError, IndexError, TypeError) as e:
        raise ValueError(
            f"{name} cannot be called on a float64 point of {dim} numbers: {str(e).splitlines()[0]}"
        ) from e
    if not isinstance(y, Tensor) or y.shape != (dim,) or y.dtype != torch.float64:
        what = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"{name} must map a float64 point of {dim} numbers to another one, not to {what}")


def newton(f: SmoothMap, y: Tensor, x: Tensor, steps: int = 50) -> Tensor:
    """Solve f(x) = y, each point for itself, by Newton's method with step halving, from ``x``.

    Stops where no step makes any residual smaller, or the derivative is singular.  Raises ``RuntimeError`` if a
    residual is then above 1e-9 times the larger one of ‖y‖ and ‖y − f(0)‖.
    """
    residual = y - f(x)
    for _ in range(steps):
        direction, singular = torch.linalg.solve_ex(f.jacobian(x), residual.unsqueeze(-1))
        if bool(singular.any()):
            break
        direction = direction.squeeze(-1)
        old, length = residual.norm(dim=-1, keepdim=True), torch.ones_like(x[..., :1])
        for _ in range(12):
            new = x + length * direction
            left = y - f(new)
            better = left.norm(dim=-1, keepdim=True) < old
            if bool(better.all()):
                break
            length = torch.where(better, length, length / 2)
            if bool((old <= 1e-13 * y.norm(dim=-1, keepdim=True)).all()):
                break  # only rounding is left, and halving would not help
        if not bool(better.any()):
            break
        x, residual = torch.where(better, new, x), torch.where(better, left, residual)
    centre = f(torch.zeros(f.dim, dtype=y.dtype, device=y.device))
    size = torch.maximum(y.norm(dim=-1), (y - centre).norm(dim=-1)).clamp_min(torch.finfo(y.dtype).tiny)
    worst = (residual.norm(dim=-1) / size).max().item() if residual.numel() else 0.0
    if not worst <= 1e-9:
        raise RuntimeError(
            f"{type(f).__name__} could not be inverted by Newton's method (relative residual {worst:.1e}): is the point in "
            "its image, and the map invertible? Give it an inverse() of its own"
        )
    return x


class Normalised(SmoothMap):
    """κ = F'(0)⁻¹ (F − F(0)), with α̃ ≤ αβ and β̃ ≤ β‖F'(0)‖ unless better constants are given.

    Raises ``ValueError`` if F'(0) is singular or not finite.
    """

    def __init__(self, f: SmoothMap, alpha: float | None = None, beta: float | None = None):
        self.f, self.dim = f, f.dim
        origin = torch.zeros(f.dim, dtype=torch.float64)
        self.shift, self.slope = f(origin), f.jacobian(origin)
        if not _invertible(self.slope):
            raise ValueError("the map's derivative at 0 is singular or not finite: it has no smooth inverse there")
        if alpha is None:
            alpha = f.alpha * f.beta if f.alpha else 0.0  # an affine map bends nothing, whatever its beta
        self.alpha = alpha
        self.beta = f.beta * torch.linalg.matrix_norm(self.slope, 2).item() if beta is None else beta

    def __call__(self, x: Tensor) -> Tensor:
        return self._back(self.f(x) - self.shift)

    def inverse(self, y: Tensor) -> Tensor:
        return self.f.inverse(self.shift + y @ self.slope.T)

    def jacobian(self, x: Tensor) -> Tensor:
        return torch.linalg.solve(self.slope, self.f.jacobian(x))

    def _back(self, y: Tensor) -> Tensor:
        return torch.linalg.solve(self.slope, y.unsqueeze(-1)).squeeze(-1)


def linear_map(n: int, stretch: float, angle: float = 1.0, seed: int = 0) -> Tensor:
    """A matrix QP ``(n, n)``, float64, with random axes: P has singular values from exp(-``stretch``) to exp(``stretch``),
    equally spaced in their logarithm; Q is a rotation by at most ``angle`` (radians, 0 to π).

    Examples
    --------
    >>> a = linear_map(8, stretch=0.7)
    >>> bool(torch.det(a) > 0), round(torch.linalg.matrix_norm(a, 2).log().item(), 6)
    (True, 0.7)
    """
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    values = torch.linspace(-stretch, stretch, n, dtype=torch.float64).exp()
    turn = torch.randn(n, n, generator=generator, dtype=torch.float64)
    turn = turn - turn.T
    if n > 1:
        turn = angle * turn / torch.linalg.matrix_norm(turn, 2)
    return torch.linalg.matrix_exp(turn) @ (axes * values) @ axes.T


class Twist(SmoothMap):
    """F(x) = A exp(ω‖x‖²J) x with J² = −I: spheres turn, the more the larger they are; then a linear map.

    ``linear`` is A, ``(N, N)`` with N even, invertible; J turns each of the planes (x₁, x₂), (x₃, x₄), …  The inverse is
    exact.  Without A, α = max over φ of ``√(4ω²(1 + 8c²) + 16ω⁴c⁴ + 32|ω|³c³s)``, c = cos φ, s = sin φ [derived: the second
    derivative is symmetric, so it is largest at equal arguments], and ``β = |ω| + √(1 + ω²)``, the norm of a shear.

    Raises ``ValueError`` for an odd dimension or a singular A.

    Examples
    --------
    >>> f = Twist(linear_map(8, 0.7), omega=0.5)
    >>> round(f.alpha, 2), round(f.beta, 2)
    (6.48, 3.26)
    """

    def __init__(self, linear: Tensor, omega: float = 0.5):
        n = _check_linear(linear)
        if n % 2:
            raise ValueError(f"a twist needs an even dimension, not {n}: it turns planes")
        self.dim, self.linear, self.omega = n, linear, omega
        self.j = torch.kron(torch.eye(n // 2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])).to(linear.dtype)
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
        return self._turn(x, 1) @ self.linear.T

    def inverse(self, y: Tensor) -> Tensor:
        return self._turn(torch.linalg.solve(self.linear, y.unsqueeze(-1)).squeeze(-1), -1)

    def jacobian(self, x: Tensor) -> Tensor:
        angle = (self.omega * x.square().sum(-1))[..., None, None]
        eye = torch.eye(self.dim, dtype=x.dtype)
        shear = eye + 2 * self.omega * (x @ self.j.T).unsqueeze(-1) * x.unsqueeze(-2)
        return self.linear @ (angle.cos() * eye + angle.sin() * self.j) @ shear

    def normalised(self) -> Twist:
        return Twist(torch.eye(self.dim, dtype=self.linear.dtype), self.omega)


class Monotone(SmoothMap):
    """F(x) = A (x + ε Bᵀ tanh(B x)): one step of a residual network with tied weights, then a linear map.

    ``linear`` is A, ``(N, N)``, invertible; ``features`` is B, ``(M, N)``; ε ≥ 0.  α ≤ 4/(3√3) ε ‖A‖ ‖B‖² max‖bᵢ‖ and
    β = ‖A⁻¹‖ [derived: 4/(3√3) is the largest value of tanh'', and the bracket's derivative is at least the identity].

    Raises ``ValueError`` for a singular A, a B of another width, or ε < 0.

    Examples
    --------
    >>> f = Monotone(linear_map(8, 0.5), features(8, 16), epsilon=1.0)
    >>> x = torch.randn(5, 8, dtype=torch.float64)
    >>> bool((f.inverse(f(x)) - x).abs().max() < 1e-12)
    True
    """

    def __init__(self, linear: Tensor, features: Tensor, epsilon: float = 1.0):
        n = _check_linear(linear)
        if features.ndim != 2 or features.shape[1] != n:
            raise ValueError(f"features must be (M, {n}), not of shape {tuple(features.shape)}")
        if not epsilon >= 0:
            raise ValueError(f"epsilon must not be negative, {epsilon!r} is: the map would not be monotone")
        self.dim, self.linear, self.features, self.epsilon = n, linear, features, epsilon
        values = torch.linalg.svdvals(linear)
        self._curvature = (
            4 / (3 * math.sqrt(3)) * epsilon * torch.linalg.matrix_norm(features, 2) ** 2 * features.norm(dim=1).max()
        ).item()
        self.alpha = values[0].item() * self._curvature
        self.beta = 1 / values[-1].item()

    def __call__(self, x: Tensor) -> Tensor:
        return (x + self.epsilon * torch.tanh(x @ self.features.T) @ self.features) @ self.linear.T

    def jacobian(self, x: Tensor) -> Tensor:
        slope = 1 - torch.tanh(x @ self.features.T).square()
        inner = (
            torch.eye(self.dim, dtype=x.dtype) + self.epsilon * (self.features.T * slope.unsqueeze(-2)) @ self.features
        )
        return self.linear @ inner

    def normalised(self) -> Normalised:
        # κ = (I + εBᵀB)⁻¹ (x + εBᵀ tanh(Bx)): A is gone, and the inverse's derivative is at most 1 + ε‖B‖².
        gram = torch.linalg.eigvalsh(self.features.T @ self.features)
        alpha = self._curvature / (1 + self.epsilon * gram[0].clamp_min(0).item())
        return Normalised(self, alpha=alpha, beta=1 + self.epsilon * gram[-1].item())


def features(n: int, m: int, norm: float = 1.7, seed: int = 0) -> Tensor:
    """A random matrix ``(m, n)``, float64, of the given spectral norm: the B of a :class:`Monotone` map."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(m, n, generator=generator, dtype=torch.float64)
    return norm * matrix / torch.linalg.matrix_norm(matrix, 2)


def _invertible(matrix: Tensor) -> bool:
    """Whether it is finite and not singular to working precision (the condition number of zero is NaN)."""
    return bool(torch.isfinite(matrix).all()) and bool(torch.linalg.cond(matrix) <= 1e14)


def _check_linear(linear: Tensor) -> int:
    """The side of A; ``ValueError`` unless it is square, finite and invertible."""
    if linear.ndim != 2 or linear.shape[0] != linear.shape[1]:
        raise ValueError(f"linear must be a square matrix, not of shape {tuple(linear.shape)}")
    if not _invertible(linear):
        raise ValueError("linear is singular or not finite: the map would have no inverse")
    return linear.shape[0]
