"""What is measured of one network of the channel grid: the ratio of the gradient's norms, and its factors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.channel_grid.networks import Networks
from paperlib.energy import effective_rank, energy_fraction

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
    network : Networks
        A group of one.
    images : Tensor, (N, 3, H, W)
        Normalised.
    labels : Tensor, (N,)
        int64.

    Returns
    -------
    dict of str to float
        The keys are ``MEASURED``:

        * ``loss``;
        * ``active``, the share of y that is not zero;
        * ``log_ratio``, log ‖∂E/∂y‖ / ‖∂E/∂x‖.  It is infinite where the ReLU lets nothing through, and NaN if the loss
          or a norm is not finite, or if ∂E/∂y is zero because the last convolution has died;
        * ``relu_share``, ``energy_fraction`` and ``gain``: s_ReLU, s_row and s_conv, the three factors of the ratio
          (see the package);
        * ``effective_rank`` of the gradient between convolution and ReLU (:func:`paperlib.energy.effective_rank`);
        * ``white_log_ratio`` and ``white_fraction``, as ``log_ratio`` and ``energy_fraction``, but with white noise in
          the place of ∂E/∂y, behind the same ReLU and the same kernel: what the layer does to a gradient that knows
          nothing of it;
        * ``fresh_fraction``, the energy fraction of the network's own gradient in the row space of a kernel that knows
          nothing of it.

    Raises
    ------
    ValueError
        The group has several networks.
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
