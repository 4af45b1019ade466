"""The smooth maps that chapter 1 takes as examples."""

from __future__ import annotations

import math

import torch

from paperlib.theorems import Monotone, SmoothMap, Twist, features, linear_map


def example_maps(n: int = 8, seed: int = 0) -> dict[str, SmoothMap]:
    """The chapter's two smooth maps.

    A twist with ω = 1/2 behind a matrix of condition e^1.4, and a monotone one with 2n features behind a matrix of
    condition e.
    """
    return {
        "twist": Twist(linear_map(n, 0.7, seed=seed), omega=0.5),
        "tanh": Monotone(linear_map(n, 0.5, seed=seed), features(n, 2 * n, seed=seed)),
    }


def plane_maps() -> dict[str, SmoothMap]:
    """Two smooth maps of the plane, of the same two kinds, to look at."""
    third = math.pi * torch.arange(3, dtype=torch.float64) / 3
    star = 6 * torch.stack([third.cos(), third.sin()], dim=1)
    return {
        "twist": Twist(linear_map(2, 0.4, seed=1), omega=1.5),
        "tanh": Monotone(linear_map(2, 0.2, seed=0), star, epsilon=0.04),
    }
