"""Whole blocks, against torch's layers in float64, and when the kernels are taken."""

import copy

import pytest
import torch
from kernels import DEVICE, RUNS, like, near
from torch import nn

from paperlib import fused, models
from paperlib.fused import blocks

# On a device a product is three of TF32, of which nothing is known yet but that each drops some twenty bits.
TOLERANCE = 5e-6 if fused.INTERPRETED else 2e-5


def block_of(c, width, skip=True, relu=True):
    block = models.Bottleneck(c, width, skip="identity" if skip else "none", erase_relu=not relu)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return block.to(DEVICE, memory_format=torch.channels_last)


def away_from_zero(block):
    """Shift what each normalisation puts out so far that no rounding changes what a ReLU lets through."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.bias.copy_(module.bias.sign() * (8 * module.weight.abs() + 1))
    return block


def parts(block):
    return (block.bn1, block.bn2, block.bn3), (block.conv1, block.conv2, block.conv3)


def assert_right(block, shape, skip=True, relu=True, smooth=False):
    """Output, gradients and running statistics of a block are those of the same block in float64.

    ``smooth``: no ReLU has its kink among the values, so that the second normalisation takes back what the first's bias
    adds.  That bias's gradient, a sum that then is 0, is compared with the weight's, which is a sum of as many numbers.
    Values far from zero are rounded more coarsely.
    """
    tolerance = 4 * TOLERANCE if smooth else TOLERANCE
    true = copy.deepcopy(block).double()
    x = like(shape, torch.float32, offset=3.0)
    grad = like((shape[0], block.conv3.out_channels, *shape[2:]), torch.float32)
    exact = x.double().requires_grad_()
    y = fused.bottleneck(x.requires_grad_(), *parts(block), relu, skip)
    assert type(y.grad_fn).__name__ == "_BottleneckBackward"
    y.backward(grad)
    right = true(exact)
    right.backward(grad.double())
    pairs = [("output", y, right), ("input's gradient", x.grad, exact.grad)]
    for (name, p), q in zip(block.named_parameters(), true.parameters(), strict=True):
        assert p.grad.shape == p.shape
        pairs.append((name, p.grad, q.grad))
    pairs += [(name, b, true.get_buffer(name)) for name, b in block.named_buffers()]
    exactly = {name: wanted for name, _, wanted in pairs}
    for name, found, wanted in pairs:
        if smooth and name == "bn1.bias":
            weight = exactly["bn1.weight"]
            assert wanted.norm() < 1e-9 * weight.norm() and found.norm() <= tolerance * weight.norm(), name
        else:
            assert near(found, wanted, tolerance), name


@RUNS
@pytest.mark.parametrize(("c", "width", "skip", "relu", "shape"), [
    (64, 16, True, True, (2, 8, 8)),
    (16, 16, False, True, (2, 9, 7)),
    (64, 32, False, False, (3, 5, 4)),
    (64, 16, True, False, (70, 1, 1)),
], ids=str)  # fmt: skip
def test_a_block_is_that_of_torch(c, width, skip, relu, shape):
    torch.manual_seed(0)
    assert_right(block_of(c, width, skip, relu), (shape[0], c, *shape[1:]), skip, relu)


@RUNS
@pytest.mark.parametrize(("programs", "slots"), [(1, 64), (3, 2)])
def test_programs_that_have_several_tiles_and_add_several_parts(monkeypatch, programs, slots):
    """Seven tiles, the last of which is not full."""
    torch.manual_seed(0)
    monkeypatch.setattr(blocks, "PROGRAMS", programs)
    monkeypatch.setattr(blocks, "SLOTS", slots)
    assert_right(block_of(64, 16), (5, 64, 9, 9))


@pytest.mark.cuda
@pytest.mark.parametrize(("c", "width", "side"), [(64, 16, 32), (128, 32, 16), (256, 64, 8)])
def test_blocks_of_the_paper(c, width, side):
    """Of millions of values a few lie within rounding of zero: which side they are on would decide the gradients."""
    torch.manual_seed(0)
    assert_right(away_from_zero(block_of(c, width)), (128, c, side, side), smooth=True)


@RUNS
def test_behind_normalisations_that_are_far_from_zero():
    """As in the paper's blocks, a small one."""
    torch.manual_seed(0)
    assert_right(away_from_zero(block_of(64, 16)), (4, 64, 8, 8), smooth=True)


@pytest.mark.cuda
def test_the_same_every_time():
    """The program that ends last is another each time; what it adds, and in which order, is not."""
    torch.manual_seed(0)
    block, x = block_of(64, 16), like((128, 64, 32, 32), torch.bfloat16)
    found = []
    for _ in range(20):
        block.zero_grad()
        leaf = x.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            y = fused.bottleneck(leaf, *parts(block))
        y.backward(x)
        found.append([y, leaf.grad, *(p.grad for p in block.parameters())])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@RUNS
def test_a_graph_that_is_kept_can_be_gone_through_again():
    torch.manual_seed(0)
    block, x = block_of(64, 16), like((2, 64, 4, 4), torch.float32).requires_grad_()
    y = fused.bottleneck(x, *parts(block))
    first = torch.autograd.grad(y, [x, *block.parameters()], torch.ones_like(y), retain_graph=True)
    second = torch.autograd.grad(y, [x, *block.parameters()], torch.ones_like(y))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@RUNS
def test_a_value_that_is_not_a_number_is_passed_on():
    block, x = block_of(64, 16), like((2, 64, 4, 4), torch.float32)
    x[0, 3, 0, 0] = float("nan")
    assert fused.bottleneck(x, *parts(block)).isnan().all()


def changed(**attributes):
    """A block whose parts have other attributes, such as ``conv2__stride=(2, 2)``."""
    block = block_of(64, 16)
    for name, value in attributes.items():
        part, _, attribute = name.partition("__")
        setattr(getattr(block, part), attribute, value)
    return block


X = like((2, 64, 4, 4), torch.float32)
OTHERS = {
    "stride": (X, changed(conv2__stride=(2, 2)), {"skip": False}),
    "dilation": (X, changed(conv2__dilation=(2, 2), conv2__padding=(2, 2)), {}),
    "padding": (X, changed(conv2__padding_mode="circular", conv2___reversed_padding_repeated_twice=[1] * 4), {}),
    "bias": (X, changed(conv1__bias=nn.Parameter(torch.zeros(16, device=DEVICE))), {}),
    "groups": (X, changed(conv2=None), {}),
    "frozen": (X, block_of(64, 16).requires_grad_(False), {}),
    "in evaluation": (X, block_of(64, 16).eval(), {}),
    "float64": (X.double(), block_of(64, 16).double(), {}),
    "contiguous": (like((2, 64, 4, 4), torch.float32).contiguous(), block_of(64, 16), {}),
    "one pixel": (X[:1, :, :1, :1].contiguous(memory_format=torch.channels_last), block_of(64, 16), {}),
    "few channels": (like((2, 32, 4, 4), torch.float32), block_of(32, 8), {}),
    "no power of two": (like((2, 96, 4, 4), torch.float32), block_of(96, 24), {}),
    "wide": (like((2, 512, 4, 4), torch.float32), block_of(512, 128), {}),
    "projection": (X, block_of(64, 16), {"skip": nn.Conv2d(64, 64, 1)}),
}
OTHERS["groups"][1].conv2 = nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False).to(DEVICE)


@RUNS
@pytest.mark.parametrize("case", OTHERS)
def test_other_blocks_go_to_the_layers(monkeypatch, case):
    x, block, options = OTHERS[case]
    assert blocks.fits(X, *parts(block_of(64, 16)), skip=True)
    asked = []
    monkeypatch.setattr(blocks, "by_layers", lambda *given: asked.append(given))
    monkeypatch.setattr(blocks._Bottleneck, "apply", lambda *_: pytest.fail("the kernels were taken"))
    fused.bottleneck(x, *parts(block), **options)
    assert len(asked) == 1


@pytest.mark.cuda
def test_blocks_are_taken_under_autocast_in_bfloat16_only():
    block = block_of(64, 16)
    with torch.autocast("cuda", torch.bfloat16):
        assert not blocks.fits(X, *parts(block), skip=True)
        assert blocks.fits(X.bfloat16(), *parts(block), skip=True)
