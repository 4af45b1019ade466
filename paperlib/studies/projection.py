"""Chapter 2: spectra of convolutions, the polar factor, alternating projections, the gradient's energy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from paperlib.energy import effective_rank, energy_fraction, relative_sd
from paperlib.holding import Exact
from paperlib.polar import Iteration, Products, coefficients, coupled_step, identity_like, polar_factor, polar_iterates
from paperlib.projection import project, spread
from paperlib.spectrum import dense, singular_values, transfer_matrices

Size = int | tuple[int, int]


def he_kernel(d: int, c: int, k: int, seed: int = 0, drawn: torch.dtype = torch.float64) -> Tensor:
    """A He-initialised kernel ``(d, c, k, k)``, float64; ``drawn`` in another precision, it is another one."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(d, c, k, k, generator=generator, dtype=drawn).double() * math.sqrt(2 / (k * k * d))


# c, d, k, size, stride: odd and even kernels, rectangular maps, more channels on either side, and strides.
THEOREM3_CASES: tuple[tuple[int, int, int, Size, int], ...] = (
    (3, 4, 3, 6, 1),
    (5, 3, 3, (4, 6), 1),
    (3, 4, 2, 5, 1),
    (2, 6, 5, 8, 1),
    (2, 4, 1, 4, 2),
    (3, 4, 3, 4, 2),
    (3, 5, 3, 2, 3),
    (3, 8, 4, 3, 4),
)


def theorem3(cases: Iterable[tuple[int, int, int, Size, int]] = THEOREM3_CASES, seed: int = 0) -> pd.DataFrame:
    """Theorem 3 against a dense SVD, for random kernels of the cases ``(c, d, k, size, stride)``.

    Columns: ``kernel``, ``stride``, ``output``, ``values`` (how many singular values) and ``difference``, the largest
    between the two sorted lists over the largest value.

    Examples
    --------
    >>> bool((theorem3([(3, 4, 3, 5, 1), (2, 5, 3, (2, 4), 2)]).difference < 1e-12).all())
    True
    """
    rows = []
    for c, d, k, size, stride in cases:
        weight = he_kernel(d, c, k, seed)
        ours = singular_values(weight, size, stride).flatten().sort(descending=True).values
        exact = torch.linalg.svdvals(dense(weight, size, stride))
        h, w = (size, size) if isinstance(size, int) else size
        rows.append(
            {
                "kernel": f"{c}→{d}, {k}×{k}",
                "stride": stride,
                "output": f"{h}×{w}",
                "values": len(exact),
                "difference": ((ours - exact).abs().max() / exact.max()).item(),
            }
        )
    return pd.DataFrame(rows)


def sorted_spectra(kernels: dict[str, Tensor], size: Size, unit: float = 1.0) -> pd.DataFrame:
    """The singular values of some kernels, largest first.

    Columns: ``kernel``, ``share`` (of the values that are larger), ``value`` (over ``unit``).
    """
    parts = []
    for name, weight in kernels.items():
        values = singular_values(weight.detach().double(), size).flatten().sort(descending=True).values / unit
        share = (torch.arange(len(values)) + 0.5) / len(values)
        parts.append(pd.DataFrame({"kernel": name, "share": share.numpy(), "value": values.numpy()}))
    return pd.concat(parts, ignore_index=True)


def zero_padding(weight: Tensor, sizes: Iterable[int]) -> pd.DataFrame:
    """What zero padding makes of a kernel that is exactly norm-preserving with circular padding.

    ``weight`` is such a kernel with d ≥ c, scaled to singular values of 1; ``sizes`` are the sides of the feature
    maps.  Columns: ``size``, ``lowest``, ``highest``, ``kept`` (the share of singular values within 1e-6 of 1) and
    ``interior`` (the share of the pixels that no border touches).
    """
    rows = []
    for n in sizes:
        matrix = dense(weight, n, padding="zeros")
        # The Gram matrix is harmless here: no singular value is small.
        values = torch.linalg.eigvalsh(matrix.T @ matrix).sqrt()
        border = weight.shape[-1] // 2
        rows.append(
            {
                "size": n,
                "lowest": values.min().item(),
                "highest": values.max().item(),
                "kept": ((values - 1).abs() < 1e-6).double().mean().item(),
                "interior": max(0, n - 2 * border) ** 2 / n**2,
            }
        )
    return pd.DataFrame(rows)


def polar_convergence(lower: float, steps: int = 12, seed: int = 0) -> pd.DataFrame:
    """How far from orthogonal a matrix is after each step of four iterations.

    Its 40 singular values are evenly spaced from ``lower`` to 1.  Columns: ``method``, ``step``, ``products`` (matrix
    products so far, ``matrix`` of :func:`products`) and ``error``, the largest distance of a singular value from 1.
    """
    return _convergence(torch.linspace(lower, 1, 40, dtype=torch.float64), steps, seed)


class _Counter(TorchDispatchMode):
    """How many matrix products are computed under it; the solution of linear systems counts as one."""

    COUNTED = (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten._linalg_solve_ex)

    def __init__(self) -> None:
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as ever, and count."""
        self.products += func.overloadpacket in self.COUNTED
        return func(*args, **(kwargs or {}))


def products() -> pd.DataFrame:
    """How many matrix products a step of each iteration takes, counted while a step is computed.

    Returns
    -------
    DataFrame
        Indexed by the method.  Columns: ``matrix``, for the iteration on the matrix itself, and ``coupled``, for the
        coupled one on its Gram matrix, the form of the paper's (9); missing for ``qdwh``, of which there is none here.

    Examples
    --------
    >>> products().loc["newton-schulz"].tolist()
    [2.0, 3.0]
    """
    matrix = torch.eye(3, 2, dtype=torch.float64)
    gram = matrix.T @ matrix
    found = pd.DataFrame(math.nan, index=get_args(Iteration), columns=["matrix", "coupled"])
    for method in get_args(Iteration):
        with _Counter() as counter:
            polar_iterates(matrix, method, steps=1, lower=0.5)
        found.loc[method, "matrix"] = counter.products
        if method in get_args(Products):
            (polynomial,) = coefficients(method, 0.5, 1)
            with _Counter() as counter:
                coupled_step(gram, identity_like(gram), polynomial)
            found.loc[method, "coupled"] = counter.products
    return found


def _convergence(values: Tensor, steps: int, seed: int) -> pd.DataFrame:
    """:func:`polar_convergence` for the singular values ``values`` ``(n,)``, of which the largest is 1."""
    n = len(values)
    generator = torch.Generator().manual_seed(seed)
    u, v = (
        polar_factor(torch.randn(m * n, generator=generator, dtype=torch.float64).reshape(m, n)) for m in (2 * n, n)
    )
    matrix = u * values @ v.T
    rows = []
    cost = products().matrix.astype(int)
    for method in get_args(Iteration):
        for step, x in enumerate(polar_iterates(matrix, method, steps, values.min().item())):
            error = (torch.linalg.svdvals(x) - 1).abs().max().item()
            rows.append({"method": method, "step": step, "products": cost[method] * step, "error": error})
    return pd.DataFrame(rows)


def spectra(seed: int = 0, n: int = 40) -> dict[str, Tensor]:
    """Twelve different spectra of ``n`` singular values each, the largest 1: spread out, in groups, and random.

    ``seed`` is of the random ones.  They are float64.

    Examples
    --------
    >>> found = spectra()
    >>> len(found), all(values.max() == 1 and values.min() >= 9e-4 for values in found.values())
    (12, True)
    """
    generator = torch.Generator().manual_seed(seed)
    even = torch.linspace(0, 1, n, dtype=torch.float64)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    gaussian = torch.randn(2 * n, n, generator=generator, dtype=torch.float64)
    found = {
        "even, from 0.05": 0.05 + 0.95 * even,
        "even, from 0.5": 0.5 + 0.5 * even,
        "even, from 0.9": 0.9 + 0.1 * even,
        "geometric, from 0.2": 0.2 ** (1 - even),
        "geometric, from 0.01": 0.01 ** (1 - even),
        "geometric, from 0.001": 0.001 ** (1 - even),
        "one of 0.01, the others 1": torch.where(even == 0, 0.01, torch.ones_like(even)),
        "one of 1, the others 0.3": torch.where(even == 1, 1.0, torch.full_like(even, 0.3)),
        "half of 0.1, half of 1": torch.where(even < 0.5, 0.1, torch.ones_like(even)),
        "random, uniform from 0.02": 0.02 + 0.98 * uniform,
        "random, logarithms uniform from 0.001": 0.001 ** (1 - uniform),
        "of a Gaussian matrix": torch.linalg.svdvals(gaussian),
    }
    return {name: values / values.max() for name, values in found.items()}


def convergences(steps: int, seed: int = 0) -> pd.DataFrame:
    """:func:`polar_convergence` for each of :func:`spectra`, whose name is in the column ``spectrum``."""
    parts = [_convergence(values, steps, seed).assign(spectrum=name) for name, values in spectra(seed).items()]
    return pd.concat(parts, ignore_index=True)


class Shape(NamedTuple):
    """A kind of kernel: channels in and out, taps, stride, and the side of the output that it is projected for."""

    c: int
    d: int
    k: int
    stride: int
    size: int

    @property
    def name(self) -> str:
        """Such as ``3 → 64, 3×3`` or ``8 → 16, 3×3, stride 2``."""
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.c} → {self.d}, {self.k}×{self.k}{stride}"


SHAPES: tuple[Shape, ...] = (
    Shape(3, 64, 3, 1, 16),
    Shape(8, 16, 3, 1, 16),
    Shape(8, 8, 3, 1, 16),
    Shape(16, 8, 3, 1, 16),
    Shape(8, 16, 3, 2, 8),
    Shape(64, 128, 1, 1, 16),
    Shape(64, 64, 1, 1, 16),
    Shape(128, 64, 1, 1, 16),
    Shape(64, 128, 1, 2, 8),
)
"""The paper's first transition, then c < d, c = d, c > d and a stride, with several taps and with one."""


def exactness(shapes: Iterable[Shape], passes: Iterable[int], seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How far the singular values of He-initialised kernels are from the target, before the crop and after it.

    Parameters
    ----------
    shapes : iterable of Shape
        The kernels' kinds.
    passes : iterable of int
        Numbers of alternating projections, each from the initial kernel.
    seed : int
        Of the kernels.

    Returns
    -------
    tuple of pd.DataFrame
        Before the crop, after one pass: ``shape``, ``off``, ``seed``.  After it: ``shape``, ``passes``, ``off``,
        ``seed``.  ``off`` is the largest distance of a non-zero singular value from the target, over the target.

    Examples
    --------
    >>> before, after = exactness([Shape(3, 64, 3, 1, 8), Shape(3, 8, 1, 1, 8)], [1, 50])
    >>> bool(before.off.max() < 1e-9), bool(after.off[after.passes == 50].max() < 1e-3)
    (True, True)
    """
    before, after, passes = [], [], tuple(passes)
    for shape in shapes:
        weight = he_kernel(shape.d, shape.c, shape.k, seed)
        # The polar factor at each frequency is what equation 8 asks for, and is as large as the map.
        whole = torch.linalg.svdvals(polar_factor(transfer_matrices(weight, shape.size, shape.stride)))
        before.append({"shape": shape.name, "off": (whole - 1).abs().max().item()})
        for n in passes:
            low, high = spread(project(weight, shape.size, shape.stride, passes=n), shape.size, shape.stride)
            after.append({"shape": shape.name, "passes": n, "off": max(1 - low, high - 1)})
    return pd.DataFrame(before).assign(seed=seed), pd.DataFrame(after).assign(seed=seed)


def alternating(starts: dict[str, Tensor], size: int, passes: Iterable[int], relaxed: bool = True) -> pd.DataFrame:
    """The spread of the singular values after some numbers of alternating projections.

    Columns: ``kernel``, ``passes``, ``lowest``, ``highest``.  Values are over the target and on a feature map of side
    ``size``; 0 passes is the start.  ``relaxed=False`` is the plain iteration: each call of
    :func:`paperlib.projection.project` is on the result of the one before.
    """
    rows = []
    for name, start in starts.items():
        plain, done = start, 0
        for n in sorted(passes):
            if relaxed:
                weight = project(start, size, passes=n) if n else start
            else:
                for _ in range(n - done):
                    plain = project(plain, size)
                weight, done = plain, n
            low, high = spread(weight, size)
            rows.append({"kernel": name, "passes": n, "lowest": low, "highest": high})
    return pd.DataFrame(rows)


def noisy_steps(
    starts: dict[str, Tensor], size: int, noise: float = 0.01, steps: int = 400, seed: int = 0
) -> pd.DataFrame:
    """A stand-in for training: in each step random noise, then one projection as the optimiser's hook does it.

    The noise has ``noise`` times the kernel's norm.  Columns: ``kernel``, ``step``, ``lowest``, ``highest`` (over the
    target), for every tenth step.
    """
    rows, projector = [], Exact("eigh")
    for name, weight in starts.items():
        generator = torch.Generator().manual_seed(seed)
        for step in range(steps + 1):
            if step:
                direction = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                weight = weight + noise * weight.norm() / direction.norm() * direction
                weight, _ = projector(weight, (size, size), stride=1, relu=False)
            if step % 10 == 0:
                low, high = spread(weight, size)
                rows.append({"kernel": name, "step": step, "lowest": low, "highest": high})
    return pd.DataFrame(rows)


def repair(starts: dict[str, Tensor], size: int, noises: Iterable[float], seed: int = 1) -> pd.DataFrame:
    """What one projection repairs of a small random disturbance of norm-preserving kernels.

    Columns: ``kernel``, ``noise`` (over the kernel's norm), ``disturbed`` and ``projected``: the largest distance of a
    singular value from the target, over the target.  (``seed`` should not be one that a kernel was drawn with.)
    """
    rows = []
    for name, start in starts.items():
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(start.shape, generator=generator, dtype=start.dtype)
        for noise in noises:
            weight = start + noise * start.norm() / direction.norm() * direction
            off = {}
            for when, w in (("disturbed", weight), ("projected", project(weight, size))):
                low, high = spread(w, size)
                off[when] = max(1 - low, high - 1)
            rows.append({"kernel": name, "noise": noise} | off)
    return pd.DataFrame(rows)


def energy_by_channels(
    gradients: dict[str, Tensor], channels: Iterable[int], kernels: int = 100, seed: int = 0
) -> pd.DataFrame:
    """How the share of the gradient's energy in a random kernel's row space varies, by the number of input channels.

    Parameters
    ----------
    gradients : dict of str to Tensor, (N, d, h, w)
        Sets of gradients at a convolution's output, each under a name.
    channels : iterable of int
        Numbers of input channels c < d; the kernels are random 1×1 ones from c to d.
    kernels : int
        How many kernels for each c.
    seed : int
        Of the kernels.

    Returns
    -------
    pd.DataFrame
        One row for each name and c: ``gradients``, ``channels``, ``effective_rank``, ``mean`` and ``sd`` (over the
        kernels) of the gradients' energy fraction over c/d, and ``predicted``, the standard deviation that
        :func:`paperlib.energy.relative_sd` gives for that effective rank.
    """
    rows = []
    for name, gradient in gradients.items():
        d = gradient.shape[1]
        # All positions and images together: the fraction depends on their second moment alone.  So d "images" of one
        # pixel, with the same moment, stand for them.
        vectors = gradient.double().transpose(0, 1).flatten(1)
        values, directions = torch.linalg.eigh(vectors @ vectors.T)
        summary = (directions * values.clamp_min(0).sqrt()).T[..., None, None]
        m = effective_rank(gradient)
        for c in channels:
            generator = torch.Generator().manual_seed(seed)
            weights = torch.randn(kernels, d, c, 1, 1, generator=generator, dtype=torch.float64)
            energy = summary.square().sum((1, 2, 3))
            fractions = torch.stack(
                [(energy_fraction(w, summary).nan_to_num() * energy).sum() / energy.sum() for w in weights]
            )
            ratio = fractions * d / c
            rows.append(
                {
                    "gradients": name,
                    "channels": c,
                    "effective_rank": m,
                    "mean": ratio.mean().item(),
                    "sd": ratio.std().item(),
                    "predicted": relative_sd(d, c, m),
                }
            )
    return pd.DataFrame(rows)
