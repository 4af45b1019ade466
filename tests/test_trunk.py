"""The convolutions on a network's shortest path, and that looking for them changes nothing."""

import pytest
import torch
import torchvision
from torch import nn

from paperlib import models
from paperlib.trunk import trunk_convs

IMAGE = torch.zeros(2, 3, 32, 32)


def names(model, image=IMAGE):
    return [t.name for t in trunk_convs(model, image)]


def test_the_papers_networks():
    assert [(t.name, t.size) for t in trunk_convs(models.build("procresnet", 20), IMAGE)] == [
        ("chain.transition1", (32, 32)),
        ("chain.transition2", (16, 16)),
        ("chain.transition3", (8, 8)),
    ]
    shortcuts = [f"chain.stage{i}_block1.shortcut" for i in (1, 2, 3)]
    assert names(models.build("resnet", 20)) == ["stem", *shortcuts]
    plain = models.build("plain", 20)
    assert names(plain) == [n for n, m in plain.named_modules() if isinstance(m, nn.Conv2d)]


def test_torchvisions_networks():
    assert names(torchvision.models.resnet18()) == ["conv1"] + [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    assert names(torchvision.models.resnet50()) == ["conv1"] + [f"layer{i}.0.downsample.0" for i in (1, 2, 3, 4)]
    assert names(torchvision.models.densenet121(), torch.zeros(2, 3, 64, 64)) == ["features.conv0"] + [
        f"features.transition{i}.conv" for i in (1, 2, 3)
    ]
    vgg = torchvision.models.vgg11()
    assert names(vgg) == [n for n, m in vgg.named_modules() if isinstance(m, nn.Conv2d)]


class Odd(nn.Module):
    """Control flow, a convolution used twice, frozen weights, and outputs in a dictionary."""

    def __init__(self, cut=False):
        super().__init__()
        self.first, self.twice, self.aside = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.cut = cut

    def forward(self, x):
        x = self.first(x)
        for _ in range(2):
            x = self.twice(x)
        if x.shape[0] > 1:
            x = x + self.aside(x)
        return {"out": [x.detach() if self.cut else x], "other": 3}


def test_any_forward():
    model = Odd().requires_grad_(False)
    with torch.inference_mode():
        assert [(t.name, t.size) for t in trunk_convs(model, IMAGE)] == [("first", (16, 16)), ("twice", (16, 16))]
    with pytest.raises(ValueError, match="no differentiable path from the output of Odd.*convs="):
        trunk_convs(Odd(cut=True), IMAGE)


def test_the_model_is_left_as_it_was():
    model = torchvision.models.resnet18()
    model.layer1.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    trunk_convs(model, torch.randn(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_compiled_and_wrapped():
    model = models.build("procresnet", 11)
    expected = names(model)
    model.compile(backend="aot_eager")
    assert names(model) == expected
    assert names(nn.DataParallel(models.build("procresnet", 11))) == expected
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert names(models.build("procresnet", 11)) == expected
