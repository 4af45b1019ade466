"""Where the gradient's energy is: the assumption behind the target singular value (equation 7), to be measured.

A convolution with more outputs than inputs passes on only the part of its output's gradient that lies in a subspace:
at each frequency, of r of d dimensions (:func:`paperlib.projection.rank`).  σ² = d/r keeps the gradient's norm if
that part has r/d of the energy.  It has on average, if gradients point everywhere alike.  Gradients of one layer are
correlated, though, and have energy in few directions; how much of *these* the subspace happens to hold then varies
from kernel to kernel (:func:`relative_sd`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib import _checks
from paperlib._checks import conv_weight, finite
from paperlib.spectrum import half_weights, polyphase, transfer_matrices
from paperlib.trunk import outputs_on


@torch.no_grad()
def energy_fraction(weight: Tensor, gradient: Tensor, stride: int | tuple[int, int] = 1) -> Tensor:
    """The share of each gradient's energy that the convolution passes back to its input.

    It is the squared norm of the gradient's part outside of the adjoint's null space, over its squared norm, for
    circular padding; zero padding differs at the border only.  Equation 7 assumes r/d.

    Parameters
    ----------
    weight : Tensor, (d, c, kh, kw)
        The kernel, real.
    gradient : Tensor, (N, d, h, w)
        The loss's gradient at the convolution's **output**, real.
    stride : int or (int, int)
        The convolution's stride, the same both ways.

    Returns
    -------
    Tensor, (N,), float64
        The shares, between 0 and 1; NaN for a zero gradient.

    Raises
    ------
    ValueError
        For shapes that do not belong together, a bad stride, a weight that is not finite, or a complex gradient.

    Examples
    --------
    >>> w, g = torch.randn(64, 16, 1, 1), torch.randn(500, 64, 4, 4)
    >>> round(energy_fraction(w, g).mean().item(), 2)  # isotropic gradients: 16 / 64
    0.25
    """
    weight = conv_weight(weight)
    if isinstance(gradient, Tensor) and gradient.is_complex():
        raise ValueError("gradient must be real, not complex")
    _checks.real_tensor("gradient", gradient, "(N, d, h, w)")
    if gradient.shape[1] != weight.shape[0]:
        raise ValueError(
            f"gradient must be (N, {weight.shape[0]}, h, w) for this weight, not of shape {tuple(gradient.shape)}"
        )
    finite(weight)
    gradient = gradient.double()
    whole = gradient.square().sum((1, 2, 3))
    kernel, (h, w) = polyphase(weight.double(), stride), gradient.shape[2:]
    pointwise = kernel.shape[2:] == (1, 1)  # the same row space at every frequency, hence at every pixel
    # torch's convolution is a correlation: at (u, v) it acts by the conjugate of the kernel's transform.
    matrices = kernel[:, :, 0, 0] if pointwise else transfer_matrices(weight.double(), (h, w), stride).conj()
    if _onto(matrices):  # nothing is lost, whatever the gradient
        return whole / whole
    basis = _range(matrices)
    if pointwise:
        passed = torch.einsum("dr,ndhw->nrhw", basis, gradient).square().sum((1, 2, 3))
    else:
        spectrum = torch.fft.rfft2(gradient, norm="ortho").permute(2, 3, 1, 0)  # h, w//2+1, d, N
        passed = ((basis.mH @ spectrum).abs().square().sum(2) * half_weights(w, gradient)[:, None]).sum((0, 1))
    return passed / whole


def _onto(matrices: Tensor) -> bool:
    """Whether the range of each matrix is the whole space; the values alone take a third of an SVD's time."""
    return matrices.shape[-2] <= matrices.shape[-1] and bool(_positive(torch.linalg.svdvals(matrices)).all())


def _range(matrices: Tensor) -> Tensor:
    """An orthonormal basis of each matrix's range; columns of zeros where the rank is lower."""
    left, values, _ = torch.linalg.svd(matrices, full_matrices=False)
    return left * _positive(values).unsqueeze(-2)


def _positive(values: Tensor) -> Tensor:
    """Which singular values count as more than zero, beside the largest of all."""
    return values > 1e-7 * values.max()


@torch.no_grad()
def effective_rank(gradient: Tensor) -> float:
    """How many directions in channel space the gradients use: (Σλ)² / Σλ² over the eigenvalues of their second moment.

    This participation ratio is d for isotropic gradients, and 1 if all are multiples of one another.

    Parameters
    ----------
    gradient : Tensor, (N, d, h, w)
        The gradients.  Every position of every image counts as one vector of d numbers.

    Returns
    -------
    float
        The effective rank, between 1 and d; NaN if all gradients are zero or one is not finite.

    Raises
    ------
    ValueError
        For another number of dimensions.

    Examples
    --------
    >>> round(effective_rank(torch.randn(100, 8, 16, 16)), 1), round(effective_rank(torch.ones(4, 8, 2, 2)), 1)
    (8.0, 1.0)
    """
    _checks.real_tensor("gradient", gradient, "(N, d, h, w)")
    vectors = gradient.double().transpose(0, 1).flatten(1)
    moment = vectors @ vectors.T
    ratio = (moment.trace().square() / moment.square().sum()).item()
    return min(max(ratio, 1.0), float(len(moment))) if math.isfinite(ratio) else math.nan  # in its range after rounding


def relative_sd(d: int, r: int, gradient_rank: float = 1.0) -> float:
    """How much the energy fraction varies over random r-dimensional subspaces of d dimensions: its standard deviation
    over its mean r/d.

    It is sqrt(2 (d-r) (d-m) / (r m (d-1) (d+2))), where m is the ``gradient_rank``: zero for isotropic gradients
    (m = d), and largest for one direction (m = 1).  This is exact for a uniformly random subspace and gradients whose
    second moment has the participation ratio m (:func:`effective_rank`), whatever its eigenvalues [derived: the
    variance of tr ΠM over random projections Π].

    Parameters
    ----------
    d : int
        The number of dimensions.
    r : int
        The dimension of the subspace, from 1 to d.
    gradient_rank : float
        The effective rank m of the gradients, from 1 to d.

    Returns
    -------
    float
        The relative standard deviation.

    Raises
    ------
    ValueError
        For ``r`` or ``gradient_rank`` outside of 1 to d.

    Examples
    --------
    >>> f"{relative_sd(64, 3):.2f}, {relative_sd(128, 64):.2f}"
    '0.78, 0.12'
    """
    _checks.whole_number("d", d)
    _checks.number("r", r)
    _checks.number("gradient_rank", gradient_rank)
    if not (1 <= r <= d and 1 <= gradient_rank <= d):
        raise ValueError(f"r and gradient_rank must be between 1 and d, not {r!r} and {gradient_rank!r} with d = {d!r}")
    if d == 1:
        return 0.0
    return math.sqrt(2 * (d - r) * (d - gradient_rank) / (r * gradient_rank * (d - 1) * (d + 2)))


def output_gradients(model: nn.Module, images: Tensor, labels: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """The gradient of the cross-entropy at the outputs of some of the model's modules, for one batch.

    Parameters
    ----------
    model : nn.Module
        A classifier.  A copy of it is used, in training mode, so that neither weights nor running averages change.
    images : Tensor, (N, channels, H, W)
        A batch, as the model takes it.
    labels : Tensor, (N,), int64
        Its labels.
    names : iterable of str
        Names of submodules (``model.named_modules()``) that return one tensor.

    Returns
    -------
    dict of str to Tensor
        For each name the gradient, of the output's shape.

    Raises
    ------
    ValueError
        For a name that is not there, or a module that the loss does not depend on.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(32, 10))
    >>> output_gradients(net, torch.randn(5, 3, 2, 2), torch.zeros(5, dtype=torch.long), ["0"])["0"].shape
    torch.Size([5, 8, 2, 2])
    """
    _checks.module("model", model)
    _checks.real_tensor("images", images, "(..., N)")
    _checks.labels("labels", labels)
    names = _checks.items("names", names, "names of submodules")
    model = copy.deepcopy(model).train()
    modules = dict(model.named_modules())
    if missing := [name for name in names if not isinstance(name, str) or name not in modules]:
        raise ValueError(
            f"{type(model).__name__} has no submodule {_checks.shown(missing[0])}: names must be in named_modules()"
        )
    gradients: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        # A hook on the tensor, registered at once: it sees the gradient of this very value even if it is changed in
        # place later.
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            output.register_hook(lambda g: gradients.__setitem__(name, g.detach()))

        return keep

    hooks = [modules[name].register_forward_hook(watch(name)) for name in names]
    try:
        with torch.enable_grad():
            outputs = outputs_on(model, (images.detach().requires_grad_(),), {}, [images], "images")
            if len(outputs) != len(labels) or not bool(((labels >= 0) & (labels < outputs.shape[-1])).all()):
                raise ValueError(f"labels must be {len(outputs)} of the {outputs.shape[-1]} classes of the model")
            F.cross_entropy(outputs, labels).backward()
    finally:
        for hook in hooks:
            hook.remove()
    if missing := [name for name in names if name not in gradients]:
        raise ValueError(f"the loss does not depend on the output of {missing[0]!r}")
    return {name: gradients[name] for name in names}
