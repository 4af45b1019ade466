"""Convolutions of few channels, against torch's in float64."""

import pytest
import torch
import torch.nn.functional as F
from kernels import DEVICE, RUNS, like
from torch import nn

from paperlib import fused
from paperlib.fused import convolutions


@RUNS
@pytest.mark.parametrize("shape", [(3, 16, 9, 7), (2, 32, 8, 8), (1, 16, 1, 5)], ids=str)
def test_conv3x3(shape):
    torch.manual_seed(0)
    # The interpreter knows no products of bfloat16 numbers.
    dtype, tolerance = (torch.float32, 1e-6) if fused.INTERPRETED else (torch.bfloat16, 4e-3)
    weight = like((shape[1], shape[1], 3, 3), dtype).requires_grad_()
    x, grad = like(shape, dtype).requires_grad_(), like(shape, dtype)
    y = convolutions._Conv3x3.apply(x, weight)
    y.backward(grad)
    exact, kernel = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    right = F.conv2d(exact, kernel, padding=1)
    right.backward(grad.double())
    for found, true in ((y, right), (x.grad, exact.grad), (weight.grad, kernel.grad)):
        assert (found.double() - true).norm() <= tolerance * true.norm()


@RUNS
@pytest.mark.parametrize("channels", [(16, 64), (64, 16), (128, 32)], ids=str)
def test_conv1x1(channels):
    torch.manual_seed(0)
    dtype, tolerance = (torch.float32, 1e-6) if fused.INTERPRETED else (torch.bfloat16, 4e-3)
    c, d = channels
    weight = like((d, c, 1, 1), dtype).requires_grad_()
    x, grad = like((5, c, 9, 7), dtype).requires_grad_(), like((5, d, 9, 7), dtype)
    y = convolutions._Conv1x1.apply(x, weight)
    y.backward(grad)
    exact, kernel = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    right = F.conv2d(exact, kernel)
    right.backward(grad.double())
    for found, true in ((y, right), (x.grad, exact.grad), (weight.grad, kernel.grad)):
        assert (found.double() - true).norm() <= tolerance * true.norm()


def convolution(c, d, kernel, dtype=torch.bfloat16, **changes):
    return nn.Conv2d(c, d, kernel, **{"padding": kernel // 2, "bias": False} | changes).to(DEVICE, dtype)


def channels(number, dtype=torch.bfloat16):
    return like((2, number, 6, 6), dtype)


# Each misses one condition of a kernel; the first number is the side of the one that is meant.
OTHER_CONVOLUTIONS = {
    "1, float32": (channels(16, torch.float32), convolution(16, 16, 1, torch.float32)),
    "1, contiguous": (channels(16).contiguous(), convolution(16, 16, 1)),
    "1, empty": (channels(16)[:0], convolution(16, 16, 1)),
    "1, groups": (channels(32), convolution(32, 64, 1, groups=2)),
    "1, few inputs": (channels(8), convolution(8, 16, 1)),
    "1, few outputs": (channels(16), convolution(16, 8, 1)),
    "1, many channels": (channels(128), convolution(128, 64, 1)),
    "1, inputs no power of two": (channels(48), convolution(48, 16, 1)),
    "1, outputs no power of two": (channels(16), convolution(16, 48, 1)),
    "1, another kernel": (channels(16), convolution(16, 16, 2, padding=0)),
    "1, stride": (channels(16), convolution(16, 16, 1, stride=2)),
    "1, padding": (channels(16), convolution(16, 16, 1, padding=1)),
    "1, bias": (channels(16), convolution(16, 16, 1, bias=True)),
    "1, frozen": (channels(16), convolution(16, 16, 1).requires_grad_(False)),
    "1, a large output": (
        torch.empty(2**9, 16, 256, 256, dtype=torch.bfloat16, device="meta", memory_format=torch.channels_last),
        convolution(16, 64, 1).to("meta"),
    ),
    "3, float32": (channels(16, torch.float32), convolution(16, 16, 3, torch.float32)),
    "3, contiguous": (channels(16).contiguous(), convolution(16, 16, 3)),
    "3, empty": (channels(16)[:0], convolution(16, 16, 3)),
    "3, groups": (channels(32), convolution(32, 32, 3, groups=2)),
    "3, few channels": (channels(8), convolution(8, 8, 3)),
    "3, many channels": (channels(64), convolution(64, 64, 3)),
    "3, more outputs": (channels(16), convolution(16, 32, 3)),
    "3, another kernel": (channels(16), convolution(16, 16, 5, padding=1)),
    "3, stride": (channels(16), convolution(16, 16, 3, stride=2)),
    "3, padding": (channels(16), convolution(16, 16, 3, padding=0)),
    "3, dilation": (channels(16), convolution(16, 16, 3, dilation=2)),
    "3, padded in a circle": (channels(16), convolution(16, 16, 3, padding_mode="circular")),
    "3, bias": (channels(16), convolution(16, 16, 3, bias=True)),
}


@pytest.fixture
def applied(monkeypatch):
    """The sides of the kernels that are applied, in the place of what they compute."""
    found = []
    monkeypatch.setattr(convolutions._Conv1x1, "apply", lambda *_: found.append(1))
    monkeypatch.setattr(convolutions._Conv3x3, "apply", lambda *_: found.append(3))
    return found


@RUNS
@pytest.mark.parametrize(("c", "d", "side"), [(16, 64, 1), (64, 16, 1), (64, 64, 1), (16, 16, 3), (32, 32, 3)])
def test_a_convolution_that_fits_is_a_kernel(applied, c, d, side):
    x, conv = channels(c), convolution(c, d, side)
    (fused.conv1x1 if side == 1 else fused.conv3x3)(x, conv)
    assert applied == [side]


@RUNS
@pytest.mark.parametrize("case", OTHER_CONVOLUTIONS)
def test_other_convolutions_go_to_torch(applied, case):
    x, conv = OTHER_CONVOLUTIONS[case]
    y = (fused.conv1x1 if case.startswith("1") else fused.conv3x3)(x, conv)
    assert applied == []
    assert x.is_meta or torch.equal(y, conv(x))
