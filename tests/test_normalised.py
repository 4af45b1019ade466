"""Which convolutions have a normalisation directly behind them, and that it cancels their scale."""

import pytest
import torch
from torch import nn

from paperlib.normalised import normalised


class Through(nn.Module):
    """A convolution, something, and a ReLU."""

    def __init__(self, between):
        super().__init__()
        self.conv, self.between = nn.Conv2d(3, 8, 3, padding=1), between

    def forward(self, x):
        return self.between(self.conv(x)).relu()


def found(model):
    return normalised(model, [("conv", model.conv)], torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("between", [nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8), nn.LayerNorm(8)])
def test_a_normalisation_is_found_and_cancels_the_scale(between):
    model = Through(between).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert normalised(model, [("conv", model.conv)], x) == ["conv"]
    norms = []
    for factor in (1.0, 7.0):  # from one factor to the next the kernel grows sevenfold
        model.conv.weight.data *= factor
        model.conv.bias.data.zero_()
        image = x.clone().requires_grad_()
        model(image).square().sum().backward()
        norms.append(image.grad.norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)  # up to the epsilon in the normalisation


@pytest.mark.parametrize("between", [nn.Identity(), nn.Tanh(), nn.Conv2d(8, 8, 1)])
def test_anything_else_is_none(between):
    assert found(Through(between)) == []


class Skipped(Through):
    """A skip takes the convolution's output, too."""

    def forward(self, x):
        y = self.conv(x)
        return y + self.between(y)


def test_with_a_skip_around_the_normalisation_the_scale_counts():
    assert found(Skipped(nn.BatchNorm2d(8))) == []


def test_a_normalisation_over_the_last_axis_is_found():
    class Last(Through):
        def forward(self, x):
            return self.between(self.conv(x).permute(0, 2, 3, 1))

    assert found(Last(nn.LayerNorm(8))) == ["conv"]


def test_a_normalisation_of_something_else_is_none():
    model = Through(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)))
    assert found(model) == []


def test_nothing_stays_behind():
    model = Through(nn.BatchNorm2d(8))
    found(model)
    assert not model.conv._forward_hooks
    with pytest.raises(ValueError, match="cannot be run on the example"):
        normalised(model, [("conv", model.conv)], torch.zeros(1, 5, 8, 8))
    assert not model.conv._forward_hooks
