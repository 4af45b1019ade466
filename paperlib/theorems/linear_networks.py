"""Linear residual networks x_{l+1} = (I + A_l) x_l on a regression problem (Theorem 2).

Here are their risk, its gradient, and gradient descent on it.  For data y = R x + ξ with independent noise,
``f(A) = E‖(I + A_L)⋯(I + A_1) x − y‖²`` depends on the data through R and Σ = E xxᵀ only: with W for the product,
f − f* = ‖(W − R) Σ^{1/2}‖².  For a sample, R is its least-squares solution and Σ its second moment
(:func:`statistics`), and gradient descent on the data is gradient descent on these two, up to rounding but much faster.
(The paper's objective is f/2; that changes no minimum.)

Factors are ``(L, N, N)``, the first layer first, as :func:`paperlib.theorems.linear_factors` returns them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paperlib import _checks

MOST_STEPS = 10_000_000  # the risks alone are a tensor each


def statistics(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares solution R ``(M, N)`` and the second moment Σ ``(N, N)`` of data.

    The data are inputs ``x``, ``(points, N)``, and what they should be mapped to, ``y``, ``(points, M)``.

    Examples
    --------
    >>> x = torch.randn(100, 3, dtype=torch.float64)
    >>> R, Sigma = statistics(x, 2 * x)
    >>> bool((R - 2 * torch.eye(3)).abs().max() < 1e-12)
    True
    """
    _checks.real_tensor("x", x, "(points, N)")
    _checks.real_tensor("y", y, "(points, M)")
    if len(x) != len(y) or x.dtype != y.dtype:
        raise ValueError(
            f"x and y must have as many points and one precision, not {_checks.shown(x)} and {_checks.shown(y)}"
        )
    _checks.finite(x, "x")
    _checks.finite(y, "y")
    return torch.linalg.lstsq(x, y).solution.T, x.T @ x / len(x)


def _layers(factors: Tensor) -> Tensor:
    return _checks.real_tensor("factors", factors, "(L, n, n)", square=True)


def _problem(R: Tensor, Sigma: Tensor) -> None:
    """``ValueError`` unless R and Σ are square matrices of one size."""
    _checks.real_tensor("R", R, "(n, n)", square=True)
    _checks.real_tensor("Sigma", Sigma, "(n, n)", square=True)
    if R.shape != Sigma.shape or R.dtype != Sigma.dtype:
        raise ValueError(f"R and Sigma must be alike, not {_checks.shown(R)} and {_checks.shown(Sigma)}")


def _network(factors: Tensor, R: Tensor, Sigma: Tensor) -> None:
    """``ValueError`` unless these are a network and a problem that it fits."""
    _problem(R, Sigma)
    if _layers(factors).shape[1:] != R.shape or factors.dtype != R.dtype:
        raise ValueError(f"factors must be of the size and type of R, {_checks.shown(R)}, not {_checks.shown(factors)}")


def products(factors: Tensor) -> Tensor:
    """All partial products: ``(I + A_l) ⋯ (I + A_1)`` for l = 1 … L, ``(L, N, N)``, in about log₂ L batched steps."""
    _layers(factors)
    partial = factors + torch.eye(factors.shape[-1], dtype=factors.dtype)
    shift = 1
    while shift < len(partial):
        partial = torch.cat([partial[:shift], partial[shift:] @ partial[:-shift]])
        shift *= 2
    return partial


def excess_risk(factors: Tensor, R: Tensor, Sigma: Tensor) -> Tensor:
    """f − f* = tr((W − R) Σ (W − R)ᵀ), a scalar: what the network loses to the best linear map.

    Examples
    --------
    >>> excess_risk(torch.zeros(5, 2, 2), 3 * torch.eye(2), torch.eye(2)).item()
    8.0
    """
    _network(factors, R, Sigma)
    difference = products(factors)[-1] - R
    return (difference @ Sigma * difference).sum()


def gradient(factors: Tensor, R: Tensor, Sigma: Tensor) -> Tensor:
    """∂f/∂A_l = 2 (W_{>l})ᵀ (W − R) Σ (W_{<l})ᵀ for every layer, ``(L, N, N)``: W_{>l} lies behind it, W_{<l} before.

    Examples
    --------
    >>> A = (0.1 * torch.randn(6, 3, 3, dtype=torch.float64)).requires_grad_()
    >>> R, Sigma = torch.randn(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    >>> excess_risk(A, R, Sigma).backward()
    >>> torch.allclose(gradient(A.detach(), R, Sigma), A.grad)
    True
    """
    _network(factors, R, Sigma)
    eye = torch.eye(factors.shape[-1], dtype=factors.dtype)[None]
    before = torch.cat([eye, products(factors)])
    # The products from the other end, of the transposes: layer L's first.
    behind = torch.cat([eye, products(factors.flip(0).mT)]).flip(0)
    return 2 * behind[1:] @ ((before[-1] - R) @ Sigma) @ before[:-1].mT


def descend(
    R: Tensor,
    Sigma: Tensor,
    L: int,
    rate: float,
    steps: int,
    start: Tensor | None = None,
    tolerance: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Gradient descent on f/2.

    Parameters
    ----------
    R, Sigma : Tensor, (N, N)
        The best linear map and the second moment of the inputs.
    L : int
        The number of layers.
    rate : float
        The step size.
    steps : int
        The largest number of steps.
    start : Tensor, (L, N, N), optional
        The first factors; zero unless given, which makes every block the identity.
    tolerance : float
        Stop when the excess risk is no larger.

    Returns
    -------
    tuple of Tensor, (L, N, N) and (steps + 1,)
        The factors, and the excess risk before each step and after the last.

    Raises
    ------
    ValueError
        If the risk is no longer finite: ``rate`` is too large.

    Examples
    --------
    >>> R = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
    >>> A, risk = descend(R, torch.eye(2, dtype=torch.float64), L=8, rate=0.02, steps=500)
    >>> bool(risk[-1] < 1e-12), round(A[3, 0, 0].item(), 4)  # each layer stretches by the eighth root of 2
    (True, 0.0905)
    """
    _problem(R, Sigma)
    _checks.finite(R, "R")
    _checks.finite(Sigma, "Sigma")
    _checks.fits("L", _checks.whole_number("L", L, unit="layer"), *R.shape)
    rate = _checks.number("rate", rate, above=0)
    tolerance = _checks.number("tolerance", tolerance, least=0)
    _checks.whole_number("steps", steps, least=0, most=MOST_STEPS)
    if start is not None and _checks.real_tensor("start", start, "(L, n, n)").shape != (L, *R.shape):
        raise ValueError(f"start must be of shape {(L, *R.shape)}, not {_checks.shown(start)}")
    factors = torch.zeros(L, *R.shape, dtype=R.dtype) if start is None else start.clone()
    risks = [excess_risk(factors, R, Sigma)]
    for _ in range(steps):
        if risks[-1] <= tolerance:
            break
        factors = factors - rate / 2 * gradient(factors, R, Sigma)
        risks.append(excess_risk(factors, R, Sigma))
        if not bool(torch.isfinite(risks[-1])):
            raise ValueError(
                f"gradient descent diverged at step {len(risks) - 1}: a rate of {rate:g} is too large, take less"
            )
    return factors, torch.stack(risks)


def balance(factors: Tensor) -> Tensor:
    """max ‖W_{l+1}ᵀ W_{l+1} − W_l W_lᵀ‖ over neighbouring layers W_l = I + A_l.

    Gradient flow from equal symmetric layers, such as the identity, keeps it at 0.
    """
    layers = _layers(factors) + torch.eye(factors.shape[-1], dtype=factors.dtype)
    difference = layers[1:].mT @ layers[1:] - layers[:-1] @ layers[:-1].mT
    return torch.linalg.matrix_norm(difference, 2).max()
