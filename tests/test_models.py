"""The networks: sizes, shapes, skips, initial weights, bad input."""

import pytest
import torch
from torch import nn

from paperlib import models, paper
from paperlib.config import RunConfig
from paperlib.projection import target

ARCHS = ("plain", "resnet", "procresnet")


@pytest.mark.parametrize(
    ("arch", "depth"), [("resnet", 164), ("resnet", 1001), ("procresnet", 164), ("procresnet", 1001)]
)
def test_parameters_agree_with_table_ii(arch, depth):
    millions = models.parameter_count(models.build(arch, depth)) / 1e6
    assert abs(millions - paper.TABLE_II[RunConfig(arch=arch, depth=depth).resolve().network][0]) <= 0.01


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("erase_relu", [False, True])
def test_shapes_and_blocks(arch, erase_relu):
    model = models.build(arch, 29, num_classes=100, erase_relu=erase_relu)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    kinds = [b.kind for b in model.blocks]
    assert kinds.count("transition") == 3
    assert len(kinds) == 9 + 3 * (arch == "procresnet")
    assert len({b.name for b in model.blocks}) == len(kinds)
    assert [r["name"] for r in models.describe(model)] == [b.name for b in model.blocks]


@pytest.mark.parametrize("arch", ARCHS)
def test_layers_make_the_depth(arch):
    """9n+2 counts convolutions on the main path and the classifier; ProcResNet has two more."""
    model = models.build(arch, 20)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(layers) == 20 + 2 * (arch == "procresnet")


def test_describe_agrees_with_a_forward_pass():
    for arch in ARCHS:
        model, seen = models.build(arch, 20), []
        for b in model.blocks:
            b.module.register_forward_hook(lambda m, i, o, seen=seen: seen.append(tuple(o.shape[1:3])))
        model(torch.randn(1, 3, 32, 32))
        assert seen == [(r["channels"], r["size"]) for r in models.describe(model)]


def test_a_residual_block_with_zero_branch_is_the_identity_and_a_plain_one_is_not():
    x = torch.randn(2, 64, 8, 8)
    for arch, same in (("resnet", True), ("procresnet", True), ("plain", False)):
        block = models.build(arch, 20).chain["stage1_block2"]
        nn.init.zeros_(block.conv3.weight)
        assert torch.equal(block(x), x) == same


def test_blocks_leave_their_input_alone():
    for arch in ARCHS:
        for block in models.build(arch, 20).blocks:
            c = block.module.in_channels if isinstance(block.module, nn.Conv2d) else block.module.bn1.num_features
            x = torch.randn(2, c, 8, 8)
            before = x.clone()
            block.module(x)
            assert torch.equal(x, before), block.name


def test_erase_relu_drops_exactly_the_last_one():
    full, erased = models.build("resnet", 20), models.build("resnet", 20, erase_relu=True)
    erased.load_state_dict(full.state_dict())
    a, b = full.chain["stage1_block2"], erased.chain["stage1_block2"]
    x = torch.randn(4, 64, 8, 8)
    y = a.conv2(torch.relu(a.bn2(a.conv1(torch.relu(a.bn1(x))))))
    assert torch.allclose(a(x), x + a.conv3(torch.relu(a.bn3(y))), atol=1e-5)
    assert torch.allclose(b(x), x + a.conv3(a.bn3(y)), atol=1e-5)


def test_initial_variances():
    torch.manual_seed(0)
    conv = models.build("resnet", 164).chain["stage3_block2"].conv2
    fan_out = conv.out_channels * 9
    assert conv.weight.var().item() == pytest.approx(2 / fan_out, rel=0.05)


def test_procresnet_starts_projected_and_can_be_built_without():
    torch.manual_seed(0)
    conv = models.build("procresnet", 20).chain["transition2"]
    s = torch.linalg.svdvals(conv.weight[:, :, 0, 0].double())
    assert torch.allclose(s, torch.full_like(s, target(conv.weight.shape, 2)), atol=1e-5)
    free = models.build("procresnet", 20, project=False).chain["transition2"]
    assert torch.linalg.svdvals(free.weight[:, :, 0, 0]).std() > 0.05


def test_seed_makes_the_weights():
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(models.build("resnet", 20).state_dict()["chain.stage1_block1.conv1.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_recomputing_activations_changes_nothing():
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    grads = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = models.build("procresnet", 20)
        model.checkpoint_activations = recompute
        nn.functional.cross_entropy(model(x), y).backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_recomputing_does_not_count_batches_twice_in_eval_figures():
    """The running statistics move once a step also when a block runs twice."""
    x = torch.randn(4, 3, 32, 32)
    stats = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = models.build("resnet", 20)
        model.checkpoint_activations = recompute
        model(x).sum().backward()
        stats.append(model.chain["stage2_block2"].bn2.running_mean.clone())
    assert torch.allclose(stats[0], stats[1], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnext", 20), "resnext"),
        (("resnet", 21), "20 and 29"),
        (("resnet", 0), "9n\\+2"),
        (("resnet", 2), "9n\\+2"),
        (("resnet", "164"), "whole number"),
        (("resnet", True), "whole number"),
        (("resnet", 20, 0), "num_classes"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ValueError, match=said):
        models.build(*arguments)
