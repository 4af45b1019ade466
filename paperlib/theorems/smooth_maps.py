"""Smooth invertible maps of R^N: what Theorem 1 decomposes.

A smooth map says how it is computed; its inverse and its derivative follow from that (Newton's method, automatic
differentiation) unless it gives better ones.  The constants of the paper's Assumption 1, on the unit ball, are

* α: ``‖(F'(x) − F'(y)) z‖ ≤ α ‖x − y‖ ‖z‖``;
* β: ``‖F⁻¹(x) − F⁻¹(y)‖ ≤ β ‖x − y‖``.

Points are tensors ``(..., N)``, derivatives ``(..., N, N)``; everything is meant for float64.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from paperlib import _checks
from paperlib._checks import whole_number


class SmoothMap(abc.ABC):
    """A differentiable, invertible map of R^N that is given by its formula.

    A subclass sets ``dim`` and defines ``__call__``.  It may set ``alpha`` and ``beta`` and override ``inverse`` and
    ``jacobian`` with closed forms.

    Attributes
    ----------
    dim : int
        The dimension N.
    alpha, beta : float
        Bounds for Assumption 1 on the unit ball.  They are infinite unless set: the constructions work then, but the
        bounds of Theorem 1 say nothing.

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
        _checks.points(x, self.dim, None)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self(x)
            # Each backward pass gives one row.  The points do not meet, so all of them share the pass.
            rows = [
                torch.autograd.grad(y[..., i].sum(), x, retain_graph=True, materialize_grads=True)[0]
                for i in range(self.dim)
            ]
        return torch.stack(rows, dim=-2)

    def inverse(self, y: Tensor) -> Tensor:
        """F⁻¹(y) by Newton's method, to rounding.  Of several preimages it finds one, without a word.

        Raises
        ------
        RuntimeError
            If it does not get there: ``y`` is not in the image, or F is not invertible.
        """
        _checks.points(y, self.dim, None)
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
        """κ(x) = F'(0)⁻¹ (F(x) − F(0)): the map without its affine part, so that κ(0) = 0 and κ'(0) = I."""
        return Normalised(self)


class Normalised(SmoothMap):
    """κ = F'(0)⁻¹ (F − F(0)), with α̃ ≤ αβ and β̃ ≤ β‖F'(0)‖ unless better constants are given.

    Raises
    ------
    ValueError
        If F'(0) is singular or not finite.
    """

    def __init__(self, f: SmoothMap, alpha: float | None = None, beta: float | None = None):
        check_smooth_map(f)
        for name, constant in (("alpha", alpha), ("beta", beta)):
            if constant is not None and not (isinstance(constant, float) and constant == math.inf):
                _checks.number(name, constant, least=0)
        self.f, self.dim = f, f.dim
        origin = torch.zeros(f.dim, dtype=torch.float64)
        self.shift, self.slope = f(origin), f.jacobian(origin)
        if not is_invertible(self.slope):
            raise ValueError("the map's derivative at 0 is singular or not finite: it has no smooth inverse there")
        if alpha is None:
            alpha = f.alpha * f.beta if f.alpha else 0.0  # an affine map bends nothing, whatever its beta
        self.alpha = alpha
        self.beta = f.beta * torch.linalg.matrix_norm(self.slope, 2).item() if beta is None else beta

    def __call__(self, x: Tensor) -> Tensor:
        """κ(x)."""
        _checks.points(x, self.dim)
        return torch.linalg.solve(self.slope, (self.f(x) - self.shift).unsqueeze(-1)).squeeze(-1)

    def inverse(self, y: Tensor) -> Tensor:
        """κ⁻¹(y), by F's inverse."""
        _checks.points(y, self.dim)
        return self.f.inverse(self.shift + y @ self.slope.T)

    def jacobian(self, x: Tensor) -> Tensor:
        """κ'(x), by F's derivative."""
        _checks.points(x, self.dim)
        return torch.linalg.solve(self.slope, self.f.jacobian(x))


def newton(f: SmoothMap, y: Tensor, x: Tensor, steps: int = 50) -> Tensor:
    """Solve f(x) = y, for each point by itself, by Newton's method with step halving, from ``x``.

    It stops where no step makes any residual smaller, or the derivative is singular.

    Raises
    ------
    RuntimeError
        If a residual is then above 1e-9 times the larger one of ‖y‖ and ‖y − f(0)‖.
    """
    residual = y - f(x)
    for _ in range(steps):
        direction, singular = torch.linalg.solve_ex(f.jacobian(x), residual.unsqueeze(-1))
        if bool(singular.any()):
            break
        new, left, better = _damped_step(f, y, x, residual, direction.squeeze(-1))
        if not bool(better.any()):
            break
        x, residual = torch.where(better, new, x), torch.where(better, left, residual)
    centre = f(torch.zeros(f.dim, dtype=y.dtype, device=y.device))
    size = torch.maximum(y.norm(dim=-1), (y - centre).norm(dim=-1)).clamp_min(torch.finfo(y.dtype).tiny)
    worst = (residual.norm(dim=-1) / size).max().item() if residual.numel() else 0.0
    if not worst <= 1e-9:
        raise RuntimeError(
            f"{type(f).__name__} could not be inverted by Newton's method (relative residual {worst:.1e}): is the "
            "point in its image, and the map invertible? Give it an inverse() of its own"
        )
    return x


def _damped_step(
    f: SmoothMap, y: Tensor, x: Tensor, residual: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """New points, their residuals, and which are better.  Where a step is not, it is halved, up to eleven times."""
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
    return new, left, better


def check_smooth_map(f: object) -> None:
    """Raise ``ValueError`` unless ``f`` is a smooth map of R^N as this module means it.

    It must have a dimension, constants that are possible, and a formula that takes a float64 point to another one.
    """
    if not isinstance(f, SmoothMap):
        raise ValueError(
            f"f must be a paperlib.theorems.SmoothMap, not {type(f).__name__}: derive a class that sets dim and "
            "__call__"
        )
    name = type(f).__name__
    dim = whole_number(f"{name}.dim", getattr(f, "dim", None))
    if not (f.alpha >= 0 and f.beta > 0):
        raise ValueError(
            f"{name} has alpha {f.alpha!r} and beta {f.beta!r}: bounds are not negative, and an inverse's is above 0"
        )
    try:
        y = f(torch.zeros(dim, dtype=torch.float64))
    except (RuntimeError, IndexError, TypeError, ValueError) as e:
        raise ValueError(
            f"{name} cannot be called on a float64 point of {dim} numbers: {str(e).splitlines()[0]}"
        ) from e
    if not isinstance(y, Tensor) or y.shape != (dim,) or y.dtype != torch.float64:
        what = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"{name} must map a float64 point of {dim} numbers to another one, not to {what}")


def is_invertible(matrix: Tensor) -> bool:
    """Whether it is finite and not singular to working precision (the condition number of zero is NaN)."""
    return bool(torch.isfinite(matrix).all()) and bool(torch.linalg.cond(matrix) <= 1e14)
