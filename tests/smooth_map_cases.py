"""Smooth maps for tests."""

import torch

from paperlib.studies import norm_preservation as studies
from paperlib.theorems import SmoothMap

SCHEDULES = ("geometric", "uniform", "arc")
EXAMPLES = studies.example_maps()


class Shifted(SmoothMap):
    """Moves the origin, no symmetry, inverse and derivative by the general ways; with or without its constants."""

    dim = 3

    def __init__(self, known):
        if known:
            self.alpha, self.beta = 0.4, 1 / (1.5 - 0.4)

    def __call__(self, x):
        return 1.5 * x + 0.4 * torch.sin(x.roll(1, -1) + torch.tensor([0.3, 1.0, -0.7])) + 0.3
