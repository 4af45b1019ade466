"""Corollary 1: how much a residual block can change the gradient's norm, from the norms of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from paperlib import _checks
from paperlib.geometry import convolution
from paperlib.models import Bottleneck
from paperlib.spectrum import operator_norm, operator_norm_bound

Module = TypeVar("Module", bound=nn.Module)

# max |ρ'|; those of the smooth ones, where the maximum has no closed form, to ten digits [derived: maximised here].
# torch's hard sigmoid has 1/6 rounded to float32, upwards.
_SLOPES: dict[type[nn.Module], float] = {
    nn.Identity: 1, nn.Flatten: 1, nn.ReLU: 1, nn.ReLU6: 1, nn.Hardtanh: 1, nn.Tanh: 1, nn.Softplus: 1, nn.Softsign: 1,
    nn.LogSigmoid: 1, nn.Sigmoid: 0.25, nn.Hardsigmoid: 0.1666666716337204, nn.Hardswish: 1.5, nn.SiLU: 1.0998393201,
    nn.Mish: 1.0884981613, nn.SELU: 1.0507009873554805 * 1.6732632423543772,
}  # fmt: skip


def corollary_bound(
    block: nn.Module | Sequence[nn.Module], size: int | tuple[int, int] | None = None, certified: bool = False
) -> Tensor:
    """Corollary 1: δ of a residual block x + F_l(x), from its weights alone: the product of its layers' norms.

    For W₂ ρ(W₁ x) it is c_ρ ‖W₁‖ ‖W₂‖; every further activation adds its own largest slope, every further layer its
    norm.  At any input, each singular value of the block's derivative is within δ of 1.

    Parameters
    ----------
    block : nn.Module or sequence of nn.Module
        The *branch* F_l: an ``nn.Sequential`` (nested ones too) or a sequence of modules, or one of this library's
        bottlenecks with an identity skip.  Known are linear layers; 2-D convolutional layers that keep the feature
        map's size, with any groups, dilation and padding; batch norm and dropout in evaluation mode; layer and group
        norm, whose norm, the largest size of a weight over sqrt(eps), is reached at inputs without variance and is far
        too large at others; and torch's elementwise activations.
    size : int or tuple of int, optional
        The side (or sides) of the feature map; needed where there is a convolution.
    certified : bool
        Bound the norm of a convolution that is not circular from above in closed form instead of computing it by an
        iteration, which approaches it from below (to about nine digits).

    Returns
    -------
    Tensor, ()
        The bound, differentiable in the weights.

    Raises
    ------
    ValueError
        For a module that is not known (a subclass with a ``forward`` of its own is not), or not for this corollary;
        for layers that do not fit each other or a skip; for weights that are not finite or are made anew before each
        call; if a convolution has no ``size``; and for batch norm in training mode, whose slope depends on the batch.

    Examples
    --------
    >>> w = torch.eye(4)
    >>> block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    >>> _ = block[0].weight.data.copy_(0.5 * w), block[2].weight.data.copy_(0.1 * w)
    >>> f"{corollary_bound(block).item():.3f}"
    '0.050'
    """
    _checks.flag("certified", certified)
    if size is not None:
        _checks.sides(size)
    if isinstance(block, Bottleneck):
        if not block.identity:
            raise ValueError("corollary 1 is about blocks with an identity skip: this one has none")
        block = block.branch()
    modules = list(_leaves(block))
    _check_widths(modules)
    bound: Tensor | float = 1.0
    for m in modules:
        bound = bound * _norm(m, size, certified)
    if not any(_is(m, nn.Linear) or _is(m, nn.Conv2d) for m in modules):
        raise ValueError("the block has no linear or convolutional layer")
    return torch.as_tensor(bound)


def _is(m: nn.Module, kind: type[Module]) -> TypeGuard[Module]:
    """Whether ``m`` is of that kind and computes what it computes: a subclass with a ``forward`` of its own may not."""
    return isinstance(m, kind) and type(m).forward is kind.forward


def _leaves(block: Any) -> Iterator[nn.Module]:
    """The modules in sequences, however nested; what else there is, :func:`_norm` refuses by name."""
    if isinstance(block, list | tuple) or _is(block, nn.Sequential):
        for m in block:
            yield from _leaves(m)
    else:
        yield block


def _check_widths(modules: Sequence[nn.Module]) -> None:
    """Raise ``ValueError`` unless each layer takes what the one before returns, and the first what the last returns."""
    taken = width = None  # of the layers since a flattening, which hides how many there are
    for m in modules:
        if _is(m, nn.Flatten):
            taken = width = None
        if _is(m, nn.Linear):
            takes, returns = m.in_features, m.out_features
        elif _is(m, nn.Conv2d):
            takes, returns = m.in_channels, m.out_channels
        else:
            continue
        if width is not None and takes != width:
            raise ValueError(f"{m} takes {takes} numbers or channels, and the layer before it returns {width}")
        taken, width = takes if taken is None else taken, returns
    if taken != width:
        raise ValueError(
            f"the block takes {taken} numbers or channels and returns {width}: with an identity skip they must be "
            "as many"
        )


def _norm(m: nn.Module, size: int | tuple[int, int] | None, certified: bool) -> Tensor | float:
    """The Lipschitz constant of one layer."""
    if _is(m, nn.Linear):
        return torch.linalg.matrix_norm(_weight(m), 2)
    if _is(m, nn.Conv2d):
        return _convolution_norm(m, size, certified)
    if _is(m, nn.BatchNorm1d) or _is(m, nn.BatchNorm2d):
        if m.training or m.running_var is None:
            raise ValueError("batch norm in training mode depends on the batch: call block.eval() first")
        scale = (m.running_var + m.eps).rsqrt()
        return (scale if m.weight is None else m.weight * scale).abs().max()
    if _is(m, nn.LayerNorm) or _is(m, nn.GroupNorm):
        # The derivative at an input without variance; anywhere else it is smaller.
        return (1.0 if m.weight is None else m.weight.abs().max()) / math.sqrt(m.eps)
    if _is(m, nn.Dropout) or _is(m, nn.Dropout2d):
        if m.training:
            raise ValueError("dropout in training mode is drawn anew in each call: call block.eval() first")
        return 1.0
    return _slope(m)


def _weight(m: nn.Linear | nn.Conv2d) -> Tensor:
    """The weight of a layer, at least in float32; ``ValueError`` if it is not finite or not the layer's own."""
    if "weight" not in m._parameters and not is_parametrized(m, "weight"):
        raise ValueError(
            f"the weight of {m} is made anew before each call (pruning, or the old weight_norm or spectral_norm): "
            "remove that, or use torch.nn.utils.parametrizations"
        )
    if not bool(torch.isfinite(m.weight).all()):
        raise ValueError(f"the weight of {m} holds NaN or infinite values: it has no norm")
    return m.weight if m.weight.dtype == torch.float64 else m.weight.float()


def _convolution_norm(m: nn.Conv2d, size: int | tuple[int, int] | None, certified: bool) -> Tensor:
    if size is None:
        raise ValueError("a convolution's norm depends on the feature map: give its side as size")
    _weight(m)
    if convolution(m, size).size != _checks.sides(size):
        raise ValueError(f"{m} does not keep the feature map's size: a block with an identity skip needs that")
    return operator_norm_bound(m, input_size=size) if certified else operator_norm(m, input_size=size)


def _slope(m: nn.Module) -> Tensor | float:
    """The largest slope of an elementwise activation."""
    if _is(m, nn.LeakyReLU):
        return max(1.0, abs(m.negative_slope))
    if _is(m, nn.PReLU):
        return m.weight.abs().max().clamp_min(1.0)
    if _is(m, nn.ELU):
        return max(1.0, abs(m.alpha))
    if _is(m, nn.CELU):
        if m.alpha <= 0:
            raise ValueError(f"{m} has no largest slope: its alpha must be positive")
        return 1.0
    if _is(m, nn.GELU):
        return 1.1289041452 if m.approximate == "none" else 1.1289930687
    if type(m) in _SLOPES:
        return _SLOPES[type(m)]
    raise ValueError(
        f"corollary_bound knows no bound for {type(m).__name__}: pass the block's branch as an nn.Sequential of linear "
        "or convolutional layers, normalisations and elementwise activations, without the skip; a block with an "
        "activation after the sum is not one of corollary 1"
    )
