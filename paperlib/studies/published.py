"""Appendix A: the points in which the authors' published projection differs from the paper, and what each changes.

Everything here is made from the formulas (:mod:`paperlib.published`); none of the authors' code is run.  Singular
values are over the target, so that 1 keeps the norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib import models, published
from paperlib.holding import NormPreserving
from paperlib.polar import coupled_step, identity_like, polar_factor
from paperlib.projection import project, spread, target
from paperlib.spectrum import transfer_matrices
from paperlib.studies.projection import he_kernel

# Channels in, channels out, kernel, stride, side of the output.
Layer = tuple[int, int, int, int, int]
# The transitions of ProcResNet-166.
LAYERS: tuple[Layer, ...] = ((3, 64, 3, 1, 32), (64, 128, 1, 2, 16), (128, 256, 1, 2, 8))


def layer_name(c: int, d: int, k: int) -> str:
    """What the tables call a layer.

    Examples
    --------
    >>> layer_name(3, 64, 3)
    '3 → 64, 3×3'
    """
    return f"{c} → {d}, {k}×{k}"


def initial_kernel(d: int, c: int, k: int) -> Tensor:
    """The He-initialised kernel ``(d, c, k, k)`` of this chapter: drawn in float32 as a network's is, then float64."""
    return he_kernel(d, c, k, drawn=torch.float32)


def centre_tap(channels: int, k: int = 3) -> Tensor:
    """The kernel that returns its input: the identity in the middle tap; float64.  It is norm-preserving."""
    kernel = torch.zeros(channels, channels, k, k, dtype=torch.float64)
    kernel[:, :, k // 2, k // 2] = torch.eye(channels)
    return kernel


def tap_energy(kernel: Tensor) -> Tensor:
    """The sum of squares of each tap, ``(kh, kw)``."""
    return kernel.detach().square().sum((0, 1))


def summary(kernel: Tensor, size: int, stride: int = 1) -> dict[str, float]:
    """A kernel in four numbers: ``lowest``, ``highest``, ``energy`` and ``corner``.

    They are the smallest and the largest singular value over the target, the sum of squares, and the share of that sum
    in the corner tap (0, 0).

    Examples
    --------
    >>> {name: round(value, 6) for name, value in summary(centre_tap(4), 8).items()}
    {'lowest': 1.0, 'highest': 1.0, 'energy': 4.0, 'corner': 0.0}
    """
    low, high = spread(kernel, size, stride)
    energy = tap_energy(kernel)
    corner = energy[0, 0] / energy.sum()
    return {"lowest": low, "highest": high, "energy": energy.sum().item(), "corner": corner.item()}


def taps(kernels: dict[str, dict[str, Tensor]]) -> pd.DataFrame:
    """The energy of every tap of some kernels at some stages.

    Columns: ``kernel``, ``stage``, ``row``, ``column``, ``energy``.
    """
    return pd.DataFrame(
        [
            {"kernel": name, "stage": stage, "row": i, "column": j, "energy": tap_energy(kernel)[i, j].item()}
            for name, stages in kernels.items()
            for stage, kernel in stages.items()
            for i, j in product(*map(range, kernel.shape[2:]))
        ]
    )


def polar_from_blocks(matrix: Tensor, sign: int) -> Tensor:
    """The polar factor of a complex R + iI by way of the real matrix [[R, I], [−I, R]].

    The upper half (R', I') of the real matrix's factor is read back as R' + ``sign`` · iI'.

    Examples
    --------
    >>> a = torch.randn(5, 3, dtype=torch.complex128)
    >>> [torch.allclose(polar_from_blocks(a, sign), polar_factor(a)) for sign in (1, -1)]
    [True, False]
    """
    blocks = torch.cat([torch.cat([matrix.real, matrix.imag], 1), torch.cat([-matrix.imag, matrix.real], 1)])
    real, imaginary = polar_factor(blocks)[: len(matrix)].chunk(2, dim=1)
    return torch.complex(real, sign * imaginary)


def repeated_calls(
    start: Tensor, size: int, noises: Iterable[float], shown: Sequence[int], seed: int = 1
) -> pd.DataFrame:
    """The published projection called again and again, with random noise between two calls.

    The noise has ``noise`` times the kernel's norm.  Columns: ``noise``, ``calls`` (those in ``shown``), and those of
    :func:`summary`.
    """
    rows = []
    for noise in noises:
        generator = torch.Generator().manual_seed(seed)
        kernel = start
        for call in range(1, max(shown) + 1):
            kernel = published.project(kernel, size)
            if call in shown:
                rows.append({"noise": noise, "calls": call} | summary(kernel, size))
            step = torch.randn(kernel.shape, generator=generator, dtype=kernel.dtype)
            kernel = kernel + noise * kernel.norm() * step / step.norm()
    return pd.DataFrame(rows)


def in_training(steps: int, seed: int = 0) -> pd.DataFrame:
    """The first transition of a ProcResNet-13 that is held as the published code does it, in training.

    The training is on random images and labels, in float64.  Columns: ``step``, ``projected`` (whether a projection
    followed), and those of :func:`summary`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            torch.set_default_dtype(torch.float64)
            model = models.build("procresnet", 11, project=False)
            images, labels = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
        finally:
            torch.set_default_dtype(torch.float32)
    projector = published.Projector()
    held = NormPreserving(model, projector=projector)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rows = []
    with held.attach(optimizer):
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            now = summary(held.convs[0].conv.weight, held.convs[0].size[0])
            rows.append({"step": step, "projected": projector.due(step, held.every)} | now)
    return pd.DataFrame(rows)


def gram_sides(matrix: Tensor, steps: int = 60) -> pd.DataFrame:
    """The Newton-Schulz iteration for a tall matrix with the Gram matrix on either side, in float32 and float64.

    Columns: ``side`` (``input side`` is the smaller one), ``precision``, ``steps``, and ``error``, how far the polar
    factor is after so many steps from that of an eigen-decomposition, relative to it.
    """
    exact, rows = polar_factor(matrix.double()), []
    for side, dtype in product(("input side", "output side"), (torch.float32, torch.float64)):
        p = matrix.to(dtype)
        gram = p @ p.T if side == "output side" else p.T @ p
        scale = math.sqrt(2) * gram.norm()
        y, z = gram / scale, identity_like(gram)
        for step in range(1, steps + 1):
            y, z = coupled_step(y, z)
            out = (z @ p if side == "output side" else p @ z) / scale.sqrt()
            error = ((out.double() - exact).norm() / exact.norm()).item()
            rows.append({"side": side, "precision": str(dtype).removeprefix("torch."), "steps": step, "error": error})
    return pd.DataFrame(rows)


def work(layers: Iterable[Layer] = LAYERS) -> pd.DataFrame:
    """The real multiplications of one Newton-Schulz step, as published and as needed, counted.

    Columns: ``layer``, ``matrices used`` and ``needed``, ``side used`` and ``needed``, ``work used`` and ``needed``.
    """
    rows = []
    for c, d, k, _, n in layers:
        apart = {min((u, v), (-u % n, -v % n)) for u, v in product(range(n), repeat=2)}
        needed, products = (1, 1) if k == 1 else (len(apart), 4)  # four real products for a complex one
        rows.append(
            {
                "layer": layer_name(c, d, k),
                "matrices used": n * n,
                "matrices needed": needed,
                "side used": 2 * d,
                "side needed": min(c, d),
                "work used": n * n * 3 * (2 * d) ** 3,
                "work needed": needed * 3 * min(c, d) ** 3 * products,
            }
        )
    return pd.DataFrame(rows)


def backward_ratio(kernel: Tensor, size: int, stride: int = 1, relu: bool = False, seed: int = 1) -> float:
    """The norm of random gradients at a convolution's input over that at its output, behind a ReLU with ``relu``.

    The gradients are isotropic, the map of side ``size`` at the output wraps around.
    """
    d, c, k, _ = kernel.shape
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(c, d, k, stride, k // 2, bias=False, padding_mode="circular", dtype=kernel.dtype)
    conv.weight.data = kernel
    x = torch.randn(16, c, size * stride, size * stride, generator=generator).to(kernel.dtype).requires_grad_()
    y = conv(x).relu() if relu else conv(x)
    gradient = torch.randn(y.shape, generator=generator).to(kernel.dtype)
    (at_input,) = torch.autograd.grad(y, x, gradient)
    return (at_input.norm() / gradient.norm()).item()


def targets(layers: Iterable[Layer]) -> pd.DataFrame:
    """The published target √(d/c) beside that of the paper's (7), and what each does to isotropic gradients.

    The conjugation is left out.  Columns: ``layer``, ``published`` and ``the paper's (7)``, and the
    :func:`backward_ratio` of each, ``gradient, published`` and ``gradient, the paper's (7)``.
    """
    rows = []
    for c, d, k, stride, n in layers:
        kernel = initial_kernel(d, c, k)
        kernels = {
            "published": published.project(kernel, n, conjugated=False),
            "the paper's (7)": project(kernel, n, stride),
        }
        sigmas = {"published": math.sqrt(d / c), "the paper's (7)": target((d, c, k, k), stride)}
        ratios = {f"gradient, {name}": backward_ratio(w, n, stride) for name, w in kernels.items()}
        rows.append({"layer": layer_name(c, d, k), **sigmas, **ratios})
    return pd.DataFrame(rows)


def small_weights(layers: Iterable[Layer] = LAYERS, factors: Iterable[float] = (1, 0.1, 0.01)) -> pd.DataFrame:
    """Ten steps from a Gram matrix that is scaled only where its norm exceeds 1, for kernels made smaller.

    Columns: ``layer``, ``factor``, ``scaled`` (the share of frequencies where it was), ``lowest``, ``highest``.
    """
    rows = []
    for (c, d, k, stride, n), factor in product(layers, factors):
        kernel = factor * initial_kernel(d, c, k)
        p = transfer_matrices(kernel, n)
        norms = math.sqrt(2) * torch.linalg.matrix_norm(p.mH @ p)
        low, high = spread(published.project(kernel, n, conjugated=False), n, stride)
        scaled = (norms > 1).double().mean().item()
        row = {"layer": layer_name(c, d, k), "factor": factor, "scaled": scaled, "lowest": low, "highest": high}
        rows.append(row)
    return pd.DataFrame(rows)


def waits(steps: int, every: int = 2) -> pd.DataFrame:
    """How many steps pass between two projections, with probability 1/``every`` after each and at every ``every``-th.

    Columns: ``schedule``, ``wait``, ``count``, ``share``, and ``expected``, the share of the geometric distribution.
    """
    projector = published.Projector()
    found, since = [], 0
    for step in range(1, steps + 1):
        if projector.due(step, every):
            found.append(since)
            since = 0
        else:
            since += 1
    count = pd.Series(found).value_counts().sort_index()
    p = 1 / every
    drawn = {
        "schedule": f"with probability 1/{every}",
        "wait": count.index,
        "count": count.to_numpy(),
        "share": count.to_numpy() / count.sum(),
        "expected": p * (1 - p) ** count.index,
    }
    fixed = {"schedule": f"every {every} steps", "wait": [every - 1], "count": steps // every, "share": 1.0}
    return pd.concat([pd.DataFrame(drawn), pd.DataFrame(fixed)], ignore_index=True)
