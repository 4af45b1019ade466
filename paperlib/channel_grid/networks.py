"""The three-layer networks of the channel grid, and the variants: which kernels are held, and how the middle begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib._checks import one_of
from paperlib.errors import ConfigError
from paperlib.projection import default_method, delta_orthogonal, project_unchecked, target

Start = Literal["default", "he-fan-in", "he-fan-out", "orthogonal"]
Head = Literal["mean", "linear"]
SIDE = 32  # of the images


@dataclass(frozen=True)
class Variant:
    """How the middle kernel begins, and the singular value it is held at (None: it is trained freely).

    With ``every_layer`` the first and the last kernel are held as well, each at its own target: that of a Conv-ReLU
    for the first, and that of a convolution alone for the last, which no ReLU follows.
    """

    title: str
    start: Start
    sigma: Callable[[int, int], float] | None = None
    every_layer: bool = False


def _conv_relu(c: int, d: int) -> float:
    """√(2d / min(d, c)), equation 7 with a ReLU behind the convolution."""
    return target((d, c, 3, 3), relu=True)


VARIANTS: dict[str, Variant] = {
    "conv-relu": Variant("held, σ = √(2d / min(d, c))", "default", _conv_relu),
    "conv": Variant("held, σ = √(d / min(d, c))", "default", lambda c, d: target((d, c, 3, 3))),
    "published": Variant("held, σ = √(d / c)", "default", lambda c, d: math.sqrt(d / c)),
    "free": Variant("free, PyTorch's start", "default"),
    "free-he-fan-in": Variant("free, He's start (fan in)", "he-fan-in"),
    "free-he-fan-out": Variant("free, He's start (fan out)", "he-fan-out"),
    "free-orthogonal": Variant("free, orthogonal start", "orthogonal"),
    "conv-relu-all": Variant("all three held, σ = √(2d / min(d, c))", "default", _conv_relu, every_layer=True),
}
MIDDLE_VARIANTS = tuple(name for name, variant in VARIANTS.items() if not variant.every_layer)
"""The variants that differ in the middle kernel alone: what a grid trains unless it is told otherwise."""


def check_variant(name: str) -> str:
    """``name``, if it is a key of ``VARIANTS``.

    Raises
    ------
    ValueError
        It is not.
    """
    one_of("variant", name, VARIANTS)
    return name


def initial_kernel(d: int, c: int, start: Start, generator: torch.Generator) -> Tensor:
    """A random 3×3 kernel to start from.

    ``"default"`` is PyTorch's, uniform with variance 1 / (27 c).  ``"he-fan-in"`` is normal with variance 2 / (9 c): it
    keeps the forward signal's scale and, on average, the norm of the gradient.  ``"he-fan-out"`` is normal with
    variance 2 / (9 d): it keeps the gradient's scale, entry by entry, but not its norm where c is not d.
    ``"orthogonal"`` is delta-orthogonal with the singular values of a Conv-ReLU
    (:func:`paperlib.projection.delta_orthogonal`).

    Parameters
    ----------
    d : int
        Output channels.
    c : int
        Input channels.
    start : str
        One of the four names.
    generator : torch.Generator
        Of the CPU.

    Returns
    -------
    Tensor, (d, c, 3, 3)
        In float32.

    Raises
    ------
    ConfigError
        Another name.

    Examples
    --------
    >>> w = initial_kernel(64, 16, "he-fan-in", torch.Generator().manual_seed(0))
    >>> round(w.var().item() * 9 * 16, 1)
    2.0
    """
    if start == "orthogonal":
        return delta_orthogonal((d, c, 3, 3), relu=True, generator=generator)
    kernel = torch.empty(d, c, 3, 3)
    if start == "default":
        return nn.init.kaiming_uniform_(kernel, a=math.sqrt(5), generator=generator)
    if start not in get_args(Start):
        raise ConfigError(f"start {start!r} is unknown: choose one of {', '.join(get_args(Start))}")
    mode: Any = start.removeprefix("he-").replace("-", "_")
    return nn.init.kaiming_normal_(kernel, mode=mode, generator=generator)


def memory_format(device: torch.device) -> torch.memory_format:
    """How images and kernels lie in memory: channels last on a CPU, but not on CUDA.

    There it is for the kernels of TF32, which are not used here; which is faster has not been measured.
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def _seen(side: int, like: Tensor) -> Tensor:
    """``(3, side)``: which pixels of an axis each tap sees: the first all but the last, the last all but the first."""
    at = torch.arange(side, device=like.device)
    return torch.stack([at < side - 1, at >= 0, at > 0]).to(like.dtype)


def tap_sums(y: Tensor) -> Tensor:
    """What each of a 3×3 kernel's nine taps sees of a map with zero padding, in all: ``(N, C, H, W)`` to ``(N, 9, C)``.

    The sum of a convolution's output over the map is the product of the kernel with these.  Nothing here waits for a
    CUDA device, and the gradient lies in memory as ``y`` does.
    """
    n, _, h, w = y.shape
    taps = (_seen(h, y)[:, None, :, None] * _seen(w, y)[None, :, None, :]).flatten(0, 1).flatten(1)
    if y.is_contiguous(memory_format=torch.channels_last):
        return torch.bmm(taps.expand(n, -1, -1), y.permute(0, 2, 3, 1).flatten(1, 2))
    return torch.bmm(y.flatten(2), taps.T.expand(n, -1, -1)).transpose(1, 2)


class Networks(nn.Module):
    """Three-layer networks of one shape, one per seed, side by side in grouped convolutions; none sees another.

    Images are ``(N, S·3, H, W)``, three channels for each of S networks; logits are ``(S, N, classes)``.  Network j of
    a group is the network of seed j alone.

    Parameters
    ----------
    c : int
        Channels at the input of the middle convolution.
    d : int
        Channels at its output.
    variant : Variant
        How the middle kernel begins, and which kernels are held.
    seeds : iterable of int
        One for each network.
    classes : int
        Number of logits.
    head : str
        The logits are the ``"mean"`` of the last convolution's output over the feature map, or a ``"linear"`` function
        of it (for 32×32 images, initialised as PyTorch does, without a bias).

    Raises
    ------
    ConfigError
        There are no seeds, or the head is unknown.

    Examples
    --------
    >>> Networks(4, 8, VARIANTS["free"], seeds=[0, 1])(torch.zeros(5, 6, 32, 32)).shape
    torch.Size([2, 5, 10])
    """

    def __init__(
        self, c: int, d: int, variant: Variant, seeds: Iterable[int], classes: int = 10, head: Head = "mean"
    ) -> None:
        super().__init__()
        seeds = list(seeds)
        if not seeds:
            raise ConfigError("a group needs at least one seed")
        if head not in get_args(Head):
            raise ConfigError(f"head {head!r} is unknown: choose one of {', '.join(get_args(Head))}")
        self.c, self.d, self.variant, self.groups = c, d, variant, len(seeds)
        kernels, readouts = [], []
        for seed in seeds:
            # The outer kernels are drawn first: they are the same for every variant that does not hold them.
            generator = torch.Generator().manual_seed(seed)
            first = initial_kernel(c, 3, "he-fan-in", generator)
            last = initial_kernel(classes, d, "he-fan-in", generator)
            kernels.append((first, initial_kernel(d, c, variant.start, generator), last))
            if head == "linear":
                bound = 1 / math.sqrt(classes * SIDE * SIDE)
                readout = torch.empty(1, classes, classes, SIDE, SIDE)
                readouts.append(nn.init.uniform_(readout, -bound, bound, generator=generator))
        self.first, self.middle, self.last = (
            nn.Parameter(torch.cat(layer).contiguous(memory_format=torch.channels_last))
            for layer in zip(*kernels, strict=True)
        )
        self.readout = nn.Parameter(torch.cat(readouts)) if readouts else None
        self.project()

    def trunk(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """x and y, input and output of the middle Conv-ReLU."""
        x = F.conv2d(images, self.first, padding=1, groups=self.groups).relu()
        return x, F.conv2d(x, self.middle, padding=1, groups=self.groups).relu()

    def head(self, y: Tensor) -> Tensor:
        if self.readout is None:
            # The mean of a convolution needs no convolution, only what each tap adds up: a tenth of the arithmetic.
            sums = tap_sums(y).unflatten(2, (self.groups, -1)).permute(2, 0, 3, 1).flatten(2)
            return sums @ self.last.unflatten(0, (self.groups, -1)).flatten(2).transpose(1, 2) / math.prod(y.shape[2:])
        scores = F.conv2d(y, self.last, padding=1, groups=self.groups)
        scores = scores.unflatten(1, (self.groups, -1)).transpose(0, 1).flatten(2)
        return scores @ self.readout.flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images)[1])

    def alone(self, j: int) -> Networks:
        """A copy of network j of the group, on the CPU."""
        one = Networks.__new__(Networks)
        nn.Module.__init__(one)
        one.c, one.d, one.variant, one.groups = self.c, self.d, self.variant, 1
        one.readout = None if self.readout is None else nn.Parameter(self.readout.detach()[j : j + 1].clone())
        for name in ("first", "middle", "last"):
            kernel = getattr(self, name)
            own = kernel.detach().unflatten(0, (self.groups, -1))[j].clone()
            setattr(one, name, nn.Parameter(own.contiguous(memory_format=torch.channels_last)))
        return one.cpu()

    @torch.no_grad()
    def project(self) -> None:
        """Set the singular values of the kernels that the variant holds; do nothing where it holds none.

        It is done as :class:`paperlib.holding.NormPreserving` does it.  A kernel without a projection stays as it is.
        """
        if self.variant.sigma is None:
            return
        self._hold(self.middle, self.variant.sigma(self.c, self.d))
        if self.variant.every_layer:
            self._hold(self.first, target((self.c, 3, 3, 3), relu=True))
            self._hold(self.last, target((len(self.last) // self.groups, self.d, 3, 3)))

    def _hold(self, kernels: Tensor, sigma: float) -> None:
        """Set the singular values of one layer's kernels, one kernel for each network, to ``sigma``."""
        stack = kernels.detach().unflatten(0, (self.groups, -1))
        factor = sigma / target(tuple(stack.shape[1:]))
        method = default_method(kernels.device)

        def one(kernel: Tensor) -> tuple[Tensor, Tensor]:
            # The grid is "small", so that the size only says that the map is not smaller than the kernel.
            return project_unchecked(kernel, (SIDE, SIDE), 1, False, 1, method, "small")

        if method == "eigh":  # on the CPU; it looks at its values, which a batch cannot
            projected, ok = map(torch.stack, zip(*map(one, stack), strict=True))
        else:
            projected, ok = torch.vmap(one)(stack)
        kernels.copy_(torch.where(ok[:, None, None, None, None], factor * projected, stack).flatten(0, 1))
