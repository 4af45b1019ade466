"""The channel grid's networks, what is measured on them, and one cell's training."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import augmentation, channel_grid, cifar
from paperlib.channel_grid import VARIANTS, Networks, initial_kernel, measure, train_cell
from paperlib.errors import ConfigError
from paperlib.probes import GradientNorms
from paperlib.projection import NormPreserving, project, spread, target


@pytest.fixture(scope="module")
def data():
    return cifar.load("cifar10", "sample")


@pytest.fixture(scope="module")
def batch(data):
    images = augmentation.normalise(data.train_images[:64], data.mean, data.std)
    return images.contiguous(memory_format=torch.channels_last), data.train_labels[:64]


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
    networks = {name: Networks(4, 8, variant, [3]) for name, variant in VARIANTS.items()}
    for net in networks.values():
        assert torch.equal(net.first, networks["free"].first)
        assert torch.equal(net.last, networks["free"].last)
    # A held kernel is the projection of the one that is trained freely.
    free = networks["free"].middle.detach()
    for name, variant in VARIANTS.items():
        if variant.sigma is not None:
            expected = variant.sigma(4, 8) / target((8, 4, 3, 3)) * project(free, 7)
            torch.testing.assert_close(networks[name].middle.detach(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("c", "d"), [(2, 8), (8, 2), (16, 8)])
def test_the_sigma_of_each_variant(c, d):
    r = min(c, d)
    expected = {"conv-relu": math.sqrt(2 * d / r), "conv": math.sqrt(d / r), "published": math.sqrt(d / c)}
    assert {n: v.sigma(c, d) for n, v in VARIANTS.items() if v.sigma} == pytest.approx(expected)
    for name, sigma in expected.items():
        net = Networks(c, d, VARIANTS[name], [0])
        for _ in range(30):  # one projection is cropped; many converge
            net.project()
        low, high = (s * target((d, c, 3, 3)) for s in spread(net.middle.detach().double(), 16))
        assert low == pytest.approx(sigma, rel=0.1) and high == pytest.approx(sigma, rel=0.1)


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


@pytest.mark.parametrize(("variant", "head"), [("conv-relu", "mean"), ("free", "mean"), ("conv-relu", "linear")])
def test_a_group_trains_as_its_seeds_alone(variant, head, data):
    options = {"data": data, "stages": (0, 2, 6), "batch_size": 32, "probe_images": 32, "head": head}
    alone = train_cell(4, 8, variant, [0, 3, 5], together=False, **options)
    group = train_cell(4, 8, variant, [0, 3, 5], together=True, **options)
    assert alone[["seed", "step"]].equals(group[["seed", "step"]])
    assert np.exp(group.log_ratio - alone.log_ratio).sub(1).abs().max() < 1e-4


def test_products_project_a_group_at_once_as_eigenvectors_one_by_one(monkeypatch):
    """On CUDA the projection is made of products, for all networks in one batch."""
    group = Networks(4, 8, VARIANTS["conv-relu"], [0, 1, 2])
    monkeypatch.setattr(channel_grid, "default_method", lambda device: "quintic")
    other = Networks(4, 8, VARIANTS["conv-relu"], [0, 1, 2])
    torch.testing.assert_close(other.middle.detach(), group.middle.detach(), rtol=0, atol=1e-6)
    other.middle.data[:8] = math.nan  # the first network has died; the others go on
    before = other.middle.detach().clone()
    other.middle.data[8:] *= 3
    other.project()
    assert other.middle[:8].isnan().all()
    assert not other.middle[8:].isnan().any()
    assert (other.middle[8:] - before[8:]).abs().max() < 0.2 * before[8:].abs().max()


def test_a_group_takes_as_many_operations_as_one_network(data, monkeypatch):
    """What a small network costs on CUDA: each operation is a launch, however much it computes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.n += 1
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(channel_grid, "default_method", lambda device: "quintic")
    counts = []
    for seeds in ([0], range(10)):
        net = Networks(4, 4, VARIANTS["conv-relu"], seeds)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
        images, labels = next(channel_grid._batches(data, list(seeds), 8, 1, torch.device("cpu")))
        with Count() as count:
            F.cross_entropy(net(images).flatten(0, 1), labels.flatten()).backward()
            optimizer.step()
            net.project()
        counts.append(count.n)
    assert counts[1] <= 1.02 * counts[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_group_trains_as_its_seeds_alone(data):
    options = {"data": data, "stages": (0, 6), "device": "cuda"}
    group = train_cell(16, 16, seeds=range(10), **options)
    alone = train_cell(16, 16, seeds=range(10), together=False, **options)
    here = train_cell(16, 16, seeds=range(10), **options | {"device": "cpu"})
    assert np.exp(group.log_ratio - alone.log_ratio).sub(1).abs().max() < 1e-4
    assert np.exp(group.log_ratio - here.log_ratio).sub(1).abs().max() < 1e-3


# -- what is measured --------------------------------------------------------------------------------------------
class Plain(nn.Module):
    """The same network from ordinary modules, with a block that the probe can watch."""

    def __init__(self, net: Networks) -> None:
        super().__init__()
        self.first, middle, self.last = (
            nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1, bias=False) for w in (net.first, net.middle, net.last)
        )
        self.block = nn.Sequential(middle, nn.ReLU())
        for conv, w in zip((self.first, middle, self.last), (net.first, net.middle, net.last), strict=True):
            conv.weight.data = w.detach().clone()

    def forward(self, images):
        return self.last(self.block(self.first(images).relu())).mean((2, 3))


@pytest.mark.parametrize(("c", "d"), [(3, 8), (8, 3), (5, 5)])
@pytest.mark.parametrize("variant", ["conv-relu", "free-he-fan-in"])
def test_the_ratio_is_that_of_the_probe(c, d, variant, batch):
    net = Networks(c, d, VARIANTS[variant], [1])
    found = measure(net, *batch)
    plain = Plain(net)
    with GradientNorms(plain, blocks=["block"]) as probe:
        loss = F.cross_entropy(plain(batch[0]), batch[1])
        loss.backward()
    assert math.exp(found["log_ratio"]) == pytest.approx(probe.ratios()[0].item(), rel=1e-4)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert tuple(found) == channel_grid.MEASURED


@pytest.mark.parametrize(("c", "d"), [(2, 8), (8, 2), (6, 6)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_three_factors_make_the_ratio(c, d, variant, batch):
    found = measure(Networks(c, d, VARIANTS[variant], [2]), *batch)
    product = found["relu_share"] * found["energy_fraction"] * found["gain"]
    assert product == pytest.approx(math.exp(-2 * found["log_ratio"]), rel=1e-6)
    assert 0 < found["relu_share"] <= 1 and 0 < found["active"] < 1
    assert (found["energy_fraction"] == pytest.approx(1)) == (c >= d)
    assert 1 <= found["effective_rank"] <= d + 1e-6
    # White noise has no preference; the ReLU's, for some channels, is felt where the row space is the same everywhere.
    assert found["white_fraction"] == pytest.approx(min(c, d) / d, rel=0.15 if variant == "free-orthogonal" else 0.05)


def test_the_gain_of_an_exact_kernel_is_sigma_squared_inside_the_border(batch):
    """Delta-orthogonal: the kernel reads one pixel, so that no border is felt, and γ is σ² exactly."""
    for c, d in ((3, 8), (8, 3)):
        found = measure(Networks(c, d, VARIANTS["free-orthogonal"], [0]), *batch)
        assert found["gain"] == pytest.approx(target((d, c, 3, 3), relu=True) ** 2, rel=1e-5)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("free", lambda c, d: math.sqrt(6)),
        ("free-he-fan-in", lambda c, d: 1.0),
        ("free-he-fan-out", lambda c, d: math.sqrt(d / c)),
        ("free-orthogonal", lambda c, d: 1.0),
        ("conv-relu", lambda c, d: 1.0),
        ("conv", lambda c, d: math.sqrt(2)),
    ],
)
@pytest.mark.parametrize(("c", "d"), [(16, 32), (32, 16)])
def test_the_ratio_at_the_start(variant, expected, c, d, batch):
    """For many channels it is what the variances and singular values say, half of the energy being lost in the ReLU."""
    batch = [part[:32] for part in batch]
    logs = [measure(Networks(c, d, VARIANTS[variant], [seed]), *batch)["log_ratio"] for seed in range(6)]
    assert math.exp(np.mean(logs)) == pytest.approx(expected(c, d), rel=0.12)


def test_a_dead_relu_and_broken_weights(batch):
    net = Networks(4, 8, VARIANTS["free"], [0])
    net.middle.data = -net.middle.data.abs()  # x is not negative: nothing gets through
    found = measure(net, *batch)
    assert found["log_ratio"] == math.inf and found["relu_share"] == 0 and found["active"] == 0
    assert math.isnan(found["gain"]) and math.isnan(found["effective_rank"])
    net = Networks(4, 8, VARIANTS["free"], [0])
    net.last.data.zero_()
    assert math.isnan(measure(net, *batch)["log_ratio"])
    for broken in ("first", "middle", "last"):
        net = Networks(4, 8, VARIANTS["free"], [0])
        getattr(net, broken).data[0, 0, 0, 0] = math.nan
        found = measure(net, *batch)
        assert tuple(found) == channel_grid.MEASURED and math.isnan(found["log_ratio"])


@pytest.mark.parametrize("scale", [1e-30, 1e20, 1e25])
def test_norms_out_of_range_are_not_a_number(scale, batch):
    net = Networks(4, 8, VARIANTS["free"], [0])
    with torch.no_grad():
        net.first.mul_(scale)
        net.last.div_(scale)
        net.middle.mul_(scale)
    found = measure(net, *batch)
    assert tuple(found) == channel_grid.MEASURED
    assert not found["log_ratio"] < math.inf  # dead, or not a number


def test_a_group_is_not_measured_at_once(batch):
    net = Networks(4, 8, VARIANTS["free"], [0, 1])
    with pytest.raises(ValueError, match="one network, not a group of 2"):
        measure(net, torch.cat([batch[0]] * 2, 1), batch[1])
    assert measure(net.alone(1), *batch) == measure(Networks(4, 8, VARIANTS["free"], [1]), *batch)


def test_a_fresh_kernel_knows_nothing_of_the_gradient(batch):
    """Over many networks its share is c/d; the network's own kernel may have turned."""
    shares = [measure(Networks(2, 8, VARIANTS["free"], [s]), *batch)["fresh_fraction"] for s in range(12)]
    assert np.mean(shares) == pytest.approx(0.25, rel=0.3)
    assert measure(Networks(8, 2, VARIANTS["free"], [0]), *batch)["fresh_fraction"] == pytest.approx(1)


def test_measuring_changes_nothing(batch):
    net = Networks(4, 8, VARIANTS["conv-relu"], [0])
    before = [p.detach().clone() for p in net.parameters()]
    a, b = measure(net, *batch), measure(net, *batch)
    assert a == b
    assert all(torch.equal(x, y) and y.grad is None for x, y in zip(before, net.parameters(), strict=True))


# -- one cell ----------------------------------------------------------------------------------------------------
def test_a_cell(data):
    table = train_cell(2, 6, "conv-relu", [1, 0], data=data, stages=(3, 0), batch_size=50, probe_images=40)
    assert list(table.columns) == ["c", "d", "variant", "seed", "step", *channel_grid.MEASURED]
    assert table[["seed", "step"]].values.tolist() == [[0, 0], [0, 3], [1, 0], [1, 3]]
    assert table.log_ratio.nunique() == 4
    again = train_cell(2, 6, "conv-relu", 1, data=data, stages=(3, 0), batch_size=50, probe_images=40)
    pd.testing.assert_frame_equal(again, table[table.seed == 1].reset_index(drop=True))


def test_it_learns_and_the_held_kernel_stays(data):
    """Beyond an epoch of the sample; the loss falls, and the kernel keeps its singular values."""
    table = train_cell(8, 16, "conv-relu", 0, data=data, stages=(0, 24), batch_size=64, lr=0.05)
    assert table.loss.iloc[1] < table.loss.iloc[0] - 0.05
    assert table.gain.iloc[1] == pytest.approx(4, rel=0.15)  # 2 d / c
    free = train_cell(8, 16, "free", 0, data=data, stages=(0, 24), batch_size=64, lr=0.05)
    assert abs(free.gain.iloc[1] / free.gain.iloc[0] - 1) > 0.3


def test_every_epoch_has_every_image_once_in_another_order(data):
    small = data.subset(50, 10)
    batches = list(channel_grid._batches(small, [0, 1], 20, 6, torch.device("cpu")))
    assert [images.shape for images, _ in batches[:3]] == [(20, 6, 32, 32), (20, 6, 32, 32), (10, 6, 32, 32)]
    for j in (0, 1):
        first, second = (torch.cat([labels[j] for _, labels in batches[i : i + 3]]) for i in (0, 3))
        assert not torch.equal(first, second)
        for epoch in (first, second):
            assert torch.equal(epoch.sort().values, small.train_labels.sort().values)
    # Images and labels belong together, and the seeds differ.
    images, labels = batches[0]
    normal = augmentation.normalise(small.train_images, small.mean, small.std)
    for j in (0, 1):
        for image, label in zip(images.unflatten(1, (2, 3))[:, j], labels[j], strict=True):
            (place,) = (normal - image).abs().amax((1, 2, 3)).lt(1e-6).nonzero()[:1, 0]
            assert small.train_labels[place] == label
    assert not torch.equal(labels[0], labels[1])


def test_a_diverging_network_is_measured_as_such(data):
    table = train_cell(4, 8, "free", [0], data=data, stages=(0, 8), batch_size=20, lr=1e8, probe_images=20)
    assert math.isfinite(table.log_ratio[0])
    assert not math.isfinite(table.log_ratio[1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"variant": "convrelu"}, "variant 'convrelu' is unknown: choose from conv-relu, conv"),
        ({"variant": ["conv"]}, "variant must be a text"),
        ({"c": 0}, "c must be at least 1, not 0"),
        ({"d": 2.5}, "d must be a whole number, not 2.5"),
        ({"seeds": []}, "seeds must be a list of whole numbers"),
        ({"seeds": 2.5}, "seeds must be a list of whole numbers"),
        ({"seeds": [1, True]}, "seeds must be a list of whole numbers"),
        ({"seeds": [-1]}, "seeds must be at least 0, not -1"),
        ({"seeds": 2**70}, "seeds must be less than 2147483648"),
        ({"stages": ()}, "stages must be a list of whole numbers"),
        ({"batch_size": True}, "batch_size must be a whole number, not True"),
        ({"batch_size": 5000}, "batch_size 5000 is more than there is: 1000 training images"),
        ({"probe_images": 2000}, "probe_images 2000 is more than there is: 1000 training images"),
        ({"lr": math.nan}, "lr must be"),
        ({"lr": "x"}, "lr must be a number, not 'x'"),
        ({"momentum": 2.0}, "momentum must be less than 1"),
        ({"head": "max"}, "head 'max' is unknown"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not there"),
    ],
)
def test_bad_input(changed, said, data):
    arguments = {"c": 2, "d": 4, "variant": "conv-relu", "seeds": 0, "data": data} | changed
    with pytest.raises(ConfigError, match=said) as e:
        train_cell(arguments.pop("c"), arguments.pop("d"), **arguments)
    assert "\n" not in str(e.value)


def test_numbers_in_many_forms(data):
    options = {"data": data, "probe_images": 20}
    one = train_cell(2, 2, seeds=range(2), stages=0, **options)
    for seeds in ([1, 0, 1], np.arange(2), "0 1", (i for i in range(2))):
        pd.testing.assert_frame_equal(train_cell(2, 2, seeds=seeds, stages=[0, 0], **options), one)


def test_it_asks_for_full_float32_and_leaves_the_settings_alone(data, monkeypatch):
    conv, seen = torch.backends.cudnn.conv, []
    before = conv.fp32_precision
    monkeypatch.setattr(channel_grid, "measure", lambda *a: seen.append(conv.fp32_precision) or {})
    train_cell(2, 2, data=data, stages=0, probe_images=10)
    assert seen == ["ieee"] and conv.fp32_precision == before
    assert not torch.are_deterministic_algorithms_enabled()
