r"""Convolutions that keep the norm exactly: their weight is made from free parameters, and can be no other.

The paper's projection (:mod:`paperlib.projection`) crops a kernel to its taps, and what it crops takes the singular
values away from the target again.  Where the number of channels does not change they never arrive.  Here the kernel is
a product of factors that each keep the norm, and nothing is cropped.  It is the block convolution orthogonal
parametrisation (BCOP) of [Li2019]_, which goes back to [Kautsky1994]_, with the stride and the numbers of channels of
adaptive orthogonal convolution (AOC) [Boissin2025]_.

**The factors.**  At a frequency let z, a complex number of size 1, stand for the shift by one pixel.  P is an
orthogonal projection, a symmetric matrix with P² = P.  Then P + z (1-P), a kernel of two taps, is unitary, because P
and 1-P act on subspaces that are orthogonal to one another.  The product V of such factors, kh - ph along one side and
kw - pw along the other, is unitary, too.  It leads from e channels to e.  Behind it stands one matrix H, whose rows or
columns are orthonormal, and which reads a block of ph×pw taps, p = ph·pw of them in each channel.  With a stride s,
ph = min(kh, s) and pw = min(kw, s), so that blocks do not overlap and H, as a convolution, has the singular values of
the matrix.  The composition HV is a kernel with kh×kw taps.

**Why it is exact**, for c channels in, d channels out and e = max(c, ⌊d/p⌋) between V and H:

* d ≤ p·c: then e = c, and H has d orthonormal rows.  (HV)(HV)ᴴ = HHᴴ = 1: all d singular values are 1.
* d > p·c: then p·e ≤ d, and H has p·e orthonormal columns.  So has HV.  The image has c ≤ e channels, which see p·c of
  these columns: p·c singular values are 1.
* k ≤ s: along that side there are no factors.  If there are none at all, e = c is enough for either case.  For k < s,
  pixels that no tap reads only add singular values of 0.

Always as many are 1 as the paper's target counts (:func:`paperlib.projection.rank`).  It is so at every frequency
and therefore on a map of any size.

**The matrices.**  A QR decomposition turns any matrix of n rows and ⌊n/2⌋ columns into a projection QQᵀ.  H consists of
rows or columns of the n×n matrix (1-2P₁)(1-2P₂).  Two reflections make a rotation of a plane, so that for every n these
are all rotations.  There is no iteration and nothing that has to converge.

.. [Kautsky1994] Kautsky, Turcajová: *A matrix approach to discrete wavelets*, Wavelet Analysis and Its Applications 5,
   1994.
.. [Li2019] Li et al.: *Preventing gradient attenuation in Lipschitz constrained convolutional networks*, NeurIPS 2019.
.. [Boissin2025] Boissin et al.: *An adaptive orthogonal convolution scheme for efficient and flexible CNN
   architectures*, ICML 2025.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from paperlib import _checks
from paperlib._checks import conv_weight
from paperlib.geometry import has_own_forward
from paperlib.projection import target


class _Form(NamedTuple):
    """What a kernel is made of, see the module."""

    inner: int  # the channels e between V and H
    block: tuple[int, int]  # the taps that H reads, ph and pw
    factors: tuple[tuple[int, bool], ...]  # of V: along which side, and whether it is the second of a pair


def _form(shape: tuple[int, ...], stride: int) -> _Form:
    d, c, kh, kw = shape
    block = min(kh, stride), min(kw, stride)
    missing = kh - block[0], kw - block[1]
    # By pairs, because two factors with complementary projections are a shift, which is how the kernel starts.
    factors = tuple(
        (side, bool(second))
        for done in range(0, max(missing), 2)
        for side in (0, 1)
        for second in range(min(2, missing[side] - done))
    )
    return _Form(max(c, d // math.prod(block)) if factors else c, block, factors)


def _start(form: _Form, d: int, groups: int, like: Tensor) -> tuple[Tensor, ...]:
    """Random parameters of a delta-orthogonal kernel, like the tensor ``like``.

    ``(groups, 2, n, ⌊n/2⌋)`` for H, and ``(groups, factors, e, ⌊e/2⌋)`` for V if that is not empty.
    """

    def orthonormal(count: int, n: int) -> Tensor:
        return torch.linalg.qr(torch.randn(groups, count, n, n // 2, dtype=torch.float64))[0]

    found = [orthonormal(2, max(d, form.inner * math.prod(form.block)))]
    if form.factors and form.inner > 1:
        shifts = orthonormal(len(form.factors), form.inner)
        for i, (_, second) in enumerate(form.factors):
            if second:
                shifts[:, i] = shifts[:, i - 1]
        found.append(shifts)
    return tuple(x.to(like).contiguous() for x in found)  # FSDP2 takes no other


def _projections(bases: Tensor) -> Tensor:
    """The orthogonal projection to the span of the columns of each matrix: ``(..., n, r)`` to ``(..., n, n)``."""
    q = torch.linalg.qr(bases)[0]
    return q @ q.mT


def _lengthened(kernel: Tensor, projection: Tensor, side: int, second: bool) -> Tensor:
    """The kernel ``(groups, h, w, outer, inner)`` behind P + z (1-P), or zP + (1-P) for the ``second`` of a pair."""
    kept = (kernel.flatten(1, 3) @ projection).view_as(kernel)
    moved = kernel - kept
    if second:
        kept, moved = moved, kept
    other = [0] * (6 - 2 * side)  # of the axes behind the one that grows
    return F.pad(kept, [*other, 0, 1]) + F.pad(moved, [*other, 1, 0])


class _NormPreservingKernel(nn.Module):
    """The parametrisation: from the parameters of H and V to the kernel, see the module."""

    def __init__(self, weight: Tensor, groups: int, stride: int, sigma: float) -> None:
        super().__init__()
        self.groups, self.stride, self.sigma = groups, stride, sigma
        self.shape = (weight.shape[0] // groups, *weight.shape[1:])
        self.form = _form(self.shape, stride)
        self.start: tuple[Tensor, ...] | None = _start(self.form, self.shape[0], groups, weight)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, groups={self.groups}, singular values={self.sigma:.4g}"

    def get_extra_state(self) -> Tensor:
        """The singular values, which the parameters do not have; in float64, whatever the model's dtype."""
        return torch.tensor(self.sigma, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the singular values of another layer with its parameters."""
        self.sigma = float(state)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        if self.start is None:
            raise ValueError(
                "a kernel cannot be assigned to a weight that `orthogonal` makes: load its parameters with "
                "load_state_dict, or call torch.nn.utils.parametrize.remove_parametrizations first"
            )
        start, self.start = self.start, None
        return start

    def forward(self, planes: Tensor, shifts: Tensor | None = None) -> Tensor:
        _checks.whole("the kernel", planes)
        # Other accelerators lack float64; a kernel is small enough to go to the CPU and back.
        device = planes.device if planes.device.type in ("cpu", "cuda") else torch.device("cpu")
        matrix = self._matrix(planes.to(device).double())
        if shifts is None:  # one channel, which has no other projection than 0
            shifts = planes.new_zeros(self.groups, len(self.form.factors), 1, 0)
        projections = _projections(shifts.to(device).double())
        c, e = self.shape[1], self.form.inner
        # From the side with fewer channels, for there are fewer products then.
        kernel = matrix.permute(0, 3, 4, 1, 2).contiguous() if e == c else self._image_channels(matrix)
        for i, (side, second) in enumerate(self.form.factors):
            kernel = _lengthened(kernel, projections[:, i], side, second)
        if e == c:
            kernel = kernel.permute(0, 3, 4, 1, 2).flatten(0, 1)
        else:
            behind = matrix.transpose(1, 2).flatten(0, 1)
            kernel = kernel.permute(3, 0, 4, 1, 2).flatten(1, 2)
            kernel = F.conv_transpose2d(kernel, behind, groups=self.groups).transpose(0, 1)
        return (self.sigma * kernel).to(planes.dtype).contiguous().to(planes.device)

    def _image_channels(self, like: Tensor) -> Tensor:
        """The first c of e channels, as a kernel of one tap: ``(groups, 1, 1, c, e)``."""
        c, e = self.shape[1], self.form.inner
        return torch.eye(c, e, dtype=like.dtype, device=like.device).expand(self.groups, 1, 1, c, e)

    def _matrix(self, planes: Tensor) -> Tensor:
        """H as a kernel: ``(groups, d, e, ph, pw)``."""
        rows, columns = self.shape[0], self.form.inner * math.prod(self.form.block)
        few = min(rows, columns)
        first, second = torch.linalg.qr(planes)[0].unbind(1)
        matrix = torch.eye(few, planes.shape[-2], dtype=planes.dtype, device=planes.device)
        matrix = matrix - 2 * first[:, :few] @ first.mT
        matrix = matrix - 2 * (matrix @ second) @ second.mT
        matrix = matrix if rows <= columns else matrix.mT
        return matrix.reshape(self.groups, rows, self.form.inner, *self.form.block)


def _convolution(layer: nn.Module, name: str) -> nn.Conv2d:
    """``layer``, if its kernel ``name`` can be made norm-preserving; ValueError with the reason if not."""
    if not isinstance(layer, nn.Conv2d):
        raise ValueError(f"layer must be an nn.Conv2d, not {type(layer).__name__}")
    if isinstance(getattr(layer, name, None), Tensor) and name not in layer._parameters:
        raise ValueError(f"{name} is made anew before each call already: remove that parametrisation or pruning first")
    weight = layer._parameters.get(name)
    if weight is None:
        raise ValueError(f"{type(layer).__name__} has no parameter {_checks.shown(name)}: its kernel is 'weight'")
    if is_lazy(weight):
        raise ValueError(f"{name} has no shape yet: run the lazy layer on a batch first")
    if _checks.sharded(weight):
        raise ValueError(f"{name} is sharded over processes (a DTensor): make the layer orthogonal before fully_shard")
    conv_weight(weight)
    if has_own_forward(layer, nn.Conv2d):
        raise ValueError(
            f"{type(layer).__name__} has a forward pass of its own, so it need not be the convolution with its weight"
        )
    stride, dilation = layer.stride, layer.dilation
    if stride[0] != stride[1]:
        raise ValueError(f"the stride {stride} differs in the two directions: the target knows one stride for both")
    if max(stride) > 1 and max(dilation) > 1 and max(weight.shape[2:]) > 1:
        raise ValueError(
            f"a stride {stride} with a dilation {dilation} reads some pixels several times and others never: "
            "set one of them to 1"
        )
    d, c, kh, kw = weight.shape[0] // layer.groups, *weight.shape[1:]
    if d * c * min(kh, stride[0]) * min(kw, stride[0]) == 1:
        raise ValueError(
            "with one channel in and one out (of each group) only a kernel of a single pixel preserves the norm, and "
            "nothing of it could be trained: take a frozen delta_orthogonal kernel"
        )
    return layer


def orthogonal(layer: nn.Conv2d, name: str = "weight", relu: bool = False, scale: float = 1.0) -> nn.Conv2d:
    """Make the kernel of a convolution norm-preserving, exactly and whatever its parameters become.

    From now on ``layer.weight`` is computed from parameters of its own each time that it is used.  As a circular
    convolution on a map of any size all its non-zero singular values are the paper's target
    (:func:`paperlib.projection.target`): to 1e-12 in float64, to 1e-6 in float32, and otherwise to the rounding of
    its dtype.  With zero padding, which leaves a part of that operator on a larger map, none is above the target and
    some are below.  (Other paddings repeat pixels, and may exceed it.)  This holds for every number of channels, also
    for c = d, where :func:`paperlib.projection.project` stalls, for every kernel size and stride, and in each of
    several groups.

    It is a parametrisation of ``torch.nn.utils.parametrize``, and does what those do.  Any optimiser trains it, if it
    is made afterwards and gets the new ``layer.parameters()``.  ``parametrize.cached()`` computes a weight once for
    several uses, and ``parametrize.remove_parametrizations(layer, "weight")`` leaves an ordinary convolution with the
    weight of that moment.  torch lets a deep copy share its class with the original, so that this breaks the other one:
    for a plain copy, copy ``layer.weight`` into a convolution that was never parametrised.

    What the layer's weight was is given up, because a trained kernel cannot be written in this way.  The start is
    random and delta-orthogonal, as :func:`paperlib.projection.delta_orthogonal` is: one matrix in the middle, where
    padding does no harm.  (If k > s and k - s is odd, there are two taps in the middle.)  Only the span of the columns
    of a parameter counts, not their length, so that weight decay changes how fast the layer learns, and not what.

    Parameters
    ----------
    layer : nn.Conv2d
        The convolution, on any device and in any real dtype; it is changed in place.
    name : str
        The kernel's name in ``layer``.
    relu : bool
        Whether a ReLU follows directly, see :func:`paperlib.projection.target`.
    scale : float
        The singular values over the target, above 0.

    Returns
    -------
    nn.Conv2d
        The layer.

    Raises
    ------
    ValueError
        For anything but an ``nn.Conv2d``, or a subclass with the same forward pass, with a trainable or frozen real
        kernel; for a kernel that is parametrised or pruned already; for a stride that differs in the two directions,
        or comes with a dilation; for one channel in and one out, whose norm-preserving kernels have nothing to train;
        for a ``scale`` that is not above 0.  Also when a kernel is assigned to ``layer.weight`` later.
    KeyError
        By torch, as for each of its parametrisations, when an ``nn.Parameter`` is assigned to ``layer.weight`` later.
        For a kernel of one's own call ``parametrize.remove_parametrizations(layer, "weight")`` first; the layer is an
        ordinary convolution again, and takes it.

    Notes
    -----
    The kernel is always computed in float64; for a device that lacks it, on the CPU.  The construction and its proof
    are at the head of this module.

    Examples
    --------
    >>> from paperlib.projection import project, spread
    >>> conv = nn.Conv2d(16, 16, 3, padding=1)
    >>> spread(project(conv.weight, 8, passes=50), 8)[0] < 0.5
    True
    >>> conv = orthogonal(conv)
    >>> optimizer = torch.optim.Adam(conv.parameters(), lr=0.1)
    >>> conv(torch.randn(4, 16, 8, 8)).relu().sum().backward()
    >>> optimizer.step()
    >>> [round(x, 5) for x in spread(conv.weight, 8)]
    [1.0, 1.0]
    """
    weight = getattr(_convolution(layer, name), name)
    scale = _checks.number("scale", scale, above=0)
    shape = (weight.shape[0] // layer.groups, *weight.shape[1:])
    sigma = scale * target(shape, layer.stride[0], relu)
    kernel = _NormPreservingKernel(weight, layer.groups, layer.stride[0], sigma)
    parametrize.register_parametrization(layer, name, kernel)
    return layer
