"""Kernels that several tests look at: seeded, and random in every entry."""

import math

import torch


def kernel(d, c, kh, kw=None, seed=0, dtype=torch.float64):
    """``(d, c, kh, kw)``, drawn in float64 with a variance of 1; also for gradients and images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(d, c, kh, kw or kh, generator=generator, dtype=torch.float64).to(dtype)


def he(d, c, k, seed=0, dtype=torch.float64):
    """The same with He's variance, 2 / (d k²)."""
    return kernel(d, c, k, seed=seed, dtype=dtype) * math.sqrt(2 / (d * k * k))
