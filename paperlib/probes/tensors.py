"""Which tensor of a block's arguments, or of what it returns, is looked at.

Blocks take and return tensors, but also tuples, lists, dicts and dataclasses of them, and take them by keyword.  The
tensors of such a value have an order: positional arguments before keyword arguments, and within a container as they
stand in it.  By default the first tensor of real or complex numbers is taken.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor, peek_interpreter_stack

Selector = None | int | str | Callable[..., Any]
Path = tuple[Any, ...]
TRANSFORMED = "it was called within a transform of torch.func, where nothing is recorded"


def transformed(x: Tensor) -> bool:
    """Whether ``x`` is met within a transform of ``torch.func`` or is a batch of gradients: it means nothing outside.

    Examples
    --------
    >>> import torch
    >>> seen = []
    >>> _ = torch.func.vmap(lambda x: seen.append(transformed(x)) or x)(torch.ones(2))
    >>> seen, transformed(torch.ones(2))
    ([True], False)
    """
    return peek_interpreter_stack() is not None or is_functorch_wrapped_tensor(x) or is_legacy_batchedtensor(x)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in ``value``, with the keys that lead to it.

    Examples
    --------
    >>> import torch
    >>> [path for path, _ in leaves((torch.ones(1), {"a": [torch.ones(1)], "b": None}))]
    [(0,), (1, 'a', 0)]
    """
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, tuple | list):
        for key, item in enumerate(value):
            yield from leaves(item, (*path, key))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), (*path, field.name))


def put(value: Any, path: Path, new: Tensor) -> Any:
    """``value`` with ``new`` at ``path``: a copy of the containers on the way, everything else as it is.

    Examples
    --------
    >>> put((1, {"a": 2, "b": 3}), (1, "a"), 5)
    (1, {'a': 5, 'b': 3})
    """
    if not path:
        return new
    key, *rest = path
    if isinstance(value, tuple):
        items = [put(item, tuple(rest), new) if i == key else item for i, item in enumerate(value)]
        return value._make(items) if hasattr(value, "_make") else tuple(items)  # a named tuple keeps its names
    changed = type(value)(value) if type(value) in (dict, list) else copy.copy(value)  # which cannot be compiled
    if isinstance(value, Mapping | list):
        changed[key] = put(value[key], tuple(rest), new)
    else:
        object.__setattr__(changed, key, put(getattr(value, key), tuple(rest), new))  # it may be frozen
    return changed


def replace(value: Any, old: Tensor, new: Tensor) -> Any:
    """``value`` with ``new`` at every place where ``old`` is.

    Examples
    --------
    >>> import torch
    >>> x, other = torch.zeros(1), torch.zeros(1)
    >>> replace((x, other, {"again": x}), x, torch.ones(1))
    (tensor([1.]), tensor([0.]), {'again': tensor([1.])})
    """
    for path in [path for path, x in leaves(value) if x is old]:
        value = put(value, path, new)
    return value


def find_input(select: Selector, names: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Path | None:
    """Where in ``(args, kwargs)`` the tensor is that ``select`` asks for; None if every tensor is of integers.

    Parameters
    ----------
    select : int, str or callable, optional
        The position or the name of an argument, or what takes the arguments and returns one of their tensors.
    names : list of str
        The names of the positional arguments.
    args : tuple
        Of the call.
    kwargs : dict
        Of the call.

    Raises
    ------
    TypeError
        There is no tensor.
    """
    inputs = (args, kwargs)
    if callable(select):
        return _same(inputs, select(*args, **kwargs))
    if isinstance(select, str) and select not in kwargs:
        select = names.index(select) if select in names else len(args)
    if select is None:
        return _first(inputs)
    if isinstance(select, str):
        return _first(kwargs[select], (1, select))
    if not -len(args) <= select < len(args):
        raise TypeError("the argument that tensor= names was not given")
    return _first(args[select], (0, select % len(args)))


def find_output(select: Selector, out: Any) -> Path | None:
    """Where in ``out`` the tensor is that ``select`` asks for; a tensor that is returned alone needs no name."""
    if callable(select):
        return _same(out, select(out))
    if select is None or isinstance(out, Tensor):
        return _first(out)
    if isinstance(select, str) and isinstance(out, tuple) and select in getattr(out, "_fields", ()):
        select = out._fields.index(select)  # type: ignore[attr-defined]
    if isinstance(select, int) and isinstance(out, tuple | list) and -len(out) <= select < len(out):
        select %= len(out)
    try:
        part = at(out, (select,))
    except (LookupError, AttributeError, TypeError):
        raise TypeError(f"there is no {select!r}, which tensor= names, in a {type(out).__name__}") from None
    return _first(part, (select,))


def _first(value: Any, path: Path = ()) -> Path | None:
    """The path of the first floating-point tensor."""
    any_tensor = False
    for where, x in leaves(value, path):
        any_tensor = True
        if x.is_floating_point() or x.is_complex():
            return where
    if not any_tensor:
        raise TypeError("there is no tensor")
    return None


def _same(value: Any, wanted: Any) -> Path:
    for path, x in leaves(value):
        if x is wanted:
            return path
    raise TypeError("tensor= returned something that is none of its tensors")


def at(value: Any, path: Path) -> Any:
    """What is at ``path`` in ``value``."""
    for key in path:
        value = value[key] if isinstance(value, Mapping | tuple | list) else getattr(value, key)
    return value
