"""What the authors' published code does in place of equation 8, from the formulas.

Their PyTorch repository projects a kernel in ``regularize_conv``.  Five points differ from the paper.  They are
reproduced here, by another and faster route, so that what they change can be measured:

* The spectrum is read back conjugated, so that the projected kernel comes out reversed in space before it is cropped.
* σ is sqrt(d/c), where equation 7 has sqrt(d/min(d, c)).
* There are ten Newton-Schulz steps in float32, from a Gram matrix that is scaled down only if its norm exceeds 1,
  whether they have converged or not.
* There is no factor of sqrt(2) in front of a ReLU (the paper's networks have no ReLU there).
* The projection follows a step with probability 1/2, where the paper has every second step.

The published code also takes the Gram matrix on the output's side, where it is singular, and does so at all n²
frequencies of a 1×1 kernel that has only one matrix.  That costs time and digits, but changes nothing else, and is
left out.  The chapter "Reading the published code" shows each point.

Use it where the paper's projection would be used, to measure against::

    held = NormPreserving(model, projector=published.Projector())
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paperlib import _checks
from paperlib._checks import conv_weight, sides
from paperlib.polar import coupled_step, identity_like

STEPS = 10


class Projector:
    """The published projection for :class:`paperlib.holding.NormPreserving`: which kernel, and after which steps.

    Examples
    --------
    >>> [Projector().due(step, every=2) for step in range(1, 6)]
    [False, False, True, False, False]
    """

    def __call__(self, weight: Tensor, size: tuple[int, int], stride: int, relu: bool) -> tuple[Tensor, Tensor]:
        """The kernel of :func:`project`, which knows neither stride nor ReLU, and whether ``weight`` is finite."""
        return project(weight, size), torch.isfinite(weight).all()

    def due(self, step: int, every: int) -> bool:
        """Whether a projection follows this step: with probability 1/``every``.

        The step's number alone decides, so that a resumed run decides alike.
        """
        return torch.rand((), generator=torch.Generator().manual_seed(step)).item() < 1 / every


@torch.no_grad()
def project(weight: Tensor, size: int | tuple[int, int], conjugated: bool = True) -> Tensor:
    """The kernel that the published code puts in the place of ``weight``.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel: real; computed in its own precision (the published code: float32).
    size : int or tuple of int
        The side or sides of the convolution's output; at least k.
    conjugated : bool
        ``False`` mends the first of the five points alone.

    Returns
    -------
    Tensor, (d, c, kh, kw)
        The projected kernel, in the weight's dtype and on its device; detached.

    Raises
    ------
    ValueError
        For a bad ``weight`` or ``size``.

    Examples
    --------
    >>> w = torch.zeros(4, 4, 3, 3)
    >>> w[:, :, 1, 1] = torch.eye(4)  # already orthogonal
    >>> project(w, 8).abs().max().item() < 1e-6
    True
    >>> torch.allclose(project(w, 8, conjugated=False), w, atol=1e-3)
    True
    """
    _checks.flag("conjugated", conjugated)
    (d, c, kh, kw), (h, w) = conv_weight(weight).shape, sides(size)
    if kh > h or kw > w:
        raise ValueError(f"size {h}x{w} is too small for a {kh}x{kw} kernel: it does not fit on that feature map")
    kernel = weight if weight.dtype == torch.float64 else weight.float()
    if (kh, kw) == (1, 1):
        p = kernel[:, :, 0, 0].to(kernel.dtype.to_complex())[None]
    else:
        p = torch.fft.fft2(kernel, s=(h, w)).permute(2, 3, 0, 1)
    # On either side the same polynomial of the singular values; the smaller side is cheaper and keeps its digits.
    small = p.mH @ p if d >= c else p @ p.mH
    # Their real form of a complex matrix, [[R, I], [-I, R]], has every singular value twice.
    norm = math.sqrt(2) * torch.linalg.matrix_norm(small)[..., None, None]
    scale = torch.where(norm > 1, norm, 1.0)
    y, z = small / scale, identity_like(small)
    for _ in range(STEPS):
        y, z = coupled_step(y, z)
    root = z / scale.sqrt()
    out = math.sqrt(d / c) * (p @ root if d >= c else root @ p)
    if (kh, kw) == (1, 1):  # real, so that the conjugation changes nothing
        return out[0].real[:, :, None, None].to(weight.dtype).contiguous()
    out = torch.fft.ifft2((out.conj() if conjugated else out).permute(2, 3, 0, 1)).real
    return out[..., :kh, :kw].to(weight.dtype).contiguous()
