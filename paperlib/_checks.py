"""Checks of arguments: each returns the value that it accepts.

For any other value it raises an error of one sentence that names the argument.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor

_Kind = TypeVar("_Kind")
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NUMBERS = (*REAL, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
LARGEST_STEP = 1024  # of a stride or a dilation: four times the largest that networks have
MOST_NUMBERS = 2**27  # in one tensor: 1 GiB in float64, and a computation holds a few of them
LONGEST_PATH = 4096  # characters, on Linux and on macOS
MOST = 2**31 - 1
"""No count of this library is larger, whatever it counts."""
LARGEST_MAP = 2**24
"""How many pixels a feature map may have: with more, few machines hold the matrices of all of its frequencies."""


def whole_number(
    name: str, value: Any, least: int = 1, unit: str = "", error: type[ValueError] = ValueError, most: int = MOST
) -> int:
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
    most : int
        The largest value that is accepted.

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
    >>> whole_number("passes", 10**9, most=1000)
    Traceback (most recent call last):
    ValueError: passes must be a whole number of at most 1,000, not 1000000000
    """
    unit = f" {unit}" if unit else ""
    if not _is_whole(value, least):
        raise error(f"{name} must be a whole number of at least {least}{unit}, not {shown(value)}")
    if value > most:
        unit += "s" * unit[1:].isalpha()  # blocks; but "of the form 9n+2"
        raise error(f"{name} must be a whole number of at most {most:,}{unit}, not {shown(value)}")
    return int(value)


def _is_whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and bool(value >= least)  # type: ignore[operator]


def shown(value: Any) -> str:
    """``value`` in a sentence: its first 80 characters, or what it is where that says more.

    Examples
    --------
    >>> shown(torch.ones(2, 3)), shown("x" * 100)[:10]
    ('a tensor of shape (2, 3) and torch.float32', "'xxxxxxxxx")
    """
    if isinstance(value, Tensor):
        return "a nested tensor" if value.is_nested else f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, type | torch.nn.Module):
        return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    try:
        return " ".join(f"{value!r:.80}".split())
    except Exception:  # its own repr fails, as that of an int of more than 4,300 digits
        return f"a {type(value).__name__} that cannot be shown"


def number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a ``float``, if it is a finite real number in this range.  True and False are no numbers.

    Examples
    --------
    >>> number("scale", 2, above=0)
    2.0
    >>> number("tolerance", 1.0, above=0, below=1)
    Traceback (most recent call last):
    ValueError: tolerance must be a number above 0 and below 1, not 1.0
    """
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.nan
    right = (
        math.isfinite(found)
        and (least is None or found >= least)
        and (most is None or found <= most)
        and (above is None or found > above)
        and (below is None or found < below)
    )
    if not right:
        words = (("of at least", least), ("above", above), ("at most", most), ("below", below))
        limits = " and ".join(f"{word} {limit:g}" for word, limit in words if limit is not None)
        raise ValueError(f"{name} must be a {'number ' + limits if limits else 'finite number'}, not {shown(value)}")
    return found


def flag(name: str, value: Any) -> bool:
    """``value``, if it is True or False; texts such as ``"False"``, which count as true, are refused.

    Examples
    --------
    >>> flag("relu", "False")
    Traceback (most recent call last):
    ValueError: relu must be True or False, not 'False'
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {shown(value)}")
    return value


def seed(name: str, value: Any) -> int:
    """``value``, if torch takes it as the seed of a generator."""
    return whole_number(name, value, least=0, most=2**63 - 1)


def instance(name: str, value: Any, kind: type[_Kind] | tuple[type[_Kind], ...], what: str) -> _Kind:
    """``value``, if it is of that kind, which the sentence calls ``what``.

    Examples
    --------
    >>> instance("model", torch.nn.Linear, torch.nn.Module, "a torch.nn.Module")
    Traceback (most recent call last):
    TypeError: model must be a torch.nn.Module, not the class Linear
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, not {shown(value)}")
    return value


def module(name: str, value: Any) -> nn.Module:
    """``value``, if it is a network or a layer."""
    return instance(name, value, nn.Module, "a torch.nn.Module")


def function(name: str, value: Any) -> Callable[..., Any]:
    """``value``, if it can be called."""
    return instance(name, value, Callable, "a function")  # type: ignore[arg-type]


def fits(name: str, *sides: int) -> None:
    """Raise ``ValueError`` if a tensor with these sides, as ``name`` asks for one, is too large.

    Examples
    --------
    >>> fits("points", 10**6, 512)
    Traceback (most recent call last):
    ValueError: points asks for 512,000,000 numbers at once, more than 134,217,728: take less
    """
    if (numbers := math.prod(sides)) > MOST_NUMBERS:
        raise ValueError(f"{name} asks for {numbers:,} numbers at once, more than {MOST_NUMBERS:,}: take less")


def generator(name: str, value: Any) -> torch.Generator:
    """``value``, if it is torch's own kind of generator."""
    return instance(name, value, torch.Generator, "a torch.Generator")


def floating(name: str, value: Any) -> torch.dtype:
    """``value``, if it is a type of real numbers, of 16 bits or more."""
    if not isinstance(value, torch.dtype) or value not in REAL:
        raise ValueError(f"{name} must be a floating-point type such as torch.float32, not {shown(value)}")
    return value


def positive(name: str, value: Any, least: float | None = None) -> Any:
    """``value``, if it is a number above 0 (or of at least ``least``), or an array or a tensor of numbers."""
    if isinstance(value, Tensor):
        return plain_tensor(name, value)
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if hasattr(value, "ndim") and kind in ("f", "i", "u"):
        return value
    return number(name, value, least=least, above=0 if least is None else None)


def images(name: str, value: Any) -> Tensor:
    """``value``, if it is a batch ``(N, channels, H, W)`` of bytes or of real numbers."""
    if isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 4:
        return stored(name, value)
    return real_tensor(name, value, "(N, channels, H, W)")


def numbers(name: str, value: Any) -> Tensor:
    """``value``, a finite number or a tensor of such numbers, in float64."""
    if isinstance(value, Tensor):
        return finite(plain_tensor(name, value), name).double()
    return torch.tensor(number(name, value), dtype=torch.float64)


def points(value: Any, dim: int, dtype: torch.dtype | None = torch.float64) -> Tensor:
    """``value``, if it holds points of R^N, ``(..., N)``, in this precision or, for None, in any."""
    right = isinstance(value, Tensor) and not value.is_nested and value.shape[-1:] == (dim,)
    if not right or value.dtype not in (REAL if dtype is None else (dtype,)):
        raise ValueError(f"the points must be a {dtype or 'real'} tensor of shape (..., {dim}), not {shown(value)}")
    return stored("points", value)


def labels(name: str, value: Any) -> Tensor:
    """``value``, if it is a list of the numbers of classes, as a tensor ``(N,)``, int64."""
    if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.ndim != 1:
        raise ValueError(f"{name} must be an int64 tensor of shape (N,), not {shown(value)}")
    return stored(name, value)


def matrices(name: str, value: Any, square: bool = False, precise: bool = False) -> Tensor:
    """``value``, if it is a batch of real or complex matrices ``(..., p, q)``, none of them empty.

    ``precise`` asks for 32 or 64 bits, as torch's decompositions do.
    """
    if precise and isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(f"{name} must be in float32 or float64, not {value.dtype}: convert it first")
    shape = "(..., N, N)" if square else "(..., p, q)"
    if isinstance(value, Tensor) and value.is_complex() and value.dtype != torch.complex32 and value.ndim >= 2:
        return stored(name, value)
    return real_tensor(name, value, shape, square)


def path(name: str, value: Any) -> Path:
    """``value`` as a path, if it can be one.

    Examples
    --------
    >>> path("folder", 3)
    Traceback (most recent call last):
    TypeError: folder must be a path, not 3
    """
    found: Any = instance(name, value, (str, os.PathLike), "a path")
    text = os.fspath(found)
    if not isinstance(text, str) or "\0" in text or len(text) > LONGEST_PATH or not text:
        raise ValueError(f"{name} must be a path that can exist, not {shown(value)}")
    return Path(text)


def items(name: str, value: Any, what: str) -> list[Any]:
    """The items of ``value``, if it is no text and has items, which the sentence calls ``what``.

    Examples
    --------
    >>> items("names", "conv1", "names of submodules")
    Traceback (most recent call last):
    TypeError: names must be a list of names of submodules, not 'conv1'
    """
    if isinstance(value, str | bytes | Tensor) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of {what}, not {shown(value)}")
    return list(value)


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
        raise ValueError(f"{name} {shown(value)} is unknown: choose one of {', '.join(options)}")
    return value


def conv_weight(weight: Any) -> Tensor:
    """``weight``, if it is the real kernel ``(d, c, kh, kw)`` of a 2-D convolution."""
    if isinstance(weight, Tensor) and not weight.is_nested and weight.ndim in (3, 5):
        raise ValueError(
            f"weight must be a real floating-point tensor of shape (d, c, kh, kw), not {weight.dtype} of "
            f"{tuple(weight.shape)}: singular_values and the like take a Conv1d or a Conv3d as the layer itself"
        )
    return real_tensor("weight", weight, "(d, c, kh, kw)")


def real_tensor(name: str, value: Any, shape: str, square: bool = False) -> Tensor:
    """``value``, if it is a tensor of ordinary real numbers with as many axes as ``shape`` has.

    A ``shape`` that begins with an ellipsis, ``"(..., n, n)"``, may have more.

    Examples
    --------
    >>> real_tensor("gradient", torch.ones(3), "(N, d, h, w)")
    Traceback (most recent call last):
    ValueError: gradient must be a real floating-point tensor of shape (N, d, h, w), not torch.float32 of (3,)
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a real floating-point tensor of shape {shape}, not {type(value).__name__}")
    value = plain_tensor(name, value)
    axes, more = shape.strip("()").split(","), shape.startswith("(...")
    asked = len([axis for axis in axes if axis.strip()]) - more
    right = value.ndim >= asked if more else value.ndim == asked
    if not right or (square and value.shape[-1] != value.shape[-2]):
        raise ValueError(
            f"{name} must be a real floating-point tensor of shape {shape}, not {value.dtype} of {tuple(value.shape)}"
        )
    return value


def plain_weight(weight: Tensor) -> Tensor:
    """:func:`plain_tensor` for a convolution's weight."""
    return plain_tensor("weight", weight)


def sharded(value: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which each process has a part, as after FSDP2's ``fully_shard``."""
    return hasattr(value, "full_tensor")  # importing the class takes a second


def whole(name: str, value: Tensor) -> Tensor:
    """``value``, if it is all here and not :func:`sharded`."""
    if sharded(value):
        raise ValueError(
            f"{name} is sharded over processes (a DTensor): call unshard() on the module given to fully_shard, "
            "or give the tensor's full_tensor()"
        )
    return value


def stored(name: str, value: Tensor) -> Tensor:
    """``value``, if it is a tensor whose numbers are here and stored one by one, and if there are any."""
    if value.is_nested:
        raise ValueError(f"{name} is a nested tensor: give one ordinary tensor")
    whole(name, value)
    if value.is_quantized:
        raise ValueError(f"{name} is quantised: give its real numbers, {name}.dequantize()")
    if value.layout != torch.strided:
        raise ValueError(f"{name} is stored as {value.layout}: give it as an ordinary tensor, {name}.to_dense()")
    if value.is_meta:
        raise ValueError(f"{name} is on the meta device: it has a shape but no numbers, so nothing can be computed")
    if not value.numel():
        raise ValueError(f"{name} of shape {tuple(value.shape)} is empty: it holds no numbers")
    return value


def plain_tensor(name: str, value: Tensor) -> Tensor:
    """``value``, if it is a tensor that is not empty, of ordinary real numbers that are here and stored one by one.

    Examples
    --------
    >>> plain_tensor("weight", torch.ones(4, 4, device="meta"))
    Traceback (most recent call last):
    ValueError: weight is on the meta device: it has a shape but no numbers, so nothing can be computed
    """
    value = stored(name, value)
    if value.dtype not in REAL:
        raise ValueError(
            f"{name} must be a real floating-point tensor of 16, 32 or 64 bits, not {value.dtype} of "
            f"{tuple(value.shape)}: convert it first"
        )
    if value.is_inference() and not torch.is_inference_mode_enabled():
        return value.detach().clone()  # autograd refuses it, also where no gradient is asked for
    return value


def _batched(value: Tensor) -> bool:
    """Whether torch.vmap, at any level of the transforms of ``torch.func``, hides an axis of ``value``."""
    while is_functorch_wrapped_tensor(value):
        if is_batchedtensor(value):
            return True
        value = get_unwrapped(value)
    return False


def table(name: str, value: Any, numbers: str, others: str = "") -> Any:
    """``value``, if it is a data frame that has rows, these columns of numbers, and these other columns.

    Examples
    --------
    >>> table("epochs", [1, 2], numbers="epoch lr")
    Traceback (most recent call last):
    TypeError: epochs must be a pandas DataFrame with the columns epoch, lr, not [1, 2]
    """
    wanted = [*numbers.split(), *others.split()]
    if not hasattr(value, "groupby") or not hasattr(value, "columns"):
        raise TypeError(f"{name} must be a pandas DataFrame with the columns {', '.join(wanted)}, not {shown(value)}")
    if missing := [column for column in wanted if column not in value.columns]:
        raise ValueError(f"{name} must have the columns {', '.join(wanted)}, and has no {', '.join(missing)}")
    if not len(value):
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    if texts := [column for column in numbers.split() if value[column].dtype.kind not in "iuf"]:
        raise ValueError(f"{name} must hold numbers in its column {texts[0]}, not {value[texts[0]].dtype}: convert it")
    return value


def finite(weight: Tensor, name: str = "") -> Tensor:
    """``weight``, if none of its entries is NaN or infinite."""
    if _batched(weight):
        raise ValueError(
            f"{name or 'the kernel'} is a batch of torch.vmap, in which no number can be looked at: "
            "call the function for one kernel after the other"
        )
    if not bool(torch.isfinite(weight.detach()).all()):
        what = f"{name} holds" if name else "the kernel holds"
        raise ValueError(f"{what} NaN or infinite values" + ("" if name else ": it has no singular values"))
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
        raise ValueError(f"{name} must be the side of the {of} or {several}, not {shown(size)}")
    if math.prod(map(int, each)) > LARGEST_MAP:
        raise ValueError(f"{name} must be of at most {LARGEST_MAP:,} pixels in all, not {shown(size)}")
    return tuple(int(n) for n in each)


def each_axis(name: str, value: Any, axes: int) -> tuple[int, ...]:
    """``value``, one positive whole number or one for each axis, as a tuple.

    Examples
    --------
    >>> each_axis("stride", 2, 3), each_axis("stride", (2, 1), 2)
    ((2, 2, 2), (2, 1))
    """
    if isinstance(value, tuple | list) and len(value) == axes:
        return tuple(whole_number(name, n, most=LARGEST_STEP) for n in value)
    unit = "(the same both ways)" if axes == 2 else ""
    return (whole_number(name, value, unit=unit, most=LARGEST_STEP),) * axes


def stride(value: Any) -> int:
    """``value``, if it is a 2-D convolution's stride that is the same both ways: a number, or ``nn.Conv2d.stride``.

    Examples
    --------
    >>> stride(2), stride((2, 2))
    (2, 2)
    >>> stride((2, 1))
    Traceback (most recent call last):
    ValueError: stride must be the same both ways, not (2, 1)
    """
    down, across = each_axis("stride", value, 2)
    if down != across:
        raise ValueError(f"stride must be the same both ways, not {shown(value)}")
    return down
