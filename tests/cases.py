"""What several tests look at: seeded kernels, random in every entry, and the sizes that hypothesis tries."""

import math

import torch
from hypothesis import strategies as st


def kernel(d, c, kh, kw=None, seed=0, dtype=torch.float64):
    """``(d, c, kh, kw)``, drawn in float64 with a variance of 1; also for gradients and images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(d, c, kh, kw or kh, generator=generator, dtype=torch.float64).to(dtype)


def he(d, c, k, seed=0, dtype=torch.float64):
    """The same with He's variance, 2 / (d k²)."""
    return kernel(d, c, k, seed=seed, dtype=dtype) * math.sqrt(2 / (d * k * k))


def up_to(**largest):
    """For hypothesis' ``given``: each name's whole numbers, from 1 to the largest, and a ``seed``."""
    return {name: st.integers(1, most) for name, most in largest.items()} | {"seed": st.integers(0, 99)}
