"""The networks of the paper: Plain, ResNet and ProcResNet for CIFAR-sized images.

All three are made of one bottleneck block (batch norm, ReLU and convolution, three times).  There are 3n blocks in
three stages of 16, 32 and 64 channels, expanded fourfold, which makes a depth of 9n+2 [He2016]_.  The networks differ
in what happens around a block:

* ``resnet``: an identity skip goes around every block except the three that change the number of channels.
* ``plain``: the same layers, with no skip at all (the paper's Figure 1e).
* ``procresnet``: there are only identity skips.  The dimensions change in three stand-alone convolutions whose kernels
  are held norm-preserving (the paper's Figure 1d).  It has two layers more: depth 164 is "ProcResNet-166".

.. [He2016] He, Zhang, Ren, Sun: *Identity mappings in deep residual networks*, arXiv 1603.05027.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.checkpoint import checkpoint

from paperlib import _checks, fused
from paperlib._checks import one_of, whole_number
from paperlib.projection import project as project_kernel

Arch = Literal["plain", "resnet", "procresnet"]
Kind = Literal["transition", "residual"]
Skip = Literal["identity", "projection", "none"]
Fused = Literal[True, False, "blocks"]
EXPANSION = 4
WIDTHS = (16, 32, 64)
MOST_DEPTH = 10_001  # ten times the paper's deepest: its weights alone take 100 MB, its activations 100 GB a batch
MOST_CHANNELS = 65_536  # four times as many make a kernel of 16 GiB
MOST_CLASSES = 1_000_000
TITLES: dict[Arch, str] = {"plain": "Plain", "resnet": "ResNet", "procresnet": "ProcResNet"}
"""What each architecture is called in a text."""


def network_name(arch: str, depth: int) -> str:
    """A network's name as in the paper, from its base network's depth: a ProcResNet has two layers more.

    Examples
    --------
    >>> network_name("procresnet", 164), network_name("resnet", 164)
    ('procresnet-166', 'resnet-164')
    """
    one_of("arch", arch, get_args(Arch))
    check_depth(depth)
    return f"{arch}-{depth + 2 * (arch == 'procresnet')}"


def title(arch: Arch, depth: int) -> str:
    """:func:`network_name` as it stands in a text: ``ProcResNet-166`` for ``"procresnet"`` and 164."""
    return network_name(arch, depth).replace(arch, TITLES[arch])


@dataclass(frozen=True)
class Block:
    """One block of a network: where the gradient's norm is compared before and after.

    Attributes
    ----------
    name : str
        Its name in the network's chain.
    kind : {"transition", "residual"}
        ``"transition"`` where the number of channels changes, else ``"residual"`` (in a Plain network, too, whose
        blocks sit in the same places but have no skip).
    module : nn.Module
        The block itself.
    """

    name: str
    kind: Kind
    module: nn.Module


def check_depth(depth: int) -> int:
    """The n of a depth 9n+2; ``ValueError``, which names the nearest depths that exist, for any other depth.

    Examples
    --------
    >>> check_depth(164)
    18
    """
    unit = "of the form 9n+2 (11 and 20 are the smallest)"
    n, rest = divmod(whole_number("depth", depth, least=11, unit=unit, most=MOST_DEPTH) - 2, 9)
    if rest:
        near = 9 * n + 2
        raise ValueError(f"depth {depth} is not of the form 9n+2 (n >= 1): the nearest are {near} and {near + 9}")
    return n


class Bottleneck(nn.Module):
    """BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1, with the skip that ``skip`` names.

    The input is ``(N, c_in, H, W)``, the output ``(N, 4·width, H/stride, W/stride)``.

    Parameters
    ----------
    c_in : int
        Channels of the input.
    width : int
        Channels inside the block; the output has four times as many.
    stride : int
        The stride of the 3×3 convolution.
    skip : {"identity", "projection", "none"}
        What goes around the branch.  A projection skip starts at the first pre-activation, as in He et al.'s own code.
    erase_relu : bool
        Drop the last ReLU of the branch, the one before the last convolution (EraseReLU, arXiv 1709.07634, in its
        pre-activation form).

    Examples
    --------
    >>> Bottleneck(16, 32, stride=2, skip="projection")(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 128, 4, 4])
    """

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int = 1,
        skip: Skip = "identity",
        erase_relu: bool = False,
    ) -> None:
        _checks.whole_number("c_in", c_in, most=MOST_CHANNELS)
        _checks.whole_number("width", width, most=MOST_CHANNELS)
        _checks.whole_number("stride", stride, most=_checks.LARGEST_STEP)
        _checks.one_of("skip", skip, get_args(Skip))
        _checks.flag("erase_relu", erase_relu)
        super().__init__()
        c_out = EXPANSION * width
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if skip == "projection":
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
        self.identity = skip == "identity"
        self.erase_relu = erase_relu
        self.fused: Fused = False

    def branch(self) -> nn.Sequential:
        """What the block adds to its skip, as a chain that shares the block's modules."""
        last = [] if self.erase_relu else [nn.ReLU()]
        layers = (self.bn1, nn.ReLU(), self.conv1, self.bn2, nn.ReLU(), self.conv2, self.bn3, *last, self.conv3)
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and self.training:
            take = fused.bottleneck if self.fused == "blocks" else fused.by_layers
            norms, convs = (self.bn1, self.bn2, self.bn3), (self.conv1, self.conv2, self.conv3)
            return take(x, norms, convs, not self.erase_relu, self.identity if self.shortcut is None else self.shortcut)
        a = F.relu(self.bn1(x), inplace=True)
        y = self.conv2(F.relu(self.bn2(self.conv1(a)), inplace=True))
        y = self.bn3(y)
        y = self.conv3(y if self.erase_relu else F.relu(y, inplace=True))
        # In place: no backward pass needs the convolution's own output, and the sum needs no memory of its own.
        if self.identity:
            return y.add_(x)
        return y if self.shortcut is None else y.add_(self.shortcut(a))


class Network(nn.Module):
    """A stem convolution, a chain of blocks, and a head (BN, ReLU, mean over the image, linear).

    Call it on a float tensor ``(N, 3, H, W)`` (H and W divisible by 4); it returns logits ``(N, num_classes)``.
    :func:`build` makes it.

    Attributes
    ----------
    blocks : list of Block
        Every block in forward order.
    checkpoint_activations : bool
        Recompute a block's inner activations in the backward pass instead of keeping them.  This takes about a fifth
        of the memory, and about a third more time; the gradients are the same.
    """

    def __init__(self, stem: nn.Module, chain: list[Block], channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.chain = nn.ModuleDict({b.name: b.module for b in chain})
        self._kinds: dict[str, Kind] = {b.name: b.kind for b in chain}
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.checkpoint_activations = False

    def fuse(self, on: Fused = True) -> Network:
        """Compute the blocks by the kernels of :mod:`paperlib.fused` while training on CUDA; returns itself.

        They take batch normalisation and ReLU in one, and the 1×1 and 3×3 convolutions that fit them; or, with
        ``"blocks"``, each block that keeps its size as a whole.  The network's modules, parameters and results are the
        same, up to rounding, but hooks of layers within a block are not called.
        """
        if not (isinstance(on, str) and on == "blocks"):
            _checks.flag("on", on)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                module.fused = on
        return self

    @property
    def blocks(self) -> list[Block]:
        """Every block in forward order."""
        return [Block(name, self._kinds[name], module) for name, module in self.chain.items()]

    def transition_convs(self, image_size: int = 32) -> list[tuple[nn.Conv2d, int]]:
        """The stand-alone transition convolutions (a ProcResNet's three), each with the side of its output."""
        convs, size = [], _checks.whole_number("image_size", image_size)
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
                contexts = functools.partial(_recomputing, block)
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
            else:
                x = block(x)
        x = F.relu(self.bn(x), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))


def _recomputing(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
    """What a block runs in at first, and what it runs in when it is run again for the backward pass."""
    return contextlib.nullcontext(), _frozen_statistics(block)


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Batch norms do not count the batch a second time when a block is recomputed.

    A momentum of 0 leaves the running averages as they are, and the recomputed graph as it was.
    """
    kept = []
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) and norm.num_batches_tracked is not None:
            kept.append((norm, norm.momentum, norm.num_batches_tracked, norm.num_batches_tracked.clone()))
            norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counter, counted in kept:
            norm.momentum = momentum
            counter.copy_(counted)


def build(arch: Arch, depth: int, num_classes: int = 10, erase_relu: bool = False, project: bool = True) -> Network:
    """Build one network of the paper, with He et al.'s (2015) initialisation.

    Parameters
    ----------
    arch : {"plain", "resnet", "procresnet"}
        Which of the three.
    depth : int
        The *base* network's depth 9n+2 (20, 83, 164, 1001, ...).  ``build("procresnet", 164)`` is ProcResNet-166.
    num_classes : int
        10 for CIFAR-10, 100 for CIFAR-100.
    erase_relu : bool
        Drop the last ReLU of every block (Table II's "ErasedReLU").
    project : bool
        For a ProcResNet: start from projected transition kernels.  To keep them so during training is the work of
        :class:`paperlib.holding.NormPreserving`.  ``False`` is Table III's second row, and also the start of the
        authors' published code.

    Returns
    -------
    Network
        In float32, on the CPU, in training mode.  Its weights come from torch's global generator: seed it first.

    Raises
    ------
    ValueError
        For an unknown ``arch``, a ``depth`` that is not of the form 9n+2, or ``num_classes`` below 1.

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
    one_of("arch", arch, get_args(Arch))
    whole_number("num_classes", num_classes, most=MOST_CLASSES)
    _checks.flag("erase_relu", erase_relu)
    _checks.flag("project", project)
    n = check_depth(depth)
    stem = nn.Identity() if arch == "procresnet" else nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
    model = Network(stem, list(_chain(arch, n, erase_relu)), EXPANSION * WIDTHS[-1], num_classes)
    initialise(model)
    if arch == "procresnet" and project:
        with torch.no_grad():
            for conv, size in model.transition_convs():
                conv.weight.copy_(project_kernel(conv.weight, size, conv.stride[0]))
    return model


def _chain(arch: Arch, n: int, erase_relu: bool) -> Iterator[Block]:
    """The blocks between stem and head: in each stage n bottlenecks, in a ProcResNet behind a convolution."""
    c = 3 if arch == "procresnet" else WIDTHS[0]
    for stage, width in enumerate(WIDTHS, 1):
        stride = 1 if stage == 1 else 2
        if arch == "procresnet":
            k = 3 if stage == 1 else 1
            conv = nn.Conv2d(c, EXPANSION * width, k, stride=stride, padding=k // 2, bias=False)
            yield Block(f"transition{stage}", "transition", conv)
            c = EXPANSION * width
        for i in range(1, n + 1):
            changes = i == 1 and arch != "procresnet"
            skip: Skip = "none" if arch == "plain" else "projection" if changes else "identity"
            module = Bottleneck(c, width, stride if changes else 1, skip, erase_relu)
            yield Block(f"stage{stage}_block{i}", "transition" if changes else "residual", module)
            c = EXPANSION * width


def block_names(arch: Arch, depth: int) -> tuple[str, ...]:
    """The names of a network's blocks in forward order, without its weights.

    Examples
    --------
    >>> block_names("procresnet", 11)[:3]
    ('transition1', 'stage1_block1', 'transition2')
    """
    return _block_names(one_of("arch", arch, get_args(Arch)), check_depth(depth))


@functools.cache
def _block_names(arch: Arch, n: int) -> tuple[str, ...]:
    with torch.device("meta"):
        return tuple(block.name for block in _chain(arch, n, erase_relu=False))


def initialise(model: nn.Module) -> None:
    """He et al.'s (2015) initialisation, in place: convolutions N(0, 2/fan_out), as in their own residual networks.

    fan_out (k²·c_out) is the form that preserves the *gradient's* variance, which is what the paper is about.  Weights
    on the meta device have no numbers, and nothing is drawn for them.
    """
    for m in _with_weights(model).modules():
        if not isinstance(m, nn.Conv2d | nn.Linear) or m.weight.is_meta:  # for a thousand layers this saves seconds
            continue
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_normal_(m.weight, nonlinearity="linear")
            nn.init.zeros_(m.bias)


def parameter_count(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in _with_weights(model).parameters() if p.requires_grad)


def _with_weights(model: nn.Module) -> nn.Module:
    if any(map(is_lazy, _checks.module("model", model).parameters())):
        raise ValueError("model has lazy layers without weights: run it on a batch first")
    return model


def describe(model: Network, image_size: int = 32) -> list[dict[str, Any]]:
    """One dict per block, in forward order.

    The keys are ``name``, ``kind``, ``stage``, ``skip``, ``channels``, ``size`` and ``parameters``.  ``skip`` is
    ``"identity"``, ``"projection"``, ``"none"``, or ``"convolution"`` for a ProcResNet's transition, which is one
    convolution and no branch; ``channels`` and ``size`` (the side) are those of the block's output.

    Examples
    --------
    >>> row = describe(build("procresnet", 20))[0]
    >>> row["name"], row["skip"], row["channels"], row["size"], row["parameters"]
    ('transition1', 'convolution', 64, 32, 1728)
    """
    _checks.instance("model", model, Network, "a paperlib.models.Network")
    _checks.whole_number("image_size", image_size)
    rows, stage, size = [], 0, image_size
    for block in model.blocks:
        module = block.module
        stage += block.kind == "transition"
        if isinstance(module, Bottleneck):
            skip = "identity" if module.identity else "projection" if module.shortcut else "none"
            strided, last = module.conv2, module.conv3
        else:
            assert isinstance(module, nn.Conv2d)
            skip, strided, last = "convolution", module, module
        size //= strided.stride[0]
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
