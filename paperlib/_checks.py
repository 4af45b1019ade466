"""Checks of arguments: each returns the value that it accepts.

For any other value it raises an error of one sentence that names the argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def whole_number(name: str, value: Any, least: int = 1, unit: str = "", error: type[ValueError] = ValueError) -> int:
    """``value`` as an ``int``, if it is a whole number of at least ``least``.  True and False are no numbers.

    Parameters
    ----------
    name : str
        The argument's name, as the caller knows it.
    value : Any
        What the caller gave.
    least : int
        The smallest value that is accepted.
    unit : str
        What is counted, for the sentence: ``"step"``.
    error : type of ValueError
        What to raise.

    Returns
    -------
    int
        The value.

    Raises
    ------
    ValueError
        Or ``error``: for anything else.

    Examples
    --------
    >>> whole_number("passes", 3)
    3
    >>> whole_number("every", 0, unit="step")
    Traceback (most recent call last):
    ValueError: every must be a whole number of at least 1 step, not 0
    """
    if not _is_whole(value, least):
        raise error(f"{name} must be a whole number of at least {least}{' ' * bool(unit)}{unit}, not {value!r:.80}")
    return int(value)


def _is_whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and bool(value >= least)  # type: ignore[operator]


def one_of(name: str, value: Any, options: Iterable[str]) -> Any:
    """``value``, if it is one of the ``options``.

    Examples
    --------
    >>> one_of("padding", "mirror", ("circular", "zeros"))
    Traceback (most recent call last):
    ValueError: padding 'mirror' is unknown: choose one of circular, zeros
    """
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} {value!r:.80} is unknown: choose one of {', '.join(options)}")
    return value


def conv_weight(weight: Any) -> Tensor:
    """``weight``, if it is the real kernel ``(d, c, kh, kw)`` of a 2-D convolution."""
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"weight must be a real floating-point tensor of shape (d, c, kh, kw), not {type(weight).__name__}"
        )
    weight = plain_weight(weight)
    if weight.ndim != 4:
        raise ValueError(
            "weight must be a real floating-point tensor of shape (d, c, kh, kw), not "
            f"{weight.dtype} of {tuple(weight.shape)}"
        )
    return weight


_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def plain_weight(weight: Tensor) -> Tensor:
    """``weight``, if it is a tensor that is not empty, of ordinary real numbers that are here and stored one by one.

    Examples
    --------
    >>> plain_weight(torch.ones(4, 4, device="meta"))
    Traceback (most recent call last):
    ValueError: weight is on the meta device: it has a shape but no numbers, so it has no singular values
    """
    if weight.is_nested:
        raise ValueError("weight is a nested tensor: give one convolution's weight")
    if weight.is_quantized:
        raise ValueError("weight is quantised: give its real numbers, weight.dequantize()")
    if weight.layout != torch.strided:
        raise ValueError(f"weight is stored as {weight.layout}: give it as an ordinary tensor, weight.to_dense()")
    if weight.dtype not in _REAL:
        raise ValueError(
            f"weight must be a real floating-point tensor of 16, 32 or 64 bits, not {weight.dtype} of "
            f"{tuple(weight.shape)}: convert it first"
        )
    if weight.is_meta:
        raise ValueError("weight is on the meta device: it has a shape but no numbers, so it has no singular values")
    if not weight.numel():
        raise ValueError(f"weight of shape {tuple(weight.shape)} is empty: it is no convolution")
    if weight.is_inference() and not torch.is_inference_mode_enabled():
        return weight.detach().clone()  # autograd refuses it, also where no gradient is asked for
    return weight


def finite(weight: Tensor) -> Tensor:
    """``weight``, if none of its entries is NaN or infinite."""
    if not bool(torch.isfinite(weight.detach()).all()):
        raise ValueError("the kernel holds NaN or infinite values: it has no singular values")
    return weight


def sides(size: Any, axes: int = 2, name: str = "size", of: str = "output") -> tuple[int, ...]:
    """``size``, one positive whole number or one for each axis, as the sides of a convolution's output or input.

    Examples
    --------
    >>> sides(8), sides((8, 6, 4), axes=3)
    ((8, 8), (8, 6, 4))
    >>> sides((8, 8), axes=1, name="input_size", of="input")
    Traceback (most recent call last):
    ValueError: input_size must be the side of the input or a tuple of its 1 side, not (8, 8)
    """
    each = (size,) * axes if isinstance(size, Integral) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(each) != axes or not all(map(_is_whole, each)):
        several = "its two sides (h, w)" if axes == 2 else f"a tuple of its {axes} side{'s' * (axes > 1)}"
        raise ValueError(f"{name} must be the side of the {of} or {several}, not {size!r}")
    return tuple(int(n) for n in each)


def each_axis(name: str, value: Any, axes: int) -> tuple[int, ...]:
    """``value``, one positive whole number or one for each axis, as a tuple.

    Examples
    --------
    >>> each_axis("stride", 2, 3), each_axis("stride", (2, 1), 2)
    ((2, 2, 2), (2, 1))
    """
    if isinstance(value, tuple | list) and len(value) == axes:
        return tuple(whole_number(name, n) for n in value)
    return (whole_number(name, value, unit="(the same both ways)" if axes == 2 else ""),) * axes
