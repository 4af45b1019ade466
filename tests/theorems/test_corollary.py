"""Corollary 1: the bound holds for whatever it is computed for, and is refused for the rest."""

import itertools
import math

import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torchvision.models.resnet import BasicBlock

from paperlib import models
from paperlib.spectrum import dense, operator_norm, operator_norm_bound
from paperlib.theorems import corollary_bound, gradient_delta


def branch_jacobian(block, x):
    return torch.autograd.functional.jacobian(block, x).reshape(x.numel(), x.numel())


ACTIVATIONS = [
    nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Tanh(), nn.Softplus(), nn.Softsign(), nn.LogSigmoid(),
    nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(), nn.SiLU(), nn.Mish(), nn.SELU(), nn.GELU(), nn.GELU("tanh"),
    nn.ELU(), nn.ELU(1.7), nn.CELU(), nn.CELU(0.3), nn.LeakyReLU(0.1), nn.LeakyReLU(3.0), nn.PReLU(init=-2.0),
    nn.PReLU(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations_slopes_are_their_largest(activation):
    """Each bound is reached: it is the largest slope, neither less nor more."""
    linear = nn.Linear(1, 1, bias=False).double()
    linear.weight.data.fill_(1)
    c = corollary_bound([linear, activation.double()]).item()
    kinks = [a + b for a in (-3.0, 0.0, 3.0, -35.0, 35.0) for b in (-1e-9, 1e-9)]
    points = [torch.linspace(-8, 8, 160_002, dtype=torch.float64), torch.tensor(kinks, dtype=torch.float64)]
    z = torch.cat(points).requires_grad_()
    activation(z.reshape(-1, 1)).sum().backward()
    assert z.grad.abs().max().item() == pytest.approx(c, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(**cases.up_to(width=8, hidden=12, layers=3), which=st.integers(0, len(ACTIVATIONS) - 1))
def test_the_bound_holds_for_dense_blocks(width, hidden, layers, seed, which):
    torch.manual_seed(seed)
    sizes = [width] + [hidden] * (layers - 1) + [width]
    block = nn.Sequential(
        *(m for a, b in itertools.pairwise(sizes) for m in (ACTIVATIONS[which], nn.Linear(a, b)))
    ).double()
    bound = corollary_bound(block).item()
    for _ in range(3):
        j = branch_jacobian(block, torch.randn(width, dtype=torch.float64))
        assert torch.linalg.matrix_norm(j, 2).item() <= bound * (1 + 1e-9)
        assert gradient_delta(torch.eye(width) + j).item() <= bound * (1 + 1e-9) + 1e-7


def test_every_activation_brings_its_slope_and_every_layer_its_norm():
    first, second = nn.Linear(5, 7).double(), nn.Linear(7, 5).double()
    norms = [torch.linalg.matrix_norm(m.weight, 2).item() for m in (first, second)]
    for modules, factor in (
        ([first, nn.ReLU(), second], 1.0),
        ([first, nn.SiLU(), second], 1.0998393201),
        ([nn.SiLU(), first, nn.SiLU(), second], 1.0998393201**2),
        ([nn.Sequential(first, nn.Sequential(nn.Sigmoid())), second], 0.25),
    ):
        assert corollary_bound(modules).item() == pytest.approx(factor * math.prod(norms))


@pytest.mark.parametrize("mode", ["circular", "zeros"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("size", [4, (3, 6)])
def test_convolutional_blocks_use_the_operators_norms(mode, k, size):
    torch.manual_seed(0)
    convs = [nn.Conv2d(a, b, k, padding=k // 2, padding_mode=mode, bias=False).double() for a, b in ((3, 5), (5, 3))]
    exact = math.prod(torch.linalg.matrix_norm(dense(c.weight, size, padding=mode), 2).item() for c in convs)
    block = nn.Sequential(convs[0], nn.ReLU(), convs[1])
    assert corollary_bound(block, size).item() == pytest.approx(exact, rel=1e-8)
    certified = corollary_bound(block, size, certified=True).item()
    assert certified >= exact * (1 - 1e-12)
    if mode == "zeros" and k > 1:
        assert certified == pytest.approx(math.prod(operator_norm_bound(c.weight, size).item() for c in convs))
    h, w = (size, size) if isinstance(size, int) else size
    j = branch_jacobian(lambda x: block(x[None])[0], torch.randn(3, h, w, dtype=torch.float64))
    assert torch.linalg.matrix_norm(j, 2).item() <= exact * (1 + 1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2, "padding_mode": "replicate"},
        {"kernel_size": 2, "padding": "same", "groups": 4},
    ],
    ids=str,
)
def test_any_convolution_that_keeps_the_size_counts_with_the_norm_of_its_matrix(settings):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, bias=False, **settings).double()
    block = nn.Sequential(nn.Tanh(), conv)
    exact = torch.linalg.matrix_norm(
        branch_jacobian(lambda x: conv(x[None])[0], torch.zeros(4, 5, 6).double()), 2
    ).item()
    assert corollary_bound(block, (5, 6)).item() == pytest.approx(exact, rel=1e-8)
    assert corollary_bound(block, (5, 6), certified=True).item() >= exact * (1 - 1e-12)


def test_batch_norm_counts_with_its_running_averages():
    torch.manual_seed(0)
    block = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, bias=False)).double()
    block(3 * torch.randn(8, 4, 6, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match="block.eval"):
        corollary_bound(block, 6)
    norm = block[0].eval()
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs().max()
    expected = scale * operator_norm(block[2].weight, 6, "zeros")
    assert corollary_bound(block.eval(), 6).item() == pytest.approx(expected.item())
    j = branch_jacobian(lambda x: block(x[None])[0], torch.randn(4, 6, 6, dtype=torch.float64))
    assert torch.linalg.matrix_norm(j, 2) <= corollary_bound(block, 6)


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(1, 6)], ids=["layer", "group"])
def test_layer_and_group_norm_count_with_what_they_do_to_an_input_without_variance(norm):
    """The bound is reached there, and holds elsewhere."""
    torch.manual_seed(0)
    linear = nn.Linear(6, 6, bias=False).double()
    linear.weight.data.copy_(torch.eye(6))
    block = nn.Sequential(linear, norm.double())
    j = branch_jacobian(lambda x: block(x[None])[0], torch.full((6,), 0.3, dtype=torch.float64))
    assert torch.linalg.matrix_norm(j, 2).item() == pytest.approx(corollary_bound(block).item(), rel=1e-9)
    norm.weight.data.copy_(torch.randn(6))
    for size in (1e-3, 1.0):
        j = branch_jacobian(lambda x: block(x[None])[0], size * torch.randn(6, dtype=torch.float64))
        assert torch.linalg.matrix_norm(j, 2) <= corollary_bound(block)


def test_a_bottleneck_of_this_library():
    torch.manual_seed(0)
    model = models.build("resnet", 20).double()
    model(torch.randn(4, 3, 32, 32, dtype=torch.float64))  # running averages away from their start
    found = dict(model.eval().named_modules())
    blocks = [m for m in found.values() if isinstance(m, models.Bottleneck)]
    kept = [b for b in blocks if b.identity]
    for b in blocks:
        if not b.identity:
            with pytest.raises(ValueError, match="identity skip"):
                corollary_bound(b, 8)
    block, size = kept[0], 3
    c = next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels
    with torch.no_grad():
        for m in block.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.mul_(0.25)
    bound = corollary_bound(block, size)
    assert bound.requires_grad and bound < 1
    x = torch.randn(c, size, size, dtype=torch.float64)
    j = branch_jacobian(lambda z: block(z[None])[0], x)
    delta = gradient_delta(j).item()
    assert 0.05 * bound < delta <= bound


class Louder(nn.Linear):
    def forward(self, x):
        return 10 * super().forward(x)


class Skipping(nn.Sequential):
    def forward(self, x):
        return 5 * x + super().forward(x)


def pruned():
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=0.3)


def test_what_computes_something_else_is_not_taken_for_its_base():
    for block in (nn.Sequential(Louder(4, 4)), [nn.Linear(4, 4), Louder(4, 4)], Skipping(nn.Linear(4, 4), nn.Tanh())):
        with pytest.raises(ValueError, match="no bound for (Louder|Skipping)"):
            corollary_bound(block)
    with pytest.raises(ValueError, match="made anew"):
        corollary_bound([pruned()])
    normed = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).eval()
    assert corollary_bound([normed]).item() == pytest.approx(torch.linalg.matrix_norm(normed.weight, 2).item())


def test_half_precision_and_what_has_no_norm():
    layer = nn.Linear(4, 4)
    expected = corollary_bound([layer]).item()
    assert corollary_bound([layer.half()]).item() == pytest.approx(expected, rel=1e-2)
    with torch.no_grad():
        layer.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        corollary_bound([layer])


def test_the_bound_can_be_trained():
    block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    corollary_bound(block).backward()
    assert block[0].weight.grad.norm() > 0 < block[2].weight.grad.norm()


@pytest.mark.parametrize(
    ("block", "size", "said"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1)), None, "no bound for Softmax"),
        (nn.Sequential(nn.ReLU()), None, "no linear or convolutional layer"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)), None, "size"),
        (nn.Sequential(nn.Conv2d(2, 2, 3)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Conv2d(2, 2, 2, padding=1)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, stride=2)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, dilation=2)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Linear(4, 8), nn.Linear(3, 4)), None, "takes 3 .* the layer before it returns 8"),
        (nn.Sequential(nn.Linear(4, 6)), None, "takes 4 numbers .* and returns 6"),
        (nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 6, 1)), 8, "takes 4 numbers .* and returns 6"),
        (nn.Sequential(nn.Linear(2, 2), nn.CELU(-1.0)), None, "alpha must be positive"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)).eval(), None, "batch"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), None, "dropout in training mode .* block.eval"),
        (BasicBlock(4, 4), 8, "no bound for BasicBlock: pass the block's branch .* activation after the sum"),
    ],
)
def test_bad_input_of_corollary_1(block, size, said):
    with pytest.raises(ValueError, match=said):
        corollary_bound(block, size)
