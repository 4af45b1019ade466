"""Chapter 2's cost: what projecting the transitions adds to a training step, by the iteration, by SVD, by the library.

The paper's iteration and an SVD are written here as the paper's (8) and (9) read, without the library's own way
around a transform of the kernel.  Both can be given the same two shortcuts, so that the methods alone are compared:
one matrix in the place of n² equal ones for a 1×1 kernel, and half of the frequencies for a real kernel.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from paperlib.holding import NormPreserving
from paperlib.polar import coupled_step, identity_like
from paperlib.projection import target
from paperlib.training import BenchmarkStep, benchmark_step

STEPS = 10
"""Of the iteration.  The paper gives no number; the authors' published code takes ten."""

Polar = Callable[[Tensor], Tensor]


# -- the polar factor of a batch of tall matrices (..., d, c) ----------------------------------------------------------
def polar_by_svd(p: Tensor) -> Tensor:
    """The polar factors UVᴴ of the matrices ``(..., d, c)``, by a singular value decomposition of each."""
    u, _, vh = torch.linalg.svd(p, full_matrices=False)
    return u @ vh


def polar_by_iteration(p: Tensor, steps: int = STEPS) -> Tensor:
    """The polar factors P (PᴴP)^(-1/2) of tall matrices ``(..., d, c)`` by the paper's (8) and (9).

    The Gram matrix is scaled by its Frobenius norm, without which the iteration need not converge.

    Examples
    --------
    >>> p = torch.randn(8, 6, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(polar_by_iteration(p, steps=20), polar_by_svd(p))
    True
    """
    return p @ _inverse_root(p.mH @ p, steps)


def _inverse_root(gram: Tensor, steps: int) -> Tensor:
    """The inverse square roots of Gram matrices ``(..., n, n)``, scaled for the iteration and back."""
    scale = torch.linalg.matrix_norm(gram)[..., None, None]
    y, z = gram / scale, identity_like(gram)
    for _ in range(steps):
        y, z = coupled_step(y, z)
    return z / scale.sqrt()


def polar_on_the_output_side(p: Tensor, steps: int = STEPS) -> Tensor:
    """As :func:`polar_by_iteration`, the way that the published code goes: real blocks, and the larger Gram matrix.

    A complex P ``(..., d, c)`` is written as a real matrix of twice the size, and the Gram matrix is taken on the
    output's side: 2d × 2d real numbers in the place of c × c complex ones.
    """
    d, c = p.shape[-2:]
    real = torch.cat([torch.cat([p.real, -p.imag], -1), torch.cat([p.imag, p.real], -1)], -2)
    out = _inverse_root(real @ real.mT, steps) @ real
    return torch.complex(out[..., :d, :c], out[..., d:, :c])


# -- a projection of a kernel by one of them -----------------------------------------------------------------------
def project_by(polar: Polar, weight: Tensor, n: int, shortcuts: bool = False) -> Tensor:
    """Equation 8 and Algorithm 1 as they read: transform, ``polar`` at each frequency, transform back, crop.

    Parameters
    ----------
    polar : callable
        From matrices ``(..., d, c)`` to their polar factors.
    weight : Tensor, (d, c, k, k)
        The kernel, real, with d ≥ c.
    n : int
        The side of the feature map at the convolution's output.
    shortcuts : bool
        One matrix for a 1×1 kernel, and half of the spectrum (``rfft2``) for a larger one, where every frequency but
        its own mirror images stands for two.

    Returns
    -------
    Tensor, (d, c, k, k)
        The projected kernel, in the weight's dtype and on its device.

    Examples
    --------
    >>> from paperlib.projection import project
    >>> weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> [torch.allclose(project_by(polar_by_svd, weight, 8, s), project(weight, 8), atol=1e-5) for s in (False, True)]
    [True, True]
    """
    k, sigma = weight.shape[-1], target(weight.shape)
    if shortcuts and k == 1:
        return sigma * polar(weight[None, :, :, 0, 0])[0, :, :, None, None]
    if shortcuts:
        half = polar(torch.fft.rfft2(weight, s=(n, n)).permute(2, 3, 0, 1))
        return sigma * torch.fft.irfft2(half.permute(2, 3, 0, 1), s=(n, n))[..., :k, :k]
    whole = polar(torch.fft.fft2(weight, s=(n, n)).permute(2, 3, 0, 1))
    return sigma * torch.fft.ifft2(whole.permute(2, 3, 0, 1)).real[..., :k, :k]


METHODS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "iteration": partial(project_by, polar_by_iteration),
    "svd": partial(project_by, polar_by_svd),
    "iteration, shortcuts": partial(project_by, polar_by_iteration, shortcuts=True),
    "svd, shortcuts": partial(project_by, polar_by_svd, shortcuts=True),
}
"""The projections that are compared with the library's, from a kernel ``(d, c, k, k)`` and the side of its output."""

as_published = partial(project_by, polar_on_the_output_side)
"""The projection with the published code's Gram matrix, which takes several times as long as the paper's (8) needs."""


# -- timing -----------------------------------------------------------------------------------------------------------
def random_batch(size: int) -> tuple[Tensor, Tensor]:
    """Images ``(size, 3, 32, 32)`` and labels that look like CIFAR to a network; for timing only."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 32, 32, generator=generator), torch.randint(10, (size,), generator=generator)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes, the device's work included."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


SHORT, REPEATS = 0.2, 10  # seconds; calls


def steady(call: Callable[[], object]) -> float:
    """Seconds of one call: of a short one the median of ten, since one is at the mercy of a shared machine."""
    first = seconds(call)
    return first if first > SHORT else statistics.median([first, *(seconds(call) for _ in range(REPEATS - 1))])


def disturb(held: NormPreserving) -> None:
    """Move each held kernel by 1 % of its norm, as an optimiser's step does: near the target, but not on it."""
    with torch.no_grad():
        for _, conv, _ in held.convs:
            w = conv.weight
            w += 0.01 * w.norm() / math.sqrt(w.numel()) * torch.randn_like(w)


def load() -> float:
    """How many processes ran or waited on this machine in the last minute, ours among them; NaN if it does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def projecting(held: NormPreserving, methods: Sequence[str]) -> dict[str, Callable[[], object]]:
    """A closure for each of some ``METHODS`` that projects copies of all held kernels."""
    kernels = [(conv.weight.detach().clone(), size[0]) for _, conv, size in held.convs]

    def all_kernels(name: str) -> Callable[[], object]:
        return lambda: [METHODS[name](w, n) for w, n in kernels]

    return {name: all_kernels(name) for name in methods}


def overhead(depth: int = 164, batch_size: int = 128, rounds: int = 5) -> pd.DataFrame:
    """A float32 training step of a ProcResNet, and projecting its three transitions by the library and ``METHODS``.

    In a round each of them takes its turn, so that a machine whose speed drifts favours none (:func:`steady`).  Each
    runs once before, which is not counted.  They run on a CUDA device where there is one.

    Parameters
    ----------
    depth : int
        The base network's depth 9n+2.
    batch_size : int
        Images in a training step.
    rounds : int
        How many turns.

    Returns
    -------
    pd.DataFrame
        One row per round: ``round``, the machine's :func:`load` before it, and in seconds ``step``, ``library`` and
        each of ``METHODS``.
    """
    step = benchmark_step("procresnet", depth, *random_batch(batch_size), precision="float32")
    held = NormPreserving(step.model)
    calls: dict[str, Callable[[], object]] = {"step": step, "library": held.project}
    calls |= projecting(held, tuple(METHODS))
    for call in calls.values():
        call()
    rows: list[dict[str, float]] = []
    for i in range(rounds):
        disturb(held)
        rows.append({"round": i, "load": load()} | {name: steady(call) for name, call in calls.items()})
    return pd.DataFrame(rows)


def deepening(depths: Sequence[int], batch_size: int = 128, rounds: int = 5) -> pd.DataFrame:
    """A float32 training step at several depths, and the paper's iteration on the transitions of each network.

    The networks of all depths are there at once and take turns.  On a CPU their activations are computed a second time
    on the way back, at every depth alike, since a thousand layers of them would take 10 GiB.

    Parameters
    ----------
    depths : sequence of int
        The base networks' depths 9n+2.
    batch_size : int
        Images in a training step.
    rounds : int
        How many turns.

    Returns
    -------
    pd.DataFrame
        One row per round and depth: ``round``, ``depth``, ``load`` as in :func:`overhead`, ``recomputed`` (whether the
        activations were), and in seconds ``step`` and ``iteration``.
    """
    calls: dict[int, tuple[BenchmarkStep, Callable[[], object]]] = {}
    for depth in depths:
        step = benchmark_step("procresnet", depth, *random_batch(batch_size), precision="float32")
        step.model.checkpoint_activations = step.config.device == "cpu"
        calls[depth] = step, projecting(NormPreserving(step.model), ("iteration",))["iteration"]
        step()
        calls[depth][1]()
    rows: list[dict[str, float]] = []
    for i in range(rounds):
        for depth, (step, iteration) in calls.items():
            now = {"round": i, "depth": depth, "load": load(), "recomputed": step.model.checkpoint_activations}
            rows.append(now | {"step": seconds(step), "iteration": seconds(iteration)})
    return pd.DataFrame(rows)
