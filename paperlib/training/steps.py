"""One training step: the network, its optimiser, what holds its transitions, and a forward and a backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paperlib import fused, models, published
from paperlib.config import ResolvedRun
from paperlib.holding import NormPreserving
from paperlib.processes import World
from paperlib.projection import project

FIXED_PASSES = 50  # alternating projections of a kernel that is set once: within 0.01 % of the target
ALONE = World()


def make_network(config: ResolvedRun) -> models.Network:
    """The run's network with its initial weights, on its device; torch's global generator is left as it was."""
    projected = config.project and config.projector == "exact"  # the published code starts from ordinary kernels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.build(config.arch, config.depth, config.num_classes, config.erase_relu, projected)
    _set_transitions(config, model)
    model.checkpoint_activations = config.checkpoint_activations
    model.fuse(config.fused if fused.available(config.device) else False)
    return model.to(config.device).to(memory_format=memory_format(config))


@torch.no_grad()
def _set_transitions(config: ResolvedRun, model: models.Network) -> None:
    """Begin with the transitions where they are to be held; fixed ones are no more trained."""
    for (conv, size), factor in zip(model.transition_convs(), config.factors(), strict=False):
        if config.projector == "fixed":
            conv.weight.copy_(project(conv.weight, size, conv.stride[0], passes=FIXED_PASSES))
            conv.weight.requires_grad_(False)
        if factor != 1.0:
            conv.weight.mul_(factor)


def make_optimizer(config: ResolvedRun, model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum; one fused kernel instead of three for each of some 500 parameters."""
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )


def hold_transitions(
    config: ResolvedRun, model: models.Network, optimizer: torch.optim.Optimizer
) -> NormPreserving | None:
    """What projects a ProcResNet's transitions after the optimiser's steps; None where none is trained and held."""
    if config.arch != "procresnet" or not config.project or config.projector == "fixed":
        return None
    projector = published.Projector() if config.projector == "published" else None
    held = NormPreserving(model, every=config.project_every, projector=projector, scale=config.factors())
    return held.attach(optimizer)


def memory_format(config: ResolvedRun) -> torch.memory_format:
    """Of images and weights."""
    return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format


def logits(model: Callable[[Tensor], Tensor], images: Tensor, config: ResolvedRun) -> Tensor:
    """The network's output (N, classes) for images that are prepared, in float32."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        return model(images).float()


class Step(NamedTuple):
    """What a step found on the whole batch: the same in every process."""

    loss: float
    wrong: float  # number of errors
    grad_norm: float
    finite: bool  # loss and gradient


def backward(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    config: ResolvedRun,
    world: World = ALONE,
) -> Step:
    """A forward and a backward pass, with one synchronisation with the device."""
    optimizer.zero_grad(set_to_none=True)
    outputs = logits(model, images, config)
    loss = world.mean_loss(outputs, labels)
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    grad_norm = torch.nn.utils.get_total_norm(grads)
    wrong = (outputs.detach().argmax(1) != labels).sum()
    found = world.sum(torch.stack([loss.detach().double() / world.size, wrong.double()]))
    values = torch.cat([found, grad_norm.double().view(1)]).tolist()
    if math.isfinite(values[0]) and not math.isfinite(values[2]):  # the squares may have left float32's range
        values[2] = torch.nn.utils.get_total_norm([grad.double() for grad in grads]).item()
    loss_value, errors, norm = values
    return Step(loss_value, errors, norm, math.isfinite(loss_value) and math.isfinite(norm))
