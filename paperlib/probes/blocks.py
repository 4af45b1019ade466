"""Which modules of a network are its blocks, and what they are called."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from paperlib import _checks
from paperlib.trunk import inside, unwrap

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Block(NamedTuple):
    """A block to watch: its name in the network, its kind, and the module."""

    name: str
    kind: str
    module: nn.Module


def compiled_part(model: nn.Module) -> nn.Module:
    """The outermost part of ``model`` that was compiled or is the network itself: what starts a step when called.

    Outside of compiled code a hook is ordinary Python.
    """
    while not hasattr(model, "_orig_mod") and (inner := inside(model)) is not None:
        model = inner
    return model


def named_blocks(model: nn.Module, blocks: Iterable[Any] | None) -> list[Block]:
    """The blocks to watch.

    Parameters
    ----------
    model : nn.Module
        The network, unwrapped.
    blocks : iterable, optional
        Modules, names of submodules, or objects with ``name``, ``kind`` and ``module``; by default ``model.blocks``,
        else those that :func:`repeated_blocks` finds.

    Returns
    -------
    list of Block
        In the given order.

    Raises
    ------
    ValueError
        There are none, or one of them is no submodule or is listed twice.
    TypeError
        ``blocks`` is nothing that can be iterated over.
    """
    if blocks is None:
        blocks = getattr(model, "blocks", None)
        if not isinstance(blocks, Iterable):
            blocks = repeated_blocks(model)
    if isinstance(blocks, str):
        raise ValueError(f"blocks must be a list, not the text {_checks.shown(blocks)}: write blocks=[name]")
    if isinstance(blocks, nn.ModuleDict):
        blocks = blocks.values()
    if not isinstance(blocks, Iterable) or isinstance(blocks, Tensor):
        raise TypeError(f"blocks must be a list of modules or of their names, not {type(blocks).__name__}")
    names = {module: name for name, module in model.named_modules()}
    outer = {inner: m for m in names if (inner := getattr(m, "_orig_mod", None)) is not None}
    found = [_block(model, item, names, outer) for item in blocks]
    if not found:
        raise ValueError("blocks is empty: name at least one module of the network to watch")
    for i, block in enumerate(found):
        if any(block.module is earlier.module for earlier in found[:i]):
            shared = [name for name, m in model.named_modules(remove_duplicate=False) if m is block.module]
            also = f" (one module, with the names {', '.join(shared)})" if len(shared) > 1 else ""
            raise ValueError(f"block {block.name!r} is listed twice{also}: each module can be watched once")
    return found


def _block(model: nn.Module, item: Any, names: dict[nn.Module, str], outer: dict[nn.Module, nn.Module]) -> Block:
    """``names`` has every module's name, ``outer`` what ``torch.compile`` made of a submodule."""
    if isinstance(item, str):
        name, found = _submodule(model, item)
        return Block(name, "block", outer.get(found, found))
    module = item if isinstance(item, nn.Module) else getattr(item, "module", None)
    if not isinstance(module, nn.Module) or module not in names:
        raise ValueError(f"block {item!r:.80} is not a submodule of {type(model).__name__}")
    hooked = outer.get(module, module)
    given = None if isinstance(item, nn.Module) else getattr(item, "name", None)
    return Block(given or names[hooked] or type(module).__name__, getattr(item, "kind", "block"), hooked)


def _plain(name: str) -> str:
    """A submodule's name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def _submodule(model: nn.Module, name: str) -> tuple[str, nn.Module]:
    """The submodule of that name, as the network calls it; ``ValueError``, with a similar name, if there is none."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if name in modules:
        return name, modules[name]
    plain: dict[str, tuple[str, nn.Module]] = {}
    for other, module in modules.items():
        plain.setdefault(_plain(other), (other, module))
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = difflib.get_close_matches(name, plain, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ": model.named_modules() lists those that there are"
    raise ValueError(f"blocks names {name!r}, but {type(model).__name__} has no submodule of that name{hint}")


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, _CONTAINERS) and type(module).forward in {c.forward for c in _CONTAINERS}


def _outermost(module: nn.Module, chains: bool, inside: bool = False) -> Iterator[nn.Module]:
    """The modules that lie in a container and have parts of their own, in the order of definition.

    With ``chains`` they are the innermost containers that lie in another one.
    """
    module = unwrap(module)
    container = _is_container(module)
    parts = list(module.children())
    innermost = container and not any(_is_container(part) for part in parts)
    if inside and (innermost if chains else not container):
        if parts:
            yield module
        return
    for part in parts:
        yield from _outermost(part, chains, container)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network that does not say what they are: modules of one type that follow one another.

    A block is a module that has parts of its own and is an entry of an ``nn.Sequential``, ``nn.ModuleList`` or
    ``nn.ModuleDict``, where at least two such entries of the network have its type.  Of nested ones the outermost
    count.  Containers are no blocks, unless there are no others: then they are those that lie in another container
    and hold none.

    Parameters
    ----------
    model : nn.Module
        The network.

    Returns
    -------
    list of nn.Module
        In the order in which they are defined.

    Raises
    ------
    ValueError
        There are none.  It names the containers that could be given instead.

    Examples
    --------
    >>> import torchvision
    >>> len(repeated_blocks(torchvision.models.resnet50())), len(repeated_blocks(torchvision.models.vit_b_16()))
    (16, 12)
    """
    _checks.module("model", model)
    for within in (False, True):
        found = list(dict.fromkeys(_outermost(model, within)))
        number = Counter(type(module) for module in found)
        if blocks := [module for module in found if number[type(module)] > 1]:
            return blocks
    chains = [
        f"{name or 'the model itself'} ({len(m)} entries)"
        for name, m in model.named_modules()
        if isinstance(m, _CONTAINERS) and len(m) > 1
    ]
    could = f"; it has these chains: {', '.join(chains[:8])}{', …' * (len(chains) > 8)}" if chains else ""
    raise ValueError(
        f"{type(model).__name__} has no attribute 'blocks', and no type of module with parts of its own repeats in it: "
        f"pass blocks=[...], its blocks (or their names) in forward order{could}"
    )
