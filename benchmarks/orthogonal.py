"""An exactly norm-preserving weight, made and differentiated: ours against orthogonium's adaptive convolution.

Each call computes the weight from its parameters and takes the gradient of all of these, in training mode and as each
package does it by default: float32 parameters, ours computed in float64, theirs in float32.  They take turns in one
process, on one thread and then on two.  Afterwards the singular values of both float32 weights are measured in float64,
as the largest relative distance from the target.  orthogonium (``pip install --no-deps orthogonium``, or its folder on
PYTHONPATH) is no dependency: without it only ours is timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from typing import Any

# Before torch starts its threads: on a shared machine those that spin while they wait would be measured, not the work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from paired import arguments, in_turns, ratios, report
from torch import nn

from paperlib.parametrization import orthogonal
from paperlib.projection import spread, target

try:
    from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d
except ImportError:
    AdaptiveOrthoConv2d = None

# Channels in, channels out, kernel, stride.
CASES = ((64, 64, 3, 1), (64, 128, 3, 2), (128, 128, 3, 1), (3, 64, 7, 2), (256, 256, 3, 1), (16, 64, 1, 1))
THREADS = (1, 2)


def layers(c: int, d: int, k: int, stride: int) -> dict[str, nn.Conv2d]:
    options: dict[str, Any] = {"stride": stride, "padding": k // 2, "bias": False}
    found = {"ours": orthogonal(nn.Conv2d(c, d, k, **options), scale=1 / target((d, c, k, k), stride))}
    return found if AdaptiveOrthoConv2d is None else {"orthogonium": AdaptiveOrthoConv2d(c, d, k, **options)} | found


def forward_and_backward(layer: nn.Conv2d, grad: torch.Tensor) -> Callable[[], object]:
    parameters = [p for p in layer.parameters() if p.requires_grad]
    return lambda: torch.autograd.grad(layer.weight, parameters, grad)


def distance(layer: nn.Conv2d) -> float:
    weight, stride = layer.weight.detach().double(), layer.stride[0]
    off = [abs(x * target(weight.shape, stride) - 1) for x in spread(weight, 8, stride)]
    return float(f"{max(off):.1e}")


def case(c: int, d: int, k: int, stride: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    found = layers(c, d, k, stride)
    grad = torch.randn(d, c, k, k)
    t = in_turns({name: forward_and_backward(layer, grad) for name, layer in found.items()}, rounds)
    row: dict[str, Any] = {"best_milliseconds": {name: round(1e3 * min(seconds), 3) for name, seconds in t.items()}}
    row["largest_distance"] = {name: distance(layer) for name, layer in found.items()}
    return row if len(t) == 1 else {"orthogonium_over_ours": ratios(t["orthogonium"], t["ours"])} | row


if __name__ == "__main__":
    a = arguments(__doc__, rounds=30)
    cases: dict[str, Any] = {}
    for threads in THREADS:
        torch.set_num_threads(threads)
        cases[f"{threads} thread{'s' * (threads > 1)}"] = {
            f"{c}->{d} {k}x{k} stride {stride}": case(c, d, k, stride, a.rounds) for c, d, k, stride in CASES
        }
    version = None if AdaptiveOrthoConv2d is None else metadata.version("orthogonium")
    report("orthogonal", {"rounds": a.rounds, "orthogonium": version, "cases": cases}, a.save)
