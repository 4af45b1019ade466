"""The probe inside of ``torch.compile``: what its hooks leave in the compiled graphs.

A hook on a tensor cannot be compiled as Python, and would cut a graph in two.  But it can be registered while the
graph is traced, on the traced tensor.  Autograd then traces it as part of the backward pass, with whatever it calls.
Here it calls one operator, which hands the gradient to the probe at run time and returns a 1.  The hook multiplies the
gradient by it, so that the compiler must keep the call; the product is exact.

A network that is traced as a part of a larger function begins its step by another operator, which returns the number
of the step.  The number travels through the graph to the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from paperlib.probes import registry


@torch.library.custom_op("paperlib::start_step", mutates_args=("count",))
def start_step(count: Tensor, probe: int) -> Tensor:
    """Begin a step of the probe and return its number, 0 if it is not recorded; ``count`` keeps the call in place."""
    found = registry.probe(probe)
    count.add_(1)
    if found is None:
        return torch.zeros_like(count)
    with torch.enable_grad():  # which is off in an operator; a graph that is traced without gradients has no such call
        found.start()
    return torch.full_like(count, found.number())


@start_step.register_fake
def _(count: Tensor, probe: int) -> Tensor:
    return torch.empty_like(count)


# A CUDA graph would replay what the operator launches, but not what it does on the host.
@torch.library.custom_op("paperlib::note_gradient", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def note_gradient(grad: Tensor, number: Tensor, probe: int, slot: int) -> Tensor:
    """Hand a gradient to the probe, for a step and a slot of it; returns 1."""
    found = registry.probe(probe)
    if found is not None and (step := int(number)):
        found.note(step, slot, grad)
    return grad.new_ones(())


@note_gradient.register_fake
def _(grad: Tensor, number: Tensor, probe: int, slot: int) -> Tensor:
    return grad.new_empty(())


class _Root(torch.autograd.Function):
    """A copy of ``x`` that requires a gradient because ``tap`` does, which gets what keeps the call in the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tap: Tensor, number: Tensor, probe: int, slot: int) -> Tensor:
        ctx.save_for_backward(number)
        ctx.device, ctx.probe, ctx.slot = tap.device, probe, slot
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (number,) = ctx.saved_tensors
        one = note_gradient(grad, number, ctx.probe, ctx.slot)
        return None, one.to(ctx.device, torch.float32), None, None, None


@torch.compiler.allow_in_graph
def watch(x: Tensor, tap: Tensor, number: Tensor, probe: int, slot: int) -> Tensor:
    """``x``, with its gradient watched.

    Parameters
    ----------
    x : Tensor
        If it requires no gradient, a copy that does is returned.
    tap : Tensor, float32 ()
        Any leaf that requires a gradient.
    number : Tensor, int64 ()
        Of the step.
    probe : int
        The probe's handle.
    slot : int
        Of the step.
    """
    if not x.requires_grad:
        return _Root.apply(x, tap, number, probe, slot)
    x.register_hook(lambda grad: grad * note_gradient(grad, number, probe, slot))
    return x
