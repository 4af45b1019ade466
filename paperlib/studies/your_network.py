"""Chapter 6: the library in small networks of one's own, and layers of any kind beside a dense SVD."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, cast, get_args

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paperlib._checks import one_of
from paperlib.cifar import Cifar
from paperlib.holding import NormPreserving
from paperlib.parameters import Parameters
from paperlib.parametrization import orthogonal
from paperlib.probes import GradientNorms
from paperlib.projection import project, spread
from paperlib.spectrum import operator_norm, operator_norm_bound, singular_values

Kind = Literal["free, PyTorch's start", "free, He's start", "held", "orthogonal"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BEHIND = ("nothing", "a batch normalisation", "a batch normalisation, and a skip past it")
"""What follows the convolution of :func:`ratios_by_scale`."""
RATES = ("as for all", "times the scale squared")
"""The learning rate of the held kernel in :func:`trained_at_scale`."""
LAST = 10  # steps of a training that count as its end


class Choice(Parameters):
    """How long chapter 6 trains its small networks: so many of each kind, for so many steps."""

    seeds: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(3, description="how many networks of each kind")
    steps: Annotated[int, Field(strict=True, ge=LAST, le=10_000)] = Field(30, description="of each training")


def small_images(data: Cifar) -> Tensor:
    """The training images of a data set, standardised, and halved to 16×16 pixels.

    Examples
    --------
    >>> from paperlib import cifar
    >>> small_images(cifar.load("cifar10", "sample")).shape
    torch.Size([1000, 3, 16, 16])
    """
    images = (data.train_images / 255 - data.mean[:, None, None]) / data.std[:, None, None]
    return F.avg_pool2d(images, 2)


# -- small networks without normalisation ------------------------------------------------------------------------
def layer(c: int, d: int, stride: int = 1) -> nn.Sequential:
    """A 3×3 convolution from ``c`` to ``d`` channels, without a bias, and a ReLU."""
    return nn.Sequential(nn.Conv2d(c, d, 3, stride, padding=1, bias=False), nn.ReLU())


def plain_network(depth: int = 10, width: int = 16) -> nn.Sequential:
    """A chain of ``depth`` layers with neither skips nor normalisation, for images of ten classes.

    The first one has a stride of 2, and so has the one in the middle, which doubles the channels.
    """
    middle = depth // 2
    channels = [3] + [width] * middle + [2 * width] * (depth - middle)
    layers = [layer(channels[i], channels[i + 1], 2 if i in (0, middle) else 1) for i in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10))


class UNet(nn.Module):
    """A small U-Net without normalisation, from images to images with the same sides, which are divisible by 4.

    Examples
    --------
    >>> UNet()(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = layer(3, width)
        self.down = nn.ModuleList([layer(width, 2 * width, 2), layer(2 * width, 4 * width, 2)])
        self.middle = layer(4 * width, 4 * width)
        self.up = nn.ModuleList([layer(6 * width, 2 * width), layer(3 * width, width)])
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Each level on the way up gets the level of its size on the way down as further channels."""
        beside = [self.first(images)]
        for down in self.down:
            beside.append(down(beside[-1]))
        x = self.middle(beside.pop())
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), beside.pop()], dim=1))
        return self.last(x)


def _prepared(kind: Kind, model: nn.Module) -> None:
    for conv in [module for module in model.modules() if isinstance(module, nn.Conv2d)]:
        if kind == "free, He's start":
            nn.init.kaiming_normal_(conv.weight)
        elif kind == "orthogonal":
            orthogonal(conv, relu=True)


def train(
    kind: Kind, images: Tensor, labels: Tensor, seed: int, steps: int = 30, batch: int = 32, lr: float = 0.003
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a :func:`plain_network` by Adam, and watch its layers at the beginning and at the end.

    Parameters
    ----------
    kind : Kind
        How the convolutions begin, and what keeps them there.
    images : Tensor, (N, 3, 16, 16)
        What to train on.
    labels : Tensor, (N,)
        Their classes.
    seed : int
        Of the weights and of the batches, which are the same for each kind.
    steps : int
        How many, more than ten.
    batch : int
        Images in each.
    lr : float
        The learning rate.

    Returns
    -------
    tuple of pd.DataFrame
        The layers: ``kind``, ``seed``, ``when`` ("before" for the first step, "after" for the last ten), ``layer``
        (1, 2, ...) and ``log_ratio`` (their mean).  The losses: ``kind``, ``seed``, ``step`` (1, 2, ...), ``loss``.
    """
    torch.manual_seed(seed)
    model = plain_network()
    _prepared(one_of("kind", kind, KINDS), model)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with contextlib.ExitStack() as attached:
        if kind == "held":
            held = NormPreserving(model, every=2, example=images[:2], relu=True, start="delta-orthogonal")
            attached.enter_context(held.attach(optimizer))
        probe = attached.enter_context(GradientNorms(model))
        generator, losses, found = torch.Generator().manual_seed(seed), [], {}
        for step in range(1, steps + 1):
            chosen = torch.randint(len(images), (batch,), generator=generator)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if step == 1:
                found["before"] = probe.averages()
            if step == steps - LAST:
                probe.reset()
        found["after"] = probe.averages()
    layers = [{"when": when, "layer": r["block"], "log_ratio": r["log_ratio"]} for when in found for r in found[when]]
    table = pd.DataFrame({"step": range(1, steps + 1), "loss": losses})
    return pd.DataFrame(layers).assign(kind=kind, seed=seed), table.assign(kind=kind, seed=seed)


def before_and_after(
    images: Tensor, labels: Tensor, seeds: Iterable[int], kinds: Iterable[Kind] = KINDS, steps: int = 30
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`train` for each kind and seed: the layers of all networks, and all losses."""
    runs = [train(kind, images, labels, seed, steps) for kind in kinds for seed in seeds]
    return pd.concat([run[0] for run in runs], ignore_index=True), pd.concat(
        [run[1] for run in runs], ignore_index=True
    )


def summary(layers: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """What :func:`before_and_after` found, over the seeds: mean and standard deviation, by kind.

    ``off_before`` and ``off_after`` say by what factor the gradient's norm changes in a layer, up or down, on
    (geometric) average over the layers; ``loss`` is the mean of the last ten steps.  Each has its ``_sd``.
    """
    size = layers.log_ratio.abs().groupby([layers.kind, layers.when, layers.seed], sort=False).mean()
    last = losses[losses.step > losses.step.max() - LAST]
    columns = {
        "off_before": np.exp(size.xs("before", level="when")),
        "off_after": np.exp(size.xs("after", level="when")),
        "loss": last.loss.groupby([last.kind, last.seed], sort=False).mean(),
    }
    parts: dict[str, pd.Series] = {}
    for name, values in columns.items():
        by_kind = values.groupby("kind", sort=False)
        parts |= {name: by_kind.mean(), f"{name}_sd": by_kind.std()}
    return pd.DataFrame(parts).loc[layers.kind.unique()]


def written(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`summary` as a page shows it: means with their spread, under heads in words."""
    heads = {
        "off_before": "factor off, first step",
        "off_after": f"factor off, last {LAST} steps",
        "loss": f"loss, last {LAST} steps",
    }
    cells = {
        words: [f"{mean:.2f} ± {sd:.2f}" for mean, sd in zip(table[name], table[f"{name}_sd"], strict=True)]
        for name, words in heads.items()
    }
    return pd.DataFrame(cells, index=table.index.rename("network"))


def shrunk(layers: pd.DataFrame, kind: Kind = KINDS[0]) -> float:
    """By what factor the gradient shrinks in the first step on its way through all layers, of :func:`before_and_after`.

    It is the geometric mean over the seeds.
    """
    first = layers[(layers.when == "before") & (layers.kind == kind)]
    return math.exp(first.groupby("seed").log_ratio.sum().mean())


def found(layers: pd.DataFrame, table: pd.DataFrame, scaled: pd.DataFrame) -> str:
    """The page's findings: of :func:`before_and_after` with its :func:`summary`, and of :func:`ratios_by_scale`."""
    free, he, held, exact = (table.loc[kind] for kind in KINDS)
    ratio = scaled.set_index(["behind", "scale"]).ratio
    low, high = scaled.scale.min(), scaled.scale.max()
    plain, normed = (ratio[behind, low] / ratio[behind, high] for behind in BEHIND[:2])
    return (
        f"> **Found.** In the first step a layer of a plain network changes the gradient's norm by a factor of "
        f"{free.off_before:.1f}, and all {layers.layer.nunique()} of them by about {_round(shrunk(layers)):,.0f}, if "
        f"the weights start as PyTorch draws them. From He's start it is {he.off_before:.2f} a layer, from the "
        f"delta-orthogonal start of the held kernels {held.off_before:.2f}, and with `orthogonal` kernels "
        f"{exact.off_before:.2f} (n = {layers.seed.nunique()}). Where a batch normalisation stands directly after a "
        f"convolution, the scale of a held kernel does nothing to the norm: a kernel {high / low:g} times as large "
        f"{_divided(normed)}. Without the normalisation it divides the ratio by {plain:.1f}."
    )


def _divided(by: float) -> str:
    """What a larger kernel does to the ratio that it divides by a factor."""
    return "does not change the ratio" if f"{by:.2f}" == "1.00" else f"divides the ratio by {by:.2f}"


def told(layers: pd.DataFrame, table: pd.DataFrame, steps: int) -> str:
    """What :func:`summary` says, in words: the ratios, the losses, and whether the losses differ."""
    free, he, held, exact = (table.loc[kind] for kind in KINDS)
    gap, spreads = held.loss - he.loss, (he.loss_sd**2 + held.loss_sd**2) ** 0.5
    compared = (
        "In their losses held and He's start differ by less than their standard deviations, "
        if abs(gap) < spreads
        else f"Held has the {'lower' if gap < 0 else 'higher'} loss, by more than the standard deviations of the two, "
    )
    return (
        f"From PyTorch's start the gradient shrinks by a factor of about {_round(shrunk(layers)):,.0f} on its way "
        f"through all layers, and after {steps} steps the loss is {free.loss:.2f}, where guessing has "
        f"{math.log(10):.2f}. From He's start a layer is off by a factor of {he.off_before:.2f} in the first step and "
        f"of {he.off_after:.2f} in the last ones; held it is off by {held.off_before:.2f} and {held.off_after:.2f}, "
        f"orthogonal by {exact.off_before:.2f} and {exact.off_after:.2f}. {compared}and {layers.seed.nunique()} seeds "
        f"and {steps} steps decide nothing about accuracy."
    )


def _round(value: float) -> float:
    """A number to one digit."""
    return float(f"{value:.1g}")


# -- a normalisation after a held convolution -------------------------------------------------------------------
class _Skipped(nn.Module):
    """What the residual block after a ProcResNet's transition does: a normalisation, and a skip past it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm2d(channels), *layer(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _with_block(behind: str, scale: float, size: int, seed: int) -> tuple[nn.Sequential, nn.Sequential, NormPreserving]:
    """A network, its block that begins with a convolution held at ``scale`` times the target, and what holds it."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
    following: dict[str, list[nn.Module]] = {
        BEHIND[0]: [nn.ReLU()],
        BEHIND[1]: [nn.BatchNorm2d(32), nn.ReLU()],
        BEHIND[2]: [_Skipped(32), nn.ReLU()],
    }
    block = nn.Sequential(conv, *following[behind])
    model = nn.Sequential(layer(3, 16), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    held = NormPreserving(model, convs=[(conv, size)], relu=True, scale=scale, start="projected")
    return model, block, held


def ratios_by_scale(images: Tensor, labels: Tensor, scales: Iterable[float], seed: int = 0) -> pd.DataFrame:
    """The gradient-norm ratio of a block whose convolution is held at some multiples of its target.

    The networks differ in what follows the convolution in its block (:data:`BEHIND`), and have the same weights
    for each scale.  They are not trained.

    Parameters
    ----------
    images : Tensor, (N, 3, h, w)
        A batch.
    labels : Tensor, (N,)
        Its classes.
    scales : iterable of float
        What the singular values are held at, over the target.
    seed : int
        Of the weights.

    Returns
    -------
    pd.DataFrame
        ``behind``, ``scale``, ``ratio``.
    """
    rows = []
    for behind in BEHIND:
        for scale in scales:
            model, block, _ = _with_block(behind, scale, images.shape[-1], seed)
            with GradientNorms(model, [block]) as probe:
                F.cross_entropy(model(images), labels).backward()
            rows.append({"behind": behind, "scale": scale, "ratio": probe.ratios().item()})
    return pd.DataFrame(rows)


def trained_at_scale(
    behind: str,
    scale: float,
    images: Tensor,
    labels: Tensor,
    rate: str = RATES[0],
    seed: int = 0,
    steps: int = 30,
    batch: int = 32,
    lr: float = 0.3,
) -> pd.DataFrame:
    """Train a network of :func:`ratios_by_scale` by gradient descent, with its convolution held all the time.

    Parameters
    ----------
    behind : str
        What follows the held convolution, one of :data:`BEHIND`.
    scale : float
        What its singular values are held at, over the target.
    images : Tensor, (N, 3, h, w)
        What to train on.
    labels : Tensor, (N,)
        Their classes.
    rate : str
        The learning rate of the held kernel, one of :data:`RATES`.
    seed : int
        Of the weights and of the batches.
    steps : int
        How many; the kernel is projected after each second one.
    batch : int
        Images in each.
    lr : float
        The learning rate of all other parameters.

    Returns
    -------
    pd.DataFrame
        ``behind``, ``rate``, ``scale``, ``step`` (1, 2, ...), ``loss``, ``ratio`` (of the block) and ``gradient``: the
        norm of the gradient with respect to the kernel.
    """
    model, block, held = _with_block(one_of("behind", behind, BEHIND), scale, images.shape[-1], seed)
    kernel = held.convs[0].conv.weight
    kernel_lr = lr * scale**2 if one_of("rate", rate, RATES) == RATES[1] else lr
    others = [parameter for parameter in model.parameters() if parameter is not kernel]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": [kernel], "lr": kernel_lr}]
    optimizer = torch.optim.SGD(groups, lr=lr)
    generator, rows = torch.Generator().manual_seed(seed), []
    with held.attach(optimizer), GradientNorms(model, [block]) as probe:
        for step in range(1, steps + 1):
            chosen = torch.randint(len(images), (batch,), generator=generator)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()
            gradient = torch.linalg.vector_norm(cast(Tensor, kernel.grad)).item()
            optimizer.step()
            rows.append(
                {"behind": behind, "rate": rate, "scale": scale, "step": step, "loss": loss.item()}
                | {"ratio": probe.ratios().item(), "gradient": gradient}
            )
    return pd.DataFrame(rows)


def trained_by_scale(images: Tensor, labels: Tensor, scales: Iterable[float], steps: int = 30) -> pd.DataFrame:
    """:func:`trained_at_scale` for each scale: with and without a normalisation, and with it at both rates."""
    cases = ((BEHIND[0], RATES[0]), (BEHIND[1], RATES[0]), (BEHIND[1], RATES[1]))
    scales = list(scales)
    return pd.concat(
        [trained_at_scale(behind, s, images, labels, rate, steps=steps) for behind, rate in cases for s in scales],
        ignore_index=True,
    )


def trained_summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each training of :func:`trained_by_scale`: its first step, and the mean of its last ten.

    Columns: ``gradient`` and ``first_loss`` of the first step, ``loss`` and ``ratio`` of the last ones.
    """
    keys = ["behind", "rate", "scale"]
    first = runs[runs.step == 1].set_index(keys)
    last = runs[runs.step > runs.step.max() - LAST].groupby(keys, sort=False)[["loss", "ratio"]].mean()
    return pd.concat([first.gradient, first.loss.rename("first_loss"), last], axis=1)


# -- kernels and layers beside exact numbers ---------------------------------------------------------------------
def square_kernels(shapes: Iterable[tuple[int, int, int, int]], size: int = 8, seed: int = 0) -> pd.DataFrame:
    """The range of the singular values of kernels, as PyTorch makes them, projected, and made orthogonal.

    ``shapes`` are ``(c, d, k, stride)``.  Columns: ``kernel``, ``treatment``, ``lowest`` and ``highest`` (over the
    target, on an output of side ``size``).
    """
    rows = []
    for c, d, k, stride in shapes:
        torch.manual_seed(seed)
        conv = nn.Conv2d(c, d, k, stride, padding=k // 2).double()
        kernels = {
            "start": conv.weight,
            "1 projection": project(conv.weight, size, stride),
            "50 projections": project(conv.weight, size, stride, passes=50),
        }
        kernels["orthogonal"] = orthogonal(conv).weight
        name = f"{c} → {d}, {k}×{k}" + (f", stride {stride}" if stride > 1 else "")
        for treatment, weight in kernels.items():
            low, high = spread(weight, size, stride)
            rows.append({"kernel": name, "treatment": treatment, "lowest": low, "highest": high})
    return pd.DataFrame(rows)


def exact_singular_values(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The singular values of the map that a layer is, by a dense decomposition of its Jacobian.

    ``shape`` is that of one input, without the batch: ``(channels, *sides)``.
    """
    image = torch.zeros(1, *shape, dtype=next(layer.parameters()).dtype)
    jacobian = torch.func.jacrev(layer)(image)
    return torch.linalg.svdvals(jacobian.reshape(-1, image.numel()))


def beside_dense(layers: Mapping[str, tuple[nn.Module, tuple[int, ...]]]) -> pd.DataFrame:
    """What the library says of some layers, beside a dense decomposition of each.

    ``layers`` maps a name to a layer and the shape of one input, without the batch.  Columns: ``layer``, ``input``,
    ``values`` (how many singular values), ``dense`` (the largest one of the Jacobian), ``norm``
    (:func:`paperlib.spectrum.operator_norm`), ``bound`` (:func:`paperlib.spectrum.operator_norm_bound`), and
    ``difference``: the largest one of a singular value or of the norm from the dense decomposition, over the norm.
    """
    rows = []
    for name, (each, shape) in layers.items():
        size = shape[1:] or None
        ours = singular_values(each, input_size=size).flatten().sort(descending=True).values
        norm = operator_norm(each, input_size=size)
        exact = exact_singular_values(each, shape)
        difference = torch.maximum((ours - exact).abs().max(), (norm - exact.max()).abs()) / exact.max()
        rows.append(
            {"layer": name, "input": "×".join(map(str, shape)), "values": len(ours)}
            | {"dense": exact.max().item(), "norm": norm.item()}
            | {"bound": operator_norm_bound(each, input_size=size).item(), "difference": difference.item()}
        )
    return pd.DataFrame(rows)
