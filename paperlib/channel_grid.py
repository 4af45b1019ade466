"""The Conv-ReLU channel grid (Figure 2): does the projection keep the gradient's norm, for how many channels?

A network of three 3×3 convolutions, 3→c, c→d and d→10 with ReLUs between them, is trained on CIFAR-10.  Its head is the mean over
the map, which makes ∂E/∂y the same at every pixel but those at the border, or a linear layer, which does not.  What is looked at is its middle, the Conv-ReLU y = relu(W x): the ratio ‖∂E/∂y‖ / ‖∂E/∂x‖, which
is 1 if the gradient's norm is kept and above 1 if the gradient shrinks on its way back.  The *variants* differ in the
middle kernel alone: in how it begins, and in the singular value it is held at.

On its way back through the Conv-ReLU the gradient loses energy twice, and the ratio is made of three factors,

    (‖∂E/∂x‖ / ‖∂E/∂y‖)² = ρ · φ · γ ,

ρ the share of the energy that the ReLU lets through, φ the share of the rest that lies where the convolution is not
zero (:func:`paperlib.energy.energy_fraction`), and γ what the convolution makes of that.  A projected kernel has
γ = σ², up to the crop and the border; equation 7 takes φ for min(d, c)/d and, with the factor of 2 in front of a
ReLU, ρ for 1/2.  Each is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import field_validator
from torch import Tensor, nn

from paperlib.cifar import Cifar, epoch_generator, normalise
from paperlib.config import Channel, Count, Lr, Momentum, Parameters, Rate, Seeds, Stages, resolve_device
from paperlib.energy import effective_rank, energy_fraction
from paperlib.errors import ConfigError
from paperlib.machine import full_float32, settings
from paperlib.projection import default_method, delta_orthogonal, project_unchecked, target

Start = Literal["default", "he-fan-in", "he-fan-out", "orthogonal"]
Head = Literal["mean", "linear"]
SIDE = 32  # of the images
EVERY = 2  # steps from one projection to the next, as in the paper


@dataclass(frozen=True)
class Variant:
    """How the middle kernel begins, and the singular value it is held at (None: it is trained freely)."""

    title: str
    start: Start
    sigma: Callable[[int, int], float] | None = None


VARIANTS: dict[str, Variant] = {
    "conv-relu": Variant("projected, σ = √(2d / min(d, c))", "default", lambda c, d: target((d, c, 3, 3), relu=True)),
    "conv": Variant("projected, σ = √(d / min(d, c))", "default", lambda c, d: target((d, c, 3, 3))),
    "published": Variant("projected, σ = √(d / c)", "default", lambda c, d: math.sqrt(d / c)),
    "free": Variant("no projection, PyTorch's start", "default"),
    "free-he-fan-in": Variant("no projection, He's start (fan in)", "he-fan-in"),
    "free-he-fan-out": Variant("no projection, He's start (fan out)", "he-fan-out"),
    "free-orthogonal": Variant("no projection, orthogonal start", "orthogonal"),
}


def check_variant(name: str) -> str:
    """``name`` if it is a key of ``VARIANTS``; ``ValueError`` if not."""
    if name not in VARIANTS:
        raise ValueError(f"variant {name!r} is unknown: choose from {', '.join(VARIANTS)}")
    return name


def initial_kernel(d: int, c: int, start: Start, generator: torch.Generator) -> Tensor:
    """A 3×3 kernel ``(d, c, 3, 3)``, float32.

    ``"default"`` is PyTorch's, uniform with variance 1 / (27 c); ``"he-fan-in"`` normal with 2 / (9 c), which keeps
    the forward signal's scale and, on average, the norm of the gradient; ``"he-fan-out"`` normal with 2 / (9 d), which
    keeps the gradient's scale, entry by entry, but not its norm when c is not d; ``"orthogonal"`` a
    delta-orthogonal kernel with the singular values of a Conv-ReLU (:func:`paperlib.projection.delta_orthogonal`).
    Raises ``ConfigError`` for another name.

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
    return nn.init.kaiming_normal_(kernel, mode=start.removeprefix("he-").replace("-", "_"), generator=generator)


class Networks(nn.Module):
    """``seeds`` three-layer networks of one shape, side by side in grouped convolutions; none sees another.

    Images are ``(N, S·3, H, W)``, three channels for each network; logits ``(S, N, classes)``.  Network j of a group
    is the network of seed j alone.  ``head``: the logits are the ``"mean"`` of the last convolution's output over the map, or a
    ``"linear"`` function of it (32×32 images only, initialised as PyTorch does, without a bias).

    Raises ``ConfigError`` for no seeds or an unknown head.

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
            # The outer kernels are drawn first: they are the same for every variant.
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
        scores = F.conv2d(y, self.last, padding=1, groups=self.groups)
        if self.readout is None:
            return scores.mean((2, 3)).unflatten(1, (self.groups, -1)).transpose(0, 1)
        scores = scores.unflatten(1, (self.groups, -1)).transpose(0, 1).flatten(2)
        return scores @ self.readout.flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images)[1])

    def alone(self, j: int) -> Networks:
        """A copy of network j of the group."""
        one = Networks.__new__(Networks)
        nn.Module.__init__(one)
        one.c, one.d, one.variant, one.groups = self.c, self.d, self.variant, 1
        one.readout = None if self.readout is None else nn.Parameter(self.readout.detach()[j : j + 1].clone())
        for name in ("first", "middle", "last"):
            kernel = getattr(self, name)
            own = kernel.detach().unflatten(0, (self.groups, -1))[j].clone()
            setattr(one, name, nn.Parameter(own.contiguous(memory_format=torch.channels_last)))
        return one

    @torch.no_grad()
    def project(self) -> None:
        """Set the middle kernels' singular values to the variant's σ; nothing where it has none.

        As :class:`paperlib.holding.NormPreserving` does it.  A kernel that has no projection is left as it is.
        """
        if self.variant.sigma is None:
            return
        d, c = self.d, self.c
        factor = self.variant.sigma(c, d) / target((d, c, 3, 3))
        method = default_method(self.middle.device)
        stack = self.middle.detach().unflatten(0, (self.groups, d))

        def one(kernel: Tensor) -> tuple[Tensor, Tensor]:
            # The grid is "small", so that the size only says that the map is not smaller than the kernel.
            return project_unchecked(kernel, (32, 32), 1, False, 1, method, "small")

        if method == "eigh":  # on the CPU; it looks at its values, which a batch cannot
            projected, ok = map(torch.stack, zip(*map(one, stack), strict=True))
        else:
            projected, ok = torch.vmap(one)(stack)
        self.middle.copy_(torch.where(ok[:, None, None, None, None], factor * projected, stack).flatten(0, 1))


# -- what is measured --------------------------------------------------------------------------------------------
MEASURED = (
    "loss",
    "active",
    "log_ratio",
    "relu_share",
    "energy_fraction",
    "gain",
    "effective_rank",
    "white_log_ratio",
    "white_fraction",
    "fresh_fraction",
)


def measure(network: Networks, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The gradient's way back through the middle Conv-ReLU of one network, for one batch, with the mean cross-entropy.

    Parameters
    ----------
    network : a group of one.
    images : ``(N, 3, H, W)``, normalised.
    labels : int64 ``(N,)``.

    Returns
    -------
    ``loss``;
    ``active``, the share of y that is not zero;
    ``log_ratio``, log ‖∂E/∂y‖ / ‖∂E/∂x‖: infinite where the ReLU lets nothing through; NaN if the loss or a norm is not finite,
    or ∂E/∂y is zero because the last convolution has died;
    ``relu_share`` ρ, ``energy_fraction`` φ and ``gain`` γ, the three factors of the ratio (see the module);
    ``effective_rank`` of the gradient between convolution and ReLU (:func:`paperlib.energy.effective_rank`);
    ``white_log_ratio`` and ``white_fraction``, as ``log_ratio`` and ``energy_fraction``, but with white noise in the
    place of ∂E/∂y, behind the same ReLU and the same kernel: what the layer does to a gradient that knows nothing of it;
    ``fresh_fraction``, the energy fraction of the network's own gradient in the row space of a kernel that knows nothing of it.

    Raises ``ValueError`` for a group of several.
    """
    if network.groups != 1:
        raise ValueError(f"measure takes one network, not a group of {network.groups}: choose one with .alone(j)")
    kernel = network.middle.detach()
    with torch.no_grad():
        x, _ = network.trunk(images)
    x.requires_grad_()
    z = F.conv2d(x, kernel, padding=1)
    y = z.relu()
    loss = F.cross_entropy(network.head(y)[0], labels)
    found = {"loss": loss.item(), "active": (y > 0).double().mean().item()}
    if not math.isfinite(found["loss"]) or not bool(torch.isfinite(kernel).all()):
        return found | dict.fromkeys(MEASURED[2:], math.nan)
    at_z, at_y = torch.autograd.grad(loss, (z, y), retain_graph=True)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y.device)
    white = noise * (z > 0)
    # Both at once: the row space is the same, and finding it takes longer than the rest.
    shares = energy_fraction(kernel, torch.cat([at_z, white])).split(len(images))
    real, control = (
        _factors(x, z, g, before, share) for g, before, share in ((at_z, at_y, shares[0]), (white, noise, shares[1]))
    )
    found |= real | {"effective_rank": effective_rank(at_z)}
    found |= {"white_log_ratio": control["log_ratio"], "white_fraction": control["energy_fraction"]}
    fresh = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(2**31)).to(kernel.device)
    return found | {"fresh_fraction": _overall(energy_fraction(fresh, at_z), at_z)}


def _overall(shares: Tensor, gradient: Tensor) -> float:
    """The share of all images' energy, from each image's; NaN if there is none."""
    energy = gradient.double().square().sum((1, 2, 3))
    return ((shares.nan_to_num() * energy).sum() / energy.sum()).item()


def _energy(t: Tensor) -> float:
    return torch.linalg.vector_norm(t, dtype=torch.float64).square().item()


def _factors(x: Tensor, z: Tensor, at_z: Tensor, at_y: Tensor, shares: Tensor) -> dict[str, float]:
    """The ratio and its factors; ``shares`` is each image's energy fraction."""
    (at_x,) = torch.autograd.grad(z, x, at_z, retain_graph=True)
    before, between, after = _energy(at_y), _energy(at_z), _energy(at_x)
    unknown = dict.fromkeys(("log_ratio", "relu_share", "energy_fraction", "gain"), math.nan)
    if not before or not math.isfinite(before + between + after):
        return unknown
    if not between or not after:
        return unknown | {"log_ratio": math.inf, "relu_share": between / before}
    fraction = _overall(shares, at_z)
    return {
        "log_ratio": 0.5 * math.log(before / after),
        "relu_share": between / before,
        "energy_fraction": fraction,
        "gain": after / (fraction * between),
    }


# -- one cell ----------------------------------------------------------------------------------------------------
class Cell(Parameters):
    """What :func:`train_cell` is given, checked."""

    c: Channel
    d: Channel
    variant: str
    seeds: Seeds
    stages: Stages
    batch_size: Count
    lr: Lr
    momentum: Momentum
    weight_decay: Rate
    probe_images: Count
    head: Head
    device: str

    @field_validator("variant")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_variant(value)


def _batches(data: Cifar, seeds: Sequence[int], size: int, steps: int, device: torch.device) -> Iterator:
    """``steps`` batches, each seed's in its own order: images ``(size, S·3, 32, 32)``, labels ``(S, size)``."""
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    mean, std = data.mean.to(device), data.std.to(device)
    epoch = step = 0
    while step < steps:
        generators = [epoch_generator(seed, epoch) for seed in seeds]
        orders = torch.stack([torch.randperm(len(labels), generator=g) for g in generators]).to(device)
        for chosen in orders.split(size, dim=1):
            if step == steps:
                return
            batch = normalise(images[chosen.flatten()], mean, std).unflatten(0, chosen.shape)
            batch = batch.transpose(0, 1).flatten(1, 2)
            yield batch.contiguous(memory_format=torch.channels_last), labels[chosen]
            step += 1
        epoch += 1


def _train(cell: Cell, seeds: Sequence[int], data: Cifar) -> list[dict[str, Any]]:
    """Train one group of seeds together and measure each of its networks at every stage."""
    device, c, d = torch.device(cell.device), cell.c, cell.d
    networks = Networks(c, d, VARIANTS[cell.variant], seeds, len(data.classes), cell.head).to(device)
    optimizer = torch.optim.SGD(
        networks.parameters(), lr=cell.lr, momentum=cell.momentum, weight_decay=cell.weight_decay, fused=True
    )
    probe = normalise(data.train_images[: cell.probe_images].to(device), data.mean, data.std)
    probe = probe.contiguous(memory_format=torch.channels_last), data.train_labels[: cell.probe_images].to(device)
    batches, rows, done = _batches(data, seeds, cell.batch_size, cell.stages[-1], device), [], 0
    for stage in cell.stages:
        for images, labels in batches if stage > done else ():
            optimizer.zero_grad(set_to_none=True)
            logits = networks(images)
            # Summed over the networks: each gets the gradient of its own mean.
            (F.cross_entropy(logits.flatten(0, 1), labels.flatten()) * networks.groups).backward()
            optimizer.step()
            done += 1
            if done % EVERY == 0:
                networks.project()
            if done == stage:
                break
        for j, seed in enumerate(seeds):
            here = {"c": c, "d": d, "variant": cell.variant, "seed": seed, "step": stage}
            rows.append(here | measure(networks.alone(j), *probe))
    return rows


def train_cell(
    c: int,
    d: int,
    variant: str = "conv-relu",
    seeds: int | Iterable[int] = 0,
    *,
    data: Cifar,
    stages: int | Iterable[int] = (0, 100),
    batch_size: int = 128,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    probe_images: int = 128,
    head: Head = "mean",
    device: str = "cpu",
    together: bool | None = None,
) -> pd.DataFrame:
    """Train the three-layer network of one cell of the grid and measure its middle Conv-ReLU.

    Parameters
    ----------
    c, d : channels at the input and the output of the middle convolution.
    variant : a key of ``VARIANTS``.
    seeds : one seed or several; weights and order of the images depend on it alone.
    data : where the images come from; in random order, normalised, not augmented.
    stages : after which numbers of steps to measure; the training ends with the largest.
    batch_size, lr, momentum, weight_decay : of plain SGD, at a constant rate.
    probe_images : the measurements are made on the first so many training images.
    head : see :class:`Networks`.
    device : where to train; in float32, on CUDA without TF32.
    together : train the seeds side by side, in grouped convolutions.  By default on CUDA, where small networks leave
        the device idle; on a CPU one by one is faster.  Seed j comes out the same but for float32's rounding, which
        training amplifies.

    Returns
    -------
    One row a seed and stage: ``c``, ``d``, ``variant``, ``seed``, ``step``, and what :func:`measure` returns.

    Raises
    ------
    ConfigError : an unknown variant or device, an impossible value, more ``probe_images`` or a larger batch than there are
        images.

    Examples
    --------
    >>> from paperlib import cifar
    >>> table = train_cell(4, 8, seeds=[0, 1], data=cifar.load("cifar10", "sample"), stages=(0, 2), probe_images=50)
    >>> table[["seed", "step"]].values.tolist(), bool((table.log_ratio.abs() < 1).all())
    ([[0, 0], [0, 2], [1, 0], [1, 2]], True)
    """
    cell = Cell(
        c=c, d=d, variant=variant, seeds=seeds, stages=stages, batch_size=batch_size, lr=lr, momentum=momentum,
        weight_decay=weight_decay, probe_images=probe_images, head=head, device=device,
    )  # fmt: skip
    for name in ("batch_size", "probe_images"):
        if getattr(cell, name) > len(data.train_labels):
            raise ConfigError(
                f"{name} {getattr(cell, name)} is more than there is: {len(data.train_labels)} training images"
            )
    resolved = resolve_device(cell.device)
    together = resolved.startswith("cuda") if together is None else together
    groups = [cell.seeds] if together else [(seed,) for seed in cell.seeds]
    with settings(resolved), full_float32():
        rows = [row for group in groups for row in _train(cell.model_copy(update={"device": resolved}), group, data)]
    return pd.DataFrame(rows).sort_values(["seed", "step"], ignore_index=True)
