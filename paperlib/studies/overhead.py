"""Chapter 2's cost: what projecting the transitions adds to a training step, beside textbook projections."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from paperlib.holding import NormPreserving
from paperlib.polar import coupled_step, identity_like
from paperlib.projection import target
from paperlib.training import benchmark_step


def svd_textbook(weight: Tensor, n: int) -> Tensor:
    """Equation 8 by FFT, a complex SVD at each of the n² frequencies, and the crop.

    The shapes are those of :func:`paperlib.projection.project`.
    """
    k = weight.shape[-1]
    p = torch.fft.fft2(weight, s=(n, n)).permute(2, 3, 0, 1)
    u, _, v = torch.linalg.svd(p, full_matrices=False)
    kernel = torch.fft.ifft2((u @ v).permute(2, 3, 0, 1)).real[..., :k, :k]
    return target(weight.shape) * kernel


def newton_schulz_textbook(weight: Tensor, n: int, steps: int = 10) -> Tensor:
    """Equations 8 and 9 taken literally.

    That is Newton-Schulz at all n² frequencies, on the real form of the Gram matrix on the output's side, and the
    crop.  The shapes are those of :func:`paperlib.projection.project`.

    Examples
    --------
    >>> weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(newton_schulz_textbook(weight, 8), svd_textbook(weight, 8), atol=0.05)
    True
    """
    (d, c), k = weight.shape[:2], weight.shape[-1]
    p = torch.fft.fft2(weight, s=(n, n)).permute(2, 3, 0, 1).reshape(n * n, d, c)
    real = torch.cat([torch.cat([p.real, -p.imag], 2), torch.cat([p.imag, p.real], 2)], 1)
    gram = real @ real.mT
    scale = torch.linalg.matrix_norm(gram)[:, None, None]
    y, z = gram / scale, identity_like(gram)
    for _ in range(steps):
        y, z = coupled_step(y, z)
    out = (z / scale.sqrt()) @ real
    p = torch.complex(out[:, :d, :c], out[:, d:, :c]).reshape(n, n, d, c)
    return target(weight.shape) * torch.fft.ifft2(p.permute(2, 3, 0, 1)).real[..., :k, :k]


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


def disturb(held: NormPreserving) -> None:
    """Move each held kernel by 1 % of its norm, as an optimiser's step does: near the target, but not on it."""
    with torch.no_grad():
        for _, conv, _ in held.convs:
            w = conv.weight
            w += 0.01 * w.norm() / math.sqrt(w.numel()) * torch.randn_like(w)


def overhead(depth: int = 164, batch_size: int = 128, rounds: int = 5) -> pd.DataFrame:
    """A training step of a ProcResNet, and projecting its three transitions by this library and by the textbook.

    The four take turns; the first two, which take least, are run once before.  They run on a CUDA device where there
    is one.

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
        Columns: ``round``, and in seconds ``step``, ``library``, ``svd`` and ``newton-schulz``.
    """
    step = benchmark_step("procresnet", depth, *random_batch(batch_size))
    held = NormPreserving(step.model)
    kernels = [(conv.weight.detach().clone(), size[0]) for _, conv, size in held.convs]

    calls: dict[str, Callable[[], object]] = {
        "step": step,
        "library": held.project,
        "svd": lambda: [svd_textbook(w, n) for w, n in kernels],
        "newton-schulz": lambda: [newton_schulz_textbook(w, n) for w, n in kernels],
    }
    step()
    held.project()
    rows: list[dict[str, float]] = []
    for i in range(rounds):
        disturb(held)
        rows.append({"round": i} | {name: seconds(call) for name, call in calls.items()})
    return pd.DataFrame(rows)
