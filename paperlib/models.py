"""The networks of the paper: Plain, ResNet and ProcResNet for CIFAR-sized images.

All three share one bottleneck (batch norm, ReLU and convolution, three times) with 3n of them in three
stages of 16, 32 and 64 channels, expanded fourfold: depth 9n+2 [He2016]_.  They differ in what happens around it:

* ``resnet``: an identity skip around every block, but the three that change the number of channels;
* ``plain``: the same layers with no skip at all (the paper's Figure 1e);
* ``procresnet``: only identity skips; the dimensions change in three stand-alone convolutions whose kernels are
  held norm-preserving (the paper's Figure 1d).  It has two layers more: depth 164 is "ProcResNet-166".

.. [He2016] He, Zhang, Ren, Sun: *Identity mappings in deep residual networks*, arXiv 1603.05027.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paperlib import projection

Arch = Literal["plain", "resnet", "procresnet"]
Kind = Literal["transition", "residual"]
EXPANSION = 4
WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Block:
    """One block of a network: where the gradient's norm is compared before and after.

    ``kind`` is ``"transition"`` where the number of channels changes, else ``"residual"`` (in a Plain network
    too, whose blocks sit in the same places but have no skip).
    """

    name: str
    kind: Kind
    module: nn.Module


def check_depth(depth: int) -> int:
    """Return n for a depth 9n+2; raise ValueError, naming the nearest depths that exist, for any other."""
    if not isinstance(depth, int) or isinstance(depth, bool):
        raise ValueError(f"depth must be a whole number of the form 9n+2 (20, 83, 164, 1001, ...), not {depth!r}")
    n, rest = divmod(depth - 2, 9)
    if n < 1 or rest:
        near = 11 if depth < 11 else 9 * n + 2
        raise ValueError(f"depth {depth} is not of the form 9n+2 (n >= 1): the nearest are {near} and {near + 9}")
    return n


class Bottleneck(nn.Module):
    """BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1, with the skip that ``skip`` names.

    Input ``(N, c_in, H, W)``; output ``(N, 4·width, H/stride, W/stride)``.  A transition's projection skip starts
    at the first pre-activation, as in He et al.'s own code.  ``erase_relu`` drops the last ReLU of the branch, the one
    before the last convolution (EraseReLU, arXiv 1709.07634, in its pre-activation form).
    """

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int = 1,
        skip: Literal["identity", "projection", "none"] = "identity",
        erase_relu: bool = False,
    ):
        super().__init__()
        c_out = EXPANSION * width
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False) if skip == "projection" else None
        self.identity = skip == "identity"
        self.erase_relu = erase_relu

    def branch(self) -> nn.Sequential:
        """What the block adds to its skip, as a chain that shares the block's modules."""
        last = [] if self.erase_relu else [nn.ReLU()]
        layers = (self.bn1, nn.ReLU(), self.conv1, self.bn2, nn.ReLU(), self.conv2, self.bn3, *last, self.conv3)
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.bn1(x), inplace=True)
        y = self.conv1(a)
        y = self.conv2(F.relu(self.bn2(y), inplace=True))
        y = self.bn3(y)
        y = self.conv3(y if self.erase_relu else F.relu(y, inplace=True))
        # In place: no backward pass needs the convolution's own output, and the sum needs no memory of its own.
        if self.identity:
            return y.add_(x)
        return y if self.shortcut is None else y.add_(self.shortcut(a))


class Network(nn.Module):
    """A stem convolution, a chain of blocks, and a head (BN, ReLU, mean over the image, linear).

    Call it on a float tensor ``(N, 3, H, W)`` (H and W divisible by 4); it returns logits ``(N, num_classes)``.
    ``blocks`` lists every block in forward order.  With ``checkpoint_activations`` set, a block's inner activations
    are recomputed in the backward pass instead of kept: about a fifth of the memory for about a third more time;
    gradients are the same.
    """

    def __init__(self, stem: nn.Module, chain: list[Block], channels: int, num_classes: int):
        super().__init__()
        self.stem = stem
        self.chain = nn.ModuleDict({b.name: b.module for b in chain})
        self._kinds: dict[str, Kind] = {b.name: b.kind for b in chain}
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.checkpoint_activations = False
        self.reference_quirks = False  # how NormPreserving is to hold it

    @property
    def blocks(self) -> list[Block]:
        return [Block(name, self._kinds[name], module) for name, module in self.chain.items()]

    def transition_convs(self, image_size: int = 32) -> list[tuple[nn.Conv2d, int]]:
        """The stand-alone transition convolutions (a ProcResNet's three), each with the side of its output."""
        convs, size = [], image_size
        for block in self.blocks:
            if isinstance(block.module, nn.Conv2d):
                size //= block.module.stride[0]
                convs.append((block.module, size))
        return convs

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.chain.values():
            # A block returns what it got or a new tensor, never its input changed in place, so recomputing is safe.
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(
                    block,
                    x,
                    use_reentrant=False,
                    preserve_rng_state=False,
                    context_fn=lambda block=block: (contextlib.nullcontext(), _frozen_statistics(block)),
                )
            else:
                x = block(x)
        x = F.relu(self.bn(x), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Batch norms do not count the batch a second time when a block is recomputed.

    A momentum of 0 leaves the running averages as they are, and the recomputed graph as it was.
    """
    norms = [(m, m.momentum, m.num_batches_tracked.clone()) for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    for m, _, _ in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum, counted in norms:
            m.momentum = momentum
            m.num_batches_tracked.copy_(counted)


def build(
    arch: Arch,
    depth: int,
    num_classes: int = 10,
    erase_relu: bool = False,
    project: bool = True,
    reference_quirks: bool = False,
) -> Network:
    """Build one network of the paper, with He et al.'s (2015) initialisation.

    Parameters
    ----------
    arch : ``"plain"``, ``"resnet"`` or ``"procresnet"``
    depth : the *base* network's depth 9n+2 (20, 83, 164, 1001, ...).  ``build("procresnet", 164)`` is ProcResNet-166.
    num_classes : 10 for CIFAR-10, 100 for CIFAR-100.
    erase_relu : drop the last ReLU of every block (Table II's "ErasedReLU").
    project : for ProcResNet, start from projected transition kernels.  Keeping them so during training is
        the optimiser hook's work: :class:`paperlib.projection.NormPreserving`.  ``False`` is Table III's second row.
    reference_quirks : for ProcResNet, treat the transitions as the authors' published code does
        (:mod:`paperlib.reference`): not projected at the start, and by its projection when held.

    Returns
    -------
    Network, float32, on the CPU, in training mode.  Weights come from torch's global generator: seed it first.

    Raises
    ------
    ValueError : unknown ``arch``; ``depth`` not of the form 9n+2; ``num_classes`` < 1; ``reference_quirks`` without
        projected transitions.

    Examples
    --------
    >>> import torch
    >>> model = build("resnet", 20)
    >>> [(b.name, b.kind) for b in model.blocks][:3]
    [('stage1_block1', 'transition'), ('stage1_block2', 'residual'), ('stage2_block1', 'transition')]
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    >>> round(parameter_count(build("resnet", 164)) / 1e6, 2)  # Table II: 1.71M
    1.7
    """
    if arch not in get_args(Arch):
        raise ValueError(f"arch {arch!r} is unknown: choose one of {', '.join(get_args(Arch))}")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number of at least 1, not {num_classes!r}")
    if reference_quirks and not (arch == "procresnet" and project):
        raise ValueError(
            "reference_quirks is about a ProcResNet's projection: use it with arch 'procresnet' and project=True"
        )
    n = check_depth(depth)
    chain: list[Block] = []
    stem: nn.Module = nn.Identity() if arch == "procresnet" else nn.Conv2d(3, 16, 3, padding=1, bias=False)
    c = 3 if arch == "procresnet" else 16
    for stage, width in enumerate(WIDTHS, 1):
        stride = 1 if stage == 1 else 2
        if arch == "procresnet":
            k = 3 if stage == 1 else 1
            conv = nn.Conv2d(c, EXPANSION * width, k, stride=stride, padding=k // 2, bias=False)
            chain.append(Block(f"transition{stage}", "transition", conv))
            c = EXPANSION * width
        for i in range(1, n + 1):
            changes = i == 1 and arch != "procresnet"
            skip = "none" if arch == "plain" else "projection" if changes else "identity"
            module = Bottleneck(c, width, stride if changes else 1, skip, erase_relu)
            chain.append(Block(f"stage{stage}_block{i}", "transition" if changes else "residual", module))
            c = EXPANSION * width
    model = Network(stem, chain, c, num_classes)
    initialise(model)
    model.reference_quirks = reference_quirks
    if arch == "procresnet" and project and not reference_quirks:
        with torch.no_grad():
            for conv, size in model.transition_convs():
                conv.weight.copy_(projection.project(conv.weight, size, conv.stride[0]))
    return model


def initialise(model: nn.Module) -> None:
    """He et al.'s (2015) initialisation, in place: convolutions N(0, 2/fan_out), as in their own residual networks.

    fan_out (k²·c_out) is the form that preserves the *gradient's* variance, which is what the paper is about.
    """
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="linear")
            nn.init.zeros_(m.bias)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def describe(model: Network, image_size: int = 32) -> list[dict[str, object]]:
    """One dict a block, in forward order: ``name``, ``kind``, ``stage``, ``skip``, ``channels``, ``size``,
    ``parameters``.

    ``skip`` is ``"identity"``, ``"projection"``, ``"none"``, or ``"convolution"`` for a ProcResNet's transition,
    which is one convolution and no branch; ``channels`` and ``size`` (the side) are those of the block's output.
    """
    rows, stage, size = [], 0, image_size
    for block in model.blocks:
        module = block.module
        stage += block.kind == "transition"
        last = module if isinstance(module, nn.Conv2d) else module.conv3
        stride = module.stride[0] if isinstance(module, nn.Conv2d) else module.conv2.stride[0]
        size //= stride
        if isinstance(module, nn.Conv2d):
            skip = "convolution"
        else:
            skip = "identity" if module.identity else "none" if module.shortcut is None else "projection"
        rows.append(
            {
                "name": block.name,
                "kind": block.kind,
                "stage": stage,
                "skip": skip,
                "channels": last.out_channels,
                "size": size,
                "parameters": parameter_count(module),
            }
        )
    return rows
