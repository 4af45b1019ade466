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
    if value not in options:
        raise ValueError(f"{name} {value!r} is unknown: choose one of {', '.join(options)}")
    return value


def conv_weight(weight: Any) -> Tensor:
    """``weight``, if it is the real kernel ``(d, c, kh, kw)`` of an ungrouped 2-D convolution."""
    if not isinstance(weight, Tensor) or weight.ndim != 4 or weight.is_complex() or not weight.is_floating_point():
        what = f"{weight.dtype} of {tuple(weight.shape)}" if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight must be a real floating-point tensor of shape (d, c, kh, kw), not {what}")
    if not weight.numel():
        raise ValueError(f"weight of shape {tuple(weight.shape)} is empty: it is no convolution")
    return weight


def finite(weight: Tensor) -> Tensor:
    """``weight``, if none of its entries is NaN or infinite."""
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("the kernel holds NaN or infinite values: it has no singular values")
    return weight


def sides(size: Any) -> tuple[int, int]:
    """``size``, one or two positive whole numbers, as the two sides ``(h, w)`` of a convolution's output."""
    pair = (size, size) if isinstance(size, Integral) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(pair) != 2 or not all(map(_is_whole, pair)):
        raise ValueError(f"size must be the side of the output or its two sides (h, w), not {size!r}")
    return int(pair[0]), int(pair[1])
