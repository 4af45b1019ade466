"""Fused kernels against torch's layers in float64.  Without CUDA they run in Triton's interpreter, in a process."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import fused, models
from paperlib.machine import full_float32
from paperlib.synchronised import BatchNorm2d

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = [(3, 16, 9, 7), (2, 64, 8, 8), (5, 256, 3, 3)]
RUNS = pytest.mark.skipif(not (torch.cuda.is_available() or fused.INTERPRETED), reason="runs in the interpreter, below")


@pytest.mark.skipif(torch.cuda.is_available() or fused.INTERPRETED, reason="the kernels are run as they are")
@pytest.mark.skipif(fused.triton is None, reason="Triton is not installed")
def test_the_kernels_in_the_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


def like(shape, dtype, offset=0.0):
    return (torch.randn(shape, device=DEVICE) * 2 + offset).to(dtype).contiguous(memory_format=torch.channels_last)


@RUNS
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", CASES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 1e-2)])
def test_norm_relu(shape, dtype, tolerance, relu):
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(shape[1]).to(DEVICE)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    true = nn.BatchNorm2d(shape[1]).to(DEVICE, torch.float64)
    true.load_state_dict(layer.state_dict())
    x = like(shape, dtype, offset=30.0)  # a mean far from zero
    grad, skip = like(shape, dtype), like(shape, dtype)
    exact = x.double().requires_grad_()
    y = true(exact)
    y = F.relu(y) if relu else y
    ((y * grad.double()).sum() + (exact * skip.double()).sum()).backward()
    x.requires_grad_()
    if relu:
        branch, around = fused.norm_relu_fork(x, layer)
        torch.autograd.backward([branch, around], [grad, skip])
    else:
        branch = fused.norm_relu(x, layer, relu=False)
        torch.autograd.backward([branch, x], [grad, skip])
    assert branch.dtype == dtype and branch.is_contiguous(memory_format=torch.channels_last)
    for found, right in (
        (branch, y), (x.grad, exact.grad), (layer.weight.grad, true.weight.grad), (layer.bias.grad, true.bias.grad),
        (layer.running_mean, true.running_mean), (layer.running_var, true.running_var),
    ):  # fmt: skip
        assert (found.double() - right).norm() <= tolerance * right.norm()
    assert layer.num_batches_tracked == 1


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(128, 64, 32, 32), (80, 16, 32, 32), (128, 256, 8, 8)], ids=str)
def test_norm_relu_of_tensors_that_many_programs_share(shape):
    x, layer, true = like(shape, torch.float32, 3.0), nn.BatchNorm2d(shape[1]).cuda(), nn.BatchNorm2d(shape[1])
    exact = x.cpu().double()
    y = F.relu(true.double()(exact))
    assert (fused.norm_relu(x, layer).cpu().double() - y).norm() <= 1e-5 * y.norm()
    assert (layer.running_var.cpu().double() - true.running_var).norm() <= 1e-5 * true.running_var.norm()


@pytest.mark.cuda
def test_a_norm_of_as_many_entries_as_32_bits_count():
    x = torch.ones(2**31 - 1, dtype=torch.bfloat16, device="cuda")
    assert fused.euclidean_norm(x).item() == pytest.approx((2**31 - 1) ** 0.5, rel=1e-7)


@RUNS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_norm(dtype):
    x = torch.randn(3, 1_000_003 if DEVICE == "cuda" else 30_003, device=DEVICE).to(dtype)[1]
    assert fused.euclidean_norm(x).item() == pytest.approx(x.double().norm().item(), rel=1e-7)
    tiny = torch.full((5000,), 1e-30, device=DEVICE)
    assert fused.euclidean_norm(tiny).item() == pytest.approx(1e-30 * 5000**0.5, rel=1e-6)
    assert fused.euclidean_norm(torch.tensor([1.0, float("nan")], device=DEVICE)).isnan()


@RUNS
def test_an_unusual_first_pixel_costs_no_digits():
    x = like((8, 16, 32, 32), torch.float32)
    x[0, :, 0, 0] = 100
    layer, true = nn.BatchNorm2d(16).to(DEVICE), nn.BatchNorm2d(16).to(DEVICE, torch.float64)
    y = true(x.double())
    assert (fused.norm_relu(x, layer, relu=False).double() - y).abs().max() < 2e-5
    assert (layer.running_var.double() - true.running_var).abs().max() < 1e-5


@RUNS
def test_there_is_no_second_derivative_and_it_is_said():
    x = like((2, 16, 4, 4), torch.float32).requires_grad_()
    loss = fused.norm_relu(x, nn.BatchNorm2d(16).to(DEVICE)).square().sum()
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


@RUNS
def test_a_value_that_is_not_a_number_is_passed_on():
    x = like((2, 16, 4, 4), torch.float32)
    x[0, 3, 0, 0] = float("nan")
    y = fused.norm_relu(x, nn.BatchNorm2d(16).to(DEVICE))
    assert y[:, 3].isnan().all() and not y[:, :3].isnan().any()


@RUNS
@pytest.mark.parametrize(("arch", "erase"), [("resnet", False), ("plain", True), ("procresnet", False)])
def test_a_fused_network_has_the_same_gradients(arch, erase):
    torch.manual_seed(0)
    model = models.build(arch, 11, erase_relu=erase).to(DEVICE, memory_format=torch.channels_last)
    images = like((4, 3, 8, 8), torch.float32)
    found = []
    for on in (False, True):
        model.zero_grad()
        with full_float32():
            model.fuse(on)(images).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for plain, quick in zip(*found, strict=True):
        assert (plain - quick).norm() <= 1e-4 * plain.norm() + 1e-7
    model.eval()
    assert torch.equal(model(images), model.fuse(False)(images))


@RUNS
@pytest.mark.parametrize("shape", [(3, 16, 9, 7), (2, 32, 8, 8), (1, 16, 1, 5)], ids=str)
def test_conv3x3(shape):
    torch.manual_seed(0)
    # The interpreter knows no products of bfloat16 numbers.
    dtype, tolerance = (torch.float32, 1e-6) if fused.INTERPRETED else (torch.bfloat16, 4e-3)
    weight = like((shape[1], shape[1], 3, 3), dtype).requires_grad_()
    x, grad = like(shape, dtype).requires_grad_(), like(shape, dtype)
    y = fused._Conv3x3.apply(x, weight)
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
    y = fused._Conv1x1.apply(x, weight)
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
    monkeypatch.setattr(fused._Conv1x1, "apply", lambda *_: found.append(1))
    monkeypatch.setattr(fused._Conv3x3, "apply", lambda *_: found.append(3))
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


OTHER_NORMS = {
    "contiguous": (channels(8).contiguous(), nn.BatchNorm2d(8)),
    "float64": (channels(8, torch.float64), nn.BatchNorm2d(8).double()),
    "empty": (channels(8)[:0], nn.BatchNorm2d(8)),
    "one value": (like((1, 8, 1, 1), torch.float32), nn.BatchNorm2d(8)),
    "few channels": (channels(4), nn.BatchNorm2d(4)),
    "many channels": (channels(1024), nn.BatchNorm2d(1024)),
    "no power of two": (channels(12), nn.BatchNorm2d(12)),
    "in evaluation": (channels(8), nn.BatchNorm2d(8).eval()),
    "over all batches": (channels(8), nn.BatchNorm2d(8, momentum=None)),
    "without statistics": (channels(8), nn.BatchNorm2d(8, track_running_stats=False)),
    "not affine": (channels(8), nn.BatchNorm2d(8, affine=False)),
    "of several processes": (channels(8), BatchNorm2d(8)),
}


@RUNS
@pytest.mark.parametrize("case", OTHER_NORMS)
def test_what_does_not_fit_goes_to_torch(case):
    x, layer = OTHER_NORMS[case]
    layer.to(DEVICE)
    assert not fused._fits(x, layer)
    assert fused._fits(channels(8), nn.BatchNorm2d(8).to(DEVICE))
    if case not in ("one value", "of several processes"):  # torch refuses the one, and alone the other has no sums
        twin = copy.deepcopy(layer)
        assert torch.equal(fused.norm_relu(x, layer), F.relu(twin(x)))
        assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), twin.buffers(), strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize("arch", ["resnet", "procresnet"])
def test_in_bfloat16_a_fused_network_is_no_farther_from_the_truth(arch):
    """Both round: each is compared with the same network in float64."""
    torch.manual_seed(0)
    model = models.build(arch, 20).cuda().to(memory_format=torch.channels_last)
    true = models.build(arch, 20).to("cuda", torch.float64)
    true.load_state_dict(model.state_dict())
    images, labels = like((128, 3, 32, 32), torch.float32), torch.randint(10, (128,), device="cuda")
    F.cross_entropy(true(images.double()), labels).backward()
    far = []
    for on in (False, True):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model.fuse(on)(images), labels)
        loss.backward()
        pairs = list(zip(model.parameters(), true.parameters(), strict=True))
        far.append([((p.grad - q.grad).norm() / q.grad.norm()).item() for p, q in pairs])
    assert sum(far[1]) < 1.2 * sum(far[0]) and max(far[1]) < 1.5 * max(far[0])
