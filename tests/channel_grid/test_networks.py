"""The channel grid's networks: how they begin, how they are held, and that those of a group do not see one another."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib.channel_grid import MIDDLE_VARIANTS, VARIANTS, Networks, initial_kernel
from paperlib.channel_grid import networks as module
from paperlib.channel_grid.networks import tap_sums
from paperlib.errors import ConfigError
from paperlib.projection import NormPreserving, project, spread, target


# -- the networks ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("start", "variance"), [("default", 1 / (27 * 40)), ("he-fan-in", 2 / (9 * 40)), ("he-fan-out", 2 / (9 * 60))]
)
def test_starts_have_their_variance(start, variance):
    kernel = initial_kernel(60, 40, start, torch.Generator().manual_seed(0))
    assert kernel.shape == (60, 40, 3, 3) and kernel.dtype == torch.float32
    assert kernel.var().item() == pytest.approx(variance, rel=0.03)
    assert abs(kernel.mean().item()) < 4 * math.sqrt(variance / kernel.numel())


def test_the_default_start_is_that_of_torch():
    """The same distribution as nn.Conv2d's: uniform, with the same bound."""
    kernel = initial_kernel(30, 20, "default", torch.Generator().manual_seed(0))
    other = nn.Conv2d(20, 30, 3).weight
    assert kernel.abs().max().item() == pytest.approx(other.abs().max().item(), rel=0.01)
    assert kernel.std().item() == pytest.approx(other.std().item(), rel=0.05)


@pytest.mark.parametrize(("c", "d"), [(4, 8), (8, 4), (8, 8)])
def test_the_orthogonal_start_is_exact(c, d):
    kernel = initial_kernel(d, c, "orthogonal", torch.Generator().manual_seed(0))
    assert spread(kernel.double(), 8, relu=True) == pytest.approx((1, 1), abs=1e-6)


def test_an_unknown_start_is_refused():
    with pytest.raises(ConfigError, match="'hee' is unknown: choose one of default, he-fan-in"):
        initial_kernel(4, 4, "hee", torch.Generator())


def test_only_the_middle_differs_between_variants():
    networks = {name: Networks(4, 8, VARIANTS[name], [3]) for name in MIDDLE_VARIANTS}
    for net in networks.values():
        assert torch.equal(net.first, networks["free"].first)
        assert torch.equal(net.last, networks["free"].last)
    # A held kernel is the projection of the one that is trained freely.
    free = networks["free"].middle.detach()
    for name in MIDDLE_VARIANTS:
        if (variant := VARIANTS[name]).sigma is not None:
            expected = variant.sigma(4, 8) / target((8, 4, 3, 3)) * project(free, 7)
            torch.testing.assert_close(networks[name].middle.detach(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("c", "d"), [(2, 8), (8, 2), (16, 8)])
def test_the_sigma_of_each_variant(c, d):
    r = min(c, d)
    expected = {"conv-relu": math.sqrt(2 * d / r), "conv": math.sqrt(d / r), "published": math.sqrt(d / c)}
    expected["conv-relu-all"] = expected["conv-relu"]
    assert {n: v.sigma(c, d) for n, v in VARIANTS.items() if v.sigma} == pytest.approx(expected)
    for name, sigma in expected.items():
        net = Networks(c, d, VARIANTS[name], [0])
        for _ in range(30):  # one projection is cropped; many converge
            net.project()
        low, high = (s * target((d, c, 3, 3)) for s in spread(net.middle.detach().double(), 16))
        assert low == pytest.approx(sigma, rel=0.1) and high == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize(("c", "d"), [(2, 8), (16, 4)])
def test_every_layer_is_held_at_its_own_target(c, d):
    """A Conv-ReLU's σ for the first two, that of a convolution alone for the last."""
    free, net = (Networks(c, d, VARIANTS[name], [3]) for name in ("free", "conv-relu-all"))
    targets = {"first": (c, 3, True), "middle": (d, c, True), "last": (10, d, False)}
    for name, (outputs, inputs, relu) in targets.items():
        kernel, expected = getattr(net, name).detach(), project(getattr(free, name).detach(), 7, relu=relu)
        assert kernel.shape == (outputs, inputs, 3, 3)
        torch.testing.assert_close(kernel, expected, rtol=0, atol=1e-5)
    for _ in range(40):  # one projection is cropped; many converge
        net.project()
    for name, (_, _, relu) in targets.items():
        assert spread(getattr(net, name).detach().double(), 16, relu=relu) == pytest.approx((1, 1), abs=0.1)


def test_it_projects_as_norm_preserving_does():
    net = Networks(4, 16, VARIANTS["free"], [0])
    conv = nn.Conv2d(4, 16, 3, padding=1, bias=False)
    conv.weight.data = net.middle.detach().clone()
    NormPreserving(nn.Sequential(conv), convs=[("0", 32)], relu=True).project()
    net.variant = VARIANTS["conv-relu"]
    net.project()
    torch.testing.assert_close(net.middle.detach(), conv.weight.detach(), rtol=1e-6, atol=1e-7)


def test_a_kernel_without_a_projection_is_left_as_it_is():
    net = Networks(4, 8, VARIANTS["conv-relu"], [0])
    for value in (0.0, math.nan):
        net.middle.data.fill_(value)
        net.project()
        expected = torch.full_like(net.middle, value)
        torch.testing.assert_close(net.middle.detach(), expected.detach(), rtol=0, atol=0, equal_nan=True)


def test_the_head_decides_whether_pixels_share_their_gradient(batch):
    """The mean over the map: the same gradient at every inner pixel.  A linear layer: another one at each."""
    spread = {}
    for head in ("mean", "linear"):
        net = Networks(4, 8, VARIANTS["free"], [0], head=head)
        y = net.trunk(batch[0])[1].detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(net.head(y)[0], batch[1]), y)
        inner = gradient[:, :, 2:-2, 2:-2]
        spread[head] = (inner.std((2, 3)).mean() / inner.square().mean().sqrt()).item()
    assert spread["mean"] < 1e-5 and spread["linear"] > 0.5


def test_the_linear_head_is_a_linear_layer(batch):
    net = Networks(3, 5, VARIANTS["free"], [0, 1], head="linear")
    images = torch.cat([batch[0][:4]] * 2, 1)
    scores = F.conv2d(net.trunk(images)[1], net.last, padding=1, groups=2).unflatten(1, (2, 10))
    for j in (0, 1):
        layer = nn.Linear(10 * 32 * 32, 10, bias=False)
        assert layer.weight.abs().max().item() == pytest.approx(net.readout[j].abs().max().item(), rel=1e-3)
        layer.weight.data = net.readout[j].detach().flatten(1)
        torch.testing.assert_close(net(images)[j], layer(scores[:, j].flatten(1)), rtol=1e-4, atol=1e-5)
    plain = Networks(3, 5, VARIANTS["free"], [0, 1])
    for name in ("first", "middle", "last"):
        assert torch.equal(getattr(net, name), getattr(plain, name))  # the readout is drawn last


def test_a_group_is_made_of_something():
    with pytest.raises(ConfigError, match="at least one seed"):
        Networks(2, 2, VARIANTS["free"], [])
    with pytest.raises(ConfigError, match="head 'max' is unknown: choose one of mean, linear"):
        Networks(2, 2, VARIANTS["free"], [0], head="max")


# -- side by side ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("variant", VARIANTS)
def test_networks_of_a_group_do_not_see_one_another(variant, batch):
    images, labels = batch
    seeds = [4, 0, 7]
    group = Networks(3, 6, VARIANTS[variant], seeds)
    different = torch.cat([images, images.flip(0), images.roll(1, 0)], dim=1)  # another batch for each
    logits = group(different)
    for j, (seed, mine) in enumerate(zip(seeds, different.split(3, dim=1), strict=True)):
        alone = Networks(3, 6, VARIANTS[variant], [seed])
        for own, part in zip(alone.parameters(), group.alone(j).parameters(), strict=True):
            assert torch.equal(own, part)
        torch.testing.assert_close(logits[j], alone(mine)[0], rtol=1e-5, atol=1e-6)
        # The sum over the networks gives each the gradient of its own mean.
        group.zero_grad()
        (F.cross_entropy(group(different).flatten(0, 1), labels.repeat(3)) * 3).backward()
        F.cross_entropy(alone(mine)[0], labels).backward()
        for own, stack in zip(alone.parameters(), group.parameters(), strict=True):
            torch.testing.assert_close(own.grad, stack.grad.unflatten(0, (3, -1))[j], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["conv-relu", "conv-relu-all"])
def test_products_project_a_group_at_once_as_eigenvectors_one_by_one(variant, monkeypatch):
    """On CUDA the projection is made of products, for all networks in one batch."""
    group = Networks(4, 8, VARIANTS[variant], [0, 1, 2])
    monkeypatch.setattr(module, "default_method", lambda device: "quintic")
    other = Networks(4, 8, VARIANTS[variant], [0, 1, 2])
    for name in ("first", "middle", "last"):
        torch.testing.assert_close(getattr(other, name).detach(), getattr(group, name).detach(), rtol=0, atol=1e-6)
    other.middle.data[:8] = math.nan  # the first network has died; the others go on
    before = other.middle.detach().clone()
    other.middle.data[8:] *= 3
    other.project()
    assert other.middle[:8].isnan().all()
    assert not other.middle[8:].isnan().any()
    assert (other.middle[8:] - before[8:]).abs().max() < 0.2 * before[8:].abs().max()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("c", "sides"), [(1, (5, 7)), (6, (32, 32)), (3, (1, 4))])
def test_what_the_taps_see_is_what_a_convolution_sums(layout, c, sides):
    y = torch.randn(3, c, *sides, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    kernel = torch.randn(4, c, 3, 3, dtype=torch.float64)
    sums = torch.einsum("ntc,ktc->nk", tap_sums(y), kernel.flatten(2).transpose(1, 2))
    by_convolution = F.conv2d(y, kernel, padding=1).sum((2, 3))
    torch.testing.assert_close(sums, by_convolution)
    upstream = torch.randn(3, 4, dtype=torch.float64)
    (mine,), (other,) = (torch.autograd.grad(x, y, upstream) for x in (sums, by_convolution))
    torch.testing.assert_close(mine, other)
    assert mine.is_contiguous(memory_format=layout)


def test_the_mean_head_is_the_mean_of_the_last_convolution():
    networks = Networks(4, 8, VARIANTS["free"], [0, 5, 7])
    images = torch.randn(6, 9, 32, 32)
    _, y = networks.trunk(images)
    scores = F.conv2d(y, networks.last, padding=1, groups=3).mean((2, 3)).unflatten(1, (3, 10)).transpose(0, 1)
    torch.testing.assert_close(networks(images), scores)
    wanted = torch.randn_like(scores)
    kernels = (networks.first, networks.middle, networks.last)
    mine, others = (torch.autograd.grad(x, kernels, wanted, retain_graph=True) for x in (networks(images), scores))
    for one, other in zip(mine, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
