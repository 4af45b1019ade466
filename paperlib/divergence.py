"""Where values that are not finite began: in a step whose loss or gradient is not finite, or in an evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paperlib import _checks
from paperlib.initial import kept_buffers
from paperlib.models import Network
from paperlib.probes import GradientNorms
from paperlib.processes import World


def first_bad_block(
    model: Network, forward: Callable[[], Any], probe: GradientNorms | None = None, world: World | None = None
) -> str:
    """The block where non-finite values began: forward if an activation is, else on the gradient's way back.

    Parameters
    ----------
    model : Network
        After the backward pass of the step in question: its gradients are looked at.
    forward : callable
        Calls ``model`` on the step's images once more, in one call or in several.
    probe : GradientNorms, optional
        One that watched the step.
    world : World, optional
        The processes that share the batch; by default this one is alone.

    Returns
    -------
    str
        A block's name, ``"stem"``, ``"head"``, or ``"unknown"`` where everything is finite.

    Examples
    --------
    >>> from paperlib.models import build
    >>> model = build("plain", 11)
    >>> _ = torch.nn.init.constant_(model.chain["stage2_block1"].conv2.weight, float("nan"))
    >>> first_bad_block(model, lambda: model(torch.ones(2, 3, 8, 8)))
    'stage2_block1'
    """
    _checks.instance("model", model, Network, "a paperlib.models.Network")
    _checks.function("forward", forward)
    if probe is not None:
        _checks.instance("probe", probe, GradientNorms, "a GradientNorms")
    if world is not None:
        _checks.instance("world", world, World, "a paperlib.processes.World")
    return _first_bad_activation(model, forward, world or World()) or _first_bad_gradient(model, probe) or "unknown"


def first_bad_buffer(model: nn.Module) -> str | None:
    """The first buffer that is not finite, such as a batch normalisation's ``running_var``; None where all are.

    Training does not read these statistics, so that its loss stays finite; evaluation does.

    Examples
    --------
    >>> from paperlib.models import build
    >>> model = build("plain", 11)
    >>> _ = model.bn.running_var.fill_(float("nan"))
    >>> first_bad_buffer(model)
    'bn.running_var'
    """
    _checks.module("model", model)
    buffers = dict(model.named_buffers())
    finite = torch.stack([torch.isfinite(buffer).all() for buffer in buffers.values()]).tolist() if buffers else []
    bad = next((name for name, ok in zip(buffers, finite, strict=True) if not ok), None)
    return bad and bad.removeprefix("chain.")


@torch.no_grad()
def _first_bad_activation(model: Network, forward: Callable[[], Any], world: World) -> str | None:
    bad: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, out: Tensor) -> None:
            bad[name] = bad.get(name, torch.zeros((), dtype=torch.bool, device=out.device)) | ~torch.isfinite(out).all()

        return hook

    hooks = [model.stem.register_forward_hook(watch("stem"))]
    hooks += [block.module.register_forward_hook(watch(block.name)) for block in model.blocks]
    hooks.append(model.register_forward_hook(watch("head")))
    try:
        with kept_buffers(model):
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    if not bad:
        raise ValueError("forward must call the model: none of its parts was run")
    found = world.largest(*torch.stack(list(bad.values())).int().tolist())
    return next((name for name, is_bad in zip(bad, found, strict=True) if is_bad), None)


def _first_bad_gradient(model: Network, probe: GradientNorms | None) -> str | None:
    if probe:
        with contextlib.suppress(RuntimeError):
            finite = torch.isfinite(probe.norms()[:, 0]).tolist()
            for name, ok in reversed(list(zip(probe.names, finite, strict=True))):
                if not ok:
                    return name
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            part = name.split(".")
            return part[1] if part[0] == "chain" else "stem" if part[0] == "stem" else "head"
    return None
