"""Seeded random numbers and points in float64: the same everywhere for the same seed."""

from __future__ import annotations

import torch
from torch import Tensor

from paperlib import _checks


def gaussian(*shape: int, seed: int | torch.Generator = 0) -> Tensor:
    """Standard Gaussian numbers, float64, of the given shape.  A generator in place of the seed gives its next numbers.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(3)
    >>> torch.equal(gaussian(2, 5, seed=generator), gaussian(2, 5, seed=3))
    True
    """
    _checks.fits("shape", *(_checks.whole_number("shape", n, least=0) for n in shape))
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(_checks.seed("seed", seed))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def ball(n: int, points: int, seed: int = 0) -> Tensor:
    """Random points of the unit ball of R^n, ``(points, n)``, float64, the first half of them on the sphere.

    Examples
    --------
    >>> bool((ball(3, 100).norm(dim=1) < 1 + 1e-12).all())
    True
    """
    _checks.fits("n", _checks.whole_number("n", n))
    _checks.fits("points", n, _checks.whole_number("points", points))
    generator = torch.Generator().manual_seed(_checks.seed("seed", seed))
    x = gaussian(points, n, seed=generator)
    radius = torch.rand(points, 1, generator=generator, dtype=torch.float64) ** (1 / n)
    radius[: points // 2] = 1
    return radius * x / x.norm(dim=-1, keepdim=True)
