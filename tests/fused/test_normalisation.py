"""Batch normalisation with its ReLU, against torch's layers in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from kernels import DEVICE, RUNS, like
from torch import nn

from paperlib import fused
from paperlib.fused import normalisation
from paperlib.synchronised import BatchNorm2d

CASES = [(3, 16, 9, 7), (2, 64, 8, 8), (5, 256, 3, 3)]


def channels(number, dtype=torch.bfloat16):
    return like((2, number, 6, 6), dtype)


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
    assert not normalisation.fits(x, layer)
    assert normalisation.fits(channels(8), nn.BatchNorm2d(8).to(DEVICE))
    if case not in ("one value", "of several processes"):  # torch refuses the one, and alone the other has no sums
        twin = copy.deepcopy(layer)
        assert torch.equal(fused.norm_relu(x, layer), F.relu(twin(x)))
        assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), twin.buffers(), strict=True))
