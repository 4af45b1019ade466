"""What the authors' published code does in place of equation 8 (``regularize_conv`` in their PyTorch repository),
from the formulas.

Five points differ from the paper.  They are reproduced here, so that what they change can be measured, by another and
faster route:

* the spectrum is read back conjugated, so that the projected kernel comes out reversed in space before it is cropped;
* σ is sqrt(d/c), where equation 7 has sqrt(d/min(d, c));
* ten Newton-Schulz steps in float32, from a Gram matrix that is scaled down only if its norm exceeds 1, whether they
  have converged or not;
* no factor of sqrt(2) in front of a ReLU (the paper's networks have none there);
* the projection follows a step with probability 1/2, where the paper has every second step.

It also takes the Gram matrix on the output's side, where it is singular, at all n² frequencies of a 1×1 kernel that
has one; that costs time and digits, but changes nothing else, and is left out.  Chapter "Reading the reference
implementation" shows each point.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paperlib.spectrum import check_weight, sides

STEPS = 10


def turn(step: int, every: int) -> bool:
    """Whether the projection follows this step: with probability 1/``every``, decided by the step's number alone, so
    that a resumed run decides alike."""
    return torch.rand((), generator=torch.Generator().manual_seed(step)).item() < 1 / every


@torch.no_grad()
def project_as_published(weight: Tensor, size: int | tuple[int, int], conjugated: bool = True) -> Tensor:
    """The kernel that the published code puts in the place of ``weight``.

    Parameters
    ----------
    weight : ``(d, c, kh, kw)``, real; computed in its own precision (the published code: float32).
    size : side or sides of the convolution's output; at least k.
    conjugated : ``False`` mends the first point alone.

    Returns
    -------
    Tensor of ``weight``'s shape, dtype and device; detached.

    Raises
    ------
    ValueError : a bad ``weight`` or ``size``.

    Examples
    --------
    >>> w = torch.zeros(4, 4, 3, 3)
    >>> w[:, :, 1, 1] = torch.eye(4)  # already orthogonal
    >>> project_as_published(w, 8).abs().max().item() < 1e-6
    True
    >>> torch.allclose(project_as_published(w, 8, conjugated=False), w, atol=1e-3)
    True
    """
    check_weight(weight)
    (h, w), (d, c, kh, kw) = sides(size), weight.shape
    if kh > h or kw > w:
        raise ValueError(f"a {kh}x{kw} kernel does not fit on a {h}x{w} feature map")
    if (kh, kw) == (1, 1):
        p = weight[:, :, 0, 0].to(torch.complex64 if weight.dtype != torch.float64 else torch.complex128)[None]
    else:
        p = torch.fft.fft2(weight if weight.dtype == torch.float64 else weight.float(), s=(h, w)).permute(2, 3, 0, 1)
    # On either side the same polynomial of the singular values; the smaller side is cheaper and keeps its digits.
    small = p.mH @ p if d >= c else p @ p.mH
    # Their real form of a complex matrix, [[R, I], [-I, R]], has every singular value twice.
    norm = math.sqrt(2) * torch.linalg.matrix_norm(small)[..., None, None]
    scale = torch.where(norm > 1, norm, 1.0)
    one = torch.eye(small.shape[-1], dtype=small.dtype, device=small.device)
    y, z = small / scale, one.expand_as(small)
    for _ in range(STEPS):
        t = 0.5 * (3 * one - z @ y)
        y, z = y @ t, t @ z
    root = z / scale.sqrt()
    out = math.sqrt(d / c) * (p @ root if d >= c else root @ p)
    if (kh, kw) == (1, 1):  # real, so that the conjugation changes nothing
        return out[0].real[:, :, None, None].to(weight.dtype).contiguous()
    out = torch.fft.ifft2((out.conj() if conjugated else out).permute(2, 3, 0, 1)).real
    return out[..., :kh, :kw].to(weight.dtype).contiguous()
