"""Convolutions whose scale a normalisation behind them cancels.

A normalisation divides its input by the input's own standard deviation.  So a kernel that is multiplied by a number
gives the same output, and the gradient at its input stays the same.  What is held of such a kernel are the ratios of
its singular values to each other, and how fast the kernel learns: the gradient at the kernel is divided by the scale,
so that gradient descent at scale a does what it does at scale 1 with the learning rate over a².  The norm of the
gradient at the input is not decided by the target.  Chapter 6 trains at several scales
(:func:`paperlib.studies.your_network.trained_by_scale`).

Where a skip takes the convolution's output, too, the scale counts.  That is so behind a ProcResNet's transitions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node

from paperlib import _checks
from paperlib.trunk import model_inputs, output_tensors, outputs_on, quietly

# How autograd's nodes of torch's normalisations are called, and those of operations that only arrange the numbers anew.
NORMALISATIONS = ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "NativeGroupNorm", "NativeLayerNorm")
ARRANGING = ("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Clone")


def normalised(model: nn.Module, convs: Iterable[tuple[str, nn.Module]], example: Any) -> list[str]:
    """Which of some convolutions have their output taken by normalisations alone.

    Only batch, instance, group and layer normalisations of torch are known, and only directly behind the convolution.

    Parameters
    ----------
    model : nn.Module
        Any module that takes images.  It is left as it was (weights, modes and running averages).
    convs : iterable of (str, nn.Module)
        Convolutions of the model, with their names.
    example : Tensor (N, channels, H, W), tuple or mapping
        As for :func:`paperlib.trunk.trunk_convs`.

    Returns
    -------
    list of str
        The names of these convolutions.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    >>> normalised(model, [("0", model[0]), ("3", model[3])], torch.zeros(1, 3, 8, 8))
    ['0']
    """
    _checks.module("model", model)
    convs = _checks.items("convs", convs, "pairs of a name and a convolution")
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[1], nn.Module) for pair in convs):
        raise ValueError(f"convs must be pairs of a name and a convolution, not {_checks.shown(convs)}")
    outputs: dict[str, Node] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if output.grad_fn is not None:
                outputs[name] = output.grad_fn

        return hook

    hooks = [conv.register_forward_hook(remember(name)) for name, conv in convs]
    try:
        with quietly(model):
            args, kwargs, images = model_inputs(example)
            results = list(output_tensors(outputs_on(model, args, kwargs, images)))
    finally:
        for hook in hooks:
            hook.remove()
    takers = _takers([t.grad_fn for t in results if t.grad_fn is not None])
    return [name for name, node in outputs.items() if _only_normalised(node, takers)]


def _takers(ends: list[Node]) -> dict[Node, list[Node]]:
    """By node of autograd's graph, the nodes that take its result."""
    takers: dict[Node, list[Node]] = defaultdict(list)
    stack, seen = list(ends), set(ends)
    while stack:
        node = stack.pop()
        for earlier, _ in node.next_functions:
            if earlier is None:
                continue
            takers[earlier].append(node)
            if earlier not in seen:
                seen.add(earlier)
                stack.append(earlier)
    return takers


def _only_normalised(node: Node, takers: dict[Node, list[Node]]) -> bool:
    """Whether normalisations, and nothing else, take the result of a node."""
    following = takers[node]
    return bool(following) and all(
        taker.name().startswith(NORMALISATIONS)
        or (taker.name().startswith(ARRANGING) and _only_normalised(taker, takers))
        for taker in following
    )
