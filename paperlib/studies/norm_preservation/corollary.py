"""Corollary 1, measured: how tight its bound is at random weights, and what training makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from paperlib.config import RunConfig
from paperlib.theorems import Twist, ball, corollary_bound, gaussian, gradient_delta, linear_map

PAPER_DECAY = RunConfig().weight_decay
RATE, MOMENTUM = 0.05, 0.9  # of the small network's SGD


class Branch(NamedTuple):
    """The branch W₂ρ(W₁x) of a two-layer block, the side of its feature map if it has one, and its input's shape."""

    layers: nn.Sequential
    size: int | None
    shape: tuple[int, ...]


def two_layer_blocks(seed: int = 0) -> dict[str, Branch]:
    """Random two-layer blocks by name, float64.  Torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = {f"dense, {n}": Branch(_dense(n), None, (n,)) for n in (16, 64, 256)}
        tied = _dense(64)
        first, last = tied.parameters()
        last.data = first.data.T.clone()
        blocks["dense, 64, tied"] = Branch(tied, None, (64,))
        for mode in ("circular", "zeros"):
            conv = [nn.Conv2d(6, 6, 3, padding=1, padding_mode=mode, bias=False) for _ in range(2)]
            layers = nn.Sequential(conv[0], nn.ReLU(), conv[1]).double()
            blocks[f"conv, 6 channels, {mode}"] = Branch(layers, 8, (6, 8, 8))
    return blocks


def _dense(n: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(n, n, bias=False), nn.ReLU(), nn.Linear(n, n, bias=False)).double()
    for weight in layers.parameters():
        nn.init.normal_(weight, std=n**-0.5)
    return layers


def corollary_tightness(seeds: Iterable[int] = range(5), inputs: int = 4, gradients: int = 32) -> pd.DataFrame:
    """Corollary 1 at random weights: how much of the bound a block's derivative uses.

    Weights are scaled so that the bound is 1/4.  Columns: ``block``, ``seed``, ``bound``, ``measured`` (the largest
    ‖J − I‖ over random inputs), ``ratio`` (measured over bound), ``delta`` (the largest ``|σ(J) − 1|``), ``random``
    (the mean of ``|‖Jᵀg‖/‖g‖ − 1|`` over random gradients g) and ``reshaped``, what the bound would be with the norm of
    each kernel reshaped to a matrix.
    """
    rows = []
    for seed in seeds:
        for name, (block, size, shape) in two_layer_blocks(seed).items():
            weights = list(block.parameters())
            scale = math.sqrt(0.25 / corollary_bound(block, size).item())
            for weight in weights:
                weight.data *= scale
            generator = torch.Generator().manual_seed(seed)
            measured, delta, change = [], [], []
            for _ in range(inputs):
                branch = _branch_jacobian(block, gaussian(1, *shape, seed=generator))
                jacobian = torch.eye(len(branch), dtype=torch.float64) + branch
                measured.append(torch.linalg.matrix_norm(branch, 2).item())
                delta.append(gradient_delta(jacobian).item())
                g = gaussian(gradients, len(branch), seed=generator)
                change.append(((g @ jacobian).norm(dim=1) / g.norm(dim=1) - 1).abs().mean().item())
            bound = corollary_bound(block, size).item()
            rows.append(
                {
                    "block": name,
                    "seed": seed,
                    "bound": bound,
                    "measured": max(measured),
                    "ratio": max(measured) / bound,
                    "delta": max(delta),
                    "random": float(np.mean(change)),
                    "reshaped": math.prod(torch.linalg.matrix_norm(w.flatten(1), 2).item() for w in weights),
                }
            )
    return pd.DataFrame(rows)


def _branch_jacobian(block: nn.Sequential, x: Tensor) -> Tensor:
    """The branch's derivative at one input ``(1, ...)`` of n numbers, ``(n, n)``."""
    n = x.numel()
    # The input n times: the batch's i-th row gets the i-th unit vector, and returns a row of the derivative.
    many = x.expand(n, *x.shape[1:]).clone().requires_grad_()
    unit_vectors = torch.eye(n, dtype=x.dtype).reshape(many.shape)
    return torch.autograd.grad(block(many), many, unit_vectors)[0].flatten(1)


class _Block(nn.Module):
    """x + W₂ ReLU(W₁ x + b) with twice as many hidden units, W₂ small and b zero at the start; float64."""

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        self.first = skip_init(nn.Linear, width, 2 * width, dtype=torch.float64)
        self.last = skip_init(nn.Linear, 2 * width, width, bias=False, dtype=torch.float64)
        nn.init.normal_(self.first.weight, std=width**-0.5, generator=generator)
        nn.init.normal_(self.last.weight, std=0.1 * (2 * width) ** -0.5, generator=generator)
        nn.init.zeros_(self.first.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.first(x).relu())

    def jacobian(self, x: Tensor) -> Tensor:
        active = (self.first(x) > 0).double()
        eye = torch.eye(x.shape[-1], dtype=x.dtype)
        return eye + self.last.weight @ (active.unsqueeze(-1) * self.first.weight)

    def bound(self) -> float:
        return corollary_bound([self.first, nn.ReLU(), self.last]).item()


def bound_in_training(
    decays: Sequence[float] = (0.0, PAPER_DECAY, 1e-2),
    at: Sequence[int] = (0, 300, 3000),
    width: int = 16,
    depth: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Corollary 1's bound of every block while a small residual network is trained.

    ``depth`` blocks x + W₂ ReLU(W₁ x + b) learn the chapter's twist in ``width`` dimensions, from 1,024 points of the
    unit ball, by SGD with momentum, float64.  They start anew for each weight decay, from the same weights.

    Parameters
    ----------
    decays : sequence of float
        The weight decays: by default none, the paper's, and a hundred times the paper's.
    at : sequence of int
        After how many steps the blocks are looked at.
    width, depth : int
        The dimension, even, and the number of blocks.
    seed : int
        The seed of the points, the map and the weights.

    Returns
    -------
    pandas.DataFrame
        A row for each block of each state.  Columns: ``decay``, ``step``, ``block``, ``bound``, ``delta`` (the largest
        ``|σ(J) − 1|`` over 32 points), ``risk`` (E‖ŷ − y‖², the same in all rows of one state) and ``exponent``
        (:func:`accumulated_decay` up to this step).

    Examples
    --------
    >>> table = bound_in_training(decays=(0.0,), at=(0, 5), width=4, depth=2)
    >>> table.step.tolist(), bool((table.delta <= table.bound).all())
    ([0, 0, 5, 5], True)
    """
    x = ball(width, 1024, seed)
    y = Twist(linear_map(width, 0.7, seed=seed))(x)
    rows = []
    for decay in decays:
        generator = torch.Generator().manual_seed(seed)
        blocks = [_Block(width, generator) for _ in range(depth)]
        network = nn.Sequential(*blocks)
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=decay)
        for begin, step in pairwise([0, *sorted(at)]):
            for _ in range(step - begin):
                optimizer.zero_grad()
                _risk(network, x, y).backward()
                optimizer.step()
            risk, exponent = _risk(network, x, y).item(), accumulated_decay(decay, [RATE] * step, MOMENTUM)
            state = {"decay": decay, "step": step, "risk": risk, "exponent": exponent}
            rows += [state | row for row in _state(blocks, x[:32])]
    return pd.DataFrame(rows)


def accumulated_decay(decay: float, rates: Iterable[float], momentum: float) -> float:
    """By which power of e weight decay shrinks a weight that has no other gradient, over some steps of SGD.

    It is ``decay · Σ rate / (1 − momentum)``, which is exact in the limit of small rates and many steps.

    Parameters
    ----------
    decay : float
        The weight decay.
    rates : iterable of float
        The learning rate of each step.
    momentum : float
        The momentum, 0 or more and less than 1.

    Returns
    -------
    float
        The exponent.

    Examples
    --------
    >>> round(accumulated_decay(1e-4, [0.1] * 10000, momentum=0.9), 6)
    1.0
    """
    return decay * math.fsum(rates) / (1 - momentum)


def _risk(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (network(x) - y).square().sum(1).mean()


@torch.no_grad()
def _state(blocks: Iterable[_Block], points: Tensor) -> list[dict[str, float]]:
    rows = []
    for i, block in enumerate(blocks, 1):
        delta = gradient_delta(block.jacobian(points)).max().item()
        rows.append({"block": i, "bound": block.bound(), "delta": delta})
        points = block(points)
    return rows


def dead_block(n: int = 4, points: int = 64) -> dict[str, float]:
    """A critical point of a residual network that is no minimum: x + W₂ReLU(W₁x) with W₁x < 0 on all data.

    Returns the risk E‖ŷ − 1.5x‖² there, its gradient's norm, and the risk that is reachable: after W₁ is turned to −W₁
    and W₂ chosen best.
    """
    x = ball(n, points).abs()
    w1 = torch.full((n, n), -0.1, dtype=torch.float64).fill_diagonal_(-1.0).requires_grad_()
    w2 = torch.zeros(n, n, dtype=torch.float64, requires_grad=True)
    risk = (x + (x @ w1.T).relu() @ w2.T - 1.5 * x).square().sum(1).mean()
    gradients = torch.autograd.grad(risk, (w1, w2))
    hidden = (-x @ w1.detach().T).relu()
    best = torch.linalg.lstsq(hidden, 0.5 * x).solution
    return {
        "risk": risk.item(),
        "gradient": math.sqrt(sum(g.square().sum().item() for g in gradients)),
        "reachable": (hidden @ best - 0.5 * x).square().sum(1).mean().item(),
    }
