"""What is measured of a network: against the probe, against theory, and where there is nothing to measure."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib.channel_grid import MEASURED, VARIANTS, Networks, measure
from paperlib.probes import GradientNorms
from paperlib.projection import target


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
    assert tuple(found) == MEASURED


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
    """Delta-orthogonal: the kernel reads one pixel, so that no border is felt, and the gain is σ² exactly."""
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
        assert tuple(found) == MEASURED and math.isnan(found["log_ratio"])


@pytest.mark.parametrize("scale", [1e-30, 1e20, 1e25])
def test_norms_out_of_range_are_not_a_number(scale, batch):
    net = Networks(4, 8, VARIANTS["free"], [0])
    with torch.no_grad():
        net.first.mul_(scale)
        net.last.div_(scale)
        net.middle.mul_(scale)
    found = measure(net, *batch)
    assert tuple(found) == MEASURED
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
